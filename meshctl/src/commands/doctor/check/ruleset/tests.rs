use serde_json::{Value, json};

use super::*;

/// A chain and what stands in one of its rules.
type Rule = (&'static str, Value);

fn ruleset(policy: &str, hook: &str, rules: &[Rule]) -> Value {
    let mut entries = vec![
        json!({"metainfo": {"version": "1.0.6"}}),
        json!({"chain": {"family": "inet", "table": "filter", "name": "base", "hook": hook, "policy": policy}}),
        json!({"chain": {"family": "inet", "table": "filter", "name": "other"}}),
    ];
    for (chain, expr) in rules {
        entries.push(
            json!({"rule": {"family": "inet", "table": "filter", "chain": chain, "expr": expr}}),
        );
    }
    json!({ "nftables": entries })
}

fn port(right: &Value) -> Value {
    json!({"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": right}})
}

fn input(ruleset: &Value) -> &'static str {
    let packet = Packet { transport: Transport::Udp, port: 51820, mesh_interface: "wg0" };
    match passage(ruleset, Hook::Input, &packet) {
        Passage::Open => "open",
        Passage::Closed(_) => "closed",
        Passage::Unclear(_) => "unclear",
    }
}

#[test]
fn rules_are_followed_as_far_as_they_can_be_understood() {
    let accept = json!({"accept": null});
    let drop = json!({"drop": null});
    let state = |states: Value| json!({"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": states}});
    let saddr = json!({"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "192.0.2.1"}});
    let from = |name: &str| json!({"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": name}});
    let not_port = json!({"match": {"op": "!=", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": 51820}});
    let counter = json!({"counter": {"packets": 0, "bytes": 0}});
    let cases: Vec<(&str, &str, Vec<Rule>)> = vec![
        ("open", "accept", vec![]),
        ("closed", "drop", vec![]),
        ("open", "drop", vec![("base", json!([port(&json!(51820)), counter, accept]))]),
        ("open", "drop", vec![("base", json!([port(&json!({"range": [51000, 52000]})), accept]))]),
        (
            "open",
            "drop",
            vec![("base", json!([port(&json!({"set": [22, {"range": [51820, 51830]}]})), accept]))],
        ),
        ("closed", "drop", vec![("base", json!([port(&json!(22)), accept]))]),
        ("closed", "drop", vec![("base", json!([not_port, accept]))]),
        (
            "closed",
            "drop",
            vec![("base", json!([state(json!(["established", "related"])), accept]))],
        ),
        ("open", "drop", vec![("base", json!([state(json!("new")), accept]))]),
        ("closed", "drop", vec![("base", json!([from("lo"), accept]))]),
        ("closed", "drop", vec![("base", json!([from("wg0"), accept]))]),
        ("unclear", "drop", vec![("base", json!([from("eth0"), accept]))]),
        ("unclear", "drop", vec![("base", json!([saddr, port(&json!(51820)), accept]))]),
        ("unclear", "drop", vec![("base", json!([port(&json!("@ports")), accept]))]),
        ("closed", "accept", vec![("base", json!([port(&json!(51820)), drop]))]),
        (
            "closed",
            "accept",
            vec![("base", json!([port(&json!(51820)), {"reject": {"type": "icmp"}}]))],
        ),
        ("unclear", "accept", vec![("base", json!([{"xt": null}, drop]))]),
        (
            "open",
            "drop",
            vec![
                ("base", json!([{"jump": {"target": "other"}}])),
                ("other", json!([port(&json!(51820)), accept])),
            ],
        ),
        (
            "closed",
            "accept",
            vec![("base", json!([{"goto": {"target": "other"}}])), ("other", json!([drop]))],
        ),
        (
            "open",
            "accept",
            vec![
                ("base", json!([{"jump": {"target": "other"}}])),
                ("other", json!([port(&json!(51820)), {"return": null}])),
                ("other", json!([drop])),
            ],
        ),
        ("open", "accept", vec![("base", json!([{"jump": {"target": "base"}}]))]),
    ];
    for (expected, policy, rules) in cases {
        assert_eq!(input(&ruleset(policy, "input", &rules)), expected, "{policy} {rules:?}");
    }
    for odd in
        [json!(null), json!({"nftables": 7}), json!({"nftables": [{"chain": 1}, {"rule": []}]})]
    {
        assert_eq!(input(&odd), "open", "{odd}");
    }
}

#[test]
fn the_deciding_chain_is_named() {
    let packet = Packet { transport: Transport::Tcp, port: 0, mesh_interface: "wg0" };
    let closed = passage(&ruleset("drop", "forward", &[]), Hook::Forward, &packet);
    let Passage::Closed(place) = closed else { panic!("{closed:?}") };
    assert_eq!(place.to_string(), "the policy of chain base in table inet filter");
    let allowed = json!([
        {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "wg0"}},
        {"accept": null}
    ]);
    let open = passage(&ruleset("drop", "forward", &[("base", allowed)]), Hook::Forward, &packet);
    assert_eq!(open, Passage::Open);
}

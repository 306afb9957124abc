//! Every row of the protocol's tables of methods and errors, byte for byte.

use super::scripted::{KEY, server, status};
use super::*;

/// Line, code, the id in the answer, and the message or its beginning.
const REFUSALS: [(&[u8], i32, &str, &str); 24] = [
    (b"", -32700, "null", "failed to parse request: "),
    (b"   ", -32700, "null", "failed to parse request: "),
    (b"not json", -32700, "null", "failed to parse request: "),
    (
        br#"[{"jsonrpc":"2.0","method":"daemon.ping","id":1}]"#,
        -32700,
        "null",
        "failed to parse request: ",
    ),
    (
        br#"{"jsonrpc":"2.0","method":"daemon.ping","params":[],"id":1}"#,
        -32700,
        "null",
        "failed to parse request: ",
    ),
    (
        br#"{"jsonrpc":"2.0","method":"daemon.ping","params":"x","id":1}"#,
        -32700,
        "null",
        "failed to parse request: ",
    ),
    (br#"{"jsonrpc":"2.0","method":7,"id":1}"#, -32700, "null", "failed to parse request: "),
    (
        br#"{"jsonrpc":2,"method":"daemon.ping","id":1}"#,
        -32700,
        "null",
        "failed to parse request: ",
    ),
    (
        b"\xef\xbb\xbf{\"jsonrpc\":\"2.0\",\"method\":\"daemon.ping\",\"id\":1}",
        -32700,
        "null",
        "failed to parse request: ",
    ),
    (
        br#"{"jsonrpc":"2.0","method":"daemon.ping","id":1} x"#,
        -32700,
        "null",
        "failed to parse request: ",
    ),
    (b"{}", -32600, "null", "invalid jsonrpc version, must be 2.0"),
    (b"null", -32600, "null", "invalid jsonrpc version, must be 2.0"),
    (br#"{"method":"daemon.ping","id":3}"#, -32600, "3", "invalid jsonrpc version, must be 2.0"),
    (
        br#"{"jsonrpc":"1.0","method":"nope","id":"a"}"#,
        -32600,
        r#""a""#,
        "invalid jsonrpc version, must be 2.0",
    ),
    (br#"{"jsonrpc":"2.0","method":"nope","id":1}"#, -32601, "1", "method not found: nope"),
    (
        br#"{"jsonrpc":"2.0","method":"Daemon.Ping","id":1}"#,
        -32601,
        "1",
        "method not found: Daemon.Ping",
    ),
    (br#"{"jsonrpc":"2.0","id":1}"#, -32601, "1", "method not found: "),
    (
        br#"{"jsonrpc":"2.0","method":"peers.get","id":1}"#,
        -32602,
        "1",
        "missing or invalid 'pubkey' parameter",
    ),
    (
        br#"{"jsonrpc":"2.0","method":"peers.get","params":{"pubkey":""},"id":1}"#,
        -32602,
        "1",
        "missing or invalid 'pubkey' parameter",
    ),
    (
        br#"{"jsonrpc":"2.0","method":"peers.get","params":{"pubkey":5},"id":1}"#,
        -32602,
        "1",
        "missing or invalid 'pubkey' parameter",
    ),
    (
        br#"{"jsonrpc":"2.0","method":"peers.get","params":{"PubKey":"x"},"id":1}"#,
        -32602,
        "1",
        "missing or invalid 'pubkey' parameter",
    ),
    (
        br#"{"jsonrpc":"2.0","method":"peers.get","params":{"pubkey":"unknown"},"id":1}"#,
        -32602,
        "1",
        "peer not found: unknown",
    ),
    (
        br#"{"jsonrpc":"2.0","method":"daemon.join","id":null}"#,
        -32601,
        "null",
        "method not found: daemon.join",
    ),
    (
        b"{\"jsonrpc\":\"2.0\",\"method\":\"\xff\",\"id\":1}",
        -32601,
        "1",
        "method not found: \u{fffd}",
    ),
];

async fn answer(line: &[u8]) -> String {
    let outcome = server().handle(line, Caller::Owner).await;
    let Outcome::Answer(answer) = outcome else { panic!("{outcome:?}") };
    answer
}

#[tokio::test]
async fn each_method_answers_in_the_go_daemons_key_order() {
    let peer = format!(
        r#"{{"pubkey":"{KEY}","hostname":"\u003cb\u0026\u003e","mesh_ip":"10.45.15.238","endpoint":"[2001:db8::1]:51820","last_seen":"2027-01-15T08:00:00Z","discovered_via":["lan","dht"],"routable_networks":["10.99.2.0/24"],"latency_ms":0}}"#
    );
    let cases = [
        ("daemon.ping", "", format!(r#"{{"pong":true,"version":"{}"}}"#, view::VERSION)),
        (
            "daemon.status",
            r#","params":null"#,
            format!(
                r#"{{"mesh_ip":"10.45.75.206","pubkey":"j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8=","uptime":300000000000,"interface":"wg0","version":"{}","engine":"userspace","hostname":"node-a","unheard":["key"]}}"#,
                view::VERSION
            ),
        ),
        ("peers.count", r#","params":{"x":1}"#, r#"{"active":1,"total":3,"dead":2}"#.into()),
        ("peers.list", "", format!(r#"{{"peers":[{peer}]}}"#)),
        (
            "peers.get",
            r#","params":{"pubkey":"NYBy1jZYgNGu6jKa35EhODhR7SGijjt16WXQ0s0WYlQ="}"#,
            peer,
        ),
    ];
    for (method, params, result) in cases {
        let request = format!(r#"{{"jsonrpc":"2.0","method":"{method}"{params},"id":7}}"#);
        assert_eq!(
            answer(request.as_bytes()).await,
            format!(r#"{{"jsonrpc":"2.0","result":{result},"id":7}}"#)
        );
    }
}

#[tokio::test]
async fn every_odd_request_is_refused_as_the_go_daemon_refuses_it() {
    for (line, code, id, message) in REFUSALS {
        let answer = answer(line).await;
        let shown = String::from_utf8_lossy(line);
        let start = format!(r#"{{"jsonrpc":"2.0","error":{{"code":{code},"message":"{message}"#);
        assert!(answer.starts_with(&start), "{shown}: {answer}");
        assert!(answer.ends_with(&format!(r#""}},"id":{id}}}"#)), "{shown}: {answer}");
        if code != -32700 {
            assert_eq!(answer, format!(r#"{start}"}},"id":{id}}}"#), "{shown}");
        }
    }
}

#[tokio::test]
async fn ids_come_back_as_a_go_float_would_print_them() {
    for (id, expected) in [
        ("1", "1"),
        ("1.0", "1"),
        ("-7", "-7"),
        ("1.5", "1.5"),
        ("9007199254740993", "9007199254740992"),
        ("1e21", "1e+21"),
        ("1.5e300", "1.5e+300"),
        ("0.0000001", "1e-7"),
        ("123456789012345678901", "123456789012345680000"),
        ("true", "true"),
        (r#"["a",1.0,null]"#, r#"["a",1,null]"#),
        (r#"{"b":1,"a":{"d":2,"c":3}}"#, r#"{"a":{"c":3,"d":2},"b":1}"#),
        (r#""<x>""#, r#""\u003cx\u003e""#),
    ] {
        let line = format!(r#"{{"jsonrpc":"2.0","method":"peers.count","id":{id}}}"#);
        let answer = answer(line.as_bytes()).await;
        let expected = format!(r#","id":{expected}}}"#);
        assert!(answer.ends_with(&expected), "{id}: {answer}");
    }
}

#[tokio::test]
async fn requests_are_read_with_the_go_decoders_habits() {
    for line in [
        r#"{"jsonrpc":"2.0","method":"daemon.ping"}"#,
        r#"{"JSONRPC":"2.0","Method":"daemon.ping","extra":{"a":[1]}}"#,
        "  {\"jsonrpc\":\"1\",\"method\":\"x\",\"jsonrpc\":\"2.0\",\"method\":\"daemon.ping\"}\t",
        r#"{"jsonrpc":"2.0","method":"daemon.ping","method":null,"id":null}"#,
    ] {
        let answer = answer(line.as_bytes()).await;
        assert!(answer.contains(r#""pong":true"#), "{line}: {answer}");
        assert!(answer.ends_with(r#","id":null}"#), "notifications are answered: {answer}");
    }
}

#[tokio::test]
async fn our_own_methods_have_names_of_their_own() {
    let server = server();
    for (method, expected) in [
        ("mesh.watch", Outcome::Watch(r#"{"jsonrpc":"2.0","result":1,"id":1}"#.into())),
        ("mesh.unwatch", Outcome::Unwatch(r#"{"jsonrpc":"2.0","result":true,"id":1}"#.into())),
        ("mesh.leave", Outcome::Leave(r#"{"jsonrpc":"2.0","result":true,"id":1}"#.into())),
    ] {
        let line = format!(r#"{{"jsonrpc":"2.0","method":"{method}","id":1}}"#);
        assert_eq!(server.handle(line.as_bytes(), Caller::Owner).await, expected);
    }
    for method in ["mesh.leave", "mesh.revoke", "mesh.rotate"] {
        let line = format!(r#"{{"jsonrpc":"2.0","method":"{method}","id":1}}"#);
        let refused = server.handle(line.as_bytes(), Caller::Group).await;
        let Outcome::Answer(refused) = refused else { panic!("{refused:?}") };
        assert!(refused.contains("only root and the daemon's own user"), "{refused}");
    }
    let shown = notification(&status());
    let start = r#"{"jsonrpc":"2.0","method":"mesh.watch","params":{"subscription":1,"result":{"mesh_ip":"10.45.75.206","#;
    assert!(shown.starts_with(start), "{shown}");
}

#[tokio::test]
async fn our_fuller_answers_begin_with_the_go_daemons_keys_and_are_for_the_group_too() {
    for (method, start) in [
        ("mesh.status", r#"{"mesh_ip":"10.45.75.206","pubkey":"#.to_owned()),
        ("mesh.peers", format!(r#"{{"peers":[{{"pubkey":"{KEY}","hostname":"#)),
    ] {
        let line = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":null,"id":1}}"#);
        let outcome = server().handle(line.as_bytes(), Caller::Group).await;
        let Outcome::Answer(answer) = outcome else { panic!("{outcome:?}") };
        let start = format!(r#"{{"jsonrpc":"2.0","result":{start}"#);
        assert!(answer.starts_with(&start), "{answer}");
        assert!(answer.ends_with(r#","id":1}"#), "{answer}");
    }
}

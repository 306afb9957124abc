//! Manifests as users write them, and what is said of wrong ones.

use knit_rpc::spec::{DeploymentSpec, Format, HostIp, parse};
use proptest::prelude::*;

/// A manifest of Knit's first version, which must deploy unchanged.
const FIRST_VERSION: &str = r#"{"name":"hello","image":"nginx:alpine","node_selector":{"role":"web"},"ports":[{"container_port":80,"host_port":8080,"protocol":"tcp"}],"templates":[{"destination":"/usr/share/nginx/html/index.html","content":"<p>{{env.GREETING}} from {{node.name}}</p>"}],"env":{"GREETING":"hi"}}"#;

fn good(text: &str, format: Format) -> DeploymentSpec {
    parse(text, format).unwrap_or_else(|problems| panic!("{text}\n{problems}"))
}

/// Every problem of a text, one a line.
fn problems(text: &str, format: Format) -> String {
    match parse(text, format) {
        Ok(spec) => panic!("{text}\nwas taken as {spec:?}"),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn a_manifest_of_the_first_version_is_taken_unchanged() {
    let spec = good(FIRST_VERSION, Format::Json);
    assert_eq!(spec.project.as_str(), "default");
    assert_eq!(spec.replicas, 1);
    assert_eq!(spec.instance.ports[0].host_ip, HostIp::Mesh);
    assert_eq!(spec.instance.templates[0].mode, 0o444);
    insta::assert_json_snapshot!(spec);
}

#[test]
fn three_notations_say_the_same() {
    let yaml = r#"
x-owner: the web team
name: web
image: nginx:alpine
replicas: 3
command: [nginx, -g, "daemon off;"]
env: {PORT: 8080, DEBUG: true, EMPTY: ""}
ports:
  - {container_port: 80, host_port: 8080}
  - {container_port: 53, protocol: udp, host_ip: public}
templates:
  - destination: /etc/app.conf
    content: |
      listen {{env.PORT}}
    mode: 0440
    uid: 33
network: knit
log: {max_size: 5m, max_files: 2}
"#;
    let toml = r#"
x-owner = "the web team"
name = "web"
image = "nginx:alpine"
replicas = 3
command = ["nginx", "-g", "daemon off;"]
env = { PORT = 8080, DEBUG = true, EMPTY = "" }
networks = ["knit"]
log = { max_size = "5m", max_files = 2 }
[[ports]]
container_port = 80
host_port = 8080
[[ports]]
container_port = 53
protocol = "udp"
host_ip = "public"
[[templates]]
destination = "/etc/app.conf"
content = "listen {{env.PORT}}\n"
mode = "0440"
uid = 33
"#;
    let spec = good(yaml, Format::Yaml);
    assert_eq!(spec, good(toml, Format::Toml));
    let json = serde_json::to_string_pretty(&spec).unwrap();
    assert_eq!(spec, good(&json, Format::Json), "{json}");
    assert_eq!(spec.instance.env["PORT"], "8080");
    assert_eq!(spec.instance.ports[1].host_port, 53);
    assert_eq!(spec.instance.templates[0].mode, 0o440);
}

#[test]
fn every_problem_is_told_at_once_with_its_place() {
    let yaml = "\
name: Web Shop
imgae: nginx
replicas: -1
ports:
  - containerPort: 80
    protocol: sctp
  - {container_port: 80, host_port: 70000, host_ip: everywhere}
templates:
  - {destination: etc/x, content: 1}
env: [A]
comand: ls
networks: [\"a b\"]
";
    insta::assert_snapshot!(problems(yaml, Format::Yaml));
}

#[test]
fn clashes_are_told_where_they_stand() {
    let yaml = "\
name: web
image: nginx
ports:
  - {container_port: 80, host_port: 8080}
  - {container_port: 81, host_port: 8080}
  - {container_port: 82, host_port: 8080, protocol: udp}
templates:
  - {destination: /a, content: x}
  - {destination: /a, content: y}
networks: [host, knit]
";
    insta::assert_snapshot!(problems(yaml, Format::Yaml));
}

#[test]
fn a_wrong_value_says_what_it_may_be() {
    for (line, told) in [
        ("replicas: many", "2:11: replicas: must be a whole number from 0 to 10000, not a text"),
        ("replicas: 1.5", "must be a whole number from 0 to 10000, not 1.5"),
        ("command: ls -l", "must be a list of words, for example [\"ls\", \"-l\"]"),
        ("env: {A: }", "env.A: has no value"),
        ("env: {A: [1]}", "must be a text, not a list"),
        ("templates: [{destination: /a/../b, content: x}]", "plain path"),
        ("templates: [{destination: /a/, content: x}]", "must name a file"),
        (
            "templates: [{destination: a, content: x}]",
            "must be an absolute path, for example \"/a\"",
        ),
        ("templates: [{destination: /a}]", "templates[0].content: is missing"),
        ("templates: [{destination: /a, content: x, mode: 9}]", "octal digits"),
        ("log: {max_size: big}", "must be a size such as 10m"),
        ("ports: {}", "must be a list, not a map"),
        ("ports: [{container_port: 0}]", "from 1 to 65535, not 0"),
        ("project: \"\"", "is empty"),
        ("node_selector: web", "must be a map, not a text"),
        ("registry: \"http://r\"", "write HOST or HOST:PORT"),
        ("name2: x", "is an unknown key; did you mean \"name\"?"),
    ] {
        let text = format!("image: nginx\n{line}\nname: web\n");
        let all = problems(&text, Format::Yaml);
        assert!(all.contains(told), "{line}: {all}");
    }
}

#[test]
fn broken_texts_say_where_they_break() {
    for (text, format, told) in [
        ("", Format::Yaml, "the manifest is empty"),
        ("name: [", Format::Yaml, "2:1: "),
        ("a: 1\na: 2\n", Format::Yaml, "2:1: key \"a\" stands here twice"),
        ("a: 1\na: 2\n", Format::Yaml, "1:1: name: is missing"),
        ("{\"name\":\"a\",\"name\":\"b\"}", Format::Json, "1:13: key \"name\" stands here twice"),
        ("name: a\n---\nname: b\n", Format::Yaml, "2:1: a second document begins here"),
        ("- a\n", Format::Yaml, "1:1: must be a map, not a list"),
        ("{\"name\": \"a\",}", Format::Json, "1:14: this is no JSON: "),
        ("{\n\t\"name\": []\n}", Format::Json, "2:10: name: must be"),
        ("name: yaml", Format::Json, "this is no JSON"),
        ("name = ", Format::Toml, "1:"),
        ("name = \"a\"\nname = \"b\"", Format::Toml, "2:1: "),
    ] {
        let all = problems(text, format);
        assert!(all.contains(told), "{text:?}: {all}");
    }
}

#[test]
fn hostile_manifests_are_refused_in_bounds() {
    let deep = "[".repeat(100_000);
    let told = problems(&deep, Format::Yaml);
    assert!(told.contains("nest more than") || told.contains("recursion"), "{told}");
    let mut laughs = "a0: &a0 [x]\n".to_owned();
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        let ten = [before.as_str(); 10].join(", ");
        laughs.extend([format!("a{level}: &a{level} [{ten}]\n")]);
    }
    assert!(problems(&laughs, Format::Yaml).contains("over 100000 values"));
    let huge = format!("name: {}", "x".repeat(2 * 1024 * 1024));
    assert!(problems(&huge, Format::Yaml).contains("at most 1048576 are read"));
    assert!(parse(&"[".repeat(500_000), Format::Json).is_err());
    assert!(parse(&format!("a = {}", "[".repeat(300_000)), Format::Toml).is_err());
}

#[test]
fn equal_specs_hash_alike_and_any_change_shows() {
    let spec = good(FIRST_VERSION, Format::Json).instance;
    assert_eq!(spec.hash(), spec.clone().hash());
    let mut other = spec.clone();
    other.env.insert("GREETING".to_owned(), "hello".to_owned());
    assert_ne!(spec.hash(), other.hash());
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
        for format in [Format::Yaml, Format::Json, Format::Toml] {
            drop(parse(&text, format));
        }
    }

    #[test]
    fn a_spec_survives_its_own_notation(
        name in "[a-z][a-z0-9]{0,8}",
        replicas in 0_u32..100,
        value in "[ -~]{0,20}",
        port in 1_u16..,
    ) {
        let json = serde_json::json!({
            "name": name, "image": "app:1", "replicas": replicas,
            "env": {"VALUE": value}, "ports": [{"container_port": port}],
        });
        let spec = good(&json.to_string(), Format::Json);
        prop_assert_eq!(&spec.instance.env["VALUE"], &value);
        let again: DeploymentSpec =
            serde_json::from_value(serde_json::to_value(&spec).unwrap()).unwrap();
        prop_assert_eq!(spec, again);
    }
}

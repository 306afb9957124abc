//! What `docs/manifest.md` says, held.

use super::super::yaml;
use super::*;

fn page() -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/manifest.md");
    std::fs::read_to_string(path).expect("docs/manifest.md")
}

/// The examples of the page; those that show a few keys only become whole.
fn examples(page: &str) -> Vec<String> {
    let blocks = page.split("```yaml\n").skip(1);
    let blocks = blocks.map(|rest| rest.split("```").next().unwrap_or_default());
    blocks
        .map(|block| {
            let head =
                if block.starts_with("name:") { "" } else { "name: example\nimage: app:1\n" };
            format!("{head}{block}")
        })
        .collect()
}

#[test]
fn every_example_of_the_page_parses_and_every_key_stands_there() {
    let page = page();
    let mut known = std::collections::BTreeSet::new();
    let mut used = std::collections::BTreeSet::new();
    for example in examples(&page) {
        let (tree, twice) = yaml::parse(&example).expect("YAML");
        let mut reader = Reader::new(twice);
        let spec = read_deployment(&mut reader, &tree, None).expect(&example);
        assert!(reader.problems.is_empty(), "{example}\n{:?}", reader.problems);
        assert!(check::clashes(&spec).is_empty(), "{example}\n{:?}", check::clashes(&spec));
        known.extend(reader.known);
        keys(&tree, "", &mut used);
    }
    for key in &known {
        let (top, last) =
            (key.split(['.', '[']).next().unwrap_or(key), key.rsplit('.').next().unwrap_or(key));
        let section = match page.split(&format!("\n## {top}\n")).nth(1) {
            Some(rest) if top != last => rest.split("\n## ").next().unwrap_or(rest),
            _ => page.as_str(),
        };
        let told = section.split('`').skip(1).step_by(2).any(|code| {
            code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == last)
        });
        assert!(told, "docs/manifest.md does not tell of {key}");
    }
    // Two names of one thing, of which an example can hold only one, and what has nothing to show.
    for key in known.iter().map(|key| key.replace(|c: char| c.is_ascii_digit(), "")) {
        let spare = [
            "command",
            "network",
            "project",
            "health.ready.exec",
            "secret_versions",
            "secret_kib",
            "health.alive.http",
            "health.alive.tcp",
            "health.alive.interval",
            "health.alive.timeout",
            "health.ready.failures",
        ];
        assert!(used.contains(&key) || spare.contains(&key.as_str()), "no example shows {key}");
    }
}

fn keys(node: &Node, path: &str, into: &mut std::collections::BTreeSet<String>) {
    match &node.value {
        Value::Map(entries) => {
            for entry in entries {
                let path = if path.is_empty() {
                    entry.key.clone()
                } else {
                    format!("{path}.{}", entry.key)
                };
                keys(&entry.node, &path, into);
                into.insert(path);
            }
        }
        Value::List(items) => {
            for item in items {
                keys(item, &format!("{path}[]"), into);
            }
        }
        Value::Scalar { .. } => {}
    }
}

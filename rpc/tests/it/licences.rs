//! No release has what is under a licence that `packaging/licences/about.toml` does not accept.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What users run; everything else is linked into them, or is for tests and builds.
const PROGRAMS: [&str; 4] = ["knit-cli", "knit-server", "knit-agent", "meshctl"];
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Licences that hold for all, and those that hold for one package beside.
struct Accepted {
    all: BTreeSet<String>,
    of: BTreeMap<String, BTreeSet<String>>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

fn accepted() -> Accepted {
    let text = std::fs::read_to_string(root().join("packaging/licences/about.toml"));
    let config = toml_edit::Document::parse(text.expect("the list")).expect("TOML");
    let names = |item: Option<&toml_edit::Item>| -> BTreeSet<String> {
        let names = item.and_then(|item| item.as_array()).into_iter().flatten();
        names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    let tables = config.iter().filter_map(|(name, item)| Some((name, item.as_table()?)));
    Accepted {
        all: names(config.get("accepted")),
        of: tables.map(|(name, table)| (name.to_owned(), names(table.get("accepted")))).collect(),
    }
}

/// Every package that a program has in it: its name and its licence.
fn linked() -> BTreeMap<String, String> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .args(["--filter-platform", TARGET])
        .current_dir(root())
        .output()
        .expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let by_id = |of: &'static str, list: &Value| -> BTreeMap<String, Value> {
        let list = list.as_array().expect("a list").iter();
        list.map(|one| (one[of].as_str().expect("an id").to_owned(), one.clone())).collect()
    };
    let packages = by_id("id", &metadata["packages"]);
    let nodes = by_id("id", &metadata["resolve"]["nodes"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut waiting: Vec<String> = packages
        .iter()
        .filter(|(_, package)| PROGRAMS.contains(&text(&package["name"]).as_str()))
        .map(|(id, _)| id.clone())
        .collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if seen.insert(id.clone()) {
            let needs = nodes[&id]["deps"].as_array().into_iter().flatten();
            let is_linked = |need: &&Value| {
                need["dep_kinds"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .any(|kind| kind["kind"].is_null())
            };
            waiting.extend(needs.filter(is_linked).map(|need| text(&need["pkg"])));
        }
    }
    let package = |id: &String| (text(&packages[id]["name"]), text(&packages[id]["license"]));
    seen.iter().map(package).collect()
}

/// Whether one may have the package: an SPDX expression in which `accepted` tells of each licence.
fn holds(expression: &str, accepted: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let value = any(&mut rest, accepted);
    assert!(rest.is_empty(), "{expression}: {rest:?}");
    value
}

fn any(rest: &mut &[&str], accepted: &dyn Fn(&str) -> bool) -> bool {
    let mut value = all(rest, accepted);
    while let ["OR", after @ ..] = *rest {
        *rest = after;
        value |= all(rest, accepted);
    }
    value
}

fn all(rest: &mut &[&str], accepted: &dyn Fn(&str) -> bool) -> bool {
    let mut value = one(rest, accepted);
    while let ["AND", after @ ..] = *rest {
        *rest = after;
        value &= one(rest, accepted);
    }
    value
}

fn one(rest: &mut &[&str], accepted: &dyn Fn(&str) -> bool) -> bool {
    match *rest {
        ["(", after @ ..] => {
            *rest = after;
            let value = any(rest, accepted);
            assert_eq!(rest.first(), Some(&")"));
            *rest = &rest[1..];
            value
        }
        [licence, "WITH", exception, after @ ..] => {
            *rest = after;
            accepted(&format!("{licence} WITH {exception}"))
        }
        [licence, after @ ..] => {
            *rest = after;
            accepted(licence)
        }
        [] => false,
    }
}

#[test]
fn everything_that_is_linked_may_be_handed_out() {
    let (accepted, linked) = (accepted(), linked());
    assert!(linked.len() > 300, "{}", linked.len());
    for (name, licence) in &linked {
        let here = |one: &str| {
            accepted.all.contains(one) || accepted.of.get(name).is_some_and(|own| own.contains(one))
        };
        assert!(holds(licence, &here), "{name}: {licence:?} is not accepted");
    }
    let unknown: Vec<_> = accepted.of.keys().filter(|name| !linked.contains_key(*name)).collect();
    assert!(unknown.is_empty(), "accepted for what is not linked: {unknown:?}");
}

#[test]
fn an_expression_is_read_as_it_is_meant() {
    let mit = |one: &str| one == "MIT";
    for (expression, may) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("(GPL-3.0 OR MIT) AND MIT", true),
        ("MIT AND (GPL-3.0 OR ISC)", false),
        ("MIT WITH X", false),
        ("MIT OR GPL-3.0 AND ISC", true),
        ("", false),
    ] {
        assert_eq!(holds(expression, &mit), may, "{expression}");
    }
}

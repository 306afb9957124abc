//! What the pages promise.

mod messages;

use std::path::{Path, PathBuf};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Every Rust file of the repository.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Names in backquotes that are written `file::test`.
fn named_tests(page: &str) -> Vec<(&str, &str)> {
    let codes = page.split('`').skip(1).step_by(2);
    codes.filter_map(|code| code.split_once("::")).collect()
}

#[test]
fn every_promise_names_a_test_that_exists() {
    let page = std::fs::read_to_string(repository().join("docs/security.md")).unwrap();
    let mut files = Vec::new();
    sources(repository(), &mut files);
    let texts: Vec<(PathBuf, String)> = files
        .into_iter()
        .map(|path| (path.clone(), std::fs::read_to_string(path).unwrap()))
        .collect();
    let is_there = |file: &str, test: &str| {
        texts.iter().any(|(path, text)| {
            let is_in = path
                .components()
                .any(|part| part.as_os_str().to_string_lossy().trim_end_matches(".rs") == file);
            is_in && text.contains(&format!("fn {test}("))
        })
    };
    let named = named_tests(&page);
    assert!(named.len() > 30, "{named:?}");
    let missing: Vec<_> = named.iter().filter(|(file, test)| !is_there(file, test)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    // Each promise has one.
    let promises = page.split("## Promises").nth(1).unwrap().split("\n## ").next().unwrap();
    for promise in promises.split("\n- ").skip(1) {
        let text = promise.split("\n### ").next().unwrap();
        let is_script = text.contains("`packaging/");
        assert!(is_script || !named_tests(text).is_empty(), "nothing holds: {text}");
    }
}

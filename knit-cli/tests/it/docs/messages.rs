//! The messages that `docs/troubleshooting.md` quotes are those that the programs say.
//!
//! ```text
//! > the page's line, with … for what differs      sources: "…" literals and join.sh, {…} and $… as …
//! ```

use std::path::Path;

use super::{repository, sources};

/// What stands for a name, an address or a number.
const HOLE: char = '…';
/// A shorter message would be found anywhere.
const WORDS_MIN: usize = 4;

/// The literals of Rust code, with their continued lines joined and what is filled in as holes.
fn literals(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find(['"', '\'', '/', 'r']) {
        let (before, here) = rest.split_at(at);
        let in_word = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        rest = if here.starts_with("//") {
            here.split_once('\n').map_or("", |(_, after)| after)
        } else if let Some(after) = here.strip_prefix('"') {
            let (literal, after) = quoted(after);
            found.push(with_holes(&literal));
            after
        } else if let Some(after) = (!in_word).then(|| raw(here)).flatten() {
            after
        } else if here.starts_with('\'') {
            character(here)
        } else {
            &here[1..]
        };
    }
    found
}

/// A literal to its closing quote, its escapes resolved, and what is behind it.
fn quoted(text: &str) -> (String, &str) {
    let mut literal = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (literal, &text[at + 1..]),
            '\\' => match characters.next() {
                // The line goes on behind its indentation.
                Some((_, '\n')) => {
                    while text[characters.offset()..].starts_with([' ', '\n']) {
                        characters.next();
                    }
                }
                Some((_, 'n')) => literal.push('\n'),
                Some((_, escaped)) => literal.push(escaped),
                None => break,
            },
            _ => literal.push(character),
        }
    }
    (literal, "")
}

/// Behind a raw literal: no message is one.
fn raw(text: &str) -> Option<&str> {
    let hashes = text.strip_prefix('r')?.split_once('"')?.0;
    if !hashes.chars().all(|c| c == '#') {
        return None;
    }
    let end = format!("\"{hashes}");
    let body = &text[hashes.len() + 2..];
    Some(body.split_once(&end).map_or("", |(_, after)| after))
}

/// Behind a character such as `'"'`, or behind the tick of a lifetime.
fn character(text: &str) -> &str {
    let mut inner = text[1..].char_indices();
    let is_escaped = matches!(inner.next(), Some((_, '\\')));
    if is_escaped {
        inner.next();
    }
    match inner.next() {
        Some((at, '\'')) => &text[at + 2..],
        _ => &text[1..],
    }
}

/// `{name}` as a hole, `{{` as a brace.
fn with_holes(literal: &str) -> String {
    let mut text = String::new();
    let mut rest = literal;
    while let Some(at) = rest.find(['{', '}']) {
        text.push_str(&rest[..at]);
        let here = &rest[at..];
        if here.starts_with("{{") || here.starts_with("}}") {
            text.push_str(&here[..1]);
            rest = &here[2..];
        } else if let Some(end) = here.find('}').filter(|_| here.starts_with('{')) {
            text.push(HOLE);
            rest = &here[end + 1..];
        } else {
            text.push_str(&here[..1]);
            rest = &here[1..];
        }
    }
    text + rest
}

/// What a shell script says by `fail`, with what is filled in as holes.
fn said_by_shell(script: &str) -> Vec<String> {
    let said = script.lines().filter_map(|line| line.split_once("fail \""));
    said.map(|(_, text)| {
        let mut message = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            message.push_str(&rest[..at]);
            message.push(HOLE);
            rest = behind_expansion(&rest[at + 1..]);
        }
        message + rest
    })
    .collect()
}

fn behind_expansion(text: &str) -> &str {
    if text.starts_with('{') {
        return text.split_once('}').map_or("", |(_, after)| after);
    }
    if text.starts_with('(') {
        let mut depth = 0;
        for (at, character) in text.char_indices() {
            depth += i32::from(character == '(') - i32::from(character == ')');
            if depth == 0 {
                return &text[at + 1..];
            }
        }
        return "";
    }
    text.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_')
}

/// All that our programs can say, tests aside.
fn all_said() -> Vec<String> {
    let mut files = Vec::new();
    sources(repository(), &mut files);
    let is_test = |path: &Path| {
        let mut parts = path.components().map(|part| part.as_os_str().to_string_lossy());
        parts.any(|part| matches!(part.as_ref(), "tests" | "tests.rs" | "benches" | "testing.rs"))
    };
    files.retain(|path| !is_test(path.strip_prefix(repository()).expect("one of ours")));
    let mut said = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(path).expect("a file");
        said.extend(literals(text.split("#[cfg(test)]\nmod tests {").next().expect("a part")));
    }
    let script = repository().join("knit-cli/src/commands/node/script/join.sh");
    said.extend(said_by_shell(&std::fs::read_to_string(script).expect("a script")));
    said
}

/// The quoted messages of the page, each with what stands under it.
fn quoted_messages(page: &str) -> Vec<(&str, String)> {
    let mut found: Vec<(&str, String)> = Vec::new();
    for line in page.lines() {
        if let Some(message) = line.strip_prefix("> ") {
            found.push((message, String::new()));
        } else if line.starts_with('#') {
            found.push(("", "a heading".to_owned()));
        } else if let Some((_, advice)) = found.last_mut() {
            advice.push_str(line);
        }
    }
    found.retain(|(message, _)| !message.is_empty());
    found
}

/// Whether some literal holds the message, hole for hole.
fn is_said(message: &str, said: &[String]) -> bool {
    message.split_whitespace().count() >= WORDS_MIN && said.iter().any(|one| one.contains(message))
}

#[test]
fn every_quoted_message_is_still_said() {
    let page = std::fs::read_to_string(repository().join("docs/troubleshooting.md")).unwrap();
    let (said, messages) = (all_said(), quoted_messages(&page));
    assert!(messages.len() >= 30, "{}", messages.len());
    let gone: Vec<&str> =
        messages.iter().map(|(message, _)| *message).filter(|one| !is_said(one, &said)).collect();
    assert!(gone.is_empty(), "nothing says this any more: {gone:#?}");
    for (message, advice) in &messages {
        assert!(advice.len() > 20, "nothing is said about: {message}");
    }
    let mut twice: Vec<_> = messages.iter().map(|(message, _)| message).collect();
    twice.sort_unstable();
    twice.dedup();
    assert_eq!(twice.len(), messages.len(), "one is there twice");
}

#[test]
fn a_message_is_found_as_it_is_written_in_the_sources_and_no_other() {
    let code = r##"
        // "a comment says nothing at all"
        let (a, b) = ('"', '\''); let c: &'static str = r#"raw "text" is no message"#;
        #[error("the file {} has \"{name}\" \
                 in {{braces}}: mode {mode:04o}", path.display())]
    "##;
    let said = literals(code);
    assert_eq!(said, ["the file … has \"…\" in {braces}: mode …"]);
    assert!(is_said("the file … has \"…\" in", &said));
    for other in ["the file x has \"…\" in", "the file … has …", "mode …", "a comment says nothing"]
    {
        assert!(!is_said(other, &said), "{other}");
    }
    let script = "x || fail \"port $port of ${host:-nobody} is $(a $(b)) late\"";
    assert_eq!(said_by_shell(script), ["port … of … is … late\""]);
}

//! `health` and its probes.

use super::super::reader::{Fields, Reader};
use super::super::tree::{Node, Value};
use super::super::{
    Health, PROBE_FAILURES_DEFAULT, PROBE_INTERVAL_DEFAULT, PROBE_TIMEOUT_DEFAULT, Probe,
    ProbeKind, Span, check,
};
use super::leaf::{optional, optional_text, span, within, words};
use super::ports;

const HOUR: Span = Span::from_secs(3600);
const START_WITHIN_MIN: Span = Span::from_millis(100);
const START_WITHIN_MAX: Span = Span::from_secs(24 * 3600);
const INTERVAL_MIN: Span = Span::from_millis(100);
const TIMEOUT_MIN: Span = Span::from_millis(10);
const FAILURES_MAX: u32 = 100;

pub(super) fn read(reader: &mut Reader, node: &Node, path: &str) -> Option<Health> {
    let mut fields = reader.map(node, path)?;
    let health = Health {
        ready: optional(reader, &mut fields, "ready", probe),
        alive: optional(reader, &mut fields, "alive", probe),
        start_within: span(
            reader,
            &mut fields,
            "start_within",
            START_WITHIN_MIN..=START_WITHIN_MAX,
        )
        .unwrap_or(Health::default().start_within),
    };
    reader.finish(&fields);
    Some(health)
}

fn probe(reader: &mut Reader, node: &Node, path: &str) -> Option<Probe> {
    let mut fields = reader.map(node, path)?;
    let kind = kind(reader, &mut fields, path);
    let interval = span(reader, &mut fields, "interval", INTERVAL_MIN..=HOUR)
        .unwrap_or(PROBE_INTERVAL_DEFAULT);
    let timeout = optional_text(reader, &mut fields, "timeout", |text| {
        let timeout = Span::parse(&text)?;
        within(timeout, &(TIMEOUT_MIN..=interval))
            .map_err(|problem| format!("{problem}: an answer is waited for at most one interval"))
    });
    let failures = optional(reader, &mut fields, "failures", |reader, node, path| {
        reader.number(node, path, 1..=FAILURES_MAX)
    });
    reader.finish(&fields);
    Some(Probe {
        kind: kind?,
        interval,
        timeout: timeout.unwrap_or(PROBE_TIMEOUT_DEFAULT.min(interval)),
        failures: failures.unwrap_or(PROBE_FAILURES_DEFAULT),
    })
}

/// What is asked: one of three.
fn kind(reader: &mut Reader, fields: &mut Fields<'_>, path: &str) -> Option<ProbeKind> {
    let given: Vec<_> = ["http", "tcp", "exec"]
        .into_iter()
        .filter_map(|key| Some((key, fields.take(key)?)))
        .collect();
    match given.as_slice() {
        [] => {
            reader.report(
                path,
                fields.at,
                "must hold http, tcp or exec: how the instance is asked",
            );
            None
        }
        [(key, (path, node))] => match *key {
            "http" => http(reader, node, path),
            "tcp" => tcp(reader, node, path),
            _ => exec(reader, node, path),
        },
        [(first, _), others @ ..] => {
            for (_, (path, node)) in others {
                reader.report(
                    path,
                    node.at,
                    format!("a probe asks one thing: {first} is here already"),
                );
            }
            None
        }
    }
}

fn http(reader: &mut Reader, node: &Node, path: &str) -> Option<ProbeKind> {
    if let Value::Scalar { .. } = node.value {
        reader.report(path, node.at, "must be a map, for example {port: 8080, path: /health}");
        return None;
    }
    let mut fields = reader.map(node, path)?;
    let port = fields
        .require(reader, "port", "the port that the container listens on")
        .and_then(|(path, node)| ports::number(reader, node, &path));
    let target = optional_text(reader, &mut fields, "path", check::url_path);
    reader.finish(&fields);
    Some(ProbeKind::Http { path: target.unwrap_or_else(|| "/".to_owned()), port: port? })
}

fn tcp(reader: &mut Reader, node: &Node, path: &str) -> Option<ProbeKind> {
    if let Value::Scalar { .. } = node.value {
        return Some(ProbeKind::Tcp { port: ports::number(reader, node, path)? });
    }
    let mut fields = reader.map(node, path)?;
    let port = fields
        .require(reader, "port", "the port that the container listens on")
        .and_then(|(path, node)| ports::number(reader, node, &path));
    reader.finish(&fields);
    Some(ProbeKind::Tcp { port: port? })
}

fn exec(reader: &mut Reader, node: &Node, path: &str) -> Option<ProbeKind> {
    let before = reader.problems.len();
    let command = if let Value::Map(_) = node.value {
        let mut fields = reader.map(node, path)?;
        let command = fields
            .require(reader, "command", "a list of words")
            .map(|(path, node)| words(reader, node, &path));
        reader.finish(&fields);
        command?
    } else {
        words(reader, node, path)
    };
    let first = command.first().map_or("", String::as_str);
    if first.is_empty() && reader.problems.len() == before {
        reader.report(path, node.at, "names no command");
    }
    Some(ProbeKind::Exec { command })
}

//! `update`.

use super::super::reader::Reader;
use super::super::tree::Node;
use super::super::{OnFailure, Order, Span, Strategy, UpdateSpec, Wave};
use super::leaf::{choice, optional_text, span};

const STRATEGIES: [(&str, Strategy); 4] = [
    ("rolling", Strategy::Rolling),
    ("recreate", Strategy::Recreate),
    ("canary", Strategy::Canary),
    ("blue-green", Strategy::BlueGreen),
];

const ORDERS: [(&str, Order); 3] =
    [("auto", Order::Auto), ("start-first", Order::StartFirst), ("stop-first", Order::StopFirst)];

const ON_FAILURE: [(&str, OnFailure); 2] =
    [("rollback", OnFailure::Rollback), ("pause", OnFailure::Pause)];

const DAY: Span = Span::from_secs(24 * 3600);

pub(super) fn read(reader: &mut Reader, node: &Node, path: &str) -> Option<UpdateSpec> {
    let mut fields = reader.map(node, path)?;
    let default = UpdateSpec::default();
    let fields = &mut fields;
    let update = UpdateSpec {
        strategy: choice(reader, fields, "strategy", &STRATEGIES).unwrap_or_default(),
        wave: optional_text(reader, fields, "wave", |text| Wave::parse(&text)).unwrap_or_default(),
        order: choice(reader, fields, "order", &ORDERS).unwrap_or_default(),
        bake: span(reader, fields, "bake", Span::ZERO..=DAY).unwrap_or(default.bake),
        deadline: span(reader, fields, "deadline", Span::from_secs(1)..=DAY)
            .unwrap_or(default.deadline),
        drain: span(reader, fields, "drain", Span::ZERO..=Span::from_secs(3600))
            .unwrap_or(default.drain),
        on_failure: choice(reader, fields, "on_failure", &ON_FAILURE).unwrap_or_default(),
    };
    reader.finish(fields);
    Some(update)
}

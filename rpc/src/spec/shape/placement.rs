//! How many instances there are, and where they may run.

use std::collections::BTreeMap;

use super::super::reader::{Fields, Reader};
use super::super::{DeploymentSpec, Mode, OnNodeLoss, REPLICAS_MAX, SpreadKey};
use super::leaf::{choice, one_or_many, optional, optional_text};
use crate::constraint::Constraint;

const MODES: [(&str, Mode); 2] =
    [("replicated", Mode::Replicated), ("every-node", Mode::EveryNode)];

const ON_NODE_LOSS: [(&str, OnNodeLoss); 3] =
    [("replace", OnNodeLoss::Replace), ("wait", OnNodeLoss::Wait), ("manual", OnNodeLoss::Manual)];

pub(super) struct Placement {
    mode: Mode,
    replicas: u32,
    node_selector: BTreeMap<String, String>,
    constraint: Option<Constraint>,
    spread: Vec<SpreadKey>,
    max_per_node: Option<u32>,
    on_node_loss: Option<OnNodeLoss>,
}

impl Placement {
    pub(super) fn put_into(self, spec: &mut DeploymentSpec) {
        spec.mode = self.mode;
        spec.replicas = self.replicas;
        spec.node_selector = self.node_selector;
        spec.constraint = self.constraint;
        spec.spread = self.spread;
        spec.max_per_node = self.max_per_node;
        spec.on_node_loss = self.on_node_loss;
    }
}

pub(super) fn read(reader: &mut Reader, fields: &mut Fields<'_>) -> Placement {
    let mode = choice(reader, fields, "mode", &MODES).unwrap_or_default();
    let replicas = optional(reader, fields, "replicas", |reader, node, path| {
        reader.number(node, path, 0..=REPLICAS_MAX)
    });
    let node_selector =
        fields.take("node_selector").map(|(path, node)| reader.text_map(node, &path));
    let constraint = optional_text(reader, fields, "where", |text| Constraint::parse(&text));
    let spread = one_or_many(reader, fields, "spread", |text| SpreadKey::parse(&text));
    let max_per_node = optional(reader, fields, "max_per_node", |reader, node, path| {
        reader.number(node, path, 1..=REPLICAS_MAX)
    });
    let on_node_loss = choice(reader, fields, "on_node_loss", &ON_NODE_LOSS);
    Placement {
        mode,
        replicas: replicas.unwrap_or(1),
        node_selector: node_selector.unwrap_or_default(),
        constraint,
        spread,
        max_per_node,
        on_node_loss,
    }
}

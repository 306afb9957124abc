//! A tree's keys and types against what a deployment is.
//!
//! ```text
//! placement   where and how many        ports, templates   what their names say
//! update      how revisions change      volumes            data that stays
//! health      when it is ready          container          the container as its users know it
//! leaf        single values             resources          what it takes of its node
//! ```

mod container;
mod health;
mod leaf;
mod limits;
mod network;
mod placement;
mod ports;
mod resources;
mod secrets;
mod templates;
mod update;
mod volumes;

use super::check;
use super::problem::{Position, Problem, Problems};
use super::reader::{Fields, Reader};
use super::tree::{Kind, Node, Value};
use super::{DeploymentSpec, ImageRef, InstanceSpec, PullPolicy};
use crate::id::{DeploymentName, ProjectName};
use leaf::{choice, optional, optional_text, pairs, parsed, words};

/// Reads a deployment, or says all that is wrong, with what is known to be wrong already.
pub(super) fn deployment(
    root: &Node,
    known: Vec<Problem>,
    project: Option<&ProjectName>,
) -> Result<DeploymentSpec, Problems> {
    let mut reader = Reader::new(known);
    let spec = read_deployment(&mut reader, root, project);
    let mut problems = reader.problems;
    if let Some(spec) = &spec {
        for (field, message) in check::clashes(spec) {
            let position = Some(find(root, &field));
            problems.push(Problem { field, position, message });
        }
    }
    match (Problems::of(problems), spec) {
        (Some(problems), _) => Err(problems),
        (None, Some(spec)) => Ok(spec),
        (None, None) => {
            Err(Problems::one("", Some(root.at), "the manifest is not a deployment".to_owned()))
        }
    }
}

fn read_deployment(
    reader: &mut Reader,
    root: &Node,
    project: Option<&ProjectName>,
) -> Option<DeploymentSpec> {
    let mut fields = reader.map(root, "")?;
    let name = fields
        .require(reader, "name", "every deployment has one")
        .and_then(|(path, node)| parsed(reader, node, &path, DeploymentName::parse));
    let project = read_project(reader, &mut fields, project);
    let placement = placement::read(reader, &mut fields);
    let update = optional(reader, &mut fields, "update", update::read).unwrap_or_default();
    let health = optional(reader, &mut fields, "health", health::read).unwrap_or_default();
    let pull_policy = choice(reader, &mut fields, "pull_policy", &PULL_POLICIES);
    let instance = read_instance(reader, &mut fields);
    reader.finish(&fields);
    let (name, project, instance) = (name?, project?, instance?);
    let mut spec = DeploymentSpec { project, ..DeploymentSpec::new(name, instance) };
    placement.put_into(&mut spec);
    spec.update = update;
    spec.health = health;
    spec.pull_policy = pull_policy.unwrap_or_default();
    Some(spec)
}

/// The project that the manifest names, else the one that it is for, else `default`.
fn read_project(
    reader: &mut Reader,
    fields: &mut Fields<'_>,
    wanted: Option<&ProjectName>,
) -> Option<ProjectName> {
    let Some((path, node)) = fields.take("project") else {
        return Some(wanted.cloned().unwrap_or_default());
    };
    let named = parsed(reader, node, &path, ProjectName::parse)?;
    if let Some(wanted) = wanted.filter(|wanted| **wanted != named) {
        let message = format!("is {named}, but this was to go into project {wanted}: which is it?");
        reader.report(&path, node.at, message);
    }
    Some(named)
}

const PULL_POLICIES: [(&str, PullPolicy); 3] = [
    ("missing", PullPolicy::Missing),
    ("always", PullPolicy::Always),
    ("never", PullPolicy::Never),
];

fn read_instance(reader: &mut Reader, fields: &mut Fields<'_>) -> Option<InstanceSpec> {
    let image =
        fields.require(reader, "image", "for example \"nginx:alpine\"").and_then(|(path, node)| {
            let check = |text: String| ImageRef::parse(&text).map(|_| text);
            parsed(reader, node, &path, check)
        });
    let mut spec = InstanceSpec {
        registry: optional_text(reader, fields, "registry", |text| {
            ImageRef::check_registry(&text).map(|()| text)
        }),
        command: command(reader, fields),
        args: fields
            .take("args")
            .map(|(path, node)| words(reader, node, &path))
            .unwrap_or_default(),
        env: fields.take("env").map(|(path, node)| env(reader, node, &path)).unwrap_or_default(),
        ports: ports::read(reader, fields),
        templates: templates::read(reader, fields),
        secrets: secrets::read(reader, fields),
        networks: network::read(reader, fields),
        resources: optional(reader, fields, "resources", resources::read).unwrap_or_default(),
        volumes: volumes::read(reader, fields),
        host_mounts: volumes::read_host_mounts(reader, fields),
        ..InstanceSpec::default()
    };
    container::read(reader, fields, &mut spec);
    limits::read(reader, fields, &mut spec);
    spec.image = image?;
    Some(spec)
}

/// `command`, which may be called `entrypoint` as Docker calls it.
fn command(reader: &mut Reader, fields: &mut Fields<'_>) -> Vec<String> {
    let command = fields.take("command").map(|(path, node)| words(reader, node, &path));
    let Some((path, node)) = fields.take("entrypoint") else {
        return command.unwrap_or_default();
    };
    if command.is_some() {
        let message = "sets what \"command\" sets already; arguments go into \"args\"";
        reader.report(&path, node.at, message);
    }
    words(reader, node, &path)
}

fn env(reader: &mut Reader, node: &Node, path: &str) -> std::collections::BTreeMap<String, String> {
    let env = pairs(reader, node, path, '=');
    for (name, value) in &env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            reader.report(path, node.at, format!("{name:?} is no name of a variable"));
        }
    }
    env
}

/// Where a path such as `ports[1].host_port` stands in the tree, or what is nearest above it.
fn find(root: &Node, path: &str) -> Position {
    let mut node = root;
    for step in path.split(['.', '[', ']']).filter(|step| !step.is_empty()) {
        let next = match &node.value {
            Value::Map(entries) => {
                entries.iter().find(|entry| entry.key == step).map(|entry| &entry.node)
            }
            Value::List(items) => step.parse::<usize>().ok().and_then(|index| items.get(index)),
            Value::Scalar { kind: Kind::Null | Kind::Bool | Kind::Number | Kind::Text, .. } => None,
        };
        match next {
            Some(next) => node = next,
            None => break,
        }
    }
    node.at
}

#[cfg(test)]
mod tests;

//! A tree's keys and types against what a deployment is.

use super::check;
use super::problem::{Position, Problem, Problems};
use super::reader::{Fields, Reader};
use super::tree::{Kind, Node, Value};
use super::{
    DeploymentSpec, HostIp, ImageRef, InstanceSpec, LogSpec, PortSpec, Protocol, REPLICAS_MAX,
    TEMPLATE_MODE_DEFAULT, TemplateSpec,
};
use crate::id::{DeploymentName, ProjectName};

/// Reads a deployment, or says all that is wrong, with what is known to be wrong already.
pub(super) fn deployment(root: &Node, known: Vec<Problem>) -> Result<DeploymentSpec, Problems> {
    let mut reader = Reader { problems: known };
    let spec = read_deployment(&mut reader, root);
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

fn read_deployment(reader: &mut Reader, root: &Node) -> Option<DeploymentSpec> {
    let mut fields = reader.map(root, "")?;
    let name = fields
        .require(reader, "name", "every deployment has one")
        .and_then(|(path, node)| parsed(reader, &path, node, DeploymentName::parse));
    let project = match fields.take("project") {
        Some((path, node)) => parsed(reader, &path, node, ProjectName::parse),
        None => Some(ProjectName::default()),
    };
    let replicas = match fields.take("replicas") {
        Some((path, node)) => reader.number(node, &path, 0..=REPLICAS_MAX),
        None => Some(1),
    };
    let node_selector = fields
        .take("node_selector")
        .map(|(path, node)| reader.text_map(node, &path))
        .unwrap_or_default();
    let instance = read_instance(reader, &mut fields);
    reader.finish(&fields);
    let (name, instance) = (name?, instance?);
    Some(DeploymentSpec {
        project: project?,
        replicas: replicas?,
        node_selector,
        ..DeploymentSpec::new(name, instance)
    })
}

fn read_instance(reader: &mut Reader, fields: &mut Fields<'_>) -> Option<InstanceSpec> {
    let image =
        fields.require(reader, "image", "for example \"nginx:alpine\"").and_then(|(path, node)| {
            let check = |text: String| ImageRef::parse(&text).map(|_| text);
            parsed(reader, &path, node, check)
        });
    let registry = fields.take("registry").and_then(|(path, node)| {
        let check = |text: String| ImageRef::check_registry(&text).map(|()| text);
        parsed(reader, &path, node, check)
    });
    let command = fields.take("command").map(|(path, node)| words(reader, node, &path));
    let args = fields.take("args").map(|(path, node)| words(reader, node, &path));
    let env = fields.take("env").map(|(path, node)| environment(reader, node, &path));
    let ports = fields.take("ports").map(|(path, node)| {
        let items = reader.list(node, &path);
        items.into_iter().filter_map(|(path, item)| port(reader, item, &path)).collect()
    });
    let templates = fields.take("templates").map(|(path, node)| {
        let items = reader.list(node, &path);
        items.into_iter().filter_map(|(path, item)| template(reader, item, &path)).collect()
    });
    let networks = networks(reader, fields);
    let log = fields
        .take("log")
        .map_or_else(|| Some(LogSpec::default()), |(path, node)| log(reader, node, &path));
    Some(InstanceSpec {
        image: image?,
        registry,
        command: command.unwrap_or_default(),
        args: args.unwrap_or_default(),
        env: env.unwrap_or_default(),
        ports: ports.unwrap_or_default(),
        templates: templates.unwrap_or_default(),
        networks,
        log: log?,
        ..InstanceSpec::default()
    })
}

/// A text that must parse as something more.
fn parsed<T, E: std::fmt::Display>(
    reader: &mut Reader,
    path: &str,
    node: &Node,
    parse: impl FnOnce(String) -> Result<T, E>,
) -> Option<T> {
    let text = reader.text(node, path, true)?;
    match parse(text) {
        Ok(value) => Some(value),
        Err(problem) => {
            reader.report(path, node.at, problem.to_string());
            None
        }
    }
}

/// A list of words; a single text is refused, because splitting it would be a guess.
fn words(reader: &mut Reader, node: &Node, path: &str) -> Vec<String> {
    if let Value::Scalar { text, .. } = &node.value {
        let split: Vec<_> = text.split_whitespace().map(|word| format!("{word:?}")).collect();
        let hint = format!("must be a list of words, for example [{}]", split.join(", "));
        reader.report(path, node.at, hint);
        return Vec::new();
    }
    reader.texts(node, path)
}

/// A map of texts, or Docker's list of `NAME=value`.
fn environment(
    reader: &mut Reader,
    node: &Node,
    path: &str,
) -> std::collections::BTreeMap<String, String> {
    let env = if let Value::List(_) = node.value {
        let mut env = std::collections::BTreeMap::new();
        for (path, item) in reader.list(node, path) {
            let Some(text) = reader.text(item, &path, false) else { continue };
            match text.split_once('=') {
                Some((name, value)) => {
                    if env.insert(name.to_owned(), value.to_owned()).is_some() {
                        reader.report(&path, item.at, format!("sets {name} a second time"));
                    }
                }
                None => reader.report(&path, item.at, "must read NAME=value"),
            }
        }
        env
    } else {
        reader.text_map(node, path)
    };
    for (name, value) in &env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            reader.report(path, node.at, format!("{name:?} is no name of a variable"));
        }
    }
    env
}

fn port(reader: &mut Reader, node: &Node, path: &str) -> Option<PortSpec> {
    let mut fields = reader.map(node, path)?;
    let container_port = fields
        .require(reader, "container_port", "the port that the container listens on")
        .and_then(|(path, node)| port_number(reader, node, &path));
    let host_port = match fields.take("host_port") {
        Some((path, node)) => port_number(reader, node, &path),
        None => container_port,
    };
    let protocol = match fields.take("protocol") {
        None => Some(Protocol::default()),
        Some((path, node)) => parsed(reader, &path, node, |text| match &*text.to_lowercase() {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            _ => Err(format!("must be tcp or udp, not \"{text}\"")),
        }),
    };
    let host_ip = match fields.take("host_ip") {
        None => Some(HostIp::default()),
        Some((path, node)) => parsed(reader, &path, node, |text| HostIp::parse(&text)),
    };
    reader.finish(&fields);
    Some(PortSpec {
        container_port: container_port?,
        host_port: host_port?,
        protocol: protocol?,
        host_ip: host_ip?,
    })
}

fn port_number(reader: &mut Reader, node: &Node, path: &str) -> Option<u16> {
    reader.number(node, path, 1..=u32::from(u16::MAX)).and_then(|port| u16::try_from(port).ok())
}

fn template(reader: &mut Reader, node: &Node, path: &str) -> Option<TemplateSpec> {
    let mut fields = reader.map(node, path)?;
    let destination = fields
        .require(reader, "destination", "the absolute path of the file in the container")
        .and_then(|(path, node)| parsed(reader, &path, node, check::destination));
    let content = fields
        .require(reader, "content", "what the file holds")
        .and_then(|(path, node)| reader.text(node, &path, true));
    let mode = match fields.take("mode") {
        None => Some(TEMPLATE_MODE_DEFAULT),
        Some((path, node)) => mode(reader, node, &path),
    };
    let mut id = |key| match fields.take(key) {
        None => Some(0),
        Some((path, node)) => reader.number(node, &path, 0..=u32::MAX - 1),
    };
    let (uid, gid) = (id("uid"), id("gid"));
    reader.finish(&fields);
    Some(TemplateSpec {
        destination: destination?,
        content: content?,
        mode: mode?,
        uid: uid?,
        gid: gid?,
    })
}

/// Permission bits in octal digits. The text as written counts, so `0444` and `"0444"` agree; TOML
/// has no leading zero and writes a text.
fn mode(reader: &mut Reader, node: &Node, path: &str) -> Option<u32> {
    let text = reader.text(node, path, true)?;
    let digits = text.strip_prefix("0o").unwrap_or(&text);
    match u32::from_str_radix(digits, 8) {
        Ok(bits) if bits <= 0o777 && digits.len() >= 3 => Some(bits),
        _ => {
            reader.report(
                path,
                node.at,
                format!("must be octal digits such as \"0444\", not {text}"),
            );
            None
        }
    }
}

/// `network: NAME` and `networks: [NAME]` are one list.
fn networks(reader: &mut Reader, fields: &mut Fields<'_>) -> Vec<String> {
    let one = fields.take("network");
    let many = fields.take("networks");
    let mut names: Vec<String> = Vec::new();
    let mut add = |reader: &mut Reader, path: &str, at: Position, name: String| {
        if let Err(problem) = check::network_name(&name) {
            reader.report(path, at, problem);
        } else if names.contains(&name) {
            reader.report(path, at, format!("names \"{name}\" a second time"));
        } else {
            names.push(name);
        }
    };
    if let Some((path, node)) = one
        && let Some(name) = reader.text(node, &path, false)
    {
        add(reader, &path, node.at, name);
    }
    if let Some((path, node)) = many {
        for (path, item) in reader.list(node, &path) {
            if let Some(name) = reader.text(item, &path, false) {
                add(reader, &path, item.at, name);
            }
        }
    }
    names
}

fn log(reader: &mut Reader, node: &Node, path: &str) -> Option<LogSpec> {
    let mut fields = reader.map(node, path)?;
    let default = LogSpec::default();
    let max_size = match fields.take("max_size") {
        None => Some(default.max_size.clone()),
        Some((path, node)) => parsed(reader, &path, node, check::log_size),
    };
    let max_files = match fields.take("max_files") {
        None => Some(default.max_files),
        Some((path, node)) => reader.number(node, &path, 1..=100),
    };
    reader.finish(&fields);
    Some(LogSpec { max_size: max_size?, max_files: max_files?, ..default })
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

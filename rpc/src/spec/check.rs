//! What fields may hold, and what no single field can tell.

use std::collections::BTreeMap;

use super::{DeploymentSpec, HostIp, PortSpec};

/// Clashes within a spec: (field, sentence) each.
pub(super) fn clashes(spec: &DeploymentSpec) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    ports(spec, &mut problems);
    templates(spec, &mut problems);
    let networks = &spec.instance.networks;
    for alone in ["host", "none"] {
        if networks.len() > 1 && networks.iter().any(|network| network == alone) {
            let message = format!("\"{alone}\" cannot be joined together with other networks");
            problems.push(("networks".to_owned(), message));
        }
    }
    problems
}

fn ports(spec: &DeploymentSpec, problems: &mut Vec<(String, String)>) {
    let ports = &spec.instance.ports;
    for (index, port) in ports.iter().enumerate() {
        if let Some(earlier) = ports[..index].iter().position(|other| overlap(port, other)) {
            problems.push((
                format!("ports[{index}].host_port"),
                format!(
                    "host port {}/{} is published twice: ports[{earlier}] has it already",
                    port.host_port, port.protocol
                ),
            ));
        }
        if spec.instance.uses_host_network() && port.host_port != port.container_port {
            problems.push((
                format!("ports[{index}].host_port"),
                format!(
                    "with the host's network port {} cannot become {}: nothing is mapped there",
                    port.container_port, port.host_port
                ),
            ));
        }
    }
}

/// Whether two publications cannot both stand on one host.
pub(super) fn overlap(a: &PortSpec, b: &PortSpec) -> bool {
    a.host_port == b.host_port
        && a.protocol == b.protocol
        && (a.host_ip == b.host_ip || a.host_ip == HostIp::Public || b.host_ip == HostIp::Public)
}

fn templates(spec: &DeploymentSpec, problems: &mut Vec<(String, String)>) {
    let mut seen = BTreeMap::new();
    for (index, template) in spec.instance.templates.iter().enumerate() {
        if let Some(earlier) = seen.insert(template.destination.as_str(), index) {
            problems.push((
                format!("templates[{index}].destination"),
                format!(
                    "two templates write {}: templates[{earlier}] does already",
                    template.destination
                ),
            ));
        }
    }
}

/// An absolute, plain path of a file.
pub(super) fn destination(text: String) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err(format!("must be an absolute path, for example \"/{text}\", not \"{text}\""));
    }
    if text.ends_with('/') {
        return Err(format!("must name a file, not the directory \"{text}\""));
    }
    if text.contains(['\0', '\n', ':']) {
        return Err("may hold no line feed, colon or NUL".to_owned());
    }
    if text.split('/').skip(1).any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!(
            "must be a plain path without \"//\", \".\" or \"..\", not \"{text}\""
        ));
    }
    Ok(text)
}

/// A name as Docker gives networks.
pub(super) fn network_name(text: &str) -> Result<(), String> {
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let holds_well = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if starts_well && holds_well && text.len() <= 128 {
        Ok(())
    } else {
        Err(format!("{text:?} is no network name: letters, digits, \"_\", \".\" and \"-\" only"))
    }
}

/// A size in Docker's notation: digits, then k, m or g.
pub(super) fn log_size(text: String) -> Result<String, String> {
    let digits = text.strip_suffix(['k', 'm', 'g']).unwrap_or(&text);
    match digits.parse::<u64>() {
        Ok(size) if size > 0 => Ok(text),
        _ => Err(format!("must be a size such as 10m (k, m or g), not \"{text}\"")),
    }
}

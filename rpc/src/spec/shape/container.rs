//! The container as users of Docker know it: who runs in it, under which name, what it sees.

use std::collections::BTreeMap;

use super::super::reader::{Fields, Reader};
use super::super::tree::Node;
use super::super::{InstanceSpec, LogSpec, Span, check, words};
use super::leaf::{flag, one_or_many, optional, optional_text, pairs, within};

const STOP_GRACE_MAX: Span = Span::from_secs(3600);

pub(super) fn read(reader: &mut Reader, fields: &mut Fields<'_>, spec: &mut InstanceSpec) {
    spec.user = optional_text(reader, fields, "user", check::user);
    spec.working_dir = optional_text(reader, fields, "working_dir", check::directory);
    spec.hostname = optional_text(reader, fields, "hostname", check::hostname);
    spec.labels =
        fields.take("labels").map(|(path, node)| labels(reader, node, &path)).unwrap_or_default();
    spec.stop_signal = optional_text(reader, fields, "stop_signal", |text| words::signal(&text));
    spec.stop_grace = optional_text(reader, fields, "stop_grace", |text| stop_grace(&text));
    spec.read_only = flag(reader, fields, "read_only");
    spec.init = flag(reader, fields, "init");
    spec.dns = one_or_many(reader, fields, "dns", |text| {
        text.parse().map_err(|_| format!("must be the address of a name server, not \"{text}\""))
    });
    spec.extra_hosts = fields
        .take("extra_hosts")
        .map(|(path, node)| extra_hosts(reader, node, &path))
        .unwrap_or_default();
    spec.cap_drop = one_or_many(reader, fields, "cap_drop", |text| words::capability(&text));
    spec.cap_add = one_or_many(reader, fields, "cap_add", |text| words::capability(&text));
    spec.privileged = flag(reader, fields, "privileged");
    spec.log = optional(reader, fields, "log", log).unwrap_or_default();
}

/// Docker counts it in seconds.
fn stop_grace(text: &str) -> Result<Span, String> {
    let grace = Span::parse(text)?;
    if !grace.as_millis().is_multiple_of(1000) {
        return Err(format!("must be whole seconds, not {grace}"));
    }
    within(grace, &(Span::ZERO..=STOP_GRACE_MAX))
}

fn labels(reader: &mut Reader, node: &Node, path: &str) -> BTreeMap<String, String> {
    let labels = pairs(reader, node, path, '=');
    for name in labels.keys() {
        if name.is_empty() {
            reader.report(path, node.at, "a label needs a name");
        } else if name == "knit" || name.starts_with("knit.") {
            let message = format!("\"{name}\" is Knit's own; labels may not begin with \"knit.\"");
            reader.report(path, node.at, message);
        }
    }
    labels
}

fn extra_hosts(reader: &mut Reader, node: &Node, path: &str) -> BTreeMap<String, String> {
    let hosts = pairs(reader, node, path, ':');
    for (name, address) in &hosts {
        if let Err(problem) = check::hostname(name.clone()) {
            reader.report(path, node.at, problem);
        }
        if address != "host-gateway" && address.parse::<std::net::IpAddr>().is_err() {
            let message = format!("{name} must have an address or host-gateway, not \"{address}\"");
            reader.report(path, node.at, message);
        }
    }
    hosts
}

fn log(reader: &mut Reader, node: &Node, path: &str) -> Option<LogSpec> {
    let mut fields = reader.map(node, path)?;
    let default = LogSpec::default();
    let driver = optional_text(reader, &mut fields, "driver", check::log_driver);
    let max_size = optional_text(reader, &mut fields, "max_size", check::log_size);
    let max_files = optional(reader, &mut fields, "max_files", |reader, node, path| {
        reader.number(node, path, 1..=100)
    });
    reader.finish(&fields);
    Some(LogSpec {
        driver: driver.unwrap_or(default.driver),
        max_size: max_size.unwrap_or(default.max_size),
        max_files: max_files.unwrap_or(default.max_files),
    })
}

//! Templates: a file of the container's, rendered on the node.
//!
//! Invariant: rendering is strict. A variable that does not exist is an error that names it, not
//! an empty string in somebody's configuration.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use handlebars::{Handlebars, RenderError, RenderErrorReason};
use knit_rpc::id::NodeId;
use knit_rpc::spec::TemplateSpec;
use serde_json::{Value, json};

use crate::desired::Wanted;

/// What a template may ask of its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeContext {
    pub id: NodeId,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub mesh_ip: Ipv4Addr,
    pub mesh_interface: String,
}

/// Why a template could not be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template for {destination}: {problem}")]
pub struct TemplateError {
    pub destination: String,
    pub problem: String,
}

/// What templates of an instance know: `env`, `node`, `deployment`, `slot`, `instance`, `ports`
/// and `mesh`.
pub fn context(node: &NodeContext, wanted: &Wanted) -> Value {
    let (assigned, spec) = (&wanted.assigned, &wanted.spec);
    json!({
        "env": spec.env,
        "node": {
            "name": node.name,
            "id": node.id,
            "mesh_ip": node.mesh_ip,
            "labels": node.labels,
        },
        "deployment": {
            "name": assigned.deployment,
            "project": assigned.project,
            "revision": assigned.revision,
        },
        "slot": assigned.slot,
        "instance": { "id": assigned.id },
        "ports": spec.ports,
        "mesh": { "ip": node.mesh_ip, "interface": node.mesh_interface },
    })
}

/// Renders one template.
pub fn render(template: &TemplateSpec, context: &Value) -> Result<String, TemplateError> {
    let mut engine = Handlebars::new();
    engine.set_strict_mode(true);
    engine.register_escape_fn(handlebars::no_escape);
    engine.render_template(&template.content, context).map_err(|error| {
        let problem = problem(&error);
        TemplateError { destination: template.destination.clone(), problem }
    })
}

fn problem(error: &RenderError) -> String {
    let reason = error.reason();
    if let RenderErrorReason::MissingVariable(Some(name)) = reason {
        let place = place(error.line_no, error.column_no);
        return format!(
            "unknown variable \"{name}\"{place}; known are env, node, deployment, slot, instance, ports, mesh and secret"
        );
    }
    if let RenderErrorReason::TemplateError(error) = reason {
        let (line, column) = error.pos().unzip();
        return format!("{}{}", error.reason(), place(line, column));
    }
    format!("{reason}{}", place(error.line_no, error.column_no))
}

fn place(line: Option<usize>, column: Option<usize>) -> String {
    match (line, column) {
        (Some(line), Some(column)) => format!(" (line {line}, column {column})"),
        (Some(line), None) => format!(" (line {line})"),
        (None, _) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::tests::{spec, wanted};

    fn rendered(content: &str) -> Result<String, String> {
        let mut spec = spec("web", None);
        spec.env.insert("GREETING".to_owned(), "<hi> & \"you\"".to_owned());
        spec.ports.push(crate::reconcile::tests::port(8080));
        let node = NodeContext {
            id: NodeId::from_bytes([1; 16]),
            name: "fra-1".to_owned(),
            labels: BTreeMap::from([("role".to_owned(), "web".to_owned())]),
            mesh_ip: Ipv4Addr::new(10, 45, 0, 7),
            mesh_interface: "wg0".to_owned(),
        };
        let template = TemplateSpec {
            destination: "/x".to_owned(),
            content: content.to_owned(),
            mode: 0o444,
            uid: 0,
            gid: 0,
        };
        render(&template, &context(&node, &wanted("web", 2, 5, spec))).map_err(|e| e.to_string())
    }

    #[test]
    fn all_that_is_promised_is_there_and_nothing_is_escaped() {
        let text = rendered(
            "{{env.GREETING}}|{{node.name}}|{{node.mesh_ip}}|{{node.labels.role}}|{{deployment.project}}/{{deployment.name}}@{{deployment.revision}}|{{slot}}|{{mesh.ip}} {{mesh.interface}}|{{#each ports}}{{this.host_port}}->{{this.container_port}}/{{this.protocol}}{{/each}}|{{instance.id}}|{{node.id}}",
        )
        .unwrap();
        assert!(
            text.starts_with(
                "<hi> & \"you\"|fra-1|10.45.0.7|web|default/web@5|2|10.45.0.7 wg0|8080->80/tcp|"
            ),
            "{text}"
        );
    }

    #[test]
    fn what_is_unknown_is_named() {
        for (content, name) in [
            ("{{env.GREETNG}}", "env.GREETNG"),
            ("a\nb {{nobody}}", "nobody"),
            ("{{node.labels.zone}}", "node.labels.zone"),
            ("{{#each prts}}x{{/each}}", "prts"),
        ] {
            let error = rendered(content).unwrap_err();
            assert!(error.contains(name), "{error}");
            assert!(error.starts_with("template for /x: "), "{error}");
        }
    }

    #[test]
    fn a_broken_template_is_an_error() {
        for content in ["{{#if}}", "{{", "{{#each ports}}", "{{no_helper 1}}"] {
            assert!(rendered(content).is_err(), "{content}");
        }
    }
}

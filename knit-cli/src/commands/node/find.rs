//! Which node is meant.

use anyhow::bail;
use knit_link::http::ApiClient;
use knit_rpc::api::NodeView;
use knit_rpc::id::NodeId;

/// Characters of an id that must be given at least, so that a short name is no id by accident.
const PREFIX_MIN: usize = 4;

/// A node by its exact name, its id or the beginning of its id: its name and its id.
pub(in crate::commands) async fn find(
    client: &ApiClient,
    wanted: &str,
) -> anyhow::Result<(String, NodeId)> {
    let nodes = client.nodes().await?;
    choose(&nodes, wanted)
}

fn choose(nodes: &[NodeView], wanted: &str) -> anyhow::Result<(String, NodeId)> {
    let named: Vec<&NodeView> = nodes.iter().filter(|node| node.name == wanted).collect();
    let by_id = |node: &&NodeView| {
        let id = node.id.as_ref().map(NodeId::as_str).unwrap_or_default();
        wanted.len() >= PREFIX_MIN && id.starts_with(wanted)
    };
    let found = if named.is_empty() { nodes.iter().filter(by_id).collect() } else { named };
    match found.as_slice() {
        [] => {
            let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            bail!("there is no node \"{wanted}\"; there are: {names}")
        }
        [node] => match &node.id {
            Some(id) => Ok((node.name.clone(), id.clone())),
            None => bail!("{wanted} is in the mesh, but no agent has registered from it"),
        },
        several => {
            let ids: Vec<String> =
                several.iter().filter_map(|node| Some(node.id.as_ref()?.to_string())).collect();
            bail!(
                "{} nodes are meant by \"{wanted}\"; say which: {}",
                several.len(),
                ids.join(", ")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing;

    #[test]
    fn a_node_is_meant_by_its_name_or_the_beginning_of_its_id() {
        let mut nodes = [testing::node("fra-1"), testing::node("fra-2"), testing::node("abcd")];
        for (node, id) in nodes.iter_mut().zip(["a", "b", "c"]) {
            node.id = Some(NodeId::parse(id.repeat(32)).unwrap());
        }
        assert_eq!(choose(&nodes, "fra-2").unwrap().1.as_str(), "b".repeat(32));
        assert_eq!(choose(&nodes, "aaaa").unwrap().0, "fra-1");
        assert_eq!(choose(&nodes, &"c".repeat(32)).unwrap().0, "abcd");
        for (wanted, told) in
            [("fra", "there are: fra-1, fra-2, abcd"), ("aaa", "there is no node \"aaa\"")]
        {
            let error = choose(&nodes, wanted).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
        nodes[1].name = "fra-1".to_owned();
        let error = choose(&nodes, "fra-1").unwrap_err().to_string();
        assert!(error.starts_with("2 nodes are meant by"), "{error}");
        nodes[2].id = None;
        assert!(choose(&nodes, "abcd").unwrap_err().to_string().contains("no agent"));
    }
}

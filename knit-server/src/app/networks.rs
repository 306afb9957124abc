//! Networks that users make.

use ipnet::Ipv4Net;
use knit_rpc::api::NetworkView;
use knit_rpc::id::{NodeId, ProjectName};
use knit_rpc::message::NetworkSpec;
use knit_runtime::clock;
use knit_server_core::snapshot::Network;
use knit_server_core::{Node, networks};

use super::bounds::problem;
use super::volumes::next_generations;
use super::{App, AppError, World};
use crate::store;

/// Prefix length of a mesh's subnet.
const MESH_PREFIX: u8 = 16;

impl App {
    pub async fn networks(&self, project: Option<&ProjectName>) -> Vec<NetworkView> {
        let world = self.world().await;
        let all = world.snapshot.networks.values();
        all.filter(|network| project.is_none_or(|project| network.spec.project == *project))
            .map(|network| networks::view(&world.snapshot, network))
            .collect()
    }

    pub async fn network(
        &self,
        project: &ProjectName,
        name: &str,
    ) -> Result<NetworkView, AppError> {
        let world = self.world().await;
        let found = world.snapshot.networks.get(&(project.clone(), name.to_owned()));
        found
            .map(|network| networks::view(&world.snapshot, network))
            .ok_or_else(|| AppError::NotFound(no_network(project, name)))
    }

    /// Makes a network; nodes make theirs when an instance needs it.
    pub async fn create_network(&self, spec: NetworkSpec) -> Result<NetworkView, AppError> {
        let problems = networks::problems(&spec);
        if !problems.is_empty() {
            let fields = problems.iter().map(|(field, told)| problem(field, told)).collect();
            return Err(AppError::Fields { what: "network", fields });
        }
        let mut world = self.world().await;
        let missing = |problem| AppError::Fields { what: "network", fields: vec![problem] };
        world.check_project(&spec.project).map_err(missing)?;
        let key = (spec.project.clone(), spec.name.clone());
        if world.snapshot.networks.contains_key(&key) {
            return Err(AppError::Conflict(format!(
                "network {} of project {} exists already",
                spec.name, spec.project
            )));
        }
        if let Some(why) = networks::clash(&world.snapshot, &spec, &self.own_networks(&world)) {
            return Err(AppError::Conflict(why));
        }
        let network = Network { spec, created_at: clock::now() };
        // Who named it meant Docker's own network of that name so far.
        let users = networks::users(&world.snapshot, &network.spec);
        let on: Vec<&NodeId> = users
            .iter()
            .flat_map(|user| world.snapshot.instances.of_deployment(&user.id))
            .map(|instance| &instance.node)
            .collect();
        let nodes = next_generations(&world.snapshot, on.into_iter());
        let mut write = self.store.begin().await?;
        store::networks::put(&mut write, &network).await?;
        for node in &nodes {
            store::nodes::put(&mut write, node).await?;
        }
        store::commit(write).await?;
        for node in nodes {
            world.snapshot.nodes.insert(node.id.clone(), node);
        }
        world.snapshot.networks.insert(key, network.clone());
        self.wake_publisher.notify_one();
        Ok(networks::view(&world.snapshot, &network))
    }

    /// Removes a network that nobody names; nodes remove theirs with the last container on it.
    pub async fn remove_network(&self, project: &ProjectName, name: &str) -> Result<(), AppError> {
        let mut world = self.world().await;
        let key = (project.clone(), name.to_owned());
        let Some(network) = world.snapshot.networks.get(&key) else {
            return Err(AppError::NotFound(no_network(project, name)));
        };
        let users = networks::users(&world.snapshot, &network.spec);
        if !users.is_empty() {
            let names: Vec<String> = users.iter().map(|user| user.spec.name.to_string()).collect();
            return Err(AppError::Conflict(format!(
                "network {name} is named by {}: undeploy that, or deploy it without, first",
                names.join(", ")
            )));
        }
        let mut write = self.store.begin().await?;
        store::networks::remove(&mut write, project, name).await?;
        store::commit(write).await?;
        world.snapshot.networks.remove(&key);
        Ok(())
    }

    /// The cluster's own networks, as far as they are known.
    fn own_networks(&self, world: &World) -> Vec<(String, Ipv4Net)> {
        let nodes = world.snapshot.nodes.values().filter_map(Node::mesh_ip);
        let mesh = world.mesh.own_ip.into_iter().chain(nodes);
        let mut found: Vec<(String, Ipv4Net)> = mesh
            .filter_map(|ip| Ipv4Net::new(ip, MESH_PREFIX).ok())
            .map(|net| ("the mesh".to_owned(), net.trunc()))
            .collect();
        found.push(("the nodes' containers".to_owned(), self.container_subnet));
        found.sort_by_key(|(_, net)| *net);
        found.dedup();
        found
    }
}

fn no_network(project: &ProjectName, name: &str) -> String {
    format!("there is no network {name} in project {project}")
}

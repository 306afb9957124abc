//! Reads everything once, at start; from then on the snapshot in memory leads.

use std::collections::BTreeMap;

use knit_rpc::Timestamp;
use knit_rpc::id::{ClusterId, SpecHash};
use knit_rpc::message::{Generation, InstanceStatus};
use knit_rpc::spec::{DeploymentSpec, InstanceSpec};
use knit_server_core::{Deployment, Instance, Node, Snapshot};

use super::{Store, StoreError, from_json, parsed, small, uint};

type NodeRow = (String, String, String, Option<String>, i64, i64, i64, i64, i64, i64);
type DeploymentRow = (String, i64, i64, i64, Option<i64>, Option<i64>, String, String);
type InstanceRow = (String, String, i64, i64, i64, String, String, i64);

impl Store {
    /// Reads the cluster as it was stored.
    pub async fn snapshot(
        &self,
        cluster: ClusterId,
        started: Timestamp,
    ) -> Result<Snapshot, StoreError> {
        let mut snapshot = Snapshot::empty(cluster, started);
        snapshot.epoch = self.epoch().await?;
        for row in self.node_rows().await? {
            let node = node(row)?;
            snapshot.nodes.insert(node.id.clone(), node);
        }
        snapshot.specs = self.specs().await?;
        for row in self.deployment_rows().await? {
            let deployment = deployment(row)?;
            snapshot.deployments.insert(deployment.id.clone(), deployment);
        }
        for row in self.instance_rows().await? {
            let instance = instance(row)?;
            snapshot.instances.insert(instance);
        }
        for (node_id, status) in self.observed_rows().await? {
            let status: InstanceStatus = from_json("report", &status)?;
            snapshot.observed.put(&parsed("node", &node_id)?, status);
        }
        Ok(snapshot)
    }

    async fn epoch(&self) -> Result<u64, StoreError> {
        let found: Option<String> =
            sqlx::query_scalar("SELECT value FROM meta WHERE key = 'epoch'")
                .fetch_optional(&self.read)
                .await
                .map_err(StoreError::Read)?;
        found.map_or(Ok(0), |text| parsed("epoch", &text))
    }

    async fn node_rows(&self) -> Result<Vec<NodeRow>, StoreError> {
        sqlx::query_as(
            "SELECT id, nkey, facts, subnet, lost, adopting, epoch, counter,
                    published_epoch, published_counter
             FROM nodes",
        )
        .fetch_all(&self.read)
        .await
        .map_err(StoreError::Read)
    }

    async fn specs(&self) -> Result<BTreeMap<SpecHash, InstanceSpec>, StoreError> {
        let rows: Vec<(String, String)> = sqlx::query_as("SELECT hash, spec FROM specs")
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::Read)?;
        rows.into_iter()
            .map(|(hash, spec)| Ok((parsed("spec hash", &hash)?, from_json("spec", &spec)?)))
            .collect()
    }

    async fn deployment_rows(&self) -> Result<Vec<DeploymentRow>, StoreError> {
        sqlx::query_as(
            "SELECT d.id, d.revision, d.created_at, d.updated_at, d.removed_at, d.hold_until,
                    r.spec, r.spec_hash
             FROM deployments d
             JOIN revisions r ON r.deployment_id = d.id AND r.revision = d.revision",
        )
        .fetch_all(&self.read)
        .await
        .map_err(StoreError::Read)
    }

    async fn instance_rows(&self) -> Result<Vec<InstanceRow>, StoreError> {
        sqlx::query_as(
            "SELECT id, deployment_id, slot, revision, attempt, node_id, spec_hash, retry
             FROM instances",
        )
        .fetch_all(&self.read)
        .await
        .map_err(StoreError::Read)
    }

    async fn observed_rows(&self) -> Result<Vec<(String, String)>, StoreError> {
        sqlx::query_as("SELECT node_id, status FROM observed")
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::Read)
    }
}

fn node(row: NodeRow) -> Result<Node, StoreError> {
    let (id, nkey, facts, subnet, lost, adopting, epoch, counter, published_epoch, published) = row;
    let mut node = Node::new(parsed("node", &id)?, nkey);
    node.facts = from_json("node", &facts)?;
    node.subnet = subnet.map(|text| parsed("subnet", &text)).transpose()?;
    node.lost = lost != 0;
    node.adopting = adopting != 0;
    node.generation = Generation { epoch: uint(epoch), counter: uint(counter) };
    node.published = Generation { epoch: uint(published_epoch), counter: uint(published) };
    Ok(node)
}

fn deployment(row: DeploymentRow) -> Result<Deployment, StoreError> {
    let (id, revision, created_at, updated_at, removed_at, hold_until, spec, spec_hash) = row;
    let moment = |millis| Timestamp::from_millis(uint(millis));
    let spec: DeploymentSpec = from_json("deployment", &spec)?;
    Ok(Deployment {
        id: parsed("deployment", &id)?,
        revision: uint(revision),
        spec,
        spec_hash: parsed("spec hash", &spec_hash)?,
        created_at: moment(created_at),
        updated_at: moment(updated_at),
        removed_at: removed_at.map(moment),
        hold_until: hold_until.map(moment),
        stopped: false,
        restart_floor: 0,
        stable: None,
        revisions: BTreeMap::new(),
        rollout: None,
    })
}

fn instance(row: InstanceRow) -> Result<Instance, StoreError> {
    let (id, deployment, slot, revision, attempt, node, spec, retry) = row;
    Ok(Instance {
        id: parsed("instance", &id)?,
        deployment: parsed("deployment", &deployment)?,
        slot: small(slot),
        revision: uint(revision),
        attempt: small(attempt),
        node: parsed("node", &node)?,
        spec: parsed("spec hash", &spec)?,
        retry: retry != 0,
        because: String::new(),
    })
}

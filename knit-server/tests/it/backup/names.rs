//! Names that others have since the backup.

use std::sync::Arc;

use knit_link::bus::MemoryBus;
use knit_rpc::api::DeploymentState;
use knit_rpc::id::{DeploymentId, DeploymentName, ProjectName};

use super::{back_up, set_back, two_nodes, undeploy};
use crate::support::agent::Agent;
use crate::support::{Home, Server, eventually};

/// Which of two deployments of one name is first in what is stored is left to chance: so often it
/// is tried to have it as wanted.
const TRIES_MAX: usize = 64;

/// Deploys anew under a name until its id is in this half of all ids.
async fn deploy_in_half(server: &Server, name: &str, image: &str, upper: bool) -> DeploymentId {
    for _ in 0..TRIES_MAX {
        server.deploy(&format!("{{name: {name}, image: {image}, replicas: 2}}")).await;
        let id = holder(server, name).await.expect("it was deployed");
        if (*id.as_str() >= *"8") == upper {
            server.until(name, DeploymentState::Running).await;
            return id;
        }
        undeploy(server, name).await;
    }
    panic!("no id of {name} is in the half that is wanted")
}

async fn holder(server: &Server, name: &str) -> Option<DeploymentId> {
    let world = server.app.world().await;
    let name = DeploymentName::parse(name).expect("a name");
    world.snapshot.named(&ProjectName::default(), &name).map(|one| one.id.clone())
}

#[tokio::test]
async fn a_name_that_was_given_anew_after_the_backup_is_its_new_holders() {
    let (home, bus) = (Home::new(), MemoryBus::new());
    let server = Server::start_on_disk(&home, &bus).await;
    let (disks, agents) = two_nodes(&server, &bus).await;
    let names = [("rising", false), ("falling", true)];
    for (name, upper) in names {
        deploy_in_half(&server, name, "v1", upper).await;
    }
    let backup = back_up(&home);
    let mut anew = Vec::new();
    for (name, upper) in names {
        undeploy(&server, name).await;
        anew.push(Some(deploy_in_half(&server, name, "v2", !upper).await));
    }
    let images = || [disks[0].images(), disks[1].images()].concat();
    eventually("only the new ones are left", || async { (images() == ["v2"; 4]).then_some(()) })
        .await;
    let running = [0, 1].map(|n: usize| disks[n].running());
    let started = [0, 1].map(|n: usize| disks[n].started());
    drop(agents);
    server.stop().await;

    set_back(&home, &backup);
    let bus = MemoryBus::new();
    let server = Server::start_on_disk(&home, &bus).await;
    let _agents = [0, 1].map(|n: usize| Agent::resume(&disks[n], Arc::new(bus.client()), false));
    eventually("both nodes were heard and are told", || async {
        disks.iter().all(|disk| disk.generation().epoch >= 1).then_some(())
    })
    .await;
    for ((name, _), anew) in names.iter().zip(&anew) {
        assert_eq!(server.until(name, DeploymentState::Running).await.image, "v2");
        assert_eq!(holder(&server, name).await, *anew);
    }
    assert_eq!([0, 1].map(|n: usize| disks[n].running()), running, "every container is the same");
    assert_eq!([0, 1].map(|n: usize| disks[n].started()), started, "none was started again");
    server.stop().await;
}

//! Projects: what is in them, and when one may go.

use knit_rpc::api::ProjectContents;
use knit_rpc::id::ProjectName;

use crate::snapshot::Snapshot;

/// Counts what the snapshot holds of a project.
pub fn contents(snapshot: &Snapshot, project: &ProjectName) -> ProjectContents {
    let mut found = ProjectContents::default();
    for deployment in snapshot.deployments.values() {
        if deployment.spec.project == *project {
            let is_leaving = deployment.removed_at.is_some();
            *(if is_leaving { &mut found.leaving } else { &mut found.deployments }) += 1;
        }
    }
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    found.volumes = count(snapshot.volumes.keys().filter(|name| name.project == *project).count());
    found.secrets = count(snapshot.secrets.keys().filter(|(owner, _)| owner == project).count());
    found.networks = count(snapshot.networks.keys().filter(|(owner, _)| owner == project).count());
    found
}

/// Why a project stays; `None` when it may be removed. `tokens` are those that hold there by name.
pub fn why_it_stays(
    project: &ProjectName,
    contents: ProjectContents,
    tokens: &[String],
) -> Option<String> {
    if *project == ProjectName::default() {
        return Some("project default always exists: it cannot be removed".to_owned());
    }
    let ProjectContents { deployments, leaving, volumes, networks, secrets, registries } = contents;
    let mut left: Vec<String> = [
        (deployments, "deployment", "deployments"),
        (leaving, "deployment on its way out", "deployments on their way out"),
        (volumes, "volume", "volumes"),
        (networks, "network", "networks"),
        (secrets, "secret", "secrets"),
        (registries, "registry", "registries"),
    ]
    .into_iter()
    .filter(|(count, ..)| *count > 0)
    .map(|(count, one, many)| format!("{count} {}", if count == 1 { one } else { many }))
    .collect();
    if left.is_empty() && tokens.is_empty() {
        return None;
    }
    // A name that somebody makes again must not be open to whom it was open to before.
    match tokens {
        [] => {}
        [one] => left.push(format!("1 token ({one})")),
        many => left.push(format!("{} tokens ({})", many.len(), many.join(", "))),
    }
    Some(format!(
        "project {project} still has {}: remove {} first",
        left.join(", "),
        if left.len() == 1 && left[0].starts_with("1 ") { "it" } else { "them" }
    ))
}

/// The sentence for a project that does not exist.
pub fn unknown(project: &ProjectName) -> String {
    format!("there is no project {project}: {}", how_it_is_made(project))
}

/// The same of a field that names it.
pub fn unknown_in_field(project: &ProjectName) -> String {
    format!("{project} does not exist: {}", how_it_is_made(project))
}

fn how_it_is_made(project: &ProjectName) -> String {
    format!("`knit project create {project}` makes it, which takes admin of all projects")
}

#[cfg(test)]
mod tests {
    use knit_rpc::Timestamp;
    use knit_rpc::spec::VolumeName;

    use super::*;
    use crate::snapshot::Volume;
    use crate::testing;

    fn at_secs(secs: u64) -> Timestamp {
        Timestamp::from_millis(1000 * secs)
    }

    #[test]
    fn what_is_in_a_project_is_counted_where_it_is() {
        let mut snapshot = testing::cluster(1);
        let shop: ProjectName = "shop".parse().unwrap();
        for n in 1..=3 {
            testing::deploy(&mut snapshot, n, 1, testing::instance_spec("a:1"));
        }
        for n in 1..=2 {
            testing::amend(&mut snapshot, n, |spec| spec.project = shop.clone());
        }
        let gone = snapshot.deployments.get_mut(&testing::deployment_id(2)).unwrap();
        gone.removed_at = Some(testing::NOW);
        for (name, at) in [("shop/data.0", 1), ("shop/data.1", 2), ("shop2/data.0", 3)] {
            let volume =
                Volume { node: testing::node_id(1), created_at: at_secs(at), removing: false };
            snapshot.volumes.insert(VolumeName::parse(name).unwrap(), volume);
        }
        let found = contents(&snapshot, &shop);
        assert_eq!((found.deployments, found.leaving, found.volumes), (1, 1, 2));
        assert_eq!(contents(&snapshot, &"other".parse().unwrap()), ProjectContents::default());
    }

    #[test]
    fn a_project_stays_while_something_is_in_it_and_says_what() {
        let shop: ProjectName = "shop".parse().unwrap();
        let nothing = ProjectContents::default();
        let full = ProjectContents { deployments: 2, volumes: 1, registries: 3, ..nothing };
        let leaving = ProjectContents { leaving: 1, ..nothing };
        let of = |contents, tokens: &[&str]| {
            let tokens: Vec<String> = tokens.iter().map(|&id| id.to_owned()).collect();
            why_it_stays(&shop, contents, &tokens)
        };
        assert_eq!(of(nothing, &[]), None);
        for (told, expected) in [
            (of(full, &[]), "2 deployments, 1 volume, 3 registries: remove them first"),
            (of(leaving, &[]), "1 deployment on its way out: remove it first"),
            (of(nothing, &["ab12"]), "1 token (ab12): remove it first"),
            (
                of(leaving, &["a", "b"]),
                "1 deployment on its way out, 2 tokens (a, b): remove them first",
            ),
        ] {
            assert_eq!(told.unwrap(), format!("project shop still has {expected}"));
        }
        assert!(why_it_stays(&ProjectName::default(), nothing, &[]).is_some());
    }
}

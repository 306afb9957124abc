//! Which secrets this node starts with, and how it takes a new one while it runs.

use anyhow::{Context as _, Result};
use meshctl_core::derive::MeshKeys;
use meshctl_core::mesh::{Mesh, Successor};
use meshctl_core::secret::Secret;
use meshctl_core::secret_store::{FileNews, SecretStore};

use super::state::StateDir;

/// Shortest and longest time in which both secrets are accepted, in seconds.
pub(super) const GRACE_SECS: std::ops::RangeInclusive<i64> = 5..=90 * 24 * 3600;

/// The keys to start with, given the secret of the file and what an earlier run kept.
pub(super) fn resume(state: &StateDir, given: Secret) -> Result<(MeshKeys, Option<Successor>)> {
    let stored = state.secrets()?;
    let (store, news) = SecretStore::resume(stored.clone(), given, now_unix());
    match news {
        FileNews::Fine => {}
        FileNews::OtherMesh => tracing::warn!(
            "the secret file holds the secret of another mesh than this node was in, and it goes there: one that follows the present secret comes from `meshctl init --successor-of`, and is kept with its `?pin=`"
        ),
        FileNews::Begins => tracing::info!(
            "the secret file holds a new secret of this mesh: both are accepted for a day; give it to the other nodes too"
        ),
        FileNews::Old => tracing::warn!(
            "the secret file holds the secret that is being replaced: put the new one there before the old one is refused"
        ),
        FileNews::Retired => tracing::warn!(
            "the secret file holds a secret that is not accepted any more; going on with the one that followed it: put that into the file"
        ),
    }
    if stored.as_ref() != Some(&store)
        && let Err(error) = state.keep_secrets(&store)
    {
        // A rotation is on disk before it begins. For the rest a full disk must not keep a node out
        // of its mesh: the next start comes to the same.
        anyhow::ensure!(news != FileNews::Begins, error);
        tracing::warn!("{error:#}");
    }
    let keys = MeshKeys::derive(&store.current);
    let successor = store.successor.as_ref();
    let successor = successor
        .map(|(secret, until)| Successor { keys: MeshKeys::derive(secret), until: *until });
    Ok((keys, successor))
}

/// What is to be done to change to `secret`: kept on disk before anything is done.
pub(super) fn begin(
    mesh: &Mesh,
    state: &StateDir,
    secret: &str,
    grace_secs: i64,
) -> Result<Successor> {
    let secret = Secret::parse(secret)?;
    mesh.may_rotate(&secret)?;
    anyhow::ensure!(
        !secret.is_weak(),
        "that secret may hold under 128 bits: make it by `meshctl init --successor-of FILE`"
    );
    anyhow::ensure!(
        GRACE_SECS.contains(&grace_secs),
        "both secrets can be accepted for 5 seconds to 90 days: choose another --grace"
    );
    let until = now_unix() + grace_secs;
    let mut store =
        state.secrets()?.context("the state directory holds no secret: start the daemon again")?;
    store.begin(secret.clone(), until);
    state.keep_secrets(&store)?;
    Ok(Successor { keys: MeshKeys::derive(&secret), until })
}

/// Writes down that the grace is over.
pub(super) fn end(state: &StateDir) -> Result<()> {
    let Some(mut store) = state.secrets()? else { return Ok(()) };
    store.advance(now_unix());
    state.keep_secrets(&store)
}

fn now_unix() -> i64 {
    i64::try_from(knit_runtime::clock::now().as_millis() / 1000).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    /// On a full disk nothing can be written; what is not written cannot fail.
    #[test]
    fn a_start_that_changes_nothing_writes_nothing() {
        let dir = std::env::temp_dir().join(format!("meshctl-secrets-{}", std::process::id()));
        let secret = || Secret::parse("the first secret of a test").unwrap();
        let state = StateDir::open(&dir, "wg0").unwrap();
        resume(&state, secret()).unwrap();
        let inode = || std::fs::metadata(dir.join("wg0-secrets.json")).unwrap().ino();
        let before = inode();
        resume(&state, secret()).unwrap();
        assert_eq!(inode(), before);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

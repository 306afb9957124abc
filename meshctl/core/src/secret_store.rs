//! Which secrets a node accepts, from one start to the next: what its state directory holds, and
//! what the secret file says now.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::derive::{MeshKeys, Pin};
use crate::secret::Secret;

/// What a secret file that changed between two starts gives the mesh.
pub const DEFAULT_GRACE_SECS: i64 = 24 * 3600;
const RETIRED_MAX: usize = 16;

/// The secrets of one mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretStore {
    pub current: Secret,
    /// The one that follows, and until when `current` is accepted beside it, in unix seconds.
    pub successor: Option<(Secret, i64)>,
    /// The ids of those that are not accepted any more.
    retired: Vec<String>,
}

/// What the operator should know of the secret file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileNews {
    Fine,
    /// It holds the secret that is being replaced.
    Old,
    /// It holds one that is not accepted any more; the present one goes on.
    Retired,
    /// It holds the successor: a rotation begins.
    Begins,
    /// It holds another mesh's secret.
    OtherMesh,
}

/// Why the stored secrets were refused.
#[derive(Debug, thiserror::Error)]
#[error("it is not what this program writes: remove it if no rotation is under way")]
pub struct BadStore;

#[derive(Serialize, Deserialize)]
struct File {
    current: Zeroizing<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    successor: Option<Zeroizing<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<i64>,
    #[serde(default)]
    retired: Vec<String>,
}

impl SecretStore {
    pub fn new(current: Secret) -> Self {
        Self { current, successor: None, retired: Vec::new() }
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, BadStore> {
        let file: File = serde_json::from_slice(bytes).map_err(|_| BadStore)?;
        let secret = |text: &str| Secret::parse(text).map_err(|_| BadStore);
        let successor = match (&file.successor, file.until) {
            (Some(text), Some(until)) => Some((secret(text)?, until)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(BadStore),
        };
        Ok(Self { current: secret(&file.current)?, successor, retired: file.retired })
    }

    pub fn render(&self) -> Zeroizing<Vec<u8>> {
        let file = File {
            current: self.current.uri(),
            successor: self.successor.as_ref().map(|(secret, _)| secret.uri()),
            until: self.successor.as_ref().map(|(_, until)| *until),
            retired: self.retired.clone(),
        };
        Zeroizing::new(serde_json::to_vec_pretty(&file).unwrap_or_default())
    }

    /// The secrets to start with, given those of an earlier run and that of the file.
    pub fn resume(stored: Option<Self>, file: Secret, now_unix: i64) -> (Self, FileNews) {
        let Some(mut store) = stored else { return (Self::new(file), FileNews::Fine) };
        store.advance(now_unix);
        if file.same_text(&store.current) {
            let news = if store.successor.is_some() { FileNews::Old } else { FileNews::Fine };
            return (store, news);
        }
        if store.successor.as_ref().is_some_and(|(next, _)| next.same_text(&file)) {
            return (store, FileNews::Fine);
        }
        if store.retired.contains(&file.id()) {
            return (store, FileNews::Retired);
        }
        let is_of_this_mesh = file.pin() == Some(Pin::of(&MeshKeys::derive(&store.current)));
        if is_of_this_mesh && store.successor.is_none() {
            store.successor = Some((file, now_unix.saturating_add(DEFAULT_GRACE_SECS)));
            return (store, FileNews::Begins);
        }
        (Self::new(file), FileNews::OtherMesh)
    }

    /// Begins a rotation; the present secret is accepted until then, in unix seconds.
    pub fn begin(&mut self, successor: Secret, until: i64) {
        self.successor = Some((successor, until));
    }

    /// Ends a rotation whose time is over.
    pub fn advance(&mut self, now_unix: i64) {
        if let Some((next, _)) = self.successor.take_if(|(_, until)| *until <= now_unix) {
            self.retired.push(self.current.id());
            let excess = self.retired.len().saturating_sub(RETIRED_MAX);
            self.retired.drain(..excess);
            self.current = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn first() -> Secret {
        Secret::parse("the first secret of a test").unwrap()
    }

    fn next(text: &str) -> Secret {
        Secret::parse(text).unwrap().pinned(Pin::of(&MeshKeys::derive(&first())))
    }

    #[test]
    fn a_rotation_survives_restarts_whatever_the_file_says() {
        let two = next("the second secret of a test");
        let (store, news) = SecretStore::resume(None, first(), NOW);
        assert_eq!((store.successor.is_none(), news), (true, FileNews::Fine));

        let (store, news) = SecretStore::resume(Some(store), two.clone(), NOW);
        assert_eq!(news, FileNews::Begins);
        assert_eq!(store.successor, Some((two.clone(), NOW + DEFAULT_GRACE_SECS)));
        let store = SecretStore::parse(&store.render()).unwrap();

        for (file, expected) in [(first(), FileNews::Old), (two.clone(), FileNews::Fine)] {
            let (again, news) = SecretStore::resume(Some(store.clone()), file, NOW + 9);
            assert_eq!((&again, news), (&store, expected));
        }
        let over = NOW + DEFAULT_GRACE_SECS;
        for (file, expected) in [(first(), FileNews::Retired), (two.clone(), FileNews::Fine)] {
            let (again, news) = SecretStore::resume(Some(store.clone()), file, over);
            assert_eq!((&again.current, &again.successor, news), (&two, &None, expected));
        }
    }

    #[test]
    fn another_meshs_secret_begins_anew() {
        let store = SecretStore::new(first());
        let other = Secret::parse("the secret of another mesh").unwrap();
        let elsewhere = other.clone().pinned(Pin::of(&MeshKeys::derive(&other)));
        for file in [other, elsewhere] {
            let (fresh, news) = SecretStore::resume(Some(store.clone()), file.clone(), NOW);
            assert_eq!((fresh, news), (SecretStore::new(file), FileNews::OtherMesh));
        }
    }

    #[test]
    fn a_third_secret_follows_the_second_in_the_same_mesh() {
        let mut store = SecretStore::new(first());
        for text in ["the second secret of a test", "the third secret of a test"] {
            let (rotating, news) = SecretStore::resume(Some(store), next(text), NOW);
            assert_eq!(news, FileNews::Begins, "{text}");
            store = rotating;
            store.advance(NOW + DEFAULT_GRACE_SECS);
        }
        let keys = MeshKeys::derive(&store.current);
        assert_eq!(Pin::of(&keys), Pin::of(&MeshKeys::derive(&first())));
        assert_eq!(store.retired.len(), 2);
    }

    #[test]
    fn rubbish_is_no_store() {
        for rubbish in
            ["", "{}", "[]", r#"{"current":"x"}"#, r#"{"current":"a secret of a test","until":1}"#]
        {
            assert!(SecretStore::parse(rubbish.as_bytes()).is_err(), "{rubbish}");
        }
    }
}

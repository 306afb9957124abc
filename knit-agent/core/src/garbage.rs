//! Which images go when the disk fills up.
//!
//! ```text
//! over `high` ──> of the images that we pulled, that no container uses, and that nothing assigned
//!                 and no rollback needs: the one whose use is longest ago ──> until under `low`
//! ```
//!
//! Invariant: an image that Knit did not pull, or that somebody gave a name of their own, is never
//! removed.

use std::collections::{BTreeMap, BTreeSet};

use knit_rpc::Timestamp;
use knit_rpc::message::IMAGES_TOLD_MAX;
use serde::{Deserialize, Serialize};

use crate::container;
use crate::desired::Desired;

/// Names of images that are remembered, at most.
const NAMES_MAX: usize = 1000;

/// When images are collected, in percent of the file system that Docker stores on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// Above it images are removed.
    pub high: u8,
    /// Until it is no more than this full.
    pub low: u8,
}

impl Default for Marks {
    fn default() -> Self {
        Self { high: 85, low: 75 }
    }
}

/// An image as the engine shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    pub id: String,
    /// `name:tag` each; none of an image whose tag went to another.
    pub tags: BTreeSet<String>,
    /// `name@sha256:…` each.
    pub digests: BTreeSet<String>,
}

/// What is remembered of the images that instances use, by the names that they use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    names: BTreeMap<String, Name>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Name {
    used: Timestamp,
    /// Images that were here under this name because Knit pulled them.
    #[serde(default)]
    pulled: BTreeSet<String>,
}

impl Remembered {
    /// Notes that Knit got an image that was not here.
    pub fn pulled(&mut self, name: &str, id: String, now: Timestamp) {
        let known = self.names.entry(name.to_owned()).or_default();
        known.pulled.insert(id);
        known.used = known.used.max(now);
    }

    /// Notes that instances use these names now.
    pub fn used(&mut self, names: &BTreeSet<String>, now: Timestamp) {
        for name in names {
            let known = self.names.entry(name.clone()).or_default();
            known.used = known.used.max(now);
        }
    }

    /// Forgets images that are not here any more, and the names not used for longest beyond what
    /// is remembered at most.
    pub fn keep(&mut self, here: &[Image]) {
        for known in self.names.values_mut() {
            known.pulled.retain(|id| here.iter().any(|image| image.id == *id));
        }
        while self.names.len() > NAMES_MAX {
            let oldest = self.names.iter().min_by_key(|(_, known)| known.used);
            let Some(oldest) = oldest.map(|(name, _)| name.clone()) else { return };
            self.names.remove(&oldest);
        }
    }

    /// Names that instances used and that are here, those used last, as many as are told.
    pub fn present(&self, here: &[Image]) -> BTreeSet<String> {
        let mut names: Vec<_> = self
            .names
            .iter()
            .filter(|(name, _)| here.iter().any(|image| is_called(image, name)))
            .map(|(name, known)| (known.used, name))
            .collect();
        names.sort_by(|left, right| right.cmp(left));
        names.into_iter().take(IMAGES_TOLD_MAX).map(|(_, name)| name.clone()).collect()
    }

    /// When an image was last used, if Knit pulled it and all its names are Knit's.
    fn last_use(&self, image: &Image) -> Option<Timestamp> {
        let knows_tag = |tag: &String| self.names.keys().any(|name| familiar(name) == *tag);
        if !image.tags.iter().all(knows_tag) {
            return None;
        }
        let pulled = self.names.values().filter(|known| known.pulled.contains(&image.id));
        pulled.map(|known| known.used).max()
    }
}

/// Names of images that must stay: of all assigned instances, and those that a rollback may need.
pub fn needed(desired: &Desired) -> BTreeSet<String> {
    let of_instances = desired.instances.values().map(|wanted| container::image(&wanted.spec));
    of_instances.chain(desired.keep_images.iter().cloned()).collect()
}

/// Images that may go, the one whose use is longest ago first. `used` are the ids of the images of
/// all containers, whoever made them.
pub fn removable<'a>(
    here: &'a [Image],
    used: &BTreeSet<String>,
    needed: &BTreeSet<String>,
    remembered: &Remembered,
) -> Vec<&'a Image> {
    let mut removable: Vec<_> = here
        .iter()
        .filter(|image| !used.contains(&image.id))
        .filter(|image| !needed.iter().any(|name| is_called(image, name)))
        .filter_map(|image| Some((remembered.last_use(image)?, image)))
        .collect();
    removable.sort_by(|(left_use, left), (right_use, right)| {
        (left_use, &left.id).cmp(&(right_use, &right.id))
    });
    removable.into_iter().map(|(_, image)| image).collect()
}

impl Image {
    /// What to tell the engine to remove, so that nothing is left of it.
    pub fn references(&self) -> Vec<&String> {
        let names = if self.tags.is_empty() { &self.digests } else { &self.tags };
        if names.is_empty() { vec![&self.id] } else { names.iter().collect() }
    }
}

/// Whether a name as written in a spec leads to an image.
fn is_called(image: &Image, name: &str) -> bool {
    let name = familiar(name);
    image.id == name || image.tags.contains(&name) || image.digests.contains(&name)
}

/// A name as Docker shows it: without what it adds itself, with the tag that it adds.
fn familiar(name: &str) -> String {
    let short = name.strip_prefix("docker.io/").unwrap_or(name);
    let short = short.strip_prefix("library/").unwrap_or(short);
    if let Some((name, digest)) = short.split_once('@') {
        // Where both are given Docker goes by the digest.
        let name =
            name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(name, |n| n.0);
        return format!("{name}@{digest}");
    }
    let last = short.rsplit('/').next().unwrap_or(short);
    if last.contains(':') { short.to_owned() } else { format!("{short}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn image(id: &str, tags: &[&str]) -> Image {
        Image { id: id.to_owned(), tags: set(tags), digests: BTreeSet::new() }
    }

    fn ids(images: &[&Image]) -> Vec<String> {
        images.iter().map(|image| image.id.clone()).collect()
    }

    /// Images a (used first), b and c, all pulled by Knit.
    fn world() -> (Vec<Image>, Remembered) {
        let mut remembered = Remembered::default();
        for (name, id, seconds) in [("c", "3", 30), ("a", "1", 10), ("b", "2", 20)] {
            remembered.pulled(name, id.to_owned(), at(seconds));
        }
        let tags = [("1", "a:latest"), ("2", "b:latest"), ("3", "c:latest")];
        (tags.map(|(id, tag)| image(id, &[tag])).into(), remembered)
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let (here, mut remembered) = world();
        let none = BTreeSet::new();
        assert_eq!(ids(&removable(&here, &none, &none, &remembered)), ["1", "2", "3"]);
        remembered.used(&set(&["a"]), at(40));
        assert_eq!(ids(&removable(&here, &none, &none, &remembered)), ["2", "3", "1"]);
    }

    #[test]
    fn what_anybody_needs_stays() {
        let (mut here, remembered) = world();
        let none = BTreeSet::new();
        let used = set(&["1"]);
        assert_eq!(ids(&removable(&here, &used, &none, &remembered)), ["2", "3"], "a container's");
        for name in ["b", "b:latest", "docker.io/library/b", "2"] {
            let needed = if name == "2" { here[1].tags.clone() } else { set(&[name]) };
            assert_eq!(ids(&removable(&here, &used, &needed, &remembered)), ["3"], "{name}");
        }
        here[2].tags.insert("mine:1".to_owned());
        here.push(image("4", &["built-here:1"]));
        here.push(image("5", &[]));
        assert_eq!(ids(&removable(&here, &used, &none, &remembered)), ["2"], "a user's names");
    }

    #[test]
    fn an_image_whose_name_went_to_a_newer_one_may_go() {
        let (mut here, mut remembered) = world();
        here[0].tags.clear();
        here.push(image("9", &["a:latest"]));
        remembered.pulled("a", "9".to_owned(), at(50));
        let left = removable(&here, &set(&["2", "3"]), &set(&["a"]), &remembered);
        assert_eq!(ids(&left), ["1"]);
        assert_eq!(left[0].references(), ["1"]);
        assert_eq!(here[1].references(), ["b:latest"]);
    }

    #[test]
    fn what_is_gone_is_forgotten_and_what_is_here_is_told() {
        let (mut here, mut remembered) = world();
        remembered.used(&set(&["never-here"]), at(60));
        assert_eq!(remembered.present(&here), set(&["a", "b", "c"]));
        here.remove(0);
        remembered.keep(&here);
        here.push(image("1", &["a:latest"]));
        let none = BTreeSet::new();
        assert_eq!(
            ids(&removable(&here, &none, &none, &remembered)),
            ["2", "3"],
            "somebody else brought it back"
        );
        let many: BTreeSet<String> = (0..2000).map(|n| format!("n{n}")).collect();
        remembered.used(&many, at(70));
        remembered.keep(&here);
        assert_eq!(remembered.names.len(), NAMES_MAX);
    }

    #[test]
    fn names_are_compared_as_docker_shows_them() {
        for (name, expected) in [
            ("nginx", "nginx:latest"),
            ("docker.io/library/nginx:1", "nginx:1"),
            ("docker.io/team/app", "team/app:latest"),
            ("r.example:5000/app", "r.example:5000/app:latest"),
            ("r.example:5000/app:2", "r.example:5000/app:2"),
            ("r.example:5000/app:2@sha256:00", "r.example:5000/app@sha256:00"),
            ("sha256:00", "sha256:00"),
        ] {
            assert_eq!(familiar(name), expected);
        }
    }
}

//! Volumes: which ones an instance has, who holds them, and which ones go.
//!
//! Invariant: a volume is removed only when the assignment names it, and while no container and
//! no wanted instance has it. Nothing else ever removes one.

use std::collections::{BTreeMap, BTreeSet};

use knit_rpc::spec::VolumeName;

use crate::container::{self, Identity};
use crate::desired::{Desired, Owner, Wanted};
use crate::observed::{Container, Observed};

/// On a volume: which one it is.
pub const LABEL_VOLUME: &str = "knit.volume";

/// A volume to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumePlan {
    /// By Docker's name.
    pub name: String,
    pub labels: BTreeMap<String, String>,
}

/// Describes a volume.
pub fn plan(owner: &Owner, name: &VolumeName) -> VolumePlan {
    let mut labels = container::owner_labels(owner);
    labels.insert(LABEL_VOLUME.to_owned(), name.to_string());
    VolumePlan { name: name.docker_name(), labels }
}

/// An instance's volumes, in the order of its spec.
pub fn of(wanted: &Wanted) -> Vec<VolumeName> {
    let assigned = &wanted.assigned;
    let volumes = wanted.spec.volumes.iter();
    volumes.map(|mount| VolumeName::of(&assigned.project, mount, assigned.slot)).collect()
}

/// `default/data.0,default/shared`.
pub(crate) fn label(volumes: &[VolumeName]) -> String {
    volumes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// None when it is nothing that we write.
pub(crate) fn parse_label(text: &str) -> Option<BTreeSet<VolumeName>> {
    text.split(',')
        .filter(|name| !name.is_empty())
        .map(|name| VolumeName::parse(name).ok())
        .collect()
}

/// The volumes that are here, that somebody asked to remove, and that nobody has.
pub(crate) fn to_remove(
    desired: &Desired,
    observed: &Observed,
    ours: &[(Identity, &Container)],
) -> BTreeSet<VolumeName> {
    let wanted: BTreeSet<VolumeName> = desired.instances.values().flat_map(of).collect();
    let asked = desired.remove_volumes.intersection(&observed.volumes);
    asked
        .filter(|volume| !wanted.contains(volume))
        .filter(|volume| ours.iter().all(|(identity, _)| !identity.volumes.contains(volume)))
        .cloned()
        .collect()
}

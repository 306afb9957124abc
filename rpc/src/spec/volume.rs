//! Data that outlives its instance, on the node where it was made.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::ProjectName;

/// A volume in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeMount {
    /// Within the project: a DNS label. Another deployment that names it has the same data.
    pub name: String,
    /// Absolute path in the container.
    pub path: String,
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub read_only: bool,
    /// Whether all slots have one volume, and so run on one node, instead of one each.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub shared: bool,
}

/// One volume of a cluster: it is on one node and never leaves it.
///
/// Written `{project}/{name}` when all slots share it, `{project}/{name}.{slot}` when each has its
/// own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeName {
    pub project: ProjectName,
    pub name: String,
    pub slot: Option<u32>,
}

impl VolumeName {
    /// The volume that a mount of a slot leads to.
    pub fn of(project: &ProjectName, mount: &VolumeMount, slot: u32) -> Self {
        let slot = (!mount.shared).then_some(slot);
        Self { project: project.clone(), name: mount.name.clone(), slot }
    }

    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is no volume: PROJECT/NAME or PROJECT/NAME.SLOT");
        let (project, rest) = text.split_once('/').ok_or_else(wrong)?;
        let (name, slot) = match rest.split_once('.') {
            Some((name, slot)) => (name, Some(slot.parse().map_err(|_| wrong())?)),
            None => (rest, None),
        };
        let project = ProjectName::parse(project).map_err(|error| error.to_string())?;
        ProjectName::parse(name).map_err(|_| wrong())?;
        Ok(Self { project, name: name.to_owned(), slot })
    }

    /// What Docker calls it: `knit.{project}.{name}[.{slot}]`.
    pub fn docker_name(&self) -> String {
        let slot = self.slot.map(|slot| format!(".{slot}")).unwrap_or_default();
        format!("knit.{}.{}{slot}", self.project, self.name)
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project, self.name)?;
        self.slot.map_or(Ok(()), |slot| write!(f, ".{slot}"))
    }
}

impl TryFrom<String> for VolumeName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<VolumeName> for String {
    fn from(name: VolumeName) -> Self {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for text in ["default/data.0", "shop/db.12", "default/shared"] {
            assert_eq!(VolumeName::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(VolumeName::parse("shop/db.1").unwrap().docker_name(), "knit.shop.db.1");
        for bad in ["", "data", "a/b.c", "a/", "/b", "A/b", "a/b.1.2"] {
            assert!(VolumeName::parse(bad).is_err(), "{bad}");
        }
    }
}

//! Who did what: a chain of entries, each of which carries the hash of the one before it.
//!
//! `hash = SHA-256(previous ‖ 0x0a ‖ entry as JSON, without its hash)`, in hex. Whoever kept one hash
//! notices when anything before it was changed, left out or put in.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use crate::Timestamp;

/// What the first entry's `previous` is.
pub const BEGINNING: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Entries in one answer, at most.
pub const PAGE_MAX: u32 = 1000;

/// One thing that somebody did, or tried to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// 1, 2, 3 and so on, without a gap.
    pub sequence: u64,
    #[schema(value_type = u64)]
    pub at: Timestamp,
    /// Who: a token by its name and id, root on the server's host, a host that joins.
    pub actor: String,
    /// From where: an address, `socket`, or `file` for what a file on the server's host declares.
    pub origin: String,
    /// What: the method, the path and the query.
    pub action: String,
    /// To what, where the path does not say it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// The HTTP status of the answer.
    pub status: u16,
    pub request_id: String,
    /// The hash of the entry before it.
    pub previous: String,
    pub hash: String,
}

/// What one entry says, before it is put into the chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditFact {
    pub at: Timestamp,
    pub actor: String,
    pub origin: String,
    pub action: String,
    pub subject: String,
    pub status: u16,
    pub request_id: String,
}

/// Whether the chain holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditCheck {
    /// Entries that were looked at.
    pub entries: u64,
    /// The hash of the last one: keep it elsewhere, and later checks prove that nothing before it
    /// has changed.
    pub head: String,
    /// What is wrong, with the sequence number where it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
}

impl AuditEntry {
    /// The entry that follows one with this number and hash.
    pub fn following(sequence: u64, previous: &str, fact: AuditFact) -> Self {
        let mut entry = Self {
            sequence: sequence + 1,
            at: fact.at,
            actor: fact.actor,
            origin: fact.origin,
            action: fact.action,
            subject: fact.subject,
            status: fact.status,
            request_id: fact.request_id,
            previous: previous.to_owned(),
            hash: String::new(),
        };
        entry.hash = entry.computed_hash();
        entry
    }

    fn computed_hash(&self) -> String {
        let unsealed = Self { hash: String::new(), ..self.clone() };
        // Strings and numbers are always JSON.
        let json = serde_json::to_vec(&unsealed).unwrap_or_default();
        let mut hasher = Sha256::new();
        hasher.update(self.previous.as_bytes());
        hasher.update(b"\n");
        hasher.update(&json);
        hex::encode(hasher.finalize())
    }

    /// What is wrong with this entry behind one with this number and hash.
    pub fn problem_after(&self, sequence: u64, previous: &str) -> Option<String> {
        let number = self.sequence;
        if number != sequence + 1 {
            return Some(format!("entry {} is missing", sequence + 1));
        }
        if self.previous != previous {
            return Some(format!("entry {number} does not follow the one before it"));
        }
        (self.hash != self.computed_hash()).then(|| format!("entry {number} was changed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(count: u64) -> Vec<AuditEntry> {
        let (mut sequence, mut previous) = (0, BEGINNING.to_owned());
        let mut entries = Vec::new();
        for number in 0..count {
            let fact = AuditFact {
                actor: format!("token t{number}"),
                action: "POST /v1/deployments".to_owned(),
                status: 202,
                ..AuditFact::default()
            };
            let entry = AuditEntry::following(sequence, &previous, fact);
            (sequence, previous) = (entry.sequence, entry.hash.clone());
            entries.push(entry);
        }
        entries
    }

    fn first_problem(entries: &[AuditEntry]) -> Option<String> {
        let (mut sequence, mut previous) = (0, BEGINNING.to_owned());
        for entry in entries {
            if let Some(problem) = entry.problem_after(sequence, &previous) {
                return Some(problem);
            }
            (sequence, previous) = (entry.sequence, entry.hash.clone());
        }
        None
    }

    #[test]
    fn whatever_is_done_to_a_chain_is_noticed() {
        let good = chain(5);
        assert_eq!(first_problem(&good), None);
        let changed = |change: &dyn Fn(&mut Vec<AuditEntry>)| {
            let mut entries = good.clone();
            change(&mut entries);
            first_problem(&entries).unwrap_or_default()
        };
        assert_eq!(changed(&|all| all[2].actor.clear()), "entry 3 was changed");
        assert_eq!(changed(&|all| all[2].status = 403), "entry 3 was changed");
        assert_eq!(changed(&|all| drop(all.remove(2))), "entry 3 is missing");
        assert_eq!(changed(&|all| all.swap(1, 2)), "entry 2 is missing");
        let forged = |all: &mut Vec<AuditEntry>| {
            let fact = AuditFact { actor: "nobody".to_owned(), ..AuditFact::default() };
            all[2] = AuditEntry::following(2, &all[1].hash, fact);
        };
        assert_eq!(changed(&forged), "entry 4 does not follow the one before it");
    }

    #[test]
    fn the_form_of_an_entry_never_changes_since_its_hash_is_kept() {
        let fact = AuditFact {
            at: Timestamp::from_millis(1_800_000_000_000),
            actor: "token ci (3f9a12cd)".to_owned(),
            origin: "10.45.0.7".to_owned(),
            action: "POST /v1/deployments".to_owned(),
            subject: "shop/web".to_owned(),
            status: 202,
            request_id: "00112233".to_owned(),
        };
        let entry = AuditEntry::following(0, BEGINNING, fact);
        assert_eq!(entry.hash, "70bdc69a1ab0c40191241a21f5d95248b0f65896fc02f9d698dc2f9e50585776");
    }
}

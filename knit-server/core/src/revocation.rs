//! When a node that was removed is cut off from NATS.
//!
//! ```text
//! removed ─> its last, empty assignment is sent ─┬─ it says that it works on it ─┐
//!                                                └─ FAREWELL_MAX passed ─────────┴─> cut off
//! ```
//!
//! Invariant: nothing keeps a node in for longer than [`FAREWELL_MAX`] after its removal.

use std::collections::BTreeMap;
use std::time::Duration;

use knit_rpc::Timestamp;
use knit_rpc::id::NodeId;
use knit_rpc::message::Generation;

/// How long a removed node may take to say that it holds its last assignment.
pub const FAREWELL_MAX: Duration = Duration::from_secs(5);

/// A node's key whose NATS tokens are worth nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    pub node: NodeId,
    /// Tokens issued at this second of the Unix epoch or before are refused.
    pub until: u64,
    /// When it was decided.
    pub at: Timestamp,
    /// The generation of the assignment that the node should still get.
    pub last: Generation,
    /// Whether it said that it has it.
    pub taken: bool,
}

/// Revocations by the node's public nkey.
pub type Revocations = BTreeMap<String, Revocation>;

/// The second up to which a key's tokens are refused when it is revoked at `now`, and the one that
/// a token made at `now` says it was issued at: after all that was refused before, so that a key
/// that is let in again within the same second gets a token that is taken, and can lose it again.
pub fn second(before: Option<&Revocation>, now: Timestamp) -> u64 {
    let second = now.as_millis() / 1000;
    before.map_or(second, |before| second.max(before.until + 1))
}

/// Whether the node is to be cut off now. A clock that was set back keeps nobody in.
pub fn is_due(revocation: &Revocation, now: Timestamp) -> bool {
    revocation.taken || now < revocation.at || now.since(revocation.at) >= FAREWELL_MAX
}

/// Keys and the seconds up to which NATS is to refuse their tokens.
pub fn due(revocations: &Revocations, now: Timestamp) -> BTreeMap<String, u64> {
    let due = revocations.iter().filter(|(_, revocation)| is_due(revocation, now));
    due.map(|(key, revocation)| (key.clone(), revocation.until)).collect()
}

/// Keys whose revoked tokens have all expired by themselves.
pub fn outlived(revocations: &Revocations, token_life: Duration, now: Timestamp) -> Vec<String> {
    let life = token_life.as_secs();
    let second = now.as_millis() / 1000;
    let outlived = revocations.iter().filter(|(_, one)| second > one.until.saturating_add(life));
    outlived.map(|(key, _)| key.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn revoked(at_millis: u64) -> Revocation {
        let (node, last) = (NodeId::from_bytes([1; 16]), Generation::default());
        Revocation {
            node,
            until: second(None, at(at_millis)),
            at: at(at_millis),
            last,
            taken: false,
        }
    }

    #[test]
    fn a_node_is_cut_off_when_it_has_its_farewell_and_after_five_seconds_at_the_latest() {
        let waiting = revoked(10_000);
        for (now, due) in [(10_000, false), (14_999, false), (15_000, true), (9_000, true)] {
            assert_eq!(is_due(&waiting, at(now)), due, "at {now} ms");
        }
        assert!(is_due(&Revocation { taken: true, ..waiting.clone() }, at(10_001)));
        let all: Revocations = [("U1".to_owned(), waiting)].into();
        assert!(due(&all, at(12_000)).is_empty());
        assert_eq!(due(&all, at(15_000)), [("U1".to_owned(), 10)].into());
    }

    #[test]
    fn a_key_that_is_let_in_again_gets_a_token_that_is_taken_and_can_be_revoked_again() {
        let first = revoked(10_400);
        let token = second(Some(&first), at(10_500));
        assert!(token > first.until, "within the same second");
        assert!(second(Some(&first), at(10_600)) >= token, "and that one is refused as well");
        assert_eq!(second(Some(&first), at(60_000)), 60);
        assert_eq!(second(None, at(60_000)), 60);
    }

    #[test]
    fn a_revocation_is_kept_until_no_token_is_left_that_it_refuses() {
        let all: Revocations = [("U1".to_owned(), revoked(10_000))].into();
        let life = Duration::from_secs(100);
        assert!(outlived(&all, life, at(110_999)).is_empty());
        assert_eq!(outlived(&all, life, at(111_000)), ["U1"]);
    }
}

//! The mesh's secret changes while the mesh runs.
//!
//! ```text
//!  rotate ──> both open ──> each peer: old seal and preshared key ──it accepts the new──> new ones
//!                 └── at the end of the grace ──> only the new one opens; who never accepted it is gone
//! ```
//!
//! Safety: two nodes speak by a secret that both have, and no session ends by the change, for a
//! preshared key matters in handshakes alone. Liveness: a node that has only the old secret is in
//! the mesh until the grace ends, one that has only the new secret from the first moment on.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use zeroize::Zeroizing;

use super::Mesh;
use super::effect::{Effect, Report};
use super::event::Now;
use super::peer::Via;
use crate::derive::{MeshKeys, Pin};
use crate::key::PublicKey;
use crate::message::Heard;
use crate::secret::Secret;

/// Peers beyond the LAN that hear of the new secret at once; the rest at their next HELLO.
const TOLD_AT_ONCE_MAX: usize = 32;
/// Who is still without it is told to the operator when so much of the grace is left, or a
/// quarter of it.
const WARN_LAST_SECS: i64 = 3_600;

/// A preshared key of WireGuard, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Psk(Zeroizing<[u8; 32]>);

impl Psk {
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Psk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Psk(…)")
    }
}

/// The secret that follows, and until when the present one is accepted.
#[derive(Clone)]
pub struct Successor {
    pub keys: MeshKeys,
    /// Unix seconds.
    pub until: i64,
}

impl fmt::Debug for Successor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Successor").field("until", &self.until).finish_non_exhaustive()
    }
}

/// Why a secret does not become the successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RotationRefusal {
    #[error("that is the mesh's secret already")]
    Same,
    #[error(
        "that secret is none of this mesh: make it by `meshctl init --successor-of FILE`, where FILE holds the present one"
    )]
    OtherMesh,
    #[error("a rotation is under way already: wait until its grace has ended")]
    UnderWay,
}

#[derive(Default)]
pub(super) struct Rotation {
    successor: Option<Successor>,
    accepts: BTreeSet<PublicKey>,
    /// Those of `accepts` that sealed by the new secret: nobody without it can do that.
    proven: BTreeSet<PublicKey>,
    /// With so many seconds left it is told who is behind; not any more after that.
    warn_below_secs: Option<i64>,
    warned: bool,
}

impl Rotation {
    pub(super) fn new(successor: Option<Successor>) -> Self {
        Self { successor, ..Self::default() }
    }

    pub(super) fn successor(&self) -> Option<&Successor> {
        self.successor.as_ref()
    }

    /// What a message says of the secret that its sender accepts.
    pub(super) fn accepts(&self) -> Option<String> {
        self.successor.as_ref().map(|successor| successor.keys.secret.id())
    }

    /// Notes which secret a peer has; returns whether that is news. One with a live tunnel that once
    /// proved to have the new one is not said to have lost it: who has only the old one, for whose
    /// sake the secret may be changing, could say so in its name and have its handshakes fail.
    fn note(
        &mut self,
        key: PublicKey,
        says: Option<&str>,
        by_successor: bool,
        is_live: bool,
    ) -> bool {
        let Some(successor) = &self.successor else { return false };
        if by_successor {
            self.proven.insert(key);
        } else if self.proven.contains(&key) {
            if is_live {
                return false;
            }
            self.proven.remove(&key);
        }
        let has_it = by_successor || says == Some(successor.keys.secret.id().as_str());
        if has_it { self.accepts.insert(key) } else { self.accepts.remove(&key) }
    }
}

impl Mesh {
    /// Takes in which secret a peer has.
    pub(super) fn note_secret(
        &mut self,
        heard: &Heard,
        by_successor: bool,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        // A full table does not take everybody.
        let Some(peer) = self.peers.get(&heard.key) else { return };
        let is_live = peer.is_live(now);
        if self.secrets.note(heard.key, heard.accepts.as_deref(), by_successor, is_live) {
            effects.push(Effect::PeersChanged);
        }
    }

    /// The preshared key with a peer: that of the newest secret which both have.
    pub(super) fn psk_with(&self, key: &PublicKey) -> Psk {
        let successor = self.secrets.successor().filter(|_| self.secrets.accepts.contains(key));
        let keys = successor.map_or(&self.settings.keys, |successor| &successor.keys);
        Psk(keys.psk.clone())
    }

    /// What a peer that an earlier run left has as its preshared key. Unless the secret has never
    /// changed, nobody knows.
    pub(super) fn psk_left(&self) -> Psk {
        let is_first =
            self.secrets.successor().is_none() && self.settings.keys.secret.pin().is_none();
        Psk(if is_first { self.settings.keys.psk.clone() } else { Zeroizing::new([0; 32]) })
    }

    /// By which keys a message is sealed, one datagram each: to the LAN without an address.
    pub fn sealing_keys(&self, to: Option<SocketAddr>) -> Vec<Zeroizing<[u8; 32]>> {
        let old = &self.settings.keys.gossip_key;
        let Some(successor) = self.secrets.successor() else { return vec![old.clone()] };
        let has_it = |key: &PublicKey| self.secrets.accepts.contains(key);
        let receivers = self.peers.all().filter(|peer| match to.map(|to| to.ip()) {
            None => true,
            Some(ip) => {
                peer.mesh_ips().any(|own| own == ip)
                    || peer.endpoint_address().is_some_and(|endpoint| endpoint.ip() == ip)
            }
        });
        let (with, without): (Vec<_>, Vec<_>) =
            receivers.map(|peer| peer.key).partition(|key| has_it(key));
        let new = &successor.keys.gossip_key;
        match (to, with.is_empty(), without.is_empty()) {
            // Somebody may be on the LAN who has only the new one.
            (None, _, true) | (Some(_), false, true) => vec![new.clone()],
            (Some(_), true, false) => vec![old.clone()],
            (None, _, false) | (Some(_), ..) => vec![old.clone(), new.clone()],
        }
    }

    /// Whether a secret may follow the present one.
    pub fn may_rotate(&self, secret: &Secret) -> Result<(), RotationRefusal> {
        let keys = &self.settings.keys;
        let successor = self.secrets.successor().map(|successor| &successor.keys.secret);
        if secret.same_text(&keys.secret) || successor.is_some_and(|next| next.same_text(secret)) {
            Err(RotationRefusal::Same)
        } else if secret.pin() != Some(Pin::of(keys)) {
            Err(RotationRefusal::OtherMesh)
        } else if successor.is_some() {
            Err(RotationRefusal::UnderWay)
        } else {
            Ok(())
        }
    }

    /// The secrets that are accepted, and until when the first is, as unix seconds.
    pub fn successor(&self) -> Option<&Successor> {
        self.secrets.successor()
    }

    /// The active peers that do not accept the new secret yet.
    pub fn left_behind(&self, now: Now) -> Vec<(PublicKey, String)> {
        if self.secrets.successor().is_none() {
            return Vec::new();
        }
        let active = self.peers.all().filter(|peer| peer.is_active(now));
        let behind = active.filter(|peer| !self.secrets.accepts.contains(&peer.key));
        behind.map(|peer| (peer.key, peer.hostname.clone())).collect()
    }

    pub(super) fn rotate(&mut self, successor: Successor, now: Now, effects: &mut Vec<Effect>) {
        if self.may_rotate(&successor.keys.secret).is_err() {
            return;
        }
        self.secrets = Rotation::new(Some(successor));
        self.announce_at = now.mono_ms;
        effects.push(Effect::PeersChanged);
        let elsewhere = self.peers.all().filter(|peer| {
            peer.is_active(now) && !(self.settings.lan && peer.via.contains(&Via::Lan))
        });
        let told: Vec<PublicKey> = elsewhere.map(|peer| peer.key).take(TOLD_AT_ONCE_MAX).collect();
        for key in told {
            if let Some(control) = self.control_of_peer(&key) {
                effects.push(self.hello(control, now));
            }
        }
    }

    /// Ends the grace when it is over: the new secret is then the only one.
    pub(super) fn end_rotation(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Some(until) = self.secrets.successor().map(|successor| successor.until) else {
            return;
        };
        let peers = &self.peers;
        for keys in [&mut self.secrets.accepts, &mut self.secrets.proven] {
            keys.retain(|key| peers.get(key).is_some());
        }
        let left = until - now.unix;
        let below = *self.secrets.warn_below_secs.get_or_insert(WARN_LAST_SECS.min(left / 4));
        if left <= below && !self.secrets.warned {
            self.secrets.warned = true;
            for (key, hostname) in self.left_behind(now) {
                let in_secs = left.max(0);
                effects.push(Effect::Report(Report::LeftBehind { key, hostname, in_secs }));
            }
        }
        if left > 0 {
            return;
        }
        let gone: Vec<PublicKey> = self
            .peers
            .all()
            .map(|peer| peer.key)
            .filter(|key| !self.secrets.accepts.contains(key))
            .collect();
        for key in gone {
            self.peers.remove(&key);
        }
        if let Some(successor) = std::mem::take(&mut self.secrets).successor {
            self.settings.keys = successor.keys;
        }
        effects.extend([Effect::SecretRotated, Effect::PeersChanged]);
        effects.push(Effect::Report(Report::Rotated));
    }

    #[cfg(test)]
    pub(super) fn has_accepted(&self, key: &PublicKey) -> bool {
        self.secrets.accepts.contains(key)
    }
}

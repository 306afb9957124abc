//! Who is let in, is expelled, and may be told of the others.

use std::net::SocketAddr;

use super::{KeptOut, Refusal, TOLD_AT_ONCE_MAX, is_signed_by, replay_id};
use crate::authority::{Certificate, Revocation};
use crate::envelope::Opened;
use crate::key::PublicKey;
use crate::mesh::effect::{Effect, Report};
use crate::mesh::event::Now;
use crate::mesh::peer::Via;
use crate::mesh::replay::Seen;
use crate::mesh::{HELLO_EVERY_MS, Mesh};
use crate::message::Heard;

impl Mesh {
    /// The nodes that have the secret and are kept out nevertheless, sorted by key.
    pub fn kept_out(&self) -> impl Iterator<Item = &KeptOut> {
        self.membership.kept_out.values()
    }

    /// What the next run should begin with.
    pub fn revocations(&self) -> impl Iterator<Item = &Revocation> {
        self.membership.revocations.values().map(|(revocation, _)| revocation)
    }

    pub fn own_certificate(&self) -> Option<&Certificate> {
        self.membership.own_certificate()
    }

    /// Why the own certificate does not count, as far as this node can tell.
    pub fn own_refusal(&self, now: Now) -> Option<Refusal> {
        self.membership.refusal_of(self.membership.own_certificate()?.terms(), now.unix)
    }

    pub(in crate::mesh) fn set_own_certificate(&mut self, certificate: Certificate, now: Now) {
        self.membership.set_own(certificate);
        self.announce_at = now.mono_ms;
    }

    /// Whether a message is to be taken in: with an authority, who sent it is looked at first.
    pub(in crate::mesh) fn lets_in(
        &mut self,
        via: Via,
        from: SocketAddr,
        heard: &mut Heard,
        opened: &Opened,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> bool {
        if !self.membership.is_on() {
            return true;
        }
        for text in &heard.revoked {
            if let Ok(revocation) = Revocation::parse(text) {
                self.revoke(revocation, now, effects);
            }
        }
        let peer = self.peers.get(&heard.key);
        let known = peer.and_then(|peer| peer.standing.as_ref()?.as_ref().ok());
        let standing = self.membership.examine(heard, &opened.plaintext, known, now);
        let let_in = match &standing {
            Ok(_) => {
                self.membership.kept_out.remove(&heard.key);
                true
            }
            Err(why) if self.membership.is_required() => {
                self.membership.keep_out(
                    KeptOut {
                        key: heard.key,
                        hostname: heard.hostname.clone().unwrap_or_default(),
                        from: self.endpoint_of(via, from, heard.endpoint),
                        why: *why,
                        member: known.cloned(),
                        last_seen_unix: now.unix,
                        at: now.mono_ms,
                    },
                    effects,
                );
                false
            }
            // In the name of one that signs, unsigned words are somebody else's, whatever
            // certificate they show.
            Err(_) => {
                peer.is_none_or(|peer| !peer.signed_lately(now))
                    || is_signed_by(&heard.key, &opened.plaintext)
            }
        };
        heard.standing = Some(standing);
        let_in
    }

    /// Whether a goodbye, an OFFER or a START is of whom it names, as far as that can be told: who
    /// signs signs these too, and each is heard once.
    pub(in crate::mesh) fn is_own_word(
        &mut self,
        key: &PublicKey,
        from: SocketAddr,
        opened: &Opened,
        now: Now,
    ) -> bool {
        let peer = self.peers.get(key);
        if !peer.is_some_and(|peer| matches!(peer.standing, Some(Ok(_)))) {
            return true;
        }
        let is_signed = is_signed_by(key, &opened.plaintext);
        let id = replay_id(opened).filter(|_| is_signed);
        id.is_some_and(|id| self.replay.check(id, from, now) == Seen::First)
    }

    /// Takes a revocation in and passes it on at once.
    pub(in crate::mesh) fn revoke(
        &mut self,
        revocation: Revocation,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let key = revocation.key();
        if !self.membership.learn(revocation, Some(now)) {
            return;
        }
        effects.push(Effect::Report(Report::Revoked { key }));
        effects.extend([Effect::RevocationsChanged, Effect::PeersChanged]);
        self.announce_at = now.mono_ms;
        let elsewhere = self
            .peers
            .all()
            .filter(|peer| peer.is_active(now) && peer.key != key && !peer.via.contains(&Via::Lan));
        let told: Vec<PublicKey> = elsewhere.map(|peer| peer.key).take(TOLD_AT_ONCE_MAX).collect();
        for key in told {
            if let Some(control) = self.control_of_peer(&key)
                && self.contacts.may_greet(control, HELLO_EVERY_MS / 15, now)
            {
                effects.push(self.hello(control, now));
            }
        }
    }

    /// Notes whose certificate has ended, and takes out who is no member any more.
    pub(in crate::mesh) fn expel(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.membership.lapse(now, effects);
        if !self.membership.is_on() {
            return;
        }
        let refused: Vec<KeptOut> = self
            .peers
            .all()
            .filter_map(|peer| {
                let member = peer.standing.as_ref().and_then(|standing| standing.as_ref().ok());
                let why = match (&peer.standing, member) {
                    (_, Some(member)) => self.membership.refusal_of(&member.terms, now.unix)?,
                    (Some(Err(why)), None) => *why,
                    (Some(Ok(_)) | None, None) => Refusal::Unsigned,
                };
                Some(KeptOut {
                    key: peer.key,
                    hostname: peer.hostname.clone(),
                    from: peer.endpoint_address(),
                    why,
                    member: member.cloned(),
                    last_seen_unix: peer.heard_unix,
                    at: now.mono_ms,
                })
            })
            .collect();
        for one in refused {
            if self.membership.is_required() {
                self.peers.remove(&one.key);
                self.membership.keep_out(one, effects);
                effects.push(Effect::PeersChanged);
            } else if let Some(peer) = self.peers.get_mut(&one.key) {
                peer.standing = Some(Err(one.why));
            }
        }
    }

    /// Whether an address is a member's, and may be told of the others.
    pub(in crate::mesh) fn may_tell(&self, to: SocketAddr) -> bool {
        !self.membership.is_required()
            || self.peers.all().any(|peer| {
                peer.endpoint_address().is_some_and(|endpoint| endpoint.ip() == to.ip())
                    || peer.mesh_ip == Some(to.ip())
            })
    }
}

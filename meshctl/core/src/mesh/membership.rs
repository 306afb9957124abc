//! Whom the authorities let in, on top of the secret.
//!
//! ```text
//!  message ──> certificate of its key? ──> in time, not revoked? ──> signed by that key? ──> Member
//!                     │ no                        │ no                      │ no
//!                     └────────── Refusal: shown, and with `required` kept out ┘
//! ```
//!
//! Safety: with `required`, nobody is a peer of whom not both were verified, the authority's
//! signature over the key and the key's own over the message; nobody stays one after the
//! certificate ends or is revoked. Without an authority nothing here is looked at.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Mesh;
use super::effect::{Effect, Report};
use super::event::Now;
use super::peer::Via;
use super::replay::Seen;
use super::{ACTIVE_MAX_MS, HELLO_EVERY_MS};
use crate::authority::{AuthorityKey, Certificate, Revocation, Terms};
use crate::envelope::{NONCE_LEN, Opened};
use crate::key::PublicKey;
use crate::message::Heard;
use crate::signature::{self, Signer};
use crate::state_file::CachedPeer;

/// Clocks differ: a certificate counts this long before it begins.
const EARLY_MAX_SECS: i64 = 600;
const KEPT_OUT_MAX: usize = 256;
const REVOCATIONS_MAX: usize = 10_000;
/// News travels in every message for so long, then each takes its turn.
const NEWS_MS: u64 = 600_000;
/// Whom a revocation is told at once, beside the LAN; they tell others.
const TOLD_AT_ONCE_MAX: usize = 32;
/// An own certificate that ends is told of this long before, or a quarter of its time.
const WARN_BEFORE_SECS: i64 = 14 * 24 * 3600;
const WARN_EVERY_MS: u64 = 24 * 3600 * 1000;

/// What a node is told of authorities.
#[derive(Clone, Default)]
pub struct Trust {
    /// Who may sign members. Nothing is verified without one.
    pub authorities: Vec<AuthorityKey>,
    /// Keep out who is not signed.
    pub required: bool,
    /// This node's own key, to sign with.
    pub signer: Option<Arc<Signer>>,
    /// This node's own certificate.
    pub certificate: Option<Certificate>,
    /// What an earlier run had heard.
    pub revocations: Vec<Revocation>,
}

/// A certificate that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub terms: Terms,
    pub by: AuthorityKey,
    text: String,
}

impl Member {
    pub fn certificate(&self) -> &str {
        &self.text
    }
}

/// Why a peer does not count as a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    Unsigned,
    /// Not a certificate, or one of another key.
    Certificate,
    Authority,
    Signature,
    Early,
    Expired,
    Revoked,
}

impl Refusal {
    /// One or two words for a table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unsigned => "no",
            Self::Certificate => "bad certificate",
            Self::Authority => "unknown authority",
            Self::Signature => "bad signature",
            Self::Early => "not yet",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }

    pub const fn explain(self) -> &'static str {
        match self {
            Self::Unsigned => "it has no certificate: join it with --certificate",
            Self::Certificate => "its certificate is damaged or another key's",
            Self::Authority => "its certificate is of an authority that this node does not know",
            Self::Signature => "its message is not signed by its own key",
            Self::Early => "its certificate is not valid yet: compare the clocks",
            Self::Expired => "its certificate has expired: sign a new one",
            Self::Revoked => "its certificate was revoked",
        }
    }
}

pub type Standing = Result<Arc<Member>, Refusal>;

/// One that is kept out, as it says itself to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptOut {
    pub key: PublicKey,
    pub hostname: String,
    pub from: Option<SocketAddr>,
    pub why: Refusal,
    /// What its certificate says, where it was verified.
    pub member: Option<Arc<Member>>,
    pub last_seen_unix: i64,
    at: u64,
}

#[derive(Default)]
pub(super) struct Membership {
    trust: Trust,
    revocations: BTreeMap<PublicKey, (Revocation, u64)>,
    kept_out: BTreeMap<PublicKey, KeptOut>,
    warned_at: Option<u64>,
}

impl Membership {
    pub(super) fn new(trust: Trust) -> Self {
        let mut membership = Self { trust, ..Self::default() };
        for revocation in std::mem::take(&mut membership.trust.revocations) {
            // Older than any news.
            membership.learn(revocation, None);
        }
        membership
    }

    pub(super) fn is_on(&self) -> bool {
        !self.trust.authorities.is_empty()
    }

    pub(super) fn is_required(&self) -> bool {
        self.trust.required
    }

    pub(super) fn signer(&self) -> Option<&Signer> {
        self.trust.certificate.as_ref().and(self.trust.signer.as_deref())
    }

    pub(super) fn own_certificate(&self) -> Option<&Certificate> {
        self.trust.certificate.as_ref()
    }

    pub(super) fn set_own(&mut self, certificate: Certificate) {
        self.trust.certificate = Some(certificate);
        self.warned_at = None;
    }

    /// What a verified certificate is worth now.
    pub(super) fn standing(&self, member: &Arc<Member>, now_unix: i64) -> Standing {
        self.refusal_of(&member.terms, now_unix).map_or_else(|| Ok(Arc::clone(member)), Err)
    }

    fn refusal_of(&self, terms: &Terms, now_unix: i64) -> Option<Refusal> {
        let revoked = self.revocations.get(&terms.key);
        if revoked.is_some_and(|(revocation, _)| revocation.undoes(terms)) {
            Some(Refusal::Revoked)
        } else if now_unix >= terms.expires {
            Some(Refusal::Expired)
        } else if now_unix < terms.not_before.saturating_sub(EARLY_MAX_SECS) {
            Some(Refusal::Early)
        } else {
            None
        }
    }

    /// Verifies the certificate of `key`, unless `known` is that very one.
    fn member(&self, key: PublicKey, text: Option<&str>, known: Option<&Arc<Member>>) -> Standing {
        let text = text.ok_or(Refusal::Unsigned)?;
        if let Some(known) = known.filter(|known| known.text == text && known.terms.key == key) {
            return Ok(Arc::clone(known));
        }
        let certificate = Certificate::parse(text).map_err(|_| Refusal::Certificate)?;
        if certificate.terms().key != key {
            return Err(Refusal::Certificate);
        }
        let by = certificate.signed_by(&self.trust.authorities).ok_or(Refusal::Authority)?;
        let terms = certificate.terms().clone();
        Ok(Arc::new(Member { terms, by, text: text.to_owned() }))
    }

    /// What a peer of an earlier run is worth: its certificate alone, for it says nothing yet.
    pub(super) fn of_cached(&self, cached: &CachedPeer, now: Now) -> Option<Standing> {
        let member = self.member(cached.wg_pubkey, cached.certificate.as_deref(), None);
        let standing = member.and_then(|member| self.standing(&member, now.unix));
        self.is_on().then_some(standing)
    }

    /// What a certificate that an introducer told of says, where it counts now.
    pub(super) fn heard_of(
        &self,
        key: PublicKey,
        text: Option<&str>,
        known: Option<&Arc<Member>>,
        now: Now,
    ) -> Option<Arc<Member>> {
        let text = text.filter(|_| self.is_on())?;
        let member = self.member(key, Some(text), known).ok()?;
        self.standing(&member, now.unix).ok()
    }

    /// What the sender of a message is worth. Cheap checks come first.
    fn examine(
        &self,
        heard: &Heard,
        plaintext: &[u8],
        known: Option<&Arc<Member>>,
        now: Now,
    ) -> Standing {
        let member = self.member(heard.key, heard.certificate.as_deref(), known)?;
        let member = self.standing(&member, now.unix)?;
        if is_signed_by(&heard.key, plaintext) { Ok(member) } else { Err(Refusal::Signature) }
    }

    /// Takes a revocation in that one of the authorities signed; returns whether it is news.
    fn learn(&mut self, revocation: Revocation, now: Option<Now>) -> bool {
        let known = self.revocations.get(&revocation.key());
        let is_old = known.is_some_and(|(known, _)| known.at() >= revocation.at());
        let is_full = known.is_none() && self.revocations.len() >= REVOCATIONS_MAX;
        if is_old || is_full || !revocation.is_signed_by(&self.trust.authorities) {
            return false;
        }
        let news_until = now.map_or(0, |now| now.mono_ms + NEWS_MS);
        self.revocations.insert(revocation.key(), (revocation, news_until));
        true
    }

    /// What the next messages tell, the most urgent first: all news, then the rest in turn.
    pub(super) fn to_tell(&self, now: Now, max: usize) -> Vec<&str> {
        let is_news = |until: u64| until > now.mono_ms;
        let mut news: Vec<_> =
            self.revocations.values().filter(|(_, until)| is_news(*until)).collect();
        news.sort_by_key(|(_, until)| std::cmp::Reverse(*until));
        let old: Vec<_> = self.revocations.values().filter(|(_, until)| !is_news(*until)).collect();
        // A turn is as long as the pause between two announces.
        let turn = usize::try_from(now.unix / 5).unwrap_or_default();
        let older = old.iter().cycle().skip(turn * max % old.len().max(1)).take(old.len());
        let turned = news.iter().cycle().skip(turn * max % news.len().max(1)).take(news.len());
        turned.chain(older).take(max).map(|(revocation, _)| revocation.text()).collect()
    }

    fn keep_out(&mut self, mut one: KeptOut, effects: &mut Vec<Effect>) {
        let known = self.kept_out.get(&one.key);
        one.member = one.member.or_else(|| known?.member.clone());
        if known.is_none_or(|known| known.why != one.why) {
            let (key, hostname, why) = (one.key, one.hostname.clone(), one.why);
            effects.push(Effect::Report(Report::KeptOut { key, hostname, why }));
        }
        if known.is_none() && self.kept_out.len() >= KEPT_OUT_MAX {
            let oldest = self.kept_out.values().min_by_key(|one| one.at).map(|one| one.key);
            oldest.and_then(|oldest| self.kept_out.remove(&oldest));
        }
        self.kept_out.insert(one.key, one);
    }

    fn lapse(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.kept_out.retain(|_, one| now.mono_ms < one.at + ACTIVE_MAX_MS);
        let before = self.revocations.len();
        self.revocations.retain(|_, (revocation, _)| !revocation.is_over(now.unix));
        if self.revocations.len() != before {
            effects.push(Effect::RevocationsChanged);
        }
        self.warn_of_own(now, effects);
    }

    /// A certificate that nobody renews takes this node out of the mesh.
    fn warn_of_own(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Some(certificate) = &self.trust.certificate else { return };
        let terms = certificate.terms();
        let before = WARN_BEFORE_SECS.min((terms.expires - terms.not_before) / 4);
        let report = match self.refusal_of(terms, now.unix) {
            Some(why) => Report::OwnCertificate { why },
            None if now.unix >= terms.expires - before => {
                Report::OwnCertificateEnds { in_secs: terms.expires - now.unix }
            }
            None => return,
        };
        if self.warned_at.is_none_or(|at| now.mono_ms >= at + WARN_EVERY_MS) {
            self.warned_at = Some(now.mono_ms);
            effects.push(Effect::Report(report));
        }
    }
}

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

    pub(super) fn set_own_certificate(&mut self, certificate: Certificate, now: Now) {
        self.membership.set_own(certificate);
        self.announce_at = now.mono_ms;
    }

    /// Whether a message is to be taken in: with an authority, who sent it is looked at first.
    pub(super) fn lets_in(
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
    pub(super) fn is_own_word(
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
    pub(super) fn revoke(&mut self, revocation: Revocation, now: Now, effects: &mut Vec<Effect>) {
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
    pub(super) fn expel(&mut self, now: Now, effects: &mut Vec<Effect>) {
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
    pub(super) fn may_tell(&self, to: SocketAddr) -> bool {
        !self.membership.is_required()
            || self.peers.all().any(|peer| {
                peer.endpoint_address().is_some_and(|endpoint| endpoint.ip() == to.ip())
                    || peer.mesh_ip == Some(to.ip())
            })
    }
}

fn is_signed_by(key: &PublicKey, plaintext: &[u8]) -> bool {
    signature::split(plaintext)
        .is_some_and(|(signed, signature)| signature::verifies(*key, signed, &signature))
}

/// What a signed message is remembered by. It can be sealed anew by whoever has the secret, with
/// another nonce, but not signed anew.
pub(super) fn replay_id(opened: &Opened) -> Option<[u8; NONCE_LEN]> {
    let (_, signature) = signature::split(&opened.plaintext)?;
    signature.first_chunk::<NONCE_LEN>().copied()
}

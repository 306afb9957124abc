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

mod admission;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::ACTIVE_MAX_MS;
use super::effect::{Effect, Report};
use super::event::Now;
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

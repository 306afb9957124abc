//! Target: what is said to a node that requires certificates and is changing its secret.
//!
//! The fuzzer's words are signed by a true member in every other message, for nobody else could:
//! whatever a member says, it lets in nobody but itself.

use std::net::SocketAddr;
use std::sync::Arc;

use meshctl_core::authority::AuthoritySecret;
use meshctl_core::derive::{MeshKeys, Pin};
use meshctl_core::envelope::{self, Kind};
use meshctl_core::key::PrivateKey;
use meshctl_core::mesh::{Effect, Event, Mesh, Path, Settings, Successor, Trust};
use meshctl_core::secret::Secret;
use meshctl_core::signature::Signer;

use super::announcement::{MESSAGES_MAX, START, check, settings};
use super::fuzz;

/// The corpus holds its certificate, under the authority of these bytes.
const MEMBER: [u8; 32] = [2; 32];
const AUTHORITY: [u8; 32] = [200; 32];

#[test]
fn no_message_lets_anybody_in_who_is_not_signed() {
    let member = PrivateKey::from_random(MEMBER);
    let signer = Signer::new(&member);
    let plain = settings();
    let next = Secret::parse("the secret that follows it").unwrap().pinned(Pin::of(&plain.keys));
    let successor = Successor { keys: MeshKeys::derive(&next), until: START.unix + 86_400 };
    let trust = Trust {
        authorities: vec![AuthoritySecret::from_random(&AUTHORITY).public()],
        required: true,
        signer: Some(Arc::new(Signer::new(&PrivateKey::from_random([1; 32])))),
        ..Trust::default()
    };
    let seals = [plain.keys.gossip_key.clone(), successor.keys.gossip_key.clone()];
    let settings = Settings { trust, successor: Some(successor), ..plain };
    let fresh = || Mesh::new(settings.clone(), None, &[], START);
    let mut mesh = fresh();
    let (mut messages, mut let_in) = (0_u64, 0);
    fuzz("announcement", 1_500, |input| {
        messages += 1;
        if messages.is_multiple_of(MESSAGES_MAX) {
            mesh = fresh();
        }
        let kinds = [Kind::Hello, Kind::Reply, Kind::Announce, Kind::Goodbye];
        let kind = kinds[usize::try_from(messages / 2 % 4).unwrap()];
        let plaintext =
            if messages.is_multiple_of(2) { signer.sign(input) } else { input.to_vec() };
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&messages.to_be_bytes());
        let seal = &seals[usize::try_from(messages / 8 % 2).unwrap()];
        let bytes = envelope::seal(seal, nonce, kind, &plaintext);
        let path = if messages.is_multiple_of(5) { Path::Lan } else { Path::Exchange };
        let from = SocketAddr::from(([192, 0, 2, 2], 52_448));
        let mut now = START;
        now.mono_ms += messages % MESSAGES_MAX * 150;
        let effects = mesh.handle(Event::Datagram { path, from, bytes: &bytes }, now);
        let shown: Vec<&str> = effects.iter().map(|effect| check(effect, &mesh)).collect();
        for effect in &effects {
            if let Effect::SetPeer(peer) = effect {
                assert_eq!(peer.key, member.public());
                let_in += 1;
            }
        }
        assert!(mesh.active_peers(now).iter().all(|peer| peer.key == member.public()));
        assert!(mesh.kept_out().count() <= 256);
        let why = mesh.kept_out().map(|one| one.why).max();
        format!("{path:?} {kind:?} {} {why:?}", shown.join(" "))
    });
    assert!(let_in > 0, "the member itself was let in");
}

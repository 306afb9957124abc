//! Target: whatever arrives on a UDP port.

use meshctl_core::derive::MeshKeys;
use meshctl_core::envelope::{self, BadEnvelope, Kind};
use meshctl_core::secret::Secret;

use super::fuzz;

const NOW: i64 = 1_800_000_000;
const SECRET: &str = "wgmesh://v1/dGhpcyBpcyBhIHRlc3QgZm9yIHFzZWN1cmU";

#[test]
fn no_datagram_does_harm_and_none_opens_that_was_not_sealed() {
    let key = *MeshKeys::derive(&Secret::parse(SECRET).unwrap()).gossip_key;
    let mut authentic = std::collections::BTreeSet::new();
    fuzz("envelope", 3_000, |input| match envelope::open(&key, input, NOW) {
        Ok(opened) => {
            // What opens is what the corpus holds, whatever was changed around the seal.
            let body = serde_json::to_string(&opened.body).unwrap();
            authentic.insert(body);
            assert!(authentic.len() <= 6, "a plaintext that nobody sealed was opened");
            assert_eq!(opened.body["protocol"], envelope::PROTOCOL);
            format!("opened {:?}", opened.kind)
        }
        Err(error) => outcome(&error),
    });
}

#[test]
fn no_plaintext_of_a_member_does_harm() {
    let key = *MeshKeys::derive(&Secret::parse(SECRET).unwrap()).gossip_key;
    fuzz("announcement", 2_000, |input| {
        let sealed = envelope::seal(&key, [7; 12], Kind::Hello, input);
        assert_eq!(sealed.len(), envelope::sealed_len(Kind::Hello, input.len()));
        match envelope::open(&key, &sealed, NOW) {
            Ok(opened) => {
                assert!(opened.timestamp.abs_diff(NOW) <= 600);
                format!("opened with {} fields", opened.body.len())
            }
            Err(error) => {
                assert!(!matches!(error, BadEnvelope::Seal | BadEnvelope::Shape), "{error}");
                outcome(&error)
            }
        }
    });
}

fn outcome(error: &BadEnvelope) -> String {
    match error {
        BadEnvelope::Shape => "shape".to_owned(),
        BadEnvelope::Seal => "seal".to_owned(),
        BadEnvelope::Protocol => "protocol".to_owned(),
        BadEnvelope::Clock(_) => "clock".to_owned(),
    }
}

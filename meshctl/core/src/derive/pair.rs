//! What two keys have in common, by FNV-1a 64 over their texts.

use crate::key::PublicKey;

const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

/// The same for both of a pair.
pub fn pair_seed(one: &PublicKey, other: &PublicKey) -> u64 {
    fnv1a(&[one.min(other), one.max(other)])
}

/// The pair's name on the wire.
pub fn pair_id(one: &PublicKey, other: &PublicKey) -> String {
    format!("{:016x}", pair_seed(one, other))
}

/// Which of `introducers`, sorted by key, a Go node `local` relays through to `peer`. The index has
/// a direction: the two of a pair may differ. `None` without any.
pub fn relay_index(local: &PublicKey, peer: &PublicKey, introducers: usize) -> Option<usize> {
    let introducers = u64::try_from(introducers).ok()?;
    usize::try_from(fnv1a(&[local, peer]).checked_rem(introducers)?).ok()
}

/// How well an introducer suits a pair: both of it find the same greatest one, and one that comes
/// or goes changes the choice of those pairs alone that it suits best.
pub fn relay_weight(one: &PublicKey, other: &PublicKey, introducer: &PublicKey) -> u64 {
    fnv1a(&[one.min(other), one.max(other), introducer])
}

fn fnv1a(keys: &[&PublicKey]) -> u64 {
    let mut hash = OFFSET_BASIS;
    let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    for (index, key) in keys.iter().enumerate() {
        if index > 0 {
            add(0);
        }
        key.as_str().bytes().for_each(&mut add);
    }
    hash
}

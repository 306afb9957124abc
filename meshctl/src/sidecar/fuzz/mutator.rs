//! Changes bytes in ways that reach deeper than noise: JSON's own words, splices, repeats.

const WORDS: [&str; 45] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "null",
    "true",
    "0",
    "-1",
    "1e999",
    "9223372036854775808",
    "1800000000",
    "\"\"",
    "[]",
    "{}",
    "\n",
    "\r",
    "\0",
    "\u{feff}",
    "\u{2028}",
    "<",
    "0.0.0.0",
    "0.0.0.0/0",
    "::ffff:127.0.0.1",
    "[::]:1",
    ":65536",
    "255.255.255.255",
    "\"known_peers\":[",
    "\"mesh_ip\":",
    "\"wg_pubkey\":",
    "\"wg_endpoint\":",
    "\"kn\":{\"type\":\"LAN\"}",
    "\"cert\":\"knit-cert-v1.",
    "\"revoked\":[\"knit-revoked-v1.",
    "\"accepts\":\"",
    ",\"sig\":\"",
    "\"}}",
    "\"id\":",
    "\"method\":",
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
];
const CHANGES_MAX: usize = 6;

/// A small generator of pseudo-random numbers: the same seed gives the same run.
pub(super) struct Mutator(u64);

impl Mutator {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % bound.max(1)
    }

    /// Makes a few changes; some take bytes of `other`.
    pub(super) fn mutate(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = input.to_vec();
        for _ in 0..=self.below(CHANGES_MAX) {
            self.change(&mut bytes, other);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(bytes.len());
        let (from, to) = self.range(bytes.len());
        match self.below(8) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
            1 if !bytes.is_empty() => bytes[at] = u8::try_from(self.below(256)).unwrap(),
            2 => drop(bytes.drain(from..to)),
            3 => {
                let piece = bytes[from..to].to_vec();
                bytes.splice(at..at, piece);
            }
            4 => {
                let (from, to) = self.range(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            5 => bytes.truncate(at),
            _ => {
                let word = WORDS[self.below(WORDS.len())];
                let end = (at + self.below(4)).min(bytes.len());
                bytes.splice(at..end, word.bytes());
            }
        }
    }

    fn range(&mut self, len: usize) -> (usize, usize) {
        let from = self.below(len + 1);
        (from, from + self.below(len - from + 1).min(64))
    }
}

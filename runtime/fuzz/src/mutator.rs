//! Changes bytes in ways that reach deeper than noise: JSON's own words, splices, repeats.

const WORDS: [&str; 26] = [
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
];
const CHANGES_MAX: usize = 6;

/// A small generator of pseudo-random numbers: the same seed gives the same run.
#[derive(Debug)]
pub struct Mutator<'a> {
    state: u64,
    words: &'a [&'a str],
}

impl<'a> Mutator<'a> {
    pub fn new(seed: u64, words: &'a [&'a str]) -> Self {
        Self { state: seed | 1, words }
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        usize::try_from(self.state >> 11).unwrap() % bound.max(1)
    }

    /// Makes a few changes; some take bytes of `other`.
    pub fn mutate(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = input.to_vec();
        // Few more often than many.
        let most = self.below(CHANGES_MAX);
        for _ in 0..=self.below(most + 1) {
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
                let word = self.word();
                let end = (at + self.below(4)).min(bytes.len());
                bytes.splice(at..end, word.bytes());
            }
        }
    }

    fn word(&mut self) -> &'a str {
        let index = self.below(WORDS.len() + self.words.len());
        WORDS.get(index).copied().unwrap_or_else(|| self.words[index - WORDS.len()])
    }

    fn range(&mut self, len: usize) -> (usize, usize) {
        let from = self.below(len + 1);
        (from, from + self.below(len - from + 1).min(64))
    }
}

//! The Internet checksum (RFC 1071).

/// Sums of 32 bit words, not yet folded. The order of bytes does not matter to a sum of ones'
/// complement, so words are read as the processor reads them and the result is turned at the end.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum(u64);

impl Sum {
    /// Adds bytes that begin at an even place; only the last ones may be of odd length.
    pub(super) fn add(mut self, bytes: &[u8]) -> Self {
        let mut words = bytes.chunks_exact(4);
        // At most 64 KiB are summed: 2^14 words of 32 bits do not overflow.
        let sum: u64 = words
            .by_ref()
            .map(|word| u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]])))
            .sum();
        let mut rest = [0; 4];
        rest[..words.remainder().len()].copy_from_slice(words.remainder());
        self.0 += sum + u64::from(u32::from_ne_bytes(rest));
        self
    }

    pub(super) fn add_u16(mut self, value: u16) -> Self {
        self.0 += u64::from(u16::from_ne_bytes(value.to_be_bytes()));
        self
    }

    /// What TCP and UDP sum beside themselves: the IP header's addresses, protocol and length.
    pub(super) fn pseudo(ip: &[u8], protocol: u8, transport_len: u16) -> Self {
        let addresses = if ip[0] >> 4 == 4 { &ip[12..20] } else { &ip[8..40] };
        Self::default().add(addresses).add_u16(u16::from(protocol)).add_u16(transport_len)
    }

    pub(super) fn fold(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::from_be_bytes(u16::try_from(sum).unwrap_or_default().to_ne_bytes())
    }

    /// As it stands in a header. Zero means "none" in UDP and is written as its other form, which
    /// every receiver takes for equal.
    pub(super) fn finish(self) -> u16 {
        match !self.fold() {
            0 => 0xffff,
            checksum => checksum,
        }
    }

    /// Whether the sum over bytes with their checksum in them is right.
    pub(super) fn is_valid(self) -> bool {
        self.fold() == 0xffff
    }
}

/// Writes the IPv4 header's checksum.
pub(super) fn seal_v4(header: &mut [u8]) {
    header[10..12].fill(0);
    let sum = !Sum::default().add(header).fold();
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

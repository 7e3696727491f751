//! CRC32C (Castagnoli), the checksum of Kafka's record batches (KIP-98) and of all our own bytes.

use crc_fast::{CrcAlgorithm, Digest as Running};

/// CRC32C of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    narrow(crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes))
}

/// CRC32C of bytes that come in parts.
pub struct Crc32c(Running);

impl Crc32c {
    /// No bytes yet.
    #[must_use]
    pub fn new() -> Crc32c {
        Crc32c(Running::new(CrcAlgorithm::Crc32Iscsi))
    }

    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all bytes so far.
    #[must_use]
    pub fn finish(&self) -> u32 {
        narrow(self.0.finalize())
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Crc32c::new()
    }
}

/// The crate computes every width in 64 bits; a 32-bit algorithm leaves the upper half empty.
#[expect(clippy::cast_possible_truncation)]
fn narrow(wide: u64) -> u32 {
    wide as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check value of CRC-32/ISCSI (RFC 3720, appendix B.4 uses the same polynomial).
    #[test]
    fn check_value() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        let mut parts = Crc32c::new();
        parts.update(b"1234");
        parts.update(b"56789");
        assert_eq!(parts.finish(), 0xe306_9283);
    }
}

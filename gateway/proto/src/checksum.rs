//! CRC32C (Castagnoli), the checksum of Kafka's record batches (KIP-98) and of all our own bytes.

use crc_fast::{CrcAlgorithm, Digest as Running};

/// CRC32C of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    narrow(crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes))
}

/// CRC32C of bytes that come in parts. Small parts are gathered first: seven calls for the parts of a record cost
/// twice as much as one over all of them.
pub struct Crc32c {
    /// Of all but the bytes gathered; none before there were more than fit.
    running: Option<Running>,
    gathered: [u8; GATHERED_BYTES],
    length: usize,
}

/// A record of 200 bytes and its lengths fit. By measurement: clearing more costs as much as a call.
const GATHERED_BYTES: usize = 256;

impl Crc32c {
    /// No bytes yet.
    #[must_use]
    #[inline]
    pub fn new() -> Crc32c {
        Crc32c {
            running: None,
            gathered: [0; GATHERED_BYTES],
            length: 0,
        }
    }

    /// Takes in more bytes.
    #[inline]
    pub fn update(&mut self, bytes: &[u8]) {
        if let Some(free) = self.gathered[self.length..].get_mut(..bytes.len()) {
            free.copy_from_slice(bytes);
            self.length += bytes.len();
        } else {
            self.spill(bytes);
        }
    }

    fn spill(&mut self, bytes: &[u8]) {
        let running = self
            .running
            .get_or_insert_with(|| Running::new(CrcAlgorithm::Crc32Iscsi));
        running.update(&self.gathered[..self.length]);
        running.update(bytes);
        self.length = 0;
    }

    /// The checksum of all bytes so far.
    #[must_use]
    #[inline]
    pub fn finish(&self) -> u32 {
        let gathered = &self.gathered[..self.length];
        let Some(mut running) = self.running else {
            return crc32c(gathered);
        };
        running.update(gathered);
        narrow(running.finalize())
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
    }

    #[test]
    fn parts_of_any_size_sum_to_the_whole() {
        let bytes: alloc::vec::Vec<u8> = (0..2000u32).map(|n| (n * 31 % 251) as u8).collect();
        for size in [1, 7, 100, 255, 256, 257, 1000, 2000] {
            let mut parts = Crc32c::new();
            bytes.chunks(size).for_each(|part| parts.update(part));
            assert_eq!(parts.finish(), crc32c(&bytes), "parts of {size}");
        }
        assert_eq!(Crc32c::new().finish(), crc32c(b""));
    }
}

//! One number over all lanes and settings, stored with each commit.
//!
//! Each entry has checksums, and their number is stored. What that does not show is an entry that was right once: a file of
//! an earlier copy of the store, or a slot that a lost write left as it was. A frame never changes, and where one is
//! missing its lane has a gap; a lane or a setting would be taken for the one of now.

use super::{lane_header, setting};
use crate::outbox::change::{Catalog, LaneId};
use crate::outbox::entry::{CHECKED_BYTES, Header};

/// The sum, whatever the order: each entry adds a number made of its checksums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum(u64);

impl Sum {
    pub(super) fn from_stored(sum: u64) -> Sum {
        Sum(sum)
    }

    pub(super) fn to_stored(self) -> u64 {
        self.0
    }

    pub(super) fn add(&mut self, header: &Header) {
        self.0 = self.0.wrapping_add(part(header));
    }

    fn remove(&mut self, header: &Header) {
        self.0 = self.0.wrapping_sub(part(header));
    }

    /// Adds the lane as the catalog has it, if it does.
    pub(super) fn add_lane(&mut self, catalog: &Catalog, lane: LaneId) {
        if let Some(record) = catalog.lanes.get(&lane) {
            self.add(&lane_header(lane, record));
        }
    }

    /// Takes the lane out as the catalog has it, if it does.
    pub(super) fn remove_lane(&mut self, catalog: &Catalog, lane: LaneId) {
        if let Some(record) = catalog.lanes.get(&lane) {
            self.remove(&lane_header(lane, record));
        }
    }

    /// As [`Sum::add_lane`].
    pub(super) fn add_setting(&mut self, catalog: &Catalog, key: &[u8]) {
        if let Some(value) = catalog.settings.get(key) {
            self.add(&setting(key, value).0);
        }
    }

    /// As [`Sum::remove_lane`].
    pub(super) fn remove_setting(&mut self, catalog: &Catalog, key: &[u8]) {
        if let Some(value) = catalog.settings.get(key) {
            self.remove(&setting(key, value).0);
        }
    }
}

/// An entry's two checksums, spread over 64 bits so that sums of few do not meet (SplitMix64's last step).
fn part(header: &Header) -> u64 {
    let bytes = header.encode();
    let mut crc = [0; 4];
    crc.copy_from_slice(&bytes[CHECKED_BYTES..]);
    let mut mixed = u64::from(u32::from_be_bytes(crc)) << 32 | u64::from(header.payload_crc);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

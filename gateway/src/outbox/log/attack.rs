//! A segment made of any bytes, for the fuzzer: read as an outbox would read it at its start.

use super::segment::{GROUP_HEADER_BYTES, GroupWriter, OutboxId, Walk, catalog_of, segment_header};
use crate::outbox::disk::DiskFile;
use crate::outbox::entry;
use culvert_proto::checksum::crc32c;
use std::io;

const ID: OutboxId = [7; 16];
const SEGMENT: u32 = 1;

/// Reads `bytes` as a segment; then as the entries of one group behind right headers, each with its own checksums put right
/// as far as its length goes, since no fuzzer guesses them.
pub fn read_segment(bytes: &[u8]) {
    walk(&Memory(bytes));
    let mut entries = bytes.to_vec();
    let count = seal(&mut entries);
    let header = segment_header(&ID, SEGMENT);
    let offset = u32::try_from(header.len()).unwrap_or(u32::MAX);
    let group = GroupWriter::of_entries(&entries, count).finish(&ID, SEGMENT, offset, 1);
    debug_assert_eq!(group.len(), GROUP_HEADER_BYTES + entries.len());
    walk(&Memory(&[&header[..], &group].concat()));
}

fn walk(file: &dyn DiskFile) {
    if let Ok(mut walk) = Walk::new(file, &ID, SEGMENT, true) {
        while let Ok(Some(group)) = walk.next() {
            let _ = catalog_of(&group);
            for entry in &group.entries {
                let _ = (entry.change(), entry.setting());
            }
        }
        let _ = walk.any_group_behind(walk.offset());
    }
    let _ = Walk::anywhere(file, &ID, SEGMENT).any_group_behind(0);
}

/// Puts the checksums of all entries right; how many there are.
fn seal(bytes: &mut [u8]) -> u32 {
    let (mut at, mut count) = (0, 0);
    while let Some(header) = bytes.get(at..at + entry::HEADER_BYTES) {
        let checked = entry::CHECKED_BYTES;
        let length = [checked - 8, checked - 7, checked - 6, checked - 5].map(|place| header[place]);
        let begin = at + entry::HEADER_BYTES;
        let end = begin
            .saturating_add(u32::from_be_bytes(length) as usize)
            .min(bytes.len());
        let payload = crc32c(&bytes[begin..end]);
        bytes[at + checked - 4..at + checked].copy_from_slice(&payload.to_be_bytes());
        let crc = crc32c(&bytes[at..at + checked]);
        bytes[at + checked..begin].copy_from_slice(&crc.to_be_bytes());
        (at, count) = (end, count + 1);
    }
    count
}

struct Memory<'a>(&'a [u8]);

impl DiskFile for Memory<'_> {
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let there = from
            .checked_add(bytes.len())
            .and_then(|end| self.0.get(from..end));
        bytes.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn cut(&self, _length: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn allocate(&self, _length: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

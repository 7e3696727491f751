//! The bytes of a segment file.
//!
//! ```text
//! segment:  header | snapshot group | group | group | …
//! header:   magic (8) | version (2) | 0 (2) | segment (4) | outbox id (16) | CRC (4)
//! group:    magic (8) | segment (4) | offset (4) | commit (8) | length (4) | entries (4) | CRC (4) | entry | entry | …
//! ```
//!
//! A group is one commit. Its header names the place where it must stand and is checked together with the outbox's
//! id, so that bytes of another file, another outbox or a payload that looks like a group are never taken for one.

use crate::outbox::change::{Catalog, Change, LaneId, Life};
use crate::outbox::disk::DiskFile;
use crate::outbox::entry::{self, Header, Kind};
use bytes::Bytes;
use culvert_proto::Interval;
use culvert_proto::checksum::{Crc32c, crc32c};
use culvert_proto::wire::take_int;

pub(super) const SEGMENT_HEADER_BYTES: usize = 36;
const SEGMENT_MAGIC: &[u8; 8] = b"CVOLOG\r\n";
const VERSION: u16 = 1;
pub(super) const GROUP_HEADER_BYTES: usize = 36;
const GROUP_MAGIC: &[u8; 8] = b"CVOGROUP";

/// The outbox's identity, mixed into each group's checksum.
pub(super) type OutboxId = [u8; 16];

/// The header of a segment.
pub(super) fn segment_header(id: &OutboxId, segment: u32) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    bytes[0..8].copy_from_slice(SEGMENT_MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.to_be_bytes());
    bytes[12..16].copy_from_slice(&segment.to_be_bytes());
    bytes[16..32].copy_from_slice(id);
    let crc = crc32c(&bytes[..32]);
    bytes[32..].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// A group while it is put together.
pub(super) struct GroupWriter {
    bytes: Vec<u8>,
    entries: u32,
}

impl GroupWriter {
    /// An empty group, in the memory of an earlier one.
    pub(super) fn new(mut bytes: Vec<u8>) -> GroupWriter {
        bytes.clear();
        bytes.resize(GROUP_HEADER_BYTES, 0);
        GroupWriter { bytes, entries: 0 }
    }

    /// A group of entries that are written already.
    pub(super) fn of_entries(bytes: &[u8], entries: u32) -> GroupWriter {
        let mut group = GroupWriter::new(Vec::new());
        group.bytes.extend_from_slice(bytes);
        group.entries = entries;
        group
    }

    /// Adds an entry; returns how far behind the group's begin it stands.
    pub(super) fn push(&mut self, header: &Header, payload: &[u8]) -> u32 {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&header.encode());
        self.bytes.extend_from_slice(payload);
        self.entries += 1;
        // A group is limited to a few dozen megabytes where it is put together.
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    /// Adds a change.
    pub(super) fn push_change(&mut self, change: &Change) -> u32 {
        let life = Life::default();
        let nowhere = Interval::default();
        match change {
            Change::Open { lane, name } => {
                self.push(&Header::new(Kind::Open, *lane, life, nowhere, name), name)
            }
            Change::Frame {
                lane,
                life,
                interval,
                frame,
            } => self.push(&Header::new(Kind::Frame, *lane, *life, *interval, frame), frame),
            Change::Trim { lane, base } => self.push(
                &Header::new(Kind::Trim, *lane, life, Interval::empty_at(*base), &[]),
                &[],
            ),
            Change::Restart { lane, life, at } => self.push(
                &Header::new(Kind::Restart, *lane, *life, Interval::empty_at(*at), &[]),
                &[],
            ),
            Change::Remove { lane } => self.push(&Header::new(Kind::Remove, *lane, life, nowhere, &[]), &[]),
            Change::Put { key, value } => {
                let payload = put_payload(key, value);
                self.push(
                    &Header::new(Kind::Put, LaneId(0), life, nowhere, &payload),
                    &payload,
                )
            }
            Change::Delete { key } => {
                self.push(&Header::new(Kind::Delete, LaneId(0), life, nowhere, key), key)
            }
        }
    }

    /// Adds the whole catalog.
    pub(super) fn push_catalog(&mut self, catalog: &Catalog) {
        let (life, nowhere) = (Life::default(), Interval::default());
        self.push(
            &Header::new(Kind::NextLane, LaneId(catalog.next_lane), life, nowhere, &[]),
            &[],
        );
        for (lane, record) in &catalog.lanes {
            let interval = Interval::new(record.base, record.tail);
            let header = Header::new(Kind::Lane, *lane, record.life, interval, &record.name);
            self.push(
                &Header {
                    fresh: record.fresh,
                    ..header
                },
                &record.name,
            );
        }
        for (key, value) in &catalog.settings {
            let payload = put_payload(key, value);
            self.push(
                &Header::new(Kind::Put, LaneId(0), life, nowhere, &payload),
                &payload,
            );
        }
    }

    /// The group's bytes for this place.
    pub(super) fn finish(mut self, id: &OutboxId, segment: u32, offset: u32, commit: u64) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len() - GROUP_HEADER_BYTES).unwrap_or(u32::MAX);
        let head = &mut self.bytes[..GROUP_HEADER_BYTES];
        head[0..8].copy_from_slice(GROUP_MAGIC);
        head[8..12].copy_from_slice(&segment.to_be_bytes());
        head[12..16].copy_from_slice(&offset.to_be_bytes());
        head[16..24].copy_from_slice(&commit.to_be_bytes());
        head[24..28].copy_from_slice(&length.to_be_bytes());
        head[28..32].copy_from_slice(&self.entries.to_be_bytes());
        let crc = group_crc(id, &head[..32]);
        head[32..36].copy_from_slice(&crc.to_be_bytes());
        self.bytes
    }
}

fn put_payload(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(2 + key.len() + value.len());
    // Keys are limited to 1 KiB where they enter.
    payload.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_be_bytes());
    payload.extend_from_slice(key);
    payload.extend_from_slice(value);
    payload
}

fn group_crc(id: &OutboxId, head: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(id);
    crc.update(head);
    crc.finish()
}

/// Why a walk cannot go on.
#[derive(Debug)]
pub(super) struct Damage {
    /// Where in the segment.
    pub(super) offset: u64,
    /// What is wrong there.
    pub(super) what: String,
}

/// A group that was read.
pub(super) struct Group {
    pub(super) commit: u64,
    pub(super) entries: Vec<Entry>,
}

/// An entry that was read.
pub(super) struct Entry {
    pub(super) header: Header,
    pub(super) offset: u32,
    /// Empty for a frame: it stays where it is.
    pub(super) payload: Bytes,
    /// False for a frame whose place in its lane is known, and nothing else.
    pub(super) has_content: bool,
}

/// What a group's header says.
#[derive(Clone, Copy)]
pub(super) struct GroupHead {
    pub(super) commit: u64,
    /// Bytes of its entries.
    pub(super) length: usize,
    /// How many entries there are.
    pub(super) count: usize,
}

impl Entry {
    /// The change it stands for. `None` for a frame that was only moved.
    pub(super) fn change(&self) -> Option<Change> {
        let Header {
            lane, life, interval, ..
        } = self.header;
        let at = interval.from;
        Some(match self.header.kind {
            Kind::Frame => Change::Frame {
                lane,
                life,
                interval,
                frame: Bytes::new(),
            },
            Kind::Open => Change::Open {
                lane,
                name: self.payload.clone(),
            },
            Kind::Trim => Change::Trim { lane, base: at },
            Kind::Restart => Change::Restart { lane, life, at },
            Kind::Remove => Change::Remove { lane },
            Kind::Put => {
                let (key, value) = self.setting()?;
                Change::Put { key, value }
            }
            Kind::Delete => Change::Delete {
                key: self.payload.clone(),
            },
            Kind::Copy | Kind::Lane | Kind::NextLane => return None,
        })
    }

    /// Key and value of a [`Kind::Put`].
    pub(super) fn setting(&self) -> Option<(Bytes, Bytes)> {
        let mut rest = &self.payload[..];
        let length = usize::from(take_int::<u16>(&mut rest, "key").ok()?);
        let key = self.payload.get(2..2 + length)?;
        Some((self.payload.slice_ref(key), self.payload.slice(2 + length..)))
    }
}

/// Reads a segment from its begin to its end.
pub(super) struct Walk<'a> {
    file: &'a dyn DiskFile,
    id: &'a OutboxId,
    segment: u32,
    length: u64,
    offset: u64,
    /// Whether payloads of frames are read and checked too.
    deep: bool,
}

impl<'a> Walk<'a> {
    /// A walk over `segment`, which must begin with its own header.
    ///
    /// # Errors
    /// [`Damage`] when it does not.
    pub(super) fn new(
        file: &'a dyn DiskFile,
        id: &'a OutboxId,
        segment: u32,
        deep: bool,
    ) -> Result<Walk<'a>, Damage> {
        let length = file.length().map_err(|error| Damage {
            offset: 0,
            what: error.to_string(),
        })?;
        let mut walk = Walk {
            file,
            id,
            segment,
            length,
            offset: 0,
            deep,
        };
        let header = walk.read(0, SEGMENT_HEADER_BYTES)?;
        if header != segment_header(id, segment) {
            return Err(walk.damage("segment header is not as written"));
        }
        walk.offset = SEGMENT_HEADER_BYTES as u64;
        Ok(walk)
    }

    /// A walk in a segment that may not even have a header: it looks for groups and entries where it is told to.
    pub(super) fn anywhere(file: &'a dyn DiskFile, id: &'a OutboxId, segment: u32) -> Walk<'a> {
        Walk {
            file,
            id,
            segment,
            length: file.length().unwrap_or(0),
            offset: 0,
            deep: true,
        }
    }

    /// How far it has come: the end of the last intact group.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next group, or `None` at the exact end of the file.
    ///
    /// # Errors
    /// [`Damage`] where the bytes are not a whole group. The walk does not move on.
    pub(super) fn next(&mut self) -> Result<Option<Group>, Damage> {
        if self.offset == self.length {
            return Ok(None);
        }
        let head = self.read(self.offset, GROUP_HEADER_BYTES)?;
        let GroupHead {
            commit,
            length,
            count,
        } = self
            .group_header(&head, self.offset)
            .ok_or_else(|| self.damage("no group begins here"))?;
        let end = self.offset + (GROUP_HEADER_BYTES + length) as u64;
        if end > self.length {
            return Err(self.damage("group is cut off"));
        }
        let mut entries = Vec::with_capacity(count.min(4096));
        let mut at = self.offset + GROUP_HEADER_BYTES as u64;
        while at < end {
            let entry = self.entry(at, end)?;
            at += entry::HEADER_BYTES as u64 + u64::from(entry.header.length);
            entries.push(entry);
        }
        if entries.len() != count {
            return Err(self.damage("group does not hold as many entries as it says"));
        }
        self.offset = end;
        Ok(Some(Group { commit, entries }))
    }

    fn entry(&self, at: u64, end: u64) -> Result<Entry, Damage> {
        let (entry, checked) = self.entry_at(at, end)?;
        checked.map(|()| entry)
    }

    /// The entry at `at`, before `end`; and whether its payload is the one that was written, where that is read.
    ///
    /// # Errors
    /// [`Damage`] where no entry begins.
    pub(super) fn entry_at(&self, at: u64, end: u64) -> Result<(Entry, Result<(), Damage>), Damage> {
        let wrong = |what: String| Damage { offset: at, what };
        if at + entry::HEADER_BYTES as u64 > end {
            return Err(wrong("entry is cut off".into()));
        }
        let bytes = self.read(at, entry::HEADER_BYTES)?;
        let header = Header::decode(&bytes).map_err(|error| wrong(error.to_string()))?;
        let begin = at + entry::HEADER_BYTES as u64;
        if begin + u64::from(header.length) > end {
            return Err(wrong("entry is cut off".into()));
        }
        let is_frame = matches!(header.kind, Kind::Frame | Kind::Copy);
        let (mut payload, mut checked) = (Bytes::new(), Ok(()));
        if self.deep || !is_frame {
            let bytes = self.read(begin, header.length as usize)?;
            checked = header.check(&bytes).map_err(|error| wrong(error.to_string()));
            if !is_frame {
                payload = Bytes::from(bytes);
            }
        }
        let offset = u32::try_from(at).map_err(|_| wrong("segment is too long".into()))?;
        let entry = Entry {
            header,
            offset,
            payload,
            has_content: true,
        };
        Ok((entry, checked))
    }

    /// The header of the group at `at`, if there is one.
    pub(super) fn head_at(&self, at: u64) -> Option<GroupHead> {
        self.group_header(&self.read(at, GROUP_HEADER_BYTES).ok()?, at)
    }

    /// Where the first group at or behind `from` begins.
    ///
    /// # Errors
    /// [`Damage`] where the file cannot be read.
    pub(super) fn next_group(&self, from: u64) -> Result<Option<u64>, Damage> {
        let rest = self.length.saturating_sub(from);
        let length = usize::try_from(rest).map_err(|_| self.damage("segment is too long"))?;
        let bytes = self.read(from.min(self.length), length)?;
        let mut places = bytes.windows(GROUP_HEADER_BYTES).zip(from..);
        let group =
            places.find(|(head, at)| head.starts_with(GROUP_MAGIC) && self.group_header(head, *at).is_some());
        Ok(group.map(|(_, at)| at))
    }

    /// Whether an intact group header stands anywhere behind `offset`: then what lies before it was durable once,
    /// because a group is only written after the one before it was synced.
    pub(super) fn any_group_behind(&self, offset: u64) -> bool {
        // What cannot be read may be one.
        !matches!(self.next_group(offset + 1), Ok(None))
    }

    /// What the group header `head` says, if it is one and belongs at `offset`.
    fn group_header(&self, head: &[u8], offset: u64) -> Option<GroupHead> {
        const WHAT: &str = "group";
        let crc: u32 = take_int(&mut head.get(32..36)?, WHAT).ok()?;
        if !head.starts_with(GROUP_MAGIC) || crc != group_crc(self.id, &head[..32]) {
            return None;
        }
        let mut rest = &head[8..32];
        let segment: u32 = take_int(&mut rest, WHAT).ok()?;
        let place: u32 = take_int(&mut rest, WHAT).ok()?;
        let commit: u64 = take_int(&mut rest, WHAT).ok()?;
        let length: u32 = take_int(&mut rest, WHAT).ok()?;
        let count: u32 = take_int(&mut rest, WHAT).ok()?;
        let here = segment == self.segment && u64::from(place) == offset;
        here.then_some(GroupHead {
            commit,
            length: length as usize,
            count: count as usize,
        })
    }

    fn read(&self, at: u64, length: usize) -> Result<Vec<u8>, Damage> {
        if at + length as u64 > self.length {
            return Err(Damage {
                offset: at,
                what: "file is cut off".into(),
            });
        }
        let mut bytes = vec![0; length];
        match self.file.read_exact_at(&mut bytes, at) {
            Ok(()) => Ok(bytes),
            Err(error) => Err(Damage {
                offset: at,
                what: error.to_string(),
            }),
        }
    }

    fn damage(&self, what: &str) -> Damage {
        Damage {
            offset: self.offset,
            what: what.into(),
        }
    }
}

/// Takes a snapshot group as the catalog.
pub(super) fn catalog_of(group: &Group) -> Option<Catalog> {
    let mut catalog = Catalog::default();
    let mut complete = false;
    for entry in &group.entries {
        let Header {
            kind,
            lane,
            life,
            interval,
            fresh,
            ..
        } = entry.header;
        match kind {
            Kind::NextLane => {
                catalog.next_lane = lane.0;
                complete = true;
            }
            Kind::Lane => {
                let Interval { from: base, to: tail } = interval;
                let name = entry.payload.clone();
                let record = crate::outbox::change::LaneRecord {
                    name,
                    life,
                    base,
                    tail,
                    fresh,
                };
                catalog.lanes.insert(lane, record);
            }
            Kind::Put => {
                let (key, value) = entry.setting()?;
                catalog.settings.insert(key, value);
            }
            _ => return None,
        }
    }
    complete.then_some(catalog)
}

//! What a sled store's files still say, whatever is damaged: for repair. Nothing is written, and sled is not asked.

use super::metadata::{self, Object};
use super::recovery::{Contents, Counted};
use super::{frame_key, slots};
use crate::outbox::disk::Disk;
use crate::outbox::engine::{FrameRef, Place, Shelf};
use crate::outbox::entry::{HEADER_BYTES, Header, Kind};
use crate::outbox::error::Error;
use crate::outbox::salvage::{Damage, Found, FoundFrame, Survey, Watch};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Reads every leaf below `directory`.
///
/// # Errors
/// When the directory cannot be read.
pub(in crate::outbox) fn survey(
    disk: &Arc<dyn Disk>,
    directory: &str,
    acknowledged: Option<u64>,
    watch: &mut Watch<'_>,
) -> Result<Survey, Error> {
    let unreadable = |what: String| Error::io(format!("read {directory}"))(std::io::Error::other(what));
    let (objects, lost) = metadata::read_whole(&**disk, directory).map_err(unreadable)?;
    let is_known = lost.is_none();
    let mut damage: Vec<Damage> = lost
        .map(|what| Damage {
            file: format!("{directory}/metadata"),
            byte: 0,
            what,
        })
        .into_iter()
        .collect();
    let mut contents = Contents::default();
    let (mut counted, mut frames, mut bytes): (Counted, Found, u64) = (None, Found::new(), 0);
    slots::visit(&**disk, directory, &objects, |leaf| match leaf {
        Ok((object, leaf)) if slots::is_ours(object) => {
            for (key, value) in leaf.entries {
                bytes += value.len() as u64;
                if let Err(what) = take(object, &key, &value, &mut contents, &mut counted, &mut frames) {
                    damage.push(Damage {
                        file: slots::path(directory, object),
                        byte: slots::offset(object),
                        what,
                    });
                }
            }
            watch.read(bytes);
        }
        Ok(_) => {}
        Err(wrong) => damage.push(wrong),
    });
    let has_sum = counted.is_some_and(|(.., sum)| sum.is_some());
    let all_there = contents.check(counted);
    let commits = contents.commits;
    let is_old = acknowledged.is_none_or(|acknowledged| commits < acknowledged);
    let certain = all_there.is_ok() && !is_old && (has_sum || is_known);
    let mut say = |what: String| {
        damage.push(Damage {
            file: directory.into(),
            byte: 0,
            what,
        });
    };
    if let Err(what) = all_there {
        say(what);
    }
    if let Err(what) = slots::check_cookie(&**disk, directory) {
        say(what);
    }
    if let Some(acknowledged) = acknowledged.filter(|acknowledged| commits < *acknowledged) {
        say(format!(
            "{acknowledged} commits were acknowledged, {commits} are there"
        ));
    }
    Ok(Survey {
        damage,
        catalog: contents.catalog,
        certain,
        commits,
        frames,
        shelf: Arc::new(Leaves {
            disk: disk.clone(),
            directory: directory.into(),
            objects: objects
                .into_values()
                .map(|object| (place(&object), object))
                .collect(),
            last: Mutex::default(),
        }),
    })
}

fn take(
    object: &Object,
    key: &[u8],
    value: &[u8],
    contents: &mut Contents,
    counted: &mut Counted,
    frames: &mut Found,
) -> Result<(), String> {
    let wrong = |what: String| format!("entry {:?}: {what}", String::from_utf8_lossy(key));
    let header = Header::decode(value).map_err(|error| wrong(error.to_string()))?;
    let payload = &value[HEADER_BYTES..];
    header.check(payload).map_err(|error| wrong(error.to_string()))?;
    let expected = contents
        .take(&header, payload, counted, &mut BTreeMap::new())
        .map_err(wrong)?;
    if expected != key {
        return Err(wrong("it stands under the key of another".into()));
    }
    if header.kind == Kind::Frame {
        let found = FoundFrame {
            to: header.interval.to,
            bytes: header.length,
            place: place(object),
        };
        frames.insert((header.lane, header.life, header.interval.from), found);
    }
    Ok(())
}

fn place(object: &Object) -> Place {
    Place {
        segment: object.slab.into(),
        offset: u32::try_from(object.slot).unwrap_or(u32::MAX),
    }
}

/// Frames, read leaf by leaf: those of a lane lie beside each other.
struct Leaves {
    disk: Arc<dyn Disk>,
    directory: String,
    objects: BTreeMap<Place, Object>,
    last: Mutex<Option<(Place, slots::Leaf)>>,
}

impl Shelf for Leaves {
    fn read(&self, frame: FrameRef) -> Result<Option<Bytes>, Error> {
        let place = frame.held.place;
        let mut last = self.last.lock();
        if last.as_ref().is_none_or(|(of, _)| *of != place) {
            let Some(object) = self.objects.get(&place) else {
                return Ok(None);
            };
            let leaf = slots::leaf(&*self.disk, &self.directory, object)
                .map_err(|what| Error::io(format!("read {}", self.directory))(std::io::Error::other(what)))?;
            *last = Some((place, leaf));
        }
        let key = frame_key(frame.lane, frame.life, frame.held.from);
        let entries = last.as_ref().map(|(_, leaf)| &leaf.entries);
        let found = entries.and_then(|entries| entries.iter().find(|(of, _)| *of == key));
        Ok(found.map(|(_, value)| Bytes::copy_from_slice(&value[HEADER_BYTES..])))
    }
}

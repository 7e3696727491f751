//! Putting together what an engine found on disk: every lane's frames from its base to its tail, or an error.

use super::change::{Catalog, Held, LaneId};
use super::error::Error;
use culvert_proto::Sequence;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

/// Frames of the lanes' current lives: lane and begin → end, and where it lies.
pub(super) type Frames = BTreeMap<(LaneId, Sequence), (Sequence, Held)>;

/// Frames that lanes hold, in order.
pub(super) type Lanes = BTreeMap<LaneId, VecDeque<Held>>;

/// Takes each lane's frames from its base to its tail. Others are garbage that a crash left: trimmed or restarted
/// away after they were written.
///
/// # Errors
/// [`Error::Damaged`] when one is missing.
pub(super) fn contiguous(path: &Path, catalog: &Catalog, frames: &Frames) -> Result<Lanes, Error> {
    let mut lanes = Lanes::new();
    for (lane, record) in &catalog.lanes {
        let mut held = VecDeque::new();
        let mut next = record.base;
        while next < record.tail {
            let Some((to, frame)) = frames.get(&(*lane, next)).filter(|(to, _)| *to > next) else {
                let name = String::from_utf8_lossy(&record.name);
                let what = format!(
                    "lane {name:?}: the frame at {next} is missing, the lane ends at {}",
                    record.tail
                );
                return Err(Error::Damaged {
                    path: path.to_path_buf(),
                    what,
                });
            };
            held.push_back(*frame);
            next = *to;
        }
        if next != record.tail {
            let what = format!(
                "lane {}: its last frame ends at {next}, the lane at {}",
                lane.0, record.tail
            );
            return Err(Error::Damaged {
                path: path.to_path_buf(),
                what,
            });
        }
        lanes.insert(*lane, held);
    }
    Ok(lanes)
}

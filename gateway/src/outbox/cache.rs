//! The newest frames of all lanes in memory, so that a link that keeps up never reads the disk.

use super::change::LaneId;
use bytes::Bytes;
use culvert_proto::Sequence;
use std::collections::BTreeMap;

/// Frames by lane and begin; the oldest go first when there are too many bytes.
#[derive(Default)]
pub(super) struct Cache {
    bytes_max: usize,
    bytes: usize,
    next_age: u64,
    frames: BTreeMap<(LaneId, Sequence), (u64, Bytes)>,
    ages: BTreeMap<u64, (LaneId, Sequence)>,
}

impl Cache {
    /// Keeps at most so many bytes of frames.
    pub(super) fn new(bytes_max: usize) -> Cache {
        Cache {
            bytes_max,
            ..Cache::default()
        }
    }

    pub(super) fn insert(&mut self, lane: LaneId, from: Sequence, frame: Bytes) {
        if frame.len() > self.bytes_max {
            return;
        }
        self.remove(lane, from);
        let age = self.next_age;
        self.next_age += 1;
        self.bytes += frame.len();
        self.ages.insert(age, (lane, from));
        self.frames.insert((lane, from), (age, frame));
        while self.bytes > self.bytes_max {
            let Some((_, (lane, from))) = self.ages.first_key_value() else {
                break;
            };
            let (lane, from) = (*lane, *from);
            self.remove(lane, from);
        }
    }

    pub(super) fn get(&self, lane: LaneId, from: Sequence) -> Option<Bytes> {
        self.frames.get(&(lane, from)).map(|(_, frame)| frame.clone())
    }

    /// Forgets the frames of `lane` that begin before `below`.
    pub(super) fn trim(&mut self, lane: LaneId, below: Sequence) {
        while let Some(((_, from), _)) = self.frames.range((lane, Sequence::ZERO)..(lane, below)).next() {
            let from = *from;
            self.remove(lane, from);
        }
    }

    /// Forgets a lane.
    pub(super) fn clear(&mut self, lane: LaneId) {
        self.trim(lane, Sequence(u64::MAX));
    }

    fn remove(&mut self, lane: LaneId, from: Sequence) {
        if let Some((age, frame)) = self.frames.remove(&(lane, from)) {
            self.bytes -= frame.len();
            self.ages.remove(&age);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first() {
        let mut cache = Cache::new(10);
        for from in 0..4 {
            cache.insert(
                LaneId(from % 2),
                Sequence(from.into()),
                Bytes::from_static(b"1234"),
            );
        }
        let there: Vec<bool> = (0..4)
            .map(|from| cache.get(LaneId(from % 2), Sequence(from.into())).is_some())
            .collect();
        assert_eq!(there, [false, false, true, true]);
        assert_eq!(cache.bytes, 8);
    }

    #[test]
    fn trim_forgets_one_lane_below() {
        let mut cache = Cache::new(100);
        for from in 0..4 {
            cache.insert(LaneId(1), Sequence(from), Bytes::from_static(b"x"));
            cache.insert(LaneId(2), Sequence(from), Bytes::from_static(b"x"));
        }
        cache.trim(LaneId(1), Sequence(3));
        assert_eq!((cache.bytes, cache.ages.len()), (5, 5));
        assert!(cache.get(LaneId(1), Sequence(2)).is_none());
        assert!(cache.get(LaneId(1), Sequence(3)).is_some());
        cache.clear(LaneId(2));
        assert_eq!((cache.bytes, cache.ages.len()), (1, 1));
    }
}

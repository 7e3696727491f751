//! Steps that belong together.

use super::change::LaneId;
use super::error::Error;
use super::lane::Lane;
use super::{LANE_BYTES_MAX, SETTING_BYTES_MAX, check_size};
use bytes::Bytes;
use culvert_proto::{Interval, limits};

/// All frames and settings of one group, with their keys: a frame of the largest size, and what belongs to it.
pub const GROUP_BYTES_MAX: usize = limits::FRAME_BYTES_MAX + (8 << 20);

/// The most steps of one group.
pub const GROUP_STEPS_MAX: usize = 16 * 1024;

/// Frames and settings that become durable in one commit, or none of them: records with what says where their source
/// goes on, a stream with the dead letters of the same places. Given to [`super::Outbox::together`].
#[derive(Clone, Debug, Default)]
pub struct Group {
    pub(super) steps: Vec<Step>,
    pub(super) bytes: usize,
}

/// One step, as the state takes it.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Append {
        lane: LaneId,
        interval: Interval,
        frame: Bytes,
    },
    Put {
        key: Bytes,
        value: Bytes,
    },
    Delete {
        key: Bytes,
    },
}

impl Group {
    /// Adds a frame at the tail of a lane; a lane may be given several, in order.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for the frame or the group.
    pub fn append(&mut self, lane: &Lane, interval: Interval, frame: Bytes) -> Result<(), Error> {
        check_size("frame", &frame, limits::FRAME_BYTES_MAX)?;
        let step = Step::Append {
            lane: lane.id(),
            interval,
            frame,
        };
        self.push(step)
    }

    /// Adds a setting.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for the key, the value or the group.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        check_size("key of a setting", key, LANE_BYTES_MAX)?;
        check_size("value of a setting", value, SETTING_BYTES_MAX)?;
        let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        self.push(Step::Put { key, value })
    }

    /// Adds that a setting is forgotten.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for the group.
    pub fn delete(&mut self, key: &[u8]) -> Result<(), Error> {
        let key = Bytes::copy_from_slice(key);
        self.push(Step::Delete { key })
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    fn push(&mut self, step: Step) -> Result<(), Error> {
        let too_large = |what, size, max| Err(Error::TooLarge { what, size, max });
        let bytes = self.bytes
            + match &step {
                Step::Append { frame, .. } => frame.len(),
                Step::Put { key, value } => key.len() + value.len(),
                Step::Delete { key } => key.len(),
            };
        if bytes > GROUP_BYTES_MAX {
            return too_large("group of steps", bytes, GROUP_BYTES_MAX);
        }
        if self.steps.len() >= GROUP_STEPS_MAX {
            return too_large(
                "number of steps in a group",
                self.steps.len() + 1,
                GROUP_STEPS_MAX,
            );
        }
        self.bytes = bytes;
        self.steps.push(step);
        Ok(())
    }
}

//! Which records of a frame go to another topic than their stream's. Most frames have none, and not a byte of this.
//!
//! ```text
//! u16 count of topics | each: u16 length, name | for each record u16: 0 its stream's, else the number of its topic from 1
//! u32 length of all before it
//! ```

use super::invalid;
use crate::columns::check_topic;
use crate::field::Field;
use crate::limits;
use crate::wire::{self, Malformed};
use alloc::string::String;
use alloc::vec::Vec;

/// Routes on their way into a frame.
#[derive(Debug, Default)]
pub(super) struct RoutesBuilder {
    topics: Vec<String>,
    routes: Vec<u16>,
}

impl RoutesBuilder {
    pub(super) fn clear(&mut self) {
        self.topics.clear();
        self.routes.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Whether records that go to these topics can be added.
    pub(super) fn check<'a>(&self, topics: impl Iterator<Item = &'a str>) -> Result<bool, Malformed> {
        let mut fresh: Vec<&str> = Vec::new();
        for topic in topics {
            if !fresh.contains(&topic) && !self.topics.iter().any(|known| known == topic) {
                check_topic(topic, fresh.len())?;
                fresh.push(topic);
            }
        }
        Ok(self.topics.len() + fresh.len() <= limits::TOPICS_PER_FRAME_MAX)
    }

    /// The record behind `before` others goes to `topic`, which was checked.
    pub(super) fn push(&mut self, topic: Option<&str>, before: usize) {
        let Some(topic) = topic else {
            if !self.topics.is_empty() {
                self.routes.push(0);
            }
            return;
        };
        let known = self.topics.iter().position(|known| known == topic);
        let at = known.unwrap_or_else(|| {
            self.topics.push(topic.into());
            self.topics.len() - 1
        });
        self.routes.resize(before, 0);
        self.routes.push(u16::try_from(at + 1).unwrap_or(0));
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let start = out.len();
        let too_large = |size| Malformed::TooLarge {
            what: "frame topics",
            size,
            max: limits::TOPICS_PER_FRAME_MAX,
        };
        let count = u16::try_from(self.topics.len()).map_err(|_| too_large(self.topics.len()))?;
        count.put(out, "frame topics")?;
        for topic in &self.topics {
            let length = u16::try_from(topic.len()).map_err(|_| too_large(topic.len()))?;
            length.put(out, "frame topic")?;
            out.extend_from_slice(topic.as_bytes());
        }
        for route in &self.routes {
            route.put(out, "frame route")?;
        }
        let length = u32::try_from(out.len() - start).map_err(|_| too_large(out.len() - start))?;
        length.put(out, "frame routes")
    }
}

/// The routes of a frame's records.
#[derive(Clone, Debug, Default)]
pub(super) struct Routes<'a> {
    topics: Vec<&'a str>,
    routes: &'a [[u8; 2]],
}

impl<'a> Routes<'a> {
    /// Reads the routes of `count` records at the end of `body`, and how many bytes they take.
    pub(super) fn parse(body: &'a [u8], count: usize) -> Result<(Routes<'a>, usize), Malformed> {
        let truncated = Malformed::Truncated { what: "frame routes" };
        let (before, mut length) = body
            .split_last_chunk::<4>()
            .map(|(before, last)| (before, &last[..]))
            .ok_or(truncated)?;
        let length = u32::take(&mut length, "frame routes")? as usize;
        let start = before.len().checked_sub(length).ok_or(truncated)?;
        let mut rest = &before[start..];
        let topics = usize::from(u16::take(&mut rest, "frame topics")?);
        let topics = (0..topics)
            .map(|others| {
                let length = u16::take(&mut rest, "frame topic")?;
                let name = wire::take(&mut rest, length.into(), "frame topic")?;
                let name = core::str::from_utf8(name).map_err(|_| invalid("frame topic", "is not UTF-8"))?;
                check_topic(name, others)?;
                Ok(name)
            })
            .collect::<Result<Vec<&str>, Malformed>>()?;
        let (routes, odd) = rest.as_chunks::<2>();
        if routes.len() != count || !odd.is_empty() || topics.is_empty() {
            return Err(invalid("frame routes", "are not one for each record"));
        }
        if routes
            .iter()
            .any(|route| usize::from(u16::from_be_bytes(*route)) > topics.len())
        {
            return Err(invalid("frame route", "names a topic that is not there"));
        }
        Ok((Routes { topics, routes }, length + 4))
    }

    /// The topic of the record at `index`; `None` where it is its stream's.
    pub(super) fn topic(&self, index: usize) -> Option<&'a str> {
        let route = usize::from(u16::from_be_bytes(*self.routes.get(index)?));
        self.topics.get(route.checked_sub(1)?).copied()
    }
}

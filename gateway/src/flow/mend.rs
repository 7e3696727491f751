//! What a damaged outbox means for streams, and what is done about it.
//!
//! Constraints:
//! - What a source or a peer has is had again: a lane is cut where something is missing, and goes on from there as after the
//!   loss of the disk, at the position of the sink (A1) or where the origin still holds it (B1). Its guard is that of
//!   the last record kept, so nothing but the same history goes on.
//! - A run is nowhere else. Its lane is cut too, what stands behind the hole is kept beside it, and it stands still
//!   ([`Halt`]) until somebody decides.
//! - Where it cannot be proven that no lane or setting is missing, every lane counts as missing from its begin, and every
//!   run stands still: what a plugin's task remembers may be older than what it brought.
//! - Nothing is given up but by [`accept_loss`], which says how much.
//!
//! ```text
//! key   halted/<stream>             u64 where something is missing, u64 where the stream ended, u8 whether that is certain
//! key   accepted/<stream>           what was given up of it, for people
//! lane  rest/<u32 number><stream>   frames behind what is missing, in order
//! ```

#[cfg(test)]
mod tests;

use super::intake::{ORIGIN, end_run_at, remembers_runs, run_end};
use super::letters::REFUSED_LANES;
use super::transit::RELAY;
use crate::codec::compression::Codecs;
use crate::outbox::{self, Damage, Lane, Outbox, Salvage, SalvagedLane, append};
use bytes::Bytes;
use culvert_proto::batch::Codec;
use culvert_proto::frame::{Frame, FrameBuilder, Push};
use culvert_proto::limits;
use culvert_proto::message::{Fault, LaneHeader};
use culvert_proto::stream::RouteId;
use culvert_proto::wire::Malformed;
use culvert_proto::{Guard, Interval, Sequence, StreamId};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::PathBuf;

const REST: &[u8] = b"rest/";
const HALTED: &[u8] = b"halted/";
const ACCEPTED: &[u8] = b"accepted/";

/// Why a mend does not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The outbox.
    #[error(transparent)]
    Outbox(#[from] outbox::Error),
    /// What it holds is not what this program stores.
    #[error("read what the outbox holds: {0}")]
    Malformed(#[from] Malformed),
    /// No stream of this name stands still for missing records.
    #[error(
        "[CULVERT-O014] no stream {0} stands still because records are missing\n\nculvert fsck lists those that do."
    )]
    NotHalted(String),
}

/// Whose frames a lane holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    /// A stream of this site.
    Origin(StreamId),
    /// The dead letters of one.
    Refused(StreamId),
    /// A stream that passes through.
    Relay(RouteId, StreamId),
    /// What stands behind missing frames of a run.
    Rest(StreamId),
    /// Of no version that is known here.
    Unknown,
}

impl Owner {
    fn of(name: &[u8]) -> Owner {
        let known = || -> Result<Owner, Malformed> {
            if let Some(spelled) = name.strip_prefix(ORIGIN) {
                return Ok(Owner::Origin(StreamId::decode(spelled)?));
            }
            if let Some(spelled) = name.strip_prefix(REFUSED_LANES) {
                return Ok(Owner::Refused(StreamId::decode(spelled)?));
            }
            if let Some(header) = name.strip_prefix(RELAY) {
                let LaneHeader { route, stream } = LaneHeader::decode(header)?;
                return Ok(Owner::Relay(route, stream));
            }
            match name.strip_prefix(REST).and_then(|rest| rest.get(4..)) {
                Some(spelled) => Ok(Owner::Rest(StreamId::decode(spelled)?)),
                None => Ok(Owner::Unknown),
            }
        };
        known().unwrap_or(Owner::Unknown)
    }

    fn remedy(&self) -> Remedy {
        match self {
            Owner::Origin(stream) | Owner::Refused(stream) if stream.is_replayable() => Remedy::ReadAgain,
            Owner::Relay(..) => Remedy::SentAgain,
            Owner::Origin(_) | Owner::Refused(_) | Owner::Rest(_) | Owner::Unknown => Remedy::OnlyHere,
        }
    }
}

/// How what is missing can be had again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remedy {
    /// The source keeps it.
    ReadAgain,
    /// The gateway that it came from keeps it until the sink has it.
    SentAgain,
    /// It is nowhere else.
    OnlyHere,
}

// ----- what there is ---------------------------------------------------------------------------------------------

/// What a look at an outbox found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The outbox's directory.
    pub directory: PathBuf,
    /// Which engine wrote it.
    pub engine: &'static str,
    /// Whether a gateway finds in it all that was acknowledged.
    pub sound: bool,
    /// Whether lanes and settings are all there, so that only frames can be missing.
    pub certain: bool,
    /// Commits that are there.
    pub commits: u64,
    /// Commits that were acknowledged, where that can be read.
    pub acknowledged: Option<u64>,
    /// Places that are not as they were written.
    pub damage: Vec<Damage>,
    /// Every lane.
    pub lanes: Vec<LaneReport>,
}

/// A lane, in the words of the path.
#[derive(Clone, Debug, Serialize)]
pub struct LaneReport {
    /// What it holds: `origin`, `refused` (dead letters), `relay`, or `rest` (behind what is missing of a run).
    pub holds: &'static str,
    /// The stream: site, topic, partition.
    pub stream: String,
    /// The route, at a relay.
    pub route: Option<String>,
    /// What it held, from here on.
    pub from: u64,
    /// What it held, before this place.
    pub to: u64,
    /// Frames that are whole.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is missing of it.
    pub missing: Vec<Missing>,
    /// How that can be had again.
    pub remedy: Remedy,
    /// Where the stream stands still, because records are missing that an earlier repair could not have again.
    pub halted_at: Option<u64>,
}

/// Places that a lane held.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Missing {
    /// From here on.
    pub from: u64,
    /// Before this place.
    pub to: u64,
}

impl From<Interval> for Missing {
    fn from(interval: Interval) -> Missing {
        Missing {
            from: interval.from.0,
            to: interval.to.0,
        }
    }
}

/// What is in this outbox, and what is missing.
#[must_use]
pub fn report(salvage: &Salvage) -> Report {
    Report {
        directory: salvage.path().to_path_buf(),
        engine: salvage.engine.name(),
        sound: salvage.is_sound(),
        certain: salvage.certain,
        commits: salvage.commits,
        acknowledged: salvage.acknowledged,
        damage: salvage.damage.clone(),
        lanes: salvage
            .lanes
            .iter()
            .map(|lane| lane_report(salvage, lane))
            .collect(),
    }
}

fn lane_report(salvage: &Salvage, lane: &SalvagedLane) -> LaneReport {
    let owner = Owner::of(&lane.name);
    let (frames, bytes) = lane.held();
    let (holds, stream, route) = match &owner {
        Owner::Origin(stream) => ("origin", stream.to_string(), None),
        Owner::Refused(stream) => ("refused", stream.to_string(), None),
        Owner::Relay(route, stream) => ("relay", stream.to_string(), Some(route.to_string())),
        Owner::Rest(stream) => ("rest", stream.to_string(), None),
        Owner::Unknown => ("unknown", String::from_utf8_lossy(&lane.name).into_owned(), None),
    };
    let halted = lane
        .name
        .strip_prefix(ORIGIN)
        .map(|spelled| [HALTED, spelled].concat());
    let halted = halted.and_then(|key| Halt::parse(salvage.settings.get(&key[..])?));
    LaneReport {
        holds,
        stream,
        route,
        from: lane.interval.from.0,
        to: lane.interval.to.0,
        frames,
        bytes,
        missing: lane.missing().into_iter().map(Missing::from).collect(),
        remedy: owner.remedy(),
        halted_at: halted.map(|halt| halt.at.0),
    }
}

// ----- what is done ----------------------------------------------------------------------------------------------

/// What became of a lane that was not left as it was.
#[derive(Clone, Debug, Serialize)]
pub struct Mended {
    /// The stream: site, topic, partition.
    pub stream: String,
    /// The route, at a relay.
    pub route: Option<String>,
    /// It is kept up to here.
    pub kept_to: u64,
    /// How what follows comes back.
    pub remedy: Remedy,
    /// It stands still until somebody decides.
    pub halted: bool,
}

/// What a repair did.
#[derive(Clone, Debug, Serialize)]
pub struct Repaired {
    /// Where what was damaged is now.
    pub quarantine: PathBuf,
    /// The lanes that were not left as they were.
    pub mended: Vec<Mended>,
}

/// The name of a quarantine that is made now: UTC, without colons.
#[must_use]
pub fn time() -> String {
    let now = time::OffsetDateTime::now_utc();
    format!(
        "{}T{:02}-{:02}-{:02}.{:03}Z",
        now.date(),
        now.hour(),
        now.minute(),
        now.second(),
        now.millisecond()
    )
}

/// Whether a repair leaves nothing to decide: all that is missing can be had again.
#[must_use]
pub fn heals_by_itself(salvage: &Salvage) -> bool {
    let is_run = |lane: &&SalvagedLane| Owner::of(&lane.name).remedy() == Remedy::OnlyHere;
    let loses_run = salvage
        .lanes
        .iter()
        .filter(is_run)
        .any(|lane| loses(salvage, lane));
    !loses_run && (salvage.certain || !remembers_runs(salvage.settings.keys()))
}

/// Whether something of a lane is missing, or may be.
fn loses(salvage: &Salvage, lane: &SalvagedLane) -> bool {
    !salvage.certain || !lane.missing().is_empty()
}

/// Makes a sound store of what is whole, puts it in place, and moves what was damaged to quarantine under the name `time`.
///
/// # Errors
/// When it cannot be read or written. Until the sound store is complete, nothing is changed.
pub fn repair(salvage: Salvage, time: &str) -> Result<Repaired, Error> {
    let sound = salvage.begin()?;
    for (key, value) in &salvage.settings {
        sound.put(key, value)?;
    }
    // Dead letters are made again with the records beside which they fell: both lanes go together.
    let letters: BTreeSet<&[u8]> = salvage
        .lanes
        .iter()
        .filter(|lane| loses(&salvage, lane))
        .filter_map(|lane| lane.name.strip_prefix(REFUSED_LANES))
        .collect();
    let mut mended = Vec::new();
    for lane in &salvage.lanes {
        let owner = Owner::of(&lane.name);
        let spelled = lane
            .name
            .strip_prefix(ORIGIN)
            .or_else(|| lane.name.strip_prefix(REFUSED_LANES));
        let goes = spelled.is_some_and(|spelled| letters.contains(spelled));
        if !loses(&salvage, lane) && !goes {
            keep(&salvage, lane, lane.interval.to, &sound)?;
            continue;
        }
        let remedy = owner.remedy();
        let halted = remedy == Remedy::OnlyHere;
        let kept_to = match remedy {
            Remedy::OnlyHere => lane.whole_to(),
            _ if salvage.certain && !goes => lane.whole_to(),
            _ => lane.interval.from,
        };
        keep(&salvage, lane, kept_to, &sound)?;
        if let Owner::Origin(stream) = &owner
            && halted
        {
            set_aside(&salvage, lane, kept_to, stream, &sound)?;
        }
        let route = match &owner {
            Owner::Relay(route, _) => Some(route.to_string()),
            _ => None,
        };
        mended.push(Mended {
            stream: lane_report(&salvage, lane).stream,
            route,
            kept_to: kept_to.0,
            remedy,
            halted,
        });
    }
    if !salvage.certain && remembers_runs(salvage.settings.keys()) {
        sound.put(HALTED, b"")?;
    }
    let quarantine = salvage.finish(sound, time)?;
    Ok(Repaired { quarantine, mended })
}

/// Writes what is whole of a lane up to `to`.
fn keep(salvage: &Salvage, lane: &SalvagedLane, to: Sequence, sound: &Outbox) -> Result<(), Error> {
    let kept = sound.lane(&lane.name)?;
    kept.restart(lane.interval.from)?;
    let interval = Interval::new(lane.interval.from, to);
    salvage.copy(lane, interval, &kept, sound)?;
    Ok(())
}

/// Keeps what stands behind what is missing of a run, piece by piece, and notes that the run stands still.
fn set_aside(
    salvage: &Salvage,
    lane: &SalvagedLane,
    at: Sequence,
    stream: &StreamId,
    sound: &Outbox,
) -> Result<(), Error> {
    let spelled = stream.encode()?;
    let missing = lane.missing();
    for (number, hole) in (0u32..).zip(&missing) {
        let end = missing
            .get(number as usize + 1)
            .map_or(lane.interval.to, |next| next.from);
        if hole.to == end {
            continue;
        }
        let rest = sound.lane(&[REST, &number.to_be_bytes(), &spelled].concat())?;
        rest.restart(hole.to)?;
        salvage.copy(lane, Interval::new(hole.to, end), &rest, sound)?;
    }
    let halt = Halt {
        at,
        end: lane.interval.to,
        is_certain: salvage.certain,
    };
    sound.put(&[HALTED, &spelled[..]].concat(), &halt.spell())?;
    Ok(())
}

// ----- what stands still -----------------------------------------------------------------------------------------

/// A run of which something is missing that is nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halt {
    /// Where something is missing.
    pub at: Sequence,
    /// Where the stream ended.
    pub end: Sequence,
    /// Whether that is where it ended.
    pub is_certain: bool,
}

impl Halt {
    /// Why this stream stands still, if it does.
    #[must_use]
    pub fn of(outbox: &Outbox, spelled: &[u8]) -> Option<Halt> {
        Halt::parse(&outbox.get(&[HALTED, spelled].concat())?)
    }

    /// For `status`, and for who asks the source for more.
    #[must_use]
    pub fn fault(&self, stream: &StreamId) -> Fault {
        let Halt { at, end, is_certain } = self;
        let end = if *is_certain {
            format!("before {end}")
        } else {
            "up to its end, which is not certain".into()
        };
        Fault {
            code: "CULVERT-O012".into(),
            reason: format!(
                "the outbox was damaged: records of {stream} are missing from {at} on, {end}, and its source cannot be read again; put \
                 back a copy of the outbox, or let it go on without them: culvert fsck --accept-loss {stream}"
            ),
        }
    }

    fn spell(self) -> Vec<u8> {
        let Halt { at, end, is_certain } = self;
        [
            &at.0.to_be_bytes()[..],
            &end.0.to_be_bytes(),
            &[u8::from(is_certain)],
        ]
        .concat()
    }

    fn parse(bytes: &Bytes) -> Option<Halt> {
        let (at, rest) = bytes.split_first_chunk()?;
        let (end, rest) = rest.split_first_chunk()?;
        Some(Halt {
            at: Sequence(u64::from_be_bytes(*at)),
            end: Sequence(u64::from_be_bytes(*end)),
            is_certain: *rest.first()? == 1,
        })
    }
}

/// Why no task that brings pages may begin or go on, if so: what they remember could not be proven whole.
#[must_use]
pub fn halt_of_runs(outbox: &Outbox) -> Option<String> {
    outbox.get(HALTED).map(|_| {
        "the outbox was damaged, and what sources of plugins remember may be older than what they brought; put back a copy of the \
         outbox, or let them go on all the same: culvert fsck --accept-loss all"
            .to_owned()
    })
}

/// What was given up of a stream.
#[derive(Clone, Debug, Serialize)]
pub struct Accepted {
    /// The stream: site, topic, partition.
    pub stream: String,
    /// Places that hold nothing now. A sink may have had some of them before.
    pub lost: Vec<Missing>,
    /// How many places that is.
    pub count: u64,
    /// Whether the stream ended where it was known to end.
    pub certain: bool,
}

/// Gives up what is missing of a stream that stands still, or of `all`: its places hold no record from now on, and it goes on
/// behind them. Durable when it returns.
///
/// # Errors
/// [`Error::NotHalted`], and when the outbox cannot be read or written.
pub fn accept_loss(outbox: &Outbox, name: &str) -> Result<Vec<Accepted>, Error> {
    let mut accepted = Vec::new();
    let mut found = false;
    for (key, value) in outbox.scan(HALTED) {
        let spelled = key.slice(HALTED.len()..);
        if spelled.is_empty() {
            if name == "all" {
                outbox.delete(&key)?;
                found = true;
            }
            continue;
        }
        let stream = StreamId::decode(&spelled)?;
        let Some(halt) = Halt::parse(&value) else { continue };
        if name == "all" || stream.to_string() == name {
            accepted.push(accept(outbox, &stream, &spelled, halt)?);
            outbox.delete(&key)?;
            found = true;
        }
    }
    outbox.sync()?;
    if !found {
        return Err(Error::NotHalted(name.into()));
    }
    Ok(accepted)
}

/// Fills what is missing with frames that hold nothing. Cut short, it is done again: what was filled is there.
fn accept(outbox: &Outbox, stream: &StreamId, spelled: &[u8], halt: Halt) -> Result<Accepted, Error> {
    let lane = outbox.lane(&[ORIGIN, spelled].concat())?;
    let mut rests: Vec<(Bytes, Lane)> = outbox
        .lanes()
        .into_iter()
        .filter(|(name, _)| Owner::of(name) == Owner::Rest(stream.clone()))
        .collect();
    rests.sort_by(|a, b| a.0.cmp(&b.0));
    let mut lost = Vec::new();
    let mut fill = |to: Sequence| -> Result<(), Error> {
        let from = lane.extent().tail;
        if from < to {
            lost.push(Missing::from(Interval::new(from, to)));
            for frame in nothing(stream, Interval::new(from, to), guard_at(&lane, from)?)? {
                append(&lane, frame.interval(), frame.bytes(), outbox)?;
            }
        }
        Ok(())
    };
    for (_, rest) in &rests {
        let extent = rest.extent();
        let mut next = extent.base.max(lane.extent().tail);
        fill(extent.base)?;
        while next < extent.durable {
            for (interval, bytes) in rest.read(next, limits::FRAME_BYTES_MAX)? {
                append(&lane, interval, &bytes, outbox)?;
                next = interval.to;
            }
        }
    }
    fill(run_end(outbox, spelled).max(halt.end))?;
    // Where it ends is what the run goes on from.
    end_run_at(outbox, spelled, lane.extent().tail)?;
    outbox.sync()?;
    for (_, rest) in &rests {
        outbox.remove_lane(rest)?;
    }
    let accepted = Accepted {
        stream: stream.to_string(),
        count: lost.iter().map(|hole| hole.to - hole.from).sum(),
        lost,
        certain: halt.is_certain,
    };
    let key = [ACCEPTED, spelled].concat();
    let before = outbox
        .get(&key)
        .map(|before| String::from_utf8_lossy(&before).into_owned() + "; ");
    outbox.put(
        &key,
        (before.unwrap_or_default() + &accepted.to_string()).as_bytes(),
    )?;
    Ok(accepted)
}

/// What was ever given up of this stream, for the log.
#[must_use]
pub fn accepted(outbox: &Outbox, spelled: &[u8]) -> Option<String> {
    let accepted = outbox.get(&[ACCEPTED, spelled].concat())?;
    Some(String::from_utf8_lossy(&accepted).into_owned())
}

impl std::fmt::Display for Accepted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for Missing { from, to } in &self.lost {
            write!(f, "[{from}, {to}) ")?;
        }
        write!(f, "{} places", self.count)?;
        if self.certain {
            Ok(())
        } else {
            write!(f, ", and what may have stood behind the end")
        }
    }
}

/// Identity of the record before `at`, as far as the lane tells.
fn guard_at(lane: &Lane, at: Sequence) -> Result<Guard, Error> {
    let unknown = Guard { epoch: -1, crc: 0 };
    if lane.extent().base >= at {
        return Ok(unknown);
    }
    let last = lane.read(Sequence(at.0 - 1), 1)?.into_iter().next();
    let last = last.map(|(_, bytes)| Frame::decode(bytes)).transpose()?;
    Ok(last.map_or(unknown, |frame| frame.guard_end()))
}

/// Frames that say of `interval` that it holds nothing.
fn nothing(stream: &StreamId, interval: Interval, guard: Guard) -> Result<Vec<Frame>, Error> {
    let mut builder = FrameBuilder::new(stream, interval.from, guard)?;
    builder.confirm_hole(interval.to);
    let mut frames = Vec::new();
    let none = Codecs::default();
    while builder.advance(interval.to)? == Push::NotTaken {
        frames.extend(builder.finish(Codec::None, &none)?);
    }
    frames.extend(builder.finish(Codec::None, &none)?);
    Ok(frames)
}

//! Places in a stream.

use core::fmt;

/// The place of one record in its stream.
///
/// For a replayable source it is the source's own number (Kafka: the offset), so that any gateway of the site
/// numbers the same record alike. It grows, and it may skip numbers: compaction, control records and refused
/// records leave holes.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The first place of every stream.
    pub const ZERO: Sequence = Sequence(0);

    /// The place after this one. Saturates: the last place has no successor.
    #[must_use]
    pub const fn next(self) -> Sequence {
        Sequence(self.0.saturating_add(1))
    }

    /// How many places lie between `earlier` and this one; 0 when it is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Sequence) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A half-open piece of a stream, `[from, to)`: every place in it is accounted for, also those without a record.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Interval {
    /// The first place inside.
    pub from: Sequence,
    /// The first place behind.
    pub to: Sequence,
}

impl Interval {
    /// The interval `[from, to)`. Empty where `to <= from`.
    #[must_use]
    pub const fn new(from: Sequence, to: Sequence) -> Interval {
        Interval { from, to }
    }

    /// The empty interval at `at`.
    #[must_use]
    pub const fn empty_at(at: Sequence) -> Interval {
        Interval { from: at, to: at }
    }

    /// Whether it holds no place.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.to.0 <= self.from.0
    }

    /// How many places it covers.
    #[must_use]
    pub const fn len(self) -> u64 {
        self.to.since(self.from)
    }

    /// Whether `at` lies inside or right behind it: a reader at `at` can be served from here without a gap.
    #[must_use]
    pub const fn reaches(self, at: Sequence) -> bool {
        self.from.0 <= at.0 && at.0 <= self.to.0
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.from, self.to)
    }
}

impl fmt::Debug for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.from, self.to)
    }
}

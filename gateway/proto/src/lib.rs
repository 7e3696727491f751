//! The pure core of Culvert: what a record, a batch, a stream, a position and a frame are, how they look as
//! bytes, and the state machines that carry records from an origin to a sink exactly once.
//!
//! Constraints of this crate:
//! - `no_std` and `alloc`. No clock, disk, network or thread: time does not matter to it (S11), everything else
//!   comes in as an argument or goes out as a value. That is what lets the simulation run the very code that the
//!   gateway runs.
//! - Bytes from outside never panic it. Each decoder checks lengths before it allocates and names what is wrong.
//! - Every byte that is stored or sent is covered by a CRC32C.
//!
//! The life of a record through these modules: [`record`] → [`batch`] → [`frame`] → [`origin`] (A1-A7) →
//! [`queue`] (B1-B3) → [`receiver`] (C1-C4) → [`position`], which travels back as a [`message`].
#![no_std]
#![warn(missing_docs)]

extern crate alloc;

pub mod batch;
pub mod checksum;
pub mod columns;
pub mod digest;
pub mod field;
pub mod frame;
pub mod hex;
pub mod limits;
pub mod message;
pub mod origin;
pub mod position;
pub mod queue;
pub mod receiver;
pub mod record;
pub mod schema;
pub mod sequence;
pub mod stream;
pub mod traps;
pub mod wire;

pub use position::{Guard, Position, Seam};
pub use sequence::{Interval, Sequence};
pub use stream::{Lineage, StreamId};

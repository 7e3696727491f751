//! Plugins in the flow: which ones there are, and how one becomes a stage.
//!
//! What a plugin is and how it is kept in its place is `culvert-host`'s; here it gets a name, a connector's settings and a
//! log. Constraints:
//! - A plugin's file is looked at, never run, until a connector names it: then it is asked about its settings, with nothing
//!   granted, and runs when the connector starts.
//! - Every task has instances of its own. Compiled code is shared.

mod asking;
mod check;
mod codec;
pub mod diff;
mod failure;
mod implied;
mod log;
mod plan;
mod replay;
mod shelf;
mod sink;
mod source;
mod stage;
pub mod testing;
mod trust;

pub use crate::flow::predicate::{Predicate, Selection};
pub use crate::flow::schema::translate::{Carried, Message, Writes};
pub use asking::Asking;
pub use check::{Wrong, check};
pub use culvert_host::Wrong as Unfit;
pub use culvert_host::{
    AddressGrant, Capability, Description, Digest, Examined, Field, FieldType, Figure, FolderGrant, Grants,
    Importance, Level, Limits, Line, LoadError, LogSink, Promises, PublicKey, Role, SecretBytes,
    SignatureError, SigningKey, Usage, Validator, check_authorities, compile, examine, pack, sign, signers,
};
#[doc(hidden)]
pub use failure::read_failure;
pub use failure::{FILE_BYTES_MAX, Failures, FileError, KEPT_MAX, Recorded, Seen};
pub use implied::imply;
pub use plan::{PluginPlan, SinkPlan, StagePlan};
pub use replay::{ReplayError, Replayed, replay};
pub use shelf::{Found, Origin, Shelf};
pub use sink::RouteEnd;
pub use stage::{Runner, StageFigure, StageUsage};
pub use trust::{Trust, generated, public_key, signing_key};

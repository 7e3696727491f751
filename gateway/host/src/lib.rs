//! Runs plugins: WebAssembly components that speak `culvert:plugin` (`wit/culvert-plugin`).
//!
//! Constraints of this crate:
//! - Nothing a plugin does reaches beyond its own instance. Memory, tables, stack, time, what it returns and what it logs
//!   have limits ([`Limits`]).
//! - An instance that trapped, ran out of time or out of memory is never entered again: its store is dropped.
//! - One poison record costs one record. The rest of its batch is delivered, in order ([`Transform::process`]).
//! - Compiled code is loaded only from a cache that this program wrote itself, and compiling can be left to a child process:
//!   wasmtime does not call it a vulnerability when compiling takes long or much memory.
//! - Only this crate names wasmtime.
//!
//! It stands apart from the gateway because the bundled plugins are packed by it before the gateway that embeds them is
//! built.
#![warn(missing_docs)]

mod bindings;
mod cache;
mod capability;
mod codec;
mod component;
mod description;
mod engine;
mod fault;
mod grants;
mod guest;
mod pack;
mod signature;
mod sink;
mod source;
mod surroundings;
mod tape;
mod transform;
mod validate;

pub use cache::Digest;
pub use capability::clock::Now;
pub use capability::http::check_authorities;
pub use capability::log::{Level, Line, LogSink};
pub use capability::metrics::{Figure, Labels};
pub use capability::state::Changes;
pub use codec::{Codec, Converted, Payloads, Prepared, Schema, value};
pub use component::{Examined, Plugin, Role, examine};
pub use description::{
    Capability, Description, Field, FieldType, Importance, Needs, Promises, RequestFor, Validator, Width,
};
pub use engine::{Compiler, Engine, Options, compile};
pub use fault::{LoadError, OpenError, Poison, StageFault};
pub use grants::{AddressGrant, FolderGrant, Grants, Lack, Method, Request, SecretBytes, Use};
pub use guest::{Limits, Meter, Usage};
pub use pack::pack;
pub use signature::{PublicKey, SignatureError, SigningKey, sign, signers};
pub use sink::{PutFault, Refusal, Sink, Token, Written};
pub use source::{Page, Produced, ResumePoint, Source, SourceFault, Want};
pub use surroundings::{Cut, Surroundings};
pub use tape::{Act, Answer, Failure, Failures, Fault, Tape};
pub use transform::{Stream, Transform};
pub use validate::{Wrong, validate};

/// The version of the contract this host speaks.
pub const CONTRACT: &str = "0.1.0";

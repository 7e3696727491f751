//! Plugins for Culvert, in Rust.
//!
//! A plugin is a WebAssembly component. This crate hides the bindings and shows what they mean: a batch of messages
//! comes in, each message gets one outcome, and the gateway owns all else: order, repetition, dead letters, commits.
//!
//! ```
//! use culvert_plugin::prelude::*;
//!
//! /// What to do with an order that is in order.
//! #[derive(Choice, Clone, Copy, PartialEq)]
//! enum Mode {
//!     /// Add `"checked": true`.
//!     Mark,
//!     /// Only check.
//!     Validate,
//! }
//!
//! #[derive(Config)]
//! struct Settings {
//!     /// What happens to an order that is in order.
//!     #[config(default = "mark", importance = "high")]
//!     mode: Mode,
//! }
//!
//! struct RejectEmpty {
//!     settings: Settings,
//! }
//!
//! impl Transform for RejectEmpty {
//!     type Config = Settings;
//!     const ABOUT: About = About::new("reject-empty", "0.1.0", "Rejects messages without content")
//!         .needs(Needs::VALUE)
//!         .promises(Promises::DETERMINISTIC.union(Promises::STATELESS));
//!
//!     fn open(settings: Settings) -> Result<Self, Failure> {
//!         Ok(RejectEmpty { settings })
//!     }
//!
//!     fn each(&mut self, message: Message<'_>) -> Answer {
//!         let value = message.value().or_reject("tombstone", "there is no value")?;
//!         if value.is_empty() {
//!             return Err(Rejection::new("empty", "the value has no bytes").into());
//!         }
//!         match self.settings.mode {
//!             Mode::Mark => Ok(Outcome::Value([value, b" checked"].concat())),
//!             Mode::Validate => Ok(Outcome::Keep),
//!         }
//!     }
//! }
//!
//! culvert_plugin::export_transform!(RejectEmpty);
//!
//! // A test, without a gateway:
//! let mut plugin = culvert_plugin::testing::Harness::<RejectEmpty>::open([("mode", "mark")]).unwrap();
//! let outcomes = plugin.message(b"order 7").message(b"").run().unwrap();
//! assert_eq!(outcomes[0], Outcome::Value(b"order 7 checked".to_vec()));
//! assert_eq!(outcomes[1], Outcome::reject("empty", "the value has no bytes"));
//! # let _ = Mode::Validate;
//! ```
//!
//! # Roles
//!
//! [`Transform`] is the common one. [`codec::Codec`], [`source::Source`] and [`sink::Sink`] are thin shells over the
//! contract; each has its export macro.
//!
//! # Capabilities
//!
//! A plugin reaches nothing but what it imports, and imports only what it calls: the [`log`] always, and by cargo
//! features `metrics`, `clock`, `state`, `secrets` (and `secrets-reveal`), `http` and `files`. What needs a grant is named in
//! [`About::asks`], and what it can do without in [`About::optional`]. In native tests each stands on a fake that `testing` sets up.
//!
//! # Panics
//!
//! A panic ends the call; before that its text and place go to the connector's log. The gateway opens a fresh instance
//! and looks for the one message at fault, which becomes a dead letter with the code `plugin-trap`.

extern crate self as culvert_plugin;

mod about;
#[doc(hidden)]
pub mod bindings;
mod capability;
pub mod codec;
pub mod config;
mod message;
mod outcome;
#[doc(hidden)]
pub mod panics;
pub mod sink;
#[doc(hidden)]
pub mod slot;
pub mod source;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
pub mod transform;

pub use about::{About, Ask, Capability, Language, Promises, description};
pub use bindings::shared::culvert::plugin::config::{
    Field, FieldType, Importance, Validator, Value, Verdict, Width,
};
pub use bindings::shared::culvert::plugin::types::{Failure, Needs, Rejection};
#[cfg(feature = "clock")]
pub use capability::clock;
#[cfg(feature = "files")]
pub use capability::files;
#[cfg(feature = "http")]
pub use capability::http;
pub use capability::log;
#[cfg(feature = "metrics")]
pub use capability::metrics;
#[cfg(feature = "secrets")]
pub use capability::secrets;
#[cfg(feature = "state")]
pub use capability::state;
pub use culvert_plugin_derive::{Choice, Config};
pub use message::{Batch, Header, Headers, Message, NewMessage};
pub use outcome::{Answer, Fault, OrReject, Outcome, Outcomes};
pub use transform::Transform;

/// What a transform plugin names.
pub mod prelude {
    pub use crate::config::{Config, Secret, Setting, Size};
    pub use crate::{
        About, Answer, Ask, Batch, Capability, Choice, Config, Failure, Fault, Message, Needs, NewMessage,
        OrReject, Outcome, Outcomes, Promises, Rejection, Transform, Verdict,
    };
}

/// The page of the crate shows what compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

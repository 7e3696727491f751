//! Writes messages to an outside system.

pub use crate::bindings::shared::culvert::plugin::types::{Batch, Header, Message};
pub use crate::bindings::sink::exports::culvert::plugin::sink::{PutError, Refusal, Token};

use crate::config::Config;
use crate::{About, Failure, Rejection, Verdict};

/// A plugin that writes messages. Every call to `put` is one atomic write, or nothing of it.
pub trait Sink: Sized + 'static {
    /// The settings: a struct with `#[derive(Config)]`, or `()`.
    type Config: Config;

    /// What the plugin is.
    const ABOUT: About;

    /// Becomes the target's only writer. `writer` is random, 16 bytes, and stored in the target: a write by any other
    /// fails from then on ([`PutError::Fenced`]). Gives all tokens found. A sink that does not promise `TRANSACTIONAL`
    /// gives none: delivery is then at least once, and an idempotent sink uses stream and sequence as its key.
    ///
    /// # Errors
    /// When it cannot work: for now (`retry`) or with these settings (`fatal`).
    fn open(settings: Self::Config, writer: Vec<u8>) -> Result<(Self, Vec<Token>), Failure>;

    /// Writes all batches and all tokens. Tokens may come without a batch (places without messages were passed), and
    /// without both it proves that this writer is still the only one.
    ///
    /// # Errors
    /// What is certain of the write is in the variant: see [`PutError`].
    fn put(&mut self, batches: Vec<Batch>, tokens: Vec<Token>) -> Result<(), PutError>;

    /// The last call. A sink that is killed does not get it.
    fn close(self) {}

    /// What the checks of single keys cannot see. Pure: no capability is there.
    #[must_use]
    fn check(settings: &Self::Config) -> Vec<Verdict> {
        let _ = settings;
        Vec::new()
    }
}

impl Batch {
    /// The messages with their sequences: stream and sequence together name a message for ever.
    pub fn sequenced(&self) -> impl Iterator<Item = (u64, &Message)> {
        let sequence = |index: usize| {
            self.sequences
                .get(index)
                .copied()
                .unwrap_or(self.from + index as u64)
        };
        self.messages
            .iter()
            .enumerate()
            .map(move |(index, message)| (sequence(index), message))
    }
}

impl Refusal {
    /// Message `message` of batch `batch` cannot be written, whatever is tried.
    #[must_use]
    pub fn new(batch: usize, message: usize, why: Rejection) -> Refusal {
        Refusal {
            batch: batch as u32,
            message: message as u32,
            why,
        }
    }
}

/// Nothing was written, for certain.
impl From<Failure> for PutError {
    fn from(failure: Failure) -> PutError {
        PutError::Failure(failure)
    }
}

/// Makes a type the sink that this component exports. Called once, at the top of a crate of type `cdylib`.
#[macro_export]
macro_rules! export_sink {
    ($plugin:ty) => {
        #[allow(unsafe_code, reason = "made from the contract")]
        const _: () = {
            use ::std::result::Result;
            use ::std::vec::Vec;
            use $crate::bindings::meta::exports::culvert::plugin::meta;
            use $crate::bindings::sink::exports::culvert::plugin as contract;
            use $crate::sink::{Batch, PutError, Token};

            ::std::thread_local! {
                static PLUGIN: $crate::slot::Slot<$plugin> = const { $crate::slot::Slot::new() };
            }

            struct Exported;

            impl meta::Guest for Exported {
                fn describe() -> meta::Description {
                    type Settings = <$plugin as $crate::sink::Sink>::Config;
                    $crate::description::<Settings>(&<$plugin as $crate::sink::Sink>::ABOUT)
                }

                fn validate(values: Vec<$crate::Value>) -> Vec<$crate::Verdict> {
                    $crate::config::validated(&values, <$plugin as $crate::sink::Sink>::check)
                }
            }

            impl contract::sink::Guest for Exported {
                fn open(values: Vec<$crate::Value>, writer: Vec<u8>) -> Result<Vec<Token>, $crate::Failure> {
                    $crate::panics::report();
                    let settings = $crate::config::opened(&values, <$plugin as $crate::sink::Sink>::check)?;
                    let (plugin, tokens) = <$plugin as $crate::sink::Sink>::open(settings, writer)?;
                    PLUGIN.with(|slot| slot.put(plugin));
                    Result::Ok(tokens)
                }

                fn put(batches: Vec<Batch>, tokens: Vec<Token>) -> Result<(), PutError> {
                    PLUGIN
                        .with(|slot| slot.with(|plugin| $crate::sink::Sink::put(plugin, batches, tokens))?)
                }

                fn close() {
                    if let Some(plugin) = PLUGIN.with($crate::slot::Slot::take) {
                        $crate::sink::Sink::close(plugin);
                    }
                }
            }

            $crate::__export_role!(Exported, sink, contract::sink::Guest);
        };
    };
}

#[cfg(test)]
mod tests;

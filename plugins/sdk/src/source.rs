//! Brings messages in from an outside system.

pub use crate::bindings::source::exports::culvert::plugin::source::{Page, Produced, ResumePoint};

use crate::bindings::shared::culvert::plugin::types::Message;
use crate::config::Config;
use crate::{About, Failure, NewMessage, Verdict};
use std::time::Duration;

/// A plugin that brings messages in. The gateway calls from one thread: `open`, then `poll` and `committed` in any
/// order, then `close`.
pub trait Source: Sized + 'static {
    /// The settings: a struct with `#[derive(Config)]`, or `()`.
    type Config: Config;

    /// What the plugin is.
    const ABOUT: About;

    /// `resume` holds the last resume point of each partition that was stored, in one transaction with its messages.
    ///
    /// # Errors
    /// When it cannot work: for now (`retry`) or with these settings (`fatal`).
    fn open(settings: Self::Config, resume: Vec<ResumePoint>) -> Result<Self, Failure>;

    /// What there is, within these limits. A page without messages may still move resume points.
    ///
    /// # Errors
    /// The same poll is made again after `retry`; `fatal` ends the task.
    fn poll(&mut self, limits: Limits) -> Result<Page, Failure>;

    /// All up to these resume points is durable at the gateway: the outside system may forget it. May be called again
    /// after a crash, with the same or earlier points.
    ///
    /// # Errors
    /// The same call is made again after `retry`; `fatal` ends the task.
    fn committed(&mut self, points: Vec<ResumePoint>) -> Result<(), Failure> {
        drop(points);
        Ok(())
    }

    /// The last call. A source that is killed does not get it.
    fn close(self) {}

    /// What the checks of single keys cannot see. Pure: no capability is there.
    #[must_use]
    fn check(settings: &Self::Config) -> Vec<Verdict> {
        let _ = settings;
        Vec::new()
    }
}

/// What one poll may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// At most so many messages.
    pub messages: u32,
    /// About so many bytes.
    pub bytes: u32,
    /// As long as this may be waited for the first message.
    pub wait: Duration,
}

/// A page is built point by point: [`resume`](Page::resume), then the messages that lie before it.
impl Page {
    /// Nothing, and nothing to wait for.
    #[must_use]
    pub fn empty() -> Page {
        Page {
            resume_points: Vec::new(),
            messages: Vec::new(),
            idle_ms: None,
        }
    }

    /// There is nothing more now: ask again after this pause.
    #[must_use]
    pub fn idle(self, pause: Duration) -> Page {
        Page {
            idle_ms: Some(u32::try_from(pause.as_millis()).unwrap_or(u32::MAX)),
            ..self
        }
    }

    /// What is added from here on can be resumed behind at this point. Both texts are JSON objects, together at most
    /// 4 KiB.
    pub fn resume(&mut self, partition: impl Into<String>, offset: impl Into<String>) {
        self.resume_points.push(ResumePoint {
            partition: partition.into(),
            offset: offset.into(),
        });
    }

    /// Adds a message that lies before the last resume point.
    ///
    /// # Panics
    /// When there is no resume point yet, or the message has no topic.
    pub fn add(&mut self, message: NewMessage) {
        let last = self.resume_points.len().checked_sub(1);
        let resume = last.expect("a message lies before a resume point: call `resume` first") as u32;
        let topic = message.0.topic.expect("a source gives each message its topic");
        let message: Message = message.0.message;
        self.messages.push(Produced {
            topic,
            message,
            resume,
        });
    }
}

/// Makes a type the source that this component exports. Called once, at the top of a crate of type `cdylib`.
#[macro_export]
macro_rules! export_source {
    ($plugin:ty) => {
        #[allow(unsafe_code, reason = "made from the contract")]
        const _: () = {
            use ::std::result::Result;
            use ::std::vec::Vec;
            use contract::source::{Page, ResumePoint};
            use $crate::bindings::meta::exports::culvert::plugin::meta;
            use $crate::bindings::source::exports::culvert::plugin as contract;

            ::std::thread_local! {
                static PLUGIN: $crate::slot::Slot<$plugin> = const { $crate::slot::Slot::new() };
            }

            struct Exported;

            impl meta::Guest for Exported {
                fn describe() -> meta::Description {
                    type Settings = <$plugin as $crate::source::Source>::Config;
                    $crate::description::<Settings>(&<$plugin as $crate::source::Source>::ABOUT)
                }

                fn validate(values: Vec<$crate::Value>) -> Vec<$crate::Verdict> {
                    $crate::config::validated(&values, <$plugin as $crate::source::Source>::check)
                }
            }

            impl contract::source::Guest for Exported {
                fn open(values: Vec<$crate::Value>, resume: Vec<ResumePoint>) -> Result<(), $crate::Failure> {
                    $crate::panics::report();
                    let settings =
                        $crate::config::opened(&values, <$plugin as $crate::source::Source>::check)?;
                    let plugin = <$plugin as $crate::source::Source>::open(settings, resume)?;
                    PLUGIN.with(|slot| slot.put(plugin));
                    Result::Ok(())
                }

                fn poll(messages: u32, bytes: u32, max_wait_ms: u32) -> Result<Page, $crate::Failure> {
                    let wait = ::std::time::Duration::from_millis(u64::from(max_wait_ms));
                    let limits = $crate::source::Limits {
                        messages,
                        bytes,
                        wait,
                    };
                    PLUGIN.with(|slot| slot.with(|plugin| $crate::source::Source::poll(plugin, limits))?)
                }

                fn committed(points: Vec<ResumePoint>) -> Result<(), $crate::Failure> {
                    PLUGIN
                        .with(|slot| slot.with(|plugin| $crate::source::Source::committed(plugin, points))?)
                }

                fn close() {
                    if let Some(plugin) = PLUGIN.with($crate::slot::Slot::take) {
                        $crate::source::Source::close(plugin);
                    }
                }
            }

            $crate::__export_role!(Exported, source, contract::source::Guest);
        };
    };
}

#[cfg(test)]
mod tests;

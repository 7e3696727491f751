//! Changes, drops, multiplies or refuses messages.

use crate::bindings::columns::exports::culvert::plugin::transform_columns::{Columns, Results};
use crate::config::{self, Config};
use crate::{About, Answer, Batch, Failure, Message, Outcomes, Value, Verdict, log};

/// A plugin that gives each message an outcome.
///
/// Write [`each`](Transform::each) for the ordinary case. Write [`batch`](Transform::batch) too where something is to be
/// done once for many messages, such as one request for all of them.
///
/// An instance keeps its memory between calls until a trap, a time-out or a change of its settings; then a fresh one is
/// opened. A failed call is made again with the same messages.
pub trait Transform: Sized + 'static {
    /// The settings: a struct with `#[derive(Config)]`, or `()`.
    type Config: Config;

    /// What the plugin is.
    const ABOUT: About;

    /// Called once, before anything else.
    ///
    /// # Errors
    /// When it cannot work: for now (`retry`) or with these settings (`fatal`).
    fn open(settings: Self::Config) -> Result<Self, Failure>;

    /// What becomes of one message.
    ///
    /// # Errors
    /// A rejection makes this message a dead letter; a failure undoes the whole call.
    fn each(&mut self, message: Message<'_>) -> Answer;

    /// What becomes of all messages of a batch: exactly one outcome for each, in order.
    ///
    /// # Errors
    /// A failure undoes the whole call.
    fn batch(&mut self, batch: &Batch<'_>, outcomes: &mut Outcomes) -> Result<(), Failure> {
        for message in batch.messages() {
            log::about(Some(&message));
            outcomes.answer(self.each(message))?;
        }
        log::about(None);
        Ok(())
    }

    /// What the checks of single keys cannot see, such as two that exclude each other. Pure: no capability is there.
    /// What it finds is shown before the plugin is opened, and fails the opening.
    #[must_use]
    fn check(settings: &Self::Config) -> Vec<Verdict> {
        let _ = settings;
        Vec::new()
    }
}

/// Makes a type the transform that this component exports. Called once, at the top of a crate of type `cdylib`.
#[macro_export]
macro_rules! export_transform {
    ($plugin:ty) => {
        #[allow(unsafe_code, reason = "made from the contract")]
        const _: () = {
            use $crate::bindings::columns::exports::culvert::plugin as contract;
            use $crate::bindings::meta::exports::culvert::plugin::meta;

            ::std::thread_local! {
                static PLUGIN: $crate::slot::Slot<$plugin> = const { $crate::slot::Slot::new() };
            }

            struct Exported;

            impl meta::Guest for Exported {
                fn describe() -> meta::Description {
                    type Settings = <$plugin as $crate::Transform>::Config;
                    $crate::description::<Settings>(&<$plugin as $crate::Transform>::ABOUT)
                }

                fn validate(values: ::std::vec::Vec<$crate::Value>) -> ::std::vec::Vec<$crate::Verdict> {
                    $crate::config::validated(&values, <$plugin as $crate::Transform>::check)
                }
            }

            impl contract::transform_columns::Guest for Exported {
                fn open(
                    values: ::std::vec::Vec<$crate::Value>,
                ) -> ::std::result::Result<(), $crate::Failure> {
                    $crate::panics::report();
                    let plugin = $crate::transform::open::<$plugin>(&values)?;
                    PLUGIN.with(|slot| slot.put(plugin));
                    ::std::result::Result::Ok(())
                }

                fn process(
                    batch: contract::transform_columns::Columns,
                ) -> ::std::result::Result<contract::transform_columns::Results, $crate::Failure> {
                    PLUGIN.with(|slot| slot.with(|plugin| $crate::transform::process(plugin, &batch))?)
                }
            }

            $crate::__export_role!(Exported, columns, contract::transform_columns::Guest);
        };
    };
}

/// What the exported `open` does.
#[doc(hidden)]
pub fn open<T: Transform>(values: &[Value]) -> Result<T, Failure> {
    T::open(config::opened(values, T::check)?)
}

/// What the exported `process` does.
#[doc(hidden)]
pub fn process<T: Transform>(plugin: &mut T, columns: &Columns) -> Result<Results, Failure> {
    let batch = Batch::new(columns, T::ABOUT.needs)?;
    let mut outcomes = Outcomes::with_room(batch.len());
    plugin.batch(&batch, &mut outcomes)?;
    if outcomes.len() != batch.len() {
        return Err(Failure::fatal(format!(
            "plugin {} gave {} outcomes for {} messages; it must give one for each",
            T::ABOUT.name,
            outcomes.len(),
            batch.len()
        )));
    }
    Ok(outcomes.into_results())
}

//! A stage that counts what it has seen, and keeps the count in its store. A stage has none: the gateway says so before it
//! runs anything, and that is what this plugin is for.

use culvert_plugin::prelude::*;
use culvert_plugin::{Ask, Capability, state};

/// No settings.
#[derive(Config)]
struct Settings {}

/// The plugin.
struct Tally;

impl Transform for Tally {
    type Config = Settings;

    const ABOUT: About = culvert_plugin::about!().asks(&[Ask {
        what: Capability::State,
        because: "keeps a count",
    }]);

    fn open(_: Settings) -> Result<Tally, Failure> {
        Ok(Tally)
    }

    fn each(&mut self, _: Message<'_>) -> Answer {
        let held = state::get(&[b"count"]).or_reject("state", "the store cannot be read")?;
        let held = held.into_iter().flatten().next().unwrap_or_default();
        let more = [held.as_slice(), b"|"].concat();
        state::put(&[(b"count", Some(&more))]).or_reject("state", "the store is full")?;
        Ok(Outcome::Keep)
    }
}

culvert_plugin::export_transform!(Tally);

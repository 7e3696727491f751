#![doc = include_str!("../README.md")]

mod date;
mod envelope;
mod json;
mod number;
mod record;
mod settings;
mod step;

use culvert_plugin::prelude::*;
use record::{Changes, Record};
use settings::{Given, Settings};
use step::{Flow, Step};

/// The plugin: steps, each with its name.
struct ConnectTransforms {
    steps: Vec<(String, Box<dyn Step>)>,
}

impl ConnectTransforms {
    fn of(given: &[Given]) -> Result<ConnectTransforms, Failure> {
        let mut steps = Vec::with_capacity(given.len());
        for given in given {
            let step = step::open(given).map_err(|mistakes| settings::failure(given, &mistakes))?;
            steps.push((given.name.clone(), step));
        }
        Ok(ConnectTransforms { steps })
    }

    /// What all steps together change; nothing where one drops the record.
    fn apply<'a>(&'a self, mut record: Record<'a>) -> Result<Option<Changes<'a>>, Rejection> {
        for (name, step) in &self.steps {
            let flow = step.apply(&mut record).map_err(|why| self.named(name, why))?;
            if flow == Flow::Dropped {
                return Ok(None);
            }
        }
        Ok(Some(record.changes()))
    }

    /// Of several steps the reason says which.
    fn named(&self, name: &str, why: Rejection) -> Rejection {
        if self.steps.len() == 1 || name.is_empty() {
            return why;
        }
        Rejection {
            reason: format!("stage {name}: {}", why.reason),
            ..why
        }
    }
}

impl Transform for ConnectTransforms {
    type Config = Settings;

    const ABOUT: About = culvert_plugin::about!()
        .documentation(include_str!("../README.md"))
        .promises(Promises::DETERMINISTIC.union(Promises::STATELESS));

    fn open(settings: Settings) -> Result<ConnectTransforms, Failure> {
        ConnectTransforms::of(&settings.steps)
    }

    fn each(&mut self, message: Message<'_>) -> Answer {
        Ok(match self.apply(Record::of(&message))? {
            Some(changes) => changes.outcome(&message),
            None => Outcome::Drop,
        })
    }
}

culvert_plugin::export_transform!(ConnectTransforms);

#[cfg(test)]
mod tests;

//! Plays a failing batch again: the same plugin or another, given the answers that were recorded. Nothing outside is touched.

use super::failure::{FileError, Recorded, Seen};
use culvert_host::{Engine, LoadError, LogSink, OpenError, Options, Surroundings, Tape, Transform};
use culvert_proto::columns::Outcome;
use serde::Serialize;
use std::sync::Arc;

/// What came of it now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// How it failed; none where it did not.
    pub fault: Option<Seen>,
    /// Where it did not fail, what became of each record.
    pub outcomes: Vec<String>,
    /// Where it asked for something else than was recorded.
    pub strayed: Option<String>,
    /// How many recorded answers it did not ask for.
    pub answers_left: usize,
}

impl Replayed {
    /// Whether the very fault was seen again that was recorded.
    #[must_use]
    pub fn is_same(&self, recorded: &Recorded) -> bool {
        self.strayed.is_none() && self.fault.as_ref() == Some(&recorded.fault)
    }
}

/// Why it was not played.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The plugin cannot be run.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The recording.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Opens `component` as it was opened then, and shows it the batch.
///
/// # Errors
/// When the component is no plugin that can be run, or the recording is damaged.
pub fn replay(recorded: &Recorded, component: &[u8], log: Arc<dyn LogSink>) -> Result<Replayed, ReplayError> {
    let (batch, tape) = (recorded.columns()?, Tape::playing(recorded.acts()?));
    let plugin = Engine::new(Options::default())?.load(component)?;
    let around = Surroundings::new(log).taped(tape.clone());
    let opened = Transform::open(&plugin, &recorded.settings(), recorded.limits(), around);
    let answer = match opened {
        Ok(mut transform) => transform
            .once(&recorded.stream(), &batch)
            .map_err(|fault| Seen::from(&fault)),
        Err(OpenError::Load(error)) => return Err(error.into()),
        Err(error) => Err(Seen {
            kind: "open".into(),
            text: error.to_string(),
        }),
    };
    let (fault, outcomes) = match answer {
        Ok(outcomes) => (None, outcomes.iter().map(word).collect()),
        Err(fault) => (Some(fault), Vec::new()),
    };
    Ok(Replayed {
        fault,
        outcomes,
        strayed: tape.strayed(),
        answers_left: tape.left(),
    })
}

fn word(outcome: Outcome<'_>) -> String {
    match outcome {
        Outcome::Keep => "keep".into(),
        Outcome::Value(_) => "replace".into(),
        Outcome::Drop => "drop".into(),
        Outcome::Reject(rejection) => format!("reject {}: {}", rejection.code, rejection.reason),
        Outcome::Rewrite(made) => format!("rewrite to {}", made.len()),
    }
}

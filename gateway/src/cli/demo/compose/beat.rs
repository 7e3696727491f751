//! How a service of the demo says that it is well: a file that it writes again and again, and a cheap look at it.
//!
//! ```text
//! {"well":true,"says":"100,000 records, clean"}     written by rename; its age counts
//! ```

use super::duration;
use crate::cli::{Exit, Session, exit};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Say what a service of the demo last said of itself
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The file that the service was given with --beat
    file: PathBuf,
    /// How old it may be
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    within: Duration,
}

/// What a service says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Word {
    well: bool,
    says: String,
}

/// Writes the file, where there is to be one.
pub(super) struct Beat(Option<PathBuf>);

impl Beat {
    pub(super) fn new(file: Option<PathBuf>) -> Beat {
        Beat(file)
    }

    /// # Errors
    /// The file cannot be written.
    pub(super) fn say(&self, well: bool, says: &str) -> anyhow::Result<()> {
        let Some(file) = &self.0 else { return Ok(()) };
        let says = says.to_owned();
        let fresh = file.with_extension("new");
        fs::write(&fresh, serde_json::to_vec(&Word { well, says })?)
            .and_then(|()| fs::rename(&fresh, file))
            .with_context(|| format!("write {}", file.display()))
    }
}

/// Ends with 0 when the service was well a moment ago.
pub(super) fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let word = look(&args.file, args.within)?;
    session.terminal.answer(&word.says)?;
    Ok(if word.well { Exit::Ok } else { Exit::Failed })
}

fn look(file: &Path, within: Duration) -> anyhow::Result<Word> {
    let absent = || exit::Absent(format!("nothing was said yet in {}", file.display()).into());
    let bytes = fs::read(file).with_context(absent)?;
    let age = fs::metadata(file)?.modified()?.elapsed().unwrap_or_default();
    if age > within {
        bail!("the last word is {} s old", age.as_secs());
    }
    serde_json::from_slice(&bytes).with_context(|| format!("read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fresh_word_counts() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("beat.json");
        assert!(look(&file, Duration::MAX).is_err(), "nothing was said");
        let beat = Beat::new(Some(file.clone()));
        for (well, says) in [(true, "clean"), (false, "3 missing")] {
            beat.say(well, says).unwrap();
            let says = says.to_owned();
            assert_eq!(look(&file, Duration::MAX).unwrap(), Word { well, says });
        }
        let hour = std::time::SystemTime::now() - Duration::from_secs(3_600);
        fs::File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_modified(hour)
            .unwrap();
        let error = look(&file, Duration::from_secs(30)).unwrap_err().to_string();
        assert!(error.starts_with("the last word is 3"), "{error}");
        Beat::new(None).say(true, "to nobody").unwrap();
    }
}

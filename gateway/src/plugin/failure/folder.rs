//! The folder of the newest failures.

use super::super::plan::PluginPlan;
use super::{Batch, Bounds, FILE_BYTES_MAX, Named, Recorded, Setting, Step};
use culvert_host::{CONTRACT, Failure, FieldType, Plugin};
use parking_lot::Mutex;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The most failures that are kept.
pub const KEPT_MAX: u16 = 100;

/// Once the folder is full, how often an old one gives way at most: a stream in which every record fails is not to keep the
/// disk at work. By eye.
const PAUSE: Duration = Duration::from_secs(1);

const EXTENSION: &str = "failure";

/// Where failing batches are kept, the newest only.
pub struct Failures {
    folder: PathBuf,
    kept_max: usize,
    pause: Duration,
    turn: Mutex<Turn>,
}

#[derive(Default)]
struct Turn {
    written: u64,
    last: Option<Instant>,
}

impl Failures {
    /// In `folder`, which is made when the first one is recorded, at most `kept_max` of them.
    #[must_use]
    pub fn new(folder: PathBuf, kept_max: u16) -> Failures {
        Failures {
            folder,
            kept_max: kept_max.min(KEPT_MAX).into(),
            pause: PAUSE,
            turn: Mutex::default(),
        }
    }

    #[cfg(test)]
    pub(super) fn pausing(self, pause: Duration) -> Failures {
        Failures { pause, ..self }
    }

    /// Whether another one is kept by now.
    fn has_room(&self) -> bool {
        let turn = self.turn.lock();
        let is_full = turn.written >= self.kept_max as u64;
        !is_full || turn.last.is_none_or(|last| last.elapsed() >= self.pause)
    }

    /// Writes one and removes the oldest.
    pub(super) fn keep(&self, recorded: &Recorded, file: &[u8]) -> io::Result<PathBuf> {
        let mut turn = self.turn.lock();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)?;
        let (at, number) = (recorded.recorded_ms.max(0), turn.written % 10_000);
        let name = format!("{at:014}-{number:04}-{}.{EXTENSION}", plain(&recorded.plugin));
        let path = self.folder.join(&name);
        let fresh = self.folder.join(format!(".{name}"));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let written = options
            .open(&fresh)
            .and_then(|mut open| open.write_all(file))
            .and_then(|()| std::fs::rename(&fresh, &path));
        if let Err(error) = written {
            let _ = std::fs::remove_file(&fresh);
            return Err(error);
        }
        turn.written += 1;
        turn.last = Some(Instant::now());
        let mut others = kept(&self.folder)?;
        // It stays, also where the clock was set back and the others look newer.
        others.retain(|other| *other != path);
        let surplus = (others.len() + 1).saturating_sub(self.kept_max);
        others[..surplus.min(others.len())]
            .iter()
            .try_for_each(std::fs::remove_file)?;
        Ok(path)
    }
}

/// Its failures, the oldest first.
fn kept(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn plain(name: &str) -> String {
    let is_plain = |letter: &char| letter.is_ascii_alphanumeric() || *letter == '-';
    name.chars().filter(is_plain).take(100).collect()
}

/// Records failures of one stage of one connector.
pub(in super::super) struct Recorder {
    pub(in super::super) failures: Arc<Failures>,
    pub(in super::super) connector: Arc<str>,
    pub(in super::super) stage: Arc<str>,
    pub(in super::super) plugin: Plugin,
    pub(in super::super) plan: PluginPlan,
}

impl culvert_host::Failures for Recorder {
    fn failed(&self, failure: &Failure<'_>) {
        let (connector, stage) = (&*self.connector, &*self.stage);
        if !self.failures.has_room() {
            return;
        }
        let recorded = match self.recorded(failure) {
            Ok(recorded) => recorded,
            Err(reason) => {
                return tracing::info!(connector, stage, reason, "a failing batch is not recorded");
            }
        };
        let bytes = recorded.write();
        if bytes.len() > FILE_BYTES_MAX {
            let reason = "it would be more than 8 MiB";
            return tracing::info!(connector, stage, reason, "a failing batch is not recorded");
        }
        match self.failures.keep(&recorded, &bytes) {
            Ok(path) => {
                let (file, fault) = (path.display(), failure.fault);
                tracing::info!(connector, stage, %file, %fault, "a failing batch is recorded");
            }
            Err(error) => tracing::warn!(
                connector,
                stage,
                folder = %self.failures.folder.display(),
                %error,
                "[CULVERT-W064] a failing batch is not recorded"
            ),
        }
    }
}

impl Recorder {
    /// # Errors
    /// Why it cannot be recorded.
    fn recorded(&self, failure: &Failure<'_>) -> Result<Recorded, String> {
        let acts = failure.acts.map_err(str::to_owned)?;
        let description = &self.plugin.description;
        let settings = self.settings();
        let mut texts = settings.iter().filter_map(|setting| setting.value.as_deref());
        if texts.any(|text| failure.has_secret(text.as_bytes())) {
            return Err("a secret is in a setting that is no password".into());
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Recorded {
            contract: CONTRACT.into(),
            recorded_ms: i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            connector: self.connector.to_string(),
            stage: self.stage.to_string(),
            plugin: description.name.clone(),
            version: description.version.clone(),
            digest: self.plugin.digest.to_string(),
            fault: failure.fault.into(),
            batches_before: failure.batches_before,
            settings,
            limits: Bounds::of(&self.plan.limits),
            stream: Named {
                id: failure.stream.id.into(),
                topic: failure.stream.topic.into(),
                partition: failure.stream.partition,
            },
            batch: Batch::of(failure.batch),
            acts: acts.iter().map(Step::of).collect(),
        })
    }

    fn settings(&self) -> Vec<Setting> {
        let fields = &self.plugin.description.fields;
        let is_password = |name: &str| {
            let mut fields = fields.iter().filter(|field| field.name == name);
            fields.any(|field| field.kind == FieldType::Password)
        };
        let setting = |(name, value): &(String, Option<String>)| {
            let left_out = value.is_some() && is_password(name);
            Setting {
                name: name.clone(),
                value: value.clone().filter(|_| !left_out),
                left_out,
            }
        };
        self.plan.settings.iter().map(setting).collect()
    }
}

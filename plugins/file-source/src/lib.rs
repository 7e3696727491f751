#![doc = include_str!("../README.md")]

mod follow;

use culvert_plugin::files;
use culvert_plugin::prelude::*;
use culvert_plugin::source::{Limits, Page, ResumePoint, Source};
use follow::{Follower, Place};
use std::time::Duration;

/// The settings: those of Kafka's `FileStreamSource`, and a few more.
#[derive(Config)]
struct Settings {
    /// The file whose lines are read. It need not be there yet.
    #[config(non_empty, importance = "high", grants = ["files.read"], example = "/var/log/app.log")]
    file: String,
    /// The topic of the records.
    #[config(non_empty, importance = "high", example = "app-log")]
    topic: String,
    /// The most lines of one page.
    #[config(
        name = "batch.size",
        default = 2000,
        min = 1,
        max = 100_000,
        importance = "low"
    )]
    batch_size: i32,
    /// The longest line. A longer one stops the connector.
    #[config(name = "line.max", default = "1MiB", importance = "low")]
    line_max: Size,
    /// How long to wait where nothing new was found.
    #[config(name = "poll.interval", default = "1s", importance = "low")]
    poll_interval: Duration,
}

/// The plugin.
struct FileSource {
    settings: Settings,
    follower: Follower,
}

impl Source for FileSource {
    type Config = Settings;

    const ABOUT: About = culvert_plugin::about!()
        .documentation(include_str!("../README.md"))
        .promises(Promises::REPLAYABLE)
        .asks(&[Ask {
            what: Capability::Files,
            because: "reads the file, and those it is rotated to",
        }]);

    fn open(settings: Settings, resume: Vec<ResumePoint>) -> Result<FileSource, Failure> {
        let partition = partition(&settings.file);
        let point = resume
            .iter()
            .find(|point| same_object(&point.partition, &partition));
        let place = match point {
            Some(point) => Some(serde_json::from_str::<Place>(&point.offset).map_err(|error| {
                Failure::fatal(format!(
                    "the resume point {} is none of this plugin: {error}",
                    point.offset
                ))
            })?),
            None => None,
        };
        let line_max = usize::try_from(settings.line_max.0).unwrap_or(usize::MAX);
        let follower = Follower::new(&settings.file, place, line_max);
        Ok(FileSource { settings, follower })
    }

    fn poll(&mut self, limits: Limits) -> Result<Page, Failure> {
        let most = limits
            .messages
            .min(u32::try_from(self.settings.batch_size).unwrap_or(1));
        let lines = self.follower.lines(most as usize, limits.bytes)?;
        let mut page = Page::empty();
        if lines.is_empty() {
            page = page.idle(self.settings.poll_interval);
        }
        if let Some(place) = self.follower.moved() {
            let offset = serde_json::to_string(&place).map_err(|error| Failure::fatal(error.to_string()))?;
            page.resume(partition(&self.settings.file), offset);
        }
        for line in lines {
            page.add(NewMessage::new(line).topic(self.settings.topic.as_str()));
        }
        Ok(page)
    }

    fn check(settings: &Settings) -> Vec<Verdict> {
        let most = u64::from(files::READ_MAX);
        let is_fine = (1..=most).contains(&settings.line_max.0);
        let verdict = || Verdict::error("line.max", "is not between 1 and 4MiB");
        (!is_fine).then(verdict).into_iter().collect()
    }
}

/// As Kafka's `FileStreamSource` names it.
fn partition(file: &str) -> String {
    serde_json::json!({ "filename": file }).to_string()
}

fn same_object(one: &str, other: &str) -> bool {
    let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    read(one).is_some() && read(one) == read(other)
}

culvert_plugin::export_source!(FileSource);

#[cfg(test)]
mod tests;

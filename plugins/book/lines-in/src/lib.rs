//! Brings the lines of a file.

use culvert_plugin::files::{self, Error};
use culvert_plugin::prelude::*;
use culvert_plugin::source::{Limits, Page, ResumePoint, Source};
use serde_json::{Value, json};
use std::time::Duration;

/// The longest line, in bytes.
const LINE_MAX: u32 = 1 << 20;

#[derive(Config)]
struct Settings {
    /// The file whose lines are read. It need not be there yet.
    #[config(non_empty, importance = "high", grants = ["files.read"], example = "/var/log/app.log")]
    file: String,
    /// The topic of the records.
    #[config(non_empty, importance = "high", example = "app-log")]
    topic: String,
}

struct LinesIn {
    settings: Settings,
    /// The byte behind the last line that was read.
    at: u64,
}

impl Source for LinesIn {
    type Config = Settings;

    const ABOUT: About = culvert_plugin::about!()
        .promises(Promises::REPLAYABLE)
        .asks(&[Ask {
            what: Capability::Files,
            because: "reads the file",
        }]);

    fn open(settings: Settings, resume: Vec<ResumePoint>) -> Result<LinesIn, Failure> {
        let own = partition(&settings.file);
        let at = match resume.iter().find(|point| point.partition == own) {
            Some(point) => byte(&point.offset)
                .ok_or_else(|| Failure::fatal(format!("{} is no resume point of mine", point.offset)))?,
            None => 0,
        };
        Ok(LinesIn { settings, at })
    }

    fn poll(&mut self, limits: Limits) -> Result<Page, Failure> {
        let most = limits.bytes.clamp(LINE_MAX, files::READ_MAX);
        let bytes = match files::read(&self.settings.file, self.at, most) {
            Ok(piece) => piece.bytes,
            Err(Error::Missing) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        // What has no line break yet is read again, when it is whole.
        let lines: Vec<&[u8]> = bytes
            .split_inclusive(|byte| *byte == b'\n')
            .filter_map(|line| line.strip_suffix(b"\n"))
            .take(limits.messages as usize)
            .collect();
        let mut page = Page::empty();
        if lines.is_empty() {
            return match bytes.len() < most as usize {
                true => Ok(page.idle(Duration::from_secs(1))),
                false => Err(Failure::fatal(format!("a line is longer than {most} bytes"))),
            };
        }
        self.at += lines.iter().map(|line| line.len() as u64 + 1).sum::<u64>();
        page.resume(
            partition(&self.settings.file),
            json!({ "byte": self.at }).to_string(),
        );
        for line in lines {
            page.add(NewMessage::new(line).topic(self.settings.topic.as_str()));
        }
        Ok(page)
    }
}

fn partition(file: &str) -> String {
    json!({ "file": file }).to_string()
}

fn byte(offset: &str) -> Option<u64> {
    serde_json::from_str::<Value>(offset).ok()?.get("byte")?.as_u64()
}

culvert_plugin::export_source!(LinesIn);

#[cfg(test)]
mod tests;

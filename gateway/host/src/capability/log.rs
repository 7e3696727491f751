//! Lines for the connector's log.

use crate::bindings::capabilities::culvert::plugin::log;
use crate::grants::Veil;
use crate::guest::Meter;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What reaches the log in one second, of one instance.
const LINES_MAX: u64 = 100;
const BYTES_MAX: usize = 64 * 1024;
const WINDOW: Duration = Duration::from_secs(1);

/// The longest line.
const LINE_BYTES_MAX: usize = 4 * 1024;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the usual ones")]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// One line of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// How much it matters.
    pub level: Level,
    /// What it says: one line, at most 4 KiB.
    pub text: &'a str,
    /// The place of the record it is about.
    pub sequence: Option<u64>,
}

/// Where lines go.
pub trait LogSink: Send + Sync {
    /// Takes one line. Called from the thread that runs the plugin.
    fn line(&self, line: &Line<'_>);
}

/// Takes nothing.
pub(crate) struct NoLog;

impl LogSink for NoLog {
    fn line(&self, _line: &Line<'_>) {}
}

/// The log of one instance.
pub(crate) struct Logbook {
    sink: Arc<dyn LogSink>,
    veil: Veil,
    meter: Arc<Meter>,
    /// Places of the batch at hand.
    from: u64,
    sequences: Vec<u64>,
    window: Instant,
    lines: u64,
    bytes: usize,
    suppressed: u64,
    last_error: Option<String>,
}

impl Logbook {
    pub(crate) fn new(sink: Arc<dyn LogSink>, veil: Veil, meter: Arc<Meter>) -> Logbook {
        Logbook {
            sink,
            veil,
            meter,
            from: 0,
            sequences: Vec::new(),
            window: Instant::now(),
            lines: 0,
            bytes: 0,
            suppressed: 0,
            last_error: None,
        }
    }

    /// The next lines are about this batch.
    pub(crate) fn about(&mut self, from: u64, sequences: &[u64]) {
        self.from = from;
        self.sequences.clear();
        self.sequences.extend_from_slice(sequences);
        self.last_error = None;
    }

    /// The next lines are about no batch: the number of a message says nothing.
    pub(crate) fn about_nothing(&mut self) {
        self.about(u64::MAX, &[]);
    }

    /// What a trap that follows may have been about: an SDK writes a panic's text before it traps.
    pub(crate) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    fn write(&mut self, level: Level, text: &str, message: Option<u32>) {
        let text = one_line(&self.veil.over(text));
        if level == Level::Error {
            self.last_error = Some(text.clone());
        }
        if self.window.elapsed() >= WINDOW {
            self.tell_suppressed();
            (self.window, self.lines, self.bytes) = (Instant::now(), 0, 0);
        }
        if self.lines >= LINES_MAX || self.bytes + text.len() > BYTES_MAX {
            self.suppressed += 1;
            return;
        }
        self.lines += 1;
        self.bytes += text.len();
        let sequence = message.and_then(|number| match self.sequences.get(number as usize) {
            Some(sequence) => Some(*sequence),
            None if self.sequences.is_empty() && self.from < u64::MAX => self.from.checked_add(number.into()),
            None => None,
        });
        let text = &text;
        self.sink.line(&Line {
            level,
            text,
            sequence,
        });
    }

    fn tell_suppressed(&mut self) {
        let suppressed = std::mem::take(&mut self.suppressed);
        if suppressed > 0 {
            self.meter.suppressed(suppressed);
            let text =
                &format!("{suppressed} lines above {LINES_MAX} or {BYTES_MAX} bytes a second left out");
            self.sink.line(&Line {
                level: Level::Warn,
                text,
                sequence: None,
            });
        }
    }
}

impl Drop for Logbook {
    fn drop(&mut self) {
        self.tell_suppressed();
    }
}

/// A text that cannot forge a second line, nor fill the log by itself.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(LINE_BYTES_MAX));
    for character in text.chars() {
        if line.len() + 4 > LINE_BYTES_MAX {
            line.push('…');
            break;
        }
        line.push(if character.is_control() { ' ' } else { character });
    }
    line
}

impl log::Host for Logbook {
    fn write(&mut self, level: log::Level, text: String, message: Option<u32>) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        self.write(level, &text, message);
        Ok(())
    }
}

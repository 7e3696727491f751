//! What the demo shows while it runs, on standard error: on a terminal one block that is redrawn below the events,
//! elsewhere plain lines.

use super::network::GATEWAYS;
use super::watch::Picture;
use crate::cli::Terminal;
use crate::cli::words::{bytes, seconds, thousands};
use indicatif::{ProgressBar, ProgressStyle};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// The eyes of whoever watches.
pub(super) struct View {
    terminal: Terminal,
    block: Option<ProgressBar>,
    began: Instant,
    last_line: Option<Instant>,
    /// The link between gateways 1 and 2 is cut since then.
    pub(super) cut_since: Option<Instant>,
    /// What else is broken, in words.
    pub(super) broken: Vec<String>,
    /// How many records there will be.
    records: u64,
}

/// Where nothing can be redrawn, a line so often.
const LINE_EVERY: Duration = Duration::from_secs(2);

impl View {
    pub(super) fn new(terminal: Terminal, records: u64) -> View {
        let block = terminal.is_moving().then(|| {
            let style = ProgressStyle::with_template("{msg}").expect("the template is a constant");
            ProgressBar::new_spinner().with_style(style)
        });
        View {
            terminal,
            block,
            began: Instant::now(),
            last_line: None,
            cut_since: None,
            broken: Vec::new(),
            records,
        }
    }

    /// Says that something happened.
    pub(super) fn event(&self, what: &str) {
        let line = format!("{}  {what}", self.clock());
        match &self.block {
            Some(block) => block.println(line),
            None => self.terminal.note(line),
        }
    }

    /// Shows where everything is now.
    pub(super) fn show(&mut self, picture: &Picture) {
        if let Some(block) = &self.block {
            block.set_message(self.block_of(picture));
        } else if self.last_line.is_none_or(|last| last.elapsed() >= LINE_EVERY) {
            self.last_line = Some(Instant::now());
            self.terminal
                .note(format!("{}  {}", self.clock(), self.line_of(picture)));
        }
    }

    /// Takes the block away: what follows is the answer.
    pub(super) fn close(&self) {
        if let Some(block) = &self.block {
            block.finish_and_clear();
        }
    }

    /// Seconds since the demo began.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn clock(&self) -> String {
        format!("{:5.1} s", self.began.elapsed().as_secs_f64())
    }

    fn line_of(&self, picture: &Picture) -> String {
        format!(
            "taken in {} ({}), delivered {} ({}), backlog {}, {}, runway {}",
            thousands(picture.taken_in()),
            rate(picture.rates[0]),
            thousands(picture.delivered()),
            rate(picture.rates[1]),
            thousands(picture.backlog()),
            self.link(picture),
            self.runway(picture),
        )
    }

    /// Once everything is taken in, nothing fills the outbox any more.
    fn runway(&self, picture: &Picture) -> String {
        if picture.taken_in() >= self.records {
            return "without end".into();
        }
        runway(picture)
    }

    fn block_of(&self, picture: &Picture) -> String {
        let gateways: Vec<String> = (0..GATEWAYS)
            .map(|index| {
                let state = if picture.ready[index] { "up" } else { "DOWN" };
                format!(
                    "gw{} {state}, holds {}",
                    index + 1,
                    bytes(picture.held_bytes[index])
                )
            })
            .collect();
        let mut text = format!(
            "\n{}  {}\n  {}\n  taken in   {:>11} of {}  {:>10}\n  delivered  {:>11} of {}  {:>10}  {}\n  \
             backlog    {:>11} records   runway {}",
            self.clock(),
            self.link(picture),
            gateways.join("   "),
            thousands(picture.taken_in()),
            thousands(self.records),
            rate(picture.rates[0]),
            thousands(picture.delivered()),
            thousands(self.records),
            rate(picture.rates[1]),
            bar(picture.delivered(), picture.taken_in(), self.records),
            thousands(picture.backlog()),
            self.runway(picture),
        );
        for (stream, span) in &picture.streams {
            let _ = write!(
                text,
                "\n  {stream:<20} taken in {:>9}   delivered {:>9}",
                thousands(span.taken_in),
                thousands(span.delivered)
            );
        }
        text
    }

    fn link(&self, picture: &Picture) -> String {
        let first = match (self.cut_since, picture.links[0]) {
            (Some(since), _) => format!("CUT for {:.1} s", since.elapsed().as_secs_f64()),
            (None, true) => "up".into(),
            (None, false) => "down".into(),
        };
        let second = if picture.links[1] { "up" } else { "down" };
        let broken: String = self.broken.iter().map(|what| format!(", {what}")).collect();
        format!("link gw1-gw2 {first}, gw2-gw3 {second}{broken}")
    }
}

fn rate(records_per_second: f64) -> String {
    format!("{}/s", thousands(records_per_second.round() as u64))
}

pub(super) fn runway(picture: &Picture) -> String {
    picture
        .runway()
        .map_or("not measured yet".into(), |runway| seconds(runway.as_secs()))
}

/// `######------........`: delivered, on the way, still to come.
fn bar(delivered: u64, taken_in: u64, records: u64) -> String {
    const WIDTH: u64 = 30;
    let cells = |count: u64| {
        let cells = count.min(records).saturating_mul(WIDTH) / records.max(1);
        usize::try_from(cells).unwrap_or(0)
    };
    let (delivered, taken_in) = (cells(delivered), cells(taken_in));
    let rest = cells(records) - taken_in.max(delivered);
    "#".repeat(delivered) + &"-".repeat(taken_in.saturating_sub(delivered)) + &".".repeat(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_always_as_wide() {
        for (delivered, taken_in, records, expected) in [
            (0, 0, 30, "."),
            (10, 20, 30, "##########----------.........."),
            (30, 30, 30, "##############################"),
            (31, 30, 30, "##############################"),
            (31, 40, 30, "##############################"),
        ] {
            let shown = bar(delivered, taken_in, records);
            assert_eq!(shown.len(), 30, "{shown}");
            assert!(shown.starts_with(expected), "{shown}");
        }
    }
}

//! Standard output and standard error: the only place of the program that prints.

use crate::config::Environment;
use clap::ValueEnum;
use serde::Serialize;
use std::fmt::Display;
use std::io::{IsTerminal, Write};

/// How an answer looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON value.
    Json,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On terminals, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What a word is, and so its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Worth a look.
    Warning,
    /// Wrong.
    Bad,
    /// A heading.
    Strong,
    /// Beside the point.
    Dim,
}

/// Where answers and notes go, and how they may look there.
#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    format: Format,
    color_out: bool,
    color_err: bool,
    moving: bool,
}

impl Terminal {
    /// For this process's own streams.
    #[must_use]
    pub fn new(format: Format, color: Color, environment: &Environment) -> Terminal {
        let can = |terminal: bool| match color {
            Color::Auto => terminal && !environment.no_color() && !environment.dumb_terminal(),
            Color::Always => true,
            Color::Never => false,
        };
        let (out, err) = (std::io::stdout().is_terminal(), std::io::stderr().is_terminal());
        Terminal {
            format,
            color_out: can(out),
            color_err: can(err),
            moving: err && !environment.dumb_terminal(),
        }
    }

    /// How answers are to look.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether progress may move on standard error.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        self.moving
    }

    /// Whether log lines on standard error may be coloured.
    #[must_use]
    pub fn colors_notes(&self) -> bool {
        self.color_err
    }

    /// Prints an answer, or a part of it.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub fn answer(&self, text: impl Display) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()
    }

    /// Prints an answer as JSON.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub fn json(&self, value: &impl Serialize) -> std::io::Result<()> {
        self.answer(serde_json::to_string_pretty(value).map_err(std::io::Error::other)?)
    }

    /// Says something beside the answer. A closed standard error is no reason to stop.
    pub fn note(&self, text: impl Display) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// Says what went wrong: the causes on one line, then the hints that stand in them behind a blank line.
    pub fn error(&self, error: &anyhow::Error) {
        self.note(format_args!(
            "{} {}",
            paint("error:", Tone::Bad, self.color_err),
            spell(error)
        ));
    }

    /// `text` in the colour of its tone, if standard output may be coloured.
    #[must_use]
    pub fn paint(&self, text: &str, tone: Tone) -> String {
        paint(text, tone, self.color_out)
    }
}

fn spell(error: &anyhow::Error) -> String {
    let (mut causes, mut hints) = (Vec::new(), Vec::new());
    for cause in error.chain() {
        let text = cause.to_string();
        let (cause, hint) = text.split_once("\n\n").unwrap_or((&text, ""));
        // Some errors repeat their source in their own text.
        if !causes.iter().any(|said: &String| said.contains(cause)) {
            causes.push(cause.to_owned());
        }
        hints.extend((!hint.is_empty()).then(|| format!("\n\n{hint}")));
    }
    causes.join(": ") + &hints.concat()
}

fn paint(text: &str, tone: Tone, color: bool) -> String {
    let code = match tone {
        _ if !color => return text.to_owned(),
        Tone::Good => "32",
        Tone::Warning => "33",
        Tone::Bad => "1;31",
        Tone::Strong => "1",
        Tone::Dim => "2",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_come_before_hints() {
        let inner = std::io::Error::other("no route");
        let error = anyhow::Error::new(inner)
            .context("reach gw1 [CULVERT-C020]\n\nIs it on?")
            .context("ask");
        assert_eq!(
            spell(&error),
            "ask: reach gw1 [CULVERT-C020]: no route\n\nIs it on?"
        );
    }
}

//! A sink of files that keeps what it promises, and breaks one promise where `fault` says so: what the gateway's tests, and
//! those of `culvert plugin test`, look for.
//!
//! ```text
//! FILE        stream \t sequence \t value, a line each; dead letters begin with !code \t
//! FILE.state  writer, length of FILE that counts, then a line each: stream \t incarnation \t place \t note
//! ```
//!
//! A value of `panic`, `spin` or `refuse` is obeyed.

use culvert_plugin::files::{self, Condition, Error};
use culvert_plugin::prelude::*;
use culvert_plugin::sink::{Batch, PutError, Refusal, Sink, Token};
use std::fmt::Write as _;

/// What is broken.
#[derive(Choice, Clone, Copy, PartialEq)]
enum Fault {
    /// Nothing.
    None,
    /// Tokens are stored before the data.
    TokenFirst,
    /// What was written and never counted is not cut off.
    NoTruncate,
    /// Whoever writes is the writer.
    IgnoresWriter,
    /// Tokens are not given back.
    ForgetsToken,
    /// Tokens move from anywhere.
    IgnoresFrom,
    /// Each batch is written twice.
    AppliesTwice,
    /// The last message of a call is left out.
    DropsLast,
    /// A refused message is named and the others are written all the same.
    WritesRefused,
    /// A call without messages stores no tokens.
    SkipsEmpty,
}

#[derive(Config)]
struct Settings {
    /// The file that lines are added to.
    #[config(non_empty, grants = ["files.read", "files.write"], example = "/var/lib/culvert/leaky.txt")]
    file: String,
    /// What is broken.
    #[config(default = "none")]
    fault: Fault,
}

struct Leaky {
    settings: Settings,
    writer: String,
}

/// What lies in `FILE.state`.
#[derive(Default)]
struct State {
    writer: String,
    length: u64,
    /// Stream, incarnation, place, note in hexadecimal.
    tokens: Vec<(String, u32, u64, String)>,
}

impl Sink for Leaky {
    type Config = Settings;

    const ABOUT: About = About::new("leaky-sink", "0.1.0", "Keeps every promise but one")
        .promises(Promises::TRANSACTIONAL)
        .keeps_dead_letters()
        .asks(&[Ask {
            what: Capability::Files,
            because: "writes its file",
        }]);

    fn open(settings: Settings, writer: Vec<u8>) -> Result<(Leaky, Vec<Token>), Failure> {
        let writer = hex(&writer);
        let plugin = Leaky { settings, writer };
        let (mut state, only) = plugin.read()?;
        if plugin.settings.fault != Fault::IgnoresWriter {
            state.writer = plugin.writer.clone();
        }
        plugin.store(&state, &only).map_err(|error| match error {
            Error::Conflict => Failure::retry("another writer opens the file at this moment"),
            other => other.into(),
        })?;
        if plugin.settings.fault != Fault::NoTruncate {
            match files::truncate(&plugin.settings.file, state.length) {
                Err(Error::Missing) if state.length == 0 => {}
                cut => cut?,
            }
        }
        let tokens = state.tokens.iter().map(|(stream, incarnation, to, note)| Token {
            stream: stream.clone(),
            incarnation: *incarnation,
            from: *to,
            to: *to,
            position: unhex(note),
        });
        let tokens = match plugin.settings.fault {
            Fault::ForgetsToken => Vec::new(),
            _ => tokens.collect(),
        };
        Ok((plugin, tokens))
    }

    fn put(&mut self, batches: Vec<Batch>, tokens: Vec<Token>) -> Result<(), PutError> {
        let fault = self.settings.fault;
        let (mut state, only) = self.read()?;
        if state.writer != self.writer && fault != Fault::IgnoresWriter {
            return Err(PutError::Fenced("the file has another writer".into()));
        }
        if fault == Fault::SkipsEmpty && batches.is_empty() {
            return Ok(());
        }
        for token in &tokens {
            self.advance(&mut state, token)?;
        }
        let (lines, refused) = self.lines(&batches);
        if !refused.is_empty() && fault != Fault::WritesRefused {
            return Err(PutError::Refused(refused));
        }
        let before = state.length;
        if fault == Fault::TokenFirst {
            state.length += lines.len() as u64;
            self.store(&state, &only).map_err(fenced)?;
        }
        if !lines.is_empty() {
            let at = match fault {
                Fault::NoTruncate | Fault::IgnoresWriter => None,
                _ => Some(before),
            };
            state.length = files::append(&self.settings.file, at, lines.as_bytes()).map_err(fenced)?;
            files::sync(&self.settings.file).map_err(fenced)?;
        }
        if fault != Fault::TokenFirst {
            let only = match fault {
                Fault::IgnoresWriter => Condition::Always,
                _ => only,
            };
            self.store(&state, &only).map_err(fenced)?;
        }
        if refused.is_empty() {
            Ok(())
        } else {
            Err(PutError::Refused(refused))
        }
    }
}

impl Leaky {
    fn state_path(&self) -> String {
        format!("{}.state", self.settings.file)
    }

    /// The state, and what it must still be when it is written.
    fn read(&self) -> Result<(State, Condition), Failure> {
        let bytes = match files::read(&self.state_path(), 0, files::READ_MAX) {
            Ok(piece) => piece.bytes,
            Err(Error::Missing) => return Ok((State::default(), Condition::Absent)),
            Err(error) => return Err(error.into()),
        };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let state =
            parse(&text).ok_or_else(|| Failure::fatal(format!("{} is damaged", self.state_path())))?;
        Ok((state, Condition::Holds(bytes)))
    }

    fn store(&self, state: &State, only: &Condition) -> Result<(), Error> {
        let mut text = format!("{}\n{}\n", state.writer, state.length);
        for (stream, incarnation, to, note) in &state.tokens {
            let _ = writeln!(text, "{stream}\t{incarnation}\t{to}\t{note}");
        }
        files::replace(&self.state_path(), text.as_bytes(), only)
    }

    fn advance(&self, state: &mut State, token: &Token) -> Result<(), PutError> {
        let moved = (
            token.stream.clone(),
            token.incarnation,
            token.to,
            hex(&token.position),
        );
        let Some(held) = state.tokens.iter_mut().find(|held| held.0 == token.stream) else {
            state.tokens.push(moved);
            return Ok(());
        };
        let is_next = match held.1.cmp(&token.incarnation) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Equal => held.2 == token.from,
            std::cmp::Ordering::Greater => false,
        };
        if !is_next && self.settings.fault != Fault::IgnoresFrom {
            let text = format!("{} is at {}, not at {}", token.stream, held.2, token.from);
            return Err(PutError::Fenced(text));
        }
        *held = moved;
        Ok(())
    }

    /// All lines to be added, and what cannot be one.
    fn lines(&self, batches: &[Batch]) -> (String, Vec<Refusal>) {
        let (mut lines, mut refused) = (String::new(), Vec::new());
        let count: usize = batches.iter().map(|batch| batch.messages.len()).sum();
        let mut number = 0;
        for (at, batch) in batches.iter().enumerate() {
            let is_letter = batch.attributes.iter().any(|(name, _)| name == "dead-letter");
            for (index, (sequence, message)) in batch.sequenced().enumerate() {
                number += 1;
                let value = String::from_utf8_lossy(message.value.as_deref().unwrap_or_default());
                match &*value {
                    "panic" if !is_letter => panic!("as asked for"),
                    "spin" if !is_letter => loop {
                        std::hint::black_box(0);
                    },
                    "refuse" if !is_letter => {
                        let why = Rejection::new("asked-for", "the value says so");
                        refused.push(Refusal::new(at, index, why));
                        continue;
                    }
                    _ => {}
                }
                if self.settings.fault == Fault::DropsLast && number == count && count > 1 {
                    continue;
                }
                let times = if self.settings.fault == Fault::AppliesTwice {
                    2
                } else {
                    1
                };
                for _ in 0..times {
                    if is_letter {
                        let code = message
                            .headers
                            .iter()
                            .find(|header| header.name == "culvert.code");
                        let code = code.and_then(|header| header.value.clone()).unwrap_or_default();
                        let _ = write!(lines, "!{}\t", String::from_utf8_lossy(&code));
                    }
                    let _ = writeln!(lines, "{}\t{sequence}\t{value}", batch.stream);
                }
            }
        }
        (lines, refused)
    }
}

/// Somebody else has changed a file of ours: there is another writer.
fn fenced(error: Error) -> PutError {
    match error {
        Error::Conflict => PutError::Uncertain("a file is not as this writer left it".into()),
        Error::Failed(what) => PutError::Uncertain(what),
        other => PutError::Failure(other.into()),
    }
}

fn parse(text: &str) -> Option<State> {
    let mut lines = text.lines();
    let (writer, length) = (lines.next()?.to_owned(), lines.next()?.parse().ok()?);
    let tokens = lines
        .map(|line| {
            let mut words = line.split('\t');
            let stream = words.next()?.to_owned();
            Some((
                stream,
                words.next()?.parse().ok()?,
                words.next()?.parse().ok()?,
                words.next()?.to_owned(),
            ))
        })
        .collect::<Option<_>>()?;
    Some(State {
        writer,
        length,
        tokens,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map_while(digits).collect()
}

culvert_plugin::export_sink!(Leaky);

#![doc = include_str!("../README.md")]

mod ledger;
mod line;

use culvert_plugin::files::{self, Condition, Error};
use culvert_plugin::prelude::*;
use culvert_plugin::sink::{Batch, PutError, Refusal, Sink, Token};
use ledger::Ledger;

/// The settings.
#[derive(Config)]
struct Settings {
    /// The file that lines are written to. Beside it lies NAME.culvert, which says how far it holds.
    #[config(non_empty, importance = "high", grants = ["files.write"], example = "/var/lib/culvert/orders.jsonl")]
    file: String,
    /// What a line is.
    #[config(default = "value", importance = "high")]
    format: Format,
}

/// What a line is.
#[derive(Choice, Clone, Copy, PartialEq)]
enum Format {
    /// The record's value as it is.
    Value,
    /// A JSON object with all of the record.
    Json,
}

/// The plugin.
struct FileSink {
    settings: Settings,
    ledger: Ledger,
    /// The ledger as it lies on disk: who finds another one there is not the only writer any more.
    stored: Vec<u8>,
}

impl Sink for FileSink {
    type Config = Settings;

    const ABOUT: About = culvert_plugin::about!()
        .documentation(include_str!("../README.md"))
        .promises(Promises::TRANSACTIONAL)
        .asks(&[Ask {
            what: Capability::Files,
            because: "writes the file, and beside it how far it holds",
        }]);

    fn open(settings: Settings, writer: Vec<u8>) -> Result<(FileSink, Vec<Token>), Failure> {
        let path = ledger_path(&settings.file);
        let (held, only) = match read_whole(&path)? {
            Some(bytes) => (
                Ledger::read(&bytes).map_err(|why| Failure::fatal(format!("{path}: {why}")))?,
                Condition::Holds(bytes),
            ),
            None => (Ledger::default(), Condition::Absent),
        };
        let ledger = held.taken_by(&writer);
        let stored = ledger.write();
        match files::replace(&path, &stored, &only) {
            Ok(()) => {}
            Err(Error::Conflict) => return Err(Failure::retry("another writer opens the file")),
            Err(error) => return Err(error.into()),
        }
        let tokens = ledger.tokens();
        let sink = FileSink {
            settings,
            ledger,
            stored,
        };
        sink.cut_to_what_holds()?;
        Ok((sink, tokens))
    }

    fn put(&mut self, batches: Vec<Batch>, tokens: Vec<Token>) -> Result<(), PutError> {
        let lines = self.lines(&batches)?;
        self.ledger.check(&tokens).map_err(PutError::Fenced)?;
        if lines.is_empty() && tokens.is_empty() {
            return self.prove();
        }
        self.append(&lines)?;
        let next = self.ledger.moved(lines.len() as u64, &tokens);
        let stored = next.write();
        let only = Condition::Holds(self.stored.clone());
        match files::replace(&ledger_path(&self.settings.file), &stored, &only) {
            Ok(()) => {
                (self.ledger, self.stored) = (next, stored);
                Ok(())
            }
            Err(Error::Conflict) => Err(fenced()),
            Err(Error::Failed(what)) => Err(PutError::Uncertain(what)),
            Err(error) => Err(PutError::Failure(error.into())),
        }
    }
}

impl FileSink {
    /// What is to be written, or all that cannot be.
    fn lines(&self, batches: &[Batch]) -> Result<Vec<u8>, PutError> {
        let mut lines = Vec::new();
        let mut refusals = Vec::new();
        for (number, batch) in batches.iter().enumerate() {
            for (index, (sequence, message)) in batch.sequenced().enumerate() {
                let written = match self.settings.format {
                    Format::Value => line::value(message, &mut lines),
                    Format::Json => line::json(batch, sequence, message, &mut lines),
                };
                if let Err(why) = written {
                    refusals.push(Refusal::new(number, index, why));
                }
            }
        }
        if refusals.is_empty() {
            Ok(lines)
        } else {
            Err(PutError::Refused(refusals))
        }
    }

    /// Behind what holds. What an attempt before left there is cut away.
    fn append(&self, lines: &[u8]) -> Result<(), PutError> {
        if lines.is_empty() {
            return Ok(());
        }
        let file = &self.settings.file;
        let mut at = self.ledger.length;
        for part in lines.chunks(files::WRITE_MAX) {
            at = match files::append(file, Some(at), part) {
                Err(Error::Conflict) => {
                    self.prove()?;
                    files::truncate(file, at).map_err(|_| shorter(file, at))?;
                    files::append(file, Some(at), part)
                }
                other => other,
            }
            .map_err(|error| PutError::Failure(error.into()))?;
        }
        files::sync(file).map_err(|error| PutError::Failure(error.into()))
    }

    /// That this writer is still the only one.
    fn prove(&self) -> Result<(), PutError> {
        match read_whole(&ledger_path(&self.settings.file)) {
            Ok(Some(bytes)) if bytes == self.stored => Ok(()),
            Ok(_) => Err(fenced()),
            Err(failure) => Err(PutError::Failure(failure)),
        }
    }

    /// What an earlier writer appended and did not commit is gone before anything is written behind it.
    fn cut_to_what_holds(&self) -> Result<(), Failure> {
        let (file, length) = (&self.settings.file, self.ledger.length);
        match files::truncate(file, length) {
            Ok(()) => Ok(files::sync(file)?),
            Err(Error::Missing) if length == 0 => Ok(()),
            Err(Error::Missing | Error::Conflict) => Err(shorter(file, length)),
            Err(error) => Err(error.into()),
        }
    }
}

fn ledger_path(file: &str) -> String {
    format!("{file}.culvert")
}

fn fenced() -> PutError {
    PutError::Fenced("another writer has taken the file over".to_owned())
}

fn shorter(file: &str, length: u64) -> Failure {
    Failure::fatal(format!(
        "{file} is shorter than the {length} bytes that were written to it: put it back, or remove it together with {} to \
         begin anew",
        ledger_path(file)
    ))
}

/// A whole file; none where there is none.
fn read_whole(path: &str) -> Result<Option<Vec<u8>>, Failure> {
    let mut bytes = Vec::new();
    loop {
        match files::read(path, bytes.len() as u64, files::READ_MAX) {
            Ok(piece) if piece.bytes.is_empty() => return Ok(Some(bytes)),
            Ok(piece) => bytes.extend_from_slice(&piece.bytes),
            Err(Error::Missing) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

culvert_plugin::export_sink!(FileSink);

#[cfg(test)]
mod tests;

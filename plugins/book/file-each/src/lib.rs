//! Writes each record into a file of its own.

use culvert_plugin::files::{self, Condition, Error};
use culvert_plugin::prelude::*;
use culvert_plugin::sink::{Batch, Message, PutError, Refusal, Sink, Token};
use sha2::{Digest, Sha256};

#[derive(Config)]
struct Settings {
    /// What the names of all files begin with.
    #[config(non_empty, importance = "high", grants = ["files.write"], example = "/var/lib/culvert/order")]
    prefix: String,
}

struct FileEach {
    prefix: String,
}

impl Sink for FileEach {
    type Config = Settings;

    const ABOUT: About = culvert_plugin::about!()
        .needs(Needs::VALUE)
        .promises(Promises::IDEMPOTENT)
        .asks(&[Ask {
            what: Capability::Files,
            because: "writes the files",
        }]);

    fn open(settings: Settings, _writer: Vec<u8>) -> Result<(FileEach, Vec<Token>), Failure> {
        let sink = FileEach {
            prefix: settings.prefix,
        };
        Ok((sink, Vec::new()))
    }

    fn put(&mut self, batches: Vec<Batch>, _tokens: Vec<Token>) -> Result<(), PutError> {
        // All are looked at before the first one is written.
        let mut writes = Vec::new();
        let mut refusals = Vec::new();
        for (number, batch) in batches.iter().enumerate() {
            for (index, (sequence, message)) in batch.sequenced().enumerate() {
                match content(message) {
                    Ok(value) => writes.push((self.path(&batch.stream, sequence), value)),
                    Err(why) => refusals.push(Refusal::new(number, index, why)),
                }
            }
        }
        if !refusals.is_empty() {
            return Err(PutError::Refused(refusals));
        }
        for (path, value) in writes {
            match files::replace(&path, value, &Condition::Always) {
                Ok(()) => {}
                Err(Error::Failed(what)) => return Err(PutError::Uncertain(what)),
                Err(error) => return Err(PutError::Failure(error.into())),
            }
        }
        Ok(())
    }
}

impl FileEach {
    /// The same record has the same file, whoever writes it and however often.
    fn path(&self, stream: &str, sequence: u64) -> String {
        let digest = Sha256::digest(stream);
        let name: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{name}-{sequence:020}", self.prefix)
    }
}

fn content(message: &Message) -> Result<&[u8], Rejection> {
    match message.value.as_deref() {
        None => Err(Rejection::new("tombstone", "there is no value to write")),
        Some(value) if value.len() > files::WRITE_MAX => {
            Err(Rejection::new("too-large", "it is above 16 MiB"))
        }
        Some(value) => Ok(value),
    }
}

culvert_plugin::export_sink!(FileEach);

#[cfg(test)]
mod tests;

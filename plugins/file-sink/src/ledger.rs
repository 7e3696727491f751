//! How far a file holds: its length, the tokens of that length, and who may write.

use culvert_plugin::sink::Token;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// What is kept beside the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    /// Of this form.
    version: u32,
    /// Who opened it last, in hexadecimal.
    writer: String,
    /// Bytes of the file that hold. What is behind them was never committed.
    pub(crate) length: u64,
    streams: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    stream: String,
    incarnation: u32,
    from: u64,
    to: u64,
    /// In hexadecimal.
    position: String,
}

const VERSION: u32 = 1;

impl Ledger {
    pub(crate) fn read(bytes: &[u8]) -> Result<Ledger, String> {
        let ledger: Ledger = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if ledger.version != VERSION {
            return Err(format!(
                "it is of version {}, and this is {VERSION}",
                ledger.version
            ));
        }
        let is_hex = |entry: &Entry| unhex(&entry.position).is_some();
        if !ledger.streams.iter().all(is_hex) {
            return Err("a position is not hexadecimal".to_owned());
        }
        Ok(ledger)
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and texts can be written")
    }

    pub(crate) fn taken_by(self, writer: &[u8]) -> Ledger {
        Ledger {
            version: VERSION,
            writer: hex(writer),
            ..self
        }
    }

    pub(crate) fn tokens(&self) -> Vec<Token> {
        let token = |entry: &Entry| Token {
            stream: entry.stream.clone(),
            incarnation: entry.incarnation,
            from: entry.from,
            to: entry.to,
            position: unhex(&entry.position).unwrap_or_default(),
        };
        self.streams.iter().map(token).collect()
    }

    /// Whether each token goes on where its stream stands.
    pub(crate) fn check(&self, tokens: &[Token]) -> Result<(), String> {
        for token in tokens {
            let Some(held) = self.streams.iter().find(|entry| entry.stream == token.stream) else {
                continue;
            };
            match token.incarnation.cmp(&held.incarnation) {
                Ordering::Less => {
                    return Err(format!(
                        "stream {} was begun anew as incarnation {}, and this is {}",
                        token.stream, held.incarnation, token.incarnation
                    ));
                }
                Ordering::Equal if held.to != token.from => {
                    return Err(format!(
                        "stream {} is written up to {}, and not {}",
                        token.stream, held.to, token.from
                    ));
                }
                Ordering::Equal | Ordering::Greater => {}
            }
        }
        Ok(())
    }

    pub(crate) fn moved(&self, bytes: u64, tokens: &[Token]) -> Ledger {
        let mut next = self.clone();
        next.length += bytes;
        for token in tokens {
            let entry = Entry {
                stream: token.stream.clone(),
                incarnation: token.incarnation,
                from: token.from,
                to: token.to,
                position: hex(&token.position),
            };
            match next.streams.iter_mut().find(|held| held.stream == token.stream) {
                Some(held) => *held = entry,
                None => next.streams.push(entry),
            }
        }
        next
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some((digit(*high)? << 4 | digit(*low)?) as u8),
        _ => None,
    };
    text.as_bytes().chunks(2).map(byte).collect()
}

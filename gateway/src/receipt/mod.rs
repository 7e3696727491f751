//! Receipts: what `culvert prove` found of a stream, signed by both ends, for people who were not there.
//!
//! A *statement* is what one gateway has read, a *receipt* the statements of both ends that agree. Receipts of one stream of
//! one route are a chain: each names the hash of the one before.
//!
//! ```text
//! document    {"format", "receipts": […]}                   JSON, indented, in this order and no other
//! receipt     {"hash", "origin": signed, "sink": signed}
//! signed      {"statement", "algorithm", "signature", "certificates": […]}
//! statement   JSON in a string: these very bytes were signed            statement.rs
//! hash        SHA-256 over both signed, origin first: statement, algorithm, signature, how many certificates there are,
//!             each of them; everything behind its length or as a number, u64, big-endian
//! ```
//!
//! Constraints of this room:
//! - It knows no gateway, no link and no clock: a receipt is checked where there is none of them.
//! - There is one way to write a document. What is spelled otherwise is none, so that no byte can be changed unseen.
//! - Nothing in here decides whether records are right: the comparison has, before a sink signs.

mod chain;
mod refusal;
mod statement;
#[cfg(test)]
mod tests;
mod verify;

pub use chain::{Chain, Unkept};
pub use refusal::{Refusal, without_code};
pub use statement::{Hash, Role, Statement};
pub use verify::{Verified, check, follows, verify};

use crate::identity;
use culvert_proto::hex::{bytes_of, hex};
use culvert_proto::message::Signed;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

/// The format of documents. Another one has another name.
const FORMAT: &str = "culvert-receipts/1";

/// Receipts in one document, and chains that a gateway remembers: two partitions each of two thousand topics.
pub const RECEIPTS_MAX: usize = 4096;

/// The largest document: [`RECEIPTS_MAX`] of 12 KB, some 48 MB, and room.
pub const DOCUMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Two statements that were signed, one by each end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// What the origin's gateway signed.
    pub origin: Signed,
    /// What the sink's gateway signed.
    pub sink: Signed,
}

impl Receipt {
    /// What names this receipt: of everything in it.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let mut context = Context::new(&SHA256);
        let number = |context: &mut Context, number: usize| context.update(&(number as u64).to_be_bytes());
        let piece = |context: &mut Context, bytes: &[u8]| {
            number(context, bytes.len());
            context.update(bytes);
        };
        for signed in [&self.origin, &self.sink] {
            piece(&mut context, &signed.statement);
            piece(
                &mut context,
                identity::algorithm(signed.scheme).unwrap_or_default().as_bytes(),
            );
            piece(&mut context, &signed.signature);
            number(&mut context, signed.certificates.len());
            for certificate in &signed.certificates {
                piece(&mut context, certificate);
            }
        }
        Hash::of(context)
    }
}

/// Writes a document.
///
/// # Errors
/// [`Refusal::Format`] for what could not be read again: a statement that is no text, an algorithm without a name, too
/// many receipts.
pub fn write(receipts: &[Receipt]) -> Result<String, Refusal> {
    if receipts.len() > RECEIPTS_MAX {
        return Err(Refusal::Format(format!(
            "it has {} receipts, at most {RECEIPTS_MAX} fit",
            receipts.len()
        )));
    }
    let document = Document {
        format: FORMAT.to_owned(),
        receipts: receipts.iter().map(Written::of).collect::<Result<_, _>>()?,
    };
    Ok(document.text())
}

/// Reads a document, and checks nothing but that each receipt is the one that its hash names.
///
/// # Errors
/// [`Refusal::Format`] when it is not, byte for byte, what [`write`] writes; [`Refusal::Hash`].
pub fn read(bytes: &[u8]) -> Result<Vec<Receipt>, Refusal> {
    if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
        return Err(Refusal::Format(format!(
            "it is larger than {DOCUMENT_BYTES_MAX} bytes"
        )));
    }
    let document: Document =
        serde_json::from_slice(bytes).map_err(|error| Refusal::Format(error.to_string()))?;
    if document.format != FORMAT {
        return Err(Refusal::Format(format!(
            "its format is {:?}, {FORMAT:?} is known here",
            document.format
        )));
    }
    if document.receipts.is_empty() || document.receipts.len() > RECEIPTS_MAX {
        return Err(Refusal::Format(format!(
            "it has {} receipts, valid are 1 to {RECEIPTS_MAX}",
            document.receipts.len()
        )));
    }
    let text = document.text();
    if text.as_bytes() != bytes {
        let same = text
            .bytes()
            .zip(bytes)
            .take_while(|(wanted, found)| wanted == *found);
        return Err(Refusal::Format(format!(
            "byte {} is not as it was written",
            same.count()
        )));
    }
    document.receipts.into_iter().map(Written::receipt).collect()
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: String,
    receipts: Vec<Written>,
}

impl Document {
    fn text(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("text and lists can be written");
        text + "\n"
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    hash: Hash,
    origin: WrittenSigned,
    sink: WrittenSigned,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSigned {
    statement: String,
    algorithm: String,
    signature: String,
    certificates: Vec<String>,
}

impl Written {
    fn of(receipt: &Receipt) -> Result<Written, Refusal> {
        Ok(Written {
            hash: receipt.hash(),
            origin: WrittenSigned::of(&receipt.origin)?,
            sink: WrittenSigned::of(&receipt.sink)?,
        })
    }

    fn receipt(self) -> Result<Receipt, Refusal> {
        let receipt = Receipt {
            origin: self.origin.signed()?,
            sink: self.sink.signed()?,
        };
        let computed = receipt.hash();
        if computed == self.hash {
            Ok(receipt)
        } else {
            Err(Refusal::Hash {
                stated: self.hash,
                computed,
            })
        }
    }
}

impl WrittenSigned {
    fn of(signed: &Signed) -> Result<WrittenSigned, Refusal> {
        let format = |problem: &str| Refusal::Format(problem.to_owned());
        let statement = String::from_utf8(signed.statement.clone());
        let algorithm = identity::algorithm(signed.scheme);
        Ok(WrittenSigned {
            statement: statement.map_err(|_| format("a statement is no text"))?,
            algorithm: algorithm
                .ok_or_else(|| format("a signature is of a kind that is not known"))?
                .to_owned(),
            signature: hex(&signed.signature),
            certificates: signed.certificates.iter().map(|der| hex(der)).collect(),
        })
    }

    fn signed(self) -> Result<Signed, Refusal> {
        let bytes = |text: &str, what: &str| {
            let bytes = bytes_of(text);
            bytes.ok_or_else(|| Refusal::Format(format!("a {what} is not spelled in hexadecimal")))
        };
        let certificates = self.certificates.iter().map(|der| bytes(der, "certificate"));
        Ok(Signed {
            scheme: identity::scheme(&self.algorithm).ok_or_else(|| {
                Refusal::Format(format!("the algorithm {:?} is not known here", self.algorithm))
            })?,
            signature: bytes(&self.signature, "signature")?,
            certificates: certificates.collect::<Result<_, _>>()?,
            statement: self.statement.into_bytes(),
        })
    }
}

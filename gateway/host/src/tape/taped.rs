//! How what is asked and answered is spelled in bytes: numbers big-endian, texts and lists behind their length.

use crate::bindings::capabilities::culvert::plugin::{files, http, secrets};
use culvert_proto::wire::{self, Malformed};

/// What a tape can hold.
pub(crate) trait Taped: Sized {
    fn put(&self, out: &mut Vec<u8>);

    /// # Errors
    /// When the bytes are no such thing.
    fn take(rest: &mut &[u8]) -> Result<Self, Malformed>;
}

/// All of the bytes.
pub(super) fn whole<Given: Taped>(mut bytes: &[u8]) -> Result<Given, Malformed> {
    let given = Given::take(&mut bytes)?;
    if bytes.is_empty() {
        Ok(given)
    } else {
        Err(invalid("has bytes left over"))
    }
}

const WHAT: &str = "recorded answer";

fn invalid(why: &'static str) -> Malformed {
    Malformed::Invalid { what: WHAT, why }
}

macro_rules! numbers {
    ($($number:ty)*) => { $(impl Taped for $number {
        fn put(&self, out: &mut Vec<u8>) {
            out.extend_from_slice(&self.to_be_bytes());
        }

        fn take(rest: &mut &[u8]) -> Result<$number, Malformed> {
            wire::take_int(rest, WHAT)
        }
    })* };
}
numbers!(u8 u16 u32 u64 i64);

impl Taped for () {
    fn put(&self, _: &mut Vec<u8>) {}

    fn take(_: &mut &[u8]) -> Result<(), Malformed> {
        Ok(())
    }
}

impl Taped for String {
    fn put(&self, out: &mut Vec<u8>) {
        wire::put_varint_bytes(out, Some(self.as_bytes()));
    }

    fn take(rest: &mut &[u8]) -> Result<String, Malformed> {
        let bytes = wire::take_varint_bytes(rest, WHAT)?.unwrap_or_default();
        let text = std::str::from_utf8(bytes).map_err(|_| invalid("is no text"))?;
        Ok(text.to_owned())
    }
}

impl<Item: Taped> Taped for Vec<Item> {
    fn put(&self, out: &mut Vec<u8>) {
        wire::put_varint(out, i64::try_from(self.len()).unwrap_or(i64::MAX));
        self.iter().for_each(|item| item.put(out));
    }

    fn take(rest: &mut &[u8]) -> Result<Vec<Item>, Malformed> {
        let count = wire::take_varint(rest, WHAT)?;
        // Grows with what is there: a count alone takes no memory.
        (0..count).map(|_| Item::take(rest)).collect()
    }
}

impl<Item: Taped> Taped for Option<Item> {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_some()));
        if let Some(item) = self {
            item.put(out);
        }
    }

    fn take(rest: &mut &[u8]) -> Result<Option<Item>, Malformed> {
        match u8::take(rest)? {
            0 => Ok(None),
            1 => Item::take(rest).map(Some),
            _ => Err(invalid("is neither there nor not")),
        }
    }
}

impl<Given: Taped, Error: Taped> Taped for Result<Given, Error> {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_err()));
        match self {
            Ok(given) => given.put(out),
            Err(error) => error.put(out),
        }
    }

    fn take(rest: &mut &[u8]) -> Result<Result<Given, Error>, Malformed> {
        match u8::take(rest)? {
            0 => Given::take(rest).map(Ok),
            1 => Error::take(rest).map(Err),
            _ => Err(invalid("is neither right nor wrong")),
        }
    }
}

impl<One: Taped, Other: Taped> Taped for (One, Other) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(rest: &mut &[u8]) -> Result<(One, Other), Malformed> {
        Ok((One::take(rest)?, Other::take(rest)?))
    }
}

/// Records of the contract, field by field.
macro_rules! records {
    ($($record:path { $($field:ident),* })*) => { $(impl Taped for $record {
        fn put(&self, out: &mut Vec<u8>) {
            $(self.$field.put(out);)*
        }

        fn take(rest: &mut &[u8]) -> Result<$record, Malformed> {
            use $record as Record;
            $(let $field = Taped::take(rest)?;)*
            Ok(Record { $($field),* })
        }
    })* };
}

/// Variants of the contract: a number for each, and what it holds.
macro_rules! variants {
    ($($variant:path { $($number:literal $case:ident $(($held:ident))?),* })*) => { $(impl Taped for $variant {
        fn put(&self, out: &mut Vec<u8>) {
            use $variant as Cases;
            match self {
                $(Cases::$case $(($held))? => {
                    out.push($number);
                    $($held.put(out);)?
                })*
            }
        }

        fn take(rest: &mut &[u8]) -> Result<$variant, Malformed> {
            use $variant as Cases;
            match u8::take(rest)? {
                $($number => {
                    $(let $held = Taped::take(rest)?;)?
                    Ok(Cases::$case $(($held))?)
                })*
                _ => Err(invalid("is of an unknown kind")),
            }
        }
    })* };
}

records! {
    files::Status { kind, size, identity, modified_ms }
    files::Entry { name, status }
    files::Piece { status, bytes }
    http::Request { method, url, headers, body, timeout_ms }
    http::Response { status, headers, body }
}

variants! {
    files::Kind { 0 File, 1 Folder, 2 Other }
    files::Condition { 0 Always, 1 Absent, 2 Holds(bytes) }
    secrets::Error { 0 Denied, 1 Missing }
    files::Error { 0 Denied(what), 1 Missing, 2 Conflict, 3 TooLarge, 4 Failed(how) }
    http::Error { 0 Denied(what), 1 Timeout, 2 TooLarge, 3 Network(how) }
    http::Method { 0 Get, 1 Head, 2 Post, 3 Put, 4 Patch, 5 Delete }
}

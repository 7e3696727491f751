//! The wire format: tags, variable-length numbers, lengths.

use plain::trouble::{DEPTH_MAX, Outcome, Trouble, code, too_deep};

/// How the bytes of a field are to be read, as its tag says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Varint,
    Fixed64,
    Bytes,
    /// Until its end tag.
    Group,
    Fixed32,
}

impl Wire {
    pub(crate) fn number(self) -> u64 {
        match self {
            Wire::Varint => 0,
            Wire::Fixed64 => 1,
            Wire::Bytes => 2,
            Wire::Group => 3,
            Wire::Fixed32 => 5,
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Wire::Varint => "a variable-length number",
            Wire::Fixed64 => "8 bytes",
            Wire::Bytes => "bytes with a length",
            Wire::Group => "a group",
            Wire::Fixed32 => "4 bytes",
        }
    }
}

/// What a tag announces.
pub(crate) enum Tag {
    Field(u32, Wire),
    GroupEnds(u32),
}

/// The content of one field: a number's bits, or where its bytes lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content {
    pub(crate) wire: Wire,
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) bits: u64,
}

/// A part of a payload, and how far it is read. Places count from the payload's begin.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor::part(bytes, 0, bytes.len())
    }

    /// From one place to another, which lies in the bytes.
    pub(crate) fn part(bytes: &'a [u8], at: usize, end: usize) -> Cursor<'a> {
        Cursor { bytes, at, end }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.at >= self.end
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Outcome<u64> {
        let mut value = 0u64;
        for (index, byte) in self.bytes[self.at..self.end].iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                if index == 9 && *byte > 1 {
                    break;
                }
                self.at += index + 1;
                return Ok(value);
            }
        }
        Err(self.no_number())
    }

    #[cold]
    fn no_number(&self) -> Trouble {
        if self.end - self.at < 10 {
            return self.truncated(1);
        }
        self.malformed("a number has more than 64 bits")
    }

    pub(crate) fn take(&mut self, count: u64) -> Outcome<usize> {
        let begin = self.at;
        if count > (self.end - self.at) as u64 {
            return Err(self.truncated(count));
        }
        self.at += count as usize;
        Ok(begin)
    }

    fn array<const N: usize>(&mut self) -> Outcome<[u8; N]> {
        let begin = self.take(N as u64)?;
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[begin..begin + N]);
        Ok(array)
    }

    pub(crate) fn fixed32(&mut self) -> Outcome<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn fixed64(&mut self) -> Outcome<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn tag(&mut self) -> Outcome<Tag> {
        let before = self.at;
        let tag = self.varint()?;
        let number = (tag >> 3) as u32;
        if tag > u64::from(u32::MAX) || number == 0 {
            self.at = before;
            return Err(self.malformed("a tag has no field number from 1 to 536870911"));
        }
        let wire = match tag & 7 {
            0 => Wire::Varint,
            1 => Wire::Fixed64,
            2 => Wire::Bytes,
            3 => Wire::Group,
            4 => return Ok(Tag::GroupEnds(number)),
            5 => Wire::Fixed32,
            _ => {
                self.at = before;
                return Err(self.malformed("a tag has a wire type that there is not"));
            }
        };
        Ok(Tag::Field(number, wire))
    }

    /// What follows behind the tag of a field. `depth` is that of the message around.
    #[inline]
    pub(crate) fn content(&mut self, number: u32, wire: Wire, depth: u32) -> Outcome<Content> {
        let (mut start, mut bits) = (self.at, 0);
        let mut end = None;
        match wire {
            Wire::Varint => bits = self.varint()?,
            Wire::Fixed64 => bits = self.fixed64()?,
            Wire::Fixed32 => bits = self.fixed32()?.into(),
            Wire::Bytes => {
                let length = self.varint()?;
                start = self.take(length)?;
            }
            Wire::Group => end = Some(self.group(number, depth + 1)?),
        }
        Ok(Content {
            wire,
            start: start as u32,
            end: end.unwrap_or(self.at) as u32,
            bits,
        })
    }

    /// Passes over a group that has begun; where its end tag stands.
    fn group(&mut self, number: u32, depth: u32) -> Outcome<usize> {
        if depth > DEPTH_MAX {
            return Err(too_deep());
        }
        loop {
            let at = self.at;
            match self.tag()? {
                Tag::Field(inner, wire) => drop(self.content(inner, wire, depth)?),
                Tag::GroupEnds(ends) if ends == number => return Ok(at),
                Tag::GroupEnds(_) => return Err(self.malformed("another group ends than has begun")),
            }
        }
    }

    #[cold]
    fn truncated(&self, wanted: u64) -> Trouble {
        let reason = format!(
            "the bytes end at {}, and {wanted} more are wanted at {}",
            self.end, self.at
        );
        Trouble::new(code::TRUNCATED, reason)
    }

    #[cold]
    pub(crate) fn malformed(&self, what: &str) -> Trouble {
        Trouble::new(code::MALFORMED, format!("{what}, at byte {}", self.at))
    }
}

#[inline]
pub(crate) fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

pub(crate) fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63) as u64
}

pub(crate) fn unzigzag(bits: u64) -> i64 {
    (bits >> 1) as i64 ^ -((bits & 1) as i64)
}

//! Reads JSON (RFC 8259) token by token, strictly, and knows where each begins and ends.

use std::borrow::Cow;

/// Where in a text a reader stands.
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
}

/// The text is no JSON at this byte.
#[derive(Debug)]
pub(crate) struct NotJson(pub(crate) usize);

/// What a value begins with; scalars are read already.
pub(crate) enum Begin<'a> {
    Object,
    List,
    /// What is between the quotes, as it is written.
    Text(&'a str),
    /// A number, `true` or `false`, as it is written.
    Word(&'a str),
    Null,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str) -> Reader<'a> {
        Reader { text, at: 0 }
    }

    /// The number of the next byte.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Takes this byte if it is the next.
    pub(crate) fn takes(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    pub(crate) fn expect(&mut self, byte: u8) -> Result<(), NotJson> {
        if self.takes(byte) {
            Ok(())
        } else {
            Err(self.wrong())
        }
    }

    pub(crate) fn expect_end(&self) -> Result<(), NotJson> {
        if self.at == self.text.len() {
            Ok(())
        } else {
            Err(self.wrong())
        }
    }

    pub(crate) fn begin(&mut self) -> Result<Begin<'a>, NotJson> {
        match self.peek() {
            Some(b'{') => {
                self.at += 1;
                Ok(Begin::Object)
            }
            Some(b'[') => {
                self.at += 1;
                Ok(Begin::List)
            }
            Some(b'"') => self.string().map(Begin::Text),
            Some(b't') => self.word("true").map(Begin::Word),
            Some(b'f') => self.word("false").map(Begin::Word),
            Some(b'n') => self.word("null").map(|_| Begin::Null),
            _ => self.number().map(Begin::Word),
        }
    }

    fn word(&mut self, word: &'static str) -> Result<&'a str, NotJson> {
        let found = self
            .text
            .get(self.at..self.at + word.len())
            .filter(|found| *found == word);
        let found = found.ok_or_else(|| self.wrong())?;
        self.at += word.len();
        Ok(found)
    }

    fn number(&mut self) -> Result<&'a str, NotJson> {
        let begin = self.at;
        self.takes(b'-');
        if !self.takes(b'0') {
            self.digits()?;
        }
        if self.takes(b'.') {
            self.digits()?;
        }
        if self.takes(b'e') || self.takes(b'E') {
            let _ = self.takes(b'+') || self.takes(b'-');
            self.digits()?;
        }
        Ok(&self.text[begin..self.at])
    }

    fn digits(&mut self) -> Result<(), NotJson> {
        let begin = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at > begin {
            Ok(())
        } else {
            Err(self.wrong())
        }
    }

    /// What is between the quotes, as it is written; its escapes are known to be in order.
    pub(crate) fn string(&mut self) -> Result<&'a str, NotJson> {
        self.expect(b'"')?;
        let begin = self.at;
        loop {
            match self.peek() {
                Some(b'"') => {
                    let written = &self.text[begin..self.at];
                    self.at += 1;
                    return Ok(written);
                }
                Some(b'\\') => self.escape()?,
                // Control characters must be escaped.
                Some(0x20..) => self.at += 1,
                _ => return Err(self.wrong()),
            }
        }
    }

    fn escape(&mut self) -> Result<(), NotJson> {
        let begin = self.at;
        let (_, length) = unescaped(&self.text[begin..]).ok_or(NotJson(begin))?;
        self.at += length;
        Ok(())
    }

    fn wrong(&self) -> NotJson {
        NotJson(self.at)
    }
}

/// A string as it reads.
pub(crate) fn read(written: &str) -> Cow<'_, str> {
    if !written.contains('\\') {
        return Cow::Borrowed(written);
    }
    let mut text = String::with_capacity(written.len());
    let mut rest = written;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        // The reader has looked at every escape before.
        let Some((character, length)) = unescaped(&rest[at..]) else {
            break;
        };
        text.push(character);
        rest = &rest[at + length..];
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// The character of the escape that a text begins with, and how many bytes it is written in. Half of a surrogate pair is
/// no character.
fn unescaped(text: &str) -> Option<(char, usize)> {
    let simple = match text.as_bytes().get(1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let high = unit(text)?;
            if let Some(character) = char::from_u32(high) {
                return Some((character, 6));
            }
            let low = text.get(6..).and_then(unit)?;
            let pair = [high as u16, low as u16];
            let character = char::decode_utf16(pair).next()?.ok()?;
            return Some((character, 12));
        }
        _ => return None,
    };
    Some((simple, 2))
}

/// The number of the escape `\uXXXX` that a text begins with.
fn unit(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    // `from_str_radix` alone would take a sign.
    digits
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit())
        .then(|| u32::from_str_radix(digits, 16).ok())?
}

/// A text as a JSON string, with its quotes.
pub(crate) fn written(text: &str) -> String {
    let mut written = String::with_capacity(text.len() + 2);
    written.push('"');
    for character in text.chars() {
        match character {
            '"' => written.push_str("\\\""),
            '\\' => written.push_str("\\\\"),
            '\0'..' ' => written.push_str(&format!("\\u{:04x}", u32::from(character))),
            other => written.push(other),
        }
    }
    written.push('"');
    written
}

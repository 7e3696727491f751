//! JSON, taken apart without copying: numbers stay the text they are, so that no digit of a decimal is lost.
//!
//! The values lie in one list, each before its children, with the place behind its last child. Objects hold key, value,
//! key, value, …

use std::borrow::Cow;

/// One JSON text.
pub struct Json<'a> {
    entries: Vec<Entry<'a>>,
}

struct Entry<'a> {
    token: Token<'a>,
    /// Behind this value and all it holds.
    next: u32,
}

/// One value, without what it holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// As it is written.
    Number(&'a str),
    /// As it is written.
    Text(Raw<'a>),
    /// How many items.
    Array(u32),
    /// How many members.
    Object(u32),
}

/// What stands between the quotes of a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Raw<'a> {
    text: &'a str,
    escaped: bool,
}

impl<'a> Raw<'a> {
    /// The text that is meant. A pair of surrogates without its half is U+FFFD, as Java's parsers have it.
    pub fn read(self) -> Cow<'a, str> {
        if !self.escaped {
            return Cow::Borrowed(self.text);
        }
        let mut units: Vec<u16> = Vec::new();
        let mut read = String::with_capacity(self.text.len());
        let mut rest = self.text;
        while let Some(at) = rest.find('\\') {
            let (before, escape) = rest.split_at(at);
            if !before.is_empty() {
                flush(&mut units, &mut read);
                read.push_str(before);
            }
            let (unit, length) = unescaped(escape);
            units.push(unit);
            rest = &escape[length..];
        }
        flush(&mut units, &mut read);
        read.push_str(rest);
        Cow::Owned(read)
    }
}

/// Escapes may be halves of a pair, so they are collected before they are read.
fn flush(units: &mut Vec<u16>, read: &mut String) {
    read.extend(char::decode_utf16(units.drain(..)).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)));
}

/// The unit of an escape that the parser has seen to be right, and its length.
fn unescaped(escape: &str) -> (u16, usize) {
    let simple = match escape.as_bytes().get(1) {
        Some(b'b') => 0x08,
        Some(b'f') => 0x0c,
        Some(b'n') => u16::from(b'\n'),
        Some(b'r') => u16::from(b'\r'),
        Some(b't') => u16::from(b'\t'),
        Some(b'u') => {
            let digits = escape.get(2..6).unwrap_or_default();
            return (u16::from_str_radix(digits, 16).unwrap_or(0xfffd), 6);
        }
        Some(other) => u16::from(*other),
        None => 0xfffd,
    };
    (simple, 2)
}

/// A value's place in the list.
pub type At = u32;

/// Why a text is not JSON.
#[derive(Debug, PartialEq)]
pub struct NotJson {
    /// In bytes.
    pub at: usize,
    /// A sentence's rest.
    pub why: &'static str,
}

impl<'a> Json<'a> {
    /// The whole text as one value, at place 0; containers lie at most `depth_max` deep.
    pub fn parse(bytes: &'a [u8], depth_max: usize) -> Result<Json<'a>, NotJson> {
        let text = std::str::from_utf8(bytes).map_err(|error| NotJson {
            at: error.valid_up_to(),
            why: "it is not UTF-8",
        })?;
        let mut parser = Parser {
            text,
            at: 0,
            entries: Vec::new(),
            open: Vec::new(),
            depth_max,
        };
        parser.document()?;
        Ok(Json {
            entries: parser.entries,
        })
    }

    /// The value at a place.
    pub fn token(&self, at: At) -> Token<'a> {
        self.entries[at as usize].token
    }

    /// The items of an array; nothing for what is no array.
    pub fn items(&self, at: At) -> Items<'_, 'a> {
        let is_array = matches!(self.token(at), Token::Array(_));
        Items {
            json: self,
            at: at + 1,
            end: if is_array {
                self.entries[at as usize].next
            } else {
                0
            },
        }
    }

    /// The members of an object; nothing for what is no object.
    pub fn members(&self, at: At) -> Members<'_, 'a> {
        let is_object = matches!(self.token(at), Token::Object(_));
        Members {
            json: self,
            at: at + 1,
            end: if is_object {
                self.entries[at as usize].next
            } else {
                0
            },
        }
    }

    /// A member of an object; the last, where there are several of the name.
    pub fn member(&self, at: At, name: &str) -> Option<At> {
        let named = self.members(at).filter(|(key, _)| key.read() == name);
        named.last().map(|(_, value)| value)
    }

    /// A member that is a text.
    pub fn text(&self, at: At, name: &str) -> Option<Cow<'a, str>> {
        match self.token(self.member(at, name)?) {
            Token::Text(raw) => Some(raw.read()),
            _ => None,
        }
    }
}

/// Where the items of an array are.
#[derive(Clone)]
pub struct Items<'j, 'a> {
    json: &'j Json<'a>,
    at: At,
    end: At,
}

impl Iterator for Items<'_, '_> {
    type Item = At;

    fn next(&mut self) -> Option<At> {
        if self.at >= self.end {
            return None;
        }
        let item = self.at;
        self.at = self.json.entries[item as usize].next;
        Some(item)
    }
}

/// Where the members of an object are, with their names.
#[derive(Clone)]
pub struct Members<'j, 'a> {
    json: &'j Json<'a>,
    at: At,
    end: At,
}

impl<'a> Iterator for Members<'_, 'a> {
    type Item = (Raw<'a>, At);

    fn next(&mut self) -> Option<(Raw<'a>, At)> {
        if self.at >= self.end {
            return None;
        }
        let Token::Text(key) = self.json.token(self.at) else {
            return None;
        };
        let value = self.at + 1;
        self.at = self.json.entries[value as usize].next;
        Some((key, value))
    }
}

/// Without recursion, so that depth costs no stack.
struct Parser<'a> {
    text: &'a str,
    at: usize,
    entries: Vec<Entry<'a>>,
    /// The containers that are not closed yet, outermost first.
    open: Vec<At>,
    depth_max: usize,
}

impl<'a> Parser<'a> {
    fn document(&mut self) -> Result<(), NotJson> {
        self.value()?;
        while let Some(&open) = self.open.last() {
            let token = self.entries[open as usize].token;
            match token {
                Token::Array(count) => self.next_item(open, count)?,
                Token::Object(count) => self.next_member(open, count)?,
                _ => self.close(open),
            }
        }
        self.spaces();
        if self.at < self.text.len() {
            return Err(self.wrong("something follows behind the value"));
        }
        Ok(())
    }

    fn next_item(&mut self, open: At, count: u32) -> Result<(), NotJson> {
        self.spaces();
        match self.peek() {
            Some(b']') => {
                self.at += 1;
                self.close(open);
                return Ok(());
            }
            Some(b',') if count > 0 => self.at += 1,
            _ if count > 0 => return Err(self.wrong("a comma or `]` is missing")),
            _ => {}
        }
        self.entries[open as usize].token = Token::Array(count + 1);
        self.value()
    }

    fn next_member(&mut self, open: At, count: u32) -> Result<(), NotJson> {
        self.spaces();
        match self.peek() {
            Some(b'}') => {
                self.at += 1;
                self.close(open);
                return Ok(());
            }
            Some(b',') if count > 0 => self.at += 1,
            _ if count > 0 => return Err(self.wrong("a comma or `}` is missing")),
            _ => {}
        }
        self.entries[open as usize].token = Token::Object(count + 1);
        self.spaces();
        if self.peek() != Some(b'"') {
            return Err(self.wrong("a name in quotes is missing"));
        }
        let key = self.string()?;
        self.push(Token::Text(key));
        self.spaces();
        if self.peek() != Some(b':') {
            return Err(self.wrong("a colon is missing"));
        }
        self.at += 1;
        self.value()
    }

    /// A scalar, or the begin of a container.
    fn value(&mut self) -> Result<(), NotJson> {
        self.spaces();
        let token = match self.peek() {
            Some(b'"') => Token::Text(self.string()?),
            Some(b'[') => return self.begin(Token::Array(0)),
            Some(b'{') => return self.begin(Token::Object(0)),
            Some(b'-' | b'0'..=b'9') => Token::Number(self.number()?),
            Some(b't') => self.word("true", Token::Boolean(true))?,
            Some(b'f') => self.word("false", Token::Boolean(false))?,
            Some(b'n') => self.word("null", Token::Null)?,
            Some(_) => return Err(self.wrong("no value begins so")),
            None => return Err(self.wrong("it ends where a value should stand")),
        };
        self.push(token);
        Ok(())
    }

    fn begin(&mut self, token: Token<'a>) -> Result<(), NotJson> {
        if self.open.len() == self.depth_max {
            return Err(self.wrong("it is nested too deeply"));
        }
        self.at += 1;
        self.open.push(self.entries.len() as At);
        self.push(token);
        Ok(())
    }

    fn close(&mut self, open: At) {
        self.entries[open as usize].next = self.entries.len() as At;
        self.open.pop();
    }

    fn push(&mut self, token: Token<'a>) {
        let next = self.entries.len() as At + 1;
        self.entries.push(Entry { token, next });
    }

    fn word(&mut self, word: &str, token: Token<'a>) -> Result<Token<'a>, NotJson> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.wrong("no value begins so"));
        }
        self.at += word.len();
        Ok(token)
    }

    fn number(&mut self) -> Result<&'a str, NotJson> {
        let start = self.at;
        self.skip(b'-');
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.skip(b'.') {
            self.digits()?;
        }
        if self.skip(b'e') || self.skip(b'E') {
            let _ = self.skip(b'+') || self.skip(b'-');
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start {
            return Err(self.wrong("a digit is missing"));
        }
        Ok(())
    }

    fn string(&mut self) -> Result<Raw<'a>, NotJson> {
        let start = self.at + 1;
        let mut escaped = false;
        let bytes = self.text.as_bytes();
        self.at = start;
        loop {
            match bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.at += self.escape()?;
                }
                Some(0..0x20) => return Err(self.wrong("a control character stands in a text")),
                Some(_) => self.at += 1,
                None => return Err(self.wrong("a text does not end")),
            }
        }
        let text = &self.text[start..self.at];
        self.at += 1;
        Ok(Raw { text, escaped })
    }

    /// The length of the escape that stands here.
    fn escape(&self) -> Result<usize, NotJson> {
        let bytes = self.text.as_bytes();
        match bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(2),
            Some(b'u') => {
                let digits = bytes.get(self.at + 2..self.at + 6).unwrap_or_default();
                if digits.len() == 4 && digits.iter().all(u8::is_ascii_hexdigit) {
                    return Ok(6);
                }
                Err(self.wrong("`\\u` without four digits"))
            }
            _ => Err(self.wrong("there is no such escape")),
        }
    }

    fn spaces(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn skip(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn wrong(&self, why: &'static str) -> NotJson {
        NotJson { at: self.at, why }
    }
}

const fn needs_escape() -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table
}

static NEEDS_ESCAPE: [bool; 256] = needs_escape();

/// Appends a text with its quotes.
pub fn write_text(text: &str, json: &mut Vec<u8>) {
    json.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| NEEDS_ESCAPE[usize::from(*byte)]) {
        json.extend_from_slice(&rest[..at]);
        write_escape(rest[at], json);
        rest = &rest[at + 1..];
    }
    json.extend_from_slice(rest);
    json.push(b'"');
}

/// Appends bytes as the characters of the same numbers (ISO-8859-1), with quotes.
pub fn write_latin1(bytes: &[u8], json: &mut Vec<u8>) {
    json.push(b'"');
    for &byte in bytes {
        if NEEDS_ESCAPE[usize::from(byte)] {
            write_escape(byte, json);
        } else if byte < 0x80 {
            json.push(byte);
        } else {
            json.extend_from_slice(&[0xc0 | byte >> 6, 0x80 | byte & 0x3f]);
        }
    }
    json.push(b'"');
}

fn write_escape(byte: u8, json: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            json.extend_from_slice(b"\\u00");
            json.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            return;
        }
    };
    json.extend_from_slice(&[b'\\', short]);
}

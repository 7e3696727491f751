//! The schema that stands beside a payload: the member `schema` of a JSON object, as it is written. Whether the object is a
//! right one is for the codec to say.

use culvert_proto::schema::{Kind, Part, Piece, Schema};

/// The text of the member `schema`.
pub(super) fn schema_of(bytes: &[u8]) -> Option<&str> {
    let mut scan = Scan { bytes, at: 0 };
    scan.expect(b'{')?;
    loop {
        let name = scan.value()?;
        scan.expect(b':')?;
        let value = scan.value()?;
        if name == b"\"schema\"" {
            return std::str::from_utf8(value).ok();
        }
        scan.expect(b',')?;
    }
}

/// A schema with this text.
pub(super) fn schema(part: Part, text: &str) -> Schema {
    Schema {
        kind: Kind::Other,
        part,
        id: 0,
        pieces: vec![Piece {
            text: text.to_owned(),
            ..Piece::default()
        }],
    }
}

/// Goes over JSON without a look at what is right: it ends where the text ends, whatever that holds.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    fn expect(&mut self, byte: u8) -> Option<()> {
        self.spaces();
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// One value, from its first byte to its last.
    fn value(&mut self) -> Option<&'a [u8]> {
        self.spaces();
        let start = self.at;
        let mut depth = 0u32;
        loop {
            match self.peek()? {
                b'"' => self.text()?,
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                _ if depth > 0 => self.at += 1,
                _ => self.word(),
            }
            if depth == 0 {
                return self.bytes.get(start..self.at).filter(|value| !value.is_empty());
            }
        }
    }

    fn text(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            let step = match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                b'\\' => 2,
                _ => 1,
            };
            self.at += step;
        }
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) {
        let is_of_word =
            |byte: &u8| !matches!(byte, b',' | b':' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
        while self.peek().is_some_and(|byte| is_of_word(&byte)) {
            self.at += 1;
        }
    }

    fn spaces(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_found_wherever_it_stands_and_nothing_else_is_taken_for_one() {
        let check =
            |text: &str, expected: Option<&str>| assert_eq!(schema_of(text.as_bytes()), expected, "{text}");
        check(
            r#"{"schema":{"type":"int32"},"payload":1}"#,
            Some(r#"{"type":"int32"}"#),
        );
        check(
            r#" { "payload" : {"schema":7,"a":"}\""} , "schema" : null } "#,
            Some("null"),
        );
        check(
            r#"{"payload":[1,{"a":"\\"}],"schema":{"fields":[{"a":1}]}}"#,
            Some(r#"{"fields":[{"a":1}]}"#),
        );
        for none in [
            "",
            "{",
            "{}",
            "[1]",
            "7",
            r#"{"payload":1}"#,
            r#"{"schema""#,
            r#"{"schema":"#,
            r#"{"schema":}"#,
            r#"{"payload":"#,
        ] {
            check(none, None);
        }
    }
}

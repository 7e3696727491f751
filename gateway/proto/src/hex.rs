//! Bytes in hexadecimal digits: identities, hashes and signatures are spelled so.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

/// Two lower-case digits for each byte.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The counterpart of [`hex`]: upper-case digits are none, since one value has one spelling.
#[must_use]
pub fn bytes_of(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let pair = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
    rest.is_empty().then(|| pairs.iter().map(pair).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_one_spelling() {
        let bytes: Vec<u8> = (0..=255).collect();
        let text = hex(&bytes);
        assert!(text.starts_with("000102") && text.ends_with("fdfeff"), "{text}");
        assert_eq!(bytes_of(&text), Some(bytes));
        assert_eq!(bytes_of(""), Some(Vec::new()));
        for wrong in ["0", "0g", "FF", "0 ", "+1", "0x"] {
            assert_eq!(bytes_of(wrong), None, "{wrong}");
        }
    }
}

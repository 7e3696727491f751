//! Base64 (RFC 4648).

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends base64 with padding.
pub fn write(bytes: &[u8], text: &mut Vec<u8>) {
    for chunk in bytes.chunks(3) {
        let [one, two, three] = [0, 1, 2].map(|at| u32::from(chunk.get(at).copied().unwrap_or(0)));
        let group = one << 16 | two << 8 | three;
        let letter = |shift: u32| ALPHABET[(group >> shift & 63) as usize];
        let letters = [letter(18), letter(12), letter(6), letter(0)];
        let count = chunk.len() + 1;
        text.extend_from_slice(&letters[..count]);
        text.extend_from_slice(&b"=="[..4 - count]);
    }
}

const fn values() -> [u8; 256] {
    let mut values = [0xff; 256];
    let mut at = 0;
    while at < 64 {
        values[ALPHABET[at] as usize] = at as u8;
        at += 1;
    }
    values
}

static VALUES: [u8; 256] = values();

/// Base64, with or without padding. Bits that belong to no byte must be 0: one text for each bytes.
#[must_use]
pub fn read(text: &str) -> Option<Vec<u8>> {
    let letters = text.trim_end_matches('=');
    let padding = text.len() - letters.len();
    if padding > 0 && (padding > 2 || !text.len().is_multiple_of(4)) {
        return None;
    }
    let mut bytes = Vec::with_capacity(letters.len() / 4 * 3 + 2);
    for chunk in letters.as_bytes().chunks(4) {
        let mut group = 0u32;
        for at in 0..4 {
            let value = chunk.get(at).map_or(0, |letter| VALUES[usize::from(*letter)]);
            if value == 0xff {
                return None;
            }
            group = group << 6 | u32::from(value);
        }
        let [_, one, two, three] = group.to_be_bytes();
        match chunk.len() {
            4 => bytes.extend([one, two, three]),
            3 if three == 0 => bytes.extend([one, two]),
            2 if two == 0 && three == 0 => bytes.push(one),
            _ => return None,
        }
    }
    Some(bytes)
}

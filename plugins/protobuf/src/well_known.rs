//! Texts of timestamps, durations and field masks, as the JSON mapping of Protobuf has them.

use plain::number::{Unit, date_text, timestamp_of};

/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z: `timestamp.proto`.
const TIMESTAMP_SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// Ten thousand years: `duration.proto`.
const DURATION_SECONDS_MAX: i64 = 315_576_000_000;

pub(crate) const NANOS_MAX: i32 = 999_999_999;

/// `2026-01-31T12:30:00.250Z`, with 0, 3, 6 or 9 digits of a second; nothing where there is no such time.
pub(crate) fn timestamp_text(seconds: i64, nanos: i32) -> Option<String> {
    if !TIMESTAMP_SECONDS.contains(&seconds) || !(0..=NANOS_MAX).contains(&nanos) {
        return None;
    }
    let date = date_text(seconds.div_euclid(86_400))?;
    let second = seconds.rem_euclid(86_400);
    let (hours, minutes) = (second / 3_600, second / 60 % 60);
    Some(format!(
        "{date}T{hours:02}:{minutes:02}:{:02}{}Z",
        second % 60,
        fraction(nanos)
    ))
}

/// Seconds and nanoseconds of a text with a zone.
pub(crate) fn timestamp(text: &str) -> Option<(i64, i32)> {
    // RFC 3339's form alone: a capital T and a zone with a colon.
    let is_plain = text.as_bytes().get(10) == Some(&b'T');
    let zone = text.ends_with('Z') || text.len() > 6 && text.as_bytes()[text.len() - 3] == b':';
    if !is_plain || !zone {
        return None;
    }
    // Whole seconds apart from their fraction: nanoseconds since 1970 have no place in 64 bits.
    let (clock, rest) = match text.find('.') {
        Some(at) => {
            let digits = text[at + 1..].bytes().take_while(u8::is_ascii_digit).count();
            (&text[..at], &text[at + 1..][..digits])
        }
        None => (text, ""),
    };
    let has_fraction = text.contains('.');
    let zone = match has_fraction {
        true => &text[clock.len() + 1 + rest.len()..],
        false => "",
    };
    if has_fraction && (rest.is_empty() || rest.len() > 9) {
        return None;
    }
    let seconds = timestamp_of(&format!("{clock}{zone}"), Unit::Millis, false)? / 1_000;
    let nanos = format!("{rest:0<9}").parse().ok()?;
    TIMESTAMP_SECONDS.contains(&seconds).then_some((seconds, nanos))
}

/// `1.5s`, with 0, 3, 6 or 9 digits; nothing where both parts have signs that differ, or there is no such duration.
pub(crate) fn duration_text(seconds: i64, nanos: i32) -> Option<String> {
    let is_valid = seconds.unsigned_abs() <= DURATION_SECONDS_MAX.unsigned_abs()
        && nanos.unsigned_abs() <= NANOS_MAX.unsigned_abs()
        && !(seconds > 0 && nanos < 0 || seconds < 0 && nanos > 0);
    if !is_valid {
        return None;
    }
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    Some(format!(
        "{sign}{}{}s",
        seconds.unsigned_abs(),
        fraction(nanos.abs())
    ))
}

pub(crate) fn duration(text: &str) -> Option<(i64, i32)> {
    let number = text.strip_suffix('s')?;
    let (sign, number) = match number.strip_prefix('-') {
        Some(number) => (-1, number),
        None => (1, number),
    };
    let (whole, rest) = number.split_once('.').unwrap_or((number, ""));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || rest.len() > 9 || !are_digits(whole) || !are_digits(rest) || number.ends_with('.')
    {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let nanos: i32 = format!("{rest:0<9}").parse().ok()?;
    (seconds <= DURATION_SECONDS_MAX).then_some((sign * seconds, sign as i32 * nanos))
}

fn fraction(nanos: i32) -> String {
    match nanos {
        0 => String::new(),
        nanos if nanos % 1_000_000 == 0 => format!(".{:03}", nanos / 1_000_000),
        nanos if nanos % 1_000 == 0 => format!(".{:06}", nanos / 1_000),
        nanos => format!(".{nanos:09}"),
    }
}

/// `customer_id.name` as `customerId.name`; nothing where that could not be turned back.
pub(crate) fn path_to_json(path: &str) -> Option<String> {
    let mut json = String::with_capacity(path.len());
    let mut letters = path.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '_' => json.push(
                letters
                    .next()
                    .filter(char::is_ascii_lowercase)?
                    .to_ascii_uppercase(),
            ),
            'A'..='Z' | ',' => return None,
            other => json.push(other),
        }
    }
    Some(json)
}

pub(crate) fn path_of_json(json: &str) -> Option<String> {
    let mut path = String::with_capacity(json.len() + 4);
    for letter in json.chars() {
        match letter {
            '_' => return None,
            'A'..='Z' => path.extend(['_', letter.to_ascii_lowercase()]),
            other => path.push(other),
        }
    }
    Some(path)
}

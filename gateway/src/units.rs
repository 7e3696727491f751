//! Numbers with units: byte sizes and durations.

use std::fmt;
use std::time::Duration;

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

const TIMES: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("min", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

impl ByteSize {
    /// Reads `10 GiB`, `500MB`, `1.5 KiB` or, as plain bytes, `4096`. Units are read without regard to case.
    #[must_use]
    pub fn parse(text: &str) -> Option<ByteSize> {
        let (number, unit) = split(text)?;
        let factor = if unit.is_empty() { 1 } else { factor(&SIZES, unit)? };
        scaled(number, factor).map(ByteSize)
    }
}

/// The largest binary unit that divides it, so that what is printed reads back as the same number.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = SIZES[..4]
            .iter()
            .find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor))
            .unwrap_or(&SIZES[8]);
        write!(f, "{} {unit}", self.0 / factor)
    }
}

/// Reads `5ms`, `30 s`, `1.5h`, `7d`. There is no unit to assume, so a bare number is refused.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    scaled(number, factor(&TIMES, unit)?).map(Duration::from_micros)
}

/// The largest unit that divides it; microseconds are the finest.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let (unit, factor) = TIMES
        .iter()
        .find(|(_, factor)| micros != 0 && micros.is_multiple_of(*factor))
        .unwrap_or(&TIMES[3]);
    format!("{}{unit}", micros / factor)
}

fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    (end > 0).then(|| (&text[..end], text[end..].trim_start()))
}

fn factor(units: &[(&str, u64)], unit: &str) -> Option<u64> {
    units
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit))
        .map(|(_, factor)| *factor)
}

/// `number * factor` exactly, or nothing: a fraction of a byte or an overflow is no size.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = u32::try_from(fraction.len()).ok().filter(|digits| *digits <= 9)?;
    if whole.is_empty() || fraction.contains('.') || (digits == 0 && number.contains('.')) {
        return None;
    }
    let whole = whole.parse::<u128>().ok()?.checked_mul(factor.into())?;
    let part = if digits == 0 {
        0
    } else {
        fraction.parse::<u128>().ok()? * u128::from(factor)
    };
    let scale = 10u128.pow(digits);
    (part % scale == 0)
        .then(|| whole + part / scale)
        .and_then(|sum| u64::try_from(sum).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, bytes) in [
            ("10 GiB", Some(10 << 30)),
            ("500MB", Some(500_000_000)),
            ("1.5 kib", Some(1536)),
            ("4096", Some(4096)),
            ("0 B", Some(0)),
            ("10 GB/s", None),
            ("GiB", None),
            ("", None),
            ("-1 B", None),
            ("1.5 B", None),
            ("1.", None),
            ("1.2.3 MiB", None),
            ("99999999999 TiB", None),
            ("99999999999999999999999999999999999999999999 B", None),
        ] {
            assert_eq!(ByteSize::parse(text).map(|size| size.0), bytes, "{text:?}");
        }
    }

    #[test]
    fn durations_are_read_with_their_units() {
        for (text, micros) in [
            ("5ms", Some(5_000)),
            ("30 s", Some(30_000_000)),
            ("1.5h", Some(5_400_000_000)),
            ("7d", Some(604_800_000_000)),
            ("2 min", Some(120_000_000)),
            ("5", None),
            ("5 parsecs", None),
            ("0.0001ms", None),
        ] {
            assert_eq!(
                parse_duration(text),
                micros.map(Duration::from_micros),
                "{text:?}"
            );
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for bytes in [0, 1, 1000, 1024, 1536, 10 << 30, u64::MAX] {
            assert_eq!(
                ByteSize::parse(&ByteSize(bytes).to_string()),
                Some(ByteSize(bytes))
            );
        }
        for micros in [0, 1, 5_000, 1_000_000, 90_000_000, 86_400_000_000] {
            let duration = Duration::from_micros(micros);
            assert_eq!(parse_duration(&show_duration(duration)), Some(duration));
        }
    }
}

//! Decimals as text and back, and dates and times as ISO 8601 has them.

/// What a number of time counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unit {
    /// 1,000 in a second.
    Millis,
    /// 1,000,000 in a second.
    Micros,
    /// 1,000,000,000 in a second.
    Nanos,
}

/// The longest unscaled value that is read as a number: 616 digits. The work grows with the square of the length.
pub const DECIMAL_BYTES_MAX: usize = 256;

/// Whether big-endian two's complement is short enough to be read as a number.
pub fn is_decimal(unscaled: &[u8]) -> bool {
    shortest(unscaled).len() <= DECIMAL_BYTES_MAX
}

/// Big-endian two's complement as decimal text, with `scale` digits behind the point. Nothing where it is too long.
pub fn decimal_text(unscaled: &[u8], scale: i32) -> Option<String> {
    let bytes = shortest(unscaled);
    let (is_negative, digits) = match number_of(bytes) {
        Some(number) => (number < 0, number.unsigned_abs().to_string()),
        None if bytes.len() > DECIMAL_BYTES_MAX => return None,
        None => long_digits(bytes),
    };
    let mut text = String::with_capacity(digits.len() + 3);
    if is_negative {
        text.push('-');
    }
    match usize::try_from(scale) {
        Ok(0) => text.push_str(&digits),
        Ok(scale) if digits.len() > scale => {
            let (whole, part) = digits.split_at(digits.len() - scale);
            text.extend([whole, ".", part]);
        }
        Ok(scale) => {
            text.push_str("0.");
            text.extend(std::iter::repeat_n('0', scale - digits.len()));
            text.push_str(&digits);
        }
        // A negative scale is zeros behind.
        Err(_) => {
            text.push_str(&digits);
            if digits != "0" {
                text.extend(std::iter::repeat_n('0', scale.unsigned_abs().min(1_000) as usize));
            }
        }
    }
    Some(text)
}

/// A number that fits into 16 bytes; no bytes at all are 0.
fn number_of(bytes: &[u8]) -> Option<i128> {
    if bytes.len() > 16 {
        return None;
    }
    let sign = if bytes.first().is_some_and(|first| first & 0x80 != 0) {
        -1
    } else {
        0
    };
    Some(
        bytes
            .iter()
            .fold(sign, |number, byte| number << 8 | i128::from(*byte)),
    )
}

/// Without the bytes in front that only repeat the sign.
pub fn shortest(mut bytes: &[u8]) -> &[u8] {
    while let [first, second, ..] = bytes
        && ((*first == 0 && second & 0x80 == 0) || (*first == 0xff && second & 0x80 != 0))
    {
        bytes = &bytes[1..];
    }
    bytes
}

/// Sign and digits of a number of any length.
fn long_digits(bytes: &[u8]) -> (bool, String) {
    const BILLION: u64 = 1_000_000_000;
    let is_negative = bytes[0] & 0x80 != 0;
    let mut magnitude = bytes.to_vec();
    if is_negative {
        negate(&mut magnitude);
    }
    let mut limbs: Vec<u32> = magnitude
        .rchunks(4)
        .map(|chunk| chunk.iter().fold(0, |limb, byte| limb << 8 | u32::from(*byte)))
        .collect();
    let mut groups = Vec::new();
    while limbs.iter().any(|limb| *limb != 0) {
        let mut rest = 0;
        for limb in limbs.iter_mut().rev() {
            let number = rest << 32 | u64::from(*limb);
            *limb = (number / BILLION) as u32;
            rest = number % BILLION;
        }
        groups.push(rest);
    }
    let mut digits = groups.pop().unwrap_or(0).to_string();
    digits.extend(groups.iter().rev().map(|group| format!("{group:09}")));
    (is_negative, digits)
}

fn negate(bytes: &mut [u8]) {
    let mut carry = true;
    for byte in bytes.iter_mut().rev() {
        let (sum, overflows) = (!*byte).overflowing_add(u8::from(carry));
        (*byte, carry) = (sum, overflows);
    }
}

/// Why a text is no decimal of a type.
#[derive(Debug, PartialEq)]
pub enum NoDecimal {
    /// It is none at all.
    NotANumber,
    /// The type cannot hold it: why, as a sentence's rest.
    OutOfRange(String),
}

/// A decimal number as text, with or without an exponent, as big-endian two's complement in as few bytes as there can be.
pub fn decimal_bytes(text: &str, precision: u32, scale: u32) -> Result<Vec<u8>, NoDecimal> {
    let (is_negative, digits, exponent) = digits_of(text).ok_or(NoDecimal::NotANumber)?;
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Ok(vec![0]);
    }
    let digits = scaled(digits, exponent + i64::from(scale))
        .ok_or_else(|| NoDecimal::OutOfRange(format!("it has more than {scale} digits behind the point")))?;
    if digits.len() > precision as usize {
        return Err(NoDecimal::OutOfRange(format!(
            "it has {} digits with a scale of {scale}, and {precision} is the most",
            digits.len()
        )));
    }
    if digits.len() > DECIMAL_BYTES_MAX * 2 {
        return Err(NoDecimal::OutOfRange(format!("it has {} digits", digits.len())));
    }
    let mut bytes = magnitude_of(&digits);
    if is_negative {
        negate(&mut bytes);
    }
    Ok(shortest(&bytes).to_vec())
}

/// Sign, all digits, and the power of ten of the last.
fn digits_of(text: &str) -> Option<(bool, String, i64)> {
    let (is_negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], rest[at + 1..].parse::<i64>().ok()?),
        None => (rest, 0),
    };
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, part].concat();
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let is_near = exponent.unsigned_abs() <= 10_000;
    (is_number && is_near).then(|| (is_negative, digits, exponent - part.len() as i64))
}

/// Digits moved by a power of ten; nothing where digits other than 0 would be lost.
fn scaled(digits: &str, power: i64) -> Option<String> {
    match usize::try_from(power) {
        Ok(power) => Some(format!("{digits}{}", "0".repeat(power))),
        Err(_) => {
            let lost = usize::try_from(power.unsigned_abs()).ok()?;
            let (kept, lost) = digits.split_at(digits.len().checked_sub(lost)?);
            lost.bytes().all(|byte| byte == b'0').then(|| kept.to_owned())
        }
    }
}

/// Always with room for the sign: a digit takes log2(10)/8 bytes, which is less than 5/12.
fn magnitude_of(digits: &str) -> Vec<u8> {
    let mut bytes = vec![0u8; digits.len() * 5 / 12 + 2];
    for digit in digits.bytes() {
        let mut carry = u32::from(digit - b'0');
        for byte in bytes.iter_mut().rev() {
            carry += u32::from(*byte) * 10;
            *byte = carry as u8;
            carry >>= 8;
        }
    }
    bytes
}

/// Two's complement in exactly so many bytes; nothing where it does not fit.
pub fn widened(bytes: &[u8], size: usize) -> Option<Vec<u8>> {
    let bytes = shortest(bytes);
    let is_negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let missing = size.checked_sub(bytes.len())?;
    let mut wide = vec![if is_negative { 0xff } else { 0 }; missing];
    wide.extend_from_slice(bytes);
    Some(wide)
}

impl Unit {
    /// How many are a second.
    pub fn in_second(self) -> i64 {
        match self {
            Unit::Millis => 1_000,
            Unit::Micros => 1_000_000,
            Unit::Nanos => 1_000_000_000,
        }
    }

    fn digits(self) -> usize {
        match self {
            Unit::Millis => 3,
            Unit::Micros => 6,
            Unit::Nanos => 9,
        }
    }
}

const DAY_SECONDS: i64 = 86_400;

/// `2026-01-31`; nothing outside of the years 0 to 9999, which ISO 8601 needs an agreement for.
pub fn date_text(days: i64) -> Option<String> {
    let (year, month, day) = civil(days);
    (0..=9999)
        .contains(&year)
        .then(|| format!("{year:04}-{month:02}-{day:02}"))
}

/// `12:30:00.250`; nothing beyond a day.
pub fn time_text(number: i64, unit: Unit) -> Option<String> {
    let (seconds, part) = (
        number.div_euclid(unit.in_second()),
        number.rem_euclid(unit.in_second()),
    );
    if !(0..DAY_SECONDS).contains(&seconds) {
        return None;
    }
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    Some(format!(
        "{hours:02}:{minutes:02}:{:02}.{part:0digits$}",
        seconds % 60,
        digits = unit.digits()
    ))
}

/// `2026-01-31T12:30:00.250Z`, without the `Z` where it is local.
pub fn timestamp_text(number: i64, unit: Unit, local: bool) -> Option<String> {
    let day = DAY_SECONDS * unit.in_second();
    let date = date_text(number.div_euclid(day))?;
    let time = time_text(number.rem_euclid(day), unit)?;
    Some(format!("{date}T{time}{}", if local { "" } else { "Z" }))
}

/// The day of `2026-01-31`, since 1970-01-01.
pub fn days_of(text: &str) -> Option<i64> {
    let (year, rest) = text.split_once('-')?;
    let (month, day) = rest.split_once('-')?;
    if [year.len(), month.len(), day.len()] != [4, 2, 2] {
        return None;
    }
    let [year, month, day] = [number(year)?, number(month)?, number(day)?];
    let days = days_before(year, month, day);
    // What does not come back the same was no day.
    (civil(days) == (year, month, day)).then_some(days)
}

/// `12:30:00.250`, since midnight; nothing where digits would be lost.
pub fn time_of(text: &str, unit: Unit) -> Option<i64> {
    let (clock, part) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = clock.split(':');
    let mut next = |limit: i64| {
        let part = parts.next().filter(|part| part.len() == 2)?;
        number(part).filter(|number| *number < limit)
    };
    let seconds = next(24)? * 3_600 + next(60)? * 60 + next(60)?;
    if parts.next().is_some() || text.ends_with('.') {
        return None;
    }
    // Digits beyond the unit must be zeros: nothing is lost.
    let kept = part.len().min(unit.digits());
    if part[kept..].bytes().any(|byte| byte != b'0') {
        return None;
    }
    let part = format!("{:0<digits$}", &part[..kept], digits = unit.digits());
    Some(seconds * unit.in_second() + number(&part)?)
}

/// `2026-01-31T12:30:00.250Z`, or with an offset, since 1970-01-01; without a zone where it is local.
pub fn timestamp_of(text: &str, unit: Unit, local: bool) -> Option<i64> {
    let (date, clock) = text.split_once(['T', ' '])?;
    let (clock, offset) = match clock {
        clock if local => (clock, 0),
        clock => offset_of(clock)?,
    };
    let seconds = days_of(date)? * DAY_SECONDS - offset * 60;
    let time = time_of(clock, unit)?;
    seconds.checked_mul(unit.in_second())?.checked_add(time)
}

/// The clock without its zone, and the zone's minutes ahead of UTC: `Z`, `+01:00`, `-0530`.
fn offset_of(clock: &str) -> Option<(&str, i64)> {
    if let Some(clock) = clock.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let at = clock.rfind(['+', '-'])?;
    let (clock, zone) = clock.split_at(at);
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let digits = zone[1..].replacen(':', "", 1);
    if digits.len() != 4 {
        return None;
    }
    let [hours, minutes] = [number(digits.get(..2)?)?, number(digits.get(2..)?)?];
    (hours < 24 && minutes < 60).then_some((clock, sign * (hours * 60 + minutes)))
}

/// Digits alone: `parse` would take a sign.
fn number(text: &str) -> Option<i64> {
    let are_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    are_digits.then(|| text.parse().ok())?
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar. Years begin in March and eras have 400 of
/// them, so that leap days come last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

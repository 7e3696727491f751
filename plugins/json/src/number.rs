//! Numbers as JSON writes them, compared without losing a digit.

use std::cmp::Ordering;

/// `digits` × 10^`exponent`, without zeros at either end; 0 has no digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Number {
    is_negative: bool,
    digits: String,
    exponent: i64,
}

/// Beyond, an exponent is taken for this one: no two numbers of that size are told apart.
const EXPONENT_MAX: i64 = 1_000_000_000;

impl Number {
    /// A text that JSON's grammar has found to be a number.
    pub(crate) fn read(text: &str) -> Number {
        let (is_negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match rest.find(['e', 'E']) {
            Some(at) => (&rest[..at], exponent(&rest[at + 1..])),
            None => (rest, 0),
        };
        let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits = [whole, part].concat();
        let mut exponent = exponent - part.len() as i64;
        let kept = digits.trim_end_matches('0').len();
        exponent += (digits.len() - kept) as i64;
        digits.truncate(kept);
        let digits = digits.trim_start_matches('0').to_owned();
        if digits.is_empty() {
            return Number {
                is_negative: false,
                digits,
                exponent: 0,
            };
        }
        Number {
            is_negative,
            digits,
            exponent,
        }
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    pub(crate) fn is_negative(&self) -> bool {
        self.is_negative
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.exponent >= 0
    }

    /// One text for each number.
    pub(crate) fn canonical(&self) -> String {
        let sign = if self.is_negative { "-" } else { "" };
        format!("{sign}{}e{}", self.digits, self.exponent)
    }

    /// Whether it is another, which is not 0, times a whole number.
    pub(crate) fn is_multiple_of(&self, other: &Number) -> bool {
        if self.is_zero() {
            return true;
        }
        let Ok(of) = other.digits.parse::<u64>() else {
            // So many digits that only a number with at least as many could be: by its own digits, or not at all.
            return self.digits == other.digits && self.exponent >= other.exponent;
        };
        // Without zeros at the end it takes a factor of ten for each place that the other has more.
        let of = u128::from(of);
        let power = self.exponent - other.exponent;
        let digits = self
            .digits
            .bytes()
            .fold(0, |rest, digit| (rest * 10 + u128::from(digit - b'0')) % of);
        match u64::try_from(power) {
            Ok(power) => (digits * power_of_ten(power, of)).is_multiple_of(of),
            Err(_) => false,
        }
    }

    pub(crate) fn compare(&self, other: &Number) -> Ordering {
        match (self.is_negative, other.is_negative) {
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => self.compare_size(other),
            (true, true) => other.compare_size(self),
        }
    }

    fn compare_size(&self, other: &Number) -> Ordering {
        match (self.is_zero(), other.is_zero()) {
            (true, true) => return Ordering::Equal,
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (false, false) => {}
        }
        let places = |number: &Number| number.digits.len() as i64 + number.exponent;
        // With the point at the same place, digits compare as texts do.
        places(self)
            .cmp(&places(other))
            .then_with(|| self.digits.cmp(&other.digits))
    }
}

fn exponent(text: &str) -> i64 {
    let digits = text.trim_start_matches(['+', '-']);
    let size = digits.parse().unwrap_or(EXPONENT_MAX).min(EXPONENT_MAX);
    if text.starts_with('-') { -size } else { size }
}

/// 10^`power` modulo a number below 2^64.
fn power_of_ten(mut power: u64, of: u128) -> u128 {
    let (mut result, mut factor) = (1 % of, 10 % of);
    while power > 0 {
        if power & 1 == 1 {
            result = result * factor % of;
        }
        factor = factor * factor % of;
        power >>= 1;
    }
    result
}

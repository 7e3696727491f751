//! Numbers as Java reads, narrows and writes them: what `Cast` and `MaskField` mean by a type.

/// `Double.parseDouble`, without its hexadecimal form.
pub(crate) fn double(text: &str) -> Option<f64> {
    let text = text.trim_matches(|character| character <= ' ');
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    match unsigned {
        "Infinity" => return Some(sign * f64::INFINITY),
        "NaN" => return Some(f64::NAN),
        _ => {}
    }
    let digits = unsigned.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(unsigned);
    let is_decimal = |character: char| matches!(character, '0'..='9' | '.' | 'e' | 'E' | '+' | '-');
    let begins = digits.starts_with(|character: char| character.is_ascii_digit() || character == '.');
    if !begins || !digits.chars().all(is_decimal) {
        return None;
    }
    digits.parse::<f64>().ok().map(|number| sign * number)
}

/// `Double.toString`, with the shortest digits that read as the same number, as Java has it since 19.
pub(crate) fn double_text(number: f64) -> String {
    java_text(&format!("{number:e}"), number)
}

/// `Float.toString`, in the same way.
pub(crate) fn float_text(number: f32) -> String {
    java_text(&format!("{number:e}"), f64::from(number))
}

/// From Rust's `d.ddde±n` to Java's form: plain from 0.001 to 10,000,000, else with an exponent.
fn java_text(scientific: &str, number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let digits: String = mantissa.chars().filter(|character| *character != '.').collect();
    if number == 0.0 {
        return format!("{sign}0.0");
    }
    if !(-3..7).contains(&exponent) {
        let fraction = if digits.len() > 1 { &digits[1..] } else { "0" };
        return format!("{sign}{}.{fraction}E{exponent}", &digits[..1]);
    }
    if exponent < 0 {
        let zeros = "0".repeat(exponent.unsigned_abs() as usize - 1);
        return format!("{sign}0.{zeros}{digits}");
    }
    let whole = exponent.unsigned_abs() as usize + 1;
    if digits.len() <= whole {
        return format!("{sign}{digits}{}.0", "0".repeat(whole - digits.len()));
    }
    format!("{sign}{}.{}", &digits[..whole], &digits[whole..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_java_writes_them() {
        for (number, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (100.0, "100.0"),
            (12.75, "12.75"),
            (0.001, "0.001"),
            (0.000_99, "9.9E-4"),
            (9_999_999.0, "9999999.0"),
            (1e7, "1.0E7"),
            (123_456_789.125, "1.23456789125E8"),
            (-1.5e-9, "-1.5E-9"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(double_text(number), text);
        }
        assert_eq!(float_text(0.1), "0.1");
        assert_eq!(float_text(16_777_216.0), "1.6777216E7");
    }

    #[test]
    fn texts_are_read_as_java_reads_them() {
        for (text, number) in [
            ("12", Some(12.0)),
            (" +1.5e3 ", Some(1500.0)),
            (".5", Some(0.5)),
            ("1d", Some(1.0)),
            ("-Infinity", Some(f64::NEG_INFINITY)),
            ("inf", None),
            ("nan", None),
            ("", None),
            ("1_0", None),
            ("0x1F", None),
            ("--1", None),
        ] {
            assert_eq!(double(text), number, "{text:?}");
        }
    }
}

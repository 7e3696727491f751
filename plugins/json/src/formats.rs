//! The formats of JSON Schema that can be told from a text alone. Others are not checked.

use plain::number::{Unit, days_of, time_of, timestamp_of};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether a text has a format; of a format that is not known every text is.
pub(crate) fn fits(format: &str, text: &str) -> bool {
    match format {
        "date-time" => is_date_time(text),
        "date" => days_of(text).is_some(),
        "time" => is_time(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "uuid" => is_uuid(text),
        "email" => is_email(text),
        "hostname" => is_host_name(text),
        "uri" => is_uri(text),
        "json-pointer" => is_json_pointer(text),
        "regex" => regress::Regex::with_flags(text, "u").is_ok(),
        _ => true,
    }
}

/// RFC 3339, section 5.6.
fn is_date_time(text: &str) -> bool {
    let upper = text.to_ascii_uppercase();
    let (Some(date), Some(clock)) = (upper.get(..10), upper.get(11..)) else {
        return false;
    };
    upper.as_bytes()[10] == b'T' && days_of(date).is_some() && is_time(clock)
}

/// A clock with a zone. A second may be the 60th: a leap second, which is one at 23:59 UTC alone.
fn is_time(text: &str) -> bool {
    let upper = text.to_ascii_uppercase();
    let Some(at) = upper.find(['Z', '+', '-']) else {
        return false;
    };
    let (clock, zone) = upper.split_at(at);
    let whole = clock.split_once('.').map_or(clock, |(whole, part)| {
        let are_digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if are_digits { whole } else { "" }
    });
    let has_zone = zone == "Z" || zone.len() == 6 && zone.as_bytes()[3] == b':';
    if whole.len() != 8 || !has_zone {
        return false;
    }
    // The leap second as the one before it: in UTC that must be the last of a day.
    let (earlier, is_leap) = match whole.strip_suffix(":60") {
        Some(minute) => (format!("{minute}:59"), true),
        None => (whole.to_owned(), false),
    };
    if time_of(&earlier, Unit::Millis).is_none() {
        return false;
    }
    let Some(millis) = timestamp_of(&format!("1970-01-02T{earlier}{zone}"), Unit::Millis, false) else {
        return false;
    };
    !is_leap || millis.rem_euclid(86_400_000) == 86_399_000
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups
            .iter()
            .all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A name, one `@`, and a host: as much as a program without a mail server can say.
fn is_email(text: &str) -> bool {
    let Some((name, host)) = text.rsplit_once('@') else {
        return false;
    };
    let is_quoted = name.len() > 2 && name.starts_with('"') && name.ends_with('"');
    let is_plain = name.split('.').all(|part| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte))
    });
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match literal {
        None => is_host_name(host),
        Some(address) => match address.strip_prefix("IPv6:") {
            Some(six) => six.parse::<Ipv6Addr>().is_ok(),
            None => address.parse::<Ipv4Addr>().is_ok(),
        },
    };
    (is_quoted || is_plain) && is_host
}

/// RFC 1123, section 2.1.
fn is_host_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
}

/// A scheme, and no character behind it that RFC 3986 does not have.
fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let mut bytes = rest.bytes();
    let mut is_right = true;
    while let Some(byte) = bytes.next() {
        is_right &= match byte {
            b'%' => {
                let mut digit = || bytes.next().is_some_and(|byte| byte.is_ascii_hexdigit());
                digit() && digit()
            }
            _ => byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=".contains(&byte),
        };
    }
    is_scheme && is_right
}

/// RFC 6901.
fn is_json_pointer(text: &str) -> bool {
    let is_begun = text.is_empty() || text.starts_with('/');
    let mut escapes = text.split('~').skip(1);
    is_begun && escapes.all(|behind| behind.starts_with(['0', '1']))
}

//! Whether a value may stand for a plugin's key: what a configuration is checked with, and what `culvert plugin test` keeps
//! to when it makes values of its own.

use crate::units::{ByteSize, parse_duration};
use culvert_host::{Field, FieldType, Validator};
use regex::Regex;

/// Why a value may not stand.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// What is wrong; a password's value is not in it.
    pub problem: String,
    /// What would be valid.
    pub valid: String,
}

/// Checks a value against the key's type and its validators; spaces around it do not count.
///
/// # Errors
/// The first check that fails.
pub fn check(field: &Field, value: &str) -> Result<(), Wrong> {
    let value = value.trim();
    let wrong = |what: &str, valid: String| {
        let shown = match field.kind {
            FieldType::Password => "the value".to_owned(),
            _ => format!("{value:?}"),
        };
        Wrong {
            problem: format!("{shown} {what}"),
            valid,
        }
    };
    of_kind(field.kind, value).map_err(|(what, valid)| wrong(what, valid.into()))?;
    field
        .validators
        .iter()
        .try_for_each(|validator| hold(validator, value).map_err(|valid| wrong("is not valid", valid)))
}

/// What it is not, and what would be valid, where the value is not of the kind.
fn of_kind(kind: FieldType, value: &str) -> Result<(), (&'static str, &'static str)> {
    const NUMBER: &str = "is not a number of its kind";
    let (is_one, what, valid) = match kind {
        FieldType::Boolean => (
            ["true", "false"].contains(&value.to_ascii_lowercase().as_str()),
            "is no truth value",
            "true or false",
        ),
        FieldType::Short => (value.parse::<i16>().is_ok(), NUMBER, "-32768 to 32767"),
        FieldType::Int => (value.parse::<i32>().is_ok(), NUMBER, "-2147483648 to 2147483647"),
        FieldType::Long => (value.parse::<i64>().is_ok(), NUMBER, "a whole number"),
        FieldType::Double => (value.parse::<f64>().is_ok(), NUMBER, "a number"),
        FieldType::String | FieldType::Password | FieldType::List | FieldType::Class => return Ok(()),
    };
    if is_one { Ok(()) } else { Err((what, valid)) }
}

/// What would be valid, where the value is not.
fn hold(validator: &Validator, value: &str) -> Result<(), String> {
    let need = |holds: bool, valid: String| if holds { Ok(()) } else { Err(valid) };
    let shown = |bound: &Option<f64>| bound.map_or("any".to_owned(), |bound| bound.to_string());
    match validator {
        Validator::Range(least, most) => {
            let number: f64 = value.parse().unwrap_or(f64::NAN);
            let holds = least.is_none_or(|least| number >= least) && most.is_none_or(|most| number <= most);
            need(
                holds && !number.is_nan(),
                format!("{} to {}", shown(least), shown(most)),
            )
        }
        Validator::OneOf(texts) => need(texts.iter().any(|text| text == value), texts.join(", ")),
        Validator::Pattern(pattern) => {
            let whole = Regex::new(&format!("^(?:{pattern})$"));
            let holds = whole.map_or(true, |whole| whole.is_match(value));
            need(holds, format!("what matches {pattern}"))
        }
        Validator::NonEmpty => need(!value.is_empty(), "any text".into()),
        Validator::Length(least, most) => {
            let length = u32::try_from(value.chars().count()).unwrap_or(u32::MAX);
            let holds = least.is_none_or(|least| length >= least) && most.is_none_or(|most| length <= most);
            need(
                holds,
                format!(
                    "{} to {} characters",
                    least.unwrap_or(0),
                    most.unwrap_or(u32::MAX)
                ),
            )
        }
        Validator::Url(schemes) => {
            let scheme = value
                .split_once("://")
                .map(|(scheme, rest)| (scheme, !rest.is_empty()));
            let holds = scheme.is_some_and(|(scheme, has_rest)| {
                has_rest && (schemes.is_empty() || schemes.iter().any(|valid| valid == scheme))
            });
            need(holds, format!("an address ({})", schemes.join(", ")))
        }
        Validator::Duration => need(
            parse_duration(value).is_some(),
            "a time such as 250ms, 5s, 2min or 1h".into(),
        ),
        Validator::Size => need(
            ByteSize::parse(value).is_some(),
            "a size such as 64KiB or 1GB".into(),
        ),
    }
}

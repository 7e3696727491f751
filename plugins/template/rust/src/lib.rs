//! Refuses orders with a negative amount and marks the others as checked.

use culvert_plugin::prelude::*;
use serde_json::Value;

/// What is done with an order.
#[derive(Choice, Clone, Copy, PartialEq)]
pub enum Mode {
    /// Check it, and add a field.
    Mark,
    /// Only check it.
    Validate,
    /// Let it pass.
    Off,
}

/// What a connector may set.
#[derive(Config)]
pub struct Settings {
    /// mark: check and add a field; validate: only check; off: let everything pass.
    #[config(default = "mark")]
    mode: Mode,
}

/// The plugin, open.
pub struct Plugin {
    mode: Mode,
}

impl Transform for Plugin {
    type Config = Settings;
    const ABOUT: About = About::new(
        "plugin-name",
        "0.1.0",
        "Refuses orders with a negative amount and marks the others as checked",
    )
    .needs(Needs::VALUE)
    .promises(Promises::DETERMINISTIC.union(Promises::STATELESS));

    fn open(settings: Settings) -> Result<Self, Failure> {
        Ok(Plugin { mode: settings.mode })
    }

    fn each(&mut self, message: Message<'_>) -> Answer {
        let Some(value) = message.value().filter(|_| self.mode != Mode::Off) else {
            return Ok(Outcome::Keep);
        };
        let order = match serde_json::from_slice(value) {
            Ok(Value::Object(order)) => order,
            Ok(_) => {
                return Err(Rejection::new("not-an-object", "the value is JSON, and not an object").into());
            }
            Err(fault) => return Err(Rejection::new("not-json", fault.to_string()).into()),
        };
        if let Some(amount) = order
            .get("amount")
            .and_then(Value::as_f64)
            .filter(|amount| *amount < 0.0)
        {
            let reason = format!("{amount} is below 0");
            return Err(Rejection::new("negative-amount", reason).at("/amount").into());
        }
        if self.mode == Mode::Validate || order.contains_key("checked") {
            return Ok(Outcome::Keep);
        }
        Ok(Outcome::Value(with_checked(value, order.is_empty())))
    }
}

culvert_plugin::export_transform!(Plugin);

/// Puts the field before the closing brace: all else keeps its spelling, numbers of any length too.
fn with_checked(object: &[u8], is_empty: bool) -> Vec<u8> {
    let body = object.trim_ascii_end();
    let field = if is_empty {
        &br#""checked":true}"#[..]
    } else {
        br#","checked":true}"#
    };
    [&body[..body.len() - 1], field].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use culvert_plugin::testing::Harness;

    #[test]
    fn only_what_is_below_zero_is_refused() {
        let mut plugin = Harness::<Plugin>::open([("mode", "mark")]).expect("the settings are right");
        let outcomes = plugin
            .message(br#"{"amount": 0}"#)
            .message(br#"{"amount": -1}"#)
            .run()
            .expect("it runs");
        assert_eq!(
            outcomes[0],
            Outcome::Value(br#"{"amount": 0,"checked":true}"#.to_vec())
        );
        assert!(matches!(&outcomes[1], Outcome::Reject(why) if why.code == "negative-amount"));
    }
}

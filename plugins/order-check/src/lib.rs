#![doc = include_str!("../README.md")]

mod order;

use culvert_plugin::prelude::*;
use order::Order;

/// What an order that is in order goes on as.
#[derive(Choice, Clone, Copy, PartialEq)]
enum Shape {
    /// As it came.
    Off,
    /// As a flat row of a table.
    Storage,
}

/// The settings.
#[derive(Config)]
struct Settings {
    /// What an order that is in order goes on as.
    #[config(default = "off", importance = "high", example = "storage")]
    transform: Shape,
}

/// The plugin.
struct OrderCheck {
    shape: Shape,
}

impl Transform for OrderCheck {
    type Config = Settings;

    const ABOUT: About = culvert_plugin::about!()
        .documentation(include_str!("../README.md"))
        .needs(Needs::VALUE)
        .promises(Promises::DETERMINISTIC.union(Promises::STATELESS));

    fn open(settings: Settings) -> Result<OrderCheck, Failure> {
        Ok(OrderCheck {
            shape: settings.transform,
        })
    }

    fn each(&mut self, message: Message<'_>) -> Answer {
        let Some(value) = message.value() else {
            return Ok(Outcome::Keep);
        };
        let order = Order::read(value)?;
        order.check()?;
        match self.shape {
            Shape::Off => Ok(Outcome::Keep),
            Shape::Storage => Ok(Outcome::json(&order.row())?),
        }
    }
}

/// The row of an order, as JSON.
///
/// # Errors
/// What is wrong with the order.
pub fn row(value: &[u8]) -> Result<Vec<u8>, Rejection> {
    let order = Order::read(value)?;
    order.check()?;
    serde_json::to_vec(&order.row()).map_err(|error| Rejection::new("row", error.to_string()))
}

culvert_plugin::export_transform!(OrderCheck);

#[cfg(test)]
mod tests;

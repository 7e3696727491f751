//! An order, its rules, and its row.
//!
//! The ordinary order is read once, borrowing its texts. Only an order that cannot be read so is looked at again, as
//! loose JSON, to say which field is at fault.

use culvert_plugin::Rejection;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;

#[derive(Deserialize)]
pub(crate) struct Order<'a> {
    #[serde(borrow)]
    order_id: Cow<'a, str>,
    #[serde(borrow)]
    customer_id: Cow<'a, str>,
    #[serde(borrow)]
    restaurant_id: Cow<'a, str>,
    #[serde(borrow)]
    items: Vec<Item<'a>>,
    total_cents: i64,
    #[serde(borrow)]
    currency: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    sku: Cow<'a, str>,
    quantity: i64,
    price_cents: i64,
}

/// One row of a table of orders.
#[derive(Serialize)]
pub(crate) struct Row<'a> {
    order_id: &'a str,
    customer_id: &'a str,
    restaurant_id: &'a str,
    item_count: usize,
    total_cents: i64,
    currency: String,
}

impl<'a> Order<'a> {
    pub(crate) fn read(value: &'a [u8]) -> Result<Order<'a>, Rejection> {
        let read = match std::str::from_utf8(value) {
            // Once for the whole of it, rather than text by text.
            Ok(text) => serde_json::from_str(text),
            Err(_) => serde_json::from_slice(value),
        };
        read.map_err(|error| diagnosis(value, &error))
    }

    /// The rules that an order's types do not hold.
    pub(crate) fn check(&self) -> Result<(), Rejection> {
        let ids = [
            ("/order_id", &self.order_id),
            ("/customer_id", &self.customer_id),
            ("/restaurant_id", &self.restaurant_id),
        ];
        if let Some((field, _)) = ids.iter().find(|(_, id)| id.is_empty()) {
            return Err(Rejection::new("empty-field", "it must not be empty").at(*field));
        }
        if self.items.is_empty() {
            return Err(Rejection::new("no-items", "an order lists at least one item").at("/items"));
        }
        for (index, item) in self.items.iter().enumerate() {
            item.check(index)?;
        }
        // Two numbers of 63 bits, as often as fits into memory: no sum of them overflows 128 bits.
        let sum: i128 = self
            .items
            .iter()
            .map(|item| i128::from(item.quantity) * i128::from(item.price_cents))
            .sum();
        if sum != i128::from(self.total_cents) {
            let reason = format!("the items come to {sum}, and the total is {}", self.total_cents);
            return Err(Rejection::new("total-mismatch", reason).at("/total_cents"));
        }
        if self.currency.len() != 3 || !self.currency.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return Err(
                Rejection::new("bad-currency", "a currency is three letters, such as EUR").at("/currency"),
            );
        }
        Ok(())
    }

    pub(crate) fn row(&self) -> Row<'_> {
        Row {
            order_id: &self.order_id,
            customer_id: &self.customer_id,
            restaurant_id: &self.restaurant_id,
            item_count: self.items.len(),
            total_cents: self.total_cents,
            currency: self.currency.to_ascii_uppercase(),
        }
    }
}

impl Item<'_> {
    fn check(&self, index: usize) -> Result<(), Rejection> {
        let at = |field: &str| format!("/items/{index}/{field}");
        if self.sku.is_empty() {
            return Err(Rejection::new("empty-field", "it must not be empty").at(at("sku")));
        }
        if self.quantity <= 0 {
            let reason = format!("a quantity is above 0, and this is {}", self.quantity);
            return Err(Rejection::new("quantity-not-positive", reason).at(at("quantity")));
        }
        if self.price_cents < 0 {
            let reason = format!("a price is not below 0, and this is {}", self.price_cents);
            return Err(Rejection::new("negative-price", reason).at(at("price_cents")));
        }
        Ok(())
    }
}

/// What a field must be.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    WholeNumber,
    List,
}

const ORDER: [(&str, Kind); 6] = [
    ("order_id", Kind::Text),
    ("customer_id", Kind::Text),
    ("restaurant_id", Kind::Text),
    ("items", Kind::List),
    ("total_cents", Kind::WholeNumber),
    ("currency", Kind::Text),
];

const ITEM: [(&str, Kind); 3] = [
    ("sku", Kind::Text),
    ("quantity", Kind::WholeNumber),
    ("price_cents", Kind::WholeNumber),
];

/// Which field of an unreadable order is at fault. `error` is what reading it said.
fn diagnosis(value: &[u8], error: &serde_json::Error) -> Rejection {
    let Ok(order) = serde_json::from_slice::<Value>(value) else {
        return Rejection::new("not-json", format!("the value is no JSON: {error}"));
    };
    if let Err(rejection) = check_fields(&order, "", &ORDER) {
        return rejection;
    }
    let items = order["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let faults = items
        .iter()
        .enumerate()
        .map(|(index, item)| check_fields(item, &format!("/items/{index}"), &ITEM));
    // What is left is what loose JSON does not see: a field that is there twice.
    let unseen = || Rejection::new("not-an-order", format!("it cannot be read as an order: {error}"));
    faults.filter_map(Result::err).next().unwrap_or_else(unseen)
}

fn check_fields(value: &Value, path: &str, fields: &[(&str, Kind)]) -> Result<(), Rejection> {
    let Some(object) = value.as_object() else {
        let code = if path.is_empty() {
            "not-an-order"
        } else {
            "wrong-type"
        };
        return Err(Rejection::new(code, "it must be an object").at(path));
    };
    for (name, kind) in fields {
        let at = format!("{path}/{name}");
        let Some(field) = object.get(*name) else {
            return Err(Rejection::new("missing-field", "an order has it").at(at));
        };
        let (is_right, wanted) = match kind {
            Kind::Text => (field.is_string(), "a text"),
            Kind::WholeNumber => (field.is_i64(), "a whole number of 64 bits"),
            Kind::List => (field.is_array(), "a list"),
        };
        if !is_right {
            return Err(Rejection::new("wrong-type", format!("it must be {wanted}")).at(at));
        }
    }
    Ok(())
}

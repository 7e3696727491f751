use super::*;
use culvert_plugin::testing::Harness;
use proptest::prelude::*;
use serde_json::{Value, json};

fn order() -> Value {
    json!({
        "order_id": "o-1", "customer_id": "c-7", "restaurant_id": "r-3",
        "items": [
            { "sku": "soup", "quantity": 2, "price_cents": 450 },
            { "sku": "bread", "quantity": 1, "price_cents": 120, "warm": true },
        ],
        "total_cents": 1020, "currency": "eur", "note": "no onions",
    })
}

fn harness(transform: &str) -> Harness<OrderCheck> {
    Harness::open([("transform", transform)]).unwrap()
}

/// What comes of an order with one change; `expected` is `keep`, or the code and the field of a rejection.
fn check(change: impl FnOnce(&mut Value), expected: &str) {
    let mut order = order();
    change(&mut order);
    check_bytes(order.to_string().as_bytes(), expected);
}

fn check_bytes(value: &[u8], expected: &str) {
    for shape in ["off", "storage"] {
        let said = match harness(shape).one(value) {
            Outcome::Keep | Outcome::Value(_) => "keep".to_owned(),
            Outcome::Reject(rejection) => {
                format!("{} {}", rejection.code, rejection.field.unwrap_or_default())
                    .trim()
                    .to_owned()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(
            said,
            expected,
            "transform={shape}, {}",
            String::from_utf8_lossy(value)
        );
    }
}

#[test]
fn an_order_in_order_passes() {
    check(|_| {}, "keep");
    check(
        |order| order["order_id"] = json!("\u{fc}ber \"quoted\" \u{1f35c}"),
        "keep",
    );
    check(
        |order| order["items"][0]["price_cents"] = json!(0),
        "total-mismatch /total_cents",
    );
    assert_eq!(harness("off").one(order().to_string().as_bytes()), Outcome::Keep);
    assert_eq!(harness("storage").one(NewMessage::tombstone()), Outcome::Keep);
}

#[test]
fn every_field_is_required_and_has_its_type() {
    for field in [
        "order_id",
        "customer_id",
        "restaurant_id",
        "items",
        "total_cents",
        "currency",
    ] {
        let missing = |order: &mut Value| order.as_object_mut().unwrap().remove(field);
        check(|order| drop(missing(order)), &format!("missing-field /{field}"));
        check(|order| order[field] = json!({}), &format!("wrong-type /{field}"));
        check(
            |order| order[field] = json!(null),
            &format!("wrong-type /{field}"),
        );
    }
    for field in ["sku", "quantity", "price_cents"] {
        let missing = |order: &mut Value| order["items"][1].as_object_mut().unwrap().remove(field);
        check(
            |order| drop(missing(order)),
            &format!("missing-field /items/1/{field}"),
        );
        check(
            |order| order["items"][1][field] = json!([]),
            &format!("wrong-type /items/1/{field}"),
        );
    }
    check(|order| order["items"][0] = json!("soup"), "wrong-type /items/0");
    check(
        |order| order["items"][0]["quantity"] = json!(1.5),
        "wrong-type /items/0/quantity",
    );
    check(
        |order| order["total_cents"] = json!(u64::MAX),
        "wrong-type /total_cents",
    );
    check_bytes(b"[]", "not-an-order");
    check_bytes(b"7", "not-an-order");
}

#[test]
fn each_rule_has_its_code_and_names_the_field() {
    check(
        |order| order["customer_id"] = json!(""),
        "empty-field /customer_id",
    );
    check(|order| order["items"] = json!([]), "no-items /items");
    check(
        |order| order["items"][1]["sku"] = json!(""),
        "empty-field /items/1/sku",
    );
    check(
        |order| order["items"][0]["quantity"] = json!(0),
        "quantity-not-positive /items/0/quantity",
    );
    check(
        |order| order["items"][0]["quantity"] = json!(-2),
        "quantity-not-positive /items/0/quantity",
    );
    check(
        |order| order["items"][1]["price_cents"] = json!(-1),
        "negative-price /items/1/price_cents",
    );
    check(
        |order| order["total_cents"] = json!(1019),
        "total-mismatch /total_cents",
    );
    check(
        |order| order["currency"] = json!("euro"),
        "bad-currency /currency",
    );
    check(
        |order| order["currency"] = json!("\u{20ac}"),
        "bad-currency /currency",
    );
}

#[test]
fn a_sum_beyond_64_bits_is_a_mismatch_and_no_overflow() {
    check(
        |order| {
            order["items"] = json!([
                { "sku": "a", "quantity": i64::MAX, "price_cents": i64::MAX },
                { "sku": "b", "quantity": i64::MAX, "price_cents": i64::MAX },
            ]);
        },
        "total-mismatch /total_cents",
    );
}

#[test]
fn what_is_no_json_or_says_things_twice_is_refused() {
    check_bytes(b"", "not-json");
    check_bytes(b"{\"order_id\":", "not-json");
    check_bytes(b"\xff\xfe", "not-json");
    let twice = order().to_string().replacen("{", "{\"order_id\":\"other\",", 1);
    check_bytes(twice.as_bytes(), "not-an-order");
}

#[test]
fn storage_makes_a_flat_row() {
    let outcome = harness("storage").one(order().to_string().as_bytes());
    let row = r#"{"order_id":"o-1","customer_id":"c-7","restaurant_id":"r-3","item_count":2,"total_cents":1020,"currency":"EUR"}"#;
    assert_eq!(outcome, Outcome::Value(row.as_bytes().to_vec()));
}

proptest! {
    /// Whatever comes in, there is an outcome, and only an order in order is let through.
    #[test]
    fn any_bytes_have_an_outcome(value in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(matches!(harness("storage").one(value), Outcome::Reject(_)));
    }

    /// An order that is cut, or has a byte changed, has an outcome too.
    #[test]
    fn a_damaged_order_has_an_outcome(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut value = order().to_string().into_bytes();
        let at = at.index(value.len());
        if cut {
            value.truncate(at);
        } else {
            value[at] = byte;
        }
        let outcome = harness("storage").one(value);
        prop_assert!(matches!(outcome, Outcome::Value(_) | Outcome::Reject(_)));
        prop_assert!(!cut || matches!(outcome, Outcome::Reject(_)));
    }

    /// The total decides, whatever the items are.
    #[test]
    fn the_total_is_the_sum(items in proptest::collection::vec((1i64..1000, 0i64..100_000), 1..20), off in -2i64..3) {
        let mut order = order();
        order["items"] = items
            .iter()
            .map(|(quantity, price)| json!({ "sku": "s", "quantity": quantity, "price_cents": price }))
            .collect();
        let sum: i64 = items.iter().map(|(quantity, price)| quantity * price).sum();
        order["total_cents"] = json!(sum + off);
        let outcome = harness("off").one(order.to_string().as_bytes());
        prop_assert_eq!(outcome == Outcome::Keep, off == 0);
    }
}

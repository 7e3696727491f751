//! What each kind of record looks like: its fields in their order, and how the dice fill them.
//!
//! Changing anything here changes the history of every generator that runs: a new kind is added instead.

use super::dice::Dice;
use super::records::{Fault, Kind};
use apache_avro::Schema;
use apache_avro::writer::datum::GenericDatumWriter;
use serde::{Serialize, Serializer};
use std::fmt;
use std::io::Write;
use std::sync::LazyLock;

/// Which record is made.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) kind: Kind,
    pub(super) seed: u64,
    pub(super) partition: u32,
    /// Below 2^63: Avro's long ends there, and so does SQLite's integer.
    pub(super) index: u64,
}

/// A record before it is written down.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Body<'a> {
    Order(Order<'a>),
    Reading(Reading),
    Click(Click),
    Transaction(Transaction),
}

/// Rolls the record at `place` and lends it to `write`.
pub(super) fn with_body(place: Place, fault: Option<Fault>, dice: &mut Dice, write: impl FnOnce(&Body<'_>)) {
    match place.kind {
        Kind::Orders => {
            let mut items = [Item::default(); ITEMS_MAX];
            let items = Item::choose(&mut items, fault, dice);
            write(&Body::Order(Order::roll(place, fault, dice, items)));
        }
        Kind::Sensors => write(&Body::Reading(Reading::roll(place, fault, dice))),
        Kind::Clicks => write(&Body::Click(Click::roll(place, fault, dice))),
        Kind::Transactions => write(&Body::Transaction(Transaction::roll(place, fault, dice))),
    }
}

impl Body<'_> {
    /// The key stays where the fault took the field away: partitioning must not change with it.
    pub(super) fn write_key(&self, key: &mut Vec<u8>) {
        let id = match self {
            Body::Order(order) => order.id,
            Body::Reading(reading) => reading.key,
            Body::Click(click) => click.key,
            Body::Transaction(transaction) => transaction.key,
        };
        // Writing into a vector cannot fail.
        let _ = write!(key, "{id}");
    }

    /// Writes the fields without framing and checksum.
    pub(super) fn write_avro(
        &self,
        writer: &GenericDatumWriter<'_>,
        value: &mut Vec<u8>,
    ) -> Result<usize, apache_avro::Error> {
        match self {
            Body::Order(order) => writer.write_ser(value, order),
            Body::Reading(reading) => writer.write_ser(value, reading),
            Body::Click(click) => writer.write_ser(value, click),
            Body::Transaction(transaction) => writer.write_ser(value, transaction),
        }
    }
}

#[derive(Serialize)]
pub(super) struct Order<'a> {
    stream: StreamName,
    sequence: i64,
    id: Id,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer: Option<Id>,
    placed_ms: i64,
    items: &'a [Item],
    total_cents: i64,
    currency: &'static str,
}

#[derive(Clone, Copy, Default, Serialize)]
struct Item {
    dish: &'static str,
    quantity: i32,
    price_cents: i32,
}

const ITEMS_MAX: usize = 4;
const CUSTOMERS: u32 = 100;
const DISHES: [(&str, i32); 20] = [
    ("margherita", 890),
    ("quattro formaggi", 1190),
    ("lasagne", 1250),
    ("risotto", 1380),
    ("minestrone", 650),
    ("caesar salad", 920),
    ("greek salad", 880),
    ("burger", 1150),
    ("veggie burger", 1090),
    ("fries", 390),
    ("ramen", 1290),
    ("gyoza", 690),
    ("sushi set", 1890),
    ("pad thai", 1190),
    ("green curry", 1240),
    ("naan", 320),
    ("dal", 990),
    ("tiramisu", 590),
    ("lemonade", 350),
    ("water", 250),
];

impl<'a> Order<'a> {
    fn roll(place: Place, fault: Option<Fault>, dice: &mut Dice, items: &'a [Item]) -> Order<'a> {
        let sum: i64 = items
            .iter()
            .map(|item| i64::from(item.quantity) * i64::from(item.price_cents))
            .sum();
        let customer = Id {
            prefix: "customer",
            partition: None,
            number: dice.below(CUSTOMERS).into(),
        };
        Order {
            stream: StreamName(place),
            sequence: place.index.cast_signed(),
            id: Id {
                prefix: "order",
                partition: Some(place.partition),
                number: place.index,
            },
            customer: (fault != Some(Fault::Missing)).then_some(customer),
            placed_ms: moment(place.index, dice),
            items,
            total_cents: if fault == Some(Fault::Contradiction) {
                sum + 1
            } else {
                sum
            },
            currency: "EUR",
        }
    }
}

impl Item {
    fn choose<'a>(items: &'a mut [Item; ITEMS_MAX], fault: Option<Fault>, dice: &mut Dice) -> &'a [Item] {
        let count = 1 + dice.below(4) as usize;
        for item in &mut items[..count] {
            let (dish, price_cents) = dice.pick(&DISHES);
            *item = Item {
                dish,
                quantity: 1 + dice.pick(&[0, 0, 0, 1, 2]),
                price_cents,
            };
        }
        if fault == Some(Fault::Negative) {
            items[0].quantity = -items[0].quantity;
        }
        &items[..count]
    }
}

#[derive(Serialize)]
pub(super) struct Reading {
    stream: StreamName,
    sequence: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<Id>,
    site: &'static str,
    measured_ms: i64,
    temperature: f64,
    temperature_max: f64,
    unit: &'static str,
    humidity_percent: i32,
    #[serde(skip)]
    key: Id,
}

const DEVICES: u32 = 64;
const SITES: [&str; 5] = ["north mill", "harbour", "cold store", "roof", "pump house"];

impl Reading {
    fn roll(place: Place, fault: Option<Fault>, dice: &mut Dice) -> Reading {
        let number = dice.below(DEVICES);
        let device = Id {
            prefix: "device",
            partition: Some(place.partition),
            number: number.into(),
        };
        let highest = 85.0;
        // Tenths of a degree, so that a reading has one decimal: -20.0 to 59.9.
        let measured = (f64::from(dice.below(800)) - 200.0) / 10.0;
        let humidity = 1 + i32::try_from(dice.below(100)).unwrap_or(0);
        Reading {
            stream: StreamName(place),
            sequence: place.index.cast_signed(),
            device: (fault != Some(Fault::Missing)).then_some(device),
            site: SITES[number as usize % SITES.len()],
            measured_ms: moment(place.index, dice),
            temperature: if fault == Some(Fault::Contradiction) {
                measured + 200.0
            } else {
                measured
            },
            temperature_max: highest,
            unit: "celsius",
            humidity_percent: if fault == Some(Fault::Negative) {
                -humidity
            } else {
                humidity
            },
            key: device,
        }
    }
}

#[derive(Serialize)]
pub(super) struct Click {
    stream: StreamName,
    sequence: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Id>,
    page: &'static str,
    referrer: &'static str,
    started_ms: i64,
    ended_ms: i64,
    duration_ms: i64,
    #[serde(skip)]
    key: Id,
}

const USERS: u32 = 500;
const PAGES: [&str; 8] = [
    "/",
    "/menu",
    "/menu/pizza",
    "/basket",
    "/checkout",
    "/account",
    "/help",
    "/offers",
];
const REFERRERS: [&str; 4] = [
    "",
    "https://search.example/",
    "https://news.example/food",
    "https://mail.example/",
];

impl Click {
    fn roll(place: Place, fault: Option<Fault>, dice: &mut Dice) -> Click {
        let number = dice.below(USERS).into();
        let user = Id {
            prefix: "user",
            partition: Some(place.partition),
            number,
        };
        let started_ms = moment(place.index, dice);
        let stayed = 1 + dice.below(60_000);
        Click {
            stream: StreamName(place),
            sequence: place.index.cast_signed(),
            user: (fault != Some(Fault::Missing)).then_some(user),
            page: dice.pick(&PAGES),
            referrer: dice.pick(&REFERRERS),
            started_ms,
            ended_ms: started_ms + i64::from(stayed),
            duration_ms: match fault {
                Some(Fault::Negative) => -i64::from(stayed),
                Some(Fault::Contradiction) => i64::from(stayed) + 1,
                _ => i64::from(stayed),
            },
            key: user,
        }
    }
}

#[derive(Serialize)]
pub(super) struct Transaction {
    stream: StreamName,
    sequence: i64,
    id: Id,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<Id>,
    booked_ms: i64,
    direction: &'static str,
    amount_cents: i64,
    balance_before_cents: i64,
    balance_after_cents: i64,
    currency: &'static str,
    #[serde(skip)]
    key: Id,
}

const ACCOUNTS: u32 = 200;

impl Transaction {
    fn roll(place: Place, fault: Option<Fault>, dice: &mut Dice) -> Transaction {
        let number = dice.below(ACCOUNTS).into();
        let account = Id {
            prefix: "account",
            partition: Some(place.partition),
            number,
        };
        let (direction, sign) = dice.pick(&[("in", 1), ("out", -1)]);
        let amount = 1 + i64::from(dice.below(500_000));
        let before = 500_000 + i64::from(dice.below(1_000_000));
        let after = before + sign * amount;
        Transaction {
            stream: StreamName(place),
            sequence: place.index.cast_signed(),
            id: Id {
                prefix: "transaction",
                partition: Some(place.partition),
                number: place.index,
            },
            account: (fault != Some(Fault::Missing)).then_some(account),
            booked_ms: moment(place.index, dice),
            direction,
            amount_cents: if fault == Some(Fault::Negative) {
                -amount
            } else {
                amount
            },
            balance_before_cents: before,
            balance_after_cents: if fault == Some(Fault::Contradiction) {
                after + 1
            } else {
                after
            },
            currency: "EUR",
            key: account,
        }
    }
}

/// One record a second from 2026-01-01T00:00:00Z on, each up to a second late. No clock is asked.
fn moment(index: u64, dice: &mut Dice) -> i64 {
    const BEGINNING_MS: i64 = 1_767_225_600_000;
    BEGINNING_MS
        .wrapping_add(index.wrapping_mul(1_000).cast_signed())
        .wrapping_add(dice.below(1_000).into())
}

/// `<kind>/<seed>/<partition>`.
struct StreamName(Place);

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.0.kind, self.0.seed, self.0.partition)
    }
}

impl Serialize for StreamName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `<prefix>-<partition>-<number>`. With the partition in it, a key belongs to one partition only.
#[derive(Clone, Copy)]
struct Id {
    prefix: &'static str,
    partition: Option<u32>,
    number: u64,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.partition {
            Some(partition) => write!(f, "{}-{partition}-{}", self.prefix, self.number),
            None => write!(f, "{}-{}", self.prefix, self.number),
        }
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The schema as it is registered, on one line: the fields above, and the checksum behind them.
pub(super) fn schema_text(kind: Kind) -> &'static str {
    &schemas(kind).full
}

/// The schema without the checksum, which is written behind the encoded fields.
pub(super) fn open_schema(kind: Kind) -> &'static Schema {
    &schemas(kind).open
}

struct Schemas {
    full: String,
    open: Schema,
}

fn schemas(kind: Kind) -> &'static Schemas {
    static ALL: LazyLock<[Schemas; 4]> = LazyLock::new(|| Kind::ALL.map(Schemas::of));
    &ALL[kind as usize]
}

impl Schemas {
    fn of(kind: Kind) -> Schemas {
        let file = match kind {
            Kind::Orders => include_str!("../../../../schemas/avro/orders.avsc"),
            Kind::Sensors => include_str!("../../../../schemas/avro/sensors.avsc"),
            Kind::Clicks => include_str!("../../../../schemas/avro/clicks.avsc"),
            Kind::Transactions => include_str!("../../../../schemas/avro/transactions.avsc"),
        };
        let full: serde_json::Value =
            serde_json::from_str(file).expect("the file is a part of the program, and a test reads it");
        let mut open = full.clone();
        if let Some(fields) = open["fields"].as_array_mut() {
            fields.pop();
        }
        Schemas {
            full: full.to_string(),
            open: Schema::parse(&open).expect("the schema is a constant, and a test parses it"),
        }
    }
}

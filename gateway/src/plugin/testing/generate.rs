//! Messages that nobody thought of: those of the cases, changed, and strange ones. The same seed makes the same messages.

use super::message::Message;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

/// As much as a batch of the flow holds.
const MESSAGES_MAX: usize = 500;
const BYTES_MAX: usize = 256 * 1024;

/// Where a plugin has no cases: something to begin with.
const PLAIN: [&str; 4] = [
    r#"{"id":1,"name":"one","amount":12.5,"tags":["a","b"]}"#,
    r#"{"id":2,"customer":{"name":"two","email":"two@example.org"},"items":[{"sku":"x","quantity":3}]}"#,
    "[1,2,3]",
    "plain text",
];

/// Few keys, so that they come again.
const KEYS: [&str; 5] = ["a", "b", "7", "", "a longer key"];

/// Makes batches.
pub(super) struct Mint {
    seed: u64,
    pool: Vec<Message>,
}

impl Mint {
    /// Messages like those of `pool`, and others.
    pub(super) fn new(seed: u64, pool: Vec<Message>) -> Mint {
        let plain = || PLAIN.iter().map(|text| Message::of_value(*text)).collect();
        Mint {
            seed,
            pool: if pool.is_empty() { plain() } else { pool },
        }
    }

    /// The dice of one run.
    pub(super) fn dice(&self, run: u64) -> Dice {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(run);
        Dice(rng)
    }

    /// At least one message, at most a batch of the flow.
    pub(super) fn batch(&self, dice: &mut Dice) -> Vec<Message> {
        let count = match dice.below(10) {
            0 | 1 => 1 + dice.below(3),
            2..=7 => 2 + dice.below(40),
            _ => 100 + dice.below(MESSAGES_MAX - 99),
        };
        let mut messages: Vec<Message> = Vec::with_capacity(count);
        let mut bytes = 0;
        while messages.len() < count {
            let message = match dice.below(20) {
                0 | 1 if !messages.is_empty() => dice.one_of(&messages).clone(),
                0..=6 => dice.one_of(&self.pool).clone(),
                7..=14 => self.changed(dice),
                _ => strange(dice),
            };
            let message = with_surroundings(message, dice);
            bytes += message.size();
            if bytes > BYTES_MAX && !messages.is_empty() {
                break;
            }
            messages.push(message);
        }
        messages
    }

    fn changed(&self, dice: &mut Dice) -> Message {
        let mut message = dice.one_of(&self.pool).clone();
        let Some(value) = &mut message.value else {
            return message;
        };
        match serde_json::from_slice::<Value>(value) {
            Ok(mut json) if dice.below(4) > 0 => {
                for _ in 0..=dice.below(2) {
                    change_json(&mut json, dice);
                }
                *value = spelled(&json, dice).into_bytes();
            }
            _ => change_bytes(value, dice),
        }
        message
    }
}

/// Luck that can be had again.
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    /// 0 to `count` - 1; 0 where `count` is 0.
    pub(super) fn below(&mut self, count: usize) -> usize {
        if count == 0 {
            0
        } else {
            self.0.random_range(0..count)
        }
    }

    pub(super) fn seed(&mut self) -> u64 {
        self.0.random()
    }

    fn one_of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    pub(super) fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.0.random()).collect()
    }
}

/// Another key, headers or timestamp, sometimes.
fn with_surroundings(mut message: Message, dice: &mut Dice) -> Message {
    match dice.below(10) {
        0..=2 => message.key = Some(dice.one_of(&KEYS).as_bytes().to_vec()),
        3 => message.key = None,
        4 => message.key = Some(dice.bytes(20)),
        _ => {}
    }
    if dice.below(5) == 0 {
        let named = |dice: &mut Dice| {
            let name = (*dice.one_of(&["trace", "", "a", "ü", "content-type"])).to_owned();
            let value = match dice.below(4) {
                0 => None,
                1 => Some(Vec::new()),
                _ => Some(dice.bytes(12)),
            };
            (name, value)
        };
        message.headers = (0..dice.below(4)).map(|_| named(dice)).collect();
    }
    match dice.below(8) {
        0 => message.timestamp = None,
        1 => message.timestamp = Some(*dice.one_of(&[0, 1, 1_700_000_000_000, i64::MAX])),
        _ => {}
    }
    message
}

/// A message that no case has.
fn strange(dice: &mut Dice) -> Message {
    let deep = |open: &str, close: &str, depth: usize| open.repeat(depth) + &close.repeat(depth);
    let value: Vec<u8> = match dice.below(14) {
        0 => return Message::default(),
        1 => Vec::new(),
        2 => dice.bytes(200),
        3 => vec![0; dice.below(100)],
        4 => deep("[", "]", 2_000).into_bytes(),
        5 => deep("{\"a\":", "}", 500).into_bytes(),
        6 => format!("{{\"n\":{}}}", dice.one_of(&ODD_NUMBERS)).into_bytes(),
        7 => b"{\"a\":1,\"a\":2}".to_vec(),
        8 => b"\xef\xbb\xbf{}".to_vec(),
        9 => "x".repeat(dice.below(20_000)).into_bytes(),
        10 => br#"{"text":"\ud800","other":"\u0000"}"#.to_vec(),
        11 => dice
            .one_of(&["null", "true", "0", "\"\"", "{}", "[]", " ", "{", "NaN"])
            .as_bytes()
            .to_vec(),
        _ => random_json(dice, 3).to_string().into_bytes(),
    };
    Message::of_value(value)
}

const ODD_NUMBERS: [&str; 10] = [
    "-0",
    "1e999",
    "-1e-999",
    "1e5",
    "1E+2",
    "0.1",
    "123456789012345678901234567890",
    "9223372036854775808",
    "-1",
    "0.30000000000000004",
];

fn random_json(dice: &mut Dice, depth: usize) -> Value {
    match dice.below(if depth == 0 { 6 } else { 8 }) {
        6 => (0..dice.below(4)).map(|_| random_json(dice, depth - 1)).collect(),
        7 => {
            let member = |dice: &mut Dice| (random_text(dice), random_json(dice, depth - 1));
            let members: Map<String, Value> = (0..dice.below(4)).map(|_| member(dice)).collect();
            Value::Object(members)
        }
        _ => scalar(dice),
    }
}

fn scalar(dice: &mut Dice) -> Value {
    match dice.below(10) {
        0 => Value::Null,
        1 => true.into(),
        2 => false.into(),
        3 => 0.into(),
        4 => (-1).into(),
        5 => json!(i64::MAX),
        6 => json!(1e300),
        7 => json!(0.1),
        8 => json!(dice.below(1_000)),
        _ => random_text(dice).into(),
    }
}

fn random_text(dice: &mut Dice) -> String {
    let words = [
        "",
        " ",
        "a",
        "id",
        "name",
        "üñí",
        "\u{1f600}",
        "a/b~c",
        "\"\\\n\0",
        "1",
        "-1",
        "EUR",
    ];
    let mut text = (*dice.one_of(&words)).to_owned();
    if dice.below(20) == 0 {
        text = text.repeat(500);
    }
    text
}

/// Changes one place of the value.
fn change_json(value: &mut Value, dice: &mut Dice) {
    let mut places = Vec::new();
    pointers(value, String::new(), &mut places);
    let place = dice.one_of(&places).clone();
    let Some(place) = value.pointer_mut(&place) else {
        return;
    };
    match (dice.below(3), &mut *place) {
        (0, Value::Object(object)) if !object.is_empty() => {
            let name = object
                .keys()
                .nth(dice.below(object.len()))
                .cloned()
                .unwrap_or_default();
            object.shift_remove(&name);
        }
        (0, Value::Array(list)) if !list.is_empty() => drop(list.remove(dice.below(list.len()))),
        (1, Value::Object(object)) => drop(object.insert(random_text(dice), random_json(dice, 2))),
        (1, Value::Array(list)) => list.push(random_json(dice, 2)),
        (0 | 1, Value::Number(number)) => {
            let number = number.as_f64().unwrap_or(0.0);
            *place = match dice.below(4) {
                0 => json!(-number),
                1 => json!(number + 1.0),
                2 => json!(number as i64),
                _ => json!(number * 1e15),
            };
        }
        (0 | 1, Value::String(text)) => match dice.below(3) {
            0 => text.clear(),
            1 => *text = text.repeat(3),
            _ => text.push_str(&random_text(dice)),
        },
        _ => *place = random_json(dice, 2),
    }
}

/// All places of the value, as JSON pointers.
fn pointers(value: &Value, path: String, places: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                let name = name.replace('~', "~0").replace('/', "~1");
                pointers(value, format!("{path}/{name}"), places);
            }
        }
        Value::Array(list) => {
            for (at, value) in list.iter().enumerate() {
                pointers(value, format!("{path}/{at}"), places);
            }
        }
        _ => {}
    }
    places.push(path);
}

/// The same JSON has more than one spelling.
fn spelled(json: &Value, dice: &mut Dice) -> String {
    match dice.below(6) {
        0 => format!("{json:#}"),
        1 => format!(" {json}\n"),
        _ => json.to_string(),
    }
}

fn change_bytes(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let at = dice.below(bytes.len());
    match dice.below(4) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, 0xff),
        2 if !bytes.is_empty() => bytes[at] ^= 1 << dice.below(8),
        _ => {
            let again = bytes[at..].to_vec();
            bytes.extend(again);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_batches_and_no_batch_is_too_large() {
        let mint = |seed| Mint::new(seed, Vec::new());
        let mut sizes = Vec::new();
        for run in 0..60 {
            let batch = mint(1).batch(&mut mint(1).dice(run));
            assert_eq!(batch, mint(1).batch(&mut mint(1).dice(run)));
            assert_ne!(batch, mint(2).batch(&mut mint(2).dice(run)));
            assert!(batch.len() == 1 || batch.iter().map(Message::size).sum::<usize>() <= BYTES_MAX);
            sizes.push(batch.len());
        }
        assert!(
            sizes.iter().any(|size| *size > 100) && sizes.contains(&1),
            "{sizes:?}"
        );
    }

    #[test]
    fn messages_of_the_pool_come_as_they_are_and_changed() {
        let own = Message::of_value(r#"{"order":"12345","amount":3}"#);
        let mint = Mint::new(1, vec![own.clone()]);
        let all: Vec<Message> = (0..40).flat_map(|run| mint.batch(&mut mint.dice(run))).collect();
        let value = |message: &Message| {
            String::from_utf8_lossy(message.value.as_deref().unwrap_or_default()).into_owned()
        };
        let same = all.iter().filter(|message| message.value == own.value).count();
        let near = all
            .iter()
            .filter(|message| message.value != own.value && value(message).contains("order"))
            .count();
        let tombstones = all.iter().filter(|message| message.value.is_none()).count();
        assert!(
            same > 50 && near > 50 && tombstones > 5,
            "{same} {near} {tombstones} of {}",
            all.len()
        );
    }
}

use super::*;
use crate::prelude::*;
use proptest::prelude::*;
use std::time::Duration;

/// Does what a message's value says.
struct Obeys;

impl Transform for Obeys {
    type Config = ();
    const ABOUT: About = About::new("obeys", "0.1.0", "Does what a message says");

    fn open((): ()) -> Result<Obeys, Failure> {
        Ok(Obeys)
    }

    fn each(&mut self, message: Message<'_>) -> Answer {
        let value = message.value().or_reject("tombstone", "there is no value")?;
        let copy = || message.to_new().header("seen", message.sequence().to_string());
        match value {
            b"drop" => Ok(Outcome::Drop),
            b"value" => Ok(Outcome::Value(b"new".to_vec())),
            b"replace" => Ok(Outcome::Replace(copy().topic("other").key("k"))),
            b"expand" => Ok(Outcome::Expand(vec![copy(), copy().value("second")])),
            b"nothing" => Ok(Outcome::Expand(Vec::new())),
            b"too-many" => Ok(Outcome::Expand(vec![copy(); 1_001])),
            b"reject" => Err(Rejection::new("told-to", "it says so").at("/x").into()),
            b"retry" => Err(Failure::retry("not now").after(Duration::from_millis(20)).into()),
            b"log" => {
                crate::warn!("seen at {}", message.topic());
                Ok(Outcome::Keep)
            }
            _ => Ok(Outcome::Keep),
        }
    }
}

fn check(message: impl Into<NewMessage>, expected: &Outcome) {
    let mut harness = Harness::<Obeys>::open([]).unwrap();
    // Between two that are kept, so that what is written for one lies behind what is written for another.
    let outcomes = harness
        .message(b"value")
        .message(message)
        .message(b"value")
        .run()
        .unwrap();
    let value = Outcome::Value(b"new".to_vec());
    assert_eq!(outcomes, [value.clone(), expected.clone(), value]);
}

fn whole() -> NewMessage {
    NewMessage::new("")
        .key("key")
        .header("a", "1")
        .header("a", "")
        .timestamp(-5)
}

#[test]
fn each_outcome_reaches_the_gateway_as_it_was_meant() {
    check(b"anything", &Outcome::Keep);
    check(b"drop", &Outcome::Drop);
    check(b"value", &Outcome::Value(b"new".to_vec()));
    let seen = whole().header("seen", "1");
    check(
        whole().value("replace"),
        &Outcome::Replace(seen.clone().value("replace").topic("other").key("k")),
    );
    check(
        whole().value("expand"),
        &Outcome::Expand(vec![seen.clone().value("expand"), seen.value("second")]),
    );
    check(b"nothing", &Outcome::Drop);
    check(
        b"too-many",
        &Outcome::reject(
            "expanded-too-far",
            "it would become 1001 messages; 1000 is the most",
        ),
    );
    check(
        b"reject",
        &Outcome::Reject(Rejection::new("told-to", "it says so").at("/x")),
    );
    check(
        NewMessage::tombstone(),
        &Outcome::reject("tombstone", "there is no value"),
    );
}

#[test]
fn a_failure_undoes_the_call_and_the_messages_wait() {
    let mut harness = Harness::<Obeys>::open([]).unwrap();
    let failure = harness.message(b"drop").message(b"retry").run().unwrap_err();
    assert_eq!(
        failure,
        Failure::retry("not now").after(Duration::from_millis(20))
    );
    assert_eq!(harness.run().unwrap_err().text(), "not now");
}

#[test]
fn a_line_is_about_the_message_it_was_written_for() {
    let mut harness = Harness::<Obeys>::open([]).unwrap();
    harness
        .topic("orders")
        .message(b"")
        .message(b"log")
        .run()
        .unwrap();
    let line = Line {
        level: crate::log::Level::Warn,
        text: "seen at orders".to_owned(),
        message: Some(1),
    };
    assert_eq!(lines(), [line]);
    crate::info!("alone");
    assert_eq!(lines()[0].message, None);
}

#[test]
fn a_setting_that_is_not_there_is_a_mistake_of_the_test() {
    let opened = Harness::<Obeys>::open([("mode", "x")]).map(|_| ());
    assert_eq!(opened.unwrap_err().text(), "there is no key `mode`; one of ");
}

/// Needs values alone, and reads what it is told to.
struct Narrow;

#[derive(Config)]
struct Reads {
    #[config(one_of = ["value", "key"])]
    part: String,
    first: Option<i32>,
    second: Option<i32>,
}

impl Transform for Narrow {
    type Config = Reads;
    const ABOUT: About = About::new("narrow", "0.1.0", "Needs values").needs(Needs::VALUE);

    fn open(settings: Reads) -> Result<Narrow, Failure> {
        let _ = settings.part;
        Ok(Narrow)
    }

    fn each(&mut self, message: Message<'_>) -> Answer {
        match message.value() {
            Some(b"key") => Ok(message.key().map_or(Outcome::Drop, |_| Outcome::Keep)),
            _ => Ok(Outcome::Keep),
        }
    }

    fn check(settings: &Reads) -> Vec<Verdict> {
        let both = settings.first.is_some() && settings.second.is_some();
        both.then(|| Verdict::error("first", "excludes `second`"))
            .into_iter()
            .collect()
    }
}

#[test]
#[should_panic = "the plugin reads a message's key, and its `About` says with `needs` that it does not"]
fn a_part_that_is_not_needed_cannot_be_read() {
    let mut harness = Harness::<Narrow>::open([("part", "value")]).unwrap();
    assert_eq!(harness.one(whole().value("x")), Outcome::Keep);
    harness.one(whole().value("key"));
}

#[test]
fn wrong_settings_do_not_open() {
    let opened = |settings: &[(&'static str, &'static str)]| {
        let opened = Harness::<Narrow>::open(settings.iter().copied());
        opened.map(|_| ()).map_err(|failure| failure.text().to_owned())
    };
    assert_eq!(opened(&[("part", "key")]), Ok(()));
    assert_eq!(
        opened(&[]),
        Err("settings are wrong:\n`part` is required and not set".to_owned())
    );
    assert_eq!(
        opened(&[("part", "value"), ("first", "1"), ("second", "2")]),
        Err("settings are wrong:\n`first` excludes `second`".to_owned())
    );
    let values = [("part", "all"), ("first", "x")];
    let values = values.map(|(name, value)| Value {
        name: name.to_owned(),
        value: Some(value.to_owned()),
    });
    let verdicts = config::validated(&values, Narrow::check);
    let names: Vec<&str> = verdicts.iter().map(|verdict| verdict.name.as_str()).collect();
    assert_eq!(names, ["part", "first"]);
}

#[test]
fn codes_are_words_that_labels_can_hold() {
    let check = |code: &str, expected: bool| assert_eq!(is_proper_code(code), expected, "{code}");
    check("negative-amount", true);
    check("x2", true);
    check(&"a".repeat(65), false);
    for code in ["", "-", "a-", "Negative", "two words", "a--b"] {
        check(code, false);
    }
}

/// Gives too few outcomes.
struct Short;

impl Transform for Short {
    type Config = ();
    const ABOUT: About = About::new("short", "0.1.0", "Gives too few outcomes");

    fn open((): ()) -> Result<Short, Failure> {
        Ok(Short)
    }

    fn each(&mut self, _: Message<'_>) -> Answer {
        Ok(Outcome::Keep)
    }

    fn batch(&mut self, batch: &Batch<'_>, outcomes: &mut Outcomes) -> Result<(), Failure> {
        for message in batch.messages().skip(1) {
            outcomes.answer(self.each(message))?;
        }
        Ok(())
    }
}

#[test]
fn a_wrong_number_of_outcomes_is_said_in_words() {
    let mut harness = Harness::<Short>::open([]).unwrap();
    let failure = harness.message(b"1").message(b"2").run().unwrap_err();
    assert_eq!(
        failure.text(),
        "plugin short gave 1 outcomes for 2 messages; it must give one for each"
    );
}

#[test]
fn a_value_that_could_not_be_written_leaves_nothing_behind() {
    let mut outcomes = Outcomes::with_room(2);
    let write = |buffer: &mut Vec<u8>| {
        buffer.extend_from_slice(b"half");
        Err("torn")
    };
    assert_eq!(outcomes.value_with(write), Err("torn"));
    assert!(outcomes.is_empty());
    outcomes.value(b"whole");
    assert_eq!(
        super::outcomes(outcomes.into_results()),
        [Outcome::Value(b"whole".to_vec())]
    );
}

fn any_message() -> impl Strategy<Value = NewMessage> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20));
    let headers = proptest::collection::vec((".{0,5}", bytes()), 0..4);
    (bytes(), bytes(), headers, proptest::option::of(any::<i64>())).prop_map(
        |(key, value, headers, timestamp)| {
            let mut message = NewMessage::tombstone();
            message.0.message.key = key;
            message.0.message.value = value;
            message.0.message.timestamp = timestamp;
            let header =
                |(name, value)| crate::bindings::shared::culvert::plugin::types::Header { name, value };
            message.0.message.headers = headers.into_iter().map(header).collect();
            message
        },
    )
}

proptest! {
    /// What a gateway writes into columns, a plugin reads from them.
    #[test]
    fn views_show_what_was_sent(messages in proptest::collection::vec(any_message(), 0..10)) {
        let columns = columns("topic", &[], 7, &messages, Needs::all());
        let batch = Batch::new(&columns, Needs::all()).unwrap();
        let seen: Vec<NewMessage> = batch.messages().map(|message| message.to_new()).collect();
        prop_assert_eq!(seen, messages);
        prop_assert!(batch.messages().map(|message| message.sequence()).eq(7..batch.to()));
    }

    /// Columns that do not fit together are refused in words, and never read beyond.
    #[test]
    fn columns_that_do_not_fit_are_refused(
        messages in proptest::collection::vec(any_message(), 1..6),
        ends in proptest::collection::vec(0u32..40, 0..8),
        headers in proptest::collection::vec(any::<u8>(), 0..30),
        which in 0..4,
    ) {
        let mut columns = columns("topic", &[], 0, &messages, Needs::all());
        match which {
            0 => columns.key_ends = ends,
            1 => columns.value_ends = ends,
            2 => columns.header_ends = ends,
            _ => columns.headers = headers,
        }
        match Batch::new(&columns, Needs::all()) {
            Ok(batch) => batch.messages().for_each(|message| drop(message.to_new())),
            Err(failure) => prop_assert!(failure.text().starts_with("the gateway sent a batch with")),
        }
    }
}

#[cfg(feature = "json")]
#[test]
fn json_is_read_and_written() {
    let columns = columns(
        "topic",
        &[],
        0,
        &["{\"a\":1}".into(), "x".into(), NewMessage::tombstone()],
        Needs::VALUE,
    );
    let batch = Batch::new(&columns, Needs::VALUE).unwrap();
    let read: Vec<Result<serde_json::Value, Rejection>> =
        batch.messages().map(|message| message.json()).collect();
    assert_eq!(
        Outcome::json(read[0].as_ref().unwrap()).unwrap(),
        Outcome::Value(b"{\"a\":1}".to_vec())
    );
    let codes: Vec<&str> = read[1..]
        .iter()
        .map(|read| read.as_ref().unwrap_err().code.as_str())
        .collect();
    assert_eq!(codes, ["not-json", "tombstone"]);
}

#[cfg(all(
    feature = "http",
    feature = "state",
    feature = "clock",
    feature = "metrics",
    feature = "secrets-reveal"
))]
#[test]
fn capabilities_stand_on_fakes() {
    use crate::http::{Auth, Error, Method, Request, Response};

    set_clock(1_000);
    assert_eq!(crate::clock::now_ms(), 1_000);
    assert_eq!(crate::clock::random(4).len(), 4);
    assert_ne!(crate::clock::random(8), crate::clock::random(8));

    crate::state::put(&[(b"a", Some(b"1")), (b"b", Some(b"2"))]).unwrap();
    crate::state::put(&[(b"a", None)]).unwrap();
    assert_eq!(
        crate::state::get(&[b"a", b"b"]).unwrap(),
        [None, Some(b"2".to_vec())]
    );
    let refused = crate::state::put(&[(&[0; 2_000], None)]);
    assert!(matches!(refused, Err(crate::state::Error::TooLarge)));

    crate::metrics::count("seen", 2, &[("kind", "x")]);
    let labels = vec![("kind".to_owned(), "x".to_owned())];
    assert_eq!(metrics(), [("count", "seen".to_owned(), 2.0, labels)]);

    set_secret("token", b"s3cret");
    let secret = crate::secrets::get("token").unwrap();
    assert_eq!(crate::secrets::reveal(&secret).unwrap(), b"s3cret");
    assert!(crate::secrets::get("other").is_err());

    let request = [Request::new(Method::Get, "https://example.org/").header("a", "b")];
    let answers = crate::http::send(&request, Auth::Bearer(&secret));
    assert!(matches!(answers.as_slice(), [Err(Error::Denied(what))] if what == "https://example.org/"));
    set_http(|request| {
        let proof = request
            .headers
            .iter()
            .any(|(name, value)| name == "authorization" && value == "Bearer s3cret");
        Ok(Response {
            status: if proof { 200 } else { 401 },
            headers: Vec::new(),
            body: Vec::new(),
        })
    });
    let answers = crate::http::send(&request, Auth::Bearer(&secret));
    assert_eq!(answers[0].as_ref().unwrap().status, 200);
    let answers = crate::http::send(&request, Auth::None);
    assert_eq!(answers[0].as_ref().unwrap().status, 401);
}

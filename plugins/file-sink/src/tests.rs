use super::*;
use culvert_plugin::sink::{Header, Message};
use culvert_plugin::testing::{self, file, set_file};

const OUT: &str = "/out/orders.jsonl";

fn settings(format: &str) -> Settings {
    testing::settings([("file", OUT), ("format", format)]).expect("settings")
}

fn open(writer: u8) -> (FileSink, Vec<Token>) {
    FileSink::open(settings("value"), vec![writer; 16]).expect("it opens")
}

fn message(value: &[u8]) -> Message {
    Message {
        key: None,
        value: Some(value.to_vec()),
        headers: Vec::new(),
        timestamp: None,
    }
}

fn batch(from: u64, values: &[&str]) -> Batch {
    Batch {
        stream: "site/orders/0".to_owned(),
        topic: "orders".to_owned(),
        partition: 0,
        from,
        to: from + values.len() as u64,
        sequences: Vec::new(),
        attributes: Vec::new(),
        messages: values.iter().map(|value| message(value.as_bytes())).collect(),
    }
}

fn token(from: u64, to: u64) -> Token {
    Token {
        stream: "site/orders/0".to_owned(),
        incarnation: 0,
        from,
        to,
        position: vec![0, 255, to as u8],
    }
}

fn put(sink: &mut FileSink, from: u64, values: &[&str]) -> Result<(), PutError> {
    let batch = batch(from, values);
    let token = token(from, batch.to);
    sink.put(vec![batch], vec![token])
}

fn text() -> String {
    String::from_utf8(file(OUT).unwrap_or_default()).expect("text")
}

#[test]
fn lines_and_tokens_are_there_together_when_it_is_opened_again() {
    let (mut sink, tokens) = open(1);
    assert!(tokens.is_empty());
    put(&mut sink, 0, &["a", "b"]).expect("written");
    put(&mut sink, 2, &["c"]).expect("written");
    sink.put(Vec::new(), vec![token(3, 9)]).expect("a hole");
    sink.put(Vec::new(), Vec::new()).expect("still the only one");
    assert_eq!(text(), "a\nb\nc\n");
    let (_, tokens) = open(2);
    let [found] = tokens.as_slice() else {
        panic!("{tokens:?}")
    };
    assert_eq!((found.from, found.to, &found.position), (3, 9, &vec![0, 255, 9]));
}

#[test]
fn what_was_not_committed_is_cut_away() {
    let (mut sink, _) = open(1);
    put(&mut sink, 0, &["a"]).expect("written");
    files::append(OUT, None, b"half a li").expect("a kill between data and token");
    let (mut sink, tokens) = open(2);
    assert_eq!((text().as_str(), tokens[0].to), ("a\n", 1));
    // The same, with a writer that lives on after a failure.
    files::append(OUT, None, b"half").expect("a write that failed half-way");
    put(&mut sink, 1, &["b"]).expect("written");
    assert_eq!(text(), "a\nb\n");
}

#[test]
fn a_writer_that_was_replaced_writes_nothing_that_stays() {
    let (mut old, _) = open(1);
    put(&mut old, 0, &["a"]).expect("written");
    let (mut new, _) = open(2);
    assert!(matches!(
        old.put(Vec::new(), Vec::new()),
        Err(PutError::Fenced(_))
    ));
    assert!(matches!(put(&mut old, 1, &["old"]), Err(PutError::Fenced(_))));
    put(&mut new, 1, &["new"]).expect("written over what the old one left");
    assert!(matches!(put(&mut old, 1, &["old"]), Err(PutError::Fenced(_))));
    assert_eq!(text(), "a\nnew\n");
    put(&mut new, 2, &["more"]).expect("written");
    assert_eq!(text(), "a\nnew\nmore\n");
}

#[test]
fn a_token_that_does_not_follow_writes_nothing() {
    let (mut sink, _) = open(1);
    put(&mut sink, 0, &["a"]).expect("written");
    assert!(matches!(put(&mut sink, 0, &["a"]), Err(PutError::Fenced(_))));
    assert!(matches!(put(&mut sink, 5, &["f"]), Err(PutError::Fenced(_))));
    let anew = Token {
        incarnation: 1,
        ..token(0, 1)
    };
    sink.put(vec![batch(0, &["again"])], vec![anew])
        .expect("a person began it anew");
    let before = sink.put(vec![batch(1, &["old"])], vec![token(1, 2)]);
    assert!(matches!(before, Err(PutError::Fenced(_))), "what was before it");
    assert_eq!(text(), "a\nagain\n");
}

#[test]
fn what_is_no_line_is_refused_and_nothing_is_written() {
    let (mut sink, _) = open(1);
    let mut records = batch(0, &["a", "two\nlines", "c"]);
    records.messages[2].value = None;
    let refused = match sink.put(vec![records], vec![token(0, 3)]) {
        Err(PutError::Refused(refused)) => refused,
        other => panic!("{other:?}"),
    };
    let told: Vec<(u32, &str)> = refused
        .iter()
        .map(|one| (one.message, one.why.code.as_str()))
        .collect();
    assert_eq!(told, [(1, "line-break"), (2, "no-value")]);
    assert_eq!(text(), "");
}

#[test]
fn json_lines_hold_all_of_a_record() {
    let mut lines = Vec::new();
    let mut record = message(b"{\"a\":\n1.50}");
    record.key = Some(vec![0xff, 0]);
    record.timestamp = Some(7);
    record.headers = vec![Header {
        name: "h".to_owned(),
        value: None,
    }];
    let records = batch(5, &["x"]);
    for value in [
        record,
        message(b"plain\ntext"),
        Message {
            value: None,
            ..message(b"")
        },
    ] {
        line::json(&records, 5, &value, &mut lines).expect("a line");
    }
    let lines: Vec<serde_json::Value> = String::from_utf8(lines)
        .expect("text")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines[0]["value"]["a"], 1.5);
    assert_eq!(lines[0]["key"]["base64"], "/wA=");
    assert_eq!(lines[0]["headers"], serde_json::json!([["h", null]]));
    assert_eq!(
        (&lines[0]["sequence"], &lines[0]["timestamp"]),
        (&5.into(), &7.into())
    );
    assert_eq!(lines[1]["value"], "plain\ntext");
    assert_eq!(lines[2]["value"], serde_json::Value::Null);
}

#[test]
fn a_file_that_lost_what_was_written_is_not_written_on() {
    let (mut sink, _) = open(1);
    put(&mut sink, 0, &["a", "b"]).expect("written");
    set_file(OUT, b"a\n");
    let failure = FileSink::open(settings("value"), vec![2; 16])
        .err()
        .expect("it is shorter");
    assert!(
        failure.text().contains("shorter than the 4 bytes"),
        "{}",
        failure.text()
    );
}

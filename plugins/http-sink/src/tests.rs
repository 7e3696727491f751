use super::*;
use culvert_plugin::testing::{self, set_http};
use std::cell::RefCell;
use std::rc::Rc;

const URL: &str = "https://api.example.org/v1/orders";

/// What arrived: (key, body). A body with `bad` in it is answered by 422, and every answer of `outage` before others.
#[derive(Clone, Default)]
struct Server(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    arrived: Vec<(String, String)>,
    outage: Vec<Response>,
}

impl Server {
    fn start() -> Server {
        let server = Server::default();
        let heard = server.0.clone();
        set_http(move |request| {
            let state = &mut *heard.borrow_mut();
            if let Some(outage) = state.outage.pop() {
                return Ok(outage);
            }
            let find = |name: &str| request.headers.iter().find(|(known, _)| known == name);
            let key = find("idempotency-key").expect("a key").1.clone();
            let body = String::from_utf8(request.body.clone().expect("a body")).expect("text");
            if body.contains("bad") {
                return Ok(response(422, &[], "no such article"));
            }
            state.arrived.push((key, body));
            Ok(response(201, &[], ""))
        });
        server
    }

    fn bodies(&self) -> Vec<String> {
        self.0
            .borrow()
            .arrived
            .iter()
            .map(|(_, body)| body.clone())
            .collect()
    }
}

fn response(status: u16, headers: &[(&str, &str)], body: &str) -> Response {
    Response {
        status,
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        body: body.as_bytes().to_vec(),
    }
}

fn open(send: &str) -> HttpSink {
    let settings = testing::settings([("url", URL), ("send", send)]).expect("settings");
    HttpSink::open(settings, vec![1; 16]).expect("it opens").0
}

fn batch(values: &[&str], sequences: &[u64]) -> Batch {
    let message = |value: &&str| Message {
        key: None,
        value: Some(value.as_bytes().to_vec()),
        headers: Vec::new(),
        timestamp: None,
    };
    Batch {
        stream: "plant 1/orders/0".to_owned(),
        topic: "orders".to_owned(),
        partition: 0,
        from: 10,
        to: 10 + values.len() as u64,
        sequences: sequences.to_vec(),
        attributes: Vec::new(),
        messages: values.iter().map(message).collect(),
    }
}

#[test]
fn each_record_is_sent_in_order_under_its_own_key() {
    let server = Server::start();
    open("record")
        .put(vec![batch(&["1", "2"], &[]), batch(&["3"], &[17])], Vec::new())
        .expect("sent");
    let expected = [
        ("plant%201/orders/0/10", "1"),
        ("plant%201/orders/0/11", "2"),
        ("plant%201/orders/0/17", "3"),
    ];
    let arrived = server.0.borrow().arrived.clone();
    assert_eq!(
        arrived,
        expected.map(|(key, body)| (key.to_owned(), body.to_owned()))
    );
}

#[test]
fn a_call_that_is_made_again_goes_on_where_the_server_gave_up() {
    let server = Server::start();
    let mut sink = open("record");
    sink.put(vec![batch(&["0"], &[9])], Vec::new()).expect("sent");
    let records = || vec![batch(&["1", "2", "3"], &[])];
    server.0.borrow_mut().outage = vec![response(503, &[("Retry-After", "3")], ""), response(201, &[], "")];
    match sink.put(records(), Vec::new()) {
        Err(PutError::Failure(Failure::Retry(later))) => assert_eq!(later.after_ms, Some(3_000)),
        other => panic!("{other:?}"),
    }
    sink.put(records(), Vec::new()).expect("sent");
    assert_eq!(server.bodies(), ["0", "2", "3"], "1 was taken before the outage");
}

#[test]
fn a_slow_server_is_given_what_it_takes_in_its_time() {
    let arrived = Rc::new(RefCell::new(Vec::new()));
    let (heard, mut now_ms) = (arrived.clone(), 0);
    set_http(move |request| {
        now_ms += 1_000;
        testing::set_clock(now_ms);
        heard.borrow_mut().extend(request.body.clone());
        Ok(response(200, &[], ""))
    });
    let mut sink = open("record");
    let values = ["1", "2", "3", "4", "5"];
    match sink.put(vec![batch(&values, &[])], Vec::new()) {
        Err(PutError::Failure(Failure::Retry(later))) => assert_eq!(later.after_ms, Some(0)),
        other => panic!("{other:?}"),
    }
    assert_eq!(*arrived.borrow(), [b"1", b"2", b"3"]);
    sink.put(vec![batch(&values, &[])], Vec::new()).expect("sent");
    assert_eq!(*arrived.borrow(), [b"1", b"2", b"3", b"4", b"5"]);
}

#[test]
fn what_the_server_refuses_is_named_and_the_rest_is_sent() {
    let server = Server::start();
    for (send, whole) in [("record", &["1", "3"][..]), ("batch", &["[1]", "[3]"])] {
        server.0.borrow_mut().arrived.clear();
        let mut sink = open(send);
        let refused = match sink.put(vec![batch(&["1", "\"bad\"", "3"], &[])], Vec::new()) {
            Err(PutError::Refused(refused)) => refused,
            other => panic!("{other:?}"),
        };
        let [one] = refused.as_slice() else {
            panic!("{refused:?}")
        };
        assert_eq!(
            (one.batch, one.message, one.why.code.as_str()),
            (0, 1, "http-422")
        );
        assert!(one.why.reason.contains("no such article"), "{}", one.why.reason);
        assert_eq!(server.bodies(), whole);
        // The gateway puts the rest again: all of it is there already.
        sink.put(vec![batch(&["1", "3"], &[10, 12])], Vec::new())
            .expect("sent");
        assert_eq!(server.bodies(), whole);
    }
}

#[test]
fn a_batch_is_one_array() {
    let server = Server::start();
    let mut sink = open("batch");
    sink.put(vec![batch(&["1", "{\"a\": 2}"], &[3, 7])], Vec::new())
        .expect("sent");
    let arrived = server.0.borrow().arrived.clone();
    assert_eq!(
        arrived,
        [("plant%201/orders/0/3-7".to_owned(), "[1,{\"a\": 2}]".to_owned())]
    );
    let refused = sink.put(vec![batch(&["1", "no JSON"], &[])], Vec::new());
    assert!(matches!(refused, Err(PutError::Refused(refused)) if refused[0].why.code == "not-json"));
}

#[test]
fn what_is_not_the_records_fault_needs_a_person() {
    let server = Server::start();
    for (answer, says) in [
        (response(401, &[], "who are you"), "401: who are you"),
        (
            response(302, &[("Location", "https://evil.example/")], ""),
            "redirects are not followed",
        ),
    ] {
        server.0.borrow_mut().outage = vec![answer];
        match open("record").put(vec![batch(&["1"], &[])], Vec::new()) {
            Err(PutError::Failure(Failure::Fatal(text))) => assert!(text.contains(says), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(server.bodies(), Vec::<String>::new());
}

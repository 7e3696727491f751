use super::*;
use culvert_plugin::testing::{self, set_http, set_secret};
use std::cell::RefCell;
use std::rc::Rc;

const URL: &str = "https://api.example.org/v1/orders";

/// What a server was asked, and what it answers next.
#[derive(Clone, Default)]
struct Server(Rc<RefCell<(Vec<Request>, VecDeque<Response>)>>);

impl Server {
    fn start() -> Server {
        let server = Server::default();
        let heard = server.0.clone();
        set_http(move |request| {
            let (asked, answers) = &mut *heard.borrow_mut();
            asked.push(request.clone());
            Ok(answers.pop_front().expect("an answer is there"))
        });
        server
    }

    fn answer(&self, status: u16, headers: &[(&str, &str)], body: &str) {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.0.borrow_mut().1.push_back(Response {
            status,
            headers: headers.iter().map(owned).collect(),
            body: body.as_bytes().to_vec(),
        });
    }

    fn last(&self) -> Request {
        self.0.borrow().0.last().expect("it was asked").clone()
    }
}

fn header(request: &Request, name: &str) -> Option<String> {
    let found = request.headers.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.clone())
}

fn open(more: &[(&str, &str)], resume: Vec<ResumePoint>) -> HttpPoll {
    let all = [("url", URL), ("topic", "orders")]
        .into_iter()
        .chain(more.iter().copied());
    HttpPoll::open(testing::settings(all).expect("settings"), resume).expect("it opens")
}

fn poll(source: &mut HttpPoll, most: u32) -> Result<(Vec<String>, Option<ResumePoint>), Failure> {
    let page = source.poll(Limits {
        messages: most,
        bytes: 1_000_000,
        wait: Duration::ZERO,
    })?;
    let text =
        |bytes: &Option<Vec<u8>>| String::from_utf8_lossy(bytes.as_deref().unwrap_or(b"-")).into_owned();
    let shown = |produced: &culvert_plugin::source::Produced| {
        format!(
            "{}={}",
            text(&produced.message.key),
            text(&produced.message.value)
        )
    };
    Ok((
        page.messages.iter().map(shown).collect(),
        page.resume_points.last().cloned(),
    ))
}

#[test]
fn an_array_has_a_record_in_each_item() {
    let server = Server::start();
    let mut source = open(&[("records", "/items"), ("key", "/id")], Vec::new());
    server.answer(200, &[], r#"{"items": [{"id": 7}, {"id": "x"}, {}]}"#);
    let (records, _) = poll(&mut source, 10).expect("a page");
    assert_eq!(records, [r#"7={"id":7}"#, r#"x={"id":"x"}"#, "-={}"]);
    server.answer(200, &[], r#"{"items": null}"#);
    assert!(poll(&mut source, 10).expect("a page").0.is_empty());
    server.answer(200, &[], "{}");
    let failure = poll(&mut source, 10).expect_err("no records");
    assert!(
        failure.text().contains("nothing at `/items`"),
        "{}",
        failure.text()
    );
}

#[test]
fn what_did_not_change_is_not_brought_in_again() {
    let server = Server::start();
    let mut source = open(&[], Vec::new());
    server.answer(200, &[("ETag", "\"v1\"")], r#"{"temperature": 20}"#);
    let (records, point) = poll(&mut source, 10).expect("a page");
    assert_eq!(
        (records.len(), header(&server.last(), "if-none-match")),
        (1, None)
    );
    server.answer(304, &[], "");
    assert!(poll(&mut source, 10).expect("a page").0.is_empty());
    assert_eq!(header(&server.last(), "if-none-match").as_deref(), Some("\"v1\""));
    // A server that does not compare, and a gateway that was restarted.
    let mut again = open(&[], point.into_iter().collect());
    server.answer(200, &[("ETag", "\"v1\"")], r#"{"temperature": 20}"#);
    assert!(poll(&mut again, 10).expect("a page").0.is_empty());
    server.answer(200, &[], r#"{"temperature": 21}"#);
    assert_eq!(poll(&mut again, 10).expect("a page").0.len(), 1);
}

#[test]
fn a_cursor_asks_for_what_follows() {
    let server = Server::start();
    let settings = [
        ("records", "/items"),
        ("cursor.pointer", "/next"),
        ("cursor.parameter", "since"),
    ];
    let mut source = open(&settings, Vec::new());
    server.answer(200, &[], r#"{"items": [1], "next": "a b&c"}"#);
    let (_, point) = poll(&mut source, 10).expect("a page");
    let mut again = open(&settings, point.into_iter().collect());
    server.answer(200, &[], r#"{"items": [2], "next": "a b&c"}"#);
    assert_eq!(poll(&mut again, 10).expect("a page").0, ["-=2"]);
    assert_eq!(server.last().url, format!("{URL}?since=a%20b%26c"));
}

#[test]
fn an_answer_larger_than_a_page_goes_on_where_it_was() {
    let server = Server::start();
    let body = r#"{"items": [1, 2, 3, 4, 5], "next": 9}"#;
    let settings = [("records", "/items"), ("cursor.pointer", "/next")];
    let mut source = open(&settings, Vec::new());
    server.answer(200, &[], body);
    let (records, point) = poll(&mut source, 2).expect("a page");
    assert_eq!(records, ["-=1", "-=2"]);
    let mut again = open(&settings, point.clone().into_iter().collect());
    server.answer(200, &[], body);
    assert_eq!(poll(&mut again, 10).expect("a page").0, ["-=3", "-=4", "-=5"]);
    assert!(
        !server.last().url.contains("cursor"),
        "the same answer was asked for again"
    );
    // The server has another answer now: which of its records are new cannot be known.
    let mut other = open(&settings, point.into_iter().collect());
    server.answer(200, &[], r#"{"items": [1, 2, 6], "next": 9}"#);
    assert_eq!(poll(&mut other, 10).expect("a page").0.len(), 3);
    // And without a restart nothing is asked until the page is through.
    assert_eq!(poll(&mut source, 10).expect("a page").0, ["-=3", "-=4", "-=5"]);
}

#[test]
fn trouble_of_the_server_heals_by_waiting_and_a_refusal_does_not() {
    let server = Server::start();
    let mut source = open(&[], Vec::new());
    server.answer(503, &[("Retry-After", "7")], "");
    match poll(&mut source, 10) {
        Err(Failure::Retry(later)) => assert_eq!(later.after_ms, Some(7_000)),
        other => panic!("{other:?}"),
    }
    for (status, headers, says) in [
        (401, &[][..], "answers 401"),
        (
            302,
            &[("location", "https://evil.example/")],
            "https://evil.example/",
        ),
    ] {
        server.answer(status, headers, "");
        match poll(&mut source, 10) {
            Err(Failure::Fatal(text)) => assert!(text.contains(says), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_gateway_proves_who_asks() {
    let server = Server::start();
    set_secret("api", b"s3cret");
    let mut source = open(&[("auth", "bearer"), ("auth.secret", "api")], Vec::new());
    server.answer(200, &[], "[]");
    poll(&mut source, 10).expect("a page");
    assert_eq!(
        header(&server.last(), "authorization").as_deref(),
        Some("Bearer s3cret")
    );
    let check = |given: &[(&str, &str)], key: &str| {
        let all = [("url", URL), ("topic", "t")]
            .into_iter()
            .chain(given.iter().copied());
        let settings: Settings = testing::settings(all).expect("settings");
        let verdicts = HttpPoll::check(&settings);
        assert!(verdicts.iter().any(|verdict| verdict.name == key), "{given:?}");
    };
    check(&[("auth", "bearer")], "auth.secret");
    check(&[("auth.secret", "api")], "auth.secret");
    check(&[("auth", "basic"), ("auth.secret", "api")], "auth.user");
    check(&[("records", "items")], "records");
}

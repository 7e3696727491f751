//! The client against a server that speaks HTTP on a real socket and answers what a registry may answer.

use super::*;
use culvert_proto::schema::Piece;
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use tempfile::TempDir;

/// A request, as a registry sees it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    /// Method and path.
    pub(crate) line: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: String,
}

type Answer = dyn Fn(&Asked) -> (u16, Value) + Send + Sync;

/// A registry that answers as a function says, until it is dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    answer: Arc<Mutex<Option<Arc<Answer>>>>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = Server {
            url: format!("http://{}", listener.local_addr().expect("an address")),
            asked: Arc::default(),
            answer: Arc::new(Mutex::new(Some(Arc::new(answer)))),
        };
        let (asked, answer) = (server.asked.clone(), server.answer.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let current = answer.lock().clone();
                // One that is away takes connections, as a proxy before it would, and says nothing.
                let Some(current) = current else { continue };
                let _ = serve(stream, &asked, &*current);
            }
        });
        server
    }

    /// From now on nobody answers.
    pub(crate) fn goes_away(&self) {
        *self.answer.lock() = None;
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked.lock().iter().map(|asked| asked.line.clone()).collect()
    }

    pub(crate) fn options(&self, directory: &TempDir) -> Options {
        Options {
            urls: vec![self.url.clone()],
            auth: Auth::None,
            tls: Tls::default(),
            directory: directory.path().into(),
        }
    }

    pub(crate) fn client(&self, directory: &TempDir) -> Registry {
        Registry::new(&self.options(directory)).expect("a client")
    }
}

fn serve(stream: TcpStream, asked: &Mutex<Vec<Asked>>, answer: &Answer) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut next = || {
        let mut line = String::new();
        reader.read_line(&mut line).map(|_| line.trim_end().to_owned())
    };
    let mut request = Asked {
        line: next()?.replace(" HTTP/1.1", ""),
        ..Asked::default()
    };
    let mut length = 0;
    loop {
        let line = next()?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => request.authorization = Some(value.trim().into()),
            "content-length" => length = value.trim().parse().unwrap_or(0),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    request.body = String::from_utf8_lossy(&body).into_owned();
    let (status, body) = answer(&request);
    asked.lock().push(request);
    let body = body.to_string();
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub(crate) fn error(status: u16, code: u32) -> (u16, Value) {
    (status, json!({"error_code": code, "message": "because"}))
}

/// A schema of one text.
pub(crate) fn schema(id: u32, text: &str) -> Schema {
    let piece = Piece {
        subject: "orders-value".into(),
        version: 1,
        text: text.into(),
        references: Vec::new(),
    };
    Schema {
        kind: Kind::Avro,
        part: Part::Value,
        id,
        pieces: vec![piece],
    }
}

#[test]
fn a_schema_comes_with_all_it_refers_to_and_each_once() {
    let refers = |name: &str| json!([{"name": name, "subject": name, "version": 2}]);
    let server = Server::start(move |asked| match asked.line.as_str() {
        "GET /schemas/ids/7" => {
            let both = json!([{"name": "a", "subject": "a", "version": 2}, {"name": "c", "subject": "c", "version": 2}]);
            (200, json!({"schema": "order", "references": both}))
        }
        "GET /schemas/ids/7/versions" => (200, json!([{"subject": "orders-value", "version": 4}])),
        "GET /subjects/a/versions/2" => (200, json!({"schema": "A", "references": refers("c")})),
        "GET /subjects/c/versions/2" => (200, json!({"schema": "C"})),
        _ => error(404, 40_403),
    });
    let directory = tempfile::tempdir().unwrap();
    let registry = server.client(&directory);
    let found = registry.schema(Part::Key, 7).unwrap();
    let texts: Vec<&str> = found.pieces.iter().map(|piece| piece.text.as_str()).collect();
    assert_eq!(
        (found.part, found.id, texts),
        (Part::Key, 7, vec!["C", "A", "order"])
    );
    assert_eq!(found.pieces[2].references, [("a".into(), 1), ("c".into(), 0)]);
    assert_eq!(
        (found.pieces[2].subject.as_str(), found.pieces[2].version),
        ("orders-value", 4)
    );
    registry.schema(Part::Value, 7).unwrap();
    assert_eq!(server.lines().len(), 4, "it is asked once");
    let unknown = registry.schema(Part::Value, 8);
    assert_eq!(unknown, Err(Fault::Unknown("no schema 8".into())));
}

#[test]
fn a_schema_that_refers_to_itself_is_invalid() {
    let own = json!([{"name": "a", "subject": "a", "version": 1}]);
    let server = Server::start(move |_| (200, json!({"schema": "A", "references": own.clone()})));
    let directory = tempfile::tempdir().unwrap();
    let found = server.client(&directory).schema(Part::Value, 7);
    assert!(matches!(found, Err(Fault::Invalid(_))), "{found:?}");
}

#[test]
fn references_that_lead_on_and_on_end() {
    let server = Server::start(|asked| {
        let version = asked.line.rsplit('/').next().and_then(|last| last.parse().ok());
        let next = version.unwrap_or(0) + 1;
        (
            200,
            json!({"schema": "A", "references": [{"name": "a", "subject": "a", "version": next}]}),
        )
    });
    let directory = tempfile::tempdir().unwrap();
    let found = server.client(&directory).schema(Part::Value, 7);
    assert!(matches!(found, Err(Fault::Invalid(_))), "{found:?}");
    assert!(server.lines().len() < 300, "they are not all asked for");
}

#[test]
fn what_a_registry_answers_is_told_apart() {
    let check = |answer: (u16, Value), expected: fn(&Fault) -> bool| {
        let told = answer.clone();
        let server = Server::start(move |asked| match asked.line.as_str() {
            "POST /subjects/orders-value" => error(404, 40_401),
            _ => answer.clone(),
        });
        let directory = tempfile::tempdir().unwrap();
        let fault = server
            .client(&directory)
            .id(&schema(7, "\"long\""), "orders-value", true)
            .expect_err("no number");
        assert!(expected(&fault), "{told:?}: {fault:?}");
    };
    check(
        error(409, 409),
        |fault| matches!(fault, Fault::Incompatible(why) if why.contains("orders-value")),
    );
    check(error(422, 42_201), |fault| matches!(fault, Fault::Invalid(_)));
    check(
        error(401, 401),
        |fault| matches!(fault, Fault::Away(why) if why.contains("401")),
    );
    check(error(500, 50_001), |fault| matches!(fault, Fault::Away(_)));
    // Of a proxy, not of the registry.
    check((404, json!("no such page")), |fault| {
        matches!(fault, Fault::Away(_))
    });
}

#[test]
fn a_schema_is_registered_where_it_is_not_there_yet_and_may_be() {
    let server = Server::start(|asked| match asked.line.as_str() {
        "POST /subjects/new-value/versions" => (200, json!({"id": 12})),
        "POST /subjects/old-value" => (200, json!({"subject": "old-value", "version": 3, "id": 11})),
        _ => error(404, 40_403),
    });
    let directory = tempfile::tempdir().unwrap();
    let registry = server.client(&directory);
    let order = schema(7, "\"long\"");
    assert_eq!(registry.id(&order, "old-value", true), Ok(11));
    assert_eq!(registry.id(&order, "new-value", true), Ok(12));
    let refused = registry.id(&order, "other-value", false);
    assert!(matches!(refused, Err(Fault::Unknown(_))), "{refused:?}");
    let before = server.lines().len();
    assert_eq!(registry.id(&schema(9, "\"long\""), "new-value", true), Ok(12));
    assert_eq!(
        server.lines().len(),
        before,
        "the same schema of another number is not asked for again"
    );
}

#[test]
fn whether_a_schema_may_stand_beside_others_is_asked_before_it_is_registered() {
    let check = |verdict: (u16, Value), expected: Result<u32, &str>| {
        let server = Server::start(move |asked| match asked.line.as_str() {
            "POST /compatibility/subjects/orders-value/versions?verbose=true" => verdict.clone(),
            "POST /subjects/orders-value/versions" => (200, json!({"id": 12})),
            _ => error(404, 40_403),
        });
        let directory = tempfile::tempdir().unwrap();
        let found = server
            .client(&directory)
            .id(&schema(7, "\"long\""), "orders-value", true);
        let told = found.map_err(|fault| match fault {
            Fault::Incompatible(why) => why,
            fault => panic!("{fault}"),
        });
        assert_eq!(
            told,
            expected.map_err(|why| format!("subject orders-value: {why}"))
        );
        let registers = server
            .lines()
            .contains(&"POST /subjects/orders-value/versions".to_owned());
        assert_eq!(registers, expected.is_ok());
    };
    check((200, json!({"is_compatible": true})), Ok(12));
    let reasons = json!(["A: one", "B: two"]);
    check(
        (200, json!({"is_compatible": false, "messages": reasons})),
        Err("A: one; B: two"),
    );
    // A registry that does not say why, or does not know the question, decides when it is registered.
    check((200, json!({"is_compatible": false})), Ok(12));
    check(error(404, 40_401), Ok(12));
    check((404, json!("no such page")), Ok(12));
}

#[test]
fn the_newest_schema_of_a_subject_is_found_with_what_it_refers_to() {
    let server = Server::start(|asked| match asked.line.as_str() {
        "GET /subjects/orders-value/versions/latest" => {
            let refers = json!([{"name": "a", "subject": "a", "version": 2}]);
            (
                200,
                json!({"id": 9, "version": 3, "schema": "order", "references": refers}),
            )
        }
        "GET /subjects/a/versions/2" => (200, json!({"schema": "A"})),
        _ => error(404, 40_401),
    });
    let directory = tempfile::tempdir().unwrap();
    let registry = server.client(&directory);
    let found = registry.latest(Part::Value, "orders-value").unwrap();
    let root = found.root().unwrap();
    assert_eq!((found.id, root.version, root.text.as_str()), (9, 3, "order"));
    assert_eq!(found.pieces[0].text, "A");
    let none = registry.latest(Part::Value, "other");
    assert_eq!(none, Err(Fault::Unknown("no such subject".into())));
}

#[test]
fn while_a_registry_is_away_what_was_seen_is_known_also_to_the_next_process() {
    let server = Server::start(|asked| match asked.line.as_str() {
        "GET /schemas/ids/7" => (200, json!({"schema": "\"long\""})),
        "POST /subjects/orders-value" => (200, json!({"version": 1, "id": 11})),
        _ => error(404, 40_403),
    });
    let directory = tempfile::tempdir().unwrap();
    let seen = server.client(&directory);
    let order = seen.schema(Part::Value, 7).unwrap();
    assert_eq!(seen.id(&order, "orders-value", true), Ok(11));
    server.goes_away();
    let next = server.client(&directory);
    assert_eq!(next.schema(Part::Value, 7), Ok(order.clone()));
    assert_eq!(next.id(&order, "orders-value", true), Ok(11));
    assert!(matches!(next.schema(Part::Value, 8), Err(Fault::Away(_))));
    assert!(matches!(
        next.id(&order, "other-value", true),
        Err(Fault::Away(_))
    ));
    let elsewhere = Registry::new(&Options {
        urls: vec!["http://127.0.0.1:9".into()],
        ..server.options(&directory)
    });
    let unseen = elsewhere.unwrap().schema(Part::Value, 7);
    assert!(
        matches!(unseen, Err(Fault::Away(_))),
        "numbers of another registry mean nothing: {unseen:?}"
    );
}

#[test]
fn the_next_address_is_asked_where_one_does_not_answer() {
    let server = Server::start(|_| (200, json!({"schema": "\"long\""})));
    let directory = tempfile::tempdir().unwrap();
    let registry = Registry::new(&Options {
        urls: vec!["http://127.0.0.1:9".into(), format!("{}/", server.url)],
        auth: Auth::Basic("ann:secret".into()),
        ..server.options(&directory)
    });
    assert!(registry.unwrap().schema(Part::Value, 7).is_ok());
    let asked = server.asked.lock();
    assert_eq!(asked[0].line, "GET /schemas/ids/7");
    assert_eq!(asked[0].authorization.as_deref(), Some("Basic YW5uOnNlY3JldA=="));
}

#[test]
fn what_opens_a_registry_is_not_printed() {
    for auth in [Auth::Basic("ann:secret".into()), Auth::Bearer("secret".into())] {
        assert!(!format!("{auth:?}").contains("secret"));
    }
}

//! A run that was recorded is played again: the same bytes, though the clock moves on and nothing outside is there any more.
//! The plugins are made by `cargo xtask plugins`.

mod common;

use common::{batch, plugin};
use culvert_host::{
    Act, AddressGrant, Answer, Failure, Failures, Fault, Grants, Limits, Line, LogSink, Plugin, SecretBytes,
    Stream, Surroundings, Tape, Transform,
};
use culvert_proto::columns::Outcomes;
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const SECRET: &str = "correct-horse-battery-staple";

const STREAM: Stream<'static> = Stream {
    id: "a/orders/0",
    topic: "orders",
    partition: 0,
};

struct Silent;

impl LogSink for Silent {
    fn line(&self, _: &Line<'_>) {}
}

/// What was told of each failure: values of the batch, the fault, acts or why not, batches before.
type Told = (Vec<String>, Fault, Result<Vec<Act>, String>, u64);

#[derive(Default)]
struct Kept(Mutex<Vec<Told>>);

impl Failures for Kept {
    fn failed(&self, failure: &Failure<'_>) {
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        let values = failure.batch.iter().map(|(_, record)| text(record.value));
        let acts = failure.acts.map(<[Act]>::to_vec).map_err(str::to_owned);
        self.0.lock().expect("nobody panics").push((
            values.collect(),
            failure.fault.clone(),
            acts,
            failure.batches_before,
        ));
    }
}

fn around(tape: &Tape) -> Surroundings {
    Surroundings::new(Arc::new(Silent)).taped(tape.clone())
}

fn open(plugin: &Plugin, settings: &[(&str, &str)], around: Surroundings) -> Transform {
    let settings: Vec<(String, Option<String>)> = settings
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())))
        .collect();
    let limits = Limits {
        memory_bytes_max: 16 << 20,
        call_time_max: Duration::from_secs(2),
        ..Limits::default()
    };
    Transform::open(plugin, &settings, limits, around).expect("it opens")
}

/// Of a batch with one record at fault, that record alone is told of, and fails alike when it is played.
#[test]
fn the_smallest_batch_that_fails_is_told_and_fails_alike_again() {
    let hostile = plugin("tests/hostile");
    let check = |values: &[&str], kind: &str, smallest: &[&str]| {
        let kept = Arc::new(Kept::default());
        let mut transform = open(&hostile, &[], around(&Tape::recording(kept.clone())));
        let treated = transform.process(&STREAM, &batch(values));
        assert_eq!(treated.is_err(), kind == "fatal", "{kind}");
        let told = std::mem::take(&mut *kept.0.lock().expect("nobody panics"));
        let [(records, fault, Ok(acts), _)] = told.as_slice() else {
            panic!("{kind}: {told:?}");
        };
        assert_eq!(
            (records.as_slice(), fault.kind.as_str()),
            (
                &smallest
                    .iter()
                    .map(|value| (*value).to_owned())
                    .collect::<Vec<_>>()[..],
                kind
            )
        );
        let tape = Tape::playing(acts.clone());
        let mut again = open(&hostile, &[], around(&tape));
        let seen = again.once(&STREAM, &batch(smallest)).expect_err(kind);
        assert_eq!((&seen, tape.strayed()), (fault, None), "{kind}");
    };
    let mut many = vec!["fine"; 100];
    many[37] = "panic";
    check(&many, "trap", &["panic"]);
    check(&["fine", "bomb"], "memory", &["bomb"]);
    check(&["fine", "spin", "fine"], "timeout", &["spin"]);
    check(&["fine", "verdict"], "answer", &["verdict"]);
    check(&["fine", "fatal", "fine"], "fatal", &["fine", "fatal", "fine"]);
}

/// A plugin that is asked again only is not at fault.
#[test]
fn a_batch_that_is_to_be_tried_again_is_not_told_of() {
    let kept = Arc::new(Kept::default());
    let mut transform = open(
        &plugin("tests/hostile"),
        &[],
        around(&Tape::recording(kept.clone())),
    );
    transform.process(&STREAM, &batch(&["retry"])).expect_err("later");
    transform
        .process(&STREAM, &batch(&["reject", "keep"]))
        .expect("treated");
    assert!(kept.0.lock().expect("nobody panics").is_empty());
}

#[test]
fn the_time_and_chance_of_then_give_the_same_bytes_though_the_clock_moves_on() {
    let faulty = plugin("tests/faulty");
    for fault in ["clock", "opened-at", "chance"] {
        let settings = [("fault", fault)];
        let shown = batch(&["x"; 300]);
        let ticking = AtomicI64::new(1_700_000_000_000);
        let now: culvert_host::Now = Arc::new(move || ticking.fetch_add(7, Ordering::Relaxed));
        let tape = Tape::recording(Arc::new(Kept::default()));
        let mut transform = open(&faulty, &settings, around(&tape).at(now.clone()));
        // What was answered to a batch before is not of this one.
        transform.process(&STREAM, &batch(&["y"])).expect("treated");
        let then = transform.process(&STREAM, &shown).expect("treated");
        let acts = tape.acts().expect("recordable");
        let play = |acts: Vec<Act>| -> (Outcomes, Tape) {
            let tape = Tape::playing(acts);
            let outcomes = open(&faulty, &settings, around(&tape).at(now.clone())).once(&STREAM, &shown);
            (outcomes.expect("it succeeds again"), tape)
        };
        let (again, played) = play(acts.clone());
        assert_eq!((&again, played.left()), (&then, 0), "{fault}");
        let mut fresh = open(
            &faulty,
            &settings,
            Surroundings::new(Arc::new(Silent)).at(now.clone()),
        );
        assert_ne!(
            fresh.process(&STREAM, &shown).expect("treated"),
            then,
            "{fault}: without a tape"
        );
    }
}

/// One answer to each request, with a number that grows.
fn serve() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let heard = Arc::new(Mutex::new(Vec::new()));
    let told = heard.clone();
    thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let mut head = Vec::new();
            let mut part = [0; 1024];
            while !head.ends_with(b"\r\n\r\n") {
                match connection.read(&mut part) {
                    Ok(more) if more > 0 => head.extend_from_slice(&part[..more]),
                    _ => break,
                }
            }
            let mut told = told.lock().expect("nobody panics");
            told.push(String::from_utf8_lossy(&head).into_owned());
            let body = format!("answer {}", told.len());
            let answer = format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = connection.write_all(answer.as_bytes());
        }
    });
    (format!("http://{address}"), heard)
}

fn granting(server: &str) -> Arc<Grants> {
    let mut grants = Grants {
        http: vec![AddressGrant::parse(&format!("GET {server}/")).expect("a grant")],
        files: vec![
            culvert_host::FolderGrant::parse("read /culvert/nowhere", "/".as_ref()).expect("a grant"),
        ],
        ..Grants::default()
    };
    let secret = || SecretBytes::new(SECRET.as_bytes().to_vec());
    grants.secrets.insert("held".into(), secret());
    grants.secrets.insert("shown".into(), secret());
    grants.reveal.insert("shown".into());
    Arc::new(grants)
}

#[test]
fn answers_of_servers_and_files_are_played_without_them_and_hold_no_secret() {
    let (server, heard) = serve();
    let reach = plugin("tests/reach");
    let send = json!({ "do": "send", "name": "held", "auth": "bearer", "requests": [{ "url": format!("{server}/") }] });
    let look = json!({ "do": "files", "call": "look", "path": "/culvert/nowhere/a" });
    let (send, look) = (send.to_string(), look.to_string());
    let tape = Tape::recording(Arc::new(Kept::default()));
    let shown = batch(&[&send, &look]);
    let mut transform = open(&reach, &[], around(&tape).granting(granting(&server)));
    let then = transform.process(&STREAM, &shown).expect("treated");
    let requests = heard.lock().expect("nobody panics").clone();
    assert!(
        requests.len() == 1 && requests[0].contains(SECRET),
        "{requests:?}"
    );
    let acts = tape.acts().expect("recordable");
    let calls: Vec<&str> = acts.iter().map(|act| act.call.as_str()).collect();
    assert_eq!(
        calls,
        [
            "secrets.get",
            "clock.now-ms",
            "http.send",
            "clock.now-ms",
            "files.look"
        ]
    );
    for act in &acts {
        let Answer::Given(bytes) = &act.answer else {
            panic!("{act:?}");
        };
        assert!(!String::from_utf8_lossy(bytes).contains(SECRET), "{act:?}");
    }
    let played = Tape::playing(acts.clone());
    let again = open(&reach, &[], around(&played)).once(&STREAM, &shown);
    assert_eq!((again.expect("it succeeds again"), played.left()), (then, 0));
    assert_eq!(heard.lock().expect("nobody panics").len(), 1, "nothing is sent");
    // Another request ends the run, and says where it went another way.
    let other = batch(&[
        &send.replace("\"url\":\"http", "\"method\":\"POST\",\"url\":\"http"),
        &look,
    ]);
    let played = Tape::playing(acts);
    let fault = open(&reach, &[], around(&played))
        .once(&STREAM, &other)
        .expect_err("strayed");
    let strayed = "went another way than recorded at act 3: http.send with other arguments than then";
    assert_eq!(played.strayed().as_deref(), Some(strayed));
    assert!(fault.text.contains(strayed), "{fault}");
}

#[test]
fn a_call_that_is_shown_a_secret_is_not_recorded() {
    let reveal = json!({ "do": "secret", "name": "shown", "reveal": true, "panic": true }).to_string();
    let kept = Arc::new(Kept::default());
    let tape = Tape::recording(kept.clone());
    let mut transform = open(
        &plugin("tests/reach"),
        &[],
        around(&tape).granting(granting("http://127.0.0.1:1")),
    );
    transform.process(&STREAM, &batch(&[&reveal])).expect("treated");
    let told = kept.0.lock().expect("nobody panics");
    let [(_, fault, Err(why), _)] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert!(why.contains("the bytes of a secret"), "{why}");
    assert!(!fault.text.contains(SECRET), "{fault}");
}

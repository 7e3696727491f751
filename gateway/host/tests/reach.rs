//! What a plugin reaches by its grants, and what it does not. The plugin is `plugins/reach`, made by `cargo xtask plugins`.

mod common;

use common::plugin;
use culvert_host::{
    AddressGrant, FolderGrant, Grants, Limits, Line, LogSink, OpenError, Plugin, SecretBytes, Stream,
    Surroundings, Transform,
};
use culvert_proto::Sequence;
use culvert_proto::columns::{Columns, Outcome};
use culvert_proto::record::{Headers, RecordRef};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Barrier, LazyLock, Mutex};
use std::thread;
use std::time::Duration;

static REACH: LazyLock<Plugin> = LazyLock::new(|| plugin("tests/reach"));

const SECRET: &str = "correct-horse-battery-staple";

#[derive(Default)]
struct Kept(Mutex<Vec<String>>);

impl LogSink for Kept {
    fn line(&self, line: &Line<'_>) {
        self.0.lock().expect("no line panics").push(line.text.to_owned());
    }
}

struct Reach {
    transform: Transform,
    log: Arc<Kept>,
}

impl Reach {
    /// Grants of every kind, that it opens; those of `more` are what a test is about.
    fn open(more: impl FnOnce(&mut Grants)) -> Reach {
        Reach::within(Duration::from_secs(20), more)
    }

    fn within(time: Duration, more: impl FnOnce(&mut Grants)) -> Reach {
        let mut grants = Grants {
            http: vec![AddressGrant::parse("GET http://127.0.0.1:1/").expect("a grant")],
            files: vec![FolderGrant::parse("read /culvert/nowhere", Path::new("/")).expect("a grant")],
            ..Grants::default()
        };
        grants
            .secrets
            .insert("held".into(), SecretBytes::new(SECRET.as_bytes().to_vec()));
        grants
            .secrets
            .insert("shown".into(), SecretBytes::new(SECRET.as_bytes().to_vec()));
        grants.reveal.insert("shown".into());
        more(&mut grants);
        let log = Arc::new(Kept::default());
        let limits = Limits {
            call_time_max: time,
            ..Limits::default()
        };
        let around = Surroundings::new(log.clone()).granting(Arc::new(grants));
        let transform = Transform::open(&REACH, &[], limits, around).expect("reach opens");
        Reach { transform, log }
    }

    /// What came of one command; the reason where it was rejected.
    fn tell(&mut self, told: &Value) -> Value {
        let stream = Stream {
            id: "a/commands/0",
            topic: "commands",
            partition: 0,
        };
        let mut batch = Columns::begin(Sequence(0));
        let text = told.to_string();
        let record = RecordRef {
            timestamp: 5,
            key: None,
            value: Some(text.as_bytes()),
            headers: Headers::NONE,
        };
        batch.push(Sequence(0), &record).expect("a small record");
        let outcomes = self
            .transform
            .process(&stream, &batch)
            .expect("the call comes back");
        match outcomes.iter().next().expect("an outcome") {
            Outcome::Value(value) => serde_json::from_slice(value).expect("JSON"),
            Outcome::Reject(rejection) => json!({ "rejected": rejection.reason.clone() }),
            other => panic!("{told}: {other:?}"),
        }
    }

    #[allow(clippy::needless_pass_by_value, reason = "made where it is given")]
    fn send(&mut self, requests: Value) -> Vec<Value> {
        let answers = self.tell(&json!({ "do": "send", "requests": requests }));
        answers["answers"].as_array().expect("answers").clone()
    }

    #[allow(clippy::needless_pass_by_value, reason = "made where it is given")]
    fn files(&mut self, call: &str, path: &str, more: Value) -> Value {
        let mut told = json!({ "do": "files", "call": call, "path": path });
        for (name, value) in more.as_object().into_iter().flatten() {
            told[name] = value.clone();
        }
        self.tell(&told)
    }
}

#[test]
fn a_plugin_without_its_grants_does_not_open_and_says_what_would_help() {
    let around = Surroundings::new(Arc::new(Kept::default()));
    let refused = Transform::open(&REACH, &[], Limits::default(), around)
        .err()
        .expect("nothing is granted");
    assert!(matches!(refused, OpenError::NotGranted { .. }), "{refused}");
    let text = refused.to_string();
    for part in [
        "[CULVERT-W030] plugin reach",
        "imports secrets,",
        "tests ask for them",
        "culvert.grant.secrets.NAME",
        "imports http,",
        "culvert.grant.http",
        "imports files,",
        "tests read and write",
    ] {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

// ----- secrets -------------------------------------------------------------------------------------------------

#[test]
fn only_granted_secrets_exist_and_only_some_of_them_show_their_bytes() {
    let mut reach = Reach::open(|_| {});
    let mut secret =
        |name: &str, reveal: bool| reach.tell(&json!({ "do": "secret", "name": name, "reveal": reveal }));
    assert_eq!(secret("held", false)["held"], true);
    assert_eq!(secret("shown", true)["bytes"], SECRET.len());
    assert!(secret("held", true)["error"].to_string().contains("denied"));
    assert!(secret("other", false)["error"].to_string().contains("denied"));
    for _ in 0..2_000 {
        assert_eq!(
            secret("held", false)["held"],
            true,
            "handles that are dropped are given back"
        );
    }
}

#[test]
fn a_secret_that_a_plugin_says_aloud_is_not_heard() {
    let mut reach = Reach::open(|_| {});
    let rejected =
        reach.tell(&json!({ "do": "secret", "name": "shown", "reveal": true, "log": true, "reject": true }));
    assert_eq!(rejected["rejected"], "the secret is [hidden]");
    let trapped = reach.tell(&json!({ "do": "secret", "name": "shown", "reveal": true, "panic": true }));
    let trapped = trapped["rejected"].as_str().expect("a reason").to_owned();
    assert!(trapped.contains("the secret is [hidden]"), "{trapped}");
    let lines = reach.log.0.lock().expect("no line panics").clone();
    assert!(
        lines
            .iter()
            .any(|line| line == "the secret is [hidden], twice [hidden]"),
        "{lines:?}"
    );
    assert!(!format!("{lines:?}{rejected}{trapped}").contains(SECRET));
}

// ----- requests ------------------------------------------------------------------------------------------------

/// A server of raw bytes: `answer` makes an answer of a request's head.
fn serve(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || talk(connection, |head| answer(head)));
        }
    });
    format!("http://{address}")
}

fn talk(mut connection: impl Read + Write, answer: impl Fn(&str) -> Vec<u8>) {
    let mut heard = Vec::new();
    let mut part = [0; 4096];
    while let Ok(more) = connection.read(&mut part) {
        if more == 0 {
            return;
        }
        heard.extend_from_slice(&part[..more]);
        let text = String::from_utf8_lossy(&heard).into_owned();
        if text.contains("\r\n\r\n") {
            let _ = connection.write_all(&answer(&text));
            heard.clear();
        }
    }
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn granted(text: String) -> impl FnOnce(&mut Grants) {
    move |grants| grants.http = vec![AddressGrant::parse(&text).expect("a grant")]
}

#[test]
fn requests_go_where_they_were_granted_and_nowhere_else() {
    let server = serve(|head| ok(head.lines().next().unwrap_or_default()));
    let other = serve(|_| ok("never asked"));
    let mut reach = Reach::open(granted(format!("GET,POST {server}/v1/*")));
    let ask = |method: &str, url: String| json!([{ "method": method, "url": url, "body": "x" }]);
    let answers = reach.send(ask("POST", format!("{server}/v1/orders?a=b")));
    assert_eq!(answers[0]["body"], "POST /v1/orders?a=b HTTP/1.1");
    for (method, url) in [
        ("GET", format!("{other}/v1/orders")),
        ("DELETE", format!("{server}/v1/orders")),
        ("GET", format!("{server}/v2/orders")),
        ("GET", format!("{server}/v1/../v2/orders")),
        ("GET", server.replace("127.0.0.1", "localhost") + "/v1/orders"),
        ("GET", server.replace("http://", "https://") + "/v1/orders"),
        ("GET", server.replace("http://", "http://user@") + "/v1/orders"),
    ] {
        let answer = reach.send(ask(method, url.clone()))[0]["error"].to_string();
        assert!(answer.contains("Denied"), "{method} {url}: {answer}");
    }
    let injected =
        json!([{ "url": format!("{server}/v1/a"), "headers": { "x-a": "1\r\nhost: evil.example" } }]);
    assert!(reach.send(injected)[0]["error"].to_string().contains("Denied"));
}

#[test]
fn a_redirect_is_an_answer_and_is_not_followed() {
    let elsewhere = serve(|_| ok("followed"));
    let location = elsewhere.clone();
    let server = serve(move |_| {
        format!("HTTP/1.1 302 Found\r\nLocation: {location}/\r\nContent-Length: 0\r\n\r\n").into_bytes()
    });
    let mut reach = Reach::open(|grants| {
        grants.http = [&server, &elsewhere]
            .map(|address| AddressGrant::parse(&format!("GET {address}/*")).expect("a grant"))
            .into();
    });
    let answers = reach.send(json!([{ "url": format!("{server}/") }]));
    assert_eq!(
        (&answers[0]["status"], &answers[0]["location"]),
        (&json!(302), &json!(format!("{elsewhere}/")))
    );
}

#[test]
fn secrets_are_put_on_the_wire_by_the_gateway() {
    let heard = Arc::new(Mutex::new(String::new()));
    let kept = heard.clone();
    let server = serve(move |head| {
        head.clone_into(&mut kept.lock().expect("no request panics"));
        ok("")
    });
    let mut reach = Reach::open(granted(format!("GET {server}/")));
    for (auth, expected) in [
        ("bearer", format!("authorization: Bearer {SECRET}")),
        (
            "basic",
            "authorization: Basic YW5uOmNvcnJlY3QtaG9yc2UtYmF0dGVyeS1zdGFwbGU=".to_owned(),
        ),
        ("x-api-key", format!("x-api-key: {SECRET}")),
    ] {
        let url = format!("{server}/");
        reach.tell(&json!({ "do": "send", "name": "held", "auth": auth, "requests": [{ "url": url }] }));
        let heard = heard.lock().expect("no request panics").clone();
        assert!(heard.contains(&expected), "{auth}: {heard}");
    }
}

#[test]
fn sixteen_requests_are_made_at_the_same_time_and_seventeen_are_none() {
    // Nobody is answered before all have asked.
    let all = Barrier::new(16);
    let server = serve(move |_| {
        all.wait();
        ok("together")
    });
    let mut reach = Reach::open(granted(format!("GET {server}/*")));
    let requests =
        |count: usize| Value::from_iter((0..count).map(|n| json!({ "url": format!("{server}/{n}") })));
    let answers = reach.send(requests(16));
    assert!(
        answers.iter().all(|answer| answer["body"] == "together"),
        "{answers:?}"
    );
    let rejected = reach.tell(&json!({ "do": "send", "requests": requests(17) }));
    assert!(
        rejected["rejected"]
            .to_string()
            .contains("17 requests; at most 16"),
        "{rejected}"
    );
}

#[test]
fn a_server_that_does_not_answer_costs_a_time_out_and_not_the_instance() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", silent.local_addr().expect("an address"));
    let mut reach = Reach::within(Duration::from_millis(500), granted(format!("GET {url}")));
    let answers = reach.send(json!([{ "url": url }, { "url": url, "timeout": 20 }]));
    assert!(
        answers.iter().all(|answer| answer["error"] == "Error::Timeout"),
        "{answers:?}"
    );
    assert_eq!(reach.transform.meter().usage().timeouts, 0, "the plugin went on");
}

#[test]
fn an_answer_above_the_limit_is_not_taken() {
    let server = serve(|_| {
        let mut answer =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", (16 << 20) + 1).into_bytes();
        answer.resize(answer.len() + (16 << 20) + 1, b'x');
        answer
    });
    let mut reach = Reach::open(granted(format!("GET {server}/")));
    assert_eq!(
        reach.send(json!([{ "url": format!("{server}/") }]))[0]["error"],
        "Error::TooLarge"
    );
}

#[test]
fn a_server_is_trusted_by_the_authorities_that_were_given() {
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(["localhost".to_owned()]).expect("parameters");
    let certificate = certificate.self_signed(&key).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .expect("a server's certificate");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!(
        "https://localhost:{}/",
        listener.local_addr().expect("an address").port()
    );
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let session = rustls::ServerConnection::new(config.clone()).expect("a session");
            let connection: rustls::StreamOwned<_, TcpStream> = rustls::StreamOwned::new(session, connection);
            thread::spawn(move || talk(connection, |_| ok("trusted")));
        }
    });
    let requests = json!([{ "url": url }]);
    let grant = format!("GET {url}");
    let answers = Reach::open(granted(grant.clone())).send(requests.clone());
    assert!(answers[0]["error"].to_string().contains("Network"), "{answers:?}");
    let mut reach = Reach::open(|grants| {
        granted(grant)(grants);
        grants.http_authorities = certificate.pem().into_bytes();
    });
    assert_eq!(reach.send(requests)[0]["body"], "trusted");
}

// ----- files ---------------------------------------------------------------------------------------------------

fn folders(texts: &[String]) -> impl FnOnce(&mut Grants) {
    let parse = |text: &String| FolderGrant::parse(text, Path::new("/")).expect("a grant");
    let grants: Vec<FolderGrant> = texts.iter().map(parse).collect();
    move |all| all.files = grants
}

#[test]
fn files_are_written_in_steps_that_can_be_relied_upon() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().display().to_string();
    let mut reach = Reach::open(folders(&[format!("write {root}")]));
    let path = format!("{root}/a.txt");
    assert_eq!(reach.files("look", &path, json!({}))["error"], "Error::Missing");
    assert_eq!(reach.files("append", &path, json!({ "bytes": "one\n" })), 4);
    assert_eq!(
        reach.files("append", &path, json!({ "bytes": "two\n", "at": 4 })),
        8
    );
    assert_eq!(
        reach.files("append", &path, json!({ "bytes": "x", "at": 4 }))["error"],
        "Error::Conflict"
    );
    assert_eq!(
        reach.files("read", &path, json!({ "offset": 4 })),
        json!([8, "two\n"])
    );
    assert_eq!(
        reach.files("read", &path, json!({ "offset": 99 })),
        json!([8, ""])
    );
    assert_eq!(
        reach.files("truncate", &path, json!({ "size": 9 }))["error"],
        "Error::Conflict"
    );
    assert_eq!(reach.files("truncate", &path, json!({ "size": 4 })), "done");
    assert_eq!(reach.files("sync", &path, json!({})), "done");
    assert_eq!(reach.files("look", &path, json!({})), json!(["Kind::File", 4]));
    let replace = |reach: &mut Reach, bytes: &str, only: Value| {
        reach.files("replace", &path, json!({ "bytes": bytes, "only": only }))
    };
    assert_eq!(
        replace(&mut reach, "new", json!("absent"))["error"],
        "Error::Conflict"
    );
    assert_eq!(replace(&mut reach, "new", json!("one\n")), "done");
    assert_eq!(
        replace(&mut reach, "newer", json!("one\n"))["error"],
        "Error::Conflict"
    );
    assert_eq!(std::fs::read_to_string(&path).expect("a file"), "new");
    std::fs::create_dir(folder.path().join("below")).expect("a folder");
    std::fs::write(folder.path().join("below/b.txt"), "b").expect("a file");
    assert_eq!(reach.files("list", &root, json!({})), json!(["a.txt", "below"]));
    assert_eq!(
        reach.files("list", &root, json!({ "after": "a.txt" })),
        json!(["below"])
    );
    assert_eq!(
        reach.files("read", &format!("{root}/below/b.txt"), json!({})),
        json!([1, "b"])
    );
    assert_eq!(reach.files("remove", &path, json!({})), "done");
    assert!(!Path::new(&path).exists());
}

#[test]
fn nothing_leads_out_of_a_granted_folder() {
    let outside = tempfile::tempdir().expect("a folder");
    let secret = outside.path().join("secret");
    std::fs::write(&secret, "outside").expect("a file");
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().display().to_string();
    std::fs::write(folder.path().join("in"), "inside").expect("a file");
    let link = std::os::unix::fs::symlink::<&Path, std::path::PathBuf>;
    link(&secret, folder.path().join("file-link")).expect("a link");
    link(outside.path(), folder.path().join("folder-link")).expect("a link");
    link(Path::new("in"), folder.path().join("near-link")).expect("a link");
    let mut reach = Reach::open(folders(&[format!("write {root}")]));
    let up = format!(
        "{root}/../{}/secret",
        outside.path().file_name().expect("a name").display()
    );
    for path in [
        format!("{root}/file-link"),
        format!("{root}/folder-link/secret"),
        format!("{root}/near-link"),
        up,
        format!("{root}/./in"),
        format!("{root}//in"),
        secret.display().to_string(),
        "/etc/passwd".to_owned(),
        "in".to_owned(),
        root.clone(),
    ] {
        for (call, more) in [
            ("read", json!({})),
            ("append", json!({ "bytes": "x" })),
            ("truncate", json!({ "size": 0 })),
            ("replace", json!({ "bytes": "x" })),
        ] {
            let came = reach.files(call, &path, more)["error"].to_string();
            assert!(came.contains("Denied"), "{call} {path}: {came}");
        }
    }
    assert_eq!(std::fs::read_to_string(&secret).expect("a file"), "outside");
    assert_eq!(
        reach.files("look", &format!("{root}/file-link"), json!({}))[0],
        "Kind::Other"
    );
}

#[test]
fn a_grant_to_read_is_none_to_write_and_one_by_names_none_of_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().display().to_string();
    for name in ["app.log", "app.log.1", "other"] {
        std::fs::write(folder.path().join(name), name).expect("a file");
    }
    let mut reach = Reach::open(folders(&[format!("read {root}/app.log*")]));
    assert_eq!(
        reach.files("list", &root, json!({})),
        json!(["app.log", "app.log.1"])
    );
    assert_eq!(
        reach.files("read", &format!("{root}/app.log.1"), json!({}))[1],
        "app.log.1"
    );
    for (call, name) in [
        ("read", "other"),
        ("append", "app.log"),
        ("remove", "app.log"),
        ("replace", "app.log"),
    ] {
        let came = reach.files(call, &format!("{root}/{name}"), json!({ "bytes": "x" }))["error"].to_string();
        assert!(came.contains("Denied"), "{call} {name}: {came}");
    }
}

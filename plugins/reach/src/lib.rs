//! Uses what it was granted as a message tells it to, so that the gateway's tests can see what comes of it. A value is a
//! JSON object with `do`; what came of it takes its place.
//!
//! | `do` | what it does |
//! | --- | --- |
//! | `secret` | asks for `name`; with `reveal` its bytes, with `log` it logs them, with `reject` it rejects with them |
//! | `send` | makes `requests`, with the secret `name` in the way `auth` |
//! | `files` | one call of `files`: `call`, `path` and its arguments |

use culvert_plugin::files::{self, Condition};
use culvert_plugin::http::{self, Auth, Method, Request};
use culvert_plugin::prelude::*;
use culvert_plugin::{clock, info, secrets};
use serde_json::{Value, json};

struct Reach;

impl Transform for Reach {
    type Config = ();

    const ABOUT: About = culvert_plugin::about!().needs(Needs::VALUE).asks(&[
        Ask {
            what: Capability::Secrets,
            because: "tests ask for them",
        },
        Ask {
            what: Capability::SecretsReveal,
            because: "tests look at them",
        },
        Ask {
            what: Capability::Http,
            because: "tests make requests",
        },
        Ask {
            what: Capability::Files,
            because: "tests read and write",
        },
    ]);

    fn open((): ()) -> Result<Reach, Failure> {
        Ok(Reach)
    }

    fn each(&mut self, message: Message<'_>) -> Answer {
        let told: Value = message.json()?;
        let answer = match told["do"].as_str() {
            Some("secret") => secret(&told)?,
            Some("send") => send(&told),
            Some("files") => on_files(&told),
            other => return Err(Rejection::new("unknown", format!("{other:?}")).into()),
        };
        Ok(Outcome::Value(answer.to_string().into_bytes()))
    }
}

fn secret(told: &Value) -> Result<Value, Fault> {
    let secret = match secrets::get(text(told, "name")) {
        Ok(secret) => secret,
        Err(error) => return Ok(json!({ "error": format!("{error:?}") })),
    };
    if told["reveal"] != true {
        return Ok(json!({ "held": true }));
    }
    let bytes = match secrets::reveal(&secret) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => return Ok(json!({ "error": format!("{error:?}") })),
    };
    if told["log"] == true {
        info!("the secret is {bytes}, twice {bytes}");
    }
    if told["reject"] == true {
        return Err(Rejection::new("told", format!("the secret is {bytes}")).into());
    }
    if told["panic"] == true {
        panic!("the secret is {bytes}");
    }
    Ok(json!({ "bytes": bytes.len() }))
}

fn send(told: &Value) -> Value {
    let requests: Vec<Request> = told["requests"]
        .as_array()
        .into_iter()
        .flatten()
        .map(request)
        .collect();
    let secret = told["name"].as_str().map(secrets::get);
    let auth = match (&secret, told["auth"].as_str()) {
        (Some(Ok(secret)), Some("bearer")) => Auth::Bearer(secret),
        (Some(Ok(secret)), Some("basic")) => Auth::Basic("ann", secret),
        (Some(Ok(secret)), Some(header)) => Auth::Header(header, secret),
        _ => Auth::None,
    };
    let began = clock::now_ms();
    let answers: Vec<Value> = http::send(&requests, auth)
        .into_iter()
        .map(|answer| match answer {
            Ok(answer) => json!({
                "status": answer.status,
                "location": answer.header("location"),
                "bytes": answer.body.len(),
                "body": String::from_utf8_lossy(&answer.body[..answer.body.len().min(1_000)]),
            }),
            Err(error) => json!({ "error": format!("{error:?}") }),
        })
        .collect();
    json!({ "answers": answers, "ms": clock::now_ms() - began })
}

fn request(told: &Value) -> Request {
    let method = match told["method"].as_str() {
        Some("POST") => Method::Post,
        Some("DELETE") => Method::Delete,
        Some("HEAD") => Method::Head,
        _ => Method::Get,
    };
    let mut request = Request::new(method, text(told, "url"));
    for (name, value) in told["headers"].as_object().into_iter().flatten() {
        request = request.header(name, value.as_str().unwrap_or_default());
    }
    if let Some(body) = told["body"].as_str() {
        request = request.body(body);
    }
    if let Some(ms) = told["timeout"].as_u64() {
        request = request.timeout_ms(ms as u32);
    }
    request
}

fn on_files(told: &Value) -> Value {
    let path = text(told, "path");
    let bytes = text(told, "bytes").as_bytes();
    let only = match told["only"].as_str() {
        None => Condition::Always,
        Some("absent") => Condition::Absent,
        Some(held) => Condition::Holds(held.as_bytes().to_vec()),
    };
    let done = |()| json!("done");
    let came = match text(told, "call") {
        "look" => files::look(path).map(|status| json!([format!("{:?}", status.kind), status.size])),
        "list" => files::list(path, told["after"].as_str())
            .map(|entries| entries.into_iter().map(|entry| entry.name).collect()),
        "read" => files::read(path, number(told, "offset"), 100_000_000)
            .map(|piece| json!([piece.status.size, String::from_utf8_lossy(&piece.bytes)])),
        "append" => files::append(path, told["at"].as_u64(), bytes).map(Value::from),
        "truncate" => files::truncate(path, number(told, "size")).map(done),
        "replace" => files::replace(path, bytes, &only).map(done),
        "sync" => files::sync(path).map(done),
        "remove" => files::remove(path).map(done),
        other => return json!({ "error": format!("there is no call {other}") }),
    };
    came.unwrap_or_else(|error| json!({ "error": format!("{error:?}") }))
}

fn text<'a>(told: &'a Value, name: &str) -> &'a str {
    told[name].as_str().unwrap_or_default()
}

fn number(told: &Value, name: &str) -> u64 {
    told[name].as_u64().unwrap_or_default()
}

culvert_plugin::export_transform!(Reach);

//! A server of the test, at a port of this machine that nobody else knows: it keeps what it is sent, and honours
//! `Idempotency-Key`, as a target of an idempotent sink does. Asked for something (`GET`), it answers JSON of many pages.

use parking_lot::Mutex;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// As much as the host lets a plugin send.
const BODY_BYTES_MAX: usize = 16 << 20;
const LINE_BYTES_MAX: u64 = 64 * 1024;
const HEADERS_MAX: usize = 200;

/// A connection on which nothing is said for so long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// What is there to be asked for, and how much of it an answer holds.
const ITEMS: u64 = 40;
const ITEMS_PER_PAGE: u64 = 7;

/// A server, until it is dropped.
pub(in crate::plugin::testing) struct Server {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    held: Mutex<Held>,
    is_ended: AtomicBool,
}

#[derive(Default)]
struct Held {
    /// What was sent, by what makes it one thing.
    things: BTreeMap<String, Vec<u8>>,
    /// Requests that were taken.
    requests: u64,
    /// The one that is taken and not answered.
    unanswered: Option<u64>,
}

/// A request that was read.
struct Asked {
    method: String,
    target: String,
    key: Option<String>,
    body: Vec<u8>,
}

impl Server {
    pub(super) fn start() -> std::io::Result<Server> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let seen = shared.clone();
        std::thread::Builder::new()
            .name("plugin-test-server".into())
            .spawn(move || {
                for stream in listener.incoming() {
                    if seen.is_ended.load(Ordering::Acquire) {
                        return;
                    }
                    let (Ok(stream), seen) = (stream, seen.clone()) else {
                        continue;
                    };
                    std::thread::spawn(move || drop(serve(stream, &seen)));
                }
            })?;
        Ok(Server { port, shared })
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(super) fn clear(&self) {
        *self.shared.held.lock() = Held::default();
    }

    pub(super) fn held(&self) -> BTreeMap<String, Vec<u8>> {
        self.shared.held.lock().things.clone()
    }

    /// How many requests were taken since it was empty.
    pub(in crate::plugin::testing) fn requests(&self) -> u64 {
        self.shared.held.lock().requests
    }

    /// The request of this number, from 0, is taken, and its connection closed without an answer.
    pub(in crate::plugin::testing) fn loses_answer(&self, number: u64) {
        self.shared.held.lock().unanswered = Some(number);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.is_ended.store(true, Ordering::Release);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    let Ok(asked) = read(&stream) else {
        return stream.write_all(b"HTTP/1.1 400 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    };
    let (body, is_answered) = shared.held.lock().take(asked);
    if !is_answered {
        return Ok(());
    }
    // In one piece: what comes in several waits for the other side's acknowledgement, some 40 ms.
    let answer = format!(
        "HTTP/1.1 200 X\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes())
}

fn read(stream: &TcpStream) -> std::io::Result<Asked> {
    let mut reader = BufReader::new(stream);
    let mut next = || {
        let mut line = String::new();
        reader.by_ref().take(LINE_BYTES_MAX).read_line(&mut line)?;
        Ok::<_, std::io::Error>(line.trim_end().to_owned())
    };
    let malformed = || std::io::Error::other("no request");
    let first = next()?;
    let mut words = first.split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(malformed());
    };
    let (mut length, mut key) = (0, None);
    for number in 0.. {
        let line = next()?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(malformed)?;
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().map_err(|_| malformed())?,
            "transfer-encoding" => return Err(malformed()),
            "idempotency-key" => key = Some(value.trim().to_owned()),
            _ => {}
        }
        if number > HEADERS_MAX || length > BODY_BYTES_MAX {
            return Err(malformed());
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Asked {
        method: method.to_owned(),
        target: target.to_owned(),
        key,
        body,
    })
}

impl Held {
    /// Keeps what was sent. The body of the answer, and whether there is one.
    fn take(&mut self, asked: Asked) -> (String, bool) {
        let Asked {
            method,
            target,
            key,
            body,
        } = asked;
        let is_answered = self.unanswered != Some(self.requests);
        self.requests += 1;
        match (method.as_str(), key) {
            ("GET" | "HEAD", _) => return (page(&target), is_answered),
            ("DELETE", _) => drop(self.things.remove(&format!("PUT {target}"))),
            (_, Some(key)) => {
                let thing = format!("{method} {target} with key {key}");
                match self.things.get(&thing) {
                    Some(held) if *held != body => {
                        self.things
                            .insert(format!("{thing}, again with another body"), body);
                    }
                    Some(_) => {}
                    None => drop(self.things.insert(thing, body)),
                }
            }
            ("PUT", None) => drop(self.things.insert(format!("PUT {target}"), body)),
            (_, None) => {
                let thing = format!("{method} {target} without a key, number ");
                let count = self.things.keys().filter(|name| name.starts_with(&thing)).count();
                self.things.insert(format!("{thing}{}", count + 1), body);
            }
        }
        (String::new(), is_answered)
    }
}

/// Items behind the number that the query's last parameter holds, and the number to go on with.
fn page(target: &str) -> String {
    let cursor = target
        .split_once('?')
        .and_then(|(_, query)| query.rsplit('=').next()?.parse().ok());
    let first: u64 = cursor.unwrap_or(0).min(ITEMS);
    let behind = (first + ITEMS_PER_PAGE).min(ITEMS);
    let item = |id| json!({ "id": id, "name": format!("item {id}"), "amount": id * 3 });
    let items: Vec<_> = (first..behind).map(item).collect();
    json!({ "items": items, "next": behind }).to_string()
}

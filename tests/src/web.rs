//! A small HTTP/1.1 server on loopback whose every answer is the test's own, and that goes away and comes back.

use crate::ports;
use anyhow::Context;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A server that answers as a test says. Each connection carries one request. Dropping it ends it.
pub struct WebServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// What was asked.
#[derive(Clone, Debug)]
pub struct WebRequest {
    /// `GET`, `POST`, …
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// All of it.
    pub body: Vec<u8>,
}

/// What comes of a request.
#[derive(Clone, Debug)]
pub enum WebAnswer {
    /// Status, headers and body.
    Given(u16, Vec<(&'static str, String)>, String),
    /// As given, after a while: others are answered meanwhile.
    Late(Duration, u16),
    /// The connection ends without a word.
    Nothing,
}

/// Larger requests are a mistake of the test.
const BODY_BYTES_MAX: usize = 16 << 20;

/// How often the acceptor looks whether it is to go away.
const LOOK_UP: Duration = Duration::from_millis(5);

/// How long a client may take for its request.
const PATIENCE: Duration = Duration::from_secs(10);

type Answering = dyn FnMut(&WebRequest) -> WebAnswer + Send;

struct Shared {
    answering: Mutex<Box<Answering>>,
    is_away: AtomicBool,
    is_over: AtomicBool,
}

impl WebServer {
    /// Answers by `answering`, one request at a time.
    ///
    /// # Errors
    /// When loopback cannot be bound.
    pub fn start(
        answering: impl FnMut(&WebRequest) -> WebAnswer + Send + 'static,
    ) -> anyhow::Result<WebServer> {
        let address: SocketAddr = (Ipv4Addr::LOCALHOST, ports::free_tcp()).into();
        let first = bind(address).context("bind a web server")?;
        let shared = Arc::new(Shared {
            answering: Mutex::new(Box::new(answering)),
            is_away: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        let acceptor = thread::spawn({
            let shared = shared.clone();
            move || accept(address, first, &shared)
        });
        Ok(WebServer {
            address,
            shared,
            acceptor: Some(acceptor),
        })
    }

    /// The address of a path that begins with `/`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Refuses connections, and ends those that are open without a word, until [`WebServer::come_back`].
    pub fn go_away(&self) {
        self.shared.is_away.store(true, Ordering::Release);
    }

    /// Answers again.
    pub fn come_back(&self) {
        self.shared.is_away.store(false, Ordering::Release);
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl WebRequest {
    /// The value of a header, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The value of a parameter, as it stands.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find_map(|(known, value)| (known == name).then_some(value))
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn accept(address: SocketAddr, first: TcpListener, shared: &Arc<Shared>) {
    let mut listener = Some(first);
    while !shared.is_over.load(Ordering::Acquire) {
        if shared.is_away.load(Ordering::Acquire) {
            listener = None;
        } else if listener.is_none() {
            listener = bind(address).ok();
        }
        match listener.as_ref().map(TcpListener::accept) {
            Some(Ok((connection, _))) => {
                let shared = shared.clone();
                // Its client may be killed at any moment: nobody asks how it ended.
                thread::spawn(move || drop(serve(&connection, &shared)));
            }
            _ => thread::sleep(LOOK_UP),
        }
    }
}

fn serve(connection: &TcpStream, shared: &Shared) -> io::Result<()> {
    connection.set_nonblocking(false)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let request = read(&mut BufReader::new(connection))?;
    let answer = shared.answering.lock().unwrap_or_else(PoisonError::into_inner)(&request);
    let (status, headers, body) = match answer {
        WebAnswer::Given(status, headers, body) => (status, headers, body),
        WebAnswer::Late(pause, status) => {
            thread::sleep(pause);
            (status, Vec::new(), String::new())
        }
        WebAnswer::Nothing => return Ok(()),
    };
    if shared.is_away.load(Ordering::Acquire) {
        return Ok(());
    }
    let mut text = format!(
        "HTTP/1.1 {status} Test\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += &format!("\r\n{body}");
    let mut connection = connection;
    connection.write_all(text.as_bytes())
}

fn read(connection: &mut impl BufRead) -> io::Result<WebRequest> {
    let first = line(connection)?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    loop {
        let line = line(connection)?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, length)| length.parse().unwrap_or(0));
    let mut body = vec![0; BODY_BYTES_MAX.min(length)];
    connection.read_exact(&mut body)?;
    Ok(WebRequest {
        method,
        target,
        headers,
        body,
    })
}

fn line(connection: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    connection.take(64 * 1024).read_line(&mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(server: &WebServer) -> Result<u16, ureq::Error> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .into();
        let answer = agent.get(server.url("/a?b=c")).call()?;
        Ok(answer.status().as_u16())
    }

    #[test]
    fn a_server_goes_away_and_comes_back_at_its_address() {
        let mut asked = 0;
        let server = WebServer::start(move |request| {
            assert_eq!(
                (request.parameter("b"), request.parameter("d")),
                (Some("c"), None)
            );
            asked += 1;
            match asked {
                2 => WebAnswer::Nothing,
                _ => WebAnswer::Given(200 + asked, Vec::new(), "x".into()),
            }
        });
        let server = server.unwrap();
        assert_eq!(get(&server).unwrap(), 201);
        assert!(get(&server).is_err());
        server.go_away();
        crate::wait_until(PATIENCE, "the server to go", || get(&server).is_err());
        server.come_back();
        crate::wait_until(PATIENCE, "the server to come back", || {
            get(&server).is_ok_and(|status| status > 202)
        });
    }
}

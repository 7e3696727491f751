//! The control socket: how `culvert status` and `culvert prove` ask a running gateway.
//!
//! A Unix socket, mode 0600; besides, only the gateway's own user and root are answered. One request a connection, as
//! lines of JSON:
//!
//! ```text
//! → {"verb":"prove","wait_ms":30000}
//! ← {"progress":{"done":1200,"total":5000,"what":"site1/orders/0"}}      any number, at least one a second
//! ← {"result":{…}}   or   {"fault":{"code":"CULVERT-F001","message":"…"}}
//! ```
//!
//! A request is at most [`REQUEST_BYTES_MAX`] and must arrive within [`REQUEST_TIME_MAX`]; there are at most
//! [`CONNECTIONS_MAX`]. Whoever hangs up cancels what was asked.

use super::Error;
use super::report::{Fault, ProofReport, StatusReport};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// Far above any request there is.
pub const REQUEST_BYTES_MAX: u64 = 64 * 1024;

/// An answer for 10,000 streams is a few megabytes.
pub const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A client on the same host sends its line at once.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(5);

/// A few terminals and a dashboard.
pub const CONNECTIONS_MAX: usize = 16;

/// `sockaddr_un` holds 108 bytes with the final zero (unix(7)), and the socket is made under a name four bytes longer.
pub const PATH_BYTES_MAX: usize = 103;

/// The server says something at least this often while it works.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// A gateway that says nothing for this long hangs.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Request {
    /// What are you doing?
    Status,
    /// Compare both ends of the sinks' streams.
    Prove(Prove),
}

/// What is to be proven.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prove {
    /// Wait so long, in milliseconds, for what is on its way at the time of asking. 0 compares what has arrived.
    #[serde(default)]
    pub wait_ms: u64,
    /// This sink only.
    #[serde(default)]
    pub connector: Option<String>,
    /// This stream only: `site/topic/partition`.
    #[serde(default)]
    pub stream: Option<String>,
    /// From this place of the stream on; from its beginning where absent. Only with a stream.
    #[serde(default)]
    pub from: Option<u64>,
    /// Up to this place of the stream, without it; up to the end of what was delivered where absent. Only with a stream.
    #[serde(default)]
    pub to: Option<u64>,
    /// Whether both ends are to sign what is found.
    #[serde(default)]
    pub receipt: bool,
}

/// How far the work is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Records done.
    pub done: u64,
    /// Records in all, as far as known; 0 where not.
    pub total: u64,
    /// What is being worked on, for people.
    pub what: String,
}

/// A line of an answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line<T> {
    Progress(Progress),
    Result(T),
    Fault(Fault),
}

/// An answer that takes its time.
pub type Answering<'a, T> = Pin<Box<dyn Future<Output = Result<T, Fault>> + Send + 'a>>;

/// Who answers: the gateway.
pub trait Handler: Send + Sync + 'static {
    /// What it is doing.
    fn status(&self) -> Answering<'_, StatusReport>;

    /// Compares both ends. `progress` may be changed as often as wanted; the newest is passed on now and then. The
    /// future is dropped when the client hangs up.
    fn prove(&self, prove: Prove, progress: watch::Sender<Progress>) -> Answering<'_, ProofReport>;
}

/// The server's end of the socket. The file is removed with it.
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Makes the socket. One that a dead process left behind is replaced; that no other process lives is what the
    /// lock on the state directory says. Needs a running tokio runtime.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn bind(path: &Path) -> Result<Server, Error> {
        let fault = |source| Error::Socket {
            path: path.to_owned(),
            source,
        };
        let listener = bind(path).map_err(fault)?;
        Ok(Server {
            listener,
            path: path.to_owned(),
        })
    }

    /// Answers until `stop`.
    pub async fn run(self, handler: Arc<dyn Handler>, stop: CancellationToken) {
        let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let permit = Arc::clone(&free)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, _)) if is_permitted(&stream) => {
                    let (handler, stop) = (Arc::clone(&handler), stop.clone());
                    tokio::spawn(async move {
                        // A client that went away is no fault of ours.
                        let _ = stop.run_until_cancelled(serve(stream, &*handler)).await;
                        drop(permit);
                    });
                }
                Ok(_) => {}
                // Too many open files: wait instead of spinning.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Makes the socket under another name, closes it to others, and only then gives it its own name: there is no moment
/// in which others could open it.
fn bind(path: &Path) -> io::Result<UnixListener> {
    if path.as_os_str().len() > PATH_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path is too long",
        ));
    }
    let mut hidden = path.as_os_str().to_owned();
    hidden.push(".new");
    match std::fs::remove_file(&hidden) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(&hidden)?;
    std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&hidden, path)?;
    Ok(listener)
}

fn is_permitted(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

async fn serve(mut stream: UnixStream, handler: &dyn Handler) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut line = String::new();
    let mut read = tokio::io::BufReader::new(read).take(REQUEST_BYTES_MAX);
    let received = tokio::time::timeout(REQUEST_TIME_MAX, read.read_line(&mut line)).await;
    let request = match received {
        Ok(Ok(_)) => serde_json::from_str(&line).map_err(|e| e.to_string()),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err("no request came".into()),
    };
    match request {
        Ok(Request::Status) => send(&mut write, last(handler.status().await)).await,
        Ok(Request::Prove(prove)) => {
            let (sender, progress) = watch::channel(Progress::default());
            with_progress(&mut write, progress, handler.prove(prove, sender)).await
        }
        Err(problem) => {
            let message = format!("read the request: {problem}");
            send(
                &mut write,
                Line::<()>::Fault(Fault {
                    code: "CULVERT-C023".into(),
                    message,
                }),
            )
            .await
        }
    }
}

/// Tells the progress until the result is there. Whoever hung up is noticed by that, and the work is dropped.
async fn with_progress<T: Serialize>(
    write: &mut (impl AsyncWriteExt + Unpin),
    progress: watch::Receiver<Progress>,
    mut result: Answering<'_, T>,
) -> io::Result<()> {
    let mut ticks = tokio::time::interval(PROGRESS_EVERY);
    loop {
        tokio::select! {
            result = &mut result => return send(write, last(result)).await,
            _ = ticks.tick() => {
                let now = progress.borrow().clone();
                send(write, Line::<()>::Progress(now)).await?;
            }
        }
    }
}

fn last<T>(result: Result<T, Fault>) -> Line<T> {
    result.map_or_else(Line::Fault, Line::Result)
}

async fn send<T: Serialize>(write: &mut (impl AsyncWriteExt + Unpin), line: Line<T>) -> io::Result<()> {
    let mut text = serde_json::to_vec(&line)?;
    text.push(b'\n');
    write.write_all(&text).await
}

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error(
        "reach the gateway at {} [CULVERT-C020]\n\n\
         Is it running (`culvert run`), with this configuration, and may this user open the socket?",
        path.display()
    )]
    NoGateway {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It answered what this version does not understand, or stopped in the middle.
    #[error(
        "understand the gateway's answer: {0} [CULVERT-C023]\n\nUse the `culvert` that the gateway runs."
    )]
    Answer(String),
    /// It answered that it cannot.
    #[error("{} [{}]", .0.message, .0.code)]
    Fault(Fault),
}

/// Asks for the status. Blocks for as long as the gateway takes, and gives up when it is silent for ten seconds.
///
/// # Errors
/// Any [`AskError`].
pub fn status(socket: &Path) -> Result<StatusReport, AskError> {
    ask(socket, &Request::Status, &mut |_| {})
}

/// Asks for a proof; `each` is told the progress. Blocks as [`status`] does.
///
/// # Errors
/// Any [`AskError`].
pub fn prove(socket: &Path, prove: Prove, each: &mut dyn FnMut(Progress)) -> Result<ProofReport, AskError> {
    ask(socket, &Request::Prove(prove), each)
}

fn ask<T: DeserializeOwned>(
    socket: &Path,
    request: &Request,
    each: &mut dyn FnMut(Progress),
) -> Result<T, AskError> {
    let away = |source| AskError::NoGateway {
        path: socket.to_owned(),
        source,
    };
    let broken = |e: io::Error| AskError::Answer(e.to_string());
    let mut stream = std::os::unix::net::UnixStream::connect(socket).map_err(away)?;
    stream.set_read_timeout(Some(SILENCE_MAX)).map_err(broken)?;
    let mut line = serde_json::to_string(request).map_err(|e| AskError::Answer(e.to_string()))?;
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(broken)?;

    let mut answer = BufReader::new(stream);
    loop {
        line.clear();
        (&mut answer)
            .take(ANSWER_BYTES_MAX)
            .read_line(&mut line)
            .map_err(broken)?;
        if line.is_empty() {
            return Err(AskError::Answer("it ended before the answer".into()));
        }
        match serde_json::from_str(&line).map_err(|e| AskError::Answer(e.to_string()))? {
            Line::Progress(progress) => each(progress),
            Line::Result(result) => return Ok(result),
            Line::Fault(fault) => return Err(AskError::Fault(fault)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::OutboxStatus;
    use super::super::report::tests::{proof, report};
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    struct Answers {
        dropped: Arc<AtomicBool>,
    }

    struct Flag(Arc<AtomicBool>);

    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    impl Handler for Answers {
        fn status(&self) -> Answering<'_, StatusReport> {
            Box::pin(async {
                Ok(StatusReport {
                    gateway: "gw1".into(),
                    site: "site1".into(),
                    version: "0.1.0".into(),
                    uptime_seconds: 1,
                    ready: true,
                    outbox: OutboxStatus {
                        held_bytes: 0,
                        quota_bytes: 1,
                        disk_bytes: 0,
                        mended_lanes: None,
                        runway_seconds: None,
                        full_in_seconds: None,
                    },
                    peers: Vec::new(),
                    connectors: Vec::new(),
                })
            })
        }

        /// Waits for ever where asked to wait, fails for a connector, else proves.
        fn prove(&self, prove: Prove, progress: watch::Sender<Progress>) -> Answering<'_, ProofReport> {
            Box::pin(async move {
                progress.send_replace(Progress {
                    done: 1,
                    total: 2,
                    what: "x".into(),
                });
                if prove.wait_ms > 0 {
                    let _flag = Flag(Arc::clone(&self.dropped));
                    std::future::pending::<()>().await;
                }
                match prove.connector {
                    Some(_) => Err(Fault {
                        code: "CULVERT-F001".into(),
                        message: "no such sink".into(),
                    }),
                    None => Ok(report(vec![proof()])),
                }
            })
        }
    }

    /// Runs `client` against a server of its own, and hands it the socket.
    async fn check(client: impl FnOnce(&Path, &AtomicBool) + Send + 'static) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("control.sock");
        let dropped = Arc::new(AtomicBool::new(false));
        let stop = CancellationToken::new();
        let server = Server::bind(&path).expect("bind");
        let handler = Arc::new(Answers {
            dropped: Arc::clone(&dropped),
        });
        let running = tokio::spawn(server.run(handler, stop.clone()));
        let socket = path.clone();
        tokio::task::spawn_blocking(move || client(&socket, &dropped))
            .await
            .expect("the client succeeds");
        stop.cancel();
        running.await.expect("the server ends");
        assert!(!path.exists(), "the socket is removed");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn questions_are_answered() {
        check(|socket, _| {
            assert_eq!(status(socket).expect("an answer").gateway, "gw1");
            let mut seen = Vec::new();
            let proof =
                prove(socket, Prove::default(), &mut |progress| seen.push(progress)).expect("an answer");
            assert_eq!(proof.streams.len(), 1);
            let ask = Prove {
                connector: Some("x".into()),
                ..Prove::default()
            };
            let fault = prove(socket, ask, &mut |_| {}).expect_err("a fault");
            assert_eq!(fault.to_string(), "no such sink [CULVERT-F001]");
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn only_the_owner_may_open_the_socket() {
        check(|socket, _| {
            let mode = std::fs::metadata(socket)
                .expect("it is there")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_no_request_is_refused_by_name() {
        check(|socket, _| {
            for bad in ["nonsense\n", "{\"verb\":\"fly\"}\n", "\n", "\u{0}\n"] {
                let mut stream = std::os::unix::net::UnixStream::connect(socket).expect("connect");
                stream.write_all(bad.as_bytes()).expect("send");
                let mut answer = String::new();
                stream.read_to_string(&mut answer).expect("receive");
                assert!(answer.contains("CULVERT-C023"), "{bad:?}: {answer}");
            }
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_hangs_up_cancels_the_work() {
        check(|socket, dropped| {
            let mut stream = std::os::unix::net::UnixStream::connect(socket).expect("connect");
            stream
                .write_all(b"{\"verb\":\"prove\",\"wait_ms\":1}\n")
                .expect("send");
            let mut first = [0; 10];
            stream.read_exact(&mut first).expect("some progress");
            drop(stream);
            let deadline = std::time::Instant::now() + Duration::from_secs(10);
            while !dropped.load(Ordering::SeqCst) {
                assert!(
                    std::time::Instant::now() < deadline,
                    "the work goes on for nobody"
                );
                std::thread::yield_now();
            }
        })
        .await;
    }

    #[tokio::test]
    async fn a_socket_left_behind_is_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("control.sock");
        let first = Server::bind(&path).expect("bind");
        std::mem::forget(first); // as a killed process leaves it
        Server::bind(&path).expect("bind again");
    }

    #[tokio::test]
    async fn a_path_that_does_not_fit_is_named() {
        let long = PathBuf::from("/tmp").join("x".repeat(120));
        let error = Server::bind(&long).err().expect("it does not fit").to_string();
        assert!(error.contains("CULVERT-C022") && error.contains("103"), "{error}");
    }

    #[test]
    fn nobody_there_is_said_with_the_way_out() {
        let error = status(Path::new("/nowhere/control.sock"))
            .expect_err("nobody is there")
            .to_string();
        assert!(
            error.contains("CULVERT-C020") && error.contains("culvert run"),
            "{error}"
        );
    }
}

//! Metrics and health over HTTP: `/metrics`, `/healthz`, `/readyz`.
//!
//! No secrets and no names of records are told here, and nothing can be changed; still it listens on loopback unless
//! set. At most [`CONNECTIONS_MAX`] connections, each for at most [`CONNECTION_AGE_MAX`]: whoever holds them open keeps
//! others waiting for that long, and takes no memory from the data.

use super::Error;
use super::health::Health;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

/// A scraper and a few probes need no more.
pub const CONNECTIONS_MAX: usize = 64;

/// Longer than any scrape; a scraper that keeps its connection simply dials again.
pub const CONNECTION_AGE_MAX: Duration = Duration::from_secs(60);

/// The listener of metrics and health.
pub struct Server {
    listener: TcpListener,
    router: Router,
}

#[derive(Clone)]
struct Shown {
    health: Health,
    metrics: PrometheusHandle,
}

impl Server {
    /// Listens at `address`, or on a socket that was `handed` over; answers once it runs.
    ///
    /// # Errors
    /// [`Error::Listen`].
    pub async fn bind(
        address: SocketAddr,
        handed: Option<std::net::TcpListener>,
        health: Health,
        metrics: PrometheusHandle,
    ) -> Result<Server, Error> {
        let listener = match handed {
            Some(listener) => take(listener),
            None => TcpListener::bind(address).await,
        };
        let listener = listener.map_err(|source| Error::Listen { address, source })?;
        let router = Router::new()
            .route("/metrics", get(show_metrics))
            .route("/healthz", get(lives))
            .route("/readyz", get(serves))
            .with_state(Shown { health, metrics });
        Ok(Server { listener, router })
    }

    /// The address it listens at; tells the port where 0 was asked for.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let listener = Bounded {
            listener: self.listener,
            free: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        };
        // Serving ends with `stop` alone: errors of a connection end the connection.
        let _ = axum::serve(listener, self.router)
            .with_graceful_shutdown(stop.cancelled_owned())
            .await;
    }
}

fn take(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

async fn show_metrics(State(shown): State<Shown>) -> impl IntoResponse {
    shown.metrics.run_upkeep();
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        shown.metrics.render(),
    )
}

async fn lives(State(shown): State<Shown>) -> (StatusCode, String) {
    answer(shown.health.lives(), &shown.health)
}

async fn serves(State(shown): State<Shown>) -> (StatusCode, String) {
    answer(shown.health.serves(), &shown.health)
}

fn answer(good: bool, health: &Health) -> (StatusCode, String) {
    let status = if good {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, health.describe())
}

/// A listener that takes a new connection only when an old one has ended.
struct Bounded {
    listener: TcpListener,
    free: Arc<Semaphore>,
}

impl axum::serve::Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let permit = Arc::clone(&self.free)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let (stream, peer) = axum::serve::Listener::accept(&mut self.listener).await;
        let end = Box::pin(tokio::time::sleep_until(Instant::now() + CONNECTION_AGE_MAX));
        (
            Connection {
                stream,
                end,
                _permit: permit,
            },
            peer,
        )
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends at its time, whatever the other side does.
struct Connection {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connect");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("send");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("receive");
        text
    }

    #[tokio::test]
    async fn health_and_metrics_are_answered() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let health = Health::new();
        let outbox = health.part("outbox");
        let any = "127.0.0.1:0".parse().expect("an address");
        let server = Server::bind(any, None, health, recorder.handle())
            .await
            .expect("bind");
        let address = server.address().expect("bound");
        let stop = CancellationToken::new();
        let running = tokio::spawn(server.run(stop.clone()));

        metrics::with_local_recorder(&recorder, || {
            super::super::metrics::TAKEN_IN_RECORDS.with(&["c"]).increment(7);
        });
        assert!(
            get(address, "/metrics")
                .await
                .contains("culvert_taken_in_records_total{topic=\"c\"} 7")
        );
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 503"));
        outbox.ready();
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        outbox.failed("gone");
        assert!(get(address, "/healthz").await.contains("outbox: failed: gone"));
        assert!(get(address, "/nothing").await.starts_with("HTTP/1.1 404"));

        let taken = Server::bind(address, None, Health::new(), recorder.handle()).await;
        assert!(taken.is_err_and(|e| e.to_string().contains("CULVERT-C021")));
        stop.cancel();
        running.await.expect("the server ends");
    }
}

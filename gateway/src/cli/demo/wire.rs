//! The network between two gateways: a relay of datagrams on loopback, whose weather can be made.

use anyhow::Context;
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

/// What the network does to datagrams. Toward is the way from the gateway that dials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Weather {
    /// All pass.
    #[default]
    Fair,
    /// None passes.
    Cut,
    /// None passes toward the gateway behind it; all come back.
    CutToward,
    /// None comes back.
    CutBack,
    /// So many of a thousand are lost.
    Loss(u32),
    /// Each comes so much later.
    Delay(Duration),
}

/// A relay in front of one gateway. Each address that dials it gets a socket of its own towards the gateway. Dropping
/// it ends it.
pub(super) struct Wire {
    address: SocketAddr,
    line: Arc<Line>,
    task: AbortHandle,
}

struct Line {
    weather: Mutex<Weather>,
    dice: Mutex<ChaCha8Rng>,
    dropped: AtomicU64,
    /// Room for datagrams that come later.
    late: Arc<Semaphore>,
}

/// The largest UDP payload.
const PACKET_BYTES_MAX: usize = 65_535;

/// More addresses than the gateway that dials uses in all its lives; the relay listens on loopback, where others might knock.
const CLIENTS_MAX: usize = 1024;

/// Datagrams that may be late at once, both ways: some 20 MB/s over a tenth of a second. More are lost.
const LATE_MAX: usize = 2048;

impl Wire {
    /// A relay to `gateway`. Which datagrams are lost follows from `seed`, in the order in which they come.
    pub(super) fn start(runtime: &Handle, gateway: SocketAddr, seed: u64) -> anyhow::Result<Wire> {
        let front = Arc::new(runtime.block_on(socket())?);
        let address = front.local_addr()?;
        let line = Arc::new(Line {
            weather: Mutex::default(),
            dice: Mutex::new(ChaCha8Rng::seed_from_u64(seed)),
            dropped: AtomicU64::new(0),
            late: Arc::new(Semaphore::new(LATE_MAX)),
        });
        let task = runtime.spawn(carry(front, gateway, Arc::clone(&line)));
        Ok(Wire {
            address,
            line,
            task: task.abort_handle(),
        })
    }

    /// Where the gateway that dials finds the other one.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What happens to datagrams from now on.
    pub(super) fn set(&self, weather: Weather) {
        *self.line.weather.lock() = weather;
    }

    /// How many datagrams it has swallowed.
    pub(super) fn dropped(&self) -> u64 {
        self.line.dropped.load(Ordering::Relaxed)
    }
}

/// The way of one datagram.
#[derive(Clone)]
enum Way {
    Toward(Arc<UdpSocket>),
    Back(Arc<UdpSocket>, SocketAddr),
}

impl Way {
    /// A datagram that cannot be sent is one more lost datagram, as on any network.
    async fn send(&self, packet: &[u8]) {
        let _ = match self {
            Way::Toward(socket) => socket.send(packet).await,
            Way::Back(socket, client) => socket.send_to(packet, client).await,
        };
    }
}

impl Line {
    /// How much later the next datagram of this way comes. Not at all: none.
    fn fate(&self, way: &Way) -> Option<Duration> {
        let is_lost = match (*self.weather.lock(), way) {
            (Weather::Delay(late), _) => return Some(late),
            (Weather::Cut, _) | (Weather::CutToward, Way::Toward(_)) | (Weather::CutBack, Way::Back(..)) => {
                true
            }
            (Weather::Loss(thousandths), _) => self.dice.lock().random_range(0..1000) < thousandths,
            _ => false,
        };
        (!is_lost).then_some(Duration::ZERO)
    }

    async fn pass(&self, way: &Way, packet: &[u8]) {
        match self.fate(way) {
            Some(Duration::ZERO) => return way.send(packet).await,
            Some(late) => {
                if let Ok(room) = Arc::clone(&self.late).try_acquire_owned() {
                    let (way, packet) = (way.clone(), packet.to_vec());
                    tokio::spawn(async move {
                        tokio::time::sleep(late).await;
                        way.send(&packet).await;
                        drop(room);
                    });
                    return;
                }
            }
            None => {}
        }
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn socket() -> anyhow::Result<UdpSocket> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .context("bind the relay between the gateways")
}

async fn carry(front: Arc<UdpSocket>, gateway: SocketAddr, line: Arc<Line>) {
    let mut clients: HashMap<SocketAddr, Way> = HashMap::new();
    let mut returns = JoinSet::new();
    let mut packet = vec![0; PACKET_BYTES_MAX];
    loop {
        let Ok((length, client)) = front.recv_from(&mut packet).await else {
            continue;
        };
        if !clients.contains_key(&client) {
            let Some(towards) = connected(gateway).await.filter(|_| clients.len() < CLIENTS_MAX) else {
                continue;
            };
            let back = Way::Back(Arc::clone(&front), client);
            returns.spawn(carry_back(Arc::clone(&towards), back, Arc::clone(&line)));
            clients.insert(client, Way::Toward(towards));
        }
        if let Some(way) = clients.get(&client) {
            line.pass(way, &packet[..length]).await;
        }
    }
}

async fn connected(gateway: SocketAddr) -> Option<Arc<UdpSocket>> {
    let towards = socket().await.ok()?;
    towards.connect(gateway).await.ok()?;
    Some(Arc::new(towards))
}

/// Back to one client. An error here says that the gateway was away when something was sent to it: it comes back.
async fn carry_back(from: Arc<UdpSocket>, way: Way, line: Arc<Line>) {
    let mut packet = vec![0; PACKET_BYTES_MAX];
    loop {
        if let Ok(length) = from.recv(&mut packet).await {
            line.pass(&way, &packet[..length]).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket as Plain;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(10);

    struct Bench {
        runtime: tokio::runtime::Runtime,
        near: Plain,
        far: Plain,
        wire: Wire,
    }

    impl Bench {
        fn new() -> Bench {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            let [near, far] = [(); 2].map(|()| Plain::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
            for socket in [&near, &far] {
                socket.set_read_timeout(Some(LONG)).unwrap();
            }
            let wire = Wire::start(runtime.handle(), far.local_addr().unwrap(), 7).unwrap();
            near.connect(wire.address()).unwrap();
            Bench {
                runtime,
                near,
                far,
                wire,
            }
        }

        fn swallows(&self, send: impl Fn()) {
            let before = self.wire.dropped();
            send();
            let deadline = Instant::now() + LONG;
            while self.wire.dropped() == before {
                assert!(Instant::now() < deadline, "the relay takes what was sent");
                std::thread::yield_now();
            }
        }

        /// Sends `word` toward, and answers from where it came.
        fn toward(&self, word: &[u8]) -> SocketAddr {
            self.near.send(word).unwrap();
            let mut packet = [0; 16];
            let (length, from) = self.far.recv_from(&mut packet).unwrap();
            assert_eq!(&packet[..length], word);
            from
        }

        fn back(&self, word: &[u8], to: SocketAddr) {
            self.far.send_to(word, to).unwrap();
            let mut packet = [0; 16];
            let length = self.near.recv(&mut packet).unwrap();
            assert_eq!(&packet[..length], word);
        }
    }

    #[test]
    fn a_cut_wire_carries_nothing_and_a_healed_one_both_ways() {
        let bench = Bench::new();
        bench.wire.set(Weather::Cut);
        bench.swallows(|| assert_eq!(bench.near.send(b"lost").unwrap(), 4));
        bench.wire.set(Weather::Fair);
        let client = bench.toward(b"there");
        bench.back(b"back", client);
    }

    #[test]
    fn a_wire_that_is_cut_one_way_carries_the_other() {
        let bench = Bench::new();
        let client = bench.toward(b"first");
        bench.wire.set(Weather::CutToward);
        bench.swallows(|| assert_eq!(bench.near.send(b"lost").unwrap(), 4));
        bench.back(b"back", client);
        bench.wire.set(Weather::CutBack);
        bench.swallows(|| assert_eq!(bench.far.send_to(b"lost", client).unwrap(), 4));
        bench.toward(b"there");
    }

    #[test]
    fn loss_takes_its_share_and_delay_takes_none() {
        let bench = Bench::new();
        let client = bench.toward(b"first");
        bench.wire.set(Weather::Loss(500));
        let way = Way::Toward(bench.runtime.block_on(socket()).map(Arc::new).unwrap());
        let lost = (0..1000).filter(|_| bench.wire.line.fate(&way).is_none()).count();
        assert!((400..600).contains(&lost), "{lost} of 1,000");
        let late = Duration::from_millis(50);
        bench.wire.set(Weather::Delay(late));
        let sent = Instant::now();
        bench.toward(b"late");
        assert!(sent.elapsed() >= late);
        bench.back(b"late", client);
        assert!(sent.elapsed() >= 2 * late);
    }
}

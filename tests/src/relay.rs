//! A UDP relay on loopback: the wide-area network between two gateways, with seeded loss, delay, duplication and cuts.
//!
//! This kernel's own tool for it (netem) is not on every host, so the relay is a program: what a seed drops it drops
//! on every host, in the order in which packets come.

use crate::dice::Dice;
use anyhow::Context;
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};
use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A relay in front of one UDP server. Each client address gets a socket of its own towards the server, so that the
/// server sees as many peers as there are. Dropping it ends it.
pub struct UdpRelay {
    address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// A direction through the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the clients, who dial, to the server.
    ToServer,
    /// From the server back to the clients.
    ToClients,
}

/// What happens to packets of one direction. The default lets all through at once.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weather {
    /// Everything is dropped.
    pub cut: bool,
    /// Share of packets that are dropped, 0 to 1.
    pub loss: f64,
    /// Share of packets that are sent twice, 0 to 1.
    pub duplication: f64,
    /// How long each packet is under way.
    pub delay: Duration,
    /// Up to this much more for each packet, evenly spread; packets overtake each other.
    pub jitter: Duration,
}

/// What has become of the packets of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packets {
    /// Sent on, copies included.
    pub passed: u64,
    /// Dropped by loss or cut.
    pub dropped: u64,
}

impl UdpRelay {
    /// A relay in fair weather. The same `seed` makes the same choices.
    ///
    /// # Errors
    /// When loopback cannot be bound.
    pub fn start(server: SocketAddr, seed: u64) -> anyhow::Result<UdpRelay> {
        let front = socket().context("bind the relay")?;
        let address = front.local_addr()?;
        let shared = Arc::new(Shared {
            lanes: [Lane::new(seed), Lane::new(seed ^ u64::MAX)],
            under_way: Mutex::new(BinaryHeap::new()),
            departed: Condvar::new(),
            ended: AtomicBool::new(false),
        });
        let threads = vec![
            thread::spawn({
                let shared = Arc::clone(&shared);
                move || carry_in(&Arc::new(front), server, &shared)
            }),
            thread::spawn({
                let shared = Arc::clone(&shared);
                move || deliver(&shared)
            }),
        ];
        Ok(UdpRelay {
            address,
            shared,
            threads,
        })
    }

    /// Where clients send to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the weather of both directions.
    pub fn set(&self, weather: Weather) {
        self.set_one(Direction::ToServer, weather);
        self.set_one(Direction::ToClients, weather);
    }

    /// Sets the weather of one direction.
    pub fn set_one(&self, direction: Direction, weather: Weather) {
        self.shared.lane(direction).lock().weather = weather;
    }

    /// Drops everything both ways until [`UdpRelay::heal`].
    pub fn cut(&self) {
        self.set(Weather {
            cut: true,
            ..Weather::default()
        });
    }

    /// Fair weather again.
    pub fn heal(&self) {
        self.set(Weather::default());
    }

    /// What has become of the packets of one direction so far.
    pub fn packets(&self, direction: Direction) -> Packets {
        let lane = self.shared.lane(direction);
        Packets {
            passed: lane.passed.load(Ordering::Relaxed),
            dropped: lane.dropped.load(Ordering::Relaxed),
        }
    }
}

impl Drop for UdpRelay {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.shared.departed.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A blocked read looks this often whether the relay has ended.
const LOOK_UP: Duration = Duration::from_millis(20);

/// The largest UDP payload.
const PACKET_BYTES_MAX: usize = 65_535;

/// Room for a burst of QUIC's segmented sends; the kernel cuts it to its own limit.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

struct Shared {
    lanes: [Lane; 2],
    under_way: Mutex<BinaryHeap<Reverse<Packet>>>,
    departed: Condvar,
    ended: AtomicBool,
}

/// One direction: its weather, its dice and its counts.
struct Lane {
    sky: Mutex<Sky>,
    passed: AtomicU64,
    dropped: AtomicU64,
}

struct Sky {
    weather: Weather,
    dice: Dice,
}

struct Packet {
    due: Instant,
    order: u64,
    bytes: Vec<u8>,
    socket: Arc<UdpSocket>,
    to: SocketAddr,
}

impl Shared {
    fn lane(&self, direction: Direction) -> &Lane {
        &self.lanes[direction as usize]
    }

    fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Decides about one packet and sends it, now or later.
    fn carry(&self, direction: Direction, bytes: &[u8], socket: &Arc<UdpSocket>, to: SocketAddr) {
        let lane = self.lane(direction);
        for delay in lane.fate() {
            let number = lane.passed.fetch_add(1, Ordering::Relaxed);
            if delay.is_zero() {
                // A server that is down refuses; to a sender of datagrams that is one more lost packet.
                let _ = socket.send_to(bytes, to);
            } else {
                let packet = Packet {
                    due: Instant::now() + delay,
                    order: number,
                    bytes: bytes.to_vec(),
                    socket: Arc::clone(socket),
                    to,
                };
                self.under_way
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(Reverse(packet));
                self.departed.notify_one();
            }
        }
    }
}

impl Lane {
    fn new(seed: u64) -> Lane {
        Lane {
            sky: Mutex::new(Sky {
                weather: Weather::default(),
                dice: Dice(seed),
            }),
            passed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sky> {
        self.sky.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After how long each copy of the next packet leaves: no copy, one, or two.
    fn fate(&self) -> Vec<Duration> {
        let mut sky = self.lock();
        let weather = sky.weather;
        let [lost, doubled] = [
            sky.dice.share() < weather.loss,
            sky.dice.share() < weather.duplication,
        ];
        if weather.cut || lost {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return Vec::new();
        }
        (0..=usize::from(doubled))
            .map(|_| weather.delay + weather.jitter.mul_f64(sky.dice.share()))
            .collect()
    }
}

impl Ord for Packet {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}

impl PartialOrd for Packet {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Packet {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Packet {}

fn socket() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    set_socket_recv_buffer_size(&socket, SOCKET_BUFFER_BYTES)?;
    set_socket_send_buffer_size(&socket, SOCKET_BUFFER_BYTES)?;
    socket.set_read_timeout(Some(LOOK_UP))?;
    Ok(socket)
}

/// Reads from clients, opens a socket towards the server for each new one.
fn carry_in(front: &Arc<UdpSocket>, server: SocketAddr, shared: &Arc<Shared>) {
    let mut backs: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut returns = Vec::new();
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    while !shared.ended() {
        let Ok((length, client)) = front.recv_from(&mut buffer) else {
            continue;
        };
        let back = match backs.entry(client) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let Ok(back) = socket().map(Arc::new) else {
                    continue;
                };
                let (own, front, shared) = (Arc::clone(&back), Arc::clone(front), Arc::clone(shared));
                returns.push(thread::spawn(move || carry_back(&own, &front, client, &shared)));
                new.insert(back)
            }
        };
        shared.carry(Direction::ToServer, &buffer[..length], back, server);
    }
    for back in returns {
        let _ = back.join();
    }
}

/// Reads from the server what is meant for one client.
fn carry_back(back: &UdpSocket, front: &Arc<UdpSocket>, client: SocketAddr, shared: &Shared) {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    while !shared.ended() {
        if let Ok((length, _)) = back.recv_from(&mut buffer) {
            shared.carry(Direction::ToClients, &buffer[..length], front, client);
        }
    }
}

/// Sends delayed packets when they are due.
fn deliver(shared: &Shared) {
    let mut under_way = shared.under_way.lock().unwrap_or_else(PoisonError::into_inner);
    while !shared.ended() {
        let now = Instant::now();
        let wait = match under_way.peek() {
            Some(Reverse(next)) if next.due <= now => {
                if let Some(Reverse(packet)) = under_way.pop() {
                    let _ = packet.socket.send_to(&packet.bytes, packet.to);
                }
                continue;
            }
            Some(Reverse(next)) => (next.due - now).min(LOOK_UP),
            None => LOOK_UP,
        };
        under_way = shared
            .departed
            .wait_timeout(under_way, wait)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    struct Ends {
        server: UdpSocket,
        client: UdpSocket,
        relay: UdpRelay,
    }

    fn ends(seed: u64) -> Ends {
        let bind = || {
            let socket = socket().unwrap();
            socket.set_read_timeout(Some(SOON)).unwrap();
            socket
        };
        let (server, client) = (bind(), bind());
        let relay = UdpRelay::start(server.local_addr().unwrap(), seed).unwrap();
        client.connect(relay.address()).unwrap();
        Ends {
            server,
            client,
            relay,
        }
    }

    fn receive(socket: &UdpSocket) -> (u32, SocketAddr) {
        let mut buffer = [0; 4];
        let (_, from) = socket.recv_from(&mut buffer).unwrap();
        (u32::from_be_bytes(buffer), from)
    }

    /// Sends `count` numbered packets and returns which arrived, in order of arrival.
    fn send_through(ends: &Ends, count: u32) -> Vec<u32> {
        let before = ends.relay.packets(Direction::ToServer);
        for n in 0..count {
            ends.client.send(&n.to_be_bytes()).unwrap();
        }
        crate::wait_until(SOON, "the relay to decide about each packet", || {
            let now = ends.relay.packets(Direction::ToServer);
            now.dropped - before.dropped + now.passed - before.passed >= u64::from(count)
        });
        let passed = ends.relay.packets(Direction::ToServer).passed - before.passed;
        (0..passed).map(|_| receive(&ends.server).0).collect()
    }

    #[test]
    fn fair_weather_passes_packets_both_ways() {
        let ends = ends(1);
        ends.client.send(&7_u32.to_be_bytes()).unwrap();
        let (number, from) = receive(&ends.server);
        ends.server.send_to(&(number + 1).to_be_bytes(), from).unwrap();
        assert_eq!(receive(&ends.client).0, 8);
        assert_eq!(
            ends.relay.packets(Direction::ToClients),
            Packets {
                passed: 1,
                dropped: 0
            }
        );
    }

    #[test]
    fn the_same_seed_loses_the_same_packets() {
        let lossy = Weather {
            loss: 0.3,
            ..Weather::default()
        };
        let run = |seed| {
            let ends = ends(seed);
            ends.relay.set(lossy);
            send_through(&ends, 200)
        };
        let (first, again, other) = (run(42), run(42), run(43));
        assert_eq!(first, again);
        assert_ne!(first, other);
        assert!(
            (100..180).contains(&first.len()),
            "about 140 of 200: {}",
            first.len()
        );
    }

    #[test]
    fn a_cut_drops_everything_and_heals() {
        let ends = ends(1);
        ends.relay.cut();
        assert_eq!(send_through(&ends, 10), Vec::<u32>::new());
        ends.relay.heal();
        assert_eq!(send_through(&ends, 10).len(), 10);
    }

    #[test]
    fn delayed_packets_take_their_time_and_keep_their_order() {
        let ends = ends(1);
        let delay = Duration::from_millis(30);
        ends.relay.set(Weather {
            delay,
            ..Weather::default()
        });
        let sent = Instant::now();
        assert_eq!(send_through(&ends, 50), (0..50).collect::<Vec<_>>());
        assert!(sent.elapsed() >= delay);
    }
}

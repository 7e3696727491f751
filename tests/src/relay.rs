//! A UDP relay: the wide-area network between two gateways, with seeded loss, delay, duplication, damage and cuts.
//!
//! This kernel's own tool for it (netem) is not on every host, so the relay is a program: what a seed drops it drops
//! on every host, in the order in which packets come.

use crate::dice::Dice;
use anyhow::Context;
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};
use std::borrow::Cow;
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
    /// Share of packets of which one byte is changed, 0 to 1.
    pub damage: f64,
    /// Bytes a second that get through, 0 for any number. What waits longer than [`QUEUE`] for its turn is dropped.
    pub rate: u64,
}

/// The room of a narrow line: what a home router's buffer holds, in time.
pub const QUEUE: Duration = Duration::from_millis(200);

/// What has become of the packets of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packets {
    /// Sent on, copies included.
    pub passed: u64,
    /// Dropped by loss or cut.
    pub dropped: u64,
}

impl UdpRelay {
    /// A relay on loopback, in fair weather. The same `seed` makes the same choices.
    ///
    /// # Errors
    /// When loopback cannot be bound.
    pub fn start(server: SocketAddr, seed: u64) -> anyhow::Result<UdpRelay> {
        UdpRelay::between(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, server, seed)
    }

    /// As [`UdpRelay::start`], between two networks: clients find it at `front`, the server sees `back`.
    ///
    /// # Errors
    /// When `front` cannot be bound.
    pub fn between(
        front: Ipv4Addr,
        back: Ipv4Addr,
        server: SocketAddr,
        seed: u64,
    ) -> anyhow::Result<UdpRelay> {
        let front = socket(front).context("bind the relay")?;
        let address = front.local_addr()?;
        let shared = Arc::new(Shared {
            back,
            life: AtomicU64::new(0),
            taken: Mutex::new(None),
            carried: Mutex::new(None),
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

    /// Forgets whom it has carried for, as a router does that starts anew: the server sees the same clients come from
    /// other ports, and what it sends to the old ones is lost.
    pub fn rebind(&self) {
        self.shared.life.fetch_add(1, Ordering::Relaxed);
    }

    /// Sends `bytes` as if they came from the other end of the link that was carried last, past all weather. False while
    /// there is none.
    pub fn inject(&self, direction: Direction, bytes: &[u8]) -> bool {
        let carried = self.shared.carried.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(carried) = carried.as_ref() else {
            return false;
        };
        // What a full buffer or a server that is away refuses is one more lost packet.
        let _ = match direction {
            Direction::ToServer => carried.back.send_to(bytes, carried.server),
            Direction::ToClients => carried.front.send_to(bytes, carried.client),
        };
        true
    }

    /// Keeps copies of the next `count` packets of each direction, whatever becomes of them.
    pub fn record(&self, count: usize) {
        *self.shared.taken() = Some(Recording {
            count,
            packets: [Vec::new(), Vec::new()],
        });
    }

    /// Ends a recording and returns the packets of one direction.
    pub fn recorded(&self, direction: Direction) -> Vec<Vec<u8>> {
        let mut taken = self.shared.taken();
        taken
            .as_mut()
            .map(|recording| std::mem::take(&mut recording.packets[direction as usize]))
            .unwrap_or_default()
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
    /// Where the sockets towards the server are bound.
    back: Ipv4Addr,
    /// Raised to forget all clients.
    life: AtomicU64,
    taken: Mutex<Option<Recording>>,
    /// The client that came last.
    carried: Mutex<Option<Carried>>,
    lanes: [Lane; 2],
    under_way: Mutex<BinaryHeap<Reverse<Packet>>>,
    departed: Condvar,
    ended: AtomicBool,
}

/// Both ends of what is carried for one client.
struct Carried {
    back: Arc<UdpSocket>,
    front: Arc<UdpSocket>,
    client: SocketAddr,
    server: SocketAddr,
}

/// Copies of packets, by direction.
struct Recording {
    count: usize,
    packets: [Vec<Vec<u8>>; 2],
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
    /// When the narrow line is free again.
    free: Instant,
}

/// One copy of a packet: when it leaves, and which byte is changed.
#[derive(Clone, Copy)]
struct Copied {
    delay: Duration,
    damaged: Option<u64>,
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

    fn life(&self) -> u64 {
        self.life.load(Ordering::Relaxed)
    }

    fn taken(&self) -> MutexGuard<'_, Option<Recording>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides about one packet and sends it, now or later.
    fn carry(&self, direction: Direction, bytes: &[u8], socket: &Arc<UdpSocket>, to: SocketAddr) {
        if let Some(recording) = self.taken().as_mut() {
            let packets = &mut recording.packets[direction as usize];
            if packets.len() < recording.count {
                packets.push(bytes.to_vec());
            }
        }
        let lane = self.lane(direction);
        for Copied { delay, damaged } in lane.fate(bytes.len()) {
            let number = lane.passed.fetch_add(1, Ordering::Relaxed);
            let mut bytes = Cow::Borrowed(bytes);
            if let Some(place) = damaged.filter(|_| !bytes.is_empty()) {
                let place = (place % bytes.len() as u64) as usize;
                bytes.to_mut()[place] ^= 0x55;
            }
            if delay.is_zero() {
                // A server that is down refuses; to a sender of datagrams that is one more lost packet.
                let _ = socket.send_to(&bytes, to);
            } else {
                let packet = Packet {
                    due: Instant::now() + delay,
                    order: number,
                    bytes: bytes.into_owned(),
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
                free: Instant::now(),
            }),
            passed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sky> {
        self.sky.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What becomes of the next packet, of `length` bytes: no copy, one, or two.
    fn fate(&self, length: usize) -> Vec<Copied> {
        let mut sky = self.lock();
        let weather = sky.weather;
        let [lost, doubled] = [
            sky.dice.share() < weather.loss,
            sky.dice.share() < weather.duplication,
        ];
        let turn = sky.turn(length);
        let (Some(turn), false) = (turn, weather.cut || lost) else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return Vec::new();
        };
        (0..=usize::from(doubled))
            .map(|_| Copied {
                delay: turn + weather.delay + weather.jitter.mul_f64(sky.dice.share()),
                damaged: (sky.dice.share() < weather.damage).then(|| sky.dice.below(u64::MAX)),
            })
            .collect()
    }
}

impl Sky {
    /// How long a packet waits for a narrow line; `None` when its buffer is full.
    fn turn(&mut self, length: usize) -> Option<Duration> {
        if self.weather.rate == 0 {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        self.free = self.free.max(now);
        let wait = self.free - now;
        if wait > QUEUE {
            return None;
        }
        self.free += Duration::from_secs_f64(length as f64 / self.weather.rate as f64);
        Some(wait)
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

fn socket(host: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((host, 0))?;
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
    let mut life = shared.life();
    while !shared.ended() {
        let Ok((length, client)) = front.recv_from(&mut buffer) else {
            continue;
        };
        if life != shared.life() {
            life = shared.life();
            backs.clear();
        }
        let back = match backs.entry(client) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let Ok(back) = socket(shared.back).map(Arc::new) else {
                    continue;
                };
                *shared.carried.lock().unwrap_or_else(PoisonError::into_inner) = Some(Carried {
                    back: Arc::clone(&back),
                    front: Arc::clone(front),
                    client,
                    server,
                });
                let (own, front, shared) = (Arc::clone(&back), Arc::clone(front), Arc::clone(shared));
                returns.retain(|back: &JoinHandle<()>| !back.is_finished());
                returns.push(thread::spawn(move || {
                    carry_back(&own, &front, client, life, &shared);
                }));
                new.insert(back)
            }
        };
        shared.carry(Direction::ToServer, &buffer[..length], back, server);
    }
    for back in returns {
        let _ = back.join();
    }
}

/// Reads from the server what is meant for one client, as long as the relay remembers it.
fn carry_back(back: &UdpSocket, front: &Arc<UdpSocket>, client: SocketAddr, life: u64, shared: &Shared) {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    while !shared.ended() && life == shared.life() {
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
mod tests;

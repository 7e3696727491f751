//! Part `storm`: datagrams from strangers, and from one who stands on the way and alters what passes.
//!
//! - **Random**: bytes of any length from many ports, to gateway 2's listener.
//! - **Mutated**: packets of the link's own handshake and of its traffic, damaged, cut, joined, repeated: from strangers,
//!   and in the name of either end of the live link.

use super::{DRAIN, Orders, with_site};
use crate::judge::{self, alarms};
use crate::kafka::Reader;
use crate::load::Load;
use crate::record::Figures;
use crate::sample::{mib, resident};
use crate::site::{Options, Site, TOPIC};
use crate::watch::Watch;
use anyhow::{Context, ensure};
use culvert_tests::relay::Direction;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::net::{Ipv4Addr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// Records a second.
const RATE: u64 = 10_000;

/// Datagrams a second: as many as two processors carry beside the load and three gateways.
const STORM: f64 = 20_000.0;

/// Resident memory of a gateway may grow by this much.
const GROWTH_MAX: u64 = 16 << 20;

/// Of what was delivered before, this much must be while the storm lasts.
const GOODPUT_MIN: f64 = 0.8;

/// Ports that strangers send from.
const STRANGERS: usize = 64;

/// Packets kept of each direction of the link: a handshake and some seconds of traffic.
const KEPT: usize = 4_000;

pub(super) fn run(orders: &Orders) -> anyhow::Result<Figures> {
    let site = Site::start(&Options::new(orders.seed))?;
    with_site(orders, "storm", &site, || storm(orders, &site))
}

fn storm(orders: &Orders, site: &Site) -> anyhow::Result<Figures> {
    let count: u64 = if orders.quick { 100_000 } else { 1_000_000 };
    let watch = Watch::start(site)?;
    let load = Load::start(site, Some(RATE), None, orders.seed)?;
    watch.reaches(&vec![RATE; site.partitions as usize], DRAIN)?;
    let recorded = record(site, &watch)?;
    // A backlog that still drains would pass for more than the link is asked for.
    let before = goodput(&watch, Duration::from_secs(10)).min(RATE as f64);
    let mut memory = vec![memory(site)?];
    let mut figures = Figures::default();
    let mut dice = ChaCha8Rng::seed_from_u64(orders.seed);
    let mut strangers = Strangers::new(site)?;
    for (name, is_random) in [("random", true), ("mutated", false)] {
        let (began, at_first) = (Instant::now(), watch.view().total);
        for number in 0..count {
            match is_random {
                true => strangers.send(&random(&mut dice)),
                false => mutated(site, &mut strangers, &recorded, &mut dice),
            }
            if number % 64 == 0 {
                strangers.listen();
                let due = Duration::from_secs_f64(number as f64 / STORM);
                thread::sleep(due.saturating_sub(began.elapsed()));
            }
        }
        let took = began.elapsed().as_secs_f64();
        let during = (watch.view().total - at_first) as f64 / took;
        memory.push(self::memory(site)?);
        figures.add(
            if is_random { "random" } else { "mutated" },
            format!(
                "{count} in {took:.0} s, {:.0}/s; goodput {:.2}",
                count as f64 / took,
                during / before
            ),
        );
        ensure!(
            during >= GOODPUT_MIN * before,
            "{name}: {during:.0} of {before:.0} records/s were delivered"
        );
    }
    let lives = site
        .gateways
        .iter()
        .map(|gateway| gateway.log())
        .collect::<anyhow::Result<Vec<_>>>()?;
    figures.add("answers to strangers", strangers.ratio());
    figures.add("memory", course(&memory));
    for gateway in 0..3 {
        let grown = memory[2][gateway].saturating_sub(memory[0][gateway]);
        ensure!(
            grown <= GROWTH_MAX,
            "gw{} grew by {}: {}",
            gateway + 1,
            mib(grown),
            course(&memory)
        );
    }
    let downs = lives
        .iter()
        .map(|log| log.matches("link down").count())
        .sum::<usize>();
    figures.add("links that went down", format!("{downs}, one of them on purpose"));
    site.all_run()?;
    load.stop()?;
    let count = judge::judge(site, &watch, DRAIN, true)?;
    figures.add("records", format!("{count}, lost 0, doubled 0, reordered 0"));
    figures.add("alarms", alarms(site).join(", "));
    Ok(figures)
}

/// Records a handshake and traffic of the link between gateways 1 and 2.
fn record(site: &Site, watch: &Watch) -> anyhow::Result<[Vec<Vec<u8>>; 2]> {
    site.west.udp.record(KEPT);
    site.gateway(1).restart()?;
    let further: Vec<u64> = watch.view().next.iter().map(|next| next + RATE).collect();
    watch.reaches(&further, DRAIN)?;
    // What waited while it was away must be gone before a rate says anything.
    watch.reaches(
        &Reader::open(&site.source.bootstrap(), TOPIC, site.partitions)?.ends()?,
        DRAIN,
    )?;
    let recorded =
        [Direction::ToServer, Direction::ToClients].map(|direction| site.west.udp.recorded(direction));
    ensure!(
        recorded.iter().all(|packets| packets.len() > 100),
        "a link's packets were recorded"
    );
    Ok(recorded)
}

/// Records a second that arrive.
fn goodput(watch: &Watch, time: Duration) -> f64 {
    let (began, at_first) = (Instant::now(), watch.view().total);
    thread::sleep(time);
    (watch.view().total - at_first) as f64 / began.elapsed().as_secs_f64()
}

fn memory(site: &Site) -> anyhow::Result<Vec<u64>> {
    site.gateways.iter().map(resident).collect()
}

fn course(memory: &[Vec<u64>]) -> String {
    let of = |gateway: usize| {
        let bytes: Vec<String> = memory
            .iter()
            .map(|all| (all[gateway] >> 20).to_string())
            .collect();
        format!("gw{} {} MiB", gateway + 1, bytes.join(" "))
    };
    (0..3).map(of).collect::<Vec<_>>().join(", ")
}

/// Bytes of any length.
fn random(dice: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = vec![0; dice.random_range(1..1_500)];
    dice.fill_bytes(&mut bytes);
    bytes
}

/// A packet of the link, changed, in somebody's name.
fn mutated(site: &Site, strangers: &mut Strangers, recorded: &[Vec<Vec<u8>>; 2], dice: &mut ChaCha8Rng) {
    let direction = if dice.random() {
        Direction::ToServer
    } else {
        Direction::ToClients
    };
    let packets = &recorded[direction as usize];
    // Handshakes are few among much traffic, and the more interesting.
    let among = if dice.random() {
        &packets[..packets.len().min(40)]
    } else {
        &packets[..]
    };
    let Some(mut packet) = among.choose(dice).cloned() else {
        return;
    };
    change(&mut packet, packets, dice);
    match dice.random_range(0..3) {
        0 => strangers.send(&packet),
        _ => drop(site.west.udp.inject(direction, &packet)),
    }
}

/// Up to eight changes; one packet in ten stays as it was, and is a replay.
fn change(packet: &mut Vec<u8>, packets: &[Vec<u8>], dice: &mut ChaCha8Rng) {
    if dice.random_ratio(1, 10) {
        return;
    }
    for _ in 0..dice.random_range(1..8) {
        let length = packet.len().max(1);
        match dice.random_range(0..8) {
            // Headers are short, and hold what is read before anything is decrypted.
            0..3 => alter(packet, dice.random_range(0..length.min(60)), dice),
            3 | 4 => alter(packet, dice.random_range(0..length), dice),
            5 => packet.truncate(dice.random_range(0..length)),
            6 => {
                let other = packets.choose(dice).map_or(&[][..], |other| &other[..]);
                let cut = dice.random_range(0..=other.len());
                packet.truncate(dice.random_range(0..length));
                packet.extend_from_slice(&other[cut..]);
            }
            _ => {
                let more = dice.random_range(0..200);
                packet.extend((0..more).map(|_| dice.random::<u8>()));
            }
        }
    }
    packet.truncate(LARGEST);
}

/// The largest UDP payload that loopback takes.
const LARGEST: usize = 65_000;

fn alter(packet: &mut [u8], place: usize, dice: &mut ChaCha8Rng) {
    if let Some(byte) = packet.get_mut(place) {
        *byte ^= dice.random_range(1..=255_u8);
    }
}

/// Senders whom nobody knows, and what they are answered.
struct Strangers {
    sockets: Vec<UdpSocket>,
    next: usize,
    sent: u64,
    answered: u64,
}

impl Strangers {
    fn new(site: &Site) -> anyhow::Result<Strangers> {
        let bind = |_| -> anyhow::Result<UdpSocket> {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("bind a stranger")?;
            socket.connect(site.tunnel)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        Ok(Strangers {
            sockets: (0..STRANGERS).map(bind).collect::<anyhow::Result<_>>()?,
            next: 0,
            sent: 0,
            answered: 0,
        })
    }

    fn send(&mut self, bytes: &[u8]) {
        self.next = (self.next + 1) % self.sockets.len();
        if self.sockets[self.next].send(bytes).is_ok() {
            self.sent += bytes.len() as u64;
        }
    }

    /// Takes what has come back.
    fn listen(&mut self) {
        let mut buffer = [0; 2_048];
        for socket in &self.sockets {
            while let Ok(length) = socket.recv(&mut buffer) {
                self.answered += length as u64;
            }
        }
    }

    fn ratio(&self) -> String {
        format!("{} bytes to {} of theirs", self.answered, self.sent)
    }
}

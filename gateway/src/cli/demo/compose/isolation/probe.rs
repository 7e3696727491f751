//! What runs inside of a container's network namespace: `answer` says what listens there and answers whoever comes, `try`
//! tries to reach others. Both are started by `verify-isolation` and say what they found as JSON.

use crate::cli::{Exit, Session};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Where probes answer, over TCP and UDP; by eye, a port that nothing of the demo uses.
pub(super) const PORT: u16 = 47_113;

/// What is sent, and comes back.
const WORD: &[u8] = b"culvert isolation probe";

/// How long an answer may take: far longer than on any bridge of one host.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// How many attempts are made at a time.
const AT_A_TIME: usize = 32;

#[derive(Debug, clap::Subcommand)]
pub(in crate::cli) enum Verb {
    /// Say what listens here, and answer for a while
    Answer {
        /// How many seconds
        seconds: u64,
    },
    /// Try what a list says
    Try {
        /// The attempts, as JSON
        attempts: String,
    },
}

/// What listens in a namespace, loopback left out, and whether it forwards packets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) tcp: Vec<(IpAddr, u16)>,
    pub(super) udp: Vec<(IpAddr, u16)>,
    pub(super) forwards: bool,
}

/// One thing to try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Try {
    /// A connection. Where packets must not pass at all, a refusal is an answer too.
    Tcp {
        address: IpAddr,
        port: u16,
        refusal_counts: bool,
    },
    /// A datagram to the probe there, which sends it back.
    Udp { address: IpAddr },
    /// A name must not lead to any of these.
    Name { name: String, addresses: Vec<IpAddr> },
}

/// How an attempt succeeded, which it should not have; `None` where it failed.
pub(super) type Outcome = Option<String>;

pub(in crate::cli) fn run(verb: &Verb, session: &Session) -> anyhow::Result<Exit> {
    match verb {
        Verb::Answer { seconds } => {
            let seen = seen()?;
            answer()?;
            // Compact, so that it is one line.
            session.terminal.answer(serde_json::to_string(&seen)?)?;
            thread::sleep(Duration::from_secs(*seconds));
        }
        Verb::Try { attempts } => {
            let attempts: Vec<Try> = serde_json::from_str(attempts).context("read the attempts")?;
            session
                .terminal
                .answer(serde_json::to_string(&try_all(&attempts))?)?;
        }
    }
    Ok(Exit::Ok)
}

fn answer() -> anyhow::Result<()> {
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
    let listener = TcpListener::bind(everywhere).with_context(|| format!("listen on tcp {PORT}"))?;
    let socket = UdpSocket::bind(everywhere).with_context(|| format!("listen on udp {PORT}"))?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Who hangs up has seen enough.
            let _ = stream.write_all(WORD);
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
    Ok(())
}

fn try_all(attempts: &[Try]) -> Vec<Outcome> {
    let (next, mut outcomes) = (AtomicUsize::new(0), vec![None; attempts.len()]);
    let done = thread::scope(|scope| {
        let worker = || {
            let mut done = Vec::new();
            while let Some((index, attempt)) = {
                let index = next.fetch_add(1, Ordering::Relaxed);
                attempts.get(index).map(|attempt| (index, attempt))
            } {
                done.push((index, attempt.outcome()));
            }
            done
        };
        let workers: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_default())
            .collect::<Vec<_>>()
    });
    for (index, outcome) in done {
        outcomes[index] = outcome;
    }
    outcomes
}

impl Try {
    fn outcome(&self) -> Outcome {
        match self {
            Try::Tcp {
                address,
                port,
                refusal_counts,
            } => tcp(SocketAddr::new(*address, *port), *refusal_counts),
            Try::Udp { address } => udp(SocketAddr::new(*address, PORT)),
            Try::Name { name, addresses } => leads(name, addresses),
        }
    }
}

fn tcp(address: SocketAddr, refusal_counts: bool) -> Outcome {
    match TcpStream::connect_timeout(&address, ANSWER_TIME) {
        Ok(mut stream) => {
            let mut word = [0; WORD.len()];
            let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
            let ours = stream.read_exact(&mut word).is_ok() && word == WORD;
            Some(if ours { "answers" } else { "connects" }.to_owned())
        }
        Err(error) if error.kind() == ErrorKind::ConnectionRefused && refusal_counts => {
            Some("refuses, so packets pass".to_owned())
        }
        Err(_) => None,
    }
}

fn udp(address: SocketAddr) -> Outcome {
    let socket = UdpSocket::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))).ok()?;
    socket.connect(address).ok()?;
    socket.set_read_timeout(Some(ANSWER_TIME / 3)).ok()?;
    let began = Instant::now();
    let mut buffer = [0; 64];
    // A datagram may be lost.
    while began.elapsed() < ANSWER_TIME {
        let asked = socket.send(WORD).and_then(|_| socket.recv(&mut buffer));
        match asked {
            Ok(length) if &buffer[..length] == WORD => return Some("answers".to_owned()),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                return Some("refuses, so packets pass".to_owned());
            }
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return None;
            }
            _ => {}
        }
    }
    None
}

fn leads(name: &str, addresses: &[IpAddr]) -> Outcome {
    let found = (name, PORT).to_socket_addrs().ok()?;
    let led = found
        .map(|found| found.ip())
        .find(|found| addresses.contains(found))?;
    Some(format!("leads to {led}"))
}

fn seen() -> anyhow::Result<Seen> {
    let read = |file: &str| {
        let path = format!("/proc/net/{file}");
        fs::read_to_string(&path).with_context(|| format!("read {path}"))
    };
    // A host without IPv6 has no such table.
    let six = |file: &str| read(file).unwrap_or_default();
    // A socket that listens is in state 0A of TCP; one of UDP that is connected to nobody in 07 (proc(5)).
    let forwards = fs::read_to_string("/proc/sys/net/ipv4/ip_forward").context("read ip_forward")?;
    Ok(Seen {
        tcp: [sockets(&read("tcp")?, "0A"), sockets(&six("tcp6"), "0A")].concat(),
        udp: [sockets(&read("udp")?, "07"), sockets(&six("udp6"), "07")].concat(),
        forwards: forwards.trim() == "1",
    })
}

/// The local addresses of a table's sockets in one state, without those that nobody outside can reach.
fn sockets(table: &str, state: &str) -> Vec<(IpAddr, u16)> {
    let mut found: Vec<(IpAddr, u16)> = table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let (local, _, at) = (words.next()?, words.next()?, words.next()?);
            (at == state).then(|| local_address(local)).flatten()
        })
        .filter(|(address, _)| !address.is_loopback())
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// `0100007F:1F90`: each 32-bit word of the address in the host's order of bytes, then the port.
fn local_address(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let words: Vec<[u8; 4]> = (0..address.len() / 8)
        .map(|word| {
            let digits = address.get(word * 8..word * 8 + 8)?;
            Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
        })
        .collect::<Option<_>>()?;
    let address = match words.as_slice() {
        [word] => IpAddr::from(*word),
        words => {
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            Ipv6Addr::from(bytes).to_canonical()
        }
    };
    let address = if address == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        // Linux takes both versions at such a socket.
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        address
    };
    Some((address, u16::from_str_radix(port, 16).ok()?))
}

impl FromStr for Seen {
    type Err = serde_json::Error;

    fn from_str(line: &str) -> Result<Seen, serde_json::Error> {
        serde_json::from_str(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_is_read_from_the_kernels_tables() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:2384 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1 1
   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 2 1
   2: 65014D0A:24F8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 3 1
   3: 65014D0A:24F8 02014D0A:C001 01 00000000:00000000 00:00000000 00000000  1000        0 4 1
";
        let expected = [("0.0.0.0", 9092), ("10.77.1.101", 9464)];
        assert_eq!(
            sockets(table, "0A"),
            expected.map(|(ip, port)| (ip.parse().unwrap(), port))
        );
        let six = "\
  sl  local_address                         remote_address                        st
   0: 00000000000000000000000000000000:2384 00000000000000000000000000000000:0000 0A 0
   1: 0000000000000000FFFF000065014D0A:24F8 00000000000000000000000000000000:0000 0A 0
   2: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0
";
        assert_eq!(
            sockets(six, "0A"),
            expected.map(|(ip, port)| (ip.parse().unwrap(), port))
        );
        assert!(seen().is_ok());
    }

    #[test]
    fn what_is_open_is_told_from_what_is_not() {
        answer().unwrap();
        let here = IpAddr::from(Ipv4Addr::LOCALHOST);
        let free = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let tcp = |port, refusal_counts| Try::Tcp {
            address: here,
            port,
            refusal_counts,
        };
        let name = |name: &str| Try::Name {
            name: name.into(),
            addresses: vec![here],
        };
        // The kernel lets nobody send there who has not asked for it (ip(7)).
        let nowhere = IpAddr::from(Ipv4Addr::BROADCAST);
        let attempts = [
            tcp(PORT, true),
            Try::Udp { address: here },
            tcp(free, true),
            tcp(free, false),
            name("localhost"),
            name("nobody.invalid"),
            Try::Udp { address: nowhere },
        ];
        let expected = [
            Some("answers"),
            Some("answers"),
            Some("refuses, so packets pass"),
            None,
            Some("leads to 127.0.0.1"),
            None,
            None,
        ];
        let found = try_all(&attempts);
        assert_eq!(found.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
    }
}

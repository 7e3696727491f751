//! Ports on loopback that no other lab process on this host will be given.
//!
//! They come from below the kernel's ephemeral range, so that no outgoing connection takes one between the choice
//! and its use, and stay reserved while the process lives: a server that is killed finds its port again.

use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::{Mutex, PoisonError};

/// Where ports are taken from. Linux gives outgoing connections 32768 and up.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// Tried before giving up: far more than any run of tests holds.
const TRIES: usize = 4_000;

/// A free TCP port on 127.0.0.1.
///
/// # Panics
/// When none is found, which means that something has taken thousands of them.
pub fn free_tcp() -> u16 {
    free(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
}

/// A free UDP port on 127.0.0.1.
///
/// # Panics
/// As [`free_tcp`].
pub fn free_udp() -> u16 {
    free(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
}

fn free(can_bind: impl Fn(u16) -> bool) -> u16 {
    for _ in 0..TRIES {
        let port = RANGE.start + (crate::random_bits() % RANGE.len() as u128) as u16;
        if can_bind(port) && reserve(port) {
            return port;
        }
    }
    panic!(
        "no free port between {} and {} after {TRIES} tries",
        RANGE.start, RANGE.end
    );
}

/// Holds a locked file for the port until the process ends; false when another process holds it.
fn reserve(port: u16) -> bool {
    static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let folder = std::env::temp_dir().join("culvert-lab-ports");
    let Ok(file) = fs::create_dir_all(&folder).and_then(|()| File::create(folder.join(port.to_string())))
    else {
        return false;
    };
    let free = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
    if free {
        HELD.lock().unwrap_or_else(PoisonError::into_inner).push(file);
    }
    free
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_port_is_given_twice() {
        let given: HashSet<u16> = (0..200)
            .map(|n| if n % 2 == 0 { free_tcp() } else { free_udp() })
            .collect();
        assert_eq!(given.len(), 200);
    }
}

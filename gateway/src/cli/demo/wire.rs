//! The network between gateways 1 and 2: a relay of datagrams on loopback that can be cut.

use anyhow::Context;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::net::UdpSocket;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinSet};

/// A relay in front of one gateway. Each address that dials it gets a socket of its own towards the gateway. Dropping
/// it ends it.
pub(super) struct Wire {
    address: SocketAddr,
    line: Arc<Line>,
    task: AbortHandle,
}

#[derive(Default)]
struct Line {
    cut: AtomicBool,
    dropped: AtomicU64,
}

/// The largest UDP payload.
const PACKET_BYTES_MAX: usize = 65_535;

/// More addresses than gateway 1 uses in all its lives; the relay listens on loopback, where others might knock.
const CLIENTS_MAX: usize = 64;

impl Wire {
    /// A relay to `gateway`.
    pub(super) fn start(runtime: &Handle, gateway: SocketAddr) -> anyhow::Result<Wire> {
        let front = Arc::new(runtime.block_on(socket())?);
        let address = front.local_addr()?;
        let line = Arc::new(Line::default());
        let task = runtime.spawn(carry(front, gateway, Arc::clone(&line)));
        Ok(Wire {
            address,
            line,
            task: task.abort_handle(),
        })
    }

    /// Where gateway 1 dials.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Drops every datagram, both ways, until [`Wire::heal`].
    pub(super) fn cut(&self) {
        self.line.cut.store(true, Ordering::Relaxed);
    }

    /// Lets datagrams through again.
    pub(super) fn heal(&self) {
        self.line.cut.store(false, Ordering::Relaxed);
    }

    /// How many datagrams the cuts have swallowed.
    pub(super) fn dropped(&self) -> u64 {
        self.line.dropped.load(Ordering::Relaxed)
    }
}

impl Line {
    /// Whether the next datagram gets through.
    fn passes(&self) -> bool {
        let cut = self.cut.load(Ordering::Relaxed);
        if cut {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        !cut
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

/// Towards the gateway. A datagram that cannot be sent is one more lost datagram, as on any network.
async fn carry(front: Arc<UdpSocket>, gateway: SocketAddr, line: Arc<Line>) {
    let mut clients: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut returns = JoinSet::new();
    let mut packet = vec![0; PACKET_BYTES_MAX];
    loop {
        let Ok((length, client)) = front.recv_from(&mut packet).await else {
            continue;
        };
        if !line.passes() {
            continue;
        }
        if let Some(towards) = clients.get(&client) {
            let _ = towards.send(&packet[..length]).await;
        } else if clients.len() < CLIENTS_MAX
            && let Some(towards) = connected(gateway).await
        {
            let _ = towards.send(&packet[..length]).await;
            clients.insert(client, Arc::clone(&towards));
            returns.spawn(carry_back(towards, Arc::clone(&front), client, Arc::clone(&line)));
        }
    }
}

async fn connected(gateway: SocketAddr) -> Option<Arc<UdpSocket>> {
    let towards = socket().await.ok()?;
    towards.connect(gateway).await.ok()?;
    Some(Arc::new(towards))
}

/// Back to one client. An error here says that the gateway was away when something was sent to it: it comes back.
async fn carry_back(from: Arc<UdpSocket>, front: Arc<UdpSocket>, client: SocketAddr, line: Arc<Line>) {
    let mut packet = vec![0; PACKET_BYTES_MAX];
    loop {
        if let Ok(length) = from.recv(&mut packet).await
            && line.passes()
        {
            let _ = front.send_to(&packet[..length], client).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket as Plain;
    use std::time::{Duration, Instant};

    #[test]
    fn a_cut_wire_carries_nothing_and_a_healed_one_both_ways() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let [near, far] = [(); 2].map(|()| Plain::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        for socket in [&near, &far] {
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        }
        let wire = Wire::start(runtime.handle(), far.local_addr().unwrap()).unwrap();
        let mut packet = [0; 16];

        wire.cut();
        near.send_to(b"lost", wire.address()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while wire.dropped() == 0 {
            assert!(Instant::now() < deadline, "the relay takes what was sent");
            std::thread::yield_now();
        }
        wire.heal();
        near.send_to(b"there", wire.address()).unwrap();
        let (length, from) = far.recv_from(&mut packet).unwrap();
        assert_eq!(&packet[..length], b"there");
        far.send_to(b"back", from).unwrap();
        let length = near.recv(&mut packet).unwrap();
        assert_eq!(&packet[..length], b"back");
    }
}

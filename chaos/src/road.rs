//! The way between two sites: datagrams, and TCP at the same address where links may go over it.

use culvert_tests::relay::{Direction, Weather};
use culvert_tests::{TcpProxy, UdpRelay};
use std::net::{Ipv4Addr, SocketAddr};

/// See the module. Dropping it closes everything.
pub struct Road {
    /// Where weather is made.
    pub udp: UdpRelay,
    tcp: Option<TcpProxy>,
}

impl Road {
    /// As [`UdpRelay::between`]; with TCP too.
    ///
    /// # Errors
    /// When `front` cannot be bound.
    pub fn between(
        front: Ipv4Addr,
        back: Ipv4Addr,
        server: SocketAddr,
        seed: u64,
        tcp: bool,
    ) -> anyhow::Result<Road> {
        let udp = UdpRelay::between(front, back, server, seed)?;
        let tcp = tcp.then(|| TcpProxy::raw_at(udp.address(), server)).transpose()?;
        Ok(Road { udp, tcp })
    }

    /// Where clients find the server.
    pub fn address(&self) -> SocketAddr {
        self.udp.address()
    }

    /// Nothing passes either way.
    pub fn cut(&self) {
        self.udp.cut();
        self.cut_tcp();
    }

    /// No datagram passes one way, and nothing of TCP.
    pub fn cut_one(&self, direction: Direction) {
        let weather = Weather {
            cut: true,
            ..Weather::default()
        };
        self.udp.set_one(direction, weather);
        self.cut_tcp();
    }

    /// Fair weather again.
    pub fn heal(&self) {
        self.udp.heal();
        if let Some(tcp) = &self.tcp {
            tcp.heal();
        }
    }

    fn cut_tcp(&self) {
        if let Some(tcp) = &self.tcp {
            tcp.cut();
        }
    }
}

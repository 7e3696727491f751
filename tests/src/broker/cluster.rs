//! Several nodes in one cluster, each of them broker and controller: leaders move while clients look.

use super::{Broker, BrokerOptions, Ports, cluster_id, loopback};

/// A cluster that has most of its nodes as long as no more than one is away. Dropping it kills all.
pub struct BrokerCluster {
    brokers: Vec<Broker>,
}

/// Nodes: one may be away, and what two have is kept.
const NODES: usize = 3;

impl BrokerCluster {
    /// Starts three nodes and waits until each serves. Every topic has three copies unless it says otherwise, the internal ones
    /// too; a write is acknowledged when two have it.
    ///
    /// # Errors
    /// As [`Broker::start`].
    pub fn start(options: &BrokerOptions) -> anyhow::Result<BrokerCluster> {
        let ports: Vec<Ports> = (0..NODES).map(|_| Ports::choose(options)).collect();
        let voters: Vec<String> = (1..)
            .zip(&ports)
            .map(|(id, ports)| format!("{id}@{}", loopback(ports.controller)))
            .collect();
        let cluster = cluster_id();
        let brokers = (1..)
            .zip(ports)
            .map(|(id, ports)| Broker::prepare(member(options, id, &voters.join(",")), ports, &cluster))
            .collect::<anyhow::Result<Vec<Broker>>>()?;
        // None is ready before most are there.
        brokers.iter().try_for_each(Broker::launch)?;
        brokers.iter().try_for_each(Broker::await_ready)?;
        Ok(BrokerCluster { brokers })
    }

    /// `host:port` of every node's PLAINTEXT listener, separated by commas.
    pub fn bootstrap(&self) -> String {
        let listeners: Vec<String> = self.brokers.iter().map(Broker::bootstrap).collect();
        listeners.join(",")
    }

    /// Its nodes.
    pub fn brokers(&self) -> &[Broker] {
        &self.brokers
    }
}

fn member(options: &BrokerOptions, id: i32, voters: &str) -> BrokerOptions {
    let nodes = NODES.to_string();
    let id = id.to_string();
    let own = [
        ("node.id", &*id),
        ("controller.quorum.voters", voters),
        ("default.replication.factor", &*nodes),
        ("min.insync.replicas", "2"),
        ("offsets.topic.replication.factor", &*nodes),
        ("transaction.state.log.replication.factor", &*nodes),
        ("transaction.state.log.min.isr", "2"),
    ];
    let own = own.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let mut options = options.clone();
    options.properties.splice(0..0, own);
    options
}

//! Who may reach whom, and what has to be tried to know that nobody else does. Pure: the engine and the probes are asked
//! elsewhere.

use super::probe::{PORT, Seen, Try};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// A container of the demo.
#[derive(Clone, Debug, Default)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) image: String,
    pub(super) service: String,
    pub(super) container: String,
    /// The network it belongs to, whatever else it stands in.
    pub(super) home: String,
    /// Where it may stand.
    pub(super) declared: BTreeSet<String>,
    /// The UDP port that its neighbours may reach: it is a gateway.
    pub(super) tunnel: Option<u16>,
    /// Why it stands in foreign networks, where it says so.
    pub(super) opens: Option<String>,
    /// Where it stands, and its address there.
    pub(super) addresses: BTreeMap<String, IpAddr>,
}

/// A network of the demo.
#[derive(Clone, Debug, Default)]
pub(super) struct Network {
    pub(super) name: String,
    pub(super) internal: bool,
    /// Who stands in it: the container's id and name.
    pub(super) standing: Vec<(String, String)>,
}

/// Something that must fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    /// Which member it is aimed at.
    pub(super) to: usize,
    pub(super) what: Try,
}

impl fmt::Display for Try {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Try::Tcp { address, port, .. } => write!(f, "tcp {address}:{port}"),
            Try::Udp { address } => write!(f, "udp {address}"),
            Try::Name { name, .. } => write!(f, "name {name}"),
        }
    }
}

/// All that `from` must not reach.
pub(super) fn forbidden(from: usize, members: &[Member], seen: &[Seen]) -> Vec<Attempt> {
    let here = &members[from];
    let others = members.iter().enumerate();
    others
        .filter(|(_, there)| there.home != here.home)
        .flat_map(|(to, there)| {
            let tries = tries(here, there, &seen[to]);
            tries.into_iter().map(move |what| Attempt { to, what })
        })
        .collect()
}

fn tries(here: &Member, there: &Member, seen: &Seen) -> Vec<Try> {
    let ports: BTreeSet<u16> = seen.tcp.iter().map(|(_, port)| *port).collect();
    let links = links(here, there);
    let mut tries = Vec::new();
    for (network, address) in &there.addresses {
        // On a link packets pass, and nothing but the tunnel may listen; elsewhere not even a refusal may come back.
        let linked = links.contains(network.as_str());
        let tcp = |port| Try::Tcp {
            address: *address,
            port,
            refusal_counts: !linked,
        };
        tries.extend(ports.iter().map(|port| tcp(*port)));
        if !linked {
            tries.extend([tcp(PORT), Try::Udp { address: *address }]);
        }
    }
    if links.is_empty() {
        tries.extend(there.names().into_iter().map(|name| Try::Name {
            name,
            addresses: there.addresses.values().copied().collect(),
        }));
    }
    tries
}

/// What is wrong with how they stand, whether or not a packet passes.
pub(super) fn standing(members: &[Member], networks: &[Network], seen: &[Seen]) -> Vec<String> {
    let mut wrong = Vec::new();
    let ours = |network: &str| {
        members
            .iter()
            .any(|member| member.opens.is_none() && member.declared.contains(network))
    };
    for network in networks.iter().filter(|network| ours(&network.name)) {
        if !network.internal {
            wrong.push(format!("{} is not internal: it leads out", network.name));
        }
        for (id, container) in &network.standing {
            let known = members.iter().find(|member| member.id == *id);
            if known.is_none_or(|member| !member.declared.contains(&network.name)) {
                wrong.push(format!(
                    "{container} stands in {}, and does not belong there",
                    network.name
                ));
            }
        }
    }
    for (member, seen) in members.iter().zip(seen) {
        if member.declared.len() > 1 && seen.forwards {
            wrong.push(format!(
                "{} forwards packets between its networks",
                member.service
            ));
        }
        if let Some(tunnel) = member.tunnel {
            wrong.extend(member.listens_on_links(tunnel, &seen.tcp, &seen.udp));
        }
    }
    wrong
}

/// Who of the two opens the path between them, and says so.
pub(super) fn opener<'a>(here: &'a Member, there: &'a Member) -> Option<&'a Member> {
    let meet = here.declared.intersection(&there.declared).next().is_some();
    [here, there]
        .into_iter()
        .find(|member| meet && member.opens.is_some())
}

/// The networks that two gateways of different homes may both stand in.
fn links<'a>(here: &'a Member, there: &'a Member) -> BTreeSet<&'a str> {
    if here.tunnel.is_none() || there.tunnel.is_none() {
        return BTreeSet::new();
    }
    here.declared
        .intersection(&there.declared)
        .map(String::as_str)
        .collect()
}

impl Member {
    /// Everything that the engine's name server may know it by.
    fn names(&self) -> BTreeSet<String> {
        let short = self.id.get(..12).unwrap_or(&self.id).to_owned();
        let mut names = BTreeSet::from([self.service.clone(), self.container.clone(), short]);
        for network in self.addresses.keys() {
            names.insert(format!("{}.{network}", self.service));
        }
        names
    }

    /// What of a gateway can be reached on its links, beside the tunnel.
    fn listens_on_links(&self, tunnel: u16, tcp: &[(IpAddr, u16)], udp: &[(IpAddr, u16)]) -> Vec<String> {
        let on_link = |address: &IpAddr| {
            address.is_unspecified()
                || self
                    .addresses
                    .iter()
                    .any(|(network, own)| own == address && *network != self.home)
        };
        let tcp = tcp.iter().map(|(address, port)| ("tcp", address, *port));
        let udp = udp.iter().map(|(address, port)| ("udp", address, *port));
        tcp.chain(udp)
            .filter(|(protocol, address, port)| on_link(address) && (*protocol, *port) != ("udp", tunnel))
            .map(|(protocol, address, port)| {
                format!(
                    "{} listens on {protocol} {address}:{port}, on its links too",
                    self.service
                )
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A container that stands where it may: `network` is `name=address`.
    fn member(service: &str, home: &str, networks: &[(&str, &str)]) -> Member {
        let addresses: BTreeMap<String, IpAddr> = networks
            .iter()
            .map(|(network, address)| ((*network).to_owned(), address.parse().unwrap()))
            .collect();
        Member {
            id: format!("{service}-0123456789abcdef"),
            service: service.into(),
            container: format!("culvert-{service}-1"),
            home: home.into(),
            declared: addresses.keys().cloned().collect(),
            addresses,
            ..Member::default()
        }
    }

    fn gateway(service: &str, home: &str, networks: &[(&str, &str)]) -> Member {
        Member {
            tunnel: Some(7443),
            ..member(service, home, networks)
        }
    }

    fn demo() -> Vec<Member> {
        vec![
            member("kafka1", "network1", &[("network1", "10.77.1.2")]),
            gateway(
                "gw1",
                "network1",
                &[("network1", "10.77.1.101"), ("link12", "10.77.12.101")],
            ),
            gateway(
                "gw2",
                "network2",
                &[
                    ("network2", "10.77.2.102"),
                    ("link12", "10.77.12.102"),
                    ("link23", "10.77.23.102"),
                ],
            ),
            gateway(
                "gw3",
                "network3",
                &[("network3", "10.77.3.103"), ("link23", "10.77.23.103")],
            ),
        ]
    }

    fn listening(tcp: &[&str], udp: &[&str]) -> Seen {
        let parse = |all: &[&str]| {
            all.iter()
                .map(|at| at.parse::<std::net::SocketAddr>().unwrap())
                .map(|at| (at.ip(), at.port()))
                .collect()
        };
        Seen {
            tcp: parse(tcp),
            udp: parse(udp),
            forwards: false,
        }
    }

    fn seen() -> Vec<Seen> {
        vec![
            listening(&["0.0.0.0:9092"], &[]),
            listening(&["10.77.1.101:9464"], &["0.0.0.0:7443"]),
            listening(&["10.77.2.102:9464"], &["0.0.0.0:7443"]),
            listening(&["10.77.3.103:9464"], &["0.0.0.0:7443"]),
        ]
    }

    fn networks(members: &[Member]) -> Vec<Network> {
        let names: BTreeSet<&String> = members
            .iter()
            .flat_map(|member| member.addresses.keys())
            .collect();
        names
            .into_iter()
            .map(|name| Network {
                name: name.clone(),
                internal: true,
                standing: members
                    .iter()
                    .filter(|member| member.addresses.contains_key(name))
                    .map(|member| (member.id.clone(), member.container.clone()))
                    .collect(),
            })
            .collect()
    }

    /// What `from` must not do to `to`, in words.
    fn words(from: usize, to: usize) -> Vec<String> {
        forbidden(from, &demo(), &seen())
            .into_iter()
            .filter(|attempt| attempt.to == to)
            .map(|attempt| attempt.what.to_string())
            .collect()
    }

    #[test]
    fn strangers_must_not_reach_any_address_port_or_name() {
        assert_eq!(
            words(0, 3),
            [
                "tcp 10.77.23.103:9464",
                "tcp 10.77.23.103:47113",
                "udp 10.77.23.103",
                "tcp 10.77.3.103:9464",
                "tcp 10.77.3.103:47113",
                "udp 10.77.3.103",
                "name culvert-gw3-1",
                "name gw3",
                "name gw3-01234567",
                "name gw3.link23",
                "name gw3.network3",
            ]
        );
        assert_eq!(words(0, 1), Vec::<String>::new(), "its own network");
        assert!(
            words(1, 3).contains(&"udp 10.77.3.103".into()),
            "gateways without a link in common"
        );
    }

    #[test]
    fn neighbours_may_reach_the_tunnel_on_their_link_and_nothing_else() {
        let tries = words(1, 2);
        assert!(tries.contains(&"tcp 10.77.12.102:9464".into()), "{tries:?}");
        assert!(
            !tries
                .iter()
                .any(|what| what.contains("udp 10.77.12.102") || what.starts_with("name"))
        );
        assert!(tries.contains(&"udp 10.77.2.102".into()) && tries.contains(&"udp 10.77.23.102".into()));
    }

    #[track_caller]
    fn check_standing(
        change: impl FnOnce(&mut Vec<Member>, &mut Vec<Network>, &mut Vec<Seen>),
        expected: &[&str],
    ) {
        let (mut members, mut seen) = (demo(), seen());
        let mut networks = networks(&members);
        change(&mut members, &mut networks, &mut seen);
        assert_eq!(standing(&members, &networks, &seen), expected);
    }

    #[test]
    fn who_stands_where_it_does_not_belong_is_named() {
        check_standing(|_, _, _| {}, &[]);
        let stranger = ("f00".to_owned(), "eve".to_owned());
        check_standing(
            |members, networks, _| {
                networks[3].standing.push(stranger);
                networks[4]
                    .standing
                    .push((members[0].id.clone(), "culvert-kafka1-1".into()));
                networks[2].internal = false;
            },
            &[
                "network1 is not internal: it leads out",
                "eve stands in network2, and does not belong there",
                "culvert-kafka1-1 stands in network3, and does not belong there",
            ],
        );
        check_standing(
            |_, _, seen| {
                seen[1] = listening(&["0.0.0.0:9464"], &["0.0.0.0:7443"]);
                seen[2].forwards = true;
                seen[3] = listening(&[], &["0.0.0.0:7443", "10.77.23.103:5353"]);
            },
            &[
                "gw1 listens on tcp 0.0.0.0:9464, on its links too",
                "gw2 forwards packets between its networks",
                "gw3 listens on udp 10.77.23.103:5353, on its links too",
            ],
        );
    }

    #[test]
    fn who_opens_a_path_on_purpose_is_named_and_nobody_else() {
        let demo = demo();
        let prometheus = Member {
            opens: Some("reads metrics".into()),
            ..member(
                "prometheus",
                "network2",
                &[("network1", "10.77.1.9"), ("network2", "10.77.2.9")],
            )
        };
        let by = |here: &Member, there: &Member| opener(here, there).map(|member| member.service.clone());
        assert_eq!(by(&prometheus, &demo[0]), Some("prometheus".into()));
        assert_eq!(by(&demo[0], &prometheus), Some("prometheus".into()));
        assert_eq!(by(&prometheus, &demo[3]), None, "they have no network in common");
        assert_eq!(by(&demo[0], &demo[3]), None);
    }
}

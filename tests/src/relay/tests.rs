use super::*;

const SOON: Duration = Duration::from_secs(10);

struct Ends {
    server: UdpSocket,
    client: UdpSocket,
    relay: UdpRelay,
}

fn ends(seed: u64) -> Ends {
    let bind = || {
        let socket = socket(Ipv4Addr::LOCALHOST).unwrap();
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

#[test]
fn a_narrow_line_takes_its_time_and_drops_what_its_buffer_cannot_hold() {
    let ends = ends(1);
    ends.relay.set(Weather {
        rate: 400,
        ..Weather::default()
    });
    // A packet of 4 bytes takes 10 ms; its buffer holds 200 ms.
    let arrived = send_through(&ends, 100);
    assert!((20..60).contains(&arrived.len()), "{}", arrived.len());
    assert_eq!(arrived, (0..arrived.len() as u32).collect::<Vec<_>>());
}

#[test]
fn damage_changes_one_byte_and_recordings_hold_what_was_sent() {
    let ends = ends(1);
    ends.relay.record(3);
    ends.relay.set(Weather {
        damage: 1.0,
        ..Weather::default()
    });
    for number in send_through(&ends, 10) {
        assert!(number > 9, "{number} is as it was sent");
    }
    let recorded = ends.relay.recorded(Direction::ToServer);
    let sent: Vec<Vec<u8>> = (0..3_u32).map(|n| n.to_be_bytes().to_vec()).collect();
    assert_eq!(recorded, sent);
}

#[test]
fn what_is_injected_seems_to_come_from_the_other_end() {
    let ends = ends(1);
    assert!(!ends.relay.inject(Direction::ToServer, b"none"));
    ends.client.send(&7_u32.to_be_bytes()).unwrap();
    let (_, from) = receive(&ends.server);
    ends.relay.cut();
    assert!(ends.relay.inject(Direction::ToServer, &8_u32.to_be_bytes()));
    assert_eq!(receive(&ends.server), (8, from));
    assert!(ends.relay.inject(Direction::ToClients, &9_u32.to_be_bytes()));
    assert_eq!(receive(&ends.client), (9, ends.relay.address()));
}

#[test]
fn a_relay_that_forgets_its_clients_comes_from_another_port() {
    let ends = ends(1);
    let from = || {
        ends.client.send(&7_u32.to_be_bytes()).unwrap();
        receive(&ends.server).1
    };
    let first = from();
    assert_eq!(from(), first);
    ends.relay.rebind();
    assert_ne!(from(), first);
}

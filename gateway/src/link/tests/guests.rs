//! Who is not let in: each with its code, on the side that refuses and on the side that is refused, and with no link
//! announced on either.

use super::super::*;
use super::bench::{Bench, Gateway, converse, peer, until, with_peers};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose as Purpose, Issuer, KeyPair, SanType};
use std::path::{Path, PathBuf};
use time::{Duration as Days, OffsetDateTime};
use tokio::sync::mpsc;

/// A certificate as nobody should have it: signed by the authority at `directory`, with everything else to choose.
struct Odd {
    uri: &'static str,
    purposes: Vec<Purpose>,
    begins: Days,
    ends: Days,
}

impl Odd {
    fn south() -> Odd {
        Odd {
            uri: "spiffe://example.org/south",
            purposes: vec![Purpose::ClientAuth, Purpose::ServerAuth],
            begins: Days::days(-1),
            ends: Days::days(1),
        }
    }

    fn write(&self, directory: &Path) -> PathBuf {
        let read = |file: &str| std::fs::read_to_string(directory.join(file)).unwrap();
        let issuer =
            Issuer::from_ca_cert_pem(&read("ca.pem"), KeyPair::from_pem(&read("ca.key")).unwrap()).unwrap();
        let mut params = CertificateParams::default();
        let now = OffsetDateTime::now_utc();
        (params.not_before, params.not_after) = (now + self.begins, now + self.ends);
        params.subject_alt_names = vec![SanType::URI(self.uri.try_into().unwrap())];
        params.extended_key_usages = self.purposes.clone();
        let key = KeyPair::generate().unwrap();
        let certificate = directory.join(format!("odd-{:x}.pem", rand::random::<u64>()));
        std::fs::write(&certificate, params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
        std::fs::write(certificate.with_extension("key"), key.serialize_pem()).unwrap();
        certificate
    }
}

/// Puts `certificate` in the hands of a gateway that would refuse to start with it: the checks of one's own
/// certificate are passed by loading a good one first.
fn armed_with(options: &Options, certificate: &Path) -> (Links, mpsc::Receiver<Event>) {
    let (links, events) = Links::new(options.clone()).unwrap();
    let odd = identity::Options {
        certificate: certificate.to_owned(),
        key: certificate.with_extension("key"),
        ..options.identity.clone()
    };
    let identity = Arc::new(Identity::load_unchecked(&odd).unwrap());
    links.local.replace(|config| Config {
        identity,
        peers: Arc::clone(&config.peers),
    });
    (links, events)
}

/// `south`, with `certificate`, dials `north` (or is dialled by it); `north` must refuse with `code`.
async fn check(certificate: &Odd, code: &str) {
    check_in(&Bench::new(), certificate, code).await;
}

async fn check_in(bench: &Bench, certificate: &Odd, code: &str) {
    let certificate = certificate.write(bench.path());
    for south_dials in [true, false] {
        let south = bench.options("south");
        let (links, south_events) = armed_with(&south, &certificate);
        let mut north = Gateway::start(bench.options("north"));
        let mut south = Gateway::run(links, south_events);
        let (to_north, to_south) = (north.address().to_string(), south.address().to_string());
        if south_dials {
            north.handle.set_peers(vec![peer("south", &[])]);
            south.handle.set_peers(vec![peer("north", &[&to_north])]);
            let told = south.refused("north-site").await;
            assert_eq!(told.code(), Some("CULVERT-L005"), "{told}");
            until("the refusal", || north.handle.last_turned_away().is_some()).await;
            let refused = north.handle.last_turned_away().unwrap();
            assert_eq!(refused.code(), Some(code), "{refused}");
        } else {
            south.handle.set_peers(vec![peer("north", &[])]);
            north.handle.set_peers(vec![peer("south", &[&to_south])]);
            let refused = north.refused("south-site").await;
            assert_eq!(refused.code(), Some(code), "{refused}");
            assert!(refused.to_string().starts_with(&format!("[{code}]")));
        }
        assert!(
            !north.has_accepted() && !south.has_accepted(),
            "nothing was accepted"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_has_ended() {
    check(
        &Odd {
            begins: Days::days(-2),
            ends: Days::seconds(-1),
            ..Odd::south()
        },
        "CULVERT-P011",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_has_not_begun() {
    check(
        &Odd {
            begins: Days::hours(1),
            ..Odd::south()
        },
        "CULVERT-P012",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_authority() {
    let (bench, other) = (Bench::new(), Bench::new());
    let foreign = Odd::south().write(other.path());
    // The foreign certificate is put where `check_in` looks for nothing, so the pair is made by hand.
    let mut north = Gateway::start(with_peers(bench.options("north"), [peer("south", &[])]));
    let address = north.address().to_string();
    let (links, events) = armed_with(
        &with_peers(bench.options("south"), [peer("north", &[&address])]),
        &foreign,
    );
    let mut south = Gateway::run(links, events);
    assert_eq!(south.refused("north-site").await.code(), Some("CULVERT-L005"));
    until("the refusal", || north.handle.last_turned_away().is_some()).await;
    assert_eq!(
        north.handle.last_turned_away(),
        Some(Reason::Certificate(identity::Refusal::Authority))
    );
    assert!(!north.has_accepted() && !south.has_accepted());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_trust_domain_or_of_no_gateway() {
    for uri in [
        "spiffe://example.com/south",
        "spiffe://example.org/",
        "https://example.org/south",
    ] {
        check(&Odd { uri, ..Odd::south() }, "CULVERT-P016").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_for_the_other_use() {
    let bench = Bench::new();
    let client = Odd {
        purposes: vec![Purpose::ClientAuth],
        ..Odd::south()
    }
    .write(bench.path());
    let server = Odd {
        purposes: vec![Purpose::ServerAuth],
        ..Odd::south()
    }
    .write(bench.path());
    // A server's certificate does not dial.
    let mut north = Gateway::start(with_peers(bench.options("north"), [peer("south", &[])]));
    let address = north.address().to_string();
    let (links, events) = armed_with(
        &with_peers(bench.options("south"), [peer("north", &[&address])]),
        &server,
    );
    let mut south = Gateway::run(links, events);
    assert_eq!(south.refused("north-site").await.code(), Some("CULVERT-L005"));
    until("the refusal", || north.handle.last_turned_away().is_some()).await;
    let refused = north.handle.last_turned_away().unwrap();
    assert_eq!(refused.code(), Some("CULVERT-P015"), "{refused}");
    assert!(!north.has_accepted() && !south.has_accepted());
    // A client's certificate is not dialled.
    let (links, events) = armed_with(&with_peers(bench.options("south"), [peer("north", &[])]), &client);
    let mut south = Gateway::run(links, events);
    north
        .handle
        .set_peers(vec![peer("south", &[&south.address().to_string()])]);
    let refused = north.refused("south-site").await;
    assert_eq!(refused.code(), Some("CULVERT-P015"), "{refused}");
    assert!(!north.has_accepted() && !south.has_accepted());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_not_configured() {
    let bench = Bench::new();
    let mut north = Gateway::start(with_peers(bench.options("north"), [peer("south", &[])]));
    let address = north.address().to_string();
    let mut west = Gateway::start(with_peers(bench.options("west"), [peer("north", &[&address])]));
    let told = west.refused("north-site").await;
    assert_eq!(told.code(), Some("CULVERT-L005"));
    assert!(told.to_string().contains("does not list this gateway"), "{told}");
    until("the refusal", || north.handle.last_turned_away().is_some()).await;
    let refused = north.handle.last_turned_away().unwrap();
    assert_eq!(refused.code(), Some("CULVERT-P014"), "{refused}");
    assert!(!north.has_accepted() && !west.has_accepted());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_gateway_than_the_one_that_was_dialled() {
    let bench = Bench::new();
    let mut west = Gateway::start(with_peers(bench.options("west"), [peer("north", &[])]));
    let address = west.address().to_string();
    let peers = [peer("south", &[&address]), peer("west", &[])];
    let mut north = Gateway::start(with_peers(bench.options("north"), peers));
    let refused = north.refused("south-site").await;
    assert_eq!(refused.code(), Some("CULVERT-P013"), "{refused}");
    assert!(
        !north.has_accepted() && !west.has_accepted(),
        "though west is a peer too"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_of_another_site_than_configured() {
    let bench = Bench::new();
    for dialler_is_wrong in [true, false] {
        let mut north = bench.options("north");
        let mut south = bench.options("south");
        if dialler_is_wrong { &mut south } else { &mut north }.site = "elsewhere".into();
        north.peers = vec![peer("south", &[])];
        let mut north = Gateway::start(north);
        south.peers = vec![peer("north", &[&north.address().to_string()])];
        let mut south = Gateway::start(south);
        let at_dialler = south.refused("north-site").await;
        until("the refusal", || north.handle.last_turned_away().is_some()).await;
        let at_dialled = north.handle.last_turned_away().unwrap();
        let (refused, told) = if dialler_is_wrong {
            (at_dialled, at_dialler)
        } else {
            (at_dialler, at_dialled)
        };
        assert_eq!(refused.code(), Some("CULVERT-L003"), "{refused}");
        assert_eq!(told.code(), Some("CULVERT-L005"), "{told}");
        assert!(
            told.to_string().contains("CULVERT-L003"),
            "the other side reads why: {told}"
        );
        assert!(!north.has_accepted() && !south.has_accepted());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_with_no_version_in_common() {
    let bench = Bench::new();
    let mut north = Gateway::start(with_peers(bench.options("north"), [peer("south", &[])]));
    let address = north.address().to_string();
    let mut south = Gateway::speaking(
        with_peers(bench.options("south"), [peer("north", &[&address])]),
        7..=9,
    );
    let told = south.refused("north-site").await;
    assert_eq!(told.code(), Some("CULVERT-L005"), "{told}");
    for expected in ["CULVERT-L002", "7 to 9", "1 to 1"] {
        assert!(told.to_string().contains(expected), "{told}");
    }
    assert!(!north.has_accepted() && !south.has_accepted());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_version_in_common_is_spoken() {
    let bench = Bench::new();
    let mut north = Gateway::speaking(with_peers(bench.options("north"), [peer("south", &[])]), 1..=3);
    let address = north.address().to_string();
    let mut south = Gateway::speaking(
        with_peers(bench.options("south"), [peer("north", &[&address])]),
        2..=9,
    );
    assert_eq!(
        (north.up().await.peer().version, south.up().await.peer().version),
        (3, 3)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_leaves_the_configuration_is_cut() {
    let bench = Bench::new();
    let (mut north, _south, _here, there) = bench.pair().await;
    north.handle.set_peers(Vec::new());
    assert_eq!(north.down().await.code(), Some("CULVERT-P014"));
    assert_eq!(there.closed().await.code(), Some("CULVERT-L005"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_does_not_outlive_the_trust_in_its_authority() {
    let (bench, other) = (Bench::new(), Bench::new());
    let (mut north, _south, here, there) = bench.pair().await;
    // Old and new authority side by side: the session stays, and so it does when the file is read again.
    let (old, new) = (bench.path().join("ca.pem"), other.path().join("ca.pem"));
    let (old_pem, new_pem) = (std::fs::read(&old).unwrap(), std::fs::read(&new).unwrap());
    std::fs::write(&old, [old_pem, new_pem.clone()].concat()).unwrap();
    north.handle.reload().unwrap();
    converse(&here, &there).await;
    std::fs::write(&old, new_pem).unwrap();
    north.handle.reload().unwrap();
    assert_eq!(north.down().await.code(), Some("CULVERT-P010"));
}

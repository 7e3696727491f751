use super::issue::{Authority, Kind};
use super::*;
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

struct Bench {
    _directory: TempDir,
    authority: Authority,
    north: PathBuf,
}

fn bench() -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let domain = "example.org".parse().unwrap();
    let authority = Authority::init(directory.path(), &domain, 30, false).unwrap();
    let north = authority.issue(&gateway("north"), 30, false).unwrap();
    Bench {
        _directory: directory,
        authority,
        north,
    }
}

fn gateway(name: &str) -> Kind {
    Kind::Gateway(name.parse().unwrap())
}

fn options(bench: &Bench) -> Options {
    Options {
        gateway: "north".parse().unwrap(),
        trust_domain: "example.org".parse().unwrap(),
        certificate: bench.north.clone(),
        key: bench.north.with_extension("key"),
        authorities: vec![bench.authority.certificate()],
    }
}

#[test]
fn a_gateway_certificate_carries_its_name_twice_and_both_uses() {
    let bench = bench();
    let identity = Identity::load(&options(&bench)).unwrap();
    let description = identity.description();
    assert_eq!(description.uris, ["spiffe://example.org/north"]);
    assert_eq!(description.dns, ["north"]);
    assert!(description.client && description.server && !description.authority);
    assert_eq!(identity.gateway().as_str(), "north");
}

/// Loads `north` after `change`, and answers the start of the message.
#[track_caller]
fn check(change: impl FnOnce(&Bench, &mut Options), code: &str) {
    let bench = bench();
    let mut options = options(&bench);
    change(&bench, &mut options);
    let message = Identity::load(&options).unwrap_err().to_string();
    assert!(message.starts_with(&format!("[{code}]")), "{message}");
}

#[test]
fn each_mistake_has_its_code() {
    check(
        |_, options| options.certificate = "nowhere.pem".into(),
        "CULVERT-P001",
    );
    check(
        |_, options| options.authorities.push("nowhere.pem".into()),
        "CULVERT-P001",
    );
    check(
        |bench, options| options.certificate = bench.north.with_extension("key"),
        "CULVERT-P002",
    );
    check(|bench, options| options.key = bench.north.clone(), "CULVERT-P002");
    check(
        |_, options| std::fs::write(&options.key, b"\xff\x00").unwrap(),
        "CULVERT-P002",
    );
    check(
        |bench, options| {
            let south = bench.authority.issue(&gateway("south"), 30, false).unwrap();
            options.key = south.with_extension("key");
        },
        "CULVERT-P003",
    );
    check(
        |_, options| options.gateway = "south".parse().unwrap(),
        "CULVERT-P006",
    );
    check(
        |_, options| options.trust_domain = "example.com".parse().unwrap(),
        "CULVERT-P006",
    );
}

#[test]
fn validity_and_purpose_are_checked() {
    let bench = bench();
    let options = options(&bench);
    let own = describe(&options.certificate, &certificates(&options.certificate).unwrap()).unwrap();
    let at =
        |seconds: i64| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds.cast_unsigned()));
    assert!(check_own(&options, &own, at(own.begins)).is_ok());
    assert!(check_own(&options, &own, at(own.ends)).is_ok());
    assert!(matches!(
        check_own(&options, &own, at(own.begins - 1)),
        Err(Error::NotYetValid { .. })
    ));
    assert!(matches!(
        check_own(&options, &own, at(own.ends + 1)),
        Err(Error::Expired { .. })
    ));
}

#[test]
fn keys_are_private_and_nothing_is_replaced_unless_asked() {
    let bench = bench();
    let key = bench.north.with_extension("key");
    assert_eq!(
        std::fs::metadata(&key).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let before = std::fs::read(&key).unwrap();
    assert!(matches!(
        bench.authority.issue(&gateway("north"), 30, false),
        Err(Error::Exists { .. })
    ));
    assert_eq!(std::fs::read(&key).unwrap(), before);
    bench.authority.issue(&gateway("north"), 30, true).unwrap();
    assert_ne!(std::fs::read(&key).unwrap(), before);
    Identity::load(&options(&bench)).unwrap();
    let folder = bench.north.parent().unwrap();
    assert_eq!(
        std::fs::read_dir(folder).unwrap().count(),
        2,
        "no temporary file stays behind"
    );
}

#[test]
fn renewing_keeps_names_and_uses() {
    let bench = bench();
    let hosts = vec!["kafka-1".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let broker = bench.authority.issue(&Kind::Kafka(hosts), 30, false).unwrap();
    for path in [&bench.north, &broker] {
        let before = describe(path, &certificates(path).unwrap()).unwrap();
        bench.authority.renew(path, 60).unwrap();
        let after = describe(path, &certificates(path).unwrap()).unwrap();
        assert_ne!(before.fingerprint, after.fingerprint);
        assert!(after.ends > before.ends);
        assert_eq!(
            Description {
                not_before: before.not_before.clone(),
                not_after: before.not_after.clone(),
                fingerprint: before.fingerprint.clone(),
                begins: before.begins,
                ends: before.ends,
                ..after
            },
            before
        );
    }
    Identity::load(&options(&bench)).unwrap();
    assert!(bench.authority.renew(&bench.authority.certificate(), 60).is_err());
}

#[test]
fn keys_for_a_jvm_are_pkcs8_with_the_chain_in_one_file() {
    let bench = bench();
    let broker = bench
        .authority
        .issue(&Kind::Kafka(vec!["kafka-1".to_owned()]), 30, false)
        .unwrap();
    let store = broker.with_extension("keystore.pem");
    let text = std::fs::read_to_string(&store).unwrap();
    assert!(text.starts_with("-----BEGIN PRIVATE KEY-----"));
    assert_eq!(text.matches("BEGIN CERTIFICATE").count(), 2);
    assert_eq!(
        std::fs::metadata(&store).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn names_that_would_leave_the_directory_are_refused() {
    let bench = bench();
    for name in ["../up", "a/b", ".hidden", "", "a\0b"] {
        assert!(
            bench
                .authority
                .issue(&Kind::Client(name.to_owned()), 30, false)
                .is_err(),
            "{name:?}"
        );
        assert!(
            bench
                .authority
                .issue(&Kind::Kafka(vec![name.to_owned()]), 30, false)
                .is_err(),
            "{name:?}"
        );
    }
    assert!(
        bench
            .authority
            .issue(&Kind::Kafka(Vec::new()), 30, false)
            .is_err()
    );
}

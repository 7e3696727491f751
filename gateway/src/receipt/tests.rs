use super::*;
use crate::identity::issue::{Authority, Kind};
use crate::identity::{Authorities, Identity, Options};
use tempfile::TempDir;
use time::OffsetDateTime;

/// Two gateways with certificates of one authority.
pub(super) struct Ends {
    directory: TempDir,
    origin: Identity,
    sink: Identity,
}

impl Ends {
    pub(super) fn new() -> Ends {
        let directory = tempfile::tempdir().expect("a directory");
        let domain = "example.org".parse().expect("a domain");
        let authority = Authority::init(directory.path(), &domain, 30, false).expect("an authority");
        let identity = |name: &str| {
            let kind = Kind::Gateway(name.parse().expect("a name"));
            let certificate = authority.issue(&kind, 20, false).expect("a certificate");
            Identity::load(&Options {
                gateway: name.parse().expect("a name"),
                trust_domain: domain.clone(),
                key: certificate.with_extension("key"),
                certificate,
                authorities: vec![authority.certificate()],
            })
            .expect("an identity")
        };
        Ends {
            origin: identity("gw1"),
            sink: identity("gw3"),
            directory,
        }
    }

    fn authorities(&self) -> Authorities {
        Authorities::read(&[self.directory.path().join("ca.pem")]).expect("the authority is there")
    }

    /// A receipt both of whose statements were changed before they were signed.
    pub(super) fn receipt(&self, change: impl Fn(&mut Statement)) -> Receipt {
        let signed = |identity: &Identity, role| {
            let mut statement = statement_of(role);
            change(&mut statement);
            identity.sign(statement.bytes()).expect("it is signed")
        };
        Receipt {
            origin: signed(&self.origin, Role::Origin),
            sink: signed(&self.sink, Role::Sink),
        }
    }
}

fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

/// What one end says of 450 records in `[100, 600)`.
fn statement_of(role: Role) -> Statement {
    let (gateway, site) = match role {
        Role::Origin => ("gw1", "site1"),
        Role::Sink => ("gw3", "site3"),
    };
    Statement {
        gateway: format!("spiffe://example.org/{gateway}"),
        site: site.into(),
        route: "site3/orders".into(),
        stream: "site1/orders/0".into(),
        lineage: "00ff".into(),
        from: 100,
        to: 600,
        first: Some(100),
        last: Some(599),
        count: 450,
        content: Hash([7; 32]),
        without_ids: vec!["value".into()],
        ..Statement::new(role, now())
    }
}

fn document(receipt: &Receipt) -> Vec<u8> {
    let text = write(std::slice::from_ref(receipt)).expect("it is written");
    text.into_bytes()
}

#[test]
fn a_receipt_holds_for_those_who_were_not_there() {
    let ends = Ends::new();
    let receipt = ends.receipt(|_| {});
    let document = document(&receipt);
    for authorities in [None, Some(&ends.authorities())] {
        let verified = verify(&document, authorities).expect("it holds");
        let [one] = verified.as_slice() else {
            panic!("one receipt: {verified:?}")
        };
        assert_eq!(one.hash, receipt.hash());
        assert_eq!(
            one.origin,
            Statement::read(&receipt.origin.statement).expect("it is read")
        );
        assert_eq!(one.sink.gateway, "spiffe://example.org/gw3");
        assert_eq!(one.sink_fingerprint, ends.sink.description().fingerprint);
        assert_ne!(one.sink_fingerprint, one.origin_fingerprint);
    }
}

/// As the guide says it, computed by another program.
#[test]
fn the_spelling_of_hashes_is_fixed() {
    let signed = |statement: &[u8], algorithm: &str, signature: &[u8], certificates: &[&[u8]]| Signed {
        statement: statement.to_vec(),
        scheme: identity::scheme(algorithm).expect("it is known"),
        signature: signature.to_vec(),
        certificates: certificates.iter().map(|der| der.to_vec()).collect(),
    };
    let receipt = Receipt {
        origin: signed(b"o", "ecdsa-p256-sha256", &[1, 2], &[b"0", b"12"]),
        sink: signed(b"s", "ed25519", &[], &[]),
    };
    assert_eq!(
        receipt.hash().to_string(),
        "ecd51447c8b49bd0599e1ac0bfdbcdbf6b72d2b71af660b57f3822938031c536"
    );
}

#[test]
fn no_byte_of_a_document_can_be_changed_added_or_taken_away() {
    let ends = Ends::new();
    let mut document = document(&ends.receipt(|statement| statement.before = Some(Hash([9; 32]))));
    verify(&document, None).expect("it holds");
    for at in 0..document.len() {
        for bit in [0x01, 0x20, 0x80] {
            document[at] ^= bit;
            let shown = || String::from_utf8_lossy(&document[at.saturating_sub(20)..=at]).into_owned();
            assert!(
                verify(&document, None).is_err(),
                "byte {at}, bit {bit:#x}: {}",
                shown()
            );
            document[at] ^= bit;
        }
        assert!(verify(&document[..at], None).is_err(), "cut at {at}");
    }
    document.push(b'\n');
    assert!(verify(&document, None).is_err());
}

/// As above, by someone who puts the hash right.
#[test]
fn no_byte_of_what_was_signed_can_be_changed() {
    let ends = Ends::new();
    let receipt = ends.receipt(|_| {});
    check(&receipt, Some(&ends.authorities())).expect("it holds");
    let refused = |receipt: &Receipt, what: &str, at: usize| {
        let refusal = check(receipt, None).expect_err(what);
        let code = refusal.code();
        assert!(
            ["CULVERT-F060", "CULVERT-F061"].contains(&code),
            "{what} {at}: {refusal}"
        );
    };
    for at in 0..receipt.sink.statement.len() {
        let mut changed = receipt.clone();
        changed.sink.statement[at] ^= 1;
        refused(&changed, "statement", at);
    }
    for at in 0..receipt.origin.signature.len() {
        let mut changed = receipt.clone();
        changed.origin.signature[at] ^= 1;
        refused(&changed, "signature", at);
    }
    // A certificate may be exchanged for another of the same key and name only by the authority.
    for at in 0..receipt.origin.certificates[0].len() {
        let mut changed = receipt.clone();
        changed.origin.certificates[0][at] ^= 1;
        check(&changed, Some(&ends.authorities())).expect_err("a changed certificate");
    }
}

/// A receipt that is made otherwise is refused with this code, with authorities at hand.
#[track_caller]
fn refuse(make: impl FnOnce(&Ends) -> Receipt, code: &str, words: &str) {
    let ends = Ends::new();
    let receipt = make(&ends);
    let refusal = verify(&document(&receipt), Some(&ends.authorities())).expect_err(words);
    assert_eq!(refusal.code(), code, "{refusal}");
    let said = refusal.to_string();
    assert!(
        said.contains(words) && said.contains(code),
        "{said:?} lacks {words:?}"
    );
}

/// Only what the sink says is changed.
fn at_the_sink(change: impl Fn(&mut Statement)) -> impl FnOnce(&Ends) -> Receipt {
    move |ends| {
        ends.receipt(|statement| {
            if statement.role == Role::Sink {
                change(statement);
            }
        })
    }
}

fn at_both(change: impl Fn(&mut Statement)) -> impl FnOnce(&Ends) -> Receipt {
    move |ends| ends.receipt(change)
}

#[test]
fn both_ends_must_say_the_same() {
    type Change = fn(&mut Statement);
    let changes: [(Change, &str); 11] = [
        (
            |s| s.route = "site3/other".into(),
            "the route is site3/orders at the origin",
        ),
        (|s| s.stream = "site1/orders/1".into(), "the stream is"),
        (|s| s.lineage = "ff00".into(), "the lineage is"),
        (
            |s| s.from = 99,
            "the beginning is 100 at the origin and 99 at the sink",
        ),
        (|s| s.to = 601, "the end is"),
        (|s| s.first = Some(101), "the first record is"),
        (|s| s.last = Some(598), "the last record is"),
        (
            |s| s.count = 449,
            "the count is 450 at the origin and 449 at the sink",
        ),
        (|s| s.content = Hash([8; 32]), "the content is"),
        (|s| s.without_ids.clear(), "without numbers of schemas"),
        (
            |s| s.before = Some(Hash([1; 32])),
            "the receipt before is absent at the origin",
        ),
    ];
    for (change, words) in changes {
        refuse(at_the_sink(change), "CULVERT-F063", words);
    }
}

#[test]
fn what_cannot_be_is_no_statement() {
    type Change = fn(&mut Statement);
    let changes: [(Change, &str); 9] = [
        (|s| s.to = s.from, "[100, 100) is empty"),
        (|s| s.first = Some(99), "not in [100, 600)"),
        (|s| s.last = Some(600), "not in [100, 600)"),
        (|s| s.first = None, "not in [100, 600)"),
        (|s| s.count = 501, "501 records are not in"),
        (|s| s.count = 0, "0 records are not in"),
        (|s| s.site = "site".into(), "is not of its site"),
        (|s| s.without_ids = vec!["x".into()], "neither key nor value"),
        (
            |s| {
                s.role = if s.role == Role::Sink {
                    Role::Origin
                } else {
                    Role::Sink
                }
            },
            "was signed for the",
        ),
    ];
    for (change, words) in changes {
        refuse(at_both(change), "CULVERT-F063", words);
    }
    let alone = |ends: &Ends| {
        let mut receipt = ends.receipt(|statement| {
            statement.gateway = "spiffe://example.org/gw1".into();
        });
        receipt.sink = ends.origin.sign(receipt.sink.statement).expect("signed");
        receipt
    };
    refuse(alone, "CULVERT-F063", "has signed for both ends");
}

#[test]
fn gaps_and_duplicates_are_no_receipt() {
    refuse(
        at_the_sink(|s| s.gaps = 2),
        "CULVERT-F064",
        "the sink says that 2 records are missing",
    );
    refuse(
        at_both(|s| s.duplicates = 1),
        "CULVERT-F064",
        "the origin says that 0 records are missing and 1 are there more",
    );
}

#[test]
fn a_signature_is_of_one_key_and_a_key_of_one_name() {
    let exchanged = |ends: &Ends| {
        let mut receipt = ends.receipt(|_| {});
        receipt.sink.certificates = receipt.origin.certificates.clone();
        receipt
    };
    refuse(
        exchanged,
        "CULVERT-F061",
        "the signature of the sink does not hold",
    );
    let without = |ends: &Ends| {
        let mut receipt = ends.receipt(|_| {});
        receipt.sink.certificates.clear();
        receipt
    };
    refuse(without, "CULVERT-F061", "no certificate is there");
    refuse(
        at_the_sink(|s| s.gateway = "spiffe://example.org/gw4".into()),
        "CULVERT-F062",
        "the sink says it is spiffe://example.org/gw4, its certificate says spiffe://example.org/gw3",
    );
}

#[test]
fn authorities_are_asked_for_the_time_of_the_statement() {
    let moved = |days: i64| {
        move |s: &mut Statement| {
            *s = Statement {
                time: time_of(days),
                ..s.clone()
            }
        }
    };
    let time_of_sink = |days| at_the_sink(moved(days));
    refuse(time_of_sink(25), "CULVERT-F062", "expired");
    refuse(time_of_sink(-25), "CULVERT-F062", "not valid before");
    refuse(
        |_| Ends::new().receipt(|_| {}),
        "CULVERT-F062",
        "not signed by an authority",
    );
    // Within the life of the certificate, however long ago that was, it is good.
    let ends = Ends::new();
    let later = ends.receipt(moved(19));
    verify(&document(&later), Some(&ends.authorities())).expect("it holds");
}

fn time_of(days: i64) -> String {
    Statement::new(Role::Sink, now() + days * 86_400).time
}

#[test]
fn what_is_spelled_otherwise_is_no_receipt() {
    let ends = Ends::new();
    let text = String::from_utf8(document(&ends.receipt(|_| {}))).expect("text");
    let refused = |text: &str, code: &str, words: &str| {
        let refusal = verify(text.as_bytes(), None).expect_err(words);
        assert_eq!(refusal.code(), code, "{refusal}");
        assert!(refusal.to_string().contains(words), "{refusal} lacks {words:?}");
    };
    let hash = text.split('"').nth(9).expect("a hash");
    for (from, to, code, words) in [
        (
            "culvert-receipts/1",
            "culvert-receipts/2",
            "CULVERT-F060",
            "is known here",
        ),
        ("\"hash\"", "\"hashes\"", "CULVERT-F060", "unknown field"),
        (
            "culvert-statement/1",
            "culvert-statement/2",
            "CULVERT-F065",
            "has hash",
        ),
        (
            ": \"ecdsa-p256-sha256\"",
            ": \"rot13\"",
            "CULVERT-F060",
            "\"rot13\" is not known here",
        ),
        (
            "  \"format\"",
            " \"format\"",
            "CULVERT-F060",
            "byte 3 is not as it was written",
        ),
        (hash, &hash.to_uppercase(), "CULVERT-F060", "64 digits"),
        (hash, &"0".repeat(64), "CULVERT-F065", "and says 0000"),
        (
            "\"certificates\": [\n",
            "\"certificates\": [\n\"zz\",",
            "CULVERT-F060",
            "byte",
        ),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from:?} is there");
        refused(&changed, code, words);
    }
    refused("", "CULVERT-F060", "EOF");
    refused(
        "{\n  \"format\": \"culvert-receipts/1\",\n  \"receipts\": []\n}\n",
        "CULVERT-F060",
        "0 receipts",
    );
    let spaced = ends.receipt(|_| {});
    let mut bytes = spaced.sink.statement.clone();
    bytes.insert(1, b' ');
    let spaced = Receipt {
        sink: ends.sink.sign(bytes).expect("signed"),
        ..spaced
    };
    let text = String::from_utf8(document(&spaced)).expect("text");
    refused(&text, "CULVERT-F060", "spelled in another way");
    let late = ends.receipt(|statement| statement.time = "yesterday".into());
    let text = String::from_utf8(document(&late)).expect("text");
    refused(&text, "CULVERT-F060", "is no time");
}

#[test]
fn a_chain_has_no_link_missing_and_no_stranger() {
    let ends = Ends::new();
    let verified = |receipt: &Receipt| vec![check(receipt, None).expect("it holds")];
    let first = ends.receipt(|_| {});
    let behind = |hash| ends.receipt(|statement| statement.before = Some(hash));
    let second = behind(first.hash());
    let third = behind(second.hash());
    let [first, second, third] = [&first, &second, &third].map(verified);
    follows(&second, &first).expect("it follows");
    follows(&third, &second).expect("it follows");
    let refused = |newer: &[Verified], older: &[Verified], words: &str| {
        let refusal = follows(newer, older).expect_err(words);
        assert_eq!(refusal.code(), "CULVERT-F065");
        assert!(refusal.to_string().contains(words), "{refusal} lacks {words:?}");
    };
    refused(&third, &first, "was given, and it names");
    refused(&first, &second, "it begins a chain");
    let other = verified(&ends.receipt(|statement| statement.stream = "site1/other/0".into()));
    refused(&other, &first, "none of this stream");

    let twice = write(&[ends.receipt(|_| {}), ends.receipt(|s| s.count = 400)]).expect("written");
    let refusal = verify(twice.as_bytes(), None).expect_err("two of one stream");
    assert!(refusal.to_string().contains("there are two"), "{refusal}");
}

//! Every key of `culvert.toml`, declared once. The reference page, the suggestions for unknown keys, the defaults
//! and `culvert config show` all come from this table.

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Its full name. `[]` stands for each table of a list, `*` for any name.
    pub path: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// Whether it must be given, and what holds if it is not.
    pub need: Need,
    /// The first version that knows it.
    pub since: &'static str,
    /// What it does, in one or two sentences.
    pub doc: &'static str,
}

/// What a value is, and its bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A gateway's name: a DNS name in lower case.
    Gateway,
    /// A list of gateways' names.
    Gateways,
    /// A site's name: letters, digits, `.`, `_`, `-`.
    Site,
    /// A list of sites' names.
    Sites,
    /// A DNS name that certificates are made under.
    TrustDomain,
    /// A file or directory; a relative one is relative to the file's own directory.
    Path,
    /// One path or a list of them.
    Paths,
    /// Bytes with a unit, within these bounds in bytes.
    Size {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// A whole number, from none to this.
    Count {
        /// The most.
        max: u16,
    },
    /// A duration with a unit, within these bounds in milliseconds.
    Time {
        /// The least.
        min_ms: u64,
        /// The most.
        max_ms: u64,
    },
    /// An IP address and port to listen on.
    Listen,
    /// One `host:port` or a list of them.
    Endpoints,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Topics, by name or pattern.
    Topics,
    /// A filter for log lines.
    LogFilter,
    /// Any text, passed on as it is; numbers and booleans too.
    Passed,
}

/// Whether a key must be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It must.
    Required,
    /// It may; without it, what it is for is absent.
    Optional,
    /// It may; without it this holds, as one would write it.
    Default(&'static str),
}

/// The lists of tables (`[[peer]]`).
pub(super) const LISTS: [&str; 3] = ["peer", "grant", "relay"];

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The table, in the order of the reference page.
pub const KEYS: &[Key] = &[
    Key {
        path: "gateway",
        kind: Kind::Gateway,
        need: Need::Required,
        since: "0.1",
        doc: "The name of this gateway. Its certificate must carry the same name.",
    },
    Key {
        path: "site",
        kind: Kind::Site,
        need: Need::Required,
        since: "0.1",
        doc: "The network this gateway stands in. Gateways of one network share it, and it is part of every stream's \
              identity: do not change it while records are on their way.",
    },
    Key {
        path: "state",
        kind: Kind::Path,
        need: Need::Default("/var/lib/culvert"),
        since: "0.1",
        doc: "The directory for everything that must survive a restart. One gateway process at a time uses it.",
    },
    Key {
        path: "outbox.engine",
        kind: Kind::Choice(&["sled", "log"]),
        need: Need::Default("sled"),
        since: "0.1",
        doc: "How the outbox stores records: `sled`, a log-structured tree, or `log`, plain segment files. Chosen when \
              the state directory is first used.",
    },
    Key {
        path: "outbox.heal",
        kind: Kind::Choice(&["replayable", "never"]),
        need: Need::Default("replayable"),
        since: "0.1",
        doc: "What a start does with a damaged outbox. `replayable`: what is damaged is moved to quarantine, what a source or \
              a peer still has is read again, and only a stream whose records are nowhere else stands still. `never`: the \
              gateway does not start.",
    },
    Key {
        path: "outbox.quota",
        kind: Kind::Size {
            min: 64 * MIB,
            max: 1 << 50,
        },
        need: Need::Default("10 GiB"),
        since: "0.1",
        doc: "How many bytes of records may wait on disk. At the quota intake pauses; nothing is dropped.",
    },
    Key {
        path: "outbox.reserve",
        kind: Kind::Size {
            min: 16 * MIB,
            max: GIB,
        },
        need: Need::Default("64 MiB"),
        since: "0.1",
        doc: "Disk space that records may not use, so that freeing space always finds room to work in.",
    },
    Key {
        path: "outbox.alarm",
        kind: Kind::Time {
            min_ms: 1_000,
            max_ms: 30 * 24 * 3_600 * 1_000,
        },
        need: Need::Default("1h"),
        since: "0.1",
        doc: "A warning is logged while the outbox grows so fast that it will be full within this time.",
    },
    Key {
        path: "outbox.flush_every",
        kind: Kind::Time {
            min_ms: 1,
            max_ms: 1_000,
        },
        need: Need::Default("5ms"),
        since: "0.1",
        doc: "The longest time a record waits to be made durable together with others.",
    },
    Key {
        path: "outbox.cache",
        kind: Kind::Size {
            min: 4 * MIB,
            max: 16 * GIB,
        },
        need: Need::Default("32 MiB"),
        since: "0.1",
        doc: "Memory for the newest records of all streams, so that sending them does not read the disk.",
    },
    Key {
        path: "identity.certificate",
        kind: Kind::Path,
        need: Need::Optional,
        since: "0.1",
        doc: "This gateway's certificate chain, PEM. Required as soon as there is a `[[peer]]`.",
    },
    Key {
        path: "identity.key",
        kind: Kind::Path,
        need: Need::Optional,
        since: "0.1",
        doc: "The private key of the certificate, PEM (PKCS#8). `${credential:NAME}` is a file that the service manager \
              hands over.",
    },
    Key {
        path: "identity.ca",
        kind: Kind::Paths,
        need: Need::Optional,
        since: "0.1",
        doc: "The certificate authorities that peers are checked against, PEM. Name the old and the new one while \
              changing from one to the other.",
    },
    Key {
        path: "identity.trust_domain",
        kind: Kind::TrustDomain,
        need: Need::Default("culvert"),
        since: "0.1",
        doc: "The trust domain in the certificates' names: `spiffe://<trust domain>/<gateway>`.",
    },
    Key {
        path: "tunnel.listen",
        kind: Kind::Listen,
        need: Need::Default("127.0.0.1:7443"),
        since: "0.1",
        doc: "The UDP address of the tunnel. Nothing listens while there is no `[[peer]]`.",
    },
    Key {
        path: "tunnel.memory_per_peer",
        kind: Kind::Size {
            min: MIB,
            max: 4 * GIB,
        },
        need: Need::Default("64 MiB"),
        since: "0.1",
        doc: "The most memory that records in flight from or to one peer may take.",
    },
    Key {
        path: "tunnel.fallback",
        kind: Kind::Choice(&["none", "tcp"]),
        need: Need::Default("none"),
        since: "0.1",
        doc: "With `tcp` at both ends, a link goes over TLS on TCP, at the same address and port, while UDP does not pass.",
    },
    Key {
        path: "peer[].site",
        kind: Kind::Site,
        need: Need::Required,
        since: "0.1",
        doc: "The peer's site, as grants and `culvert.from` name it.",
    },
    Key {
        path: "peer[].gateways",
        kind: Kind::Gateways,
        need: Need::Required,
        since: "0.1",
        doc: "The names of the gateways that may speak for this site.",
    },
    Key {
        path: "peer[].address",
        kind: Kind::Endpoints,
        need: Need::Optional,
        since: "0.1",
        doc: "Where to dial this peer, tried in turn. Without it the peer dials us.",
    },
    Key {
        path: "grant[].to",
        kind: Kind::Site,
        need: Need::Required,
        since: "0.1",
        doc: "The site that may read.",
    },
    Key {
        path: "grant[].topics",
        kind: Kind::Topics,
        need: Need::Required,
        since: "0.1",
        doc: "What it may read: topics of this site, by name or with `*` and `?`.",
    },
    Key {
        path: "grant[].via",
        kind: Kind::Sites,
        need: Need::Default("[]"),
        since: "0.1",
        doc: "The sites that may relay for it.",
    },
    Key {
        path: "relay[].from",
        kind: Kind::Site,
        need: Need::Required,
        since: "0.1",
        doc: "The site whose streams this gateway carries on.",
    },
    Key {
        path: "relay[].to",
        kind: Kind::Site,
        need: Need::Required,
        since: "0.1",
        doc: "The site it carries them to.",
    },
    Key {
        path: "kafka.*",
        kind: Kind::Passed,
        need: Need::Optional,
        since: "0.1",
        doc: "The local Kafka cluster, in librdkafka's own names (`kafka.bootstrap.servers`). Kafka connectors start \
              from these; `kafka.…` in a connector overrides them. Secrets are references: `${file:PATH:KEY}`, \
              `${dir:PATH:NAME}`, `${credential:NAME}` or `${env:NAME}`.",
    },
    Key {
        path: "connectors.directory",
        kind: Kind::Path,
        need: Need::Default("connectors"),
        since: "0.1",
        doc: "Where the connectors' `*.json` are read from, at start.",
    },
    Key {
        path: "plugins.directory",
        kind: Kind::Path,
        need: Need::Default("plugins"),
        since: "0.1",
        doc: "Where plugins (`*.wasm`) are looked for, at start. One with the name of a bundled plugin takes its place.",
    },
    Key {
        path: "plugins.trusted_keys",
        kind: Kind::Paths,
        need: Need::Optional,
        since: "0.1",
        doc: "Public keys of those who sign plugins, PEM (Ed25519), as `culvert plugin keygen` makes them.",
    },
    Key {
        path: "plugins.require_signature",
        kind: Kind::Choice(&["false", "true"]),
        need: Need::Default("false"),
        since: "0.1",
        doc: "Whether a plugin of the directory that none of `plugins.trusted_keys` has signed is refused. Bundled ones are of the program.",
    },
    Key {
        path: "plugins.record_failures",
        kind: Kind::Count {
            max: crate::plugin::KEPT_MAX,
        },
        need: Need::Default("0"),
        since: "0.1",
        doc: "How many batches at which a stage's plugin failed are kept, the newest, in `failures` in the state directory, \
              for `culvert plugin replay`. They hold records.",
    },
    Key {
        path: "telemetry.listen",
        kind: Kind::Listen,
        need: Need::Default("127.0.0.1:9464"),
        since: "0.1",
        doc: "The TCP address of `/metrics`, `/healthz` and `/readyz`.",
    },
    Key {
        path: "telemetry.log_format",
        kind: Kind::Choice(&["text", "json"]),
        need: Need::Default("text"),
        since: "0.1",
        doc: "How log lines look on standard error.",
    },
    Key {
        path: "telemetry.log_level",
        kind: Kind::LogFilter,
        need: Need::Default("info"),
        since: "0.1",
        doc: "What is logged: a level (`error`, `warn`, `info`, `debug`, `trace`), or levels by room, such as \
              `info,culvert::link=debug`.",
    },
    Key {
        path: "control.socket",
        kind: Kind::Path,
        need: Need::Default("control.sock"),
        since: "0.1",
        doc: "The Unix socket that `culvert status` and `culvert prove` talk to; only the gateway's own user and root \
              may. A relative path is relative to the state directory.",
    },
];

/// The declaration of `path` (`peer[3].site` is declared as `peer[].site`).
pub(super) fn find(path: &str) -> Option<&'static Key> {
    let general = generalize(path);
    KEYS.iter().find(|key| match key.path.strip_suffix('*') {
        Some(open) => general.len() > open.len() && general.starts_with(open),
        None => key.path == general,
    })
}

/// `peer[3].site` → `peer[].site`.
fn generalize(path: &str) -> String {
    match (path.find('['), path.find(']')) {
        (Some(open), Some(close)) if open < close => format!("{}[]{}", &path[..open], &path[close + 1..]),
        _ => path.to_owned(),
    }
}

/// Whether keys begin with `section.`, so that a table of this name is known.
pub(super) fn is_section(section: &str) -> bool {
    let section = format!("{}.", generalize(section));
    KEYS.iter().any(|key| key.path.starts_with(&section))
}

/// What could have been meant by the unknown `path`: a key of the same table, or else any key or table.
pub(super) fn suggestion(path: &str) -> Option<String> {
    let general = generalize(path);
    let (table, name) = general.rsplit_once('.').unwrap_or(("", &general));
    let siblings = KEYS.iter().filter_map(|key| match key.path.rsplit_once('.') {
        Some((prefix, last)) => (prefix == table).then_some(last),
        None => table.is_empty().then_some(key.path),
    });
    let sections = KEYS.iter().filter_map(|key| {
        let section = key.path.split_once('.')?.0;
        table.is_empty().then(|| section.trim_end_matches("[]"))
    });
    if let Some(near) = super::mistake::nearest(name, siblings.chain(sections)) {
        let prefix = path
            .rsplit_once('.')
            .map_or(String::new(), |(prefix, _)| format!("{prefix}."));
        return Some(format!("{prefix}{near}"));
    }
    let last = |path: &'static str| path.rsplit('.').next().unwrap_or(path);
    KEYS.iter()
        .find(|key| last(key.path) == name)
        .map(|key| key.path.to_owned())
}

//! `docs/reference/config.md`, made from the tables that the program itself reads by.

use super::connector::{BuiltIn, COMMON, Honoured, PLUGIN_CLASS};
use super::keys::{KEYS, Key, Kind, Need};
use crate::units::{ByteSize, show_duration};
use std::fmt::Write;
use std::time::Duration;

/// The whole page. A test compares it with the file; `culvert config reference` prints it.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(HEAD);
    let mut section = None;
    for key in KEYS {
        let table = table(key.path);
        if section != Some(table) {
            let _ = write!(
                page,
                "\n## {}\n\n| Key | Value | Default | Since | |\n|---|---|---|---|---|\n",
                title(table)
            );
            section = Some(table);
        }
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {} |",
            key.path.rsplit_once('.').map_or(key.path, |(_, last)| last),
            value(key.kind),
            default(key),
            key.since,
            key.doc
        );
    }
    page.push_str(CONNECTORS);
    for class in BuiltIn::ALL {
        let _ = writeln!(
            page,
            "- `{}`, a {}",
            class.name(),
            if class.is_source() { "source" } else { "sink" }
        );
    }
    let _ = writeln!(
        page,
        "- a plugin's name, with `{PLUGIN_CLASS}` before it or without: a source or a sink, as the plugin is"
    );
    page.push_str("\n| Key | Honoured | |\n|---|---|---|\n");
    for common in COMMON {
        let honoured = match common.honoured {
            Honoured::Yes => "yes".to_owned(),
            Honoured::Only(values) => format!("only `{}`", values[0]),
            Honoured::No => "not in this version".to_owned(),
        };
        let _ = writeln!(page, "| `{}` | {honoured} | {} |", common.key, common.doc);
    }
    page
}

const HEAD: &str = "\
# Configuration reference

Made from the program's own tables by `culvert config reference`; do not edit.

A gateway reads `culvert.toml`: the file named with `--config`, or else `./culvert.toml`, or else
`/etc/culvert/culvert.toml`. Relative paths are relative to the file's directory. `culvert check` reports every mistake
at once, each with its place; `culvert config show` prints every value in force and where it comes from.

The environment overrides any key: `CULVERT_` and the key in capitals, with `__` for each dot, so that
`CULVERT_OUTBOX__QUOTA` is `outbox.quota` and `CULVERT_PEER__0__ADDRESS` is `address` of the first `[[peer]]`. A list is
written with commas between its items. A variable whose name has no `__` and is not nearly a key is left alone, since
container platforms set some of their own.

Sizes have units (`B`, `KB`, `MB`, `GB`, `TB`, `KiB`, `MiB`, `GiB`, `TiB`), and so have durations (`us`, `ms`, `s`, `min`, `h`, `d`).
";

const CONNECTORS: &str = "
## Connectors

Each `*.json` in the connectors' directory defines one connector, as `{\"name\": …, \"config\": {…}}` or as one flat map
with `name` in it. Values may hold references, `${file:PATH:KEY}`, `${dir:PATH:NAME}`, `${env:NAME}` and
`${credential:NAME}` (a file in `$CREDENTIALS_DIRECTORY`, as systemd hands over); what is shown
anywhere keeps the reference. The classes:

";

/// `outbox.quota` → `outbox`; `gateway` → nothing.
fn table(path: &'static str) -> &'static str {
    path.split_once('.').map_or("", |(table, _)| table)
}

fn title(table: &str) -> String {
    match (table, table.strip_suffix("[]")) {
        ("", _) => "Top level".into(),
        (_, Some(list)) => format!("`[[{list}]]`"),
        (table, None) => format!("`[{table}]`"),
    }
}

fn value(kind: Kind) -> String {
    match kind {
        Kind::Gateway => "name of a gateway".into(),
        Kind::Gateways => "list of gateways".into(),
        Kind::Site => "name of a site".into(),
        Kind::Sites => "list of sites".into(),
        Kind::TrustDomain => "DNS name".into(),
        Kind::Path => "path".into(),
        Kind::Paths => "path, or list of paths".into(),
        Kind::Size { min, max } => format!("size, {} to {}", ByteSize(min), ByteSize(max)),
        Kind::Count { max } => format!("number, 0 to {max}"),
        Kind::Time { min_ms, max_ms } => {
            let show = |ms| show_duration(Duration::from_millis(ms));
            format!("duration, {} to {}", show(min_ms), show(max_ms))
        }
        Kind::Listen => "IP address and port".into(),
        Kind::Endpoints => "`host:port`, or list of them".into(),
        Kind::Choice(words) => words
            .iter()
            .map(|word| format!("`{word}`"))
            .collect::<Vec<_>>()
            .join(" or "),
        Kind::Topics => "list of topics".into(),
        Kind::LogFilter => "log filter".into(),
        Kind::Passed => "any".into(),
    }
}

fn default(key: &Key) -> String {
    match key.need {
        Need::Required => "required".into(),
        Need::Optional => "".into(),
        Need::Default(text) => format!("`{text}`"),
    }
}

//! `culvert plugin inspect`: what a plugin says about itself and asks for, without running it.

use super::target::Component;
use crate::cli::table::Table;
use crate::cli::terminal::Tone;
use crate::cli::words::bytes;
use crate::cli::{Exit, Format, Session};
use crate::plugin::{
    Description, Digest, Examined, Field, FieldType, Importance, Promises, Validator, examine, signers,
};
use anyhow::Context;
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

/// The longest text of a cell, in characters.
const CELL_MAX: usize = 60;

/// Interfaces that every connector links; all others need a grant.
const FREE: [&str; 3] = ["log", "metrics", "clock"];

/// What is looked at.
#[derive(Debug, clap::Args)]
#[command(
    about = "Show what a plugin is, what it may be set to and what it asks for, without running it",
    after_help = "\
Nothing of the plugin is run: what is shown lies in its file. The digest names the very file;
imports are all that it can reach.

Examples:
  culvert plugin inspect order-check
  culvert plugin inspect ./order-check.wasm
  culvert plugin inspect order-check --output json | jq .description.fields

The exit code is 0 when it is a plugin, 1 when the file is none, 3 when there is no such plugin."
)]
pub(in crate::cli) struct Args {
    /// A component, a plugin's folder, or a name that `culvert plugin list` shows
    #[arg(value_name = "PLUGIN")]
    plugin: PathBuf,
}

/// All of it.
#[derive(Serialize)]
struct Inspected<'a> {
    from: &'a str,
    roles: Vec<&'static str>,
    contract: String,
    imports: Vec<Import<'a>>,
    bytes: usize,
    gzip_bytes: u64,
    sha256: String,
    /// Keys that have signed the file.
    signers: Vec<String>,
    /// What is wrong with its signatures.
    signature_problem: Option<String>,
    /// None where the file was not packed with one.
    description: Option<&'a Description>,
}

/// What it reaches.
#[derive(Serialize)]
struct Import<'a> {
    /// As the file spells it.
    interface: &'a str,
    /// The contract's short name.
    name: &'a str,
    needs_grant: bool,
    /// The plugin's own words.
    because: Option<&'a str>,
}

pub(super) fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let component = Component::find(&args.plugin, session)?;
    let examined = examine(&component.bytes).with_context(|| component.named.clone())?;
    let (signers, signature_problem) = match signers(&component.bytes) {
        Ok(signers) => (signers.iter().map(ToString::to_string).collect(), None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let inspected = Inspected {
        signers,
        signature_problem,
        from: &component.from,
        roles: examined.roles.iter().map(|role| role.interface()).collect(),
        contract: examined.contract.to_string(),
        imports: imports(&examined),
        bytes: examined.size,
        gzip_bytes: super::build::zipped(&component.bytes)?,
        sha256: Digest::of(&component.bytes).to_string(),
        description: examined.description.as_ref(),
    };
    match session.terminal.format() {
        Format::Json => session.terminal.json(&inspected)?,
        Format::Text => {
            let paint: Paint<'_> = &|text, tone| session.terminal.paint(text, tone);
            session.terminal.answer(text(&inspected, paint))?;
        }
    }
    Ok(Exit::Ok)
}

fn imports(examined: &Examined) -> Vec<Import<'_>> {
    let requests = || {
        examined
            .description
            .iter()
            .flat_map(|description| &description.capabilities)
    };
    examined
        .imports
        .iter()
        .map(|interface| {
            let name = short(interface);
            let request = requests().find(|request| request.what.word() == name);
            Import {
                interface,
                name,
                needs_grant: !FREE.contains(&name),
                because: request.map(|request| request.because.as_str()),
            }
        })
        .collect()
}

/// `log`, of `culvert:plugin/log@0.1.0`.
fn short(interface: &str) -> &str {
    let name = interface.split_once('/').map_or(interface, |(_, name)| name);
    name.split_once('@').map_or(name, |(name, _)| name)
}

type Paint<'a> = &'a dyn Fn(&str, Tone) -> String;

fn text(inspected: &Inspected<'_>, paint: Paint<'_>) -> String {
    let mut text = match inspected.description {
        Some(description) => {
            let name = paint(&description.name, Tone::Strong);
            format!("{name} {}: {}", description.version, description.summary)
        }
        None => "a plugin without a description in its file; `culvert plugin pack` puts it in".into(),
    };
    let mut row = |label: &str, value: String| {
        let _ = write!(text, "\n  {label:<8}  {value}");
    };
    row(
        "role",
        format!(
            "{}, of culvert:plugin {}",
            inspected.roles.join(", "),
            inspected.contract
        ),
    );
    row("from", inspected.from.to_owned());
    let (size, gzip) = (bytes(inspected.bytes as u64), bytes(inspected.gzip_bytes));
    row("size", format!("{size}, {gzip} as gzip"));
    row("sha256", inspected.sha256.clone());
    for signer in &inspected.signers {
        row("signed", format!("by {signer}"));
    }
    if let Some(problem) = &inspected.signature_problem {
        row("signed", format!("not as it is now: {problem}"));
    }
    if let Some(description) = inspected.description {
        row("promises", promises(&description.promises));
        row("looks at", needs(description));
        row("wishes", wishes(description));
    }
    for (number, import) in inspected.imports.iter().enumerate() {
        let grant = if import.needs_grant {
            "needs a grant"
        } else {
            "free"
        };
        let because = import
            .because
            .map_or(String::new(), |because| format!(": {because}"));
        let label = if number == 0 { "imports" } else { "" };
        row(label, format!("{}, {grant}{because}", import.name));
    }
    if inspected.imports.is_empty() {
        row("imports", "nothing".into());
    }
    if let Some(description) = inspected.description {
        let shown: Vec<&Field> = description
            .fields
            .iter()
            .filter(|field| !field.internal)
            .collect();
        text += &match shown.as_slice() {
            [] => "\n\nIt has no settings.".to_owned(),
            fields => format!("\n\n{}", table(fields)),
        };
    }
    text
}

fn promises(promises: &Promises) -> String {
    let all = [
        (promises.deterministic, "deterministic"),
        (promises.stateless, "stateless"),
        (promises.idempotent, "idempotent"),
        (promises.transactional, "transactional"),
        (promises.replayable, "replayable"),
    ];
    words(all)
}

fn needs(description: &Description) -> String {
    let needs = description.needs;
    words([
        (needs.key, "key"),
        (needs.value, "value"),
        (needs.headers, "headers"),
        (needs.timestamp, "timestamp"),
    ])
}

fn words<const N: usize>(all: [(bool, &str); N]) -> String {
    let words: Vec<&str> = all
        .into_iter()
        .filter(|(is, _)| *is)
        .map(|(_, word)| word)
        .collect();
    if words.is_empty() {
        "none".into()
    } else {
        words.join(", ")
    }
}

/// What it would like; what a connector's settings allow always wins.
fn wishes(description: &Description) -> String {
    let memory = description
        .memory_mb
        .map(|memory| format!("{memory} MiB of memory"));
    let time = description.batch_ms.map(|time| format!("{time} ms for a batch"));
    let wishes: Vec<String> = memory.into_iter().chain(time).collect();
    if wishes.is_empty() {
        "none".into()
    } else {
        wishes.join(", ")
    }
}

fn table(fields: &[&Field]) -> Table {
    let mut table = Table::new(
        &["KEY", "TYPE", "DEFAULT", "VALID", "IMPORTANCE", "WHAT IT IS"],
        &[],
    );
    for field in fields {
        let default = match &field.default_value {
            Some(_) if field.kind == FieldType::Password => "***".into(),
            Some(text) if text.is_empty() => "\"\"".into(),
            Some(text) => cell(text),
            None if field.is_required() => "required".into(),
            None => "-".into(),
        };
        let valid: Vec<String> = field.validators.iter().map(valid).collect();
        let mut about = field.documentation.lines().next().unwrap_or_default().to_owned();
        if let Some(instead) = &field.deprecated {
            about = format!("deprecated, {instead}: {about}");
        }
        let grants: Vec<&str> = field.grants().collect();
        if !grants.is_empty() {
            about = format!("grants {}: {about}", grants.join(", "));
        }
        table.row([
            field.name.clone(),
            kind(field.kind).into(),
            default,
            if valid.is_empty() {
                "-".into()
            } else {
                cell(&valid.join("; "))
            },
            importance(field.importance).into(),
            cell(&about),
        ]);
    }
    table
}

fn cell(text: &str) -> String {
    let text = text.replace(char::is_control, " ");
    if text.chars().count() <= CELL_MAX {
        return text;
    }
    let cut: String = text.chars().take(CELL_MAX - 1).collect();
    format!("{}…", cut.trim_end())
}

fn kind(kind: FieldType) -> &'static str {
    match kind {
        FieldType::Boolean => "boolean",
        FieldType::String => "string",
        FieldType::Int => "int",
        FieldType::Short => "short",
        FieldType::Long => "long",
        FieldType::Double => "double",
        FieldType::List => "list",
        FieldType::Class => "class",
        FieldType::Password => "password",
    }
}

fn importance(importance: Importance) -> &'static str {
    match importance {
        Importance::High => "high",
        Importance::Medium => "medium",
        Importance::Low => "low",
    }
}

fn valid(validator: &Validator) -> String {
    match validator {
        Validator::Range(Some(least), Some(most)) => format!("{least} to {most}"),
        Validator::Range(Some(least), None) => format!("{least} and above"),
        Validator::Range(None, Some(most)) => format!("up to {most}"),
        Validator::Range(None, None) => "any number".into(),
        Validator::OneOf(texts) => texts.join(", "),
        Validator::Pattern(pattern) => format!("matches {pattern}"),
        Validator::NonEmpty => "not empty".into(),
        Validator::Length(Some(least), Some(most)) => format!("{least} to {most} characters"),
        Validator::Length(Some(least), None) => format!("at least {least} characters"),
        Validator::Length(None, Some(most)) => format!("at most {most} characters"),
        Validator::Length(None, None) => "any length".into(),
        Validator::Url(schemes) if schemes.is_empty() => "an address".into(),
        Validator::Url(schemes) => format!("an address ({})", schemes.join(", ")),
        Validator::Duration => "a time, such as 5s".into(),
        Validator::Size => "a size, such as 64KiB".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn description() -> Description {
        let field = |name: &str,
                     kind: &str,
                     default: Option<&str>,
                     validators: serde_json::Value,
                     about: &str| {
            json!({
                "name": name, "kind": kind, "default-value": default, "validators": validators, "importance": "high",
                "documentation": about, "group": null, "order-in-group": 1, "width": "short", "display-name": name,
                "dependents": [], "internal": name == "hidden", "aliases": [], "deprecated": null, "example": null,
            })
        };
        let description = json!({
            "name": "mask", "version": "1.2.0", "summary": "Masks fields", "memory-mb": 32, "batch-ms": null,
            "capabilities": [{ "what": "http", "because": "asks for the names of fields" }],
            "needs": { "key": false, "value": true, "headers": true, "timestamp": false },
            "promises": { "deterministic": true, "stateless": false, "idempotent": false, "transactional": false, "replayable": false },
            "fields": [
                field("mode", "string", Some("a"), json!([{ "one-of": ["a", "b"] }]), "What is done.\nMore of it."),
                field("depth", "int", None, json!([{ "range": [1.0, null] }]), "How deep."),
                field("token", "password", Some("hunter2"), json!(["non-empty"]), "Who asks."),
                field("hidden", "string", Some(""), json!([]), "Not shown."),
            ],
        });
        serde_json::from_value(description).expect("as the host reads it")
    }

    #[test]
    fn what_is_shown_reads_well() {
        let description = description();
        let import = |interface, name, needs_grant, because| Import {
            interface,
            name,
            needs_grant,
            because,
        };
        let inspected = Inspected {
            from: "mask.wasm",
            roles: vec!["transform"],
            contract: "0.1.0".into(),
            imports: vec![
                import("culvert:plugin/log@0.1.0", "log", false, None),
                import(
                    "culvert:plugin/http@0.1.0",
                    "http",
                    true,
                    Some("asks for the names of fields"),
                ),
            ],
            bytes: 2_048,
            gzip_bytes: 1_000,
            sha256: "00ff".into(),
            signers: vec!["aa".into()],
            signature_problem: None,
            description: Some(&description),
        };
        let expected = "\
mask 1.2.0: Masks fields
  role      transform, of culvert:plugin 0.1.0
  from      mask.wasm
  size      2.0 KiB, 1000 B as gzip
  sha256    00ff
  signed    by aa
  promises  deterministic
  looks at  value, headers
  wishes    32 MiB of memory
  imports   log, free
            http, needs a grant: asks for the names of fields

KEY    TYPE      DEFAULT   VALID        IMPORTANCE  WHAT IT IS
mode   string    a         a, b         high        What is done.
depth  int       required  1 and above  high        How deep.
token  password  ***       not empty    high        Who asks.";
        let shown = text(&inspected, &|text, _| text.to_owned());
        assert_eq!(shown, expected, "\n{shown}\n");
        assert_eq!(short("culvert:plugin/log@0.1.0"), "log");
    }
}

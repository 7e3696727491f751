//! Misbehaves when a message tells it to, so that the gateway's tests can see what a broken plugin costs.
//!
//! Each message's value is a command; every other value is kept. It speaks the columns form of the contract through
//! plain bindings, because the SDK would not let it answer wrongly.
//!
//! | value | what it does |
//! | --- | --- |
//! | `keep` `drop` `replace` `rewrite` `expand` `reject` | what they say |
//! | `panic` `spin` `bomb` `recurse` | a trap, an endless loop, memory without end, stack without end |
//! | `short` `long` | one verdict too few, one too many |
//! | `verdict` | a verdict that the contract does not know |
//! | `ends` | the end of a value behind the bytes there are |
//! | `lost` | a verdict 1 without its value |
//! | `empty` | a verdict 4 without any message |
//! | `huge` | 1,000,001 verdicts |
//! | `flood` | values of 65 MiB: more than one call may return |
//! | `log` | 100,000 lines to the log |
//! | `retry` `retry-once` `fatal` | the whole call fails; `retry-once` only the first time |

#[allow(missing_docs, clippy::all, reason = "made from the contract")]
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package culvert:hostile;
            world hostile {
                include culvert:plugin/transform-columns-plugin@0.1.0;
                import culvert:plugin/log@0.1.0;
            }
        ",
        path: "../../wit/culvert-plugin",
        generate_all,
    });
}

use bindings::culvert::plugin::config::{Field, FieldType, Importance, Validator, Value, Verdict, Width};
use bindings::culvert::plugin::log;
use bindings::culvert::plugin::types::{Failure, Header, Message, Needs, Rejection, RetryLater, Routed};
use bindings::exports::culvert::plugin::meta::{self, Description, Promises};
use bindings::exports::culvert::plugin::transform_columns::{self, Columns, Results};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};

const KEEP: u8 = 0;
const VALUE: u8 = 1;
const DROP: u8 = 2;
const REJECT: u8 = 3;
const REWRITE: u8 = 4;

/// One more than any list of one answer may hold.
const TOO_MANY: usize = 1_000_001;

/// More than all that one call may return; seen only where an instance may hold more than twice as much memory.
const TOO_MUCH: usize = 65 << 20;

struct Hostile;

impl meta::Guest for Hostile {
    fn describe() -> Description {
        Description {
            name: "hostile".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: env!("CARGO_PKG_DESCRIPTION").to_owned(),
            documentation: String::new(),
            fields: vec![open_field()],
            capabilities: Vec::new(),
            needs: Needs::KEY | Needs::VALUE | Needs::HEADERS | Needs::TIMESTAMP,
            promises: Promises::empty(),
            memory_mb: None,
            batch_ms: None,
            extra: Vec::new(),
        }
    }

    fn validate(_: Vec<Value>) -> Vec<Verdict> {
        Vec::new()
    }
}

fn open_field() -> Field {
    let ways = ["ok", "panic", "spin", "fatal"];
    Field {
        name: "open".to_owned(),
        kind: FieldType::String,
        default_value: Some("ok".to_owned()),
        validators: vec![Validator::OneOf(ways.map(str::to_owned).to_vec())],
        importance: Importance::Low,
        documentation: "What happens when the plugin is opened".to_owned(),
        group: None,
        order_in_group: 1,
        width: Width::Short,
        display_name: "Open".to_owned(),
        dependents: Vec::new(),
        internal: false,
        aliases: Vec::new(),
        deprecated: None,
        example: None,
        extra: Vec::new(),
    }
}

impl transform_columns::Guest for Hostile {
    fn open(values: Vec<Value>) -> Result<(), Failure> {
        std::panic::set_hook(Box::new(|panic| {
            log::write(log::Level::Error, &panic.to_string(), None)
        }));
        let way = values.into_iter().find(|value| value.name == "open");
        match way.and_then(|way| way.value).as_deref() {
            Some("panic") => panic!("told to panic when opened"),
            Some("spin") => spin(),
            Some("fatal") => Err(Failure::Fatal("told to fail when opened".to_owned())),
            _ => Ok(()),
        }
    }

    fn process(batch: Columns) -> Result<Results, Failure> {
        let mut answer = Answer::default();
        for index in 0..batch.count as usize {
            obey(&mut answer, &batch, index)?;
        }
        Ok(answer.finished())
    }
}

/// What is answered.
#[derive(Default)]
struct Answer {
    verdicts: Vec<u8>,
    value_ends: Vec<u32>,
    values: Vec<u8>,
    rejections: Vec<Rejection>,
    rewritten: Vec<Vec<Routed>>,
    /// Verdicts for messages that were never asked about.
    surplus: usize,
}

impl Answer {
    fn value(&mut self, value: &[u8]) {
        self.values.extend_from_slice(value);
        self.value_ends.push(self.values.len() as u32);
        self.verdicts.push(VALUE);
    }

    fn rewrite(&mut self, messages: Vec<Routed>) {
        self.rewritten.push(messages);
        self.verdicts.push(REWRITE);
    }

    fn finished(mut self) -> Results {
        self.verdicts.resize(self.verdicts.len() + self.surplus, KEEP);
        Results {
            verdicts: self.verdicts,
            value_ends: self.value_ends,
            values: self.values,
            rejections: self.rejections,
            rewritten: self.rewritten,
        }
    }
}

fn obey(answer: &mut Answer, batch: &Columns, index: usize) -> Result<(), Failure> {
    let command = part(&batch.values, &batch.value_ends, index);
    match command {
        b"drop" => answer.verdicts.push(DROP),
        b"replace" => answer.value(b"replaced"),
        b"rewrite" => answer.rewrite(vec![written(
            Some(&format!("{}-elsewhere", batch.topic)),
            b"rewritten",
        )]),
        b"expand" => answer.rewrite(vec![
            written(None, b"first"),
            written(None, b"second"),
            written(None, b"third"),
        ]),
        b"reject" => {
            answer.verdicts.push(REJECT);
            answer.rejections.push(Rejection {
                code: "told-to".to_owned(),
                reason: "the message says so".to_owned(),
                field: Some("/".to_owned()),
            });
        }
        b"panic" => panic!("told to panic by message {index}"),
        b"spin" => spin(),
        b"bomb" => bomb(),
        b"recurse" => {
            black_box(recurse(index as u64));
            answer.verdicts.push(KEEP);
        }
        b"short" => {}
        b"long" => {
            answer.surplus += 1;
            answer.verdicts.push(KEEP);
        }
        b"verdict" => answer.verdicts.push(9),
        b"ends" => {
            answer.value(b"short");
            if let Some(end) = answer.value_ends.last_mut() {
                *end += 1_000;
            }
        }
        b"lost" => answer.verdicts.push(VALUE),
        b"empty" => answer.rewrite(Vec::new()),
        b"huge" => answer.surplus = TOO_MANY,
        b"flood" => answer.value(&vec![0; TOO_MUCH]),
        b"log" => {
            for line in 0..100_000 {
                log::write(log::Level::Info, &format!("line {line}"), Some(index as u32));
            }
            answer.verdicts.push(KEEP);
        }
        b"retry" => return Err(later()),
        b"retry-once" => {
            static ASKED: AtomicBool = AtomicBool::new(false);
            if !ASKED.swap(true, Ordering::Relaxed) {
                return Err(later());
            }
            answer.verdicts.push(KEEP);
        }
        b"fatal" => return Err(Failure::Fatal("told to fail".to_owned())),
        _ => answer.verdicts.push(KEEP),
    }
    Ok(())
}

/// Entry `index` of a column; empty where the column does not reach that far.
fn part<'a>(bytes: &'a [u8], ends: &[u32], index: usize) -> &'a [u8] {
    let end = |index: usize| ends.get(index).map(|end| *end as usize);
    let start = index.checked_sub(1).map_or(Some(0), end);
    start
        .zip(end(index))
        .and_then(|(start, end)| bytes.get(start..end))
        .unwrap_or_default()
}

fn written(topic: Option<&str>, value: &[u8]) -> Routed {
    Routed {
        topic: topic.map(str::to_owned),
        message: Message {
            key: Some(b"key".to_vec()),
            value: Some(value.to_vec()),
            headers: vec![Header {
                name: "by".to_owned(),
                value: Some(b"hostile".to_vec()),
            }],
            timestamp: Some(1),
        },
    }
}

fn later() -> Failure {
    Failure::Retry(RetryLater {
        reason: "told to be asked again".to_owned(),
        after_ms: Some(10),
    })
}

fn spin() -> ! {
    loop {
        black_box(0);
    }
}

fn bomb() -> ! {
    let mut held = Vec::new();
    loop {
        held.push(black_box(vec![1u8; 1 << 20]));
    }
}

/// Without end, and not as a loop: what follows the call keeps each frame.
#[allow(unconditional_recursion, reason = "on purpose")]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    recurse(depth + 1) + frame[(depth % 64) as usize]
}

#[cfg(target_family = "wasm")]
bindings::export!(Hostile with_types_in bindings);

#[cfg(test)]
mod tests;

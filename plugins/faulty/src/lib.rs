//! Promises to be deterministic and stateless, and is not, in the way that its setting names: what `culvert plugin test`
//! must find. Each fault is one that real plugins have.

use culvert_plugin::clock;
use culvert_plugin::prelude::*;
use std::collections::BTreeSet;

/// A day, in milliseconds.
const DAY_MS: i64 = 86_400_000;

/// What is wrong.
#[derive(Choice, Clone, Copy, PartialEq)]
enum Fault {
    /// Nothing.
    None,
    /// The time is in the answer.
    Clock,
    /// Only the day is in the answer: twice within a test it is the same.
    Calendar,
    /// The time is read once, when it is opened.
    OpenedAt,
    /// One message in a hundred is dropped by chance.
    Chance,
    /// Messages are numbered, from the opening on.
    Counter,
    /// From the 700th message on all are refused.
    Exhausted,
    /// A message that was seen before is dropped.
    Seen,
    /// A message with the key of the one before it is dropped.
    LastKey,
    /// Once a number with an exponent was seen, numbers are written in another way.
    FloatFormat,
    /// After a message that is no text, the next one is refused.
    AfterError,
    /// How many messages there are is in the answer.
    BatchSize,
    /// The first of a batch is treated in its own way.
    Position,
    /// The last message of a long batch is lost.
    LastOfLong,
    /// A message takes the key of the next one.
    Neighbour,
    /// A sum over the batch.
    RunningTotal,
    /// A tombstone is not thought of.
    PanicAtTombstone,
    /// What is no text ends the task.
    FatalAtBytes,
    /// An empty value is to be tried again.
    RetryAtEmpty,
    /// A byte order mark is waited for without end.
    SpinAtMark,
    /// It is not opened, and does not say why.
    SilentRefusal,
}

/// The settings.
#[derive(Config)]
struct Settings {
    /// What is wrong.
    #[config(default = "none")]
    fault: Fault,
}

/// The plugin.
struct Faulty {
    fault: Fault,
    opened_at: i64,
    count: u64,
    seen: BTreeSet<Vec<u8>>,
    last_key: Option<Vec<u8>>,
    has_state: bool,
}

impl Transform for Faulty {
    type Config = Settings;

    const ABOUT: About =
        culvert_plugin::about!().promises(Promises::DETERMINISTIC.union(Promises::STATELESS));

    fn open(settings: Settings) -> Result<Faulty, Failure> {
        if settings.fault == Fault::SilentRefusal {
            return Err(Failure::fatal(""));
        }
        Ok(Faulty {
            fault: settings.fault,
            opened_at: match settings.fault {
                Fault::OpenedAt => clock::now_ms(),
                _ => 0,
            },
            count: 0,
            seen: BTreeSet::new(),
            last_key: None,
            has_state: false,
        })
    }

    fn each(&mut self, message: Message<'_>) -> Answer {
        let value = message.value();
        let text = value.and_then(|value| std::str::from_utf8(value).ok());
        self.count += 1;
        match self.fault {
            Fault::Clock => marked(value, &clock::now_ms()),
            Fault::Calendar => marked(value, &(clock::now_ms() / DAY_MS)),
            Fault::OpenedAt => marked(value, &self.opened_at),
            Fault::Chance => dropped(clock::random(1).first().is_some_and(|byte| *byte < 3)),
            Fault::Counter => marked(value, &self.count),
            Fault::Exhausted if self.count >= 700 => Ok(Outcome::reject("exhausted", "too many")),
            Fault::Seen => dropped(!self.seen.insert(value.unwrap_or_default().to_vec())),
            Fault::LastKey => {
                let key = message.key().map(<[u8]>::to_vec);
                dropped(key.is_some() && std::mem::replace(&mut self.last_key, key.clone()) == key)
            }
            Fault::FloatFormat => {
                let number = text.and_then(|text| text.trim().parse::<f64>().ok());
                self.has_state |= text.is_some_and(|text| text.contains("e5") || text.contains("E+"));
                match number {
                    Some(number) if self.has_state => marked(None, &format!("{number:e}")),
                    Some(number) => marked(None, &number),
                    None => Ok(Outcome::Keep),
                }
            }
            Fault::AfterError => {
                match std::mem::replace(&mut self.has_state, value.is_some() && text.is_none()) {
                    true => Ok(Outcome::reject("after-error", "the one before it was no text")),
                    false => Ok(Outcome::Keep),
                }
            }
            Fault::PanicAtTombstone => marked(Some(value.expect("there is a value")), &""),
            Fault::SpinAtMark if value.is_some_and(|value| value.starts_with(b"\xef\xbb\xbf")) => loop {
                std::hint::black_box(0);
            },
            Fault::FatalAtBytes if value.is_some() && text.is_none() => Err(Failure::fatal("no text").into()),
            Fault::RetryAtEmpty if value == Some(b"") => Err(Failure::retry("empty").into()),
            _ => Ok(Outcome::Keep),
        }
    }

    fn batch(&mut self, batch: &Batch<'_>, outcomes: &mut Outcomes) -> Result<(), Failure> {
        let count = batch.len();
        let mut total = 0;
        for (index, message) in batch.messages().enumerate() {
            let value = message.value();
            total += value.map_or(0, <[u8]>::len);
            let answer = match self.fault {
                Fault::BatchSize => marked(value, &count),
                Fault::Position if index == 0 => Ok(Outcome::Drop),
                Fault::LastOfLong if count > 100 && index + 1 == count => Ok(Outcome::Drop),
                Fault::Neighbour => {
                    let next = batch.messages().nth(index + 1);
                    dropped(next.is_some_and(|next| next.key().is_some() && next.key() == message.key()))
                }
                Fault::RunningTotal => marked(value, &total),
                _ => self.each(message),
            };
            outcomes.answer(answer)?;
        }
        Ok(())
    }
}

/// The value, with something behind it.
fn marked(value: Option<&[u8]>, mark: &dyn ToString) -> Answer {
    let mark = mark.to_string();
    Ok(Outcome::Value(
        [value.unwrap_or_default(), mark.as_bytes()].concat(),
    ))
}

fn dropped(is_dropped: bool) -> Answer {
    Ok(if is_dropped { Outcome::Drop } else { Outcome::Keep })
}

culvert_plugin::export_transform!(Faulty);

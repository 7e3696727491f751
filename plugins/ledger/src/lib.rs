//! A source that counts from 0, spreads its numbers over some topics, and keeps in its store the sum of all numbers so far.
//! Each message holds its number and the sum: `{"number":3,"sum":6}`.
//!
//! The next number is in the resume point, and once more in the store. Where the two differ, records and state were not
//! kept as one: it says so, and ends. What `misbehave` names is done at the number `at`, behind what was put into the store.

use culvert_plugin::prelude::*;
use culvert_plugin::source::{Limits, Page, ResumePoint, Source};
use culvert_plugin::{Ask, Capability, NewMessage, clock, state};
use std::time::Duration;

/// What it does wrong.
#[derive(Choice, Clone, Copy, PartialEq)]
enum Fault {
    /// Nothing.
    None,
    /// Every instance panics, behind three pages.
    Panics,
    /// It does not come back.
    Spin,
    /// Once in a while the call fails, behind what it put into the store.
    Retry,
    /// A person is needed.
    Fatal,
    /// A page whose message has no resume point.
    Page,
    /// A topic that Kafka could not have.
    Topic,
    /// Behind a resume point, the first number is left out.
    Forgets,
    /// Behind a resume point, the first number comes twice.
    Doubles,
    /// Behind a resume point, the first page runs backwards.
    Reorders,
    /// Resume points lie one number behind their page's end.
    Ahead,
    /// The time is in every message.
    Clock,
    /// The sum is kept in memory alone.
    Memory,
    /// What is said to be durable is where it goes on, whatever it read since.
    Settles,
    /// It panics when it is asked about its settings.
    Check,
}

/// The settings.
#[derive(Config)]
struct Settings {
    /// Topics, which take turns.
    #[config(default = "ledger-0,ledger-1,ledger-2", example = "ledger-0,ledger-1")]
    topics: Vec<String>,
    /// How many numbers there are.
    #[config(default = "1000", example = "1000")]
    count: u32,
    /// How many numbers a page holds at most.
    #[config(default = "50", min = 1, max = 10000)]
    page: u32,
    /// How long to pause behind a page.
    #[config(default = "0ms")]
    pause: Duration,
    /// What goes wrong.
    #[config(default = "none")]
    misbehave: Fault,
    /// At which number.
    #[config(default = "0")]
    at: u32,
}

/// The plugin.
struct Ledger {
    settings: Settings,
    next: u64,
    polls: u32,
    /// It was opened behind a resume point.
    is_resumed: bool,
    /// The sum as it is known without the store.
    sum: u64,
}

impl Source for Ledger {
    type Config = Settings;

    const ABOUT: About = culvert_plugin::about!()
        .promises(Promises::REPLAYABLE)
        .asks(&[Ask {
            what: Capability::State,
            because: "keeps the sum",
        }]);

    fn open(settings: Settings, resume: Vec<ResumePoint>) -> Result<Ledger, Failure> {
        let next = match resume.first() {
            Some(point) => number(&point.offset).ok_or_else(|| Failure::fatal("no resume point of mine"))?,
            None => 0,
        };
        let stored = stored("next")?;
        if stored != next {
            return Err(Failure::fatal(format!(
                "the resume point says {next}, and the store {stored}: they were not kept as one"
            )));
        }
        let told = stored_told()?;
        if told > next {
            return Err(Failure::fatal(format!("{told} was durable, and now {next} is")));
        }
        Ok(Ledger {
            settings,
            next,
            polls: 0,
            is_resumed: !resume.is_empty(),
            sum: 0,
        })
    }

    fn poll(&mut self, limits: Limits) -> Result<Page, Failure> {
        let Settings {
            topics, count, page, ..
        } = &self.settings;
        let (first, last) = (self.next, u64::from(*count));
        let behind = last.min(first + u64::from((*page).min(limits.messages)));
        self.polls += 1;
        let mut made = Page::empty();
        if first == behind {
            return Ok(made.idle(Duration::from_millis(200)));
        }
        let mut sum = match self.settings.misbehave {
            Fault::Memory => self.sum,
            _ => stored("sum")?,
        };
        let point = behind + u64::from(self.settings.misbehave == Fault::Ahead);
        made.resume(r#"{"ledger":"main"}"#, format!(r#"{{"next":{point}}}"#));
        let mut numbers: Vec<(u64, u64)> = (first..behind)
            .map(|number| {
                sum += number;
                (number, sum)
            })
            .collect();
        self.disturb(&mut numbers);
        for (number, sum) in numbers {
            let topic = &topics[(number % topics.len() as u64) as usize];
            let value = match self.settings.misbehave {
                Fault::Clock => format!(r#"{{"number":{number},"sum":{sum},"at":{}}}"#, clock::now_ms()),
                _ => format!(r#"{{"number":{number},"sum":{sum}}}"#),
            };
            made.add(NewMessage::new(value).key(number.to_string()).topic(topic));
        }
        self.sum = sum;
        state::put(&[
            (b"sum", Some(sum.to_string().as_bytes())),
            (b"next", Some(point.to_string().as_bytes())),
        ])?;
        if first <= u64::from(self.settings.at) && u64::from(self.settings.at) < behind
            || self.settings.at == 0
        {
            self.misbehave(&mut made)?;
        }
        self.next = behind;
        let pause = self.settings.pause;
        Ok(if pause.is_zero() { made } else { made.idle(pause) })
    }

    fn check(settings: &Settings) -> Vec<Verdict> {
        assert!(settings.misbehave != Fault::Check, "told to panic");
        let is_behind = settings.count > 0 && settings.at >= settings.count;
        let verdict = || Verdict::error("at", format!("is no number below {}", settings.count));
        is_behind.then(verdict).into_iter().collect()
    }

    fn committed(&mut self, points: Vec<ResumePoint>) -> Result<(), Failure> {
        if let Some(told) = points.first().and_then(|point| number(&point.offset)) {
            let told = told.to_string();
            if self.settings.misbehave == Fault::Settles {
                state::put(&[(b"next", Some(told.as_bytes()))])?;
            }
            state::put(&[(b"told", Some(told.as_bytes()))])?;
        }
        Ok(())
    }
}

impl Ledger {
    /// What the first page behind a resume point makes of its numbers and sums.
    fn disturb(&self, numbers: &mut Vec<(u64, u64)>) {
        if !self.is_resumed || self.polls > 1 {
            return;
        }
        match self.settings.misbehave {
            Fault::Forgets => drop(numbers.remove(0)),
            Fault::Doubles => numbers.insert(0, numbers[0]),
            Fault::Reorders => numbers.reverse(),
            _ => {}
        }
    }

    fn misbehave(&mut self, page: &mut Page) -> Result<(), Failure> {
        match self.settings.misbehave {
            Fault::Panics if self.polls > 3 => panic!("told to panic at {}", self.next),
            Fault::Retry if self.polls % 3 == 0 => Err(Failure::retry("told to be asked again")),
            Fault::Spin => loop {
                std::hint::black_box(0);
            },
            Fault::Fatal => Err(Failure::fatal("told to end")),
            Fault::Page => {
                page.messages[0].resume = 7;
                Ok(())
            }
            Fault::Topic => {
                page.messages[0].topic = "no topic".to_owned();
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The only number in a text.
fn number(text: &str) -> Option<u64> {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn stored(key: &str) -> Result<u64, Failure> {
    let found = state::get(&[key.as_bytes()])?.pop().flatten();
    let text = found.map(String::from_utf8);
    Ok(text
        .and_then(Result::ok)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0))
}

fn stored_told() -> Result<u64, Failure> {
    stored("told")
}

culvert_plugin::export_source!(Ledger);

#[cfg(test)]
mod tests;

//! The attacks on one source, with one size of pages.

use super::reader::{Kept, Maker, Reader, Record, records};
use crate::plugin::testing::place::Place;
use crate::plugin::testing::subject::wild;
use culvert_host::{Cut, ResumePoint};
use std::path::PathBuf;

/// As many pages are read, and a source that brings nothing is asked so often.
const PAGES_MAX: usize = 10;
const EMPTY_MAX: usize = 3;

/// The most calls of one page at which it is cut off. By eye.
const CALLS_MAX: u64 = 60;

/// How the promise was broken.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) how: String,
    pub(super) steps: Vec<String>,
    pub(super) expected: String,
    pub(super) got: String,
    /// Read once from its beginning, it already does not do what every source must.
    pub(super) is_plain: bool,
}

/// What was to be and what was.
struct Fall {
    expected: String,
    got: String,
}

impl From<String> for Fall {
    fn from(got: String) -> Fall {
        Fall {
            expected: "the same records as before".into(),
            got,
        }
    }
}

/// Everything that one reading from the beginning brought.
#[derive(Default)]
struct Reading {
    records: Vec<Record>,
    /// What was kept before each page, and behind the last.
    before: Vec<Kept>,
    /// Nothing more came.
    is_all: bool,
}

/// A source at its place, and what was done to it.
pub(super) struct Trial<'a> {
    maker: Maker,
    place: &'a Place,
    files: &'a [(PathBuf, Vec<u8>)],
    size: usize,
    seed: u64,
    pub(super) attacks: u64,
    pub(super) records: u64,
}

impl<'a> Trial<'a> {
    pub(super) fn new(
        maker: Maker,
        place: &'a Place,
        files: &'a [(PathBuf, Vec<u8>)],
        size: usize,
        seed: u64,
    ) -> Trial<'a> {
        Trial {
            maker,
            place,
            files,
            size,
            seed,
            attacks: 0,
            records: 0,
        }
    }

    /// Whether it opens at all.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn opens(&self) -> Result<(), String> {
        self.fresh()?;
        self.maker.open(&mut Kept::default(), None).map(drop)
    }

    /// Everything that a replayable source must stand. How many records it brought.
    pub(super) fn replayable(&mut self) -> Result<usize, Broken> {
        let read = self.fresh().and_then(|()| self.reading());
        let reading = read.map_err(|got| Broken {
            how: "read from the beginning".into(),
            steps: Vec::new(),
            expected: "pages".into(),
            got,
            is_plain: true,
        })?;
        self.attacks += 1;
        self.records += reading.records.len() as u64;
        self.each_point(&reading)?;
        self.by_new_instances(&reading)?;
        self.at_another_time(&reading)?;
        self.in_other_pages(&reading)?;
        self.told_late(&reading)?;
        self.cut_off(&reading)?;
        Ok(reading.records.len())
    }

    /// From every resume point that it gave, while nothing was said to be durable beyond it.
    fn each_point(&mut self, reading: &Reading) -> Result<(), Broken> {
        for (page, kept) in reading.before.iter().enumerate() {
            let how = || format!("opened from the resume point before page {}", page + 1);
            self.attempt(reading, how, |trial| {
                let mut kept = kept.clone();
                let mut reader = trial.maker.open(&mut kept, None)?;
                trial.rest(&mut reader, kept, reading)
            })?;
        }
        Ok(())
    }

    /// A fresh instance for each page; and each page is read, lost, and read again.
    fn by_new_instances(&mut self, reading: &Reading) -> Result<(), Broken> {
        for loses in [false, true] {
            let how = || match loses {
                true => "each page was read, not kept, and read again by a fresh instance".to_owned(),
                false => "a fresh instance was opened for each page".to_owned(),
            };
            self.attempt(reading, how, |trial| {
                trial.fresh()?;
                let (mut kept, mut got) = (Kept::default(), Vec::new());
                for _ in 0..=reading.before.len() {
                    if loses {
                        trial.maker.open(&mut kept.clone(), None)?.page(trial.size)?;
                    }
                    let mut reader = trial.maker.open(&mut kept, None)?;
                    let page = reader.page(trial.size)?;
                    got.extend(records(&page));
                    reader.kept(&mut kept, &page);
                }
                compared(0, &got, reading, false)
            })?;
        }
        Ok(())
    }

    /// With a clock that goes back and forth.
    fn at_another_time(&mut self, reading: &Reading) -> Result<(), Broken> {
        let seed = self.seed;
        self.attempt(
            reading,
            || "read at another time".into(),
            |trial| {
                trial.fresh()?;
                let mut kept = Kept::default();
                let mut reader = trial.maker.at(wild(seed)).open(&mut kept, None)?;
                trial.rest(&mut reader, kept, reading)
            },
        )?;
        for (page, kept) in reading.before.iter().enumerate() {
            let how = || {
                format!(
                    "opened from the resume point before page {}, at another time",
                    page + 1
                )
            };
            self.attempt(reading, how, |trial| {
                // Points are of the place in which they were given.
                let (_first, mut at) = trial.read_up_to(kept.records)?;
                let mut reader = trial.maker.at(wild(seed)).open(&mut at, None)?;
                trial.rest(&mut reader, at, reading)
            })?;
        }
        Ok(())
    }

    /// Record by record, and as much as there is.
    fn in_other_pages(&mut self, reading: &Reading) -> Result<(), Broken> {
        for size in [1, 2, 10_000] {
            self.attempt(
                reading,
                || format!("read in pages of at most {size}"),
                |trial| {
                    trial.fresh()?;
                    let (mut kept, mut got) = (Kept::default(), Vec::new());
                    let (mut empty, mut pages) = (0, 0);
                    while got.len() < reading.records.len() && empty < EMPTY_MAX {
                        // A fresh instance now and then: resume points lie elsewhere now.
                        let mut reader = trial.maker.open(&mut kept, None)?;
                        for _ in 0..2 {
                            let page = reader.page(size)?;
                            empty = if page.records.is_empty() { empty + 1 } else { 0 };
                            got.extend(records(&page));
                            reader.kept(&mut kept, &page);
                        }
                        pages += 1;
                        if pages > reading.records.len() + PAGES_MAX {
                            break;
                        }
                    }
                    compared(0, &got, reading, false)
                },
            )?;
        }
        Ok(())
    }

    /// What is durable is told late, and twice; and a page that was read behind it is lost.
    fn told_late(&mut self, reading: &Reading) -> Result<(), Broken> {
        for (page, told) in reading.before.iter().enumerate().skip(1) {
            let how = || {
                format!(
                    "told late that all before page {} is durable, and opened anew",
                    page + 1
                )
            };
            self.attempt(reading, how, |trial| {
                let (mut reader, mut kept) = trial.read_up_to(told.records)?;
                let older: Vec<ResumePoint> = kept.points();
                // Another page is kept before that is told.
                let next = reader.page(trial.size)?;
                reader.kept(&mut kept, &next);
                reader.commit(&mut kept, &older)?;
                reader.commit(&mut kept, &older)?;
                let mut reader = trial.maker.open(&mut kept, None)?;
                trial.rest(&mut reader, kept, reading)
            })?;
            let how = || {
                format!(
                    "told that all before page {} is durable; the page behind it was read and lost",
                    page + 1
                )
            };
            self.attempt(reading, how, |trial| {
                let (mut reader, mut kept) = trial.read_up_to(told.records)?;
                let older: Vec<ResumePoint> = kept.points();
                reader.page(trial.size)?;
                reader.commit(&mut kept, &older)?;
                let mut reader = trial.maker.open(&mut kept, None)?;
                trial.rest(&mut reader, kept, reading)
            })?;
        }
        Ok(())
    }

    /// At each call to the outside of each page, the opening before it too.
    fn cut_off(&mut self, reading: &Reading) -> Result<(), Broken> {
        for (page, before) in reading.before.iter().enumerate() {
            for call in 0..CALLS_MAX {
                let cut = Cut::after(call);
                let how = || {
                    let at = cut.call().unwrap_or("no call");
                    format!(
                        "cut off at call {} of page {} ({at}), and opened anew",
                        call + 1,
                        page + 1
                    )
                };
                let is_through = self.attempt(reading, how, |trial| {
                    let (_reader, mut kept) = trial.read_up_to(before.records)?;
                    let during = trial.maker.open(&mut kept.clone(), Some(cut.clone()));
                    let read = during.and_then(|mut during| during.page(trial.size));
                    if cut.call().is_none() {
                        read?;
                        return Ok(true);
                    }
                    let mut after = trial.maker.open(&mut kept, None)?;
                    trial.rest(&mut after, kept, reading)?;
                    Ok(false)
                })?;
                if is_through {
                    break;
                }
            }
        }
        Ok(())
    }

    // ----- what attacks are made of ------------------------------------------------------------------------------------

    /// One attack; `how` it was made is asked for where it succeeds.
    fn attempt<T>(
        &mut self,
        reading: &Reading,
        how: impl FnOnce() -> String,
        act: impl FnOnce(&Self) -> Result<T, Fall>,
    ) -> Result<T, Broken> {
        self.attacks += 1;
        self.records += reading.records.len() as u64;
        act(self).map_err(|fall| Broken {
            how: how(),
            steps: self.steps(reading),
            expected: fall.expected,
            got: fall.got,
            is_plain: false,
        })
    }

    /// Where each page began, for a person.
    fn steps(&self, reading: &Reading) -> Vec<String> {
        let step = |(number, kept): (usize, &Kept)| {
            format!(
                "page {number}, of at most {}, began at record {}: {}",
                self.size,
                kept.records + 1,
                kept.shown()
            )
        };
        (1..).zip(&reading.before).map(step).collect()
    }

    /// The place as it was at first.
    fn fresh(&self) -> Result<(), String> {
        self.place.clear()?;
        for (path, bytes) in self.files {
            std::fs::write(path, bytes).map_err(|error| format!("write {}: {error}", path.display()))?;
        }
        Ok(())
    }

    /// All that there is, or as much as is looked at.
    fn reading(&self) -> Result<Reading, String> {
        let mut reading = Reading::default();
        let mut kept = Kept::default();
        let mut reader = self.maker.open(&mut kept, None)?;
        let mut empty = 0;
        reading.before.push(kept.clone());
        while reading.before.len() <= PAGES_MAX && empty < EMPTY_MAX {
            let page = reader.page(self.size)?;
            reader.kept(&mut kept, &page);
            if page.records.is_empty() {
                empty += 1;
                continue;
            }
            empty = 0;
            reading.records.extend(records(&page));
            reading.before.push(kept.clone());
        }
        reading.is_all = empty == EMPTY_MAX;
        Ok(reading)
    }

    /// Reads the place as it was at first, and keeps, until so many records were brought.
    fn read_up_to(&self, count: usize) -> Result<(Reader, Kept), Fall> {
        self.fresh()?;
        let mut kept = Kept::default();
        let mut reader = self.maker.open(&mut kept, None)?;
        let mut empty = 0;
        while kept.records < count && empty < EMPTY_MAX {
            let page = reader.page(self.size)?;
            empty = if page.records.is_empty() { empty + 1 } else { 0 };
            reader.kept(&mut kept, &page);
        }
        match kept.records == count {
            true => Ok((reader, kept)),
            false => Err(Fall {
                expected: format!("a page that ends behind record {count}, as before"),
                got: format!("it ends behind record {}", kept.records),
            }),
        }
    }

    /// What is left must be what came before.
    fn rest(&self, reader: &mut Reader, mut kept: Kept, reading: &Reading) -> Result<(), Fall> {
        let (first, mut got) = (kept.records, Vec::new());
        let mut empty = 0;
        while empty < EMPTY_MAX && (reading.is_all || first + got.len() < reading.records.len()) {
            let page = reader.page(self.size)?;
            empty = if page.records.is_empty() { empty + 1 } else { 0 };
            got.extend(records(&page));
            reader.kept(&mut kept, &page);
            if got.len() > reading.records.len() + self.size {
                break;
            }
        }
        compared(first, &got, reading, reading.is_all)
    }
}

/// Records from the one of number `first` on. With `to_the_end`, nothing may follow.
fn compared(first: usize, got: &[Record], reading: &Reading, to_the_end: bool) -> Result<(), Fall> {
    let wanted = reading.records.get(first..).unwrap_or_default();
    let same = wanted
        .iter()
        .zip(got)
        .take_while(|(wanted, got)| wanted == got)
        .count();
    let shown = |records: &[Record]| match records.get(same) {
        Some(record) => format!("record {}: {}", first + same + 1, record.shown()),
        None => format!("nothing behind record {}", first + same),
    };
    let is_longer = to_the_end && got.len() > wanted.len();
    if same == wanted.len() && !is_longer {
        return Ok(());
    }
    Err(Fall {
        expected: shown(wanted),
        got: shown(got),
    })
}

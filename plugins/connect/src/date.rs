//! Patterns of Java's `SimpleDateFormat`, in UTC and with English names, and the calendar they count in: Julian before
//! 15 October 1582, as `GregorianCalendar` has it. Weeks begin on Sunday, and week 1 holds 1 January (locale en-US).
//!
//! Parsing is lenient as in Java: a month 13 is January of the next year, and what stands behind the pattern's end is not
//! looked at.

use std::fmt::Write;

const DAY_MS: i64 = 86_400_000;

/// 15 October 1582, in days since 1970-01-01.
const CUTOVER: i64 = -141_427;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// A pattern, taken apart.
#[derive(Debug)]
pub(crate) struct Pattern {
    pub(crate) text: String,
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Literal(String),
    Field(char, usize),
}

impl Pattern {
    /// # Errors
    /// What is wrong with it, as a sentence's rest.
    pub(crate) fn parse(text: &str) -> Result<Pattern, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text.chars().peekable();
        while let Some(next) = rest.next() {
            match next {
                '\'' if rest.next_if_eq(&'\'').is_some() => literal.push('\''),
                '\'' => loop {
                    match rest.next() {
                        Some('\'') if rest.next_if_eq(&'\'').is_some() => literal.push('\''),
                        Some('\'') => break,
                        Some(quoted) => literal.push(quoted),
                        None => return Err("has a quote that does not end".to_owned()),
                    }
                },
                letter if letter.is_ascii_alphabetic() => {
                    if !"GyYMLwWDdFEuaHkKhmsSzZX".contains(letter) {
                        return Err(format!(
                            "has the letter {letter:?}, which means nothing in such a pattern"
                        ));
                    }
                    if !literal.is_empty() {
                        parts.push(Part::Literal(std::mem::take(&mut literal)));
                    }
                    let mut count = 1;
                    while rest.next_if_eq(&letter).is_some() {
                        count += 1;
                    }
                    if letter == 'X' && count > 3 {
                        return Err("has more than three X".to_owned());
                    }
                    if count > 100 {
                        return Err(format!("has {count} times {letter:?}"));
                    }
                    parts.push(Part::Field(letter, count));
                }
                other => literal.push(other),
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Pattern {
            text: text.to_owned(),
            parts,
        })
    }

    /// Milliseconds since 1970-01-01 UTC, written.
    pub(crate) fn format(&self, time: i64) -> String {
        let moment = Moment::of(time);
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => out.push_str(literal),
                Part::Field(letter, count) => moment.write(*letter, *count, &mut out),
            }
        }
        out
    }

    /// Milliseconds since 1970-01-01 UTC of a text; nothing where it does not fit.
    pub(crate) fn read(&self, text: &str) -> Option<i64> {
        let mut reading = Reading {
            rest: text,
            ..Reading::default()
        };
        for (at, part) in self.parts.iter().enumerate() {
            match part {
                Part::Literal(literal) => reading.literal(literal)?,
                Part::Field(letter, count) => {
                    // A number that another one touches has as many digits as letters.
                    let touches_next = matches!(self.parts.get(at + 1), Some(Part::Field(next, count)) if is_numeric(*next, *count));
                    let width = touches_next.then_some(*count);
                    reading.field(*letter, *count, width)?;
                }
            }
        }
        reading.time()
    }
}

fn is_numeric(letter: char, count: usize) -> bool {
    let is_word = "GEazZX".contains(letter) || ("ML".contains(letter) && count >= 3);
    !is_word
}

/// A moment's fields.
struct Moment {
    year: i64,
    month: i64,
    day: i64,
    /// Since 1970-01-01.
    days: i64,
    /// Within the day.
    ms: i64,
}

impl Moment {
    fn of(time: i64) -> Moment {
        let days = time.div_euclid(DAY_MS);
        let (year, month, day) = date_of(days);
        Moment {
            year,
            month,
            day,
            days,
            ms: time.rem_euclid(DAY_MS),
        }
    }

    fn write(&self, letter: char, count: usize, out: &mut String) {
        let hour = self.ms / 3_600_000;
        let number = |value: i64, out: &mut String| {
            let _ = write!(out, "{value:0count$}");
        };
        match letter {
            'G' => out.push_str(if self.year > 0 { "AD" } else { "BC" }),
            'y' => year(self.year_of_era(), count, out),
            'Y' => year(self.week().0, count, out),
            'M' | 'L' => match (count, MONTHS[(self.month - 1) as usize]) {
                (1 | 2, _) => number(self.month, out),
                (3, name) => out.push_str(&name[..3]),
                (_, name) => out.push_str(name),
            },
            'E' => match (count, WEEKDAYS[self.weekday() as usize]) {
                (1..=3, name) => out.push_str(&name[..3]),
                (_, name) => out.push_str(name),
            },
            'u' => number((self.weekday() + 6) % 7 + 1, out),
            'w' => number(self.week().1, out),
            'W' => number(
                (self.day - 1 + (self.weekday() - self.day + 1).rem_euclid(7)) / 7 + 1,
                out,
            ),
            'D' => number(self.day_of_year(), out),
            'd' => number(self.day, out),
            'F' => number((self.day - 1) / 7 + 1, out),
            'a' => out.push_str(if hour < 12 { "AM" } else { "PM" }),
            'H' => number(hour, out),
            'k' => number(if hour == 0 { 24 } else { hour }, out),
            'K' => number(hour % 12, out),
            'h' => number(if hour % 12 == 0 { 12 } else { hour % 12 }, out),
            'm' => number(self.ms / 60_000 % 60, out),
            's' => number(self.ms / 1_000 % 60, out),
            'S' => number(self.ms % 1_000, out),
            'z' if count >= 4 => out.push_str("Coordinated Universal Time"),
            'z' => out.push_str("UTC"),
            'Z' => out.push_str("+0000"),
            _ => out.push('Z'),
        }
    }

    fn year_of_era(&self) -> i64 {
        if self.year > 0 { self.year } else { 1 - self.year }
    }

    /// 0 is Sunday.
    fn weekday(&self) -> i64 {
        (self.days + 4).rem_euclid(7)
    }

    fn day_of_year(&self) -> i64 {
        self.days - days_of(self.year, 1, 1) + 1
    }

    /// The year that the week belongs to, and its number.
    fn week(&self) -> (i64, i64) {
        let saturday = self.days + 6 - self.weekday();
        let (year, _, _) = date_of(saturday);
        (year, (saturday - days_of(year, 1, 1)) / 7 + 1)
    }
}

/// Two letters write two digits; any other count the whole year.
fn year(year: i64, count: usize, out: &mut String) {
    let _ = match count {
        2 => write!(out, "{:02}", year % 100),
        _ => write!(out, "{year:0count$}"),
    };
}

/// What was read so far.
#[derive(Default)]
struct Reading<'a> {
    rest: &'a str,
    year: Option<i64>,
    is_before_christ: bool,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    hour: i64,
    hour_of_half: Option<i64>,
    is_afternoon: bool,
    minute: i64,
    second: i64,
    ms: i64,
    /// East of Greenwich.
    zone_minutes: i64,
}

impl Reading<'_> {
    fn literal(&mut self, literal: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(literal)?;
        Some(())
    }

    fn field(&mut self, letter: char, count: usize, width: Option<usize>) -> Option<()> {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
        match letter {
            'G' => self.is_before_christ = self.word(&["AD", "BC"])? == 1,
            'M' | 'L' if count >= 3 => {
                let full = self.word(&MONTHS);
                let short = || MONTHS.map(|name| &name[..3]);
                self.month = Some(full.or_else(|| self.word(&short()))? as i64 + 1);
            }
            'E' => {
                // A day of the week beside a date adds nothing, as in Java.
                let full = self.word(&WEEKDAYS);
                full.or_else(|| self.word(&WEEKDAYS.map(|name| &name[..3])))?;
            }
            'a' => self.is_afternoon = self.word(&["AM", "PM"])? == 1,
            'z' | 'Z' | 'X' => self.zone_minutes = self.zone(letter, count)?,
            'y' => self.year = Some(self.year(count, width)?),
            'M' | 'L' => self.month = Some(self.number(width)?),
            'd' => self.day = Some(self.number(width)?),
            'D' => self.day_of_year = Some(self.number(width)?),
            'H' => self.hour = self.number(width)?,
            'k' => self.hour = Some(self.number(width)?).filter(|hour| *hour != 24).unwrap_or(0),
            'K' => self.hour_of_half = Some(self.number(width)?),
            'h' => self.hour_of_half = Some(self.number(width)?).filter(|hour| *hour != 12).or(Some(0)),
            'm' => self.minute = self.number(width)?,
            's' => self.second = self.number(width)?,
            'S' => self.ms = self.number(width)?,
            'u' => drop(self.number(width)?),
            // Weeks are written, and not read.
            _ => return None,
        }
        Some(())
    }

    fn number(&mut self, width: Option<usize>) -> Option<i64> {
        let end = width.unwrap_or(usize::MAX).min(self.rest.len());
        let within = self.rest.get(..end)?;
        if width.is_some_and(|width| within.len() < width) {
            return None;
        }
        let unsigned = within.strip_prefix('-').unwrap_or(within);
        let digits = unsigned
            .find(|character: char| !character.is_ascii_digit())
            .unwrap_or(unsigned.len());
        let length = within.len() - unsigned.len() + digits;
        let number = within[..length].parse().ok()?;
        self.rest = &self.rest[length..];
        Some(number)
    }

    /// Two letters and two digits mean the century from 80 years ago to 20 years ahead; Java counts from its own start,
    /// these transformations from 2000.
    fn year(&mut self, count: usize, width: Option<usize>) -> Option<i64> {
        let before = self.rest.len();
        let year = self.number(width)?;
        let digits = before - self.rest.len();
        if count <= 2 && digits == 2 && year >= 0 {
            return Some(if year < 50 { 2000 + year } else { 1900 + year });
        }
        Some(year)
    }

    fn word(&mut self, words: &[&str]) -> Option<usize> {
        let begins = |word: &&str| {
            self.rest
                .get(..word.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(word))
        };
        let found = words.iter().position(begins)?;
        self.rest = &self.rest[words[found].len()..];
        Some(found)
    }

    /// Minutes east of Greenwich: `Z`, `+02`, `+0200` or `+02:00` by one, two or three X; `UTC`, `GMT`, `GMT+2:00` or
    /// `+0200` by `z` and `Z`.
    fn zone(&mut self, letter: char, count: usize) -> Option<i64> {
        if letter == 'X' {
            if self.word(&["Z"]).is_some() {
                return Some(0);
            }
            return self.offset(count > 1, count == 3);
        }
        match self.word(&["UTC", "GMT"]) {
            Some(1) if self.rest.starts_with(['+', '-']) => self.offset(true, true),
            Some(_) => Some(0),
            None => self.offset(true, false),
        }
    }

    fn offset(&mut self, with_minutes: bool, with_colon: bool) -> Option<i64> {
        let sign = match self.rest.as_bytes().first()? {
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        self.rest = &self.rest[1..];
        let hours = match with_colon {
            true => self.number(self.rest.find(':').filter(|length| *length <= 2)),
            false => self.number(Some(2)),
        };
        let hours = hours.filter(|hours| (0..24).contains(hours))?;
        if !with_minutes {
            return Some(sign * hours * 60);
        }
        if with_colon {
            self.literal(":")?;
        }
        let minutes = self.number(Some(2)).filter(|minutes| (0..60).contains(minutes))?;
        Some(sign * (hours * 60 + minutes))
    }

    fn time(&self) -> Option<i64> {
        let year = self.year.unwrap_or(1970);
        let year = if self.is_before_christ { 1 - year } else { year };
        let days = match self.day_of_year {
            Some(day) if self.month.is_none() => days_of(year, 1, 1).checked_add(day)? - 1,
            _ => {
                let months = self.month.unwrap_or(1).checked_sub(1)?;
                let year = year.checked_add(months.div_euclid(12))?;
                if !(-1_000_000..1_000_000).contains(&year) {
                    return None;
                }
                days_of(year, months.rem_euclid(12) + 1, 1).checked_add(self.day.unwrap_or(1))? - 1
            }
        };
        let hour = match self.hour_of_half {
            Some(hour) => hour.checked_add(if self.is_afternoon { 12 } else { 0 })?,
            None => self.hour,
        };
        let minutes = hour
            .checked_mul(60)?
            .checked_add(self.minute)?
            .checked_sub(self.zone_minutes)?;
        let seconds = minutes.checked_mul(60)?.checked_add(self.second)?;
        let within = seconds.checked_mul(1_000)?.checked_add(self.ms)?;
        days.checked_mul(DAY_MS)?.checked_add(within)
    }
}

/// Year (0 is 1 BC), month and day of a day since 1970-01-01.
fn date_of(days: i64) -> (i64, i64, i64) {
    // Years that begin in March put the leap day last (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let (year, day_of_year) = if days >= CUTOVER {
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day = shifted.rem_euclid(146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        (year + era * 400, day - (365 * year + year / 4 - year / 100))
    } else {
        let shifted = days + 719_470;
        let era = shifted.div_euclid(1_461);
        let day = shifted.rem_euclid(1_461);
        let year = (day - day / 1_460) / 365;
        (year + era * 4, day - 365 * year)
    };
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + i64::from(month <= 2), month, day)
}

/// The day since 1970-01-01 of a date.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let shifted_year = year - i64::from(month <= 2);
    let shifted_month = (month + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let julian = 365 * shifted_year + shifted_year.div_euclid(4) + day_of_year;
    let gregorian = julian - shifted_year.div_euclid(100) + shifted_year.div_euclid(400) - 719_468;
    if gregorian >= CUTOVER {
        gregorian
    } else {
        julian - 719_470
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_are_each_others_inverse() {
        for days in (-800_000..800_000)
            .step_by(17)
            .chain([CUTOVER - 1, CUTOVER, 0, -1])
        {
            let (year, month, day) = date_of(days);
            assert_eq!(days_of(year, month, day), days, "{year}-{month}-{day}");
        }
        assert_eq!(date_of(CUTOVER), (1582, 10, 15));
        assert_eq!(date_of(CUTOVER - 1), (1582, 10, 4));
        assert_eq!(date_of(0), (1970, 1, 1));
    }

    #[test]
    fn a_pattern_reads_what_it_writes() {
        let pattern =
            Pattern::parse("EEE, d MMM yyyy hh:mm:ss.SSS aXXX").unwrap_or_else(|why| panic!("{why}"));
        for time in [0, 1_700_000_000_123, -62_000_000_000_001] {
            assert_eq!(
                pattern.read(&pattern.format(time)),
                Some(time),
                "{}",
                pattern.format(time)
            );
        }
    }

    /// What `java.text.SimpleDateFormat` of Java 17 answers.
    #[test]
    fn texts_are_read_as_java_reads_them() {
        for (pattern, text, time) in [
            ("yyMMdd", "231114", Some(1_699_920_000_000)),
            ("yyMMdd", "991114", Some(942_537_600_000)),
            ("yy-MM-dd", "23-11-14", Some(1_699_920_000_000)),
            ("HHmm", "930", Some(334_800_000)),
            ("yyyyMMddHHmmss", "20231114221320", Some(1_700_000_000_000)),
            ("yyyyMMdd", "2023111", Some(1_698_796_800_000)),
            ("hh:mm a", "12:05 am", Some(300_000)),
            ("yyyy-MM-dd HH:mm", "2023-11-14T10:00", None),
            ("yyyy-MM-dd", "  2023-11-14", Some(1_699_920_000_000)),
            ("yyyy MM", "2023   5", Some(1_682_899_200_000)),
            (
                "yyyy-MM-dd'T'HH:mm:ss.SSSX",
                "2023-11-14T22:13:20.5+02:00",
                Some(1_699_992_800_005),
            ),
            (
                "yyyy-MM-dd'T'HH:mm:ssX",
                "2023-11-14T22:13:20+0230",
                Some(1_699_992_800_000),
            ),
            ("yyyy-MM-dd'T'HH:mm:ssXXX", "2023-11-14T22:13:20+0230", None),
            (
                "yyyy-MM-dd'T'HH:mm:ssXXX",
                "2023-11-14T22:13:20+02:30",
                Some(1_699_991_000_000),
            ),
            ("yyyy-MM-dd'T'HH:mm:ssXX", "2023-11-14T22:13:20+02:30", None),
            (
                "yyyy-MM-dd'T'HH:mm:ssZ",
                "2023-11-14T22:13:20+0230",
                Some(1_699_991_000_000),
            ),
            ("yyyy-MM-dd'T'HH:mm:ssZ", "2023-11-14T22:13:20+02:30", None),
            ("yyyy-MM-dd'T'HH:mm:ssZ", "2023-11-14T22:13:20Z", None),
            ("z", "UTC", Some(0)),
            ("z", "GMT+2:00", Some(-7_200_000)),
            ("yyyy", "-5", Some(-62_325_158_400_000)),
            ("yyyy-D", "2023-45", Some(1_676_332_800_000)),
            ("kk", "24", Some(0)),
            ("K a", "12 PM", Some(86_400_000)),
            ("d MMMM yyyy", "3 march 2024", Some(1_709_424_000_000)),
            ("d MMM yyyy", "3 March 2024", Some(1_709_424_000_000)),
            ("EEE d MMM yyyy", "Mon 3 Mar 2024", Some(1_709_424_000_000)),
            ("S", "1234", Some(1_234)),
            ("SSS", "5", Some(5)),
            ("ss.SSSSSS", "20.123456", Some(143_456)),
            ("yyyy-MM-dd", "2023-+1-14", None),
            ("y", "23", Some(1_672_531_200_000)),
            ("y", "2023", Some(1_672_531_200_000)),
            ("yyy", "23", Some(-61_441_545_600_000)),
            ("MMMM", "Mar", Some(5_097_600_000)),
        ] {
            let parsed = Pattern::parse(pattern).unwrap_or_else(|why| panic!("{pattern}: {why}"));
            assert_eq!(parsed.read(text), time, "{pattern:?} of {text:?}");
        }
    }

    #[test]
    fn a_pattern_that_means_nothing_is_refused() {
        for text in ["bad", "yyyy'", "XXXX"] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }
}

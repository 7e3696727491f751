//! Where reading stands in a file that grows, is cut and is rotated.

use culvert_plugin::files::{self, Entry, Error, Kind, Status};
use culvert_plugin::{Failure, info};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How much of a file's beginning tells it from another one that got its identity after it.
const HEAD_BYTES: u64 = 256;

/// The least that is read at once.
const READ_BYTES_MIN: u32 = 64 * 1024;

/// How often a folder is looked through until nothing was renamed meanwhile. By eye.
const LOOKS_MAX: usize = 10;

/// A resume point. Of `FileStreamSource` there is the position alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// All bytes before it were read.
    pub(crate) position: u64,
    /// Which file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) identity: String,
    /// The checksum of its first bytes: as many of them as there are before the position, at most 256.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) head: String,
}

/// Reads lines in their order, from the file itself and from what it was rotated to.
pub(crate) struct Follower {
    /// The file as it is configured.
    file: String,
    line_max: usize,
    /// The name that the file being read has now.
    name: String,
    /// Its first bytes, as many as count.
    head: Vec<u8>,
    place: Place,
    /// Whether `place` was compared with what lies on disk.
    is_placed: bool,
    has_moved: bool,
    /// What was read from the position on.
    buffer: Vec<u8>,
}

impl Follower {
    pub(crate) fn new(file: &str, place: Option<Place>, line_max: usize) -> Follower {
        Follower {
            file: file.to_owned(),
            line_max,
            name: file.to_owned(),
            head: Vec::new(),
            is_placed: place.is_none(),
            place: place.unwrap_or_default(),
            has_moved: false,
            buffer: Vec::new(),
        }
    }

    /// The place behind the lines that were given, if it is another than the last time.
    pub(crate) fn moved(&mut self) -> Option<Place> {
        std::mem::take(&mut self.has_moved).then(|| Place {
            head: checksum(&self.head),
            ..self.place.clone()
        })
    }

    /// Lines that follow, without their ends: at most so many, and about so many bytes. None where nothing is new.
    pub(crate) fn lines(&mut self, most: usize, bytes: u32) -> Result<Vec<Vec<u8>>, Failure> {
        if !self.is_placed {
            self.find_place()?;
            self.is_placed = true;
        }
        loop {
            let lines = self.take_lines(most);
            if !lines.is_empty() {
                return Ok(lines);
            }
            if self.read_more(bytes)? {
                continue;
            }
            match self.next_file(bytes)? {
                Some(last) if !last.is_empty() => return Ok(vec![last]),
                Some(_) => {}
                None => return Ok(Vec::new()),
            }
        }
    }

    /// Reads on. Whether there was something.
    fn read_more(&mut self, bytes: u32) -> Result<bool, Failure> {
        if self.buffer.len() > self.line_max {
            return Err(Failure::fatal(format!(
                "{}: the line at byte {} is longer than {} bytes; raise line.max",
                self.name, self.place.position, self.line_max
            )));
        }
        let offset = self.place.position + self.buffer.len() as u64;
        let length = bytes.clamp(READ_BYTES_MIN, files::READ_MAX);
        let piece = match files::read(&self.name, offset, length) {
            Ok(piece) => piece,
            Err(Error::Missing) if self.place.identity.is_empty() => return Ok(false),
            Err(Error::Missing) => return self.follow_rename(),
            Err(error) => return Err(error.into()),
        };
        if self.place.identity.is_empty() {
            self.place.identity.clone_from(&piece.status.identity);
        }
        if piece.status.identity != self.place.identity {
            // Its name went to another file.
            return self.follow_rename();
        }
        let is_same = match piece.status.size < offset {
            true => Some(false),
            false => self.is_same_head()?,
        };
        match is_same {
            Some(true) => {}
            Some(false) => {
                info!("{} was cut: it is read from its beginning", self.name);
                self.begin(&piece.status);
                return Ok(true);
            }
            None => return self.follow_rename(),
        }
        self.buffer.extend_from_slice(&piece.bytes);
        Ok(!piece.bytes.is_empty())
    }

    fn take_lines(&mut self, most: usize) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        let mut taken = 0;
        while lines.len() < most {
            let Some(end) = self.buffer[taken..].iter().position(|byte| *byte == b'\n') else {
                break;
            };
            lines.push(without_return(&self.buffer[taken..taken + end]).to_vec());
            taken += end + 1;
        }
        self.pass(taken);
        lines
    }

    /// So many bytes of the buffer were read for good.
    fn pass(&mut self, taken: usize) {
        if taken == 0 {
            return;
        }
        let wanted = HEAD_BYTES.saturating_sub(self.place.position);
        let wanted = usize::try_from(wanted).unwrap_or(0).min(taken);
        self.head.extend_from_slice(&self.buffer[..wanted]);
        self.place.position += taken as u64;
        self.buffer.drain(..taken);
        self.has_moved = true;
    }

    /// Whether the file still begins as it did: one that was cut and has grown again past the place does not. None where its
    /// name is no longer its own.
    fn is_same_head(&self) -> Result<Option<bool>, Failure> {
        if self.head.is_empty() {
            return Ok(Some(true));
        }
        let head = self.head_of(&self.name, &self.place.identity, self.head.len() as u64)?;
        Ok(head.map(|head| head == self.head))
    }

    /// How a file begins; none where the name went to another one, or to none, since it was looked at.
    fn head_of(&self, name: &str, identity: &str, length: u64) -> Result<Option<Vec<u8>>, Failure> {
        match files::read(name, 0, length.min(HEAD_BYTES) as u32) {
            Ok(piece) => Ok((piece.status.identity == identity).then_some(piece.bytes)),
            Err(Error::Missing) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn begin(&mut self, status: &Status) {
        self.place = Place {
            identity: status.identity.clone(),
            ..Place::default()
        };
        self.head.clear();
        self.buffer.clear();
        self.has_moved = true;
    }

    // ----- rotation ---------------------------------------------------------------------------------------------

    /// Finds the file that the resume point is of, whatever it is called by now.
    fn find_place(&mut self) -> Result<(), Failure> {
        let family = self.family()?;
        let found = if self.place.identity.is_empty() {
            family.iter().find(|(path, _)| *path == self.file)
        } else {
            family
                .iter()
                .find(|(_, status)| status.identity == self.place.identity)
        };
        let (path, status) = match found {
            Some(found) => found,
            None if family.is_empty() => return Ok(()),
            None => {
                info!(
                    "the file that was read last is gone: {} is read from its beginning",
                    self.file
                );
                self.place = Place::default();
                self.has_moved = true;
                return Ok(());
            }
        };
        let head = self.head_of(path, &status.identity, self.place.position)?;
        self.head = head.ok_or_else(|| Failure::retry(format!("{path} was renamed this moment")))?;
        self.name.clone_from(path);
        self.place.identity.clone_from(&status.identity);
        let is_same = self.place.head.is_empty() || checksum(&self.head) == self.place.head;
        if status.size < self.place.position || !is_same {
            info!("{path} is not what it was: it is read from its beginning");
            self.begin(status);
        }
        Ok(())
    }

    /// The file being read was given another name. Whether it was found.
    fn follow_rename(&mut self) -> Result<bool, Failure> {
        let family = self.family()?;
        match family
            .iter()
            .find(|(_, status)| status.identity == self.place.identity)
        {
            Some((path, _)) => self.name.clone_from(path),
            None => {
                info!(
                    "{} is gone before it was known to be read to its end; {} is read from its beginning",
                    self.name, self.file
                );
                self.name.clone_from(&self.file);
                self.place = Place::default();
                self.head.clear();
                self.buffer.clear();
                self.has_moved = true;
            }
        }
        Ok(true)
    }

    /// Goes on to the file after the one that was rotated away, once there is something in it: until then the writer may
    /// still be at the old one. Answers the last line of the old one, which will get no end any more; an empty one where
    /// there is more to be read first.
    fn next_file(&mut self, bytes: u32) -> Result<Option<Vec<u8>>, Failure> {
        if self.name == self.file {
            return Ok(None);
        }
        let family = self.family()?;
        let mut behind = family
            .iter()
            .skip_while(|(_, status)| status.identity != self.place.identity);
        behind.next();
        let Some((path, status)) = behind.find(|(_, status)| status.size > 0) else {
            return Ok(None);
        };
        // The old one was at its end before this one was looked at, and may have grown in between. Now it grows no more.
        if self.read_more(bytes)? {
            return Ok(Some(Vec::new()));
        }
        let last = without_return(&self.buffer).to_vec();
        self.begin(status);
        self.name.clone_from(path);
        Ok(Some(last))
    }

    /// The file and those it was rotated to, the oldest first. Files that are renamed while a folder is listed may be missing
    /// in the list, or be in it twice: only two lists that say the same are believed.
    fn family(&self) -> Result<Vec<(String, Status)>, Failure> {
        let mut before = self.listed()?;
        for _ in 0..LOOKS_MAX {
            let now = self.listed()?;
            let same = |(one, other): (&(String, Status), &(String, Status))| {
                one.0 == other.0 && one.1.identity == other.1.identity
            };
            if before.len() == now.len() && before.iter().zip(&now).all(same) {
                return Ok(now);
            }
            before = now;
        }
        Err(Failure::retry("files are renamed faster than they can be listed"))
    }

    fn listed(&self) -> Result<Vec<(String, Status)>, Failure> {
        let (folder, name) = match self.file.rsplit_once('/') {
            Some(("", name)) => ("/", name),
            Some((folder, name)) => (folder, name),
            None => (".", self.file.as_str()),
        };
        let mut found: Vec<(Age, String, Status)> = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let entries = match files::list(folder, after.as_deref()) {
                Ok(entries) => entries,
                Err(Error::Missing) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let Some(last) = entries.last() else { break };
            after = Some(last.name.clone());
            for Entry { name: other, status } in entries {
                if status.kind == Kind::File
                    && let Some(age) = age(name, &other, &status)
                {
                    let path = self.file[..self.file.len() - name.len()].to_owned() + &other;
                    found.push((age, path, status));
                }
            }
        }
        found.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        Ok(found
            .into_iter()
            .map(|(_, path, status)| (path, status))
            .collect())
    }
}

/// The order of a family: by their last change, then by the number they were rotated to (`.2` before `.1`), the file itself
/// last.
type Age = (bool, i64, std::cmp::Reverse<u64>, String);

/// Only what rotation appends counts: `app.log.1`, `app.log-20260301`, and not `app.log.gz`.
fn age(name: &str, other: &str, status: &Status) -> Option<Age> {
    let rest = other.strip_prefix(name)?;
    let is_itself = rest.is_empty();
    let is_rotated = rest.len() > 1
        && rest.starts_with(['.', '-', '_'])
        && rest
            .bytes()
            .skip(1)
            .all(|byte| byte.is_ascii_digit() || b".-_:T".contains(&byte));
    (is_itself || is_rotated).then(|| {
        let number = rest.get(1..).and_then(|rest| rest.parse().ok()).unwrap_or(0);
        (
            is_itself,
            status.modified_ms,
            std::cmp::Reverse(number),
            other.to_owned(),
        )
    })
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// 64 bits of the SHA-256.
fn checksum(head: &[u8]) -> String {
    let digest = Sha256::digest(head);
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

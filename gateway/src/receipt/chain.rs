//! The newest receipt of each stream of each route, where the sink's gateway keeps it.
//!
//! ```text
//! <state>/receipts/<hash of route, stream and lineage>.json     a document with one receipt, mode 0600
//! ```
//!
//! At most [`RECEIPTS_MAX`] files; the one that was written longest ago makes room, and its chain ends there. A file is
//! written beside its place, synced, then renamed.

use super::{RECEIPTS_MAX, Receipt, Refusal, Verified, check, read, write};
use culvert_proto::hex::hex;
use ring::digest::{SHA256, digest};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Why the newest receipt is not known, or not kept.
#[derive(Debug, thiserror::Error)]
pub enum Unkept {
    /// The disk.
    #[error("[CULVERT-F068] {act} {}: {cause}", path.display())]
    Disk {
        /// What was tried.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system answered.
        cause: io::Error,
    },
    /// The file holds something else.
    #[error(
        "[CULVERT-F068] {} does not hold the newest receipt: {cause}; put the right one there, or move it away and the chain \
         begins anew",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
}

/// The newest links.
#[derive(Clone, Debug)]
pub struct Chain(PathBuf);

impl Chain {
    /// In `folder`, which is made when the first receipt is kept.
    #[must_use]
    pub fn new(folder: PathBuf) -> Chain {
        Chain(folder)
    }

    /// Where the newest receipt of a stream of a route lies, or would lie.
    #[must_use]
    pub fn place(&self, route: &str, stream: &str, lineage: &str) -> PathBuf {
        // Names hold no control characters.
        let key = [route, stream, lineage].join("\n");
        let name = digest(&SHA256, key.as_bytes());
        self.0.join(format!("{}.json", hex(&name.as_ref()[..16])))
    }

    /// The newest receipt of a stream of a route; none begins a chain.
    ///
    /// # Errors
    /// [`Unkept`], also when the file holds the receipt of another stream or was changed.
    pub fn newest(&self, route: &str, stream: &str, lineage: &str) -> Result<Option<Verified>, Unkept> {
        let path = self.place(route, stream, lineage);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => {
                let act = "read";
                return Err(Unkept::Disk { act, path, cause });
            }
        };
        let found = read(&bytes).and_then(|receipts| match receipts.as_slice() {
            [one] => check(one, None),
            more => Err(Refusal::Format(format!("{} receipts are there", more.len()))),
        });
        match found {
            Ok(found) if found.key() == (route, stream, lineage) => Ok(Some(found)),
            Ok(other) => Err(Unkept::Damaged {
                path,
                cause: format!(
                    "it is of stream {} of route {}",
                    other.sink.stream, other.sink.route
                ),
            }),
            Err(refusal) => Err(Unkept::Damaged {
                path,
                cause: refusal.to_string(),
            }),
        }
    }

    /// Keeps a receipt as the newest of its stream of its route. It is on disk when this returns.
    ///
    /// # Errors
    /// [`Unkept`].
    pub fn put(&self, receipt: &Receipt, verified: &Verified) -> Result<(), Unkept> {
        let (route, stream, lineage) = verified.key();
        let path = self.place(route, stream, lineage);
        let text = write(std::slice::from_ref(receipt)).map_err(|refusal| Unkept::Damaged {
            path: path.clone(),
            cause: refusal.to_string(),
        })?;
        let failed = |act| {
            let path = path.clone();
            move |cause| Unkept::Disk { act, path, cause }
        };
        fs::create_dir_all(&self.0).map_err(failed("make the folder of"))?;
        if !path.exists() {
            make_room(&self.0, RECEIPTS_MAX - 1).map_err(failed("make room for"))?;
        }
        replace(&self.0, &path, text.as_bytes()).map_err(failed("write"))
    }
}

fn replace(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    fs::File::open(folder)?.sync_all()
}

/// Removes what was written longest ago until `most` are left.
fn make_room(folder: &Path, most: usize) -> io::Result<()> {
    let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        files.push((entry.metadata()?.modified()?, entry.path()));
    }
    files.sort();
    let surplus = files.len().saturating_sub(most);
    files[..surplus]
        .iter()
        .try_for_each(|(_, path)| fs::remove_file(path))
}

#[cfg(test)]
mod tests {
    use super::super::tests::Ends;
    use super::*;

    #[test]
    fn the_newest_receipt_is_kept_and_another_is_not_taken_for_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let chain = Chain::new(folder.path().join("receipts"));
        let ends = Ends::new();
        let receipt = ends.receipt(|_| {});
        let verified = check(&receipt, None).expect("it holds");
        let (route, stream, lineage) = verified.key();
        assert_eq!(chain.newest(route, stream, lineage).expect("nothing there"), None);
        chain.put(&receipt, &verified).expect("it is kept");
        chain.put(&receipt, &verified).expect("it is kept again");
        let newest = chain.newest(route, stream, lineage).expect("it is read");
        assert_eq!(newest.as_ref(), Some(&verified));

        let place = chain.place(route, stream, lineage);
        let bytes = fs::read(&place).expect("it is there");
        let other = chain.place(route, "site1/other/0", lineage);
        fs::write(&other, &bytes).expect("a file");
        let error = chain
            .newest(route, "site1/other/0", lineage)
            .expect_err("another stream");
        assert!(
            error.to_string().contains("it is of stream site1/orders/0"),
            "{error}"
        );
        fs::write(&place, &bytes[1..]).expect("a file");
        let error = chain.newest(route, stream, lineage).expect_err("damaged");
        assert!(error.to_string().starts_with("[CULVERT-F068]"), "{error}");
    }

    #[test]
    fn what_was_written_longest_ago_makes_room() {
        let folder = tempfile::tempdir().expect("a folder");
        for (number, age) in [(0u64, 30), (1, 50), (2, 10), (3, 40)] {
            let path = folder.path().join(format!("{number}.json"));
            let file = fs::File::create(&path).expect("a file");
            let then = SystemTime::now() - std::time::Duration::from_secs(age);
            file.set_modified(then).expect("a time");
        }
        make_room(folder.path(), 2).expect("room");
        let mut left: Vec<_> = fs::read_dir(folder.path())
            .expect("the folder")
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("a name")
            })
            .collect();
        left.sort();
        assert_eq!(left, ["0.json", "2.json"]);
    }
}

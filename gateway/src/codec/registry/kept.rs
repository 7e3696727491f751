//! What was seen of a registry, on disk: for when it is away. Files that cannot be read or written are left out; the
//! registry is asked again.
//!
//! ```text
//! <directory>/<registry>/id-<number>            a schema, as it crosses the border
//! <directory>/<registry>/of-<subject, content>  the number of a schema under a subject, in digits
//! ```

use culvert_proto::checksum::crc32c;
use culvert_proto::hex::hex;
use culvert_proto::schema::{Part, Schema};
use ring::digest::{SHA256, digest};
use std::fs;
use std::path::{Path, PathBuf};

/// What is kept of one registry.
pub(super) struct Kept {
    directory: PathBuf,
}

impl Kept {
    /// A registry is known by its addresses.
    pub(super) fn of(directory: &Path, urls: &[String]) -> Kept {
        let mut urls: Vec<&str> = urls.iter().map(|url| url.trim_end_matches('/')).collect();
        urls.sort_unstable();
        let name = hex(&digest(&SHA256, urls.join("\n").as_bytes()).as_ref()[..8]);
        Kept {
            directory: directory.join(name),
        }
    }

    pub(super) fn schema(&self, id: u32) -> Option<Schema> {
        let bytes = self.read(&format!("id-{id}"))?;
        Schema::decode(&bytes).ok().filter(|schema| schema.id == id)
    }

    pub(super) fn put_schema(&self, schema: &Schema) {
        if let Ok(bytes) = schema.encode() {
            self.write(&format!("id-{}", schema.id), bytes);
        }
    }

    pub(super) fn id(&self, subject: &str, content: &[u8; 32]) -> Option<u32> {
        let text = String::from_utf8(self.read(&name_of(subject, content))?).ok()?;
        text.parse().ok()
    }

    pub(super) fn put_id(&self, subject: &str, content: &[u8; 32], id: u32) {
        self.write(&name_of(subject, content), id.to_string().into_bytes());
    }

    /// A file's bytes, without the checksum at their end.
    fn read(&self, name: &str) -> Option<Vec<u8>> {
        let mut bytes = fs::read(self.directory.join(name)).ok()?;
        let (rest, sum) = bytes.split_last_chunk::<4>()?;
        let length = rest.len();
        (crc32c(rest) == u32::from_be_bytes(*sum)).then(|| bytes.truncate(length))?;
        Some(bytes)
    }

    fn write(&self, name: &str, mut bytes: Vec<u8>) {
        let sum = crc32c(&bytes);
        bytes.extend_from_slice(&sum.to_be_bytes());
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(&self.directory)?;
            let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
            std::io::Write::write_all(&mut file, &bytes)?;
            file.persist(self.directory.join(name))?;
            Ok(())
        };
        if let Err(error) = write() {
            let path = self.directory.display();
            tracing::info!(%path, %error, "schema not kept on disk");
        }
    }
}

/// What a schema says, whatever its number and its place in its registry.
pub(super) fn content(schema: &Schema) -> [u8; 32] {
    let mut plain = Schema {
        id: 0,
        part: Part::Value,
        ..schema.clone()
    };
    if let Some(root) = plain.pieces.last_mut() {
        root.subject.clear();
        root.version = 0;
    }
    sha256(&plain.encode().unwrap_or_default())
}

fn name_of(subject: &str, content: &[u8; 32]) -> String {
    let name = sha256(&[subject.as_bytes(), b"\0", content].concat());
    format!("of-{}", hex(&name))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest(&SHA256, bytes).as_ref());
    sum
}

//! Which files a plugin may read and write.

use std::fmt;
use std::path::{Path, PathBuf};

/// What may be done with files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Look, list and read.
    Read,
    /// Also make, change and remove.
    Write,
}

/// A folder with all below it (`read /dir`), or the files of a folder whose names begin alike (`write /dir/name*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderGrant {
    use_of: Use,
    /// As the plugin spells it.
    spelled: PathBuf,
    /// Where it is.
    folder: PathBuf,
    /// The beginning of names; without it, all of them and folders too.
    begin: Option<String>,
}

impl FolderGrant {
    /// Reads a grant. A relative path is one below `base`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, base: &Path) -> Result<FolderGrant, String> {
        let (word, path) = text.trim().split_once(char::is_whitespace).unwrap_or((text, ""));
        let use_of = match word {
            "read" => Use::Read,
            "write" => Use::Write,
            _ => return Err(format!("{text:?} begins with neither read nor write")),
        };
        let path = path.trim();
        match path.strip_suffix('*') {
            Some(begin) => FolderGrant::beginning(use_of, begin, base),
            None => FolderGrant::new(use_of, path, None, base),
        }
    }

    /// The files whose names begin with the name of `path`.
    ///
    /// # Errors
    /// When the path names no file.
    pub fn beginning(use_of: Use, path: &str, base: &Path) -> Result<FolderGrant, String> {
        let (folder, name) = split(path).unwrap_or((".", path));
        if name.is_empty() {
            return Err(format!("{path:?} does not end in the beginning of a name"));
        }
        FolderGrant::new(use_of, folder, Some(name.into()), base)
    }

    fn new(use_of: Use, path: &str, begin: Option<String>, base: &Path) -> Result<FolderGrant, String> {
        let is_here = path == "." && begin.is_some();
        if path.is_empty() || path.contains('*') || (!is_here && parts(path).is_none()) {
            return Err(format!(
                "{path:?} is no folder; '.', '..' and '*' have no meaning here"
            ));
        }
        Ok(FolderGrant {
            use_of,
            spelled: path.into(),
            folder: base.join(path),
            begin,
        })
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The parts of the path below the folder, where this grant is about the path.
    pub(crate) fn below<'p>(&self, path: &'p str) -> Option<Vec<&'p str>> {
        let asked = parts(path)?;
        let spelled = self.spelled.to_str()?;
        let granted = if spelled == "." {
            Vec::new()
        } else {
            parts(spelled)?
        };
        if path.starts_with('/') != spelled.starts_with('/') || !asked.starts_with(&granted) {
            return None;
        }
        let below = asked[granted.len()..].to_vec();
        let fits = match (&self.begin, below.as_slice()) {
            (None, _) => true,
            // The folder itself, to be listed.
            (Some(_), []) => true,
            (Some(begin), [name]) => name.starts_with(begin.as_str()),
            (Some(_), _) => false,
        };
        fits.then_some(below)
    }

    pub(crate) fn may(&self, use_of: Use) -> bool {
        self.use_of == Use::Write || use_of == Use::Read
    }

    /// Whether a name of the folder is part of it.
    pub(crate) fn shows(&self, name: &str) -> bool {
        self.begin
            .as_ref()
            .is_none_or(|begin| name.starts_with(begin.as_str()))
    }
}

impl fmt::Display for FolderGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.use_of {
            Use::Read => "read",
            Use::Write => "write",
        };
        match &self.begin {
            Some(begin) => write!(f, "{word} {}*", self.folder.join(begin).display()),
            None => write!(f, "{word} {}", self.folder.display()),
        }
    }
}

fn split(path: &str) -> Option<(&str, &str)> {
    let (folder, name) = path.rsplit_once('/')?;
    Some((if folder.is_empty() { "/" } else { folder }, name))
}

/// The parts of a path that means one place alone.
fn parts(path: &str) -> Option<Vec<&str>> {
    let inner = path.strip_prefix('/').unwrap_or(path);
    if inner.is_empty() {
        return path.starts_with('/').then(Vec::new);
    }
    let parts: Vec<&str> = inner.split('/').collect();
    let is_part = |part: &&str| !part.is_empty() && *part != "." && *part != ".." && !part.contains('\0');
    parts.iter().all(is_part).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(grant: &str, path: &str, expected: Option<&str>) {
        let grant = FolderGrant::parse(grant, Path::new("/base")).expect(grant);
        let below = grant.below(path).map(|below| below.join("/"));
        assert_eq!(below.as_deref(), expected, "{grant} for {path}");
    }

    #[test]
    fn a_path_is_taken_where_it_lies_below_the_grant() {
        check("read /var/log", "/var/log/app/today.log", Some("app/today.log"));
        check("read /var/log", "/var/log", Some(""));
        for outside in [
            "/var/logs/x",
            "/var/log/../shadow",
            "/var/log/./x",
            "/var/log//x",
            "var/log/x",
            "/var/log/x\0",
            "/etc/passwd",
            "",
        ] {
            check("read /var/log", outside, None);
        }
        check("write /var/log/app.log*", "/var/log/app.log.1", Some("app.log.1"));
        check("write /var/log/app.log*", "/var/log", Some(""));
        check("write /var/log/app.log*", "/var/log/other.log", None);
        check("write /var/log/app.log*", "/var/log/app.log.d/x", None);
        check("read data", "data/x", Some("x"));
        check("read data", "/base/data/x", None);
        check("read out*", "out.jsonl", Some("out.jsonl"));
    }

    #[test]
    fn a_grant_says_one_folder() {
        for wrong in [
            "/var/log",
            "read",
            "read /var/*/x",
            "read ../x",
            "execute /x",
            "read /var/log/*",
        ] {
            assert!(FolderGrant::parse(wrong, Path::new("/base")).is_err(), "{wrong}");
        }
        let shown = FolderGrant::parse("read data", Path::new("/base")).map(|grant| grant.to_string());
        assert_eq!(shown.as_deref(), Ok("read /base/data"));
    }
}

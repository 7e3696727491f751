//! References in settings, in Kafka Connect's form `${provider:path:key}` (KIP-297).
//!
//! - `${file:PATH:KEY}`: the value of KEY in a Java properties file.
//! - `${dir:PATH:NAME}`: the whole content of the file NAME in the directory PATH, without its last line break.
//! - `${env:NAME}`: an environment variable.
//! - `${credential:NAME}`: what the service manager hands over (systemd.exec(5), `LoadCredential=`): the file NAME in
//!   `$CREDENTIALS_DIRECTORY`.
//!
//! A relative PATH is relative to the directory of `culvert.toml`. `${topic}` and other words without a colon are
//! not references and stay as they are.

use super::environment::Environment;
use std::io::Read;
use std::path::{Path, PathBuf};

const VALID: &str = "valid: ${env:NAME}, ${file:PATH:KEY}, ${dir:PATH:NAME} or ${credential:NAME}";

/// No secret is longer; a reference to a larger file is a mistake.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Resolves references.
pub(super) struct Resolver<'a> {
    pub(super) environment: &'a Environment,
    pub(super) base: &'a Path,
}

impl Resolver<'_> {
    /// `text` with each reference in it replaced by what it names. What was put in is not searched again.
    ///
    /// # Errors
    /// The problem and the way out, neither of which holds a secret.
    pub(super) fn resolve(&self, text: &str) -> Result<String, (String, String)> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let (before, from) = rest.split_at(start);
            out.push_str(before);
            match from.find('}') {
                Some(end) if from[..end].contains(':') => {
                    out.push_str(&self.lookup(&from[2..end])?);
                    rest = &from[end + 1..];
                }
                _ => {
                    out.push_str("${");
                    rest = &from[2..];
                }
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    fn lookup(&self, reference: &str) -> Result<String, (String, String)> {
        let (provider, rest) = reference.split_once(':').unwrap_or((reference, ""));
        match (provider, rest.rsplit_once(':')) {
            ("env", None) => self.environment.get(rest).map(str::to_owned).ok_or_else(|| {
                (
                    format!("environment variable {rest} is not set"),
                    format!("set {rest}, or use another reference"),
                )
            }),
            ("file", Some((path, key))) => self.property(path, key),
            ("dir", Some((path, name))) => self.whole(path, name),
            ("credential", None) => self.whole(credentials(self.environment)?, rest),
            ("env" | "file" | "dir" | "credential", _) => Err((
                format!("${{{reference}}} is not a complete reference"),
                VALID.into(),
            )),
            _ => Err((
                format!("no such provider of references: {provider}"),
                VALID.into(),
            )),
        }
    }

    fn property(&self, path: &str, key: &str) -> Result<String, (String, String)> {
        let path = self.base.join(path);
        property(&read(&path)?, key).ok_or_else(|| {
            (
                format!("{} has no key {key}", path.display()),
                format!("add a line `{key}=…` to that file"),
            )
        })
    }

    fn whole(&self, path: &str, name: &str) -> Result<String, (String, String)> {
        of_its_directory(name)?;
        let text = read(&self.base.join(path).join(name))?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
    }
}

/// The path of `written`, where it is `${credential:NAME}`; `None` where it is any other path.
///
/// # Errors
/// As [`Resolver::resolve`].
pub(super) fn credential(
    written: &Path,
    environment: &Environment,
) -> Result<Option<PathBuf>, (String, String)> {
    let name = written
        .to_str()
        .and_then(|text| text.strip_prefix("${credential:")?.strip_suffix('}'));
    let Some(name) = name else { return Ok(None) };
    of_its_directory(name)?;
    Ok(Some(Path::new(credentials(environment)?).join(name)))
}

fn credentials(environment: &Environment) -> Result<&str, (String, String)> {
    environment.get("CREDENTIALS_DIRECTORY").ok_or_else(|| {
        (
            "the service manager hands over no credentials: CREDENTIALS_DIRECTORY is not set".to_owned(),
            "name it in LoadCredential= of the unit, or use another reference".to_owned(),
        )
    })
}

fn of_its_directory(name: &str) -> Result<(), (String, String)> {
    if name.is_empty() || name.contains('/') || name == ".." {
        return Err((
            format!("{name} is not a file of its directory"),
            "name a file, without a path".into(),
        ));
    }
    Ok(())
}

/// Whether `text` is made of references alone, so that nothing secret stands in it.
pub(super) fn is_reference(text: &str) -> bool {
    let mut rest = text.trim();
    while let Some(from) = rest.strip_prefix("${") {
        match from.find('}') {
            Some(end) if from[..end].contains(':') => rest = &from[end + 1..],
            _ => return false,
        }
    }
    rest.is_empty() && !text.is_empty()
}

fn read(path: &Path) -> Result<String, (String, String)> {
    let hint = || "name a file that the gateway's user may read".to_owned();
    let fault = |e: std::io::Error| (format!("read {}: {e}", path.display()), hint());
    let file = std::fs::File::open(path).map_err(fault)?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(fault)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err((
            format!("{} is larger than {FILE_BYTES_MAX} bytes", path.display()),
            hint(),
        ));
    }
    Ok(text)
}

/// One value of a Java properties file (`java.util.Properties.load`): `#` and `!` comment, `=`, `:` or space
/// separate, a backslash escapes or continues the line; the last line with the key wins.
fn property(text: &str, wanted: &str) -> Option<String> {
    let mut found = None;
    let mut lines = text.lines().map(str::trim_start);
    while let Some(line) = lines.next() {
        if line.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = line.to_owned();
        while ends_in_escape(&logical) {
            logical.pop();
            logical.push_str(lines.next().unwrap_or(""));
        }
        let (key, value) = pair(&logical);
        if key == wanted {
            found = Some(value);
        }
    }
    found
}

/// An odd number of backslashes: the last one is not itself escaped.
fn ends_in_escape(line: &str) -> bool {
    (line.len() - line.trim_end_matches('\\').len()) % 2 == 1
}

fn pair(line: &str) -> (String, String) {
    let mut escaped = false;
    let end = line
        .find(|c: char| {
            let ends = !escaped && (c == '=' || c == ':' || c.is_whitespace());
            escaped = !escaped && c == '\\';
            ends
        })
        .unwrap_or(line.len());
    let value = line[end..].trim_start();
    let value = value.strip_prefix(['=', ':']).unwrap_or(value).trim_start();
    (unescape(&line[..end]), unescape(value))
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some('u') => {
                    let code = chars
                        .by_ref()
                        .take(4)
                        .try_fold(0, |n, d| Some(n * 16 + d.to_digit(16)?));
                    out.push(
                        code.and_then(char::from_u32)
                            .unwrap_or(char::REPLACEMENT_CHARACTER),
                    );
                }
                Some(other) => out.push(other),
                None => {}
            },
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(
            dir.path().join("kafka.properties"),
            "# c\nuser = ann\npass\\:word=a\\=b\\\n  c\n",
        )
        .expect("write");
        std::fs::write(dir.path().join("token"), "t0ken\n").expect("write");
        let handed = dir.path().to_str().expect("a path in Unicode").to_owned();
        let environment = Environment::from_iter([
            ("USER_NAME".to_owned(), "eve".to_owned()),
            ("CREDENTIALS_DIRECTORY".to_owned(), handed),
        ]);
        let resolver = Resolver {
            environment: &environment,
            base: dir.path(),
        };
        match (resolver.resolve(text), expected) {
            (Ok(value), Ok(expected)) => assert_eq!(value, expected, "{text}"),
            (Err((problem, _)), Err(part)) => assert!(problem.contains(part), "{text}: {problem}"),
            (got, _) => panic!("{text}: {got:?}"),
        }
    }

    #[test]
    fn references_resolve_and_other_text_stays() {
        check("plain", Ok("plain"));
        check("${topic}-${", Ok("${topic}-${"));
        check("${env:USER_NAME}", Ok("eve"));
        check("x-${file:kafka.properties:user}-y", Ok("x-ann-y"));
        check("${file:kafka.properties:pass:word}", Err("kafka.properties:pass"));
        check("${dir:.:token}", Ok("t0ken"));
        check("${env:NOBODY}", Err("NOBODY is not set"));
        check("${file:kafka.properties:none}", Err("has no key none"));
        check("${file:absent:user}", Err("absent"));
        check("${file:absent}", Err("not a complete reference"));
        check("${dir:.:../token}", Err("not a file of its directory"));
        check("${credential:token}", Ok("t0ken"));
        check("${credential:../token}", Err("not a file of its directory"));
        check("${credential:absent}", Err("absent"));
        check("${vault:a:b}", Err("no such provider of references: vault"));
    }

    #[test]
    fn properties_are_read_as_java_reads_them() {
        let text = "! c\n  a=1\nb : 2\nc 3\nd\ne=x\\\n   y\nf=\\u00e4\\tz\na=4\ng\\ h=5";
        for (key, value) in [
            ("a", Some("4")),
            ("b", Some("2")),
            ("c", Some("3")),
            ("d", Some("")),
            ("e", Some("xy")),
            ("f", Some("ä\tz")),
            ("g h", Some("5")),
            ("h", None),
        ] {
            assert_eq!(property(text, key).as_deref(), value, "{key}");
        }
    }

    #[test]
    fn a_secret_beside_a_reference_is_not_a_reference() {
        assert!(is_reference("${env:A}") && is_reference("${file:a:b}${env:C}"));
        assert!(
            !is_reference("hunter2")
                && !is_reference("${env:A}x")
                && !is_reference("${topic}")
                && !is_reference("")
        );
    }

    #[test]
    fn a_path_may_be_a_credential() {
        let none = Environment::default();
        let handed = Environment::from_iter([("CREDENTIALS_DIRECTORY".to_owned(), "/run/c".to_owned())]);
        let path = |written: &str, environment| credential(Path::new(written), environment);
        assert_eq!(path("keys/gateway.key", &none), Ok(None));
        assert_eq!(
            path("${credential:gateway.key}", &handed),
            Ok(Some(PathBuf::from("/run/c/gateway.key")))
        );
        let (problem, _) = path("${credential:gateway.key}", &none).expect_err("nothing is handed over");
        assert!(problem.contains("CREDENTIALS_DIRECTORY is not set"), "{problem}");
        let (problem, _) = path("${credential:../key}", &handed).expect_err("a way out of the directory");
        assert!(problem.contains("not a file of its directory"), "{problem}");
    }
}

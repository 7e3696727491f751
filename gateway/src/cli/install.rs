//! `culvert install`: the program and its units on a host that has no package of it.

use super::{Exit, Format, Session};
use anyhow::Context;
use clap_complete::Shell;
use serde::Serialize;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

const SERVICE: &str = include_str!("../../../systemd/culvert@.service");
const TUNNEL: &str = include_str!("../../../systemd/culvert-tunnel@.socket");
const TELEMETRY: &str = include_str!("../../../systemd/culvert-telemetry@.socket");
const USERS: &str = include_str!("../../../systemd/sysusers.conf");
const FOLDERS: &str = include_str!("../../../systemd/tmpfiles.conf");

/// Where a package would put the program; the unit of this host names [`PROGRAM`].
const PACKAGED: &str = "/usr/bin/culvert";
const PROGRAM: &str = "/usr/local/bin/culvert";

/// Whose members may read configuration (`systemd/sysusers.conf`).
const GROUP: &str = "culvert";

/// What to install, and where.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Writes /usr/local/bin/culvert, units and completions. With a NAME it prepares a gateway of that
name in /etc/culvert/NAME: a culvert.toml to fill in, folders for connectors and for secrets. A
culvert.toml that is there stays as it is; all else may be run again, to install a newer program.

Examples:
  culvert install                      the program and its units
  culvert install plant --site plant   and a gateway: culvert@plant.service
  culvert install --root /tmp/image    into a folder that becomes a host's root
  culvert install --dry-run            what would be written

Removed again: systemctl disable --now culvert@plant, and the files that this command lists.")]
pub(super) struct Args {
    /// The gateway to prepare: its unit is culvert@NAME.service
    name: Option<crate::identity::Name>,
    /// The site that the gateway stands in [default: its name]
    #[arg(long, requires = "name")]
    site: Option<crate::identity::Name>,
    /// The folder that is, or becomes, the host's root
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Done {
    Written,
    /// It is there, with this content.
    Unchanged,
    /// It is there, and the user's.
    Kept,
}

#[derive(Debug, Serialize)]
struct Item {
    path: PathBuf,
    done: Done,
}

#[derive(Debug, Serialize)]
struct Report {
    files: Vec<Item>,
    /// Commands that are left to the user, in order.
    next: Vec<String>,
}

pub(super) fn run(args: &Args, session: &Session, command: clap::Command) -> anyhow::Result<Exit> {
    let site = Host {
        root: &args.root,
        dry: args.dry_run,
    };
    let mut files = site.program(command)?;
    let managed = !args.dry_run && args.root == Path::new("/") && sd_notify::booted().unwrap_or(false);
    let mut next = site.settle(managed)?;
    if let Some(name) = &args.name {
        let named = args.site.as_ref().unwrap_or(name);
        files.extend(site.gateway(&name.to_string(), &named.to_string())?);
        next.push(format!(
            "edit {}",
            site.at(&format!("/etc/culvert/{name}/culvert.toml")).display()
        ));
        next.push(format!("systemctl enable --now culvert@{name}"));
    }
    let report = Report { files, next };
    match session.terminal.format() {
        Format::Json => session.terminal.json(&report)?,
        Format::Text => session.terminal.answer(report.text(args.dry_run))?,
    }
    Ok(Exit::Ok)
}

/// The host that is installed to.
struct Host<'a> {
    root: &'a Path,
    dry: bool,
}

impl Host<'_> {
    /// `path`, which is absolute, below the root.
    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn program(&self, mut command: clap::Command) -> anyhow::Result<Vec<Item>> {
        let ours = std::env::current_exe().context("find this program")?;
        let ours = fs::read(&ours).with_context(|| format!("read {}", ours.display()))?;
        let mut completions = Vec::new();
        clap_complete::generate(Shell::Bash, &mut command, "culvert", &mut completions);
        let service = SERVICE.replace(PACKAGED, PROGRAM);
        let files: [(&str, u32, &[u8]); 7] = [
            (PROGRAM, 0o755, &ours),
            ("/etc/systemd/system/culvert@.service", 0o644, service.as_bytes()),
            (
                "/etc/systemd/system/culvert-tunnel@.socket",
                0o644,
                TUNNEL.as_bytes(),
            ),
            (
                "/etc/systemd/system/culvert-telemetry@.socket",
                0o644,
                TELEMETRY.as_bytes(),
            ),
            ("/etc/sysusers.d/culvert.conf", 0o644, USERS.as_bytes()),
            ("/etc/tmpfiles.d/culvert.conf", 0o644, FOLDERS.as_bytes()),
            (
                "/usr/local/share/bash-completion/completions/culvert",
                0o644,
                &completions,
            ),
        ];
        files
            .into_iter()
            .map(|(path, mode, bytes)| {
                let path = self.at(path);
                let done = if fs::read(&path).is_ok_and(|held| held == bytes) {
                    Done::Unchanged
                } else {
                    self.write(&path, mode, bytes)?;
                    Done::Written
                };
                Ok(Item { path, done })
            })
            .collect()
    }

    /// The group and the folder of configuration, by systemd's own tools where they are at work.
    fn settle(&self, managed: bool) -> anyhow::Result<Vec<String>> {
        const STEPS: [&[&str]; 3] = [
            &["systemd-sysusers", "culvert.conf"],
            &["systemd-tmpfiles", "--create", "culvert.conf"],
            &["systemctl", "daemon-reload"],
        ];
        let mut left = Vec::new();
        for step in STEPS {
            if managed {
                let (program, arguments) = step.split_first().expect("a step has a program");
                let status = Command::new(program).args(arguments).status();
                let status = status.with_context(|| format!("run {program}"))?;
                anyhow::ensure!(status.success(), "{} failed: {status}", step.join(" "));
            } else {
                left.push(step.join(" "));
            }
        }
        Ok(left)
    }

    /// What a new gateway needs besides the unit.
    fn gateway(&self, name: &str, site: &str) -> anyhow::Result<Vec<Item>> {
        let folder = self.at(&format!("/etc/culvert/{name}"));
        let group = self.group()?;
        if !self.dry {
            for (made, mode) in [("connectors", 0o750), ("secrets", 0o700)] {
                let made = folder.join(made);
                fs::create_dir_all(&made).with_context(|| format!("make {}", made.display()))?;
                fs::set_permissions(&made, Permissions::from_mode(mode))?;
                // Secrets stay root's: the service manager hands them over.
                if mode & 0o040 != 0 {
                    chown(&made, None, group)?;
                }
            }
            fs::set_permissions(&folder, Permissions::from_mode(0o750))?;
            chown(&folder, None, group)?;
        }
        let path = folder.join("culvert.toml");
        let done = if path.exists() {
            Done::Kept
        } else {
            self.write(&path, 0o640, configuration(name, site).as_bytes())?;
            if !self.dry {
                chown(&path, None, group)?;
            }
            Done::Written
        };
        Ok(vec![Item { path, done }])
    }

    /// The number of the group in the host's own list, where it is made already.
    fn group(&self) -> anyhow::Result<Option<u32>> {
        let list = match fs::read_to_string(self.at("/etc/group")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            list => list.context("read the list of groups")?,
        };
        let line = list
            .lines()
            .find_map(|line| line.strip_prefix(GROUP)?.strip_prefix(':'));
        Ok(line
            .and_then(|line| line.split(':').nth(1))
            .and_then(|number| number.parse().ok()))
    }

    /// Under another name first: a program that runs is replaced, and a reader sees the old file or the new one.
    fn write(&self, path: &Path, mode: u32, bytes: &[u8]) -> anyhow::Result<()> {
        if self.dry {
            return Ok(());
        }
        let folder = path.parent().context("a file stands in a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let written = || -> io::Result<()> {
            let mut file = tempfile::Builder::new()
                .permissions(Permissions::from_mode(mode))
                .tempfile_in(folder)?;
            file.write_all(bytes)?;
            // The process's mask does not count.
            file.as_file().set_permissions(Permissions::from_mode(mode))?;
            file.as_file().sync_all()?;
            file.persist(path)?;
            Ok(())
        };
        written().with_context(|| format!("write {}", path.display()))
    }
}

/// What a gateway needs before it can be given peers; the rest is comment.
fn configuration(name: &str, site: &str) -> String {
    format!(
        r#"# Keys: `culvert config reference`. Mistakes: `culvert check --config` and this file.
gateway = "{name}"
site = "{site}"
state = "/var/lib/culvert/{name}"

# Certificates: `culvert pki`. The key lies in the folder `secrets` beside this file, for root alone to read; the unit
# hands it over.
#[identity]
#certificate = "gateway.pem"
#key = "${{credential:secret_gateway.key}}"
#ca = ["ca.pem"]
#trust_domain = "example.org"

#[tunnel]
#listen = "0.0.0.0:7443"

#[[peer]]
#site = "cloud"
#gateways = ["cloud"]
#address = ["cloud.example.org:7443"]
"#
    )
}

impl Report {
    fn text(&self, dry: bool) -> String {
        let mut text = String::new();
        for item in &self.files {
            let done = match (item.done, dry) {
                (Done::Written, true) => "would write",
                (Done::Written, false) => "written",
                (Done::Unchanged, _) => "unchanged",
                (Done::Kept, _) => "kept",
            };
            text += &format!("{done:<12} {}\n", item.path.display());
        }
        if !self.next.is_empty() {
            text += "\nNext:\n";
            for step in &self.next {
                text += &format!("  {step}\n");
            }
        }
        text.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
    }

    #[test]
    fn a_gateway_is_prepared_once_and_its_configuration_stays_the_users() {
        let root = tempfile::tempdir().expect("a folder");
        let host = Host {
            root: root.path(),
            dry: false,
        };
        let made = host.gateway("plant", "north").expect("prepare");
        let file = root.path().join("etc/culvert/plant/culvert.toml");
        assert_eq!(
            (made[0].path.as_path(), made[0].done),
            (file.as_path(), Done::Written)
        );
        let text = fs::read_to_string(&file).expect("read");
        assert!(text.contains("gateway = \"plant\"\nsite = \"north\""), "{text}");
        assert_eq!(mode(&file), 0o640);
        assert_eq!(mode(&root.path().join("etc/culvert/plant/secrets")), 0o700);

        fs::write(&file, "gateway = \"mine\"\n").expect("write");
        let made = host.gateway("plant", "north").expect("prepare again");
        assert_eq!(made[0].done, Done::Kept);
        assert_eq!(fs::read_to_string(&file).expect("read"), "gateway = \"mine\"\n");
    }

    /// What is commented out is right too: with the first `#` of each line taken away it is a whole configuration.
    #[test]
    fn the_configuration_that_is_written_passes_the_check() {
        for whole in [false, true] {
            let folder = tempfile::tempdir().expect("a folder");
            let text = configuration("plant", "north");
            let lines = text.lines().map(|line| match line.strip_prefix('#') {
                Some(setting) if whole && !setting.starts_with(' ') => setting,
                _ => line,
            });
            let text = lines.collect::<Vec<_>>().join("\n");
            let file = folder.path().join("culvert.toml");
            fs::write(&file, &text).expect("write");
            fs::create_dir(folder.path().join("connectors")).expect("make");
            let handed = (
                "CREDENTIALS_DIRECTORY".to_owned(),
                "/run/credentials/x".to_owned(),
            );
            let environment = crate::config::Environment::from_iter([handed]);
            let config = crate::config::Config::load(&file, &environment);
            let config = config.unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"));
            assert_eq!(config.identity.is_some(), whole);
        }
    }
}

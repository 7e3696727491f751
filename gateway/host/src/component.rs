//! A plugin's file: looked at without running it, then compiled and ready to be opened.

use crate::cache::Digest;
use crate::description::{self, Capability, Description};
use crate::engine::{COMPONENT_BYTES_MAX, Engine};
use crate::fault::LoadError;
use crate::{CONTRACT, pack};
use semver::Version;
use std::fmt;
use wasmparser::{Chunk, Encoding, Parser, Payload};
use wasmtime::component::Component;

/// What a plugin does, by the interface it exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Changes, drops, multiplies or refuses records; row by row.
    Transform,
    /// The same by columns.
    TransformColumns,
    /// Bytes to values and back.
    Codec,
    /// Brings records in.
    Source,
    /// Writes records out.
    Sink,
}

impl Role {
    const ALL: [Role; 5] = [
        Role::TransformColumns,
        Role::Transform,
        Role::Codec,
        Role::Source,
        Role::Sink,
    ];

    /// The name of the interface.
    #[must_use]
    pub fn interface(self) -> &'static str {
        match self {
            Role::Transform => "transform",
            Role::TransformColumns => "transform-columns",
            Role::Codec => "codec",
            Role::Source => "source",
            Role::Sink => "sink",
        }
    }

    /// Whether it is a stage of a connector's chain.
    #[must_use]
    pub fn is_transform(self) -> bool {
        matches!(self, Role::Transform | Role::TransformColumns)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Transform | Role::TransformColumns => "transform",
            other => other.interface(),
        })
    }
}

/// What a file says about itself. Nothing was run.
#[derive(Clone, Debug)]
pub struct Examined {
    /// Its roles; a plugin of today has one.
    pub roles: Vec<Role>,
    /// The interfaces it imports beside types, as it spells them, in the order of the file.
    pub imports: Vec<String>,
    /// The contract it was built against.
    pub contract: Version,
    /// Its description, if it was packed with one.
    pub description: Option<Description>,
    /// Size of the file in bytes.
    pub size: usize,
}

impl Examined {
    /// Whether it imports the interface of this capability.
    #[must_use]
    pub fn imports_capability(&self, what: Capability) -> bool {
        let mut imported = self.imports.iter().filter_map(|name| ours(name));
        imported.any(|(interface, _)| interface == what.word())
    }
}

const PACKAGE: &str = "culvert:plugin/";

/// Interfaces without functions, which every component that uses their types imports.
const TYPES: [&str; 2] = ["types", "config"];

/// Looks at a file without running it: as long as reading it takes.
///
/// # Errors
/// [`LoadError`], which says what the file is in place of a plugin.
pub fn examine(bytes: &[u8]) -> Result<Examined, LoadError> {
    check_kind(bytes)?;
    let mut found = Found::default();
    let (mut parser, mut rest) = (Parser::new(0), bytes);
    loop {
        let (read, payload) = match parser.parse(rest, true).map_err(invalid)? {
            Chunk::Parsed { consumed, payload } => (consumed, payload),
            Chunk::NeedMoreData(_) => {
                return Err(LoadError::Invalid {
                    reason: "it ends in the middle".into(),
                });
            }
        };
        rest = &rest[read..];
        match payload {
            // What is inside is the compiler's business: only what the component itself says counts here.
            Payload::ModuleSection { unchecked_range, .. }
            | Payload::ComponentSection { unchecked_range, .. } => {
                rest = rest
                    .get(unchecked_range.len()..)
                    .ok_or_else(|| LoadError::Invalid {
                        reason: format!("it ends before byte {}", unchecked_range.end),
                    })?;
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    found.imports.push(import.map_err(invalid)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    found.exports.push(export.map_err(invalid)?.name.name.to_owned());
                }
            }
            Payload::CustomSection(section) if section.name() == pack::SECTION => {
                found.description = Some(section.data().to_vec());
            }
            Payload::End(_) => break,
            _ => {}
        }
    }
    found.examined(bytes.len())
}

/// Names as they stand in the file.
#[derive(Default)]
struct Found {
    imports: Vec<String>,
    exports: Vec<String>,
    description: Option<Vec<u8>>,
}

impl Found {
    fn examined(self, size: usize) -> Result<Examined, LoadError> {
        let missing = |missing: &str| LoadError::MissingExport {
            missing: missing.into(),
        };
        let exported: Vec<(&str, Version)> = self.exports.iter().filter_map(|name| ours(name)).collect();
        let version_of = |interface: &str| {
            exported
                .iter()
                .find(|(name, _)| *name == interface)
                .map(|(_, version)| version.clone())
        };
        let contract = version_of("meta").ok_or_else(|| missing("culvert:plugin/meta"))?;
        check_contract(&contract)?;
        let roles: Vec<Role> = Role::ALL
            .into_iter()
            .filter(|role| version_of(role.interface()).is_some())
            .collect();
        if roles.is_empty() {
            return Err(missing(
                "a role (transform, transform-columns, codec, source or sink)",
            ));
        }
        let imports = self
            .imports
            .iter()
            .filter(|name| !is_types(name))
            .map(|name| check_import(name).map(|()| name.clone()))
            .collect::<Result<_, _>>()?;
        let description = self
            .description
            .map(|bytes| description::read(&bytes))
            .transpose()?;
        Ok(Examined {
            roles,
            imports,
            contract,
            description,
            size,
        })
    }
}

fn check_kind(bytes: &[u8]) -> Result<(), LoadError> {
    if bytes.len() > COMPONENT_BYTES_MAX {
        return Err(LoadError::TooLarge {
            what: "the component",
            size: bytes.len(),
            max: COMPONENT_BYTES_MAX,
        });
    }
    if Parser::is_core_wasm(bytes) {
        return Err(LoadError::CoreModule);
    }
    if !Parser::is_component(bytes) {
        let found = match bytes {
            [] => "the file is empty".to_owned(),
            [b'\0', b'a', b's', b'm', ..] => "WebAssembly of a version that is not known".to_owned(),
            [b'(', ..] => "WebAssembly text; compile it first".to_owned(),
            _ => format!("its first bytes are {:02x?}", &bytes[..bytes.len().min(8)]),
        };
        return Err(LoadError::NotWasm { found });
    }
    match Parser::new(0).parse(bytes, true).map_err(invalid)? {
        Chunk::Parsed {
            payload:
                Payload::Version {
                    encoding: Encoding::Component,
                    ..
                },
            ..
        } => Ok(()),
        _ => Err(LoadError::CoreModule),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "given to map_err")]
fn invalid(error: wasmparser::BinaryReaderError) -> LoadError {
    LoadError::Invalid {
        reason: error.to_string(),
    }
}

/// Interface and version of a name of the contract.
fn ours(name: &str) -> Option<(&str, Version)> {
    let (interface, version) = name.strip_prefix(PACKAGE)?.split_once('@')?;
    Some((interface, Version::parse(version).ok()?))
}

/// Below 1.0 a contract is spoken by its own minor version, by patches not newer than ours.
fn check_contract(found: &Version) -> Result<(), LoadError> {
    let spoken = Version::parse(CONTRACT).expect("a constant version");
    if (found.major, found.minor) == (spoken.major, spoken.minor) && found.patch <= spoken.patch {
        return Ok(());
    }
    Err(LoadError::Contract {
        found: found.to_string(),
        spoken: CONTRACT,
    })
}

fn is_types(name: &str) -> bool {
    ours(name).is_some_and(|(interface, _)| TYPES.contains(&interface))
}

fn check_import(name: &str) -> Result<(), LoadError> {
    let unknown = |hint| LoadError::UnknownImport {
        import: name.to_owned(),
        hint,
    };
    let Some((interface, version)) = ours(name) else {
        let hint = if name.starts_with("wasi:") {
            "build it without WASI (Rust: target wasm32-unknown-unknown; JavaScript and Python: --stub-wasi), as `culvert plugin build` does"
        } else {
            "a plugin imports interfaces of culvert:plugin only"
        };
        return Err(unknown(hint));
    };
    check_contract(&version)?;
    match interface {
        "log" | "metrics" | "clock" | "state" | "secrets" | "secrets-reveal" | "http" | "files" => Ok(()),
        _ => Err(unknown("see wit/culvert-plugin/host.wit for what there is")),
    }
}

/// A plugin that is compiled: instances of it can be opened.
#[derive(Clone)]
pub struct Plugin {
    pub(crate) engine: Engine,
    pub(crate) component: Component,
    /// What the file says.
    pub examined: Examined,
    /// What the plugin says.
    pub description: Description,
    /// Which file it is.
    pub digest: Digest,
}

impl Plugin {
    /// A plugin that was packed without a description is asked for it here, with nothing linked.
    pub(crate) fn new(
        engine: Engine,
        examined: Examined,
        digest: Digest,
        component: Component,
    ) -> Result<Plugin, LoadError> {
        let description = match &examined.description {
            Some(description) => description.clone(),
            None => crate::guest::describe(&engine, &component)?,
        };
        Ok(Plugin {
            engine,
            component,
            examined,
            description,
            digest,
        })
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {:?}",
            self.description.name, self.description.version, self.digest
        )
    }
}

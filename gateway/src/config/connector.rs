//! Connector definitions: `*.json` in either of Kafka Connect's two forms, `{"name": …, "config": {…}}` or one flat
//! map with `name` in it.
//!
//! What every connector has in common is checked here, against [`COMMON`]; the rest by the connector's own room.
//! A setting that cannot be honoured is a mistake: nothing is ignored, unlike in Kafka Connect, where an unknown
//! key passes validation.

use super::converter::{ConverterPlan, Owner};
use super::json::{self, KeyAt};
use super::mistake::{
    CLASS, CONNECTOR, CONTRADICTION, Found, MISSING, Place, REFERENCE, SYNTAX, UNREADABLE, UNSUPPORTED,
    VALUE, nearest,
};
use super::names::{self, CONNECTOR_NAME_BYTES_MAX};
use super::reference::Resolver;
use super::secret::Settings;
use crate::connector as room;
use crate::connector::generator::GeneratorConfig;
use crate::connector::kafka;
use crate::connector::sqlite::SqliteConfig;
use crate::plugin::{self, PluginPlan, Role, Shelf, SinkPlan, StagePlan};
use crate::units::ByteSize;
use culvert_proto::message::Priority;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// The most tasks of one connector. Each is a thread, or a writer of a sink; by eye.
pub const TASKS_MAX: u16 = 64;

/// What a stream may be allowed to hold, in bytes. The least is four full frames; the most is that of `outbox.quota`.
const QUOTA: RangeInclusive<u64> = 1 << 20..=1 << 50;

/// The most definitions in the directory.
const DEFINITIONS_MAX: usize = 1_000;

/// A connector, checked.
#[derive(Clone, Debug)]
pub struct Connector {
    /// Its name, unique on this gateway.
    pub name: String,
    /// `tasks.max`.
    pub tasks_max: u16,
    /// `culvert.from`: the site that its topics live at. Every sink has it, and no source.
    pub from: Option<String>,
    /// `culvert.via`: the sites that relay, nearest to the origin first. Sinks only.
    pub via: Vec<String>,
    /// `culvert.start`: where a stream is begun that the sink holds nothing of.
    pub start: Start,
    /// `culvert.incarnation`: raised by an operator to begin every stream of a sink anew.
    pub incarnation: u32,
    /// `culvert.quota`: the most that each stream may hold in this gateway's outbox. Sources only.
    pub quota: Option<ByteSize>,
    /// `culvert.priority`: whose records go first where a link has less room than all want. Sources only.
    pub priority: Priority,
    /// `transforms`: what its records pass through.
    pub stages: Vec<StagePlan>,
    /// `key.converter` and `value.converter`, where they have schemas.
    pub converters: Vec<ConverterPlan>,
    /// `errors.tolerance` is `all`: records that a stage refuses become dead letters.
    pub dead_letters: bool,
    /// Its own settings, checked.
    pub checked: Checked,
    /// All of its settings as they may be shown: references are not resolved.
    pub shown: Settings,
    /// The file it was read from.
    pub file: PathBuf,
}

/// Where a stream is begun. Resolved once and stored; partitions added later begin at their first record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the first record there is.
    #[default]
    Earliest,
    /// Behind the last record there is.
    Latest,
}

/// A connector's own settings, by class.
#[derive(Clone)]
pub enum Checked {
    /// `io.culvert.kafka.KafkaSource`.
    KafkaSource(kafka::config::SourceConfig),
    /// `io.culvert.kafka.KafkaSink`.
    KafkaSink(kafka::config::SinkConfig),
    /// `io.culvert.generator.GeneratorSource`.
    GeneratorSource(GeneratorConfig),
    /// `io.culvert.sqlite.SqliteSink`.
    SqliteSink(SqliteConfig),
    /// A plugin that brings records in.
    PluginSource(PluginPlan),
    /// A plugin that writes records out.
    PluginSink(SinkPlan),
}

/// The class alone: what a client library is to be told holds secrets that are resolved.
impl fmt::Debug for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.class_name())
    }
}

impl Checked {
    /// Hands the settings of a class of this program to its room.
    fn built_in(
        class: BuiltIn,
        name: &str,
        settings: &Settings,
        around: &Surroundings<'_>,
    ) -> Result<Checked, Vec<room::Mistake>> {
        let map = own_settings(settings);
        let cluster = around.kafka.expose();
        let context = kafka::config::Context {
            connector: name,
            gateway: around.gateway,
            site: around.site,
            cluster: &cluster,
            known: &["name", "connector.class"],
        };
        Ok(match class {
            BuiltIn::KafkaSource => {
                Checked::KafkaSource(kafka::config::SourceConfig::from_map(&map, &context)?)
            }
            BuiltIn::KafkaSink => Checked::KafkaSink(kafka::config::SinkConfig::from_map(&map, &context)?),
            BuiltIn::GeneratorSource => Checked::GeneratorSource(GeneratorConfig::from_map(name, &map)?),
            BuiltIn::SqliteSink => {
                Checked::SqliteSink(SqliteConfig::from_map(name, &map)?.below(around.resolver.base))
            }
        })
    }

    /// Whether it brings records in.
    #[must_use]
    pub fn is_source(&self) -> bool {
        matches!(
            self,
            Checked::KafkaSource(_) | Checked::GeneratorSource(_) | Checked::PluginSource(_)
        )
    }

    /// The full name for `connector.class`.
    #[must_use]
    pub fn class_name(&self) -> Cow<'static, str> {
        let plugin = |plan: &PluginPlan| Cow::Owned(format!("{PLUGIN_CLASS}{}", plan.plugin));
        match self {
            Checked::KafkaSource(_) => BuiltIn::KafkaSource.name().into(),
            Checked::KafkaSink(_) => BuiltIn::KafkaSink.name().into(),
            Checked::GeneratorSource(_) => BuiltIn::GeneratorSource.name().into(),
            Checked::SqliteSink(_) => BuiltIn::SqliteSink.name().into(),
            Checked::PluginSource(plan) => plugin(plan),
            Checked::PluginSink(sink) => plugin(&sink.plan),
        }
    }

    /// The plugin that it is, if it is one.
    #[must_use]
    pub fn plugin(&self) -> Option<&PluginPlan> {
        match self {
            Checked::PluginSource(plan) => Some(plan),
            Checked::PluginSink(sink) => Some(&sink.plan),
            _ => None,
        }
    }
}

/// The settings without those that are judged here alone.
fn own_settings(settings: &Settings) -> BTreeMap<String, String> {
    const SHARED: [&str; 5] = [
        "tasks.max",
        "culvert.from",
        "culvert.via",
        "culvert.start",
        "errors.deadletterqueue.*",
    ];
    let is_shared = |key: &str| SHARED.iter().any(|shared| is_of(key, shared));
    let judged = |key: &str| COMMON.iter().any(|common| is_of(key, common.key)) && !is_shared(key);
    settings
        .expose()
        .into_iter()
        .filter(|(key, _)| !judged(key))
        .collect()
}

/// What stands before a plugin's name in `connector.class`, if anything does.
pub const PLUGIN_CLASS: &str = "io.culvert.plugin.";

/// The classes of connectors that are built into this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuiltIn {
    /// Reads topics of a Kafka cluster.
    KafkaSource,
    /// Writes topics of a Kafka cluster.
    KafkaSink,
    /// Makes records up.
    GeneratorSource,
    /// Writes tables of a SQLite file.
    SqliteSink,
}

impl BuiltIn {
    /// All of them.
    pub const ALL: [BuiltIn; 4] = [
        BuiltIn::KafkaSource,
        BuiltIn::KafkaSink,
        BuiltIn::GeneratorSource,
        BuiltIn::SqliteSink,
    ];

    /// The name for `connector.class`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            BuiltIn::KafkaSource => "io.culvert.kafka.KafkaSource",
            BuiltIn::KafkaSink => "io.culvert.kafka.KafkaSink",
            BuiltIn::GeneratorSource => "io.culvert.generator.GeneratorSource",
            BuiltIn::SqliteSink => "io.culvert.sqlite.SqliteSink",
        }
    }

    /// Whether it brings records in.
    #[must_use]
    pub fn is_source(self) -> bool {
        matches!(self, BuiltIn::KafkaSource | BuiltIn::GeneratorSource)
    }

    /// Reads the full name, or as in Kafka Connect the last word of it.
    fn parse(text: &str) -> Option<BuiltIn> {
        BuiltIn::ALL
            .into_iter()
            .find(|class| class.name() == text || class.name().rsplit('.').next() == Some(text))
    }
}

/// What `connector.class` names.
#[derive(Clone, Copy, Debug)]
enum Class<'p> {
    BuiltIn(BuiltIn),
    Source(&'p plugin::Found),
    Sink(&'p plugin::Found),
}

impl<'p> Class<'p> {
    /// The class of this program, or else the plugin.
    fn parse(text: &str, plugins: &'p Shelf) -> Option<Class<'p>> {
        if let Some(class) = BuiltIn::parse(text) {
            return Some(Class::BuiltIn(class));
        }
        let plugin = plugins.get(text.strip_prefix(PLUGIN_CLASS).unwrap_or(text))?;
        match plugin.role()? {
            Role::Source => Some(Class::Source(plugin)),
            Role::Sink => Some(Class::Sink(plugin)),
            _ => None,
        }
    }

    fn is_source(self) -> bool {
        match self {
            Class::BuiltIn(class) => class.is_source(),
            Class::Source(_) => true,
            Class::Sink(_) => false,
        }
    }

    fn is(self, class: BuiltIn) -> bool {
        matches!(self, Class::BuiltIn(of) if of == class)
    }

    /// A plugin sink that does not say that it keeps them.
    fn loses_dead_letters(self) -> bool {
        matches!(self, Class::Sink(plugin) if !plugin.description.keeps_dead_letters())
    }

    fn is_kafka(self) -> bool {
        self.is(BuiltIn::KafkaSource) || self.is(BuiltIn::KafkaSink)
    }
}

/// A key, or with `*` a family of keys, that every connector may have.
#[derive(Debug)]
pub struct Common {
    /// The key as Kafka Connect spells it.
    pub key: &'static str,
    /// What it does here.
    pub doc: &'static str,
    /// Whether this version honours it.
    pub honoured: Honoured,
}

/// Whether a key of Kafka Connect can be given.
#[derive(Debug, PartialEq, Eq)]
pub enum Honoured {
    /// With any valid value.
    Yes,
    /// With these values alone, which ask for what is done anyway.
    Only(&'static [&'static str]),
    /// Not in this version.
    No,
}

const BYTES: &[&str] = &[
    "org.apache.kafka.connect.converters.ByteArrayConverter",
    "ByteArrayConverter",
];

/// What connectors have in common, in the order of the reference page.
pub const COMMON: &[Common] = &[
    Common {
        key: "name",
        doc: "The connector's name: letters, digits, `.`, `_`, `-`.",
        honoured: Honoured::Yes,
    },
    Common {
        key: "connector.class",
        doc: "What it is; the last word is enough.",
        honoured: Honoured::Yes,
    },
    Common {
        key: "tasks.max",
        doc: "How many tasks share the work, 1 to 64; default 1. Of a sink, how many writers it has.",
        honoured: Honoured::Yes,
    },
    Common {
        key: "culvert.from",
        doc: "Sinks, required: the site whose topics are read.",
        honoured: Honoured::Yes,
    },
    Common {
        key: "culvert.via",
        doc: "Sinks: the site that relays, where there is no link to `culvert.from` itself.",
        honoured: Honoured::Yes,
    },
    Common {
        key: "culvert.start",
        doc: "`earliest` (default) or `latest`: where a stream is begun that was never read. Resolved once.",
        honoured: Honoured::Yes,
    },
    Common {
        key: "culvert.incarnation",
        doc: "A number, default 0. Of a sink, raised by an operator to begin every stream anew, whatever the sink holds: the way out of a changed history. Of a source, the same for its dead letters.",
        honoured: Honoured::Yes,
    },
    Common {
        key: "culvert.quota",
        doc: "Sources: a size such as `2 GiB`, at least 1 MiB: the most that each stream, a Kafka partition for example, may hold in this gateway's outbox. At it that stream alone is read no further, and goes on by itself. Without it: what `outbox.quota` has room for.",
        honoured: Honoured::Yes,
    },
    Common {
        key: "culvert.priority",
        doc: "Sources: `high`, `normal` (default) or `low`. While a link has less room than its streams want, records of higher ones go first, on every link of their way; lower ones wait in the outbox for as long as that lasts.",
        honoured: Honoured::Yes,
    },
    Common {
        key: "key.converter",
        doc: "What keys are written with: see `value.converter`.",
        honoured: Honoured::Yes,
    },
    Common {
        key: "value.converter",
        doc: "What values are written with. `AvroConverter`, `ProtobufConverter` and `JsonSchemaConverter` of `io.confluent.connect`: their schemas cross the border with them. `ByteArrayConverter` (default), `StringConverter` and `JsonConverter` of Kafka Connect: bytes pass untouched, but for stages that see the payloads of `JsonConverter` (`schemas.enable` = `true`, the default). Or the name of a codec plugin.",
        honoured: Honoured::Yes,
    },
    Common {
        key: "header.converter",
        doc: "headers pass as bytes, untouched.",
        honoured: Honoured::Only(BYTES),
    },
    Common {
        key: "exactly.once.support",
        doc: "delivery is exactly-once wherever source and sink allow it; `culvert status` says where.",
        honoured: Honoured::Only(&["requested", "required"]),
    },
    Common {
        key: "errors.tolerance",
        doc: "`none` (default): the first record that a stage refuses stops its stream. `all`: such records become dead letters; at a sink in the transaction of those that go on, at a Kafka source in a topic of the cluster that is read.",
        honoured: Honoured::Yes,
    },
    Common {
        key: "errors.deadletterqueue.*",
        doc: "Kafka sources and sinks with `errors.tolerance` = `all`: the topic of dead letters. A SQLite sink keeps them in its table `culvert_dead_letter`.",
        honoured: Honoured::Yes,
    },
    Common {
        key: "config.action.reload",
        doc: "references are resolved at start.",
        honoured: Honoured::Only(&["none"]),
    },
    Common {
        key: "tasks.max.enforce",
        doc: "the limit always holds.",
        honoured: Honoured::Only(&["true"]),
    },
    Common {
        key: "key.converter.*",
        doc: "As `value.converter.*`.",
        honoured: Honoured::Yes,
    },
    Common {
        key: "value.converter.*",
        doc: "The schema registry of a converter, and how schemas are named there: docs/guide/schemas.md.",
        honoured: Honoured::Yes,
    },
    Common {
        key: "culvert.key.schema",
        doc: "As `culvert.value.schema`.",
        honoured: Honoured::Yes,
    },
    Common {
        key: "culvert.key.schema.*",
        doc: "As `culvert.value.schema.*`.",
        honoured: Honoured::Yes,
    },
    Common {
        key: "culvert.value.schema",
        doc: "A subject of the converter's registry: values are written with its newest schema, and not with the one that they were read with.",
        honoured: Honoured::Yes,
    },
    Common {
        key: "culvert.value.schema.*",
        doc: "`culvert.value.schema.file`: a file with the schema that values are written with; without a registry, the one that all of them are of, with nothing before their bytes. `culvert.value.schema.message`: which message of it, of Protobuf.",
        honoured: Honoured::Yes,
    },
    Common {
        key: "culvert.key.carried",
        doc: "As `culvert.value.carried`.",
        honoured: Honoured::Yes,
    },
    Common {
        key: "culvert.value.carried",
        doc: "`bytes` (default) or `json`: what crosses between the source and its sinks. `json`, at both: the source decodes with its converter, and the sink encodes with another one.",
        honoured: Honoured::Yes,
    },
    Common {
        key: "header.converter.*",
        doc: "there is no converter to set up; bytes pass untouched.",
        honoured: Honoured::No,
    },
    Common {
        key: "transforms",
        doc: "Names of stages between commas, in the order in which records pass through them.",
        honoured: Honoured::Yes,
    },
    Common {
        key: "transforms.*",
        doc: "`transforms.NAME.type` is the plugin; `transforms.NAME.culvert.memory.max` (64MiB) and `transforms.NAME.culvert.time.max` (1s) limit it; `transforms.NAME.culvert.grant.*` grants it what it imports; all other keys of the stage are the plugin's own.",
        honoured: Honoured::Yes,
    },
    Common {
        key: "predicates",
        doc: "Names of predicates between commas; a stage with `transforms.NAME.predicate` sees only the records for which that one holds, with `transforms.NAME.negate` = `true` all others.",
        honoured: Honoured::Yes,
    },
    Common {
        key: "predicates.*",
        doc: "`predicates.NAME.type` is `TopicNameMatches` (with `pattern`), `HasHeaderKey` (with `name`) or `RecordIsTombstone`.",
        honoured: Honoured::Yes,
    },
    Common {
        key: "errors.*",
        doc: "what fails for a reason outside of the record is tried again until it succeeds, and every refused record is logged or kept.",
        honoured: Honoured::No,
    },
    Common {
        key: "transaction.boundary*",
        doc: "transactions follow the batches, each with its position.",
        honoured: Honoured::No,
    },
    Common {
        key: "offsets.storage.topic",
        doc: "positions are kept with the data, in the sink.",
        honoured: Honoured::No,
    },
];

/// What the definitions may refer to.
pub(super) struct Surroundings<'a> {
    pub(super) directory: &'a Path,
    pub(super) directory_was_given: bool,
    pub(super) resolver: Resolver<'a>,
    pub(super) kafka: &'a Settings,
    pub(super) sites: &'a [&'a str],
    pub(super) plugins: &'a Shelf,
    pub(super) gateway: &'a str,
    pub(super) site: &'a str,
}

/// Every definition in the directory, ordered by name. A directory that nobody named need not exist.
pub(super) fn load_all(around: &Surroundings<'_>, found: &mut Found) -> Vec<Connector> {
    let mut connectors: BTreeMap<String, Connector> = BTreeMap::new();
    for file in files(around, found) {
        let Some(text) = super::read_file(&file, found) else {
            continue;
        };
        let Some(definition) = Definition::read(&file, &text, around, found) else {
            continue;
        };
        let place = definition.place("name");
        let Some(connector) = definition.check(around, found) else {
            continue;
        };
        if let Some(first) = connectors.get(&connector.name) {
            let problem = format!(
                "\"{}\" is also the name of {}",
                connector.name,
                Place::file(&first.file)
            );
            found.add(
                CONTRADICTION,
                place,
                "name",
                problem,
                "give each connector a name of its own",
            );
        } else {
            connectors.insert(connector.name.clone(), connector);
        }
    }
    connectors.into_values().collect()
}

fn files(around: &Surroundings<'_>, found: &mut Found) -> Vec<PathBuf> {
    let place = || Place::file(around.directory);
    let entries = match std::fs::read_dir(around.directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !around.directory_was_given => {
            return Vec::new();
        }
        Err(e) => {
            let hint = "make the directory, or name another as connectors.directory";
            found.add(
                UNREADABLE,
                place(),
                "connectors.directory",
                format!("cannot be read: {e}"),
                hint,
            );
            return Vec::new();
        }
    };
    let is_definition = |path: &PathBuf| {
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        path.extension().is_some_and(|extension| extension == "json") && !hidden
    };
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(is_definition)
        .collect();
    files.sort();
    if files.len() > DEFINITIONS_MAX {
        let problem = format!("holds {} definitions", files.len());
        found.add(
            VALUE,
            place(),
            "connectors.directory",
            problem,
            format!("valid: at most {DEFINITIONS_MAX}"),
        );
        files.truncate(DEFINITIONS_MAX);
    }
    files
}

/// One file's definition: a flat map of texts, and where each key stands.
pub(super) struct Definition<'a> {
    file: &'a Path,
    /// The folder that relative paths are below.
    base: PathBuf,
    name: String,
    pub(super) settings: Settings,
    lines: BTreeMap<String, usize>,
    /// Whether every setting has a value.
    whole: bool,
}

impl<'a> Definition<'a> {
    fn read(
        file: &'a Path,
        text: &str,
        around: &Surroundings<'_>,
        found: &mut Found,
    ) -> Option<Definition<'a>> {
        let object = match serde_json::from_str(text) {
            Ok(Value::Object(object)) => object,
            Ok(_) => {
                let hint = "valid: {\"name\": …, \"config\": {…}}, or one flat map with \"name\" in it";
                found.add(SYNTAX, Place::line(file, 1), "", "is not a JSON object", hint);
                return None;
            }
            Err(e) => {
                let place = Place::line(file, e.line().max(1));
                found.add(
                    SYNTAX,
                    place,
                    "",
                    format!("not JSON: {e}"),
                    "valid: a JSON object of texts",
                );
                return None;
            }
        };
        let wrapped = matches!(object.get("config"), Some(Value::Object(_)));
        let keys = json::keys(text);
        repeated(file, &keys, found);
        let mut definition = Definition {
            file,
            base: around.resolver.base.to_owned(),
            name: String::new(),
            settings: Settings::default(),
            lines: lines(keys, wrapped),
            whole: true,
        };
        let config = if wrapped {
            definition.unwrap(object, found)?
        } else {
            object
        };
        definition.fill(&config, around, found);
        definition.name(found).then_some(definition)
    }

    /// Takes the outer object off `{"name": …, "config": {…}}`.
    fn unwrap(&mut self, mut outer: Map<String, Value>, found: &mut Found) -> Option<Map<String, Value>> {
        let Some(Value::Object(config)) = outer.remove("config") else {
            return None;
        };
        match outer.remove("name") {
            Some(Value::String(name)) => self.name = name,
            Some(_) => found.add(
                VALUE,
                self.place("name"),
                "name",
                "is not a text",
                "valid: a name in quotes",
            ),
            None => {}
        }
        match outer.remove("initial_state") {
            None => {}
            Some(Value::String(state)) if state == "RUNNING" => {}
            Some(_) => unsupported(
                self.place("initial_state"),
                "initial_state",
                "leave it out: a connector starts to run with the gateway",
                found,
            ),
        }
        for key in outer.keys() {
            let hint = "beside \"name\" and \"config\" nothing is expected; settings belong into \"config\"";
            found.add(
                super::mistake::UNKNOWN_KEY,
                self.place(key),
                key,
                "no such key",
                hint,
            );
        }
        Some(config)
    }

    /// Kafka Connect takes numbers and booleans for their text.
    fn fill(&mut self, config: &Map<String, Value>, around: &Surroundings<'_>, found: &mut Found) {
        for (key, value) in config {
            let written = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Bool(truth) => truth.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => {
                    found.add(
                        VALUE,
                        self.place(key),
                        key,
                        "is not a single value",
                        "valid: a text, number or boolean",
                    );
                    self.whole = false;
                    continue;
                }
            };
            match around.resolver.resolve(&written) {
                Ok(resolved) => self.settings.insert(key, &written, resolved),
                Err((problem, hint)) => {
                    found.add(REFERENCE, self.place(key), key, problem, hint);
                    self.whole = false;
                }
            }
        }
    }

    fn name(&mut self, found: &mut Found) -> bool {
        match self.settings.get("name") {
            Some(inner) if !self.name.is_empty() && inner != self.name => {
                let problem = format!(
                    "\"{inner}\" differs from the definition's own name \"{}\"",
                    self.name
                );
                found.add(
                    CONTRADICTION,
                    self.place("name"),
                    "name",
                    problem,
                    "keep one of the two",
                );
                return false;
            }
            Some(inner) => self.name = inner.to_owned(),
            None => {}
        }
        if self.name.is_empty() {
            found.add(
                MISSING,
                self.place("name"),
                "name",
                "is missing",
                "add \"name\": \"…\"",
            );
            return false;
        }
        if !names::is_plain(&self.name, CONNECTOR_NAME_BYTES_MAX) {
            let problem = format!("{:?} is not a name", brief(&self.name));
            let hint = format!(
                "valid: letters, digits, '.', '_' and '-', at most {CONNECTOR_NAME_BYTES_MAX} of them"
            );
            found.add(VALUE, self.place("name"), "name", problem, hint);
            return false;
        }
        true
    }

    fn check(mut self, around: &Surroundings<'_>, found: &mut Found) -> Option<Connector> {
        self.common_keys(found);
        let class = self.class(around.plugins, found);
        let tasks_max = self.tasks_max(class, found);
        let start = self.start(found);
        let incarnation = self.incarnation(found);
        let quota = self.quota(class, found);
        let priority = self.priority(class, found);
        let from = self.sites("culvert.from", class, found).into_iter().next();
        let via = self.sites("culvert.via", class, found);
        if class.is_some_and(|class| !class.is_source()) {
            self.route(from.as_deref(), &via, around, found);
        }
        let before = found.len();
        let stages = super::stage::stages(&self, around.plugins, found);
        let stages = (found.len() == before).then_some(stages);
        let before = found.len();
        let staged = stages.as_ref().is_some_and(|stages| !stages.is_empty());
        let owner = Owner {
            definition: &self,
            shelf: around.plugins,
            staged,
            is_source: class.map(Class::is_source),
            base: around.resolver.base,
        };
        let converters = super::converter::converters(&owner, found);
        let converters = (found.len() == before).then_some(converters);
        let dead_letters = self.dead_letters(class, found);
        let class = class.filter(|_| self.whole)?;
        if class.is_kafka() {
            self.settings.default_to("kafka.", around.kafka);
        }
        let checked = self.checked(class, around, found)?;
        Some(Connector {
            name: self.name,
            tasks_max: tasks_max?,
            from,
            via,
            start: start?,
            incarnation: incarnation?,
            quota: quota?,
            priority: priority?,
            stages: stages?,
            converters: converters?,
            dead_letters: dead_letters?,
            checked,
            shown: self.settings,
            file: self.file.into(),
        })
    }

    /// The connector's own settings.
    fn checked(&self, class: Class<'_>, around: &Surroundings<'_>, found: &mut Found) -> Option<Checked> {
        let mut told = |mistakes: Vec<room::Mistake>| {
            for mistake in mistakes {
                self.own_mistake(mistake, found);
            }
        };
        match class {
            Class::BuiltIn(class) => Checked::built_in(class, &self.name, &self.settings, around)
                .map_err(told)
                .ok(),
            Class::Source(plugin) => {
                if self.settings.get("culvert.start") == Some("latest") {
                    let key = "culvert.start";
                    let way = "leave it out: where a plugin begins is for a setting of its own";
                    unsupported(self.place(key), key, way, found);
                }
                super::stage::connector_plan(self, plugin, around.plugins, found).map(Checked::PluginSource)
            }
            Class::Sink(plugin) => {
                let topics = room::topics(&self.settings.expose()).map_err(&mut told).ok();
                let plan = super::stage::connector_plan(self, plugin, around.plugins, found);
                Some(Checked::PluginSink(SinkPlan {
                    plan: plan?,
                    topics: topics?,
                }))
            }
        }
    }

    fn common_keys(&self, found: &mut Found) {
        for (key, shown) in self.settings.shown() {
            let Some(common) = COMMON.iter().find(|common| is_of(key, common.key)) else {
                continue;
            };
            match common.honoured {
                Honoured::Yes => {}
                Honoured::Only(values) if values.contains(&shown) => {}
                Honoured::Only(values) => {
                    let way = format!("leave it out, or write \"{}\": {}", values[0], common.doc);
                    unsupported(self.place(key), key, &way, found);
                }
                Honoured::No => {
                    unsupported(
                        self.place(key),
                        key,
                        &format!("leave it out: {}", common.doc),
                        found,
                    );
                }
            }
        }
    }

    fn class<'p>(&self, plugins: &'p Shelf, found: &mut Found) -> Option<Class<'p>> {
        let key = "connector.class";
        let Some(text) = self.settings.get(key) else {
            found.add(MISSING, self.place(key), key, "is missing", classes(plugins));
            return None;
        };
        let class = Class::parse(text, plugins);
        if class.is_none() {
            let plugin = text.strip_prefix(PLUGIN_CLASS).unwrap_or(text);
            let (problem, hint) = match (
                plugins.get(plugin).and_then(plugin::Found::role),
                plugins.why_not(plugin),
            ) {
                (Some(role), _) => (
                    format!("plugin {plugin} is a {role}, and no connector"),
                    classes(plugins),
                ),
                (None, Some(reason)) => (reason, "repair the plugin's file, or take it away".into()),
                (None, None) => {
                    let near = near_class(text, plugins);
                    let hint = near.map_or_else(|| classes(plugins), |near| format!("did you mean {near}?"));
                    (format!("this version has no class {:?}", brief(text)), hint)
                }
            };
            found.add(CLASS, self.place(key), key, problem, hint);
        }
        class
    }

    fn tasks_max(&self, class: Option<Class<'_>>, found: &mut Found) -> Option<u16> {
        let Some(text) = self.settings.get("tasks.max") else {
            return Some(1);
        };
        let is_plugin = matches!(class, Some(Class::Source(_) | Class::Sink(_)));
        let most = if is_plugin { 1 } else { TASKS_MAX };
        let tasks = text
            .trim()
            .parse()
            .ok()
            .filter(|tasks| (1..=most).contains(tasks));
        if tasks.is_none() {
            let problem = format!("{:?} is not a number of tasks", brief(text));
            let hint = if is_plugin {
                "valid: 1; a plugin is not told which part of the work a task has, and has one writer"
                    .to_owned()
            } else {
                format!("valid: 1 to {TASKS_MAX}")
            };
            found.add(VALUE, self.place("tasks.max"), "tasks.max", problem, hint);
        }
        tasks
    }

    fn start(&self, found: &mut Found) -> Option<Start> {
        match self.settings.get("culvert.start") {
            None | Some("earliest") => Some(Start::Earliest),
            Some("latest") => Some(Start::Latest),
            Some(text) => {
                let problem = format!("{:?} is not one of its words", brief(text));
                let hint = "valid: earliest or latest";
                found.add(VALUE, self.place("culvert.start"), "culvert.start", problem, hint);
                None
            }
        }
    }

    /// Whether refused records become dead letters.
    fn dead_letters(&self, class: Option<Class<'_>>, found: &mut Found) -> Option<bool> {
        const TOPIC: &str = "errors.deadletterqueue.topic.name";
        let key = "errors.tolerance";
        if class.is_some_and(|class| !class.is_kafka())
            && let Some((key, _)) = self
                .settings
                .shown()
                .find(|(key, _)| key.starts_with("errors.deadletterqueue."))
        {
            let way = "leave it out: only a Kafka source or sink has a topic of dead letters";
            unsupported(self.place(key), key, way, found);
        }
        match self.settings.get(key) {
            None | Some("none") => Some(false),
            Some("all") if class.is_some_and(|class| class.is_source() && !class.is_kafka()) => {
                let way = "leave it out, and name the stage in transforms of the sink, which keeps what is refused there: of sources, only a Kafka source has a place for it, in the cluster that it reads";
                unsupported(self.place(key), key, way, found);
                None
            }
            Some("all") if class.is_some_and(Class::is_kafka) && self.settings.get(TOPIC).is_none() => {
                let hint = "name the topic of dead letters: unlike in Kafka Connect, refused records are never thrown away";
                found.add(MISSING, self.place(key), TOPIC, "is missing", hint);
                None
            }
            Some("all") if class.is_some_and(Class::loses_dead_letters) => {
                let problem = "the plugin keeps no dead letters";
                let hint = "leave it out: the first refused record then stops its stream";
                found.add(CONTRADICTION, self.place(key), key, problem, hint);
                None
            }
            Some("all") => Some(true),
            Some(text) => {
                let problem = format!("{:?} is not one of its words", brief(text));
                found.add(VALUE, self.place(key), key, problem, "valid: none or all");
                None
            }
        }
    }

    fn incarnation(&self, found: &mut Found) -> Option<u32> {
        let key = "culvert.incarnation";
        let Some(text) = self.settings.get(key) else {
            return Some(0);
        };
        let number = text.trim().parse().ok();
        if number.is_none() {
            let problem = format!("{:?} is not a whole number", brief(text));
            found.add(
                VALUE,
                self.place(key),
                key,
                problem,
                "valid: 0 to 4294967295; raise it by one",
            );
        }
        number
    }

    fn priority(&self, class: Option<Class<'_>>, found: &mut Found) -> Option<Priority> {
        let key = "culvert.priority";
        let hint = "the source of a stream says how urgent it is, on every link to its sinks";
        let Some(text) = self.of_sources(key, hint, class, found)? else {
            return Some(Priority::Normal);
        };
        let priority = match text {
            "high" => Some(Priority::High),
            "normal" => Some(Priority::Normal),
            "low" => Some(Priority::Low),
            _ => None,
        };
        if priority.is_none() {
            let problem = format!("{:?} is not one of its words", brief(text));
            let hint = "valid: high, normal or low";
            found.add(VALUE, self.place(key), key, problem, hint);
        }
        priority
    }

    fn quota(&self, class: Option<Class<'_>>, found: &mut Found) -> Option<Option<ByteSize>> {
        let key = "culvert.quota";
        let hint =
            "a sink holds nothing here: what waits for it lies in the outbox of the gateway with the source";
        let Some(text) = self.of_sources(key, hint, class, found)? else {
            return Some(None);
        };
        let quota = ByteSize::parse(text).filter(|quota| QUOTA.contains(&quota.0));
        if quota.is_none() {
            let problem = format!("{:?} is no quota of a stream", brief(text));
            let hint = "valid: a size of at least 1 MiB, such as 2 GiB";
            found.add(VALUE, self.place(key), key, problem, hint);
        }
        quota.map(Some)
    }

    /// A key that sinks do not have, where it is given; `hint` is for those that have it.
    fn of_sources(
        &self,
        key: &str,
        hint: &str,
        class: Option<Class<'_>>,
        found: &mut Found,
    ) -> Option<Option<&str>> {
        let text = self.settings.get(key);
        if text.is_some() && class.is_some_and(|class| !class.is_source()) {
            found.add(CONTRADICTION, self.place(key), key, "is a key of sources", hint);
            return None;
        }
        Some(text)
    }

    /// `culvert.from` or `culvert.via`: peers' sites, and only for sinks. Of a chain of relays the last is our peer;
    /// the others are known to their own neighbours alone.
    fn sites(&self, key: &str, class: Option<Class<'_>>, found: &mut Found) -> Vec<String> {
        let Some(text) = self.settings.get(key) else {
            return Vec::new();
        };
        let sites: Vec<String> = text.split(',').map(|site| site.trim().to_owned()).collect();
        if class.is_some_and(Class::is_source) {
            let hint = "a source reads its own outside system; the sink at the other site names this one";
            found.add(CONTRADICTION, self.place(key), key, "is a key of sinks", hint);
        } else if let Some(wrong) = sites
            .iter()
            .find(|site| !names::is_plain(site, culvert_proto::limits::NAME_BYTES_MAX))
        {
            let problem = format!("{:?} is not a site", brief(wrong));
            found.add(
                VALUE,
                self.place(key),
                key,
                problem,
                "valid: letters, digits, '.', '_' and '-'",
            );
        } else if key == "culvert.from" && sites.len() > 1 {
            found.add(
                VALUE,
                self.place(key),
                key,
                "names more than one site",
                "valid: one origin for each sink",
            );
        }
        sites
    }

    /// The neighbour on the way to the origin, a relay or the origin itself, must be a peer.
    fn route(&self, from: Option<&str>, via: &[String], around: &Surroundings<'_>, found: &mut Found) {
        let (key, neighbour) = match (from, via.last()) {
            (None, None) => {
                let hint = "name the site whose topics it reads";
                found.add(
                    MISSING,
                    self.place("culvert.from"),
                    "culvert.from",
                    "is missing",
                    hint,
                );
                return;
            }
            (None, Some(_)) => {
                let hint = "name the origin's site in culvert.from";
                found.add(
                    CONTRADICTION,
                    self.place("culvert.via"),
                    "culvert.via",
                    "stands without culvert.from",
                    hint,
                );
                return;
            }
            (Some(from), None) => ("culvert.from", from),
            (Some(from), Some(last)) => {
                if via.iter().any(|site| site == from) {
                    let hint = "culvert.via names the sites between here and the origin";
                    let problem = "names the origin itself";
                    found.add(
                        CONTRADICTION,
                        self.place("culvert.via"),
                        "culvert.via",
                        problem,
                        hint,
                    );
                }
                if via.len() > 1 {
                    unsupported(
                        self.place("culvert.via"),
                        "culvert.via",
                        "name the one site that relays; there are no chains of relays yet",
                        found,
                    );
                }
                ("culvert.via", last.as_str())
            }
        };
        if !around.sites.contains(&neighbour) {
            let problem = format!("no [[peer]] has the site {:?}", brief(neighbour));
            found.add(
                CONTRADICTION,
                self.place(key),
                key,
                problem,
                super::not_a_peer(around.sites),
            );
        }
    }

    /// What the connector's room said, with its place and without resolved secrets; of a key that was found wrong
    /// here, it can only say the same again.
    fn own_mistake(&self, mistake: room::Mistake, found: &mut Found) {
        let hint = mistake
            .hint
            .unwrap_or_else(|| "the connector's page in docs lists what is valid".into());
        let (problem, hint) = (
            self.settings.redact(&mistake.problem),
            self.settings.redact(&hint),
        );
        found.add_new(CONNECTOR, self.place(&mistake.key), mistake.key, problem, hint);
    }

    /// Something is wrong with the value of `key`; resolved secrets do not stay in the text.
    pub(super) fn mistake(
        &self,
        code: &'static str,
        key: &str,
        problem: impl Into<String>,
        hint: impl Into<String>,
        found: &mut Found,
    ) {
        let problem = self.settings.redact(&problem.into());
        found.add(code, self.place(key), key, problem, hint);
    }

    /// The folder that relative paths are below.
    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    fn place(&self, key: &str) -> Place {
        match self.lines.get(key) {
            Some(line) => Place::line(self.file, *line),
            None => Place::file(self.file),
        }
    }
}

/// A key that stands twice: JSON readers take the last one and say nothing.
fn repeated(file: &Path, keys: &[KeyAt], found: &mut Found) {
    for (n, key) in keys.iter().enumerate() {
        if let Some(first) = keys[..n].iter().find(|other| other.path == key.path) {
            let name = key.path.rsplit('/').next().unwrap_or(&key.path);
            let problem = format!("is also at line {}", first.line);
            found.add(
                CONTRADICTION,
                Place::line(file, key.line),
                name,
                problem,
                "keep one of the two",
            );
        }
    }
}

fn lines(keys: Vec<KeyAt>, wrapped: bool) -> BTreeMap<String, usize> {
    let name = |path: String| match path.strip_prefix("config/") {
        Some(inner) if wrapped => inner.to_owned(),
        _ => path,
    };
    keys.into_iter().map(|key| (name(key.path), key.line)).collect()
}

fn unsupported(place: Place, key: &str, way: &str, found: &mut Found) {
    found.add(UNSUPPORTED, place, key, "is not supported by this version", way);
}

/// Whether `key` is `pattern`, or of the family that `pattern` names with a `*` at its end.
fn is_of(key: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(family) => key.starts_with(family),
        None => key == pattern,
    }
}

/// Whether `key` is one that connectors have in common, sinks with their topics among them.
pub(super) fn is_common(key: &str) -> bool {
    COMMON.iter().any(|common| is_of(key, common.key)) || ["topics", "topics.regex"].contains(&key)
}

fn classes(plugins: &Shelf) -> String {
    let built_in = BuiltIn::ALL.map(BuiltIn::name).into_iter();
    let names: Vec<&str> = built_in.chain(connector_plugins(plugins)).collect();
    format!("valid: {}", names.join(", "))
}

/// Names of the plugins that can be connectors.
fn connector_plugins(plugins: &Shelf) -> impl Iterator<Item = &str> {
    plugins
        .plugins()
        .filter(|plugin| matches!(plugin.role(), Some(Role::Source | Role::Sink)))
        .map(|plugin| plugin.description.name.as_str())
}

/// The class that was meant, by the last word: the packages of unrelated classes look alike.
fn near_class<'p>(text: &str, plugins: &'p Shelf) -> Option<&'p str> {
    fn last(name: &str) -> &str {
        name.rsplit('.').next().unwrap_or(name)
    }
    let names = || {
        let built_in = BuiltIn::ALL.map(BuiltIn::name).into_iter();
        built_in.chain(connector_plugins(plugins))
    };
    let near = nearest(last(text), names().map(last))?;
    names().find(|name| last(name) == near)
}

fn brief(text: &str) -> String {
    text.chars().take(120).collect()
}

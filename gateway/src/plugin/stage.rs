//! A plugin as a stage of the flow.

use super::failure::{Failures, Recorder};
use super::log::StageLog;
use super::plan::{PluginPlan, StagePlan};
use super::shelf::Found;
use super::sink::{PluginSink, RouteEnd};
use crate::flow::delivery::MakeSink;
use crate::flow::predicate::Selecting;
use crate::flow::stage::{Chain, MakeChain, Stage, StageFault};
use crate::flow::{Sink, SinkFault};
use culvert_host::{
    Compiler, Engine, Figure, Labels, LoadError, Meter, Options, Plugin, Stream, Surroundings, Tape,
    Transform, Usage,
};
use culvert_proto::StreamId;
use culvert_proto::columns::{Columns, Outcomes};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Loads plugins once, and opens stages of them.
pub struct Runner {
    engine: Engine,
    loaded: Mutex<BTreeMap<String, Plugin>>,
    meters: Mutex<Vec<Metered>>,
    failures: Option<Arc<Failures>>,
}

/// A stage that was opened, and what it uses.
struct Metered {
    connector: Arc<str>,
    stage: Arc<str>,
    plugin: String,
    meter: Arc<Meter>,
}

/// What `status` shows of a stage, over all of its instances.
#[derive(Clone, Debug)]
pub struct StageUsage {
    /// The connector.
    pub connector: Arc<str>,
    /// The stage's name.
    pub stage: Arc<str>,
    /// Plugin and version.
    pub plugin: String,
    /// What it used.
    pub usage: Usage,
}

impl Runner {
    /// Compiled code is kept in `cache`; compiling is done by `compiler`, a program called with `plugin compile`.
    ///
    /// # Errors
    /// When this host cannot run plugins.
    pub fn new(cache: PathBuf, compiler: Option<PathBuf>) -> Result<Runner, LoadError> {
        let compiler = match compiler {
            Some(program) => Compiler::Child {
                program,
                arguments: vec!["plugin".into(), "compile".into()],
            },
            None => Compiler::Here,
        };
        Ok(Runner {
            engine: Engine::new(Options {
                cache: Some(cache),
                compiler,
                ..Options::default()
            })?,
            loaded: Mutex::default(),
            meters: Mutex::default(),
            failures: None,
        })
    }

    /// The same, where failing batches of stages are recorded.
    #[must_use]
    pub fn recording(self, failures: Option<Failures>) -> Runner {
        Runner {
            failures: failures.map(Arc::new),
            ..self
        }
    }

    /// Compiles the plugin, unless it is compiled already. Takes seconds for an interpreter.
    ///
    /// # Errors
    /// When its file cannot be run.
    pub fn load(&self, found: &Found) -> Result<(), LoadError> {
        let name = &found.description.name;
        if !self.loaded.lock().contains_key(name) {
            let plugin = self.engine.load(&found.bytes()?)?;
            self.loaded.lock().insert(name.clone(), plugin);
        }
        Ok(())
    }

    /// What opens the stages of one task of `connector`.
    #[must_use]
    pub fn chain(self: &Arc<Runner>, connector: &str, stages: &[StagePlan]) -> Arc<MakeChain> {
        let (runner, connector) = (self.clone(), Arc::<str>::from(connector));
        let stages = stages.to_vec();
        Arc::new(move || {
            let open = |plan| runner.open(&connector, plan);
            let opened = stages.iter().map(open).collect::<Result<Vec<_>, StageFault>>()?;
            // Only now: a chain that is tried again would leave a meter each time.
            let metered = opened.iter().map(|stage| stage.metered(&connector));
            runner.meters.lock().extend(metered);
            let selecting = |(stage, plan): (PluginStage, &StagePlan)| -> Box<dyn Stage> {
                match &plan.selection {
                    Some(selection) => Box::new(Selecting::new(Box::new(stage), selection.clone())),
                    None => Box::new(stage),
                }
            };
            Ok(Chain::new(
                opened.into_iter().zip(&stages).map(selecting).collect(),
            ))
        })
    }

    /// What makes the one shard of a sink connector that is a plugin.
    #[must_use]
    pub fn sink(self: &Arc<Runner>, plan: &PluginPlan, end: RouteEnd) -> Arc<MakeSink> {
        let (runner, plan) = (self.clone(), plan.clone());
        Arc::new(move |_| runner.open_sink(&plan, &end))
    }

    fn open_sink(&self, plan: &PluginPlan, end: &RouteEnd) -> Result<Box<dyn Sink>, SinkFault> {
        let stop = |code, reason| SinkFault::Stop {
            code,
            reason: format!("connector {}: {reason}", end.connector),
        };
        let plugin = self.loaded(&plan.plugin).ok_or_else(|| {
            let reason = format!("plugin {} was not loaded", plan.plugin);
            stop("CULVERT-G003", reason)
        })?;
        let log = Arc::new(StageLog {
            connector: end.connector.clone(),
            stage: "sink".into(),
        });
        let around = Surroundings::new(log).granting(plan.grants.clone());
        let sink = culvert_host::Sink::new(&plugin, &plan.settings, plan.limits.clone(), around)
            .map_err(|error| super::sink::open_fault(&end.connector, error))?;
        self.meter(&end.connector, "sink", &plugin, sink.meter());
        Ok(Box::new(PluginSink::new(sink, end.clone())))
    }

    fn open(&self, connector: &Arc<str>, stage: &StagePlan) -> Result<PluginStage, StageFault> {
        let (name, plan) = (&stage.name, &stage.plan);
        let plugin = self.loaded(&plan.plugin);
        let plugin = plugin.ok_or_else(|| StageFault::Stop {
            code: "CULVERT-G003",
            reason: format!("stage {name}: plugin {} was not loaded", plan.plugin),
        })?;
        let log = Arc::new(StageLog {
            connector: connector.clone(),
            stage: name.clone(),
        });
        let around = Surroundings::new(log).granting(plan.grants.clone());
        let around = match &self.failures {
            Some(failures) => around.taped(Tape::recording(Arc::new(Recorder {
                failures: failures.clone(),
                connector: connector.clone(),
                stage: name.clone(),
                plugin: plugin.clone(),
                plan: plan.clone(),
            }))),
            None => around,
        };
        let transform = Transform::open(&plugin, &plan.settings, plan.limits.clone(), around)
            .map_err(|error| fault(name, error.into()))?;
        Ok(PluginStage {
            name: name.clone(),
            transform,
            ids: BTreeMap::new(),
        })
    }

    /// The plugin of this name, compiled.
    pub(super) fn loaded(&self, name: &str) -> Option<Plugin> {
        self.loaded.lock().get(name).cloned()
    }

    /// What an instance of `plugin` uses is shown from now on.
    pub(super) fn meter(&self, connector: &Arc<str>, stage: &str, plugin: &Plugin, meter: Arc<Meter>) {
        let description = &plugin.description;
        self.meters.lock().push(Metered {
            connector: connector.clone(),
            stage: stage.into(),
            plugin: format!("{} {}", description.name, description.version),
            meter,
        });
    }

    /// What every stage has used since the start, those of several tasks together.
    #[must_use]
    pub fn usage(&self) -> Vec<StageUsage> {
        let mut stages: Vec<StageUsage> = Vec::new();
        for metered in &*self.meters.lock() {
            let usage = metered.meter.usage();
            let same = |stage: &&mut StageUsage| {
                stage.connector == metered.connector && stage.stage == metered.stage
            };
            match stages.iter_mut().find(same) {
                Some(stage) => stage.usage = together(&stage.usage, &usage),
                None => stages.push(StageUsage {
                    connector: metered.connector.clone(),
                    stage: metered.stage.clone(),
                    plugin: metered.plugin.clone(),
                    usage,
                }),
            }
        }
        stages
    }

    /// What plugins have counted themselves since the start, and for how many calls there was no room.
    #[must_use]
    pub fn figures(&self) -> (Vec<StageFigure>, u64) {
        let (mut all, mut left_out) = (BTreeMap::new(), 0);
        for metered in &*self.meters.lock() {
            let (figures, more) = metered.meter.figures();
            left_out += more;
            for (name, labels, figure) in figures {
                let key = (metered.connector.clone(), metered.stage.clone(), name, labels);
                add_figure(&mut all, key, figure);
            }
        }
        let one = |((connector, stage, name, labels), figure)| StageFigure {
            connector,
            stage,
            name,
            labels,
            figure,
        };
        (all.into_iter().map(one).collect(), left_out)
    }
}

/// A figure of a plugin's own.
#[derive(Clone, Debug, PartialEq)]
pub struct StageFigure {
    /// The connector.
    pub connector: Arc<str>,
    /// The stage's name.
    pub stage: Arc<str>,
    /// As the plugin calls it.
    pub name: String,
    /// The plugin's own labels.
    pub labels: Labels,
    /// Over all tasks: counts together, a gauge of one of them.
    pub figure: Figure,
}

/// Connector, stage, name and labels.
type FigureKey = (Arc<str>, Arc<str>, String, Labels);

/// Adds the figures of one task to those of the others. One that is of another kind there is left as it is.
fn add_figure(all: &mut BTreeMap<FigureKey, Figure>, key: FigureKey, figure: Figure) {
    match (all.get_mut(&key), figure) {
        (None, figure) => drop(all.insert(key, figure)),
        (Some(Figure::Count(all)), Figure::Count(count)) => *all = all.saturating_add(count),
        (Some(Figure::Gauge(held)), Figure::Gauge(value)) => *held = value,
        (
            Some(Figure::Observed {
                count: all,
                sum: total,
            }),
            Figure::Observed { count, sum },
        ) => {
            *all = all.saturating_add(count);
            *total += sum;
        }
        (Some(_), _) => {}
    }
}

fn together(one: &Usage, other: &Usage) -> Usage {
    Usage {
        calls: one.calls + other.calls,
        records: one.records + other.records,
        bytes_in: one.bytes_in + other.bytes_in,
        bytes_out: one.bytes_out + other.bytes_out,
        cpu: one.cpu + other.cpu,
        memory_bytes_peak: one.memory_bytes_peak.max(other.memory_bytes_peak),
        traps: one.traps + other.traps,
        timeouts: one.timeouts + other.timeouts,
        memory_faults: one.memory_faults + other.memory_faults,
        log_lines_suppressed: one.log_lines_suppressed + other.log_lines_suppressed,
    }
}

/// One instance of a plugin, for one task.
pub(super) struct PluginStage {
    name: Arc<str>,
    transform: Transform,
    /// Streams as the plugin knows them.
    ids: BTreeMap<StreamId, String>,
}

impl PluginStage {
    fn metered(&self, connector: &Arc<str>) -> Metered {
        let description = &self.transform.plugin().description;
        Metered {
            connector: connector.clone(),
            stage: self.name.clone(),
            plugin: format!("{} {}", description.name, description.version),
            meter: self.transform.meter(),
        }
    }
}

impl Stage for PluginStage {
    fn name(&self) -> &str {
        &self.name
    }

    fn process(&mut self, stream: &StreamId, topic: &str, batch: &Columns) -> Result<Outcomes, StageFault> {
        if !self.ids.contains_key(stream) {
            self.ids
                .insert(stream.clone(), format!("{stream}@{}", stream.lineage_hex()));
        }
        let told = Stream {
            id: self.ids.get(stream).map_or("", String::as_str),
            topic,
            partition: stream.partition,
        };
        self.transform
            .process(&told, batch)
            .map_err(|error| fault(&self.name, error))
    }
}

pub(super) fn fault(stage: &str, error: culvert_host::StageFault) -> StageFault {
    match error {
        culvert_host::StageFault::Retry { reason, after } => StageFault::Retry {
            reason: format!("stage {stage}: {reason}"),
            after,
        },
        culvert_host::StageFault::Stop { code, reason } => StageFault::Stop {
            code,
            reason: format!("stage {stage}: {reason}"),
        },
    }
}

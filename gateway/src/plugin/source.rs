//! A plugin as a source of the flow.

use super::log::StageLog;
use super::plan::PluginPlan;
use super::sink::PAUSE_MAX;
use super::stage::Runner;
use crate::flow::SourceFault;
use crate::flow::intake::pages::MakePaged;
use crate::flow::paged::{Changes, Page, PageFault, PagedSource, ResumePoint};
use culvert_host::{Source, SourceFault as HostFault, Surroundings, Want};
use culvert_proto::limits;
use std::sync::Arc;
use std::time::Duration;

/// What plugins are called in figures and logs where they are the connector itself.
const SELF: &str = "source";

/// About what one poll is asked for: four full frames.
const RECORDS_WANTED: usize = 4 * limits::FRAME_RECORDS_MAX;
const BYTES_WANTED: usize = 4 * limits::FRAME_BYTES_TARGET;

impl Runner {
    /// What makes the source of one task of `connector`.
    #[must_use]
    pub fn source(self: &Arc<Runner>, connector: &str, plan: &PluginPlan) -> Box<MakePaged> {
        let (runner, connector, plan) = (self.clone(), Arc::<str>::from(connector), plan.clone());
        Box::new(move |state| runner.open_source(&connector, &plan, state))
    }

    fn open_source(
        &self,
        connector: &Arc<str>,
        plan: &PluginPlan,
        state: &Changes,
    ) -> Result<Box<dyn PagedSource>, SourceFault> {
        let plugin = self.loaded(&plan.plugin).ok_or_else(|| SourceFault::Stop {
            code: "CULVERT-G003",
            reason: format!("plugin {} was not loaded", plan.plugin),
        })?;
        let log = Arc::new(StageLog {
            connector: connector.clone(),
            stage: SELF.into(),
        });
        let limits = plan.limits.clone();
        let around = Surroundings::new(log).granting(plan.grants.clone());
        let source = Source::new(&plugin, &plan.settings, limits, around, state).map_err(|error| {
            match culvert_host::StageFault::from(error) {
                culvert_host::StageFault::Retry { reason, .. } => SourceFault::Retry(reason),
                culvert_host::StageFault::Stop { code, reason } => SourceFault::Stop { code, reason },
            }
        })?;
        self.meter(connector, SELF, source.plugin(), source.meter());
        let wait_max = plan.limits.call_time_max / 2;
        Ok(Box::new(PluginSource { source, wait_max }))
    }
}

/// One task's plugin.
struct PluginSource {
    source: Source,
    /// Waiting is part of a call, whose time has a limit.
    wait_max: Duration,
}

impl PagedSource for PluginSource {
    fn open(&mut self, resume: &[ResumePoint]) -> Result<Changes, PageFault> {
        Ok(self.source.open(&told(resume))?)
    }

    fn poll(&mut self, wait: Duration) -> Result<Page, PageFault> {
        let page = self.source.poll(Want {
            records: RECORDS_WANTED,
            bytes: BYTES_WANTED,
            wait: wait.min(self.wait_max),
        })?;
        let point = |point: culvert_host::ResumePoint| ResumePoint {
            partition: point.partition,
            offset: point.offset,
        };
        let record = |produced: culvert_host::Produced| (produced.topic, produced.record);
        Ok(Page {
            points: page.points.into_iter().map(point).collect(),
            records: page.records.into_iter().map(record).collect(),
            idle: page.idle,
            changes: page.changes,
        })
    }

    fn committed(&mut self, points: &[ResumePoint]) -> Result<Changes, PageFault> {
        Ok(self.source.committed(&told(points))?)
    }

    fn kept(&mut self, changes: &Changes) {
        self.source.kept(changes);
    }

    fn close(&mut self) {
        self.source.close();
    }
}

fn told(points: &[ResumePoint]) -> Vec<culvert_host::ResumePoint> {
    let point = |point: &ResumePoint| culvert_host::ResumePoint {
        partition: point.partition.clone(),
        offset: point.offset.clone(),
    };
    points.iter().map(point).collect()
}

impl From<HostFault> for PageFault {
    fn from(fault: HostFault) -> PageFault {
        match fault {
            HostFault::Retry { reason, after } => PageFault::Retry {
                reason,
                after: after.map(|pause| pause.min(PAUSE_MAX)),
            },
            HostFault::Stop { code, reason } => PageFault::Stop { code, reason },
            HostFault::Poison(poison) => PageFault::Broken(poison.to_string()),
        }
    }
}

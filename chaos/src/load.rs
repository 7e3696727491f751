//! The load: `culvert generate` as a process of its own, so that each record carries a mark that all judges know.

use crate::site::{Site, TOPIC};
use culvert_tests::Scratch;
use culvert_tests::gateway::program;
use culvert_tests::process::Process;
use std::process::Command;
use std::time::Duration;

/// Records being written to network 1's topic.
pub struct Load {
    process: Process,
    _scratch: Scratch,
}

/// More than any run can write.
const FOR_EVER: u64 = 1 << 40;

impl Load {
    /// Writes `rate` records a second (as fast as they are taken when `None`) until stopped, or until there are `count`.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(site: &Site, rate: Option<u64>, count: Option<u64>, seed: u64) -> anyhow::Result<Load> {
        let scratch = Scratch::new("load")?;
        let mut command = Command::new(program()?);
        command
            .args([
                "generate",
                "--bootstrap",
                &site.source.bootstrap(),
                "--topic",
                TOPIC,
            ])
            .args(["--seed", &seed.to_string()])
            .args(["--count", &count.unwrap_or(FOR_EVER).to_string()]);
        if let Some(rate) = rate {
            command.args(["--rate", &rate.to_string()]);
        }
        let process = Process::spawn("generate", &command, &scratch.path().join("log"))?;
        Ok(Load {
            process,
            _scratch: scratch,
        })
    }

    /// Whether it has written its count, or failed.
    pub fn ended(&self) -> bool {
        self.process.ended().is_some()
    }

    /// Waits for the last of its count.
    ///
    /// # Errors
    /// When it fails or takes longer than `deadline`.
    pub fn finish(&self, deadline: Duration) -> anyhow::Result<()> {
        let status = culvert_tests::wait_for(deadline, "the load to be written", || self.process.ended())?;
        anyhow::ensure!(
            status.success(),
            "culvert generate: {status}\n{}",
            self.process.tail()
        );
        Ok(())
    }

    /// Ends it wherever it stands: each partition then holds a run of sequences from 0 without a gap, because its
    /// producer is idempotent.
    ///
    /// # Errors
    /// When it has ended by itself with a fault.
    pub fn stop(self) -> anyhow::Result<()> {
        if let Some(status) = self.process.ended() {
            anyhow::ensure!(
                status.success(),
                "culvert generate: {status}\n{}",
                self.process.tail()
            );
        }
        self.process.kill9()
    }
}

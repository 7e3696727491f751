//! A plugin's lines in the gateway's log.

use culvert_host::{Level, Line, LogSink};
use std::sync::Arc;

/// Lines of one stage of one connector.
pub(super) struct StageLog {
    pub(super) connector: Arc<str>,
    pub(super) stage: Arc<str>,
}

impl LogSink for StageLog {
    /// WARN and ERROR ask a person to look, and that a plugin's words do so is not for the plugin to say: they come as
    /// INFO, with the level it gave.
    fn line(&self, line: &Line<'_>) {
        let (connector, stage, text) = (&*self.connector, &*self.stage, line.text);
        let sequence = line.sequence;
        match line.level {
            Level::Debug => tracing::debug!(connector, stage, sequence, text, "plugin"),
            level => tracing::info!(connector, stage, sequence, level = ?level, text, "plugin"),
        }
    }
}

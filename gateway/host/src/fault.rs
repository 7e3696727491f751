//! What can go wrong with a plugin, told so that an author or an operator can act on it.

use std::fmt;
use std::time::Duration;

/// Why a file is not a plugin that this gateway can run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Another kind of file.
    #[error("[CULVERT-W001] not WebAssembly: {found}")]
    NotWasm {
        /// What its first bytes are.
        found: String,
    },
    /// WebAssembly, but not wrapped.
    #[error("[CULVERT-W002] a core module, not a component: wrap it, as `culvert plugin build` does")]
    CoreModule,
    /// Damaged, or of features that are not switched on here.
    #[error("[CULVERT-W003] not a valid component: {reason}")]
    Invalid {
        /// What the parser or compiler said.
        reason: String,
    },
    /// It exports no role, or not what its role needs.
    #[error("[CULVERT-W004] {missing} is not exported; a plugin exports culvert:plugin/meta and one role")]
    MissingExport {
        /// The interface.
        missing: String,
    },
    /// A contract this host does not speak.
    #[error("[CULVERT-W005] built against culvert:plugin {found}; this gateway speaks {spoken}")]
    Contract {
        /// The version its exports name.
        found: String,
        /// Ours.
        spoken: &'static str,
    },
    /// It imports what no gateway offers.
    #[error("[CULVERT-W006] imports {import}, which this gateway does not offer: {hint}")]
    UnknownImport {
        /// The interface.
        import: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// What it says about itself is not what the contract allows.
    #[error("[CULVERT-W008] its description is not valid: {reason}")]
    Description {
        /// What is wrong.
        reason: String,
    },
    /// Above a limit.
    #[error("[CULVERT-W009] {what} is {size} bytes; at most {max} are taken")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Its size.
        size: usize,
        /// The most.
        max: usize,
    },
    /// It could not be compiled within what compiling may take.
    #[error("[CULVERT-W010] not compiled: {reason}")]
    Compile {
        /// What happened.
        reason: String,
    },
    /// The disk.
    #[error("[CULVERT-W011] {doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the system answered.
        source: std::io::Error,
    },
}

impl LoadError {
    /// The code of the page in `docs/errors/`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            LoadError::NotWasm { .. } => "CULVERT-W001",
            LoadError::CoreModule => "CULVERT-W002",
            LoadError::Invalid { .. } => "CULVERT-W003",
            LoadError::MissingExport { .. } => "CULVERT-W004",
            LoadError::Contract { .. } => "CULVERT-W005",
            LoadError::UnknownImport { .. } => "CULVERT-W006",
            LoadError::Description { .. } => "CULVERT-W008",
            LoadError::TooLarge { .. } => "CULVERT-W009",
            LoadError::Compile { .. } => "CULVERT-W010",
            LoadError::Io { .. } => "CULVERT-W011",
        }
    }
}

/// Why a call did not come back with an answer. The instance is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Poison {
    /// It trapped.
    Trap(String),
    /// It was at work for longer than it may.
    Timeout(Duration),
    /// It asked for more memory than it may.
    Memory(usize),
    /// It answered what the contract does not allow.
    Answer(String),
}

impl Poison {
    /// The code of the dead letter.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Poison::Trap(_) | Poison::Answer(_) => "plugin-trap",
            Poison::Timeout(_) => "plugin-timeout",
            Poison::Memory(_) => "plugin-memory",
        }
    }
}

impl fmt::Display for Poison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Poison::Trap(text) => write!(f, "the plugin trapped: {text}"),
            Poison::Timeout(limit) => write!(f, "the plugin was at work for more than {limit:?}"),
            Poison::Memory(max) => write!(f, "the plugin asked for more than {} MiB of memory", max >> 20),
            Poison::Answer(text) => write!(f, "the plugin's answer is not valid: {text}"),
        }
    }
}

/// Why an instance could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The plugin refused its settings or its surroundings.
    #[error("[CULVERT-W020] {0}")]
    Fatal(String),
    /// Heals by waiting.
    #[error("{reason}")]
    Retry {
        /// The plugin's own words.
        reason: String,
        /// The least pause.
        after: Option<Duration>,
    },
    /// It did not come back.
    #[error("[CULVERT-W021] open: {0}")]
    Poison(Poison),
    /// It imports what was not granted to it.
    #[error("[CULVERT-W030] plugin {plugin} {lacks}")]
    NotGranted {
        /// The plugin's name.
        plugin: String,
        /// What was not granted, each with the key that would.
        lacks: String,
    },
    /// It cannot be linked.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Why a batch was not treated. Nothing of it counts.
#[derive(Debug, thiserror::Error)]
pub enum StageFault {
    /// Heals by waiting: the same batch again.
    #[error("{reason}")]
    Retry {
        /// The plugin's own words.
        reason: String,
        /// The least pause.
        after: Option<Duration>,
    },
    /// Needs a person.
    #[error("[{code}] {reason}")]
    Stop {
        /// The code of the page in `docs/errors/`.
        code: &'static str,
        /// What happened.
        reason: String,
    },
}

impl From<OpenError> for StageFault {
    fn from(error: OpenError) -> StageFault {
        let (code, reason) = match error {
            OpenError::Retry { reason, after } => return StageFault::Retry { reason, after },
            OpenError::Fatal(reason) => ("CULVERT-W020", reason),
            OpenError::Poison(poison) => ("CULVERT-W021", format!("open: {poison}")),
            OpenError::NotGranted { plugin, lacks } => ("CULVERT-W030", format!("plugin {plugin} {lacks}")),
            OpenError::Load(error) => (error.code(), error.to_string()),
        };
        StageFault::Stop { code, reason }
    }
}

//! Coded errors: what operators, `dmctl` and the master see when something is wrong.
//!
//! A number, class, scope and level identify the fault; the message says what happened, the cause
//! what the other side said, and the workaround what to do about it. The text form and all
//! numbers are those of the existing worker, because tools parse them and people search for them.

pub mod code;

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;

/// A result whose error is coded.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// One coded error.
///
/// Compares by value, so tests can state the whole error. To ask "which fault is it", compare
/// [`Error::code`] with [`Code::number`], or use [`Error::is`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The number, one per kind of fault.
    pub code: u32,
    /// The part of the system that raises it.
    pub class: Class,
    /// Which side is at fault.
    pub scope: Scope,
    /// How bad it is.
    pub level: Level,
    /// What happened.
    pub message: String,
    /// The text of the root cause, such as the server's own words. May be empty.
    pub cause: String,
    /// What the operator can do. May be empty.
    pub workaround: String,
}

impl Error {
    /// An error of kind `code` with the class, scope, level and workaround that belong to it.
    pub fn new(code: &Code, message: impl Into<String>) -> Self {
        Self {
            code: code.number,
            class: code.class,
            scope: code.scope,
            level: code.level,
            message: message.into(),
            cause: String::new(),
            workaround: code.workaround.to_owned(),
        }
    }

    /// Sets the text of the root cause.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = cause.into();
        self
    }

    /// Sets whose fault it is, for kinds that occur on both sides.
    #[must_use]
    pub fn with_scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Replaces the workaround by a more precise one.
    #[must_use]
    pub fn with_workaround(mut self, workaround: impl Into<String>) -> Self {
        self.workaround = workaround.into();
        self
    }

    /// Puts `context` and `: ` in front of the message.
    #[must_use]
    pub fn annotate(mut self, context: &str) -> Self {
        self.message.insert_str(0, ": ");
        self.message.insert_str(0, context);
        self
    }

    /// Whether this error is of kind `code`.
    pub fn is(&self, code: &Code) -> bool {
        self.code == code.number
    }
}

/// `[code=N:class=C:scope=S:level=L]`, then `, Message: …`, `, RawCause: …` and `, Workaround: …`
/// for the parts that are not empty.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            code,
            class,
            scope,
            level,
            ..
        } = self;
        write!(f, "[code={code}:class={class}:scope={scope}:level={level}]")?;
        let parts = [
            ("Message", &self.message),
            ("RawCause", &self.cause),
            ("Workaround", &self.workaround),
        ];
        for (name, text) in parts.iter().filter(|(_, text)| !text.is_empty()) {
            write!(f, ", {name}: {text}")?;
        }
        Ok(())
    }
}

impl core::error::Error for Error {}

/// A kind of fault: everything about an [`Error`] that does not depend on the occasion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// The number.
    pub number: u32,
    /// The part of the system that raises it.
    pub class: Class,
    /// Whose fault it is unless the occasion says otherwise.
    pub scope: Scope,
    /// How bad it is.
    pub level: Level,
    /// What the operator can do; empty when there is no general advice.
    pub workaround: &'static str,
}

/// Declares an enum whose variants have a fixed text.
macro_rules! text_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)*
        }

        impl $name {
            /// The text used on the wire and in messages.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

text_enum! {
    /// The part of the system that raises an error.
    Class {
        /// A database driver or server.
        Database = "database",
        /// A helper function with no better home.
        Functional = "functional",
        /// A configuration value or file.
        Config = "config",
        /// Binlog names and positions.
        BinlogOp = "binlog-op",
        /// A checkpoint.
        Checkpoint = "checkpoint",
        /// The checks before a task starts.
        TaskCheck = "task-check",
        /// The checks of a source.
        SourceCheck = "source-check",
        /// Relay log files as a library.
        RelayEventLib = "relay-event-lib",
        /// The relay unit.
        RelayUnit = "relay-unit",
        /// The dump unit.
        DumpUnit = "dump-unit",
        /// The load unit.
        LoadUnit = "load-unit",
        /// The sync unit.
        SyncUnit = "sync-unit",
        /// The master.
        DmMaster = "dm-master",
        /// The worker.
        DmWorker = "dm-worker",
        /// The tracer, which is no more.
        DmTracer = "dm-tracer",
        /// The data validator.
        Validator = "validator",
        /// Coordination through etcd.
        Ha = "ha",
        /// Tracking of table schemas.
        SchemaTracker = "schema-tracker",
        /// The master's scheduler.
        Scheduler = "scheduler",
        /// The command-line client.
        Dmctl = "dmctl",
        /// Unknown.
        NotSet = "not-set",
        /// The HTTP interface of the master.
        OpenApi = "openapi",
    }
}

text_enum! {
    /// Which side is at fault.
    Scope {
        /// Unknown.
        NotSet = "not-set",
        /// The source database.
        Upstream = "upstream",
        /// The target database.
        Downstream = "downstream",
        /// The worker or its surroundings.
        Internal = "internal",
    }
}

text_enum! {
    /// How bad an error is.
    Level {
        /// Of passing interest.
        Low = "low",
        /// An operator should look at it.
        Medium = "medium",
        /// Replication cannot go on.
        High = "high",
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn text_form_leaves_empty_parts_out() {
        let error = Error::new(&code::WORKER_NO_START, code::NO_SOURCE_TEXT);
        assert_eq!(
            error.to_string(),
            "[code=40070:class=dm-worker:scope=internal:level=high], Message: no mysql source is \
             being handled in the worker"
        );
        let error = Error::new(&code::DB_EXECUTE_FAILED, "execute statement failed: x")
            .with_scope(Scope::Downstream)
            .with_cause("Error 1146 (42S02): no table")
            .with_workaround("create it")
            .annotate("at 4");
        assert_eq!(
            error.to_string(),
            "[code=10006:class=database:scope=downstream:level=high], Message: at 4: execute \
             statement failed: x, RawCause: Error 1146 (42S02): no table, Workaround: create it"
        );
        assert!(error.is(&code::DB_EXECUTE_FAILED));
    }
}

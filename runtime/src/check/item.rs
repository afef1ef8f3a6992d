//! What is looked at, and what comes out of it.

use std::{cmp::Reverse, collections::BTreeMap};

/// A check. The names are those that `ignore-checking-items` of a task knows.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Item {
    /// The servers can be asked. It can't be passed over: nothing else is known without.
    Connection,
    /// The source is a server that the worker understands.
    Version,
    /// The source's user may read what is copied, and hold writers off.
    DumpPrivilege,
    /// Files that are to be loaded are there.
    DumpFiles,
    /// The source's user may read the binlog.
    ReplicationPrivilege,
    /// The target's user may write.
    TargetPrivilege,
    /// The servers take as many connections as are wanted.
    ConnNumber,
    /// The source has a server id.
    ServerId,
    /// The source writes a binlog.
    BinlogEnable,
    /// The binlog has rows.
    BinlogFormat,
    /// The rows are complete.
    BinlogRowImage,
    /// The binlog has all that is written to the schemas.
    BinlogDb,
    /// The source keeps its binlog as long as a copy takes.
    BinlogRetention,
    /// No schema change tool is at work.
    OnlineDdl,
    /// The binlog can be read from where the task starts.
    MetaPosition,
    /// Tables fit each other.
    TableSchema,
    /// Tables that go into one are alike.
    SchemaOfShardTables,
    /// Tables that go into one draw their own numbers.
    AutoIncrementId,
    /// Tables of the target can take rows.
    TargetTables,
    /// What is not copied, or not built.
    Unsupported,
}

impl Item {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Version => "version",
            Self::DumpPrivilege => "dump_privilege",
            Self::DumpFiles => "dump_files",
            Self::ReplicationPrivilege => "replication_privilege",
            Self::TargetPrivilege => "target_privilege",
            Self::ConnNumber => "conn_number",
            Self::ServerId => "server_id",
            Self::BinlogEnable => "binlog_enable",
            Self::BinlogFormat => "binlog_format",
            Self::BinlogRowImage => "binlog_row_image",
            Self::BinlogDb => "binlog_db",
            Self::BinlogRetention => "binlog_retention",
            Self::OnlineDdl => "online_ddl",
            Self::MetaPosition => "meta_position",
            Self::TableSchema => "table_schema",
            Self::SchemaOfShardTables => "schema_of_shard_tables",
            Self::AutoIncrementId => "auto_increment_ID",
            Self::TargetTables => "target_tables",
            Self::Unsupported => "unsupported",
        }
    }

    /// What is looked at.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::Connection => "whether the server can be reached and asked",
            Self::Version => "whether the source is of a version that is understood",
            Self::DumpPrivilege => "whether the source's user may take a snapshot of its tables",
            Self::DumpFiles => "whether a complete dump is where files are loaded from",
            Self::ReplicationPrivilege => "whether the source's user may read the binlog",
            Self::TargetPrivilege => "whether the target's user may make and write tables",
            Self::ConnNumber => "whether the server takes as many connections as are wanted",
            Self::ServerId => "whether the source has a server id",
            Self::BinlogEnable => "whether the source writes a binlog",
            Self::BinlogFormat => "whether the binlog has rows, and is read as it is written",
            Self::BinlogRowImage => "whether rows in the binlog are complete",
            Self::BinlogDb => "whether the binlog has all that is written to the task's schemas",
            Self::BinlogRetention => "whether the source keeps its binlog while tables are copied",
            Self::OnlineDdl => "whether a tool is changing tables of the task",
            Self::MetaPosition => "whether the binlog can be read from `meta` on",
            Self::TableSchema => "whether tables have keys and are alike in source and target",
            Self::SchemaOfShardTables => "whether tables that go into one table are alike",
            Self::AutoIncrementId => "whether tables that go into one draw the same numbers",
            Self::TargetTables => "whether the target's tables can take rows, and have some",
            Self::Unsupported => "whether the task needs what is not copied or not built",
        }
    }
}

/// How a check ends.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum State {
    /// All is well.
    Success,
    /// Somebody should know.
    Warn,
    /// The task can't run, or would lose data.
    Fail,
}

impl State {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// Something that a check has found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// How bad it is; never [`State::Success`].
    pub state: State,
    /// The tables, or whatever it is about; none where it is the server as a whole.
    pub concerns: Vec<String>,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub advice: String,
}

impl Problem {
    /// Of something that keeps the task from running.
    pub(super) fn fail(reason: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            state: State::Fail,
            concerns: Vec::new(),
            reason: reason.into(),
            advice: advice.into(),
        }
    }

    /// Of something that somebody should know.
    pub(super) fn warn(reason: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            state: State::Warn,
            ..Self::fail(reason, advice)
        }
    }

    /// The same where a copy needs it only if it is interrupted.
    pub(super) fn if_interrupted(self) -> Self {
        let reason = format!(
            "should the copy be interrupted, it begins anew: {}",
            self.reason
        );
        Self {
            state: State::Warn,
            reason,
            ..self
        }
    }

    /// The same with what it is about.
    pub(super) fn about(mut self, what: impl ToString) -> Self {
        self.concerns.push(what.to_string());
        self
    }
}

/// Problems, where the same one is told once for all that it concerns.
#[derive(Debug, Default)]
pub(super) struct Problems(BTreeMap<(Reverse<State>, String, String), Vec<String>>);

impl Problems {
    pub(super) fn add(&mut self, problem: Problem) {
        let Problem {
            state,
            concerns,
            reason,
            advice,
        } = problem;
        let known = self.0.entry((Reverse(state), reason, advice));
        known.or_default().extend(concerns);
    }

    /// All of them, the worst first.
    pub(super) fn list(self) -> Vec<Problem> {
        let problem = |((Reverse(state), reason, advice), concerns)| Problem {
            state,
            concerns,
            reason,
            advice,
        };
        self.0.into_iter().map(problem).collect()
    }
}

/// The outcome of one check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// What was looked at.
    pub item: Item,
    /// The task.
    pub task: String,
    /// Where: the source or the target.
    pub subject: String,
    /// What was found; nothing if all is well.
    pub problems: Vec<Problem>,
}

impl Outcome {
    /// The worst of it.
    #[must_use]
    pub fn state(&self) -> State {
        let states = self.problems.iter().map(|problem| problem.state);
        states.max().unwrap_or(State::Success)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_once_and_the_worst_first() {
        let mut all = Problems::default();
        for table in ["a", "b"] {
            all.add(Problem::warn("small", "nothing").about(table));
        }
        all.add(Problem::fail("zzz", "much"));
        let all = all.list();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].state, &*all[0].reason), (State::Fail, "zzz"));
        assert_eq!(all[1].concerns, ["a", "b"]);
    }
}

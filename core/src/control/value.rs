//! Values: who is there, who has what, and what is expected of it.

use alloc::format;
use alloc::string::{String, ToString};

use super::json::{self, Json, json_object, json_value};
use crate::error::{Error, Result, code};

json_object! {
    /// A worker that has registered.
    WorkerInfo {
        /// Its name.
        name: String = "name",
        /// The address that it advertises.
        addr: String = "addr",
    }
}

json_object! {
    /// A worker that is alive. The key hangs on its lease.
    KeepAlive {
        /// Its name.
        worker_name: String = "worker-name",
        /// When it joined, in RFC 3339 with up to nine decimals of the second.
        join_time: String = "join-time",
    }
}

json_object! {
    /// Which source a worker migrates.
    SourceBound {
        /// The source.
        source: String = "source",
        /// The worker.
        worker: String = "worker",
    }
}

json_object! {
    /// The expected stage of a relay.
    RelayStage {
        /// Number of the [`Stage`](crate::status::Stage); any number can stand here.
        expect: i64 = "expect",
        /// The source.
        source: String = "source",
    }
}

json_object! {
    /// The expected stage of a subtask or a validator.
    SubtaskStage {
        /// Number of the [`Stage`](crate::status::Stage); any number can stand here.
        expect: i64 = "expect",
        /// The source.
        source: String = "source",
        /// The task.
        task: String = "task" omitempty,
    }
}

json_object! {
    /// What the operator gave at the start of a task. The worker clears what is used up.
    TaskCliArgs {
        /// Replicate changes from this time on; empty for no such wish.
        start_time: String = "start_time",
        /// How long safe mode lasts after the start, as a Go duration; empty for the default.
        safe_mode_duration: String = "safe_mode_duration",
        /// How long a stop waits for the end of a transaction, as a Go duration.
        wait_time_on_stop: String = "wait_time_on_stop",
    }
}

/// The name of the worker that has the dump files of a subtask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadTask(pub String);

impl Json for LoadTask {
    fn write(&self, out: &mut String) {
        self.0.write(out);
    }

    fn read(text: &str) -> Result<Self, serde_json::Error> {
        String::read(text).map(Self)
    }
}

json_value!(LoadTask);

/// How far the physical import of a subtask has come. All subtasks of a task go in step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportState {
    /// Not yet at the import.
    NotReady,
    /// About to import.
    Ready,
    /// Imported.
    Finished,
}

impl ImportState {
    const ALL: [(Self, &'static str); 3] = [
        (Self::NotReady, "not-ready"),
        (Self::Ready, "ready"),
        (Self::Finished, "finished"),
    ];

    /// Reads a stored value.
    ///
    /// # Errors
    /// 42502 if it is not such a value.
    pub fn parse(value: &[u8]) -> Result<Self> {
        let text: String = json::parse(value)?;
        let found = Self::ALL.iter().find(|(_, name)| *name == text);
        found.map(|(state, _)| *state).ok_or_else(|| {
            Error::new(
                &code::HA_INVALID_ITEM,
                format!("meets invalid ha item: {text}"),
            )
            .with_workaround("not-ready, ready and finished are the states of an import")
        })
    }

    /// The value as stored.
    pub fn to_json(self) -> String {
        let name = Self::ALL
            .iter()
            .find(|(state, _)| *state == self)
            .map_or("", |(_, name)| name);
        json::to_json(&name.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_are_tolerant() {
        let value = b" {\"Expect\" : 3, \"more\": {\"x\": [1]}, \"source\":null,\n\"TASK\":\"t\"} ";
        let expected = SubtaskStage {
            expect: 3,
            source: "".into(),
            task: "t".into(),
        };
        assert_eq!(SubtaskStage::parse(value), Ok(expected));
        assert_eq!(RelayStage::parse(b"{}"), Ok(RelayStage::default()));
    }

    #[test]
    fn an_empty_task_is_left_out() {
        let stage = |task: &str| SubtaskStage {
            expect: 2,
            source: "a".into(),
            task: task.into(),
        };
        assert_eq!(stage("").to_json(), "{\"expect\":2,\"source\":\"a\"}");
        assert_eq!(
            stage("t").to_json(),
            "{\"expect\":2,\"source\":\"a\",\"task\":\"t\"}"
        );
    }

    #[test]
    fn a_bad_value_is_refused_with_its_text_and_the_cause() {
        for value in [
            &b"{\"expect\":\"2\"}"[..],
            b"[]",
            b"",
            b"{} x",
            b"{\"expect\":2.5}",
        ] {
            let error = SubtaskStage::parse(value).expect_err("not a stage");
            assert!(error.is(&code::HA_INVALID_ITEM));
            assert!(!error.cause.is_empty());
        }
        assert!(ImportState::parse(b"\"done\"").is_err());
        assert_eq!(ImportState::parse(b"\"ready\""), Ok(ImportState::Ready));
        assert_eq!(ImportState::NotReady.to_json(), "\"not-ready\"");
    }
}

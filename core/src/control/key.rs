//! Keys: a prefix, then each component as lower-case hexadecimal digits of its UTF-8 bytes.

use alloc::format;
use alloc::string::String;

use crate::error::{Error, Result, code};

/// Declares the families: a name, the prefix, and the components in the order of the key.
macro_rules! families {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal { $($part:ident),* };)*) => {
        /// The families of keys.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[$doc])* $name,)*
        }

        impl Kind {
            /// Every family.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// What all keys of the family begin with.
            pub const fn prefix(self) -> &'static str {
                match self {
                    $(Self::$name => $prefix,)*
                }
            }
        }

        /// One key.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Key {
            $(
                $(#[$doc])*
                $name {
                    $(#[doc = concat!("Name of the ", stringify!($part), ".")] $part: String,)*
                },
            )*
        }

        impl Key {
            /// The family.
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Self::$name { .. } => Kind::$name,)*
                }
            }

            /// The key as stored.
            ///
            /// ```
            /// # use dm_core::control::Key;
            /// let key = Key::Bound { worker: "worker1".into() };
            /// assert_eq!(key.encode(), "/dm-master/bound-worker/776f726b657231");
            /// ```
            pub fn encode(&self) -> String {
                match self {
                    $(Self::$name { $($part),* } => join($prefix, &[$($part),*]),)*
                }
            }

            fn try_decode(key: &str) -> Option<Self> {
                let key = key.strip_suffix('/').unwrap_or(key);
                $(if let Some(rest) = key.strip_prefix($prefix) {
                    let mut parts = rest.split('/');
                    let key = Self::$name { $($part: unhex(parts.next()?)?),* };
                    return parts.next().is_none().then_some(key);
                })*
                None
            }
        }
    };
}

families! {
    /// A worker that has registered: [`WorkerInfo`](super::WorkerInfo).
    Worker = "/dm-worker/r/" { worker };
    /// A worker that is alive, under its lease: [`KeepAlive`](super::KeepAlive).
    KeepAlive = "/dm-worker/a/" { worker };
    /// The source that a worker migrates: [`SourceBound`](super::SourceBound).
    Bound = "/dm-master/bound-worker/" { worker };
    /// The source that a worker migrated last: [`SourceBound`](super::SourceBound).
    LastBound = "/dm-master/last-bound-worker/" { worker };
    /// The source whose binlog a worker relays: the bare bytes of the source's id.
    RelayWorker = "/dm-master/relay-worker/" { worker };
    /// A source: [`SourceConfig`](super::SourceConfig).
    Source = "/dm-master/v2/upstream/config/" { source };
    /// The expected stage of a source's relay: [`RelayStage`](super::RelayStage).
    RelayStage = "/dm-master/v2/stage/relay/" { source };
    /// A subtask: [`SubtaskConfig`](super::SubtaskConfig).
    Subtask = "/dm-master/upstream/subtask/" { source, task };
    /// The expected stage of a subtask: [`SubtaskStage`](super::SubtaskStage).
    SubtaskStage = "/dm-master/stage/subtask/" { source, task };
    /// The expected stage of a validator: [`SubtaskStage`](super::SubtaskStage).
    ValidatorStage = "/dm-master/stage/validator/" { source, task };
    /// The worker that has the dump files of a subtask: [`LoadTask`](super::LoadTask).
    LoadTask = "/dm-master/load-task/" { task, source };
    /// How far a physical import has come: [`ImportState`](super::ImportState).
    ImportState = "/dm-master/lightning-coord/" { task, source };
    /// Arguments of the command that started a task: [`TaskCliArgs`](super::TaskCliArgs).
    TaskCliArgs = "/dm-master/task-cli-args/" { task, source };
    /// [`PessimisticInfo`](super::shard::PessimisticInfo).
    PessimisticInfo = "/dm-master/shardddl-pessimism/info/" { task, source };
    /// [`PessimisticOperation`](super::shard::PessimisticOperation).
    PessimisticOperation = "/dm-master/shardddl-pessimism/operation/" { task, source };
    /// [`SourceTables`](super::shard::SourceTables).
    SourceTables = "/dm-master/shardddl-optimism/source-tables/" { task, source };
    /// [`OptimisticInfo`](super::shard::OptimisticInfo), of a table of the source.
    OptimisticInfo = "/dm-master/shardddl-optimism/info/" { task, source, schema, table };
    /// [`OptimisticOperation`](super::shard::OptimisticOperation), of a table of the source.
    OptimisticOperation = "/dm-master/shardddl-optimism/operation/" {
        task, source, schema, table
    };
}

impl Kind {
    /// What all keys of the family begin with whose first components are `parts`.
    ///
    /// ```
    /// # use dm_core::control::Kind;
    /// assert_eq!(Kind::SubtaskStage.range(&["a"]), "/dm-master/stage/subtask/61/");
    /// ```
    pub fn range(self, parts: &[&str]) -> String {
        let mut range = join(self.prefix(), parts);
        if !range.ends_with('/') {
            range.push('/');
        }
        range
    }
}

impl Key {
    /// Reads a key. A trailing `/` and upper-case digits are accepted.
    ///
    /// # Errors
    /// 11110 for anything that is not a key of one of the families.
    pub fn decode(key: &[u8]) -> Result<Self> {
        core::str::from_utf8(key)
            .ok()
            .and_then(Self::try_decode)
            .ok_or_else(|| {
                let key = String::from_utf8_lossy(key);
                Error::new(
                    &code::DECODE_ETCD_KEY_FAIL,
                    format!("fail to decode etcd key: {key}"),
                )
            })
    }
}

fn join<S: AsRef<str>>(prefix: &str, parts: &[S]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut key = String::from(prefix);
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            key.push('/');
        }
        for byte in part.as_ref().bytes() {
            key.push(char::from(DIGITS[usize::from(byte >> 4)]));
            key.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    key
}

fn unhex(digits: &str) -> Option<String> {
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let bytes = digits.as_bytes().chunks_exact(2);
    let bytes = bytes.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?));
    String::from_utf8(bytes.collect::<Option<_>>()?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn components_come_in_the_order_of_the_family() {
        let key = Key::LoadTask {
            task: "task1".into(),
            source: "mysql-replica-01".into(),
        };
        let text = "/dm-master/load-task/7461736b31/6d7973716c2d7265706c6963612d3031";
        assert_eq!(key.encode(), text);
        assert_eq!(Kind::LoadTask.range(&[]), "/dm-master/load-task/");
        assert_eq!(
            Kind::LoadTask.range(&["task1"]),
            "/dm-master/load-task/7461736b31/"
        );
    }

    #[test]
    fn reading_is_tolerant_of_case_and_a_trailing_slash() {
        let key = Key::Subtask {
            source: "o/é".into(),
            task: "t".into(),
        };
        assert_eq!(key.encode(), "/dm-master/upstream/subtask/6f2fc3a9/74");
        for text in [
            "/dm-master/upstream/subtask/6F2FC3A9/74",
            "/dm-master/upstream/subtask/6f2fC3a9/74/",
        ] {
            assert_eq!(Key::decode(text.as_bytes()), Ok(key.clone()));
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_text() {
        for text in [
            "",
            "/",
            "/dm-master/leader/59d5a2066f4a3f05",
            "/dm-master/upstream/subtask/",
            "/dm-master/upstream/subtask/61",
            "/dm-master/upstream/subtask/61/62/63",
            "/dm-master/bound-worker/6",
            "/dm-master/bound-worker/6g",
            "/dm-master/bound-worker/ff",
            "/dm-master/bound-worker/+1",
        ] {
            let error = Key::decode(text.as_bytes()).expect_err(text);
            assert!(error.is(&code::DECODE_ETCD_KEY_FAIL), "{text}");
            assert_eq!(error.message, format!("fail to decode etcd key: {text}"));
        }
        assert!(Key::decode(b"/dm-master/bound-worker/61\xff").is_err());
    }

    proptest! {
        #[test]
        fn keys_survive_the_round_trip(a in ".+", b in ".+", c in ".+", d in ".+") {
            let (worker, source, task) = (a.clone(), a, b);
            for key in [
                Key::KeepAlive { worker },
                Key::SubtaskStage { source: source.clone(), task: task.clone() },
                Key::OptimisticInfo { task, source, schema: c, table: d },
            ] {
                prop_assert_eq!(Key::decode(key.encode().as_bytes()), Ok(key));
            }
        }
    }
}

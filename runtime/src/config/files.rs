//! Source and task files of a worker that runs alone, as the keys that a master would write.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use dm_core::control::{Key, RelayStage, SourceBound, SourceConfig, SubtaskConfig, SubtaskStage};
use dm_core::error::{Error, Result, code};
use dm_core::status::Stage;
use uuid::Uuid;

use super::task::Task;
use super::{read_file, source, support};

/// What source and task files say.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// The sources.
    pub sources: Vec<SourceConfig>,
    /// The tasks, one entry for each source of theirs, with their files.
    pub subtasks: Vec<(SubtaskConfig, PathBuf)>,
}

impl Files {
    /// Reads the files; `key` decrypts their passwords. Each source's relay log goes into a
    /// directory of its own below `relay_dir`, or else where its file says, which is below
    /// `data_dir` unless it is a path from the root.
    ///
    /// # Errors
    /// A file that can't be read or is wrong, and 20032 for two files that say the same of
    /// something.
    pub fn read(
        sources: &[PathBuf],
        tasks: &[PathBuf],
        key: Option<&[u8]>,
        data_dir: &Path,
        relay_dir: Option<&Path>,
    ) -> Result<Self> {
        let mut configs: Vec<SourceConfig> = Vec::new();
        for (index, path) in sources.iter().enumerate() {
            let mut config = source(&path.display().to_string(), &read_file(path)?, key)?;
            let given = Path::new(&config.relay_dir);
            let base = match relay_dir {
                Some(base) => Some(base.to_owned()),
                None => given.is_relative().then(|| data_dir.join(given)),
            };
            if let Some(base) = base {
                config.relay_dir = base.join(&config.source_id).display().to_string();
            }
            let id = &config.source_id;
            if let Some(first) = configs.iter().position(|other| other.source_id == *id) {
                return Err(twice(
                    &format!("source {id}"),
                    &sources[first],
                    &sources[index],
                ));
            }
            let dir = &config.relay_dir;
            let relays_there = |other: &SourceConfig| other.enable_relay && other.relay_dir == *dir;
            if config.enable_relay
                && let Some(first) = configs.iter().position(relays_there)
            {
                let what = format!("the relay directory {dir}");
                return Err(twice(&what, &sources[first], &sources[index]));
            }
            configs.push(config);
        }
        let mut subtasks: Vec<(SubtaskConfig, PathBuf)> = Vec::new();
        for path in tasks {
            let file = path.display().to_string();
            let task = Task::parse(&file, &read_file(path)?, key)?;
            for config in task.subtasks(&configs, || Uuid::new_v4().to_string())? {
                let (name, id) = (&config.name, &config.source_id);
                let same = |(other, _): &&(SubtaskConfig, PathBuf)| {
                    (&other.name, &other.source_id) == (name, id)
                };
                if let Some((_, first)) = subtasks.iter().find(same) {
                    return Err(twice(&format!("task {name} of source {id}"), first, path));
                }
                subtasks.push((config, path.clone()));
            }
        }
        Ok(Self {
            sources: configs,
            subtasks,
        })
    }

    /// The same as keys and values.
    ///
    /// # Errors
    /// 20901 for what is not built yet.
    pub fn entries(&self) -> Result<Vec<(Bytes, Bytes)>> {
        for (config, path) in &self.subtasks {
            let mut sources = self.sources.iter();
            if let Some(source) = sources.find(|source| source.source_id == config.source_id) {
                let refused = support::unsupported(config, source);
                refused.map_err(|error| error.annotate(&path.display().to_string()))?;
            }
        }
        let subtasks = self.subtasks.iter().map(|(config, _)| config);
        Ok(encode(&self.sources, subtasks))
    }
}

fn twice(what: &str, first: &Path, second: &Path) -> Error {
    let message = format!(
        "{what} is in two files: {} and {}",
        first.display(),
        second.display()
    );
    Error::new(&code::CONFIG_DUPLICATE_CFG_ITEM, message)
        .with_workaround("Give one of the files only, or another name in one of them.")
}

fn encode<'a>(
    sources: &[SourceConfig],
    subtasks: impl Iterator<Item = &'a SubtaskConfig>,
) -> Vec<(Bytes, Bytes)> {
    let mut entries = Vec::new();
    let mut put = |key: Key, value: String| {
        entries.push((Bytes::from(key.encode()), Bytes::from(value)));
    };
    for source in sources {
        let id = source.source_id.clone();
        // Nobody else is there: the "worker" of each source is just its name.
        let bound = SourceBound {
            source: id.clone(),
            worker: id.clone(),
        };
        put(Key::Bound { worker: id.clone() }, bound.to_json());
        if source.enable_relay {
            let stage = RelayStage {
                expect: Stage::Running.number().into(),
                source: id.clone(),
            };
            put(Key::RelayStage { source: id.clone() }, stage.to_json());
        }
        put(Key::Source { source: id }, source.to_toml());
    }
    for subtask in subtasks {
        let (source, task) = (subtask.source_id.clone(), subtask.name.clone());
        let stage = SubtaskStage {
            expect: Stage::Running.number().into(),
            source: source.clone(),
            task: task.clone(),
        };
        put(
            Key::SubtaskStage {
                source: source.clone(),
                task: task.clone(),
            },
            stage.to_json(),
        );
        put(Key::Subtask { source, task }, subtask.to_toml());
    }
    entries
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SOURCE: &str = "source-id: s\nfrom: {host: h, port: 1, user: u}\n";
    const TASK: &str = "name: t\ntask-mode: incremental\n\
                        target-database: {host: h, port: 1, user: u}\n\
                        mysql-instances: [{source-id: s}]\n";

    /// Writes sources and tasks into files named s0, s1, … and t0, t1, …, and reads them.
    fn read(sources: &[&str], tasks: &[&str]) -> Result<Vec<(Bytes, Bytes)>> {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |kind: &str, texts: &[&str]| -> Vec<PathBuf> {
            let file = |(index, text): (usize, &&str)| {
                let path = dir.path().join(format!("{kind}{index}.yaml"));
                fs::write(&path, text).expect("written");
                path
            };
            texts.iter().enumerate().map(file).collect()
        };
        Files::read(
            &write("s", sources),
            &write("t", tasks),
            None,
            dir.path(),
            None,
        )?
        .entries()
    }

    /// Two sources never share one, and a place that is named is taken as it is.
    #[test]
    fn relay_logs_have_directories_of_their_own() {
        let relay_dir = |more: &str| {
            let source = format!("{SOURCE}{more}\n");
            let found = read(&[&source], &[TASK]).expect("valid");
            let key = Bytes::from(Key::Source { source: "s".into() }.encode());
            let (_, value) = found.iter().find(|(k, _)| *k == key).expect("a source");
            let text = std::str::from_utf8(value).expect("text");
            SourceConfig::from_toml(text).expect("valid").relay_dir
        };
        assert!(relay_dir("enable-relay: true").ends_with("/relay-dir/s"));
        assert!(relay_dir("relay-dir: logs/here").ends_with("/logs/here/s"));
        assert_eq!(relay_dir("relay-dir: /r"), "/r");
        let source = |id: &str| {
            SOURCE.replace("source-id: s", &format!("source-id: {id}"))
                + "relay-dir: /r\nenable-relay: true\n"
        };
        let error = read(&[&source("s"), &source("s2")], &[TASK]).expect_err("one directory");
        assert!(error.message.contains("/r"), "{error}");
    }

    #[test]
    fn every_source_and_subtask_has_two_keys() {
        let more = [
            &SOURCE.replace("source-id: s", "source-id: s2"),
            &TASK.replace("{source-id: s}", "{source-id: s}, {source-id: s2}"),
            &TASK.replace("name: t", "name: t2"),
        ];
        assert_eq!(read(&[SOURCE], &[TASK]).expect("valid").len(), 4);
        let all = read(&[SOURCE, more[0]], &[more[1], more[2]]);
        assert_eq!(all.expect("valid").len(), 10);
    }

    #[test]
    fn what_two_files_say_is_refused_with_both_names() {
        for (result, what, files) in [
            (
                read(&[SOURCE, SOURCE], &[TASK]),
                "source s",
                ["s0.yaml", "s1.yaml"],
            ),
            (
                read(&[SOURCE], &[TASK, TASK]),
                "task t of source s",
                ["t0.yaml", "t1.yaml"],
            ),
        ] {
            let error = result.expect_err("twice");
            assert!(error.is(&code::CONFIG_DUPLICATE_CFG_ITEM), "{error}");
            for part in [what, files[0], files[1]] {
                assert!(error.message.contains(part), "{error}");
            }
        }
    }

    #[test]
    fn checks_can_be_passed_over() {
        let task = format!("{TASK}ignore-checking-items: [all]\n");
        assert_eq!(read(&[SOURCE], &[&task]).expect("valid").len(), 4);
    }

    #[test]
    fn what_is_not_built_yet_is_refused_with_file_and_key() {
        for mode in ["optimistic", "pessimistic"] {
            let task = format!("shard-mode: {mode}\n{TASK}");
            let error = read(&[SOURCE], &[&task]).expect_err(mode);
            assert!(error.is(&code::CONFIG_NOT_SUPPORTED), "{error}");
            for part in ["t0.yaml", &format!("`shard-mode: {mode}`")] {
                assert!(error.message.contains(part), "{error}");
            }
        }
    }
}

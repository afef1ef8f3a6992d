//! What an operator, or a master, does to the store of a world.

use std::{format, string::String};

use super::world::{WORKER, World};
use crate::{
    control::{Key, SourceBound},
    lifecycle::Fence,
};

impl World {
    pub(super) fn bound_key(&self) -> String {
        Key::Bound {
            worker: self.config.worker.clone(),
        }
        .encode()
    }

    pub(super) fn bound_value(&self, source: &str) -> String {
        let worker = self.config.worker.clone();
        SourceBound {
            source: source.into(),
            worker,
        }
        .to_json()
    }

    pub(super) fn source(&mut self, source: &str, enable_relay: bool) {
        let value = source_value(source, enable_relay);
        self.store.write(&[(&source_key(source), Some(&value))]);
    }

    /// Binds a source. Another one that was bound before goes to another worker.
    pub(super) fn bind(&mut self, source: &str) {
        let (key, value) = (self.bound_key(), self.bound_value(source));
        let before = self.store.get(&key).map(|entry| entry.value.clone());
        self.store.write(&[(&key, Some(&value))]);
        if let Some(before) = before.filter(|before| *before != value) {
            let before = SourceBound::parse(&before).expect("readable").source;
            self.rivals.insert(before, Fence(self.store.revision));
        }
    }

    /// Takes the source away, and gives it to another worker.
    pub(super) fn transfer(&mut self, source: &str) {
        self.store.write(&[(&self.bound_key(), None)]);
        self.rivals
            .insert(source.into(), Fence(self.store.revision));
    }

    pub(super) fn task(&mut self, source: &str, task: &str, mode: &str) {
        self.store.write(&[
            (
                &subtask(source, task),
                Some(&subtask_value(source, task, mode, 100)),
            ),
            (&stage(source, task), Some(&stage_value(source, task, 2))),
        ]);
    }

    pub(super) fn expect(&mut self, source: &str, task: &str, expect: i64) {
        self.store.write(&[(
            &stage(source, task),
            Some(&stage_value(source, task, expect)),
        )]);
    }

    pub(super) fn drop_task(&mut self, source: &str, task: &str) {
        self.store
            .write(&[(&subtask(source, task), None), (&stage(source, task), None)]);
        self.progress.remove(&(source.into(), task.into()));
    }

    /// Somebody says who has the dump files of a task.
    pub(super) fn mark(&mut self, source: &str, task: &str, worker: Option<&str>) {
        let value = worker.map(|worker| format!("\"{worker}\""));
        self.store
            .write(&[(&load_task(source, task), value.as_deref())]);
    }

    pub(super) fn relay(&mut self, source: Option<&str>) {
        let key = Key::RelayWorker {
            worker: WORKER.into(),
        }
        .encode();
        self.store.write(&[(&key, source)]);
    }

    pub(super) fn relay_stage(&mut self, source: &str, expect: Option<i64>) {
        let key = Key::RelayStage {
            source: source.into(),
        }
        .encode();
        let value = expect.map(|it| format!("{{\"expect\":{it},\"source\":\"{source}\"}}"));
        self.store.write(&[(&key, value.as_deref())]);
    }
}

pub(super) fn announcement() -> String {
    Key::KeepAlive {
        worker: WORKER.into(),
    }
    .encode()
}

pub(super) fn source_key(source: &str) -> String {
    Key::Source {
        source: source.into(),
    }
    .encode()
}

pub(super) fn subtask(source: &str, task: &str) -> String {
    Key::Subtask {
        source: source.into(),
        task: task.into(),
    }
    .encode()
}

pub(super) fn stage(source: &str, task: &str) -> String {
    Key::SubtaskStage {
        source: source.into(),
        task: task.into(),
    }
    .encode()
}

pub(super) fn load_task(source: &str, task: &str) -> String {
    Key::LoadTask {
        task: task.into(),
        source: source.into(),
    }
    .encode()
}

pub(super) fn stage_value(source: &str, task: &str, expect: i64) -> String {
    format!("{{\"expect\":{expect},\"source\":\"{source}\",\"task\":\"{task}\"}}")
}

pub(super) fn source_value(source: &str, enable_relay: bool) -> String {
    format!("source-id = \"{source}\"\nenable-relay = {enable_relay}\n")
}

pub(super) fn subtask_value(source: &str, task: &str, mode: &str, batch: u8) -> String {
    format!(
        "name = \"{task}\"\nmode = \"{mode}\"\nsource-id = \"{source}\"\nworker-count = 16\n\
         batch = {batch}\n"
    )
}

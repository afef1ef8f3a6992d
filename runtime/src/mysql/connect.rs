//! Opens the real databases of a subtask.

use std::sync::Arc;

use dm_core::{
    control::{SourceConfig, db::DbConfig},
    error::Result,
    lifecycle::Job,
};

use super::{
    source::Upstream,
    target::{Options, Target},
};
use crate::{
    config::decrypt,
    disk::LocalDisk,
    ports::{Connect, SourceFacts},
};

/// Sources and targets over the wire.
#[derive(Clone, Debug)]
pub struct Connector {
    /// Name of the worker, which the source shows in its list of replicas.
    pub worker: Arc<str>,
    /// Decrypts passwords; masters normally store them decrypted.
    pub secret_key: Option<Arc<[u8]>>,
}

impl Connector {
    fn decrypt(&self, db: &mut DbConfig) {
        db.password.0 = decrypt(&db.password.0, self.secret_key.as_deref());
    }
}

impl Connect for Connector {
    type Source = Upstream;
    type Target = Target;
    type Disk = LocalDisk;

    fn source(&self, config: &Arc<SourceConfig>) -> Upstream {
        let mut config = Arc::clone(config);
        self.decrypt(&mut Arc::make_mut(&mut config).from);
        Upstream::new(&config, &self.worker)
    }

    fn disk(&self) -> LocalDisk {
        LocalDisk
    }

    async fn target(&self, job: &Job, upstream: &SourceFacts) -> Result<Target> {
        let options = Options {
            task: job.task.name.clone(),
            source: job.source.source_id.clone(),
            meta_schema: job.task.meta_schema.clone(),
            flavor: upstream.flavor,
            upstream_sql_mode: upstream.sql_mode.clone(),
        };
        let mut to = job.task.to.clone();
        self.decrypt(&mut to);
        Target::connect(&to, options).await
    }
}

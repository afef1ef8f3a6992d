//! A replication between two servers: its files, its tables, and when it has caught up.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use dm_sim::values::{self, Login};
use tokio::time::sleep;

use crate::{
    Result,
    servers::{Address, Brand, Database},
    sql::{self, Client},
};

/// A table in each schema whose rows say: all that was written before has arrived.
pub const MARKS: &str = "mark";

/// From where a task starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// Binlog file.
    pub file: String,
    /// Offset in it.
    pub position: u64,
    /// GTID set; empty where the server keeps none.
    pub gtids: String,
}

impl Start {
    /// The end of a source's binlog, now.
    ///
    /// # Errors
    /// What the server says.
    pub async fn now(source: &Database) -> Result<Self> {
        let mut client = Client::connect(source).await?;
        let (status, gtids) = match source.brand() {
            Brand::Mysql => ("SHOW BINARY LOG STATUS", "SELECT @@global.gtid_executed"),
            Brand::Mariadb => ("SHOW MASTER STATUS", "SELECT @@global.gtid_binlog_pos"),
        };
        let rows = match client.rows(status).await {
            // Before MySQL 8.2.
            Err(_) => client.rows("SHOW MASTER STATUS").await?,
            Ok(rows) => rows,
        };
        let mut row = rows
            .into_iter()
            .next()
            .ok_or("the source keeps no binlog")?
            .into_iter();
        let file = row.next().flatten().unwrap_or_default();
        let position = row.next().flatten().unwrap_or_default().parse()?;
        let gtids = client.value(gtids).await?.replace('\n', "");
        Ok(Self {
            file,
            position,
            gtids,
        })
    }
}

/// One task on one source.
#[derive(Clone, Debug)]
pub struct Job {
    /// Task name.
    pub task: String,
    /// Source id.
    pub source_id: String,
    /// The upstream.
    pub source: Address,
    /// Its brand, which the source file names as `flavor`.
    pub brand: Brand,
    /// The downstream.
    pub target: Address,
    /// Whether to ask for the binlog by GTID.
    pub gtid: bool,
    /// From where.
    pub start: Start,
    /// The schemas that are replicated.
    pub schemas: Vec<String>,
    /// `worker-count`: how many slots apply.
    pub slots: u32,
    /// `batch`: rows in a transaction of the target.
    pub batch: u32,
    /// `task-mode`.
    pub mode: &'static str,
    /// Connections that copy, and `extra-args` for the snapshot, where the mode has a copy.
    pub dump: (u32, &'static str),
    /// The directory of its dump files, if it has any.
    pub dump_dir: Option<PathBuf>,
    /// `on-duplicate-logical`, if the task says anything of it.
    pub on_duplicate: Option<&'static str>,
    /// The names of its rules for other names in the target, which `task_extra` has.
    pub routes: &'static [&'static str],
    /// More lines for the task file.
    pub task_extra: String,
    /// More lines for the source file.
    pub source_extra: String,
}

impl Job {
    /// A task named after its first schema, that starts at the end of the source's binlog.
    ///
    /// # Errors
    /// What the source says.
    pub async fn new(source: &Database, target: &Database, schemas: &[&str]) -> Result<Self> {
        let name = *schemas.first().ok_or("no schema")?;
        Ok(Self {
            task: format!("task_{name}"),
            source_id: format!("source-{name}"),
            source: source.address().clone(),
            brand: source.brand(),
            target: target.address().clone(),
            gtid: false,
            start: Start::now(source).await?,
            schemas: schemas.iter().map(|&schema| schema.to_owned()).collect(),
            slots: 8,
            batch: 100,
            mode: "incremental",
            dump: (4, ""),
            dump_dir: None,
            on_duplicate: None,
            routes: &[],
            task_extra: String::new(),
            source_extra: String::new(),
        })
    }

    /// Schema of the progress and checkpoint tables.
    #[must_use]
    pub fn meta_schema(&self) -> String {
        format!("dm_meta_{}", self.task)
    }

    /// The source file, as `dmctl` takes it.
    #[must_use]
    pub fn source_yaml(&self) -> String {
        let flavor = self.flavor();
        format!(
            "source-id: {}\nflavor: {flavor}\nenable-gtid: {}\n{}from:\n{}",
            self.source_id,
            self.gtid,
            self.source_extra,
            login(&self.source)
        )
    }

    /// The task file, as `dmctl` takes it.
    #[must_use]
    pub fn task_yaml(&self) -> String {
        let mut yaml = format!(
            "name: {}\ntask-mode: {}\nmeta-schema: {}\ntarget-database:\n{}",
            self.task,
            self.mode,
            self.meta_schema(),
            login(&self.target)
        );
        let Start {
            file,
            position,
            gtids,
        } = &self.start;
        let _ = writeln!(yaml, "mysql-instances:\n- source-id: {}", self.source_id);
        if self.mode == "incremental" && !file.is_empty() {
            let _ = write!(
                yaml,
                "  meta:\n    binlog-name: {file}\n    binlog-pos: {position}\n"
            );
            if self.gtid {
                let _ = writeln!(yaml, "    binlog-gtid: \"{gtids}\"");
            }
        }
        let dir = self.dump_dir.iter();
        let dir = dir.map(|dir| format!("dir: {:?}, pool-size: 4", dir.display().to_string()));
        let policy = self.on_duplicate.into_iter();
        let policy = policy.map(|policy| format!("on-duplicate-logical: {policy}"));
        let loader: Vec<_> = dir.chain(policy).collect();
        if !loader.is_empty() {
            let _ = writeln!(yaml, "  loader: {{{}}}", loader.join(", "));
        }
        if !self.routes.is_empty() {
            let _ = writeln!(yaml, "  route-rules: [{}]", self.routes.join(", "));
        }
        let (threads, arguments) = self.dump;
        let _ = write!(
            yaml,
            "  block-allow-list: only\n  syncer-config-name: default\n  \
             mydumper-config-name: default\nmydumpers:\n  default:\n    threads: {threads}\n    \
             extra-args: {arguments:?}\nblock-allow-list:\n  only:\n    do-dbs: {:?}\n\
             syncers:\n  default:\n    worker-count: {}\n    batch: {}\n    \
             checkpoint-flush-interval: 2\n{}",
            self.schemas, self.slots, self.batch, self.task_extra
        );
        yaml
    }

    /// What a master stores of the source file.
    #[must_use]
    pub fn source_toml(&self) -> String {
        values::Source {
            relay: false,
            id: &self.source_id,
            flavor: self.flavor(),
            gtid: self.gtid,
            login: stored(&self.source),
            backoff_max: "5m0s",
            check_interval: "5s",
        }
        .toml()
    }

    /// What a master stores of the task file.
    #[must_use]
    pub fn subtask_toml(&self) -> String {
        let toml = values::Subtask {
            name: &self.task,
            mode: self.mode,
            source: &self.source_id,
            meta_schema: &self.meta_schema(),
            slots: self.slots.into(),
            batch: self.batch.into(),
            flush_s: 2,
            file: &self.start.file,
            position: self.start.position,
            gtids: &self.start.gtids,
            from: stored(&self.source),
            to: stored(&self.target),
            schemas: &self.schemas,
        }
        .toml();
        match &self.dump_dir {
            Some(dir) => toml.replace("\"./dumped_data\"", &format!("{dir:?}")),
            None => toml,
        }
    }

    const fn flavor(&self) -> &'static str {
        match self.brand {
            Brand::Mysql => "mysql",
            Brand::Mariadb => "mariadb",
        }
    }

    /// Writes both files into a folder and says where they are: source, task.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write_files(&self, dir: &Path) -> Result<(PathBuf, PathBuf)> {
        let source = dir.join(format!("{}.source.yaml", self.source_id));
        let task = dir.join(format!("{}.task.yaml", self.task));
        fs::write(&source, self.source_yaml())?;
        fs::write(&task, self.task_yaml())?;
        Ok((source, task))
    }

    /// Waits until the target equals the source, which must not be written meanwhile, and fails
    /// with what differs when it does not come to that.
    ///
    /// # Errors
    /// What differs after `limit`, or what a server says.
    pub async fn caught_up(
        &self,
        source: &Database,
        target: &Database,
        limit: Duration,
    ) -> Result<()> {
        let start = Instant::now();
        let (mut a, mut b) = (
            Client::connect(source).await?,
            Client::connect(target).await?,
        );
        let schemas: Vec<_> = self.schemas.iter().map(String::as_str).collect();
        let mark = self.mark(&mut a).await?;
        while b.value(&mark).await.unwrap_or_default() != "1" {
            if start.elapsed() > limit {
                return Err(format!("nothing arrived within {limit:?}: {mark} is empty").into());
            }
            sleep(Duration::from_millis(50)).await;
        }
        // The mark has overtaken at most what other slots had under way.
        loop {
            match sql::compare_schemas(&mut a, &mut b, &schemas).await {
                Ok(()) => return Ok(()),
                Err(error) if start.elapsed() > limit => return Err(error),
                Err(_) => sleep(Duration::from_millis(500)).await,
            }
        }
    }

    /// Writes a row that was never there and says how to ask for it.
    async fn mark(&self, source: &mut Client) -> Result<String> {
        let schema = self.schemas.first().ok_or("no schema")?;
        source
            .run(&format!(
                "CREATE TABLE IF NOT EXISTS `{schema}`.{MARKS} (id INT AUTO_INCREMENT PRIMARY KEY)"
            ))
            .await?;
        source
            .run(&format!("INSERT INTO `{schema}`.{MARKS} VALUES (NULL)"))
            .await?;
        let id = source.value("SELECT LAST_INSERT_ID()").await?;
        Ok(format!(
            "SELECT COUNT(*) FROM `{schema}`.{MARKS} WHERE id = {id}"
        ))
    }
}

fn stored(address: &Address) -> Login<'_> {
    Login {
        host: &address.host,
        port: address.port,
        user: &address.user,
        password: &address.password,
    }
}

fn login(address: &Address) -> String {
    let Address {
        host,
        port,
        user,
        password,
    } = address;
    format!("  host: {host}\n  port: {port}\n  user: {user}\n  password: {password:?}\n")
}

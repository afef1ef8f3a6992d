//! Keys and values as a real master was recorded to write them, built without the worker's codec:
//! masters that are made up write these, and the worker has to understand them.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

/// Prefix of the workers' leased keys.
pub const KEEPALIVE_PREFIX: &str = "/dm-worker/a/";
/// Prefix of the bindings.
pub const BOUND_PREFIX: &str = "/dm-master/bound-worker/";
/// Prefix of the source configurations.
pub const SOURCE_PREFIX: &str = "/dm-master/v2/upstream/config/";

/// Expected stages, as they stand in the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// To run.
    Running = 2,
    /// To pause.
    Paused = 3,
}

/// Where a server is, and who may enter.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// Host name or address.
    pub host: &'a str,
    /// TCP port.
    pub port: u16,
    /// User name.
    pub user: &'a str,
    /// Password, in plain text.
    pub password: &'a str,
}

/// What differs from source to source.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its id.
    pub id: &'a str,
    /// `mysql` or `mariadb`.
    pub flavor: &'a str,
    /// Whether its binlog is asked for by GTID.
    pub gtid: bool,
    /// Whether its binlog is relayed.
    pub relay: bool,
    /// The server.
    pub login: Login<'a>,
    /// Longest pause of auto-resume, as Go writes a duration.
    pub backoff_max: &'a str,
    /// How often auto-resume looks, as Go writes a duration.
    pub check_interval: &'a str,
}

/// When the relay logs of a source are removed. By default never, in the time that a world has.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Purge {
    /// How often it is looked, in seconds.
    pub interval: u64,
    /// Hours after which what is not written any more may go, if any.
    pub expires: u64,
    /// GiB that are to be free.
    pub remain_space: u64,
}

impl Default for Purge {
    fn default() -> Self {
        Self {
            interval: 3600,
            expires: 0,
            remain_space: 15,
        }
    }
}

/// What differs from subtask to subtask.
#[derive(Clone, Copy, Debug)]
pub struct Subtask<'a> {
    /// Name of the task.
    pub name: &'a str,
    /// `mode`.
    pub mode: &'a str,
    /// Id of the source.
    pub source: &'a str,
    /// Schema of the meta tables.
    pub meta_schema: &'a str,
    /// `worker-count`.
    pub slots: u64,
    /// `batch`.
    pub batch: u64,
    /// `checkpoint-flush-interval`.
    pub flush_s: u64,
    /// Binlog file to start in.
    pub file: &'a str,
    /// Offset in it.
    pub position: u64,
    /// GTID set to start behind; may be empty.
    pub gtids: &'a str,
    /// The upstream.
    pub from: Login<'a>,
    /// The downstream.
    pub to: Login<'a>,
    /// Schemas that are replicated.
    pub schemas: &'a [String],
}

/// Key of a worker's registration.
#[must_use]
pub fn worker_key(worker: &str) -> String {
    format!("/dm-worker/r/{}", hex(worker))
}

/// Value of a worker's registration.
#[must_use]
pub fn worker(name: &str, address: &str) -> String {
    format!(r#"{{"name":"{name}","addr":"{address}"}}"#)
}

/// Key of a worker's announcement.
#[must_use]
pub fn keepalive_key(worker: &str) -> String {
    format!("{KEEPALIVE_PREFIX}{}", hex(worker))
}

/// The worker of an announcement.
#[must_use]
pub fn worker_of(key: &[u8]) -> Option<String> {
    unhex(key.strip_prefix(KEEPALIVE_PREFIX.as_bytes())?)
}

/// Key of a worker's binding.
#[must_use]
pub fn bound_key(worker: &str) -> String {
    format!("{BOUND_PREFIX}{}", hex(worker))
}

/// Key of a worker's last binding.
#[must_use]
pub fn last_bound_key(worker: &str) -> String {
    format!("/dm-master/last-bound-worker/{}", hex(worker))
}

/// Value of a binding.
#[must_use]
pub fn bound(source: &str, worker: &str) -> String {
    format!(r#"{{"source":"{source}","worker":"{worker}"}}"#)
}

/// The source and the worker of a binding.
#[must_use]
pub fn parse_bound(value: &[u8]) -> Option<(String, String)> {
    let value = str::from_utf8(value).ok()?;
    let mut texts = value.split('"').skip(1).step_by(2).skip(1).step_by(2);
    Some((texts.next()?.to_owned(), texts.next()?.to_owned()))
}

/// Key of a source's configuration.
#[must_use]
pub fn source_key(source: &str) -> String {
    format!("{SOURCE_PREFIX}{}", hex(source))
}

/// The source of a source's configuration.
#[must_use]
pub fn source_of(key: &[u8]) -> Option<String> {
    unhex(key.strip_prefix(SOURCE_PREFIX.as_bytes())?)
}

/// Key of a subtask's configuration.
#[must_use]
pub fn subtask_key(source: &str, task: &str) -> String {
    format!("/dm-master/upstream/subtask/{}/{}", hex(source), hex(task))
}

/// Key of a relay's expected stage.
#[must_use]
pub fn relay_stage_key(source: &str) -> String {
    format!("/dm-master/v2/stage/relay/{}", hex(source))
}

/// Value of a relay's expected stage.
#[must_use]
pub fn relay_stage(source: &str, expect: Expect) -> String {
    format!(r#"{{"expect":{},"source":"{source}"}}"#, expect as i32)
}

/// Key of a subtask's expected stage.
#[must_use]
pub fn stage_key(source: &str, task: &str) -> String {
    format!("/dm-master/stage/subtask/{}/{}", hex(source), hex(task))
}

/// Key of the worker that has a subtask's dump files.
#[must_use]
pub fn load_task_key(source: &str, task: &str) -> String {
    format!("/dm-master/load-task/{}/{}", hex(task), hex(source))
}

/// The worker that has a subtask's dump files.
#[must_use]
pub fn parse_load_task(value: &[u8]) -> Option<String> {
    let value = str::from_utf8(value).ok()?;
    let worker = value.strip_prefix('"')?.strip_suffix('"')?;
    Some(worker.to_owned())
}

/// Value of a subtask's expected stage.
#[must_use]
pub fn stage(source: &str, task: &str, expect: Expect) -> String {
    format!(
        r#"{{"expect":{},"source":"{source}","task":"{task}"}}"#,
        expect as i32
    )
}

impl Source<'_> {
    /// What `operate-source create` stores.
    #[must_use]
    pub fn toml(&self) -> String {
        self.toml_purging(Purge::default())
    }

    /// The same, of a source whose relay logs are removed.
    #[must_use]
    pub fn toml_purging(&self, purge: Purge) -> String {
        let Purge {
            interval,
            expires,
            remain_space,
        } = purge;
        let Self {
            id,
            flavor,
            gtid,
            relay,
            login,
            backoff_max,
            check_interval,
        } = self;
        format!(
            r#"enable = true
enable-gtid = {gtid}
auto-fix-gtid = false
relay-dir = "relay-dir"
meta-dir = ""
flavor = "{flavor}"
charset = ""
enable-relay = {relay}
relay-binlog-name = ""
relay-binlog-gtid = ""
source-id = "{id}"
server-id = 429527460
case-sensitive = false

[from]
{login}
[purge]
  interval = {interval}
  expires = {expires}
  remain-space = {remain_space}

[checker]
  check-enable = true
  backoff-rollback = "5m0s"
  backoff-max = "{backoff_max}"
  check-interval = "{check_interval}"
  backoff-min = "1s"
  backoff-jitter = true
  backoff-factor = 2.0
"#
        )
    }
}

impl Subtask<'_> {
    /// What `start-task` stores.
    #[must_use]
    pub fn toml(&self) -> String {
        self.toml_with("./dumped_data", ("64", 0))
    }

    /// The same, with a directory for dump files, and sizes for these and for their statements.
    #[must_use]
    pub fn toml_with(&self, dir: &str, (file_size, statement_size): (&str, u64)) -> String {
        let Self {
            name,
            mode,
            source,
            meta_schema,
            slots,
            batch,
            flush_s,
            file,
            position,
            gtids,
            from,
            to,
            schemas,
        } = self;
        let meta = match *mode {
            "incremental" => format!(
                "[meta]\n  binlog-name = \"{file}\"\n  binlog-pos = {position}\n  \
                 binlog-gtid = \"{gtids}\"\n\n"
            ),
            _ => String::new(),
        };
        format!(
            r#"is-sharding = false
shard-mode = ""
strict-optimistic-shard-mode = false
online-ddl = true
shadow-table-rules = ["^_(.+)_(?:new|gho)$"]
trash-table-rules = ["^_(.+)_(?:ghc|del|old)$"]
online-ddl-scheme = ""
case-sensitive = false
collation_compatible = "loose"
name = "{name}"
mode = "{mode}"
source-id = "{source}"
server-id = 0
flavor = ""
meta-schema = "{meta_schema}"
heartbeat-update-interval = 1
heartbeat-report-interval = 10
enable-heartbeat = false
timezone = "+00:00"
relay-dir = ""
use-relay = false
mapping-rule = []
mydumper-path = "./bin/mydumper"
threads = 4
chunk-filesize = "{file_size}"
statement-size = {statement_size}
rows = 0
where = ""
skip-tz-utc = true
extra-args = ""
pool-size = 16
dir = "{dir}"
sorting-dir-physical = ""
import-mode = "logical"
on-duplicate = ""
on-duplicate-logical = "replace"
on-duplicate-physical = "none"
disk-quota-physical = 0
checksum-physical = "required"
analyze = "optional"
range-concurrency = 0
compress-kv-pairs = ""
pd-addr = ""
meta-file = ""
worker-count = {slots}
batch = {batch}
queue-size = 1024
checkpoint-flush-interval = {flush_s}
compact = false
multiple-rows = true
max-retry = 0
auto-fix-gtid = false
enable-gtid = false
disable-detect = false
safe-mode = false
safe-mode-duration = "60s"
enable-ansi-quotes = false
log-level = ""
log-file = ""
log-format = ""
log-rotate = ""
pprof-addr = ""
status-addr = ""
clean-dump-file = true
ansi-quotes = false
uuid = "ff5edacb-a0b6-427e-8974-3c3c245176b5"
dump-uuid = "9b6cb0e0-1873-4a0c-b8ef-8e3465734f0b"

{meta}[from]
{from}  [from.session]
    time_zone = "+00:00"

[to]
{to}  [to.session]
    time_zone = "+00:00"

[block-allow-list]
  do-dbs = {schemas:?}

[ValidatorCfg]
  mode = "none"
  worker-count = 4
  validate-interval = "10s"
  check-interval = "5s"
  row-error-delay = "30m0s"
  meta-flush-interval = "5m0s"
  batch-query-size = 100
  max-pending-row-size = "500m"
  max-pending-row-count = 2147483647
  start-time = ""

[experimental]
  async-checkpoint-flush = false

[io-total-bytes]

[dump-io-total-bytes]
"#
        )
    }
}

impl fmt::Display for Login<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host,
            port,
            user,
            password,
        } = self;
        writeln!(f, "  host = \"{host}\"")?;
        writeln!(f, "  port = {port}")?;
        writeln!(f, "  user = \"{user}\"")?;
        writeln!(f, "  password = \"{password}\"")
    }
}

fn hex(text: &str) -> String {
    text.bytes().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn unhex(digits: &[u8]) -> Option<String> {
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<_>> = digits.chunks(2).map(byte).collect();
    String::from_utf8(bytes?).ok()
}

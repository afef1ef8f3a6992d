//! Keys and values as a real master was recorded to write them, built without the worker's codec.

use std::fmt::Write as _;

/// Prefix of the workers' leased keys.
pub(super) const KEEPALIVE_PREFIX: &str = "/dm-worker/a/";
/// Prefix of the bindings.
pub(super) const BOUND_PREFIX: &str = "/dm-master/bound-worker/";

/// Expected stages, as they stand in the keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Expect {
    /// To run.
    Running = 2,
    /// To pause.
    Paused = 3,
}

/// A task of one source.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) name: &'static str,
    pub(super) source: String,
    pub(super) gtids: bool,
    pub(super) slots: u64,
    pub(super) batch: u64,
    pub(super) flush_s: u64,
}

pub(super) fn keepalive_key(worker: &str) -> String {
    format!("{KEEPALIVE_PREFIX}{}", hex(worker))
}

pub(super) fn worker_of(key: &[u8]) -> Option<String> {
    unhex(key.strip_prefix(KEEPALIVE_PREFIX.as_bytes())?)
}

pub(super) fn bound_key(worker: &str) -> String {
    format!("{BOUND_PREFIX}{}", hex(worker))
}

pub(super) fn last_bound_key(worker: &str) -> String {
    format!("/dm-master/last-bound-worker/{}", hex(worker))
}

pub(super) fn bound(source: &str, worker: &str) -> String {
    format!(r#"{{"source":"{source}","worker":"{worker}"}}"#)
}

/// The source and the worker of a binding.
pub(super) fn parse_bound(value: &[u8]) -> Option<(String, String)> {
    let value = str::from_utf8(value).ok()?;
    let mut texts = value.split('"').skip(1).step_by(2).skip(1).step_by(2);
    Some((texts.next()?.to_owned(), texts.next()?.to_owned()))
}

pub(super) fn source_key(source: &str) -> String {
    format!("/dm-master/v2/upstream/config/{}", hex(source))
}

pub(super) fn subtask_key(task: &Task) -> String {
    let (source, name) = (hex(&task.source), hex(task.name));
    format!("/dm-master/upstream/subtask/{source}/{name}")
}

pub(super) fn stage_key(task: &Task) -> String {
    let (source, name) = (hex(&task.source), hex(task.name));
    format!("/dm-master/stage/subtask/{source}/{name}")
}

pub(super) fn stage(task: &Task, expect: Expect) -> String {
    let Task { name, source, .. } = task;
    format!(
        r#"{{"expect":{},"source":"{source}","task":"{name}"}}"#,
        expect as i32
    )
}

/// What `operate-source create` stores.
pub(super) fn source_config(task: &Task) -> String {
    format!(
        r#"enable = true
enable-gtid = {gtids}
auto-fix-gtid = false
relay-dir = "relay-dir"
meta-dir = ""
flavor = "mysql"
charset = ""
enable-relay = false
relay-binlog-name = ""
relay-binlog-gtid = ""
source-id = "{source}"
server-id = 429527460
case-sensitive = false

[from]
{LOGIN}
[purge]
  interval = 3600
  expires = 0
  remain-space = 15

[checker]
  check-enable = true
  backoff-rollback = "5m0s"
  backoff-max = "8s"
  check-interval = "1s"
  backoff-min = "1s"
  backoff-jitter = true
  backoff-factor = 2.0
"#,
        gtids = task.gtids,
        source = task.source,
    )
}

/// What `start-task` stores for an incremental task that begins with the source's first event.
pub(super) fn subtask_config(task: &Task) -> String {
    let Task {
        name,
        source,
        slots,
        batch,
        flush_s,
        ..
    } = task;
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
mode = "incremental"
source-id = "{source}"
server-id = 0
flavor = ""
meta-schema = "dm_meta"
heartbeat-update-interval = 1
heartbeat-report-interval = 10
enable-heartbeat = false
timezone = "+00:00"
relay-dir = ""
use-relay = false
mapping-rule = []
mydumper-path = "./bin/mydumper"
threads = 4
chunk-filesize = "64"
statement-size = 0
rows = 0
where = ""
skip-tz-utc = true
extra-args = ""
pool-size = 16
dir = "./dumped_data"
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

[meta]
  binlog-name = "binlog.000001"
  binlog-pos = 4
  binlog-gtid = ""

[from]
{LOGIN}  [from.session]
    time_zone = "+00:00"

[to]
{LOGIN}  [to.session]
    time_zone = "+00:00"

[block-allow-list]
  do-dbs = ["{source}"]

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

/// A server in the simulation has no address; what stands here is never used.
const LOGIN: &str = "  host = \"10.0.0.1\"\n  port = 3306\n  user = \"root\"\n  password = \"\"\n";

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

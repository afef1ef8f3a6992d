//! Keys and values as a real master was recorded to write them, built without the worker's codec.

use std::fmt::Write as _;

use super::Expect;
use crate::{
    job::{Job, Start},
    servers::{Address, Brand},
};

/// Prefix of the workers' leased keys.
pub(super) const KEEPALIVE_PREFIX: &str = "/dm-worker/a/";
/// Prefix of the bindings.
pub(super) const BOUND_PREFIX: &str = "/dm-master/bound-worker/";
/// Prefix of the source configurations.
pub(super) const SOURCE_PREFIX: &str = "/dm-master/v2/upstream/config/";

pub(super) fn worker_key(worker: &str) -> String {
    format!("/dm-worker/r/{}", hex(worker))
}

pub(super) fn worker(name: &str, address: &str) -> String {
    format!(r#"{{"name":"{name}","addr":"{address}"}}"#)
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

pub(super) fn source_key(source: &str) -> String {
    format!("{SOURCE_PREFIX}{}", hex(source))
}

pub(super) fn source_of(key: &[u8]) -> Option<String> {
    unhex(key.strip_prefix(SOURCE_PREFIX.as_bytes())?)
}

pub(super) fn subtask_key(source: &str, task: &str) -> String {
    format!("/dm-master/upstream/subtask/{}/{}", hex(source), hex(task))
}

pub(super) fn stage_key(source: &str, task: &str) -> String {
    format!("/dm-master/stage/subtask/{}/{}", hex(source), hex(task))
}

pub(super) fn stage(source: &str, task: &str, expect: Expect) -> String {
    format!(
        r#"{{"expect":{},"source":"{source}","task":"{task}"}}"#,
        expect as i32
    )
}

/// What `operate-source create` stores.
pub(super) fn source_config(job: &Job) -> String {
    let flavor = match job.brand {
        Brand::Mysql => "mysql",
        Brand::Mariadb => "mariadb",
    };
    format!(
        r#"enable = true
enable-gtid = {gtid}
auto-fix-gtid = false
relay-dir = "relay-dir"
meta-dir = ""
flavor = "{flavor}"
charset = ""
enable-relay = false
relay-binlog-name = ""
relay-binlog-gtid = ""
source-id = "{source}"
server-id = 429527460
case-sensitive = false

[from]
{from}
[purge]
  interval = 3600
  expires = 0
  remain-space = 15

[checker]
  check-enable = true
  backoff-rollback = "5m0s"
  backoff-max = "5m0s"
  check-interval = "5s"
  backoff-min = "1s"
  backoff-jitter = true
  backoff-factor = 2.0
"#,
        gtid = job.gtid,
        source = job.source_id,
        from = login(&job.source),
    )
}

/// What `start-task` stores for an incremental task.
pub(super) fn subtask_config(job: &Job) -> String {
    let Start {
        file,
        position,
        gtids,
    } = &job.start;
    let mut toml = format!(
        r#"is-sharding = false
shard-mode = ""
strict-optimistic-shard-mode = false
online-ddl = true
shadow-table-rules = ["^_(.+)_(?:new|gho)$"]
trash-table-rules = ["^_(.+)_(?:ghc|del|old)$"]
online-ddl-scheme = ""
case-sensitive = false
collation_compatible = "loose"
name = "{task}"
mode = "incremental"
source-id = "{source}"
server-id = 0
flavor = ""
meta-schema = "{meta}"
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
batch = 100
queue-size = 1024
checkpoint-flush-interval = 2
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
  binlog-name = "{file}"
  binlog-pos = {position}
  binlog-gtid = "{gtids}"

[from]
{from}  [from.session]
    time_zone = "+00:00"

[to]
{to}  [to.session]
    time_zone = "+00:00"

[block-allow-list]
  do-dbs = {schemas:?}
"#,
        task = job.task,
        source = job.source_id,
        meta = job.meta_schema(),
        slots = job.slots,
        from = login(&job.source),
        to = login(&job.target),
        schemas = job.schemas,
    );
    toml.push_str(
        r#"
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
"#,
    );
    toml
}

fn login(address: &Address) -> String {
    let Address {
        host,
        port,
        user,
        password,
    } = address;
    format!(
        "  host = \"{host}\"\n  port = {port}\n  user = \"{user}\"\n  password = \"{password}\"\n"
    )
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

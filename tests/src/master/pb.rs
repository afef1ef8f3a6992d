//! The messages between master and worker, written down once more: the worker's own definitions
//! must agree with these.

#![allow(missing_docs, reason = "the names are the protocol's")]

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub struct RegisterWorkerRequest {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub address: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct RegisterWorkerResponse {
    #[prost(bool, tag = "1")]
    pub result: bool,
    #[prost(string, tag = "2")]
    pub msg: String,
    #[prost(bytes = "vec", tag = "3")]
    pub secret_key: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct QueryStatusRequest {
    #[prost(string, tag = "1")]
    pub name: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct QueryStatusResponse {
    #[prost(bool, tag = "1")]
    pub result: bool,
    #[prost(string, tag = "2")]
    pub msg: String,
    #[prost(message, optional, tag = "3")]
    pub source_status: Option<SourceStatus>,
    #[prost(message, repeated, tag = "4")]
    pub subtasks: Vec<SubTaskStatus>,
}

#[derive(Clone, PartialEq, Message)]
pub struct PurgeRelayRequest {
    #[prost(bool, tag = "1")]
    pub inactive: bool,
    #[prost(int64, tag = "2")]
    pub time: i64,
    #[prost(string, tag = "3")]
    pub filename: String,
    #[prost(string, tag = "4")]
    pub sub_dir: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct CommonWorkerResponse {
    #[prost(bool, tag = "1")]
    pub result: bool,
    #[prost(string, tag = "2")]
    pub msg: String,
    #[prost(string, tag = "3")]
    pub source: String,
    #[prost(string, tag = "4")]
    pub worker: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct SourceStatus {
    #[prost(string, tag = "1")]
    pub source: String,
    #[prost(string, tag = "2")]
    pub worker: String,
    #[prost(message, optional, tag = "3")]
    pub result: Option<ProcessResult>,
    #[prost(message, optional, tag = "4")]
    pub relay: Option<RelayStatus>,
}

#[derive(Clone, PartialEq, Message)]
pub struct RelayStatus {
    #[prost(string, tag = "1")]
    pub master_binlog: String,
    #[prost(string, tag = "2")]
    pub master_binlog_gtid: String,
    #[prost(string, tag = "3")]
    pub relay_sub_dir: String,
    #[prost(string, tag = "4")]
    pub relay_binlog: String,
    #[prost(string, tag = "5")]
    pub relay_binlog_gtid: String,
    #[prost(bool, tag = "6")]
    pub relay_catch_up_master: bool,
    #[prost(int32, tag = "7")]
    pub stage: i32,
    #[prost(message, optional, tag = "8")]
    pub result: Option<ProcessResult>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ProcessResult {
    #[prost(bool, tag = "1")]
    pub is_canceled: bool,
    #[prost(message, repeated, tag = "2")]
    pub errors: Vec<ProcessError>,
    #[prost(bytes = "vec", tag = "3")]
    pub detail: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ProcessError {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub class: String,
    #[prost(string, tag = "3")]
    pub scope: String,
    #[prost(string, tag = "4")]
    pub level: String,
    #[prost(string, tag = "5")]
    pub message: String,
    #[prost(string, tag = "6")]
    pub raw_cause: String,
    #[prost(string, tag = "7")]
    pub workaround: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct SubTaskStatus {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(int32, tag = "2")]
    pub stage: i32,
    #[prost(int32, tag = "3")]
    pub unit: i32,
    #[prost(message, optional, tag = "4")]
    pub result: Option<ProcessResult>,
    #[prost(string, optional, tag = "6")]
    pub msg: Option<String>,
    #[prost(message, optional, tag = "8")]
    pub dump: Option<DumpStatus>,
    #[prost(message, optional, tag = "10")]
    pub sync: Option<SyncStatus>,
}

#[derive(Clone, PartialEq, Message)]
pub struct DumpStatus {
    #[prost(int64, tag = "1")]
    pub total_tables: i64,
    #[prost(double, tag = "2")]
    pub completed_tables: f64,
    #[prost(double, tag = "3")]
    pub finished_bytes: f64,
    #[prost(double, tag = "4")]
    pub finished_rows: f64,
    #[prost(double, tag = "5")]
    pub estimate_total_rows: f64,
    #[prost(int64, tag = "6")]
    pub bps: i64,
    #[prost(string, tag = "7")]
    pub progress: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct SyncStatus {
    #[prost(int64, tag = "1")]
    pub total_events: i64,
    #[prost(string, tag = "4")]
    pub master_binlog: String,
    #[prost(string, tag = "5")]
    pub master_binlog_gtid: String,
    #[prost(string, tag = "6")]
    pub syncer_binlog: String,
    #[prost(string, tag = "7")]
    pub syncer_binlog_gtid: String,
    #[prost(bool, tag = "10")]
    pub synced: bool,
    #[prost(string, tag = "11")]
    pub binlog_type: String,
    #[prost(int64, tag = "12")]
    pub seconds_behind_master: i64,
    #[prost(int64, tag = "15")]
    pub total_rows: i64,
}

impl QueryStatusResponse {
    /// The source that the worker says it handles.
    #[must_use]
    pub fn source(&self) -> &str {
        self.source_status
            .as_ref()
            .map_or("", |status| status.source.as_str())
    }

    /// The status of the relay, while it is on.
    #[must_use]
    pub fn relay(&self) -> Option<&RelayStatus> {
        self.source_status.as_ref()?.relay.as_ref()
    }

    /// Every error in it, as texts that begin with the code.
    #[must_use]
    pub fn errors(&self) -> Vec<String> {
        let source = self
            .source_status
            .iter()
            .filter_map(|status| status.result.as_ref());
        let relay = self.relay().and_then(|status| status.result.as_ref());
        let subtasks = self
            .subtasks
            .iter()
            .filter_map(|status| status.result.as_ref());
        let results = source.chain(relay).chain(subtasks);
        let errors = results.flat_map(|result| &result.errors);
        errors.map(ProcessError::text).collect()
    }
}

impl ProcessError {
    /// Code, message, cause and advice in one line.
    #[must_use]
    pub fn text(&self) -> String {
        let Self {
            code,
            class,
            message,
            raw_cause,
            workaround,
            ..
        } = self;
        format!("[code={code}:class={class}] {message} | {raw_cause} | {workaround}")
    }
}

//! Types of other rooms that are not there yet; replaced by theirs.
#![allow(missing_docs)]

use alloc::string::String;
use core::time::Duration;

use crate::error::{Error, Result, code};

#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Fence(pub i64);

#[derive(Clone, Debug, PartialEq)]
pub struct Checker {
    pub check_enable: bool,
    pub check_interval: Duration,
    pub backoff_min: Duration,
    pub backoff_max: Duration,
    pub backoff_rollback: Duration,
    pub backoff_factor: f64,
    pub backoff_jitter: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SourceConfig {
    pub source_id: String,
    pub enable_relay: bool,
    pub relay_dir: String,
    pub checker: Checker,
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct SubtaskConfig {
    pub name: String,
    pub mode: String,
    pub text: String,
}

fn field(text: &str, name: &str) -> String {
    let fields = text.lines().filter_map(|line| line.split_once(" = "));
    fields
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value.trim_matches('"').into())
        .next()
        .unwrap_or_default()
}

impl SourceConfig {
    pub fn from_toml(text: &str) -> Result<Self> {
        if text.contains("!!") {
            return Err(Error::new(&code::CONFIG_ETCD_PARSE, "bad"));
        }
        Ok(Self {
            source_id: field(text, "source-id"),
            enable_relay: field(text, "enable-relay") == "true",
            relay_dir: field(text, "relay-dir"),
            checker: Checker {
                check_enable: true,
                check_interval: Duration::from_secs(5),
                backoff_min: Duration::from_secs(1),
                backoff_max: Duration::from_secs(300),
                backoff_rollback: Duration::from_secs(300),
                backoff_factor: 2.0,
                backoff_jitter: true,
            },
        })
    }
}

impl SubtaskConfig {
    pub fn from_toml(text: &str) -> Result<Self> {
        if text.contains("!!") {
            return Err(Error::new(&code::CONFIG_TOML_TRANSFORM, "bad"));
        }
        Ok(Self {
            name: field(text, "name"),
            mode: field(text, "mode"),
            text: text.into(),
        })
    }
}

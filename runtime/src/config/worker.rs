//! The worker's own settings: flags, a TOML file, or both.

use dm_core::control::check::{invalid, one_of, positive};
use dm_core::control::db::Security;
use dm_core::control::document::list;
use dm_core::control::toml;
use dm_core::error::{Error, Result, code};
use dm_core::record;

use super::support::refused;
use crate::memory::Memory;

record! {
    /// The worker's own settings, in the order in which they are printed.
    WorkerConfig {
        /// Name of the worker; empty for its advertised address.
        name: String = "name",
        /// `debug`, `info`, `warn`, `error` or `fatal`.
        log_level: String = "log-level",
        /// File for the log; empty for the console.
        log_file: String = "log-file",
        /// `text` or `json`.
        log_format: String = "log-format",
        /// Never had an effect; refused unless empty.
        log_rotate: String = "log-rotate",
        /// Leave data out of the log; refused, not built yet.
        redact_info_log: bool = "redact-info-log",
        /// Masters to join, separated by commas.
        join: String = "join",
        /// Address to listen on.
        worker_addr: String = "worker-addr",
        /// Address at which others reach the worker; empty for `worker-addr`.
        advertise_addr: String = "advertise-addr",
        /// The file that the settings come from.
        config_file: String = "config-file",
        /// Time to live of the lease, in seconds.
        keepalive_ttl: i64 = "keepalive-ttl",
        /// The same while relay is on by assignment.
        relay_keepalive_ttl: i64 = "relay-keepalive-ttl",
        /// Where relay logs go, each source in a directory of its own; empty for the sources' own.
        relay_dir: String = "relay-dir",
        /// Bytes of a relay log after which they are synced.
        relay_sync_bytes: i64 = "relay-sync-bytes",
        /// Milliseconds after which they are, though they are fewer.
        relay_sync_ms: i64 = "relay-sync-ms",
        /// Memory of each subtask for rows on their way, in bytes.
        row_memory_bytes: i64 = "row-memory-bytes",
        /// TLS, of the listener and towards masters and etcd. Only paths; the rest never had an
        /// effect and is refused.
        security: Security = flat,
    }
}

/// What `-print-sample-config` prints.
pub(super) const SAMPLE: &str = include_str!("sample.toml");

impl WorkerConfig {
    /// Where relay logs go, if it is for the worker to say.
    pub fn relay_dir(&self) -> Option<&str> {
        Some(&*self.relay_dir).filter(|dir| !dir.is_empty())
    }

    /// What holds unless something else is given.
    pub fn standard() -> Self {
        Self {
            log_level: "info".into(),
            log_format: "text".into(),
            keepalive_ttl: 60,
            relay_keepalive_ttl: 30 * 60,
            relay_sync_bytes: 8 << 20,
            relay_sync_ms: 50,
            row_memory_bytes: 80 << 20,
            ..Self::default()
        }
    }

    /// Reads a TOML file over the settings. `file` names it in errors.
    ///
    /// # Errors
    /// 40003 for what is not TOML or has the wrong type, 40004 for unknown keys.
    pub fn load(&mut self, file: &str, text: &str) -> Result<()> {
        let refuse = |problems: String| {
            let message = format!("toml decode file {file}: {problems}");
            Error::new(&code::WORKER_DECODE_CONFIG_FROM_FILE, message)
        };
        let reader = toml::read(text, self).map_err(|problem| refuse(problem.to_string()))?;
        if !reader.problems.is_empty() {
            return Err(refuse(list(&reader.problems)));
        }
        if reader.unknown.is_empty() {
            return Ok(());
        }
        let unknown = list(&reader.unknown);
        let message =
            format!("worker config contains unknown configuration options: {unknown} ({file})");
        Err(Error::new(&code::WORKER_UNDECODED_ITEM_FROM_FILE, message))
    }

    /// Writes TOML, as the worker prints it for operators.
    pub fn to_toml(&self) -> String {
        toml::write_record(self)
    }

    /// Whether the listener and the connections to masters and etcd use TLS.
    pub fn uses_tls(&self) -> bool {
        let Security {
            ssl_ca,
            ssl_cert,
            ssl_key,
            ..
        } = &self.security;
        [ssl_ca, ssl_cert, ssl_key]
            .iter()
            .any(|path| !path.is_empty())
    }

    /// Completes addresses and the name, and checks everything.
    ///
    /// # Errors
    /// 40069 for addresses, 20900 for other values, 20901 for what is not built yet. They name the
    /// file, if there is one.
    pub fn adjust(&mut self) -> Result<()> {
        self.check()
            .map_err(|error| match self.config_file.as_str() {
                "" => error,
                file => error.annotate(&format!("{file} and flags")),
            })
    }

    fn check(&mut self) -> Result<()> {
        self.log_level.make_ascii_lowercase();
        self.refuse_unused()?;
        one_of(
            "log-level",
            &self.log_level,
            &["debug", "info", "warn", "error", "fatal"],
        )?;
        one_of("log-format", &self.log_format, &["text", "json"])?;
        positive("keepalive-ttl", self.keepalive_ttl)?;
        positive("relay-keepalive-ttl", self.relay_keepalive_ttl)?;
        positive("relay-sync-bytes", self.relay_sync_bytes)?;
        positive("relay-sync-ms", self.relay_sync_ms)?;
        let memory = usize::try_from(self.row_memory_bytes).unwrap_or_default();
        if !(Memory::MIN..=Memory::MAX).contains(&memory) {
            let why = format!("must be from {} to {}", Memory::MIN, Memory::MAX);
            return Err(invalid("row-memory-bytes", &why));
        }
        self.check_tls()?;
        self.adjust_addresses()?;
        if !self.join.is_empty() {
            self.join = self.endpoints(&self.join)?.join(",");
        }
        if self.name.is_empty() {
            self.name.clone_from(&self.advertise_addr);
        }
        Ok(())
    }

    /// The addresses of a comma-separated list, with the scheme that the settings ask for.
    ///
    /// # Errors
    /// 40069 for what is not an address with a port.
    pub fn endpoints(&self, list: &str) -> Result<Vec<String>> {
        let scheme = if self.security.ssl_ca.is_empty() {
            "http"
        } else {
            "https"
        };
        let endpoint = |text: &str| {
            let address = without_scheme(text.trim());
            match split_host_port(address) {
                Some((host, port)) if !host.is_empty() && !port.is_empty() => {
                    Ok(format!("{scheme}://{address}"))
                }
                _ => Err(bad_address(text)),
            }
        };
        list.split(',').map(endpoint).collect()
    }

    fn adjust_addresses(&mut self) -> Result<()> {
        self.worker_addr = without_scheme(&self.worker_addr).to_owned();
        let Some((host, _)) = split_host_port(&self.worker_addr) else {
            return Err(bad_address(&self.worker_addr)
                .with_workaround("Set `worker-addr` to an address such as 127.0.0.1:8262."));
        };
        if self.advertise_addr.is_empty() {
            // Only masters have to find the way.
            if !self.join.is_empty() && (host.is_empty() || host == "0.0.0.0") {
                return Err(bad_address(&self.worker_addr).with_workaround(
                    "Set `advertise-addr` to the address at which masters reach the worker.",
                ));
            }
            self.advertise_addr.clone_from(&self.worker_addr);
            return Ok(());
        }
        self.advertise_addr = without_scheme(&self.advertise_addr).to_owned();
        match split_host_port(&self.advertise_addr) {
            Some((host, port)) if !host.is_empty() && host != "0.0.0.0" && !port.is_empty() => {
                Ok(())
            }
            _ => Err(bad_address(&self.advertise_addr)),
        }
    }

    /// The listener needs its certificate, and the others must know whom to trust.
    fn check_tls(&self) -> Result<()> {
        let Security {
            ssl_ca,
            ssl_cert,
            ssl_key,
            cert_allowed_cn,
            ..
        } = &self.security;
        let names = cert_allowed_cn.iter().flatten().next().is_some();
        if !self.uses_tls() {
            return match names {
                true => Err(invalid(
                    "cert-allowed-cn",
                    "needs `ssl-ca`, `ssl-cert` and `ssl-key`",
                )),
                false => Ok(()),
            };
        }
        for (key, path) in [
            ("ssl-ca", ssl_ca),
            ("ssl-cert", ssl_cert),
            ("ssl-key", ssl_key),
        ] {
            if path.is_empty() {
                let why = "must be given: TLS needs `ssl-ca`, `ssl-cert` and `ssl-key`";
                return Err(invalid(key, why));
            }
        }
        Ok(())
    }

    /// Settings that have no effect are refused, rather than taken and forgotten.
    fn refuse_unused(&self) -> Result<()> {
        let security = &self.security;
        for (key, used) in [
            ("log-rotate", !self.log_rotate.is_empty()),
            ("ssl-ca-bytes", security.ssl_ca_bytes.is_some()),
            ("ssl-key-bytes", security.ssl_key_bytes.is_some()),
            ("ssl-cert-bytes", security.ssl_cert_bytes.is_some()),
            ("ssl-ca-base64", !security.ssl_ca_base64.is_empty()),
            ("ssl-key-base64", !security.ssl_key_base64.0.is_empty()),
            ("ssl-cert-base64", !security.ssl_cert_base64.is_empty()),
        ] {
            if used {
                let why = "never had an effect on the worker; remove it";
                return Err(invalid(key, why).with_workaround(
                    "For TLS give paths: ssl-ca, ssl-cert, ssl-key. Rotate log files from outside.",
                ));
            }
        }
        if self.redact_info_log {
            return Err(refused("`redact-info-log`"));
        }
        Ok(())
    }
}

fn bad_address(address: &str) -> Error {
    let message = format!("host:port '{address}' not valid");
    Error::new(&code::WORKER_HOST_PORT_NOT_VALID, message)
}

pub(super) fn without_scheme(address: &str) -> &str {
    let rest = address
        .strip_prefix("http://")
        .or_else(|| address.strip_prefix("https://"));
    rest.unwrap_or(address)
}

/// Host and port of `host:port` or `[host]:port`; either may be empty.
fn split_host_port(address: &str) -> Option<(&str, &str)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    Some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adjusted(change: impl FnOnce(&mut WorkerConfig)) -> Result<WorkerConfig> {
        let mut config = WorkerConfig {
            worker_addr: "h:1".into(),
            ..WorkerConfig::standard()
        };
        change(&mut config);
        config.adjust().map(|()| config)
    }

    /// As `dmctl config worker` printed it.
    #[test]
    fn settings_are_printed_as_the_existing_worker_prints_them_with_our_own() {
        let config = adjusted(|config| {
            config.name = "w1".into();
            config.log_level = "INFO".into();
            config.log_file = "w1.log".into();
            config.join = "127.0.0.1:8961".into();
            config.worker_addr = "http://127.0.0.1:8962".into();
        });
        assert_eq!(
            config.expect("valid").to_toml(),
            "name = \"w1\"\nlog-level = \"info\"\nlog-file = \"w1.log\"\nlog-format = \"text\"\n\
             log-rotate = \"\"\nredact-info-log = false\njoin = \"http://127.0.0.1:8961\"\n\
             worker-addr = \"127.0.0.1:8962\"\nadvertise-addr = \"127.0.0.1:8962\"\n\
             config-file = \"\"\nkeepalive-ttl = 60\nrelay-keepalive-ttl = 1800\n\
             relay-dir = \"\"\nrelay-sync-bytes = 8388608\nrelay-sync-ms = 50\n\
             row-memory-bytes = 83886080\nssl-ca = \"\"\nssl-cert = \"\"\nssl-key = \"\"\n\
             ssl-ca-base64 = \"\"\nssl-key-base64 = \"\"\nssl-cert-base64 = \"\"\n"
        );
    }

    #[test]
    fn the_sample_holds_what_holds_anyway() {
        let mut config = WorkerConfig::standard();
        config.load("sample", SAMPLE).expect("valid");
        config.adjust().expect("valid");
        assert_eq!(config.log_level, WorkerConfig::standard().log_level);
        assert_eq!(config.name, "worker1");
    }

    #[test]
    fn addresses_and_name_are_completed() {
        let config = adjusted(|config| {
            config.security = tls();
            config.join = "http://a:1,b:2".into();
            config.worker_addr = "0.0.0.0:8262".into();
            config.advertise_addr = "https://[::1]:8262".into();
        })
        .expect("valid");
        assert_eq!(config.join, "https://a:1,https://b:2");
        assert_eq!(
            (config.name.as_str(), config.advertise_addr.as_str()),
            ("[::1]:8262", "[::1]:8262")
        );
        assert!(config.uses_tls());
        for (worker, advertise) in [
            ("", ""),
            ("h", ""),
            (":1", ""),
            ("0.0.0.0:1", ""),
            ("h:1", ":1"),
            ("h:1", "h:"),
            ("::1:1", ""),
        ] {
            let error = adjusted(|config| {
                config.join = "m:1".into();
                config.worker_addr = worker.into();
                config.advertise_addr = advertise.into();
            })
            .expect_err(worker);
            assert!(error.is(&code::WORKER_HOST_PORT_NOT_VALID), "{error}");
        }
    }

    fn tls() -> Security {
        Security {
            ssl_ca: "ca.pem".into(),
            ssl_cert: "cert.pem".into(),
            ssl_key: "key.pem".into(),
            ..Security::default()
        }
    }

    #[test]
    fn only_masters_need_an_address_to_find() {
        for address in ["0.0.0.0:1", ":1"] {
            let config = adjusted(|config| config.worker_addr = address.into()).expect("alone");
            assert_eq!(config.worker_addr, address);
        }
    }

    /// Without an authority the others would be spoken to in plain text.
    #[test]
    fn tls_is_complete_or_off() {
        type Change = fn(&mut Security);
        let changes: [(&str, Change); 4] = [
            ("`ssl-ca`", |security| security.ssl_ca.clear()),
            ("`ssl-cert`", |security| security.ssl_cert.clear()),
            ("`ssl-key`", |security| security.ssl_key.clear()),
            ("`cert-allowed-cn`", |security| {
                *security = Security {
                    cert_allowed_cn: Some(vec!["dm".into()]),
                    ..Security::default()
                };
            }),
        ];
        for (key, change) in changes {
            let result = adjusted(|config| {
                config.security = tls();
                change(&mut config.security);
                config.config_file = "w.toml".into();
            });
            let error = result.expect_err(key);
            assert!(
                error
                    .message
                    .starts_with(&format!("w.toml and flags: {key}")),
                "{error}"
            );
        }
    }

    #[test]
    fn what_cannot_be_right_is_refused_by_code() {
        for (text, number) in [
            ("nmae = 'a'", 40004),
            ("name = 1", 40003),
            ("name = ", 40003),
            ("log-level = 'loud'", 20900),
            ("log-format = 'xml'", 20900),
            ("log-rotate = 'day'", 20900),
            ("keepalive-ttl = 0", 20900),
            ("relay-sync-bytes = 0", 20900),
            ("relay-sync-ms = -1", 20900),
            ("row-memory-bytes = 1000000", 20900),
            ("row-memory-bytes = -1", 20900),
            ("ssl-ca-bytes = [1]", 20900),
            ("ssl-key-base64 = 'eA=='", 20900),
            ("redact-info-log = true", 20901),
            ("join = 'a'", 40069),
        ] {
            let mut config = WorkerConfig {
                worker_addr: "h:1".into(),
                ..WorkerConfig::standard()
            };
            let result = config.load("w.toml", text).and_then(|()| config.adjust());
            let error = result.expect_err(text);
            assert_eq!(error.code, number, "{text}: {error}");
        }
    }
}

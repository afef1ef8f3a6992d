//! How to reach a database.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::record::Secret;
use crate::record;

record! {
    /// Address, user and session of a database.
    DbConfig {
        /// Host name or address.
        host: String = "host",
        /// TCP port.
        port: u16 = "port",
        /// User name.
        user: String = "user",
        /// Password; may be encrypted in files, is plain in the control store.
        password: Secret<String> = "password",
        /// Deprecated, without effect.
        max_allowed_packet: Option<i64> = "max-allowed-packet",
        /// Session variables to set on each connection.
        session: Option<BTreeMap<String, String>> = "session",
        /// TLS.
        security: Option<Security> = "security",
    }
}

impl DbConfig {
    /// Makes the time zone of a task one of the session variables.
    pub fn set_time_zone(&mut self, time_zone: &str) {
        if !time_zone.is_empty() {
            self.session
                .get_or_insert_default()
                .insert("time_zone".into(), time_zone.into());
        }
    }

    /// The session variables.
    pub fn session(&self) -> impl Iterator<Item = (&str, &str)> {
        self.session
            .iter()
            .flatten()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

record! {
    /// Certificates for TLS. Of each, bytes win over base64, and base64 over a path.
    Security {
        /// Path of the certificate authority.
        ssl_ca: String = "ssl-ca",
        /// Path of the own certificate.
        ssl_cert: String = "ssl-cert",
        /// Path of the own private key.
        ssl_key: String = "ssl-key",
        /// Common names that the other side's certificate may have; any if there are none.
        cert_allowed_cn: Option<Vec<String>> = "cert-allowed-cn",
        /// The certificate authority, in PEM.
        ssl_ca_bytes: Option<Vec<u8>> = "ssl-ca-bytes",
        /// The own private key, in PEM.
        ssl_key_bytes: Option<Secret<Vec<u8>>> = "ssl-key-bytes",
        /// The own certificate, in PEM.
        ssl_cert_bytes: Option<Vec<u8>> = "ssl-cert-bytes",
        /// The certificate authority, in PEM, in base64.
        ssl_ca_base64: String = "ssl-ca-base64",
        /// The own private key, in PEM, in base64.
        ssl_key_base64: Secret<String> = "ssl-key-base64",
        /// The own certificate, in PEM, in base64.
        ssl_cert_base64: String = "ssl-cert-base64",
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn secrets_do_not_show() {
        let security = Security {
            ssl_key_bytes: Some(Secret(b"hidden".into())),
            ssl_key_base64: Secret("hidden".into()),
            ..Security::default()
        };
        let config = DbConfig {
            password: Secret("hidden".into()),
            security: Some(security),
            ..DbConfig::default()
        };
        assert!(!format!("{config:?}").contains("hidden"));
    }
}

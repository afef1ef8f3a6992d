//! TLS as the `security` section of a database's configuration asks for it.
//!
//! The server's certificate must come from the given authority; its host name is not looked at,
//! since the certificates that database servers make for themselves name nobody. Where
//! `cert-allowed-cn` is set, the certificate's common name must be in that list.

use std::{fs, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use dm_core::control::db::Security;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore,
    SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use tokio_rustls::TlsConnector;

use super::{Fault, der, packet::Stream};

/// Puts TLS around a stream.
pub(super) async fn connect(
    security: &Security,
    host: &str,
    stream: Box<dyn Stream>,
) -> Result<Box<dyn Stream>, Fault> {
    let config = Arc::new(config(security)?);
    // Only sent as a hint; a host that is no name sends none.
    let name = ServerName::try_from(host.to_owned())
        .or_else(|_| ServerName::try_from("localhost"))
        .map_err(|e| Fault::Tls(e.to_string()))?;
    let stream = TlsConnector::from(config).connect(name, stream).await;
    let stream = stream.map_err(|e| Fault::Tls(e.to_string()))?;
    Ok(Box::new(stream))
}

/// What `security` gives, read.
pub(in crate::mysql) struct Files {
    /// Whom to trust.
    pub(in crate::mysql) authority: Vec<u8>,
    /// Our certificate chain and its key.
    pub(in crate::mysql) identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Files {
    /// Reads everything; nothing is parsed yet.
    pub(in crate::mysql) fn load(security: &Security) -> Result<Self, Fault> {
        fn slice(bytes: Option<&Vec<u8>>) -> &[u8] {
            bytes.map_or(&[], Vec::as_slice)
        }
        let s = security;
        let key_bytes = s.ssl_key_bytes.as_ref().map(|bytes| &bytes.0);
        let ca = (
            slice(s.ssl_ca_bytes.as_ref()),
            &*s.ssl_ca_base64,
            &*s.ssl_ca,
        );
        let cert = (
            slice(s.ssl_cert_bytes.as_ref()),
            &*s.ssl_cert_base64,
            &*s.ssl_cert,
        );
        let key = (slice(key_bytes), &*s.ssl_key_base64.0, &*s.ssl_key);
        let missing = "`ssl-ca` is missing in `security`: nothing tells whom to trust";
        Ok(Self {
            authority: load("ssl-ca", ca)?.ok_or_else(|| Fault::Tls(missing.to_owned()))?,
            identity: match (load("ssl-cert", cert)?, load("ssl-key", key)?) {
                (None, None) => None,
                (Some(cert), Some(key)) => Some((cert, key)),
                _ => {
                    let text = "`ssl-cert` and `ssl-key` need each other";
                    return Err(Fault::Tls(text.to_owned()));
                }
            },
        })
    }
}

/// The client's side of the settings.
pub(crate) fn config(security: &Security) -> Result<ClientConfig, Fault> {
    let tls = |e: &dyn ToString| Fault::Tls(e.to_string());
    let files = Files::load(security)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&files.authority) {
        let certificate = certificate.map_err(|e| Fault::Tls(format!("ssl-ca: {e}")))?;
        roots.add(certificate).map_err(|e| tls(&e))?;
    }
    if roots.is_empty() {
        return Err(Fault::Tls("no certificate in `ssl-ca`".to_owned()));
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier {
        roots,
        allowed: security.cert_allowed_cn.clone().unwrap_or_default(),
        provider: Arc::clone(&provider),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| tls(&e))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let Some((certificate, key)) = files.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = CertificateDer::pem_slice_iter(&certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| Fault::Tls(format!("ssl-cert: {e}")))?;
    let key =
        PrivateKeyDer::from_pem_slice(&key).map_err(|e| Fault::Tls(format!("ssl-key: {e}")))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|e| Fault::Tls(format!("ssl-cert, ssl-key: {e}")))
}

/// Content of one item: given as bytes, else as base64, else as a path.
pub(in crate::mysql) fn load(
    name: &str,
    (bytes, base64, path): (&[u8], &str, &str),
) -> Result<Option<Vec<u8>>, Fault> {
    if !bytes.is_empty() {
        return Ok(Some(bytes.to_vec()));
    }
    if !base64.is_empty() {
        let decoded = STANDARD.decode(base64);
        return decoded
            .map(Some)
            .map_err(|e| Fault::Tls(format!("{name}-base64: {e}")));
    }
    if path.is_empty() {
        return Ok(None);
    }
    fs::read(path)
        .map(Some)
        .map_err(|e| Fault::Tls(format!("{name} {path}: {e}")))
}

/// Checks the chain and, where asked, the common name.
#[derive(Debug)]
struct Verifier {
    roots: RootCertStore,
    allowed: Vec<String>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        let allowed = self.allowed.is_empty()
            || der::common_name(end_entity).is_some_and(|name| self.allowed.contains(&name));
        if allowed {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::NotValidForName.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

//! TLS as the `security` section of a database's configuration asks for it.
//!
//! The server's certificate must come from the given authority; its host name is not looked at,
//! since the certificates that database servers make for themselves name nobody. Where
//! `cert-allowed-cn` is set, the certificate's common name must be in that list.

use std::{fs, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
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

use super::{Fault, Security, der, packet::Stream};

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

/// The client's side of the settings.
pub(crate) fn config(security: &Security) -> Result<ClientConfig, Fault> {
    let tls = |e: &dyn ToString| Fault::Tls(e.to_string());
    let Some(authority) = load("ssl-ca", security.ca())? else {
        return Err(Fault::Tls(
            "`ssl-ca` is missing in `security`: nothing tells whom to trust".to_owned(),
        ));
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&authority) {
        let certificate = certificate.map_err(|e| Fault::Tls(format!("ssl-ca: {e}")))?;
        roots.add(certificate).map_err(|e| tls(&e))?;
    }
    if roots.is_empty() {
        return Err(Fault::Tls("no certificate in `ssl-ca`".to_owned()));
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier {
        roots,
        allowed: security.cert_allowed_cn.clone(),
        provider: Arc::clone(&provider),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| tls(&e))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let certificate = load("ssl-cert", security.cert())?;
    let key = load("ssl-key", security.key())?;
    match (certificate, key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(certificate), Some(key)) => {
            let chain = CertificateDer::pem_slice_iter(&certificate)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| Fault::Tls(format!("ssl-cert: {e}")))?;
            let key = PrivateKeyDer::from_pem_slice(&key)
                .map_err(|e| Fault::Tls(format!("ssl-key: {e}")))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|e| Fault::Tls(format!("ssl-cert, ssl-key: {e}")))
        }
        _ => Err(Fault::Tls(
            "`ssl-cert` and `ssl-key` need each other".to_owned(),
        )),
    }
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

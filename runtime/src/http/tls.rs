//! TLS on the worker's port.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::serve::Listener;
use dm_core::{
    control::db::Security,
    error::{Error, Result, code},
};
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error as TlsError,
    RootCertStore, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server::TlsStream};

use crate::mysql::conn::{common_name, tls_config};

/// How long a client may take to agree on TLS.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How many clients may be doing so at a time; more have to wait.
const HANDSHAKES_MAX: usize = 256;

/// The listener's side of the worker's `ssl-*` and `cert-allowed-cn` settings, which are paths and
/// names. A client needs a certificate only where names are given, and then with one of them.
///
/// # Errors
/// A file is missing or not what it should be.
pub fn server_config(
    ca: &str,
    cert: &str,
    key: &str,
    allowed_cn: &[String],
) -> Result<Arc<ServerConfig>> {
    let fail = |what: &str, why: &dyn ToString| {
        Error::new(
            &code::WORKER_TLS_CONFIG_NOT_VALID,
            format!("TLS config not valid: {what}"),
        )
        .with_cause(why.to_string())
    };
    let provider = Arc::new(ring::default_provider());
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| fail("ssl-cert", &error))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| fail("ssl-key", &error))?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| fail("protocol", &error))?;
    let builder = if allowed_cn.is_empty() {
        builder.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        let certificates =
            CertificateDer::pem_file_iter(ca).map_err(|error| fail("ssl-ca", &error))?;
        for certificate in certificates {
            let added = certificate.map_err(|error| fail("ssl-ca", &error));
            roots.add(added?).map_err(|error| fail("ssl-ca", &error))?;
        }
        let chain = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let chain = chain.build().map_err(|error| fail("ssl-ca", &error))?;
        builder.with_client_cert_verifier(Arc::new(Named {
            chain,
            allowed: allowed_cn.to_vec(),
        }))
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| fail("ssl-cert, ssl-key", &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The client's side of them, for calls to masters: their certificate must come from `ca`, whatever
/// its names are.
///
/// # Errors
/// A file is missing or not what it should be.
pub fn client_config(ca: &str, cert: &str, key: &str) -> Result<Arc<ClientConfig>> {
    let security = Security {
        ssl_ca: ca.to_owned(),
        ssl_cert: cert.to_owned(),
        ssl_key: key.to_owned(),
        ..Security::default()
    };
    let mut config = tls_config(&security).map_err(|fault| {
        Error::new(&code::WORKER_TLS_CONFIG_NOT_VALID, "TLS config not valid")
            .with_cause(fault.to_string())
    })?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// Puts TLS around a stream on which HTTP/1 is spoken. The server may have any name.
pub(super) async fn connect(
    stream: TcpStream,
    config: &ClientConfig,
) -> io::Result<client::TlsStream<TcpStream>> {
    let mut config = config.clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::from(stream.peer_addr()?.ip());
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await
}

/// Accepts clients whose certificate has one of some common names.
#[derive(Debug)]
struct Named {
    chain: Arc<dyn ClientCertVerifier>,
    allowed: Vec<String>,
}

impl ClientCertVerifier for Named {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        let verified = self
            .chain
            .verify_client_cert(end_entity, intermediates, now)?;
        if common_name(end_entity).is_some_and(|name| self.allowed.contains(&name)) {
            Ok(verified)
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
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

type Handshake = BoxFuture<'static, Option<(TlsStream<TcpStream>, SocketAddr)>>;

/// A listener that hands out connections once TLS is agreed on; slow clients delay nobody else.
pub(super) struct Secure<L> {
    listener: L,
    acceptor: TlsAcceptor,
    handshakes: FuturesUnordered<Handshake>,
}

impl<L> Secure<L> {
    pub(super) fn new(listener: L, config: Arc<ServerConfig>) -> Self {
        Self {
            listener,
            acceptor: config.into(),
            handshakes: FuturesUnordered::new(),
        }
    }
}

impl<L: Listener<Io = TcpStream, Addr = SocketAddr>> Listener for Secure<L> {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            tokio::select! {
                biased;
                Some(done) = self.handshakes.next(), if !self.handshakes.is_empty() => {
                    if let Some(accepted) = done {
                        return accepted;
                    }
                }
                (stream, address) = self.listener.accept(),
                    if self.handshakes.len() < HANDSHAKES_MAX =>
                {
                    let handshake = timeout(HANDSHAKE_MAX, self.acceptor.accept(stream));
                    self.handshakes.push(Box::pin(async move {
                        match handshake.await {
                            Ok(Ok(stream)) => Some((stream, address)),
                            Ok(Err(error)) => {
                                tracing::info!(%address, %error, "a client failed at TLS");
                                None
                            }
                            Err(_) => None,
                        }
                    }));
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

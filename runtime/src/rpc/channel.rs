//! Connections to gRPC servers of a cluster.

use std::{io, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

/// Connects to a server; `address` may begin with a scheme, which does not matter.
///
/// With TLS, the server's certificate is checked as `tls` says.
///
/// # Errors
/// What went wrong, as a sentence; also when it takes longer than `limit`.
pub async fn connect(
    address: &str,
    tls: Option<&Arc<ClientConfig>>,
    limit: Duration,
) -> Result<Channel, String> {
    let bare = address.split_once("://").map_or(address, |(_, rest)| rest);
    // The scheme tells nothing: if there is TLS, it is below.
    let endpoint = Endpoint::from_shared(format!("http://{bare}"));
    let endpoint = endpoint.map_err(|error| format!("{address}: {error}"))?;
    let connecting = async {
        match tls {
            None => endpoint.connect().await,
            Some(config) => {
                let config = Arc::clone(config);
                let connector = move |uri: Uri| secure(uri, Arc::clone(&config));
                endpoint
                    .connect_with_connector(tower::service_fn(connector))
                    .await
            }
        }
    };
    match timeout(limit, connecting).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(format!("{address}: {}", chain(&error))),
        Err(_) => Err(format!("{address}: no connection within {limit:?}")),
    }
}

async fn secure(
    uri: Uri,
    config: Arc<ClientConfig>,
) -> io::Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    Ok(TokioIo::new(
        TlsConnector::from(config).connect(name, stream).await?,
    ))
}

/// An error with all its causes, since the outermost one rarely says anything.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

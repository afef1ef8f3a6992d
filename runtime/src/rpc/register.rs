//! How a worker joins a cluster.

use std::{sync::Arc, time::Duration};

use dm_core::error::{Error, Result, code};
use rustls::ClientConfig;
use tokio::time::{sleep, timeout};

use super::{connect, pb};

const ROUNDS: u32 = 5;
const CONNECT_MAX: Duration = Duration::from_secs(3);
const CALL_MAX: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_secs(1);

/// Introduces the worker `name`, which others reach at `address`, to one of the masters. Gives the
/// AES key with which passwords in configurations are encrypted; empty where they are not.
///
/// # Errors
/// No master accepted it in five rounds.
pub async fn register(
    masters: &[String],
    name: &str,
    address: &str,
    tls: Option<&Arc<ClientConfig>>,
) -> Result<Vec<u8>> {
    register_with_pause(masters, name, address, tls, PAUSE).await
}

async fn register_with_pause(
    masters: &[String],
    name: &str,
    address: &str,
    tls: Option<&Arc<ClientConfig>>,
    pause: Duration,
) -> Result<Vec<u8>> {
    let mut last = String::from("there are no masters");
    for _ in 0..ROUNDS {
        for master in masters {
            match ask(master, name, address, tls).await {
                Ok(key) => return Ok(key),
                Err(why) => {
                    tracing::warn!(master, error = why, "cannot join yet");
                    last = why;
                }
            }
        }
        sleep(pause).await;
    }
    let list = masters.join(" ");
    let message = format!("cannot join with master endpoints: [{list}], error: {last}");
    Err(Error::new(&code::WORKER_FAIL_CONNECT_MASTER, message))
}

async fn ask(
    master: &str,
    name: &str,
    address: &str,
    tls: Option<&Arc<ClientConfig>>,
) -> Result<Vec<u8>, String> {
    let channel = connect(master, tls, CONNECT_MAX).await?;
    let mut client = pb::master_client::MasterClient::new(channel);
    let request = pb::RegisterWorkerRequest {
        name: name.to_owned(),
        address: address.to_owned(),
    };
    match timeout(CALL_MAX, client.register_worker(request)).await {
        Err(_) => Err(format!("{master}: no answer within {CALL_MAX:?}")),
        Ok(Err(status)) => Err(format!("{master}: {status}")),
        Ok(Ok(response)) => {
            let response = response.into_inner();
            if response.result {
                Ok(response.secret_key)
            } else {
                Err(response.msg)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::net::TcpListener;

    /// A master that accepts a name once it has been asked twice.
    #[derive(Default)]
    struct Reluctant(AtomicU32);

    #[tonic::async_trait]
    impl pb::master_server::Master for Reluctant {
        async fn register_worker(
            &self,
            request: tonic::Request<pb::RegisterWorkerRequest>,
        ) -> Result<tonic::Response<pb::RegisterWorkerResponse>, tonic::Status> {
            let asked = self.0.fetch_add(1, Ordering::SeqCst);
            let request = request.into_inner();
            let result = asked > 0 && request.name == "w" && request.address == "w:1";
            let msg = if result { "" } else { "not now" }.to_owned();
            let secret_key = if result { vec![7; 32] } else { Vec::new() };
            Ok(tonic::Response::new(pb::RegisterWorkerResponse {
                result,
                msg,
                secret_key,
            }))
        }
    }

    #[tokio::test]
    async fn joining_is_tried_at_every_master_and_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let master = format!("http://{}", listener.local_addr().unwrap());
        let service = pb::master_server::MasterServer::new(Reluctant::default());
        let router = tonic::service::Routes::new(service).into_axum_router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        // Nobody listens on the port of a listener that is gone.
        let gone = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let masters = [gone.to_string(), master];
        let pause = Duration::from_millis(1);
        let joined = register_with_pause(&masters, "w", "w:1", None, pause).await;
        assert_eq!(joined, Ok(vec![7; 32]));

        let refused = register_with_pause(&masters[..1], "w", "w:1", None, pause).await;
        let error = refused.unwrap_err();
        assert_eq!(error.code, 40077);
        let start = format!("cannot join with master endpoints: [{gone}], error: {gone}: ");
        assert!(error.message.starts_with(&start), "{}", error.message);
    }
}

//! What operators ask of a worker that runs.

use std::{sync::Arc, time::Duration};

use dm_core::error::{Error, Result, code};
use rustls::ClientConfig;
use tokio::time::timeout;

use crate::{
    config::args::{Peer, Purge},
    http,
    modes::client_tls,
    report::Report,
    rpc::{self, pb},
};

const CONNECT_MAX: Duration = Duration::from_secs(5);
/// So long a purge is waited for.
const PURGE_MAX: Duration = Duration::from_secs(60);

/// Asks a worker what it does, for people to read.
///
/// # Errors
/// It can't be reached, or what answers is no worker.
pub async fn status(worker: &Peer) -> Result<String> {
    let refuse = |cause| nobody(worker, cause);
    let json = http::fetch(&worker.addr, "/sources", tls(worker)?).await;
    let json = json.map_err(refuse)?;
    let report: Report =
        serde_json::from_slice(&json).map_err(|error| refuse(error.to_string()))?;
    Ok(report.to_string())
}

/// Lets a worker remove files of its relay log, as far as nobody needs them. Says what is gone.
///
/// # Errors
/// The worker can't be reached, or the text of its refusal.
pub async fn purge_relay(args: &Purge) -> Result<String, String> {
    let Purge {
        inactive,
        time,
        file,
        sub_dir,
        worker,
    } = args;
    let request = pb::PurgeRelayRequest {
        inactive: *inactive,
        time: time.unwrap_or_default(),
        filename: file.clone().unwrap_or_default(),
        sub_dir: sub_dir.clone().unwrap_or_default(),
    };
    let refuse = |cause| nobody(worker, cause).to_string();
    let tls = tls(worker).map_err(|error| error.to_string())?;
    let channel = rpc::connect(&worker.addr, tls.as_ref(), CONNECT_MAX).await;
    let mut client = pb::worker_client::WorkerClient::new(channel.map_err(refuse)?);
    match timeout(PURGE_MAX, client.purge_relay(request)).await {
        Ok(Ok(answer)) => {
            // The existing worker does not say what it has removed.
            let removed = answer.metadata().get_bin(rpc::REMOVED);
            let removed = removed.and_then(|text| text.to_bytes().ok());
            let removed = removed.map_or_else(
                || "the worker's log says what was removed".to_owned(),
                |text| String::from_utf8_lossy(&text).into_owned(),
            );
            let answer = answer.into_inner();
            let done = format!("{removed}\n");
            answer.result.then_some(done).ok_or(answer.msg)
        }
        Ok(Err(status)) => Err(refuse(status.message().to_owned())),
        Err(_) => Err(format!(
            "no answer within {PURGE_MAX:?}. The worker goes on with it; its log says how it ends."
        )),
    }
}

fn tls(worker: &Peer) -> Result<Option<Arc<ClientConfig>>> {
    let security = &worker.security;
    (!security.ssl_ca.is_empty())
        .then(|| client_tls(security))
        .transpose()
}

fn nobody(worker: &Peer, cause: String) -> Error {
    Error::new(
        &code::WORKER_INVALID_FLAG,
        format!("no worker answers at {}", worker.addr),
    )
    .with_cause(cause)
    .with_workaround(
        "Give its address with `-addr`, or the data directory of a worker that runs alone \
         with `-data-dir`. A worker that uses TLS needs `-ssl-ca`, and with \
         `cert-allowed-cn` also `-ssl-cert` and `-ssl-key`.",
    )
}

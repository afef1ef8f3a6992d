//! The worker's port: gRPC, the version text and the metrics, told apart by what comes in.

mod tls;

use std::{future::Future, io, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
    serve::{Listener, ListenerExt},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tonic::service::Routes;

pub use tls::{client_config, server_config};

use crate::{
    metrics::{Metrics, cpu_seconds},
    report::Report,
    rpc::{Facts, Service},
};

/// How often the use of processor time is measured.
const CPU_PERIOD: Duration = Duration::from_secs(10);

/// How long an answer may take; a worker asks its sources for five seconds at most.
const ASK_LIMIT: Duration = Duration::from_secs(15);

/// Serves until `stop` is done. Where `tls` is given, only over TLS.
///
/// # Errors
/// The listener broke.
pub async fn serve<F: Facts>(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    facts: Arc<F>,
    metrics: Arc<Metrics>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = router(facts, Arc::clone(&metrics));
    let listener = listener.tap_io(|stream| {
        // Answers are small; without it they would wait for each other.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
    });
    let serving = async {
        match tls {
            Some(config) => run(tls::Secure::new(listener, config), router).await,
            None => run(listener, router).await,
        }
    };
    tokio::select! {
        biased;
        () = stop => Ok(()),
        () = measure_cpu(&metrics) => Ok(()),
        result = serving => result,
    }
}

async fn run<L: Listener>(listener: L, router: Router) -> io::Result<()>
where
    L::Addr: std::fmt::Debug,
{
    axum::serve(listener, router).await
}

/// Asks a worker's port for a page, over TLS where that is given. The answer's body.
///
/// # Errors
/// What went wrong, as a sentence.
pub async fn fetch(
    address: &str,
    path: &str,
    tls: Option<Arc<rustls::ClientConfig>>,
) -> Result<Vec<u8>, String> {
    let ask = async {
        let stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
        match tls {
            Some(config) => exchange(tls::connect(stream, &config).await?, &request).await,
            None => exchange(stream, &request).await,
        }
    };
    let answer = match timeout(ASK_LIMIT, ask).await {
        Ok(answer) => answer.map_err(|error| error.to_string())?,
        Err(_) => return Err(format!("no answer within {ASK_LIMIT:?}")),
    };
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Err("this is no HTTP".to_owned());
    };
    let head = String::from_utf8_lossy(&answer[..end]);
    if head.split(' ').nth(1) != Some("200") {
        return Err(head.lines().next().unwrap_or_default().to_owned());
    }
    Ok(answer[end + 4..].to_vec())
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}

/// The six lines that also `-V` prints.
pub fn version_text() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let lines = [
        ("Release Version", format!("v{version}")),
        (
            "Git Commit Hash",
            option_env!("DM_GIT_HASH").unwrap_or("None").to_owned(),
        ),
        (
            "Git Branch",
            option_env!("DM_GIT_BRANCH").unwrap_or("None").to_owned(),
        ),
        (
            "UTC Build Time",
            option_env!("DM_BUILD_TIME").unwrap_or("None").to_owned(),
        ),
        ("Go Version", "None".to_owned()),
        ("Failpoint Build", "false".to_owned()),
    ];
    lines
        .iter()
        .map(|(name, value)| format!("{name}: {value}\n"))
        .collect()
}

struct Shared<F> {
    facts: Arc<F>,
    metrics: Arc<Metrics>,
}

fn router<F: Facts>(facts: Arc<F>, metrics: Arc<Metrics>) -> Router {
    let shared = Arc::new(Shared {
        facts: Arc::clone(&facts),
        metrics,
    });
    let http = Router::new()
        .route("/status", get(async || version_text()))
        .route("/metrics", get(show_metrics::<F>))
        .route("/sources", get(show_sources::<F>))
        .with_state(shared);
    // The last fallback set is the one that counts, so it comes after the one of the gRPC half.
    Routes::new(Service::new(facts).into_server())
        .into_axum_router()
        .merge(http)
        .fallback(unknown)
}

async fn show_metrics<F: Facts>(State(shared): State<Arc<Shared<F>>>) -> Response {
    let text = shared
        .metrics
        .render(shared.facts.worker(), &shared.facts.stages());
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        text,
    )
        .into_response()
}

/// What `dm-worker status` prints, as JSON.
async fn show_sources<F: Facts>(State(shared): State<Arc<Shared<F>>>) -> Response {
    let facts = &shared.facts;
    let report = Report::new(facts.worker(), facts.offline(), facts.sources().await);
    match serde_json::to_vec(&report) {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn unknown(request: Request) -> Response {
    let kind = request.headers().get(header::CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        let message = format!("{} is not a method of this worker", request.uri().path());
        return tonic::Status::unimplemented(message).into_http();
    }
    StatusCode::NOT_FOUND.into_response()
}

async fn measure_cpu(metrics: &Metrics) {
    let mut before = cpu_seconds();
    loop {
        sleep(CPU_PERIOD).await;
        let now = cpu_seconds();
        metrics
            .cpu_usage
            .set((now - before) / CPU_PERIOD.as_secs_f64() * 100.0);
        before = now;
    }
}

#[cfg(test)]
mod tests;

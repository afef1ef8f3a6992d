//! A scripted master: what a DM cluster does to a worker, without the cluster.
//!
//! One port serves `RegisterWorker` and passes everything else on to etcd, as a master with its
//! embedded etcd does. Operator actions write the key sequences that a real master was recorded to
//! write, and then ask the worker, up to ten times a second apart, as it does.

pub mod pb;
mod relay;

use std::{
    collections::BTreeMap,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
    routing::post,
};
use etcd_client::{Client, EventType, GetOptions, Txn, TxnOp, WatchOptions};
use tokio::{net::TcpListener, task::JoinHandle, time::sleep};
use tonic::{
    Status,
    client::{Grpc, GrpcService},
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use dm_sim::values;
pub use dm_sim::values::Expect;

use crate::{Error, Result, job::Job, servers::Etcd};
use pb::{QueryStatusRequest, QueryStatusResponse, RegisterWorkerRequest, RegisterWorkerResponse};

/// How often a master asks before it gives up.
const POLLS: u32 = 10;
/// Pause between two polls.
const POLL_PERIOD: Duration = Duration::from_secs(1);

/// The master. Dropping it closes its port and ends what it does on its own.
pub struct Master {
    endpoint: String,
    etcd: Client,
    registered: Registered,
    tasks: Vec<JoinHandle<()>>,
}

/// Address by worker name.
type Registered = Arc<Mutex<BTreeMap<String, String>>>;

#[derive(Clone)]
struct Shared {
    registered: Registered,
    etcd: Client,
    proxied: Channel,
}

impl Master {
    /// Starts a master in front of an etcd.
    ///
    /// # Errors
    /// When etcd cannot be reached.
    pub async fn start(etcd: &Etcd) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = listener.local_addr()?.to_string();
        let client = etcd.client().await?;
        let registered = Registered::default();
        let proxied = Endpoint::from_shared(format!("http://{}", etcd.endpoint()))?.connect_lazy();
        let shared = Shared {
            registered: Arc::clone(&registered),
            etcd: client.clone(),
            proxied,
        };
        let router = Router::new()
            .route("/pb.Master/RegisterWorker", post(serve_register))
            .fallback(pass_on)
            .with_state(shared);
        let server = tokio::spawn(async move {
            // Ends with the task.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self {
            endpoint,
            etcd: client,
            registered,
            tasks: vec![server],
        })
    }

    /// `host:port` for a worker's `-join`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The store behind it, for tests that look at or write keys themselves.
    #[must_use]
    pub fn etcd(&self) -> Client {
        self.etcd.clone()
    }

    /// Takes a worker's address as if it had registered.
    pub fn know(&self, worker: &str, address: &str) {
        let mut registered = self
            .registered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        registered.insert(worker.to_owned(), address.to_owned());
    }

    /// Waits until a worker has registered and holds its lease.
    ///
    /// # Errors
    /// When it does not within `limit`.
    pub async fn online(&self, worker: &str, limit: Duration) -> Result<()> {
        let start = Instant::now();
        let key = values::keepalive_key(worker);
        while self.etcd().get(key.as_str(), None).await?.kvs().is_empty() {
            if start.elapsed() > limit {
                return Err(format!("{worker} is not online after {limit:?}").into());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// From now on binds sources as a master does when workers come and go: a source whose worker
    /// lost its lease goes to a free one, a bound worker that is back is told again.
    ///
    /// # Errors
    /// When etcd cannot be reached.
    pub async fn keep_bound(&mut self) -> Result<()> {
        let mut etcd = self.etcd();
        let options = WatchOptions::new().with_prefix();
        let mut stream = etcd.watch(values::KEEPALIVE_PREFIX, Some(options)).await?;
        self.tasks.push(tokio::spawn(async move {
            while let Ok(Some(message)) = stream.message().await {
                for event in message.events() {
                    let Some(kv) = event.kv() else { continue };
                    let Some(worker) = values::worker_of(kv.key()) else {
                        continue;
                    };
                    let gone = event.event_type() == EventType::Delete;
                    let outcome = if gone {
                        rebind(&mut etcd, &worker).await
                    } else {
                        bind_again(&mut etcd, &worker).await
                    };
                    if outcome.is_err() {
                        return;
                    }
                }
            }
        }));
        Ok(())
    }

    /// `operate-source create`: the configuration, then the binding; waits for the worker.
    ///
    /// # Errors
    /// What the worker answers.
    pub async fn create_source(&self, job: &Job, worker: &str) -> Result<()> {
        let (source, mut etcd) = (&job.source_id, self.etcd());
        etcd.put(values::source_key(source), job.source_toml(), None)
            .await?;
        bind(&mut etcd, source, worker).await?;
        self.poll(worker, "", |answer| answer.source() == *source)
            .await
            .map(drop)
    }

    /// `operate-source stop`.
    ///
    /// # Errors
    /// When the worker does not let go.
    pub async fn stop_source(&self, job: &Job, worker: &str) -> Result<()> {
        let source = &job.source_id;
        let keys = [
            values::source_key(source),
            values::bound_key(worker),
            values::last_bound_key(worker),
        ];
        delete(&mut self.etcd(), &keys).await?;
        self.poll(worker, "", |answer| answer.source() != *source)
            .await
            .map(drop)
    }

    /// `start-task`; waits until the subtask runs.
    ///
    /// # Errors
    /// What the worker answers.
    pub async fn start_task(&self, job: &Job, worker: &str) -> Result<()> {
        let (source, task) = (&job.source_id, &job.task);
        let ops = [
            put(values::subtask_key(source, task), job.subtask_toml()),
            put(
                values::stage_key(source, task),
                values::stage(source, task, Expect::Running),
            ),
        ];
        self.etcd().txn(Txn::new().and_then(ops)).await?;
        self.stage_reached(job, worker, Expect::Running).await
    }

    /// `pause-task` or `resume-task`; waits until the subtask is there.
    ///
    /// # Errors
    /// What the worker answers.
    pub async fn set_stage(&self, job: &Job, worker: &str, expect: Expect) -> Result<()> {
        let (source, task) = (&job.source_id, &job.task);
        let (key, value) = (
            values::stage_key(source, task),
            values::stage(source, task, expect),
        );
        self.etcd().put(key, value, None).await?;
        self.stage_reached(job, worker, expect).await
    }

    /// `stop-task`; waits until the subtask is gone.
    ///
    /// # Errors
    /// When it is not.
    pub async fn stop_task(&self, job: &Job, worker: &str) -> Result<()> {
        let (source, task) = (&job.source_id, &job.task);
        let keys = [
            values::subtask_key(source, task),
            values::stage_key(source, task),
        ];
        delete(&mut self.etcd(), &keys).await?;
        let gone = format!("no sub task with name {task} has started");
        self.poll(worker, task, |answer| match answer.subtasks.as_slice() {
            [] => true,
            [one] => one.msg.as_deref() == Some(&gone),
            _ => false,
        })
        .await
        .map(drop)
    }

    /// `transfer-source`: pause, one transaction that moves the binding, resume.
    ///
    /// # Errors
    /// What the workers answer.
    pub async fn transfer_source(&self, job: &Job, from: &str, to: &str) -> Result<()> {
        self.set_stage(job, from, Expect::Paused).await?;
        let bound = values::bound(&job.source_id, to);
        let ops = [
            TxnOp::delete(values::bound_key(from), None),
            put(values::bound_key(to), bound.clone()),
            put(values::last_bound_key(to), bound),
        ];
        self.etcd().txn(Txn::new().and_then(ops)).await?;
        self.poll(to, "", |answer| answer.source() == job.source_id)
            .await?;
        self.set_stage(job, to, Expect::Running).await
    }

    /// The worker that a source is bound to.
    ///
    /// # Errors
    /// When etcd cannot be reached.
    pub async fn bound_to(&self, source: &str) -> Result<Option<String>> {
        Ok(bindings(&mut self.etcd())
            .await?
            .into_iter()
            .find(|(_, s)| s == source)
            .map(|(w, _)| w))
    }

    /// Asks a worker for its status; an empty task means all.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn query(&self, worker: &str, task: &str) -> Result<QueryStatusResponse> {
        query_status(&self.address(worker)?, task).await
    }

    /// Where a worker answers questions.
    ///
    /// # Errors
    /// It has never registered.
    pub fn address(&self, worker: &str) -> Result<String> {
        let registered = self.registered.lock();
        let registered = registered.unwrap_or_else(PoisonError::into_inner);
        let address = registered.get(worker).cloned();
        address.ok_or_else(|| format!("{worker} never registered").into())
    }

    async fn stage_reached(&self, job: &Job, worker: &str, expect: Expect) -> Result<()> {
        let reached = |answer: &QueryStatusResponse| match answer.subtasks.as_slice() {
            [one] => one.name == job.task && one.stage == expect as i32,
            _ => false,
        };
        self.poll(worker, &job.task, reached).await.map(drop)
    }

    /// Polls as a master does. Errors in a result end the wait.
    async fn poll(
        &self,
        worker: &str,
        task: &str,
        reached: impl Fn(&QueryStatusResponse) -> bool,
    ) -> Result<QueryStatusResponse> {
        let mut last: Result<QueryStatusResponse> = Err("never asked".into());
        for _ in 0..POLLS {
            last = self.query(worker, task).await;
            if let Ok(answer) = &last {
                let errors = answer.errors();
                if !errors.is_empty() {
                    return Err(errors.join("; ").into());
                }
                if reached(answer) {
                    return last;
                }
            }
            sleep(POLL_PERIOD).await;
        }
        Err(format!("{worker} is not where it should be; last answer: {last:?}").into())
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// `QueryStatus` on a worker at `address`.
///
/// # Errors
/// When it cannot be reached.
pub async fn query_status(address: &str, task: &str) -> Result<QueryStatusResponse> {
    call(
        address,
        "/pb.Worker/QueryStatus",
        QueryStatusRequest {
            name: task.to_owned(),
        },
    )
    .await
}

/// `RegisterWorker` on a master, as a worker does it.
///
/// # Errors
/// What the master answers.
pub async fn register(master: &str, name: &str, address: &str) -> Result<()> {
    let request = RegisterWorkerRequest {
        name: name.to_owned(),
        address: address.to_owned(),
    };
    let path = "/pb.Master/RegisterWorker";
    let answer: RegisterWorkerResponse = call(master, path, request).await?;
    if answer.result {
        Ok(())
    } else {
        Err(answer.msg.into())
    }
}

/// One unary call.
async fn call<Request, Answer>(
    address: &str,
    path: &'static str,
    request: Request,
) -> Result<Answer>
where
    Request: prost::Message + Send + Sync + 'static,
    Answer: prost::Message + Default + Send + Sync + 'static,
{
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    let limit = Duration::from_secs(5);
    let channel = endpoint
        .connect_timeout(limit)
        .timeout(limit)
        .connect()
        .await?;
    let mut grpc = Grpc::new(channel);
    grpc.ready().await?;
    let codec = ProstCodec::<Request, Answer>::default();
    let request = tonic::Request::new(request);
    Ok(grpc
        .unary(request, PathAndQuery::from_static(path), codec)
        .await?
        .into_inner())
}

async fn serve_register(State(shared): State<Shared>, request: Request) -> Response {
    let service = Register(shared);
    let codec = ProstCodec::<RegisterWorkerResponse, RegisterWorkerRequest>::default();
    tonic::server::Grpc::new(codec)
        .unary(service, request)
        .await
        .map(Body::new)
}

/// Hands a call to etcd and its answer back, streams included.
async fn pass_on(State(shared): State<Shared>, request: Request) -> Response {
    let mut channel = shared.proxied;
    let request = request.map(tonic::body::Body::new);
    let answer = match poll_fn(|cx| GrpcService::poll_ready(&mut channel, cx)).await {
        Ok(()) => GrpcService::call(&mut channel, request).await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(answer) => answer.map(Body::new),
        Err(error) => Status::unavailable(error.to_string()).into_http(),
    }
}

struct Register(Shared);

type Answer = Result<tonic::Response<RegisterWorkerResponse>, Status>;

impl tonic::server::UnaryService<RegisterWorkerRequest> for Register {
    type Response = RegisterWorkerResponse;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn call(&mut self, request: tonic::Request<RegisterWorkerRequest>) -> Self::Future {
        let Shared {
            registered,
            mut etcd,
            ..
        } = self.0.clone();
        Box::pin(async move {
            let RegisterWorkerRequest { name, address } = request.into_inner();
            let known = {
                let mut registered = registered.lock().unwrap_or_else(PoisonError::into_inner);
                registered
                    .entry(name.clone())
                    .or_insert_with(|| address.clone())
                    .clone()
            };
            if known != address {
                let msg = format!("[code=46003], worker {name} is at {known} already");
                return Ok(tonic::Response::new(RegisterWorkerResponse {
                    msg,
                    ..Default::default()
                }));
            }
            let (key, value) = (values::worker_key(&name), values::worker(&name, &address));
            let put = etcd.put(key, value, None).await;
            put.map_err(|e| Status::unavailable(e.to_string()))?;
            let answer = RegisterWorkerResponse {
                result: true,
                ..Default::default()
            };
            Ok(tonic::Response::new(answer))
        })
    }
}

async fn bind(etcd: &mut Client, source: &str, worker: &str) -> Result<()> {
    let bound = values::bound(source, worker);
    let ops = [
        put(values::bound_key(worker), bound.clone()),
        put(values::last_bound_key(worker), bound),
    ];
    etcd.txn(Txn::new().and_then(ops)).await?;
    Ok(())
}

/// The lease of `worker` ended: its source goes to a worker that is online and free.
async fn rebind(etcd: &mut Client, worker: &str) -> Result<()> {
    let bindings = bindings(etcd).await?;
    let Some(source) = bindings.get(worker) else {
        return Ok(());
    };
    etcd.delete(values::bound_key(worker), None).await?;
    let online = keys(etcd, values::KEEPALIVE_PREFIX).await?;
    let free = online
        .iter()
        .filter_map(|(key, _)| values::worker_of(key.as_bytes()));
    match free
        .into_iter()
        .find(|name| name != worker && !bindings.contains_key(name))
    {
        Some(free) => bind(etcd, source, &free).await,
        None => Ok(()),
    }
}

/// `worker` is online: it is told again what it is bound to, or gets a source that nobody has.
async fn bind_again(etcd: &mut Client, worker: &str) -> Result<()> {
    let bindings = bindings(etcd).await?;
    if let Some(source) = bindings.get(worker) {
        relay::assign_again(etcd, worker).await?;
        return bind(etcd, source, worker).await;
    }
    let sources = keys(etcd, values::SOURCE_PREFIX).await?;
    let sources = sources
        .iter()
        .filter_map(|(key, _)| values::source_of(key.as_bytes()));
    match sources
        .into_iter()
        .find(|source| bindings.values().all(|bound| bound != source))
    {
        Some(source) => bind(etcd, &source, worker).await,
        None => Ok(()),
    }
}

/// Source by worker.
async fn bindings(etcd: &mut Client) -> Result<BTreeMap<String, String>> {
    let bound = keys(etcd, values::BOUND_PREFIX).await?;
    let source_and_worker = |(_, value): (String, String)| {
        let mut texts = value.split('"').skip(1).step_by(2);
        let (_, source, _, worker) = (
            texts.next()?,
            texts.next()?.to_owned(),
            texts.next()?,
            texts.next()?.to_owned(),
        );
        Some((worker, source))
    };
    Ok(bound.into_iter().filter_map(source_and_worker).collect())
}

async fn keys(etcd: &mut Client, prefix: &str) -> Result<Vec<(String, String)>> {
    let answer = etcd
        .get(prefix, Some(GetOptions::new().with_prefix()))
        .await?;
    let texts = answer
        .kvs()
        .iter()
        .map(|kv| Ok((kv.key_str()?.into(), kv.value_str()?.into())));
    texts.collect::<Result<_, Error>>()
}

async fn delete(etcd: &mut Client, keys: &[String]) -> Result<()> {
    let ops: Vec<_> = keys
        .iter()
        .map(|key| TxnOp::delete(key.as_str(), None))
        .collect();
    etcd.txn(Txn::new().and_then(ops)).await?;
    Ok(())
}

fn put(key: String, value: String) -> TxnOp {
    TxnOp::put(key, value, None)
}

//! The gRPC services: what a master asks a worker, and the one question a worker asks a master.
//!
//! The messages are those of the existing worker, field by field, so that masters and clients
//! cannot tell the two apart. Failures travel inside the responses; only a method that does not
//! exist here yet is a failure of the call.

mod channel;
mod convert;
#[cfg(test)]
pub(crate) mod recorded;
mod register;

use std::{
    collections::BTreeMap,
    future::{Future, ready},
    sync::Arc,
    time::Duration,
};

use dm_core::{
    error::{Error, code},
    relay::Strategy,
    status::{SourceStatus, SubtaskStatus, UnitStatus},
};
use futures_util::future::BoxFuture;
use tonic::{Request, Response, Status, metadata::MetadataValue};

use crate::{metrics::TaskStage, units::copy::TableProgress};

pub use channel::connect;
pub use register::register;

/// The messages and services, as generated.
#[allow(
    clippy::all,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    reason = "generated"
)]
pub mod pb {
    tonic::include_proto!("pb");
}

/// Says in the header of an answer to `PurgeRelay`, as UTF-8, what was removed, since the message
/// has no room for it.
pub const REMOVED: &str = "dm-removed-bin";

/// What the world may ask this worker.
pub trait Facts: Send + Sync + 'static {
    /// The worker's name.
    fn worker(&self) -> &str;

    /// Why the worker has no lease, while it has none.
    fn offline(&self) -> Option<String>;

    /// Looks at the sources that the worker handles, or failed to. In a cluster there is at most
    /// one. May ask the databases, within five seconds.
    fn sources(&self) -> impl Future<Output = Vec<SourceFacts>> + Send;

    /// Every subtask and where it stands, without asking anybody.
    fn stages(&self) -> Vec<TaskStage>;

    /// The worker's configuration, as TOML.
    fn config(&self) -> String;

    /// Removes relay logs that nobody needs, and says what was removed and why no more.
    ///
    /// # Errors
    /// Why they are not removed, or not all of them.
    fn purge(&self, strategy: Strategy) -> impl Future<Output = Result<String, Error>> + Send;
}

/// What is known about a source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceFacts {
    /// Its id, also where the status has none: a master wants to hear what was assigned last.
    pub name: String,
    /// Whether the worker handles it; an assignment that cannot be obeyed has only a status.
    pub handled: bool,
    /// Its status, with its errors.
    pub status: SourceStatus,
    /// The subtasks, in any order.
    pub subtasks: Vec<SubtaskStatus>,
    /// How far the copies of tables are, by task: what masters do not ask for.
    pub copies: BTreeMap<String, CopyProgress>,
}

/// How far a copy of tables is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CopyProgress {
    /// The tables that are under way.
    pub under_way: Vec<TableProgress>,
    /// How long all of it will take, if that can be guessed.
    pub left: Option<Duration>,
}

/// The worker's side of `pb.Worker`.
#[derive(Debug)]
pub struct Service<F> {
    facts: Arc<F>,
}

impl<F: Facts> Service<F> {
    /// Answers with these facts.
    pub fn new(facts: Arc<F>) -> Self {
        Self { facts }
    }

    /// The service, ready to be mounted.
    pub fn into_server(self) -> pb::worker_server::WorkerServer<Self> {
        pb::worker_server::WorkerServer::new(self)
    }
}

/// The answer to `QueryStatus` about one task, or about all if `task` is empty.
pub fn query_status(source: SourceFacts, task: &str) -> pb::QueryStatusResponse {
    let SourceFacts {
        handled,
        status,
        mut subtasks,
        ..
    } = source;
    let source_status = Some(status.into());
    if !handled {
        let error = Error::new(&code::WORKER_NO_START, code::NO_SOURCE_TEXT);
        let msg = error.to_string();
        return pb::QueryStatusResponse {
            msg,
            source_status,
            ..<_>::default()
        };
    }
    let msg = if subtasks.is_empty() {
        "no sub task started"
    } else {
        ""
    };
    if !task.is_empty() && !subtasks.is_empty() {
        subtasks.retain(|subtask| subtask.name == task);
        if subtasks.is_empty() {
            // The master knows by these words that a task is gone.
            let remark = format!("no sub task with name {task} has started");
            subtasks.push(SubtaskStatus {
                name: task.to_owned(),
                status: Some(UnitStatus::Message(remark)),
                ..<_>::default()
            });
        }
    }
    subtasks.sort_by(|a, b| a.name.cmp(&b.name));
    pb::QueryStatusResponse {
        result: true,
        msg: msg.to_owned(),
        source_status,
        sub_task_status: subtasks.into_iter().map(Into::into).collect(),
    }
}

/// Refuses methods by name. What `async_trait` would make of them is written out, since it cannot
/// look into a macro.
macro_rules! refuse {
    ($($method:ident($request:ident) -> $response:ident, $name:literal;)*) => {
        $(
            fn $method<'s, 'f>(
                &'s self,
                _: Request<pb::$request>,
            ) -> BoxFuture<'f, Result<Response<pb::$response>, Status>>
            where
                's: 'f,
                Self: 'f,
            {
                let message = concat!($name, " is not supported by this worker yet");
                Box::pin(ready(Err(Status::unimplemented(message))))
            }
        )*
    };
}

#[tonic::async_trait]
impl<F: Facts> pb::worker_server::Worker for Service<F> {
    async fn query_status(
        &self,
        request: Request<pb::QueryStatusRequest>,
    ) -> Result<Response<pb::QueryStatusResponse>, Status> {
        let mut sources = self.facts.sources().await;
        let first = if sources.is_empty() {
            SourceFacts::default()
        } else {
            sources.swap_remove(0)
        };
        let mut source = first;
        self.facts.worker().clone_into(&mut source.status.worker);
        Ok(Response::new(query_status(
            source,
            &request.into_inner().name,
        )))
    }

    async fn get_worker_cfg(
        &self,
        _: Request<pb::GetWorkerCfgRequest>,
    ) -> Result<Response<pb::GetWorkerCfgResponse>, Status> {
        Ok(Response::new(pb::GetWorkerCfgResponse {
            cfg: self.facts.config(),
        }))
    }

    async fn purge_relay(
        &self,
        request: Request<pb::PurgeRelayRequest>,
    ) -> Result<Response<pb::CommonWorkerResponse>, Status> {
        let purged = match convert::strategy(request.into_inner()) {
            Ok(strategy) => self.facts.purge(strategy).await,
            Err(error) => Err(error),
        };
        // A master fills in who says so, and wants no message where all went well.
        let mut response = Response::new(pb::CommonWorkerResponse {
            result: purged.is_ok(),
            msg: purged
                .as_ref()
                .map_or_else(Error::to_string, |_| String::new()),
            ..<_>::default()
        });
        if let Ok(removed) = purged {
            let removed = MetadataValue::from_bytes(removed.as_bytes());
            response.metadata_mut().insert_bin(REMOVED, removed);
        }
        Ok(response)
    }

    refuse! {
        operate_schema(OperateWorkerSchemaRequest) -> CommonWorkerResponse, "OperateSchema";
        operate_v1_meta(OperateV1MetaRequest) -> OperateV1MetaResponse, "OperateV1Meta";
        handle_error(HandleWorkerErrorRequest) -> CommonWorkerResponse, "HandleError";
        check_subtasks_can_update(CheckSubtasksCanUpdateRequest) -> CheckSubtasksCanUpdateResponse,
            "CheckSubtasksCanUpdate";
        get_worker_validator_status(GetValidationStatusRequest) -> GetValidationStatusResponse,
            "GetWorkerValidatorStatus";
        get_validator_error(GetValidationErrorRequest) -> GetValidationErrorResponse,
            "GetValidatorError";
        operate_validator_error(OperateValidationErrorRequest) -> OperateValidationErrorResponse,
            "OperateValidatorError";
        update_validator(UpdateValidationWorkerRequest) -> CommonWorkerResponse, "UpdateValidator";
    }
}

#[cfg(test)]
mod tests;

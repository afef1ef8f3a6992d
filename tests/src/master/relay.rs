//! What an operator does to the relay of a source.

use dm_core::control::Key;
use etcd_client::{Client, Compare, CompareOp, Txn};

use super::{
    Expect, Master, call, delete,
    pb::{CommonWorkerResponse, PurgeRelayRequest, QueryStatusResponse},
    put, values,
};
use crate::Result;

impl Master {
    /// `start-relay` with workers; waits until they relay.
    ///
    /// # Errors
    /// What a worker answers.
    pub async fn start_relay(&self, source: &str, workers: &[&str]) -> Result<QueryStatusResponse> {
        let mut etcd = self.etcd();
        let stage = values::relay_stage_key(source);
        if etcd.get(stage.as_str(), None).await?.kvs().is_empty() {
            let running = values::relay_stage(source, Expect::Running);
            etcd.put(stage, running, None).await?;
        }
        let assign = |worker: &&str| put(assignment(worker), source.to_owned());
        let ops: Vec<_> = workers.iter().map(assign).collect();
        etcd.txn(Txn::new().and_then(ops)).await?;
        self.relay_reached(workers, |answer| is_at(answer, Expect::Running))
            .await
    }

    /// `stop-relay` with all workers that relay; waits until they don't. The last one's answer.
    ///
    /// # Errors
    /// When one goes on.
    pub async fn stop_relay(&self, source: &str, workers: &[&str]) -> Result<QueryStatusResponse> {
        let mut etcd = self.etcd();
        let keys: Vec<_> = workers.iter().map(|worker| assignment(worker)).collect();
        delete(&mut etcd, &keys).await?;
        etcd.delete(values::relay_stage_key(source), None).await?;
        let is_over = |answer: &QueryStatusResponse| answer.relay().is_none();
        self.relay_reached(workers, is_over).await
    }

    /// `pause-relay` or `resume-relay`; waits until that is so.
    ///
    /// # Errors
    /// What the worker answers.
    pub async fn set_relay_stage(
        &self,
        source: &str,
        worker: &str,
        expect: Expect,
    ) -> Result<QueryStatusResponse> {
        let (key, value) = (
            values::relay_stage_key(source),
            values::relay_stage(source, expect),
        );
        self.etcd().put(key, value, None).await?;
        self.relay_reached(&[worker], |answer| is_at(answer, expect))
            .await
    }

    /// `purge-relay`, as `dmctl` asks for it: what is before a file of the newest sub-directory.
    ///
    /// # Errors
    /// When the worker cannot be reached.
    pub async fn purge_relay(&self, worker: &str, file: &str) -> Result<CommonWorkerResponse> {
        let request = PurgeRelayRequest {
            filename: file.to_owned(),
            ..<_>::default()
        };
        call(&self.address(worker)?, "/pb.Worker/PurgeRelay", request).await
    }

    async fn relay_reached(
        &self,
        workers: &[&str],
        reached: impl Fn(&QueryStatusResponse) -> bool,
    ) -> Result<QueryStatusResponse> {
        let mut last = Err("no worker".into());
        for worker in workers {
            last = Ok(self.poll(worker, "", &reached).await?);
        }
        last
    }
}

/// A bound worker is online again: it is told once more which source it relays, if it does.
pub(super) async fn assign_again(etcd: &mut Client, worker: &str) -> Result<()> {
    let key = assignment(worker);
    let answer = etcd.get(key.as_str(), None).await?;
    if let Some(assigned) = answer.kvs().first() {
        // An operator may take it away meanwhile.
        let unchanged =
            Compare::mod_revision(key.as_str(), CompareOp::Equal, assigned.mod_revision());
        let again = put(key, assigned.value_str()?.to_owned());
        etcd.txn(Txn::new().when([unchanged]).and_then([again]))
            .await?;
    }
    Ok(())
}

fn is_at(answer: &QueryStatusResponse, expect: Expect) -> bool {
    let relay = answer.relay();
    relay.is_some_and(|relay| relay.stage == expect as i32)
}

fn assignment(worker: &str) -> String {
    let worker = worker.to_owned();
    Key::RelayWorker { worker }.encode()
}

//! What an operator sees of a relay, step by step: the same as in a recorded cluster of existing
//! workers.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use dm_core::binlog::Position;
use dm_tests::{
    Result,
    job::{Job, Start},
    master::{Expect, Master, pb::QueryStatusResponse},
    servers::{Brand, Database, Etcd, Options, Role},
    sql::Client,
    worker::Worker,
    workload::Workload,
};
use prost::Message;
use tokio::time::sleep;

/// What the master asked the workers, and what they answered.
const CALLS: &str = include_str!("../../core/testdata/golden/grpc-calls.txt");
const TTL_S: u32 = 5;
const LIMIT: Duration = Duration::from_secs(60);

/// The recorded answer of a worker in a step.
fn recorded(step: &str, worker: &str) -> Result<QueryStatusResponse> {
    let title = format!("{step} {worker} /pb.Worker/QueryStatus\n");
    let mut calls = CALLS.split("## ");
    let call = calls.find(|call| call.starts_with(&title));
    let mut lines = call.ok_or("no such step")?.lines();
    let digits = lines.find_map(|line| line.strip_prefix("response "));
    let digits = digits.ok_or("no answer")?.as_bytes();
    let bytes = digits
        .chunks(2)
        .map(|two| Ok(u8::from_str_radix(str::from_utf8(two)?, 16)?));
    let bytes: Vec<u8> = bytes.collect::<Result<_>>()?;
    Ok(QueryStatusResponse::decode(&*bytes)?)
}

/// All of an answer that does not depend on the servers, with their ends by name.
fn shape(answer: &QueryStatusResponse) -> Result<String> {
    let mut text = format!("{} {:?}", answer.result, answer.msg);
    let source = answer.source_status.as_ref().ok_or("no source status")?;
    write!(text, "\nnamed: {}", !source.source.is_empty())?;
    write!(text, ", well: {}", source.result.is_none())?;
    if let Some(relay) = &source.relay {
        let number = relay.relay_sub_dir.rsplit_once('.').map(|(_, it)| it);
        write!(text, "\nrelay {number:?}, stage {}", relay.stage)?;
        write!(text, ", result {:?}", relay.result)?;
        write!(text, ", caught up: {}", relay.relay_catch_up_master)?;
        let (here, there) = (&relay.relay_binlog, &relay.master_binlog);
        write!(text, ", at {}", place(here, there)?)?;
        let (here, there) = (&relay.relay_binlog_gtid, &relay.master_binlog_gtid);
        write!(text, " {}", here == there && !here.is_empty())?;
    }
    for task in &answer.subtasks {
        write!(text, "\ntask, stage {}, unit {}", task.stage, task.unit)?;
        write!(text, ", result {:?}, {:?}", task.result, task.msg)?;
        let sync = task.sync.as_ref().ok_or("no sync unit")?;
        write!(text, ", reads {}", sync.binlog_type)?;
        // When checkpoints are written is another matter, but what is said of it must be true.
        let at = place(&sync.syncer_binlog, &sync.master_binlog)?;
        let gtids = (&sync.syncer_binlog_gtid, &sync.master_binlog_gtid);
        let is_end = at == "the end" && gtids.0 == gtids.1;
        if sync.synced != is_end || sync.master_binlog_gtid.is_empty() {
            return Err(format!("not true: {sync:?}").into());
        }
    }
    Ok(text)
}

/// Where a position is, seen from the end of the source.
fn place(at: &str, end: &str) -> Result<&'static str> {
    if at.is_empty() || end.is_empty() {
        return Ok("unknown");
    }
    let (at, end) = (at.parse::<Position>()?, end.parse::<Position>()?);
    Ok(if at.plain() == end.plain() {
        "the end"
    } else {
        "another place"
    })
}

struct Cluster {
    source: Database,
    master: Master,
    job: Job,
}

impl Cluster {
    /// Waits until a worker answers as in a recorded step, and tells of the end that the source has
    /// now.
    async fn answers(&self, worker: &Worker, name: &str, step: (&str, &str)) -> Result<()> {
        let expected = shape(&recorded(step.0, step.1)?)?;
        let start = Instant::now();
        loop {
            let answer = self.master.query(name, "").await?;
            let end = Start::now(&self.source).await?;
            let end = Position::new(&end.file, end.position).to_string();
            let syncs = answer.subtasks.iter().filter_map(|task| task.sync.as_ref());
            let relay = answer.relay().map(|relay| &relay.master_binlog);
            let mut ends = syncs.map(|sync| &sync.master_binlog).chain(relay);
            let shape = shape(&answer)?;
            if shape == expected && ends.all(|told| *told == end) {
                return Ok(());
            }
            if start.elapsed() > LIMIT {
                let error = format!("{step:?}:\n{shape}\nis not\n{expected}\n{answer:#?}");
                return Err(worker.explain(error.into()));
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_looks_as_it_did() -> Result<()> {
    let source = Database::start(Brand::Mysql, Role::Source, &Options::default())?;
    if !source.is_ours() {
        return Ok(());
    }
    let target = Database::shared(Brand::Mysql, Role::Target)?;
    let etcd = Etcd::start()?;
    let mut master = Master::start(&etcd).await?;
    master.keep_bound().await?;
    let schema = "relay_status";
    let mut job = Job::new(&source, target, &[schema]).await?;
    job.gtid = true;
    Workload::create(&source, schema).await?;
    let mut admin = Client::connect(&source).await?;
    let one = Worker::join(&master, "one", TTL_S)?;
    let told = |error| one.explain(error);
    let id = &job.source_id.clone();
    let cluster = Cluster {
        source,
        master,
        job,
    };
    let Cluster {
        source,
        master,
        job,
    } = &cluster;

    master.online("one", LIMIT).await.map_err(told)?;
    master.create_source(job, "one").await.map_err(told)?;
    master.start_task(job, "one").await.map_err(told)?;
    job.caught_up(source, target, LIMIT).await.map_err(told)?;
    let begun = master.start_relay(id, &["one"]).await.map_err(told)?;
    let step = ("11-start-relay", "worker1");
    assert_eq!(begun.source(), id, "{begun:?}");
    cluster.answers(&one, "one", step).await?;

    // A new file, as in the recorded run.
    admin.run("FLUSH BINARY LOGS").await?;
    job.caught_up(source, target, LIMIT).await.map_err(told)?;
    cluster.answers(&one, "one", step).await?;
    let paused = master.set_relay_stage(id, "one", Expect::Paused).await;
    let before = paused.map_err(told)?;
    cluster
        .answers(&one, "one", ("14-pause-relay", "worker1"))
        .await?;
    // What it has does not change while it rests, but what the source has does.
    Workload::open(source, schema, 1, false)
        .await?
        .run(5)
        .await?;
    let answer = master.query("one", "").await?;
    let (had, has) = (before.relay(), answer.relay());
    let (had, has) = (had.ok_or("no relay")?, has.ok_or("no relay")?);
    assert_eq!(had.relay_binlog, has.relay_binlog);
    assert_eq!(had.relay_binlog_gtid, has.relay_binlog_gtid);
    assert_ne!(had.master_binlog, has.master_binlog);
    assert!(had.relay_catch_up_master && !has.relay_catch_up_master);
    let resumed = master.set_relay_stage(id, "one", Expect::Running).await;
    resumed.map_err(told)?;
    job.caught_up(source, target, LIMIT).await.map_err(told)?;
    cluster
        .answers(&one, "one", ("16-resume-relay", "worker1"))
        .await?;

    // A second one that only relays.
    let two = Worker::join(master, "two", TTL_S)?;
    let told = |error| two.explain(error);
    master.online("two", LIMIT).await.map_err(told)?;
    let workers = ["two", "one"];
    master.start_relay(id, &workers).await.map_err(told)?;
    let step = "19-start-relay-both";
    cluster.answers(&one, "one", (step, "worker1")).await?;
    cluster.answers(&two, "two", (step, "worker2")).await?;
    master.stop_relay(id, &workers).await.map_err(told)?;
    let step = ("20-stop-relay", "worker2");
    cluster.answers(&two, "two", step).await?;
    // A master that hears of the short lease binds the source again, so it is named again.
    let step = ("22-start-task-incr", "worker1");
    cluster.answers(&one, "one", step).await
}

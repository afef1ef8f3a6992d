//! The worker under a lease: directly on etcd, and as a member of a cluster with a scripted master.

use std::time::{Duration, Instant};

use dm_sim::values::keepalive_key;
use dm_tests::{
    Result,
    job::Job,
    master::{Expect, Master},
    process,
    servers::{Brand, Database, Etcd, Role},
    sql::Client,
    worker::Worker,
    workload::{Background, Workload},
};
use tokio::time::sleep;

/// How long a busy machine may take to catch up.
const LIMIT: Duration = Duration::from_secs(60);
/// Lease of the workers: long enough for a loaded machine to renew, short enough to wait for.
const TTL_S: u32 = 5;
const TTL: Duration = Duration::from_secs(TTL_S as u64);

/// Source, target, an etcd, a master, and a job that is ready to start.
struct World {
    source: &'static Database,
    target: &'static Database,
    etcd: Etcd,
    master: Master,
    job: Job,
}

impl World {
    async fn new(schema: &str) -> Result<Self> {
        let source = Database::shared(Brand::Mysql, Role::Source)?;
        let target = Database::shared(Brand::Mysql, Role::Target)?;
        let etcd = Etcd::start()?;
        let master = Master::start(&etcd).await?;
        let mut job = Job::new(source, target, &[schema]).await?;
        job.gtid = true;
        Workload::create(source, schema).await?;
        Ok(Self {
            source,
            target,
            etcd,
            master,
            job,
        })
    }

    /// A worker that holds the source and runs the task.
    async fn running(&self, name: &str, joined: bool) -> Result<Worker> {
        let worker = if joined {
            Worker::join(&self.master, name, TTL_S)?
        } else {
            Worker::etcd(&self.etcd, &self.master, name, TTL_S)?
        };
        self.run(worker, name).await
    }

    async fn run(&self, worker: Worker, name: &str) -> Result<Worker> {
        self.told(&worker, self.master.online(name, LIMIT).await)?;
        self.told(&worker, self.master.create_source(&self.job, name).await)?;
        self.told(&worker, self.master.start_task(&self.job, name).await)?;
        Ok(worker)
    }

    /// Adds what the worker logged to an error.
    fn told<T>(&self, worker: &Worker, outcome: Result<T>) -> Result<T> {
        outcome.map_err(|error| worker.explain(error))
    }

    async fn caught_up(&self, worker: &Worker) -> Result<()> {
        self.told(
            worker,
            self.job.caught_up(self.source, self.target, LIMIT).await,
        )
    }

    async fn owner(&self) -> Result<Option<String>> {
        self.master.bound_to(&self.job.source_id).await
    }

    async fn write(&self, seed: u64) -> Result<()> {
        Workload::open(self.source, &self.job.schemas[0], seed, false)
            .await?
            .run(100)
            .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_operates_the_worker() -> Result<()> {
    let world = World::new("operated").await?;
    let World { job, master, .. } = &world;
    let mut one = world.running("one", true).await?;
    world.write(1).await?;
    world.caught_up(&one).await?;
    let answer = master.query("one", &job.task).await?;
    assert_eq!(answer.source(), job.source_id);
    let sync = answer.subtasks[0].sync.clone().ok_or("no sync status")?;
    assert!(sync.master_binlog.starts_with("(binlog."), "{sync:?}");

    master.set_stage(job, "one", Expect::Paused).await?;
    let paused = master.query("one", &job.task).await?;
    assert!(
        paused.subtasks[0]
            .result
            .as_ref()
            .is_some_and(|result| result.is_canceled)
    );
    world.write(2).await?;
    master.set_stage(job, "one", Expect::Running).await?;
    world.caught_up(&one).await?;

    let mut two = Worker::join(master, "two", TTL_S)?;
    world.told(&two, master.online("two", LIMIT).await)?;
    world.told(&two, master.transfer_source(job, "one", "two").await)?;
    world.write(3).await?;
    world.caught_up(&two).await?;
    assert_eq!(
        master.query("one", "").await?.source(),
        "",
        "the old owner let go"
    );

    world.told(&two, master.stop_task(job, "two").await)?;
    world.told(&two, master.stop_source(job, "two").await)?;
    one.stop()?;
    two.stop()
}

/// Two owners at once, as far as the frozen one knows: the target must take the writes of one.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_owner_comes_back_and_writes_nothing() -> Result<()> {
    let mut world = World::new("frozen").await?;
    world.master.keep_bound().await?;
    let one = world.running("one", true).await?;
    let two = Worker::join(&world.master, "two", TTL_S)?;
    world.told(&two, world.master.online("two", LIMIT).await)?;
    let mut workers = [one, two];
    let background = Background::start(world.source, "frozen", dm_tests::seed(), 3, false).await?;
    for round in 0..dm_tests::rounds(2) as usize {
        sleep(Duration::from_secs(2)).await;
        let owner = usize::from(world.owner().await?.as_deref() == Some("two"));
        workers[owner].freeze()?;
        let start = Instant::now();
        while world.owner().await?.as_deref() != Some(["two", "one"][owner]) {
            if start.elapsed() > LIMIT {
                let error = format!("round {round}: the source was not taken over");
                return Err(workers[1 - owner].explain(error.into()));
            }
            sleep(Duration::from_millis(100)).await;
        }
        sleep(Duration::from_secs(3)).await;
        workers[owner].thaw()?;
        sleep(Duration::from_secs(1)).await;
        world.told(
            &workers[owner],
            world.master.online(["one", "two"][owner], LIMIT).await,
        )?;
    }
    background.stop().await?;
    world.caught_up(&workers[0]).await?;
    for worker in &mut workers {
        worker.expect_running()?;
        for line in worker
            .log()
            .lines()
            .filter(|line| line.to_lowercase().contains("fence"))
        {
            println!("{line}");
        }
        worker.stop()?;
    }
    Ok(())
}

/// What the announcement of a worker hangs on, seen by a master.
#[derive(Debug, PartialEq)]
struct Announced {
    value: String,
    create_revision: i64,
    version: i64,
    lease: i64,
}

impl World {
    async fn announced(&self, name: &str) -> Result<Announced> {
        let answer = self.master.etcd().get(keepalive_key(name), None).await?;
        let kv = answer.kvs().first().ok_or("it is not announced")?;
        Ok(Announced {
            value: kv.value_str()?.to_owned(),
            create_revision: kv.create_revision(),
            version: kv.version(),
            lease: kv.lease(),
        })
    }

    /// Waits until the announcement hangs on a lease with this time to live.
    async fn announced_for(&self, worker: &Worker, name: &str, ttl_s: i64) -> Result<Announced> {
        let start = Instant::now();
        loop {
            let announced = self.announced(name).await?;
            let granted = self.granted(announced.lease).await?;
            if granted == ttl_s {
                return Ok(announced);
            }
            if start.elapsed() > LIMIT {
                let error = format!("the lease is of {granted} s, not {ttl_s}");
                return Err(worker.explain(error.into()));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The time to live that a lease was granted; 0 of one that is gone.
    async fn granted(&self, lease: i64) -> Result<i64> {
        let answer = self.master.etcd().lease_time_to_live(lease, None).await?;
        Ok(if answer.ttl() < 0 {
            0
        } else {
            answer.granted_ttl()
        })
    }
}

/// As long as a worker is told by key to relay, its lease is a long one. It takes the place of the
/// other, so nobody takes the worker for gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_relays_has_a_long_lease() -> Result<()> {
    let mut world = World::new("leased").await?;
    world.master.keep_bound().await?;
    let address = format!("127.0.0.1:{}", process::free_port()?);
    let (short, long) = (i64::from(TTL_S), 4 * i64::from(TTL_S));
    let ttls = [short.to_string(), long.to_string()];
    let args = ["--join", world.master.endpoint(), "--name", "one"];
    let [keepalive, relay_keepalive] = &ttls;
    let more = ["--worker-addr", &address, "--keepalive-ttl", keepalive];
    let last = ["--relay-keepalive-ttl", relay_keepalive];
    let worker = Worker::start(&[&args[..], &more, &last].concat())?;
    let mut worker = world.run(worker, "one").await?;
    let (job, master) = (&world.job, &world.master);
    let id = &job.source_id;
    let first = world.announced_for(&worker, "one", short).await?;

    world.told(&worker, master.start_relay(id, &["one"]).await)?;
    let second = world.announced_for(&worker, "one", long).await?;
    let expected = Announced {
        version: first.version + 1,
        lease: second.lease,
        ..first
    };
    assert_eq!(second, expected, "one more write, and no gap");
    // What the master writes again then is nothing new.
    sleep(TTL + Duration::from_secs(1)).await;
    assert_eq!(world.announced("one").await?, second);
    assert_eq!(world.granted(first.lease).await?, 0, "nobody needs it");
    world.write(1).await?;
    world.caught_up(&worker).await?;

    // A crash is noticed late.
    worker.kill()?;
    sleep(TTL + Duration::from_secs(1)).await;
    assert_eq!(world.announced("one").await?, second);
    worker.restart()?;
    let start = Instant::now();
    while world.announced("one").await?.value == second.value {
        assert!(start.elapsed() < LIMIT, "{}", worker.log());
        sleep(Duration::from_millis(50)).await;
    }
    let third = world.announced_for(&worker, "one", long).await?;

    world.told(&worker, master.stop_relay(id, &["one"]).await)?;
    let fourth = world.announced_for(&worker, "one", short).await?;
    let expected = Announced {
        version: third.version + 1,
        lease: fourth.lease,
        ..third
    };
    assert_eq!(fourth, expected);
    world.write(2).await?;
    world.caught_up(&worker).await?;
    worker.stop()?;
    let gone = world.announced("one").await.is_err();
    assert!(gone, "it gives its lease up");
    Ok(())
}

/// Short is what leaves the lease its margin (a fifth) and one renewal (a sixth).
#[tokio::test(flavor = "multi_thread")]
async fn a_short_silence_of_etcd_is_not_noticed() -> Result<()> {
    let mut world = World::new("short").await?;
    let ttl = Duration::from_secs(30);
    let worker = Worker::etcd(&world.etcd, &world.master, "one", 30)?;
    let mut worker = world.run(worker, "one").await?;
    world.caught_up(&worker).await?;
    world.etcd.freeze()?;
    let start = Instant::now();
    sleep(ttl / 4).await;
    world.write(1).await?;
    let arrived = world
        .job
        .caught_up(world.source, world.target, ttl / 5)
        .await;
    let silent = start.elapsed();
    world.etcd.thaw()?;
    assert!(
        silent < ttl * 19 / 30,
        "this machine is too slow for this test: {silent:?}"
    );
    world.told(&worker, arrived)?;
    sleep(ttl).await;
    worker.expect_running()?;
    assert!(!worker.log().contains("the lease is given up"));
    Ok(())
}

/// Without a lease nothing is applied, though source and target are well.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_silence_of_etcd_stops_the_applying() -> Result<()> {
    let mut world = World::new("long").await?;
    let mut worker = world.running("one", false).await?;
    world.caught_up(&worker).await?;
    world.etcd.freeze()?;
    sleep(TTL).await;
    let mut source = Client::connect(world.source).await?;
    let mut target = Client::connect(world.target).await?;
    source
        .run("INSERT INTO `long`.nokey VALUES (77, 'late', NULL)")
        .await?;
    sleep(Duration::from_secs(3)).await;
    let count = "SELECT COUNT(*) FROM `long`.nokey WHERE a = 77";
    assert_eq!(target.value(count).await?, "0", "applied without a lease");
    worker.expect_running()?;
    world.etcd.thaw()?;
    world.caught_up(&worker).await?;
    assert_eq!(target.value(count).await?, "1");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_and_restarts_of_etcd_are_survived() -> Result<()> {
    let mut world = World::new("compacted").await?;
    let worker = world.running("one", false).await?;
    for round in 0..3 {
        let mut etcd = world.master.etcd();
        let header = etcd.put("/elsewhere", "x", None).await?;
        let revision = header
            .header()
            .map_or(0, etcd_client::ResponseHeader::revision);
        etcd.compact(revision, None).await?;
        if round > 0 {
            world.etcd.kill()?;
            world.write(round).await?;
            world.etcd.restart()?;
        }
        let (job, master) = (&world.job, &world.master);
        world.told(&worker, master.set_stage(job, "one", Expect::Paused).await)?;
        world.write(10 + round).await?;
        world.told(&worker, master.set_stage(job, "one", Expect::Running).await)?;
        world.caught_up(&worker).await?;
    }
    Ok(())
}

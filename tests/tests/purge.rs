//! Purging of relay logs, as an operator asks a master or the worker for it.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use dm_tests::{
    Result,
    job::{Job, Start},
    master::{Expect, Master},
    process,
    servers::{Brand, Database, Etcd, Options, Role},
    sql::Client,
    worker::{self, Worker},
};
use tokio::time::sleep;

const WORKER: &str = "one";
const TTL_S: u32 = 5;
const LIMIT: Duration = Duration::from_secs(60);

/// The binlog files in the newest sub-directory, in order.
fn relayed(dir: &Path) -> Vec<String> {
    let index = fs::read_to_string(dir.join("server-uuid.index")).unwrap_or_default();
    let Some(sub_dir) = index.lines().last() else {
        return Vec::new();
    };
    let names = fs::read_dir(dir.join(sub_dir)).into_iter().flatten();
    let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut files: Vec<_> = names.filter(|name| name.starts_with("binlog.")).collect();
    files.sort();
    files
}

/// Lets the source begin files until so many have come here.
async fn rotated(dir: &Path, source: &mut Client, count: usize) -> Result<Vec<String>> {
    let start = Instant::now();
    loop {
        let files = relayed(dir);
        if files.len() >= count {
            return Ok(files);
        }
        if start.elapsed() > LIMIT {
            return Err(format!("only {files:?} have come").into());
        }
        source.run("FLUSH BINARY LOGS").await?;
        sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until the newest file of a source is there, and asks for all before it to go, until it
/// has: what the relay says it has is a little behind what is on the disk.
async fn purged(master: &Master, dir: &Path, newest: &str) -> Result<()> {
    let start = Instant::now();
    loop {
        let files = relayed(dir);
        if files.last().is_some_and(|last| last == newest) {
            let answer = master.purge_relay(WORKER, newest).await?;
            assert!(answer.result && answer.msg.is_empty(), "{answer:?}");
            assert!(answer.source.is_empty() && answer.worker.is_empty());
            if relayed(dir) == [newest] {
                return Ok(());
            }
        }
        if start.elapsed() > LIMIT {
            return Err(format!("{files:?} are there, not only {newest}").into());
        }
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_purges_what_nobody_needs() -> Result<()> {
    // Files begin when this test says so.
    let source = Database::start(Brand::Mysql, Role::Source, &Options::default())?;
    if !source.is_ours() {
        return Ok(());
    }
    let etcd = Etcd::start()?;
    let master = Master::start(&etcd).await?;
    let job = Job::new(&source, &source, &["purge"]).await?;
    let worker = Worker::join(&master, WORKER, TTL_S)?;
    let told = |error| worker.explain(error);
    let dir = worker.dir().join("relay-dir");
    let mut admin = Client::connect(&source).await?;

    master.online(WORKER, LIMIT).await.map_err(told)?;
    let answer = master.purge_relay(WORKER, "binlog.000001").await?;
    assert!(answer.msg.starts_with("[code=40070:"), "{answer:?}");
    master.create_source(&job, WORKER).await.map_err(told)?;
    let answer = master.purge_relay(WORKER, "binlog.000001").await?;
    assert!(answer.result, "nothing to do without a relay: {answer:?}");
    let id = &job.source_id;
    master.start_relay(id, &[WORKER]).await.map_err(told)?;

    let first = rotated(&dir, &mut admin, 3).await.map_err(told)?.remove(0);
    let newest = Start::now(&source).await?.file;
    purged(&master, &dir, &newest).await.map_err(told)?;
    let answer = master.purge_relay(WORKER, &first).await?;
    assert!(answer.msg.starts_with("[code=11025:"), "{answer:?}");

    // Also while it rests, and it goes on afterwards.
    rotated(&dir, &mut admin, 3).await.map_err(told)?;
    let paused = master.set_relay_stage(id, WORKER, Expect::Paused).await;
    paused.map_err(told)?;
    let newest = relayed(&dir).pop().unwrap_or_default();
    purged(&master, &dir, &newest).await.map_err(told)?;
    let resumed = master.set_relay_stage(id, WORKER, Expect::Running).await;
    resumed.map_err(told)?;
    rotated(&dir, &mut admin, 3).await.map_err(told)?;
    let newest = Start::now(&source).await?.file;
    purged(&master, &dir, &newest).await.map_err(told)
}

/// Runs `dm-worker relay purge` until it ends. Its exit code and what it said.
fn purge(worker: &str, args: &[&str]) -> Result<(Option<i32>, String)> {
    let mut command = Command::new(worker::binary()?);
    command.args(["relay", "purge", "-addr", worker]).args(args);
    let output = command.output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8(said)?))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_purges_by_command() -> Result<()> {
    let source = Database::start(Brand::Mysql, Role::Source, &Options::default())?;
    if !source.is_ours() {
        return Ok(());
    }
    let etcd = Etcd::start()?;
    let master = Master::start(&etcd).await?;
    let mut job = Job::new(&source, &source, &["purge"]).await?;
    // Nobody is there, so nobody knows which file the task needs.
    job.target.port = process::free_port()?;
    let worker = Worker::join(&master, WORKER, TTL_S)?;
    let told = |error| worker.explain(error);
    let dir = worker.dir().join("relay-dir");
    let mut admin = Client::connect(&source).await?;
    master.online(WORKER, LIMIT).await.map_err(told)?;
    let address = master.address(WORKER)?;
    let (code, said) = purge(&address, &["-inactive"])?;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("code=40070"), "{said}");
    master.create_source(&job, WORKER).await.map_err(told)?;
    let id = &job.source_id;
    master.start_relay(id, &[WORKER]).await.map_err(told)?;
    let started = master.start_task(&job, WORKER).await;
    assert!(started.is_err(), "its target can't be reached");

    let files = rotated(&dir, &mut admin, 4).await.map_err(told)?;
    for args in [&["-inactive"][..], &["-before-file", &files[3]]] {
        let (code, said) = purge(&address, args)?;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("code=30037"), "{said}");
        assert!(said.contains(&job.task), "who needs it: {said}");
        assert!(relayed(&dir).starts_with(&files));
    }
    master.stop_task(&job, WORKER).await.map_err(told)?;
    let sub_dir = fs::read_to_string(dir.join("server-uuid.index"))?;
    let at = |file| ["-before-file", file, "-sub-dir", sub_dir.trim()];
    let (code, said) = purge(&address, &at(&files[1]))?;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("removed: 1 files ("), "{said}");
    let (code, said) = purge(&address, &at(&files[1]))?;
    assert_eq!(code, Some(0), "{said}");
    let why = format!("the request is at {} in ", files[1]);
    assert!(
        said.starts_with("nothing was removed") && said.contains(&why),
        "{said}"
    );
    assert!(relayed(&dir).starts_with(&files[1..]));
    let (code, said) = purge(&address, &at(&files[0]))?;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("code=11025"), "{said}");

    for args in [
        &["-inactive"][..],
        &["-before-time", "2999-01-01T00:00:00Z"],
    ] {
        rotated(&dir, &mut admin, 3).await.map_err(told)?;
        let newest = Start::now(&source).await?.file;
        let start = Instant::now();
        while relayed(&dir) != [newest.as_str()] {
            assert!(start.elapsed() < LIMIT, "{:?}", relayed(&dir));
            let (code, said) = purge(&address, args)?;
            assert_eq!(code, Some(0), "{said}");
            sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

//! Purging of relay logs, as an operator asks a master for it.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use dm_core::control::Key;
use dm_tests::{
    Result,
    job::{Job, Start},
    master::{Expect, Master},
    servers::{Brand, Database, Etcd, Options, Role},
    sql::Client,
    worker::Worker,
};
use tokio::time::sleep;

const WORKER: &str = "one";
const TTL_S: u32 = 5;
const LIMIT: Duration = Duration::from_secs(60);

/// Turns the relay on.
async fn start_relay(master: &Master, source: &str) -> Result<()> {
    let mut etcd = master.etcd();
    relay_stage(master, source, Expect::Running).await?;
    let worker = WORKER.to_owned();
    etcd.put(Key::RelayWorker { worker }.encode(), source, None)
        .await?;
    Ok(())
}

async fn relay_stage(master: &Master, source: &str, expect: Expect) -> Result<()> {
    let key = Key::RelayStage {
        source: source.to_owned(),
    };
    let value = format!(r#"{{"expect":{},"source":"{source}"}}"#, expect as i32);
    master.etcd().put(key.encode(), value, None).await?;
    Ok(())
}

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
    start_relay(&master, &job.source_id).await?;

    let first = rotated(&dir, &mut admin, 3).await.map_err(told)?.remove(0);
    let newest = Start::now(&source).await?.file;
    purged(&master, &dir, &newest).await.map_err(told)?;
    let answer = master.purge_relay(WORKER, &first).await?;
    assert!(answer.msg.starts_with("[code=11025:"), "{answer:?}");

    // Also while it rests, and it goes on afterwards.
    rotated(&dir, &mut admin, 3).await.map_err(told)?;
    relay_stage(&master, &job.source_id, Expect::Paused).await?;
    let newest = relayed(&dir).pop().unwrap_or_default();
    purged(&master, &dir, &newest).await.map_err(told)?;
    relay_stage(&master, &job.source_id, Expect::Running).await?;
    rotated(&dir, &mut admin, 3).await.map_err(told)?;
    let newest = Start::now(&source).await?.file;
    purged(&master, &dir, &newest).await.map_err(told)
}

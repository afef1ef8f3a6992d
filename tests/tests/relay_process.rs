//! The relay unit in a process of its own: killed at any moment, and with much to relay.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use dm_tests::{
    Result,
    job::Start,
    number,
    process::{self, Process},
    relay::{Task, binlogs, compare, sub_dir, verify},
    rounds, seed,
    servers::{Brand, Database, Options, Role},
    volume,
    workload::{Background, Workload},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::sleep;

const UNIT: &str = env!("CARGO_BIN_EXE_relay_unit");
/// How long a process may take to get to the source's end.
const LIMIT: Duration = Duration::from_secs(600);
/// A killed process has lived for at most so long.
const LIFE_MAX: Duration = Duration::from_millis(500);
/// The directory is looked over after so many kills, and at the end.
const LOOK_EVERY: u32 = 5;

const PAIRS: [(Brand, bool); 4] = [
    (Brand::Mysql, false),
    (Brand::Mysql, true),
    (Brand::Mariadb, false),
    (Brand::Mariadb, true),
];

/// Runs a process until it has what the source has.
fn to_end(task: &Task, log: &Path) -> Result<()> {
    let task = Task {
        to_end: true,
        ..task.clone()
    };
    let mut process = Process::start(&mut task.command(Path::new(UNIT)), log)?;
    let status = process.wait(LIMIT)?;
    if status.success() {
        return Ok(());
    }
    Err(format!("the relay ended with {status}:\n{}", process.log()).into())
}

/// Killed at any moment, under load, with files that come to their end all the time: what is there
/// is what the source has, and the next process goes on with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_relay_goes_on() -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed());
    let kills = rounds(40).div_ceil(PAIRS.len() as u32);
    for (brand, by_gtid) in PAIRS {
        let options = Options {
            args: vec!["--max-binlog-size=200K".to_owned()],
            ..Options::default()
        };
        let server = Database::start(brand, Role::Source, &options)?;
        if !server.is_ours() {
            return Ok(());
        }
        Workload::create(&server, "k").await?;
        let load = Background::start(&server, "k", seed(), 2, true).await?;
        let scratch = process::scratch("relay")?;
        let (dir, log) = (scratch.join("data"), scratch.join("relay.log"));
        let mut task = Task {
            source: server.address().clone(),
            dir: dir.clone(),
            start: Start::now(&server).await?,
            by_gtid,
            to_end: false,
        };
        let mut sizes = Vec::new();
        for kill in 1..=kills {
            let mut process = Process::start(&mut task.command(Path::new(UNIT)), &log)?;
            // Every other one within a quarter: what is done at the start takes little time.
            let life = rng.random_range(0.0_f64..1.0).powi(2);
            sleep(LIFE_MAX.mul_f64(life)).await;
            if let Some(status) = process.ended()? {
                return Err(format!("the relay ended with {status}:\n{}", process.log()).into());
            }
            process.kill()?;
            if kill % LOOK_EVERY == 0 && sub_dir(&dir).is_ok() {
                compare(&sub_dir(&dir)?, &server.data_dir()?)?;
                verify(&dir)?;
            }
            sizes.push(size(&dir).unwrap_or_default());
        }
        load.stop().await?;
        task.to_end = true;
        to_end(&task, &log)?;
        let whole = compare(&sub_dir(&dir)?, &server.data_dir()?)?;
        assert_eq!(
            whole,
            binlogs(&sub_dir(&dir)?)?.len(),
            "{brand:?} {by_gtid}"
        );
        verify(&dir)?;
        // Those that were killed have got somewhere.
        sizes.dedup();
        println!(
            "{brand:?} by {}: {kills} kills, {} of them with more in the files than before, \
             {whole} files of {} bytes",
            if by_gtid { "GTID" } else { "position" },
            sizes.len(),
            size(&dir)?,
        );
        assert!(sizes.len() as u32 > kills / 4, "{sizes:?}");
        assert!(whole > 1, "{whole}");
    }
    Ok(())
}

/// Bytes in all files.
fn size(dir: &Path) -> Result<u64> {
    let files = binlogs(&sub_dir(dir)?)?;
    let sizes = files.values().map(|path| Ok(fs::metadata(path)?.len()));
    sizes.sum()
}

/// Of a binlog with everything in it, over several files: `DM_TEST_RELAY_MIB` (48) of each server.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_source_writes_is_relayed() -> Result<()> {
    let bytes = number("DM_TEST_RELAY_MIB").unwrap_or(48_u64) << 20;
    for brand in [Brand::Mysql, Brand::Mariadb] {
        let server = volume::source(brand, bytes).await?;
        if !server.is_ours() {
            return Ok(());
        }
        let start = Start::now(&server).await?;
        let written = volume::write(&server, bytes).await?;
        let files = binlogs(&server.data_dir()?)?.len();
        assert!(files > 3, "{files}");
        for by_gtid in [false, true] {
            let scratch = process::scratch("relay")?;
            let (dir, log) = (scratch.join("data"), scratch.join("relay.log"));
            let task = Task {
                source: server.address().clone(),
                dir: dir.clone(),
                start: start.clone(),
                by_gtid,
                to_end: true,
            };
            to_end(&task, &log)?;
            let relayed = sub_dir(&dir)?;
            assert_eq!(compare(&relayed, &server.data_dir()?)?, files, "{brand:?}");
            let verdict = verify(&dir)?;
            if brand == Brand::Mysql {
                for file in binlogs(&relayed)?.values() {
                    mysqlbinlog(file)?;
                }
            }
            println!(
                "{brand:?} by {}: {files} files of {written} bytes are equal: {}",
                if by_gtid { "GTID" } else { "position" },
                verdict.lines().last().unwrap_or_default(),
            );
            fs::remove_dir_all(dir)?;
        }
    }
    Ok(())
}

/// Whether MySQL's own program can read a file, whose checksums it verifies. It takes the programs
/// of `scripts/servers`: another server's may be older than the file.
fn mysqlbinlog(file: &Path) -> Result<()> {
    let program = process::unpacked("mysqlbinlog");
    if !program.exists() {
        return Ok(());
    }
    let mut command = Command::new(&program);
    command.arg("--verify-binlog-checksum").arg(file);
    let status = command.stdout(Stdio::null()).status()?;
    if status.success() {
        return Ok(());
    }
    Err(format!("mysqlbinlog refuses {}: {status}", file.display()).into())
}

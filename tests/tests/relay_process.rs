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
/// So many times a source may write more while it is relayed to its end.
const ENDS_MAX: usize = 5;
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

/// Runs processes until one has all that the source, which is in `data_dir`, has, and returns how
/// many files these are. One may not be enough: MariaDB tells what it has cleared up when it likes.
fn to_end(task: &Task, log: &Path, data_dir: &Path) -> Result<usize> {
    let task = Task {
        to_end: true,
        ..task.clone()
    };
    let (mut whole, mut files) = (0, 0);
    for _ in 0..ENDS_MAX {
        let mut process = Process::start(&mut task.command(Path::new(UNIT)), log)?;
        let status = process.wait(LIMIT)?;
        if !status.success() {
            return Err(format!("the relay ended with {status}:\n{}", process.log()).into());
        }
        let relayed = sub_dir(&task.dir)?;
        whole = compare(&relayed, data_dir, task.by_gtid)?;
        files = binlogs(&relayed)?.len();
        if whole == files && relayed.join(last(data_dir)?).exists() {
            return Ok(files);
        }
    }
    Err(format!("of {files} files only {whole} are as long as the source's").into())
}

/// The name of a source's last file.
fn last(data_dir: &Path) -> Result<String> {
    let last = binlogs(data_dir)?.pop_last();
    Ok(last.ok_or("the source has no binlog")?.0)
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
        let task = Task {
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
                compare(&sub_dir(&dir)?, &server.data_dir()?, by_gtid)?;
                verify(&dir)?;
            }
            sizes.push(size(&dir).unwrap_or_default());
        }
        load.stop().await?;
        let files = to_end(&task, &log, &server.data_dir()?)?;
        verify(&dir)?;
        // Those that were killed have got somewhere.
        sizes.dedup();
        println!(
            "{brand:?} by {}: {kills} kills, {} of them with more in the files than before, \
             {files} files of {} bytes",
            if by_gtid { "GTID" } else { "position" },
            sizes.len(),
            size(&dir)?,
        );
        assert!(sizes.len() as u32 > kills / 4, "{sizes:?}");
        assert!(files > 1, "{files}");
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
        let files = binlogs(&server.data_dir()?)?;
        let files = files.range(start.file.clone()..).count();
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
            let relayed = to_end(&task, &log, &server.data_dir()?)?;
            assert_eq!(relayed, files, "{brand:?} {by_gtid}");
            let verdict = verify(&dir)?;
            if brand == Brand::Mysql {
                for file in binlogs(&sub_dir(&dir)?)?.values() {
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

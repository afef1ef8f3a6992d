//! `make bench`, second part: a binlog of many files, relayed by our relay unit and by MySQL's own
//! `mysqlbinlog --raw`, one after the other; then read, by our decoder and by `mysql_common`.
//!
//! Ours makes everything survive a power cut, the other one leaves that to the system. Settings by
//! environment: `DM_BENCH_RELAY_MIB` (1024) and `DM_BENCH_RELAY_RUNS` (5) of each.

use std::{
    env,
    fs::{self, File},
    hint::black_box,
    io::{BufReader, Read as _, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dm_core::{
    binlog::{Decoder, Event, Flavor, HEADER_LEN, Header, event_type as kind},
    relay::MAGIC,
};
use dm_tests::{
    Result,
    job::Start,
    number, process,
    relay::{Task, binlogs, compare, sub_dir},
    servers::{Brand, Database},
    volume,
    worker::{ended_children, usage},
};
use mysql_common::binlog::{EventStreamReader, consts::BinlogVersion, events::EventData};

/// Passes over the files with each decoder.
const PASSES: usize = 3;
/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

#[tokio::main]
async fn main() -> Result<()> {
    let mib: u64 = number("DM_BENCH_RELAY_MIB").unwrap_or(1024);
    let runs: usize = number("DM_BENCH_RELAY_RUNS").unwrap_or(5).max(1);
    let source = volume::source(Brand::Mysql, mib << 20).await?;
    if !source.is_ours() {
        return Err("the binlog can only be prepared on a server that is started here".into());
    }
    let start = Start::now(&source).await?;
    println!("writing {mib} MiB of binlog");
    let bytes = volume::write(&source, mib << 20).await?;
    let files = binlogs(&source.data_dir()?)?;
    let files = files.range(start.file.clone()..).count();
    println!("{bytes} bytes in {files} files\n");

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut kept = None;
    println!("{:<20}{:>12}{:>16}", "", "seconds", "CPU s per GB");
    for _ in 0..runs {
        let dir = process::scratch("relay")?.join("data");
        let took = measure(&mut relay_unit(&source, &start, &dir)?)?;
        show("relay unit", took, bytes);
        ours.push(took);
        if let Some(old) = kept.replace(dir) {
            fs::remove_dir_all(old)?;
        }
        let dir = process::scratch("mysqlbinlog")?.join("data");
        fs::create_dir_all(&dir)?;
        let took = measure(&mut mysqlbinlog(&source, &start, &dir))?;
        show("mysqlbinlog --raw", took, bytes);
        theirs.push(took);
        fs::remove_dir_all(dir)?;
    }
    println!("\nrelay unit / mysqlbinlog{:>12}{:>12}", "best", "median");
    compare_runs("seconds", &ours, &theirs, |took| took.wall);
    compare_runs("CPU", &ours, &theirs, |took| took.cpu);

    let dir = sub_dir(&kept.unwrap_or_default())?;
    let whole = compare(&dir, &source.data_dir()?, true)?;
    if whole != files {
        return Err(format!("only {whole} of {files} files were relayed").into());
    }
    drop(source);
    println!("\n{:<20}{:>12}{:>16}", "one core", "GB/s", "M rows/s");
    read("dm_core", &dir, rows_of_ours)?;
    read("mysql_common", &dir, rows_of_theirs)
}

/// What a run took.
#[derive(Clone, Copy)]
struct Took {
    wall: Duration,
    /// Of the process that copied.
    cpu: Duration,
}

fn show(what: &str, took: Took, bytes: u64) {
    let cpu = took.cpu.as_secs_f64() / bytes as f64 * 1e9;
    println!("{what:<20}{:>12.2}{cpu:>16.2}", took.wall.as_secs_f64());
}

fn compare_runs(what: &str, ours: &[Took], theirs: &[Took], of: impl Fn(&Took) -> Duration) {
    let sorted = |runs: &[Took]| {
        let mut values: Vec<_> = runs.iter().map(|took| of(took).as_secs_f64()).collect();
        values.sort_by(f64::total_cmp);
        (values[0], values[values.len() / 2])
    };
    let (ours, theirs) = (sorted(ours), sorted(theirs));
    let (best, median) = (ours.0 / theirs.0, ours.1 / theirs.1);
    println!("{what:<24}{best:>12.2}{median:>12.2}");
}

/// Runs a command to its end.
fn measure(command: &mut Command) -> Result<Took> {
    // What the run before left to the system must not be written during this one.
    process::run("sync", &mut Command::new("sync"))?;
    let (before, clock) = (ended_children()?, Instant::now());
    let program = command.get_program().to_owned();
    process::run(program, command)?;
    Ok(Took {
        wall: clock.elapsed(),
        cpu: ended_children()? - before,
    })
}

fn relay_unit(source: &Database, start: &Start, dir: &Path) -> Result<Command> {
    let task = Task {
        source: source.address().clone(),
        dir: dir.to_owned(),
        start: start.clone(),
        by_gtid: true,
        to_end: true,
    };
    Ok(task.command(&env::current_exe()?.with_file_name("relay_unit")))
}

fn mysqlbinlog(source: &Database, start: &Start, dir: &Path) -> Command {
    let from = source.address();
    let mut command = Command::new(process::unpacked("mysqlbinlog"));
    command
        .args(["--raw", "--read-from-remote-server", "--to-last-log"])
        .args([
            format!("--host={}", from.host),
            format!("--port={}", from.port),
        ])
        .args([
            format!("--user={}", from.user),
            format!("--password={}", from.password),
        ])
        // As the relay unit, which encrypts only if it is told to.
        .args(["--ssl-mode=DISABLED", "--get-server-public-key"])
        .arg(format!("--result-file={}/", dir.display()))
        .arg(&start.file);
    command
}

/// What a decoder made of a file.
#[derive(Default)]
struct Read {
    rows: u64,
    /// Bytes of the events that it was to read.
    bytes: usize,
}

/// Prints how fast the files are read, by the CPU time that this takes.
fn read(what: &str, dir: &Path, read_rows: fn(File) -> Result<Read>) -> Result<()> {
    let files: Vec<PathBuf> = binlogs(dir)?.into_values().collect();
    let (mut best, mut sum) = (f64::MAX, Read::default());
    for _ in 0..PASSES {
        sum = Read::default();
        let before = usage(std::process::id())?.cpu;
        for path in &files {
            let read = read_rows(File::open(path)?)?;
            sum.rows += read.rows;
            sum.bytes += read.bytes;
        }
        let took = usage(std::process::id())?.cpu - before;
        best = best.min(took.as_secs_f64());
    }
    let (speed, rows) = (sum.bytes as f64 / best / 1e9, sum.rows as f64 / best / 1e6);
    println!("{what:<20}{speed:>12.2}{rows:>16.2}");
    Ok(())
}

/// Cuts all rows into columns, as a reader of relay files does. Compressed transactions are left
/// out: the time for them is that of zstd.
fn rows_of_ours(mut file: File) -> Result<Read> {
    file.seek(SeekFrom::Start(MAGIC.len() as u64))?;
    let mut decoder = Decoder::new(Flavor::Mysql);
    let mut rest = Bytes::new();
    let mut read = Read::default();
    loop {
        let wanted = Header::peek(&rest).map_or(HEADER_LEN, |header| header.event_size as usize);
        if rest.len() < wanted {
            let room = wanted.max(PIECE);
            let more = room - rest.len();
            let mut piece = Vec::with_capacity(room);
            piece.extend_from_slice(&rest);
            if file.by_ref().take(more as u64).read_to_end(&mut piece)? == 0 {
                return Ok(read);
            }
            rest = piece.into();
            continue;
        }
        let frame = decoder.frame(rest.split_to(wanted))?;
        if frame.header.event_type == kind::TRANSACTION_PAYLOAD {
            continue;
        }
        read.bytes += wanted;
        if let Event::Rows(event) = decoder.event(&frame)? {
            for row in event.rows() {
                black_box(row?);
                read.rows += 1;
            }
        }
    }
}

/// The same with `mysql_common`. The table with every type is left out, too: it panics on negative
/// times with fractions.
fn rows_of_theirs(file: File) -> Result<Read> {
    let mut file = BufReader::with_capacity(PIECE, file);
    file.seek(SeekFrom::Start(MAGIC.len() as u64))?;
    let mut reader = EventStreamReader::new(BinlogVersion::Version4);
    let mut read = Read::default();
    while let Some(event) = reader.read(&mut file)? {
        let bytes = event.header().event_size() as usize;
        match event.read_data()? {
            Some(EventData::TransactionPayloadEvent(_)) => continue,
            Some(EventData::RowsEvent(event)) => {
                let table = reader.get_tme(event.table_id()).ok_or("no table map")?;
                if table.table_name() == "every_type" {
                    continue;
                }
                for row in event.rows(table) {
                    black_box(row?);
                    read.rows += 1;
                }
            }
            _ => {}
        }
        read.bytes += bytes;
    }
    Ok(read)
}

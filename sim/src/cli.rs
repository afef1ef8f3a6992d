//! The command line: many worlds at once, one world in full, worlds without a guard.

/// Prints a line.
macro_rules! say {
    ($($what:tt)*) => { $crate::cli::say(format_args!($($what)*)) };
}

mod bench;
mod many;
mod museum;
mod mutants;
mod run;
mod single;
mod target;

use std::{
    fmt,
    io::{self, Write as _},
    ops::Range,
    path::PathBuf,
    process::{self, ExitCode},
};

use clap::{Args, Parser, Subcommand};
use dm_core::guard::Guard;

/// The whole worker in a simulated world, where one seed decides everything.
#[derive(Debug, Parser)]
#[command(
    name = "cargo sim",
    bin_name = "cargo sim",
    disable_help_subcommand = false
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play the world of each seed; fail if an oracle is disappointed, or was never asked.
    Run(Run),
    /// Play worlds until stopped, and append the seeds that fail to a file.
    Soak(Soak),
    /// Show everything that happens in the world of a seed, of an exhibit, or of a file.
    Replay(Replay),
    /// Leave out of a failing world what it fails without, and show what is left.
    Shrink(Shrink),
    /// Show what is known to go wrong with workers of this kind, and what did with ours, and that
    /// it survives it.
    Museum(Museum),
    /// Hold the simulated target to what real ones answer.
    Target,
    /// Switch guards off, one at a time, and show how soon it is noticed.
    Mutants(Mutants),
    /// Measure how fast time passes in a world, and what it takes.
    Bench(Bench),
}

#[derive(Args, Debug)]
struct Run {
    /// Seeds to play, `A..B` without B. Without: as many as fit into `--minutes`, from a seed that
    /// today's date chooses.
    #[arg(long, value_parser = seeds)]
    seeds: Option<Range<u64>>,
    /// Stop after so many minutes, between two seeds.
    #[arg(long, value_parser = minutes)]
    minutes: Option<f64>,
    /// Worlds at a time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    jobs: u32,
    /// Play each world twice, and fail if the two runs differ.
    #[arg(long)]
    twice: bool,
    /// Switch a guard off.
    #[arg(long, value_parser = guard)]
    without: Option<Guard>,
}

#[derive(Args, Debug)]
struct Soak {
    /// First seed; without, today's date chooses it.
    #[arg(long)]
    from: Option<u64>,
    /// Worlds at a time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    jobs: u32,
    /// Where failing seeds are collected.
    #[arg(long, default_value = "target/failing-seeds.txt")]
    into: PathBuf,
}

#[derive(Args, Debug)]
struct Replay {
    /// A seed, the name of an exhibit, or the file of a recorded run or of a regression.
    what: String,
    /// Switch a guard off.
    #[arg(long, value_parser = guard)]
    without: Option<Guard>,
    #[command(flatten)]
    output: Output,
}

#[derive(Args, Debug)]
struct Shrink {
    /// A seed, the name of an exhibit, or the file of a recorded run or of a regression.
    what: String,
    /// Switch a guard off.
    #[arg(long, value_parser = guard)]
    without: Option<Guard>,
    /// How many worlds may be played for it.
    #[arg(long, default_value_t = 2_000)]
    runs: u32,
    #[command(flatten)]
    output: Output,
}

#[derive(Args, Debug)]
struct Output {
    /// Write the run into a file that can be replayed.
    #[arg(long)]
    record: Option<PathBuf>,
    /// Write the scenario into a file for `sim/regressions`.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Write the run as a page to look at.
    #[arg(long)]
    html: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct Museum {
    /// Say what each exhibit does to a naive worker.
    #[arg(long)]
    explain: bool,
    /// Only exhibits and regressions with this in their names.
    name: Option<String>,
}

#[derive(Args, Debug)]
struct Mutants {
    /// Seeds to play for each guard, `A..B` without B.
    #[arg(long, default_value = "0..200", value_parser = seeds)]
    seeds: Range<u64>,
    /// Worlds at a time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    jobs: u32,
    /// Guards to switch off; without, each of them.
    #[arg(value_parser = guard)]
    guards: Vec<Guard>,
}

#[derive(Args, Debug)]
struct Bench {
    /// Worlds to play of each kind.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
}

pub(super) fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Soak(args) => run::soak(&args),
        Command::Replay(args) => single::replay(&args),
        Command::Shrink(args) => single::shrink(&args),
        Command::Museum(args) => museum::museum(&args),
        Command::Target => Ok(target::target()),
        Command::Mutants(args) => Ok(mutants::mutants(&args)),
        Command::Bench(args) => Ok(bench::bench(&args)),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::from(2)
        }
    }
}

/// Prints a line. Whoever reads them may have seen enough, as `head` has; what is still to be done
/// is done all the same.
fn say(line: fmt::Arguments<'_>) {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("standard output: {error}");
            process::exit(2);
        }
        _ => {}
    }
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let ends = text.split_once("..");
    let ends = ends.and_then(|(first, end)| Some((first.parse().ok()?, end.parse().ok()?)));
    let (first, end) = ends.ok_or("a range like 0..100 is wanted")?;
    if first >= end {
        return Err("this range is empty, and a run of no world proves nothing".to_owned());
    }
    Ok(first..end)
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text
        .parse()
        .ok()
        .filter(|minutes| (0.0..=1e6).contains(minutes));
    minutes.ok_or_else(|| "a number of minutes is wanted".to_owned())
}

/// The name of a guard.
fn name_of(guard: Guard) -> &'static str {
    let known = Guard::ALL.iter().find(|(_, known)| *known == guard);
    known.map_or("", |(name, _)| name)
}

fn guard(name: &str) -> Result<Guard, String> {
    let known = Guard::ALL.iter().find(|(known, _)| *known == name);
    known.map(|(_, guard)| *guard).ok_or_else(|| {
        let names = Guard::ALL.map(|(name, _)| name);
        format!("there are {}", names.join(", "))
    })
}

/// A seed that nobody has chosen: today's date, as the number YYYYMMDD with room behind it.
fn seed_of_today() -> u64 {
    let date = jiff::Timestamp::now().strftime("%Y%m%d").to_string();
    date.parse().unwrap_or(0) * 1_000_000
}

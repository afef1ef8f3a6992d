//! `dm-worker`: the command line.

use std::{
    env,
    fmt::Display,
    fs::OpenOptions,
    io::{self, IsTerminal},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use dm_core::error::{Error, Result, code};
use dm_runtime::{
    ask, check,
    config::{
        Files, WorkerConfig,
        args::{self, Check, Command, Standalone},
    },
    http, modes,
    relay_log::{self, Stop},
    screen::Screen,
};
use tikv_jemallocator::Jemalloc;
use tokio::time::timeout;
use tracing::{error, warn};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// Rows of some megabytes come and go: it gives memory back that others keep in pieces.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Flags or configuration are wrong, or no master accepts the worker.
const REFUSED: u8 = 2;
/// It could not start, or broke while it ran.
const BROKEN: u8 = 1;
/// How long the checks before a start may take.
const CHECKS_MAX: Duration = Duration::from_secs(300);
/// What else can be done where they fail.
const PASS_OVER: &str = "To start all the same, name items in `ignore-checking-items` of the task \
                         file (`all` for all of them).\n";

#[tokio::main]
async fn main() -> ExitCode {
    let command = match args::parse(env::args().skip(1)) {
        Ok(command) => command,
        Err(error) => return refuse(&error),
    };
    match command {
        Command::Print(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Command::Version => {
            print!("{}", http::version_text());
            ExitCode::SUCCESS
        }
        Command::Status(worker) => answered(ask::status(&worker).await),
        Command::Purge(args) => answered(ask::purge_relay(&args).await),
        Command::Relay(what) => match relay_log::run(&what, &mut io::stdout().lock()) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(BROKEN),
            Err(Stop::Refused(error)) => refuse(&error),
            Err(Stop::Failed(error)) => {
                eprintln!("{error}");
                ExitCode::from(BROKEN)
            }
            Err(Stop::Output(error)) => {
                eprintln!("{error}");
                ExitCode::from(BROKEN)
            }
        },
        Command::Check(args) => match read(&args) {
            Ok(files) => {
                let report = check::run(&files).await;
                if args.json {
                    print!("{}", report.to_json());
                } else {
                    print!("{report}");
                }
                ExitCode::from(if report.passed() { 0 } else { BROKEN })
            }
            Err(error) => refuse(&error),
        },
        Command::Standalone(args) => standalone(&args).await,
        Command::Etcd(args) => match start_log(&args.worker) {
            Ok(screen) => ended(&args.worker, modes::etcd(&args, screen).await),
            Err(error) => refuse(&error),
        },
        Command::Join(worker) => {
            let screen = match start_log(&worker) {
                Ok(screen) => screen,
                Err(error) => return refuse(&error),
            };
            match modes::join(&worker).await {
                Ok(joined) => ended(&worker, joined.run(screen).await),
                Err(error) => refuse(&error),
            }
        }
    }
}

fn read(args: &Check) -> Result<Files> {
    let key = args.secret_key.as_ref().map(|key| key.0.as_slice());
    // No relay log is looked at.
    Files::read(&args.sources, &args.tasks, key, Path::new(""), None)
}

async fn standalone(args: &Standalone) -> ExitCode {
    let key = args.secret_key.as_ref().map(|key| key.0.as_slice());
    let dir = args.worker.relay_dir().map(Path::new);
    let files = Files::read(&args.sources, &args.tasks, key, &args.data_dir, dir);
    let ready = files.and_then(|files| {
        let entries = files.entries()?;
        let screen = start_log(&args.worker)?;
        Ok((files, entries, screen))
    });
    let (files, entries, screen) = match ready {
        Ok(ready) => ready,
        Err(error) => return refuse(&error),
    };
    match timeout(CHECKS_MAX, check::before_start(&files)).await {
        Ok(report) if report.passed() => report.log(),
        Ok(report) => {
            if !args.worker.log_file.is_empty() {
                report.log();
            }
            eprint!("{report}{PASS_OVER}");
            return ExitCode::from(BROKEN);
        }
        Err(_) => warn!("the checks before the start take too long: going on without them"),
    }
    ended(&args.worker, modes::standalone(args, entries, screen).await)
}

/// Shows what a worker has answered.
fn answered(answer: Result<impl Display, impl Display>) -> ExitCode {
    match answer {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(BROKEN)
        }
    }
}

fn refuse(error: &Error) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(REFUSED)
}

/// What is wrong goes into the log, and to the console if that is another place.
fn ended(worker: &WorkerConfig, result: Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    error!("{error}");
    if !worker.log_file.is_empty() {
        eprintln!("{error}");
    }
    ExitCode::from(BROKEN)
}

/// Sends the log where the settings say. Returns the terminal that shows what is under way.
fn start_log(worker: &WorkerConfig) -> Result<Option<Screen>> {
    let screen = Screen::of_process();
    if worker.log_file.is_empty() {
        match &screen {
            Some(screen) if io::stderr().is_terminal() => write_log(worker, screen.clone(), true),
            _ => write_log(worker, io::stderr, true),
        }
        return Ok(screen);
    }
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&worker.log_file);
    let file = file.map_err(|error| {
        let message = format!("cannot write the log file {}", worker.log_file);
        Error::new(&code::CONFIG_INVALID_VALUE, message).with_cause(error.to_string())
    })?;
    write_log(worker, Arc::new(file), false);
    Ok(screen)
}

fn write_log(
    worker: &WorkerConfig,
    writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static,
    on_console: bool,
) {
    // The log has no level above `error`.
    let level = if worker.log_level == "fatal" {
        "error"
    } else {
        &worker.log_level
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(format!(
            "{level},h2=info,hyper=info,tower=info"
        )))
        .with_ansi(on_console && io::stderr().is_terminal())
        .with_writer(writer);
    if worker.log_format == "json" {
        log.json().init();
    } else {
        log.init();
    }
}

//! `dm-worker`: the command line.

use std::{env, fmt::Display, fs::OpenOptions, io, path::Path, process::ExitCode, sync::Arc};

use dm_core::error::{Error, Result, code};
use dm_runtime::{
    ask,
    config::{
        self, WorkerConfig,
        args::{self, Command},
    },
    http, modes,
    relay_log::{self, Stop},
};
use tracing::error;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// Flags or configuration are wrong, or no master accepts the worker.
const REFUSED: u8 = 2;
/// It could not start, or broke while it ran.
const BROKEN: u8 = 1;

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
        Command::Standalone(args) => {
            let key = args.secret_key.as_ref().map(|key| key.0.as_slice());
            let dir = args.worker.relay_dir().map(Path::new);
            let entries = config::entries(&args.sources, &args.tasks, key, &args.data_dir, dir)
                .and_then(|entries| start_log(&args.worker).map(|()| entries));
            match entries {
                Ok(entries) => ended(&args.worker, modes::standalone(&args, entries).await),
                Err(error) => refuse(&error),
            }
        }
        Command::Etcd(args) => match start_log(&args.worker) {
            Ok(()) => ended(&args.worker, modes::etcd(&args).await),
            Err(error) => refuse(&error),
        },
        Command::Join(worker) => {
            if let Err(error) = start_log(&worker) {
                return refuse(&error);
            }
            match modes::join(&worker).await {
                Ok(joined) => ended(&worker, joined.run().await),
                Err(error) => refuse(&error),
            }
        }
    }
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

/// Sends the log where the settings say.
fn start_log(worker: &WorkerConfig) -> Result<()> {
    if worker.log_file.is_empty() {
        write_log(worker, io::stderr, true);
        return Ok(());
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
    Ok(())
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
        .with_ansi(on_console && io::IsTerminal::is_terminal(&io::stderr()))
        .with_writer(writer);
    if worker.log_format == "json" {
        log.json().init();
    } else {
        log.init();
    }
}

//! Puts the parts of a worker together and runs them until it is told to stop.

use std::{
    io::{IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use dm_core::{
    error::{Error, Result, code},
    lifecycle::{self, Command, SourceView, View, Worker},
    status::{Stage, UnitKind},
};
use rustls::ServerConfig;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tracing::info;

use crate::{
    clock::Clock,
    driver::Driver,
    http,
    metrics::Metrics,
    mysql::connect::Connector,
    ports::Control,
    rpc::Facts as _,
    status::{Observer, unix_now},
    units::{
        Facts, Units,
        relay::{Purger, SyncGroup},
    },
};

/// Time between two progress lines in a log.
const LOG_PERIOD: Duration = Duration::from_secs(30);
/// Time between two updates of the progress line on a terminal, and two looks at the lag.
const TICK: Duration = Duration::from_secs(1);

/// The parts that differ between the ways to run.
pub struct Parts<C> {
    /// Settings of the machine.
    pub machine: lifecycle::Config,
    /// Where assignments come from.
    pub control: C,
    /// Whether there is no store that could order the owners of a source.
    pub alone: bool,
    /// The way to the databases.
    pub connect: Connector,
    /// How relay logs are synced.
    pub group: SyncGroup,
    /// The worker's configuration, for `GetWorkerCfg`.
    pub config: String,
    /// Where questions are answered.
    pub listener: TcpListener,
    /// TLS of the listener.
    pub tls: Option<Arc<ServerConfig>>,
}

/// Runs a worker until a signal ends it.
///
/// # Errors
/// The listener broke, or signals can't be received.
pub async fn run<C: Control>(parts: Parts<C>) -> Result<()> {
    let Parts {
        machine,
        control,
        alone,
        connect,
        group,
        config,
        listener,
        tls,
    } = parts;
    let worker = machine.worker.clone();
    let machine = Worker::new(machine);
    let (view, views) = watch::channel(machine.view());
    let metrics = Arc::new(Metrics::default());
    let facts = Facts::new(&metrics, &worker);
    let units = Units::new(connect.clone(), alone, facts.clone(), group);
    let purger = Purger::new(connect.clone(), facts.clone(), views.clone());
    let (commands, inbox) = mpsc::unbounded_channel();
    let observer = Arc::new(Observer {
        worker,
        config,
        view: views.clone(),
        commands: commands.clone(),
        looks: AtomicU64::new(0),
        facts: facts.clone(),
        connect,
        purger: purger.clone(),
    });
    // Nobody will ever give a worker that runs alone anything else to do.
    let finished = alone.then(|| tokio::spawn(end_with_tasks(views.clone(), commands.clone())));
    let signals = tokio::spawn(forward_signals(signals()?, commands));
    let progress = tokio::spawn(show_progress(views, facts.clone()));
    let watching = tokio::spawn(watch_sources(Arc::clone(&observer)));
    let purging = tokio::spawn(purger.run());
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(http::serve(listener, tls, observer, metrics, async {
        // Also when the sender is gone.
        let _ = stopped.await;
    }));
    Driver::new(machine, control, units, Clock::start(), view)
        .run(inbox)
        .await;
    signals.abort();
    finished.iter().for_each(JoinHandle::abort);
    progress.abort();
    let _ = progress.await;
    watching.abort();
    purging.abort();
    drop(stop);
    match server.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(serve_failed(&error)),
        Err(panic) => Err(serve_failed(&panic)),
    }
}

fn serve_failed(cause: &dyn std::fmt::Display) -> Error {
    Error::new(&code::WORKER_START_SERVICE, "serving gRPC and HTTP failed")
        .with_cause(cause.to_string())
}

type Signals = [tokio::signal::unix::Signal; 4];

fn signals() -> Result<Signals> {
    let listen = |kind| {
        signal(kind).map_err(|error| {
            Error::new(&code::NOT_SET, "cannot receive signals").with_cause(error.to_string())
        })
    };
    Ok([
        listen(SignalKind::interrupt())?,
        listen(SignalKind::terminate())?,
        listen(SignalKind::hangup())?,
        listen(SignalKind::quit())?,
    ])
}

/// Every signal is a wish to stop; a second one is the wish to stop at once.
async fn forward_signals(signals: Signals, commands: mpsc::UnboundedSender<Command>) {
    let [mut interrupt, mut terminate, mut hangup, mut quit] = signals;
    loop {
        tokio::select! {
            biased;
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
            _ = quit.recv() => {}
        }
        info!("stopping at a transaction boundary; signal again to stop at once");
        if commands.send(Command::Stop).is_err() {
            return;
        }
    }
}

/// Stops once all tasks are finished, and no relay is on.
async fn end_with_tasks(
    mut views: watch::Receiver<View>,
    commands: mpsc::UnboundedSender<Command>,
) {
    let is_over = |source: &SourceView| {
        let mut tasks = source.subtasks.iter();
        let all = !source.subtasks.is_empty() && tasks.all(|it| it.stage == Stage::Finished);
        all && source.relay.is_none()
    };
    let over = |view: &View| !view.sources.is_empty() && view.sources.iter().all(is_over);
    if views.wait_for(over).await.is_ok() {
        info!("all tasks are finished");
        // A machine that is over needs no order.
        let _ = commands.send(Command::Stop);
    }
}

/// Looks at the sources' ends now and then, so that metrics know them though nobody asks.
async fn watch_sources(observer: Arc<Observer<Connector>>) {
    loop {
        sleep(LOG_PERIOD).await;
        let _ = observer.sources().await;
    }
}

/// Shows how far everything is: one line that changes on a terminal, log lines elsewhere.
async fn show_progress(views: watch::Receiver<View>, facts: Facts) {
    let mut terminal = std::io::stdout().is_terminal().then(StatusLine::default);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = (Instant::now(), 0);
    loop {
        ticks.tick().await;
        facts.retain(&views.borrow());
        let view = views.borrow().clone();
        facts.sample(unix_now());
        if terminal.is_none() && last.0.elapsed() < LOG_PERIOD {
            continue;
        }
        let mut rows = 0;
        let mut parts = Vec::new();
        for (source, task) in view
            .sources
            .iter()
            .flat_map(|source| source.subtasks.iter().map(move |task| (source, task)))
        {
            match task.unit {
                Some(UnitKind::Sync) => {}
                Some(UnitKind::Dump) => {
                    let copy = facts.copy(&source.name, &task.name);
                    parts.push(format!("{}/{} {copy}", source.name, task.name));
                    continue;
                }
                _ => continue,
            }
            let facts = facts.of(&source.name, &task.name);
            rows += facts.rows.load(Relaxed);
            let at = facts
                .applied()
                .map_or_else(String::new, |at| at.position.to_string());
            let lag = facts.lag(unix_now());
            parts.push(format!(
                "{}/{} {:?} {at} {lag} s behind",
                source.name, task.name, task.stage
            ));
        }
        if parts.is_empty() {
            continue;
        }
        let now = Instant::now();
        let seconds = now.duration_since(last.0).as_secs_f64().max(0.001);
        let rate = (rows - last.1.min(rows)) as f64 / seconds;
        last = (now, rows);
        let line = format!("{}  {rate:.0} rows/s", parts.join(" | "));
        match &mut terminal {
            Some(terminal) => terminal.show(&line),
            None => info!("{line}"),
        }
    }
}

/// A line on a terminal that is written over and over.
#[derive(Default)]
struct StatusLine {
    shown: bool,
}

impl StatusLine {
    fn show(&mut self, line: &str) {
        let mut out = std::io::stdout().lock();
        // Without wrapping: what does not fit is left out, and one line stays one line.
        let line = format!("\r\x1b[2K\x1b[?7l{line}\x1b[?7h");
        // A terminal that is gone is no reason to stop.
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
        self.shown = true;
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        if self.shown {
            let _ = std::io::stdout().write_all(b"\n");
        }
    }
}

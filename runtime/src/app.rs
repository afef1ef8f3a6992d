//! Puts the parts of a worker together and runs them until it is told to stop.

use std::{
    sync::{Arc, atomic::AtomicU64},
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
    screen::{Bars, Line, Screen},
    status::{Observer, unix_now},
    units::{Facts, Limits, Units, relay::Purger},
};

/// Time between two progress lines in a log.
const LOG_PERIOD: Duration = Duration::from_secs(30);
/// Time between two updates of a terminal, and two looks at the lag.
const TICK: Duration = Duration::from_secs(1);
/// A terminal shows so many tables of a subtask.
const TABLES_MAX: usize = 8;

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
    /// What bounds units.
    pub limits: Limits,
    /// The worker's configuration, for `GetWorkerCfg`.
    pub config: String,
    /// Where questions are answered.
    pub listener: TcpListener,
    /// TLS of the listener.
    pub tls: Option<Arc<ServerConfig>>,
    /// Where it is shown what is under way; without, the log tells it.
    pub screen: Option<Screen>,
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
        limits,
        config,
        listener,
        tls,
        screen,
    } = parts;
    let worker = machine.worker.clone();
    let machine = Worker::new(machine);
    let (view, views) = watch::channel(machine.view());
    let metrics = Arc::new(Metrics::default());
    let facts = Facts::new(&metrics, &worker);
    let units = Units::new(connect.clone(), alone, facts.clone(), limits);
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
    let progress = tokio::spawn(show_progress(views, facts.clone(), screen));
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
        // Before anything that could go wrong with a terminal that is gone.
        if commands.send(Command::Stop).is_err() {
            return;
        }
        info!("stopping at a transaction boundary; signal again to stop at once");
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

/// Shows how far everything is: bars on a terminal, log lines elsewhere.
async fn show_progress(views: watch::Receiver<View>, facts: Facts, screen: Option<Screen>) {
    let mut bars = screen.map(Bars::new);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = Instant::now();
    loop {
        ticks.tick().await;
        facts.retain(&views.borrow());
        let view = views.borrow().clone();
        facts.sample(unix_now());
        if bars.is_none() && last.elapsed() < LOG_PERIOD {
            continue;
        }
        last = Instant::now();
        let lines = lines(&view, &facts);
        match &mut bars {
            Some(bars) => bars.show(&lines),
            // What single tables say would be too much.
            None => lines
                .iter()
                .filter(|line| !line.is_detail)
                .for_each(|line| info!("{} {}", line.name, line.text)),
        }
    }
}

/// How far everything is: subtasks, and below each the tables that it copies.
fn lines(view: &View, facts: &Facts) -> Vec<Line> {
    let mut lines = Vec::new();
    let subtasks = |source| move |task| (source, task);
    let subtasks =
        (view.sources.iter()).flat_map(|source| source.subtasks.iter().map(subtasks(source)));
    for (source, task) in subtasks {
        let name = format!("{}/{}", source.name, task.name);
        match task.unit {
            Some(UnitKind::Sync) => {}
            Some(UnitKind::Dump | UnitKind::Load) => {
                let copy = facts.copy(&source.name, &task.name);
                lines.push(Line {
                    name,
                    text: copy.to_string(),
                    part: copy.total().map(|_| copy.part()),
                    is_detail: false,
                });
                let tables = copy.under_way();
                let more = tables.len().saturating_sub(TABLES_MAX);
                lines.extend(tables.iter().take(TABLES_MAX).map(|table| Line {
                    name: table.table.to_string(),
                    text: table.to_string(),
                    part: Some(table.part),
                    is_detail: true,
                }));
                if more > 0 {
                    lines.push(Line {
                        name: "…".to_owned(),
                        text: format!("and {more} tables more"),
                        part: None,
                        is_detail: true,
                    });
                }
                continue;
            }
            _ => continue,
        }
        let facts = facts.of(&source.name, &task.name);
        let rate = facts.rates(Instant::now()).recent;
        let at = facts
            .applied()
            .map_or_else(String::new, |at| at.position.to_string());
        let lag = facts.lag(unix_now());
        lines.push(Line {
            name,
            text: format!("{:?} {at} {lag} s behind, {rate} rows/s", task.stage),
            part: None,
            is_detail: false,
        });
    }
    lines
}

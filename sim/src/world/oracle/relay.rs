//! What a relay says is safe is what the source wrote, and no power cut can take it away.

use std::{sync::Arc, time::Duration};

use dm_core::{
    binlog::{FileName, Header},
    lifecycle::View,
    relay::{INDEX_FILE, Index, MAGIC, Scan, SubDir},
    status::Stage,
};
use dm_runtime::units::{Facts, relay::RelayEnd};
use tokio::{sync::watch, time::sleep};

use crate::{
    scenario::TASK,
    world::{files::Machine, source::Upstream, trace::Trace, worker::Surroundings},
};

pub(in crate::world) const NAME: &str = "relay";

/// Where every worker has its relay log.
pub(in crate::world) const DIR: &str = "/relay";

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(5);

/// Looks at what one process says.
pub(in crate::world) struct Watch {
    trace: Trace,
    machine: Machine,
    process: String,
    facts: Facts,
    sources: Vec<Arc<Upstream>>,
    /// What it said last, and of which source.
    last: Option<(String, RelayEnd)>,
}

impl Watch {
    pub(in crate::world) fn new(
        around: &Surroundings,
        machine: &Machine,
        process: &str,
        facts: &Facts,
    ) -> Self {
        Self {
            trace: around.trace.clone(),
            machine: machine.clone(),
            process: process.to_owned(),
            facts: facts.clone(),
            sources: around.sources.values().cloned().collect(),
            last: None,
        }
    }

    /// Looks as long as the process lives.
    pub(in crate::world) async fn run(mut self, view: watch::Receiver<View>) {
        loop {
            sleep(LOOK).await;
            if view.has_changed().is_err() {
                return;
            }
            let relayed: Vec<_> = {
                let view = view.borrow();
                let is_relayed = |upstream: &&Arc<Upstream>| {
                    let known = view.sources.iter().find(|it| it.name == upstream.name);
                    let relay = known.and_then(|known| known.relay.as_ref());
                    relay.is_some_and(|relay| relay.stage == Stage::Running)
                };
                self.sources.iter().filter(is_relayed).cloned().collect()
            };
            // Of what it does not relay any more it says nothing.
            self.last
                .take_if(|(source, _)| relayed.iter().all(|it| it.name != *source));
            for upstream in relayed {
                let runs = {
                    let view = view.borrow();
                    let known = view.sources.iter().find(|it| it.name == upstream.name);
                    let mut tasks = known.iter().flat_map(|known| &known.subtasks);
                    tasks.any(|task| task.stage == Stage::Running)
                };
                self.look(&upstream, runs);
            }
        }
    }

    fn look(&mut self, upstream: &Upstream, runs: bool) {
        let Some(end) = self.facts.relay(&upstream.name).end() else {
            // All files went, since the source does not have what comes behind them.
            self.last.take_if(|(source, _)| *source == upstream.name);
            return;
        };
        let task = self.facts.of(&upstream.name, TASK);
        // Where a bit flipped, which nobody can be blamed for, it goes back and reads it again.
        let is_sound = !self.machine.is_rotten(&end.sub_dir);
        if let (true, Some(read)) = (runs && is_sound && task.reads_relay(), task.read()) {
            let safe = end.location.in_relay(end.sub_dir.number());
            // Another server's files begin with what is in the files of the one before.
            let is_before = read.position.relay() < safe.position.relay();
            self.trace.expect(
                NAME,
                is_before || safe.reaches(&read, upstream.is_read_by_gtid()),
                format_args!("{}: {read} is read, and {safe} is safe", self.process),
            );
        }
        let said = Some((upstream.name.clone(), end.clone()));
        if end.file.is_empty() || self.last == said {
            return;
        }
        let problem = self.problem(upstream, &end);
        self.trace.expect(
            NAME,
            problem.is_none(),
            format_args!(
                "{}: {} {} up to {} is said to be safe, but {}",
                self.process,
                end.sub_dir,
                end.file,
                end.len,
                problem.as_deref().unwrap_or_default()
            ),
        );
        self.last = said;
    }

    fn problem(&self, upstream: &Upstream, end: &RelayEnd) -> Option<String> {
        let RelayEnd {
            sub_dir, file, len, ..
        } = end;
        let before = match &self.last {
            Some((source, last)) if *source == upstream.name && last.sub_dir == *sub_dir => {
                Some(last)
            }
            _ => None,
        };
        if let (Some(last), false) = (before, self.machine.is_rotten(sub_dir)) {
            let order = |end: &RelayEnd| {
                let number = FileName::parse(&end.file).map_or(0, |name| name.sequence);
                (number, end.len)
            };
            if order(last) > order(end) {
                return Some(format!("({}, {}) was before", last.file, last.len));
            }
            // What it leaves behind is whole.
            if last.file != *file
                && let Some(problem) = self.is_left_whole(upstream, last)
            {
                return Some(problem);
            }
        }
        let index = self.machine.durable(&format!("{DIR}/{INDEX_FILE}"));
        let index = Index::parse(&index.unwrap_or_default());
        let is_its = |dir: &SubDir| upstream.is_called(dir.server());
        if !index.is_ok_and(|index| index.iter().all(is_its) && index.current() == Some(sub_dir)) {
            return Some("the index says otherwise".to_owned());
        }
        let path = format!("{DIR}/{sub_dir}/{file}");
        let Some(kept) = self.machine.durable(&path) else {
            return Some("its name may be lost".to_owned());
        };
        let Some(kept) = kept.get(..*len as usize) else {
            return Some(format!(
                "{} bytes of it may be lost",
                *len - kept.len() as u64
            ));
        };
        // The next file may be there already, though nobody was told of it.
        if self.machine.has_rot(&path) {
            return None;
        }
        let written = upstream.logged(sub_dir.server(), file)?;
        differs(kept, &written)
    }

    /// Whether a file that is followed by another one has all transactions.
    fn is_left_whole(&self, upstream: &Upstream, left: &RelayEnd) -> Option<String> {
        let path = format!("{DIR}/{}/{}", left.sub_dir, left.file);
        let written = upstream.logged(left.sub_dir.server(), &left.file)?;
        let Some(kept) = self.machine.durable(&path) else {
            return Some(format!("the file {} before it may be lost", left.file));
        };
        if let Some(problem) = differs(&kept, &written) {
            return Some(format!("the file {} before it: {problem}", left.file));
        }
        // A source that is asked by GTID need not send what is behind the last one.
        let transactions = |bytes: Vec<u8>| {
            let mut scan = Scan::new(upstream.flavor());
            let read = scan.read(&bytes.into());
            read.ok().map(|_| scan.transactions())
        };
        let (kept, written) = (transactions(kept), transactions(written));
        (kept != written).then(|| {
            format!(
                "the file {} before it has {kept:?} transactions of {written:?}",
                left.file
            )
        })
    }
}

/// What differs of a file but its first event, of which a source sends another form.
fn differs(kept: &[u8], written: &[u8]) -> Option<String> {
    let format = |bytes: &[u8]| {
        let head = Header::peek(bytes.get(MAGIC.len()..)?).ok()?;
        Some(MAGIC.len() + head.event_size as usize)
    };
    let behind = format(kept)?;
    if format(written) != Some(behind) {
        return Some("its first event is another one".to_owned());
    }
    let same = kept[behind..].iter().zip(written.get(behind..)?);
    let same = same.take_while(|(a, b)| a == b).count() + behind;
    (same < kept.len()).then(|| format!("it differs from the source's at {same}"))
}

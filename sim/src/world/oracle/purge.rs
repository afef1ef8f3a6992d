//! No relay log is removed that a task has yet to read, wherever it is and whatever it does.

use dm_core::{
    binlog::{FileName, GtidSet},
    lifecycle::View,
    relay::{MAGIC, Scan, SubDir},
    status::Stage,
    sync::progress::Location,
};
use tokio::sync::watch;

use super::relay::DIR;
use crate::world::{files::Machine, source::Upstream, trace::Trace, worker::Surroundings};

pub(in crate::world) const NAME: &str = "purge";

/// Who removes a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::world) enum By {
    /// Whoever is to have space.
    Purge,
    /// The relay, which begins anew where the source does not have what comes next.
    Relay,
}

/// Looks at what one process removes.
pub(in crate::world) struct Watch {
    around: Surroundings,
    machine: Machine,
    process: String,
    by: By,
    view: watch::Receiver<View>,
}

impl Watch {
    pub(in crate::world) fn new(
        around: &Surroundings,
        machine: &Machine,
        (process, by): (&str, By),
        view: &watch::Receiver<View>,
    ) -> Self {
        Self {
            around: around.clone(),
            machine: machine.clone(),
            process: process.to_owned(),
            by,
            view: view.clone(),
        }
    }

    /// A file is about to be removed.
    pub(in crate::world) fn removes(&self, path: &str) {
        let Some((sub_dir, file)) = named(path) else {
            return;
        };
        // A file that has nothing yet nobody reads.
        let kept = self.machine.durable(path);
        if self.by == By::Relay && kept.is_none_or(|kept| kept.len() <= MAGIC.len()) {
            return;
        }
        let trace: &Trace = &self.around.trace;
        trace.count(match self.by {
            By::Purge => "relay: purged file",
            By::Relay => "relay: file given up",
        });
        trace.note(&self.process, format_args!("removes {path}"));
        let mut sources = self.around.sources.values();
        let Some(upstream) = sources.find(|it| it.is_called(sub_dir.server())) else {
            trace.violate(NAME, format_args!("{path} is of no source"));
            return;
        };
        // A copy that has not begun begins where the source is by then.
        let is_to_come = self.around.database.has_no_copy_yet(&upstream.name);
        if !self.has_task(&upstream.name) || is_to_come && upstream.is_copied() {
            return;
        }
        let places = self.around.database.places(&upstream.name);
        let needs = |at: &&Location| self.is_behind(upstream, (&sub_dir, file, path), at);
        let needed = places.iter().find(needs);
        // Before it has any progress, nobody knows what it needs.
        trace.expect(
            NAME,
            !places.is_empty() && needed.is_none(),
            match needed {
                Some(at) => format!("{} removes {path}, and its task is at {at}", self.process),
                None => format!(
                    "{} removes {path}, and its task has not begun",
                    self.process
                ),
            },
        );
    }

    /// Whether the process has a task of a source, in whatever stage.
    fn has_task(&self, source: &str) -> bool {
        let view = self.view.borrow();
        let known = view.sources.iter().find(|it| it.name == source);
        let mut tasks = known.iter().flat_map(|known| &known.subtasks);
        tasks.any(|task| !matches!(task.stage, Stage::Stopped | Stage::Finished))
    }

    /// Whether somebody who is at a place would read a file, or one before it.
    fn is_behind(
        &self,
        upstream: &Upstream,
        file: (&SubDir, FileName<'_>, &str),
        at: &Location,
    ) -> bool {
        let (sub_dir, name, path) = file;
        if let (true, Some(have)) = (upstream.is_read_by_gtid(), &at.gtids) {
            return self.is_read(upstream, path, have);
        }
        let place = FileName::parse(&at.position.file);
        place.map_or(true, |place| {
            let number = sub_dir.number();
            (number, name.sequence) >= (place.relay.unwrap_or(number), place.sequence)
        })
    }

    /// Whether somebody who has these transactions would read a file, or one before it: who reads
    /// by GTID begins with the newest file before which there is nothing else. Where there is none,
    /// the source is read.
    fn is_read(&self, upstream: &Upstream, path: &str, have: &GtidSet) -> bool {
        let scanned = |path: &str| {
            let kept = self.machine.durable(path).unwrap_or_default();
            let mut scan = Scan::new(upstream.flavor());
            // What can't be read nobody reads.
            let _ = scan.read(&kept.into());
            scan
        };
        let serves =
            |path: &String| (scanned(path).before()).is_some_and(|before| have.contains(before));
        let in_dir = |(sub_dir, files): (SubDir, Vec<String>)| {
            let path = move |file| format!("{DIR}/{sub_dir}/{file}");
            files.into_iter().map(path)
        };
        let all: Vec<_> = (self.machine.relayed().into_iter())
            .flat_map(in_dir)
            .collect();
        let mut newer = all.iter().skip_while(|it| *it != path).skip(1);
        let is_known = scanned(path).gtids().is_none_or(|all| have.contains(all));
        !is_known && all.iter().any(serves) && !newer.any(serves)
    }
}

/// The binlog file of a path.
fn named(path: &str) -> Option<(SubDir, FileName<'_>)> {
    let (sub_dir, file) = path.strip_prefix(DIR)?.strip_prefix('/')?.split_once('/')?;
    Some((sub_dir.parse().ok()?, FileName::parse(file).ok()?))
}

//! What goes wrong in a run, and when: drawn from the seed before it begins.

use std::{fmt, time::Duration};

use super::control::Link;
use crate::dice::Dice;

/// Something that is done to the world.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// A worker's process is killed.
    Kill(usize),
    /// A worker's process starts, if none runs.
    Start(usize),
    /// A worker's process freezes, or runs on.
    Freeze(usize, bool),
    /// What lies between a worker and etcd changes.
    Link(usize, Link),
    /// etcd freezes, or runs on.
    FreezeEtcd(bool),
    /// etcd starts anew.
    RestartEtcd,
    /// All watches end.
    CloseWatches,
    /// The history of etcd is compacted.
    Compact,
    /// All dumps of a source break.
    CutDumps(usize),
    /// A source is out of reach, or back.
    SourceDown(usize, bool),
    /// Answers of the target get lost.
    LostAnswers(u64),
    /// Transactions arrive late.
    Late(u64),
    /// Transactions are rolled back.
    Deadlocks(u64),
    /// Sessions at the target can't be ended.
    Unseen(bool),
    /// The target is out of reach, or back.
    TargetDown(bool),
    /// An operator pauses a task, or resumes it.
    Pause(usize, bool),
    /// An operator stops a task, or starts it.
    Stop(usize, bool),
    /// An operator moves a source to another worker.
    Transfer(usize),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Action {
    /// Its name in the summary.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Kill(_) | Self::Start(_) => "fault: kill",
            Self::Freeze(..) => "fault: freeze",
            Self::Link(..) => "fault: link",
            Self::FreezeEtcd(_) => "fault: frozen etcd",
            Self::RestartEtcd => "fault: etcd restart",
            Self::CloseWatches => "fault: closed watches",
            Self::Compact => "fault: compaction",
            Self::CutDumps(_) => "fault: cut dumps",
            Self::SourceDown(..) => "fault: source down",
            Self::LostAnswers(_) => "fault: time of lost answers",
            Self::Late(_) => "fault: time of late transactions",
            Self::Deadlocks(_) => "fault: time of deadlocks",
            Self::Unseen(_) => "fault: unseen sessions",
            Self::TargetDown(_) => "fault: target down",
            Self::Pause(..) => "operator: pause",
            Self::Stop(..) => "operator: stop",
            Self::Transfer(_) => "operator: transfer",
        }
    }
}

/// How many there are of what can fail.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    pub(super) workers: usize,
    pub(super) sources: usize,
    /// The longest that something lasts, about.
    pub(super) ttl: Duration,
    /// When it begins, and when it is over.
    pub(super) begin: Duration,
    pub(super) end: Duration,
}

/// How many kinds of faults there are.
const KINDS: u64 = 17;

/// Draws all faults, in order of time. Each run has a few kinds of them only, so that rare
/// combinations are not drowned.
pub(super) fn plan(dice: &mut Dice, scale: Scale) -> Vec<(Duration, Action)> {
    let mut plan = Vec::new();
    for kind in 0..KINDS {
        if !dice.permille(450) {
            continue;
        }
        for _ in 0..dice.within(1..4) {
            draw(dice, scale, kind, &mut plan);
        }
    }
    plan.sort_by_key(|(at, _)| *at);
    plan
}

fn draw(dice: &mut Dice, scale: Scale, kind: u64, plan: &mut Vec<(Duration, Action)>) {
    let (begin, end) = (scale.begin.as_millis() as u64, scale.end.as_millis() as u64);
    let at = dice.within(begin..end);
    // From hardly noticeable to longer than a lease.
    let longest = scale.ttl.as_millis() as u64 * 2;
    let lasts = match dice.within(0..3) {
        0 => dice.within(10..1_000),
        1 => dice.within(1_000..longest / 2),
        _ => dice.within(longest / 2..longest),
    };
    let worker = dice.within(0..scale.workers as u64) as usize;
    let source = dice.within(0..scale.sources as u64) as usize;
    let chance = dice.within(20..300);
    let link = |requests_cut, answers_cut, delay| {
        Action::Link(
            worker,
            Link {
                requests_cut,
                answers_cut,
                delay: Duration::from_millis(delay),
            },
        )
    };
    let well = || link(false, false, 0);
    let (first, then) = match kind {
        0 => (Action::Kill(worker), Some(Action::Start(worker))),
        1 => (
            Action::Freeze(worker, true),
            Some(Action::Freeze(worker, false)),
        ),
        2 => (link(true, false, 0), Some(well())),
        3 => (link(false, true, 0), Some(well())),
        4 => (link(true, true, 0), Some(well())),
        5 => (link(false, false, dice.within(100..4_000)), Some(well())),
        6 => (Action::FreezeEtcd(true), Some(Action::FreezeEtcd(false))),
        7 => (Action::RestartEtcd, None),
        8 => (Action::CloseWatches, Some(Action::Compact)),
        9 => (Action::CutDumps(source), None),
        10 => (
            Action::SourceDown(source, true),
            Some(Action::SourceDown(source, false)),
        ),
        11 => (Action::LostAnswers(chance), Some(Action::LostAnswers(0))),
        12 => (Action::Late(chance), Some(Action::Late(0))),
        13 => (Action::Deadlocks(chance), Some(Action::Unseen(true))),
        14 => (Action::TargetDown(true), Some(Action::TargetDown(false))),
        15 => (
            Action::Pause(source, true),
            Some(Action::Pause(source, false)),
        ),
        _ => match dice.within(0..2) {
            0 => (
                Action::Stop(source, true),
                Some(Action::Stop(source, false)),
            ),
            _ => (Action::Transfer(source), None),
        },
    };
    plan.push((Duration::from_millis(at), first));
    if let Some(then) = then {
        let ends = (at + lasts).min(end);
        plan.push((Duration::from_millis(ends), then));
    }
}

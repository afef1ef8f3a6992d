//! What steps bring about, as the world counts it: a fault that was there and met nobody proves
//! nothing.

use super::What::{self, *};

impl What {
    /// What it may bring about. Empty where it does so by itself, as the end of a process does.
    #[must_use]
    pub const fn effects(&self) -> &'static [&'static str] {
        match self {
            CutRequests(_) => &["etcd: request cut off"],
            CutAnswers(_) => &["etcd: answer cut off"],
            Cut(_) => &["etcd: request cut off", "etcd: answer cut off"],
            Deafen(_) => &["etcd: change heard late", "etcd: change not heard"],
            Slow(..) | SlowAnswers(..) => &["etcd: slow answer"],
            FreezeEtcd => &["etcd: request to frozen"],
            RestartEtcd | CloseWatches => &["etcd: closed watch"],
            Compact => &["etcd: compacted"],
            CutDumps(_) => &["source: cut dump"],
            SourceDown(_) => &["source: out of reach", "source: cut dump"],
            SwitchServer(..) => &["source: another server"],
            Damage(..) => &[
                "fault: flipped bit",
                "fault: truncated event",
                "fault: skipped event",
                "fault: event twice",
            ],
            LostAnswers(_) => &["fault: lost answer"],
            Late(_) => &["fault: late transaction"],
            Deadlocks(_) => &["fault: deadlock"],
            ReadOnly => &["fault: refused, read-only"],
            Full(_) => &["fault: refused, disk full"],
            LongTransactions(_) => &["fault: long transaction"],
            LockWaits(_) => &["fault: lock wait"],
            Resets(_) => &["fault: connection reset"],
            Crowded(_) => &["fault: too many connections"],
            Unseen => &["target: unseen session"],
            TargetDown => &["target: out of reach"],
            Foreign(..) => &["foreign: checkpoint"],
            Transfer(_) => &["master: transferred"],
            PurgeRelay(..) => &["relay: purged file"],
            Rot(..) => &["disk: flipped bit"],
            FullDisk(_) => &["disk: full"],
            BadDisk(..) | LostSyncs(..) => &["disk: failed"],
            Commit(..) | Ddl(..) | RowEvents(..) | Kill(_) | Twin(_) | Freeze(_)
            | RestartSource(..) | CrashSource(..) | Purge(_) | Pause(_) | Stop(_) | Resize(..)
            | NewLeader | PowerCut(_) | SlowDisk(_) | PauseRelay(_) | StopRelay(_) => &[],
        }
    }
}

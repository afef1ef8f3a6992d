//! Guards: the places that keep a worker right, each of which a simulation can take away.
//!
//! A simulator that finds nothing is believed only once it has caught workers that lack one of
//! these. In production every guard holds, and the compiler leaves nothing of the question.

#[cfg(any(test, madsim))]
use core::cell::Cell;

macro_rules! guards {
    ($($(#[doc = $doc:literal])+ $guard:ident = $name:literal,)+) => {
        /// Something that keeps a worker right.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum Guard {
            $($(#[doc = $doc])+ $guard,)+
        }

        impl Guard {
            /// All of them, with their names.
            pub const ALL: [(&'static str, Self); [$($name),+].len()] =
                [$(($name, Self::$guard)),+];
        }
    };
}

guards! {
    // The lease.
    /// A lease is counted from the moment at which its renewal was sent, not from the answer.
    LeaseFromSend = "lease-from-send",
    /// Work under a lease ends some time before the lease does.
    LeaseMargin = "lease-margin",
    /// A tenure ends when no renewal was acknowledged in time.
    LeaseExpiry = "lease-expiry",
    /// A lease that is not needed any more is given up.
    LeaseGivenUp = "lease-given-up",
    /// What an ended tenure started is cancelled before its lease is given up.
    CancelBeforeRevoke = "cancel-before-revoke",
    /// A process that ends gives its lease up after everything has stopped.
    EndBeforeRevoke = "end-before-revoke",
    /// Nothing is learnt, and so nothing runs, before the worker is announced.
    AnnounceFirst = "announce-first",
    /// Only an announcement that may be replaced is.
    AnnounceCompare = "announce-compare",
    /// Completions of earlier tenures are dropped.
    StaleTickets = "stale-tickets",
    /// Everything is cancelled at once when a tenure ends.
    CancelKills = "cancel-kills",

    // What is known.
    /// After a loss everything is learnt anew.
    LearnAnew = "learn-anew",
    /// A watch begins with the revision behind the one that was read.
    WatchFrom = "watch-from",
    /// The end of a watch calls for a read.
    WatchEnd = "watch-end",
    /// Everything is read again from time to time.
    Reread = "reread",
    /// All of a snapshot is read at one revision.
    OneRevision = "one-revision",

    // Ownership.
    /// A fence is not below the revision at which the source became ours.
    FenceOfBound = "fence-of-bound",
    /// A fence is not below the revision of the announcement.
    FenceOfAnnouncement = "fence-of-announcement",
    /// A unit that works under an older fence starts anew under the newer one.
    FenceRestart = "fence-restart",

    // Subtasks.
    /// A task that was deleted and made again is another one.
    Incarnation = "incarnation",
    /// Automatic resume does not override a pause.
    PauseOverError = "pause-over-error",
    /// A paused task stays paused when the worker starts.
    PauseOverStart = "pause-over-start",
    /// A subtask starts a unit, and is gone, only when its last unit has ended.
    UnitEnd = "unit-end",
    /// Errors that may pass are tried again.
    AutoResume = "auto-resume",
    /// A task that is resumed takes its newest configuration over.
    ConfigAtResume = "config-at-resume",

    // The planner.
    /// A change waits for conflicting ones of other slots.
    ConflictWait = "conflict-wait",
    /// And that until these are applied, not until they are handed out.
    ConflictApplied = "conflict-applied",
    /// The batch that is waited for takes no more changes.
    ConflictClose = "conflict-close",
    /// Changes conflict by every unique key of their table.
    EveryKey = "every-key",
    /// Changes conflict by the key values before and after them.
    BothImages = "both-images",
    /// What a slot has applied is left out.
    ReplaySkip = "replay-skip",
    /// And that until the reader is behind it.
    ReplayEnd = "replay-end",
    /// A start begins at the slot that has come least far.
    LowestStart = "lowest-start",
    /// Progress within a transaction says how many of its rows are applied.
    RowCount = "row-count",
    /// A row's slot follows from its key.
    SlotByKey = "slot-by-key",
    /// Rows of a table without a usable key have one slot.
    KeylessSlot = "keyless-slot",
    /// Changes that have a key value in common are in different groups of a batch.
    KeyGroups = "key-groups",
    /// A change joins an earlier one only past what it does not touch.
    JoinOrder = "join-order",
    /// Changes of one row that are joined keep the first one's image before.
    JoinBefore = "join-before",
    /// One slot keeps transactions whole.
    WholeTransactions = "whole-transactions",
    /// Slots without work move on with the reader.
    IdleSlots = "idle-slots",
    /// Nothing is said to be applied that some slot has yet to apply.
    Watermark = "watermark",
    /// The number of slots changes only when all are behind what was applied before.
    ResizeAfterReplay = "resize-after-replay",
    /// The steps of all slots move with a DDL.
    BarrierSteps = "barrier-steps",

    // The sync unit.
    /// A batch that failed is tried again before the next one of its slot.
    FailedAgain = "failed-again",
    /// The tasks of a unit are over before it is.
    TasksEnd = "tasks-end",
    /// Events must follow one another without a gap.
    EventGap = "event-gap",
    /// Also where a file ends.
    FileEnd = "file-end",
    /// Events must have the right checksum.
    Checksum = "checksum",
    /// What may be applied already is written in safe mode.
    SafeMode = "safe-mode",
    /// A DDL waits until all slots are idle.
    DdlDrain = "ddl-drain",
    /// Pieces of a DDL that ran are left out.
    DdlPieces = "ddl-pieces",

    // The copy of tables.
    /// A snapshot has the rows of its place in the binlog, not of a moment before.
    CopyMoment = "copy-moment",
    /// The binlog goes on from where the first snapshot was taken.
    CopyFrom = "copy-from",
    /// What changed between two snapshots is written in safe mode.
    CopyUntil = "copy-until",
    /// A table without a key is copied from one snapshot.
    CopyKeyless = "copy-keyless",
    /// What the binlog says of such a table counts from that snapshot on.
    CopyPlace = "copy-place",
    /// Where a copy goes on follows from the pieces that are noted.
    CopyGaps = "copy-gaps",
    /// It is over only when all is noted.
    CopyComplete = "copy-complete",
    /// Where no sync unit follows, the copy itself applies what the binlog has between snapshots.
    CopyCatchUp = "copy-catch-up",
    /// A piece is noted in the transaction that brings its rows.
    CopyNote = "copy-note",

    // Dump files.
    /// What says that a dump is complete comes last.
    DumpLast = "dump-last",
    /// All that it says is there survives a power cut.
    DumpSync = "dump-sync",
    /// A load begins when the control store says which worker has the files.
    LoadMark = "load-mark",
    /// A load takes the source over before it writes.
    LoadTakeover = "load-takeover",
    /// A piece is noted in the transaction that brings its rows.
    LoadNote = "load-note",
    /// Tables that were made for another dump are made anew.
    LoadAnew = "load-anew",

    // The relay log.
    /// Readers are told of what was synced.
    RelaySync = "relay-sync",
    /// A file whose name may be lost is not told of.
    RelayName = "relay-name",
    /// A file is complete, and synced, before the next one begins.
    RelayOrder = "relay-order",
    /// Where a log ends is read from the device, not from memory.
    RelayReadBack = "relay-read-back",
    /// What is behind the last whole transaction is cut off before a log goes on.
    RelayCut = "relay-cut",
    /// Small files are synced before they take the place of older ones.
    RelayReplace = "relay-replace",
    /// An event begins where the one before it ends.
    RelayGap = "relay-gap",
    /// A directory has one writer.
    RelayLock = "relay-lock",
    /// A sub-directory has one server's files.
    RelayServer = "relay-server",
    /// A directory has one source's log.
    RelayOther = "relay-other",
    /// Nothing is read that is not told of.
    RelayEnd = "relay-end",
    /// By GTID known transactions are not read.
    RelayUnread = "relay-unread",
    /// By position nothing is read behind a change of servers.
    RelayCross = "relay-cross",
    /// A file that was put in the place of an open one is read on.
    RelayReplaced = "relay-replaced",
    /// Nothing is purged that a subtask needs.
    RelayNeeds = "relay-needs",

    // The target's SQL.
    /// Transactions compare the fence. Without it takeovers do not move the steps either: each
    /// alone would do for what slots write.
    FenceCompare = "fence-compare",
    /// Transactions compare the step.
    StepCompare = "step-compare",
    /// Rows and progress are one transaction.
    ProgressWithRows = "progress-with-rows",
    /// A takeover looks whether somebody newer was there.
    TakeoverCompare = "takeover-compare",
    /// A takeover waits for the locks of transactions under way.
    TakeoverLocks = "takeover-locks",
    /// A takeover moves the steps, so that what was planned before does not fit any more.
    TakeoverSteps = "takeover-steps",
    /// It moves them by two, lest it looks like an applied batch.
    TakeoverTwoSteps = "takeover-two-steps",
    /// A takeover looks whether a DDL was under way, and settles it.
    DdlSettle = "ddl-settle",
    /// And ends the session that may still run it.
    DdlRunner = "ddl-runner",
}

#[cfg(any(test, madsim))]
std::thread_local! {
    static MISSING: Cell<Option<Guard>> = const { Cell::new(None) };
}

impl Guard {
    /// Whether it is in force: always, but for a thread of a simulation that does without it.
    #[inline(always)]
    #[must_use]
    pub fn holds(self) -> bool {
        #[cfg(any(test, madsim))]
        return MISSING.get() != Some(self);
        #[cfg(not(any(test, madsim)))]
        return true;
    }
}

/// Takes a guard away from this thread, if one is named, until the returned value is dropped.
#[cfg(any(test, madsim))]
pub fn without(guard: Option<Guard>) -> Without {
    Without(MISSING.replace(guard))
}

/// Puts back what was before.
#[cfg(any(test, madsim))]
#[derive(Debug)]
#[must_use = "the guard is back once this is dropped"]
pub struct Without(Option<Guard>);

#[cfg(any(test, madsim))]
impl Drop for Without {
    fn drop(&mut self) {
        MISSING.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_guard_is_missing_for_a_while() {
        {
            let _without = without(Some(Guard::ReplaySkip));
            assert!(!Guard::ReplaySkip.holds() && Guard::ConflictWait.holds());
            {
                let _without = without(None);
                assert!(Guard::ReplaySkip.holds());
            }
            assert!(!Guard::ReplaySkip.holds());
        }
        assert!(Guard::ReplaySkip.holds());
    }

    #[test]
    fn names_are_different() {
        for (index, (name, _)) in Guard::ALL.iter().enumerate() {
            let others = &Guard::ALL[index + 1..];
            assert!(others.iter().all(|(other, _)| other != name), "{name}");
        }
    }
}

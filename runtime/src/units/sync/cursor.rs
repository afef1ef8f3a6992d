//! Where in the binlog the event at hand stands.

use dm_core::{
    binlog::{Gtid, Header, Position},
    sync::progress::{Location, TxnId},
};

/// Follows the stream from event to event.
///
/// A transaction is named by where its own first event begins, not by where the one before ended:
/// a rotation may lie between, and a replay must come to the same name.
#[derive(Debug)]
pub(super) struct Cursor {
    file: String,
    txn: Option<TxnId>,
    /// Whether the planner knows of the open transaction.
    planned: bool,
}

impl Cursor {
    /// At the boundary where the stream begins.
    pub(super) fn new(boundary: &Location) -> Self {
        Self {
            file: boundary.position.file.clone(),
            txn: None,
            planned: false,
        }
    }

    /// Whether no transaction is open.
    pub(super) const fn is_at_boundary(&self) -> bool {
        self.txn.is_none()
    }

    /// Where an event begins.
    pub(super) fn start_of(&self, header: &Header) -> Position {
        let pos = header.log_pos.saturating_sub(header.event_size.into());
        Position::new(&self.file, pos)
    }

    /// Where an event ends.
    pub(super) fn end_of(&self, header: &Header) -> Position {
        Position::new(&self.file, header.log_pos)
    }

    /// The stream goes on in another file, at `pos`.
    pub(super) fn rotate(&mut self, file: String, pos: u64) -> Position {
        self.file = file;
        Position::new(&self.file, pos)
    }

    /// A transaction begins with this event.
    pub(super) fn begin(&mut self, header: &Header, gtid: Option<Gtid>) {
        self.txn = Some(TxnId {
            start: self.start_of(header),
            gtid,
        });
    }

    /// The open transaction; one that no event announced begins with this one.
    pub(super) fn txn(&mut self, header: &Header) -> &TxnId {
        let start = self.start_of(header);
        self.txn.get_or_insert(TxnId { start, gtid: None })
    }

    /// Whether the planner knows of the open transaction.
    pub(super) const fn is_planned(&self) -> bool {
        self.planned
    }

    /// The planner is told of the open transaction.
    pub(super) fn plan(&mut self, header: &Header) -> TxnId {
        self.planned = true;
        self.txn(header).clone()
    }

    /// The open transaction ends.
    pub(super) fn end(&mut self) -> Option<TxnId> {
        self.planned = false;
        self.txn.take()
    }
}

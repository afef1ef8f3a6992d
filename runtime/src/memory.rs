//! How much memory a subtask may have for rows.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A piece of a copy has at least so many bytes, however many connections there are.
const PIECE_BYTES_MIN: usize = 64 << 10;
/// Larger pieces are not faster.
const PIECE_BYTES_MAX: usize = 1 << 20;
/// A connection reads a piece while another one waits and a third is written, twice: as rows, and
/// as a packet.
const PIECES_OF_CONNECTION: usize = 4;

/// What a connection that loads files needs besides, for statements that are read: usual dump files
/// have some of a megabyte.
const FILE_BYTES: usize = 2 << 20;

/// What is not larger is not waited for, in bytes: usual dump files have statements of a megabyte.
const LARGE_BYTES_MIN: usize = if cfg!(madsim) { 120 } else { 2 << 20 };

/// Memory of each subtask for rows on their way, whether they are copied, dumped, loaded or come by
/// the binlog, in bytes. What is larger than its share goes alone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Memory(usize);

impl Memory {
    /// Less is too little to work with, in bytes.
    pub const MIN: usize = 16 << 20;
    /// More than anybody needs.
    pub const MAX: usize = 2 << 30;

    /// So many bytes, within what is possible.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(bytes.clamp(Self::MIN, Self::MAX))
    }

    /// For changes that are read and not applied yet.
    pub(crate) const fn changes(self) -> usize {
        self.0 / 5 * 4
    }

    /// For what is read ahead of those, decoded and waiting.
    pub(crate) const fn ahead(self) -> usize {
        self.0 / 5
    }

    const fn for_large_rows(self) -> usize {
        self.0 / 5 * 2
    }

    /// For large rows of a copy or a dump, each of which is copied a few times on its way.
    pub(crate) fn large_rows(self) -> Room {
        Room::new(self.for_large_rows())
    }

    /// For changes of large rows while they are written: a packet may have two bytes for one of a
    /// value, and the driver has a copy of it.
    pub(crate) fn large_changes(self) -> Room {
        Room::new(self.0 / 5)
    }

    /// Of so many connections that load files: how many there may be, and what is left for rows.
    pub(crate) fn of_files(self, connections: usize) -> (usize, Self) {
        let connections = connections.clamp(1, self.0 / 5 * 2 / FILE_BYTES);
        (connections, Self(self.0 - connections * FILE_BYTES))
    }

    /// The size of a copy's pieces, with so many connections.
    pub(crate) fn piece(self, connections: usize) -> usize {
        if cfg!(madsim) {
            // Worlds have few rows, and want many pieces of them.
            return 60;
        }
        let each = (self.0 - self.for_large_rows()) / (connections.max(1) * PIECES_OF_CONNECTION);
        each.clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX)
    }
}

/// 80 MiB.
impl Default for Memory {
    fn default() -> Self {
        Self(80 << 20)
    }
}

/// Memory that is shared by those who have something large, for as long as they have it.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    bytes: Arc<Semaphore>,
    all: usize,
}

/// What somebody has of a [`Room`]; dropped, it is given back.
pub(crate) type Large = Option<OwnedSemaphorePermit>;

impl Room {
    fn new(bytes: usize) -> Self {
        Self {
            bytes: Arc::new(Semaphore::new(bytes)),
            all: bytes,
        }
    }

    /// Whether so much has to wait until there is room for it.
    pub(crate) const fn is_large(bytes: usize) -> bool {
        bytes > LARGE_BYTES_MIN
    }

    /// Waits until there is room for something of so many bytes, if that is large. What is more
    /// than all of it goes alone.
    pub(crate) async fn take(&self, bytes: usize) -> Large {
        if !Self::is_large(bytes) {
            return None;
        }
        let bytes = u32::try_from(bytes.min(self.all)).unwrap_or(u32::MAX);
        // It is never closed.
        Arc::clone(&self.bytes).acquire_many_owned(bytes).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_too_large_goes_alone() {
        use futures_util::FutureExt as _;

        let room = Room::new(10 << 20);
        let take = |mib: usize| room.take(mib << 20).now_or_never();
        let first = take(4).unwrap();
        let second = take(6).unwrap();
        assert!(take(3).is_none());
        assert!(take(2).unwrap().is_none(), "that is not large");
        drop(first);
        assert!(take(100).is_none());
        drop(second);
        let _all = take(100).unwrap();
        assert!(take(3).is_none());
    }

    #[test]
    fn shares_are_not_more_than_there_is() {
        for memory in [Memory::new(0), Memory::default(), Memory::new(usize::MAX)] {
            let Memory(all) = memory;
            assert!(memory.changes() + memory.ahead() <= all);
            for connections in [1, 4, 16, 64] {
                let pieces = memory.piece(connections) * connections * PIECES_OF_CONNECTION;
                let most = all.max(connections * PIECES_OF_CONNECTION * PIECE_BYTES_MIN * 2);
                assert!(
                    memory.for_large_rows() + pieces <= most,
                    "{memory:?}, {connections}"
                );
            }
        }
        for memory in [Memory::new(0), Memory::default(), Memory::new(usize::MAX)] {
            for wanted in [1, 16, 64] {
                let (connections, rows) = memory.of_files(wanted);
                assert!((1..=wanted).contains(&connections));
                let pieces = rows.piece(connections) * connections * PIECES_OF_CONNECTION;
                let all = connections * FILE_BYTES + rows.for_large_rows() + pieces;
                assert!(all <= memory.0, "{memory:?}, {wanted}");
            }
        }
        assert_eq!(Memory::default().of_files(16).0, 16);
        assert_eq!(Memory::default().piece(4), PIECE_BYTES_MAX);
        assert!(Memory::default().piece(64) < PIECE_BYTES_MAX / 4);
    }
}

//! The statements of a dump file, one after the other.

use std::{io, mem, path::Path};

use bytes::Bytes;
use dm_core::{
    error::{Error, Result, code},
    full::{Compression, Splitter, is_blank},
};

use super::unpack::Unpacker;
use crate::{
    memory::{Large, Room},
    ports::disk::{Disk, File, Open},
    units::copy::pieces::Out,
};

/// So long a statement may be. Dumpers write about a megabyte, unless a single row is larger.
const STATEMENT_BYTES_MAX: usize = 256 << 20;
/// So long a row may be, for a statement to have it.
pub(super) const ROW_BYTES_MAX: usize = STATEMENT_BYTES_MAX - (1 << 20);
/// So much of a file is read at a time.
const READ_BYTES: usize = 512 << 10;

/// Reads a file from its beginning.
pub(super) struct Statements<F> {
    file: F,
    /// For messages.
    name: String,
    unpacker: Unpacker,
    /// How much of the file is read.
    at: u64,
    /// What is read and not unpacked.
    packed: Bytes,
    is_read: bool,
    /// What is unpacked and not handed out; up to `start` it was.
    text: Vec<u8>,
    start: usize,
    /// Where in all that is unpacked `text` begins.
    base: u64,
    splitter: Splitter,
    /// For the statement that is being read.
    large: Large,
}

/// A statement of a file.
#[derive(Debug)]
pub(super) struct Statement {
    /// Where it begins, in bytes of what the file has when it is unpacked.
    pub(super) at: u64,
    /// Its text, with the semicolon.
    pub(super) text: Bytes,
    /// Memory for it, if it is large.
    pub(super) large: Large,
}

impl<F: File> Statements<F> {
    pub(super) async fn open<D: Disk<File = F>>(
        disk: &D,
        path: &Path,
        compression: Compression,
    ) -> Result<Self> {
        let name = path.display().to_string();
        let unpacker = Unpacker::new(compression);
        let unpacker = unpacker.map_err(|error| unreadable(&name, &error))?;
        let file = disk.open(path, Open::Read).await;
        Ok(Self {
            file: file.map_err(|error| unreadable(&name, &error))?,
            name,
            unpacker,
            at: 0,
            packed: Bytes::new(),
            is_read: false,
            text: Vec::new(),
            start: 0,
            base: 0,
            splitter: Splitter::new(true),
            large: None,
        })
    }

    /// How many bytes of the file are read, as it is on the disk.
    pub(super) const fn read_bytes(&self) -> u64 {
        self.at
    }

    /// The next statement that is more than blanks and comments. As soon as it turns out to be a
    /// large one, waits for room for it on the way out.
    ///
    /// # Errors
    /// 34019: the file can't be read, or is not complete.
    pub(super) async fn next(&mut self, out: Option<&Out>) -> Result<Option<Statement>> {
        loop {
            let text = &self.text[self.start..];
            if let Some(len) = self.splitter.end_of(text) {
                let statement = Statement {
                    at: self.base + self.start as u64,
                    text: self.take(len),
                    large: self.large.take(),
                };
                if is_blank(&statement.text) {
                    continue;
                }
                return Ok(Some(statement));
            }
            if self.is_read {
                if is_blank(text) {
                    return Ok(None);
                }
                let end = io::Error::other("its last statement does not end");
                return Err(unreadable(&self.name, &end));
            }
            if text.len() > STATEMENT_BYTES_MAX {
                let why = format!(
                    "a statement in it has more than {} MiB",
                    STATEMENT_BYTES_MAX >> 20
                );
                return Err(unreadable(&self.name, &io::Error::other(why)));
            }
            if let Some(out) = out
                && Room::is_large(text.len())
            {
                // How long it will be nobody knows.
                out.wait_for_room(STATEMENT_BYTES_MAX, &mut self.large)
                    .await;
            }
            self.fill().await?;
        }
    }

    /// Takes so much of what is not handed out; what is long is not copied.
    fn take(&mut self, len: usize) -> Bytes {
        if self.start == 0 && len > self.text.len() / 2 {
            let rest = self.text.split_off(len);
            self.base += len as u64;
            return Bytes::from(mem::replace(&mut self.text, rest));
        }
        let end = self.start + len;
        let text = Bytes::copy_from_slice(&self.text[self.start..end]);
        self.start = end;
        text
    }

    async fn fill(&mut self) -> Result<()> {
        self.text.drain(..self.start);
        self.base += self.start as u64;
        self.start = 0;
        if self.packed.is_empty() {
            let read = self.file.read_at(self.at, READ_BYTES).await;
            self.packed = read.map_err(|error| unreadable(&self.name, &error))?;
            self.at += self.packed.len() as u64;
            self.is_read = self.packed.is_empty();
        }
        let unpacked = if self.is_read {
            self.unpacker.finish(&mut self.text)
        } else {
            let step = self.unpacker.step().min(self.packed.len());
            self.unpacker
                .push(&self.packed.split_to(step), &mut self.text)
        };
        unpacked.map_err(|error| unreadable(&self.name, &error))
    }
}

/// Of a file that can't be used as it is.
pub(super) fn unreadable(name: &str, error: &io::Error) -> Error {
    Error::new(
        &code::LOAD_LIGHTNING_RUNTIME,
        format!("the dump file {name} can't be read"),
    )
    .with_cause(error.to_string())
    .with_workaround("Look whether the dump is complete and readable for the worker, or dump anew.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::LocalDisk;

    /// Small ones and large ones, whatever of them is read at a time.
    #[tokio::test]
    async fn statements_come_one_after_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.t.0.sql");
        let row = |bytes: usize| format!("INSERT INTO t VALUES ('{}');", "x;".repeat(bytes / 2));
        let sizes = [3, READ_BYTES, 10, 5 * READ_BYTES + 7, 1, 3 * READ_BYTES, 2];
        let all: Vec<_> = sizes.into_iter().map(row).collect();
        std::fs::write(&path, all.join("\n-- a word\n")).unwrap();
        let opened = Statements::open(&LocalDisk, &path, Compression::None).await;
        let mut statements = opened.unwrap();
        let mut at = 0;
        for statement in &all {
            let found = statements.next(None).await.unwrap().unwrap();
            let text = String::from_utf8(found.text.to_vec()).unwrap();
            // With what stands before it.
            assert!(text.ends_with(statement) && text.len() < statement.len() + 15);
            assert_eq!(found.at, at);
            at += text.len() as u64;
        }
        assert!(statements.next(None).await.unwrap().is_none());
    }
}

//! A binlog file, read from its beginning in pieces.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use dm_core::{
    binlog::{Flavor, HEADER_LEN},
    error::{Error, Result, code},
    relay::{Scan, Tail},
};

/// Bytes that are read at once, unless an event is longer.
const CHUNK: u64 = 1 << 20;

/// A file that is being read. What is appended to it meanwhile does not count.
pub(super) struct Reading {
    file: File,
    path: PathBuf,
    len: u64,
    read: u64,
    /// What was read and is in no piece yet.
    buffer: Bytes,
}

impl Reading {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let opened = File::open(path).and_then(|file| {
            let len = file.metadata()?.len();
            Ok((file, len))
        });
        let (file, len) = opened.map_err(|error| {
            let message = format!("cannot open {}", path.display());
            Error::new(&code::BINLOG_WRITER_OPEN_FILE, message)
                .with_cause(error.to_string())
                .with_workaround("Let it be readable for who runs this.")
        })?;
        let mut reading = Self {
            file,
            path: path.to_owned(),
            len,
            read: 0,
            buffer: Bytes::new(),
        };
        reading.fill(HEADER_LEN)?;
        Ok(reading)
    }

    /// Length of the file.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// Which family of servers wrote it; to be asked before anything is taken out.
    pub(super) fn flavor(&self) -> Flavor {
        Scan::flavor(&self.buffer)
    }

    /// The next piece, as `scan` wants it; `None` where not all of it is there.
    ///
    /// # Errors
    /// It can't be read, or what is there is the beginning of no piece.
    pub(super) fn piece(&mut self, scan: &Scan) -> Result<Option<Bytes>> {
        loop {
            let want = scan.wants(&self.buffer)?;
            if want <= self.buffer.len() {
                return Ok(Some(self.buffer.split_to(want)));
            }
            // A length may be anything. Memory is taken only for what is there.
            let left = self.len - self.read;
            if (want - self.buffer.len()) as u64 > left {
                if self.buffer.len() < HEADER_LEN && left > 0 {
                    self.fill(HEADER_LEN)?;
                }
                return Ok(None);
            }
            self.fill(want)?;
        }
    }

    /// What is left where [`piece`](Self::piece) returned `None`, or some bytes of it.
    pub(super) fn rest(&self) -> Vec<u8> {
        self.buffer[..self.buffer.len().min(HEADER_LEN)].to_vec()
    }

    /// Reads all of it.
    pub(super) fn scan(&mut self, scan: &mut Scan) -> Tail {
        loop {
            match self.piece(scan) {
                Ok(Some(piece)) => {
                    if let Err(error) = scan.take(&piece) {
                        return Tail::Broken(error);
                    }
                }
                Ok(None) => return Tail::Rest(self.rest()),
                Err(error) => return Tail::Broken(error),
            }
        }
    }

    /// Reads on until there are `want` bytes, or the file ends.
    fn fill(&mut self, want: usize) -> Result<()> {
        let missing = want.saturating_sub(self.buffer.len()) as u64;
        let more = missing.max(CHUNK).min(self.len - self.read);
        let mut bytes = Vec::with_capacity(self.buffer.len() + more as usize);
        bytes.extend_from_slice(&self.buffer);
        let got = (&self.file).take(more).read_to_end(&mut bytes);
        let got = got.map_err(|error| self.failed(&error))? as u64;
        self.read += got;
        if got < more {
            // Somebody cut it.
            self.len = self.read;
        }
        self.buffer = bytes.into();
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> Error {
        let (path, read) = (self.path.display(), self.read);
        let message = format!("cannot read {path} behind offset {read}");
        Error::new(&code::RELAY_WRITER_FILE_OPERATE, message)
            .with_cause(error.to_string())
            .with_workaround("Look for errors of the disk in the log of the machine.")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SAMPLE: &[u8] = include_bytes!("../../../core/testdata/binlog/mysql-sample.binlog");

    fn read(bytes: &[u8]) -> (Scan, Tail) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.000001");
        fs::write(&path, bytes).unwrap();
        let mut reading = Reading::open(&path).unwrap();
        assert_eq!(reading.len(), bytes.len() as u64);
        let mut scan = Scan::new(reading.flavor());
        let tail = reading.scan(&mut scan);
        (scan, tail)
    }

    /// An event of any length, whose checksum is right.
    fn event(start: usize, len: usize) -> Vec<u8> {
        let mut event = vec![0; len - 4];
        event[4] = 29;
        event[9..13].copy_from_slice(&(len as u32).to_le_bytes());
        event[13..17].copy_from_slice(&((start + len) as u32).to_le_bytes());
        let mut crc = flate2::Crc::new();
        crc.update(&event);
        event.extend_from_slice(&crc.sum().to_le_bytes());
        event
    }

    #[test]
    fn events_may_be_longer_than_what_is_read_at_once() {
        let mut bytes = SAMPLE[..198].to_vec();
        for len in [100, 1 << 20, 3_000_001, 23, (1 << 20) - 1, 50] {
            let event = event(bytes.len(), len);
            bytes.extend(event);
        }
        let (scan, tail) = read(&bytes);
        assert_eq!(
            (scan.end(), tail),
            (bytes.len() as u64, Tail::Rest(Vec::new()))
        );
        let (scan, tail) = read(&bytes[..bytes.len() - 30]);
        assert_eq!(scan.end(), bytes.len() as u64 - 50);
        assert!(matches!(tail, Tail::Rest(rest) if rest.len() == 19));
    }

    #[test]
    fn a_length_beyond_the_end_takes_no_memory() {
        let mut bytes = SAMPLE.to_vec();
        bytes[198 + 9..198 + 13].copy_from_slice(&u32::MAX.to_le_bytes());
        let (scan, tail) = read(&bytes);
        assert_eq!(scan.end(), 198);
        assert!(matches!(tail, Tail::Rest(rest) if !scan.is_beginning(&rest)));
    }

    #[test]
    fn every_length_is_read_to_its_end() {
        for len in 0..300 {
            let (scan, tail) = read(&SAMPLE[..len]);
            let left = len - scan.end() as usize;
            assert_eq!(
                tail,
                Tail::Rest(SAMPLE[len - left..len][..left.min(19)].to_vec())
            );
        }
    }
}

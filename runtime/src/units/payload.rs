//! A compressed transaction (MySQL's TRANSACTION_PAYLOAD), opened event by event.

use std::{
    fmt,
    io::{Cursor, Read},
};

use bytes::Bytes;
use dm_core::{
    binlog::{HEADER_LEN, Header, PayloadCompression},
    error::{Error, Result, code},
};

/// A larger event inside is refused; no server writes one.
const EVENT_BYTES_MAX: u32 = 1 << 30;

/// What is left of it.
pub(crate) struct Payload {
    plain: Box<dyn Read + Send>,
    /// Bytes that are still to come, by what the event announced.
    left: u64,
}

impl Payload {
    /// # Errors
    /// The decompressor can't be had.
    pub(crate) fn open(compression: PayloadCompression, size: u64, body: Bytes) -> Result<Self> {
        let body = Cursor::new(body);
        let plain: Box<dyn Read + Send> = match compression {
            PayloadCompression::None => Box::new(body),
            PayloadCompression::Zstd => {
                Box::new(zstd::Decoder::with_buffer(body).map_err(|error| damaged(&error))?)
            }
        };
        Ok(Self { plain, left: size })
    }

    /// The next event as a whole, `None` behind the last.
    ///
    /// # Errors
    /// It can't be decompressed, it is no event, or there are more or fewer bytes than announced.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>> {
        if self.left == 0 {
            return match self.plain.read(&mut [0]) {
                Ok(0) => Ok(None),
                Ok(_) => Err(damaged(&"there is more in it than it announces")),
                Err(error) => Err(damaged(&error)),
            };
        }
        let mut event = Vec::new();
        self.read(&mut event, HEADER_LEN)?;
        let size = Header::peek(&event)?.event_size;
        if size > EVENT_BYTES_MAX {
            return Err(damaged(&format!("an event in it has {size} bytes")));
        }
        self.read(&mut event, size as usize - HEADER_LEN)?;
        Ok(Some(event.into()))
    }

    /// Appends exactly `len` bytes. The memory grows as they really come.
    fn read(&mut self, out: &mut Vec<u8>, len: usize) -> Result<()> {
        self.left = self
            .left
            .checked_sub(len as u64)
            .ok_or_else(|| damaged(&"an event in it passes its end"))?;
        let read = self.plain.by_ref().take(len as u64).read_to_end(out);
        match read {
            Ok(read) if read == len => Ok(()),
            Ok(_) => Err(damaged(&"there is less in it than it announces")),
            Err(error) => Err(damaged(&error)),
        }
    }
}

fn damaged(why: &dyn fmt::Display) -> Error {
    Error::new(&code::SYNCER_GET_EVENT, "a compressed event can't be read")
        .with_cause(why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An event of `len` bytes.
    fn event(len: usize) -> Vec<u8> {
        let mut event = vec![7; len];
        event[9..13].copy_from_slice(&(len as u32).to_le_bytes());
        event
    }

    fn open(plain: &[u8], size: usize) -> Payload {
        let body = zstd::encode_all(plain, 3).unwrap();
        Payload::open(PayloadCompression::Zstd, size as u64, body.into()).unwrap()
    }

    /// All events, or what is wrong.
    fn all(mut payload: Payload) -> Result<Vec<Bytes>> {
        std::iter::from_fn(|| payload.next().transpose()).collect()
    }

    #[test]
    fn events_come_out_as_they_went_in() {
        let events = [event(19), event(300_000), event(23)];
        let plain = events.concat();
        assert_eq!(all(open(&plain, plain.len())).unwrap(), events);
        let size = plain.len() as u64;
        let stored = Payload::open(PayloadCompression::None, size, plain.into()).unwrap();
        assert_eq!(all(stored).unwrap(), events);
    }

    #[test]
    fn sizes_that_contradict_each_other_are_refused() {
        let plain = [event(40), event(50)].concat();
        for size in [39, 41, 89, 91, 1 << 40] {
            assert!(all(open(&plain, size)).is_err(), "{size}");
        }
        let mut tiny = event(40);
        tiny[9] = 18;
        assert!(all(open(&tiny, 40)).is_err());
    }

    /// A header may claim what it likes: memory is only taken for bytes that come.
    #[test]
    fn a_huge_event_is_refused_without_room_for_it() {
        for claimed in [1_u32 << 29, u32::MAX] {
            let mut plain = event(40);
            plain[9..13].copy_from_slice(&claimed.to_le_bytes());
            assert!(all(open(&plain, 1 << 40)).is_err());
        }
    }

    #[test]
    fn a_damaged_body_is_refused() {
        let plain = event(5000);
        let body = zstd::encode_all(&*plain, 3).unwrap();
        for cut in 0..body.len() {
            let body = Bytes::copy_from_slice(&body[..cut]);
            let payload = Payload::open(PayloadCompression::Zstd, 5000, body);
            assert!(payload.and_then(all).is_err(), "{cut}");
        }
    }
}

//! Recorded runs on disk.
//!
//! ```text
//! magic "dm-sim" | version u16 | length of the payload u64 | payload | CRC-32 of the payload
//! ```
//!
//! All numbers little-endian; the payload is bincode 1.3 of a [`Recording`]. This module is the
//! only one that knows. The crate is not maintained any more (RUSTSEC-2025-0141, which names no
//! weakness); the simulated runtime depends on the same version, and `wincode` reads and writes the
//! same bytes, should that ever have to change.

use std::fmt;

use bincode::Options;
use serde::{Deserialize, Serialize};

use crate::{record::Record, scenario::Scenario};

const MAGIC: &[u8; 6] = b"dm-sim";
/// Changes with everything that a recording is made of.
const VERSION: u16 = 3;
const HEADER_LEN: usize = MAGIC.len() + 2 + 8;
const CHECKSUM_LEN: usize = 4;

/// A run that can be played again as it was, whatever its seed would be drawn into today.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Recording {
    /// What was played.
    pub scenario: Scenario,
    /// Name of the guard that was switched off.
    pub without: Option<String>,
    /// What came of it.
    pub record: Record,
}

/// Why something is not a recording.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CodecError {
    /// It does not begin as one.
    NotARecording,
    /// It is of another version of this format.
    Version(u16),
    /// It ends too early, or too late.
    Length,
    /// Its checksum is another one.
    Checksum,
    /// Its payload is nothing that was recorded.
    Payload(String),
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotARecording => f.write_str("this is not a recorded run"),
            Self::Version(version) => write!(
                f,
                "the run was recorded in version {version} of the format, this program reads \
                 {VERSION}: replay it with the commit that recorded it"
            ),
            Self::Length => f.write_str("the recording is cut off, or has a tail"),
            Self::Checksum => f.write_str("the recording is damaged: its checksum differs"),
            Self::Payload(why) => write!(f, "the recording can't be read: {why}"),
        }
    }
}

impl std::error::Error for CodecError {}

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding()
}

impl Recording {
    /// The bytes of a file.
    ///
    /// # Errors
    /// None that a recording can have; the crate does not promise it.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        let payload = options().serialize(self).map_err(payload)?;
        let mut bytes = Vec::with_capacity(HEADER_LEN + payload.len() + CHECKSUM_LEN);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&payload);
        bytes.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
        Ok(bytes)
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// They are not what [`encode`](Self::encode) has written.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(CodecError::NotARecording)?;
        let (version, rest) = rest.split_first_chunk().ok_or(CodecError::Length)?;
        let version = u16::from_le_bytes(*version);
        if version != VERSION {
            return Err(CodecError::Version(version));
        }
        let (length, rest) = rest.split_first_chunk().ok_or(CodecError::Length)?;
        let (body, sum) = rest.split_last_chunk().ok_or(CodecError::Length)?;
        if body.len() as u64 != u64::from_le_bytes(*length) {
            return Err(CodecError::Length);
        }
        if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
            return Err(CodecError::Checksum);
        }
        // What it claims to hold must be in it.
        let limited = options().with_limit(body.len() as u64);
        let recording: Self = limited.deserialize(body).map_err(payload)?;
        recording.scenario.check().map_err(CodecError::Payload)?;
        Ok(recording)
    }
}

fn payload(error: bincode::Error) -> CodecError {
    CodecError::Payload(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording() -> Recording {
        Recording {
            scenario: Scenario::draw(3),
            without: Some("a guard".to_owned()),
            record: Record {
                hash: 7,
                counts: [("order".into(), 2)].into(),
                ..Record::default()
            },
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = recording().encode().expect("a recording");
        assert_eq!(Recording::decode(&bytes), Ok(recording()));
    }

    /// A damaged file is refused, wherever the damage is, and never makes the reader panic.
    #[test]
    fn damage_is_noticed() {
        let bytes = recording().encode().expect("a recording");
        for len in 0..bytes.len() {
            assert!(Recording::decode(&bytes[..len]).is_err(), "{len} bytes");
        }
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x10;
            assert!(Recording::decode(&damaged).is_err(), "byte {place}");
        }
        let mut longer = bytes;
        longer.push(0);
        assert_eq!(Recording::decode(&longer), Err(CodecError::Length));
    }

    /// What was well written may still be nothing that can be played.
    #[test]
    fn a_scenario_that_nobody_can_play_is_refused() {
        let mut recording = recording();
        recording.scenario.workers.clear();
        let bytes = recording.encode().expect("a recording");
        let refused = Recording::decode(&bytes);
        assert!(
            matches!(refused, Err(CodecError::Payload(_))),
            "{refused:?}"
        );
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = recording().encode().expect("a recording");
        bytes[MAGIC.len()] = 9;
        assert_eq!(Recording::decode(&bytes), Err(CodecError::Version(9)));
    }
}

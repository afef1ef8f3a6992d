//! Unpacks what comes piece by piece.

use std::{
    io::{self, ErrorKind, Read, Write},
    mem,
};

use dm_core::full::Compression;
use flate2::write::MultiGzDecoder;
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

/// So much is unpacked at a time: what is packed well becomes a thousand times as much.
const STEP: usize = 16 << 10;
/// What a Snappy stream begins with, which a decoder wants to see.
const SNAPPY_HEAD: &[u8] = b"\xff\x06\x00\x00sNaPpY";
/// Before each chunk of a Snappy stream: what it is, and its length in three bytes.
const SNAPPY_CHUNK_HEAD: usize = 4;

/// Unpacks a file.
pub(super) enum Unpacker {
    Plain,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    Zstd {
        decoder: Box<Decoder<'static>>,
        /// Whether a frame has begun that is not over.
        is_inside: bool,
    },
    /// What has come of a chunk.
    Snappy(Vec<u8>),
}

impl Unpacker {
    pub(super) fn new(compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::Plain,
            Compression::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
            Compression::Zstd => Self::Zstd {
                decoder: Box::new(Decoder::new()?),
                is_inside: false,
            },
            Compression::Snappy => Self::Snappy(Vec::new()),
        })
    }

    /// How much may be handed over at a time.
    pub(super) const fn step(&self) -> usize {
        match self {
            Self::Plain => usize::MAX,
            _ => STEP,
        }
    }

    /// Appends what these bytes of the file become.
    ///
    /// # Errors
    /// The file is damaged.
    pub(super) fn push(&mut self, packed: &[u8], into: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Plain => into.extend_from_slice(packed),
            Self::Gzip(decoder) => {
                decoder.write_all(packed)?;
                // What is inside comes out as soon as it can.
                decoder.flush()?;
                into.append(decoder.get_mut());
            }
            Self::Zstd { decoder, is_inside } => {
                let mut input = InBuffer::around(packed);
                let mut buffer = [0; STEP];
                loop {
                    let mut output = OutBuffer::around(&mut buffer[..]);
                    let hint = decoder.run(&mut input, &mut output)?;
                    *is_inside = hint != 0;
                    let is_full = output.pos() == STEP;
                    into.extend_from_slice(output.as_slice());
                    if input.pos() == packed.len() && !is_full {
                        break;
                    }
                }
            }
            Self::Snappy(pending) => {
                pending.extend_from_slice(packed);
                let mut rest = &**pending;
                while let [kind, a, b, c, ..] = *rest
                    && let len = SNAPPY_CHUNK_HEAD + u32::from_le_bytes([a, b, c, 0]) as usize
                    && let Some((chunk, behind)) = rest.split_at_checked(len)
                {
                    rest = behind;
                    if kind != SNAPPY_HEAD[0] {
                        let mut decoder = snap::read::FrameDecoder::new(SNAPPY_HEAD.chain(chunk));
                        decoder.read_to_end(into)?;
                    } else if chunk != SNAPPY_HEAD {
                        return Err(ErrorKind::InvalidData.into());
                    }
                }
                let done = pending.len() - rest.len();
                pending.drain(..done);
            }
        }
        Ok(())
    }

    /// The file is over: appends what is left.
    ///
    /// # Errors
    /// It is not complete.
    pub(super) fn finish(&mut self, into: &mut Vec<u8>) -> io::Result<()> {
        let is_whole = match self {
            Self::Plain => true,
            Self::Gzip(decoder) => {
                decoder.try_finish()?;
                into.append(&mut mem::take(decoder.get_mut()));
                true
            }
            Self::Zstd { is_inside, .. } => !*is_inside,
            Self::Snappy(pending) => pending.is_empty(),
        };
        if is_whole {
            return Ok(());
        }
        Err(ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
mod tests {
    use flate2::write::GzEncoder;

    use super::*;

    const ALL: [Compression; 4] = [
        Compression::None,
        Compression::Gzip,
        Compression::Zstd,
        Compression::Snappy,
    ];

    /// As others pack it, in two streams behind one another.
    fn packed(compression: Compression, text: &[u8]) -> Vec<u8> {
        let (first, second) = text.split_at(text.len() / 3);
        let pack = |part: &[u8]| match compression {
            Compression::None => part.to_vec(),
            Compression::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(part).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Zstd => zstd::encode_all(part, 1).unwrap(),
            Compression::Snappy => {
                let mut encoder = snap::write::FrameEncoder::new(Vec::new());
                encoder.write_all(part).unwrap();
                encoder.into_inner().unwrap()
            }
        };
        [pack(first), pack(second)].concat()
    }

    fn unpacked(compression: Compression, packed: &[u8], step: usize) -> io::Result<Vec<u8>> {
        let mut unpacker = Unpacker::new(compression)?;
        let mut text = Vec::new();
        for piece in packed.chunks(step) {
            unpacker.push(piece, &mut text)?;
        }
        unpacker.finish(&mut text)?;
        Ok(text)
    }

    fn text() -> Vec<u8> {
        let mut text: Vec<u8> = (0..300_000_u32)
            .flat_map(|i| i.wrapping_mul(i).to_le_bytes())
            .collect();
        text.extend([7; 500_000]);
        text
    }

    #[test]
    fn what_was_packed_comes_out() {
        let text = text();
        for compression in ALL {
            let packed = packed(compression, &text);
            for step in [1 << 20, STEP, 1009] {
                let out = unpacked(compression, &packed, step).unwrap();
                assert!(out == text, "{compression:?} by {step}");
            }
        }
    }

    #[test]
    fn what_is_not_whole_is_noticed() {
        let text = text();
        for compression in [Compression::Gzip, Compression::Zstd, Compression::Snappy] {
            let packed = packed(compression, &text);
            for cut in [1, 5, packed.len() / 2] {
                let part = &packed[..packed.len() - cut];
                let out = unpacked(compression, part, STEP);
                assert!(out.is_err(), "{compression:?} without {cut} bytes");
            }
            let mut damaged = packed;
            let middle = damaged.len() / 2;
            damaged[middle] ^= 0x55;
            let out = unpacked(compression, &damaged, STEP);
            assert!(out.is_err() || out.unwrap() != text, "{compression:?}");
        }
    }

    #[test]
    fn nothing_becomes_nothing() {
        for compression in ALL {
            let packed = packed(compression, b"");
            assert_eq!(unpacked(compression, &packed, STEP).unwrap(), b"");
        }
    }
}

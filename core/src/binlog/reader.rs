//! A bounds-checked cursor over little-endian wire data.

use alloc::string::String;
use core::ops::Range;

use super::{BinlogError, Result};

/// Reads forward through the bytes of one structure; every read that would pass the end is an error
/// naming that structure.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    data: &'a [u8],
    at: usize,
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub(super) fn new(data: &'a [u8], what: &'static str) -> Self {
        Self { data, at: 0, what }
    }

    /// Offset of the next byte from the start of the structure.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn remaining(&self) -> usize {
        self.data.len() - self.at
    }

    pub(super) fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    pub(super) fn truncated(&self) -> BinlogError {
        BinlogError::Truncated(self.what)
    }

    pub(super) fn malformed(&self) -> BinlogError {
        BinlogError::Malformed(self.what)
    }

    /// The next `len` bytes, as a range of the structure.
    pub(super) fn range(&mut self, len: usize) -> Result<Range<usize>> {
        if len > self.remaining() {
            return Err(self.truncated());
        }
        let start = self.at;
        self.at += len;
        Ok(start..self.at)
    }

    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8]> {
        let range = self.range(len)?;
        Ok(&self.data[range])
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.bytes(N)?);
        Ok(out)
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        let rest = &self.data[self.at..];
        self.at = self.data.len();
        rest
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A table id: six bytes.
    pub(super) fn u48(&mut self) -> Result<u64> {
        Ok(little_endian(self.bytes(6)?))
    }

    /// A length-encoded integer of the MySQL protocol.
    pub(super) fn lenenc(&mut self) -> Result<u64> {
        let len = match self.u8()? {
            small @ 0..=250 => return Ok(u64::from(small)),
            0xfc => 2,
            0xfd => 3,
            0xfe => 8,
            _ => return Err(self.malformed()),
        };
        Ok(little_endian(self.bytes(len)?))
    }

    /// A length-encoded integer that counts bytes still to come.
    pub(super) fn lenenc_len(&mut self) -> Result<usize> {
        let len = self.lenenc()?;
        usize::try_from(len).map_err(|_| self.truncated())
    }

    /// A string with a length-encoded length. Identifiers are UTF-8 on the wire; what is not is
    /// replaced rather than refused, since only names of other tables can be affected.
    pub(super) fn lenenc_str(&mut self) -> Result<String> {
        let len = self.lenenc_len()?;
        Ok(text(self.bytes(len)?))
    }

    /// What is before the next zero byte, which is skipped.
    pub(super) fn until_zero(&mut self) -> Result<&'a [u8]> {
        let len = self.data[self.at..].iter().position(|byte| *byte == 0);
        let bytes = self.bytes(len.ok_or_else(|| self.truncated())?)?;
        self.at += 1;
        Ok(bytes)
    }

    /// A string with a one-byte length.
    pub(super) fn short_str(&mut self) -> Result<String> {
        let len = usize::from(self.u8()?);
        Ok(text(self.bytes(len)?))
    }

    /// A string with a one-byte length and a terminating zero behind it.
    pub(super) fn short_str_zero(&mut self) -> Result<String> {
        let out = self.short_str()?;
        match self.u8()? {
            0 => Ok(out),
            _ => Err(self.malformed()),
        }
    }

    /// A variable-length unsigned integer of MySQL's serialization library: as many trailing one
    /// bits in the first byte as there are further bytes.
    pub(super) fn varlen(&mut self) -> Result<u64> {
        let first = self.u8()?;
        let extra = first.trailing_ones() as usize;
        let tail = little_endian(self.bytes(extra)?);
        Ok(match extra {
            8 => tail,
            7 => tail,
            _ => (tail << (7 - extra)) | (u64::from(first) >> (extra + 1)),
        })
    }

    /// The signed form of [`Self::varlen`]: the lowest bit is the sign.
    pub(super) fn varlen_signed(&mut self) -> Result<i64> {
        let raw = self.varlen()?;
        let magnitude = (raw >> 1) as i64;
        Ok(if raw & 1 == 1 { !magnitude } else { magnitude })
    }
}

/// At most eight little-endian bytes as a number.
pub(super) fn little_endian(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

/// At most eight big-endian bytes as a number.
pub(super) fn big_endian(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Appends `value` in the form that [`Reader::varlen`] reads.
pub(super) fn write_varlen(out: &mut alloc::vec::Vec<u8>, value: u64) {
    let bits = 64 - value.leading_zeros() as usize;
    let extra = bits.saturating_sub(1) / 7;
    if extra >= 8 {
        out.push(0xff);
        out.extend_from_slice(&value.to_le_bytes());
        return;
    }
    let marked = (value << (extra + 1)) | ((1 << extra) - 1);
    out.extend_from_slice(&marked.to_le_bytes()[..=extra]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn varlen_round_trip(value: u64, shift in 0u32..64) {
            let value = value >> shift;
            let mut out = alloc::vec::Vec::new();
            write_varlen(&mut out, value);
            let mut reader = Reader::new(&out, "test");
            prop_assert_eq!(reader.varlen().unwrap(), value);
            prop_assert!(reader.is_empty());
        }
    }

    #[test]
    fn varlen_as_documented_by_mysql() {
        let cases: [(&[u8], u64, i64); 3] = [
            (&[0xfb, 0xff, 0x07], 65535, -32768),
            (&[0xf3, 0xff, 0x0f], 131_070, 65535),
            (&[0xeb, 0xff, 0x0f], 131_069, -65535),
        ];
        for (bytes, unsigned, signed) in cases {
            assert_eq!(Reader::new(bytes, "test").varlen(), Ok(unsigned));
            assert_eq!(Reader::new(bytes, "test").varlen_signed(), Ok(signed));
        }
    }

    #[test]
    fn reads_stop_at_the_end() {
        let mut reader = Reader::new(&[0xfe, 1, 2], "test");
        assert_eq!(reader.lenenc(), Err(BinlogError::Truncated("test")));
        assert_eq!(
            Reader::new(&[0xff], "t").lenenc(),
            Err(BinlogError::Malformed("t"))
        );
    }
}

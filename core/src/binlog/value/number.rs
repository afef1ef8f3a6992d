use alloc::vec::Vec;
use core::fmt::{self, Write};

use super::super::{BinlogError, Result, column::digits_len, reader::big_endian};

/// The two digits of every number below 100.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut n = 0;
    while n < 100 {
        pairs[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
        n += 1;
    }
    pairs
};

/// Digits of the largest `u64`.
const DIGITS_MAX: usize = 20;

/// Appends a number in decimal.
pub(super) fn write_u64(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; DIGITS_MAX];
    let mut at = DIGITS_MAX;
    while value >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[(value % 100) as usize]);
        value /= 100;
    }
    if value > 0 || at == DIGITS_MAX {
        at -= 1;
        digits[at] = b'0' + value as u8;
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends the lowest two decimal digits.
pub(super) fn write_2(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&PAIRS[(value % 100) as usize]);
}

/// Appends the lowest `len` decimal digits, with zeros in front.
pub(super) fn write_padded(out: &mut Vec<u8>, mut value: u64, len: usize) {
    let start = out.len();
    out.resize(start + len, b'0');
    for byte in out[start..].iter_mut().rev() {
        *byte = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Appends the shortest digits that make the same number again, with an exponent: that makes it a
/// DOUBLE for the target, where plain digits would be a DECIMAL first.
pub(super) fn write_double(out: &mut Vec<u8>, value: f64) -> Result<()> {
    if !value.is_finite() {
        return Err(BinlogError::Malformed("floating-point value"));
    }
    append(out, format_args!("{value:e}"));
    Ok(())
}

/// Appends packed single-precision numbers as `'[1,2.5]'`.
pub(super) fn write_vector(out: &mut Vec<u8>, value: &[u8]) -> Result<()> {
    let (numbers, rest) = value.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(BinlogError::Malformed("vector value"));
    }
    out.extend_from_slice(b"'[");
    for (index, bytes) in numbers.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        append(out, format_args!("{:e}", f32::from_le_bytes(*bytes)));
    }
    out.extend_from_slice(b"]'");
    Ok(())
}

/// Appends formatted text to bytes.
pub(super) fn append(out: &mut Vec<u8>, args: fmt::Arguments<'_>) {
    struct Sink<'a>(&'a mut Vec<u8>);
    impl Write for Sink<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }
    // The sink never fails, and neither do the numbers written to it.
    let _ = Sink(out).write_fmt(args);
}

/// Appends a DECIMAL: groups of nine digits in four bytes each, big-endian, the one left over at
/// each end in fewer; the first bit is set when positive, all bits are flipped when negative.
pub(super) fn write_decimal(
    out: &mut Vec<u8>,
    precision: u8,
    scale: u8,
    value: &[u8],
) -> Result<()> {
    let (Some(first), whole) = (value.first(), precision - scale) else {
        return Err(BinlogError::Malformed("decimal value"));
    };
    let flip = if first & 0x80 == 0 { 0xff } else { 0 };
    // 65 digits take at most 30 bytes, MariaDB's 38 behind the point one more.
    let mut bytes = [0; 36];
    let len = value.len().min(bytes.len());
    for (to, from) in bytes.iter_mut().zip(value) {
        *to = from ^ flip;
    }
    bytes[0] ^= 0x80;
    let (before, after) = bytes[..len].split_at(usize::from(digits_len(whole)).min(len));
    if flip != 0 {
        out.push(b'-');
    }
    let start = out.len();
    let (head, groups) = before.split_at(before.len() % 4);
    let heads = [(head, usize::from(whole % 9))];
    let groups = groups.chunks_exact(4).map(|group| (group, 9));
    for (group, digits) in heads.into_iter().chain(groups) {
        match (group_value(group, digits)?, out.len() == start) {
            // Zeros in front are left out.
            (0, true) => {}
            (number, true) => write_u64(out, number),
            (number, false) => write_padded(out, number, digits),
        }
    }
    if out.len() == start {
        out.push(b'0');
    }
    if scale > 0 {
        out.push(b'.');
        let (groups, tail) = after.split_at(usize::from(scale / 9) * 4);
        let groups = groups.chunks_exact(4).map(|group| (group, 9));
        for (group, digits) in groups.chain([(tail, usize::from(scale % 9))]) {
            write_padded(out, group_value(group, digits)?, digits);
        }
    }
    Ok(())
}

/// The number in a group of at most nine digits.
fn group_value(group: &[u8], digits: usize) -> Result<u64> {
    let number = big_endian(group);
    if number < 10u64.pow(digits as u32) {
        Ok(number)
    } else {
        Err(BinlogError::Malformed("decimal value"))
    }
}

use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use super::{
    super::{BinlogError, ColumnKind, Result, charset::latin1},
    Charset, ColumnHint, Dialect, Form,
    number::append,
};

/// Appends a character or binary value.
pub(super) fn write(
    out: &mut Vec<u8>,
    kind: ColumnKind,
    charset: Charset,
    hint: &ColumnHint,
    value: &[u8],
) -> Result<()> {
    match hint.form {
        Form::Plain | Form::Json | Form::Vector => {}
        Form::Uuid | Form::Inet4 | Form::Inet6 => return write_address(out, hint.form, value),
    }
    match charset {
        Charset::Binary => {
            // BINARY(n) comes without the zero bytes at its end.
            let source = match kind {
                ColumnKind::Fixed { bytes_max } => usize::from(bytes_max),
                _ => 0,
            };
            let target = hint.binary_len.map_or(0, |len| len as usize);
            write_binary(out, value, source.max(target));
        }
        Charset::Utf8 if core::str::from_utf8(value).is_ok() => write_quoted(out, value),
        // Never seen from a healthy table. The target says what it thinks of it.
        Charset::Utf8 => write_binary(out, value, value.len()),
        Charset::Latin1 if value.is_ascii() => write_quoted(out, value),
        Charset::Latin1 => write_latin1(out, value),
        Charset::Other(_) if value.is_ascii() => write_quoted(out, value),
        Charset::Other(name) | Charset::Wide(name) => write_introduced(out, name, hint, value)?,
    }
    Ok(())
}

/// Bytes that may not stand for themselves in a quoted literal, with what stands behind their
/// backslash.
const ESCAPE: [u8; 256] = {
    let mut table = [0; 256];
    table[0] = b'0';
    table[b'\'' as usize] = b'\'';
    table[b'\\' as usize] = b'\\';
    table
};

/// Appends `value` with escapes.
fn write_escaped(out: &mut Vec<u8>, value: &[u8]) {
    let mut rest = value;
    while let Some(at) = find_special(rest) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(&[b'\\', ESCAPE[usize::from(rest[at])]]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Where the first byte to escape is. Eight bytes at a time: values are long and such bytes rare.
fn find_special(value: &[u8]) -> Option<usize> {
    /// The highest bit of each byte that is zero (and maybe of some behind it).
    const fn zeros(word: u64) -> u64 {
        word.wrapping_sub(EACH) & !word & (EACH << 7)
    }
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    let (words, tail) = value.as_chunks::<8>();
    for (index, bytes) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*bytes);
        let quotes = zeros(word ^ (EACH * b'\'' as u64));
        let backslashes = zeros(word ^ (EACH * b'\\' as u64));
        // The lowest of the marked bits is right in each.
        let special = zeros(word) | quotes | backslashes;
        if special != 0 {
            return Some(index * 8 + special.trailing_zeros() as usize / 8);
        }
    }
    let at = tail
        .iter()
        .position(|byte| ESCAPE[usize::from(*byte)] != 0)?;
    Some(words.len() * 8 + at)
}

/// Appends a string literal.
pub(crate) fn write_quoted(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'\'');
    write_escaped(out, value);
    out.push(b'\'');
}

/// Appends bytes, with zeros behind them up to `len`.
pub(crate) fn write_binary(out: &mut Vec<u8>, value: &[u8], len: usize) {
    out.extend_from_slice(b"_binary'");
    write_escaped(out, value);
    for _ in value.len()..len {
        out.extend_from_slice(b"\\0");
    }
    out.push(b'\'');
}

/// Every character of latin1 is one of Unicode, and the server turns it back into the same byte. So
/// the target's column may have either charset.
pub(crate) fn write_latin1(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'\'');
    for byte in value {
        match byte {
            0..0x80 => write_escaped(out, &[*byte]),
            _ => {
                let mut utf8 = [0; 4];
                out.extend_from_slice(latin1(*byte).encode_utf8(&mut utf8).as_bytes());
            }
        }
    }
    out.push(b'\'');
}

/// Leaves the conversion to the server, in hexadecimal since bytes of such charsets may look like
/// quotes and backslashes.
fn write_introduced(
    out: &mut Vec<u8>,
    charset: &str,
    hint: &ColumnHint,
    value: &[u8],
) -> Result<()> {
    if hint.dialect == Dialect::TiDb {
        // TiDB stores the bytes of a binary literal into a column of the charsets that it knows.
        return match charset {
            "gbk" | "gb18030" => {
                write_binary(out, value, value.len());
                Ok(())
            }
            _ => Err(BinlogError::Unsupported(
                "text in a charset that TiDB does not have",
            )),
        };
    }
    if value.is_empty() {
        out.extend_from_slice(b"''");
        return Ok(());
    }
    append(out, format_args!("_{charset} 0x"));
    for byte in value {
        append(out, format_args!("{byte:02x}"));
    }
    Ok(())
}

/// Appends an address or UUID of MariaDB in its text form.
fn write_address(out: &mut Vec<u8>, form: Form, value: &[u8]) -> Result<()> {
    // Stored like BINARY(n): without the zero bytes at its end.
    let mut bytes = [0; 16];
    let padded = bytes.get_mut(..value.len());
    padded
        .ok_or(BinlogError::Malformed("column value"))?
        .copy_from_slice(value);
    out.push(b'\'');
    match form {
        Form::Inet4 => {
            let [a, b, c, d, ..] = bytes;
            append(out, format_args!("{}", Ipv4Addr::new(a, b, c, d)));
        }
        Form::Inet6 => append(out, format_args!("{}", Ipv6Addr::from(bytes))),
        _ => write_uuid(out, &bytes),
    }
    out.push(b'\'');
    Ok(())
}

/// The bytes are in the order of the text, however MariaDB keeps them in the table.
fn write_uuid(out: &mut Vec<u8>, bytes: &[u8; 16]) {
    for (index, byte) in bytes.iter().enumerate() {
        let dash = matches!(index, 4 | 6 | 8 | 10);
        append(
            out,
            format_args!("{}{byte:02x}", if dash { "-" } else { "" }),
        );
    }
}

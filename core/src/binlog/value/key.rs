//! Keys that tell which rows may conflict.
//!
//! Two rows conflict when a unique key of the target takes their values for equal. What a collation
//! takes for equal is a matter of large tables, so keys here are *coarser*: values that are equal
//! under the collation have equal keys, but not the other way round. A needless conflict costs a
//! little order, a missed one costs the data.

mod alike;

use alloc::vec::Vec;

use alike::ALIKE;
use unicode_normalization::UnicodeNormalization;

use super::{
    super::{
        Column, ColumnKind,
        charset::latin1,
        reader::{big_endian, little_endian},
    },
    Charset, ColumnHint, number, sign_extend, temporal,
};

/// What a column takes for equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyFold {
    /// Equal bytes only.
    Bytes,
    /// Equal bytes but for spaces at the end: the `_bin` collations.
    Trimmed,
    /// Characters that look alike: the other collations.
    Text {
        /// Whether letters count, or digits only: some languages take groups of letters for one.
        letters: bool,
        /// Whether all characters above U+FFFF are alike: collations older than UCA 5.2.
        supplementary_alike: bool,
    },
    /// All values are taken for equal.
    #[default]
    Alike,
}

impl KeyFold {
    /// What a collation, by its name on either server, takes for equal.
    #[must_use]
    pub fn from_collation(name: &str) -> Self {
        if name == "binary" {
            return Self::Bytes;
        }
        if name.ends_with("_bin") {
            return Self::Trimmed;
        }
        let (charset, rest) = name.split_once('_').unwrap_or((name, ""));
        let contains = |parts: &[&str]| parts.iter().any(|part| rest.contains(part));
        let unicode = matches!(charset, "utf8mb4" | "utf8mb3" | "utf8" | "ascii" | "latin1");
        // Too strange: letters of one script that are letters of another.
        let strange = contains(&["persian", "myanmar", "_w2"]);
        if strange || !unicode && contains(&["unicode", "uca1400"]) {
            return Self::Alike;
        }
        // Of the rest the languages are known to tell apart what the general order does.
        let known = [
            "general_", "unicode_", "0900_", "uca1400_", "swedish_", "german", "bin",
        ];
        let letters = known.iter().any(|start| rest.starts_with(start))
            && !contains(&["hungarian", "croatian", "spanish2", "slovak", "czech"]);
        Self::Text {
            letters,
            supplementary_alike: !contains(&["0900", "unicode_520", "uca1400"]),
        }
    }
}

/// Appends bytes that are equal for values which the target's column takes for equal. `raw` is what
/// [`super::super::RowImage::column`] gives; NULL is the caller's. With `prefix_chars` only the
/// first characters (bytes, in a binary column) count, as in a key on a column's prefix.
///
/// What is not a value of the column gets a key all the same; [`super::write_literal`] refuses it.
pub fn write_key(
    out: &mut Vec<u8>,
    column: &Column,
    hint: &ColumnHint,
    raw: &[u8],
    prefix_chars: Option<u32>,
) {
    let Ok(value) = column.kind.value(raw) else {
        return;
    };
    let start = out.len();
    match column.kind {
        // One form for all sizes: shards that are merged into one table may differ in it.
        ColumnKind::Tiny
        | ColumnKind::Short
        | ColumnKind::Int24
        | ColumnKind::Long
        | ColumnKind::LongLong => {
            let bits = little_endian(value);
            let value = match hint.unsigned(column) {
                true => bits,
                false => sign_extend(bits, value.len()) as u64,
            };
            out.extend_from_slice(&value.to_be_bytes());
        }
        ColumnKind::Float => {
            write_double(out, f64::from(f32::from_bits(little_endian(value) as u32)));
        }
        ColumnKind::Double => write_double(out, f64::from_bits(little_endian(value))),
        ColumnKind::Decimal { precision, scale } => {
            if number::write_decimal(out, precision, scale, value).is_err() {
                out.truncate(start);
                out.extend_from_slice(value);
            } else {
                normalise_decimal(out, start, scale);
            }
        }
        ColumnKind::Bit { .. } => out.extend_from_slice(&big_endian(value).to_be_bytes()),
        ColumnKind::Enum { .. } | ColumnKind::Set { .. } => {
            out.extend_from_slice(&little_endian(value).to_be_bytes());
        }
        ColumnKind::Date
        | ColumnKind::TimeOld
        | ColumnKind::DateTimeOld
        | ColumnKind::TimestampOld
        | ColumnKind::Time { .. }
        | ColumnKind::DateTime { .. }
        | ColumnKind::Timestamp { .. } => {
            if temporal::write(out, column.kind, value).is_err() {
                out.truncate(start);
                out.extend_from_slice(value);
            }
        }
        ColumnKind::Fixed { .. } | ColumnKind::Var { .. } | ColumnKind::Blob { .. } => {
            write_text(out, column, hint, value, prefix_chars);
        }
        ColumnKind::Year
        | ColumnKind::Json { .. }
        | ColumnKind::Geometry { .. }
        | ColumnKind::Vector { .. }
        | ColumnKind::Compressed { .. }
        | ColumnKind::Unknown { .. } => out.extend_from_slice(value),
    }
}

/// Zero has two signs and one value.
fn write_double(out: &mut Vec<u8>, value: f64) {
    let value = if value == 0.0 { 0.0 } else { value };
    out.extend_from_slice(&value.to_bits().to_be_bytes());
}

/// Takes away zeros at the end of the fraction, and the sign of zero.
fn normalise_decimal(out: &mut Vec<u8>, start: usize, scale: u8) {
    if scale > 0 {
        while out.last() == Some(&b'0') {
            out.pop();
        }
        if out.last() == Some(&b'.') {
            out.pop();
        }
    }
    if out[start..] == *b"-0" {
        out.remove(start);
    }
}

fn write_text(
    out: &mut Vec<u8>,
    column: &Column,
    hint: &ColumnHint,
    value: &[u8],
    prefix_chars: Option<u32>,
) {
    let prefix = prefix_chars.map_or(usize::MAX, |chars| chars as usize);
    // As many bytes are not more than as many characters.
    let bytes = &value[..value.len().min(prefix)];
    let charset = hint.charset(column);
    match (charset, hint.fold) {
        // BINARY(n) comes without its zeros at the end, VARBINARY with them.
        (Charset::Binary, _) | (_, KeyFold::Bytes) => out.extend_from_slice(trim(bytes, &[0])),
        (_, KeyFold::Alike) => {}
        (Charset::Wide(_), KeyFold::Trimmed) => out.extend_from_slice(trim(bytes, &[0, b' '])),
        (Charset::Utf8, KeyFold::Trimmed) => {
            out.extend_from_slice(trim(prefix_of_utf8(value, prefix), b" "));
        }
        (_, KeyFold::Trimmed) => out.extend_from_slice(trim(bytes, b" ")),
        (
            Charset::Utf8,
            KeyFold::Text {
                letters,
                supplementary_alike,
            },
        ) => {
            let value = prefix_of_utf8(value, prefix);
            let mut fold = Fold::new(out, letters);
            match core::str::from_utf8(value) {
                Ok(text) if text.is_ascii() => value.iter().for_each(|byte| fold.ascii(*byte)),
                Ok(text) if supplementary_alike => {
                    fold.text(text.chars().filter(|char| *char <= '\u{ffff}'));
                }
                Ok(text) => fold.text(text.chars()),
                // Not text at all: nothing can be said.
                Err(_) => {}
            }
        }
        (Charset::Latin1, KeyFold::Text { letters, .. }) => {
            let mut fold = Fold::new(out, letters);
            if bytes.is_ascii() {
                bytes.iter().for_each(|byte| fold.ascii(*byte));
            } else {
                fold.text(bytes.iter().map(|byte| latin1(*byte)));
            }
        }
        // In these charsets no other character equals an ASCII one.
        (Charset::Other(name), KeyFold::Text { .. }) if is_multi_byte(name) => {
            if bytes.is_ascii() {
                let mut fold = Fold::new(out, true);
                bytes.iter().for_each(|byte| fold.ascii(*byte));
            } else {
                out.push(0xff);
            }
        }
        // And in the others at least no digit.
        (Charset::Other(_), KeyFold::Text { .. }) => {
            out.extend(bytes.iter().filter(|byte| byte.is_ascii_digit()));
        }
        (Charset::Wide(_), KeyFold::Text { .. }) => {}
    }
}

fn trim<'a>(mut value: &'a [u8], padding: &[u8]) -> &'a [u8] {
    while let [rest @ .., last] = value
        && padding.contains(last)
    {
        value = rest;
    }
    value
}

/// The first `chars` characters, which end where a byte starts the next one.
fn prefix_of_utf8(value: &[u8], chars: usize) -> &[u8] {
    if value.len() <= chars {
        return value;
    }
    let starts = value
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte & 0xc0 != 0x80);
    let end = starts.map(|(at, _)| at).nth(chars);
    &value[..end.unwrap_or(value.len())]
}

fn is_multi_byte(charset: &str) -> bool {
    matches!(
        charset,
        "big5" | "cp932" | "eucjpms" | "euckr" | "gb18030" | "gb2312" | "gbk" | "sjis" | "ujis"
    )
}

/// Reduces text to what no collation tells apart: letters and digits without case, accents, width
/// and kind of kana; groups of letters that are one somewhere become one.
struct Fold<'a> {
    out: &'a mut Vec<u8>,
    letters: bool,
    last: char,
}

impl<'a> Fold<'a> {
    fn new(out: &'a mut Vec<u8>, letters: bool) -> Self {
        Self {
            out,
            letters,
            last: '\0',
        }
    }

    fn text(&mut self, chars: impl Iterator<Item = char>) {
        for char in chars.nfkd() {
            if char.is_ascii() {
                self.ascii(char as u8);
                continue;
            }
            for char in char.to_lowercase() {
                self.other(char);
            }
        }
    }

    #[inline]
    fn ascii(&mut self, byte: u8) {
        match ASCII[usize::from(byte & 0x7f)] {
            0 => {}
            digit @ b'0'..=b'9' => {
                self.out.push(digit);
                self.last = '\0';
            }
            letter => self.letter(char::from(letter)),
        }
    }

    /// A letter or what was made one. Doubled ones are one (ss and ß, aa and å), and so is an e
    /// behind a vowel (ae and ä).
    #[inline]
    fn letter(&mut self, letter: char) {
        let silent = letter == 'e' && matches!(self.last, 'a' | 'o' | 'i');
        if !self.letters || letter == self.last || silent {
            return;
        }
        self.last = letter;
        let mut utf8 = [0; 4];
        self.out
            .extend_from_slice(letter.encode_utf8(&mut utf8).as_bytes());
    }

    fn other(&mut self, char: char) {
        match char {
            '\0'..='\x7f' => self.ascii(char as u8),
            'ß' | 'ſ' => self.letter('s'),
            'æ' | 'ⱥ' => self.letter('a'),
            'ø' | 'œ' | 'ɵ' => self.letter('o'),
            'ƀ' => self.letter('b'),
            'ȼ' => self.letter('c'),
            'ð' | 'đ' => self.letter('d'),
            'ɇ' | 'ə' => self.letter('e'),
            'ǥ' => self.letter('g'),
            'ı' | 'ɨ' | 'ɉ' | 'ʉ' | 'ɏ' => self.letter('i'),
            'ł' | 'ƚ' => self.letter('l'),
            'ŋ' => self.letter('n'),
            'ɍ' => self.letter('r'),
            'þ' | 'ŧ' | 'ⱦ' => self.letter('t'),
            'ƶ' => self.letter('z'),
            'ς' => self.letter('σ'),
            'ħ' => {}
            // Signs that lengthen or repeat, fillers without a sound, modifiers.
            'ー'
            | '々'
            | '〱'..='〵'
            | 'ゝ'
            | 'ゞ'
            | 'ヽ'
            | 'ヾ'
            | '\u{640}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{2b0}'..='\u{2ff}' => {}
            'ァ'..='ヶ' => self.kana(char as u32 - KATAKANA_TO_HIRAGANA),
            'ぁ'..='ゖ' => self.kana(char as u32),
            _ => {
                if let Some(digit) = decimal_digit(char) {
                    self.ascii(b'0' + digit);
                } else if let Ok(at) = ALIKE.binary_search_by_key(&char, |entry| entry.0) {
                    for char in ALIKE[at].1.chars() {
                        match char {
                            '\0'..='\x7f' => self.ascii(char as u8),
                            _ => self.letter(char),
                        }
                    }
                } else if is_kept(char) {
                    self.letter(char);
                }
            }
        }
    }

    /// Small kana are kana.
    fn kana(&mut self, code: u32) {
        let large = match code {
            0x3041 | 0x3043 | 0x3045 | 0x3047 | 0x3049 | 0x3063 | 0x3083 | 0x3085 | 0x3087
            | 0x308e => code + 1,
            0x3095 => 0x304b,
            0x3096 => 0x3051,
            _ => code,
        };
        if let Some(char) = char::from_u32(large) {
            self.letter(char);
        }
    }
}

/// Katakana are as far behind hiragana.
const KATAKANA_TO_HIRAGANA: u32 = 0x60;

/// What becomes of ASCII characters: digits stay, letters lose their case, i, j, u, v, w and y are
/// one (each pair of them is somewhere), h is silent (th and þ), three brackets are Swedish letters
/// in latin1, everything else goes.
const ASCII: [u8; 128] = {
    let mut table = [0; 128];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = match (byte as u8).to_ascii_lowercase() {
            b'h' => 0,
            b'i' | b'j' | b'u' | b'v' | b'w' | b'y' => b'i',
            b'[' | b'\\' => b'a',
            b']' => b'o',
            keep @ (b'0'..=b'9' | b'a'..=b'z') => keep,
            _ => 0,
        };
        byte += 1;
    }
    table
};

/// The zeros of the decimal digits of Unicode outside ASCII that have no compatibility
/// decomposition; the nine other digits follow each.
const ZEROS: [u32; 52] = [
    0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6,
    0xe50, 0xed0, 0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50,
    0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0x104a0,
    0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650, 0x116c0,
    0x11730, 0x118e0, 0x11c50, 0x16a60, 0x16b50, 0x1e950,
];

/// Letters that tell values apart, decomposed and in lower case: of the common scripts. What is not
/// among them counts for nothing, as do all signs.
fn is_kept(char: char) -> bool {
    matches!(
        char,
        // Greek (an iota may be written below the letter before it), Cyrillic, Hebrew, Arabic.
        'α'..='θ' | 'κ'..='ω' | 'а'..='я' | 'א'..='ת'
        | '\u{621}'..='\u{63a}' | '\u{641}'..='\u{64a}'
        // Devanagari, Thai, the parts of Hangul, kana, the ideographs.
        | '\u{905}'..='\u{939}' | '\u{e01}'..='\u{e2e}' | '\u{1100}'..='\u{11ff}'
        | '\u{3041}'..='\u{3096}' | '\u{4e00}'..='\u{9fff}'
    )
}

fn decimal_digit(char: char) -> Option<u8> {
    let code = char as u32;
    let zero = ZEROS[..ZEROS.partition_point(|zero| *zero <= code)].last()?;
    u8::try_from(code - zero).ok().filter(|digit| *digit < 10)
}

#[cfg(test)]
mod tests;

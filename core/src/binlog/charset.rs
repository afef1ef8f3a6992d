//! Charsets and collations by the numbers and names of both servers.

use alloc::string::String;

/// What has to be done with the bytes of a character column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Charset {
    /// Bytes without charset: BINARY, VARBINARY and the BLOBs.
    Binary,
    /// utf8mb4, utf8mb3 and ascii.
    #[default]
    Utf8,
    /// MySQL's latin1, which is Windows-1252 with the five holes filled.
    Latin1,
    /// Any other charset in which ASCII bytes are ASCII characters; the name is MySQL's.
    Other(&'static str),
    /// A charset whose bytes are not ASCII characters even in ASCII text.
    Wide(&'static str),
}

impl Charset {
    /// The charset of a collation, by its id on either server; `None` for an id not known.
    #[must_use]
    pub fn from_collation_id(id: u16) -> Option<Self> {
        // MariaDB: the NO PAD twins of a collation are 1024 behind it, and the UCA 14 collations
        // have ranges of 256 ids per charset.
        let id = match id {
            1025..=2047 => id - 1024,
            2048..=2303 => 33,
            2304..=2559 => 45,
            2560..=2815 => 35,
            2816..=3071 => 54,
            3072..=3327 => 60,
            _ => id,
        };
        Self::from_name(match id {
            1 | 84 => "big5",
            2 | 9 | 21 | 27 | 77 => "latin2",
            3 | 69 => "dec8",
            4 | 80 => "cp850",
            5 | 8 | 15 | 31 | 47..=49 | 94 => "latin1",
            6 | 72 => "hp8",
            7 | 74 => "koi8r",
            10 | 82 => "swe7",
            11 | 65 => "ascii",
            12 | 91 => "ujis",
            13 | 88 => "sjis",
            14 | 23 | 50..=52 => "cp1251",
            16 | 71 => "hebrew",
            18 | 89 => "tis620",
            19 | 85 => "euckr",
            20 | 41 | 42 | 79 => "latin7",
            22 | 75 => "koi8u",
            24 | 86 => "gb2312",
            25 | 70 => "greek",
            26 | 34 | 44 | 66 | 99 => "cp1250",
            28 | 87 => "gbk",
            29 | 58 | 59 => "cp1257",
            30 | 78 => "latin5",
            32 | 64 => "armscii8",
            33 | 76 | 83 | 192..=215 | 223 | 576..=578 => "utf8mb3",
            35 | 90 | 128..=151 | 159 | 640..=642 => "ucs2",
            36 | 68 => "cp866",
            37 | 73 => "keybcs2",
            38 | 43 => "macce",
            39 | 53 => "macroman",
            40 | 81 => "cp852",
            45 | 46 | 224..=247 | 255..=323 | 608..=610 => "utf8mb4",
            54 | 55 | 101..=124 | 672..=674 => "utf16",
            56 | 62 => "utf16le",
            57 | 67 => "cp1256",
            60 | 61 | 160..=183 | 736..=738 => "utf32",
            63 => "binary",
            92 | 93 => "geostd8",
            95 | 96 => "cp932",
            97 | 98 => "eucjpms",
            248..=250 => "gb18030",
            _ => return None,
        })
    }

    /// The charset with this name; `None` for one not known.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "binary" => Self::Binary,
            "utf8mb4" | "utf8mb3" | "utf8" | "ascii" => Self::Utf8,
            "latin1" => Self::Latin1,
            _ => {
                if let Some(known) = OTHER.iter().find(|known| **known == name) {
                    Self::Other(known)
                } else {
                    Self::Wide(WIDE.iter().find(|known| **known == name)?)
                }
            }
        })
    }
}

const OTHER: [&str; 29] = [
    "armscii8", "big5", "cp1250", "cp1251", "cp1256", "cp1257", "cp850", "cp852", "cp866", "cp932",
    "eucjpms", "euckr", "gb18030", "gb2312", "gbk", "geostd8", "greek", "hebrew", "keybcs2",
    "koi8r", "koi8u", "latin2", "latin5", "latin7", "macce", "macroman", "sjis", "tis620", "ujis",
];

/// Those of 16 and 32 bits, and the seven- and eight-bit ones with national characters in ASCII's
/// places.
const WIDE: [&str; 7] = ["dec8", "hp8", "swe7", "ucs2", "utf16", "utf16le", "utf32"];

/// The characters of MySQL's latin1 from 0x80 to 0x9f. The others have the number of their byte.
const LATIN1_HIGH: [char; 32] = [
    '\u{20ac}', '\u{81}', '\u{201a}', '\u{192}', '\u{201e}', '\u{2026}', '\u{2020}', '\u{2021}',
    '\u{2c6}', '\u{2030}', '\u{160}', '\u{2039}', '\u{152}', '\u{8d}', '\u{17d}', '\u{8f}',
    '\u{90}', '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}', '\u{2022}', '\u{2013}', '\u{2014}',
    '\u{2dc}', '\u{2122}', '\u{161}', '\u{203a}', '\u{153}', '\u{9d}', '\u{17e}', '\u{178}',
];

/// A text in MySQL's latin1.
pub(crate) fn latin1_text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| latin1(*byte)).collect()
}

/// The character that a byte stands for in MySQL's latin1.
pub(super) fn latin1(byte: u8) -> char {
    match byte {
        0x80..=0x9f => LATIN1_HIGH[usize::from(byte - 0x80)],
        _ => char::from(byte),
    }
}

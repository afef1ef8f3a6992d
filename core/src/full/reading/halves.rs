//! Where the rows of a table can be divided, so that several connections read it.
//!
//! Only the source can compare keys. So what may lie amid two of them is but a guess, and which
//! keys stand next to it the source says: those divide the rows, whatever the guess was worth.

use alloc::{format, string::String, vec::Vec};

use super::{Column, Form, KeyValue, Piece, Reading, all_of, list};
use crate::sync::schema::Quoted;

/// Digits, and letters of either case.
const RANKS: u32 = 36;

impl Reading {
    /// The queries for the keys of the first and the last row of a piece.
    #[must_use]
    pub fn ends(&self, piece: &Piece) -> [String; 2] {
        ["", " DESC"].map(|order| self.key(&self.conditions(piece), order))
    }

    /// The queries for the keys next to what may lie amid two keys of a piece, that of its first
    /// row or what is before it and that of its last one: the first from there on, and the last one
    /// before. Nothing where nobody can guess.
    #[must_use]
    pub fn amid(&self, piece: &Piece, low: &KeyValue, high: &KeyValue) -> Option<[String; 2]> {
        let both = || low.0.iter().zip(&high.0);
        let differs = both().position(|(low, high)| low != high)?;
        let same = self.parts().zip(&low.0).take(differs);
        let same: Vec<_> = same
            .map(|(column, value)| format!("{}={value}", Quoted(&column.name)))
            .collect();
        let (column, (low, high)) = (self.parts().nth(differs)?, both().nth(differs)?);
        let guess = column.key_form.amid(low, high)?;
        let query = |(sign, order)| {
            let mut conditions = same.clone();
            conditions.push(format!("{}{sign}{guess}", Quoted(&column.name)));
            conditions.extend(self.conditions(piece));
            self.key(&conditions, order)
        };
        Some([(">=", ""), ("<", " DESC")].map(query))
    }

    /// The query for how many rows a piece has, as the server guesses: its answer has a column
    /// `rows`, the ninth one of MariaDB, and of MySQL the tenth.
    #[must_use]
    pub fn estimate(&self, piece: &Piece) -> String {
        // MySQL does not look into an index that it has to use.
        format!(
            "EXPLAIN FORMAT=TRADITIONAL SELECT {} FROM {} USE INDEX ({}){}",
            list(self.names()),
            self.table,
            Quoted(&self.index),
            self.condition(piece)
        )
    }

    /// The key that such a query has found: a value for each part.
    #[must_use]
    pub fn found<'a>(&self, values: impl Iterator<Item = &'a [u8]>) -> Option<KeyValue> {
        let literal = |(column, value): (&Column, &[u8])| {
            let mut literal = Vec::new();
            column.key_form.write(value, &mut literal);
            String::from_utf8(literal).ok()
        };
        let literals: Vec<_> = self
            .parts()
            .zip(values)
            .map(literal)
            .collect::<Option<_>>()?;
        (literals.len() == self.key.len() && self.has_key()).then_some(KeyValue(literals))
    }

    /// The first key that meets conditions, in an order.
    fn key(&self, conditions: &[String], order: &str) -> String {
        let ordered = self.names().map(|name| format!("{name}{order}"));
        format!(
            "SELECT {} FROM {} FORCE INDEX ({}){} ORDER BY {} LIMIT 1",
            list(self.names()),
            self.table,
            Quoted(&self.index),
            all_of(conditions),
            list(ordered)
        )
    }
}

impl Form {
    /// A literal of this form that may lie amid two others.
    fn amid(&self, low: &str, high: &str) -> Option<String> {
        match self {
            Self::Number => {
                let (low, high) = (low.parse::<i128>().ok()?, high.parse::<i128>().ok()?);
                let half = high.checked_sub(low)?.checked_add(1)? / 2;
                Some(format!("{}", low + half))
            }
            Self::Hex(charset) => {
                let (low, high) = (bytes(low)?, bytes(high)?);
                let both = low.iter().zip(&high);
                let same = both.take_while(|(low, high)| low == high).count();
                let (mut guess, low) =
                    low.split_at_checked(same).map(|it| (it.0.to_vec(), it.1))?;
                let high = high.get(same..)?;
                // What comes next must not fall into a character.
                let is_plain = charset.is_none() || guess.is_ascii();
                match charset.as_deref() {
                    None => guess.extend(between(256, |byte| Some(byte.into()), low, high)?),
                    Some("utf8mb4" | "utf8mb3" | "utf8" | "latin1" | "ascii") if is_plain => {
                        let is_upper = high.first()?.is_ascii_uppercase();
                        let digits = between(RANKS, rank, low, high)?;
                        guess.extend(digits.map(|digit| letter(digit, is_upper)));
                    }
                    // A character may have several bytes.
                    Some(_) => return None,
                }
                let mut literal = Vec::new();
                self.write(&guess, &mut literal);
                String::from_utf8(literal).ok()
            }
            _ => None,
        }
    }
}

/// What a literal in hexadecimal digits stands for.
fn bytes(literal: &str) -> Option<Vec<u8>> {
    let (_, digits) = literal.split_once("x'")?;
    let digits = digits.strip_suffix('\'')?.as_bytes();
    let pairs = digits.chunks_exact(2);
    let pair = |pair: &[u8]| u8::from_str_radix(core::str::from_utf8(pair).ok()?, 16).ok();
    pairs.map(pair).collect()
}

/// Two digits amid those that two texts begin with. What is missing is zero, as is what is no digit
/// but in the place of the highest first one, where it is the last.
fn between(
    base: u32,
    rank: impl Fn(u8) -> Option<u32>,
    low: &[u8],
    high: &[u8],
) -> Option<[u8; 2]> {
    let number = |text: &[u8], other: u32| {
        let first = text.first().map_or(0, |byte| rank(*byte).unwrap_or(other));
        let second = text.get(1).and_then(|byte| rank(*byte)).unwrap_or(0);
        first * base + second
    };
    let (low, high) = (number(low, 0), number(high, base - 1));
    let half = high.checked_sub(low).filter(|it| *it > 0)?.div_ceil(2);
    let amid = low + half;
    Some([amid / base, amid % base].map(|digit| digit as u8))
}

/// Where a letter or a digit stands among the others, whatever its case: so they stand in most
/// collations.
fn rank(byte: u8) -> Option<u32> {
    char::from(byte).to_digit(RANKS)
}

fn letter(rank: u8, is_upper: bool) -> u8 {
    match (rank, is_upper) {
        (..10, _) => b'0' + rank,
        (_, true) => b'A' + (rank - 10),
        (_, false) => b'a' + (rank - 10),
    }
}

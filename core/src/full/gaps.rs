//! What of a table is not copied yet.
//!
//! A table is read in the order of its key and cut into pieces, several of which are under way at a
//! time, in order within what is read by one. A crash leaves gaps between those that arrived. Keys
//! can only be compared by the source, so every piece has a number that says where among the others
//! it lies, with room between two numbers for what a gap is cut into when it is read again.

use alloc::{format, vec::Vec};

use super::{KeyValue, Piece};
use crate::{
    error::{Error, Result, code},
    sync::schema::TableName,
};

/// Between the numbers of two pieces that follow one another in a first run.
const ROOM: u64 = 1 << 32;
/// Between the numbers of what a table is split into, to be read at the same time.
const SPLIT: u64 = 1 << 56;
/// Into so many a table can be split.
const SPLITS_MAX: usize = 128;
/// Into so many parts the room of a gap is divided.
const PARTS: u64 = 1 << 10;

/// A piece that is copied.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Copied {
    /// Where it lies among the others of its table.
    pub number: u64,
    /// What it has.
    pub piece: Piece,
}

/// Rows that follow one another and are not copied yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Gap {
    /// The number of the piece before it; zero if there is none.
    before: u64,
    /// The number of the piece behind it; nothing if it goes on to the end of the table.
    behind: Option<u64>,
    /// The piece that has what was cut off already: its number, and behind which row it begins.
    begun: Option<(u64, Option<KeyValue>)>,
    /// The rows.
    pub piece: Piece,
}

/// The gaps of a table, in order, whose copied pieces are given in any.
///
/// # Errors
/// 34018: the pieces don't fit together: what was noted of them is not what was written.
pub fn gaps(table: &TableName, mut copied: Vec<Copied>) -> Result<Vec<Gap>> {
    copied.sort_by_key(|copied| copied.number);
    let mut gaps = Vec::new();
    let mut gap = Some(Gap::whole());
    for Copied { number, piece } in copied {
        let Some(mut open) = gap.take().filter(|gap| number > gap.before) else {
            return Err(misfit(table, number));
        };
        if open.piece.after != piece.after {
            // Its end is where the piece begins, which is the first of a table nowhere.
            if piece.after.is_none() {
                return Err(misfit(table, number));
            }
            open.behind = Some(number);
            open.piece.upto = piece.after;
            gaps.push(open);
        }
        gap = piece.upto.map(|upto| Gap {
            before: number,
            piece: Piece {
                after: Some(upto),
                upto: None,
            },
            ..Gap::whole()
        });
    }
    gaps.extend(gap);
    Ok(gaps)
}

impl Gap {
    /// Of a table of which nothing is copied.
    fn whole() -> Self {
        Self {
            before: 0,
            behind: None,
            begun: None,
            piece: Piece::default(),
        }
    }

    /// Whether it is all of a table.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        *self == Self::whole()
    }

    /// Splits what is left of a table into gaps that end at these keys, which are in order, and one
    /// behind them. What has a beginning or an end stays as it is.
    #[must_use]
    pub fn split(self, keys: Vec<KeyValue>) -> Vec<Self> {
        if !self.is_whole() || keys.len() >= SPLITS_MAX {
            return Vec::from([self]);
        }
        let mut gaps = Vec::with_capacity(keys.len() + 1);
        let mut rest = self;
        for key in keys {
            let behind = rest.before + SPLIT;
            let after = rest.piece.after.replace(key.clone());
            gaps.push(Self {
                before: rest.before,
                behind: Some(behind),
                begun: None,
                piece: Piece {
                    after,
                    upto: Some(key),
                },
            });
            rest.before = behind;
        }
        gaps.push(rest);
        gaps
    }

    /// Cuts off what ends with the row of this key: a piece that has all of the gap up to there,
    /// and takes the place of the one that was cut off before. However large a table is, little has
    /// to be noted of it. Nothing if there is no room for a piece, or nothing behind it: then all
    /// that is left of the gap has to be one.
    pub fn cut(&mut self, upto: KeyValue) -> Option<Copied> {
        if self.piece.upto.as_ref() == Some(&upto) {
            return None;
        }
        if self.begun.is_none() {
            let number = self.number();
            if self.behind.is_some_and(|behind| number + 1 >= behind) {
                return None;
            }
            self.begun = Some((number, self.piece.after.clone()));
        }
        let (number, after) = self.begun.clone()?;
        self.piece.after = Some(upto.clone());
        Some(Copied {
            number,
            piece: Piece {
                after,
                upto: Some(upto),
            },
        })
    }

    /// All of it, with what was cut off before.
    #[must_use]
    pub fn rest(self) -> Copied {
        let number = self.number();
        let (number, after) = self.begun.unwrap_or((number, self.piece.after));
        Copied {
            number,
            piece: Piece {
                after,
                upto: self.piece.upto,
            },
        }
    }

    /// The number of a piece: the first parts of the room are used before the later ones.
    fn number(&self) -> u64 {
        let room = match self.behind {
            Some(behind) => (behind - self.before) / PARTS,
            None => ROOM,
        };
        self.before.saturating_add(room.clamp(1, ROOM))
    }
}

fn misfit(table: &TableName, number: u64) -> Error {
    let text = format!(
        "inconsistent checkpoints between loader and target database: piece {number} of {table} \
         does not fit to the one before it"
    );
    Error::new(&code::LOAD_TASK_CHECKPOINT_NOT_MATCH, text)
}

#[cfg(test)]
mod tests {
    use alloc::{collections::BTreeSet, string::ToString, vec};

    use proptest::prelude::*;

    use super::*;

    fn key(number: u64) -> KeyValue {
        KeyValue(vec![number.to_string()])
    }

    fn number(key: Option<&KeyValue>) -> Option<u64> {
        key.map(|key| key.0[0].parse().unwrap())
    }

    fn done(number: u64, after: Option<u64>, upto: Option<u64>) -> Copied {
        Copied {
            number,
            piece: Piece {
                after: after.map(key),
                upto: upto.map(key),
            },
        }
    }

    fn table() -> TableName {
        TableName::new("d", "t")
    }

    /// Reads a gap of a table whose rows have the keys 1 to `rows`, and cuts it.
    fn read(mut gap: Gap, rows: u64, size: u64) -> Vec<Copied> {
        let first = number(gap.piece.after.as_ref()).unwrap_or(0) + 1;
        let last = number(gap.piece.upto.as_ref()).unwrap_or(rows).min(rows);
        let mut pieces = Vec::new();
        for row in (first..=last).step_by(size as usize) {
            let end = row + size - 1;
            if end < last {
                pieces.extend(gap.cut(key(end)));
            }
        }
        pieces.push(gap.rest());
        pieces
    }

    fn rows_of(piece: &Piece, rows: u64) -> impl Iterator<Item = u64> + use<> {
        let first = number(piece.after.as_ref()).unwrap_or(0) + 1;
        first..=number(piece.upto.as_ref()).unwrap_or(rows).min(rows)
    }

    proptest! {
        /// However often it breaks off, and whatever of it arrived.
        #[test]
        fn every_row_is_in_one_piece(
            rows in 0_u64..300,
            runs in prop::collection::vec((1_u64..40, any::<u64>()), 0..12),
            mut splits in prop::collection::vec(1_u64..300, 0..6),
        ) {
            let mut copied: Vec<Copied> = Vec::new();
            let mut sizes = runs.into_iter();
            let mut seen = BTreeSet::new();
            splits.sort_unstable();
            splits.dedup();
            loop {
                let mut left = gaps(&table(), copied.clone()).unwrap();
                if copied.is_empty()
                    && let Some(whole) = left.pop()
                {
                    left = whole.split(splits.iter().copied().map(key).collect());
                }
                if left.is_empty() {
                    break;
                }
                // The last run is not broken off.
                let (size, arrives) = sizes.next().unwrap_or((7, u64::MAX));
                for (index, gap) in left.into_iter().enumerate() {
                    let mut pieces = read(gap, rows, size);
                    // Those of a gap arrive in order.
                    let bits = arrives.rotate_right(8 * index as u32) & 0xff;
                    pieces.truncate(if bits == 0xff { usize::MAX } else { bits as usize % 9 });
                    let Some(noted) = pieces.pop() else { continue };
                    for row in rows_of(&noted.piece, rows) {
                        prop_assert!(seen.insert(row), "row {} twice", row);
                    }
                    copied.push(noted);
                }
            }
            prop_assert_eq!(seen.len() as u64, rows);
        }
    }

    #[test]
    fn a_gap_without_room_is_not_cut() {
        let copied = vec![done(5, None, Some(10)), done(7, Some(20), None)];
        let mut left = gaps(&table(), copied.clone()).unwrap();
        let mut gap = left.pop().unwrap();
        assert!(left.is_empty());
        assert_eq!(gap.cut(key(15)), None);
        let rest = gap.rest();
        assert_eq!(rest, done(6, Some(10), Some(20)));
        let all = copied.into_iter().chain([rest]).collect();
        assert_eq!(gaps(&table(), all), Ok(vec![]));
    }

    /// Its last row is no reason for one more piece, without any.
    #[test]
    fn what_ends_with_a_gap_is_not_cut_off() {
        let whole = gaps(&table(), vec![]).unwrap().pop().unwrap();
        let mut left = whole.split(vec![key(10)]).into_iter();
        let mut gap = left.next().unwrap();
        assert!(gap.cut(key(9)).is_some());
        assert_eq!(gap.cut(key(10)), None);
        assert_eq!(gap.rest().piece, done(1, None, Some(10)).piece);
        let mut last = left.next().unwrap();
        assert!(last.cut(key(11)).is_some());
    }

    #[test]
    fn pieces_that_do_not_fit_are_an_error() {
        for copied in [
            // Two are the first, or the last, or the same.
            vec![done(5, None, Some(10)), done(7, None, Some(20))],
            vec![done(5, None, None), done(7, Some(10), None)],
            vec![done(5, None, Some(10)), done(5, Some(10), Some(20))],
            vec![done(0, None, Some(10))],
        ] {
            let error = gaps(&table(), copied).unwrap_err();
            assert!(error.is(&code::LOAD_TASK_CHECKPOINT_NOT_MATCH), "{error}");
            assert!(error.message.contains("`d`.`t`"), "{error}");
        }
    }
}

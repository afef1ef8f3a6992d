//! Rows events, and their row images: bytes with offsets of columns.
//!
//! An event may be a small part of a large piece of memory. Images that wait to be applied must not
//! keep all of that, so each group of some images has a copy of its bytes.

use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::mem;

use bytes::Bytes;

use super::{
    BinlogError, Result, TableMap,
    column::{Width, prefixed},
    reader::Reader,
    table_map::Bits,
};

/// What happened to the rows of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowsKind {
    /// Rows were added: each has an image after.
    Insert,
    /// Rows were changed: each has an image before and one after.
    Update,
    /// Rows were taken away: each has an image before.
    Delete,
}

impl RowsKind {
    /// The kind that has this number in the order of the servers' type codes.
    pub(super) fn nth(nth: u8) -> Self {
        match nth {
            0 => Self::Insert,
            1 => Self::Update,
            _ => Self::Delete,
        }
    }

    /// Images per row.
    fn images(self) -> usize {
        match self {
            Self::Update => 2,
            Self::Insert | Self::Delete => 1,
        }
    }
}

/// A WRITE_ROWS, UPDATE_ROWS or DELETE_ROWS event of version 1 or 2.
#[derive(Clone, Debug)]
pub struct RowsEvent {
    /// The table, as its map described it.
    pub table: Arc<TableMap>,
    /// What happened.
    pub kind: RowsKind,
    /// Whether every image has every column (`binlog_row_image=FULL`).
    pub full_image: bool,
    /// Whether the statement ends with this event.
    pub stmt_end: bool,
    /// Whether the source ran the statement with `foreign_key_checks=0`.
    pub no_foreign_key_checks: bool,
    /// Which columns the (first) image has, one bit each; empty when all are there.
    present: [Bytes; 2],
    /// The images, one behind the other.
    rows: Bytes,
}

/// One changed row.
#[derive(Clone, Debug)]
pub struct RowChange {
    /// The row as it was: with updates and deletes.
    pub before: Option<RowImage>,
    /// The row as it became: with inserts and updates.
    pub after: Option<RowImage>,
}

/// One row image. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct RowImage {
    group: Arc<Group>,
    first: u32,
}

/// Images that were sliced together and share memory.
#[derive(Debug)]
struct Group {
    rows: Box<[u8]>,
    /// Per image where each column starts, and where the last one ends.
    offsets: Box<[u32]>,
    /// Columns of an image.
    columns: u32,
}

/// Marks an offset whose column is NULL.
const NULL: u32 = 1 << 31;
/// Marks an offset whose column is not in the image.
const ABSENT: u32 = 1 << 30;
const OFFSET: u32 = ABSENT - 1;

/// Memory after which a group is full. Some images together save allocations, but one that is left
/// over of a group keeps all of it. A larger row has a group of its own.
const GROUP_BYTES: usize = 2048;

const STMT_END: u16 = 1;
const NO_FOREIGN_KEY_CHECKS: u16 = 2;

/// Table id of the event that only frees table maps.
const DUMMY_TABLE_ID: u64 = 0xff_ffff;

/// The fixed first part of a rows event.
pub(super) struct RowsHead {
    pub(super) table_id: u64,
    flags: u16,
    at: usize,
}

impl RowsHead {
    pub(super) fn parse(body: &[u8], version: u8) -> Result<Self> {
        let mut reader = Reader::new(body, WHAT);
        let table_id = reader.u48()?;
        let flags = reader.u16()?;
        if version >= 2 {
            let extra = usize::from(reader.u16()?);
            // The length counts itself.
            let extra = extra.checked_sub(2).ok_or_else(|| reader.malformed())?;
            reader.range(extra)?;
        }
        Ok(Self {
            table_id,
            flags,
            at: reader.position(),
        })
    }

    /// Whether the event carries no rows and belongs to no table.
    pub(super) fn is_dummy(&self) -> bool {
        self.table_id == DUMMY_TABLE_ID && self.flags & STMT_END != 0
    }
}

const WHAT: &str = "rows event";

impl RowsEvent {
    pub(super) fn parse(
        head: &RowsHead,
        body: &Bytes,
        kind: RowsKind,
        table: Arc<TableMap>,
    ) -> Result<Self> {
        let mut reader = Reader::new(&body[head.at..], WHAT);
        let columns = table.columns.len();
        if reader.lenenc()? != columns as u64 {
            return Err(BinlogError::Malformed(
                "rows event of another table definition",
            ));
        }
        let bitmap = |reader: &mut Reader<'_>| -> Result<Bytes> {
            let range = reader.range(columns.div_ceil(8))?;
            let bytes = body.slice(head.at + range.start..head.at + range.end);
            let bits = Bits::least_first(&bytes);
            let all = (0..columns).all(|index| bits.get(index));
            Ok(if all { Bytes::new() } else { bytes })
        };
        let first = bitmap(&mut reader)?;
        let second = match kind.images() {
            2 => bitmap(&mut reader)?,
            _ => Bytes::new(),
        };
        let rows = body.slice(head.at + reader.position()..);
        if rows.len() > OFFSET as usize {
            return Err(BinlogError::Unsupported("a rows event of more than 1 GiB"));
        }
        Ok(Self {
            full_image: first.is_empty() && second.is_empty(),
            stmt_end: head.flags & STMT_END != 0,
            no_foreign_key_checks: head.flags & NO_FOREIGN_KEY_CHECKS != 0,
            present: [first, second],
            table,
            kind,
            rows,
        })
    }

    /// Where the row images start in the body of a rows event.
    pub(super) fn images_offset(body: &[u8], version: u8, kind: RowsKind) -> Result<usize> {
        let head = RowsHead::parse(body, version)?;
        let mut reader = Reader::new(&body[head.at..], WHAT);
        let columns = reader.lenenc_len()?;
        for _ in 0..kind.images() {
            reader.range(columns.div_ceil(8))?;
        }
        Ok(head.at + reader.position())
    }

    /// The changed rows, in order.
    #[must_use]
    pub fn rows(&self) -> RowIter<'_> {
        RowIter {
            event: self,
            at: 0,
            offsets: Vec::with_capacity(self.kind.images() * (self.table.widths.len() + 1)),
            group: None,
            next: 0,
            error: None,
        }
    }

    /// How many rows there are, without a copy of any. What is malformed counts as one, and so does
    /// what a column of unknown type is in, whose rows can't be told apart.
    #[must_use]
    pub fn count(&self) -> u64 {
        let (mut at, mut count) = (0, 0);
        while at < self.rows.len() {
            count += 1;
            match self.row_end(at, &mut |_| ()) {
                Ok(end) => at = end,
                Err(_) => break,
            }
        }
        count
    }

    /// Bytes that the row images take.
    #[must_use]
    pub fn rows_len(&self) -> usize {
        self.rows.len()
    }

    /// Finds the columns of the row at `at`, in all its images, and returns where it ends.
    fn row_end(&self, at: usize, found: &mut impl FnMut(u32)) -> Result<usize> {
        let images = &self.present[..self.kind.images()];
        let end = images
            .iter()
            .try_fold(at, |at, present| self.image_end(at, present, found))?;
        if end == at {
            return Err(BinlogError::Malformed("rows event without columns"));
        }
        Ok(end)
    }

    fn image_end(&self, at: usize, present: &[u8], found: &mut impl FnMut(u32)) -> Result<usize> {
        let widths = &self.table.widths;
        if !present.is_empty() {
            return self.partial_image_end(at, present, found);
        }
        let rows = &self.rows[..];
        let mut end = at + widths.len().div_ceil(8);
        let nulls = rows.get(at..end).ok_or(BinlogError::Truncated(WHAT))?;
        for (index, width) in widths.iter().enumerate() {
            if nulls[index / 8] >> (index % 8) & 1 == 1 {
                found(end as u32 | NULL);
            } else {
                found(end as u32);
                end = value_end(rows, end, *width)?;
            }
        }
        found(end as u32);
        Ok(end)
    }

    /// The same for an image without all columns, where only those there have a NULL bit.
    fn partial_image_end(
        &self,
        at: usize,
        present: &[u8],
        found: &mut impl FnMut(u32),
    ) -> Result<usize> {
        let present = Bits::least_first(present);
        let widths = &self.table.widths;
        let count = (0..widths.len())
            .filter(|index| present.get(*index))
            .count();
        let rows = &self.rows[..];
        let mut end = at + count.div_ceil(8);
        let nulls = rows.get(at..end).ok_or(BinlogError::Truncated(WHAT))?;
        let nulls = Bits::least_first(nulls);
        let mut nth = 0;
        for (index, width) in widths.iter().enumerate() {
            if !present.get(index) {
                found(end as u32 | ABSENT);
                continue;
            }
            if nulls.get(nth) {
                found(end as u32 | NULL);
            } else {
                found(end as u32);
                end = value_end(rows, end, *width)?;
            }
            nth += 1;
        }
        found(end as u32);
        Ok(end)
    }
}

/// Where the value that starts at `at` ends, which is inside `rows`.
#[inline]
fn value_end(rows: &[u8], at: usize, width: Width) -> Result<usize> {
    let end = match width {
        Width::Fixed(len) => at + usize::from(len),
        Width::Prefixed(len) => at + prefixed(&rows[at..], usize::from(len))?.end,
        Width::Unknown => return Err(BinlogError::Unsupported("a column of unknown type")),
    };
    if end > rows.len() {
        return Err(BinlogError::Truncated(WHAT));
    }
    Ok(end)
}

/// Iterates over the rows of an event; ends at the first error.
#[derive(Debug)]
pub struct RowIter<'a> {
    event: &'a RowsEvent,
    /// Where the next group starts.
    at: usize,
    /// Room for its offsets.
    offsets: Vec<u32>,
    group: Option<Arc<Group>>,
    /// Index of the next image's offsets in the group.
    next: usize,
    error: Option<BinlogError>,
}

impl RowIter<'_> {
    /// Slices some more rows. What was sliced before an error is still handed out.
    fn fill(&mut self) {
        let (event, offsets) = (self.event, &mut self.offsets);
        offsets.clear();
        let start = self.at;
        while self.at < event.rows.len() {
            let whole = offsets.len();
            // What a group holds counts from its own start; the marks are in higher bits.
            let found = &mut |offset| offsets.push(offset - start as u32);
            let end = event.row_end(self.at, found);
            let is_full = |end| end - start + size_of_val(&offsets[..]) > GROUP_BYTES;
            match end {
                Ok(end) if whole == 0 || !is_full(end) => self.at = end,
                // It begins the next group.
                Ok(_) => {
                    offsets.truncate(whole);
                    break;
                }
                Err(error) => {
                    self.error = Some(error);
                    offsets.truncate(whole);
                    break;
                }
            }
        }
        self.next = 0;
        // Most events have one row, for which there was just enough room.
        let offsets = if offsets.len() == offsets.capacity() {
            mem::take(offsets).into()
        } else {
            offsets[..].into()
        };
        self.group = Some(Arc::new(Group {
            rows: event.rows[start..self.at].into(),
            offsets,
            columns: event.table.widths.len() as u32,
        }));
        if self.error.is_some() {
            self.at = event.rows.len();
        }
    }

    fn image(&mut self, group: &Arc<Group>) -> RowImage {
        let first = self.next as u32;
        self.next += group.columns as usize + 1;
        RowImage {
            group: group.clone(),
            first,
        }
    }
}

impl Iterator for RowIter<'_> {
    type Item = Result<RowChange>;

    fn next(&mut self) -> Option<Self::Item> {
        let is_done = |group: &Arc<Group>| self.next >= group.offsets.len();
        if self.group.as_ref().is_none_or(is_done) {
            if self.at < self.event.rows.len() {
                self.fill();
            } else {
                self.group = None;
            }
        }
        let group = match &self.group {
            Some(group) if self.next < group.offsets.len() => group.clone(),
            _ => return self.error.take().map(Err),
        };
        let (before, after) = match self.event.kind {
            RowsKind::Insert => (None, Some(self.image(&group))),
            RowsKind::Delete => (Some(self.image(&group)), None),
            RowsKind::Update => (Some(self.image(&group)), Some(self.image(&group))),
        };
        Some(Ok(RowChange { before, after }))
    }
}

impl RowImage {
    /// Number of columns, with those that are not in the image.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.group.columns as usize
    }

    /// The bytes of a column as they are in the event, with the length in front where the type has
    /// one. `None` for NULL, for a column that is not in the image, and for one that does not
    /// exist.
    #[must_use]
    #[inline]
    pub fn column(&self, index: usize) -> Option<&[u8]> {
        if index >= self.columns() {
            return None;
        }
        let offsets = &self.group.offsets[self.first as usize + index..];
        let (start, end) = (offsets[0], offsets[1] & OFFSET);
        (start & (NULL | ABSENT) == 0).then(|| &self.group.rows[start as usize..end as usize])
    }

    /// Whether the image has the column, be it NULL or not.
    #[must_use]
    pub fn is_present(&self, index: usize) -> bool {
        index < self.columns() && self.group.offsets[self.first as usize + index] & ABSENT == 0
    }

    /// Bytes that the values of the image take.
    #[must_use]
    pub fn len(&self) -> usize {
        let offsets = &self.group.offsets[self.first as usize..];
        let last = offsets[self.columns()];
        (last & OFFSET) as usize - (offsets[0] & OFFSET) as usize
    }

    /// Whether the image holds no bytes: every column is NULL.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all images that it shares memory with.
    #[cfg(test)]
    pub(super) fn group_bytes(&self) -> usize {
        self.group.rows.len()
    }

    /// Its share of the memory that it is in, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        // The group, and the counters beside it.
        const SHARED: usize = size_of::<Group>() + 2 * size_of::<usize>();
        let stride = self.columns() + 1;
        let images = self.group.offsets.len() / stride;
        let nulls = self.columns().div_ceil(8);
        self.len() + nulls + stride * size_of::<u32>() + SHARED.div_ceil(images)
    }
}

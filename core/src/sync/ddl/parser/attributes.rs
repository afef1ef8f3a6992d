//! What a statement says of the collation of something that it creates.

use alloc::string::String;

use super::Cursor;

/// Of a schema, a table or a column.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    /// The character set, and where its name ends.
    charset: Option<(String, usize)>,
    /// It has a collation, in whatever way.
    is_collated: bool,
}

impl Attributes {
    /// Moves over an attribute, if one comes next.
    pub(super) fn take(&mut self, at: &mut Cursor<'_>) -> bool {
        // `CHAR(9) CHARACTER SET latin1 BINARY` has the binary one of that set.
        if at.take("COLLATE") || at.take("BINARY") {
            self.is_collated = true;
            return true;
        }
        let in_two = (at.is("CHARACTER") || at.is("CHAR")) && at.is_at(1, "SET");
        if !in_two && !at.is("CHARSET") {
            return false;
        }
        at.next();
        if in_two {
            at.next();
        }
        if at.symbol('=') {
            at.next();
        }
        self.charset = at.value().or_else(|| self.charset.take());
        true
    }

    /// Notes a character set without a collation.
    pub(super) fn end(self, at: &mut Cursor<'_>) {
        if let Some((charset, end)) = self.charset.filter(|_| !self.is_collated) {
            at.note_charset(Some(charset), end);
        }
    }

    /// As [`Self::end`], of a schema, whose name ends there: it may have no character set either.
    pub(super) fn end_of_schema(self, at: &mut Cursor<'_>, name_end: usize) {
        if self.charset.is_none() && !self.is_collated {
            at.note_charset(None, name_end);
        }
        self.end(at);
    }
}

//! How a table is read: piece by piece along a key, each value so that it arrives as it is.
//!
//! Values come as the server's text protocol sends them, with no conversion of character sets
//! (`character_set_results = NULL`), and become literals that make the same value anywhere.

mod halves;
mod lines;

use alloc::{borrow::ToOwned, format, string::String, vec::Vec};

pub use self::lines::Lines;
use crate::{
    binlog::{Dialect, latin1_text, write_binary, write_latin1, write_quoted},
    sync::schema::{ColumnInfo, Key, KeyPart, Quoted, Table, TableName},
};

/// A value of a row as it arrived; `None` is NULL.
pub type Value<'a> = Option<&'a [u8]>;

/// How a table is read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reading {
    table: TableName,
    columns: Vec<Column>,
    /// Where in `columns` the parts of the key are that pieces follow one another by.
    key: Vec<usize>,
    /// The name of its index.
    index: String,
    /// Whether any column can have a value that makes a row invalid.
    has_enum: bool,
    /// An expression of the user's that rows must meet; empty if there is none.
    filter: String,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Column {
    name: String,
    /// Of its values.
    form: Form,
    /// Of its values where it is part of the key: never in another character set than ASCII.
    key_form: Form,
    /// What stands behind its name where it is read.
    suffix: &'static str,
    /// Whether only an invalid value of it is empty.
    is_enum: bool,
}

/// What the literal of a value looks like.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Form {
    /// The text itself.
    Number,
    /// The text itself, except for minus zero.
    Floating,
    /// In quotes.
    Text,
    /// In quotes, as UTF-8.
    Latin1,
    /// In quotes, as bytes.
    Binary,
    /// In quotes, with the escapes of the existing dumper.
    Escaped,
    /// The same, and UTF-8 whatever the session's character set is.
    Utf8,
    /// The same where it is more than ASCII, and made UTF-8 of.
    EscapedLatin1,
    /// In hexadecimal digits, and in a character set if it is text.
    Hex(Option<String>),
}

/// Rows that follow one another in the order of a key. Without bounds, all of a table.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Piece {
    /// The key of the last row before it, if there is one.
    pub after: Option<KeyValue>,
    /// The key of its last row; without, it goes on to the last one of the table.
    pub upto: Option<KeyValue>,
}

/// The key of a row: a literal for each part.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyValue(pub Vec<String>);

impl Reading {
    /// Of a table of the source, for a session whose character set is UTF-8.
    #[must_use]
    pub fn new(table: &Table) -> Self {
        Self::with(table, Column::new)
    }

    /// The same for rows that go into a server of this dialect.
    #[must_use]
    pub fn for_target(table: &Table, dialect: Dialect) -> Self {
        match dialect {
            Dialect::TiDb => Self::with(table, Column::for_tidb),
            Dialect::MySql | Dialect::MariaDb => Self::new(table),
        }
    }

    /// The same for dump files, whose texts are in the character sets of their columns
    /// (`SET NAMES binary`), and only of rows that meet an expression, if that is not empty.
    #[must_use]
    pub fn for_files(table: &Table, filter: &str) -> Self {
        Self {
            filter: filter.trim().to_owned(),
            ..Self::with(table, Column::for_files)
        }
    }

    fn with(table: &Table, column: fn(&ColumnInfo) -> Column) -> Self {
        let columns = table.columns.iter().filter(|column| !column.generated);
        let columns: Vec<_> = columns.map(column).collect();
        let place = |index: usize| {
            let name = &table.columns[index].name;
            columns.iter().position(|column| column.name == *name)
        };
        let parts = |key: &Key| -> Option<Vec<usize>> {
            let part = |part: &KeyPart| {
                let index = part.column.filter(|_| part.prefix.is_none())?;
                let column = table.columns.get(index)?;
                place(index).filter(|_| !column.nullable && has_order(column))
            };
            key.parts.iter().map(part).collect()
        };
        let keys = table
            .unique_keys()
            .filter(|key| !key.parts.is_empty() && !key.unordered);
        // The rows themselves lie in the order of the primary key.
        let best = keys
            .filter_map(|key| Some((key, parts(key)?)))
            .min_by_key(|(key, parts)| (!key.primary, parts.len()));
        let (index, key) =
            best.map_or_else(Default::default, |(key, parts)| (key.name.clone(), parts));
        Self {
            table: table.name.clone(),
            has_enum: columns.iter().any(|column| column.is_enum),
            columns,
            key,
            index,
            filter: String::new(),
        }
    }

    /// The table.
    #[must_use]
    pub const fn table(&self) -> &TableName {
        &self.table
    }

    /// Whether it can be read in more than one piece.
    #[must_use]
    pub fn has_key(&self) -> bool {
        !self.key.is_empty()
    }

    /// The query for the rows of a piece, in the order of the key.
    #[must_use]
    pub fn rows(&self, piece: &Piece) -> String {
        if self.columns.is_empty() {
            // A table may have nothing but columns that are computed.
            return format!("SELECT NULL FROM {}{}", self.table, self.condition(piece));
        }
        let columns = self.columns.iter().map(Column::expression);
        let mut sql = format!("SELECT {} FROM {}", list(columns), self.table);
        if self.has_key() {
            // Rows come as they are read: nothing is to be sorted before.
            sql.push_str(&format!(" FORCE INDEX ({})", Quoted(&self.index)));
        }
        sql.push_str(&self.condition(piece));
        self.order(&mut sql);
        sql
    }

    /// The key of a row. Nothing if it has none, or is no row of the table.
    #[must_use]
    pub fn key_of<'a>(&self, values: impl Iterator<Item = Value<'a>>) -> Option<KeyValue> {
        let mut literals: Vec<Option<String>> = Vec::from_iter(self.key.iter().map(|_| None));
        for (index, value) in values.enumerate() {
            let Some(place) = self.key.iter().position(|part| *part == index) else {
                continue;
            };
            let mut literal = Vec::new();
            self.columns
                .get(index)?
                .key_form
                .write(value?, &mut literal);
            *literals.get_mut(place)? = Some(String::from_utf8(literal).ok()?);
        }
        let literals: Vec<_> = literals.into_iter().collect::<Option<_>>()?;
        (!literals.is_empty()).then_some(KeyValue(literals))
    }

    /// Whether only a session that is not strict takes a row: a value of an ENUM is none of its
    /// members.
    #[must_use]
    pub fn is_invalid<'a>(&self, values: impl Iterator<Item = Value<'a>>) -> bool {
        let mut both = self.columns.iter().zip(values);
        self.has_enum
            && both.any(|(column, value)| match value {
                Some(b"") => column.is_enum && column.suffix.is_empty(),
                Some(b"0") => column.is_enum && !column.suffix.is_empty(),
                _ => false,
            })
    }

    /// Whether any column can have a value that makes a row invalid.
    #[must_use]
    pub const fn has_enum(&self) -> bool {
        self.has_enum
    }

    /// What an `INSERT` of its rows into a table begins with, up to the first row.
    #[must_use]
    pub fn insert(&self, verb: &str, into: &str) -> String {
        let columns = self
            .columns
            .iter()
            .map(|column| format!("{}", Quoted(&column.name)));
        format!("{verb} INTO {into} ({}) VALUES\n", list(columns))
    }

    /// Appends a row to such a statement: `(1,'a',NULL)`. Returns whether it has as many values as
    /// it must.
    #[must_use]
    pub fn write<'a>(
        &self,
        values: impl Iterator<Item = Value<'a>>,
        statement: &mut Vec<u8>,
    ) -> bool {
        let mut values = values.fuse();
        statement.push(b'(');
        for (index, column) in self.columns.iter().enumerate() {
            if index > 0 {
                statement.push(b',');
            }
            match values.next() {
                Some(Some(value)) => column.form.write(value, statement),
                Some(None) => statement.extend_from_slice(b"NULL"),
                None => return false,
            }
        }
        statement.push(b')');
        self.columns.is_empty() || values.next().is_none()
    }

    fn parts(&self) -> impl Iterator<Item = &Column> {
        self.key.iter().map(|index| &self.columns[*index])
    }

    fn conditions(&self, piece: &Piece) -> Vec<String> {
        let after = piece.after.as_ref().map(|key| self.compared(key, ">", ">"));
        let upto = piece.upto.as_ref().map(|key| self.compared(key, "<", "<="));
        let filter = (!self.filter.is_empty()).then(|| format!("({})", self.filter));
        after.into_iter().chain(upto).chain(filter).collect()
    }

    fn condition(&self, piece: &Piece) -> String {
        all_of(&self.conditions(piece))
    }

    /// The columns of the key.
    fn names(&self) -> impl Iterator<Item = String> {
        self.parts()
            .map(|column| format!("{}", Quoted(&column.name)))
    }

    /// Compares the key with a value, part by part: servers find no range of an index in a
    /// comparison of tuples. The first part is compared once more, as a range that is easily found.
    fn compared(&self, KeyValue(literals): &KeyValue, strict: &str, last: &str) -> String {
        let names: Vec<_> = self.names().collect();
        let mut cases = Vec::with_capacity(names.len());
        for index in 0..names.len() {
            let is_last = index + 1 == names.len();
            let same = names.iter().zip(literals).take(index);
            let mut all: Vec<_> = same
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let sign = if is_last { last } else { strict };
            if let (Some(name), Some(value)) = (names.get(index), literals.get(index)) {
                all.push(format!("{name}{sign}{value}"));
            }
            cases.push(format!("({})", all.join(" AND ")));
        }
        match (&*names, &**literals) {
            ([name, _, ..], [value, ..]) => {
                format!("{name}{strict}={value} AND ({})", cases.join(" OR "))
            }
            _ => cases.join(" OR "),
        }
    }

    fn order(&self, sql: &mut String) {
        if self.has_key() {
            sql.push_str(" ORDER BY ");
            sql.push_str(&list(self.names()));
        }
    }
}

/// Whether the literals of a column's values compare as the column's index is ordered. Numbers with
/// a floating point are not what their text says, and members of an ENUM are ordered as they were
/// declared but compared by name.
fn has_order(column: &ColumnInfo) -> bool {
    !matches!(
        &*column.type_name,
        "float" | "double" | "bit" | "enum" | "set" | "uuid" | "inet4" | "inet6"
    )
}

impl Column {
    fn new(column: &ColumnInfo) -> Self {
        let (form, suffix) = match &*column.type_name {
            // As text it comes with six digits only; as a DOUBLE with all, and minus zero as it is.
            "float" => (Form::Floating, "*1e0"),
            // An empty member looks like no member. By number they are told apart.
            "enum" if has_empty_member(&column.column_type) => (Form::Number, "+0"),
            // A sum would be a DOUBLE, which has not all of the 64 bits.
            "set" if has_empty_member(&column.column_type) => (Form::Number, "|0"),
            _ => (Form::of(column), ""),
        };
        let charset = column.charset.clone();
        Self {
            name: column.name.clone(),
            key_form: match (charset, &form) {
                (None, Form::Binary) => Form::Hex(None),
                (None, form) => form.clone(),
                (charset, _) => Form::Hex(charset),
            },
            form,
            suffix,
            is_enum: column.type_name == "enum",
        }
    }

    /// TiDB takes no texts in other character sets, but keeps the bytes of a binary literal in
    /// those that it knows.
    fn for_tidb(column: &ColumnInfo) -> Self {
        let simple = Self::new(column);
        let form = match &simple.form {
            Form::Hex(Some(charset)) if matches!(&**charset, "gbk" | "gb18030") => Form::Binary,
            form => form.clone(),
        };
        Self { form, ..simple }
    }

    fn for_files(column: &ColumnInfo) -> Self {
        let form = match &*column.type_name {
            // No server makes such a value of a text in binary.
            "json" | "uuid" | "inet4" | "inet6" => Form::Utf8,
            // The existing loader reads UTF-8, whatever files say.
            _ if column.charset.as_deref() == Some("latin1") => Form::EscapedLatin1,
            _ if column.charset.is_some() => Form::Escaped,
            _ => match Form::of(column) {
                Form::Text => Form::Escaped,
                Form::Binary => Form::Hex(None),
                form => form,
            },
        };
        let simple = Self::new(column);
        // Members of an ENUM that are read by number stay numbers.
        let form = if simple.form == Form::Number {
            Form::Number
        } else {
            form
        };
        Self { form, ..simple }
    }

    fn expression(&self) -> String {
        format!("{}{}", Quoted(&self.name), self.suffix)
    }
}

/// Whether the definition of an ENUM or SET has an empty member: `enum('','a')`. Of one with quotes
/// and commas in a member it may say so as well.
fn has_empty_member(column_type: &str) -> bool {
    let members = column_type
        .split_once('(')
        .map_or("", |(_, members)| members);
    let members = members.trim_end_matches(')');
    members.split(',').any(|member| member == "''")
}

impl Form {
    fn of(column: &ColumnInfo) -> Self {
        match &*column.type_name {
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "decimal" | "year" => {
                Self::Number
            }
            "float" | "double" => Self::Floating,
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "enum"
            | "set" => match column.charset.as_deref() {
                None => Self::Text,
                Some(_) if column.is_utf8() => Self::Text,
                // The server turns it back into the same bytes, or into those of its column.
                Some("latin1") => Self::Latin1,
                // To a session with UTF-8 this is no text.
                Some(other) => Self::Hex(Some(other.to_owned())),
            },
            "date" | "time" | "datetime" | "timestamp" | "json" | "uuid" | "inet4" | "inet6" => {
                Self::Text
            }
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => {
                Self::Binary
            }
            // Bits, geometries and vectors.
            _ => Self::Hex(None),
        }
    }

    fn write(&self, value: &[u8], into: &mut Vec<u8>) {
        match self {
            Self::Number => into.extend_from_slice(value),
            Self::Floating => {
                into.extend_from_slice(value);
                if is_minus_zero(value) {
                    // Whole numbers and those of a fixed point have no sign where they are zero.
                    into.extend_from_slice(b"e0");
                }
            }
            Self::Text => write_quoted(into, value),
            Self::Latin1 => write_latin1(into, value),
            Self::Binary => write_binary(into, value, value.len()),
            Self::Escaped => quote(value, into),
            Self::EscapedLatin1 if value.is_ascii() => quote(value, into),
            Self::EscapedLatin1 => utf8(latin1_text(value).as_bytes(), into),
            Self::Utf8 => utf8(value, into),
            Self::Hex(charset) => {
                if let Some(charset) = charset {
                    into.push(b'_');
                    into.extend_from_slice(charset.as_bytes());
                    into.push(b' ');
                }
                hex(value, into);
            }
        }
    }
}

/// Whether a text is `-0`, or `-0.00` as of a column with so many digits behind the point.
fn is_minus_zero(text: &[u8]) -> bool {
    text.starts_with(b"-0") && text.iter().all(|byte| b"-0.".contains(byte))
}

/// Appends a text that is UTF-8 whatever the session's character set is. Servers read what says so,
/// and loaders that don't know it pass over a comment.
fn utf8(text: &[u8], into: &mut Vec<u8>) {
    into.extend_from_slice(b"/*!40101 _utf8mb4*/");
    quote(text, into);
}

/// Appends a text in quotes, as the existing dumper does.
fn quote(text: &[u8], into: &mut Vec<u8>) {
    into.reserve(text.len() + 2);
    into.push(b'\'');
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| escaped(*byte).is_some()) {
        let (before, from) = rest.split_at(at);
        into.extend_from_slice(before);
        if let Some((byte, behind)) = from.split_first() {
            into.push(b'\\');
            into.extend(escaped(*byte));
            rest = behind;
        }
    }
    into.extend_from_slice(rest);
    into.push(b'\'');
}

/// What stands behind the backslash for a byte that needs one.
const fn escaped(byte: u8) -> Option<u8> {
    Some(match byte {
        0 => b'0',
        b'\n' => b'n',
        b'\r' => b'r',
        0x1a => b'Z',
        b'\\' | b'\'' | b'"' => byte,
        _ => return None,
    })
}

fn hex(bytes: &[u8], into: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    into.reserve(2 * bytes.len() + 3);
    into.extend_from_slice(b"x'");
    for byte in bytes {
        into.push(DIGITS[usize::from(byte >> 4)]);
        into.push(DIGITS[usize::from(byte & 15)]);
    }
    into.push(b'\'');
}

/// What a query says that wants rows which meet these conditions.
fn all_of(conditions: &[String]) -> String {
    match conditions {
        [] => String::new(),
        all => format!(" WHERE {}", all.join(" AND ")),
    }
}

fn list(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;

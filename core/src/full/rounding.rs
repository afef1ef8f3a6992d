//! Whether a column makes another value of what another one has, without a word: strict sessions
//! refuse what is too long or too large for a column, but round what is too precise, and take the
//! number of a member for whatever member has it.

use alloc::string::String;

use crate::sync::schema::ColumnInfo;

/// Whether the target's column would round values of the source's.
#[must_use]
pub fn rounds(source: &ColumnInfo, target: &ColumnInfo) -> bool {
    let (Some(from), Some(to)) = (Kind::of(source), Kind::of(target)) else {
        return false;
    };
    match (from, to) {
        (Kind::Exact { behind: a, .. }, Kind::Exact { behind: b, .. })
        | (Kind::Moment { behind: a, .. }, Kind::Exact { behind: b, .. }) => a > b,
        (
            Kind::Exact { digits, behind: a },
            Kind::Floating {
                digits: exact,
                behind: b,
            },
        ) => digits > exact || b.is_some_and(|b| a > b),
        (Kind::Floating { behind: a, .. }, Kind::Exact { behind: b, .. }) => {
            a.is_none_or(|a| a > b)
        }
        (
            Kind::Floating { digits, behind: a },
            Kind::Floating {
                digits: exact,
                behind: b,
            },
        ) => digits > exact || b.is_some_and(|b| a.is_none_or(|a| a > b)),
        (
            Kind::Moment { behind: a, has_day },
            Kind::Moment {
                behind: b,
                has_day: keeps,
            },
        ) => a > b || has_day && !keeps,
        (Kind::Moment { .. }, Kind::Day) => true,
        _ => false,
    }
}

/// Whether members of the source's ENUM or SET have other numbers in the target's: a copy brings
/// their names, and the binlog their numbers. Members that the target has in addition stand last.
#[must_use]
pub fn renumbers(source: &ColumnInfo, target: &ColumnInfo) -> bool {
    let has_members = matches!(&*source.type_name, "enum" | "set");
    if !has_members || source.type_name != target.type_name {
        return false;
    }
    let more = members(target);
    let more = more.strip_prefix(&*members(source));
    // Before a quote, the last member would only be a part of another one.
    !more.is_some_and(|more| more.is_empty() || more.starts_with(','))
}

/// The members of a type, without the bracket behind them: `enum('a','b''c'`. Servers do not agree
/// on which characters get a backslash, itself included.
fn members(column: &ColumnInfo) -> String {
    let text = &*column.column_type;
    text.strip_suffix(')').unwrap_or(text).replace('\\', "")
}

/// What values are like.
#[derive(Clone, Copy)]
enum Kind {
    /// So many decimal digits, and how many of them are behind the point.
    Exact { digits: u32, behind: u32 },
    /// So many decimal digits are certainly kept, and where it says so, so many behind the point.
    Floating { digits: u32, behind: Option<u32> },
    /// A time, with or without a date, and so many digits behind the seconds.
    Moment { behind: u32, has_day: bool },
    /// A date.
    Day,
}

impl Kind {
    fn of(column: &ColumnInfo) -> Option<Self> {
        let mut numbers = numbers(&column.column_type);
        let whole = |digits| Self::Exact { digits, behind: 0 };
        Some(match &*column.type_name {
            "tinyint" => whole(3),
            "smallint" => whole(5),
            // All of them are exact in 24 bits.
            "mediumint" => whole(6),
            "int" => whole(10),
            "bigint" => whole(20),
            "decimal" => Self::Exact {
                digits: numbers.next().unwrap_or(10),
                behind: numbers.next().unwrap_or(0),
            },
            "float" | "double" => Self::Floating {
                digits: if column.type_name == "float" { 6 } else { 15 },
                behind: numbers.nth(1),
            },
            "time" | "datetime" | "timestamp" => Self::Moment {
                behind: numbers.next().unwrap_or(0),
                has_day: column.type_name != "time",
            },
            "date" => Self::Day,
            _ => return None,
        })
    }
}

/// The numbers in the brackets of a type: `decimal(5,2) unsigned`.
fn numbers(column_type: &str) -> impl Iterator<Item = u32> {
    let inside = column_type.split_once('(').map_or("", |(_, rest)| rest);
    let inside = inside.split_once(')').map_or("", |(inside, _)| inside);
    inside.split(',').map_while(|text| text.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(text: &str) -> ColumnInfo {
        let name = text.split(['(', ' ']).next().unwrap_or_default();
        ColumnInfo {
            type_name: name.into(),
            column_type: text.into(),
            ..ColumnInfo::default()
        }
    }

    #[test]
    fn members_with_other_numbers_are_told() {
        for (from, to, expected) in [
            ("enum('a','b')", "enum('a','b')", false),
            ("enum('a','b')", "enum('a','b','c')", false),
            ("enum('a','b')", "enum('b','a')", true),
            ("enum('a','b')", "enum('a')", true),
            ("enum('a','b')", "enum('a','bc')", true),
            ("enum('b')", "enum('a','b')", true),
            ("enum('a')", "enum('a'',b')", true),
            ("enum('it''s','(')", "enum('it''s','(',')')", false),
            ("set('a','b')", "set('a','b','')", false),
            ("set('a','b')", "set('b','a')", true),
            // MySQL and MariaDB, and TiDB.
            (r"enum('a\\b','c\nd')", r"enum('a\b','c\nd')", false),
            // Not both of them have numbers, or not the same kind.
            ("enum('a','b')", "set('b','a')", false),
            ("enum('a','b')", "varchar(1)", false),
            ("enum('a','b')", "int", false),
            ("varchar(1)", "enum('a')", false),
        ] {
            let (source, target) = (column(from), column(to));
            assert_eq!(renumbers(&source, &target), expected, "{from}, {to}");
        }
    }

    #[test]
    fn what_is_too_precise_is_told() {
        for (from, to, expected) in [
            ("decimal(5,2)", "decimal(5,1)", true),
            ("decimal(5,2) unsigned", "decimal(9,2)", false),
            ("decimal(5,2)", "int", true),
            ("decimal(5,0)", "int unsigned", false),
            ("decimal(6,2)", "float", false),
            ("decimal(20,2)", "double", true),
            ("int", "decimal(10)", false),
            ("int", "float", true),
            ("mediumint", "float", false),
            ("bigint unsigned", "double", true),
            ("int(11)", "double", false),
            ("double", "float", true),
            ("float", "double", false),
            ("float", "decimal(60,30)", true),
            ("double(8,2)", "double", false),
            ("double", "double(8,2)", true),
            ("double(8,2)", "double(10,2)", false),
            ("double(10,2)", "decimal(10,2)", false),
            ("double(10,3)", "decimal(10,2)", true),
            ("decimal(6,4)", "float(6,2)", true),
            ("float(7,4)", "float(7,2)", true),
            ("datetime", "time", true),
            ("datetime(6)", "bigint", true),
            ("datetime(6)", "datetime", true),
            ("datetime", "timestamp(3)", false),
            ("time(3)", "time(2)", true),
            ("datetime", "date", true),
            ("date", "datetime", false),
            ("varchar(9)", "varchar(3)", false),
            ("int", "varchar(20)", false),
        ] {
            assert_eq!(rounds(&column(from), &column(to)), expected, "{from}, {to}");
        }
    }
}

//! `sql_mode` for sessions on the target, made only of what that server knows.
//!
//! A mode that the server does not know fails the whole `SET`, and which ones there are depends on
//! product and version: MySQL 8.0 dropped eleven, MariaDB has four of its own.

use std::fmt::{self, Display};

use dm_core::binlog::{Dialect, Flavor};

/// Modes with their bits as the status variables of a query event number them, and who knows them.
const MODES: [(u8, &str, Known); 27] = [
    (0, "REAL_AS_FLOAT", ALL),
    (1, "PIPES_AS_CONCAT", ALL),
    (2, "ANSI_QUOTES", ALL),
    (3, "IGNORE_SPACE", ALL),
    (4, "IGNORE_BAD_TABLE_OPTIONS", MARIADB),
    (5, "ONLY_FULL_GROUP_BY", ALL),
    (6, "NO_UNSIGNED_SUBTRACTION", ALL),
    (7, "NO_DIR_IN_CREATE", ALL),
    (13, "NO_KEY_OPTIONS", MARIADB),
    (14, "NO_TABLE_OPTIONS", MARIADB),
    (15, "NO_FIELD_OPTIONS", MARIADB),
    (19, "NO_AUTO_VALUE_ON_ZERO", ALL),
    (20, "NO_BACKSLASH_ESCAPES", ALL),
    (21, "STRICT_TRANS_TABLES", ALL),
    (22, "STRICT_ALL_TABLES", ALL),
    (23, "NO_ZERO_IN_DATE", ALL),
    (24, "NO_ZERO_DATE", ALL),
    (25, "ALLOW_INVALID_DATES", ALL),
    (26, "ERROR_FOR_DIVISION_BY_ZERO", ALL),
    (28, "NO_AUTO_CREATE_USER", MARIADB),
    (29, "HIGH_NOT_PRECEDENCE", ALL),
    (30, "NO_ENGINE_SUBSTITUTION", ALL),
    (31, "PAD_CHAR_TO_FULL_LENGTH", ALL),
    (32, "TIME_TRUNCATE_FRACTIONAL", MYSQL),
    (32, "EMPTY_STRING_IS_NULL", MARIADB),
    (33, "SIMULTANEOUS_ASSIGNMENT", MARIADB),
    (34, "TIME_ROUND_FRACTIONAL", MARIADB),
];

/// A set of dialects.
type Known = u8;
const MYSQL: Known = 1;
const MARIADB: Known = 2;
const TIDB: Known = 4;
const ALL: Known = MYSQL | MARIADB | TIDB;

/// What row sessions take over from the source. The others would change what a literal means or
/// make the target refuse or alter a row that the source accepted.
const KEPT_FOR_ROWS: [&str; 7] = [
    "REAL_AS_FLOAT",
    "IGNORE_SPACE",
    "ONLY_FULL_GROUP_BY",
    "NO_UNSIGNED_SUBTRACTION",
    "NO_DIR_IN_CREATE",
    "HIGH_NOT_PRECEDENCE",
    "NO_ENGINE_SUBSTITUTION",
];

/// A value of `sql_mode`; displays as the list that `SET` takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SqlMode(Vec<&'static str>);

impl SqlMode {
    /// For sessions that write rows: any value that the source holds is taken (zero dates, zero
    /// auto-increments), none is cut silently. `lenient` gives up the latter.
    pub(crate) fn for_rows(wanted: &str, dialect: Dialect, lenient: bool) -> Self {
        let wanted: Vec<_> = wanted.split(',').map(str::trim).collect();
        let kept = |name: &str| {
            let is_wanted = wanted.iter().any(|other| other.eq_ignore_ascii_case(name));
            match name {
                "NO_AUTO_VALUE_ON_ZERO" | "ALLOW_INVALID_DATES" => true,
                "STRICT_TRANS_TABLES" => !lenient,
                _ => is_wanted && KEPT_FOR_ROWS.contains(&name),
            }
        };
        let modes = MODES.into_iter();
        let modes = modes.filter(|&(_, name, known)| known & server(dialect) != 0 && kept(name));
        Self(modes.map(|(_, name, _)| name).collect())
    }

    /// For a DDL: that of the source's session, so that the text means the same.
    pub(crate) fn from_bits(bits: u64, source: Flavor, dialect: Dialect) -> Self {
        let source = match source {
            Flavor::Mysql => MYSQL,
            Flavor::Mariadb => MARIADB,
        };
        let modes = MODES.into_iter().filter(|&(bit, _, known)| {
            known & source != 0 && known & server(dialect) != 0 && bits >> bit & 1 == 1
        });
        Self(modes.map(|(_, name, _)| name).collect())
    }
}

fn server(dialect: Dialect) -> Known {
    match dialect {
        Dialect::MySql => MYSQL,
        Dialect::MariaDb => MARIADB,
        Dialect::TiDb => TIDB,
    }
}

impl Display for SqlMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_sessions_keep_what_is_harmless_and_add_what_they_need() {
        let old = "ANSI_QUOTES,NO_BACKSLASH_ESCAPES,STRICT_ALL_TABLES,NO_ZERO_DATE,\
                   NO_AUTO_CREATE_USER,ignore_space,EMPTY_STRING_IS_NULL";
        for dialect in [Dialect::MySql, Dialect::MariaDb, Dialect::TiDb] {
            assert_eq!(
                SqlMode::for_rows(old, dialect, false).to_string(),
                "IGNORE_SPACE,NO_AUTO_VALUE_ON_ZERO,STRICT_TRANS_TABLES,ALLOW_INVALID_DATES"
            );
            assert_eq!(
                SqlMode::for_rows("", dialect, true).to_string(),
                "NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES"
            );
        }
    }

    #[test]
    fn ddl_sessions_have_the_sources_modes_as_far_as_they_are_known() {
        let bits = 1 << 2 | 1 << 20 | 1 << 28 | 1 << 32;
        for (source, dialect, text) in [
            (
                Flavor::Mysql,
                Dialect::MySql,
                "ANSI_QUOTES,NO_BACKSLASH_ESCAPES,TIME_TRUNCATE_FRACTIONAL",
            ),
            (
                Flavor::Mysql,
                Dialect::TiDb,
                "ANSI_QUOTES,NO_BACKSLASH_ESCAPES",
            ),
            // The two number their own modes alike.
            (
                Flavor::Mysql,
                Dialect::MariaDb,
                "ANSI_QUOTES,NO_BACKSLASH_ESCAPES",
            ),
            (
                Flavor::Mariadb,
                Dialect::MySql,
                "ANSI_QUOTES,NO_BACKSLASH_ESCAPES",
            ),
            (
                Flavor::Mariadb,
                Dialect::MariaDb,
                "ANSI_QUOTES,NO_BACKSLASH_ESCAPES,NO_AUTO_CREATE_USER,EMPTY_STRING_IS_NULL",
            ),
        ] {
            let mode = SqlMode::from_bits(bits, source, dialect);
            assert_eq!(mode.to_string(), text, "{source:?} {dialect:?}");
        }
    }
}

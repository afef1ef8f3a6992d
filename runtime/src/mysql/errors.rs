//! What a failed statement or connection means, as coded errors.
//!
//! The cause is written as the existing worker's client library writes it, `Error 1062 (23000): …`,
//! because the rules for what is resumed by itself look for such texts.

use std::io;

use dm_core::error::{Code, Error, Scope, code};
use mysql_async::{Error as SqlError, IoError};

/// What a server says to a name that is no character set of its.
pub(crate) const UNKNOWN_CHARSET: u16 = 1115;
/// As [`UNKNOWN_CHARSET`], of a collation.
pub(crate) const UNKNOWN_COLLATION: u16 = 1273;
/// Characters of a statement that go into a message.
const SHOWN_MAX: usize = 256;

/// A query that was refused, or whose answer did not come.
pub(crate) fn query_failed(sql: &str, error: &SqlError) -> Error {
    coded(&code::DB_QUERY_FAILED, "query statement failed", sql, error)
}

/// A statement that was refused, or whose answer did not come.
pub(crate) fn execute_failed(sql: &str, error: &SqlError) -> Error {
    coded(
        &code::DB_EXECUTE_FAILED,
        "execute statement failed",
        sql,
        error,
    )
}

/// A connection that could not be made.
pub(crate) fn connect_failed(address: &str, error: &SqlError) -> Error {
    let message = format!("cannot connect to {address}");
    let connect = Error::new(&code::DB_DRIVER_ERROR, message);
    let connect = explained(connect, error);
    if connect.cause.contains("certificate") {
        return connect.with_workaround(
            "The server's certificate must come from `ssl-ca` of `target-database.security`: \
             correct one of the two.",
        );
    }
    connect
}

fn coded(kind: &Code, what: &str, sql: &str, error: &SqlError) -> Error {
    // A statement that got no answer is not the statement's fault.
    let kind = match number(error) {
        Some(_) => kind,
        None => &code::DB_INVALID_CONN,
    };
    // An error is one line.
    let blank = |c: char| if c.is_control() { ' ' } else { c };
    let shown: String = sql.chars().take(SHOWN_MAX).map(blank).collect();
    let more = if shown.len() < sql.len() { "…" } else { "" };
    explained(Error::new(kind, format!("{what}: {shown}{more}")), error)
}

/// Adds what the server said and what helps.
fn explained(coded: Error, error: &SqlError) -> Error {
    let coded = coded.with_scope(Scope::Downstream).with_cause(cause(error));
    match number(error).and_then(workaround) {
        Some(text) => coded.with_workaround(text),
        None => coded,
    }
}

/// The server's words in the form that Go's client gives them, or what became of the connection.
pub(crate) fn cause(error: &SqlError) -> String {
    match error {
        SqlError::Server(server) => format!(
            "Error {} ({}): {}",
            server.code, server.state, server.message
        ),
        SqlError::Io(IoError::Io(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            error.to_string()
        }
        SqlError::Io(IoError::Io(error)) => format!("invalid connection: {error}"),
        other => format!("invalid connection: {other}"),
    }
}

/// The server's error number; `None` when the server said nothing.
pub(crate) fn number(error: &SqlError) -> Option<u16> {
    match error {
        SqlError::Server(server) => Some(server.code),
        _ => None,
    }
}

/// Whether the same statement may succeed when it is just sent again: lock trouble, and what TiDB
/// answers while its schema or leaders move.
pub(crate) fn is_transient(error: &SqlError) -> bool {
    let SqlError::Server(server) = error else {
        return true;
    };
    match server.code {
        // Lock wait, deadlock; XA deadlock; killed; shutting down; too many connections.
        1205 | 1213 | 1614 | 3101 | 3572 | 1317 | 1927 | 1053 | 1040 | 1203 => true,
        // TiDB: transaction conflicts, schema changed, region and PD trouble, global kill.
        8002 | 8005 | 8022 | 8027 | 8028 | 8229 | 9001..=9005 | 9007 => true,
        1105 => {
            let text = server.message.to_ascii_lowercase();
            [
                "information schema is out of date",
                "information schema is changed",
            ]
            .iter()
            .any(|known| text.contains(known))
        }
        _ => false,
    }
}

/// Whether a statement was cut off from outside, perhaps only after it was done.
pub(crate) fn is_interruption(number: u16) -> bool {
    // Shutdown, killed, out of time; what TiDB says of anything unexpected.
    matches!(number, 1053 | 1105 | 1317 | 1927 | 1969 | 3024)
}

/// Whether a refused COMMIT certainly left nothing behind.
pub(crate) fn is_rolled_back(number: u16) -> bool {
    matches!(
        number,
        1205 | 1213 | 1290 | 1836 | 3101 | 8002 | 8005 | 8022 | 8027 | 8028 | 9007
    )
}

/// What the operator can do about a server error.
fn workaround(number: u16) -> Option<&'static str> {
    Some(match number {
        1290 | 1836 => {
            "The target is read-only: switch off `read_only`/`super_read_only`, or point the task \
             at the writable server. The task then goes on by itself."
        }
        3 | 14 | 1021 | 1030 | 1114 => {
            "The target's disk is full (or its storage fails): free space there. The task then \
             goes on by itself, nothing is lost."
        }
        1040 | 1203 | 1226 => {
            "The target has no connections left: raise its limit or lower `worker-count`."
        }
        1045 | 1698 => "Check user and password of `target-database`.",
        1044 | 1142 | 1143 | 1227 | 1410 => {
            "Grant the target user SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, \
             REFERENCES on the target schemas and on the meta schema; for views CREATE VIEW, and \
             SET_ANY_DEFINER (or SUPER) where somebody else has defined them."
        }
        1049 => "Create the schema in the target, or check the routes of the task.",
        1146 => "Create the table in the target, or check the routes of the task.",
        1054 => {
            "The target table lacks a column of the source: add it there with the type it has in \
             the source. The task then goes on by itself."
        }
        1062 => {
            "A row with that key is in the target already: somebody else wrote to it, a unique \
             key there is stricter than in the source, or its collation takes for equal what the \
             source does not (`collation_compatible: strict` makes tables with the source's). \
             Compare the two rows, correct the target, then resume the task."
        }
        1153 | 1301 | 8025 => {
            "A row does not fit into one packet: raise `max_allowed_packet` of the target (it is \
             read anew at each start of the task)."
        }
        1205 => {
            "Somebody holds locks on the target's rows for long: look for open transactions there."
        }
        1048 | 1364 => {
            "A column of the target needs a value that the source does not have: give it a default."
        }
        1264 | 1265 | 1366 | 1406 | 1292 => {
            "A value does not fit into the target's column: give it the type and character set of \
             the source's column, then resume the task."
        }
        1451 | 1452 => {
            "A foreign key of the target is in the way: leave `foreign_key_checks` off in \
             `target-database.session`."
        }
        1298 => {
            "The target does not know the time zone: load the time zone tables there \
             (`mysql_tzinfo_to_sql`)."
        }
        1193 | 1231 | 1232 | 1238 => {
            "Remove the variable from `target-database.session`, or give it a value that this \
             server accepts."
        }
        UNKNOWN_CHARSET | UNKNOWN_COLLATION => {
            "The target does not know this character set or collation: make the schema or table \
             there by hand with one that it knows, then resume the task. Statements of the binlog \
             about what is there already have to be skipped, unless they make a schema."
        }
        1064 => {
            "The target does not understand the statement: execute an equal one by hand there, \
                 then skip it."
        }
        1526 => "No partition of the target's table takes this row: add one.",
        3750 => {
            "Switch off `sql_require_primary_key` in the target: a table of the source, or of the \
             worker's own, has no primary key."
        }
        1785 => {
            "A table of the target has no transactions, which its GTIDs need: execute \
             `ALTER TABLE … ENGINE=InnoDB` there, then resume the task."
        }
        3819 | 4025 => "A CHECK constraint of the target refuses the row: correct or drop it.",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use mysql_async::ServerError;

    use super::*;

    fn server(code: u16, message: &str) -> SqlError {
        SqlError::Server(ServerError {
            code,
            message: message.to_owned(),
            state: "HY000".to_owned(),
        })
    }

    #[test]
    fn causes_read_as_the_existing_worker_writes_them() {
        let error = execute_failed("INSERT", &server(1062, "Duplicate entry '1'"));
        assert_eq!(error.code, code::DB_EXECUTE_FAILED.number);
        assert_eq!(error.scope, Scope::Downstream);
        assert_eq!(error.cause, "Error 1062 (HY000): Duplicate entry '1'");
        assert!(error.workaround.contains("unique"), "{error}");
    }

    #[test]
    fn a_lost_connection_is_not_the_statements_fault() {
        let lost = SqlError::Io(io::Error::from(io::ErrorKind::ConnectionReset).into());
        let error = execute_failed("INSERT", &lost);
        assert!(error.is(&code::DB_INVALID_CONN));
        assert!(error.cause.starts_with("invalid connection"), "{error}");
        assert!(is_transient(&lost));
    }

    #[test]
    fn only_passing_trouble_is_transient() {
        for code in [1213, 1205, 9007, 8028] {
            assert!(is_transient(&server(code, "")), "{code}");
        }
        for code in [1062, 1054, 1146, 1290, 1114] {
            assert!(!is_transient(&server(code, "")), "{code}");
        }
        assert!(is_transient(&server(
            1105,
            "Information schema is changed during …"
        )));
        assert!(!is_transient(&server(1105, "unknown")));
    }

    #[test]
    fn long_statements_are_cut_at_a_character() {
        let error = query_failed(&"ä".repeat(1000), &server(1064, ""));
        assert!(error.message.ends_with("ä…"), "{error}");
        assert!(error.message.chars().count() < 300);
    }
}

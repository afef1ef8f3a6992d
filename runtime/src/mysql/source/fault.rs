//! What a fault of the connection to a source means for an operator.

use dm_core::{
    control::db::DbConfig,
    error::{Error, Scope, code},
};

use crate::mysql::conn::Fault;

/// The error number of whatever a server has against a dump.
const DUMP_REFUSED: u16 = 1236;

const GRANT: &str = "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* to the user of the source.";

/// A source that cannot be asked.
pub(in crate::mysql) fn broken(fault: &Fault, db: &DbConfig) -> Error {
    let code = match fault {
        Fault::Tls(_) => &code::CONN_INVALID_TLS_CONFIG,
        _ => &code::DB_DRIVER_ERROR,
    };
    let text = match fault {
        Fault::Tls(_) => "invalid TLS config",
        _ => "database driver error",
    };
    let at = if db.host.starts_with('/') {
        db.host.clone()
    } else {
        format!("{}:{}", db.host, db.port)
    };
    let error = Error::new(code, format!("source {at}: {text}"))
        .with_scope(Scope::Upstream)
        .with_cause(fault.to_string());
    match advice(fault) {
        Some(advice) => error.with_workaround(advice),
        None => error,
    }
}

/// What a source does not have of what it is asked for.
pub(super) enum Missing {
    /// It had that.
    Purged(String),
    /// It may have that one day.
    NotYet(String),
}

/// A dump that was refused, or ended, for want of something perhaps.
pub(super) fn refused(fault: &Fault, missing: Option<Missing>) -> Error {
    let cause = fault.to_string();
    let Some(missing) = missing else {
        let error = Error::new(
            &code::SYNCER_GET_EVENT,
            format!("get binlog event error: {cause}"),
        );
        let advice = match fault.code() {
            Some(DUMP_REFUSED) if is_conflict(fault) => Some(
                "Nothing to do: the next attempt takes another server id. To keep the id, see that \
                 no other replica of the source uses it.",
            ),
            // MySQL's and MariaDB's words for the same.
            Some(DUMP_REFUSED)
                if cause.contains("position > file size")
                    || cause.contains("impossible position") =>
            {
                Some(
                    "The source's binlog is shorter than the position asked for. If the source was \
                 restored or replaced, start the task again from a full copy, or with a `meta` \
                 that belongs to this server.",
                )
            }
            Some(DUMP_REFUSED)
                if cause.contains("bogus data") || cause.contains("max_allowed_packet") =>
            {
                Some(
                    "There may be no event at the position asked for: take it from the tool that \
                     made the copy. It is kept as the progress of the task; to start elsewhere, \
                     give the task another name. If the position is right, see whether \
                     `mysqlbinlog` can read the file.",
                )
            }
            Some(DUMP_REFUSED) if cause.contains("GTID_MODE") => Some(
                "Set `gtid_mode` of the source to ON, or `enable-gtid` of the source to false.",
            ),
            // The user could log in: it is not the password.
            Some(1045) => Some(GRANT),
            _ => advice(fault),
        };
        let error = error.with_cause(cause);
        return match advice {
            Some(advice) => error.with_workaround(advice),
            None => error,
        };
    };
    let (missing, advice) = match missing {
        Missing::Purged(what) => (
            what,
            "Nothing is lost in the target, but replication cannot go on without these. Put the \
             purged binlog files back on the source, or let `from` point to a server that still \
             has them, and resume the task; else start it again from a full copy.",
        ),
        Missing::NotYet(what) => (
            what,
            "Look at the position that the task starts at (`meta`), and whether `from` is the \
             server that it belongs to. It is kept as the progress of the task; to start \
             elsewhere, give the task another name.",
        ),
    };
    Error::new(
        &code::SYNCER_GET_EVENT,
        format!("get binlog event error: {missing}"),
    )
    .with_cause(cause)
    .with_workaround(advice)
}

/// Whether another replica showed up with our server id or UUID.
pub(super) fn is_conflict(fault: &Fault) -> bool {
    matches!(fault, Fault::Server { code: DUMP_REFUSED, message, .. }
        if message.contains("same server_uuid/server_id"))
}

/// What to do about it, where that is more than the code's general advice.
fn advice(fault: &Fault) -> Option<&'static str> {
    match fault {
        Fault::Io(_) => Some(
            "Check that `host` and `port` of the source are right, that the server runs, and that \
             it can be reached from this worker.",
        ),
        Fault::Closed | Fault::Silence(_) => {
            Some("Check that the server runs and the network to it works; the worker tries again.")
        }
        Fault::Method(_) => Some(
            "Let the user authenticate by caching_sha2_password, mysql_native_password or \
             client_ed25519.",
        ),
        Fault::Server { code, .. } => match code {
            1044 | 1045 | 1698 => Some(
                "Check `user` and `password` of the source, and that the account may connect from \
                 this worker's address.",
            ),
            1142 | 1227 | 1370 => Some(GRANT),
            1129 => Some("Run FLUSH HOSTS on the source."),
            _ => None,
        },
        Fault::Tls(_) | Fault::Protocol(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: u16, message: &str) -> Fault {
        Fault::Server {
            code,
            state: "HY000".to_owned(),
            message: message.to_owned(),
        }
    }

    #[test]
    fn the_cause_stays_as_the_server_said_it() {
        let error = refused(
            &server(
                1236,
                "Could not find first log file name in binary log index file",
            ),
            Some(Missing::Purged(
                "the source no longer has the file binlog.000001".to_owned(),
            )),
        );
        assert_eq!(
            error.cause,
            "Error 1236 (HY000): Could not find first log file name in binary log index file"
        );
        assert!(error.is(&code::SYNCER_GET_EVENT));
        assert!(error.message.contains("binlog.000001"));
    }

    #[test]
    fn a_conflict_is_known_by_its_text() {
        let text = "A replica with the same server_uuid/server_id as this replica has connected";
        assert!(is_conflict(&server(1236, text)));
        assert!(!is_conflict(&server(1236, "log event entry exceeded")));
        assert!(!is_conflict(&Fault::Closed));
    }
}

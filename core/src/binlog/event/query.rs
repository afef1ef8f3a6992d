use alloc::{borrow::Cow, string::String, vec::Vec};

use bytes::Bytes;

use super::super::{
    Result,
    charset::{Charset, latin1},
    reader::{Reader, text},
};

/// A statement as the source ran it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryEvent {
    /// Connection id on the source; temporary tables belong to it.
    pub thread_id: u32,
    /// Default database; empty for none.
    pub schema: String,
    /// The text, in the charset [`StatusVars::client_charset`].
    pub sql: Bytes,
    /// Error that the statement ended with on the source; zero for none.
    pub error_code: u16,
    /// The session that it ran in.
    pub vars: StatusVars,
}

/// Session state that the text of a statement depends on. What a server does not send is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusVars {
    /// Option bits: autocommit, `foreign_key_checks`, `unique_checks`, `sql_auto_is_null`.
    pub flags2: Option<u32>,
    /// `sql_mode` bits of the source's flavor.
    pub sql_mode: Option<u64>,
    /// `auto_increment_increment` and `auto_increment_offset`.
    pub auto_increment: Option<(u16, u16)>,
    /// Collation ids: `character_set_client`, `collation_connection`, `collation_server`.
    pub charset: Option<[u16; 3]>,
    /// `time_zone`, as the session had it.
    pub time_zone: Option<String>,
    /// `lc_time_names`, by number.
    pub lc_time_names: Option<u16>,
    /// `collation_database`, by id.
    pub collation_database: Option<u16>,
    /// Who a view or routine runs as: user and host.
    pub invoker: Option<(String, String)>,
    /// The schemas that the statement touches, by MySQL; `None` also if they are too many to tell.
    pub schemas: Option<Vec<String>>,
    /// Fraction of the statement's timestamp, in microseconds.
    pub microseconds: Option<u32>,
    /// `explicit_defaults_for_timestamp`.
    pub explicit_defaults_for_timestamp: Option<bool>,
    /// Number of the transaction that a DDL was logged with.
    pub ddl_xid: Option<u64>,
    /// `default_collation_for_utf8mb4`, by id.
    pub default_collation_for_utf8mb4: Option<u16>,
    /// What else than the default collation of a character set is used where a statement names
    /// the set: pairs of ids, by MariaDB (`character_set_collations`).
    pub default_collations: Vec<(u16, u16)>,
    /// `sql_require_primary_key`.
    pub sql_require_primary_key: Option<bool>,
    /// `default_table_encryption`.
    pub default_table_encryption: Option<bool>,
    /// Which part of an ALTER it is, on MariaDB with `binlog_alter_two_phase=ON`.
    pub alter: Option<AlterPhase>,
}

/// A part of an ALTER that MariaDB logs twice: when it starts, so that replicas can start too, and
/// when it is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlterPhase {
    /// It starts; nothing has changed yet.
    Start,
    /// It is done.
    Commit,
    /// It failed.
    Rollback,
}

impl QueryEvent {
    /// The statement as text; `None` if its charset is one that cannot be decoded and it is not
    /// plain ASCII.
    #[must_use]
    pub fn text(&self) -> Option<Cow<'_, str>> {
        let id = self.vars.client_charset();
        // Servers that tell nothing have a client that speaks UTF-8.
        match id.map_or(Some(Charset::Utf8), Charset::from_collation_id) {
            Some(Charset::Latin1) if !self.sql.is_ascii() => {
                Some(self.sql.iter().map(|&byte| latin1(byte)).collect())
            }
            Some(Charset::Wide(_)) => None,
            None | Some(Charset::Other(_)) if !self.sql.is_ascii() => None,
            _ => str::from_utf8(&self.sql).ok().map(Cow::Borrowed),
        }
    }
}

impl StatusVars {
    /// Collation id of the client's charset, in which the statement is written.
    #[must_use]
    pub fn client_charset(&self) -> Option<u16> {
        self.charset.map(|ids| ids[0])
    }
}

impl QueryEvent {
    /// Reads the body of a QUERY event.
    pub(in super::super) fn parse(body: &Bytes) -> Result<Self> {
        Self::parse_behind(body, 0)
    }

    /// Reads the body of an EXECUTE_LOAD_QUERY event: a LOAD DATA whose file came before.
    pub(in super::super) fn parse_load(body: &Bytes) -> Result<Self> {
        // Number of the file, where its name is in the text, and what to do about duplicates.
        Self::parse_behind(body, 4 + 4 + 4 + 1)
    }

    /// `more` bytes stand behind the fixed part.
    fn parse_behind(body: &Bytes, more: usize) -> Result<Self> {
        let mut reader = Reader::new(body, "query event");
        let thread_id = reader.u32()?;
        let _exec_seconds = reader.u32()?;
        let schema_len = usize::from(reader.u8()?);
        let error_code = reader.u16()?;
        let vars_len = usize::from(reader.u16()?);
        reader.range(more)?;
        let vars = parse_vars(reader.bytes(vars_len)?)?;
        let schema = text(reader.bytes(schema_len)?);
        if reader.u8()? != 0 {
            return Err(reader.malformed());
        }
        Ok(Self {
            thread_id,
            schema,
            sql: body.slice(reader.position()..),
            error_code,
            vars,
        })
    }

    /// Where the text of a compressed query event starts, which is otherwise the same.
    pub(in super::super) fn sql_offset(body: &[u8]) -> Result<usize> {
        let mut reader = Reader::new(body, "query event");
        reader.range(8)?;
        let schema_len = usize::from(reader.u8()?);
        reader.u16()?;
        let vars_len = usize::from(reader.u16()?);
        reader.range(vars_len + schema_len + 1)?;
        Ok(reader.position())
    }
}

/// Reads status variables: a code, then a value whose length the code implies.
fn parse_vars(data: &[u8]) -> Result<StatusVars> {
    let mut reader = Reader::new(data, "status variables of a query event");
    let mut vars = StatusVars::default();
    while !reader.is_empty() {
        match reader.u8()? {
            0 => vars.flags2 = Some(reader.u32()?),
            1 => vars.sql_mode = Some(reader.u64()?),
            // The catalog, in its old and its new form; always "std".
            2 => drop(reader.short_str_zero()?),
            3 => vars.auto_increment = Some((reader.u16()?, reader.u16()?)),
            4 => vars.charset = Some([reader.u16()?, reader.u16()?, reader.u16()?]),
            5 => vars.time_zone = Some(reader.short_str()?),
            6 => drop(reader.short_str()?),
            7 => vars.lc_time_names = Some(reader.u16()?),
            8 => vars.collation_database = Some(reader.u16()?),
            // Tables for a multi-table update.
            9 => drop(reader.u64()?),
            // Size of the event on the original source.
            10 => drop(reader.u32()?),
            11 => vars.invoker = Some((reader.short_str()?, reader.short_str()?)),
            12 => vars.schemas = schemas(&mut reader)?,
            13 => vars.microseconds = Some(little_endian_24(&mut reader)?),
            // Commit timestamps of old MySQL 5.7 milestones.
            14 | 15 => drop(reader.u64()?),
            16 => vars.explicit_defaults_for_timestamp = Some(reader.u8()? != 0),
            17 => vars.ddl_xid = Some(reader.u64()?),
            18 => vars.default_collation_for_utf8mb4 = Some(reader.u16()?),
            19 => vars.sql_require_primary_key = Some(reader.u8()? != 0),
            20 => vars.default_table_encryption = Some(reader.u8()? != 0),
            // MariaDB: fraction of the timestamp, transaction number, GTID flags, collations.
            128 => vars.microseconds = Some(little_endian_24(&mut reader)?),
            129 => vars.ddl_xid = Some(reader.u64()?),
            130 => vars.alter = alter_phase(&mut reader)?,
            131 => {
                for _ in 0..reader.u8()? {
                    vars.default_collations.push((reader.u16()?, reader.u16()?));
                }
            }
            // Codes are written in ascending order, so only unknown ones can follow.
            _ => break,
        }
    }
    Ok(vars)
}

/// Names of schemas, each ending with a zero byte.
fn schemas(reader: &mut Reader<'_>) -> Result<Option<Vec<String>>> {
    const TOO_MANY: u8 = 254;
    let count = reader.u8()?;
    if count == TOO_MANY {
        return Ok(None);
    }
    let mut names = Vec::new();
    for _ in 0..count {
        names.push(text(reader.until_zero()?));
    }
    // An empty name stands for what has none.
    let told = !names.is_empty() && names.iter().all(|name| !name.is_empty());
    Ok(told.then_some(names))
}

/// More flags of MariaDB's GTIDs; the number of the ALTER that started is behind them.
fn alter_phase(reader: &mut Reader<'_>) -> Result<Option<AlterPhase>> {
    const START: u8 = 2;
    const COMMIT: u8 = 4;
    const ROLLBACK: u8 = 8;
    let flags = reader.u8()?;
    if flags & (COMMIT | ROLLBACK) != 0 {
        reader.u64()?;
    }
    Ok(match flags {
        _ if flags & COMMIT != 0 => Some(AlterPhase::Commit),
        _ if flags & ROLLBACK != 0 => Some(AlterPhase::Rollback),
        _ if flags & START != 0 => Some(AlterPhase::Start),
        _ => None,
    })
}

fn little_endian_24(reader: &mut Reader<'_>) -> Result<u32> {
    let [a, b, c] = reader.array()?;
    Ok(u32::from_le_bytes([a, b, c, 0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_decoded_from_the_charset_of_their_client() {
        let text = |charset: Option<u16>, sql: &'static [u8]| {
            let vars = StatusVars {
                charset: charset.map(|id| [id, 45, 45]),
                ..StatusVars::default()
            };
            let query = QueryEvent {
                thread_id: 1,
                schema: String::new(),
                sql: Bytes::from_static(sql),
                error_code: 0,
                vars,
            };
            query.text().map(Cow::into_owned)
        };
        assert_eq!(text(None, "é".as_bytes()).as_deref(), Some("é"));
        assert_eq!(text(Some(255), "é".as_bytes()).as_deref(), Some("é"));
        assert_eq!(text(Some(8), b"\xe9\x80").as_deref(), Some("é€"));
        assert_eq!(text(Some(8), b"plain").as_deref(), Some("plain"));
        // GBK.
        assert_eq!(text(Some(28), b"plain").as_deref(), Some("plain"));
        assert_eq!(text(Some(28), b"\xd6\xd0"), None);
        assert_eq!(text(Some(45), b"\xd6\xd0"), None);
    }

    #[test]
    fn every_status_variable() {
        let mut data = alloc::vec![0, 1, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 2, 3];
        data.extend_from_slice(
            b"std\0\x03\x05\0\x07\0\x04\x08\0\x21\0\xff\0\x05\x06+02:00\x06\x03std",
        );
        data.extend_from_slice(b"\x07\x06\0\x08\x2d\0\x09\0\0\0\0\0\0\0\0\x0a\0\0\0\0");
        data.extend_from_slice(b"\x0b\x04root\x09localhost\x0c\x02db1\0db2\0\x0d\x01\x02\x03");
        data.extend_from_slice(b"\x10\x01\x11\x09\0\0\0\0\0\0\0\x12\xff\0\x13\x01\x14\0\x63junk");
        let vars = parse_vars(&data).unwrap();
        let expected = StatusVars {
            flags2: Some(1),
            sql_mode: Some(2),
            auto_increment: Some((5, 7)),
            charset: Some([8, 33, 255]),
            time_zone: Some("+02:00".into()),
            lc_time_names: Some(6),
            collation_database: Some(45),
            invoker: Some(("root".into(), "localhost".into())),
            schemas: Some(alloc::vec!["db1".into(), "db2".into()]),
            microseconds: Some(0x30201),
            explicit_defaults_for_timestamp: Some(true),
            ddl_xid: Some(9),
            default_collation_for_utf8mb4: Some(255),
            default_collations: Vec::new(),
            sql_require_primary_key: Some(true),
            default_table_encryption: Some(false),
            alter: None,
        };
        assert_eq!(vars, expected);
        for len in 0..data.len() {
            // Cut anywhere, it is an error or a part.
            let _ = parse_vars(&data[..len]);
        }
        let mariadb = b"\x0c\xfe\x80\x01\0\0\x81\x05\0\0\0\0\0\0\0\x82\0\x83\x01\x21\0\x2d\0";
        let vars = parse_vars(mariadb).unwrap();
        assert_eq!((vars.microseconds, vars.ddl_xid), (Some(1), Some(5)));
        assert_eq!(vars.schemas, None);
        assert_eq!(vars.default_collations, [(33, 45)]);
    }

    #[test]
    fn the_parts_of_an_alter() {
        let number = [1, 0, 0, 0, 0, 0, 0, 0];
        let cases = [
            ([0x82, 2], &[][..], Some(AlterPhase::Start)),
            ([0x82, 4], &number, Some(AlterPhase::Commit)),
            ([0x82, 8], &number, Some(AlterPhase::Rollback)),
            ([0x82, 0], &[], None),
        ];
        for (flags, number, expected) in cases {
            // What follows is read in the right place.
            let data = [&flags, number, &[17, 1, 0, 0, 0, 0, 0, 0, 0]].concat();
            let vars = parse_vars(&data).unwrap();
            assert_eq!((vars.alter, vars.ddl_xid), (expected, Some(1)));
        }
        assert!(parse_vars(&[0x82, 4, 1]).is_err());
    }
}

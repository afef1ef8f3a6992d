//! What servers answer: all that is looked at, in a few queries each.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use dm_core::{
    binlog::{Flavor, GtidSet, Position},
    control::{SourceConfig, SubtaskConfig, db::DbConfig, subtask::Meta},
    error::Result as Coded,
    sync::{
        ddl::{Class, Rules},
        schema::TableName,
    },
};
use tokio::time::timeout;

use super::{
    grants::{Grants, Names},
    item::Problem,
    privileges::User,
    schema::There,
    server::{STATUS, VARIABLES, Variables},
    tables::{self, Kind, Tables, in_list},
};
use crate::{
    mysql::{
        conn::{Conn, Fault, Row},
        errors::{UNKNOWN_CHARSET, UNKNOWN_COLLATION},
        meta,
        session::{Values, dialect_of},
        source::Upstream,
    },
    ports::{Logged, Source as _, Start},
};

/// How long a server may think about one query, where it has very many tables.
const SILENCE_MAX: Duration = Duration::from_secs(300);
/// How long the first event of a binlog is waited for.
const EVENT_MAX: Duration = Duration::from_secs(15);
/// Where the status of a replica says whether it executes what it has received.
const SQL_THREAD: usize = 11;
/// So many tables are looked into with one query.
const TABLES_AT_ONCE: usize = 200;

/// What is known of a source.
pub(super) struct Source {
    pub(super) variables: Variables,
    pub(super) user: User,
    /// The schemas that are logged, if the user may know.
    pub(super) logged: Option<Logged>,
    /// Whether it is a replica, as far as the user may know.
    pub(super) is_replica: bool,
    /// Whether it replicates now.
    pub(super) replicates: bool,
    /// Size of the binlog.
    pub(super) binlog_bytes: u64,
    /// Schemas that the task names, each with its default collation.
    pub(super) schemas: BTreeMap<String, String>,
    /// Tables and views that the task names.
    pub(super) tables: Tables,
    /// Tables that a tool fills, to put them in the place of tables of the task.
    pub(super) ghosts: Vec<TableName>,
    /// Triggers, events and routines: what they are, and their names.
    pub(super) programs: BTreeMap<String, Vec<String>>,
    /// The accounts that views of the task have as their definers, by view.
    pub(super) definers: BTreeMap<TableName, String>,
}

impl Source {
    /// Asks a source for what a task needs of it; `programs` says whether these matter.
    pub(super) async fn ask(db: &DbConfig, rules: &Rules, programs: bool) -> Result<Self, Fault> {
        let mut conn = open(db).await?;
        let (variables, user) = server(&mut conn).await?;
        let mut status = optional(&mut conn, "SHOW BINARY LOG STATUS").await?;
        if status.is_empty() {
            status = optional(&mut conn, "SHOW MASTER STATUS").await?;
        }
        let logs = optional(&mut conn, "SHOW BINARY LOGS").await?;
        let mut replicated = optional(&mut conn, "SHOW REPLICA STATUS").await?;
        if replicated.is_empty() {
            replicated = optional(&mut conn, "SHOW SLAVE STATUS").await?;
        }
        let schemas = schemas(&mut conn, rules).await?;
        let names = schemas.keys().cloned().collect();
        let mut ghosts = Vec::new();
        let tables = tables::read(&mut conn, &names, |name| {
            if is_ghost(rules, name) {
                ghosts.push(name.clone());
            }
            // An ambiguous route is told by whoever uses it.
            !matches!(rules.target(name), Ok(None))
        })
        .await?;
        let mut definers = match programs && tables.values().any(|it| it.kind == Kind::View) {
            true => definers(&mut conn, &names).await?,
            false => BTreeMap::new(),
        };
        definers.retain(|view, _| tables.contains_key(view));
        Ok(Self {
            logged: status.first().map(|row| Logged {
                only: row.text(2),
                never: row.text(3),
                any_case: variables.number("lower_case_table_names") != 0,
            }),
            is_replica: !replicated.is_empty(),
            replicates: variables.number("slaves_running") > 0
                || replicated.iter().any(|row| row.text(SQL_THREAD) == "Yes"),
            binlog_bytes: logs.iter().map(|row| row.number::<u64>(1)).sum(),
            programs: match programs {
                true => self::programs(&mut conn, &names, rules).await?,
                false => BTreeMap::new(),
            },
            variables,
            user,
            schemas,
            tables,
            ghosts,
            definers,
        })
    }
}

/// What is known of a target.
pub(super) struct Target {
    pub(super) variables: Variables,
    pub(super) user: User,
    pub(super) there: There,
}

/// What is wanted to be known of a target.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Where rows go.
    pub(super) tables: BTreeSet<TableName>,
    /// Of which of these it matters whether they have rows.
    pub(super) filled: BTreeSet<TableName>,
    /// Collations of the source.
    pub(super) collations: BTreeSet<String>,
}

impl Target {
    /// Asks a target.
    pub(super) async fn ask(db: &DbConfig, wanted: &Wanted) -> Result<Self, Fault> {
        let mut conn = open(&without_ours(db)).await?;
        let (variables, user) = server(&mut conn).await?;
        const ENGINES: &str = "SELECT ENGINE FROM information_schema.ENGINES \
                               WHERE SUPPORT IN ('YES','DEFAULT')";
        let engines = conn.query(ENGINES).await?;
        let mut there = There {
            any_case: variables.number("lower_case_table_names") != 0,
            unknown_types: There::types_unknown_to(dialect_of(variables.get("version"))),
            engines: engines
                .iter()
                .map(|row| row.text(0).to_lowercase())
                .collect(),
            ..There::default()
        };
        let names: BTreeSet<_> = wanted.tables.iter().map(|name| there.key(name)).collect();
        let schemas = names.iter().map(|name| name.schema.clone()).collect();
        let is_wanted = |name: &TableName| names.contains(&there.key(name));
        let tables = tables::read(&mut conn, &schemas, is_wanted).await?;
        let named = |(name, facts)| (there.key(&name), facts);
        there.tables = tables.into_iter().map(named).collect();
        let filled: Vec<_> = wanted.filled.iter().map(|name| there.key(name)).collect();
        let filled: Vec<_> = filled
            .into_iter()
            .filter(|name| there.tables.contains_key(name))
            .collect();
        for names in filled.chunks(TABLES_AT_ONCE) {
            there.filled.extend(with_rows(&mut conn, names).await?);
        }
        for collation in &wanted.collations {
            if !knows(&mut conn, collation).await? {
                there.unknown.insert(collation.clone());
            }
        }
        if !there.unknown.is_empty() {
            let sql = format!(
                "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME IN ({})",
                in_list(&schemas)
            );
            let found = conn.query(&sql).await?;
            there.schemas = found.iter().map(|row| there.schema(&row.text(0))).collect();
        }
        Ok(Self {
            variables,
            user,
            there,
        })
    }
}

/// Which of these parts of a task have begun in the target: it has rows of theirs in its meta
/// tables.
pub(super) async fn begun(db: &DbConfig, parts: &[&SubtaskConfig]) -> Result<Vec<bool>, Fault> {
    let mut conn = open(&without_ours(db)).await?;
    let mut begun = Vec::new();
    for part in parts {
        let (schema, task, source) = (&part.meta_schema, &part.name, &part.source_id);
        // No place in a binlog is read.
        let meta = meta::Meta::new(schema, task, source, Flavor::Mysql);
        let mut found = false;
        for sql in meta.select_traces() {
            found |= !optional(&mut conn, &sql).await?.is_empty();
        }
        begun.push(found);
    }
    Ok(begun)
}

/// Tries to read the binlog from where a task starts.
pub(super) async fn read_from(
    config: &SourceConfig,
    start: &Meta,
    flavor: Flavor,
) -> Option<Problem> {
    let read = async {
        let start = start_of(start, flavor, config.enable_gtid)?;
        let source = Upstream::new(&Arc::new(config.clone()), "dm-worker check");
        source.dump(&start).await.map(drop)
    };
    // A source that has nothing to say yet is a good one.
    let Ok(Err(error)) = timeout(EVENT_MAX, read).await else {
        return None;
    };
    Some(Problem::fail(
        format!("the binlog can't be read from `meta` on: {}", error.message),
        error.workaround,
    ))
}

fn start_of(meta: &Meta, flavor: Flavor, by_gtid: bool) -> Coded<Start> {
    if !meta.binlog_gtid.is_empty() && (by_gtid || meta.binlog_name.is_empty()) {
        return Ok(Start::Gtids(GtidSet::parse(flavor, &meta.binlog_gtid)?));
    }
    let pos = u64::from(meta.binlog_pos).max(Position::FIRST);
    Ok(Start::Position(Position::new(&meta.binlog_name, pos)))
}

async fn open(db: &DbConfig) -> Result<Conn, Fault> {
    let mut conn = Conn::open(db).await?;
    conn.wait_for(SILENCE_MAX);
    conn.query("SET SESSION sql_mode=''").await?;
    Ok(conn)
}

/// How the target is reached, without session variables that only sessions for rows have.
fn without_ours(db: &DbConfig) -> DbConfig {
    let mut db = db.clone();
    let ours = ["sql_mode", "tidb_txn_mode", "autocommit"];
    if let Some(session) = &mut db.session {
        session.retain(|name, _| !ours.contains(&&*name.to_lowercase()));
    }
    db
}

/// The rows of a query, none where the server refuses it.
async fn optional(conn: &mut Conn, sql: &str) -> Result<Vec<Row>, Fault> {
    match conn.query(sql).await {
        Err(fault) if fault.code().is_some() => Ok(Vec::new()),
        rows => rows,
    }
}

/// Those of the schemas that a connection's user may not read all of, as far as it can be told.
pub(crate) async fn seen_in_part(conn: &mut Conn, schemas: BTreeSet<&str>) -> Vec<String> {
    let Ok((_, user)) = server(conn).await else {
        return Vec::new();
    };
    let in_part = |schema: &&str| !user.grants.in_schema("SELECT", schema);
    schemas
        .into_iter()
        .filter(in_part)
        .map(str::to_owned)
        .collect()
}

async fn server(conn: &mut Conn) -> Result<(Variables, User), Fault> {
    let mut rows = conn.query(VARIABLES).await?;
    rows.extend(optional(conn, STATUS).await?);
    let variables = Variables::new(rows);
    let names = Names {
        any_case: variables.number("lower_case_table_names") != 0,
        literal: variables.is_on("partial_revokes"),
    };
    let name = conn.query("SELECT CURRENT_USER()").await?;
    let name = name.first().map_or_else(String::new, |row| row.text(0));
    // Older servers have no roles.
    let active = optional(conn, "SELECT CURRENT_ROLE()").await?;
    let active = active.first().map_or_else(String::new, |row| row.text(0));
    // MariaDB takes its role into account without being asked.
    let sql = match &*active {
        "" | "NONE" => "SHOW GRANTS".to_owned(),
        _ if variables.flavor() == Flavor::Mariadb => "SHOW GRANTS".to_owned(),
        roles => format!("SHOW GRANTS FOR CURRENT_USER() USING {roles}"),
    };
    let rows = conn.query(&sql).await?;
    let rows = rows.iter().filter_map(|row| row.first()?.as_deref());
    let grants = Grants::parse(rows, names);
    let user = User {
        name: account(&name),
        uses_roles: grants.roles.iter().all(|role| active.contains(&**role)),
        grants,
    };
    Ok((variables, user))
}

/// `name@host`, as statements want it.
fn account(name: &str) -> String {
    match name.rsplit_once('@') {
        Some((user, host)) => format!("'{user}'@'{host}'"),
        None => format!("'{name}'"),
    }
}

/// The schemas that a task names, each with its default collation.
async fn schemas(conn: &mut Conn, rules: &Rules) -> Result<BTreeMap<String, String>, Fault> {
    let rows = conn
        .query("SELECT SCHEMA_NAME,DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA")
        .await?;
    let schemas = rows.iter().map(|row| (row.text(0), row.text(1)));
    let is_wanted = |(name, _): &(String, String)| {
        let schema = TableName::new(name.as_str(), "");
        rules.filter.allows(&schema)
    };
    Ok(schemas.filter(is_wanted).collect())
}

fn is_ghost(rules: &Rules, name: &TableName) -> bool {
    let class = rules.online.as_ref().map(|it| it.class(&name.table));
    match class {
        Some(Class::Ghost(real)) => rules
            .filter
            .allows(&TableName::new(name.schema.as_str(), real)),
        _ => false,
    }
}

async fn programs(
    conn: &mut Conn,
    schemas: &BTreeSet<String>,
    rules: &Rules,
) -> Result<BTreeMap<String, Vec<String>>, Fault> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    if schemas.is_empty() {
        return Ok(found);
    }
    let within = in_list(schemas);
    let sql = format!(
        "SELECT 'trigger',EVENT_OBJECT_SCHEMA,EVENT_OBJECT_TABLE,TRIGGER_NAME \
         FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA IN ({within}) \
         UNION ALL SELECT 'event',EVENT_SCHEMA,'',EVENT_NAME FROM information_schema.EVENTS \
         WHERE EVENT_SCHEMA IN ({within}) \
         UNION ALL SELECT LOWER(ROUTINE_TYPE),ROUTINE_SCHEMA,'',ROUTINE_NAME \
         FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA IN ({within})"
    );
    conn.each(&sql, |row| {
        let (schema, table) = (row.text(1), row.text(2));
        let is_left_out =
            !table.is_empty() && matches!(rules.target(&TableName::new(&*schema, table)), Ok(None));
        if !is_left_out {
            let name = TableName::new(schema, row.text(3)).to_string();
            found.entry(row.text(0)).or_default().push(name);
        }
    })
    .await?;
    Ok(found)
}

/// The definers of all views.
async fn definers(
    conn: &mut Conn,
    schemas: &BTreeSet<String>,
) -> Result<BTreeMap<TableName, String>, Fault> {
    let within = in_list(schemas);
    let rows = conn
        .query(&format!(
            "SELECT TABLE_SCHEMA,TABLE_NAME,DEFINER FROM information_schema.VIEWS \
             WHERE TABLE_SCHEMA IN ({within})"
        ))
        .await?;
    let named = |row: &Row| {
        (
            TableName::new(row.text(0), row.text(1)),
            account(&row.text(2)),
        )
    };
    Ok(rows.iter().map(named).collect())
}

/// Which of these tables have a row.
async fn with_rows(conn: &mut Conn, names: &[TableName]) -> Result<Vec<TableName>, Fault> {
    let one = |(index, name)| format!("(SELECT {index} FROM {name} LIMIT 1)");
    let all: Vec<_> = names.iter().enumerate().map(one).collect();
    // What the user may not see is told by its privileges.
    let rows = optional(conn, &all.join(" UNION ALL ")).await?;
    let name = |row: &Row| names.get(row.number::<usize>(0)).cloned();
    Ok(rows.iter().filter_map(name).collect())
}

/// Whether the server knows a collation.
async fn knows(conn: &mut Conn, collation: &str) -> Result<bool, Fault> {
    const UNKNOWN: [u16; 2] = [UNKNOWN_CHARSET, UNKNOWN_COLLATION];
    let charset = collation.split('_').next().unwrap_or(collation);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !collation.chars().all(is_plain) {
        return Ok(true);
    }
    let sql = format!("SELECT CONVERT('' USING {charset}) COLLATE {collation}");
    match conn.query(&sql).await {
        Err(fault) => match fault.code() {
            Some(number) => Ok(!UNKNOWN.contains(&number)),
            None => Err(fault),
        },
        Ok(_) => Ok(true),
    }
}

/// What of a source is not copied, by what it is.
pub(super) fn left_out(source: &Source) -> BTreeMap<String, Vec<String>> {
    let mut found = source.programs.clone();
    for (name, facts) in &source.tables {
        let what = match facts.kind {
            Kind::Sequence => "sequence",
            Kind::Base | Kind::Versioned | Kind::View => continue,
        };
        found
            .entry(what.to_owned())
            .or_default()
            .push(name.to_string());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_read_as_the_task_means_it() {
        let gtids = "7105f637-e6f4-11f1-a0c3-02fc00000001:1-5";
        let meta = |name: &str, gtid: &str| Meta {
            binlog_name: name.into(),
            binlog_pos: 0,
            binlog_gtid: gtid.into(),
        };
        let start = |meta: Meta, by_gtid| start_of(&meta, Flavor::Mysql, by_gtid).unwrap();
        let position = Start::Position(Position::new("binlog.000001", 4));
        assert_eq!(start(meta("binlog.000001", ""), true), position);
        assert_eq!(start(meta("binlog.000001", gtids), false), position);
        for start in [
            start(meta("binlog.000001", gtids), true),
            start(meta("", gtids), false),
        ] {
            assert!(matches!(start, Start::Gtids(_)), "{start}");
        }
    }

    #[test]
    fn accounts_are_quoted() {
        assert_eq!(account("a@b@10.%"), "'a@b'@'10.%'");
    }
}

//! Snapshots of a source that is being written: what is copied of one, and the binlog from there
//! on, make the target equal.

use std::{sync::Arc, time::Duration};

use dm_core::{
    control::{SourceConfig, db::DbConfig, record::Secret},
    error::code,
    full::{Consistency, Piece, Reading},
    sync::schema::TableName,
};
use dm_runtime::mysql::{
    snapshot::{self, Reader, Snapshot},
    source::Upstream,
};
use dm_tests::{
    Result,
    job::{Job, Start},
    servers::{Brand, Database, Options, Role},
    sql::Client,
    types::{Columns, TypesTable},
    worker::Worker,
    workload::{Background, Workload},
};
use tokio::time::{sleep, timeout};

const LIMIT: Duration = Duration::from_secs(90);
/// So small that most tables have several.
const PIECE_ROWS: u64 = 7;
/// Also tables that are read as one piece become several statements.
const STATEMENT_BYTES: usize = 10_000;

const MYSQL: Brand = Brand::Mysql;
const MARIADB: Brand = Brand::Mariadb;

fn upstream(server: &Database) -> Upstream {
    let address = server.address().clone();
    as_user(server, &address.user, &address.password)
}

fn as_user(server: &Database, user: &str, password: &str) -> Upstream {
    let address = server.address().clone();
    let config = SourceConfig {
        source_id: "source-1".to_owned(),
        from: DbConfig {
            host: address.host,
            port: address.port,
            user: user.to_owned(),
            password: Secret(password.to_owned()),
            ..DbConfig::default()
        },
        ..SourceConfig::standard()
    };
    Upstream::new(&Arc::new(config), "worker-1")
}

/// Copies everything, each piece by another reader than the one before.
async fn copy(snapshot: &mut Snapshot, target: &Database) -> Result<u64> {
    let mut client = Client::connect(target).await?;
    client
        .run("SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00', foreign_key_checks = 0")
        .await?;
    let mut rows = 0;
    let mut turn = 0;
    for table in &snapshot.tables {
        let readers = &mut snapshot.readers;
        let TableName { schema, .. } = &table.name;
        let create = readers[0].create(&table.name).await?;
        client
            .run(&format!(
                "CREATE DATABASE IF NOT EXISTS `{schema}`; USE `{schema}`"
            ))
            .await?;
        client.run(&create).await?;
        let reading = Reading::new(table);
        let mut piece = Piece::default();
        loop {
            let count = readers.len();
            let reader = &mut readers[turn % count];
            turn += 1;
            if reading.has_key() {
                piece.upto = reader
                    .bound(&reading, piece.after.as_ref(), PIECE_ROWS)
                    .await?;
            }
            rows += copy_piece(reader, &reading, &piece, &table.name, &mut client).await?;
            match piece.upto.take() {
                Some(upto) => piece.after = Some(upto),
                None => break,
            }
        }
    }
    Ok(rows)
}

async fn copy_piece(
    reader: &mut Reader,
    reading: &Reading,
    piece: &Piece,
    table: &TableName,
    client: &mut Client,
) -> Result<u64> {
    let mut count = 0;
    let head = reading.insert("INSERT", &table.to_string()).into_bytes();
    let mut sql = head.clone();
    let mut rows = reader.rows(reading, piece).await?;
    while let Some(row) = rows.next().await.map_err(|fault| fault.to_string())? {
        if sql.len() > head.len() {
            sql.push(b',');
        }
        assert!(reading.write(row.values(), &mut sql));
        count += 1;
        if sql.len() > STATEMENT_BYTES {
            client.run(&String::from_utf8(sql)?).await?;
            sql = head.clone();
        }
    }
    if sql.len() > head.len() {
        client.run(&String::from_utf8(sql)?).await?;
    }
    Ok(count)
}

/// Where a snapshot was taken, as a task's `meta`.
fn start(snapshot: &Snapshot) -> Start {
    let at = &snapshot.from;
    Start {
        file: at.position.file.clone(),
        position: at.position.pos,
        gtids: at
            .gtids
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_with_everything_locked() -> Result<()> {
    copied(MYSQL, Consistency::Flush, true, "snap_flush").await
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_with_its_tables_locked() -> Result<()> {
    copied(MYSQL, Consistency::Lock, false, "snap_lock").await
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_with_everything_locked() -> Result<()> {
    copied(MARIADB, Consistency::Auto, true, "snap_auto").await
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_with_its_tables_locked() -> Result<()> {
    copied(MARIADB, Consistency::Lock, false, "snap_lock").await
}

/// Without any lock, changes of the time in between are there already, or are not.
#[tokio::test(flavor = "multi_thread")]
async fn mysql_with_nothing_locked() -> Result<()> {
    copied(MYSQL, Consistency::None, true, "snap_none").await
}

/// Copies under load, and lets a worker go on from where the snapshot was taken.
async fn copied(brand: Brand, consistency: Consistency, gtid: bool, schema: &str) -> Result<()> {
    let source = &Database::start(brand, Role::Source, &Options::default())?;
    let target = &Database::start(brand, Role::Target, &Options::default())?;
    let types = format!("{schema}_types");
    let columns = match brand {
        MYSQL => Columns::Mysql,
        MARIADB => Columns::Common,
    };
    let table = TypesTable::new(columns);
    table.create(source, &types).await?;
    table.write(source, &types).await?;
    Workload::create(source, schema).await?;
    let background = Background::start(source, schema, dm_tests::seed(), 3, false).await?;
    sleep(Duration::from_millis(700)).await;

    let wanted = [schema.to_owned(), types.clone()];
    let is_wanted = |name: &TableName| wanted.contains(&name.schema);
    let mut snapshot = snapshot::take(&upstream(source), consistency, 3, is_wanted).await?;
    let mut job = Job::new(source, target, &[schema, &types]).await?;
    // Writers go on while it is read, and end some time before it is all read.
    let written = async {
        sleep(Duration::from_secs(1)).await;
        background.stop().await
    };
    let (rows, done) = tokio::join!(copy(&mut snapshot, target), written);
    let (rows, done) = (rows?, done?);
    assert!(rows > 0 && done.rows > 0);

    job.gtid = gtid;
    job.start = start(&snapshot);
    match consistency {
        // What is there already must not fail.
        Consistency::None => job.task_extra = "    safe-mode: true\n".to_owned(),
        _ => assert_eq!(snapshot.until, None),
    }
    let mut worker = Worker::standalone(&job)?;
    let outcome = job.caught_up(source, target, LIMIT).await;
    outcome.map_err(|error| worker.explain(error))?;
    worker.stop()
}

/// Who may not lock everything locks tables, and who may not do that, nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_best_lock_is_taken() -> Result<()> {
    for brand in [MYSQL, MARIADB] {
        let server = Database::start(brand, Role::Source, &Options::default())?;
        let mut admin = Client::connect(&server).await?;
        admin
            .run(
                "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); \
                 CREATE TABLE d.u (a INT); INSERT INTO d.t VALUES (1); \
                 CREATE USER reader IDENTIFIED BY 'secret'; \
                 GRANT SELECT, REPLICATION CLIENT, REPLICATION SLAVE ON *.* TO reader",
            )
            .await?;
        let source = as_user(&server, "reader", "secret");
        let of_d = |name: &TableName| name.schema == "d";
        for consistency in [Consistency::Flush, Consistency::Lock] {
            let Err(error) = snapshot::take(&source, consistency, 1, of_d).await else {
                panic!("{consistency:?} with no privilege");
            };
            assert!(error.is(&code::DUMP_UNIT_GLOBAL_LOCK), "{error}");
            assert!(error.workaround.contains("--consistency"), "{error}");
        }
        let snapshot = snapshot::take(&source, Consistency::Auto, 2, of_d).await?;
        assert_eq!(snapshot.until, None, "nothing was written");
        let names: Vec<_> = snapshot
            .tables
            .iter()
            .map(|table| &*table.name.table)
            .collect();
        assert_eq!(names, ["t", "u"]);

        admin.run("GRANT LOCK TABLES ON d.* TO reader").await?;
        snapshot::take(&source, Consistency::Lock, 1, of_d).await?;
        // No lock is left behind.
        admin.run("INSERT INTO d.t VALUES (2)").await?;
    }
    Ok(())
}

/// A lock that does not come holds writers up as well, so it is not waited for for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_asked_for_again_when_somebody_is_in_its_way() -> Result<()> {
    let server = Database::start(MYSQL, Role::Source, &Options::default())?;
    let mut admin = Client::connect(&server).await?;
    admin
        .run("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); LOCK TABLES d.t WRITE")
        .await?;
    let source = upstream(&server);
    let taking = snapshot::take(&source, Consistency::Flush, 1, |name| name.schema == "d");
    tokio::pin!(taking);
    let early = timeout(Duration::from_secs(6), &mut taking).await;
    assert!(early.is_err(), "the table is locked");
    admin.run("UNLOCK TABLES").await?;
    taking.await?;
    Ok(())
}

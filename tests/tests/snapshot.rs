//! Snapshots of a source: what keeps writers off, and for how long.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dm_core::{
    control::{SourceConfig, db::DbConfig, record::Secret},
    error::code,
    full::{Consistency, Piece, Reading},
    sync::schema::TableName,
};
use dm_runtime::{
    mysql::source::Upstream,
    ports::{Source, copy::Reader},
};
use dm_tests::{
    Result,
    servers::{Brand, Database, Options, Role},
    sql::Client,
};
use tokio::time::{sleep, timeout};

const MYSQL: Brand = Brand::Mysql;
const MARIADB: Brand = Brand::Mariadb;

fn upstream(server: &Database) -> Upstream {
    let address = server.address().clone();
    as_user(server, &address.user, &address.password)
}

fn as_user(server: &Database, user: &str, password: &str) -> Upstream {
    reached(server, user, password, false)
}

fn with_gtid(server: &Database, user: &str, password: &str) -> Upstream {
    reached(server, user, password, true)
}

fn reached(server: &Database, user: &str, password: &str, enable_gtid: bool) -> Upstream {
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
        enable_gtid,
        ..SourceConfig::standard()
    };
    Upstream::new(&Arc::new(config), "worker-1")
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
            let Err(error) = source.snapshot(consistency, 1, of_d).await else {
                panic!("{consistency:?} with no privilege");
            };
            assert!(error.is(&code::DUMP_UNIT_GLOBAL_LOCK), "{error}");
            assert!(error.workaround.contains("--consistency"), "{error}");
        }
        let Err(error) = source.snapshot(Consistency::Auto, 2, of_d).await else {
            panic!("no lock, by position");
        };
        assert!(error.workaround.contains("enable-gtid"), "{error}");
        let by_gtid = with_gtid(&server, "reader", "secret");
        let snapshot = match (brand, by_gtid.snapshot(Consistency::Auto, 2, of_d).await) {
            (MYSQL, snapshot) => snapshot?,
            // Its set says what is written, not what can be seen.
            (MARIADB, Err(error)) => {
                assert!(error.is(&code::DUMP_UNIT_GLOBAL_LOCK), "{error}");
                admin.run("GRANT LOCK TABLES ON d.* TO reader").await?;
                source.snapshot(Consistency::Lock, 1, of_d).await?;
                admin.run("INSERT INTO d.t VALUES (2)").await?;
                continue;
            }
            (MARIADB, Ok(_)) => panic!("no lock on MariaDB"),
        };
        assert!(
            snapshot.until.is_some(),
            "something may be about to be seen"
        );
        let names: Vec<_> = snapshot
            .tables
            .iter()
            .map(|it| &*it.table.name.table)
            .collect();
        assert_eq!(names, ["t", "u"]);

        admin.run("GRANT LOCK TABLES ON d.* TO reader").await?;
        source.snapshot(Consistency::Lock, 1, of_d).await?;
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
    let taking = source.snapshot(Consistency::Flush, 1, |name| name.schema == "d");
    tokio::pin!(taking);
    let early = timeout(Duration::from_secs(6), &mut taking).await;
    assert!(early.is_err(), "the table is locked");
    admin.run("UNLOCK TABLES").await?;
    taking.await?;
    Ok(())
}

/// A global lock that waits for a query holds off who writes, and who wants the query's tables.
/// Whoever may not see the query tries, and gives back what it got of the lock.
#[tokio::test(flavor = "multi_thread")]
async fn writers_do_not_wait_for_a_long_query() -> Result<()> {
    for brand in [MYSQL, MARIADB] {
        let server = Database::start(brand, Role::Source, &Options::default())?;
        let mut admin = Client::connect(&server).await?;
        admin
            .run(
                "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); \
                 CREATE TABLE d.u LIKE d.t; INSERT INTO d.t VALUES (1); \
                 CREATE USER reader IDENTIFIED BY 'secret'; \
                 GRANT SELECT, RELOAD, LOCK TABLES, REPLICATION CLIENT ON *.* TO reader",
            )
            .await?;
        let mut slow = Client::connect(&server).await?;
        let query = tokio::spawn(async move {
            let asked = slow.rows("SELECT SLEEP(120) FROM d.t").await;
            // It is ended.
            drop(asked);
        });
        let of_d = |name: &TableName| name.schema == "d";
        // Who sees it does not try, once it has run for a while.
        sleep(Duration::from_secs(6)).await;
        let seeing = upstream(&server);
        match seeing.snapshot(Consistency::Flush, 1, of_d).await {
            Err(error) => assert!(error.message.contains("SELECT SLEEP(120)"), "{error}"),
            Ok(_) => assert_eq!(brand, MARIADB, "there no lock waits for who only reads"),
        }
        // And holds off whoever writes in another way.
        seeing.snapshot(Consistency::Auto, 1, of_d).await?;

        let blind = as_user(&server, "reader", "secret");
        let taking = blind.snapshot(Consistency::Flush, 1, of_d);
        let writing = async {
            let mut writer = Client::connect(&server).await?;
            let brief = "SET SESSION lock_wait_timeout = 1, innodb_lock_wait_timeout = 1";
            writer.run(brief).await?;
            sleep(Duration::from_secs(3)).await;
            let (start, mut written) = (Instant::now(), 0);
            while written < 2 && start.elapsed() < Duration::from_secs(25) {
                let insert = format!("INSERT INTO d.u VALUES ({written})");
                // Between two attempts.
                let done = writer.run(&insert).await.is_ok();
                written += u64::from(done);
                sleep(Duration::from_millis(200)).await;
            }
            Ok::<_, dm_tests::Error>(written)
        };
        let (taken, written) = tokio::join!(taking, writing);
        assert_eq!(taken.is_ok(), brand == MARIADB);
        assert_eq!(written?, 2, "{brand:?}: the lock is kept");

        let id = "SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT SLEEP%'";
        let id = admin.value(id).await?;
        admin.run(&format!("KILL {id}")).await?;
        query.await?;
        seeing.snapshot(Consistency::Flush, 1, of_d).await?;
    }
    Ok(())
}

/// As tools do that change tables online. Rows of the other table can be seen as well: it was there
/// when the snapshot was taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_takes_the_place_of_another_is_not_read() -> Result<()> {
    for brand in [MYSQL, MARIADB] {
        let server = Database::start(brand, Role::Source, &Options::default())?;
        let mut admin = Client::connect(&server).await?;
        admin
            .run(
                "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); \
                 INSERT INTO d.t VALUES (1); CREATE TABLE d.u LIKE d.t; DO SLEEP(1.1); \
                 CREATE TABLE d.new LIKE d.t; DO SLEEP(1.1)",
            )
            .await?;
        let source = upstream(&server);
        let of_d = |name: &TableName| name.schema == "d";
        let mut snapshot = source.snapshot(Consistency::Auto, 1, of_d).await?;
        let reader = &mut snapshot.readers[0];
        let name = |table: &str| TableName::new("d", table);
        let all = snapshot.tables.iter().map(|it| Reading::new(&it.table));
        let readings: Vec<_> = all.collect();
        let reading = |table: &str| {
            let found = readings.iter().find(|it| *it.table() == name(table));
            found.expect("it is there").clone()
        };
        let whole = Piece::default();
        let mut rows = 0;
        reader.read(&reading("t"), &whole).await?;
        while reader.next().await?.is_some() {
            rows += 1;
        }
        assert_eq!(rows, 1);
        admin
            .run(
                "DO SLEEP(1.1); RENAME TABLE d.t TO d.old, d.new TO d.t; \
                 CREATE INDEX i ON d.u (id)",
            )
            .await?;
        // Who only alters a table does not end the snapshot, where that can be told.
        let altered = reader.read(&reading("u"), &whole).await;
        if brand == MYSQL {
            altered?;
            assert!(reader.next().await?.is_none());
        }
        let Err(error) = reader.read(&reading("t"), &whole).await else {
            panic!("{brand:?}: rows of another table");
        };
        assert!(error.is(&code::DB_DRIVER_ERROR), "{error}");
    }
    Ok(())
}

/// However rows lie along a key, it is found where to divide them, and each is in one part.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_divided() -> Result<()> {
    const ROWS: u64 = 20_000;
    for brand in [MYSQL, MARIADB] {
        let server = Database::start(brand, Role::Source, &Options::default())?;
        let mut admin = Client::connect(&server).await?;
        admin
            .run(&format!(
                "CREATE DATABASE halves; USE halves; \
                 SET SESSION /*!80000 cte_max_recursion_depth */ /*M! max_recursive_iterations */ \
                 = 100000; \
                 CREATE TABLE source AS WITH RECURSIVE r (i) AS \
                 (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < {ROWS}) SELECT i FROM r; \
                 CREATE TABLE skewed (id BIGINT UNSIGNED PRIMARY KEY, pad CHAR(100)); \
                 INSERT INTO skewed SELECT IF(i = 1, 18446744073709551615, i), 'p' FROM source; \
                 CREATE TABLE composite (tenant INT, at INT, i INT, PRIMARY KEY (tenant, at, i)); \
                 INSERT INTO composite SELECT IF(i < 50, i, 77), -5, i FROM source; \
                 CREATE TABLE texts (a VARCHAR(70) CHARACTER SET utf8mb4 PRIMARY KEY); \
                 INSERT INTO texts SELECT CONCAT('user:', SHA2(i, 224)) FROM source; \
                 CREATE TABLE words \
                 (a VARCHAR(60) CHARACTER SET latin1, b INT, PRIMARY KEY (a, b)); \
                 INSERT INTO words SELECT CONV(i * 7919, 10, 36), i FROM source; \
                 CREATE TABLE bytes (a VARBINARY(28) PRIMARY KEY); \
                 INSERT INTO bytes SELECT UNHEX(SHA2(i, 224)) FROM source; \
                 DROP TABLE source; ANALYZE TABLE skewed, composite, texts, words, bytes"
            ))
            .await?;
        let source = upstream(&server);
        let of_it = |name: &TableName| name.schema == "halves";
        let mut snapshot = source.snapshot(Consistency::Flush, 1, of_it).await?;
        assert_eq!(snapshot.tables.len(), 5);
        let reader = &mut snapshot.readers[0];
        for table in &snapshot.tables {
            let (name, reading) = (&table.table.name, Reading::new(&table.table));
            let whole = Piece::default();
            let Some(ends) = reader.ends(&reading, &whole).await? else {
                panic!("{name} has rows");
            };
            let mut parts = vec![(ROWS, whole, ends)];
            for _ in 1..16 {
                let largest = parts.iter().enumerate().max_by_key(|(_, (rows, ..))| *rows);
                let (index, _) = largest.ok_or("no part")?;
                let (_, mut piece, (low, high)) = parts.remove(index);
                let key = reader.amid(&reading, &piece, (&low, &high)).await?;
                let Some(key) = key else {
                    panic!("{name} can't be divided between {low:?} and {high:?}");
                };
                let behind = Piece {
                    after: Some(key.clone()),
                    upto: piece.upto.replace(key.clone()),
                };
                let both = [(piece, (low, key.clone())), (behind, (key, high))];
                for (place, (piece, ends)) in both.into_iter().enumerate() {
                    let rows = reader.estimate(&reading, &piece).await?.ok_or("no guess")?;
                    parts.insert(index + place, (rows, piece, ends));
                }
            }
            let mut counts = Vec::new();
            for (_, piece, _) in &parts {
                reader.read(&reading, piece).await?;
                let mut rows = 0;
                while reader.next().await?.is_some() {
                    rows += 1;
                }
                counts.push(rows);
            }
            assert_eq!(counts.iter().sum::<u64>(), ROWS, "{name} {counts:?}");
            let most = counts.iter().max().copied().unwrap_or_default();
            assert!(most < ROWS / 4, "{brand:?} {name} {counts:?}");
        }
    }
    Ok(())
}

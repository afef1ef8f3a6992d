//! Rows that come as lines (`LOAD DATA LOCAL`): the same values as by statements, and nothing is
//! taken that a statement would not be.

use std::time::Duration;

use dm_tests::{
    Result,
    job::Job,
    servers::{Brand, Database, Options, Role},
    sql::{self, Client},
    types::{Columns, TypesTable},
    worker::Worker,
};

const LIMIT: Duration = Duration::from_secs(60);
const MYSQL: Brand = Brand::Mysql;
const MARIADB: Brand = Brand::Mariadb;
/// What the log says of a table whose rows are not taken as lines.
const WARNED: &str = "they come as statements";

/// A source and a target that takes lines.
fn servers(from: Brand, to: Brand) -> Result<(Database, Database)> {
    let lines = Options {
        args: vec![
            "--local-infile=ON".to_owned(),
            "--innodb-autoinc-lock-mode=2".to_owned(),
        ],
        ..Options::default()
    };
    let source = Database::start(from, Role::Source, &Options::default())?;
    Ok((source, Database::start(to, Role::Target, &lines)?))
}

/// How many statements of a kind the target has run.
async fn count(target: &mut Client, kind: &str) -> Result<u64> {
    let sql = format!("SHOW GLOBAL STATUS LIKE 'Com_{kind}'");
    let rows = target.rows(&sql).await?;
    let count = rows.into_iter().flatten().flatten().next_back();
    Ok(count.ok_or("no such status")?.parse()?)
}

/// Copies what a schema has, and compares. Hands out what the log says.
async fn copied(source: &Database, target: &Database, schema: &str) -> Result<String> {
    let mut job = Job::new(source, target, &[schema]).await?;
    job.mode = "full";
    let mut worker = Worker::standalone(&job)?;
    worker.logged("the copy is over", LIMIT).await?;
    let (mut here, mut there) = (
        Client::connect(source).await?,
        Client::connect(target).await?,
    );
    let equal = sql::compare_schemas(&mut here, &mut there, &[schema]).await;
    equal.map_err(|error| worker.explain(error))?;
    worker.wait(LIMIT)?;
    Ok(worker.log())
}

/// Every value of every type, from either kind of server into either.
async fn every_type(from: Brand, to: Brand) -> Result<()> {
    let (source, target) = servers(from, to)?;
    let columns = match (from, to) {
        (MYSQL, MYSQL) => Columns::Mysql,
        _ => Columns::Common,
    };
    let schema = "lines_types";
    let table = TypesTable::new(columns);
    table.create(&source, schema).await?;
    table.write(&source, schema).await?;
    // With a value that is none of its members a row comes by a statement.
    let mut client = Client::connect(&source).await?;
    client
        .run(&format!(
            "UPDATE {schema}.every_type SET enum_ = 'a' WHERE enum_ + 0 = 0"
        ))
        .await?;
    if from != to {
        table.create(&target, schema).await?;
    }
    let log = copied(&source, &target, schema).await?;
    assert!(!log.contains(WARNED), "{log}");
    let mut client = Client::connect(&target).await?;
    let tables = client.tables(schema).await?.len() as u64;
    let loads = count(&mut client, "load").await?;
    assert!(loads >= tables, "{loads} of {tables}: {log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_between_mysql_servers() -> Result<()> {
    every_type(MYSQL, MYSQL).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_from_mysql_to_mariadb() -> Result<()> {
    every_type(MYSQL, MARIADB).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_from_mariadb_to_mysql() -> Result<()> {
    every_type(MARIADB, MYSQL).await
}

/// Those that only MariaDB has, too.
#[tokio::test(flavor = "multi_thread")]
async fn every_type_between_mariadb_servers() -> Result<()> {
    every_type(MARIADB, MARIADB).await?;
    let (source, target) = servers(MARIADB, MARIADB)?;
    let mut client = Client::connect(&source).await?;
    client
        .run(
            "CREATE DATABASE lines_own; CREATE TABLE lines_own.t (id INT PRIMARY KEY, u UUID, \
             four INET4, six INET6); INSERT INTO lines_own.t VALUES \
             (1, '123e4567-e89b-12d3-a456-426655440000', '10.0.0.1', '2001:db8::1:2:34'), \
             (2, NULL, NULL, '::'), (3, UUID(), '127.127.127.127', '::ffff:1.2.3.4')",
        )
        .await?;
    let log = copied(&source, &target, "lines_own").await?;
    assert!(!log.contains(WARNED), "{log}");
    let mut client = Client::connect(&target).await?;
    assert_eq!(count(&mut client, "load").await?, 1);
    Ok(())
}

/// Tables of the target that are not as the source's: what bytes would get wrong, or what would be
/// warned of for nothing, comes by statements.
#[tokio::test(flavor = "multi_thread")]
async fn tables_that_are_not_the_same() -> Result<()> {
    let (source, target) = servers(MYSQL, MYSQL)?;
    let schema = "lines_other";
    let (mut here, mut there) = (
        Client::connect(&source).await?,
        Client::connect(&target).await?,
    );
    here.run(&format!(
        "CREATE DATABASE {schema}; USE {schema}; \
         CREATE TABLE latin (id INT PRIMARY KEY, t VARCHAR(20) CHARACTER SET latin1); \
         INSERT INTO latin VALUES (1, 'é'), (2, NULL), (3, '\\\\\\t\\n'); \
         CREATE TABLE wider (id INT PRIMARY KEY, d DECIMAL(5,1), t VARCHAR(9)); \
         INSERT INTO wider VALUES (1, 1.5, 'a  '), (2, 2, 'b'); \
         CREATE TABLE bad (id INT PRIMARY KEY, e ENUM('a','b')); \
         INSERT IGNORE INTO bad VALUES (1, 'a'), (2, 'none'), (3, NULL); \
         CREATE TABLE more (id INT PRIMARY KEY, t VARCHAR(9)); INSERT INTO more VALUES (1, ''); \
         CREATE TABLE one (t VARCHAR(9)); INSERT INTO one VALUES (''), (NULL), ('N'), ('\\\\N')"
    ))
    .await?;
    there
        .run(&format!(
            "CREATE DATABASE {schema}; USE {schema}; \
             CREATE TABLE latin (id INT PRIMARY KEY, t VARCHAR(20) CHARACTER SET utf8mb4); \
             CREATE TABLE wider (id INT PRIMARY KEY, d DECIMAL(5,2), t VARCHAR(1)); \
             CREATE TABLE more (id INT PRIMARY KEY, n INT NOT NULL DEFAULT 7, t VARCHAR(9))"
        ))
        .await?;
    let mut job = Job::new(&source, &target, &[schema]).await?;
    job.mode = "full";
    let worker = Worker::standalone(&job)?;
    worker.logged("the copy is over", LIMIT).await?;
    for (sql, expected) in [
        ("GROUP_CONCAT(HEX(t) ORDER BY id) FROM latin", "C3A9,5C090A"),
        (
            "GROUP_CONCAT(d, '|', t, '|' ORDER BY id) FROM wider",
            "1.50|a|,2.00|b|",
        ),
        ("GROUP_CONCAT(id, '=', n, t) FROM more", "1=7"),
    ] {
        let found = there.value(&format!("SELECT {sql}")).await?;
        assert_eq!(found, expected, "{sql}");
    }
    let same: Vec<_> = ["bad", "one"].map(|table| (schema, table)).into();
    let equal = sql::compare(&mut here, &mut there, &same).await;
    equal.map_err(|error| worker.explain(error))?;
    assert_eq!(worker.log().matches(WARNED).count(), 1, "{}", worker.log());
    // `wider`, `one`.
    assert_eq!(count(&mut there, "load").await?, 2);
    Ok(())
}

/// What the target would change it must refuse, and say why: by itself where rows are replaced, and
/// else because of its warnings.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused() -> Result<()> {
    let (source, target) = servers(MYSQL, MYSQL)?;
    for policy in [None, Some("error")] {
        does_not_fit(&source, &target, policy).await?;
    }
    Ok(())
}

async fn does_not_fit(
    source: &Database,
    target: &Database,
    policy: Option<&'static str>,
) -> Result<()> {
    for (number, (definition, row, said, remedy)) in [
        (
            "t VARCHAR(2))",
            "'abc'",
            "Data too long for column 't'",
            "ALTER TABLE t MODIFY t VARCHAR(3)",
        ),
        (
            "t VARCHAR(9) NOT NULL)",
            "NULL",
            "Column 't' cannot be null",
            "ALTER TABLE t MODIFY t VARCHAR(9)",
        ),
        (
            "t VARCHAR(9) CHECK (t <> 'abc'))",
            "'abc'",
            "Check constraint",
            "ALTER TABLE t DROP CHECK t_chk_1",
        ),
        // An error even where lines are read.
        (
            "t VARCHAR(9)); CREATE TRIGGER no BEFORE INSERT ON t FOR EACH ROW \
             SET NEW.id = IF(NEW.id = 2, (SELECT 1 UNION SELECT 2), NEW.id)",
            "'abc'",
            "Subquery returns more than 1 row",
            "DROP TRIGGER no",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let schema = format!("lines_{}_{number}", policy.unwrap_or("usual"));
        let (mut here, mut there) = (
            Client::connect(source).await?,
            Client::connect(target).await?,
        );
        let table = |definition| {
            format!(
                "CREATE DATABASE {schema}; USE {schema}; \
                 CREATE TABLE t (id INT PRIMARY KEY, {definition}"
            )
        };
        here.run(&table("t VARCHAR(9))")).await?;
        here.run(&format!(
            "INSERT INTO t VALUES (1, 'ab'), (2, {row}), (3, 'c')"
        ))
        .await?;
        there.run(&table(definition)).await?;
        let before = count(&mut there, "load").await?;
        let mut job = Job::new(source, target, &[&schema]).await?;
        (job.mode, job.on_duplicate) = ("full", policy);
        let mut worker = Worker::standalone(&job)?;
        worker.logged(said, LIMIT).await?;
        assert_eq!(there.value("SELECT COUNT(*) FROM t").await?, "0");
        // Nobody would be warned of all that becomes of a NULL.
        let is_tried = !definition.contains("NOT NULL");
        assert_eq!(count(&mut there, "load").await? > before, is_tried);
        worker.kill()?;
        there.run(remedy).await?;
        worker.restart()?;
        worker.logged("the copy is over", LIMIT).await?;
        let equal = sql::compare_schemas(&mut here, &mut there, &[&schema]).await;
        equal.map_err(|error| worker.explain(error))?;
    }
    Ok(())
}

/// Sessions are strict, and nevertheless round without a word.
#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_rounded_is_refused() -> Result<()> {
    let (source, target) = servers(MYSQL, MYSQL)?;
    let schema = "lines_rounded";
    let (mut here, mut there) = (
        Client::connect(&source).await?,
        Client::connect(&target).await?,
    );
    let table = |digits| {
        format!(
            "CREATE DATABASE {schema}; USE {schema}; \
             CREATE TABLE t (id INT PRIMARY KEY, d DECIMAL(9,{digits}))"
        )
    };
    here.run(&table(3)).await?;
    here.run("INSERT INTO t VALUES (1, 1.125)").await?;
    there.run(&table(2)).await?;
    let mut job = Job::new(&source, &target, &[schema]).await?;
    job.mode = "full";
    job.task_extra = "ignore-checking-items: [all]\n".to_owned();
    let mut worker = Worker::standalone(&job)?;
    let said = "its column `d` is decimal(9,2), which rounds values of decimal(9,3)";
    worker.logged(said, LIMIT).await?;
    assert_eq!(there.value("SELECT COUNT(*) FROM t").await?, "0");
    worker.kill()?;
    there.run("ALTER TABLE t MODIFY d DECIMAL(20,4)").await?;
    worker.restart()?;
    worker.logged("the copy is over", LIMIT).await?;
    assert_eq!(there.value("SELECT d FROM t").await?, "1.1250");
    Ok(())
}

/// A row whose key is there: it is replaced, or an error, or stays, as the task says.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_there() -> Result<()> {
    let (source, target) = servers(MYSQL, MYSQL)?;
    let (mut here, mut there) = (
        Client::connect(&source).await?,
        Client::connect(&target).await?,
    );
    for (policy, row, loads) in [
        (None, Some("new"), 1),
        (Some("error"), None, 1),
        (Some("ignore"), Some("old"), 0),
    ] {
        let schema = format!("lines_{}", policy.unwrap_or("usual"));
        for (client, rows) in [
            (&mut here, "(1, 'x'), (2, 'new'), (3, 'y')"),
            (&mut there, "(2, 'old')"),
        ] {
            client
                .run(&format!(
                    "CREATE DATABASE {schema}; USE {schema}; \
                     CREATE TABLE t (id INT PRIMARY KEY, t VARCHAR(9)); INSERT INTO t VALUES {rows}"
                ))
                .await?;
        }
        let before = count(&mut there, "load").await?;
        let mut job = Job::new(&source, &target, &[&schema]).await?;
        (job.mode, job.on_duplicate) = ("full", policy);
        let worker = Worker::standalone(&job)?;
        let said = match row {
            Some(_) => "the copy is over",
            None => "Duplicate entry '2'",
        };
        worker.logged(said, LIMIT).await?;
        let rows = row.map_or(1, |_| 3);
        assert_eq!(
            there.value("SELECT COUNT(*) FROM t").await?,
            rows.to_string()
        );
        let found = there.value("SELECT t FROM t WHERE id = 2").await?;
        assert_eq!(found, row.unwrap_or("old"), "{policy:?}");
        assert_eq!(count(&mut there, "load").await? - before, loads);
    }
    Ok(())
}

/// The statement that rows come with instead of lines may be many times as large: it comes in
/// parts, in one transaction.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_larger_as_statements() -> Result<()> {
    let (source, target) = &servers(MYSQL, MYSQL)?;
    let schema = "lines_parts";
    let mut client = Client::connect(source).await?;
    let columns: Vec<_> = (0..30)
        .map(|number| format!("c{number} VARCHAR(9) NOT NULL DEFAULT ''"))
        .collect();
    let definition = format!(
        "CREATE DATABASE {schema} CHARACTER SET greek; USE {schema}; \
         CREATE TABLE t (id INT PRIMARY KEY, e ENUM('a'), {})",
        columns.join(",")
    );
    client
        .run(&format!(
            "{definition}; SET SESSION cte_max_recursion_depth = 100000, sql_mode = ''; \
             INSERT INTO t (id, e) WITH RECURSIVE n (i) AS \
             (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) SELECT i, 'a' FROM n; \
             UPDATE t SET e = 'none of them' WHERE id = 7",
        ))
        .await?;
    // Into a table that was there rows come with REPLACE, as nothing else does.
    let mut there = Client::connect(target).await?;
    there.run(&definition).await?;
    let before = count(&mut there, "replace").await?;
    let log = copied(source, target, schema).await?;
    let parts = count(&mut there, "replace").await? - before;
    println!("{parts} statements");
    assert!(parts > 9, "{parts} statements: {log}");
    Ok(())
}

/// What fails is the LOAD DATA, and of which table.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_names_the_lines() -> Result<()> {
    let (source, target) = &servers(MYSQL, MYSQL)?;
    let schema = "lines_wait";
    let definition = format!(
        "CREATE DATABASE {schema}; CREATE TABLE {schema}.t (id INT PRIMARY KEY, v INT); \
         INSERT INTO {schema}.t VALUES (1, 1), (2, 2)"
    );
    Client::connect(source).await?.run(&definition).await?;
    let mut holder = Client::connect(target).await?;
    holder
        .run(&format!(
            "{definition}; SET GLOBAL innodb_lock_wait_timeout = 1; BEGIN; \
             SELECT * FROM {schema}.t FOR UPDATE"
        ))
        .await?;
    let mut job = Job::new(source, target, &[schema]).await?;
    job.mode = "full";
    let mut worker = Worker::standalone(&job)?;
    worker
        .logged("nothing written, trying again", LIMIT)
        .await?;
    holder.run("ROLLBACK").await?;
    worker.logged("the copy is over", LIMIT).await?;
    worker.wait(LIMIT)?;
    let log = worker.log();
    let line = log.lines().find(|line| line.contains("trying again"));
    let line = line.unwrap_or_default();
    let says = "rows of `lines_wait`.`t`: execute statement failed: LOAD DATA LOCAL INFILE";
    assert!(line.contains(says) && line.contains("1205"), "{line}");
    Ok(())
}

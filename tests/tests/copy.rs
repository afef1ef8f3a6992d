//! Full migration: what a worker copies of a source that is being written, and the binlog from
//! there on, make the target equal, whatever happens meanwhile.

use std::time::{Duration, Instant};

use dm_tests::{
    Result,
    amid::{self, ROWS, fill, interrupted, killed_amid},
    job::Job,
    servers::{Brand, Database, Options, Role},
    sql::Client,
    types::{Columns, TypesTable},
    worker::Worker,
    workload::{Background, Workload},
};
use tokio::time::sleep;

const LIMIT: Duration = Duration::from_secs(60);
const MYSQL: Brand = Brand::Mysql;
const MARIADB: Brand = Brand::Mariadb;

#[tokio::test(flavor = "multi_thread")]
async fn mysql_with_everything_locked() -> Result<()> {
    copied(MYSQL, "--consistency flush", true, "copy_flush").await
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_with_its_tables_locked() -> Result<()> {
    copied(MYSQL, "--consistency lock", false, "copy_lock").await
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_with_everything_locked() -> Result<()> {
    copied(MARIADB, "", true, "copy_auto").await
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_with_its_tables_locked() -> Result<()> {
    copied(MARIADB, "--consistency lock", false, "copy_lock").await
}

/// Copies under load, and goes on with the binlog.
async fn copied(brand: Brand, dump: &'static str, gtid: bool, schema: &str) -> Result<()> {
    let source = &Database::start(brand, Role::Source, &Options::default())?;
    // Rows come as statements, or as lines where the target takes those.
    let lines = dump.is_empty() || dump.ends_with("flush");
    let target = &Database::start(brand, Role::Target, &local_infile(lines))?;
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

    let mut job = Job::new(source, target, &[schema, &types]).await?;
    (job.mode, job.dump.1, job.gtid) = ("all", dump, gtid);
    let mut worker = Worker::standalone(&job)?;
    sleep(Duration::from_secs(2)).await;
    let done = background.stop().await?;
    assert!(done.rows > 0);
    let outcome = job.caught_up(source, target, LIMIT).await;
    outcome.map_err(|error| worker.explain(error))?;
    // What is applied now is not copied again.
    worker.stop()?;
    let mut client = Client::connect(source).await?;
    client
        .run(&format!(
            "UPDATE {schema}.sb1 SET k = k + 1; INSERT INTO {schema}.nokey (a) VALUES (7)"
        ))
        .await?;
    worker.restart()?;
    let outcome = job.caught_up(source, target, LIMIT).await;
    outcome.map_err(|error| worker.explain(error))?;
    assert_eq!(loads(target).await? > 0, lines);
    worker.stop()
}

/// A target that takes rows as lines, or not.
fn local_infile(on: bool) -> Options {
    Options {
        args: vec![
            format!("--local-infile={}", u8::from(on)),
            // Or MariaDB's connections would wait for one another's lines.
            "--innodb-autoinc-lock-mode=2".to_owned(),
        ],
        ..Options::default()
    }
}

/// How many statements were lines.
async fn loads(target: &Database) -> Result<u64> {
    let mut client = Client::connect(target).await?;
    let rows = client.rows("SHOW GLOBAL STATUS LIKE 'Com_load'").await?;
    let count = rows.into_iter().flatten().flatten().next_back();
    Ok(count.ok_or("no such status")?.parse()?)
}

/// Changes rows everywhere in these tables, until it is told to stop.
async fn write(source: &Database, schema: &str, seconds: u64) -> Result<u64> {
    let mut client = Client::connect(source).await?;
    client.run(&format!("USE {schema}")).await?;
    let start = Instant::now();
    let mut changes = 0;
    while start.elapsed() < Duration::from_secs(seconds) {
        let id = 1 + changes * 7919 % ROWS;
        client
            .run(&format!(
                "UPDATE n SET v = v + 1 WHERE id = {id}; DELETE FROM n WHERE id = {id} + 1; \
                 INSERT INTO n (v, pad) VALUES ({changes}, 'new'); \
                 UPDATE s SET b = b + 1000000 WHERE a = HEX({id} DIV 3 * 2654435761 % 4294967296) \
                 AND b = {id}; \
                 INSERT INTO k (x, pad) VALUES ({changes}, 'new'), ({changes}, 'new'); \
                 UPDATE k SET x = -1 WHERE x = {} LIMIT 1; DELETE FROM k WHERE x = {} LIMIT 1",
                changes % 100,
                (changes + 50) % 100
            ))
            .await?;
        changes += 1;
    }
    Ok(changes)
}

/// Killed at any moment, it goes on where it was, from another snapshot, and no row is lost or
/// doubled, not even where it can't be told from others.
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_copies() -> Result<()> {
    let source = &Database::start(MYSQL, Role::Source, &Options::default())?;
    let target = &Database::start(MYSQL, Role::Target, &local_infile(true))?;
    let schema = "copy_kill";
    fill(source, schema).await?;
    let mut job = Job::new(source, target, &[schema]).await?;
    (job.mode, job.dump.0, job.gtid) = ("all", 2, true);
    let mut worker = Worker::standalone(&job)?;
    let kills = async {
        for wait in [1500, 900, 2200, 700, 3000, 1300] {
            sleep(Duration::from_millis(wait)).await;
            worker.kill()?;
            worker.restart()?;
        }
        Ok::<_, dm_tests::Error>(worker)
    };
    let (worker, changes) = tokio::join!(kills, write(source, schema, 12));
    let mut worker: Worker = worker?;
    assert!(changes? > 50);
    // It was not over when it was killed.
    let begun = worker.log().matches(" copying ").count();
    assert!(begun > 1, "begun {begun} times");
    println!(
        "begun {begun} times, {} anew",
        worker.log().matches("begins anew").count()
    );
    let outcome = job.caught_up(source, target, LIMIT).await;
    outcome.map_err(|error| worker.explain(error))?;
    assert!(loads(target).await? > 0);
    worker.stop()
}

/// A row that somebody else puts into a table of the copy's own, or that is the same to the target
/// as another, is not replaced without a word.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_in_the_way_is_missed() -> Result<()> {
    let source = &Database::start(MYSQL, Role::Source, &Options::default())?;
    for lines in [true, false] {
        let target = &Database::start(MYSQL, Role::Target, &local_infile(lines))?;
        let schema = if lines { "copy_way_lines" } else { "copy_way" };
        fill(source, schema).await?;
        let mut job = Job::new(source, target, &[schema]).await?;
        (job.mode, job.gtid) = ("all", true);
        let mut worker = Worker::standalone(&job)?;
        worker.logged(" copying ", LIMIT).await?;
        let mut there = Client::connect(target).await?;
        let row = format!("INSERT INTO {schema}.n VALUES ({ROWS}, -1, '')");
        there.run(&row).await?;
        worker.logged("Error 1062", LIMIT).await?;
        let found = format!("SELECT v FROM {schema}.n WHERE id = {ROWS}");
        assert_eq!(there.value(&found).await?, "-1", "{}", worker.log());
        there
            .run(&format!("DELETE FROM {schema}.n WHERE id = {ROWS}"))
            .await?;
        worker.kill()?;
        worker.restart()?;
        let outcome = job.caught_up(source, target, LIMIT).await;
        outcome.map_err(|error| worker.explain(error))?;
        worker.stop()?;
    }
    Ok(())
}

/// Ends all connections but one's own.
async fn cut(server: &Database) -> Result<u64> {
    let mut client = Client::connect(server).await?;
    let others = "SELECT ID FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() \
                  AND USER NOT IN ('event_scheduler', 'system user')";
    let mut ended = 0;
    for id in client.rows(others).await?.into_iter().flatten().flatten() {
        // It may be gone.
        ended += u64::from(client.run(&format!("KILL {id}")).await.is_ok());
    }
    Ok(ended)
}

/// Snapshots are lost, and transactions of the target break off in the middle: nobody has to help.
#[tokio::test(flavor = "multi_thread")]
async fn connections_are_cut_while_it_copies() -> Result<()> {
    let source = &Database::start(MYSQL, Role::Source, &Options::default())?;
    let target = &Database::start(MYSQL, Role::Target, &local_infile(true))?;
    if !(source.is_ours() && target.is_ours()) {
        return Ok(());
    }
    let schema = "copy_cut";
    fill(source, schema).await?;
    let mut job = Job::new(source, target, &[schema]).await?;
    (job.mode, job.dump.0, job.gtid) = ("all", 2, true);
    let mut worker = Worker::standalone(&job)?;
    worker.logged(" copying ", LIMIT).await?;
    let mut ended = 0;
    for wait in [300, 900, 700, 1500] {
        sleep(Duration::from_millis(wait)).await;
        ended += cut(source).await? + cut(target).await?;
    }
    assert!(loads(target).await? > 0);
    // What it took before it may refuse by now.
    let mut client = Client::connect(target).await?;
    client.run("SET GLOBAL local_infile = OFF").await?;
    assert!(ended > 0);
    let changes = write(source, schema, 2).await?;
    assert!(changes > 0);
    let outcome = job.caught_up(source, target, LIMIT).await;
    outcome.map_err(|error| worker.explain(error))?;
    let begun = worker.log().matches(" copying ").count();
    assert!(begun > 1, "begun {begun} times");
    worker.stop()
}

/// Its types inside are not kept, and without a key all values name a row.
#[tokio::test(flavor = "multi_thread")]
async fn json_without_a_key_is_refused() -> Result<()> {
    let source = &Database::start(MYSQL, Role::Source, &Options::default())?;
    let target = &Database::start(MYSQL, Role::Target, &Options::default())?;
    let schema = "copy_json";
    let mut client = Client::connect(source).await?;
    client
        .run(&format!(
            "CREATE DATABASE {schema}; CREATE TABLE {schema}.t (a INT, j JSON)"
        ))
        .await?;
    let mut job = Job::new(source, target, &[schema]).await?;
    job.mode = "all";
    job.task_extra = "ignore-checking-items: [all]\n".to_owned();
    let mut worker = Worker::standalone(&job)?;
    worker.logged("JSON column `j`", LIMIT).await?;
    client
        .run(&format!(
            "ALTER TABLE {schema}.t ADD PRIMARY KEY (a); \
             INSERT INTO {schema}.t VALUES (1, JSON_OBJECT('d', 1.50, 't', NOW())), (2, '[1]')"
        ))
        .await?;
    worker.stop()?;
    worker.restart()?;
    worker.logged("the copy is over", LIMIT).await?;
    client
        .run(&format!("DELETE FROM {schema}.t WHERE a = 1"))
        .await?;
    let outcome = job.caught_up(source, target, LIMIT).await;
    outcome.map_err(|error| worker.explain(error))?;
    worker.stop()
}

/// Half of a table was copied when it got another name, and the rest came from the one that has its
/// name by then: that is said where the binlog says so, and nothing is mixed.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_go_round_are_told() -> Result<()> {
    let source = &Database::start(MYSQL, Role::Source, &Options::default())?;
    let target = &Database::start(MYSQL, Role::Target, &Options::default())?;
    let servers = (source, target);
    let mut worker = interrupted(
        servers,
        &amid::job(servers, "copy_rotate", "all").await?,
        "CREATE TABLE a LIKE n; INSERT INTO a VALUES (1, 1, 'old')",
        &["a", "n"],
        "DROP TABLE a; RENAME TABLE n TO a; CREATE TABLE n LIKE a; \
         INSERT INTO n VALUES (119999, 1, 'new')",
    )
    .await?;
    worker
        .logged("giving another name to a table", LIMIT)
        .await?;
    let mut there = Client::connect(target).await?;
    let rows = "SELECT COUNT(*) FROM copy_rotate.a";
    assert!(there.value(rows).await.is_err(), "it was dropped before");
    worker.stop()
}

/// A table was complete when it got a name that the task excludes: nobody is told of that, and the
/// one that has its former name by then has the former one's rows in the target.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_leaves_amid_a_copy_is_told() -> Result<()> {
    let source = &Database::start(MYSQL, Role::Source, &Options::default())?;
    let target = &Database::start(MYSQL, Role::Target, &Options::default())?;
    let servers = (source, target);
    let mut worker = interrupted(
        servers,
        &amid::job(servers, "copy_leave", "all").await?,
        "CREATE DATABASE copy_left; CREATE TABLE a (id INT PRIMARY KEY); INSERT INTO a VALUES (1)",
        &["a", "n"],
        "RENAME TABLE a TO copy_left.a; CREATE TABLE a LIKE copy_left.a; \
         INSERT INTO a VALUES (2)",
    )
    .await?;
    worker
        .logged("giving one the name of the other, amid the copy", LIMIT)
        .await?;
    worker.stop()
}

/// Some rows would be there twice, those that came after the first snapshot.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_without_the_key_can_not_go_on() -> Result<()> {
    let source = &Database::start(MYSQL, Role::Source, &Options::default())?;
    let target = &Database::start(MYSQL, Role::Target, &Options::default())?;
    let mut there = Client::connect(target).await?;
    there
        .run(
            "CREATE DATABASE copy_keyless; \
             CREATE TABLE copy_keyless.n (id BIGINT UNSIGNED, v INT, pad CHAR(200))",
        )
        .await?;
    let insert = "INSERT INTO n (v) VALUES (1)";
    let servers = (source, target);
    let job = amid::job(servers, "copy_keyless", "all").await?;
    let mut worker = interrupted(servers, &job, insert, &["n"], insert).await?;
    let says = "it has no key that tells which are the same";
    worker.logged(says, LIMIT).await?;
    worker.stop()
}

/// What is altered, dropped and made while nobody looks is copied as it is by then, and what the
/// binlog says of that is not done once more.
#[tokio::test(flavor = "multi_thread")]
async fn tables_change_while_it_is_away() -> Result<()> {
    let source = &Database::start(MYSQL, Role::Source, &Options::default())?;
    let target = &Database::start(MYSQL, Role::Target, &Options::default())?;
    let schema = "copy_alter";
    fill(source, schema).await?;
    let mut job = Job::new(source, target, &[schema]).await?;
    (job.mode, job.dump.0, job.gtid) = ("all", 2, true);
    let mut worker = Worker::standalone(&job)?;
    killed_amid(&mut worker, &job, target, &["n"]).await?;
    let mut client = Client::connect(source).await?;
    client
        .run(&format!(
            "USE {schema}; UPDATE n SET v = -1 WHERE id < 1000; \
             ALTER TABLE n ADD COLUMN late INT NOT NULL DEFAULT 7 AFTER id, MODIFY pad CHAR(220); \
             UPDATE n SET late = 8 WHERE id % 10 = 3; ALTER TABLE k ADD COLUMN late INT; \
             INSERT INTO k VALUES (1, 'k', 2); DROP TABLE nothing; \
             CREATE TABLE fresh (id INT PRIMARY KEY, v INT); \
             INSERT INTO fresh VALUES (1, 1), (2, 2); \
             ALTER TABLE fresh ADD COLUMN w INT DEFAULT 3; TRUNCATE TABLE s; \
             INSERT INTO s VALUES ('a', 1, 1, 'x')"
        ))
        .await?;
    worker.restart()?;
    let changes = write(source, schema, 2).await?;
    assert!(changes > 0);
    let outcome = job.caught_up(source, target, LIMIT).await;
    outcome.map_err(|error| worker.explain(error))?;
    worker.stop()
}

/// Lines have bytes, which are other texts in another character set.
#[tokio::test(flavor = "multi_thread")]
async fn character_sets_of_the_target_may_not_change() -> Result<()> {
    let source = &Database::start(MYSQL, Role::Source, &Options::default())?;
    let target = &Database::start(MYSQL, Role::Target, &local_infile(true))?;
    let schema = "copy_charset";
    fill(source, schema).await?;
    let mut there = Client::connect(target).await?;
    for is_away in [true, false] {
        let mut job = Job::new(source, target, &[schema]).await?;
        job.task = format!("charset_{is_away}");
        (job.mode, job.dump.0, job.gtid) = ("all", 2, true);
        let mut worker = Worker::standalone(&job)?;
        let pieces = format!(
            "SELECT COUNT(*) FROM {}.{}_copy WHERE number > 0 AND source_table IN ('n', 's')",
            job.meta_schema(),
            job.task
        );
        for _ in 0..3000 {
            if !["", "0"].contains(&&*there.value(&pieces).await.unwrap_or_default()) {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        if is_away {
            worker.kill()?;
        }
        there
            .run(&format!(
                "ALTER TABLE {schema}.n MODIFY pad CHAR(200) CHARACTER SET latin1; \
                 ALTER TABLE {schema}.s MODIFY pad VARCHAR(300) CHARACTER SET latin1"
            ))
            .await?;
        if is_away {
            worker.restart()?;
        }
        let says = "the character set of a column was changed amid the copy";
        worker.logged(says, LIMIT).await?;
        assert!(worker.log().contains("code=36027"), "{}", worker.log());
        worker.kill()?;
        there.run(&format!("DROP DATABASE {schema}")).await?;
    }
    Ok(())
}

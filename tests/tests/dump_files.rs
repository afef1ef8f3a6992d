//! Dump files: what a worker dumps and loads, and what it and other tools make of one another's.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use dm_tests::{
    Result,
    job::Job,
    process,
    servers::{Brand, Database, Options, Role},
    sql::{self, Client},
    types::{Columns, TypesTable},
    worker::Worker,
    workload::{Background, Workload},
};
use tokio::time::sleep;

const LIMIT: Duration = Duration::from_secs(60);
const MYSQL: Brand = Brand::Mysql;
const MARIADB: Brand = Brand::Mariadb;

fn servers(brand: Brand) -> Result<(Database, Database)> {
    let options = Options::default();
    Ok((
        Database::start(brand, Role::Source, &options)?,
        Database::start(brand, Role::Target, &options)?,
    ))
}

/// A worker that ends by itself, with success.
async fn run(job: &Job) -> Result<Worker> {
    let mut worker = Worker::standalone(job)?;
    let ended = worker.wait(LIMIT);
    match ended {
        Ok(status) if status.success() => Ok(worker),
        Ok(status) => Err(worker.explain(format!("ended with {status}").into())),
        Err(error) => Err(worker.explain(error)),
    }
}

async fn dump(job: &Job, dir: &Path) -> Result<Worker> {
    let job = Job {
        task: format!("{}_dump", job.task),
        mode: "dump",
        dump_dir: Some(dir.to_owned()),
        ..job.clone()
    };
    run(&job).await
}

async fn load(job: &Job, dir: &Path) -> Result<Worker> {
    let job = Job {
        mode: "load",
        dump_dir: Some(dir.to_owned()),
        ..job.clone()
    };
    run(&job).await
}

async fn equal(source: &Database, target: &Database, schemas: &[&str]) -> Result<()> {
    let (mut a, mut b) = (
        Client::connect(source).await?,
        Client::connect(target).await?,
    );
    sql::compare_schemas(&mut a, &mut b, schemas).await
}

/// Tables of every kind, a view on a view, and names that have to be escaped.
async fn fill(source: &Database, schema: &str, columns: Columns) -> Result<()> {
    let table = TypesTable::new(columns);
    table.create(source, schema).await?;
    table.write(source, schema).await?;
    let mut client = Client::connect(source).await?;
    let numbers = "WITH RECURSIVE r (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 900)";
    client
        .run(&format!(
            "USE {schema}; CREATE TABLE nokey (a INT, b VARCHAR(9)); \
             INSERT INTO nokey VALUES (1, ''), (1, ''), (NULL, NULL); \
             CREATE TABLE `a.b-schema` (`c``d` INT, e ENUM('x','','y'), PRIMARY KEY (`c``d`)); \
             INSERT INTO `a.b-schema` VALUES (1, 'x'), (2, ''), (3, NULL); \
             CREATE TABLE nothing (id INT PRIMARY KEY); \
             CREATE TABLE stamps (id INT PRIMARY KEY, t TIMESTAMP NULL, e ENUM('a','b')); \
             SET SESSION sql_mode = '', time_zone = '+05:30'; \
             INSERT INTO stamps VALUES (1, '2026-07-01 12:00:00', 'a'), (2, NULL, 'none of them'); \
             CREATE TABLE gen (id INT PRIMARY KEY, g INT AS (id * 2) STORED, v INT); \
             CREATE TABLE since (id INT PRIMARY KEY, \
             t TIMESTAMP NOT NULL DEFAULT '2026-07-01 12:00:00'); \
             INSERT INTO gen (id, v) {numbers} SELECT i, i * i FROM r; \
             CREATE VIEW a_view AS SELECT id, v FROM gen WHERE id < 10; \
             CREATE VIEW `a view` AS SELECT id FROM a_view"
        ))
        .await
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// What the existing worker has dumped.
#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_dump_is_loaded() -> Result<()> {
    let source = &Database::start(MYSQL, Role::Source, &Options::default())?;
    let recorded = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../core/testdata/dump");
    // Whatever it is: nothing of it is asked for but its version.
    let mut job = Job::new(source, source, &["d"]).await?;
    job.task_extra = "timezone: \"+00:00\"\n".to_owned();
    load(&job, &recorded).await?;
    let mut there = Client::connect(source).await?;
    let row = there
        .rows(
            "SELECT a, e, f, g, HEX(h), j, l, o, HEX(q), HEX(s), HEX(t), u, v, w, ST_AsText(x), \
             gen FROM d.`all types` ORDER BY id LIMIT 1",
        )
        .await?
        .remove(0);
    let row: Vec<_> = row.into_iter().map(Option::unwrap_or_default).collect();
    assert_eq!(
        row,
        [
            "-1",
            "5.5000000000",
            "0.1",
            "1e300",
            "15",
            "-100:00:00.500",
            "2026-01-01 00:00:00.12",
            "cafu00e9",
            "FF00",
            "00275C0A",
            "6127625C0A09",
            "y'z",
            "a,b",
            "{\"a\": [1, null, \"u00e9\"]}",
            "POINT(1 2)",
            "0"
        ]
    );
    let counts = there
        .value(
            "SELECT CONCAT_WS(' ', (SELECT COUNT(*) FROM d.`all types`), (SELECT COUNT(*) FROM \
             d.comp), (SELECT COUNT(*) FROM d.nokey), (SELECT COUNT(*) FROM d.nothing), (SELECT \
             COUNT(*) FROM d.many))",
        )
        .await?;
    assert_eq!(counts, "2 3 3 0 16000");
    // It is somebody else's.
    assert!(recorded.join("metadata").exists());

    // A dump of the same tables has the same files, besides what rows changed meanwhile.
    let dir = process::scratch("dump")?.join("ours");
    dump(&job, &dir).await?;
    assert_eq!(names(&dir)?, names(&recorded)?);
    for name in [
        "d-schema-create.sql",
        "d.comp-schema.sql",
        "d.comp.0000000000000.sql",
        "d.all types-schema.sql",
        "d.nokey-schema.sql",
        "d.nokey.0000000000000.sql",
        "d.many-schema.sql",
        "d.many.0000000000000.sql",
    ] {
        let read = |dir: &Path| fs::read_to_string(dir.join(name));
        let ours = read(&dir)?.replace("/*!40103 SET TIME_ZONE='+00:00'*/;\n", "");
        assert_eq!(ours, read(&recorded)?, "{name}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_dumps_and_loads() -> Result<()> {
    what_is_dumped_is_loaded(MYSQL).await
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_dumps_and_loads() -> Result<()> {
    what_is_dumped_is_loaded(MARIADB).await
}

async fn what_is_dumped_is_loaded(brand: Brand) -> Result<()> {
    let (source, target) = &servers(brand)?;
    let schema = "df_types";
    let columns = match brand {
        MYSQL => Columns::Mysql,
        MARIADB => Columns::Common,
    };
    fill(source, schema, columns).await?;
    if brand == MARIADB {
        let mut client = Client::connect(source).await?;
        client
            .run(&format!(
                "USE {schema}; CREATE TABLE nets (id INT PRIMARY KEY, u UUID, i INET6, f INET4); \
                 INSERT INTO nets VALUES (1, UUID(), 'fe80::1', '10.0.0.1'), (2, NULL, NULL, NULL)"
            ))
            .await?;
    }
    let dir = process::scratch("dump")?.join("ours");
    let mut job = Job::new(source, target, &[schema]).await?;
    job.task_extra = "timezone: \"-03:00\"\n".to_owned();
    // Many files, and statements of a few rows.
    job.dump = (4, "-F 2k -s 300");
    dump(&job, &dir).await?;
    let files = names(&dir)?;
    assert!(files.iter().filter(|name| name.contains(".gen.")).count() > 3);
    assert!(
        files.contains(&format!("{schema}.a%2Eb%2Dschema-schema.sql")),
        "{files:?}"
    );
    load(&job, &dir).await?;
    equal(source, target, &[schema]).await?;
    let mut there = Client::connect(target).await?;
    let since = format!(
        "SET SESSION time_zone = '+00:00'; INSERT INTO {schema}.since (id) VALUES (1); \
         SELECT CONCAT(MAX(t)) FROM {schema}.since; DELETE FROM {schema}.since"
    );
    let mut here = Client::connect(source).await?;
    let (mut ours, mut theirs) = (String::new(), String::new());
    for (client, found) in [(&mut here, &mut theirs), (&mut there, &mut ours)] {
        let [set, insert, select, delete] = &*since.split("; ").collect::<Vec<_>>() else {
            unreachable!("four statements")
        };
        client.run(set).await?;
        client.run(insert).await?;
        *found = client.value(select).await?;
        client.run(delete).await?;
    }
    assert_eq!(ours, theirs, "a default in another time zone");
    let of_view = format!("SELECT COUNT(*) FROM {schema}.`a view`");
    assert_eq!(there.value(&of_view).await?, "9");

    // Once more, nothing is to be done.
    let again = dump(&job, &dir).await?;
    assert!(
        again.log().contains("the dump is complete"),
        "{}",
        again.log()
    );
    load(&job, &dir).await?;
    equal(source, target, &[schema]).await?;

    // Nobody else may write there.
    let mut other = Job::new(source, target, &[schema]).await?;
    (other.task, other.mode) = ("other".to_owned(), "dump");
    other.dump_dir = Some(dir.clone());
    let mut worker = Worker::standalone(&other)?;
    worker
        .logged("has dump files of task `task_df_types_dump`", LIMIT)
        .await?;
    worker.kill()?;
    assert_eq!(names(&dir)?, files);

    // The tool of the distribution takes it as well. It gives up where two of its threads, each
    // with a file of one table, lock each other out at a unique key; so it gets one only.
    there.run(&format!("DROP DATABASE {schema}")).await?;
    let mut myloader = Command::new(process::unpacked("myloader"));
    myloader
        .args(target.login())
        .args(["--threads=1", "--directory", &dir.display().to_string()]);
    process::run("myloader", &mut myloader)?;
    assert_eq!(there.value(&of_view).await?, "9");
    equal(source, target, &[schema]).await
}

/// Routes, and what becomes of rows whose keys are there, are those of any copy.
#[tokio::test(flavor = "multi_thread")]
async fn files_go_where_routes_say() -> Result<()> {
    let (source, target) = &servers(MYSQL)?;
    let schema = "df_route";
    let mut client = Client::connect(source).await?;
    client
        .run(&format!(
            "CREATE DATABASE {schema}; CREATE TABLE {schema}.t (id INT PRIMARY KEY, v INT); \
             INSERT INTO {schema}.t VALUES (1, 1), (2, 2), (3, 3)"
        ))
        .await?;
    let mut job = Job::new(source, target, &[schema]).await?;
    let dir = process::scratch("dump")?.join("files");
    dump(&job, &dir).await?;
    job.routes = &["there"];
    job.task_extra = format!(
        "routes: {{there: {{schema-pattern: {schema}, table-pattern: t, \
         target-schema: df_routed, target-table: u}}}}\n"
    );
    let mut there = Client::connect(target).await?;
    let rows = "SELECT GROUP_CONCAT(CONCAT(id, '=', v) ORDER BY id) FROM df_routed.u";
    for (policy, expected) in [
        ("replace", "1=1,2=2,3=3,4=4"),
        ("ignore", "1=1,2=9,3=3,4=4"),
        ("error", "2=9,4=4"),
    ] {
        there
            .run(
                "DROP DATABASE IF EXISTS df_routed; CREATE DATABASE df_routed; \
                 CREATE TABLE df_routed.u (id INT PRIMARY KEY, v INT); \
                 INSERT INTO df_routed.u VALUES (2, 9), (4, 4)",
            )
            .await?;
        job.task = format!("{schema}_{policy}");
        job.on_duplicate = Some(policy);
        if policy == "error" {
            (job.mode, job.dump_dir) = ("load", Some(dir.clone()));
            let mut worker = Worker::standalone(&job)?;
            worker.logged("Error 1062", LIMIT).await?;
            worker.kill()?;
        } else {
            load(&job, &dir).await?;
        }
        assert_eq!(there.value(rows).await?, expected, "{policy}");
    }
    Ok(())
}

/// What mydumper has written, packed or not.
#[tokio::test(flavor = "multi_thread")]
async fn what_mydumper_dumps_is_loaded() -> Result<()> {
    for brand in [MYSQL, MARIADB] {
        let (source, target) = &servers(brand)?;
        let schema = "df_mydumper";
        fill(source, schema, Columns::Common).await?;
        // Its 0.10 neither quotes nor escapes such names, and cuts or changes such values.
        let mut client = Client::connect(source).await?;
        client
            .run(&format!(
                "USE {schema}; DROP TABLE `a.b-schema`, `odd ``name`; \
                 ALTER TABLE every_type DROP COLUMN float_, DROP COLUMN enum_"
            ))
            .await?;
        let job = Job::new(source, target, &[schema]).await?;
        for (number, more) in [
            &["--rows=100"][..],
            &["--compress", "--statement-size=2000"],
        ]
        .into_iter()
        .enumerate()
        {
            let dir = process::scratch("mydumper")?.join("theirs");
            let mut mydumper = Command::new(process::unpacked("mydumper"));
            mydumper.args(source.login()).args(more);
            mydumper
                .args(["--database", schema, "--outputdir"])
                .arg(&dir);
            process::run("mydumper", &mut mydumper)?;
            let job = Job {
                task: format!("mydumper_{number}"),
                ..job.clone()
            };
            load(&job, &dir).await?;
            equal(source, target, &[schema]).await?;
            let mut there = Client::connect(target).await?;
            there.run(&format!("DROP DATABASE {schema}")).await?;
        }
    }
    Ok(())
}

/// Dumps, loads and goes on with the binlog, killed in each of them.
#[tokio::test(flavor = "multi_thread")]
async fn killed_with_files_between() -> Result<()> {
    let (source, target) = &servers(MYSQL)?;
    let schema = "df_kill";
    Workload::create(source, schema).await?;
    let mut client = Client::connect(source).await?;
    let numbers =
        "WITH RECURSIVE r (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 60000)";
    for sql in [
        "SET SESSION cte_max_recursion_depth = 100000000".to_owned(),
        format!("CREATE TABLE {schema}.k (x INT, pad VARCHAR(200))"),
        format!("INSERT INTO {schema}.k {numbers} SELECT i % 9, REPEAT('k', 195) FROM r"),
    ] {
        client.run(&sql).await?;
    }
    // However fast the machine is, it takes seconds.
    let mut there = Client::connect(target).await?;
    there
        .run(&format!(
            "CREATE DATABASE {schema}; USE {schema}; CREATE TABLE k (x INT, pad VARCHAR(200)); \
             CREATE TRIGGER slow BEFORE INSERT ON k FOR EACH ROW \
             SET @slow = IF(RAND() < 0.005, SLEEP(0.02), 0)"
        ))
        .await?;
    let background = Background::start(source, schema, dm_tests::seed(), 3, false).await?;
    let mut job = Job::new(source, target, &[schema]).await?;
    (job.mode, job.dump, job.gtid) = ("all", (2, "-F 1 -s 5000"), true);
    let dir = process::scratch("dump")?.join("all");
    job.dump_dir = Some(dir.clone());
    let mut worker = Worker::standalone(&job)?;
    worker.logged(" dumping ", LIMIT).await?;
    worker.kill()?;
    worker.restart()?;
    for wait in [150, 400, 250] {
        let seen = worker.log().matches(" loading ").count();
        let is_over = |log: &str| log.contains("the copy is over");
        while worker.log().matches(" loading ").count() == seen && !is_over(&worker.log()) {
            sleep(Duration::from_millis(20)).await;
        }
        sleep(Duration::from_millis(wait)).await;
        worker.kill()?;
        worker.restart()?;
    }
    let log = worker.log();
    let begun = |what: &str| log.matches(what).count();
    println!(
        "dumps: {}, loads: {}",
        begun(" dumping "),
        begun(" loading ")
    );
    assert!(begun(" loading ") >= 2, "{log}");
    let done = background.stop().await?;
    assert!(done.rows > 0);
    let outcome = job.caught_up(source, target, LIMIT).await;
    outcome.map_err(|error| worker.explain(error))?;
    // Nobody needs them any more.
    let with_suffix = PathBuf::from(format!("{}.{}", dir.display(), job.task));
    assert!(!with_suffix.exists() && !dir.exists());
    worker.stop()
}

/// What others have dumped, and the binlog from there on.
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_mydumper_is_gone_on_with() -> Result<()> {
    let (source, target) = &servers(MARIADB)?;
    let schema = "df_sync";
    Workload::create(source, schema).await?;
    let background = Background::start(source, schema, dm_tests::seed(), 3, false).await?;
    sleep(Duration::from_millis(700)).await;
    let dir = process::scratch("mydumper")?.join("theirs");
    let mut mydumper = Command::new(process::unpacked("mydumper"));
    mydumper
        .args(source.login())
        .args(["--database", schema, "--outputdir"]);
    process::run("mydumper", mydumper.arg(&dir))?;
    sleep(Duration::from_millis(700)).await;
    let done = background.stop().await?;
    assert!(done.rows > 0);
    let mut job = Job::new(source, target, &[schema]).await?;
    (job.mode, job.gtid) = ("load&sync", true);
    job.dump_dir = Some(dir.clone());
    let mut worker = Worker::standalone(&job)?;
    worker.logged("the copy is over", LIMIT).await?;
    let outcome = job.caught_up(source, target, LIMIT).await;
    outcome.map_err(|error| worker.explain(error))?;
    assert!(dir.join("metadata").exists());
    worker.stop()
}

/// A table that was there may have the columns of its files in another order.
#[tokio::test(flavor = "multi_thread")]
async fn rows_without_names_go_by_their_definition() -> Result<()> {
    let (source, target) = &servers(MYSQL)?;
    let schema = "df_order";
    let mut client = Client::connect(source).await?;
    client
        .run(&format!(
            "CREATE DATABASE {schema}; \
             CREATE TABLE {schema}.t (a INT, b INT, g INT AS (a), PRIMARY KEY (b)); \
             INSERT INTO {schema}.t (a, b) VALUES (1, 10), (2, 20)"
        ))
        .await?;
    let job = Job::new(source, target, &[schema]).await?;
    let dir = process::scratch("dump")?.join("ours");
    dump(&job, &dir).await?;
    let data = dir.join(format!("{schema}.t.0000000000000.sql"));
    let text = fs::read_to_string(&data)?;
    let without = text.replace("`t` (`a`,`b`) VALUES", "`t` VALUES");
    assert_ne!(without, text);
    fs::write(&data, without)?;
    let mut there = Client::connect(target).await?;
    there
        .run(&format!(
            "CREATE DATABASE {schema}; \
             CREATE TABLE {schema}.t (b INT PRIMARY KEY, more INT, a INT, g INT AS (a))"
        ))
        .await?;
    load(&job, &dir).await?;
    let found = format!("SELECT GROUP_CONCAT(CONCAT(a, ' ', b)) FROM {schema}.t");
    assert_eq!(there.value(&found).await?, "1 10,2 20");
    Ok(())
}

/// A server would round what does not fit, and say nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_there_is_compared_with_its_file() -> Result<()> {
    let (source, target) = &servers(MYSQL)?;
    let schema = "df_there";
    let table = |moment: &str| format!("CREATE TABLE {schema}.t (a INT PRIMARY KEY, d {moment})");
    let exact = table("DATETIME(6)");
    let row = format!("INSERT INTO {schema}.t VALUES (1, '2026-01-01 00:00:00.9')");
    let mut client = Client::connect(source).await?;
    client
        .run(&format!("CREATE DATABASE {schema}; {exact}; {row}"))
        .await?;
    let job = Job::new(source, target, &[schema]).await?;
    let dir = process::scratch("dump")?.join("ours");
    dump(&job, &dir).await?;
    let mut there = Client::connect(target).await?;
    let rounded = table("DATETIME");
    there
        .run(&format!("CREATE DATABASE {schema}; {rounded}"))
        .await?;
    let mut loading = job.clone();
    (loading.mode, loading.dump_dir) = ("load", Some(dir.clone()));
    // The source may have another table by then.
    loading.task_extra = "ignore-checking-items: [all]\n".into();
    let mut worker = Worker::standalone(&loading)?;
    let says = "its column `d` is datetime, which rounds values of datetime(6)";
    worker.logged(says, LIMIT).await?;
    worker.kill()?;
    let now = format!("ALTER TABLE {schema}.t MODIFY d DATETIME(6)");
    there.run(&now).await?;
    load(&job, &dir).await?;
    equal(source, target, &[schema]).await
}

/// Each says what is wrong, and nothing of it is in the target.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_dump_is_refused() -> Result<()> {
    let (source, target) = &servers(MYSQL)?;
    let schema = "df_bad";
    let mut client = Client::connect(source).await?;
    client
        .run(&format!(
            "CREATE DATABASE {schema}; CREATE TABLE {schema}.t (a INT PRIMARY KEY); \
             INSERT INTO {schema}.t VALUES (1), (2)"
        ))
        .await?;
    let job = Job::new(source, target, &[schema]).await?;
    let dir = process::scratch("dump")?.join("ours");
    dump(&job, &dir).await?;
    let data = dir.join(format!("{schema}.t.0000000000000.sql"));
    let text = fs::read_to_string(&data)?;
    for (changed, says) in [
        (text.replace("(2);", "(2)"), "does not end"),
        (text.replace("INSERT", "DELETE"), "rows of its table only"),
        (text.replace("`t`", "`other`"), "rows of its table only"),
        (text.replace("binary", "''"), "has no name"),
        (text.replace("(2)", "('x')"), "Incorrect integer value"),
    ] {
        assert_ne!(changed, text);
        fs::write(&data, changed)?;
        let mut job = job.clone();
        (job.mode, job.dump_dir) = ("load", Some(dir.clone()));
        let mut worker = Worker::standalone(&job)?;
        worker.logged(says, LIMIT).await?;
        worker.kill()?;
        let mut there = Client::connect(target).await?;
        let rows = there
            .value(&format!("SELECT COUNT(*) FROM {schema}.t"))
            .await?;
        assert_eq!(rows, "0", "{says}");
    }
    fs::remove_file(dir.join("metadata"))?;
    fs::write(&data, &text)?;
    let mut job = job.clone();
    (job.mode, job.dump_dir) = ("load", Some(dir.clone()));
    let mut worker = Worker::standalone(&job)?;
    worker.logged("there is no metadata in", LIMIT).await?;
    worker.kill()?;
    // One that has not begun is checked.
    job.task.push_str("_elsewhere");
    job.dump_dir = Some(dir.join("elsewhere"));
    let mut worker = Worker::standalone(&job)?;
    // It waits for files that may come, but says so beforehand as well.
    worker.logged("check dump_files of source", LIMIT).await?;
    worker.logged("there is no directory", LIMIT).await?;
    worker.kill()?;
    Ok(())
}

/// What it would take for the binlog to go on behind files.
#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_gone_on_with_is_refused() -> Result<()> {
    let (source, target) = &servers(MYSQL)?;
    let schema = "df_on";
    let mut client = Client::connect(source).await?;
    client
        .run(&format!(
            "CREATE DATABASE {schema}; CREATE TABLE {schema}.t (a INT PRIMARY KEY); \
             INSERT INTO {schema}.t VALUES (1), (2); CREATE TABLE {schema}.j (v JSON)"
        ))
        .await?;
    let mut job = Job::new(source, target, &[schema]).await?;
    job.gtid = true;
    let dir = process::scratch("dump")?.join("ours");
    dump(&job, &dir).await?;
    // The units themselves refuse it as well.
    job.task_extra = "ignore-checking-items: [\"all\"]\n".to_owned();
    let refused = async |mode: &'static str, dir: &Path, says: &str| -> Result<()> {
        let mut job = job.clone();
        (job.mode, job.dump_dir) = (mode, Some(dir.to_owned()));
        let mut worker = Worker::standalone(&job)?;
        worker.logged(says, LIMIT).await?;
        worker.kill()
    };
    // Later changes would not find its rows.
    let all = process::scratch("dump")?.join("all");
    for (mode, dir) in [("all", &all), ("load&sync", &dir)] {
        refused(mode, dir, "has no key, and a copy may change").await?;
    }
    // Before anything is made.
    let mut there = Client::connect(target).await?;
    assert_eq!(there.tables(schema).await?, Vec::<String>::new());
    // Read at several places.
    let path = dir.join("metadata");
    let metadata = fs::read_to_string(&path)?;
    let place: Vec<_> = metadata.lines().skip(1).take(4).collect();
    let header = format!("{} /* AFTER CONNECTION POOL ESTABLISHED */", place[0]);
    let second = format!("{header}\n{}\n\n", place[1..].join("\n"));
    let unlocked = metadata.replace("Finished", &format!("{second}Finished"));
    fs::write(&path, unlocked)?;
    client.run(&format!("DROP TABLE {schema}.j")).await?;
    let keyless = format!("CREATE DATABASE {schema}; CREATE TABLE {schema}.j (v VARCHAR(9))");
    there.run(&keyless).await?;
    refused("load&sync", &dir, "Couldn't acquire global lock").await?;
    // It was another source's.
    let of = format!(", source {}", job.source_id);
    assert!(metadata.contains(&of), "{metadata}");
    fs::write(&path, metadata.replace(&of, ", source another"))?;
    refused("load&sync", &dir, "the dump is of source `another`").await?;
    Ok(())
}

/// Files that take the place of those that were loaded in part.
#[tokio::test(flavor = "multi_thread")]
async fn another_dump_is_not_gone_on_with() -> Result<()> {
    let (source, target) = &servers(MYSQL)?;
    let schema = "df_other";
    let table = "(a INT PRIMARY KEY, pad VARCHAR(200))";
    let mut client = Client::connect(source).await?;
    client
        .run(&format!(
            "CREATE DATABASE {schema}; USE {schema}; CREATE TABLE t {table}; \
             SET SESSION cte_max_recursion_depth = 100000000; \
             INSERT INTO t WITH RECURSIVE r (i) AS \
             (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 60000) \
             SELECT i, REPEAT('k', 195) FROM r"
        ))
        .await?;
    let mut there = Client::connect(target).await?;
    there
        .run(&format!(
            "CREATE DATABASE {schema}; USE {schema}; CREATE TABLE t {table}; \
             CREATE TRIGGER slow BEFORE INSERT ON t FOR EACH ROW \
             SET @slow = IF(NEW.a % 500 = 0, SLEEP(0.05), 0)"
        ))
        .await?;
    let mut job = Job::new(source, target, &[schema]).await?;
    job.dump = (1, "");
    let dir = process::scratch("dump")?.join("ours");
    dump(&job, &dir).await?;
    let mut loading = job.clone();
    (loading.mode, loading.dump_dir) = ("load", Some(dir.clone()));
    let mut worker = Worker::standalone(&loading)?;
    worker.logged(" loading ", LIMIT).await?;
    let pieces = format!(
        "SELECT COUNT(*) FROM {}.{}_copy WHERE number > 0",
        job.meta_schema(),
        job.task
    );
    while there.value(&pieces).await.unwrap_or_default() == "0" {
        sleep(Duration::from_millis(20)).await;
    }
    worker.kill()?;
    // As many bytes as before.
    client
        .run(&format!("UPDATE {schema}.t SET pad = REPEAT('n', 195)"))
        .await?;
    fs::remove_dir_all(&dir)?;
    dump(&job, &dir).await?;
    let mut worker = Worker::standalone(&loading)?;
    worker
        .logged("its files are not those any more", LIMIT)
        .await?;
    worker.kill()
}

//! Servers whose character sets have other default collations.

use std::{fs, time::Duration};

use dm_tests::{
    Result,
    job::Job,
    process,
    servers::{Brand, Database, Options, Role},
    sql::Client,
    worker::Worker,
};
use tokio::time::sleep;

const LIMIT: Duration = Duration::from_secs(60);
const NAMED: &str = "VARCHAR(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";

const METADATA: &str = "Started dump at: 2026-01-01 00:00:00\nSHOW MASTER STATUS:\n\
                        \tLog: binlog.000001\n\tPos: 4\n\tGTID:\n\n\
                        Finished dump at: 2026-01-01 00:00:00\n";

/// The collations of a schema and of columns of its tables.
async fn collations(target: &Database, schema: &str) -> Result<String> {
    let mut client = Client::connect(target).await?;
    let sql = format!(
        "SELECT CONCAT_WS(' ', (SELECT default_collation_name FROM information_schema.schemata \
         WHERE schema_name = '{schema}'), GROUP_CONCAT(collation_name ORDER BY table_name, \
         column_name SEPARATOR ' ')) FROM information_schema.columns \
         WHERE table_schema = '{schema}' AND table_name <> 'mark' AND collation_name IS NOT NULL"
    );
    client.value(&sql).await
}

/// What is created with a character set has the source's default collation of it, in strict mode.
#[tokio::test(flavor = "multi_thread")]
async fn the_source_decides_over_collations_where_that_is_wanted() -> Result<()> {
    let options = Options::default();
    let source = &Database::start(Brand::Mysql, Role::Source, &options)?;
    let target = &Database::start(Brand::Mysql, Role::Target, &options)?;
    let mut there = Client::connect(target).await?;
    there
        .run("SET GLOBAL default_collation_for_utf8mb4 = utf8mb4_general_ci")
        .await?;
    let source_has = "utf8mb4_0900_ai_ci utf8mb4_0900_ai_ci utf8mb4_bin utf8mb4_0900_ai_ci";
    let target_has = "utf8mb4_general_ci utf8mb4_general_ci utf8mb4_bin utf8mb4_general_ci";
    for (mode, expected) in [("loose", target_has), ("strict", source_has)] {
        let schema = &*format!("collated_{mode}");
        let definition = format!(
            "(id INT PRIMARY KEY, a VARCHAR(9) CHARACTER SET utf8mb4, b {NAMED}, c VARCHAR(9)) \
             DEFAULT CHARSET=utf8mb4"
        );
        let mut job = Job::new(source, target, &[schema]).await?;
        job.task_extra = format!("collation_compatible: \"{mode}\"\n");
        let mut worker = Worker::standalone(&job)?;
        let mut client = Client::connect(source).await?;
        client
            .run(&format!(
                "CREATE DATABASE {schema} CHARACTER SET utf8mb4; \
                 CREATE TABLE {schema}.t {definition}; \
                 INSERT INTO {schema}.t VALUES (1, 'ä', 'b', 'c')"
            ))
            .await?;
        let outcome = job.caught_up(source, target, LIMIT).await;
        outcome.map_err(|error| worker.explain(error))?;
        worker.stop()?;
        assert_eq!(collations(target, schema).await?, expected, "{mode}");

        // The same from files that somebody has dumped.
        there.run(&format!("DROP DATABASE {schema}")).await?;
        let dir = process::scratch("dump")?.join("files");
        fs::create_dir_all(&dir)?;
        let create = format!("CREATE DATABASE `{schema}` CHARACTER SET utf8mb4;\n");
        for (name, text) in [
            (format!("{schema}-schema-create.sql"), create),
            (
                format!("{schema}.t-schema.sql"),
                format!("CREATE TABLE `t` {definition};\n"),
            ),
            (
                format!("{schema}.t.0.sql"),
                "INSERT INTO `t` VALUES\n(1,'a','b','c');\n".to_owned(),
            ),
            ("metadata".to_owned(), METADATA.to_owned()),
        ] {
            fs::write(dir.join(name), text)?;
        }
        let job = Job {
            task: format!("{schema}_files"),
            mode: "load",
            dump_dir: Some(dir),
            ..job
        };
        let mut worker = Worker::standalone(&job)?;
        let ended = worker.wait(LIMIT);
        let ended = ended.map_err(|error| worker.explain(error))?;
        assert!(ended.success(), "{}", worker.log());
        assert_eq!(
            collations(target, schema).await?,
            expected,
            "{mode}, of files"
        );
    }
    Ok(())
}

/// What the source's own variables say is as good as what its statements say, in strict mode.
#[tokio::test(flavor = "multi_thread")]
async fn variables_of_the_source_decide_over_collations() -> Result<()> {
    let options = Options::default();
    let source = &Database::start(Brand::Mysql, Role::Source, &options)?;
    let target = &Database::start(Brand::Mysql, Role::Target, &options)?;
    let mut client = Client::connect(source).await?;
    client
        .run(
            "SET GLOBAL default_collation_for_utf8mb4 = utf8mb4_general_ci; \
             SET GLOBAL collation_server = latin1_german1_ci",
        )
        .await?;
    // Sessions that begin now have them.
    let mut client = Client::connect(source).await?;
    let definition = format!(
        "(id INT PRIMARY KEY, a VARCHAR(9) CHARACTER SET utf8mb4, b {NAMED}, c VARCHAR(9)) \
         DEFAULT CHARSET=utf8mb4"
    );
    let create = |schema: &str| {
        format!(
            "CREATE DATABASE {schema}; \
             CREATE TABLE {schema}.t {definition}; CREATE TABLE {schema}.u (a VARCHAR(9)); \
             INSERT INTO {schema}.t VALUES (1, 'ä', 'b', 'c')"
        )
    };
    let (copied, logged) = ("variables_copied", "variables_logged");
    client.run(&create(copied)).await?;
    let mut job = Job::new(source, target, &[copied, logged]).await?;
    job.mode = "all";
    job.task_extra = "collation_compatible: \"strict\"\n".to_owned();
    let mut worker = Worker::standalone(&job)?;
    let outcome = job.caught_up(source, target, LIMIT).await;
    outcome.map_err(|error| worker.explain(error))?;
    client.run(&create(logged)).await?;
    // This session has its own.
    client
        .run(
            "SET default_collation_for_utf8mb4 = utf8mb4_0900_ai_ci; \
             SET collation_server = utf8mb3_bin; \
             CREATE TABLE variables_logged.w (a TEXT) CHARSET utf8mb4; \
             CREATE DATABASE variables_session",
        )
        .await?;
    let outcome = job.caught_up(source, target, LIMIT).await;
    outcome.map_err(|error| worker.explain(error))?;
    worker.stop()?;
    for schema in [copied, logged] {
        let expected = collations(source, schema).await?;
        assert!(expected.starts_with("latin1_german1_ci utf8mb4_general_ci"));
        assert_eq!(collations(target, schema).await?, expected, "{schema}");
    }

    // Files may say nothing at all of a schema.
    let mut there = Client::connect(target).await?;
    there.run(&format!("DROP DATABASE {copied}")).await?;
    let dir = process::scratch("dump")?.join("files");
    fs::create_dir_all(&dir)?;
    for (name, text) in [
        ("t-schema", format!("CREATE TABLE `t` {definition};\n")),
        (
            "t.0",
            "INSERT INTO `t` VALUES\n(1,'a','b','c');\n".to_owned(),
        ),
        ("u-schema", "CREATE TABLE `u` (a VARCHAR(9));\n".to_owned()),
        ("u.0", "INSERT INTO `u` VALUES\n('a');\n".to_owned()),
    ] {
        fs::write(dir.join(format!("{copied}.{name}.sql")), text)?;
    }
    fs::write(dir.join("metadata"), METADATA)?;
    let job = Job {
        task: "variables_files".to_owned(),
        mode: "load",
        dump_dir: Some(dir),
        ..job
    };
    let mut worker = Worker::standalone(&job)?;
    let ended = worker.wait(LIMIT);
    let ended = ended.map_err(|error| worker.explain(error))?;
    assert!(ended.success(), "{}", worker.log());
    let expected = collations(source, copied).await?;
    assert_eq!(collations(target, copied).await?, expected, "of files");
    Ok(())
}

/// A schema that the target can't make as it is may be made there by hand: that is told, and what
/// is there is good enough.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_may_have_a_collation_that_the_target_lacks() -> Result<()> {
    let options = Options::default();
    let source = &Database::start(Brand::Mysql, Role::Source, &options)?;
    let target = &Database::start(Brand::Mariadb, Role::Target, &options)?;
    let (schema, later) = ("collated_unknown", "collated_later");
    let mut client = Client::connect(source).await?;
    client
        .run(&format!(
            "CREATE DATABASE {schema} COLLATE utf8mb4_0900_as_cs; \
             CREATE TABLE {schema}.t (id INT PRIMARY KEY, v VARCHAR(9)) \
             CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci; \
             INSERT INTO {schema}.t VALUES (1, 'ä')"
        ))
        .await?;
    let mut job = Job::new(source, target, &[schema, later]).await?;
    job.mode = "all";
    job.task_extra = "ignore-checking-items: [all]\n".to_owned();
    let mut worker = Worker::standalone(&job)?;
    worker
        .logged("make the schema or table there", LIMIT)
        .await?;
    worker.kill()?;
    let mut there = Client::connect(target).await?;
    let made = |name: &str| format!("CREATE DATABASE {name} COLLATE utf8mb4_bin");
    there.run(&made(schema)).await?;
    worker.restart()?;
    worker.logged("all is copied", LIMIT).await?;
    // The binlog has the same.
    there.run(&made(later)).await?;
    client
        .run(&format!(
            "CREATE DATABASE {later} COLLATE utf8mb4_0900_as_cs; \
             CREATE TABLE {later}.t (v VARCHAR(9) COLLATE utf8mb4_bin PRIMARY KEY); \
             INSERT INTO {later}.t VALUES ('ö')"
        ))
        .await?;
    let rows = format!("SELECT COUNT(*) FROM {later}.t");
    for _ in 0..600 {
        if there.value(&rows).await.is_ok_and(|rows| rows == "1") {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(there.value(&rows).await?, "1", "{}", worker.log());
    worker.stop()?;
    let expected = "utf8mb4_bin utf8mb4_general_ci";
    assert_eq!(collations(target, schema).await?, expected);
    Ok(())
}

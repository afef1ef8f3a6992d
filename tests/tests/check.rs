//! Checks before the start: what a good setup looks like, what is found in bad ones, and that a
//! worker that runs alone does not start into them.

use std::time::Duration;

use dm_tests::{
    Result,
    job::Job,
    process,
    servers::{Brand, Database, Options, Role},
    sql::Client,
    worker::Worker,
};

/// How long a check may take.
const LIMIT: Duration = Duration::from_secs(60);
const MYSQL: Brand = Brand::Mysql;
const MARIADB: Brand = Brand::Mariadb;
/// What the README asks for.
const READS: &str = "REPLICATION SLAVE, REPLICATION CLIENT, SELECT, RELOAD ON *.*";
const WRITES: &str =
    "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES ON *.*";

/// Checks a job. The exit code, and what was said.
fn check(job: &Job, more: &[&str]) -> Result<(Option<i32>, String)> {
    let dir = process::scratch("check")?;
    let (source, task) = job.write_files(&dir)?;
    let (source, task) = (source.display().to_string(), task.display().to_string());
    let args = ["check", "--source", &source, "--task", &task];
    let mut worker = Worker::start(&[&args[..], more].concat())?;
    let status = worker.wait(LIMIT)?;
    Ok((status.code(), worker.log()))
}

/// What was said, without the breaks of its lines.
fn flat(said: &str) -> String {
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Checks a job that must end with a code, and have said all this.
fn says(job: &Job, code: i32, parts: &[&str]) -> Result<String> {
    let (found, said) = check(job, &[])?;
    assert_eq!(found, Some(code), "{said}");
    let text = flat(&said);
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in\n{said}");
    }
    Ok(said)
}

/// Makes a user anew, that may do so much.
async fn user(server: &Database, name: &str, grants: &[&str]) -> Result<()> {
    let mut client = Client::connect(server).await?;
    let made = format!(
        "DROP USER IF EXISTS '{name}'@'%'; CREATE USER '{name}'@'%' IDENTIFIED BY '{name}'"
    );
    client.run(&made).await?;
    for grant in grants {
        client
            .run(&format!("GRANT {grant} TO '{name}'@'%'"))
            .await?;
    }
    Ok(())
}

/// A job of users with the least privileges.
async fn plain(source: &Database, target: &Database, schema: &str) -> Result<Job> {
    // Servers may be shared.
    let (reader, writer) = (format!("{schema}_reader"), format!("{schema}_writer"));
    user(source, &reader, &[READS]).await?;
    user(target, &writer, &[WRITES]).await?;
    let mut job = Job::new(source, target, &[schema]).await?;
    for (address, name) in [(&mut job.source, reader), (&mut job.target, writer)] {
        address.user.clone_from(&name);
        address.password = name;
    }
    (job.mode, job.gtid) = ("all", true);
    Ok(job)
}

async fn good(brand: Brand) -> Result<()> {
    let source = Database::shared(brand, Role::Source)?;
    let target = Database::shared(brand, Role::Target)?;
    let schema = "check_good";
    let mut client = Client::connect(source).await?;
    client
        .run(&format!(
            "CREATE DATABASE {schema}; \
             CREATE TABLE {schema}.t (id INT PRIMARY KEY, v VARCHAR(20)); \
             CREATE TABLE {schema}.u (a INT NOT NULL, b INT, UNIQUE (a))"
        ))
        .await?;
    let mut job = plain(source, target, schema).await?;
    for mode in ["all", "full"] {
        job.mode = mode;
        let said = says(
            &job,
            0,
            &["0 with warnings, 0 failed: nothing is in the way."],
        )?;
        // One line for each.
        assert!(
            said.lines()
                .skip(1)
                .filter(|line| !line.is_empty())
                .all(|line| { line.starts_with("  success ") || line.contains(" passed, ") }),
            "{said}"
        );
    }
    job.mode = "incremental";
    let mut there = Client::connect(target).await?;
    for table in ["t", "u"] {
        let sql = client
            .rows(&format!("SHOW CREATE TABLE {schema}.{table}"))
            .await?;
        let sql = sql[0][1].clone().unwrap_or_default();
        there
            .run(&format!(
                "CREATE DATABASE IF NOT EXISTS {schema}; USE {schema}; {sql}"
            ))
            .await?;
    }
    says(
        &job,
        0,
        &["0 with warnings, 0 failed", "success meta_position source"],
    )?;

    let (code, said) = check(&job, &["-json"])?;
    assert_eq!(code, Some(0), "{said}");
    let json: serde_json::Value = serde_json::from_str(&said)?;
    let results = json["results"].as_array().ok_or("no results")?;
    assert_eq!(json["summary"]["passed"], true);
    assert_eq!(json["summary"]["total"], results.len());
    assert!(
        results.iter().all(|result| result["state"] == "success"),
        "{said}"
    );

    job.start.file = "binlog.999999".to_owned();
    job.gtid = false;
    says(
        &job,
        1,
        &["fail meta_position", "has no file binlog.999999 yet"],
    )?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn good_mysql_passes() -> Result<()> {
    good(MYSQL).await
}

#[tokio::test(flavor = "multi_thread")]
async fn good_mariadb_passes() -> Result<()> {
    good(MARIADB).await
}

/// What each lack of a privilege is called.
async fn privileges(brand: Brand) -> Result<()> {
    let source = &Database::start(brand, Role::Source, &Options::default())?;
    let target = &Database::start(brand, Role::Target, &Options::default())?;
    let schema = "check_rights";
    let mut client = Client::connect(source).await?;
    client
        .run(&format!(
            "CREATE DATABASE {schema}; CREATE TABLE {schema}.t (id INT PRIMARY KEY); \
             CREATE TABLE {schema}.seen (id INT PRIMARY KEY); CREATE TABLE {schema}.k (id INT)"
        ))
        .await?;
    let mut job = plain(source, target, schema).await?;
    let on = |privilege: &str| format!("{privilege} ON {schema}.*");
    let binlog = "REPLICATION SLAVE, REPLICATION CLIENT ON *.*";
    let (client_privilege, unlocked) = match brand {
        // A table without a key can't be read without a lock, even where GTIDs are.
        MYSQL => (
            "lacks REPLICATION CLIENT, without which",
            "of which moment concerns `check_rights`.`k`",
        ),
        MARIADB => (
            "lacks BINLOG MONITOR, without which",
            "may neither RELOAD nor LOCK TABLES",
        ),
    };
    let some = [
        format!("SELECT ON {schema}.t"),
        format!("INSERT ON {schema}.seen"),
    ];
    let all: [(&[&str], i32, &[&str]); 5] = [
        (
            &[binlog, "RELOAD ON *.*", &some[0], &some[1]],
            1,
            &[
                "fail dump_privilege",
                "lacks SELECT concerns `check_rights`.`seen` to do",
            ],
        ),
        (
            &["SELECT, RELOAD, REPLICATION CLIENT ON *.*"],
            1,
            &[
                "fail replication_privilege",
                "lacks REPLICATION SLAVE, without which",
            ],
        ),
        (
            &["REPLICATION SLAVE, RELOAD, SELECT ON *.*"],
            1,
            &["fail replication_privilege", client_privilege],
        ),
        (
            &[binlog, "RELOAD ON *.*"],
            0,
            &["warn dump_privilege", "its user may not see any"],
        ),
        (
            &[binlog, "SELECT ON *.*"],
            1,
            &["fail dump_privilege", unlocked],
        ),
    ];
    for (grants, code, parts) in all {
        user(source, &job.source.user, grants).await?;
        says(&job, code, parts)?;
    }
    // Tables can be locked one by one, or nothing need be locked.
    user(
        source,
        &job.source.user,
        &[binlog, &on("SELECT, LOCK TABLES")],
    )
    .await?;
    says(&job, 0, &["success dump_privilege"])?;
    client.run(&format!("DROP TABLE {schema}.k")).await?;
    user(source, &job.source.user, &[binlog, &on("SELECT")]).await?;
    let outcome = match brand {
        MYSQL => (0, "success dump_privilege"),
        MARIADB => (1, "fail dump_privilege"),
    };
    says(&job, outcome.0, &[outcome.1])?;

    // What a role has counts where it is active.
    let reader = format!("'{}'@'%'", job.source.user);
    user(source, &job.source.user, &[]).await?;
    client
        .run(&format!(
            "CREATE ROLE replicator; GRANT {READS} TO replicator"
        ))
        .await?;
    client.run(&format!("GRANT replicator TO {reader}")).await?;
    says(&job, 1, &["lacks REPLICATION SLAVE", "(replicator)"])?;
    let default = match brand {
        MYSQL => format!("SET DEFAULT ROLE replicator TO {reader}"),
        MARIADB => format!("SET DEFAULT ROLE replicator FOR {reader}"),
    };
    client.run(&default).await?;
    says(
        &job,
        0,
        &["success replication_privilege", "success dump_privilege"],
    )?;

    user(
        target,
        &job.target.user,
        &["SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, INDEX ON *.*"],
    )
    .await?;
    says(
        &job,
        0,
        &[
            "warn target_privilege",
            "lacks ALTER in schemas",
            "GRANT ALTER ON",
        ],
    )?;
    let view = format!("CREATE VIEW {schema}.v AS SELECT 1");
    client.run(&view).await?;
    let views = format!("CREATE VIEW ON {schema}.*");
    user(target, &job.target.user, &[WRITES, &views]).await?;
    let left_out = "may not make views of another definer, which are left out concerns \
                    `check_rights`.`v`";
    says(&job, 0, &["warn target_privilege", left_out])?;
    let any = match brand {
        MYSQL => "SUPER ON *.*",
        MARIADB => "SET USER ON *.*",
    };
    user(target, &job.target.user, &[WRITES, &views, any]).await?;
    says(&job, 0, &["success target_privilege"])?;

    job.target.password = "wrong".to_owned();
    says(
        &job,
        1,
        &[
            "fail connection target",
            "Error 1045",
            "success version",
            "success binlog_format",
        ],
    )?;
    job.source.port = 1;
    says(
        &job,
        1,
        &[
            "fail connection source",
            "fail connection target",
            "0 passed",
        ],
    )?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_privileges_are_named() -> Result<()> {
    privileges(MYSQL).await
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_privileges_are_named() -> Result<()> {
    privileges(MARIADB).await
}

/// With partial revokes and privileges on patterns, as hosters grant them.
#[tokio::test(flavor = "multi_thread")]
async fn mysql_privileges_may_be_partial() -> Result<()> {
    let options = Options {
        args: vec!["--partial-revokes=ON".to_owned()],
        ..Options::default()
    };
    let source = &Database::start(MYSQL, Role::Source, &options)?;
    if !source.is_ours() {
        return Ok(());
    }
    let schema = "check_parts";
    let mut client = Client::connect(source).await?;
    client
        .run(&format!(
            "CREATE DATABASE {schema}; CREATE TABLE {schema}.t (id INT PRIMARY KEY)"
        ))
        .await?;
    let job = plain(source, source, schema).await?;
    let reader = format!("'{}'@'%'", job.source.user);
    let flush = "REPLICATION SLAVE, REPLICATION CLIENT, SELECT, FLUSH_TABLES ON *.*";
    user(source, &job.source.user, &[flush]).await?;
    says(&job, 0, &["success dump_privilege"])?;
    client
        .run(&format!("REVOKE SELECT ON {schema}.* FROM {reader}"))
        .await?;
    says(&job, 0, &["warn dump_privilege", "may not see any"])?;
    client
        .run(&format!("GRANT SELECT ON {schema}.t TO {reader}"))
        .await?;
    // There may be other tables, which it can't see.
    let unseen = "nothing tells that they are there concerns `check_parts` to do Run GRANT SELECT";
    says(&job, 0, &["warn dump_privilege", unseen])?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_the_source_are_named() -> Result<()> {
    let source = &Database::start(MYSQL, Role::Source, &Options::default())?;
    let target = &Database::start(MYSQL, Role::Target, &Options::default())?;
    if !(source.is_ours() && target.is_ours()) {
        return Ok(());
    }
    let schema = "check_settings";
    let mut client = Client::connect(source).await?;
    client
        .run(&format!(
            "CREATE DATABASE {schema}; CREATE TABLE {schema}.t (id INT PRIMARY KEY)"
        ))
        .await?;
    let mut job = plain(source, target, schema).await?;
    client
        .run(
            "SET GLOBAL binlog_row_image = MINIMAL; SET GLOBAL binlog_format = MIXED; \
             SET GLOBAL binlog_expire_logs_seconds = 600; SET GLOBAL max_connections = 10",
        )
        .await?;
    job.dump.0 = 12;
    says(
        &job,
        1,
        &[
            "fail binlog_row_image",
            "the source has `binlog_row_image` = MINIMAL instead of FULL",
            "Run SET GLOBAL binlog_row_image = FULL on the source",
            "fail binlog_format",
            "`binlog_format` = MIXED",
            "warn binlog_retention",
            "purges its binlog after 10 minutes",
            "fail conn_number",
            "14 connections are wanted",
        ],
    )?;
    // A copy alone needs its binlog only where it is interrupted.
    job.mode = "full";
    let begins_anew = "should the copy be interrupted, it begins anew: the source has";
    says(
        &job,
        1,
        &[
            "fail conn_number",
            "1 failed",
            "warn binlog_format",
            &format!("{begins_anew} `binlog_format` = MIXED"),
            "warn binlog_row_image",
        ],
    )?;

    // One that keeps none.
    let source = target;
    let mut client = Client::connect(source).await?;
    client
        .run(&format!(
            "CREATE DATABASE {schema}; CREATE TABLE {schema}.t (id INT PRIMARY KEY)"
        ))
        .await?;
    user(source, &job.source.user, &[READS]).await?;
    (job.mode, job.gtid, job.dump.0) = ("all", false, 4);
    job.source.port = source.address().port;
    says(
        &job,
        1,
        &["fail binlog_enable", "`log_bin` = OFF", "restart it"],
    )?;
    Ok(())
}

/// What such a source replicates would be missing without a word.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_does_not_log_is_told() -> Result<()> {
    for (brand, option, to) in [
        (
            MYSQL,
            "--log-replica-updates=OFF",
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = 1; \
             START REPLICA SQL_THREAD",
        ),
        (
            MARIADB,
            "--log-slave-updates=OFF",
            "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = 1; \
             START SLAVE SQL_THREAD",
        ),
    ] {
        let options = Options {
            args: vec![option.to_owned()],
            ..Options::default()
        };
        let source = &Database::start(brand, Role::Source, &options)?;
        if !source.is_ours() {
            return Ok(());
        }
        let target = Database::shared(brand, Role::Target)?;
        let schema = "check_replica";
        let mut client = Client::connect(source).await?;
        client
            .run(&format!(
                "CREATE DATABASE {schema}; CREATE TABLE {schema}.t (id INT PRIMARY KEY)"
            ))
            .await?;
        let mut job = plain(source, target, schema).await?;
        says(&job, 0, &["success binlog_db"])?;
        client.run(to).await?;
        let what = "the source replicates from another server, and does not log that";
        says(&job, 1, &["fail binlog_db", what])?;
        job.mode = "full";
        let anew = format!("should the copy be interrupted, it begins anew: {what}");
        says(&job, 0, &["warn binlog_db", &anew])?;
    }
    Ok(())
}

/// Tables of all kinds that need attention.
#[tokio::test(flavor = "multi_thread")]
async fn tables_that_do_not_fit_are_named() -> Result<()> {
    let source = Database::shared(MYSQL, Role::Source)?;
    let target = Database::shared(MYSQL, Role::Target)?;
    let schema = "check_tables";
    let mut client = Client::connect(source).await?;
    client
        .run(&format!(
            "CREATE DATABASE {schema}; USE {schema}; CREATE TABLE t (id INT PRIMARY KEY, v INT); \
             CREATE TABLE keyless (a INT); CREATE TABLE j (a JSON); \
             CREATE TABLE child (id INT PRIMARY KEY, t INT, \
             FOREIGN KEY (t) REFERENCES t (id) ON DELETE CASCADE); \
             CREATE TABLE old (id INT PRIMARY KEY) ENGINE=MyISAM; \
             CREATE TABLE _t_gho (id INT PRIMARY KEY); CREATE VIEW seen AS SELECT 1; \
             CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET NEW.v = 1; \
             CREATE EVENT ev ON SCHEDULE EVERY 1 YEAR DO SELECT 1; \
             CREATE PROCEDURE pr () SELECT 1; CREATE TABLE filled (id INT PRIMARY KEY)"
        ))
        .await?;
    let mut there = Client::connect(target).await?;
    there
        .run(&format!(
            "CREATE DATABASE {schema}; USE {schema}; \
             CREATE TABLE t (id INT PRIMARY KEY, more INT NOT NULL); \
             CREATE TABLE keyless (a INT); INSERT INTO keyless VALUES (1); \
             CREATE TABLE filled (id INT PRIMARY KEY, UNIQUE KEY other (id)); \
             INSERT INTO filled VALUES (1)"
        ))
        .await?;
    let mut job = Job::new(source, target, &[schema]).await?;
    (job.mode, job.gtid) = ("all", true);
    let said = says(
        &job,
        1,
        &[
            "the target's table has no column `v` concerns `check_tables`.`t` to do",
            "the target's column `more` has no default",
            "without a primary key, or a unique one whose columns are NOT NULL",
            "foreign keys are not checked in the target",
            "concerns `check_tables`.`child` to do",
            "fail target_tables",
            "rows already, and no key tells them apart",
            "`on-duplicate-logical`",
            "fail unsupported",
            "without transactions (engine MyISAM) can't be copied",
            "a table with a JSON column needs a key",
            "warning: a trigger is not copied concerns `check_tables`.`tr`",
            "warning: an event is not copied concerns `check_tables`.`ev`",
            "warning: a procedure is not copied concerns `check_tables`.`pr`",
            "fail online_ddl",
            "concerns `check_tables`.`_t_gho`",
        ],
    )?;
    assert!(
        said.lines().all(|line| line.chars().count() <= 120),
        "{said}"
    );

    let (code, json) = check(&job, &["-json"])?;
    assert_eq!(code, Some(1), "{json}");
    let json: serde_json::Value = serde_json::from_str(&json)?;
    let results = json["results"].as_array().ok_or("no results")?;
    let tables = results.iter().find(|it| it["name"] == "table_schema");
    let errors = &tables.ok_or("not there")?["errors"];
    let missing = errors.as_array().into_iter().flatten();
    let mut missing =
        missing.filter(|it| it["short_error"] == "the target's table has no column `v`");
    assert_eq!(
        missing.next().ok_or("not told")?["self"],
        "`check_tables`.`t`"
    );
    assert_eq!(json["summary"]["passed"], false);

    // What is ignored is not looked at.
    job.task_extra =
        "ignore-checking-items: [table_schema, target_tables, unsupported, online_ddl]\n"
            .to_owned();
    let said = says(&job, 0, &["0 failed"])?;
    assert!(!said.contains("table_schema"), "{said}");
    job.task_extra = "ignore-checking-items: [all]\n".to_owned();
    says(&job, 0, &["0 passed, 0 with warnings, 0 failed"])?;
    job.task_extra = "ignore-checking-items: [tables]\n".to_owned();
    says(
        &job,
        2,
        &[
            "code=20001",
            "checking item tables is not supported; allowed: all, version",
        ],
    )?;
    // What is not built is one row.
    job.task_extra = "shard-mode: optimistic\n".to_owned();
    says(
        &job,
        1,
        &["not supported yet by this worker: `shard-mode: optimistic`"],
    )?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_has_kinds_of_its_own() -> Result<()> {
    let source = Database::shared(MARIADB, Role::Source)?;
    let target = Database::shared(MYSQL, Role::Target)?;
    let schema = "check_kinds";
    let mut client = Client::connect(source).await?;
    client
        .run(&format!(
            "CREATE DATABASE {schema}; USE {schema}; \
             CREATE TABLE v (id INT PRIMARY KEY) WITH SYSTEM VERSIONING; CREATE SEQUENCE s; \
             CREATE TABLE uca (a VARCHAR(9) PRIMARY KEY) COLLATE utf8mb4_uca1400_ai_ci; \
             CREATE TABLE one (id INT AUTO_INCREMENT PRIMARY KEY); \
             CREATE TABLE two (id INT AUTO_INCREMENT PRIMARY KEY, more INT)"
        ))
        .await?;
    let mut job = plain(source, target, schema).await?;
    let route = |table: &str| {
        format!(
            "  {table}: {{schema-pattern: {schema}, table-pattern: {table}, \
             target-schema: {schema}, target-table: both}}\n"
        )
    };
    job.task_extra = format!("routes:\n{}{}", route("one"), route("two"));
    job.routes = &["one", "two"];
    let dir = process::scratch("check")?;
    let (source, task) = job.write_files(&dir)?;
    let (source, task) = (source.display().to_string(), task.display().to_string());
    let mut worker = Worker::start(&["check", "-source", &source, "-task", &task])?;
    assert_eq!(worker.wait(LIMIT)?.code(), Some(1), "{}", worker.log());
    let said = flat(&worker.log());
    for part in [
        "rows of former times (SYSTEM VERSIONING) can't be copied",
        "a sequence is not copied",
        "the target does not know the collation utf8mb4_uca1400_ai_ci",
        "fail schema_of_shard_tables all sources reason columns or keys differ from those of \
         `check_kinds`.`one`, whose rows go to `check_kinds`.`both` too",
        "warn auto_increment_ID",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{}", worker.log());
    }
    Ok(())
}

/// A worker alone does not start into what can't go well, unless it is told to; and what has begun
/// is not checked again.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_alone_checks_what_has_not_begun() -> Result<()> {
    let source = Database::shared(MYSQL, Role::Source)?;
    let target = Database::shared(MYSQL, Role::Target)?;
    let schema = "check_start";
    let mut client = Client::connect(source).await?;
    client
        .run(&format!(
            "CREATE DATABASE {schema}; CREATE TABLE {schema}.t (id INT PRIMARY KEY, v INT); \
             CREATE TABLE {schema}.keyless (id INT)"
        ))
        .await?;
    let mut there = Client::connect(target).await?;
    let table = format!("{schema}.t");
    there
        .run(&format!(
            "CREATE DATABASE {schema}; CREATE TABLE {table} (id INT PRIMARY KEY)"
        ))
        .await?;
    let mut job = Job::new(source, target, &[schema]).await?;
    (job.mode, job.gtid) = ("all", true);
    let mut worker = Worker::standalone(&job)?;
    assert_eq!(worker.wait(LIMIT)?.code(), Some(1));
    let said = flat(&worker.log());
    for part in [
        "has no column `v` concerns `check_start`.`t`",
        "`ignore-checking-items`",
        "1 failed",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{}", worker.log());
    }
    // Nothing was made.
    let made = format!(
        "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = '{}'",
        job.meta_schema()
    );
    assert_eq!(there.value(&made).await?, "0");

    job.task_extra = "ignore-checking-items: [all]\n".to_owned();
    worker.write_files(&job)?;
    worker.restart()?;
    // The worker sees for itself.
    worker.logged("it has no column `v`", LIMIT).await?;
    worker.stop()?;

    // It has begun.
    job.task_extra.clear();
    worker.write_files(&job)?;
    worker.restart()?;
    there
        .run(&format!("ALTER TABLE {table} ADD COLUMN v INT"))
        .await?;
    worker.logged("all is copied", LIMIT).await?;
    worker.stop()?;
    assert!(
        !worker.log().contains("check table_schema"),
        "{}",
        worker.log()
    );

    // A warning is a line of the log.
    there
        .run(&format!(
            "DROP DATABASE {schema}; DROP DATABASE {}",
            job.meta_schema()
        ))
        .await?;
    worker.restart()?;
    worker
        .logged(
            "check table_schema of source source-check_start: without a primary key",
            LIMIT,
        )
        .await?;
    let outcome = job.caught_up(source, target, LIMIT).await;
    outcome.map_err(|error| worker.explain(error))?;
    worker.stop()
}

/// A server that is away at the start is no reason to give up.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_alone_waits_for_its_servers() -> Result<()> {
    let source = Database::shared(MYSQL, Role::Source)?;
    let target = Database::shared(MYSQL, Role::Target)?;
    let schema = "check_away";
    let mut client = Client::connect(source).await?;
    client
        .run(&format!(
            "CREATE DATABASE {schema}; CREATE TABLE {schema}.t (id INT PRIMARY KEY)"
        ))
        .await?;
    for is_target in [false, true] {
        let mut job = Job::new(source, target, &[schema]).await?;
        job.mode = "all";
        let address = if is_target {
            &mut job.target
        } else {
            &mut job.source
        };
        address.port = 1;
        let mut worker = Worker::standalone(&job)?;
        worker.logged("can't be asked: ", LIMIT).await?;
        worker.logged("answering questions", LIMIT).await?;
        worker.logged("no unit begins yet: ", LIMIT).await?;
        worker.stop()?;
    }
    Ok(())
}

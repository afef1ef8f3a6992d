//! A source: looked over, asked, dumped and refused, against real servers.

use std::{sync::Arc, time::Duration};

use dm_core::{
    binlog::{Decoder, Event, Flavor, GtidSet, Position},
    control::{SourceConfig, db::DbConfig, record::Secret},
    error::{Scope, code},
};
use dm_runtime::{
    mysql::source::Upstream,
    ports::{EventStream, Source, Start},
};
use dm_tests::{
    Result,
    servers::{Brand, Database, Options, Role},
    sql::Client,
};
use tokio::time::timeout;

fn config(server: &Database) -> DbConfig {
    let address = server.address().clone();
    DbConfig {
        host: address.host,
        port: address.port,
        user: address.user,
        password: Secret(address.password),
        ..DbConfig::default()
    }
}

fn upstream(db: &DbConfig) -> Upstream {
    let config = SourceConfig {
        source_id: "source-1".to_owned(),
        from: db.clone(),
        ..SourceConfig::standard()
    };
    Upstream::new(&Arc::new(config), "worker-1")
}

/// Decodes what comes until nothing does for a moment.
async fn decode(stream: &mut impl EventStream, flavor: Flavor) -> Result<Vec<Event>> {
    let mut decoder = Decoder::new(flavor);
    let mut events = Vec::new();
    while let Ok(raw) = timeout(Duration::from_millis(500), stream.next()).await {
        let frame = decoder.frame(raw?)?;
        events.push(decoder.event(&frame)?);
    }
    Ok(events)
}

fn gtids(events: &[Event]) -> Vec<String> {
    let gtid = |event: &Event| match event {
        Event::Gtid { gtid, .. } | Event::MariadbGtid { gtid, .. } => Some(gtid.to_string()),
        _ => None,
    };
    events.iter().filter_map(gtid).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_source_is_described() -> Result<()> {
    for (brand, flavor) in [
        (Brand::Mysql, Flavor::Mysql),
        (Brand::Mariadb, Flavor::Mariadb),
    ] {
        let server = Database::start(brand, Role::Source, &Options::default())?;
        let source = upstream(&config(&server));
        let before = source.probe(true).await?;
        assert_eq!(before.flavor, flavor);
        assert!(!before.server.is_empty() && !before.version.is_empty());
        assert!(before.sql_mode.contains("STRICT_TRANS_TABLES"));
        let mut admin = Client::connect(&server).await?;
        admin.run("CREATE DATABASE probed").await?;
        let after = source.end().await?;
        assert_eq!(after.position.file, before.end.position.file);
        assert!(after.position > before.end.position);
        assert!(after.gtids.contains(&before.end.gtids));
        assert_ne!(after.gtids, before.end.gtids);
        let stream = source.dump(&Start::Position(after.position)).await?;
        assert_eq!(stream.server(), before.server);

        // The connection for questions is replaced when it broke.
        if server.is_ours() {
            let mut server = server;
            server.kill()?;
            let error = source.end().await.unwrap_err();
            assert!(error.is(&code::DB_DRIVER_ERROR), "{error}");
            assert_eq!(error.scope, Scope::Upstream);
            server.restart(&[])?;
            source.end().await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lossy_sources_are_refused() -> Result<()> {
    let cases = [
        (Brand::Mysql, "--skip-log-bin", &code::NO_MASTER_STATUS),
        (
            Brand::Mysql,
            "--binlog-format=MIXED",
            &code::TASK_CHECK_SYNC_CONFIG_ERROR,
        ),
        (
            Brand::Mysql,
            "--binlog-row-image=MINIMAL",
            &code::BINLOG_NOT_LOG_COLUMN,
        ),
        (
            Brand::Mysql,
            "--binlog-row-value-options=PARTIAL_JSON",
            &code::TASK_CHECK_SYNC_CONFIG_ERROR,
        ),
        (
            Brand::Mysql,
            "--binlog-checksum=NONE",
            &code::TASK_CHECK_SYNC_CONFIG_ERROR,
        ),
        (
            Brand::Mariadb,
            "--binlog-row-image=NOBLOB",
            &code::BINLOG_NOT_LOG_COLUMN,
        ),
    ];
    for (brand, argument, expected) in cases {
        let options = Options {
            args: vec![argument.to_owned()],
            ..Options::default()
        };
        let server = Database::start(brand, Role::Source, &options)?;
        if server.is_ours() {
            let error = upstream(&config(&server)).probe(true).await.unwrap_err();
            assert!(error.is(expected), "{argument}: {error}");
            assert!(!error.workaround.is_empty());
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_privileges_are_named() -> Result<()> {
    for brand in [Brand::Mysql, Brand::Mariadb] {
        let server = Database::shared(brand, Role::Source)?;
        let mut admin = Client::connect(server).await?;
        admin
            .run("CREATE USER nobody IDENTIFIED BY 'secret'")
            .await?;
        let mut db = config(server);
        db.user = "nobody".to_owned();
        db.password = Secret("secret".to_owned());
        let error = upstream(&db).probe(true).await.unwrap_err();
        assert!(error.cause.starts_with("Error 1227 (42000)"), "{error}");
        assert!(error.workaround.contains("REPLICATION SLAVE"), "{error}");
        let from = Start::Gtids(GtidSet::empty(Flavor::Mysql));
        let from = match brand {
            Brand::Mysql => from,
            Brand::Mariadb => Start::Gtids(GtidSet::empty(Flavor::Mariadb)),
        };
        let Err(error) = upstream(&db).dump(&from).await else {
            panic!("dumped");
        };
        assert!(error.workaround.contains("REPLICATION SLAVE"), "{error}");
        admin
            .run("GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO nobody")
            .await?;
        upstream(&db).probe(true).await?;
        upstream(&db).dump(&from).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn dumps_resume_by_position_and_by_gtid() -> Result<()> {
    for (brand, flavor) in [
        (Brand::Mysql, Flavor::Mysql),
        (Brand::Mariadb, Flavor::Mariadb),
    ] {
        let server = Database::start(brand, Role::Source, &Options::default())?;
        let mut admin = Client::connect(&server).await?;
        let source = upstream(&config(&server));
        admin
            .run("CREATE DATABASE d; CREATE TABLE d.t (a INT)")
            .await?;
        if brand == Brand::Mysql {
            admin.run("SET gtid_next = 'AUTOMATIC:some_tag'").await?;
        }
        let mut ends = vec![source.end().await?];
        for i in 0..4 {
            admin.run(&format!("INSERT INTO d.t VALUES ({i})")).await?;
            ends.push(source.end().await?);
            if i == 1 {
                admin.run("FLUSH BINARY LOGS").await?;
                admin.run("INSERT INTO d.t VALUES (9)").await?;
                ends.push(source.end().await?);
            }
        }
        assert_eq!(ends.len(), 6);
        for (i, end) in ends.iter().enumerate() {
            // The set that belongs to a position is found without knowing it.
            assert_eq!(
                source.gtids_at(&end.position).await?,
                end.gtids,
                "{brand:?} {i}"
            );
            let starts = [
                Start::Position(end.position.clone()),
                Start::Gtids(end.gtids.clone()),
            ];
            for start in starts {
                let mut stream = source.dump(&start).await?;
                let events = decode(&mut stream, flavor).await?;
                let got = gtids(&events);
                assert_eq!(got.len(), 5 - i, "{brand:?} {start:?}");
                let mut all = end.gtids.clone();
                for event in &events {
                    if let Event::Gtid { gtid, .. } | Event::MariadbGtid { gtid, .. } = event {
                        assert!(!all.contains_txn(gtid));
                        all.add(gtid);
                    }
                }
                assert_eq!(all, ends[5].gtids, "{brand:?} {start:?}");
            }
        }
        let inside = Position::new(ends[5].position.file.clone(), ends[5].position.pos - 31);
        let error = source.gtids_at(&inside).await.unwrap_err();
        assert!(error.is(&code::CONFIG_META_INVALID), "{error}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn gtids_are_found_at_the_ends_of_a_file_of_mysql() -> Result<()> {
    gtids_at_the_ends_of_a_file(Brand::Mysql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn gtids_are_found_at_the_ends_of_a_file_of_mariadb() -> Result<()> {
    gtids_at_the_ends_of_a_file(Brand::Mariadb).await
}

async fn gtids_at_the_ends_of_a_file(brand: Brand) -> Result<()> {
    let server = Database::start(brand, Role::Source, &Options::default())?;
    let mut admin = Client::connect(&server).await?;
    let source = upstream(&config(&server));
    let first = source.end().await?;
    admin.run("CREATE DATABASE d").await?;
    let middle = source.end().await?;
    admin.run("FLUSH BINARY LOGS").await?;
    let second = source.end().await?;
    // The start of a file, and between the events that describe it.
    let starts = [
        (first.position.file.as_str(), &first.gtids),
        ("", &first.gtids),
        (second.position.file.as_str(), &middle.gtids),
    ];
    for (file, gtids) in starts {
        for pos in [0, Position::FIRST, 100] {
            let found = source.gtids_at(&Position::new(file, pos)).await?;
            assert_eq!(found, *gtids, "{brand:?} {file}:{pos}");
        }
    }
    let beyond = [&middle.position, &second.position]
        .map(|end| Position::new(end.file.clone(), end.pos + 10_000));
    for position in beyond {
        let error = source.gtids_at(&position).await.unwrap_err();
        assert!(error.is(&code::CONFIG_META_INVALID), "{error}");
        assert!(error.message.contains("is behind the end"), "{error}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_purged_is_named() -> Result<()> {
    for brand in [Brand::Mysql, Brand::Mariadb] {
        let server = Database::start(brand, Role::Source, &Options::default())?;
        if !server.is_ours() {
            continue;
        }
        let mut admin = Client::connect(&server).await?;
        let source = upstream(&config(&server));
        let start = source.end().await?;
        for i in 0..3 {
            admin.run(&format!("CREATE DATABASE purged{i}")).await?;
            admin.run("FLUSH BINARY LOGS").await?;
        }
        let end = source.end().await?;
        let file = &end.position.file;
        // A closed file may be in use for a moment.
        for _ in 0..50 {
            admin.run(&format!("PURGE BINARY LOGS TO '{file}'")).await?;
            if admin.rows("SHOW BINARY LOGS").await?.len() == 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let missing = match brand {
            Brand::Mysql => {
                let uuid = admin.value("SELECT @@server_uuid").await?;
                format!("the source no longer has the transactions {uuid}:1-3")
            }
            Brand::Mariadb => "the source no longer has all transactions behind ".to_owned(),
        };
        let cases = [
            (
                Start::Position(start.position.clone()),
                format!(
                    "the source no longer has the file {}: its oldest is {file}",
                    start.position.file
                ),
            ),
            (Start::Gtids(start.gtids.clone()), missing),
        ];
        for (from, text) in cases {
            let Err(error) = source.dump(&from).await else {
                panic!("{brand:?} dumped from {from:?}");
            };
            assert!(error.is(&code::SYNCER_GET_EVENT), "{error}");
            assert!(error.message.contains(&text), "{error}");
            assert!(error.cause.starts_with("Error 1236 (HY000)"), "{error}");
            assert!(error.workaround.contains("binlog files back"), "{error}");
        }
        let newer = Position::new(file.replace(".0", ".9"), Position::FIRST);
        let Err(error) = source.dump(&Start::Position(newer)).await else {
            panic!("{brand:?} dumped from a file that is not there");
        };
        assert!(error.message.contains("no file"), "{error}");
        assert!(error.workaround.contains("`meta`"), "{error}");
        let beyond = Position::new(file.clone(), end.position.pos + 1_000_000);
        let Err(error) = source.dump(&Start::Position(beyond)).await else {
            panic!("{brand:?} dumped from behind the end");
        };
        assert!(error.cause.starts_with("Error 1236 (HY000)"), "{error}");
        assert!(
            error.workaround.contains("shorter than the position"),
            "{error}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_server_id_is_left_to_its_owner() -> Result<()> {
    for brand in [Brand::Mysql, Brand::Mariadb] {
        let server = Database::start(brand, Role::Source, &Options::default())?;
        let mut db = config(&server);
        db.session = None;
        let source = SourceConfig {
            server_id: 4711,
            from: db.clone(),
            ..SourceConfig::standard()
        };
        let source = Arc::new(source);
        let from = Start::Position(upstream(&db).end().await?.position);
        let first = Upstream::new(&source, "first");
        let second = Upstream::new(&source, "second");
        let mut a = first.dump(&from).await?;
        let mut b = second.dump(&from).await?;
        Client::connect(&server)
            .await?
            .run("CREATE DATABASE shared")
            .await?;
        for stream in [&mut a, &mut b] {
            let mut size = 0;
            while let Ok(event) = timeout(Duration::from_millis(500), stream.next()).await {
                size += event?.len();
            }
            assert!(size > 200);
        }
        // The same replica again, as after a crash that the server has not noticed yet: the older
        // dump ends.
        let mut c = first.dump(&from).await?;
        c.next().await?;
        if brand == Brand::Mysql {
            let end = timeout(Duration::from_secs(5), async {
                loop {
                    if let Err(error) = a.next().await {
                        return error;
                    }
                }
            });
            let error = end.await?;
            assert!(
                error.cause.contains("same server_uuid/server_id"),
                "{error}"
            );
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_way_to_start_at_a_position_works() -> Result<()> {
    // Positions behind 4 GiB need another command; it takes small ones, too.
    let server = Database::shared(Brand::Mysql, Role::Source)?;
    let end = upstream(&config(server)).end().await?.position;
    let beyond = Position::new(end.file, end.pos | 1 << 32);
    let Err(error) = upstream(&config(server))
        .dump(&Start::Position(beyond))
        .await
    else {
        panic!("dumped");
    };
    assert!(
        error.workaround.contains("shorter than the position"),
        "{error}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_source_is_noticed() -> Result<()> {
    let mut server = Database::start(Brand::Mysql, Role::Source, &Options::default())?;
    if !server.is_ours() {
        return Ok(());
    }
    let source = upstream(&config(&server));
    let from = Start::Position(source.end().await?.position);
    let mut stream = source.dump(&from).await?;
    decode(&mut stream, Flavor::Mysql).await?;
    server.kill()?;
    let error = stream.next().await.unwrap_err();
    assert!(error.is(&code::SYNCER_GET_EVENT), "{error}");
    let Err(error) = source.dump(&from).await else {
        panic!("dumped");
    };
    assert!(error.is(&code::DB_DRIVER_ERROR), "{error}");
    assert!(error.workaround.contains("`host` and `port`"), "{error}");
    Ok(())
}

//! DDLs: run once, in the session of the source, whatever a crash leaves behind.

use std::time::{Duration, Instant};

use dm_core::{
    error::code,
    sync::{
        ddl::Kind,
        progress::{Applied as Progress, Fence},
        schema::TableName,
    },
};
use dm_runtime::ports::{Applied, Ddl, Target as _};
use dm_tests::{Result, sql::Client};

use super::{BRANDS, World, at, ddl, refused};

#[tokio::test(flavor = "multi_thread")]
async fn a_ddl_runs_in_the_sources_session_and_moves_all_slots() -> Result<()> {
    for brand in BRANDS {
        let mut world = World::new(brand).await?;
        let (target, rows) = world.owner(1, 3).await?;
        let stored = format!(
            "INSERT INTO {} (id,cp_schema,cp_table,binlog_name,binlog_pos,table_info,is_global) \
             VALUES ('source\\'s id','shop','t','binlog.000001',4,'null',0)",
            world.checkpoint()
        );
        world.sql.run(&stored).await?;
        // Quotes as identifiers and a default in the event's time zone.
        let create = ddl(
            &world,
            Kind::CreateTable,
            "t",
            "CREATE TABLE \"$\".t (a INT PRIMARY KEY, b TIMESTAMP DEFAULT '2020-01-01 08:00:00')",
            700,
        );
        assert_done!(target.ddl(&create).await);
        world
            .sql
            .run(&format!("INSERT INTO {}.t (a) VALUES (1)", world.data))
            .await?;
        let b = format!("SELECT b FROM {}.t", world.data);
        assert!(
            world
                .sql
                .value(&b)
                .await?
                .starts_with("2020-01-01 00:00:00")
        );

        let recovered = target.take_over(Some(Fence(1))).await?;
        for (slot, before) in recovered.slots.iter().zip(&rows) {
            assert_eq!(slot.applied, Progress::at(at(700)));
            // One for the DDL, two for the takeover.
            assert_eq!(slot.seq, before.seq + 3);
        }
        let stored = format!("SELECT COUNT(*) FROM {}", world.checkpoint());
        assert_eq!(world.sql.value(&stored).await?, "1");

        // A refusal is an error, and leaves no intent behind.
        let again = ddl(
            &world,
            Kind::CreateTable,
            "t",
            "CREATE TABLE $.t (a INT)",
            800,
        );
        let error = refused(target.ddl(&again).await);
        assert!(error.cause.starts_with("Error 1050"), "{error}");
        assert_eq!(
            target.take_over(None).await?.slots[0].applied,
            Progress::at(at(700))
        );
        // In a replay it is none; of a rename, both names tell.
        let mut rename = ddl(
            &world,
            Kind::RenameTable,
            "gone",
            "RENAME TABLE $.gone TO $.t",
            800,
        );
        rename.piece.targets.push(TableName::new(&world.data, "t"));
        assert!(
            refused(target.ddl(&rename).await)
                .cause
                .starts_with("Error 1")
        );
        rename.replay = true;
        assert_done!(target.ddl(&rename).await);
        let replay = Ddl {
            replay: true,
            ..again
        };
        assert_done!(target.ddl(&replay).await);
        assert_eq!(
            target.take_over(None).await?.slots[0].applied,
            Progress::at(at(800))
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_gets_the_sources_default_collation() -> Result<()> {
    for brand in BRANDS {
        let mut world = World::new(brand).await?;
        let (target, _) = world.owner(1, 1).await?;
        let collation = format!(
            "SELECT default_collation_name FROM information_schema.schemata \
             WHERE schema_name='{}'",
            world.data
        );
        let before = world.sql.value(&collation).await?;
        let mut create = ddl(&world, Kind::CreateDatabase, "", "CREATE DATABASE $", 700);
        for (pos, number, expected) in [
            (700, Some(8), "latin1_swedish_ci"),
            (710, Some(46), "utf8mb4_bin"),
            // Not known here; nothing said.
            (720, Some(2000), before.as_str()),
            (730, None, before.as_str()),
        ] {
            let drop = format!("DROP DATABASE {}", world.data);
            world.sql.run(&drop).await?;
            create.collation_server = number;
            create.after = Progress::at(at(pos));
            assert_done!(target.ddl(&create).await);
            assert_eq!(world.sql.value(&collation).await?, expected);
        }
    }
    Ok(())
}

/// Whoever takes over ends all of them: the last one might run when nobody expects it.
#[tokio::test(flavor = "multi_thread")]
async fn statements_at_the_same_time_are_settled_together() -> Result<()> {
    for brand in BRANDS {
        let mut world = World::new(brand).await?;
        let tables = ["t", "u"];
        for table in tables {
            let create = format!("CREATE TABLE {}.{table} (a INT)", world.data);
            world.sql.run(&create).await?;
        }
        let (target, _) = world.owner(1, 2).await?;
        let mut blocker = Client::connect(world.server).await?;
        let reads = format!("SELECT * FROM {0}.t, {0}.u", world.data);
        blocker.run(&format!("BEGIN; {reads}")).await?;
        let alters = tables.map(|table| {
            let sql = format!("ALTER TABLE $.{table} ADD COLUMN b INT");
            ddl(&world, Kind::AlterTable, table, &sql, 4)
        });
        let cut = tokio::time::timeout(Duration::from_millis(700), target.ddl_all(&alters));
        assert!(cut.await.is_err());
        let waiting = format!(
            "SELECT COUNT(*) FROM information_schema.processlist \
             WHERE info LIKE 'ALTER TABLE {}.%'",
            world.data
        );
        assert_eq!(world.sql.value(&waiting).await?, "2", "{brand:?}");
        let new = world.connect().await?;
        new.take_over(Some(Fence(2))).await?;
        assert_eq!(world.sql.value(&waiting).await?, "0", "{brand:?}");
        blocker.run("ROLLBACK").await?;
        assert_done!(new.ddl_all(&alters).await);
        for table in tables {
            let name = TableName::new(&world.data, table);
            let columns = new.table(&name).await?.unwrap().columns;
            assert_eq!(columns.len(), 2, "{brand:?} {table}");
        }
    }
    Ok(())
}

/// What a crash leaves behind: the intent, and the statement executed or not.
#[tokio::test(flavor = "multi_thread")]
async fn an_unsettled_ddl_is_settled_by_what_the_table_looks_like() -> Result<()> {
    for brand in BRANDS {
        for executed in [false, true] {
            let mut world = World::new(brand).await?;
            world
                .sql
                .run(&format!("CREATE TABLE {}.t (a INT)", world.data))
                .await?;
            let (target, _) = world.owner(1, 2).await?;
            // Block the statement (the table is in use), then give up on it.
            let mut blocker = Client::connect(world.server).await?;
            blocker
                .run(&format!("BEGIN; SELECT * FROM {}.t", world.data))
                .await?;
            let alter = ddl(
                &world,
                Kind::AlterTable,
                "t",
                "ALTER TABLE $.t ADD COLUMN b INT",
                900,
            );
            let cut = tokio::time::timeout(Duration::from_millis(700), target.ddl(&alter));
            assert!(cut.await.is_err());
            let intent = format!(
                "SELECT COUNT(*) FROM {} WHERE slot=-1 AND intent IS NOT NULL",
                world.progress()
            );
            assert_eq!(world.sql.value(&intent).await?, "1");
            if executed {
                // It ends before anybody can look after it.
                blocker.run("ROLLBACK").await?;
                let column = format!(
                    "SELECT COUNT(*) FROM information_schema.columns WHERE table_schema='{}' \
                     AND column_name='b'",
                    world.data
                );
                let start = Instant::now();
                while world.sql.value(&column).await? == "0" {
                    // The server may have noticed the lost client: then execute it as it would.
                    if start.elapsed() > Duration::from_secs(2) {
                        world.sql.run(&alter.piece.sql).await?;
                    }
                }
            }
            // Not executed: the connection that waits for the lock must be ended first, or it would
            // run later.
            let new = world.connect().await?;
            let recovered = new.take_over(Some(Fence(2))).await?;
            let place = if executed { 900 } else { 4 };
            for slot in &recovered.slots {
                assert_eq!(
                    slot.applied,
                    Progress::at(at(place)),
                    "{brand:?} {executed}"
                );
            }
            assert_eq!(world.sql.value(&intent).await?, "0");
            blocker.run("ROLLBACK").await?;
            let columns = new
                .table(&TableName::new(&world.data, "t"))
                .await?
                .unwrap()
                .columns;
            assert_eq!(columns.len(), if executed { 2 } else { 1 });
            if !executed {
                assert_done!(new.ddl(&alter).await);
            }
        }
    }
    Ok(())
}

/// A partition that changes places with a table: both look the same before and after.
#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_is_never_undone_by_executing_it_again() -> Result<()> {
    for brand in BRANDS {
        for lost in [true, false] {
            let mut world = World::new(brand).await?;
            let tables = "CREATE TABLE $.t (a INT PRIMARY KEY) PARTITION BY RANGE (a)
                   (PARTITION p VALUES LESS THAN (10), PARTITION q VALUES LESS THAN (20));
                 CREATE TABLE $.x (a INT PRIMARY KEY);
                 INSERT INTO $.t VALUES (1),(11); INSERT INTO $.x VALUES (2),(3)";
            world.sql.run(&tables.replace('$', &world.data)).await?;
            let (target, _) = world.owner(1, 2).await?;
            let sql = "ALTER TABLE $.t EXCHANGE PARTITION p WITH TABLE $.x";
            let mut exchange = ddl(&world, Kind::AlterTable, "t", sql, 900);
            exchange.piece.swaps = true;
            let partner = TableName::new(&world.data, "x");
            exchange.piece.targets.push(partner.clone());
            if lost {
                // It is executed, but nobody hears of it.
                let mut blocker = Client::connect(world.server).await?;
                let hold = format!("BEGIN; SELECT * FROM {}.t", world.data);
                blocker.run(&hold).await?;
                let cut = Duration::from_millis(700);
                let cut = tokio::time::timeout(cut, target.ddl(&exchange)).await;
                assert!(cut.is_err());
                blocker.run("ROLLBACK").await?;
                let start = Instant::now();
                while world.count("x").await? == 2 {
                    // The server may have noticed the lost client: then execute it as it would.
                    if start.elapsed() > Duration::from_secs(2) {
                        world.sql.run(&exchange.piece.sql).await?;
                    }
                }
            } else {
                // The former owner executed it, and left no record.
                world.sql.run(&exchange.piece.sql).await?;
                exchange.replay = true;
                let ended = target.ddl(&exchange).await;
                assert!(matches!(ended, Applied::Unknown(_)), "{ended:?}");
            }
            let new = world.connect().await?;
            for _ in 0..2 {
                let error = new.take_over(None).await.unwrap_err();
                assert!(error.is(&code::SYNCER_DDL_UNSETTLED), "{error}");
                assert!(error.workaround.contains("COMMENT"), "{error}");
            }
            // As the workaround says.
            let settled = format!("ALTER TABLE {partner} COMMENT='exchanged'");
            world.sql.run(&settled).await?;
            for slot in new.take_over(None).await?.slots {
                assert_eq!(slot.applied, Progress::at(at(900)), "{brand:?} {lost}");
            }
            assert_eq!((world.count("t").await?, world.count("x").await?), (3, 1));

            // A refusal is certain.
            let mut refusal = exchange;
            refusal.replay = false;
            refusal.piece.sql = refusal.piece.sql.replace(" p ", " no_such_partition ");
            let ended = new.ddl(&refusal).await;
            assert!(matches!(ended, Applied::Failed { .. }), "{ended:?}");
            new.take_over(None).await?;
        }
    }
    Ok(())
}

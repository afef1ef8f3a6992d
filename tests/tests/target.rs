//! The target port against real servers: what is written under which fence, and what is not.

use std::{
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use dm_core::{
    binlog::{Flavor, GtidSet, Position},
    control::{
        db::{DbConfig, Security},
        record::Secret,
    },
    error::{Error, code},
    sync::{
        ddl::{Kind, Piece, Role},
        progress::{Applied as Progress, Fence, Location, SlotProgress},
        schema::TableName,
    },
};
use dm_runtime::{
    mysql::target::{Options, SlotSession, Target},
    ports::{Applied, Checkpoint, Ddl, Target as _},
};
use dm_tests::{
    Result,
    servers::{Brand, Database, Role as Part},
    sql::Client,
};

const BRANDS: [Brand; 2] = [Brand::Mysql, Brand::Mariadb];

/// A target of its own for each test: schemas of the shared server.
struct World {
    server: &'static Database,
    login: DbConfig,
    options: Options,
    /// Schema of the rows.
    data: String,
    sql: Client,
}

impl World {
    async fn new(brand: Brand) -> Result<Self> {
        let server = Database::shared(brand, Part::Target)?;
        Self::on(server).await
    }

    async fn on(server: &'static Database) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let address = server.address();
        let data = format!("data_{number}");
        let options = Options {
            task: "a-task".to_owned(),
            source: "source's id".to_owned(),
            meta_schema: format!("meta_{number}"),
            flavor: Flavor::Mysql,
            upstream_sql_mode: "ONLY_FULL_GROUP_BY,NO_AUTO_CREATE_USER".to_owned(),
        };
        let mut sql = Client::connect(server).await?;
        // Without any administrative privilege, as a careful user would have it.
        let user = format!("plain_{number}");
        sql.run(&format!(
            "DROP DATABASE IF EXISTS {data}; DROP DATABASE IF EXISTS {meta}; CREATE DATABASE {data};
             DROP USER IF EXISTS {user}; CREATE USER {user} IDENTIFIED BY 'plain';
             GRANT {rights} ON {data}.* TO {user}; GRANT {rights} ON {meta}.* TO {user}",
            rights = "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX",
            meta = options.meta_schema,
        ))
        .await?;
        Ok(Self {
            server,
            login: DbConfig {
                host: address.host.clone(),
                port: address.port,
                user,
                password: Secret("plain".to_owned()),
                ..DbConfig::default()
            },
            options,
            data,
            sql,
        })
    }

    async fn connect(&self) -> Result<Target> {
        Ok(Target::connect(&self.login, self.options.clone()).await?)
    }

    /// A target that is taken over and has fresh slots.
    async fn owner(&self, fence: i64, slots: u32) -> Result<(Target, Vec<SlotProgress>)> {
        let target = self.connect().await?;
        target.take_over(Some(Fence(fence))).await?;
        let rows = target.reset(slots, &at(4), None).await?;
        Ok((target, rows))
    }

    fn progress(&self) -> String {
        format!("`{}`.`a-task_progress`", self.options.meta_schema)
    }

    fn checkpoint(&self) -> String {
        format!("`{}`.`a-task_syncer_checkpoint`", self.options.meta_schema)
    }

    async fn count(&mut self, table: &str) -> Result<u32> {
        let sql = format!("SELECT COUNT(*) FROM {}.{table}", self.data);
        Ok(self.sql.value(&sql).await?.parse()?)
    }
}

/// A boundary in the first binlog file.
fn at(pos: u64) -> Location {
    Location {
        position: Position::new("binlog.000001", pos),
        gtids: GtidSet::parse(Flavor::Mysql, "0a0431f2-e6eb-11f1-beb0-02fc00000001:1-7").ok(),
    }
}

/// Commits `sql` as the slot's step `seq`.
async fn write(session: &mut SlotSession, seq: u64, sql: &str) -> Applied {
    let applied = Progress::at(at(1000 + seq));
    let rows = |out: &mut Vec<u8>| {
        out.extend_from_slice(sql.as_bytes());
        Ok(())
    };
    session.commit(seq, &applied, false, rows).await
}

fn refused(ended: Applied) -> Error {
    match ended {
        Applied::Failed { error, .. } | Applied::Unknown(error) | Applied::Moved(error) => error,
        other => panic!("{other:?}"),
    }
}

macro_rules! assert_done {
    ($ended:expr) => {
        let ended = $ended;
        assert!(matches!(ended, Applied::Done), "{ended:?}");
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_progress_are_one() -> Result<()> {
    for brand in BRANDS {
        let mut world = World::new(brand).await?;
        world
            .sql
            .run(&format!(
                "CREATE TABLE {}.t (a INT PRIMARY KEY)",
                world.data
            ))
            .await?;
        let (target, rows) = world.owner(7, 2).await?;
        let seq = rows[1].seq;
        let mut session = target.session(1).await?;
        let insert = format!("INSERT INTO {}.t VALUES (1)", world.data);
        assert_done!(write(&mut session, seq, &insert).await);

        // The very same packet again, as a lost answer and a blind retry would send it.
        let error = match write(&mut session, seq, &format!("{insert},(2)")).await {
            Applied::Moved(error) => error,
            other => panic!("{other:?}"),
        };
        assert!(error.is(&code::SYNCER_PROGRESS_MOVED), "{error}");

        // A row error names the statement, leaves nothing behind and is told from the guard.
        let both = format!("INSERT INTO {}.t VALUES (3);{insert}", world.data);
        let error = refused(write(&mut session, seq + 1, &both).await);
        assert!(error.cause.starts_with("Error 1062 (23000)"), "{error}");
        assert!(error.message.ends_with(&insert), "{error}");
        assert_eq!(world.count("t").await?, 1);

        // Two statements whose results are read one by one; an empty batch moves the row as well.
        let two = format!(
            "INSERT INTO {0}.t VALUES (4);UPDATE {0}.t SET a=5 WHERE a=4",
            world.data
        );
        assert_done!(write(&mut session, seq + 1, &two).await);
        assert_done!(write(&mut session, seq + 2, "").await);
        assert_eq!(target.read_back(1).await?, seq + 3);

        let recovered = target.take_over(Some(Fence(7))).await?;
        assert_eq!(recovered.slots.len(), 2);
        assert_eq!(recovered.slots[1].applied, Progress::at(at(1000 + seq + 2)));
        assert_eq!(recovered.slots[0].applied, Progress::at(at(4)));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_owner_writes_nothing() -> Result<()> {
    for brand in BRANDS {
        let mut world = World::new(brand).await?;
        world
            .sql
            .run(&format!("CREATE TABLE {}.t (a INT)", world.data))
            .await?;
        let (old, rows) = world.owner(7, 1).await?;
        let mut stale = old.session(0).await?;

        let new = world.connect().await?;
        let recovered = new.take_over(Some(Fence(9))).await?;
        assert_eq!(recovered.fence, Fence(9));
        let insert = format!("INSERT INTO {}.t VALUES (1)", world.data);
        let error = match write(&mut stale, rows[0].seq, &insert).await {
            Applied::Fenced(error) => error,
            other => panic!("{other:?}"),
        };
        assert!(error.is(&code::SYNCER_FENCED));
        assert!(
            error
                .message
                .contains("fence 7 is not the owner's, fence 9 is"),
            "{error}"
        );
        // Nothing else of the old owner works either.
        let checkpoint = Checkpoint {
            global: at(500),
            ..Checkpoint::default()
        };
        assert!(matches!(
            old.checkpoint(&checkpoint).await,
            Applied::Fenced(_)
        ));
        assert!(old.session(0).await.unwrap_err().is(&code::SYNCER_FENCED));
        assert!(
            old.reset(1, &at(4), None)
                .await
                .unwrap_err()
                .is(&code::SYNCER_FENCED)
        );
        assert!(old.read_back(0).await.unwrap_err().is(&code::SYNCER_FENCED));
        assert!(
            old.take_over(Some(Fence(8)))
                .await
                .unwrap_err()
                .is(&code::SYNCER_FENCED)
        );
        assert_eq!(world.count("t").await?, 0);

        // A takeover without a fence counts on.
        assert_eq!(new.take_over(None).await?.fence, Fence(10));
        let mut session = new.session(0).await?;
        let late = write(&mut session, recovered.slots[0].seq, &insert).await;
        assert!(matches!(late, Applied::Moved(_)), "{late:?}");
        assert_eq!(world.count("t").await?, 0);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_never_count_to_the_same_fence() -> Result<()> {
    for brand in BRANDS {
        let world = World::new(brand).await?;
        let mut workers = Vec::new();
        for _ in 0..6 {
            let target = world.connect().await?;
            workers.push(tokio::spawn(async move { target.take_over(None).await }));
        }
        let mut fences = Vec::new();
        for worker in workers {
            fences.push(worker.await??.fence.0);
        }
        fences.sort_unstable();
        assert_eq!(fences, [1, 2, 3, 4, 5, 6]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_ends_a_session_with_an_open_transaction() -> Result<()> {
    for brand in BRANDS {
        let mut world = World::new(brand).await?;
        world
            .sql
            .run(&format!(
                "CREATE TABLE {}.t (a INT PRIMARY KEY)",
                world.data
            ))
            .await?;
        world
            .sql
            .run(&format!("INSERT INTO {}.t VALUES (1)", world.data))
            .await?;
        let (old, rows) = world.owner(1, 1).await?;
        let seq = rows[0].seq;
        let mut stale = old.session(0).await?;

        // Somebody holds a row lock, so the old owner's transaction hangs with the progress row.
        let mut blocker = Client::connect(world.server).await?;
        blocker
            .run(&format!("BEGIN; UPDATE {}.t SET a=2", world.data))
            .await?;
        let update = format!("UPDATE {}.t SET a=3 WHERE a=1", world.data);
        let hanging = tokio::spawn(async move { write(&mut stale, seq, &update).await });
        tokio::time::sleep(Duration::from_millis(300)).await;

        let start = Instant::now();
        let new = world.connect().await?;
        let recovered = new.take_over(Some(Fence(2))).await?;
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{:?}",
            start.elapsed()
        );
        assert_eq!(recovered.slots[0].applied, Progress::at(at(4)));
        let ended = hanging.await?;
        assert!(!matches!(ended, Applied::Done), "{ended:?}");
        blocker.run("ROLLBACK").await?;
        assert_eq!(
            world
                .sql
                .value(&format!("SELECT a FROM {}.t", world.data))
                .await?,
            "1"
        );
    }
    Ok(())
}

/// A takeover that its owner gave up lands after the next one, under the same fence, while the end
/// of a batch is unknown: the batch is not applied, and must not look so.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_takeover_does_not_look_like_an_applied_batch() -> Result<()> {
    for brand in BRANDS {
        let world = World::new(brand).await?;
        let (target, rows) = world.owner(1, 1).await?;
        let (late, seq) = (world.connect().await?, rows[0].seq);
        late.take_over(Some(Fence(1))).await?;
        let found = target.read_back(0).await?;
        assert!(found > seq + 1, "step {found}, and a batch from step {seq}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_is_read_back() -> Result<()> {
    for brand in BRANDS {
        let mut world = World::new(brand).await?;
        world
            .sql
            .run(&format!("CREATE TABLE {}.t (a INT)", world.data))
            .await?;
        let (target, rows) = world.owner(1, 1).await?;
        let seq = rows[0].seq;
        let mut session = target.session(0).await?;
        let slow = format!("INSERT INTO {}.t VALUES (SLEEP(20))", world.data);
        // The client gives up in the middle of a packet.
        let cut = tokio::time::timeout(Duration::from_millis(500), write(&mut session, seq, &slow));
        assert!(cut.await.is_err());
        let start = Instant::now();
        assert_eq!(target.read_back(0).await?, seq);
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{:?}",
            start.elapsed()
        );
        // The session opens another connection, and the batch goes through.
        let again = format!("INSERT INTO {}.t VALUES (1)", world.data);
        assert_done!(write(&mut session, seq, &again).await);
        assert_eq!(target.read_back(0).await?, seq + 1);
        assert_eq!(world.count("t").await?, 1);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lenient_batches_take_what_strict_ones_refuse() -> Result<()> {
    for brand in BRANDS {
        let mut world = World::new(brand).await?;
        world
            .sql
            .run(&format!("CREATE TABLE {}.t (e ENUM('a','b'))", world.data))
            .await?;
        let (target, rows) = world.owner(1, 1).await?;
        let mut seq = rows[0].seq;
        let mut session = target.session(0).await?;
        let insert = format!("INSERT INTO {}.t VALUES (0)", world.data);
        let error = refused(write(&mut session, seq, &insert).await);
        assert!(error.cause.starts_with("Error 1265"), "{error}");
        for lenient in [true, true, false, true] {
            let rows = |out: &mut Vec<u8>| {
                out.extend_from_slice(
                    insert
                        .replace("(0)", if lenient { "(0)" } else { "(1)" })
                        .as_bytes(),
                );
                Ok(())
            };
            let ended = session
                .commit(seq, &Progress::at(at(5)), lenient, rows)
                .await;
            assert_done!(ended);
            seq += 1;
        }
        let zeros = format!("SELECT COUNT(*) FROM {}.t WHERE e = 0", world.data);
        assert_eq!(world.sql.value(&zeros).await?, "3");
    }
    Ok(())
}

/// Timed out, sent all the same, and executed when younger ones are: a packet's own fence does not
/// stop it.
#[tokio::test(flavor = "multi_thread")]
async fn late_control_packets_change_nothing() -> Result<()> {
    for brand in BRANDS {
        let mut world = World::new(brand).await?;
        let log = "SET GLOBAL log_output='TABLE', GLOBAL general_log=";
        world.sql.run(&format!("{log}1")).await?;
        let (target, _) = world.owner(1, 2).await?;
        let create = ddl(
            &world,
            Kind::CreateTable,
            "t",
            "CREATE TABLE $.t (a INT)",
            700,
        );
        assert_done!(target.ddl(&create).await);
        let checkpoint = Checkpoint {
            global: at(700),
            ..Checkpoint::default()
        };
        assert_done!(target.checkpoint(&checkpoint).await);
        world.sql.run(&format!("{log}0")).await?;

        // The new slots, the intent, its end, the checkpoint; put together from their statements.
        let sql = "SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log \
                   WHERE thread_id IN (SELECT thread_id FROM mysql.general_log \
                   WHERE argument LIKE '%slot`=-1 AND%' AND argument LIKE '%$%')";
        let mut packets = Vec::new();
        for row in world.sql.rows(&sql.replace('$', &world.progress())).await? {
            let text = row[0].clone().unwrap_or_default();
            let text = text.trim_end_matches(';');
            match packets.last_mut() {
                _ if text == "BEGIN" || text.starts_with("BEGIN;") => {
                    packets.push(text.to_owned());
                }
                Some(packet) if !packet.ends_with("COMMIT") => *packet += &format!(";{text}"),
                _ => {}
            }
        }
        packets.retain(|packet| packet.contains("`slot`=-1 AND `fence`=1 AND"));
        assert_eq!(packets.len(), 4, "{packets:#?}");

        let seq = target.read_back(0).await?;
        let mut session = target.session(0).await?;
        assert_done!(write(&mut session, seq, "").await);
        let rows = format!("SELECT * FROM {} ORDER BY slot", world.progress());
        let before = world.sql.rows(&rows).await?;
        for packet in packets {
            let mut late = Client::connect(world.server).await?;
            let error = late.run(&packet).await.unwrap_err().to_string();
            assert!(error.contains("Duplicate entry"), "{packet}: {error}");
        }
        assert_eq!(world.sql.rows(&rows).await?, before);
        assert_done!(target.checkpoint(&checkpoint).await);
    }
    Ok(())
}

fn ddl(world: &World, kind: Kind, table: &str, sql: &str, pos: u64) -> Ddl {
    Ddl {
        piece: Piece {
            ordinal: 0,
            kind,
            sources: vec![(Role::Subject, TableName::new("shop", table))],
            targets: vec![TableName::new(&world.data, table)],
            swaps: false,
            sql: sql.replace("$", &world.data),
        },
        timestamp: 1_700_000_000,
        time_zone: Some("+08:00".to_owned()),
        sql_mode: Some(1 << 2),
        collation_server: None,
        after: Progress::at(at(pos)),
        replay: false,
    }
}

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

#[tokio::test(flavor = "multi_thread")]
async fn the_checkpoint_is_the_existing_workers() -> Result<()> {
    for brand in BRANDS {
        let mut world = World::new(brand).await?;
        let (target, _) = world.owner(1, 2).await?;
        // The table as recorded from the existing worker.
        let golden = include_str!("../../core/testdata/golden/tables/after-incremental.txt");
        let golden = golden
            .split("\n\n")
            .find(|text| text.contains("_syncer_checkpoint` ("));
        let golden = golden.unwrap().split(";\n").next().unwrap();
        let golden = golden.replacen("CREATE TABLE `", "CREATE TABLE `golden_", 1);
        world
            .sql
            .run(&format!("USE {}; {golden}", world.data))
            .await?;
        let columns = |schema: &str, table: &str| {
            format!(
                "SELECT column_name, column_type, is_nullable, column_default, extra, \
                 collation_name FROM information_schema.columns WHERE table_schema='{schema}' \
                 AND table_name LIKE '{table}' ORDER BY ordinal_position"
            )
        };
        let ours = columns(&world.options.meta_schema, "a-task\\_syncer\\_checkpoint");
        assert_eq!(
            world.sql.rows(&ours).await?,
            world.sql.rows(&columns(&world.data, "golden\\_%")).await?
        );

        // Written as the recorded row, with an exit point and without.
        for exit_safe in [Some(at(800)), None] {
            let checkpoint = Checkpoint {
                global: at(600),
                exit_safe: exit_safe.clone(),
            };
            assert_done!(target.checkpoint(&checkpoint).await);
            let row = format!(
                "SELECT id, cp_schema, cp_table, binlog_name, binlog_pos, binlog_gtid, \
                 exit_safe_binlog_name, exit_safe_binlog_pos, exit_safe_binlog_gtid, table_info, \
                 is_global FROM {}",
                world.checkpoint()
            );
            let gtids = "0a0431f2-e6eb-11f1-beb0-02fc00000001:1-7";
            let exit = if exit_safe.is_some() {
                ["binlog.000001", "800", gtids]
            } else {
                ["", "0", ""]
            };
            let expected = ["source's id", "", "", "binlog.000001", "600", gtids];
            let expected = expected.into_iter().chain(exit).chain(["null", "1"]);
            let expected: Vec<_> = expected.map(|text| Some(text.to_owned())).collect();
            assert_eq!(world.sql.rows(&row).await?, [expected]);
            assert_eq!(target.take_over(None).await?.slots.len(), 2);
        }
        // Its rows for single tables are no business of ours.
        let stored = format!(
            "INSERT INTO {} (id,cp_schema,cp_table,binlog_name,binlog_pos,binlog_gtid,\
             table_info,is_global) VALUES ('source\\'s id','shop','t','binlog|000001.000001',\
             77,NULL,'{{}}',0)",
            world.checkpoint()
        );
        world.sql.run(&stored).await?;
        let recovered = target.take_over(None).await?;
        assert_eq!(recovered.checkpoint.unwrap().global, at(600));
        assert_eq!(recovered.slots.len(), 2);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_void_once_somebody_else_wrote_the_checkpoint() -> Result<()> {
    for change in [
        "UPDATE $ SET binlog_pos=binlog_pos+1",
        "UPDATE $ SET exit_safe_binlog_name='', exit_safe_binlog_pos=0",
        "DELETE FROM $",
    ] {
        let mut world = World::new(Brand::Mysql).await?;
        let (target, _) = world.owner(1, 2).await?;
        let checkpoint = Checkpoint {
            global: at(600),
            exit_safe: Some(at(700)),
        };
        assert_done!(target.checkpoint(&checkpoint).await);
        assert_eq!(target.take_over(None).await?.slots.len(), 2);
        world
            .sql
            .run(&change.replace('$', &world.checkpoint()))
            .await?;
        let recovered = target.take_over(None).await?;
        assert!(recovered.slots.is_empty(), "{change}");
        assert_eq!(recovered.checkpoint.is_none(), change.starts_with("DELETE"));

        // The new start has a window of safe mode, which outlives a crash but not its end.
        let rows = target.reset(3, &at(601), Some(&at(700))).await?;
        assert_eq!(rows.len(), 3);
        let recovered = world.connect().await?.take_over(None).await?;
        assert_eq!(recovered.slots.len(), 3);
        assert_eq!(recovered.safe_until, Some(at(700)));
        let target = world.connect().await?;
        target.take_over(None).await?;
        for (global, exit, window) in [(650, 700, true), (700, 710, false), (720, 720, false)] {
            let checkpoint = Checkpoint {
                global: Location {
                    gtids: None,
                    ..at(global)
                },
                exit_safe: Some(Location {
                    gtids: None,
                    ..at(global.max(710))
                }),
            };
            let _ = exit;
            assert_done!(target.checkpoint(&checkpoint).await);
            let recovered = target.take_over(None).await?;
            assert_eq!(recovered.safe_until.is_some(), window, "{global}");
        }
    }
    Ok(())
}

/// What the existing worker's table can't hold stops nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_is_too_large_is_cut() -> Result<()> {
    for brand in BRANDS {
        let mut world = World::new(brand).await?;
        let (target, _) = world.owner(1, 2).await?;
        let stored = format!("SELECT binlog_pos, binlog_gtid FROM {}", world.checkpoint());
        let far = at(5 << 30);
        let mut gtids = "0a0431f2-e6eb-11f1-beb0-02fc00000001".to_owned();
        (0..20_000).for_each(|number| gtids += &format!(":{}", 2 * number + 1));
        let scattered = Location {
            gtids: GtidSet::parse(Flavor::Mysql, &gtids).ok(),
            ..at(700)
        };
        let first = "0a0431f2-e6eb-11f1-beb0-02fc00000001:1-7";
        for (location, pos, gtids) in [(far, "4294967295", first), (scattered, "700", "")] {
            let checkpoint = Checkpoint {
                global: location.clone(),
                exit_safe: None,
            };
            assert_done!(target.checkpoint(&checkpoint).await);
            let expected = [vec![Some(pos.to_owned()), Some(gtids.to_owned())]];
            assert_eq!(world.sql.rows(&stored).await?, expected);
            assert_eq!(target.take_over(None).await?.slots.len(), 2);

            target.reset(2, &location, Some(&location)).await?;
            assert_eq!(world.sql.rows(&stored).await?, expected);
            let recovered = target.take_over(None).await?;
            assert_eq!(recovered.slots[1].applied, Progress::at(location.clone()));
            assert_eq!(recovered.safe_until, Some(location));
        }
    }
    Ok(())
}

/// The existing worker names directories of its relay log, which the source knows nothing of.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_in_a_relay_log_is_one_in_the_source() -> Result<()> {
    let mut world = World::new(Brand::Mysql).await?;
    let (target, _) = world.owner(1, 2).await?;
    let relay = format!(
        "UPDATE {} SET binlog_name='binlog|000003.000001', exit_safe_binlog_pos=9,
         exit_safe_binlog_name='binlog|000003.000002'",
        world.checkpoint()
    );
    world.sql.run(&relay).await?;
    let recovered = target.take_over(None).await?;
    assert!(recovered.slots.is_empty());
    let checkpoint = recovered.checkpoint.unwrap();
    assert_eq!(checkpoint.global, at(4));
    let exit = checkpoint.exit_safe.unwrap();
    assert_eq!(exit.position, Position::new("binlog.000002", 9));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_of_tables_are_read() -> Result<()> {
    for brand in BRANDS {
        let mut world = World::new(brand).await?;
        let (target, _) = world.owner(1, 1).await?;
        let name = TableName::new(&world.data, "T`ä");
        assert!(target.table(&name).await?.is_none());
        world
            .sql
            .run(&format!(
                "CREATE TABLE {name} (
                   a BIGINT UNSIGNED NOT NULL, b VARCHAR(20) CHARACTER SET latin1, c BINARY(7),
                   d ENUM('x','y') NOT NULL, e DECIMAL(65,30), f TEXT, g INT AS (a + 1) STORED,
                   h INT AS (a + 2) VIRTUAL, i TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
                   j JSON, k SET('p','q'), l BIT(5), m YEAR, n DOUBLE, o GEOMETRY, p MEDIUMINT,
                   PRIMARY KEY (a, d), UNIQUE KEY u (b(5), p), KEY plain (f(10)))"
            ))
            .await?;
        if brand == Brand::Mysql {
            world
                .sql
                .run(&format!("CREATE UNIQUE INDEX x ON {name} ((a + p), n)"))
                .await?;
        }
        let table = target.table(&name).await?.unwrap();
        let types: Vec<_> = table.columns.iter().map(|c| c.type_name.as_str()).collect();
        let json = if brand == Brand::Mysql {
            "json"
        } else {
            "longtext"
        };
        assert_eq!(
            types,
            [
                "bigint",
                "varchar",
                "binary",
                "enum",
                "decimal",
                "text",
                "int",
                "int",
                "timestamp",
                json,
                "set",
                "bit",
                "year",
                "double",
                "geometry",
                "mediumint"
            ]
        );
        let column = |name: &str| table.columns.iter().find(|c| c.name == name).unwrap();
        assert!(column("a").unsigned && !column("a").nullable && !column("p").unsigned);
        assert_eq!(column("b").charset.as_deref(), Some("latin1"));
        assert_eq!(
            (column("b").length, column("c").length),
            (Some(20), Some(7))
        );
        let generated: Vec<_> = table.columns.iter().filter(|c| c.generated).collect();
        assert_eq!(generated.len(), 2, "{generated:?}");
        assert_eq!(column("d").column_type, "enum('x','y')");

        let key = |name: &str| table.keys.iter().find(|key| key.name == name).unwrap();
        let parts = |name: &str| -> Vec<_> {
            key(name)
                .parts
                .iter()
                .map(|part| (part.column, part.prefix))
                .collect()
        };
        assert!(key("PRIMARY").primary && key("PRIMARY").unique);
        assert_eq!(parts("PRIMARY"), [(Some(0), None), (Some(3), None)]);
        assert!(key("u").unique && !key("u").primary && !key("plain").unique);
        assert_eq!(parts("u"), [(Some(1), Some(5)), (Some(15), None)]);
        if brand == Brand::Mysql {
            assert_eq!(parts("x"), [(None, None), (Some(13), None)]);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_without_transactions_are_refused() -> Result<()> {
    for brand in BRANDS {
        let mut world = World::new(brand).await?;
        let (target, _) = world.owner(1, 1).await?;
        let mut engines = vec!["MyISAM", "MEMORY"];
        if brand == Brand::Mariadb {
            engines.push("Aria");
        }
        for engine in engines {
            let name = TableName::new(&world.data, engine);
            let create = format!("CREATE TABLE {name} (a INT PRIMARY KEY) ENGINE={engine}");
            world.sql.run(&create).await?;
            let error = target.table(&name).await.unwrap_err();
            assert!(error.is(&code::SYNCER_TARGET_NOT_TRANSACTIONAL), "{error}");
            assert!(error.message.contains(engine), "{error}");
            let cure = format!("ALTER TABLE {name} ENGINE=InnoDB");
            assert!(error.workaround.contains(&cure), "{error}");
            world.sql.run(&cure).await?;
            assert!(target.table(&name).await?.is_some());
        }
        let more = "CREATE TABLE $.t (a INT PRIMARY KEY) PARTITION BY HASH (a) PARTITIONS 2;
                    CREATE VIEW $.v AS SELECT * FROM $.t";
        world.sql.run(&more.replace('$', &world.data)).await?;
        let table = |name| TableName::new(&world.data, name);
        assert!(target.table(&table("t")).await?.is_some());
        let error = target.table(&table("v")).await.unwrap_err();
        assert!(error.is(&code::SYNCER_TARGET_NOT_TRANSACTIONAL), "{error}");
        assert!(error.message.contains("view"), "{error}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_what_to_do() -> Result<()> {
    for brand in BRANDS {
        let mut world = World::new(brand).await?;
        world
            .sql
            .run(&format!(
                "CREATE TABLE {}.t (a INT PRIMARY KEY)",
                world.data
            ))
            .await?;
        let (target, rows) = world.owner(1, 1).await?;
        let seq = rows[0].seq;
        let mut session = target.session(0).await?;
        for (sql, number, advice) in [
            ("INSERT INTO $.t (b) VALUES (1)", "1054", "lacks a column"),
            ("INSERT INTO $.u VALUES (1)", "1146", "Create the table"),
            ("INSERT INTO $.t VALUES (1),(1)", "1062", "unique"),
            ("INSERT INTO $.t VALUES ('x')", "1366", "does not fit"),
        ] {
            let ended = write(&mut session, seq, &sql.replace('$', &world.data)).await;
            assert!(
                matches!(ended, Applied::Failed { retry: false, .. }),
                "{ended:?}"
            );
            let error = refused(ended);
            assert!(
                error.cause.starts_with(&format!("Error {number} ")),
                "{error}"
            );
            assert!(error.workaround.contains(advice), "{error}");
        }
        assert_done!(write(&mut session, seq, "").await);

        let login = DbConfig {
            password: Secret("wrong".to_owned()),
            ..world.login.clone()
        };
        let error = Target::connect(&login, world.options.clone())
            .await
            .unwrap_err();
        assert!(error.is(&code::DB_DRIVER_ERROR), "{error}");
        assert!(error.cause.starts_with("Error 1045 (28000)"), "{error}");
        assert!(error.workaround.contains("password"), "{error}");
        let login = DbConfig {
            port: 1,
            ..world.login.clone()
        };
        let error = Target::connect(&login, world.options.clone())
            .await
            .unwrap_err();
        assert!(error.is(&code::DB_DRIVER_ERROR), "{error}");

        for (name, value) in [("no_such_variable", "1"), ("lock_wait_timeout", "soon")] {
            let mut login = world.login.clone();
            login
                .session
                .get_or_insert_default()
                .insert(name.to_owned(), value.to_owned());
            let error = Target::connect(&login, world.options.clone())
                .await
                .unwrap_err();
            assert!(error.message.contains(name), "{error}");
            assert!(
                error.workaround.contains("target-database.session"),
                "{error}"
            );
        }
        let mut login = world.login.clone();
        for (name, value) in [
            ("lock_wait_timeout", "77"),
            ("sql_mode", "ANSI_QUOTES,NO_ZERO_DATE"),
            ("time_zone", "+02:00"),
            ("tidb_txn_mode", "optimistic"),
        ] {
            login
                .session
                .get_or_insert_default()
                .insert(name.to_owned(), value.to_owned());
        }
        Target::connect(&login, world.options.clone()).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_target_is_named() -> Result<()> {
    for brand in BRANDS {
        let server = Database::start(brand, Part::Target, &dm_tests::servers::Options::default())?;
        if !server.is_ours() {
            continue;
        }
        let server: &'static Database = Box::leak(Box::new(server));
        let mut world = World::on(server).await?;
        world
            .sql
            .run(&format!("CREATE TABLE {}.t (a INT)", world.data))
            .await?;
        let (target, rows) = world.owner(1, 1).await?;
        let mut session = target.session(0).await?;
        world.sql.run("SET GLOBAL read_only=1").await?;
        let insert = format!("INSERT INTO {}.t VALUES (1)", world.data);
        let error = refused(write(&mut session, rows[0].seq, &insert).await);
        assert!(error.cause.starts_with("Error 1290 "), "{error}");
        assert!(error.workaround.contains("read_only"), "{error}");
        world.sql.run("SET GLOBAL read_only=0").await?;
        assert_done!(write(&mut session, rows[0].seq, &insert).await);
    }
    Ok(())
}

/// Rows do not need it, so that it would be missed in the middle of the binlog.
#[tokio::test(flavor = "multi_thread")]
async fn a_time_zone_that_the_server_does_not_know_is_refused_at_the_start() -> Result<()> {
    for brand in BRANDS {
        let mut world = World::new(brand).await?;
        world.login.set_time_zone("+02:00");
        world.connect().await?;
        world.login.set_time_zone("Foo/Bar");
        let error = world.connect().await.unwrap_err().to_string();
        assert!(error.contains("`time_zone` = 'Foo/Bar'"), "{error}");
        assert!(error.contains("`timezone`"), "{error}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_trusts_nobody_but_the_named_authority() -> Result<()> {
    // MySQL makes itself certificates.
    let server = Database::shared(Brand::Mysql, Part::Target)?;
    if !server.is_ours() {
        return Ok(());
    }
    let mut world = World::on(server).await?;
    let user = world.login.user.clone();
    world
        .sql
        .run(&format!("ALTER USER {user} REQUIRE SSL"))
        .await?;
    assert!(world.connect().await.is_err());
    let data = server.data_dir()?;
    let path = |name: &str| data.join(name).display().to_string();
    world.login.security = Some(Security {
        ssl_ca: path("ca.pem"),
        ..Security::default()
    });
    // The certificate that the server made itself does not name its host.
    world.connect().await?;
    // Another authority.
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/testdata/tls/ca.pem");
    let ours = ours.display().to_string();
    let mut login = world.login.clone();
    login.security = Some(Security {
        ssl_ca: ours,
        ..Security::default()
    });
    let error = Target::connect(&login, world.options.clone())
        .await
        .unwrap_err();
    assert!(error.cause.contains("UnknownIssuer"), "{error}");
    assert!(error.workaround.contains("`ssl-ca`"), "{error}");
    let refused = |change: fn(&mut Security), login: &DbConfig| {
        let mut login = login.clone();
        login.security.as_mut().map(change);
        let options = world.options.clone();
        async move { Target::connect(&login, options).await.unwrap_err() }
    };
    // Not an authority.
    let error = refused(
        |s| s.ssl_ca = s.ssl_ca.replace("ca.pem", "public_key.pem"),
        &world.login,
    );
    assert!(error.await.is(&code::DB_DRIVER_ERROR));
    let error = refused(|s| s.ssl_ca.clear(), &world.login).await;
    assert!(error.message.contains("ssl-ca"), "{error}");
    Ok(())
}

//! Takeovers: who may write, and what comes too late.

use std::time::{Duration, Instant};

use dm_core::{
    error::code,
    sync::{
        ddl::Kind,
        progress::{Applied as Progress, Fence},
    },
};
use dm_runtime::ports::{Applied, Checkpoint, Target as _};
use dm_tests::{Result, sql::Client};

use super::{BRANDS, World, at, ddl, write};

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
            old.checkpoint(&checkpoint, false).await,
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
        world.create_table().await?;
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
        assert_done!(target.checkpoint(&checkpoint, false).await);
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
        assert_done!(target.checkpoint(&checkpoint, false).await);
    }
    Ok(())
}

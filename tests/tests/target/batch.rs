//! Batches: rows and progress, what is read back, and what lenient ones take.

use std::time::{Duration, Instant};

use dm_core::{
    error::code,
    sync::progress::{Applied as Progress, Fence},
};
use dm_runtime::ports::{Applied, Target as _};
use dm_tests::Result;

use super::{BRANDS, World, at, refused, write};

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_progress_are_one() -> Result<()> {
    for brand in BRANDS {
        let mut world = World::new(brand).await?;
        world.create_table().await?;
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

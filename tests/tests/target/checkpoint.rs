//! The checkpoint of the existing worker.

use dm_core::{
    binlog::{Flavor, GtidSet, Position},
    sync::progress::{Applied as Progress, Location},
};
use dm_runtime::ports::{Checkpoint, Target as _};
use dm_tests::{Result, servers::Brand};

use super::{BRANDS, World, at};

#[tokio::test(flavor = "multi_thread")]
async fn the_checkpoint_is_the_existing_workers() -> Result<()> {
    for brand in BRANDS {
        let mut world = World::new(brand).await?;
        let (target, _) = world.owner(1, 2).await?;
        // The table as recorded from the existing worker.
        let golden = include_str!("../../../core/testdata/golden/tables/after-incremental.txt");
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
            assert_done!(target.checkpoint(&checkpoint, false).await);
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
        assert_done!(target.checkpoint(&checkpoint, false).await);
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
        for (global, window) in [(650, true), (700, false), (720, false)] {
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
            assert_done!(target.checkpoint(&checkpoint, !window).await);
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
            assert_done!(target.checkpoint(&checkpoint, false).await);
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

/// The existing worker names directories of its relay log. What they mean is the reader's to say.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_in_a_relay_log_keeps_its_names() -> Result<()> {
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
    assert_eq!(checkpoint.global.position, at(4).position.in_relay(3));
    let exit = checkpoint.exit_safe.unwrap();
    assert_eq!(exit.position, Position::new("binlog|000003.000002", 9));
    Ok(())
}

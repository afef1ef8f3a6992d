//! How much processor time planning and rendering take. Run optimised:
//! `cargo test --release -p dm-core speed -- --ignored --nocapture`.

use alloc::{format, vec, vec::Vec};
use core::time::Duration;
use std::{println, time};

use super::*;
use crate::{
    binlog::{Position, RowChange},
    sync::{
        sql::render,
        testing::{Fixture, Row, column, int, text, unique},
    },
};

/// The changes of sysbench's `oltp_write_only`: per transaction two updates, a delete, an insert.
fn workload(tables: &[Fixture], txns: usize) -> Vec<Vec<(usize, RowChange)>> {
    let mut seed = 1_u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as i32
    };
    let long = "0123456789-".repeat(11);
    let row = |id: i32, k: i32| -> Row { vec![int(id), int(k), text(&long), text(&long[..60])] };
    (0..txns)
        .map(|_| {
            let index = random() as usize % tables.len();
            let table = &tables[index];
            let [a, b, c] = [(); 3].map(|()| random() % 10_000);
            let k = random();
            let changes = [
                (Some(row(a, k)), Some(row(a, k + 1))),
                (Some(row(b, k)), Some(row(b, k))),
                (Some(row(c, k)), None),
                (None, Some(row(c, k + 1))),
            ];
            let change = |(before, after): (Option<Row>, Option<Row>)| {
                (index, table.change(before.as_ref(), after.as_ref()))
            };
            changes.map(change).into()
        })
        .collect()
}

#[test]
#[ignore = "measures time"]
fn speed() {
    let columns = || {
        let collation = Some("utf8mb4_0900_ai_ci");
        vec![
            column("id", false, None),
            column("k", false, None),
            column("c", false, collation),
            column("pad", false, collation),
        ]
    };
    let tables: Vec<_> = (0..8)
        .map(|n| {
            Fixture::new(
                &format!("sbtest{n}"),
                columns(),
                vec![unique("PRIMARY", &[Some(0)])],
            )
        })
        .collect();
    let txns = workload(&tables, 100_000);
    for (slots, batch_rows_max) in [(1, 100), (16, 100), (16, 1000), (64, 500)] {
        let config = PlannerConfig {
            slots,
            batch_rows_max,
            batch_bytes_max: 1 << 20,
            packet_bytes_max: 16 << 20,
            memory_bytes_max: 64 << 20,
            linger: Duration::from_millis(5),
            by_gtid: false,
        };
        let mut planner = Planner::new(config.clone(), fresh(slots, &Location::default()));
        let (mut render_time, mut batches, mut left, mut segments) = (Duration::ZERO, 0, 0, 0);
        let mut out = Vec::new();
        let start = time::Instant::now();
        let mut finish = |planner: &mut Planner, now| {
            while let Some(batch) = planner.poll_batch(now) {
                out.clear();
                let start = time::Instant::now();
                render(&batch, &mut out).unwrap();
                render_time += start.elapsed();
                batches += 1;
                segments += batch.segments.len();
                left += batch
                    .segments
                    .iter()
                    .map(|segment| segment.rows.len())
                    .sum::<usize>();
                planner.done(batch.slot, Outcome::Applied);
            }
        };
        for (number, changes) in (0..).zip(&txns) {
            let id = TxnId {
                start: Position::new("binlog.000001", number * 1000 + 4),
                gtid: None,
            };
            planner.begin(Instant::START, id, false).unwrap();
            for (table, change) in changes {
                planner.row(&tables[*table].plan, change.clone()).unwrap();
            }
            planner.commit(Position::new("binlog.000001", number * 1000 + 1004));
            if planner.free_bytes() < 32 << 20 {
                finish(&mut planner, Instant::START);
            }
        }
        planner.flush();
        finish(&mut planner, Instant::START);
        assert!(planner.drained());
        let rows = txns.len() as u32 * 4;
        println!(
            "{slots} slots, {batch_rows_max} rows: plan {:?} and render {:?} per row; \
             {batches} batches, {segments} statements, {left} of {rows} rows left",
            (start.elapsed() - render_time) / rows,
            render_time / rows,
        );
    }
}

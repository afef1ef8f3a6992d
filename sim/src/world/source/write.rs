//! Which events a transaction consists of.

use dm_core::binlog::Flavor;

use super::{
    events::{self, Body},
    mariadb,
    txn::{Part, Transaction},
};
use crate::scenario::SourcePlan;

/// All events of a transaction but the one that announces it.
pub(super) fn bodies(schema: &str, txn: &Transaction, xid: u64, plan: &SourcePlan) -> Vec<Body> {
    let mut bodies = match plan.flavor() {
        Flavor::Mysql => vec![events::query(schema, "BEGIN", &[])],
        // What announces it stands for that as well.
        Flavor::Mariadb => Vec::new(),
    };
    for statement in &txn.statements {
        if plan.texts {
            bodies.push(match plan.flavor() {
                Flavor::Mysql => events::rows_query("UPDATE something"),
                Flavor::Mariadb => mariadb::annotate("UPDATE something"),
            });
        }
        statement_bodies(schema, statement, plan, &mut bodies);
    }
    bodies.push(if txn.ends_by_text {
        events::query(schema, "COMMIT", &[])
    } else {
        events::xid(xid)
    });
    bodies
}

/// First all tables, then the rows of each, in events that are not too large.
fn statement_bodies(schema: &str, parts: &[Part], plan: &SourcePlan, bodies: &mut Vec<Body>) {
    let mut told = Vec::new();
    for part in parts {
        if !told.contains(&part.id) {
            told.push(part.id);
            bodies.push(events::table_map(schema, part, plan.names, plan.flavor()));
        }
    }
    for (index, part) in parts.iter().enumerate() {
        let row_bytes = 8 * part.definition.columns.len().max(1);
        let mut chunks = part
            .images
            .chunks((plan.row_event_bytes as usize / row_bytes).max(1));
        while let Some(images) = chunks.next() {
            let ends = index + 1 == parts.len() && chunks.len() == 0;
            let rows = events::rows(part, images, ends, plan.flavor());
            bodies.push(if plan.flavor() == Flavor::Mariadb && plan.compresses {
                mariadb::compressed(rows, part.definition.columns.len())
            } else {
                rows
            });
        }
    }
}

//! Which events a transaction consists of.

use super::{
    Options,
    events::{self, Body},
    txn::{Part, Transaction},
};

/// All events of a transaction but the one that announces it.
pub(super) fn bodies(schema: &str, txn: &Transaction, xid: u64, options: &Options) -> Vec<Body> {
    let mut bodies = vec![events::query(schema, "BEGIN", &[])];
    for statement in &txn.statements {
        if options.texts {
            bodies.push(events::rows_query("UPDATE something"));
        }
        statement_bodies(schema, statement, options, &mut bodies);
    }
    bodies.push(if txn.ends_by_text {
        events::query(schema, "COMMIT", &[])
    } else {
        events::xid(xid)
    });
    bodies
}

/// First all tables, then the rows of each, in events that are not too large.
fn statement_bodies(schema: &str, parts: &[Part], options: &Options, bodies: &mut Vec<Body>) {
    let mut told = Vec::new();
    for part in parts {
        if !told.contains(&part.id) {
            told.push(part.id);
            bodies.push(events::table_map(schema, part, options.names));
        }
    }
    for (index, part) in parts.iter().enumerate() {
        let row_bytes = 8 * part.definition.columns.len().max(1);
        let mut chunks = part
            .images
            .chunks((options.row_event_max / row_bytes).max(1));
        while let Some(images) = chunks.next() {
            let ends = index + 1 == parts.len() && chunks.len() == 0;
            bodies.push(events::rows(part, images, ends));
        }
    }
}

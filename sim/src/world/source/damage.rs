//! What may become of an event on its way.

use bytes::Bytes;
use dm_core::binlog::{Flavor, event_type};

use crate::{dice::Dice, scenario::SourcePlan};

const CHECKSUM_LEN: usize = 4;
/// Of the type in an event's header.
const TYPE_AT: usize = 4;
/// Of a BIGINT, which all columns are.
const VALUE_LEN: usize = 8;

/// An event as it arrives.
pub(super) enum Arrival {
    /// As it was sent, or not quite.
    Once(Bytes),
    /// It never does.
    Never,
    /// And once more.
    Twice(Bytes),
}

/// Damages an event, each time in a way that must be noticed. `inside`: it belongs to a transaction
/// and does not begin it.
pub(super) fn damage(
    dice: &mut Dice,
    plan: &SourcePlan,
    event: &Bytes,
    inside: bool,
) -> (Arrival, &'static str) {
    // MariaDB's places do not add up, and by GTID whole transactions may be left out. Connections
    // see to it that their packets come once, in order.
    let is_counted = inside && plan.flavor() == Flavor::Mysql;
    // What is missing is noticed by what comes next, which may be another file.
    let is_last = is_counted && event.get(TYPE_AT) == Some(&event_type::XID);
    let ways = match (is_counted, is_last) {
        (_, true) => 10,
        (true, _) => 4,
        _ => 2,
    };
    match dice.within(0..ways) {
        0 => {
            let mut bytes = event.to_vec();
            // Anywhere, or in the last value, which nothing but the checksum protects.
            let from = match dice.permille(500) {
                true => bytes.len().saturating_sub(CHECKSUM_LEN + VALUE_LEN),
                false => 0,
            };
            let bit = dice.within(from as u64 * 8..bytes.len() as u64 * 8) as usize;
            bytes[bit / 8] ^= 1 << (bit % 8);
            (Arrival::Once(bytes.into()), "fault: flipped bit")
        }
        1 => {
            let len = dice.within(0..event.len() as u64) as usize;
            (Arrival::Once(event.slice(..len)), "fault: truncated event")
        }
        2 => (Arrival::Twice(event.clone()), "fault: event twice"),
        _ => (Arrival::Never, "fault: skipped event"),
    }
}

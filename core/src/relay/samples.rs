//! Recorded binlog files, as what a source would send of them.

use alloc::vec::Vec;

use bytes::Bytes;

use super::MAGIC;
use crate::binlog::{Flavor, HEADER_LEN, Header, event_type as kind};

macro_rules! samples {
    ($($flavor:ident $name:literal,)*) => {[$((
        $name,
        Flavor::$flavor,
        include_bytes!(concat!("../../testdata/binlog/", $name, ".binlog")).as_slice(),
    )),*]};
}

/// Name, flavor and content of each.
pub(super) const SAMPLES: [(&str, Flavor, &[u8]); 9] = samples![
    Mysql "mysql-sample",
    Mysql "mysql-session",
    Mysql "mysql-types",
    Mariadb "mariadb-sample",
    Mariadb "mariadb-session",
    Mariadb "mariadb-compressed",
    Mariadb "mariadb-types",
    Mariadb "mariadb-types-nolog",
    Mariadb "mariadb-metadata",
];

/// The events of a file, in order.
pub(super) fn events(file: &[u8]) -> Vec<Bytes> {
    let mut rest = Bytes::copy_from_slice(&file[MAGIC.len()..]);
    let mut events = Vec::new();
    while !rest.is_empty() {
        let len = Header::peek(&rest).unwrap().event_size as usize;
        events.push(rest.split_to(len));
    }
    events
}

/// An event without a checksum that a source makes up to say which file comes.
pub(super) fn made_up_rotate(name: &str, pos: u64) -> Bytes {
    let mut event = alloc::vec![0_u8; HEADER_LEN];
    event[4] = kind::ROTATE;
    event[5] = 1;
    event[9..13].copy_from_slice(&((HEADER_LEN + 8 + name.len()) as u32).to_le_bytes());
    event[17] = 0x20;
    event.extend_from_slice(&pos.to_le_bytes());
    event.extend_from_slice(name.as_bytes());
    event.into()
}

use std::{vec, vec::Vec};

use super::*;

/// Gives an event a new checksum after it was changed.
fn seal(mut raw: Vec<u8>) -> Bytes {
    let len = raw.len() as u32;
    raw[9..13].copy_from_slice(&len.to_le_bytes());
    let at = raw.len() - 4;
    let sum = crc32fast::hash(&raw[..at]);
    raw[at..].copy_from_slice(&sum.to_le_bytes());
    raw.into()
}

fn event(kind: u8, log_pos: u32, flags: u16, body: &[u8], checksum: bool) -> Bytes {
    let mut raw = vec![0; 4];
    raw.push(kind);
    raw.extend_from_slice(&[0; 8]);
    raw.extend_from_slice(&log_pos.to_le_bytes());
    raw.extend_from_slice(&flags.to_le_bytes());
    raw.extend_from_slice(body);
    if checksum {
        raw.extend_from_slice(&[0; 4]);
        return seal(raw);
    }
    let len = raw.len() as u32;
    raw[9..13].copy_from_slice(&len.to_le_bytes());
    raw.into()
}

fn rotate(checksum: bool, name: &[u8], pos: u64) -> Bytes {
    let body = [&pos.to_le_bytes()[..], name].concat();
    event(event_type::ROTATE, 0, 0x20, &body, checksum)
}

/// The format description of a recorded file, with another checksum algorithm if asked for.
fn format(algorithm: Option<u8>) -> Bytes {
    let mut raw = MYSQL_TYPES.events()[0].to_vec();
    let at = raw.len() - 5;
    match algorithm {
        Some(algorithm) => {
            raw[at] = algorithm;
            seal(raw)
        }
        None => raw.into(),
    }
}

#[test]
fn every_byte_of_an_event_is_protected() {
    let events = MARIADB_SAMPLE.events();
    for (nth, raw) in events.iter().enumerate() {
        for at in 0..raw.len() {
            for bit in 0..8 {
                let mut decoder = Decoder::new(Flavor::Mariadb);
                if nth > 0 {
                    decoder.frame(events[0].clone()).unwrap();
                }
                let mut damaged = raw.to_vec();
                damaged[at] ^= 1 << bit;
                // The bit of an open file is not under its checksum.
                let in_use = (nth, at, bit) == (0, 17, 0);
                assert_eq!(
                    decoder.frame(damaged.into()).is_ok(),
                    in_use,
                    "{nth} {at} {bit}"
                );
            }
        }
    }
}

#[test]
fn a_rotate_before_the_format_may_or_may_not_be_checked() {
    for checksum in [true, false] {
        let mut decoder = Decoder::new(Flavor::Mysql);
        let frame = decoder
            .frame(rotate(checksum, b"binlog.000007", 1234))
            .unwrap();
        assert!(frame.header.is_artificial());
        let Event::Rotate { file, pos } = decoder.event(&frame).unwrap() else {
            panic!();
        };
        assert_eq!((&file[..], pos), ("binlog.000007", 1234));
        decoder.frame(format(None)).unwrap();
        // And later ones, whatever the file before was like.
        decoder
            .frame(rotate(!checksum, b"binlog.000008", 4))
            .unwrap();
    }
    let mut damaged = rotate(true, b"binlog.000007", 4).to_vec();
    damaged[30] ^= 1;
    assert!(Decoder::new(Flavor::Mysql).frame(damaged.into()).is_err());
}

#[test]
fn a_binlog_without_checksums_must_be_declared() {
    let mut decoder = Decoder::new(Flavor::Mysql);
    assert_eq!(decoder.frame(format(Some(0))), Err(BinlogError::NoChecksum));
    let mut decoder = Decoder::new(Flavor::Mysql).accept_unchecked();
    decoder.frame(format(Some(0))).unwrap();
    let xid = event(event_type::XID, 300, 0, &[7; 8], false);
    assert_eq!(decoder.frame(xid).unwrap().body.len(), 8);
    let mut decoder = Decoder::new(Flavor::Mysql);
    assert!(decoder.frame(format(Some(2))).is_err());
    let xid = event(event_type::XID, 300, 0, &[7; 8], true);
    assert_eq!(decoder.frame(xid), Err(BinlogError::NoFormat));
}

#[test]
fn lengths_are_checked_first() {
    let mut decoder = Decoder::new(Flavor::Mysql);
    let raw = format(None);
    assert!(decoder.frame(raw.slice(..18)).is_err());
    assert!(decoder.frame(raw.slice(..raw.len() - 1)).is_err());
    assert!(Header::peek(&[0; 19]).is_err());
    let short = event(event_type::XID, 0, 0, &[], false);
    decoder.frame(raw).unwrap();
    assert!(decoder.frame(short).is_err());
}

#[test]
fn positions_go_on_beyond_four_gigabytes() {
    let mut decoder = Decoder::new(Flavor::Mariadb);
    let end = |decoder: &mut Decoder, raw| decoder.frame(raw).unwrap().header.log_pos;
    end(&mut decoder, rotate(false, b"b.000001", 0xffff_ff00));
    assert_eq!(end(&mut decoder, format(None)) as u32, 127);
    let xid = |pos, flags| event(event_type::XID, pos, flags, &[7; 8], true);
    assert_eq!(
        end(&mut decoder, rotate(false, b"b.000001", 0xffff_ff00)),
        0
    );
    assert_eq!(end(&mut decoder, xid(0xffff_ffe0, 0)), 0xffff_ffe0);
    assert_eq!(end(&mut decoder, xid(0x10, 0)), 0x1_0000_0010);
    // MariaDB 11.4 leaves the position out inside transactions.
    assert_eq!(end(&mut decoder, xid(0, 0)), 0x1_0000_0010 + 31);
    // What is not in the file does not move the position.
    assert_eq!(end(&mut decoder, xid(0, 0x20)), 0);
    assert_eq!(end(&mut decoder, xid(0x80, 0)), 0x1_0000_0080);
    let heartbeat = event(event_type::HEARTBEAT, 0x80, 0, b"b.000001", true);
    assert_eq!(end(&mut decoder, heartbeat), 0x1_0000_0080);
    end(&mut decoder, rotate(true, b"b.000002", 4));
    assert_eq!(end(&mut decoder, xid(0x80, 0)), 0x80);
}

/// By GTID a source leaves out what is known, be it more than the 32 bits of a position.
#[test]
fn a_heartbeat_tells_how_far_a_source_has_gone_on() {
    let mut decoder = Decoder::new(Flavor::Mysql);
    decoder.frame(format(None)).unwrap();
    let mut body = vec![1, 13];
    body.extend_from_slice(b"binlog.000003");
    body.extend_from_slice(&[2, 9, 0xfe, 0, 0, 0, 0x40, 1, 0, 0, 0, 0]);
    decoder
        .frame(event(event_type::HEARTBEAT_V2, 0, 0, &body, true))
        .unwrap();
    let xid = event(event_type::XID, 0x4000_001f, 0, &[7; 8], true);
    assert_eq!(decoder.frame(xid).unwrap().header.log_pos, 0x1_4000_001f);
}

#[test]
fn positions_end_where_numbers_do() {
    for log_pos in [0, 1] {
        let mut decoder = Decoder::new(Flavor::Mysql);
        decoder.frame(format(None)).unwrap();
        decoder.frame(rotate(true, b"a.1", u64::MAX)).unwrap();
        let xid = event(event_type::XID, log_pos, 0, &[7; 8], true);
        assert_eq!(decoder.frame(xid).unwrap().header.log_pos, u64::MAX);
    }
}

#[test]
fn a_payload_has_no_payload_in_it() {
    let inside = |kind| Frame::inside_payload(&event(kind, 0, 0, &[0], false));
    assert!(inside(event_type::XID).is_ok());
    assert!(inside(event_type::TRANSACTION_PAYLOAD).is_err());
}

#[test]
fn unknown_events_are_ignored_only_when_they_say_so() {
    let mut decoder = Decoder::new(Flavor::Mysql);
    decoder.frame(format(None)).unwrap();
    let mut decode = |kind, flags| {
        let frame = decoder
            .frame(event(kind, 200, flags, &[1, 2, 3], true))
            .unwrap();
        decoder.event(&frame)
    };
    assert_eq!(decode(99, 0).unwrap_err(), BinlogError::UnknownEvent(99));
    assert!(matches!(decode(99, 0x80), Ok(Event::Ignored(99))));
    assert!(matches!(decode(event_type::STOP, 0), Ok(Event::Ignored(_))));
    // MariaDB's numbers mean nothing on MySQL.
    assert!(decode(event_type::MARIADB_GTID, 0).is_err());
}

#[test]
fn heartbeats_of_both_versions() {
    let mut decoder = Decoder::new(Flavor::Mysql);
    decoder.frame(format(None)).unwrap();
    let mut decode = |raw| {
        let frame = decoder.frame(raw).unwrap();
        match decoder.event(&frame).unwrap() {
            Event::Heartbeat { file, pos } => (file, pos),
            other => panic!("{other:?}"),
        }
    };
    let first = event(event_type::HEARTBEAT, 500, 0, b"binlog.000003", true);
    assert_eq!(decode(first), ("binlog.000003".into(), 500));
    let mut body = vec![1, 13];
    body.extend_from_slice(b"binlog.000003");
    body.extend_from_slice(&[2, 9, 0xfe, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    let second = event(event_type::HEARTBEAT_V2, 0, 0, &body, true);
    assert_eq!(decode(second), ("binlog.000003".into(), 1 << 32));
}

#[test]
fn incidents_are_told() {
    let mut decoder = Decoder::new(Flavor::Mysql);
    decoder.frame(format(None)).unwrap();
    let raw = event(event_type::INCIDENT, 500, 0, b"\x01\x00\x04lost", true);
    let frame = decoder.frame(raw).unwrap();
    let Event::Incident { number, message } = decoder.event(&frame).unwrap() else {
        panic!();
    };
    assert_eq!((number, &message[..]), (1, "lost"));
}

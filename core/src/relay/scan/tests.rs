use alloc::{string::ToString, vec::Vec};

use proptest::prelude::*;

use super::{super::samples::SAMPLES, *};

/// Reads what is there, and returns what became of the first piece that is not whole.
fn scan(flavor: Flavor, bytes: &[u8]) -> (Scan, Result<()>) {
    let mut scan = Scan::new(flavor);
    let outcome = scan.read(&Bytes::copy_from_slice(bytes)).map(drop);
    (scan, outcome)
}

#[test]
fn recorded_files_are_whole() {
    for (name, flavor, bytes) in SAMPLES {
        let (scan, outcome) = scan(flavor, bytes);
        outcome.unwrap();
        assert_eq!(scan.end(), bytes.len() as u64, "{name}");
        assert_eq!(scan.boundary(), scan.end(), "{name}");
        assert_eq!(scan.unfinished(), None, "{name}");
    }
}

#[test]
fn transactions_are_counted() {
    let (_, flavor, bytes) = SAMPLES[0];
    let gtids = |len: usize| {
        let (scan, _) = scan(flavor, &bytes[..len]);
        (scan.boundary(), scan.gtids().map(GtidSet::to_string))
    };
    let set = |last: u32| Some(format!("0a0431f2-e6eb-11f1-beb0-02fc00000001:1-{last}"));
    // Behind PREVIOUS_GTIDS; within the first transaction, and behind it; behind a DDL.
    assert_eq!(gtids(198), (198, set(186)));
    assert_eq!(gtids(501), (198, set(186)));
    assert_eq!(gtids(502), (502, set(187)));
    assert_eq!(gtids(692), (502, set(187)));
    assert_eq!(gtids(693), (693, set(188)));
    assert_eq!(gtids(bytes.len()), (19_160, set(248)));

    let (_, flavor, bytes) = SAMPLES[3];
    let (scan, _) = scan(flavor, bytes);
    // Three behind the list at the beginning, which names the fourth.
    assert_eq!(scan.gtids().unwrap().to_string(), "0-3404-7");
    let (scan, _) = self::scan(flavor, &bytes[..519]);
    assert_eq!(scan.boundary(), 339);
}

/// A file that ends anywhere: what counts is what a longer one has as well.
#[test]
fn boundaries_only_grow() {
    for (name, flavor, bytes) in SAMPLES {
        let mut last = 0;
        for len in (0..bytes.len()).step_by(7) {
            let (scan, outcome) = scan(flavor, &bytes[..len]);
            outcome.unwrap();
            assert!(
                last <= scan.boundary() && scan.boundary() <= len as u64,
                "{name} {len}"
            );
            last = scan.boundary();
        }
    }
}

/// However long: it has not ended.
#[test]
fn a_transaction_may_say_any_length() {
    let (_, flavor, bytes) = SAMPLES[0];
    // The first GTID event, whose last field is its transaction's length.
    let (before, rest) = bytes.split_at(198);
    let mut event = rest[..rest[9].into()].to_vec();
    let len_at = 19 + 42 + 7;
    assert_eq!(event[len_at], 0xfc);
    event.truncate(len_at);
    event.push(0xfe);
    event.extend_from_slice(&[0xff; 8]);
    let size = event.len() + 4;
    event[9] = size as u8;
    event[13..17].copy_from_slice(&((198 + size) as u32).to_le_bytes());
    let sum = crc32fast::hash(&event).to_le_bytes();
    event.extend_from_slice(&sum);
    let (scan, outcome) = scan(flavor, &[before, &event].concat());
    outcome.unwrap();
    assert_eq!((scan.end(), scan.boundary()), ((198 + size) as u64, 198));
}

#[test]
fn files_say_who_wrote_them() {
    for (name, flavor, bytes) in SAMPLES {
        assert_eq!(Scan::flavor(bytes), flavor, "{name}");
    }
    assert_eq!(Scan::flavor(b""), Flavor::Mysql);
}

#[test]
fn a_file_is_told_about() {
    let (_, flavor, bytes) = SAMPLES[0];
    let (scan, _) = scan(flavor, bytes);
    assert_eq!((scan.transactions(), scan.unfinished()), (62, None));
    assert_eq!(scan.has_checksums(), Some(true));
    assert_eq!(scan.next(), Some("binlog.000005"));
    assert!(scan.since() > 1_700_000_000 && !scan.is_stopped());
}

/// What a server that was killed leaves, and not what damage does.
#[test]
fn a_part_of_an_event_is_told_from_damage() {
    for (name, flavor, bytes) in SAMPLES {
        for len in (0..bytes.len()).step_by(5) {
            let mut scan = Scan::new(flavor);
            let rest = scan.read(&Bytes::copy_from_slice(&bytes[..len])).unwrap();
            assert!(scan.is_beginning(&rest), "{name} {len}");
        }
    }
    let (_, flavor, bytes) = SAMPLES[0];
    let mut damaged = bytes.to_vec();
    // The third byte of the length of the event at 198.
    damaged[198 + 11] = 1;
    let mut scan = Scan::new(flavor);
    let rest = scan.read(&Bytes::from(damaged)).unwrap();
    assert!(!scan.is_beginning(&rest));
}

#[test]
fn a_transaction_without_an_end_is_noticed() {
    let (_, flavor, bytes) = SAMPLES[3];
    let mut scan = Scan::new(flavor);
    scan.read(&Bytes::copy_from_slice(&bytes[..519])).unwrap();
    assert_eq!((scan.boundary(), scan.unfinished()), (339, None));
    let (start, gtid) = (scan.end(), scan.transaction().cloned());
    assert!(gtid.is_some());
    scan.begin(start, gtid, 0);
    assert_eq!(scan.unfinished(), Some(339));
}

#[test]
fn what_is_no_binlog_is_refused() {
    for text in ["this is a text, and not a short one", "\0\0\0\0\0\0\0\0"] {
        let (_, outcome) = scan(Flavor::Mysql, text.as_bytes());
        assert!(outcome.unwrap_err().is(&code::PARSER_PARSE_RELAY_LOG));
    }
}

#[test]
fn an_event_that_is_missing_is_noticed() {
    let (_, flavor, bytes) = SAMPLES[0];
    let mut holed = bytes.to_vec();
    holed.drain(416..471);
    let (scan, outcome) = scan(flavor, &holed);
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("says that it ends at 502"), "{error}");
    assert_eq!((scan.end(), scan.boundary()), (416, 198));
}

/// Whether a flipped bit is noticed. A length that is too large looks like a file that ends early.
fn is_noticed(flavor: Flavor, bytes: &[u8], at: usize, bit: usize) -> bool {
    let mut damaged = bytes.to_vec();
    damaged[at] ^= 1_u8 << bit;
    let (scan, outcome) = scan(flavor, &damaged);
    // The flag that a file is in use is not in the checksum.
    let is_use = (at, bit) == (4 + 17, 0);
    // The first event says whether there are checksums; only the next one shows that it is wrong.
    let first = Header::peek(&bytes[MAGIC.len()..]).unwrap().event_size as usize;
    let denies = at == MAGIC.len() + first - 5 && outcome.is_err();
    scan.end() <= at as u64 || is_use || denies
}

#[test]
fn a_file_that_denies_its_checksums_is_noticed() {
    for (name, flavor, bytes) in SAMPLES {
        let first = Header::peek(&bytes[MAGIC.len()..]).unwrap().event_size as usize;
        for bit in 0..8 {
            assert!(
                is_noticed(flavor, bytes, MAGIC.len() + first - 5, bit),
                "{name}"
            );
        }
    }
}

proptest! {
    /// Damage is noticed, and what is before it counts.
    #[test]
    fn a_flipped_bit_is_noticed(
        sample in 0..SAMPLES.len(),
        at: prop::sample::Index,
        bit in 0_usize..8,
    ) {
        let (_, flavor, bytes) = SAMPLES[sample];
        let at = at.index(bytes.len());
        prop_assert!(is_noticed(flavor, bytes, at, bit));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let magic: Vec<u8> = MAGIC.into_iter().chain(bytes).collect();
        for flavor in [Flavor::Mysql, Flavor::Mariadb] {
            let (scan, _) = scan(flavor, &magic);
            prop_assert!(scan.boundary() <= scan.end());
        }
    }
}

/// Shows a scan everything that can be there in the place of each event of a file, and then the
/// event. `other` is given what is left of the file, and how long the event is. Of the first event,
/// which says whether there are checksums, other tests tell.
fn instead(
    (name, flavor, bytes): (&str, Flavor, &[u8]),
    mut other: impl FnMut(&mut Scan, &[u8], usize),
) {
    let mut scan = Scan::new(flavor);
    let mut rest = Bytes::copy_from_slice(bytes);
    while !rest.is_empty() {
        let (end, boundary) = (scan.end(), scan.boundary());
        let len = scan.wants(&rest).unwrap();
        if end != MAGIC.len() as u64 {
            other(&mut scan, &rest, len);
            assert_eq!((scan.end(), scan.boundary()), (end, boundary), "{name}");
        }
        // What did not count has left nothing behind.
        scan.take(&rest.split_to(len)).unwrap();
    }
    let all = bytes.len() as u64;
    assert_eq!((scan.end(), scan.boundary()), (all, all));
}

/// What is flipped in a byte: each bit, and all of them.
const FLIPS: [u8; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 255];

/// Where the first event ends.
fn head(bytes: &[u8]) -> usize {
    let first = &bytes[MAGIC.len()..];
    MAGIC.len() + Header::peek(first).unwrap().event_size as usize
}

/// At every byte, with what disks put behind it.
#[test]
fn a_torn_event_does_not_count() {
    for sample in SAMPLES {
        instead(sample, |scan, rest, len| {
            for cut in 0..len {
                let left = scan.read(&Bytes::copy_from_slice(&rest[..cut])).unwrap();
                assert_eq!(left, rest[..cut]);
                for junk in [0, 0xff] {
                    // What was cut off may be what is there now.
                    if rest[cut..len].iter().any(|byte| *byte != junk) {
                        let torn = [&rest[..cut], &[junk; 4096]].concat();
                        let _ = scan.read(&Bytes::from(torn));
                    }
                }
            }
        });
    }
}

/// Every byte, with what follows it.
#[test]
fn a_flipped_byte_does_not_count() {
    for sample in SAMPLES {
        instead(sample, |scan, rest, len| {
            let mut damaged = rest.to_vec();
            for at in 0..len {
                for flip in FLIPS {
                    damaged[at] ^= flip;
                    let _ = scan.read(&Bytes::copy_from_slice(&damaged));
                    damaged[at] ^= flip;
                }
            }
        });
    }
}

/// The first event says itself whether it has a checksum; then the second one tells.
#[test]
fn a_file_with_a_damaged_first_event_has_no_content() {
    for (name, flavor, bytes) in SAMPLES {
        let head = head(bytes);
        let mut damaged = bytes.to_vec();
        for at in 0..head {
            for flip in FLIPS {
                damaged[at] ^= flip;
                let (scan, _) = scan(flavor, &damaged);
                // The flag that the file is in use is in no checksum, and says nothing here.
                let is_in_use = at == MAGIC.len() + 17 && flip == 1;
                assert_eq!(scan.has_content(), is_in_use, "{name} {at} {flip}");
                damaged[at] ^= flip;
            }
            for junk in [0, 0xff] {
                let (scan, _) = scan(flavor, &[&bytes[..at], &[junk; 4096]].concat());
                assert!(!scan.has_content(), "{name} {at} {junk}");
            }
        }
    }
}

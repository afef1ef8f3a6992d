use bytes::Bytes;

use super::{super::samples::SAMPLES, *};
use crate::binlog::{MysqlGtidSet, event_type as kind};

const NEXT: &[u8] = include_bytes!("../../../testdata/binlog/mysql-next.binlog");
const A: &str = "0a0431f2-e6eb-11f1-beb0-02fc00000001";
const B: &str = "7747f834-e6f4-11f1-99f0-02fc00000001";

/// A file of a server: what it says was before, the transactions in it, and how it ends.
#[derive(Clone)]
struct File(Vec<u8>);

impl File {
    fn new(before: &str) -> Self {
        let (_, _, sample) = SAMPLES[0];
        let set: MysqlGtidSet = before.parse().unwrap();
        Self(sample[..127].to_vec()).event(kind::PREVIOUS_GTIDS, &set.encode())
    }

    fn event(mut self, event_type: u8, body: &[u8]) -> Self {
        let len = 19 + body.len() + 4;
        let end = self.0.len() + len;
        let mut event = alloc::vec![1, 0, 0, 0, event_type, 1, 0, 0, 0];
        event.extend_from_slice(&(len as u32).to_le_bytes());
        event.extend_from_slice(&(end as u32).to_le_bytes());
        event.extend_from_slice(&[0, 0]);
        event.extend_from_slice(body);
        let sum = crc32fast::hash(&event);
        self.0.extend(event);
        self.0.extend_from_slice(&sum.to_le_bytes());
        self
    }

    fn begin(self, server: &str, gno: u64) -> Self {
        let hex: String = server.chars().filter(|c| *c != '-').collect();
        let id = u128::from_str_radix(&hex, 16).unwrap();
        let body = [&[0][..], &id.to_be_bytes(), &gno.to_le_bytes()].concat();
        self.event(kind::GTID, &body)
    }

    fn txn(self, server: &str, gno: u64) -> Self {
        self.begin(server, gno).event(kind::XID, &[0; 8])
    }

    fn rotate(self, next: &str) -> Self {
        let body = [&4_u64.to_le_bytes()[..], next.as_bytes()].concat();
        self.event(kind::ROTATE, &body)
    }
}

/// What there is to say about a file: `!` stands before a problem.
fn file(audit: &mut Audit, name: &str, bytes: &[u8]) -> Vec<String> {
    let mut scan = Scan::new(Scan::flavor(bytes));
    let tail = match scan.read(&Bytes::copy_from_slice(bytes)) {
        Ok(rest) => Tail::Rest(rest.to_vec()),
        Err(error) => Tail::Broken(error),
    };
    texts(audit.file(name, bytes.len() as u64, &scan, &tail))
}

fn texts(found: Vec<Finding>) -> Vec<String> {
    let text = |finding| match finding {
        Finding::Note(text) => text,
        Finding::Problem(error) => format!("!{}", error.message),
    };
    found.into_iter().map(text).collect()
}

/// What there is to say about files of one directory, with the names of these before.
fn files(audit: &mut Audit, all: &[(&str, &File)]) -> Vec<String> {
    audit.enter();
    let said = |(name, bytes): &(&str, &File)| file(audit, name, &bytes.0);
    all.iter().flat_map(said).collect()
}

fn meta(text: &str) -> Meta {
    Meta::parse(text.as_bytes()).unwrap()
}

#[test]
fn recorded_files_are_in_order() {
    let (_, _, sample) = SAMPLES[0];
    let mut audit = Audit::default();
    assert_eq!(file(&mut audit, "binlog.000004", sample), [""; 0]);
    assert_eq!(file(&mut audit, "binlog.000005", NEXT), [""; 0]);
    let written = meta("binlog-name = \"binlog.000005\"\nbinlog-pos = 4\n");
    assert_eq!(texts(audit.leave(Some(&written), true)), [""; 0]);
}

#[test]
fn a_missing_transaction_is_named() {
    let first = File::new(&format!("{A}:1-5")).txn(A, 6).rotate("b.000002");
    let none: Vec<String> = Vec::new();
    let good = File::new(&format!("{A}:1-6")).txn(A, 7);
    let mut audit = Audit::default();
    assert_eq!(
        files(&mut audit, &[("b.000001", &first), ("b.000002", &good)]),
        none
    );
    // The next directory is of another server, which has the same transactions.
    let moved = File::new(&format!("{A}:1-7,{B}:1-2")).txn(B, 3);
    let said = files(&mut audit, &[("b.000001", &moved)]);
    assert_eq!(
        said,
        [format!("!transactions {B}:1-2 are missing before b.000001")]
    );
    // What was missing is said once.
    let last = File::new(&format!("{A}:1-7,{B}:1-3"));
    assert_eq!(files(&mut audit, &[("b.000001", &last)]), none);

    let late = File::new(&format!("{A}:1-8")).txn(A, 9);
    let said = files(
        &mut Audit::default(),
        &[("b.000001", &first), ("b.000002", &late)],
    );
    assert_eq!(
        said,
        [format!("!transactions {A}:7-8 are missing before b.000002")]
    );
}

/// A server that the source moved to needs not have what only the one before it had, and its own
/// files go on from there.
#[test]
fn another_server_may_know_less() {
    let first = File::new("").txn(A, 1).txn(B, 1).rotate("b.000002");
    let one = File::new(&format!("{A}:1")).txn(A, 2).rotate("b.000002");
    let two = File::new(&format!("{A}:1-2"));
    let mut audit = Audit::default();
    files(&mut audit, &[("b.000001", &first)]);
    let none: Vec<String> = Vec::new();
    assert_eq!(
        files(&mut audit, &[("b.000001", &one), ("b.000002", &two)]),
        none
    );
    let alien = File::new("");
    let said = files(&mut audit, &[("b.000001", &one), ("b.000002", &alien)]);
    assert!(said[0].starts_with(&format!("!b.000002 does not know of transactions {A}:1-2")));
}

#[test]
fn files_that_are_missing_are_noticed() {
    let first = File::new("").txn(A, 1);
    let rotated = first.clone().rotate("b.000002");
    let second = File::new(&format!("{A}:1"));
    let said = |all: &[(&str, &File)]| files(&mut Audit::default(), all);
    assert_eq!(
        said(&[("b.000001", &rotated), ("b.000003", &second)]),
        ["!b.000002 is missing: b.000001 says that it follows"]
    );
    assert_eq!(
        said(&[("b.000001", &first), ("b.000003", &second)]),
        ["!what is between b.000001 and b.000003 is missing"]
    );
    // It crashed.
    let crashed = said(&[("b.000001", &first), ("b.000002", &second)]);
    assert!(crashed.len() == 1 && crashed[0].starts_with("b.000001 does not end with a ROTATE"));
    let stopped = first.clone().event(kind::STOP, &[]);
    assert_eq!(
        said(&[("b.000001", &stopped), ("b.000002", &second)]),
        [""; 0]
    );
    let other = said(&[("b.000001", &first), ("c.000009", &second)]);
    assert!(other.len() == 1 && other[0].starts_with("files of another name"));
    let empty = File(Vec::new());
    assert_eq!(
        said(&[("b.000001", &empty), ("b.000002", &second)]),
        ["it is empty", "!b.000001 is empty, and others follow"]
    );
}

#[test]
fn a_part_of_a_transaction_belongs_only_where_a_server_crashed() {
    let open = File::new("").begin(A, 1);
    let said = |bytes: &[u8]| file(&mut Audit::default(), "b.000001", bytes);
    let crashed = said(&open.0);
    assert!(crashed.len() == 1 && crashed[0].starts_with("it ends within a transaction"));
    let torn = said(&open.0[..open.0.len() - 7]);
    assert_eq!(crashed, torn);
    let text = "!b.000001: the transaction at offset 158 has no end, but others follow";
    assert_eq!(said(&open.clone().rotate("b.000002").0), [text]);
    assert_eq!(said(&open.txn(A, 2).0), [text]);
    let mut behind = File::new("").rotate("b.000002").0;
    behind.push(0);
    assert!(said(&behind)[0].ends_with("nothing may stand behind a ROTATE"));
    let mut junk = File::new("").0;
    junk.extend_from_slice(&[b'x'; 40]);
    let junk = said(&junk);
    assert!(
        junk.len() == 1 && junk[0].ends_with("not the beginning of an event"),
        "{junk:?}"
    );
}

/// A checksum may be right, and what it is of nevertheless nonsense.
#[test]
fn numbers_may_be_anything() {
    let far = [&u64::MAX.to_le_bytes()[..], b"b.000002"].concat();
    let far = File::new("").event(kind::ROTATE, &far).txn(A, 1);
    assert!(file(&mut Audit::default(), "b.000001", &far.0)[0].contains("says that it ends at"));
    let head = [
        &[0][..],
        &[7; 16],
        &1_u64.to_le_bytes(),
        &[2],
        &[0; 16],
        &[0; 7],
    ]
    .concat();
    let long = File::new("").event(kind::GTID, &[&head[..], &[0xfe], &[0xff; 8]].concat());
    let said = file(&mut Audit::default(), "b.000001", &long.txn(A, 2).0);
    assert!(said[0].contains("offset 158 has no end"), "{said:?}");
    // A number of a file that has no next one.
    let (last, none) = (format!("b.{}", u64::MAX), File::new(""));
    let said = files(&mut Audit::default(), &[(&last, &none), ("b.1", &none)]);
    assert_eq!(
        said,
        [format!("!what is between {last} and b.1 is missing")]
    );
}

#[test]
fn what_follows_damage_is_not_judged_by_it() {
    let mut damaged = File::new("").txn(A, 1).txn(A, 2).rotate("b.000002");
    damaged.0[200] ^= 1;
    let next = File::new(&format!("{A}:1-2")).txn(A, 3);
    let said = files(
        &mut Audit::default(),
        &[("b.000001", &damaged), ("b.000002", &next)],
    );
    assert!(
        said.len() == 1 && said[0].contains("checksum mismatch"),
        "{said:?}"
    );
}

#[test]
fn a_meta_file_is_behind_the_files_or_wrong() {
    let only = File::new("").txn(A, 1).rotate("b.000008");
    let size = only.0.len();
    let mut audit = Audit::default();
    files(&mut audit, &[("b.000007", &only)]);
    let problems = |name: &str, pos: usize, gtids: &str| {
        let text =
            format!("binlog-name = \"{name}\"\nbinlog-pos = {pos}\nbinlog-gtid = \"{gtids}\"\n");
        let said = texts(audit.leave(Some(&meta(&text)), true));
        said.into_iter()
            .filter(|text| text.starts_with('!'))
            .count()
    };
    let one = format!("{A}:1");
    for (name, pos, gtids) in [
        ("", 4, ""),
        ("b.000006", 900, ""),
        ("b.000007", 4, ""),
        ("b.000007", size, &*one),
        ("b.000008", 4, ""),
    ] {
        assert_eq!(problems(name, pos, gtids), 0, "{name} {pos}");
    }
    let two = format!("{A}:1-2");
    for (name, pos, gtids) in [
        ("b.000007", size + 1, ""),
        ("b.000007", 4, &*two),
        ("b.000008", 5, ""),
        ("b.000009", 4, ""),
        ("c.000006", 4, ""),
    ] {
        assert_eq!(problems(name, pos, gtids), 1, "{name} {pos}");
    }
    let said = texts(audit.leave(None, true));
    assert_eq!(said, ["b.000008 is the next file, and has not begun yet"]);
}

#[test]
fn a_file_that_cannot_be_read_says_nothing_of_others() {
    let mut audit = Audit::default();
    let denied = Tail::Broken(Error::new(&code::BINLOG_WRITER_OPEN_FILE, "denied"));
    let unread = audit.file("b.000001", 0, &Scan::new(Flavor::Mysql), &denied);
    assert_eq!(texts(unread), ["!b.000001: denied"]);
    let next = File::new(&format!("{A}:1-9")).txn(A, 10);
    assert_eq!(file(&mut audit, "b.000002", &next.0), [""; 0]);
}

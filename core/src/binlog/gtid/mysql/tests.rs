use alloc::{format, string::ToString, vec};

use proptest::prelude::*;

use super::*;

const A: &str = "0a0431f2-e6eb-11f1-beb0-02fc00000001";
const B: &str = "7105f637-e6f4-11f1-a0c3-02fc00000001";

fn set(text: &str) -> MysqlGtidSet {
    text.parse().unwrap()
}

#[test]
fn text_is_normalised() {
    let upper = A.to_ascii_uppercase();
    let cases = [
        (String::new(), String::new()),
        (
            format!("{upper}:1-3:5 ,\n {B}:1"),
            format!("{A}:1-3:5,{B}:1"),
        ),
        (format!("{B}:2,{A}:5:1-2:3-4"), format!("{A}:1-5,{B}:2")),
        (
            format!("{A}:tag:7:1-2:other:1,{A}:3"),
            format!("{A}:3:other:1:tag:1-2:7"),
        ),
        (format!("{A}:Blue:1-5"), format!("{A}:blue:1-5")),
        (A.replace('-', "") + ":4", format!("{A}:4")),
        (format!(" {A}:0 ,"), String::new()),
        (format!("{A}:5-3"), String::new()),
    ];
    for (text, normal) in cases {
        assert_eq!(set(&text).to_string(), normal, "{text}");
    }
}

#[test]
fn text_that_is_none() {
    let long = "t".repeat(33);
    let tails = [
        "",
        ":",
        ":a",
        ":1:",
        ":1-",
        ":-1",
        ":1-2-3",
        ":0-5",
        ":+1",
        ":9tag:1",
        ":t-g:1",
        ":9223372036854775807",
        ":1 2",
        &format!(":{long}:1"),
    ];
    for tail in tails {
        let text = format!("{A}{tail}");
        assert!(text.parse::<MysqlGtidSet>().is_err(), "{text}");
    }
    for text in ["x", "0-1-7", "0a0431f2e6eb-11f1-beb0-02fc-00000001:1"] {
        assert!(text.parse::<MysqlGtidSet>().is_err(), "{text}");
    }
}

#[test]
fn binary_form_of_both_formats() {
    let plain = set(&format!("{A}:1-3:5")).encode();
    assert_eq!(plain[..8], [1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(plain.len(), 8 + 16 + 8 + 32);
    let tagged = set(&format!("{A}:1,{A}:ab:2")).encode();
    assert_eq!(tagged[..8], [0, 2, 0, 0, 0, 0, 0, 1]);
    // The untagged source comes first, with an empty tag.
    assert_eq!(tagged[24], 0);
    assert_eq!(tagged[8 + 16 + 1 + 8 + 16 + 16..][..3], [4, b'a', b'b']);
}

#[test]
fn hostile_counts_are_errors() {
    let mut data = vec![0xff; 7];
    data.push(0);
    data.extend_from_slice(&[7; 16]);
    data.extend_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(
        MysqlGtidSet::decode(&data),
        Err(BinlogError::Truncated("GTID set"))
    );
    let mut descending = set(&format!("{A}:1-3:5")).encode();
    descending[32..40].copy_from_slice(&9u64.to_le_bytes());
    assert!(MysqlGtidSet::decode(&descending).is_err());
}

fn any_set() -> impl Strategy<Value = MysqlGtidSet> {
    let entry = (0u8..3, "(|a|blue_1)", 1u64..50, 0u64..9);
    prop::collection::vec(entry, 0..20).prop_map(|entries| {
        let mut set = MysqlGtidSet::default();
        for (sid, tag, first, more) in entries {
            set.add_interval(tsid(&[sid; 16], &tag), first, first + more);
        }
        set
    })
}

proptest! {
    #[test]
    fn text_and_binary_round_trips(one in any_set()) {
        prop_assert_eq!(&set(&one.to_string()), &one);
        prop_assert_eq!(&MysqlGtidSet::decode(&one.encode()).unwrap(), &one);
    }

    #[test]
    fn set_algebra(a in any_set(), b in any_set()) {
        let mut union = a.clone();
        union.union(&b);
        prop_assert!(union.contains(&a) && union.contains(&b));
        let mut rest = union.clone();
        rest.subtract(&b);
        prop_assert!(a.contains(&rest));
        rest.union(&b);
        prop_assert_eq!(&rest, &union);
        let mut nothing = a.clone();
        nothing.subtract(&union);
        prop_assert!(nothing.is_empty());
        prop_assert_eq!(a.contains(&b), union == a);
    }

    #[test]
    fn damaged_binary_never_panics(
        one in any_set(),
        at: prop::sample::Index,
        byte: u8,
        cut: prop::sample::Index,
    ) {
        let mut data = one.encode();
        let index = at.index(data.len());
        data[index] = byte;
        let _ = MysqlGtidSet::decode(&data);
        let _ = MysqlGtidSet::decode(&data[..cut.index(data.len())]);
    }
}

use alloc::{borrow::ToOwned, collections::BTreeSet, vec};

use proptest::{prelude::*, sample::Index as Pick, strategy::Strategy as _};

use super::{Strategy, *};
use crate::error::Code;

/// Three servers; files of 10 bytes, written at the second of their number.
const INDEX: &str = "a.000001\nb.000002\nc.000003\n";

fn stored(name: &str) -> Stored {
    let sequence = FileName::parse(name).map_or(0, |name| name.sequence);
    Stored {
        name: name.to_owned(),
        bytes: 10,
        modified_s: sequence,
    }
}

fn shelf(sub_dir: &str, files: &[&str]) -> Shelf {
    Shelf {
        sub_dir: sub_dir.parse().unwrap(),
        files: files.iter().map(|name| stored(name)).collect(),
    }
}

fn shelves() -> Vec<Shelf> {
    vec![
        shelf("a.000001", &["m.1000000", "m.999999"]),
        shelf("b.000002", &["m.000001", "m.000002"]),
        shelf("c.000003", &["m.000009", "m.000010", "m.000011"]),
    ]
}

fn need(who: &str, file: &str) -> Need {
    Need {
        who: who.to_owned(),
        file: Some(file.to_owned()),
    }
}

fn file(name: &str, sub_dir: Option<&str>) -> Strategy {
    Strategy::File {
        name: name.to_owned(),
        sub_dir: sub_dir.map(ToOwned::to_owned),
    }
}

fn text(removal: &Removal) -> String {
    match removal {
        Removal::File { sub_dir, name, .. } => format!("{}/{name}", sub_dir.number()),
        Removal::Dir(sub_dir) => sub_dir.number().to_string(),
    }
}

fn plan(
    shelves: &[Shelf],
    (dir, written): (&str, &str),
    needs: &[Need],
    strategy: &Strategy,
) -> Result<Plan> {
    let index = Index::parse(INDEX.as_bytes()).unwrap();
    let dir = dir.parse().unwrap();
    let holdings = Holdings {
        index: &index,
        shelves,
        written: (&dir, written),
        needs,
    };
    holdings.plan(strategy)
}

const NEWEST: (&str, &str) = ("c.000003", "m.000011");

fn removed(needs: &[Need], strategy: &Strategy) -> Vec<String> {
    let plan = plan(&shelves(), NEWEST, needs, strategy).unwrap();
    plan.removals.iter().map(text).collect()
}

#[test]
fn the_oldest_go_first_by_number() {
    let all = [
        "1/m.999999",
        "1/m.1000000",
        "1",
        "2/m.000001",
        "2/m.000002",
        "2",
        "3/m.000009",
        "3/m.000010",
    ];
    assert_eq!(removed(&[], &Strategy::Inactive), all);
    assert_eq!(removed(&[], &file("m.000011", None)), all);
    assert_eq!(removed(&[], &file("m.000009", None)), all[..6]);
    assert_eq!(removed(&[], &file("m.000010", Some("c.000003"))), all[..7]);
    assert_eq!(removed(&[], &file("m.000002", Some("b.000002"))), all[..4]);
    assert_eq!(removed(&[], &file("m.999999", Some("a.000001"))), all[..0]);
    // A directory goes with its last file, and no more than are needed.
    assert_eq!(removed(&[], &Strategy::Space(1)), all[..1]);
    assert_eq!(removed(&[], &Strategy::Space(10)), all[..1]);
    assert_eq!(removed(&[], &Strategy::Space(11)), all[..3]);
    assert_eq!(removed(&[], &Strategy::Space(1000)), all);
}

#[test]
fn what_is_younger_keeps_all_behind_it() {
    assert_eq!(removed(&[], &Strategy::Time(999_998)), [""; 0]);
    assert_eq!(removed(&[], &Strategy::Time(999_999)), ["1/m.999999"]);
    assert_eq!(removed(&[], &Strategy::Time(1_000_000)).len(), 8);
}

#[test]
fn what_is_needed_stays() {
    let first = |needs: &[Need]| {
        let plan = plan(&shelves(), NEWEST, needs, &Strategy::Inactive).unwrap();
        (plan.removals.len(), plan.limit)
    };
    assert_eq!(
        first(&[]),
        (8, "the relay is at m.000011 in c.000003".into())
    );
    let (early, late) = (
        need("task t", "m|000002.000002"),
        need("task u", "m.000010"),
    );
    // Without a number it is the newest directory.
    let late_only = first(std::slice::from_ref(&late));
    assert_eq!(late_only, (7, "task u is at m.000010 in c.000003".into()));
    let both = first(&[late, early]);
    assert_eq!(both, (4, "task t is at m.000002 in b.000002".into()));
    // Whoever reads from the source itself may be ahead of the relay.
    assert_eq!(first(&[need("task t", "m.000012")]).0, 8);
    // A request reaches no further.
    let needs = [need("task t", "m|000002.000002")];
    assert_eq!(removed(&needs, &file("m.000011", None)).len(), 4);
}

#[test]
fn files_of_another_name_stay_where_one_is_needed() {
    let shelves = [
        shelf("b.000002", &["m.000001", "a.000002"]),
        shelf(
            "c.000003",
            &["a.000001", "m.000009", "m.000010", "z.000001"],
        ),
    ];
    let removed = |needs: &[Need]| -> Vec<_> {
        let plan = plan(
            &shelves,
            ("c.000003", "m.000010"),
            needs,
            &Strategy::Inactive,
        );
        plan.unwrap().removals.iter().map(text).collect()
    };
    let older = ["2/a.000002", "2/m.000001", "2"];
    assert_eq!(removed(&[]), [&older[..], &["3/m.000009"]].concat());
    assert_eq!(removed(&[need("task t", "a.000001")]), older);
}

#[test]
fn what_was_left_of_an_earlier_purge_goes() {
    let shelves = [shelf("b.000002", &[]), shelf("c.000003", &["m.000011"])];
    let plan = plan(&shelves, NEWEST, &[], &Strategy::Space(1)).unwrap();
    assert_eq!(plan.removals.iter().map(text).collect::<Vec<_>>(), ["2"]);
}

#[test]
fn what_is_unclear_is_refused() {
    let refused = |written: &str, needs: &[Need], strategy: &Strategy, code: &Code, says: &str| {
        let error = plan(&shelves(), ("c.000003", written), needs, strategy).unwrap_err();
        assert!(error.is(code) && error.message.contains(says), "{error}");
    };
    let all = &Strategy::Inactive;
    refused(
        "",
        &[],
        all,
        &code::RELAY_NO_ACTIVE_RELAY_LOG,
        "no active relay log file found",
    );
    for file in [None, Some(String::new())] {
        let needs = [
            need("task t", "m.000010"),
            Need {
                who: "task u".into(),
                file,
            },
        ];
        let code = &code::RELAY_PURGE_IS_FORBIDDEN;
        refused("m.000011", &needs, all, code, "which file task u needs");
    }
    let gone = &code::BASE_FILE_NOT_FOUND;
    let says = "base file m.000008 in directory c.000003 not found, and task t is at it";
    refused("m.000011", &[need("task t", "m.000008")], all, gone, says);
    let says = "m.000003 in directory b.000002 not found, and the request is at it";
    refused(
        "m.000011",
        &[],
        &file("m.000003", Some("b.000002")),
        gone,
        says,
    );
    // Also where something stays that is older.
    let says = "m.000012 in directory c.000003 not found, and the request is at it";
    let needs = [need("task t", "m.000009")];
    refused("m.000011", &needs, &file("m.000012", None), gone, says);
    let unknown = &code::RELAY_TRIM_UUID_NOT_FOUND;
    let needs = [need("task t", "m|000007.000001")];
    refused("m.000011", &needs, all, unknown, "number 7 of task t");
    refused(
        "m.000011",
        &[],
        &file("m.000001", Some("x.000002")),
        unknown,
        "x.000002",
    );
    let none = &code::RELAY_PARSE_UUID_SUFFIX;
    refused("m.000011", &[], &file("m.000001", Some("x")), none, "`x`");
    let not_valid = &code::RELAY_PURGE_REQUEST_NOT_VALID;
    for name in ["", "m", "m|000002.000001", "../m.000001.x"] {
        refused("m.000011", &[], &file(name, None), not_valid, "request `");
    }
}

#[test]
fn the_file_that_begins_need_not_be_there_yet() {
    let plan = plan(
        &shelves(),
        ("c.000003", "m.000012"),
        &[],
        &Strategy::Inactive,
    )
    .unwrap();
    assert_eq!(plan.removals.len(), 9);
}

/// A directory with any of its files and with gaps, what is written and needed of it, and a wish.
#[derive(Clone, Debug)]
struct Case {
    shelves: Vec<Shelf>,
    written: (SubDir, String),
    needs: Vec<(SubDir, String)>,
    strategy: Strategy,
}

fn case() -> impl proptest::strategy::Strategy<Value = Case> {
    let files = prop::collection::btree_set(1_u64..40, 1..8);
    let shelf = (files, any::<bool>(), 1_u64..100, any::<u64>());
    let wish = (0_u8..4, 0_u64..2000, any::<Pick>());
    let needs = prop::collection::vec(any::<Pick>(), 0..3);
    (prop::collection::vec(shelf, 1..5), needs, wish).prop_map(|(drawn, needs, wish)| {
        let mut shelves: Vec<_> = (1..)
            .zip(drawn)
            .map(|(number, (files, keep, bytes, turn))| {
                // Around the number at which names become longer.
                let name = |sequence: u64| format!("m.{:06}", 999_980 + sequence);
                let mut files: Vec<_> = files
                    .into_iter()
                    .map(|it| Stored {
                        name: name(it),
                        bytes: bytes + it,
                        modified_s: 1000 + u64::from(number) * 50 + it % 7,
                    })
                    .collect();
                let len = files.len();
                files.rotate_left(turn as usize % len);
                (
                    keep,
                    Shelf {
                        sub_dir: SubDir::new("s", number).unwrap(),
                        files,
                    },
                )
            })
            .collect();
        let all: Vec<_> = shelves
            .iter()
            .flat_map(|(_, shelf)| {
                shelf
                    .files
                    .iter()
                    .map(|file| (shelf.sub_dir.clone(), file.name.clone()))
            })
            .collect();
        let newest = shelves.last().unwrap().1.clone();
        let written = newest
            .files
            .iter()
            .max_by_key(|file| rank(&file.name))
            .unwrap();
        let written = (newest.sub_dir.clone(), written.name.clone());
        let needs: Vec<_> = needs.iter().map(|pick| pick.get(&all).clone()).collect();
        let (kind, number, pick) = wish;
        let strategy = match kind {
            0 => Strategy::Inactive,
            1 => Strategy::Time(number),
            2 => Strategy::Space(number),
            _ => {
                let (sub_dir, name) = pick.get(&all).clone();
                Strategy::File {
                    name,
                    sub_dir: Some(sub_dir.to_string()),
                }
            }
        };
        // Whole directories may be gone, unless somebody needs them.
        let is_named = |sub_dir: &SubDir| {
            let wish = matches!(&strategy, Strategy::File { sub_dir: Some(it), .. }
                if *it == sub_dir.to_string());
            wish || *sub_dir == written.0 || needs.iter().any(|(it, _)| it == sub_dir)
        };
        shelves.retain(|(keep, shelf)| *keep || is_named(&shelf.sub_dir));
        let shelves = shelves.into_iter().map(|(_, shelf)| shelf).rev().collect();
        Case {
            shelves,
            written,
            needs,
            strategy,
        }
    })
}

fn rank(name: &str) -> u64 {
    FileName::parse(name).unwrap().sequence
}

proptest! {
    #[test]
    fn a_beginning_goes_that_nobody_needs(case in case()) {
        let Case { shelves, written, needs, strategy } = case;
        let mut index = Index::default();
        for number in 1..=written.0.number() {
            index.push(SubDir::new("s", number).unwrap()).unwrap();
        }
        let named: Vec<_> = needs.iter().map(|(sub_dir, name)| {
            let number = format!("m|{:06}.", sub_dir.number());
            need("task", &name.replace("m.", &number))
        }).collect();
        let holdings = Holdings {
            index: &index,
            shelves: &shelves,
            written: (&written.0, &written.1),
            needs: &named,
        };
        let plan = holdings.plan(&strategy).unwrap();
        let mut all: Vec<_> = shelves.iter().flat_map(|shelf| {
            shelf.files.iter().map(|file| (shelf.sub_dir.number(), rank(&file.name), file))
        }).collect();
        all.sort_by_key(|(number, rank, _)| (*number, *rank));
        let gone: Vec<_> = plan.removals.iter().filter_map(|it| match it {
            Removal::File { sub_dir, name, .. } => Some((sub_dir.number(), rank(name))),
            Removal::Dir(_) => None,
        }).collect();
        // A beginning of all there is, ...
        let all_ranks: Vec<_> = all.iter().map(|(number, rank, _)| (*number, *rank)).collect();
        prop_assert_eq!(&gone[..], &all_ranks[..gone.len()]);
        // ... before everything that is needed, ...
        let needed = needs.iter().chain([&written]);
        let first = needed.map(|(sub_dir, name)| (sub_dir.number(), rank(name))).min().unwrap();
        prop_assert!(gone.iter().all(|it| *it < first), "{:?} {:?}", gone, first);
        // ... with the directories of which no file is left, and no others, ...
        let dirs: BTreeSet<_> = plan.removals.iter().filter_map(|it| match it {
            Removal::Dir(sub_dir) => Some(sub_dir.number()),
            Removal::File { .. } => None,
        }).collect();
        let left: BTreeSet<_> = all_ranks[gone.len()..].iter().map(|(number, _)| *number).collect();
        let emptied = all_ranks.iter().map(|(number, _)| *number);
        let emptied: BTreeSet<_> = emptied.filter(|it| !left.contains(it)).collect();
        prop_assert_eq!(&dirs, &emptied);
        // ... and no less than was asked for.
        let next = all.get(gone.len()).filter(|(number, rank, _)| (*number, *rank) < first);
        let freed: u64 = all[..gone.len()].iter().map(|(.., file)| file.bytes).sum();
        match &strategy {
            Strategy::Inactive => prop_assert!(next.is_none()),
            Strategy::Time(until) => {
                prop_assert!(all[..gone.len()].iter().all(|(.., it)| it.modified_s <= *until));
                prop_assert!(next.is_none_or(|(.., file)| file.modified_s > *until));
            }
            Strategy::Space(bytes) => {
                let last = gone.len().checked_sub(1).map_or(0, |last| all[last].2.bytes);
                prop_assert!(freed == 0 || freed - last < *bytes);
                prop_assert!(next.is_none() || freed >= *bytes);
            }
            Strategy::File { name, sub_dir } => {
                let sub_dir: SubDir = sub_dir.as_ref().unwrap().parse().unwrap();
                let wanted = (sub_dir.number(), rank(name));
                prop_assert!(gone.iter().all(|it| *it < wanted));
                prop_assert!(next.is_none_or(|(number, rank, _)| (*number, *rank) >= wanted));
            }
        }
    }
}

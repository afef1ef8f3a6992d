//! What holds for whatever is done.

use proptest::{collection::vec, prelude::*};

use super::*;

/// What may be done to files of few names.
#[derive(Clone, Debug)]
enum Op {
    Append(usize, usize),
    WriteAt(usize, u64, usize),
    SetLen(usize, u64),
    Rename(usize, usize),
    Remove(usize),
    SyncFile(usize),
    SyncDir,
    Kill,
}

const NAMES: [&str; 3] = ["/a", "/b", "/c"];

fn op() -> impl Strategy<Value = Op> {
    let name = 0..NAMES.len();
    let long = prop_oneof![0..40_usize, 0..6000_usize];
    // Often around the borders of a sector, and of a page.
    let place = prop_oneof![0..600_u64, 4000..4700_u64, 0..9000_u64];
    prop_oneof![
        4 => (name.clone(), long.clone()).prop_map(|(name, len)| Op::Append(name, len)),
        2 => (name.clone(), place.clone(), long)
            .prop_map(|(name, at, len)| Op::WriteAt(name, at, len)),
        2 => (name.clone(), place).prop_map(|(name, len)| Op::SetLen(name, len)),
        1 => (name.clone(), name.clone()).prop_map(|(from, to)| Op::Rename(from, to)),
        1 => name.clone().prop_map(Op::Remove),
        2 => name.prop_map(Op::SyncFile),
        1 => Just(Op::SyncDir),
        1 => Just(Op::Kill),
    ]
}

/// Does one thing, with bytes that tell which one it was. Nothing is told of what fails.
fn play(disk: &mut Disk, op: &Op, byte: u8) {
    let open = |disk: &mut Disk, name: usize| disk.open(ME, NAMES[name], Mode::Create).result;
    match *op {
        Op::Append(name, len) => {
            if let Ok(handle) = open(disk, name) {
                let _ = disk.append(handle, &vec![byte; len]);
            }
        }
        Op::WriteAt(name, at, len) => {
            if let Ok(handle) = open(disk, name) {
                let _ = disk.write_at(handle, at, &vec![byte; len]);
            }
        }
        Op::SetLen(name, len) => {
            if let Ok(handle) = open(disk, name) {
                let _ = disk.set_len(handle, len);
            }
        }
        Op::Rename(from, to) => drop(disk.rename(NAMES[from], NAMES[to]).result),
        Op::Remove(name) => drop(disk.remove(NAMES[name]).result),
        Op::SyncFile(name) => {
            if let Ok(handle) = open(disk, name) {
                let _ = disk.sync_file(handle);
            }
        }
        Op::SyncDir => drop(disk.sync_dir("/").result),
        Op::Kill => disk.kill(ME),
    }
}

/// What everybody sees, as anybody would say it.
#[derive(Default)]
struct Plain(BTreeMap<&'static str, Vec<u8>>);

impl Plain {
    fn file(&mut self, name: usize) -> &mut Vec<u8> {
        self.0.entry(NAMES[name]).or_default()
    }

    fn play(&mut self, op: &Op, byte: u8) {
        match *op {
            Op::Append(name, len) => {
                let file = self.file(name);
                file.resize(file.len() + len, byte);
            }
            Op::WriteAt(name, at, len) => {
                let (file, at) = (self.file(name), at as usize);
                if len > 0 && file.len() < at + len {
                    file.resize(at + len, 0);
                }
                for place in file.iter_mut().skip(at).take(len) {
                    *place = byte;
                }
            }
            Op::SetLen(name, len) => self.file(name).resize(len as usize, 0),
            Op::Rename(from, to) => {
                if let Some(moved) = self.0.remove(NAMES[from]) {
                    self.0.insert(NAMES[to], moved);
                }
            }
            Op::Remove(name) => drop(self.0.remove(NAMES[name])),
            Op::SyncFile(name) => drop(self.0.entry(NAMES[name]).or_default()),
            Op::SyncDir | Op::Kill => {}
        }
    }
}

/// What is changed so that every byte can be told from those before.
const fn byte(index: usize) -> u8 {
    1 + (index % 250) as u8
}

/// A file's contents since it was synced last, that one first.
type Versions = Vec<Vec<u8>>;

/// What cannot be left so when the power was cut after the last version.
fn wrong(found: &[u8], versions: &Versions) -> Option<String> {
    if !versions.iter().any(|version| version.len() == found.len()) {
        return Some(format!("size {}", found.len()));
    }
    // Blocks that the synced file did not have may have anything.
    let old = versions[0].len().next_multiple_of(4096);
    for (index, sector) in found.chunks(512).enumerate() {
        let at = index * 512;
        let same = |version: &Vec<u8>| {
            let version = version.get(at..).unwrap_or(&[]);
            (0..sector.len()).all(|i| version.get(i).copied().unwrap_or(0) == sector[i])
        };
        if at < old && !versions.iter().any(same) {
            return Some(format!("sector {index} of {}", found.len()));
        }
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn everybody_sees_what_was_done(ops in vec(op(), 0..40)) {
        let mut disk = disk();
        let mut plain = Plain::default();
        for (index, op) in ops.iter().enumerate() {
            play(&mut disk, op, byte(index));
            plain.play(op, byte(index));
            for name in NAMES {
                prop_assert_eq!(content(&mut disk, name), plain.0.get(name).cloned());
            }
        }
    }

    #[test]
    fn a_synced_file_is_as_it_was_or_as_it_became(
        ops in vec(op(), 0..40),
        cut in 0..40_usize,
        seed: u64,
    ) {
        // One file that keeps its name. What is done to the others must not matter.
        let mut disk = disk();
        let mut dice = Dice::new(seed);
        durable(&mut disk, "/a", b"");
        let mut versions = vec![Vec::new()];
        for (index, op) in ops.iter().enumerate() {
            if matches!(op, Op::Rename(from, to) if *from == 0 || *to == 0)
                || matches!(op, Op::Remove(0))
            {
                continue;
            }
            play(&mut disk, op, byte(index));
            versions.push(content(&mut disk, "/a").expect("it keeps its name"));
            if matches!(op, Op::SyncFile(0)) {
                versions.drain(..versions.len() - 1);
            }
            if index == cut || index + 1 == ops.len() {
                disk.crash(&mut dice);
                let found = content(&mut disk, "/a").expect("its name was synced");
                prop_assert_eq!(wrong(&found, &versions), None);
                // What was left is durable: it stays so when the power is cut again.
                disk.crash(&mut dice);
                prop_assert_eq!(content(&mut disk, "/a"), Some(found.clone()));
                versions = vec![found];
            }
        }
    }

    #[test]
    fn what_was_appended_and_synced_is_there(
        appends in vec((1..3000_usize, 0..16_u8), 1..40),
        kill in 0..40_usize,
        seed: u64,
    ) {
        let mut disk = disk();
        let mut handle = durable(&mut disk, "/f", b"");
        let mut all = Vec::new();
        let (mut synced, mut failed) = (0, false);
        for (index, (len, sync)) in appends.into_iter().enumerate() {
            let data = vec![byte(index); len];
            prop_assert_eq!(ok(disk.append(handle, &data)), len);
            all.extend(data);
            match sync {
                1..5 => {
                    ok(disk.sync_data(handle));
                    // What a sync says after one that failed is worth nothing.
                    synced = if failed { synced } else { all.len() };
                }
                0 => {
                    disk.set_faults(faulty(|faults| faults.sync.nth = Some(1)));
                    prop_assert_eq!(disk.sync_data(handle).result, Err(Errno::Io));
                    failed = true;
                }
                _ => {}
            }
            if index == kill {
                disk.kill(ME);
                handle = ok(disk.open(ME, "/f", Mode::Write));
            }
            let mut after = crashed(&disk, seed.wrapping_add(index as u64));
            let found = content(&mut after, "/f").expect("it is there");
            prop_assert!(found.len() >= synced);
            prop_assert_eq!(&found[..synced], &all[..synced]);
        }
    }

    #[test]
    fn the_same_dice_do_the_same(ops in vec(op(), 0..40), seed: u64) {
        let run = || {
            let mut disk = Disk::new(&Dice::new(seed));
            let often = Failing { permille: 100, nth: Some(5) };
            disk.set_faults(Faults {
                capacity: 64 << 10,
                read_only: false,
                short: 100,
                read: often.clone(),
                write: often.clone(),
                sync: often,
                slow: 100,
            });
            for (index, op) in ops.iter().enumerate() {
                play(&mut disk, op, byte(index));
            }
            // With the state of its dice, and so with all that was drawn.
            let before = format!("{disk:?}");
            disk.crash(&mut Dice::new(seed));
            (before, format!("{disk:?}"))
        };
        prop_assert_eq!(run(), run());
    }
}

/// What is left out of replacing a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Without {
    Nothing,
    SyncFile,
    Rename,
    SyncDir,
}

/// The steps of replacing a file, up to so many of them; whether these were all.
fn replace(disk: &mut Disk, without: Without, new: &[u8], steps: usize) -> bool {
    let path = if without == Without::Rename {
        "/f"
    } else {
        "/t"
    };
    let open = |disk: &mut Disk| ok(disk.open(ME, path, Mode::Create));
    let all: [&dyn Fn(&mut Disk); 7] = [
        &|disk| {
            open(disk);
        },
        &|disk| {
            let handle = open(disk);
            ok(disk.set_len(handle, 0));
        },
        &|disk| {
            let handle = open(disk);
            ok(disk.append(handle, &new[..new.len() / 2]));
        },
        &|disk| {
            let handle = open(disk);
            ok(disk.append(handle, &new[new.len() / 2..]));
        },
        &|disk| {
            let handle = open(disk);
            if without != Without::SyncFile {
                ok(disk.sync_file(handle));
            }
        },
        &|disk| {
            if without != Without::Rename {
                ok(disk.rename("/t", "/f"));
            }
        },
        &|disk| {
            if without != Without::SyncDir {
                ok(disk.sync_dir("/"));
            }
        },
    ];
    for step in all.iter().take(steps) {
        step(disk);
    }
    steps >= all.len()
}

/// How often a replacement is broken: neither old nor new, or old although it was done.
fn broken(without: Without) -> (u64, u64) {
    let (old, new) = (vec![1; 3000], vec![2; 5000]);
    let (mut torn, mut undone) = (0, 0);
    for seed in 0..SEEDS {
        let mut disk = disk();
        durable(&mut disk, "/f", &old);
        let done = replace(&mut disk, without, &new, (seed % 8) as usize);
        disk.crash(&mut Dice::new(seed));
        let found = content(&mut disk, "/f").expect("there is always one");
        torn += u64::from(found != old && found != new);
        undone += u64::from(done && found == old);
    }
    (torn, undone)
}

#[test]
fn a_file_is_replaced_or_not() {
    assert_eq!(broken(Without::Nothing), (0, 0));
}

#[test]
fn without_sync_a_new_file_may_be_torn() {
    let (torn, undone) = broken(Without::SyncFile);
    assert!(torn > 5, "{torn}");
    assert_eq!(undone, 0);
}

#[test]
fn without_rename_a_file_may_be_torn() {
    let (torn, undone) = broken(Without::Rename);
    assert!(torn > 5, "{torn}");
    assert_eq!(undone, 0);
}

#[test]
fn without_sync_of_the_directory_an_old_file_may_come_back() {
    let (torn, undone) = broken(Without::SyncDir);
    assert_eq!(torn, 0);
    assert!(undone > 5, "{undone}");
}

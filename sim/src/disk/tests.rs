use std::time::Duration;

use super::*;

mod crashes;
mod rules;

/// So many power cuts are enough to see whatever may happen.
const SEEDS: u64 = 300;
const ME: Process = Process(1);

fn disk() -> Disk {
    Disk::new(&Dice::new(1))
}

fn ok<T>(timed: Timed<T>) -> T {
    timed.result.expect("it works")
}

fn faulty(change: impl FnOnce(&mut Faults)) -> Faults {
    let mut faults = Faults::default();
    change(&mut faults);
    faults
}

/// A file with content of which nothing is durable yet.
fn file(disk: &mut Disk, path: &str, content: &[u8]) -> Handle {
    let handle = ok(disk.open(ME, path, Mode::Create));
    assert_eq!(ok(disk.append(handle, content)), content.len());
    handle
}

/// A file that survives.
fn durable(disk: &mut Disk, path: &str, content: &[u8]) -> Handle {
    let handle = file(disk, path, content);
    ok(disk.sync_file(handle));
    ok(disk.sync_dir("/"));
    handle
}

fn content(disk: &mut Disk, path: &str) -> Option<Vec<u8>> {
    let handle = disk.open(ME, path, Mode::Read).result.ok()?;
    let content = ok(disk.read_at(handle, 0, usize::MAX));
    disk.close(handle);
    Some(content)
}

/// The same disk after a power cut.
fn crashed(disk: &Disk, seed: u64) -> Disk {
    let mut disk = disk.clone();
    disk.crash(&mut Dice::new(seed));
    disk
}

/// What a file has after each of many power cuts.
fn survivors(disk: &Disk, path: &str) -> Vec<Option<Vec<u8>>> {
    let seeds = 0..SEEDS;
    let all = seeds.map(|seed| content(&mut crashed(disk, seed), path));
    all.collect()
}

#[test]
fn what_is_refused_has_the_systems_words() {
    let mut disk = disk();
    ok(disk.create_dir("/d"));
    file(&mut disk, "/d/f", b"x");
    let long = format!("/{}", "n".repeat(256));
    let mut open = |path: &str, mode| disk.open(ME, path, mode).result;
    assert_eq!(open("/none", Mode::Read), Err(Errno::NotFound));
    assert_eq!(open("/none", Mode::Write), Err(Errno::NotFound));
    assert_eq!(open("/none/f", Mode::Create), Err(Errno::NotFound));
    assert_eq!(open("/d/f", Mode::CreateNew), Err(Errno::AlreadyExists));
    assert_eq!(open("/d/f/g", Mode::Create), Err(Errno::NotADirectory));
    assert_eq!(open("/d", Mode::Write), Err(Errno::IsADirectory));
    assert_eq!(open("/d/..", Mode::Read), Err(Errno::Invalid));
    assert_eq!(open(&long, Mode::Create), Err(Errno::NameTooLong));
    assert_eq!(disk.create_dir("/d").result, Err(Errno::AlreadyExists));
    assert_eq!(disk.create_dir("/").result, Err(Errno::AlreadyExists));
    assert_eq!(disk.remove("/d").result, Err(Errno::IsADirectory));
    assert_eq!(disk.remove_dir("/d").result, Err(Errno::NotEmpty));
    assert_eq!(disk.remove_dir("/d/f").result, Err(Errno::NotADirectory));
    assert_eq!(disk.remove_dir("/").result, Err(Errno::Busy));
    assert_eq!(disk.rename("/d/f", "/f").result, Err(Errno::CrossDevice));
    assert_eq!(disk.rename("/d/g", "/d/f").result, Err(Errno::NotFound));
    assert_eq!(disk.list("/d/f").result, Err(Errno::NotADirectory));
    assert_eq!(disk.sync_dir("/d/f").result, Err(Errno::NotADirectory));
    let dir = ok(disk.open(ME, "/d", Mode::Read));
    assert_eq!(disk.read_at(dir, 0, 1).result, Err(Errno::IsADirectory));
    let reader = ok(disk.open(ME, "/d/f", Mode::Read));
    assert_eq!(disk.append(reader, b"y").result, Err(Errno::BadHandle));
    assert_eq!(disk.set_len(reader, 0).result, Err(Errno::BadHandle));
    disk.close(reader);
    assert_eq!(disk.len(reader).result, Err(Errno::BadHandle));
}

#[cfg(target_os = "linux")]
#[test]
fn numbers_and_texts_are_linux_s() {
    for code in 1..40 {
        let real = std::io::Error::from_raw_os_error(code).to_string();
        let ours = ALL.iter().find(|errno| errno.code() == code);
        if let Some(errno) = ours {
            assert_eq!(format!("{errno} (os error {code})"), real);
        }
    }
}

#[cfg(target_os = "linux")]
const ALL: [Errno; 14] = [
    Errno::NotFound,
    Errno::Io,
    Errno::BadHandle,
    Errno::Locked,
    Errno::Busy,
    Errno::AlreadyExists,
    Errno::CrossDevice,
    Errno::NotADirectory,
    Errno::IsADirectory,
    Errno::Invalid,
    Errno::NoSpace,
    Errno::ReadOnly,
    Errno::NameTooLong,
    Errno::NotEmpty,
];

#[test]
fn directories_replace_only_empty_ones() {
    let mut disk = disk();
    for dir in ["/a", "/b", "/c"] {
        ok(disk.create_dir(dir));
    }
    file(&mut disk, "/a/f", b"a");
    file(&mut disk, "/f", b"f");
    assert_eq!(disk.rename("/b", "/a").result, Err(Errno::NotEmpty));
    assert_eq!(disk.rename("/b", "/f").result, Err(Errno::NotADirectory));
    assert_eq!(disk.rename("/f", "/b").result, Err(Errno::IsADirectory));
    ok(disk.rename("/a", "/b"));
    ok(disk.rename("/b", "/b"));
    let entries = ["b", "c", "f"].map(String::from);
    let kinds = [Kind::Dir, Kind::Dir, Kind::File(1)];
    let listed: Vec<_> = entries.into_iter().zip(kinds).collect();
    assert_eq!(ok(disk.list("/")), listed);
    assert_eq!(ok(disk.stat("/b/f")), Kind::File(1));
}

#[test]
fn a_handle_outlives_the_name() {
    let mut disk = disk();
    let old = file(&mut disk, "/f", b"old");
    let new = file(&mut disk, "/g", b"new");
    ok(disk.rename("/g", "/f"));
    ok(disk.append(old, b"er"));
    ok(disk.append(new, b"er"));
    assert_eq!(ok(disk.read_at(old, 0, 9)), b"older");
    assert_eq!(content(&mut disk, "/f").expect("it is there"), b"newer");
    ok(disk.remove("/f"));
    assert_eq!(ok(disk.read_at(new, 3, 9)), b"er");
    assert_eq!(ok(disk.len(new)), 5);
    assert_eq!(content(&mut disk, "/f"), None);
}

#[test]
fn files_have_zeros_where_nothing_was_written() {
    let mut disk = disk();
    let handle = file(&mut disk, "/f", b"abc");
    ok(disk.set_len(handle, 1));
    ok(disk.set_len(handle, 3));
    ok(disk.write_at(handle, 5, b"x"));
    assert_eq!(ok(disk.read_at(handle, 0, 9)), b"a\0\0\0\0x");
    assert_eq!(ok(disk.read_at(handle, 6, 9)), b"");
    assert_eq!(ok(disk.read_at(handle, u64::MAX, 9)), b"");
}

#[test]
fn files_know_when_they_were_changed() {
    let mut disk = disk();
    let at = Duration::from_secs;
    disk.set_now(at(5));
    ok(disk.create_dir("/d"));
    let f = durable(&mut disk, "/f", b"abc");
    disk.set_now(at(6));
    let g = file(&mut disk, "/g", b"");
    disk.set_now(at(7));
    // To read, to sync and to give a name is no change.
    ok(disk.read_at(f, 0, 9));
    ok(disk.sync_file(f));
    ok(disk.rename("/f", "/h"));
    assert_eq!(ok(disk.stat_file("/h")), (3, at(5)));
    assert_eq!(ok(disk.stat_file("/g")), (0, at(6)));
    ok(disk.append(g, b"x"));
    ok(disk.set_len(f, 1));
    assert_eq!(ok(disk.stat_file("/g")), (1, at(7)));
    assert_eq!(ok(disk.stat_file("/h")), (1, at(7)));
    assert_eq!(disk.stat_file("/d").result, Err(Errno::IsADirectory));
    assert_eq!(disk.capacity(), Faults::default().capacity);
}

#[test]
fn a_lock_goes_with_its_handle() {
    let mut disk = disk();
    ok(disk.create_dir("/d"));
    let mine = ok(disk.open(ME, "/d", Mode::Read));
    let theirs = ok(disk.open(Process(2), "/d", Mode::Read));
    ok(disk.lock(mine));
    ok(disk.lock(mine));
    assert_eq!(disk.lock(theirs).result, Err(Errno::Locked));
    let again = ok(disk.open(ME, "/d", Mode::Read));
    assert_eq!(disk.lock(again).result, Err(Errno::Locked));
    disk.kill(ME);
    ok(disk.lock(theirs));
    assert_eq!(disk.lock(mine).result, Err(Errno::BadHandle));
    disk.close(theirs);
    let later = ok(disk.open(Process(3), "/d", Mode::Read));
    ok(disk.lock(later));
    disk.crash(&mut Dice::new(1));
    assert_eq!(disk.lock(later).result, Err(Errno::BadHandle));
}

#[test]
fn a_full_disk_takes_whole_blocks() {
    let mut disk = disk();
    disk.set_faults(faulty(|faults| faults.capacity = 3 * 4096));
    let handle = ok(disk.open(ME, "/f", Mode::Create));
    ok(disk.create_dir("/d"));
    assert_eq!(disk.free(), 2 * 4096);
    assert_eq!(ok(disk.append(handle, &[1; 5000])), 5000);
    assert_eq!(disk.free(), 0);
    assert_eq!(ok(disk.append(handle, &[1; 5000])), 3192);
    assert_eq!(disk.append(handle, &[1]).result, Err(Errno::NoSpace));
    let hole = disk.write_at(handle, u64::MAX, &[1]).result;
    assert_eq!(hole, Err(Errno::NoSpace));
    assert_eq!(disk.set_len(handle, 9000).result, Err(Errno::NoSpace));
    assert_eq!(disk.create_dir("/e").result, Err(Errno::NoSpace));
    ok(disk.write_at(handle, 0, &[2; 8192]));
    // It takes its space as long as somebody has it open.
    ok(disk.remove("/f"));
    assert_eq!(disk.free(), 0);
    disk.close(handle);
    assert_eq!(disk.free(), 2 * 4096);
}

#[test]
fn reads_and_writes_may_be_short() {
    let mut disk = disk();
    disk.set_faults(faulty(|faults| faults.short = 1000));
    let handle = ok(disk.open(ME, "/f", Mode::Create));
    let taken = ok(disk.append(handle, &[1; 100]));
    assert!((1..100).contains(&taken), "{taken}");
    assert_eq!(ok(disk.len(handle)), taken as u64);
    let read = ok(disk.read_at(handle, 0, 100)).len();
    assert!((1..taken).contains(&read), "{read}");
    assert_eq!(ok(disk.append(handle, &[1])), 1);
}

#[test]
fn the_nth_operation_fails() {
    let nth = |nth| Failing {
        permille: 0,
        nth: Some(nth),
    };
    let mut disk = disk();
    let handle = file(&mut disk, "/f", b"x");
    disk.set_faults(faulty(|faults| {
        faults.read = nth(2);
        faults.write = nth(1);
        faults.sync = nth(3);
    }));
    assert_eq!(disk.append(handle, b"y").result, Err(Errno::Io));
    ok(disk.append(handle, b"y"));
    ok(disk.stat("/f"));
    assert_eq!(disk.read_at(handle, 0, 9).result, Err(Errno::Io));
    assert_eq!(ok(disk.read_at(handle, 0, 9)), b"xy");
    ok(disk.sync_file(handle));
    ok(disk.sync_data(handle));
    assert_eq!(disk.sync_dir("/").result, Err(Errno::Io));
    ok(disk.sync_dir("/"));
}

/// Whatever a failed sync has lost shows once memory forgets it, and what is dirty stays.
#[test]
fn what_a_failed_sync_lost_shows() {
    let (mut lost, mut hidden) = (0, 0);
    for seed in 0..100 {
        let mut disk = Disk::new(&Dice::new(seed));
        let handle = file(&mut disk, "/f", b"x");
        ok(disk.sync_dir("/"));
        ok(disk.append(handle, &[7; 5000]));
        disk.set_faults(faulty(|faults| faults.sync.permille = 1000));
        assert_eq!(disk.sync_data(handle).result, Err(Errno::Io));
        disk.set_faults(Faults::default());
        // It tells only once.
        ok(disk.sync_data(handle));
        let seen = content(&mut disk, "/f");
        ok(disk.forget(handle));
        let mut kept = disk.durable("/f").unwrap_or_default().to_vec();
        kept.resize(5001, 0);
        let now = content(&mut disk, "/f").expect("it is there");
        assert_eq!(now, kept);
        lost += usize::from(now[1..] != [7; 5000]);
        hidden += usize::from(seen.as_ref() != Some(&now));
        ok(disk.append(handle, b"y"));
        ok(disk.forget(handle));
        assert_eq!(
            content(&mut disk, "/f").expect("it is there")[5001..],
            *b"y"
        );
    }
    assert!(lost > 20 && hidden > 20, "{lost} {hidden}");
}

#[test]
fn some_operations_fail() {
    let always = Failing {
        permille: 1000,
        nth: None,
    };
    let mut disk = disk();
    let handle = file(&mut disk, "/f", b"x");
    disk.set_faults(faulty(|faults| faults.write = always));
    assert_eq!(disk.append(handle, b"y").result, Err(Errno::Io));
    assert_eq!(disk.remove("/f").result, Err(Errno::Io));
    assert_eq!(ok(disk.read_at(handle, 0, 9)), b"x");
    disk.set_faults(faulty(|faults| faults.write.permille = 300));
    let results = (0..100).map(|_| disk.append(handle, b"y").result.is_err());
    let failed = results.filter(|failed| *failed).count();
    assert!((10..60).contains(&failed), "{failed}");
}

#[test]
fn nothing_is_written_to_a_read_only_disk() {
    let mut disk = disk();
    let handle = file(&mut disk, "/f", b"x");
    disk.set_faults(faulty(|faults| faults.read_only = true));
    let refused = [
        disk.append(handle, b"y").result.map(drop),
        disk.set_len(handle, 0).result,
        disk.sync_file(handle).result,
        disk.open(ME, "/f", Mode::Create).result.map(drop),
        disk.create_dir("/d").result,
        disk.rename("/f", "/g").result,
        disk.remove("/f").result,
        disk.sync_dir("/").result,
    ];
    assert_eq!(refused, [Err(Errno::ReadOnly); 8]);
    assert_eq!(content(&mut disk, "/f").expect("it is there"), b"x");
    // A sync that was refused has lost nothing.
    disk.set_faults(Faults::default());
    ok(disk.sync_file(handle));
    ok(disk.sync_dir("/"));
    assert!(survivors(&disk, "/f").iter().all(Option::is_some));
}

#[test]
fn syncs_cost_more_and_slow_ones_most() {
    let mut disk = disk();
    let handle = file(&mut disk, "/f", b"x");
    let cached = disk.append(handle, b"y").cost;
    assert!(cached > Duration::ZERO && cached < Duration::from_micros(50));
    let sync = disk.sync_file(handle).cost;
    assert!(sync >= Duration::from_micros(500) && sync < Duration::from_millis(15));
    disk.set_faults(faulty(|faults| faults.slow = 1000));
    assert!(disk.sync_data(handle).cost >= Duration::from_millis(100));
    assert!(disk.append(handle, b"y").cost < Duration::from_micros(50));
}

#[test]
fn faults_do_not_change_costs() {
    let costs = |faults| {
        let mut disk = disk();
        disk.set_faults(faults);
        let all = (0..50).map(|_| disk.create_dir("/d").cost);
        all.collect::<Vec<_>>()
    };
    let failing = faulty(|faults| faults.write.permille = 500);
    assert_eq!(costs(Faults::default()), costs(failing));
}

#[test]
fn memory_is_bounded() {
    let mut disk = disk();
    disk.set_faults(faulty(|faults| faults.capacity = 64 << 10));
    let memory = |disk: &Disk| {
        let all = disk.tree.nodes.values().map(|node| match node {
            Node::File(file) => file.memory(),
            Node::Dir(_) => 0,
        });
        all.sum::<usize>()
    };
    // Files that are removed could all come back, as their directory is not synced.
    for _ in 0..1000 {
        let handle = file(&mut disk, "/f", &[7; 10_000]);
        disk.close(handle);
        ok(disk.remove("/f"));
        assert!(memory(&disk) <= tree::REMOVED, "{}", memory(&disk));
    }
    ok(disk.sync_dir("/"));
    let handle = file(&mut disk, "/f", b"");
    for _ in 0..10_000 {
        ok(disk.write_at(handle, 0, &[7; 1000]));
    }
    assert!(memory(&disk) < 2 << 20, "{}", memory(&disk));
    for _ in 0..10_000 {
        ok(disk.rename("/f", "/g"));
        ok(disk.rename("/g", "/f"));
    }
    assert!(survivors(&disk, "/f").iter().any(Option::is_some));
}

//! One guarantee each, and each that there is not.

use super::*;

fn some(content: &[u8]) -> Option<Vec<u8>> {
    Some(content.into())
}

#[test]
fn a_dead_process_loses_nothing() {
    let mut disk = disk();
    let handle = file(&mut disk, "/f", b"unsynced");
    disk.kill(ME);
    assert_eq!(content(&mut disk, "/f"), some(b"unsynced"));
    assert_eq!(disk.append(handle, b"x").result, Err(Errno::BadHandle));
    // It is in memory still, and not safe from a power cut.
    assert!(survivors(&disk, "/f").contains(&None));
}

#[test]
fn what_is_synced_survives() {
    for data_only in [false, true] {
        let mut disk = disk();
        let handle = file(&mut disk, "/f", &[1; 5000]);
        ok(if data_only {
            disk.sync_data(handle)
        } else {
            disk.sync_file(handle)
        });
        ok(disk.sync_dir("/"));
        for found in survivors(&disk, "/f") {
            assert_eq!(found, some(&[1; 5000]));
        }
    }
}

#[test]
fn an_open_directory_can_be_synced() {
    let mut disk = disk();
    let handle = file(&mut disk, "/f", b"x");
    ok(disk.sync_file(handle));
    let root = ok(disk.open(ME, "/", Mode::Read));
    ok(disk.sync_file(root));
    assert_eq!(survivors(&disk, "/f"), vec![some(b"x"); SEEDS as usize]);
}

#[test]
fn a_synced_file_may_be_without_its_name() {
    let mut disk = disk();
    let handle = file(&mut disk, "/f", b"x");
    ok(disk.sync_file(handle));
    let found = survivors(&disk, "/f");
    assert!(found.contains(&None));
    assert!(found.contains(&some(b"x")));
}

#[test]
fn a_synced_name_may_be_without_its_data() {
    let mut disk = disk();
    file(&mut disk, "/f", b"x");
    ok(disk.sync_dir("/"));
    let found = survivors(&disk, "/f");
    assert!(found.contains(&some(b"")));
    assert!(found.contains(&some(b"\0")), "size before data");
    assert!(found.contains(&some(b"x")));
}

#[test]
fn a_name_needs_all_directories_above() {
    let mut disk = disk();
    ok(disk.create_dir("/d"));
    let handle = file(&mut disk, "/d/f", b"x");
    ok(disk.sync_file(handle));
    ok(disk.sync_dir("/d"));
    assert!(survivors(&disk, "/d/f").contains(&None));
    ok(disk.sync_dir("/"));
    assert!(survivors(&disk, "/d/f").iter().all(Option::is_some));
}

#[test]
fn appended_data_is_torn_at_sectors() {
    let mut disk = disk();
    let handle = durable(&mut disk, "/f", &[1; 300]);
    ok(disk.append(handle, &[2; 20_000]));
    let (mut torn, mut stale, mut zero, mut cut) = (0, 0, 0, 0);
    for found in survivors(&disk, "/f") {
        let found = found.expect("it was synced");
        assert!(found.len() == 300 || found.len() == 20_300);
        assert_eq!(found[..300], [1; 300]);
        let new = |sector: &[u8]| sector.iter().all(|byte| *byte == 2);
        let sectors: Vec<&[u8]> = found[300..].chunks(512).collect();
        let all = found[300..].iter().all(|byte| *byte == 2);
        zero += u64::from(found[300..].contains(&0));
        stale += u64::from(found[300..].iter().any(|byte| *byte > 2));
        torn += u64::from(!all && sectors.into_iter().any(new));
        cut += u64::from(found.len() == 300);
    }
    assert!(torn > 5 && stale > 5 && zero > 5 && cut > 5);
}

#[test]
fn a_page_is_torn_within() {
    let mut disk = disk();
    let handle = durable(&mut disk, "/f", &[1; 4096]);
    ok(disk.write_at(handle, 0, &[2; 4096]));
    let mut torn = 0;
    for found in survivors(&disk, "/f") {
        let found = found.expect("it was synced");
        for sector in found.chunks(512) {
            assert!(
                sector == [1; 512] || sector == [2; 512],
                "sectors are whole"
            );
        }
        torn += u64::from(found.contains(&1) && found.contains(&2));
    }
    assert!(torn > 5, "{torn}");
}

#[test]
fn a_later_write_may_survive_an_earlier_one() {
    let mut disk = disk();
    let first = durable(&mut disk, "/a", &[0; 8192]);
    let other = durable(&mut disk, "/b", b"");
    ok(disk.write_at(first, 0, b"1"));
    ok(disk.write_at(first, 4096, b"2"));
    ok(disk.append(other, b"3"));
    let seen = (0..SEEDS).map(|seed| {
        let mut disk = crashed(&disk, seed);
        let first = content(&mut disk, "/a").expect("it is there");
        let other = content(&mut disk, "/b").expect("it is there");
        (first[0] > 0, first[4096] > 0, other == b"3")
    });
    let seen: Vec<_> = seen.collect();
    assert!(seen.contains(&(false, true, false)));
    assert!(seen.contains(&(false, false, true)));
    assert!(seen.contains(&(true, false, false)));
}

#[test]
fn a_cut_file_has_its_old_size_or_the_new_one() {
    let mut disk = disk();
    let handle = durable(&mut disk, "/f", &[1; 10_000]);
    ok(disk.set_len(handle, 5000));
    let mut sizes = [0, 0];
    for found in survivors(&disk, "/f") {
        let found = found.expect("it is there");
        sizes[usize::from(found.len() == 10_000)] += 1;
        assert_eq!(found[..5000], [1; 5000]);
        // The rest of the last page may be zero already.
        let rest = found.iter().skip(8192);
        assert!(rest.copied().all(|byte| byte == 1));
    }
    assert!(sizes[0] > 5 && sizes[1] > 5, "{sizes:?}");
    ok(disk.sync_data(handle));
    let found = survivors(&disk, "/f");
    assert_eq!(found, vec![some(&[1; 5000]); SEEDS as usize]);
}

#[test]
fn names_survive_in_their_order() {
    let mut disk = disk();
    for dir in ["/a", "/b"] {
        ok(disk.create_dir(dir));
    }
    ok(disk.sync_dir("/"));
    for number in 0..4 {
        for dir in ["a", "b"] {
            file(&mut disk, &format!("/{dir}/{number}"), b"");
        }
    }
    let mut counts = std::collections::BTreeSet::new();
    for seed in 0..SEEDS {
        let mut disk = crashed(&disk, seed);
        let [a, b] = ["/a", "/b"].map(|dir| {
            let names = ok(disk.list(dir)).into_iter().map(|(name, _)| name);
            let names: Vec<_> = names.collect();
            let count = names.len();
            let first: Vec<_> = (0..count).map(|number| number.to_string()).collect();
            assert_eq!(names, first);
            count
        });
        counts.insert((a, b));
    }
    // All of one directory may be there, and nothing of the other.
    assert!(counts.contains(&(0, 4)) && counts.contains(&(4, 0)));
    assert!(counts.contains(&(2, 3)));
}

#[test]
fn what_is_removed_may_come_back() {
    let mut disk = disk();
    durable(&mut disk, "/f", b"x");
    disk.kill(ME);
    ok(disk.remove("/f"));
    assert_eq!(content(&mut disk, "/f"), None);
    let found = survivors(&disk, "/f");
    assert!(found.contains(&None) && found.contains(&some(b"x")));
    ok(disk.sync_dir("/"));
    assert_eq!(survivors(&disk, "/f"), vec![None; SEEDS as usize]);
    assert_eq!(disk.tree.nodes.len(), 1, "it is forgotten");
}

#[test]
fn a_removed_directory_may_come_back_with_its_files() {
    let mut disk = disk();
    ok(disk.create_dir("/d"));
    let handle = file(&mut disk, "/d/f", b"x");
    ok(disk.sync_file(handle));
    ok(disk.sync_dir("/d"));
    ok(disk.sync_dir("/"));
    disk.close(handle);
    ok(disk.remove("/d/f"));
    ok(disk.remove_dir("/d"));
    let found = survivors(&disk, "/d/f");
    assert!(found.contains(&None) && found.contains(&some(b"x")));
    ok(disk.sync_dir("/"));
    assert_eq!(survivors(&disk, "/d/f"), vec![None; SEEDS as usize]);
}

#[test]
fn a_rename_is_atomic_and_brings_no_data() {
    let mut disk = disk();
    durable(&mut disk, "/f", b"old");
    file(&mut disk, "/t", b"new");
    ok(disk.rename("/t", "/f"));
    let found = survivors(&disk, "/f");
    assert!(!found.contains(&None), "there is always one of the two");
    assert!(found.contains(&some(b"old")) && found.contains(&some(b"new")));
    assert!(found.contains(&some(b"")) && found.contains(&some(b"\0\0\0")));
}

#[test]
fn a_renamed_file_has_one_of_its_names() {
    let mut disk = disk();
    durable(&mut disk, "/old", b"x");
    ok(disk.rename("/old", "/new"));
    let mut renamed = 0;
    for seed in 0..SEEDS {
        let mut disk = crashed(&disk, seed);
        let found = ["/old", "/new"].map(|path| content(&mut disk, path));
        assert!(found.contains(&None) && found.contains(&some(b"x")));
        renamed += u64::from(found[1].is_some());
    }
    assert!(renamed > 5 && renamed < SEEDS - 5, "{renamed}");
}

#[test]
fn after_a_failed_sync_the_next_one_lies() {
    let (mut lost, mut dropped) = (0, 0);
    for seed in 0..SEEDS {
        let mut disk = Disk::new(&Dice::new(seed));
        let handle = durable(&mut disk, "/f", b"old");
        ok(disk.write_at(handle, 0, b"new"));
        disk.set_faults(faulty(|faults| faults.sync.nth = Some(1)));
        assert_eq!(disk.sync_data(handle).result, Err(Errno::Io));
        ok(disk.sync_data(handle));
        let seen = content(&mut disk, "/f").expect("it is there");
        dropped += u64::from(seen == b"old");
        let mut after = crashed(&disk, seed);
        let after = content(&mut after, "/f").expect("it is there");
        lost += u64::from(seen == b"new" && after == b"old");
        assert!(seen == b"new" || after == b"old");
    }
    assert!(lost > 20 && dropped > 20, "{lost} {dropped}");
}

#[test]
fn a_page_that_is_written_again_survives_whole() {
    for seed in 0..SEEDS {
        let mut disk = Disk::new(&Dice::new(seed));
        let handle = durable(&mut disk, "/f", b"");
        ok(disk.append(handle, &[1; 9000]));
        disk.set_faults(faulty(|faults| faults.sync.nth = Some(1)));
        assert_eq!(disk.sync_file(handle).result, Err(Errno::Io));
        ok(disk.write_at(handle, 4097, b"x"));
        ok(disk.sync_file(handle));
        let seen = content(&mut disk, "/f").expect("it is there");
        let mut after = crashed(&disk, seed);
        let after = content(&mut after, "/f").expect("it is there");
        assert_eq!(after.len(), seen.len(), "the size is written with it");
        assert_eq!(after[4096..8192], seen[4096..8192]);
    }
}

#[test]
fn a_failed_sync_is_told_to_each_handle_once() {
    let mut disk = disk();
    let first = file(&mut disk, "/f", b"x");
    let second = ok(disk.open(Process(2), "/f", Mode::Read));
    disk.set_faults(faulty(|faults| faults.sync.nth = Some(1)));
    assert_eq!(disk.sync_file(first).result, Err(Errno::Io));
    let third = ok(disk.open(ME, "/f", Mode::Read));
    assert_eq!(disk.sync_file(second).result, Err(Errno::Io));
    for handle in [first, second, third] {
        ok(disk.sync_file(handle));
    }
}

#[test]
fn a_failed_sync_of_a_directory_can_be_repeated() {
    let mut disk = disk();
    let handle = file(&mut disk, "/f", b"x");
    ok(disk.sync_file(handle));
    disk.set_faults(faulty(|faults| faults.sync.nth = Some(1)));
    assert_eq!(disk.sync_dir("/").result, Err(Errno::Io));
    assert!(survivors(&disk, "/f").contains(&None));
    ok(disk.sync_dir("/"));
    assert_eq!(survivors(&disk, "/f"), vec![some(b"x"); SEEDS as usize]);
}

#[test]
fn new_blocks_may_have_what_is_elsewhere() {
    let mut disk = disk();
    durable(&mut disk, "/old", &[9; 8192]);
    let handle = durable(&mut disk, "/new", b"");
    ok(disk.append(handle, &[1; 8192]));
    let found = survivors(&disk, "/new").into_iter().flatten();
    let shown = found.filter(|found| found.chunks(512).any(|sector| sector == [9; 512]));
    let shown = shown.count();
    assert!(shown > 5, "{shown}");
}

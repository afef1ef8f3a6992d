//! Runs every target over its committed corpus, without libFuzzer.

use std::{
    collections::BTreeMap,
    fs,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
};

use dm_fuzz::{TARGETS, seeds};

/// What all corpora together may take in the repository, in bytes.
const CORPORA_MAX: usize = 300_000;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The inputs in a target's corpus by name.
fn inputs(target: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(corpus().join(target)).unwrap();
    let files = entries.map(|entry| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read(entry.path()).unwrap())
    });
    files.collect()
}

/// Every input by itself, and in pieces that end too early.
#[test]
fn every_input_is_survived() {
    for (target, run) in TARGETS {
        let inputs = inputs(target);
        assert!(!inputs.is_empty(), "fuzz/corpus/{target} is empty");
        for (name, input) in inputs {
            for len in [input.len(), input.len() / 2, input.len().saturating_sub(1)] {
                let survived = panic::catch_unwind(AssertUnwindSafe(|| run(&input[..len])));
                assert!(
                    survived.is_ok(),
                    "{target} panicked, see above: fuzz/corpus/{target}/{name}, {len} bytes"
                );
            }
        }
    }
}

#[test]
fn corpora_are_what_is_made_of_the_recorded_files() {
    let seeds = seeds::all();
    for (target, _) in TARGETS {
        let mut inputs = inputs(target);
        inputs.retain(|name, _| !name.starts_with(seeds::REGRESSION));
        let made = seeds
            .iter()
            .filter(|((made_for, _), _)| *made_for == target);
        let made: BTreeMap<_, _> = made
            .map(|((_, name), input)| (name.clone(), input.clone()))
            .collect();
        assert!(
            inputs == made,
            "fuzz/corpus/{target}: call `cargo run --example seeds` in fuzz/"
        );
    }
}

#[test]
fn corpora_are_small() {
    let bytes = TARGETS.iter().flat_map(|(target, _)| inputs(target));
    let bytes: usize = bytes.map(|(_, input)| input.len()).sum();
    assert!(bytes < CORPORA_MAX, "{bytes} bytes");
}

/// A target that is only a function, or only a program, is not fuzzed.
#[test]
fn every_target_is_a_program() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    let mut programs: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    programs.sort();
    let mut targets: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    targets.sort();
    assert_eq!(programs, targets);
}

//! `dm-core` stays a function of its inputs.
//!
//! Three proofs: it is `no_std`, so it has no clock, thread, socket or file of its own; what it
//! links in normal builds is on a list that a person has looked through; and it has no hash order.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

/// Every crate that a normal build of `dm-core` may link. None is an async runtime, reads a clock
/// or makes random numbers; check that before adding one.
const LINKED: &[&str] = &[
    "adler2",
    "aho-corasick",
    "bytes",
    "cfg-if",
    "crc32fast",
    "dm-core",
    "itoa",
    "memchr",
    "miniz_oxide",
    "regex",
    "regex-automata",
    "regex-syntax",
    "serde",
    "serde_core",
    "serde_json",
    "serde_spanned",
    "tinyvec",
    "tinyvec_macros",
    "toml",
    "toml_datetime",
    "toml_parser",
    "toml_writer",
    "twox-hash",
    "unicode-normalization",
    "winnow",
    "zmij",
];

#[test]
fn core_links_nothing_impure() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--offline",
            "-p",
            "dm-core",
            "-e",
            "normal,no-proc-macro",
        ])
        .args(["--prefix", "none", "--format", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tree = String::from_utf8(output.stdout).unwrap();
    let linked: BTreeSet<_> = tree
        .lines()
        .filter_map(|l| l.split_whitespace().next())
        .collect();
    assert!(linked.contains("dm-core"), "{tree}");
    let allowed = LINKED.iter().copied().collect();
    let strangers: Vec<_> = linked.difference(&allowed).collect();
    assert!(
        strangers.is_empty(),
        "dm-core links {strangers:?}, which nobody has looked through"
    );
}

#[test]
fn core_has_no_std() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/src/lib.rs");
    let text = fs::read_to_string(root).unwrap();
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    assert!(
        lines.contains(&"#![no_std]"),
        "core must be no_std, without a condition"
    );
    assert!(lines.contains(&"#![forbid(unsafe_code)]"));
    for (number, _) in lines
        .iter()
        .enumerate()
        .filter(|(_, line)| line.contains("crate std"))
    {
        assert_eq!(
            lines[number - 1],
            "#[cfg(any(test, madsim))]",
            "only tests and simulations, which take guards away from a thread, may use std"
        );
    }
}

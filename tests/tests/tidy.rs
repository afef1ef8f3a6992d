//! What the compiler and clippy cannot see.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Longest line, in characters.
const COLUMNS_MAX: usize = 100;

struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Numbered lines without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self
            .text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line.trim()));
        lines.filter(|(_, line)| !line.starts_with("//"))
    }

    /// Whether it takes the machine's clock from the standard library: tokio's is another one in a
    /// simulation.
    fn imports_clock(&self) -> bool {
        let imports = self.text.split("use std::").skip(1);
        imports
            .filter_map(|rest| rest.split(';').next())
            .any(|names| names.contains("Instant"))
    }
}

/// Whether a word is in a line, and not only the end of another one: `Brand::` is no `rand::`.
fn has(line: &str, word: &str) -> bool {
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(char::is_alphanumeric))
}

#[test]
fn lines_are_short() {
    check(|source, report| {
        for (index, line) in source.text.lines().enumerate() {
            if line.chars().count() > COLUMNS_MAX {
                report(index + 1, "is longer than 100 characters");
            }
        }
    });
}

#[test]
fn core_has_no_hash_order_and_no_clock() {
    check(|source, report| {
        // What measures speed needs a clock; it is not part of what is built.
        let measures =
            source.path.starts_with("core/examples/") || source.path.ends_with("/speed.rs");
        if !source.path.starts_with("core/") || measures {
            return;
        }
        for (number, line) in source.code() {
            for word in [
                "HashMap",
                "HashSet",
                "Instant::now",
                "SystemTime",
                "thread::",
                "rand::",
            ] {
                if line.contains(word) {
                    report(number, &format!("has {word} in the core"));
                }
            }
        }
    });
}

/// In a simulation the seed decides everything: its dice are the only randomness, simulated time
/// the only time. Only what starts runs and measures them is outside.
#[test]
fn simulations_are_decided_by_their_seed() {
    check(|source, report| {
        if !source.path.starts_with("sim/") {
            return;
        }
        // What starts runs and measures them.
        let measures = source.path.starts_with("sim/src/cli");
        // One fresh thread a run is what keeps runs apart.
        let starts_runs = measures || source.path == "sim/src/world.rs";
        for (number, line) in source.code() {
            for (word, allowed) in [
                ("HashMap", false),
                ("HashSet", false),
                ("rand::", false),
                ("SystemTime", false),
                ("std::time::Instant", measures),
                ("thread::", starts_runs),
                // Its receivers wake up in an order that the seed does not decide.
                ("watch::Sender", false),
            ] {
                if has(line, word) && !allowed {
                    report(number, &format!("has {word} in the simulation"));
                }
            }
        }
        if source.imports_clock() && !measures {
            report(1, "imports the clock of the machine into the simulation");
        }
    });
}

/// Most of the runtime is simulated as well: it has tokio's time, and no randomness. What reads the
/// machine's is named here, and is not built for simulations.
#[test]
fn the_runtime_asks_the_machine_in_named_places_only() {
    const STATUS: &str = "runtime/src/status.rs";
    const METRICS: &str = "runtime/src/metrics/tests.rs";
    const MODES: &str = "runtime/src/modes.rs";
    const SOURCE: &str = "runtime/src/mysql/source.rs";
    check(|source, report| {
        if !source.path.starts_with("runtime/src") {
            return;
        }
        for (number, line) in source.code() {
            for (word, allowed) in [
                ("HashMap", &[][..]),
                ("HashSet", &[]),
                ("thread::", &[]),
                ("std::time::Instant", &[]),
                ("SystemTime", &[STATUS, METRICS]),
                ("Timestamp::now", &[MODES]),
                ("Zoned::now", &[]),
                ("rand::", &[MODES, SOURCE]),
            ] {
                if has(line, word) && !allowed.contains(&&*source.path) {
                    report(number, &format!("has {word} in the runtime"));
                }
            }
        }
        if source.imports_clock() {
            report(1, "imports the clock of the machine into the runtime");
        }
    });
}

/// Without `biased` the branches are tried in random order, which no seed repeats.
#[test]
fn every_select_is_biased() {
    check(|source, report| {
        let code: Vec<_> = source.code().collect();
        for (at, (number, line)) in code.iter().enumerate() {
            let Some((_, rest)) = line.split_once(SELECT) else {
                continue;
            };
            let next = code.get(at + 1).map_or("", |(_, line)| line);
            let body = rest.trim_start().trim_start_matches('{').trim_start();
            let first = if body.is_empty() { next } else { body };
            if !first.starts_with("biased;") {
                report(*number, "has a select that is not biased");
            }
        }
    });
}

#[test]
fn only_binaries_print() {
    check(|source, report| {
        let binary = ["runtime/src/main.rs", "runtime/src/cli"];
        let library = source.path.starts_with("core/src") || source.path.starts_with("runtime/src");
        // Test modules in files of their own may show what they found.
        let is_test = source.path.contains("/tests/");
        if !library || is_test || binary.iter().any(|path| source.path.starts_with(path)) {
            return;
        }
        let tests = source
            .text
            .find("#[cfg(test)]\nmod tests {")
            .unwrap_or(source.text.len());
        let tests = source.text[..tests].lines().count();
        for (number, line) in source.code().take_while(|(number, _)| *number <= tests) {
            if ["print!(", "println!(", "dbg!("]
                .iter()
                .any(|word| line.contains(word))
            {
                report(number, "prints; use tracing");
            }
        }
    });
}

/// What is not there yet is refused with an error.
#[test]
fn nothing_is_left_to_do() {
    check(|source, report| {
        for (number, line) in source.code() {
            if UNFINISHED.iter().any(|word| line.contains(word)) {
                report(number, "is unfinished");
            }
        }
    });
}

// Spelled so that this file does not match itself.
const SELECT: &str = concat!("select", "!");
const UNFINISHED: [&str; 2] = [concat!("todo", "!("), concat!("unimplemented", "!(")];

fn check(rule: impl Fn(&Source, &mut dyn FnMut(usize, &str))) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut sources = Vec::new();
    for room in ["core", "runtime", "sim", "fuzz", "tests", "scripts"] {
        collect(&root, &root.join(room), &mut sources);
    }
    assert!(
        sources.len() > 10,
        "the sources are not where this test looks for them"
    );
    let mut faults = Vec::new();
    for source in &sources {
        rule(source, &mut |line, what| {
            faults.push(format!("{}:{line} {what}", source.path))
        });
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

fn collect(root: &Path, dir: &Path, sources: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            // What is recorded or found is no source.
            if !["testdata", "corpus", "target"].contains(&&*name) {
                collect(root, &path, sources);
            }
        } else if name.ends_with(".rs") || !name.contains('.') {
            let text = fs::read_to_string(&path).unwrap();
            let path = path
                .strip_prefix(root)
                .unwrap()
                .to_string_lossy()
                .into_owned();
            sources.push(Source { path, text });
        }
    }
}

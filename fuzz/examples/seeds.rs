//! Writes the committed corpora anew: `cargo run --example seeds`. Regressions stay as they are.

use std::{fs, io, path::Path};

use dm_fuzz::{TARGETS, seeds};

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (target, _) in TARGETS {
        let dir = corpus.join(target);
        fs::create_dir_all(&dir)?;
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let is_made = !entry
                .file_name()
                .to_string_lossy()
                .starts_with(seeds::REGRESSION);
            if is_made {
                fs::remove_file(entry.path())?;
            }
        }
    }
    for ((target, name), input) in seeds::all() {
        fs::write(corpus.join(target).join(name), input)?;
    }
    Ok(())
}

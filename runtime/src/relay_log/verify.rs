//! Reads all of a relay log and says what is wrong with it.

use std::{fs, io::Write, path::Path};

use dm_core::{
    binlog::GtidSet,
    error::{Error, code},
    relay::{Audit, Finding, META_FILE, Scan, Tail},
};
use tokio::time::Instant;

use super::{
    Stop,
    reading::Reading,
    text::{count, short},
    tree::{Place, State, Tree},
};

/// What was seen so far.
struct Verify<'a> {
    out: &'a mut dyn Write,
    files: u64,
    bytes: u64,
    transactions: u64,
    notes: u64,
    problems: u64,
}

/// Reads everything. Whether all is good.
pub(super) fn verify(path: &Path, out: &mut dyn Write) -> Result<bool, Stop> {
    let started = Instant::now();
    let tree = Tree::open(path)?;
    let mut verify = Verify {
        out,
        files: 0,
        bytes: 0,
        transactions: 0,
        notes: 0,
        problems: 0,
    };
    verify.tree(&tree)?;
    let Verify {
        out,
        files,
        bytes,
        transactions,
        notes,
        problems,
    } = verify;
    let seconds = started.elapsed().as_secs_f64();
    let speed = bytes as f64 / seconds.max(0.001) / 1e6;
    let verdict = if problems == 0 {
        "good".to_owned()
    } else {
        count(problems, "problem")
    };
    writeln!(
        out,
        "{}, {bytes} bytes, {} in {seconds:.3} seconds ({speed:.0} MB/s): {verdict}, {}",
        count(files, "file"),
        count(transactions, "transaction"),
        count(notes, "note"),
    )?;
    Ok(problems == 0)
}

impl Verify<'_> {
    fn tree(&mut self, tree: &Tree) -> Result<(), Stop> {
        if let Some(Err(error)) = &tree.index {
            self.tell("", Finding::Problem(error.clone()))?;
        }
        for name in &tree.leftovers {
            self.tell("", leftover(name))?;
        }
        let listed = |place: &&Place| place.state == State::There;
        let newest = tree.places.iter().rfind(listed).map(|place| &place.path);
        let mut audit = Audit::default();
        let mut is_first = true;
        for place in &tree.places {
            match place.state {
                State::Missing => self.missing(place, is_first && newest.is_some())?,
                State::There => {
                    is_first = false;
                    let is_newest = newest == Some(&place.path);
                    self.place(place, &mut audit, is_newest)?;
                }
                // Whatever it is, it does not go on from the others.
                State::Unlisted => self.place(place, &mut Audit::default(), true)?,
            }
        }
        Ok(())
    }

    /// The oldest ones are removed when nobody needs them any more.
    fn missing(&mut self, place: &Place, is_oldest: bool) -> Result<(), Stop> {
        let name = place.path.display();
        self.tell(
            "",
            if is_oldest {
                Finding::Note(format!("{name} is in the index only: it was removed"))
            } else {
                let text = format!("{name} is missing, but the index has it");
                Finding::Problem(
                    Error::new(&code::RELAY_NO_VALID_RELAY_SUB_DIR, text).with_workaround(
                        "Put it back if there is a copy, or let the relay begin anew in an empty \
                         directory.",
                    ),
                )
            },
        )
    }

    fn place(&mut self, place: &Place, audit: &mut Audit, is_newest: bool) -> Result<(), Stop> {
        audit.enter();
        let mut indent = "";
        if let Some(dir) = &place.dir {
            writeln!(self.out, "{dir}")?;
            indent = "  ";
        }
        if place.state == State::Unlisted {
            let text = "the index does not have this directory, so nobody reads it";
            self.tell(indent, Finding::Note(text.to_owned()))?;
        }
        let files = &place.contents.files;
        let width = files.iter().map(|name| name.chars().count()).max();
        for name in files {
            self.file(place, name, width.unwrap_or_default(), indent, audit)?;
        }
        let meta = match &place.meta {
            Some(Ok(meta)) => Some(meta),
            Some(Err(error)) => {
                self.tell(indent, Finding::Problem(error.clone()))?;
                None
            }
            None if place.dir.is_some() => {
                self.tell(indent, Finding::Note(format!("there is no {META_FILE}")))?;
                None
            }
            None => None,
        };
        for finding in audit.leave(meta, is_newest) {
            self.tell(indent, finding)?;
        }
        // In a relay directory itself they were told about already.
        for name in &place.contents.leftovers {
            self.tell(indent, leftover(name))?;
        }
        Ok(())
    }

    fn file(
        &mut self,
        place: &Place,
        name: &str,
        width: usize,
        indent: &str,
        audit: &mut Audit,
    ) -> Result<(), Stop> {
        let path = place.path.join(name);
        let (size, scan, tail) = match Reading::open(&path) {
            Ok(mut reading) => {
                let mut scan = Scan::new(reading.flavor());
                let tail = reading.scan(&mut scan);
                (reading.len(), scan, tail)
            }
            // What others say of it is judged by its size nevertheless.
            Err(error) => (
                fs::metadata(&path).map_or(0, |found| found.len()),
                Scan::new(Default::default()),
                Tail::Broken(error),
            ),
        };
        let found = audit.file(name, size, &scan, &tail);
        let problems = found.iter().filter(is_problem).count() as u64;
        let verdict = match problems {
            0 => "ok".to_owned(),
            number => count(number, "problem"),
        };
        let gtids = short(inside(&scan).as_ref());
        let transactions = scan.transactions();
        writeln!(
            self.out,
            "{indent}{name:<width$}  {size:>12} bytes  {:>20}  {gtids}  {verdict}",
            count(transactions, "transaction"),
        )?;
        self.files += 1;
        self.bytes += size;
        self.transactions += transactions;
        for finding in found {
            self.tell(&format!("{indent}  "), finding)?;
        }
        // Whoever waits sees how far it is.
        Ok(self.out.flush()?)
    }

    fn tell(&mut self, indent: &str, finding: Finding) -> Result<(), Stop> {
        match finding {
            Finding::Note(text) => {
                self.notes += 1;
                writeln!(self.out, "{indent}note: {text}")?;
            }
            Finding::Problem(error) => {
                self.problems += 1;
                writeln!(self.out, "{indent}! {error}")?;
            }
        }
        Ok(())
    }
}

/// The transactions of a file.
pub(super) fn inside(scan: &Scan) -> Option<GtidSet> {
    Some(scan.gtids()?.without(scan.before()?))
}

const fn is_problem(finding: &&Finding) -> bool {
    matches!(finding, Finding::Problem(_))
}

fn leftover(name: &str) -> Finding {
    Finding::Note(format!(
        "{name} is a leftover of a worker that was killed; it can be removed"
    ))
}

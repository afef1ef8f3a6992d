//! Lists a relay log. Of each file only the beginning is read, and the newest one as a whole: what
//! is in the others is what the next one says was before it.

use std::{io::Write, path::Path};

use dm_core::{
    binlog::GtidSet,
    error::{Error, Result},
    relay::{Meta, Scan},
};
use jiff::Timestamp;

use super::{
    Stop,
    reading::Reading,
    text::{Table, count, plain, short},
    tree::{Place, State, Tree},
    verify::inside,
};

/// Events at the beginning of a file among which there is one that says what comes before it.
const HEAD_EVENTS: usize = 8;

/// What is known of a file.
struct Listed {
    size: u64,
    since: u32,
    before: Option<GtidSet>,
    inside: Option<GtidSet>,
    transactions: Option<u64>,
    error: Option<Error>,
}

/// Lists everything. Whether all could be read.
pub(super) fn ls(path: &Path, out: &mut dyn Write) -> Result<bool, Stop> {
    let tree = Tree::open(path)?;
    let mut table = Table::default();
    let head = [
        "file",
        "bytes",
        "first event",
        "GTIDs before",
        "transactions",
        "GTIDs in it",
    ];
    table.row(head.map(str::to_owned));
    let (mut files, mut bytes, mut good) = (0, 0, true);
    if let Some(Err(error)) = &tree.index {
        good = false;
        table.line(format!("! {error}"));
    }
    for place in &tree.places {
        let mut indent = "";
        if let Some(dir) = &place.dir {
            table.line(format!("{dir}{}", says(place)));
            indent = "  ";
        }
        if let Some(Err(error)) = &place.meta {
            good = false;
            table.line(format!("{indent}! {error}"));
        }
        for (name, file) in place.contents.files.iter().zip(list(place)) {
            files += 1;
            bytes += file.size;
            let transactions = file.transactions.map(|count| count.to_string());
            table.row([
                format!("{indent}{}", plain(name)),
                file.size.to_string(),
                time(file.since),
                short(file.before.as_ref()),
                transactions.unwrap_or_else(|| "-".to_owned()),
                short(file.inside.as_ref()),
            ]);
            if let Some(error) = file.error {
                good = false;
                table.line(format!("{indent}  ! {error}"));
            }
        }
    }
    table.line(format!("{}, {bytes} bytes", count(files, "file")));
    table.write(out)?;
    Ok(good)
}

/// What index and meta file say of a sub-directory.
fn says(place: &Place) -> String {
    match (place.state, &place.meta) {
        (State::Missing, _) => "  (in the index, but not there)".to_owned(),
        (State::Unlisted, _) => "  (not in the index)".to_owned(),
        (State::There, Some(Ok(Meta { position, gtids }))) => {
            let gtids = gtids.as_ref().map(|set| format!(" {}", short(Some(set))));
            let gtids = gtids.unwrap_or_default();
            format!("  relay.meta: {}{gtids}", plain(&position.to_string()))
        }
        (State::There, Some(Err(_))) => String::new(),
        (State::There, None) => "  no relay.meta".to_owned(),
    }
}

/// The files of a directory, in order.
fn list(place: &Place) -> Vec<Listed> {
    let names = &place.contents.files;
    let mut files: Vec<Listed> = Vec::with_capacity(names.len());
    // From the end, since a file tells about the one before it.
    for name in names.iter().rev() {
        let path = place.path.join(name);
        let mut file = read(&path, HEAD_EVENTS);
        let next = files.last().and_then(|next| next.before.as_ref());
        match (&file.before, next) {
            (Some(before), Some(next)) if next.contains(before) => {
                let inside = next.without(before);
                file.transactions = number(&inside);
                file.inside = Some(inside);
            }
            _ if file.error.is_none() => file = read(&path, usize::MAX),
            _ => {}
        }
        files.push(file);
    }
    files.reverse();
    files
}

/// Reads some events of a file, or all.
fn read(path: &Path, events: usize) -> Listed {
    let mut reading = match Reading::open(path) {
        Ok(reading) => reading,
        Err(error) => return Listed::new(0, &Scan::new(Default::default()), Some(error)),
    };
    let mut scan = Scan::new(reading.flavor());
    let error = (0..events).find_map(|_| match reading.piece(&scan) {
        Ok(Some(piece)) => scan.take(&piece).err().map(Some),
        Ok(None) => Some(None),
        Err(error) => Some(Some(error)),
    });
    let mut listed = Listed::new(reading.len(), &scan, error.flatten());
    if events == usize::MAX {
        listed.transactions = Some(scan.transactions());
        listed.inside = inside(&scan);
    }
    listed
}

impl Listed {
    fn new(size: u64, scan: &Scan, error: Option<Error>) -> Self {
        Self {
            size,
            since: scan.since(),
            before: scan.before().cloned(),
            inside: None,
            transactions: None,
            error,
        }
    }
}

/// How many transactions there are in a set, if it tells.
fn number(set: &GtidSet) -> Option<u64> {
    let GtidSet::Mysql(set) = set else {
        return None;
    };
    let intervals = set.iter().flat_map(|(_, numbers)| numbers.as_slice());
    // What a file says may be anything.
    Some(intervals.fold(0, |sum: u64, (first, last)| {
        sum.saturating_add(last - first + 1)
    }))
}

/// A time of an event; zero is none.
pub(super) fn time(seconds: u32) -> String {
    let time = Timestamp::from_second(seconds.into()).ok();
    let time = time.filter(|_| seconds > 0);
    time.map_or_else(|| "-".to_owned(), |time| time.to_string())
}

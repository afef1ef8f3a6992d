//! Targets of the files in a relay directory.

use bytes::Bytes;
use dm_core::{
    binlog::{Flavor, Position},
    error::Result,
    relay::{Index, MAGIC, Meta, Scan, SubDir},
};

use crate::{
    checks, events,
    input::{Input, flavor},
    memory,
};

/// `server-uuid.index`: what was read is written so that it is read again.
pub fn index(data: &[u8]) {
    memory::bounded((1 << 20) + 256 * data.len(), || {
        let Ok(index) = Index::parse(data) else {
            return;
        };
        let text = index.to_string();
        assert_eq!(Index::parse(text.as_bytes()).as_ref(), Ok(&index));
        assert_eq!(index.iter().count(), text.lines().count());
        for dir in index.iter() {
            assert_eq!(dir.to_string().parse().as_ref(), Ok(dir));
            assert_eq!(SubDir::new(dir.server(), dir.number()).as_ref(), Ok(dir));
            assert!(index.get(dir.number()).is_some());
        }
        let Some(current) = index.current() else {
            assert!(text.is_empty());
            return;
        };
        let mut longer = index.clone();
        if let Ok(next) = current.next("3306-1") {
            longer
                .push(next.clone())
                .unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(longer.current(), Some(&next));
        }
        let number = current.number();
        longer.trim(|dir| dir.number() < number);
        assert!(longer.get(number).is_some() && longer.iter().count() <= index.iter().count() + 1);
    });
}

/// `relay.meta`: what was read is written so that the same is read again.
pub fn meta(data: &[u8]) {
    memory::bounded((1 << 20) + 512 * data.len(), || {
        let Ok(meta) = Meta::parse(data) else {
            return;
        };
        let text = meta.text();
        let again = Meta::parse(text.as_bytes());
        let again = again.unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(again.position, meta.position);
        // An empty set is none.
        let gtids = meta.gtids.as_ref().filter(|gtids| !gtids.is_empty());
        assert_eq!(again.gtids.as_ref(), gtids);
        assert_eq!(again.text(), text);
        if let Some(gtids) = gtids {
            checks::gtids(gtids);
        }
        place(&meta.position);
    });
}

fn place(position: &Position) {
    let plain = position.plain();
    assert_eq!(plain.pos, position.pos);
    assert_eq!(plain.plain().pos, position.pos);
    assert_eq!(plain.cmp(position), position.cmp(&plain).reverse());
    let text = position.to_string();
    if let Ok(again) = text.parse::<Position>() {
        assert_eq!(again.pos, position.pos);
    }
}

/// Recovery of a whole file, which may end anywhere: a flag byte, and the file.
pub fn recovery(data: &[u8]) {
    memory::bounded((1 << 20) + 256 * data.len(), || {
        let mut input = Input::new(data);
        let flags = input.u8();
        let rest = input.rest();
        let repaired;
        let file = if flags & 2 == 0 {
            rest
        } else {
            let events = events::of_file(rest, true).concat();
            repaired = [&MAGIC[..], &events].concat();
            &repaired
        };
        recover(flavor(flags), file);
    });
}

fn recover(flavor: Flavor, file: &[u8]) {
    let (scan, _) = scan(flavor, file);
    if let Some(gtids) = scan.gtids() {
        checks::gtids(gtids);
    }
    // What is kept of the file is accepted, and says the same.
    let kept = &file[..scan.boundary() as usize];
    let (again, outcome) = self::scan(flavor, kept);
    assert_eq!(outcome, Ok(()));
    assert_eq!(again.end(), scan.boundary());
    assert_eq!(again.gtids(), scan.gtids());
}

/// Reads what is there, up to the first piece that is refused or not whole.
fn scan(flavor: Flavor, file: &[u8]) -> (Scan, Result<()>) {
    let mut scan = Scan::new(flavor);
    let outcome = pieces(&mut scan, Bytes::copy_from_slice(file));
    (scan, outcome)
}

fn pieces(scan: &mut Scan, mut rest: Bytes) -> Result<()> {
    let len = rest.len() as u64;
    loop {
        let mut wanted = scan.wants(&rest[..0])?;
        while wanted <= rest.len() {
            let more = scan.wants(&rest[..wanted])?;
            assert!(more >= wanted);
            if more == wanted {
                break;
            }
            wanted = more;
        }
        if wanted > rest.len() {
            return Ok(());
        }
        let (end, boundary) = (scan.end(), scan.boundary());
        let outcome = scan.take(&rest.split_to(wanted));
        if outcome.is_err() {
            assert_eq!((scan.end(), scan.boundary()), (end, boundary));
            return outcome;
        }
        assert_eq!(scan.end(), end + wanted as u64);
        assert!(boundary <= scan.boundary() && scan.boundary() <= scan.end());
        assert!(scan.end() <= len);
    }
}

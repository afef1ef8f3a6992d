use alloc::{collections::BTreeMap, string::ToString, vec, vec::Vec};

use proptest::prelude::*;

use super::{
    super::samples::{SAMPLES, events, made_up_rotate},
    *,
};

const NAME: &str = "b.000007";

/// The files that a writer makes.
#[derive(Debug, Default, PartialEq)]
struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    fn take(&mut self, writer: &mut Writer, event: &Bytes) -> Result<()> {
        let last = writer.file().map(ToOwned::to_owned);
        let step = writer.take(event)?;
        if let Step::Begin { cut } = step {
            if let (Some(cut), Some(last)) = (cut, last) {
                self.cut(&last, cut);
            }
            let name = writer.file().unwrap().to_owned();
            assert!(self.0.insert(name, MAGIC.to_vec()).is_none());
        }
        let file = writer.file().and_then(|name| self.0.get_mut(name));
        match (step, file) {
            (Step::Pass, _) => {}
            (Step::Append | Step::Begin { .. }, Some(file)) => file.extend_from_slice(event),
            (Step::AppendBehind(filler), Some(file)) => {
                file.extend_from_slice(&filler);
                file.extend_from_slice(event);
            }
            (step, None) => panic!("{step:?} without a file"),
        }
        Ok(())
    }

    fn all<'a>(
        &mut self,
        writer: &mut Writer,
        events: impl IntoIterator<Item = &'a Bytes>,
    ) -> Result<()> {
        events
            .into_iter()
            .try_for_each(|event| self.take(writer, event))
    }

    fn cut(&mut self, name: &str, len: u64) {
        self.0.get_mut(name).unwrap().truncate(len as usize);
    }

    /// The connection broke: the next writer begins with what is in the files.
    fn reconnect(&mut self, writer: &mut Writer) {
        let Writer {
            flavor, by_gtid, ..
        } = *writer;
        let Some(name) = writer.file().map(ToOwned::to_owned) else {
            *writer = Writer::at_start(flavor, by_gtid, "", None);
            return;
        };
        let mut scan = Scan::new(flavor);
        scan.read(&Bytes::copy_from_slice(&self.0[&name])).unwrap();
        assert_eq!(scan.boundary(), writer.boundary());
        self.cut(&name, scan.boundary());
        let before = writer.location();
        *writer = Writer::behind(flavor, by_gtid, &name, scan);
        assert_eq!(writer.location(), before);
    }

    fn only(name: &str, bytes: &[u8]) -> Self {
        Self([(name.to_owned(), bytes.to_vec())].into())
    }
}

/// What a source sends that is asked for a location in a file; by GTID it begins with the file.
fn dump(name: &str, file: &[u8], from: &Location, by_gtid: bool) -> Vec<Bytes> {
    let all = events(file);
    let pos = from.position.pos.max(4);
    let start = if by_gtid { 4 } else { pos };
    let mut sent = vec![made_up_rotate(name, start)];
    let mut at = 4;
    for (index, event) in all.iter().enumerate() {
        let is_new = at >= pos;
        let head = index == 0;
        let kept = [
            kind::PREVIOUS_GTIDS,
            kind::GTID_LIST,
            kind::BINLOG_CHECKPOINT,
        ];
        let is_kept = by_gtid && (kept.contains(&event[4]) || event[4] == kind::ROTATE);
        if is_new || head || is_kept {
            sent.push(event.clone());
        }
        at += event.len() as u64;
    }
    sent
}

#[test]
fn files_are_those_of_the_source() {
    for (sample, flavor, file) in SAMPLES {
        for by_gtid in [false, true] {
            let mut writer = Writer::at_start(flavor, by_gtid, "", None);
            let mut files = Files::default();
            let sent = dump(NAME, file, &Location::default(), by_gtid);
            files.all(&mut writer, &sent).unwrap();
            assert_eq!(files, Files::only(NAME, file), "{sample}");
            assert_eq!(writer.boundary(), file.len() as u64);
        }
    }
}

/// Whenever a connection breaks, or the worker is killed, the next one brings the rest.
#[test]
fn a_new_connection_goes_on_behind_the_last_transaction() {
    for (sample, flavor, file) in SAMPLES {
        for by_gtid in [false, true] {
            let sent = dump(NAME, file, &Location::default(), by_gtid);
            for broken_after in (0..sent.len()).step_by(5) {
                let mut writer = Writer::at_start(flavor, by_gtid, "", None);
                let mut files = Files::default();
                files.all(&mut writer, &sent[..broken_after]).unwrap();
                files.reconnect(&mut writer);
                let sent = dump(NAME, file, &writer.location(), by_gtid);
                files.all(&mut writer, &sent).unwrap();
                assert_eq!(files, Files::only(NAME, file), "{sample} {broken_after}");

                // The same from what is on the disk.
                let name = "b.000007";
                let bytes = &file[..file.len().min(200 + broken_after * 37)];
                let mut scan = Scan::new(flavor);
                scan.read(&Bytes::copy_from_slice(bytes)).unwrap();
                let mut files = Files::only(name, &bytes[..scan.boundary() as usize]);
                if scan.boundary() <= 4 {
                    continue;
                }
                let mut writer = Writer::behind(flavor, by_gtid, name, scan);
                let sent = dump(NAME, file, &writer.location(), by_gtid);
                files.all(&mut writer, &sent).unwrap();
                assert_eq!(files, Files::only(NAME, file), "{sample} {}", bytes.len());
            }
        }
    }
}

/// By GTID a source leaves out known transactions, and sends all else of the file again: also what
/// only newer versions know.
#[test]
fn what_belongs_to_no_transaction_may_come_again() {
    let (_, flavor, file) = SAMPLES[0];
    let whole = events(file);
    let is_last = matches!(
        whole.last().map(|event| event[4]),
        Some(kind::ROTATE | kind::STOP)
    );
    let file = &file[..file.len() - whole.last().filter(|_| is_last).map_or(0, Bytes::len)];
    let mut news = made_up_rotate("news", 0).to_vec();
    let size = news.len() + 4;
    news[4] = 200;
    news[9..13].copy_from_slice(&(size as u32).to_le_bytes());
    news[13..17].copy_from_slice(&((file.len() + size) as u32).to_le_bytes());
    news[17] = 0x80;
    let sum = crc32fast::hash(&news);
    news.extend_from_slice(&sum.to_le_bytes());
    let news = Bytes::from(news);

    let mut writer = Writer::at_start(flavor, true, "", None);
    let mut files = Files::default();
    let sent = dump(NAME, file, &Location::default(), true);
    files.all(&mut writer, &sent).unwrap();
    files.take(&mut writer, &news).unwrap();
    let before = files.0.clone();
    files.reconnect(&mut writer);
    let sent = dump(NAME, file, &writer.location(), true);
    files.all(&mut writer, &sent).unwrap();
    files.take(&mut writer, &news).unwrap();
    assert_eq!(files.0, before);
    // But not a transaction.
    let all = events(file);
    let known = all.iter().find(|event| event[4] == kind::GTID);
    let error = writer.take(known.unwrap()).unwrap_err();
    assert!(error.is(&code::RELAY_CHECK_IS_DUPLICATE_EVENT), "{error}");
}

#[test]
fn every_missing_event_is_noticed() {
    for (sample, flavor, file) in SAMPLES {
        let sent = dump(NAME, file, &Location::default(), false);
        for missing in 2..sent.len() - 1 {
            let mut writer = Writer::at_start(flavor, false, "", None);
            let mut files = Files::default();
            let rest = sent[..missing].iter().chain(&sent[missing + 1..]);
            let error = files.all(&mut writer, rest).unwrap_err();
            assert!(
                error.is(&code::RELAY_TCP_READER_GET_EVENT),
                "{sample}: {error}"
            );
            let end = files.0[NAME].len();
            assert_eq!(files, Files::only(NAME, &file[..end]), "{sample}");
        }
    }
}

#[test]
fn what_is_sent_twice_is_refused() {
    let (_, flavor, file) = SAMPLES[0];
    let sent = dump(NAME, file, &Location::default(), false);
    for again in 2..sent.len() {
        let mut writer = Writer::at_start(flavor, true, "", None);
        let mut files = Files::default();
        files.all(&mut writer, &sent[..=again]).unwrap();
        let error = writer.take(&sent[again]).unwrap_err();
        assert!(error.is(&code::RELAY_CHECK_IS_DUPLICATE_EVENT), "{error}");
    }
}

/// What goes on in another file than it should.
#[test]
fn files_come_one_after_the_other() {
    let (_, flavor, file) = SAMPLES[0];
    let whole = dump(NAME, file, &Location::default(), false);
    // This one doesn't end by saying which one is next, as after a crash.
    let begun = |by_gtid| {
        let mut writer = Writer::at_start(flavor, by_gtid, "", None);
        let mut files = Files::default();
        files.all(&mut writer, &whole[..40]).unwrap();
        (writer, files)
    };
    for (name, pos, is_good) in [
        ("b.000008", 4, true),
        ("b.000009", 4, false),
        ("b.000008", 5, false),
        ("c.000008", 4, false),
        ("b.000006", 4, false),
        ("nothing", 4, false),
    ] {
        let (mut writer, _) = begun(false);
        let outcome = writer.take(&made_up_rotate(name, pos));
        assert_eq!(outcome.is_ok(), is_good, "{name} {pos}");
    }
    // By position a dump begins where it was asked to.
    for (by_gtid, name, pos, is_good) in [
        (false, NAME, None, true),
        (false, NAME, Some(4), false),
        (false, "b.000008", Some(4), false),
        (true, NAME, Some(4), true),
        (true, "b.000008", Some(4), true),
        (true, "b.000011", Some(4), true),
        (true, "c.000001", Some(4), true),
        (true, "b.000006", Some(4), false),
    ] {
        let (mut writer, mut files) = begun(by_gtid);
        files.reconnect(&mut writer);
        let pos = pos.unwrap_or_else(|| writer.location().position.pos);
        let outcome = writer.take(&made_up_rotate(name, pos));
        assert_eq!(outcome.is_ok(), is_good, "{by_gtid} {name} {pos}");
    }
}

#[test]
fn a_part_of_a_transaction_has_no_place_before_another_file() {
    let (_, flavor, file) = SAMPLES[0];
    let mut sent = dump(NAME, file, &Location::default(), false);
    // PREVIOUS_GTIDS ends at 198, the first transaction at 502.
    sent.truncate(1 + 4);
    let mut writer = Writer::at_start(flavor, false, "", None);
    let mut files = Files::default();
    files.all(&mut writer, &sent).unwrap();
    assert!(files.0[NAME].len() > 198);
    let next = dump("b.000008", file, &Location::default(), false);
    files.all(&mut writer, &next).unwrap();
    assert_eq!(files.0[NAME], file[..198]);
    assert_eq!(files.0["b.000008"], file);
}

/// A file says what was written before it, and that must be here.
#[test]
fn a_missing_history_is_named() {
    for (sample, have, missing) in [
        (
            0,
            "0a0431f2-e6eb-11f1-beb0-02fc00000001:1-100",
            Some("0a0431f2-e6eb-11f1-beb0-02fc00000001:101-186"),
        ),
        (0, "0a0431f2-e6eb-11f1-beb0-02fc00000001:1-186", None),
        (3, "0-3404-3", Some("0-3404-4")),
        (3, "0-3404-4", None),
    ] {
        let (name, flavor, file) = SAMPLES[sample];
        let have = GtidSet::parse(flavor, have).unwrap();
        let mut writer = Writer::at_start(flavor, true, "", Some(have));
        let sent = dump(NAME, file, &Location::default(), true);
        let outcome = Files::default().all(&mut writer, &sent);
        match missing {
            None => outcome.unwrap(),
            Some(missing) => {
                let error = outcome.unwrap_err().to_string();
                assert!(
                    error.contains(&format!("of which {missing} is missing")),
                    "{name}: {error}"
                );
            }
        }
    }
}

/// The same name is no proof.
#[test]
fn another_file_of_the_same_name_is_refused() {
    let (_, flavor, file) = SAMPLES[0];
    let (_, _, other) = SAMPLES[2];
    let mut writer = Writer::at_start(flavor, true, "", None);
    let mut files = Files::default();
    let sent = dump(NAME, file, &Location::default(), true);
    files.all(&mut writer, &sent).unwrap();
    files.reconnect(&mut writer);
    let sent = dump(NAME, other, &Location::default(), true);
    let error = files.all(&mut writer, &sent).unwrap_err().to_string();
    assert!(error.contains("it is another one"), "{error}");
}

/// What the source says that it leaves out is made up for, and nothing else.
#[test]
fn a_hole_is_filled_if_the_source_declares_it() {
    let (_, flavor, file) = SAMPLES[0];
    let all = dump(NAME, file, &Location::default(), true);
    // The first transaction is from 198 to 502.
    let at = |offset: usize| {
        let mut end = 4;
        all.iter().skip(1).position(|event| {
            end += event.len();
            end > offset
        })
    };
    let (first, second) = (1 + at(198).unwrap(), 1 + at(502).unwrap());
    let heartbeat = |pos: u32| {
        let mut event = made_up_rotate(NAME, 0).to_vec();
        event[4] = kind::HEARTBEAT;
        event.drain(19..27);
        let len = event.len() as u32 + 4;
        event[9..13].copy_from_slice(&len.to_le_bytes());
        event[13..17].copy_from_slice(&pos.to_le_bytes());
        event[17] = 0;
        let sum = crc32fast::hash(&event);
        event.extend_from_slice(&sum.to_le_bytes());
        Bytes::from(event)
    };
    for (by_gtid, declared, is_good) in [
        (true, Some(502), true),
        (true, Some(471), false),
        (true, None, false),
        (false, Some(502), false),
    ] {
        let mut writer = Writer::at_start(flavor, by_gtid, "", None);
        let mut files = Files::default();
        files.all(&mut writer, &all[..first]).unwrap();
        if let Some(pos) = declared {
            files.take(&mut writer, &heartbeat(pos)).unwrap();
        }
        let outcome = files.all(&mut writer, &all[second..]);
        assert_eq!(outcome.is_ok(), is_good, "{by_gtid} {declared:?}");
        if is_good {
            let made = &files.0[NAME];
            assert_eq!(made.len(), file.len());
            assert_eq!((&made[..198], &made[502..]), (&file[..198], &file[502..]));
            let mut scan = Scan::new(flavor);
            scan.read(&Bytes::copy_from_slice(made)).unwrap();
            assert_eq!(scan.boundary(), made.len() as u64);
        }
    }
}

/// How a file is encrypted is told to nobody.
#[test]
fn the_key_of_an_encrypted_file_is_made_up_for() {
    let (_, flavor, file) = SAMPLES[3];
    let sent = dump(NAME, file, &Location::default(), false);
    let moved = |event: &Bytes, by: u32| {
        let mut event = event[..event.len() - 4].to_vec();
        let log_pos = u32::from_le_bytes([event[13], event[14], event[15], event[16]]);
        event[13..17].copy_from_slice(&(log_pos + by).to_le_bytes());
        let sum = crc32fast::hash(&event);
        event.extend_from_slice(&sum.to_le_bytes());
        Bytes::from(event)
    };
    for (by, bare, is_good) in [(40, 2, true), (41, 2, false), (40, 3, false)] {
        let mut writer = Writer::at_start(flavor, false, "", None);
        let mut files = Files::default();
        files.all(&mut writer, &sent[..bare]).unwrap();
        let rest: Vec<_> = sent[bare..].iter().map(|event| moved(event, by)).collect();
        assert_eq!(
            files.all(&mut writer, &rest).is_ok(),
            is_good,
            "{by} {bare}"
        );
        if is_good {
            assert_eq!(files.0[NAME].len(), file.len() + 40);
            assert_eq!(writer.boundary(), files.0[NAME].len() as u64);
        }
    }
}

#[test]
fn what_has_no_file_is_refused() {
    let (_, flavor, file) = SAMPLES[0];
    let sent = dump(NAME, file, &Location::default(), false);
    let mut writer = Writer::at_start(flavor, false, "", None);
    let error = writer.take(&sent[1]).unwrap_err();
    assert!(error.is(&code::RELAY_WRITER_NOT_OPENED), "{error}");
}

proptest! {
    /// Whatever arrives, in whatever order: a file is a beginning of the source's.
    #[test]
    fn no_order_of_events_makes_another_file(
        sample in 0..SAMPLES.len(),
        by_gtid: bool,
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        keep in 0..30_usize,
    ) {
        let (_, flavor, file) = SAMPLES[sample];
        let sent = dump(NAME, file, &Location::default(), by_gtid);
        let mut writer = Writer::at_start(flavor, by_gtid, "", None);
        let mut files = Files::default();
        let begin = &sent[..keep.min(sent.len())];
        files.all(&mut writer, begin).unwrap();
        for index in order {
            let _ = files.take(&mut writer, &sent[index.index(sent.len())]);
        }
        if let Some(made) = files.0.get(NAME) {
            prop_assert!(file.starts_with(made));
        }
    }
}

//! The committed corpora, made from recorded binlog files and some texts.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dm_core::{
    binlog::{
        Column, ColumnKind, Decoder, Event, Flavor, Frame, Header, MysqlGtidSet, RowsEvent,
        event_type as kind,
    },
    relay::MAGIC,
};

use crate::{binlog::flags, events::cut, rows, values};

/// Inputs that were found to break a target have names that begin so; everything else in a corpus
/// is made here.
pub const REGRESSION: &str = "regression-";

/// Inputs by target and name.
pub type Seeds = BTreeMap<(&'static str, String), Vec<u8>>;

struct Sample {
    name: &'static str,
    flavor: Flavor,
    file: &'static [u8],
}

macro_rules! samples {
    ($($flavor:ident $name:literal,)*) => {[$(Sample {
        name: $name,
        flavor: Flavor::$flavor,
        file: include_bytes!(concat!("../../core/testdata/binlog/", $name, ".binlog")),
    }),*]};
}

static SAMPLES: [Sample; 9] = samples![
    Mysql "mysql-sample",
    Mysql "mysql-session",
    Mysql "mysql-types",
    Mariadb "mariadb-sample",
    Mariadb "mariadb-session",
    Mariadb "mariadb-compressed",
    Mariadb "mariadb-types",
    Mariadb "mariadb-types-nolog",
    Mariadb "mariadb-metadata",
];

/// A file's events are many of the same: so many bytes of it are enough.
const FILE_MAX: usize = 8 << 10;

/// A hint without anything in it.
const NO_HINT: [u8; 2] = [0, 0];

/// All inputs.
#[must_use]
pub fn all() -> Seeds {
    let mut seeds = Seeds::new();
    let mut known = Known::default();
    for sample in &SAMPLES {
        let mut collector = Collector {
            sample,
            known: &mut known,
            seeds: &mut seeds,
        };
        collector.file();
        collector.events();
    }
    of_dumps(&mut seeds);
    of_relay(&mut seeds);
    of_gtids(&mut seeds);
    seeds
}

/// What belongs together: an event and the table map that it refers to.
struct Seen {
    frame: Frame,
    event: Event,
    map: Bytes,
}

impl Sample {
    fn events(&self) -> Vec<Bytes> {
        cut(self.file.strip_prefix(&MAGIC).unwrap_or_default())
    }

    /// The beginning of the file, up to an event's end.
    fn beginning(&self) -> Vec<u8> {
        let mut file = MAGIC.to_vec();
        for event in self.events() {
            if file.len() + event.len() > FILE_MAX {
                break;
            }
            file.extend_from_slice(&event);
        }
        file
    }

    /// All events, with those in compressed transactions.
    fn decoded(&self) -> Vec<Seen> {
        let mut decoder = Decoder::new(self.flavor);
        let mut maps = BTreeMap::new();
        let mut all = Vec::new();
        for raw in self.events() {
            let Ok(frame) = decoder.frame(raw) else {
                continue;
            };
            let mut frames = Vec::new();
            if let Ok(Event::Payload { body, .. }) = decoder.event(&frame) {
                let plain = zstd::decode_all(&*body).unwrap_or_default();
                frames.extend(
                    cut(&plain)
                        .iter()
                        .map_while(|raw| Frame::inside_payload(raw).ok()),
                );
            }
            frames.insert(0, frame);
            for frame in frames {
                let Ok(event) = decoder.event(&frame) else {
                    continue;
                };
                let map = match &event {
                    Event::TableMap(map) => {
                        maps.insert(map.id, frame.body.clone());
                        Bytes::new()
                    }
                    Event::Rows(rows) => maps.get(&rows.table.id).cloned().unwrap_or_default(),
                    _ => Bytes::new(),
                };
                all.push(Seen { frame, event, map });
            }
        }
        all
    }
}

/// What there is enough of, by flavor: the files have much in common.
#[derive(Default)]
struct Known {
    frames: BTreeSet<(Flavor, u8)>,
    events: BTreeSet<(Flavor, u8)>,
    rows: BTreeSet<(Flavor, u8, String)>,
    values: BTreeMap<(Flavor, &'static str), BTreeSet<Vec<u8>>>,
}

/// Collects the inputs of one file.
struct Collector<'a> {
    sample: &'static Sample,
    known: &'a mut Known,
    seeds: &'a mut Seeds,
}

impl Collector<'_> {
    fn add(&mut self, target: &'static str, part: &str, input: &[&[u8]]) {
        let name = format!("{}{part}", self.sample.name);
        self.seeds.insert((target, name), input.concat());
    }

    /// The file as a whole, and the frames of its events.
    fn file(&mut self) {
        let sample = self.sample;
        let flags = [flags(sample.flavor, true)];
        let beginning = sample.beginning();
        self.add("stream", "", &[&flags, &NO_HINT, &beginning]);
        // Rows do not matter in there.
        if !sample.name.contains("types") {
            self.add("recovery", "", &[&flags, &beginning]);
        }
        let events = sample.events();
        for raw in &events {
            let Ok(header) = Header::parse(raw) else {
                continue;
            };
            let frame = (sample.flavor, header.event_type);
            if raw.len() < EVENT_MAX && self.known.frames.insert(frame) {
                let part = format!("-{:03}", header.event_type);
                self.add("frame", &part, &[&flags, &events[0], raw]);
            }
        }
    }

    /// What the events say.
    fn events(&mut self) {
        let flavor = self.sample.flavor;
        for seen in self.sample.decoded() {
            let event_type = seen.frame.header.event_type;
            if self.known.events.insert((flavor, event_type)) {
                self.event(&seen);
            }
            let Event::Rows(rows) = &seen.event else {
                continue;
            };
            let of_table = (flavor, event_type, rows.table.table.clone());
            if seen.frame.body.len() < EVENT_MAX && self.known.rows.insert(of_table) {
                self.rows(&seen);
            }
            self.values(rows);
        }
    }

    /// The first event of a type.
    fn event(&mut self, seen: &Seen) {
        use crate::{gtid_sets::form as gtid, payload::form as payload};
        let body = &*seen.frame.body;
        let event_type = seen.frame.header.event_type;
        let part = format!("-{event_type:03}");
        match event_type {
            kind::FORMAT_DESCRIPTION => {
                let flags = flags(self.sample.flavor, false);
                self.add("format_description", "", &[&[flags], body]);
            }
            kind::PREVIOUS_GTIDS => self.add("gtid_sets", &part, &[&[gtid::BINARY], body]),
            kind::GTID_LIST => self.add("gtid_sets", &part, &[&[gtid::LIST], body]),
            kind::GTID => self.add("gtid_sets", &part, &[&[gtid::EVENT], body]),
            kind::GTID_TAGGED => self.add("gtid_sets", &part, &[&[gtid::TAGGED], body]),
            kind::MARIADB_GTID => {
                self.add("gtid_sets", &part, &[&[gtid::MARIADB_EVENT], body]);
            }
            kind::TRANSACTION_PAYLOAD => {
                self.add("payload", &part, &[&[payload::BODY], &NO_HINT, body]);
                if let Event::Payload { body, .. } = &seen.event {
                    let plain = zstd::decode_all(&**body).unwrap_or_default();
                    let size = (plain.len() as u16).to_le_bytes();
                    let part = |form| format!("-{form}");
                    self.add(
                        "payload",
                        &part("events"),
                        &[&[payload::EVENTS], &NO_HINT, &plain],
                    );
                    self.add(
                        "payload",
                        &part("stored"),
                        &[&[payload::STORED], &NO_HINT, &plain],
                    );
                    let compressed = [&[payload::COMPRESSED], &NO_HINT[..], &size, body];
                    self.add("payload", &part("compressed"), &compressed);
                }
            }
            kind::QUERY_COMPRESSED..=kind::DELETE_ROWS_COMPRESSED => {
                let nth = [event_type - kind::QUERY_COMPRESSED];
                let len = (seen.map.len() as u16).to_le_bytes();
                let form = [payload::MARIADB];
                self.add(
                    "payload",
                    &part,
                    &[&form, &NO_HINT, &len, &seen.map, &nth, body],
                );
            }
            kind::QUERY if self.sample.flavor == Flavor::Mariadb => {
                // Behind the fixed part are session variables, and the schema with a zero.
                let vars = usize::from(u16::from_le_bytes([body[11], body[12]]));
                let at = 13 + vars + usize::from(body[8]) + 1;
                let (head, sql) = body.split_at(at);
                let head = [&[0, at as u8], head].concat();
                let form = [payload::PARTS];
                self.add("payload", &part, &[&form, &NO_HINT, &[0, 0], &head, sql]);
            }
            kind::WRITE_ROWS_V1..=kind::DELETE_ROWS_V1 => {
                let compressed = kind::WRITE_ROWS_COMPRESSED_V1 - kind::QUERY_COMPRESSED;
                let nth = [event_type - kind::WRITE_ROWS_V1 + compressed];
                let len = (seen.map.len() as u16).to_le_bytes();
                // Table, flags, number of columns, and which of them are there.
                let images = if event_type == kind::UPDATE_ROWS_V1 {
                    2
                } else {
                    1
                };
                let at = 8 + 1 + images * usize::from(body[8]).div_ceil(8);
                let (head, images) = body.split_at(at);
                let form = [payload::PARTS];
                let head = [&[at as u8], head].concat();
                let parts = [&form, &NO_HINT[..], &len, &seen.map, &nth, &head, images];
                self.add("payload", &part, &parts);
            }
            _ => {}
        }
    }

    /// A table map and rows of that table.
    fn rows(&mut self, seen: &Seen) {
        let (body, map) = (&seen.frame.body, &seen.map);
        let event_type = seen.frame.header.event_type;
        let Some(nth) = rows::EVENT_TYPES
            .iter()
            .position(|known| *known == event_type)
        else {
            return;
        };
        let count_at = match event_type {
            kind::WRITE_ROWS..=kind::DELETE_ROWS => 8 + usize::from(body[8]),
            _ => 8,
        };
        let Event::Rows(event) = &seen.event else {
            return;
        };
        let part = format!("-{}-{event_type:03}", event.table.table);
        let flags = flags(self.sample.flavor, false);
        let len = (map.len() as u16).to_le_bytes();
        let (head, rest) = (&body[6..8], &body[count_at + 1..]);
        let parts = [&[flags], &NO_HINT[..], &len, map, &[nth as u8], head, rest];
        self.add("rows", &part, &parts);
    }

    /// Some values of each type.
    fn values(&mut self, event: &RowsEvent) {
        for change in event.rows().map_while(Result::ok) {
            let images = [change.before, change.after];
            for image in images.iter().flatten() {
                for (index, column) in event.table.columns.iter().enumerate() {
                    let Some(raw) = image.column(index) else {
                        continue;
                    };
                    self.value(column, raw);
                }
            }
        }
    }

    fn value(&mut self, column: &Column, raw: &[u8]) {
        let (name, code, meta) = described(column.kind);
        let of_type = (self.sample.flavor, name);
        let known = self.known.values.entry(of_type).or_default();
        // Documents are all different.
        let enough = if name == "json" { 20 } else { 3 };
        let is_one_more = known.len() < enough && raw.len() < VALUE_MAX;
        if !is_one_more || !known.insert(raw.to_vec()) {
            return;
        }
        let part = format!("-{name}-{:02}", known.len());
        let [low, high] = meta.to_le_bytes();
        let [first, second] = column.collation.unwrap_or_default().to_le_bytes();
        let sign = column
            .unsigned
            .map_or(0, |unsigned| if unsigned { 1 } else { 2 });
        let has_collation = u8::from(column.collation.is_some()) << 2;
        let flags = values::AS_IT_IS | has_collation | sign;
        let head = [code, low, high, 0, 0, flags, first, second];
        self.add("values", &part, &[&head, raw]);
    }
}

/// An event that is longer has more of the same in it.
const EVENT_MAX: usize = 700;
/// As has a value.
const VALUE_MAX: usize = 300;

/// A name, and the type code and metadata that stand for a type in a table map.
fn described(kind: ColumnKind) -> (&'static str, u8, u16) {
    let bytes = |low: u8, high: u8| u16::from_le_bytes([low, high]);
    match kind {
        ColumnKind::Tiny => ("tiny", 1, 0),
        ColumnKind::Short => ("short", 2, 0),
        ColumnKind::Int24 => ("int24", 9, 0),
        ColumnKind::Long => ("long", 3, 0),
        ColumnKind::LongLong => ("longlong", 8, 0),
        ColumnKind::Float => ("float", 4, 4),
        ColumnKind::Double => ("double", 5, 8),
        ColumnKind::Decimal { precision, scale } => ("decimal", 246, bytes(precision, scale)),
        ColumnKind::Bit { bits } => ("bit", 16, bytes(bits % 8, bits / 8)),
        ColumnKind::Year => ("year", 13, 0),
        ColumnKind::Date => ("date", 10, 0),
        ColumnKind::TimeOld => ("time-old", 11, 0),
        ColumnKind::DateTimeOld => ("datetime-old", 12, 0),
        ColumnKind::TimestampOld => ("timestamp-old", 7, 0),
        ColumnKind::Time { fsp } => ("time", 19, fsp.into()),
        ColumnKind::DateTime { fsp } => ("datetime", 18, fsp.into()),
        ColumnKind::Timestamp { fsp } => ("timestamp", 17, fsp.into()),
        // Two bits of the length are hidden in the type, inverted.
        ColumnKind::Fixed { bytes_max } => {
            let hidden = (bytes_max >> 4 & 0x30) as u8;
            ("fixed", 254, bytes(254 ^ hidden, bytes_max as u8))
        }
        ColumnKind::Var { bytes_max } => ("var", 15, bytes_max),
        ColumnKind::Blob { len_bytes } => ("blob", 252, len_bytes.into()),
        ColumnKind::Json { len_bytes } => ("json", 245, len_bytes.into()),
        ColumnKind::Geometry { len_bytes } => ("geometry", 255, len_bytes.into()),
        ColumnKind::Vector { len_bytes } => ("vector", 242, len_bytes.into()),
        ColumnKind::Enum { bytes: len } => ("enum", 254, bytes(247, len)),
        ColumnKind::Set { bytes: len } => ("set", 254, bytes(248, len)),
        ColumnKind::Compressed { len_bytes } => ("compressed", 140, len_bytes.into()),
        ColumnKind::Unknown { code } => ("unknown", code, 0),
    }
}

fn add_texts(seeds: &mut Seeds, target: &'static str, head: &[u8], texts: &[(&str, &str)]) {
    for (name, text) in texts {
        let input = [head, text.as_bytes()].concat();
        seeds.insert((target, (*name).to_owned()), input);
    }
}

fn of_relay(seeds: &mut Seeds) {
    let index = [
        (
            "moved",
            "7105f637-e6f4-11f1-a0c3-02fc00000001.000001\n\
             7747f834-e6f4-11f1-99f0-02fc00000001.000002\n",
        ),
        ("mariadb", "0-3404.000001\n0-3405.000002\n"),
        ("blanks", "\r\n  a.000007 \n\n\ta.000008"),
        ("zero", "a.000000\na.000005\n"),
        ("last", "a.999998\nb.999999\n"),
    ];
    add_texts(seeds, "index", &[], &index);
    let meta = [
        (
            "mysql",
            "binlog-name = \"binlog.000005\"\nbinlog-pos = 4\nbinlog-gtid = \
             \"0a0431f2-e6eb-11f1-beb0-02fc00000001:1-186,\
             0a0431f2-e6eb-11f1-beb0-02fc00000002:blue:1-5:7\"\n",
        ),
        (
            "mariadb",
            "binlog-name = \"vm-bin.000002\"\nbinlog-pos = 4\nbinlog-gtid = \"0-3404-4\"\n",
        ),
        (
            "none",
            "binlog-name = \"b|000001.000005\"\nbinlog-gtid = \"0-1-0\"\nmore = [1.5]\n",
        ),
        (
            "large",
            "binlog-name = \"\\u00e9\\t\"\nBinlog-Pos = 4294967295\n",
        ),
    ];
    add_texts(seeds, "meta", &[], &meta);
}

fn of_dumps(seeds: &mut Seeds) {
    const TYPES: &str = include_str!("../../core/testdata/dump/d.all types.0000000000000.sql");
    let texts = [
        ("types", TYPES),
        (
            "metadata",
            include_str!("../../core/testdata/dump/metadata"),
        ),
        (
            "two_places",
            "Started dump at: 2026-01-02 03:04:05\n\
             SHOW BINARY LOG STATUS:\n\tLog: b.000007\n\tPos: 154\n\tGTID:0-1-3,\n1-1-4\n\n\
             SHOW SLAVE STATUS:\n\tHost: h\n\tLog: o.1\n\tPos: 9\n\tGTID:\n\n\
             SHOW BINARY LOG STATUS: /* AFTER CONNECTION POOL ESTABLISHED */\n\
             \tLog: b.000008\n\tPos: 9\n\tGTID:\n\n",
        ),
        (
            "no_gtids",
            "Started dump at: \nSHOW MASTER STATUS:\nLog:b.1\nPos:4\nGTID:\
             3552f637-e6f6-13f0-a0c3-02fc00000001:0",
        ),
        ("schema", "a%2Eb-schema-create.sql"),
        ("table", "d.x%2Dschema-schema.sql.zst"),
        ("data", "d.t.0000000120003.sql"),
        (
            "comments",
            "-- a;\n/*! x */;REPLACE INTO `a``b`.c(d) VALUES (\"\\\"\"),# b;\n('it''s', f(1));",
        ),
    ];
    add_texts(seeds, "dump", &[1, 40], &texts);
}

fn of_gtids(seeds: &mut Seeds) {
    use crate::gtid_sets::form;
    const TAGGED: &str = "0a0431f2-e6eb-11f1-beb0-02fc00000001:1-5:7:blue_1:1-3,\
                          0a0431f2-e6eb-11f1-beb0-02fc00000002:green:9223372036854775806";
    let mysql = [
        (
            "mysql",
            "0a0431f2-e6eb-11f1-beb0-02fc00000001:1-5:7,\n0A0431F2E6EB11F1BEB002FC00000001:6:0",
        ),
        ("mysql-tagged", TAGGED),
    ];
    add_texts(seeds, "gtid_sets", &[form::MYSQL], &mysql);
    let mariadb = [(
        "mariadb",
        "0-1-10,2-1-3\n0-2-7, 1-1-18446744073709551615,5-0-0",
    )];
    add_texts(seeds, "gtid_sets", &[form::MARIADB], &mariadb);
    let single = [
        ("single", "0a0431f2-e6eb-11f1-beb0-02fc00000001:blue_1:7"),
        ("single-mariadb", "0-3404-7"),
    ];
    add_texts(seeds, "gtid_sets", &[form::SINGLE], &single);
    if let Ok(set) = TAGGED.parse::<MysqlGtidSet>() {
        let input = [&[form::BINARY], &*set.encode()].concat();
        seeds.insert(("gtid_sets", "binary-tagged".to_owned()), input);
    }
}

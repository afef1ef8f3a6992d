//! Metrics of dump and load units.

use std::{sync::Arc, time::Duration};

use dm_core::{status::UnitKind, sync::schema::TableName};

use super::{Cell, Desc, Kind, Metrics, descs};
use crate::units::copy::TableProgress;

descs! { "dm_"
    DUMP_EXITS = "dumpling_exit_with_error_count", Kind::Counter,
        "counter for dumpling exit with error";
    LOAD_EXITS = "loader_exit_with_error_count", Kind::Counter,
        "counter for loader exits with error";
    ROWS = "worker_copy_rows", Kind::Gauge, "rows that are dumped, loaded or copied";
    BYTES = "worker_copy_bytes", Kind::Gauge, "bytes that are dumped, loaded or copied";
    TABLES = "worker_copy_tables", Kind::Gauge, "tables of which all rows are there";
    TOTAL_TABLES = "worker_copy_total_tables", Kind::Gauge, "tables that there are";
    PROGRESS = "worker_copy_progress", Kind::Gauge, "the part that is done, of 1";
    RATE = "worker_copy_bytes_per_second", Kind::Gauge, "bytes a second since this run began";
    LEFT = "worker_copy_left_seconds", Kind::Gauge,
        "how long the rest will take at the pace of this run, once it has one";
    TABLE_ROWS = "worker_copy_table_rows", Kind::Gauge,
        "rows that are there of a table that is under way";
    TABLE_BYTES = "worker_copy_table_bytes", Kind::Gauge, "their bytes";
    TABLE_PROGRESS = "worker_copy_table_progress", Kind::Gauge,
        "the part that is done of a table that is under way, of 1";
    TABLE_RATE = "worker_copy_table_bytes_per_second", Kind::Gauge,
        "bytes a second of a table that is under way";
    TABLE_LEFT = "worker_copy_table_left_seconds", Kind::Gauge,
        "how long the rest of a table that is under way will take";
}

/// The figures of one subtask's dump or load unit. They disappear when this is dropped.
#[derive(Debug)]
pub struct CopyMetrics {
    metrics: Arc<Metrics>,
    unit: UnitKind,
    task: String,
    source: String,
}

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Rows that are there.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Tables of which all rows are there.
    pub tables: u64,
    /// All tables.
    pub total_tables: u64,
    /// The part that is done, of 1.
    pub part: f64,
    /// Bytes a second since this run began.
    pub bytes_per_s: u64,
    /// How long the rest will take at that pace.
    pub left: Option<Duration>,
    /// The tables that are under way.
    pub under_way: Vec<TableProgress>,
}

impl CopyMetrics {
    /// A unit starts.
    #[must_use]
    pub fn new(metrics: &Arc<Metrics>, unit: UnitKind, task: &str, source: &str) -> Self {
        let this = Self {
            metrics: Arc::clone(metrics),
            unit,
            task: task.to_owned(),
            source: source.to_owned(),
        };
        if unit == UnitKind::Dump {
            for is_resumable in [true, false] {
                this.exits(is_resumable);
            }
        }
        this
    }

    /// Whose unit it is.
    #[must_use]
    pub const fn unit(&self) -> UnitKind {
        self.unit
    }

    /// The unit ended by an error.
    pub fn failed(&self, is_resumable: bool) {
        self.exits(is_resumable).add(1.0);
    }

    /// It is so far.
    pub fn show(&self, sample: &Sample) {
        let seconds = |left: Option<Duration>| left.map(|it| it.as_secs_f64());
        let of_all = [
            (&ROWS, Some(sample.rows as f64)),
            (&BYTES, Some(sample.bytes as f64)),
            (&TABLES, Some(sample.tables as f64)),
            (&TOTAL_TABLES, Some(sample.total_tables as f64)),
            (&PROGRESS, Some(sample.part)),
            (&RATE, Some(sample.bytes_per_s as f64)),
            (&LEFT, seconds(sample.left)),
        ];
        // Where nothing is known of it by now, there is none; and tables come and go.
        let of_tables = [&TABLE_ROWS, &TABLE_BYTES, &TABLE_PROGRESS, &TABLE_RATE];
        let going = [&LEFT, &TABLE_LEFT].into_iter().chain(of_tables);
        self.metrics
            .remove(&going.collect::<Vec<_>>(), &self.labels());
        self.set(&of_all, &self.labels());
        for table in &sample.under_way {
            let [task, source] = self.labels();
            let TableName {
                schema,
                table: name,
            } = &table.table;
            let of_table = [
                (&TABLE_ROWS, Some(table.rows as f64)),
                (&TABLE_BYTES, Some(table.bytes as f64)),
                (&TABLE_PROGRESS, Some(table.part)),
                (&TABLE_RATE, Some(table.bytes_per_s as f64)),
                (&TABLE_LEFT, seconds(table.left)),
            ];
            let labels = [task, source, ("schema", schema), ("table", name)];
            self.set(&of_table, &labels);
        }
    }

    fn set(&self, values: &[(&'static Desc, Option<f64>)], labels: &[(&'static str, &str)]) {
        for (desc, value) in values {
            if let Some(value) = value {
                self.metrics.cell(desc, labels).set(*value);
            }
        }
    }

    fn exits(&self, is_resumable: bool) -> Arc<Cell> {
        let desc = match self.unit {
            UnitKind::Dump => &DUMP_EXITS,
            _ => &LOAD_EXITS,
        };
        let text = if is_resumable { "true" } else { "false" };
        let [task, source] = self.labels();
        self.metrics
            .cell(desc, &[task, source, ("resumable_err", text)])
    }

    fn labels(&self) -> [(&'static str, &str); 2] {
        [("task", &self.task), ("source_id", &self.source)]
    }
}

impl Drop for CopyMetrics {
    fn drop(&mut self) {
        self.metrics.remove(ALL, &self.labels());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::copy::Total;

    #[test]
    fn a_unit_shows_how_far_it_is_and_leaves_nothing() {
        let all = Arc::new(Metrics::default());
        let lines = |all: &Metrics| -> Vec<String> {
            let text = all.render("w", &[]);
            let ours = |line: &&str| line.contains("source_id=\"s\"");
            text.lines().filter(ours).map(str::to_owned).collect()
        };
        let table = |name: &str| TableProgress {
            table: TableName::new("d", name),
            rows: 3,
            bytes: 0,
            total: Total::default(),
            bytes_per_s: 9,
            part: 0.5,
            left: Some(Duration::from_millis(1500)),
        };
        let dump = CopyMetrics::new(&all, UnitKind::Dump, "t", "s");
        dump.failed(true);
        dump.show(&Sample {
            rows: 7,
            part: 0.25,
            left: Some(Duration::from_secs(8)),
            under_way: vec![table("a"), table("b")],
            ..Sample::default()
        });
        dump.show(&Sample {
            rows: 7,
            part: 0.25,
            bytes_per_s: 5,
            under_way: vec![table("b")],
            ..Sample::default()
        });
        let seen = lines(&all);
        for line in [
            "dumpling_exit_with_error_count{resumable_err=\"true\",$} 1",
            "dumpling_exit_with_error_count{resumable_err=\"false\",$} 0",
            "worker_copy_rows{$} 7",
            "worker_copy_progress{$} 0.25",
            "worker_copy_bytes_per_second{$} 5",
        ] {
            let line = format!("dm_{}", line.replace('$', "source_id=\"s\",task=\"t\""));
            assert!(seen.contains(&line), "{line} in {seen:#?}");
        }
        let of_tables = seen.iter().filter_map(|line| {
            let (name, value) = line
                .strip_prefix("dm_worker_copy_table_")?
                .split_once(' ')?;
            let labels = "{schema=\"d\",source_id=\"s\",table=\"b\",task=\"t\"}";
            Some((name.strip_suffix(labels).expect(line), value))
        });
        let expected = [
            ("bytes", "0"),
            ("bytes_per_second", "9"),
            ("left_seconds", "1.5"),
            ("progress", "0.5"),
            ("rows", "3"),
        ];
        assert_eq!(of_tables.collect::<Vec<_>>(), expected);
        // It has lost its pace.
        assert!(!seen.iter().any(|line| line.contains("copy_left_seconds")));
        drop(dump);
        assert_eq!(lines(&all), [""; 0]);
        // Only an error makes this one.
        let load = CopyMetrics::new(&all, UnitKind::Load, "t", "s");
        assert_eq!(lines(&all), [""; 0]);
        load.failed(false);
        assert_eq!(lines(&all).len(), 1);
    }
}

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, SystemTime},
};

use dm_core::{
    binlog::Position,
    control::SourceConfig,
    relay::SubDir,
    sync::{batch::Batch, schema::TableName},
};

use super::*;

/// Metrics of existing workers while they ran all modes, failed, and moved a task (October 2026).
fn recorded() -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/testdata/golden/http");
    [
        "metrics-all-mode.txt",
        "metrics-error.txt",
        "metrics-validator.txt",
        "metrics-w2.txt",
    ]
    .iter()
    .map(|file| std::fs::read_to_string(directory.join(file)).unwrap())
    .collect()
}

#[test]
fn numbers_are_written_as_recorded() {
    let mut seen = 0;
    for text in recorded() {
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (_, value) = line.rsplit_once(' ').unwrap();
            assert_eq!(number(value.parse().unwrap()), value, "{line}");
            seen += 1;
        }
    }
    assert!(seen > 300);
    assert_eq!(number(f64::INFINITY), "+Inf");
    assert_eq!(number(0.000_005 * 2.0), "1e-05");
    assert_eq!(number(0.0), "0");
}

/// The name of a line, and its labels in order.
fn labels(line: &str) -> (&str, Vec<&str>) {
    let (name, rest) = line.split_once(['{', ' ']).unwrap();
    let Some((labels, _)) = rest.rsplit_once('}') else {
        return (name, vec![]);
    };
    // No value in the records has a comma or an equals sign in it.
    (
        name,
        labels
            .split(',')
            .map(|label| label.split_once('=').unwrap().0)
            .collect(),
    )
}

#[test]
fn names_kinds_and_labels_are_those_recorded() {
    let metrics = Arc::new(Metrics::default());
    let figures = SyncMetrics::new(&metrics, "t", "s", "w");
    let table = TableName::new("a", "b");
    for desc in [&sync::ADDED_JOBS, &sync::FINISHED_JOBS] {
        figures.jobs(desc, "insert", "q_1", &table, 1);
    }
    figures.finished_ddl();
    let batch = Batch {
        slot: 9,
        seq: 1,
        applied: <_>::default(),
        segments: Vec::new(),
        rows: 5,
        bytes: 0,
        lenient: false,
        safe: false,
    };
    figures.finished(&batch, Duration::from_millis(2));
    let relay = RelayMetrics::new(&metrics, "s");
    let sub_dir = SubDir::new("0a0431f2-e6eb-11f1-beb0-02fc00000001", 1).unwrap();
    relay.started();
    relay.sub_dir(&SourceConfig::standard(), &sub_dir);
    relay.wrote(&Position::new("mysql-bin.000005", 502));
    relay.space(7, 3);
    let stage = |stage| TaskStage {
        source: "s".into(),
        task: "t".into(),
        stage,
    };
    let ours = metrics.render("w", &[stage(Stage::Running)]);
    // The existing worker has no such number.
    let is_recorded = |line: &&str| line.contains("dm_") && !line.contains(sync::MISSED.name);
    let ours: BTreeSet<_> = ours.lines().filter(is_recorded).collect();
    let recorded = recorded().concat();
    let recorded: Vec<&str> = recorded.lines().collect();
    let known: BTreeSet<_> = recorded
        .iter()
        .filter(|line| !line.starts_with('#'))
        .map(|line| labels(line))
        .collect();
    for line in ours {
        if line.starts_with("# TYPE") {
            assert!(recorded.contains(&line), "{line}");
        } else if !line.starts_with('#') {
            let mut found = labels(line);
            if found.0.starts_with("dm_relay_") {
                // The existing worker has one source only.
                found.1.retain(|label| *label != "source_id");
            }
            assert!(known.contains(&found), "{found:?}");
        }
    }
    assert_eq!((sync::ALL.len(), relay::ALL.len()), (16, 12));
}

#[test]
fn text_is_sorted_escaped_and_cumulative() {
    static HISTOGRAM: Desc = Desc {
        name: "b",
        help: "h",
        kind: Kind::Linear {
            start: 1.0,
            width: 2.0,
            count: 2,
        },
    };
    static GAUGE: Desc = Desc {
        name: "a",
        help: "g",
        kind: Kind::Gauge,
    };
    let metrics = Metrics::default();
    let histogram = metrics.histogram(&HISTOGRAM, &[("x", "1")]);
    for value in [0.5, 1.0, 3.5] {
        histogram.observe(value);
    }
    metrics
        .cell(&GAUGE, &[("z", "q\"\\\n"), ("y", "2")])
        .add(1.5);
    metrics
        .cell(&GAUGE, &[("z", "a"), ("y", "2")])
        .add(1_234_567.0);
    let text = metrics.render("w", &[]);
    let expected = "# HELP a g\n# TYPE a gauge\n\
        a{y=\"2\",z=\"a\"} 1.234567e+06\n\
        a{y=\"2\",z=\"q\\\"\\\\\\n\"} 1.5\n\
        # HELP b h\n# TYPE b histogram\n\
        b_bucket{x=\"1\",le=\"1\"} 2\n\
        b_bucket{x=\"1\",le=\"3\"} 2\n\
        b_bucket{x=\"1\",le=\"+Inf\"} 3\n\
        b_sum{x=\"1\"} 5\n\
        b_count{x=\"1\"} 3\n\
        # HELP dm_relay_data_corruption";
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn a_unit_leaves_nothing_behind() {
    let metrics = Arc::new(Metrics::default());
    let other = SyncMetrics::new(&metrics, "t", "other", "w");
    let sync = SyncMetrics::new(&metrics, "t", "s", "w");
    let stages = |stage| {
        [TaskStage {
            source: "s".into(),
            task: "t".into(),
            stage,
        }]
    };
    let paused = metrics.render("w", &stages(Stage::Paused));
    assert!(paused.contains("dm_worker_task_state{source_id=\"s\",task=\"t\",worker=\"w\"} 3\n"));
    let relay = RelayMetrics::new(&metrics, "s");
    relay.source_end(&Position::new("mysql-bin.000005", 502));
    share(&relay.write_duration, Duration::from_secs(6), 3);
    drop((sync, relay));
    let text = metrics.render("w", &stages(Stage::Finished));
    assert!(!text.contains("source_id=\"s\""), "{text}");
    assert!(
        text.contains("dm_syncer_binlog_pos{node=\"master\",source_id=\"other\""),
        "{text}"
    );
    // What is of all sources stays.
    assert!(text.contains("dm_relay_write_duration_bucket{le=\"1.31072\"} 0\n"));
    assert!(text.contains("dm_relay_write_duration_sum 6\n"));
    assert!(text.contains("dm_relay_write_duration_count 3\n"));
    drop(other);
    metrics.operate_error("w", "SourceBound");
    let text = metrics.render("w", &[]);
    assert!(text.contains("dm_worker_operate_error{type=\"SourceBound\",worker=\"w\"} 1\n"));
}

#[test]
fn the_process_is_measured() {
    let text = Metrics::default().render("w", &[]);
    if Path::new("/proc/self/stat").exists() {
        assert!(text.contains("\nprocess_resident_memory_bytes "));
        let started = text
            .lines()
            .find_map(|line| line.strip_prefix("process_start_time_seconds "))
            .and_then(|seconds| seconds.parse::<f64>().ok())
            .expect("a time");
        let now = SystemTime::UNIX_EPOCH
            .elapsed()
            .expect("later")
            .as_secs_f64();
        assert!((now - 3600.0..=now + 2.0).contains(&started), "{started}");
        assert!(text.contains("\nprocess_cpu_seconds_total "));
    }
}

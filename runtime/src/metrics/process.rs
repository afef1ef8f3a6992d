//! What the operating system knows about this process. Linux only; elsewhere there is nothing.

use std::{fmt::Write, fs};

/// Clock ticks a second, in which Linux counts for user space on every architecture.
const TICKS: f64 = 100.0;

/// Processor time used so far, in seconds; 0 where it is not known.
pub(crate) fn cpu_seconds() -> f64 {
    stat_seconds(14) + stat_seconds(15)
}

/// When the process started, in seconds since 1970; `None` where it is not known.
fn start_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let boot = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(boot.trim().parse::<f64>().ok()? + stat_seconds(22))
}

/// A field of this process's numbers that is a time, by its number in the manual.
fn stat_seconds(field: usize) -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field, the name, is in brackets and may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_ascii_whitespace().nth(field - 3);
    ticks
        .and_then(|ticks| ticks.parse::<f64>().ok())
        .unwrap_or(0.0)
        / TICKS
}

/// Bytes of memory in use; `None` where it is not known.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

pub(super) fn render(out: &mut String) {
    // Writing to a `String` never fails.
    let mut show = |name: &str, kind: &str, help: &str, value: f64| {
        let value = super::number(value);
        let _ = write!(
            out,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
        );
    };
    let help = "Total user and system CPU time spent in seconds.";
    show("process_cpu_seconds_total", "counter", help, cpu_seconds());
    if let Some(seconds) = start_seconds() {
        let help = "Start time of the process since unix epoch in seconds.";
        show("process_start_time_seconds", "gauge", help, seconds);
    }
    if let Some(bytes) = resident_bytes() {
        let help = "Resident memory size in bytes.";
        show("process_resident_memory_bytes", "gauge", help, bytes as f64);
    }
}

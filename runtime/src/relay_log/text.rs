//! Text for people: short sets of transactions, aligned columns.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use dm_core::binlog::GtidSet;

/// Characters of an UUID that tell it from others well enough.
const UUID_SHORT: usize = 8;
const UUID_LEN: usize = 36;
/// Characters of the numbers that belong to it.
const NUMBERS_MAX: usize = 24;

/// A set in a few characters.
pub(super) fn short(set: Option<&GtidSet>) -> String {
    let Some(set) = set else {
        return "-".to_owned();
    };
    let text = set.to_string();
    let mut parts = text.split(',');
    let first = parts.next().unwrap_or_default();
    let mut out = match (first.get(..UUID_SHORT), first.get(UUID_LEN..)) {
        (Some(head), Some(numbers)) => format!("{head}…{}", cut(numbers)),
        _ => cut(first),
    };
    let more = parts.count();
    if more > 0 {
        // Writing to a string can't fail.
        let _ = write!(out, " +{more}");
    }
    if out.is_empty() {
        "none".to_owned()
    } else {
        out
    }
}

/// Without what is too long; half a number would be another one.
fn cut(text: &str) -> String {
    let Some((at, _)) = text.char_indices().nth(NUMBERS_MAX) else {
        return text.to_owned();
    };
    let head = &text[..at];
    let end = head.rfind(':').filter(|end| *end > 0);
    format!("{}…", &head[..end.map_or(at, |end| end + 1)])
}

/// A text that comes from a file, on one line and without what a terminal would obey.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() {
            out.extend(char.escape_default());
        } else {
            out.push(char);
        }
    }
    out
}

/// A number with its noun.
pub(super) fn count(number: u64, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{ending}")
}

/// Rows of cells, and lines of their own between them.
#[derive(Default)]
pub(super) struct Table {
    rows: Vec<Row>,
}

enum Row {
    Cells(Vec<String>),
    Line(String),
}

impl Table {
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(Row::Cells(cells.into_iter().collect()));
    }

    pub(super) fn line(&mut self, text: String) {
        self.rows.push(Row::Line(text));
    }

    /// Writes it; numbers stand at the right.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.rows {
            let Row::Cells(cells) = row else { continue };
            widths.resize(widths.len().max(cells.len()), 0);
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in &self.rows {
            let line = match row {
                Row::Line(line) => line.clone(),
                Row::Cells(cells) => {
                    let cells = cells.iter().zip(&widths).map(|(cell, &width)| {
                        if cell.parse::<u64>().is_ok() {
                            format!("{cell:>width$}")
                        } else {
                            format!("{cell:<width$}")
                        }
                    });
                    cells.collect::<Vec<_>>().join("  ")
                }
            };
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use dm_core::binlog::Flavor;

    use super::*;

    #[test]
    fn sets_are_short() {
        let uuid = "0a0431f2-e6eb-11f1-beb0-02fc00000001";
        for (flavor, text, expected) in [
            (Flavor::Mysql, "", "none"),
            (Flavor::Mysql, &*format!("{uuid}:1-5"), "0a0431f2…:1-5"),
            (
                Flavor::Mysql,
                &format!("{uuid}:blue:7,7747f834-e6f4-11f1-99f0-02fc00000001:1"),
                "0a0431f2…:blue:7 +1",
            ),
            (
                Flavor::Mysql,
                &format!("{uuid}:1:3:5:7:9:11:13:15:17:19:21"),
                "0a0431f2…:1:3:5:7:9:11:13:15:17:…",
            ),
            (Flavor::Mariadb, "0-3404-7,2-1-1", "0-3404-7 +1"),
        ] {
            let set = GtidSet::parse(flavor, text).unwrap();
            assert_eq!(short(Some(&set)), expected);
        }
        assert_eq!(short(None), "-");
    }

    #[test]
    fn nothing_moves_the_cursor() {
        assert_eq!(plain("a\nb\u{1b}[2Jü\r"), "a\\nb\\u{1b}[2Jü\\r");
    }

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::default();
        table.row(["file", "bytes"].map(str::to_owned));
        table.line("a line that is longer than all".to_owned());
        table.row(["binlog.000001", "7"].map(str::to_owned));
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "file           bytes");
        assert_eq!(lines[2], "binlog.000001      7");
    }
}

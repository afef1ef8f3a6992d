//! A terminal: below the log, what is under way, with bars.

use std::io::{self, IsTerminal, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use rustix::termios::tcgetwinsize;
use tracing_subscriber::fmt::MakeWriter;

/// It is drawn so often in a second at most.
const DRAWN_PER_S: u8 = 20;
/// A bar has so many steps.
const STEPS: u64 = 1000;
/// A name, and how far it is. Both templates are known to be valid.
const PLAIN: &str = "{prefix} {wide_msg}";
const BAR: &str = "{prefix} [{bar:20}] {wide_msg}";

/// The terminal.
#[derive(Clone, Debug)]
pub struct Screen(MultiProgress);

/// What is shown of one thing that is under way.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// How far it is.
    pub text: String,
    /// The part of it that is done, of 1, where that is known.
    pub part: Option<f64>,
    /// Whether it is a part of what stands above.
    pub is_detail: bool,
}

impl Line {
    /// Its name, where it stands.
    fn label(&self) -> String {
        let indent = if self.is_detail { "  " } else { "" };
        format!("{indent}{}", self.name)
    }
}

impl Screen {
    /// The terminal that the worker was started on, unless its output goes elsewhere.
    #[must_use]
    pub fn of_process() -> Option<Self> {
        let target = || ProgressDrawTarget::term_like_with_hz(Box::new(Stdout), DRAWN_PER_S);
        let is_terminal = io::stdout().is_terminal();
        is_terminal.then(|| Self(MultiProgress::with_draw_target(target())))
    }
}

/// The terminal as it is drawn on. One that is gone is no reason to stop, so nothing of it fails.
#[derive(Debug)]
struct Stdout;

impl Stdout {
    fn put(text: &str) -> io::Result<()> {
        let _ = io::stdout().lock().write_all(text.as_bytes());
        Ok(())
    }

    fn steps(count: usize, direction: char) -> io::Result<()> {
        match count {
            0 => Ok(()),
            _ => Self::put(&format!("\x1b[{count}{direction}")),
        }
    }
}

/// With the usual control sequences (ECMA-48).
impl TermLike for Stdout {
    fn width(&self) -> u16 {
        tcgetwinsize(io::stdout()).map_or(80, |size| size.ws_col.max(20))
    }

    fn height(&self) -> u16 {
        tcgetwinsize(io::stdout()).map_or(24, |size| size.ws_row.max(4))
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        Self::steps(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        Self::steps(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        Self::steps(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        Self::steps(n, 'D')
    }

    fn write_line(&self, s: &str) -> io::Result<()> {
        Self::put(&format!("{s}\n"))
    }

    fn write_str(&self, s: &str) -> io::Result<()> {
        Self::put(s)
    }

    fn clear_line(&self) -> io::Result<()> {
        Self::put("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        let _ = io::stdout().flush();
        Ok(())
    }
}

/// What is on the screen. It goes with this.
#[derive(Debug)]
pub struct Bars {
    screen: Screen,
    bars: Vec<ProgressBar>,
}

impl Bars {
    /// Nothing yet.
    #[must_use]
    pub const fn new(screen: Screen) -> Self {
        Self {
            screen,
            bars: Vec::new(),
        }
    }

    /// Shows these lines in the place of the former ones.
    pub fn show(&mut self, lines: &[Line]) {
        while self.bars.len() > lines.len()
            && let Some(bar) = self.bars.pop()
        {
            bar.finish_and_clear();
            self.screen.0.remove(&bar);
        }
        while self.bars.len() < lines.len() {
            self.bars.push(self.screen.0.add(ProgressBar::new(STEPS)));
        }
        let labels: Vec<_> = lines.iter().map(Line::label).collect();
        let widths = labels.iter().map(|label| label.chars().count());
        let width = widths.max().unwrap_or_default();
        for ((bar, label), Line { text, part, .. }) in self.bars.iter().zip(labels).zip(lines) {
            let template = if part.is_some() { BAR } else { PLAIN };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(format!("{label:width$}"));
            bar.set_message(text.clone());
            bar.set_position((part.unwrap_or_default() * STEPS as f64) as u64);
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        // It would tell what was true a moment ago.
        self.show(&[]);
    }
}

/// Writes lines of the log above the bars.
#[derive(Debug)]
pub struct LogLine(MultiProgress);

impl MakeWriter<'_> for Screen {
    type Writer = LogLine;

    fn make_writer(&self) -> LogLine {
        LogLine(self.0.clone())
    }
}

impl Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use indicatif::InMemoryTerm;

    use super::*;

    #[test]
    fn lines_take_the_place_of_others() {
        let term = InMemoryTerm::new(10, 60);
        let target = ProgressDrawTarget::term_like(Box::new(term.clone()));
        let mut bars = Bars::new(Screen(MultiProgress::with_draw_target(target)));
        let line = |name: &str, text: &str, part| Line {
            name: name.to_owned(),
            text: text.to_owned(),
            part,
            is_detail: name.starts_with('`'),
        };
        bars.show(&[
            line("a/task", "3 of 7 tables", Some(0.5)),
            line("`d`.`t`", "at the beginning", Some(0.0)),
        ]);
        let shown = term.contents();
        let [total, table] = &*shown.lines().collect::<Vec<_>>() else {
            panic!("{shown}")
        };
        assert_eq!(*total, "a/task    [==========>         ] 3 of 7 tables");
        assert_eq!(*table, "  `d`.`t` [                    ] at the beginning");
        bars.show(&[line("a/task", "9 s behind", None)]);
        assert_eq!(term.contents(), "a/task 9 s behind");
    }
}

//! What an operator finds in the log about the worker itself: each change once.

use std::collections::BTreeMap;

use dm_core::{
    error::Error,
    lifecycle::{Outcome, View},
};
use tracing::{info, warn};

/// Tells the log what has changed since it was told last.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// Texts of the calls on the control store that failed when they were made last, by call.
    troubles: BTreeMap<&'static str, String>,
    era: u64,
    online: bool,
    complaints: Vec<String>,
}

/// A line for the log.
#[derive(Debug, PartialEq)]
enum Line {
    Info(String),
    Warn(String),
}

impl Journal {
    /// Takes the end of a call on the control store.
    pub(crate) fn called(&mut self, call: &'static str, outcome: &Outcome) {
        self.after_call(call, outcome).into_iter().for_each(tell);
    }

    /// Takes what the machine looks like after a step.
    pub(crate) fn stepped(&mut self, view: &View) {
        self.after_step(view).into_iter().for_each(tell);
    }

    fn after_call(&mut self, call: &'static str, outcome: &Outcome) -> Option<Line> {
        let text = match outcome {
            Outcome::Failed(errors) => errors.first().map(Error::to_string)?,
            Outcome::Unknown(error) => error.to_string(),
            _ => {
                self.troubles.remove(call)?;
                return Some(Line::Info(format!(
                    "the control store answers again: {call}"
                )));
            }
        };
        if self.troubles.get(call) == Some(&text) {
            return None;
        }
        let line = format!("the control store does not answer: {call}: {text}");
        self.troubles.insert(call, text);
        Some(Line::Warn(line))
    }

    fn after_step(&mut self, view: &View) -> Vec<Line> {
        let mut lines = Vec::new();
        if view.era.0 != self.era {
            self.era = view.era.0;
            self.online = false;
            let why = view.lost.as_ref().map(Error::to_string);
            let why = why.unwrap_or_default();
            lines.push(Line::Warn(format!(
                "the lease is given up, all work ends: {why}"
            )));
        }
        if view.online != self.online {
            self.online = view.online;
            if let Some((lease, _)) = view.lease {
                lines.push(Line::Info(format!("online under lease {lease}")));
            }
        }
        let complaints = complaints(view);
        let news = |these: &[String], those: &[String]| -> Vec<String> {
            let new = these.iter().filter(|it| !those.contains(it));
            new.cloned().collect()
        };
        lines.extend(
            news(&complaints, &self.complaints)
                .into_iter()
                .map(Line::Warn),
        );
        let settled = news(&self.complaints, &complaints).into_iter();
        lines.extend(settled.map(|it| Line::Info(format!("not any more: {it}"))));
        self.complaints = complaints;
        lines
    }
}

/// What is wrong with the keys of the control store.
fn complaints(view: &View) -> Vec<String> {
    let errors = view.errors.iter().map(Error::to_string);
    let problems = view.problems.iter().map(|problem| {
        let task = match &*problem.task {
            "" => String::new(),
            task => format!(", task `{task}`"),
        };
        format!("source `{}`{task}: {}", problem.source, problem.error)
    });
    errors.chain(problems).collect()
}

fn tell(line: Line) {
    match line {
        Line::Info(text) => info!("{text}"),
        Line::Warn(text) => warn!("{text}"),
    }
}

#[cfg(test)]
mod tests {
    use dm_core::{
        error::code,
        lifecycle::{Config, Era, Problem, Reply, Worker},
        time::Instant,
    };

    use super::*;

    fn error(text: &str) -> Error {
        Error::new(&code::HA_FAIL_KEEPALIVE, text)
    }

    fn warns(line: Option<&Line>, part: &str) -> bool {
        matches!(line, Some(Line::Warn(text)) if text.contains(part))
    }

    #[test]
    fn trouble_is_told_when_it_begins_changes_and_ends() {
        let mut journal = Journal::default();
        let well = Outcome::Ok(Reply::Closed);
        assert_eq!(journal.after_call("renew", &well), None);
        let ill = |text| Outcome::Unknown(error(text));
        assert!(warns(journal.after_call("renew", &ill("a")).as_ref(), "a"));
        assert_eq!(journal.after_call("renew", &ill("a")), None);
        assert!(warns(
            journal.after_call("read", &ill("a")).as_ref(),
            "read"
        ));
        assert!(warns(journal.after_call("renew", &ill("b")).as_ref(), "b"));
        assert!(matches!(
            journal.after_call("renew", &well),
            Some(Line::Info(_))
        ));
        assert_eq!(journal.after_call("renew", &well), None);
    }

    #[test]
    fn loss_return_and_complaints_are_told_once() {
        let mut journal = Journal::default();
        let mut view = Worker::new(Config::new("w", "", 1)).view();
        assert_eq!(journal.after_step(&view), []);
        (view.online, view.lease) = (true, Some((7, Instant::START)));
        let online = Line::Info("online under lease 7".to_owned());
        assert_eq!(journal.after_step(&view), [online]);
        assert_eq!(journal.after_step(&view), []);
        (view.era, view.lost) = (Era(1), Some(error("nobody answered")));
        (view.online, view.lease) = (false, None);
        let lines = journal.after_step(&view);
        assert!(lines.len() == 1 && warns(lines.first(), "nobody answered"));
        view.errors.push(error("no config"));
        view.problems.push(Problem {
            source: "a".to_owned(),
            task: "t".to_owned(),
            error: error("no stage"),
        });
        let lines = journal.after_step(&view);
        assert!(
            lines.len() == 2 && warns(lines.last(), "source `a`, task `t`"),
            "{lines:?}"
        );
        assert_eq!(journal.after_step(&view), []);
        view.errors.clear();
        assert!(matches!(&*journal.after_step(&view), [Line::Info(_)]));
    }
}

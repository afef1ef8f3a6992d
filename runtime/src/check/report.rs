//! What the checks have found, for people and for programs.

use std::fmt::{self, Write as _};

use serde::Serialize;
use tracing::warn;

use super::item::{Outcome, Problem, State};

/// Characters of a line.
const COLUMNS: usize = 120;
/// So many tables are named that have the same problem.
const NAMED_MAX: usize = 8;

/// What all checks have found; displays as a table.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Check by check, task by task.
    pub outcomes: Vec<Outcome>,
}

impl Report {
    /// Whether nothing keeps a task from running.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.count(State::Fail) == 0
    }

    fn count(&self, state: State) -> usize {
        let states = self.outcomes.iter().map(Outcome::state);
        states.filter(|other| *other == state).count()
    }

    fn problems(&self) -> impl Iterator<Item = (&Outcome, &Problem)> {
        let outcomes = self.outcomes.iter();
        outcomes.flat_map(|outcome| outcome.problems.iter().map(move |it| (outcome, it)))
    }

    /// Writes each problem into the log, a line each.
    pub fn log(&self) {
        for (outcome, problem) in self.problems() {
            let concerns = named(&problem.concerns);
            let between = if concerns.is_empty() { "" } else { ": " };
            let Outcome {
                task,
                subject,
                item,
                ..
            } = outcome;
            let (state, item) = (problem.state.name(), item.name());
            let Problem { reason, advice, .. } = problem;
            warn!(
                task,
                state, "check {item} of {subject}: {reason}{between}{concerns}. {advice}"
            );
        }
    }

    /// The shape in which a master answers `check-task`, as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let results: Vec<_> = (0..).zip(&self.outcomes).map(json_result).collect();
        let answer = JsonReport {
            summary: JsonSummary {
                passed: self.passed(),
                total: results.len(),
                successful: self.count(State::Success),
                failed: self.count(State::Fail),
                warning: self.count(State::Warn),
            },
            results,
        };
        // Texts and numbers only, which JSON does not refuse.
        serde_json::to_string_pretty(&answer).unwrap_or_default() + "\n"
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut task = None;
        for outcome in &self.outcomes {
            if task != Some(&outcome.task) {
                let gap = if task.is_some() { "\n" } else { "" };
                writeln!(f, "{gap}task {}", outcome.task)?;
                task = Some(&outcome.task);
            }
            let (item, subject) = (outcome.item.name(), &outcome.subject);
            writeln!(f, "  {:<8} {item:<23} {subject}", outcome.state().name())?;
            for problem in &outcome.problems {
                let mixed = outcome.problems.len() > 1 && problem.state != outcome.state();
                let mark = if mixed { "warning: " } else { "" };
                block(f, "reason", &format!("{mark}{}", problem.reason))?;
                if !problem.concerns.is_empty() {
                    block(f, "concerns", &named(&problem.concerns))?;
                }
                block(f, "to do", &problem.advice)?;
            }
        }
        let (failed, warned) = (self.count(State::Fail), self.count(State::Warn));
        let good = self.count(State::Success);
        let gap = if task.is_some() { "\n" } else { "" };
        let verdict = match (failed, warned) {
            (0, 0) => "nothing is in the way",
            (0, _) => "nothing is in the way, if the warnings are meant to be",
            _ => "what failed must be mended first",
        };
        writeln!(
            f,
            "{gap}{good} passed, {warned} with warnings, {failed} failed: {verdict}."
        )
    }
}

/// Names, as many as can be read.
fn named(concerns: &[String]) -> String {
    let shown: Vec<_> = concerns
        .iter()
        .take(NAMED_MAX)
        .map(String::as_str)
        .collect();
    let mut text = shown.join("; ");
    if let Some(more @ 1..) = concerns.len().checked_sub(NAMED_MAX) {
        // Writing to a text cannot fail.
        let _ = write!(text, "; and {more} more");
    }
    text
}

/// A paragraph behind its title, as wide as a terminal.
fn block(f: &mut fmt::Formatter<'_>, title: &str, text: &str) -> fmt::Result {
    const INDENT: usize = 21;
    let mut line = format!("{:11}{title:<10}", "");
    let mut width = INDENT;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if width > INDENT && width + 1 + length > COLUMNS {
            writeln!(f, "{line}")?;
            line = " ".repeat(INDENT);
            width = INDENT;
        }
        if width > INDENT {
            line.push(' ');
            width += 1;
        }
        line.push_str(word);
        width += length;
    }
    writeln!(f, "{line}")
}

#[derive(Serialize)]
struct JsonReport<'a> {
    results: Vec<JsonResult<'a>>,
    summary: JsonSummary,
}

#[derive(Serialize)]
struct JsonResult<'a> {
    id: u64,
    name: &'a str,
    desc: &'a str,
    state: &'a str,
    errors: Vec<JsonError<'a>>,
    instruction: String,
    extra: String,
}

#[derive(Serialize)]
struct JsonError<'a> {
    severity: &'a str,
    short_error: &'a str,
    #[serde(rename = "self")]
    concerned: &'a str,
    other: &'a str,
    instruction: &'a str,
}

#[derive(Serialize)]
struct JsonSummary {
    passed: bool,
    total: usize,
    successful: usize,
    failed: usize,
    warning: usize,
}

fn json_result((id, outcome): (u64, &Outcome)) -> JsonResult<'_> {
    let mut errors = Vec::new();
    for problem in &outcome.problems {
        let error = |concerned| JsonError {
            severity: problem.state.name(),
            short_error: &problem.reason,
            concerned,
            other: "",
            instruction: &problem.advice,
        };
        if problem.concerns.is_empty() {
            errors.push(error(""));
        }
        errors.extend(problem.concerns.iter().map(|it| error(it)));
    }
    let advice: Vec<_> = outcome
        .problems
        .iter()
        .map(|problem| &*problem.advice)
        .collect();
    JsonResult {
        id,
        name: outcome.item.name(),
        desc: outcome.item.description(),
        state: outcome.state().name(),
        errors,
        instruction: advice.join(" "),
        extra: format!("task {}, {}", outcome.task, outcome.subject),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Item;

    fn report() -> Report {
        let outcome = |item, task: &str, problems| Outcome {
            item,
            task: task.into(),
            subject: "source shop".into(),
            problems,
        };
        let many = Problem {
            concerns: (0..11)
                .map(|number| format!("`d`.`table{number}`"))
                .collect(),
            ..Problem::warn("w ".repeat(100), "Mend them.")
        };
        Report {
            outcomes: vec![
                outcome(Item::Version, "a", Vec::new()),
                outcome(
                    Item::TableSchema,
                    "a",
                    vec![
                        Problem::fail("no column", "Add it.").about("`d`.`t`"),
                        many.clone(),
                    ],
                ),
                outcome(Item::TableSchema, "b", vec![many]),
            ],
        }
    }

    #[test]
    fn a_table_fits_a_terminal() {
        let text = report().to_string();
        assert!(
            text.lines().all(|line| line.chars().count() <= COLUMNS),
            "{text}"
        );
        for part in [
            "task a\n  success  version                 source shop\n",
            "  fail     table_schema            source shop\n           reason    no column\n",
            "           concerns  `d`.`t`\n           to do     Add it.\n",
            "reason    warning: w w",
            "and 3 more\n",
            "\n\ntask b\n  warn  ",
            "\n\n1 passed, 1 with warnings, 1 failed: what failed must be mended first.\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn programs_get_what_a_master_answers() {
        let json: serde_json::Value = serde_json::from_str(&report().to_json()).unwrap();
        let summary = serde_json::json!({
            "passed": false, "total": 3, "successful": 1, "failed": 1, "warning": 1
        });
        assert_eq!(json["summary"], summary);
        let result = &json["results"][1];
        assert_eq!(
            (&result["id"], &result["name"]),
            (&1.into(), &"table_schema".into())
        );
        assert_eq!(result["state"], "fail");
        assert_eq!(result["errors"].as_array().map(Vec::len), Some(12));
        let error = serde_json::json!({
            "severity": "fail", "short_error": "no column", "self": "`d`.`t`", "other": "",
            "instruction": "Add it."
        });
        assert_eq!(result["errors"][0], error);
        assert_eq!(result["extra"], "task a, source shop");
    }
}

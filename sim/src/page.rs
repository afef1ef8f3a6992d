//! A recorded run as one page to look at: a lane for each actor, faults as shaded spans, and what
//! an event is where the mouse points. The file needs nothing but a browser.

use serde::Serialize;

use crate::{
    codec::Recording,
    scenario::{source_name, worker_name},
};

const TEMPLATE: &str = include_str!("page/page.html");

#[derive(Serialize)]
struct Data<'a> {
    title: String,
    /// Names of the lanes, from the top.
    lanes: Vec<&'a str>,
    /// Seconds.
    end: f64,
    spans: Vec<Span>,
    /// Lane, seconds, text.
    events: Vec<(usize, f64, &'a str)>,
    /// Seconds, text.
    violations: Vec<(f64, String)>,
}

#[derive(Serialize)]
struct Span {
    from: f64,
    to: f64,
    /// The actor that it is about; empty for the whole world.
    actor: String,
    what: String,
}

/// The page.
#[must_use]
pub fn page(recording: &Recording) -> String {
    let Recording {
        scenario, record, ..
    } = recording;
    let mut lanes: Vec<&str> = Vec::new();
    for event in &record.events {
        if !lanes.contains(&&*event.actor) {
            lanes.push(&event.actor);
        }
    }
    lanes.sort_unstable();
    let lane = |actor: &str| lanes.iter().position(|known| *known == actor);
    let events = record.events.iter().filter_map(|event| {
        let lane = lane(&event.actor)?;
        Some((lane, event.at.as_secs_f64(), &*event.what))
    });
    let faults = scenario.steps.iter().filter(|step| !step.what.is_work());
    let spans = faults.map(|step| Span {
        from: step.at.as_secs_f64(),
        to: step.ends().as_secs_f64(),
        actor: match (step.what.worker(), step.what.source()) {
            (Some(worker), _) => worker_name(worker),
            (_, Some(source)) => source_name(source),
            _ => String::new(),
        },
        what: step.what.to_string(),
    });
    let violations = record.violations.iter();
    let without = recording.without.as_ref();
    let data = Data {
        title: format!(
            "seed {}{}",
            scenario.seed,
            without.map_or(String::new(), |guard| format!(" without {guard}"))
        ),
        end: record.simulated().as_secs_f64(),
        spans: spans.collect(),
        events: events.collect(),
        violations: violations
            .map(|it| (it.at.as_secs_f64(), it.to_string()))
            .collect(),
        lanes,
    };
    // Maps with keys that are no text are all that could not be written, and there are none.
    let json = serde_json::to_string(&data).unwrap_or_default();
    // Nothing that is shown may end the script that it stands in.
    TEMPLATE.replace("{{data}}", &json.replace('<', "\\u003c"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        record::{Event, Record},
        scenario::Scenario,
    };

    #[test]
    fn a_page_holds_everything_and_loads_nothing() {
        let recording = Recording {
            scenario: Scenario::draw(1),
            without: None,
            record: Record {
                events: vec![Event {
                    at: Duration::from_secs(1),
                    actor: "w0".to_owned(),
                    what: "</script>".to_owned(),
                }],
                ..Record::default()
            },
        };
        let page = page(&recording);
        assert!(page.contains(r#""lanes":["w0"]"#), "{page}");
        assert_eq!(page.matches("</script>").count(), 1);
        let loads = ["src=", "href=", "@import", "fetch("];
        assert!(loads.iter().all(|word| !page.contains(word)));
    }
}

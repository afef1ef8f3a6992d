//! Scenarios that a worker once failed, kept for good.
//!
//! A seed does not keep one: what it is drawn into changes. Nor does a recorded run, which is of
//! one version of the worker. The scenario itself lasts, as text that names everything.
//! What its transactions hold is drawn while it is played: a missing guard tells whether it still
//! shows what it was kept for.

use serde::{Deserialize, Serialize};

use crate::scenario::Scenario;

/// A scenario that must hold.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Regression {
    /// Name of the guard without which it must not, or it shows nothing any more.
    pub without: Option<String>,
    /// How it comes about.
    pub scenario: Scenario,
}

impl Regression {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it, such as that scenarios are made of other things by now.
    pub fn parse(text: &str) -> Result<Self, String> {
        let regression: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        regression.scenario.check()?;
        Ok(regression)
    }

    /// The text of a file.
    ///
    /// # Errors
    /// None that a scenario can have; the crate does not promise it.
    pub fn text(&self) -> Result<String, String> {
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        Ok(text + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> String {
        let scenario = Scenario::draw(3);
        let without = Some("a guard".to_owned());
        let regression = Regression { without, scenario };
        regression.text().expect("a regression")
    }

    #[test]
    fn what_is_written_is_read() {
        let regression = Regression::parse(&text()).expect("a regression");
        assert_eq!(regression.scenario, Scenario::draw(3));
    }

    /// A source has what it has by default, also if that is newer than the file; anything else that
    /// is not what scenarios are made of is named.
    #[test]
    fn what_does_not_fit_is_named() {
        let older = text().replace("\"brand\": \"Mysql\",", "");
        assert!(Regression::parse(&older).is_ok());
        for (from, to) in [
            ("\"slots\"", "\"slits\""),
            ("\"Commit\"", "\"Kommit\""),
            ("\"ttl\"", "\"time\""),
            ("\"workers\": [", "\"workers\": [], \"workers\": ["),
        ] {
            let other = text().replace(from, to);
            assert!(Regression::parse(&other).is_err(), "{to}");
        }
    }
}

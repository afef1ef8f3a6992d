//! Helper tables of gh-ost and pt-online-schema-change.

use alloc::{format, string::String, vec::Vec};

use regex::Regex;

use crate::error::{Error, Result, code};

/// Tells the tables that such tools make from real ones.
#[derive(Clone, Debug)]
pub struct OnlineDdl {
    shadow: Vec<Regex>,
    trash: Vec<Regex>,
}

/// What a table is to a tool that changes tables online.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Class {
    /// None of its tables.
    Real,
    /// The new form of the named table while it is filled.
    Ghost(String),
    /// The old form of the named table, or a log of changes to it.
    Trash(String),
}

impl OnlineDdl {
    /// Compiles `shadow-table-rules` and `trash-table-rules`: regular expressions whose only group
    /// is the name of the real table.
    ///
    /// # Errors
    /// A rule that is invalid or has not exactly one group.
    pub fn new(shadow: &[String], trash: &[String]) -> Result<Self> {
        let compile = |key: &str, rules: &[String]| -> Result<Vec<Regex>> {
            let rule = |text: &String| {
                let fail = |why: &str| {
                    let message =
                        format!("config '{key}' regex pattern '{text}' invalid, reason: {why}");
                    Error::new(&code::CONFIG_ONLINE_DDL_INVALID_REGEX, message)
                };
                let start = if text.starts_with('^') { "" } else { "^" };
                let end = if text.ends_with('$') { "" } else { "$" };
                let regex = Regex::new(&format!("{start}{text}{end}"));
                let regex = regex.map_err(|error| fail(&format!("{error}")))?;
                if regex.captures_len() != 2 {
                    return Err(fail(
                        "there must be exactly one group, the real table's name",
                    ));
                }
                Ok(regex)
            };
            rules.iter().map(rule).collect()
        };
        Ok(Self {
            shadow: compile("shadow-table-rules", shadow)?,
            trash: compile("trash-table-rules", trash)?,
        })
    }

    /// What a table is, by its name.
    pub fn class(&self, table: &str) -> Class {
        let real = |rules: &[Regex]| {
            let captures = rules.iter().find_map(|rule| rule.captures(table))?;
            Some(captures.get(1).map_or("", |group| group.as_str()).into())
        };
        match real(&self.shadow) {
            Some(name) => Class::Ghost(name),
            None => real(&self.trash).map_or(Class::Real, Class::Trash),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn helper_tables_are_known_by_their_names() {
        let shadow = vec!["_(.+)_(?:new|gho)".into()];
        let trash = vec!["^_(.+)_(?:ghc|del|old)$".into()];
        let rules = OnlineDdl::new(&shadow, &trash).unwrap();
        for (table, class) in [
            ("t", Class::Real),
            ("_t_gho", Class::Ghost("t".into())),
            ("_t_1_new", Class::Ghost("t_1".into())),
            ("_t_ghc", Class::Trash("t".into())),
            ("_t_old", Class::Trash("t".into())),
            ("x_t_old", Class::Real),
            ("_t_old2", Class::Real),
            ("__new", Class::Real),
        ] {
            assert_eq!(rules.class(table), class, "{table}");
        }
    }

    #[test]
    fn a_rule_has_exactly_one_group() {
        for bad in ["_x_", "(a)(b)", "("] {
            let error = OnlineDdl::new(&[bad.into()], &[]).unwrap_err();
            assert_eq!(error.code, 20048);
        }
    }
}

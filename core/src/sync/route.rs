//! Under which name a table is written.

use alloc::{format, string::String, vec::Vec};

use super::{filter::Pattern, schema::TableName};
use crate::{
    control::rules::RouteRule,
    error::{Error, Result, code},
};

/// Compiled routing rules.
#[derive(Clone, Debug, Default)]
pub struct Router {
    rules: Vec<Compiled>,
}

#[derive(Clone, Debug)]
struct Compiled {
    schema: Pattern,
    table: Option<Pattern>,
    rule: RouteRule,
}

impl Router {
    /// Compiles the rules.
    ///
    /// # Errors
    /// An invalid pattern, a rule without a target schema, two rules that match the same names, or
    /// one that makes columns from names.
    pub fn new(rules: &[RouteRule], case_sensitive: bool) -> Result<Self> {
        let mut compiled: Vec<Compiled> = Vec::with_capacity(rules.len());
        for rule in rules {
            let fail = |why: &str| {
                let message = format!("generate table router: rule {}: {why}", describe(rule));
                Error::new(&code::SYNCER_UNIT_GEN_TABLE_ROUTER, message)
            };
            if rule.extract_table.is_some()
                || rule.extract_schema.is_some()
                || rule.extract_source.is_some()
            {
                return Err(fail("columns made from names are not supported yet"));
            }
            if rule.target_schema.is_empty() {
                return Err(fail("`target-schema` must not be empty"));
            }
            let pattern = |text| Pattern::new(text, case_sensitive).map_err(|why| fail(&why));
            let same = |other: &Compiled| {
                other.rule.schema_pattern == rule.schema_pattern
                    && other.rule.table_pattern == rule.table_pattern
            };
            if compiled.iter().any(same) {
                return Err(fail("there is another rule with the same patterns"));
            }
            compiled.push(Compiled {
                schema: pattern(&rule.schema_pattern)?,
                table: match rule.table_pattern.as_str() {
                    "" => None,
                    text => Some(pattern(text)?),
                },
                rule: rule.clone(),
            });
        }
        Ok(Self { rules: compiled })
    }

    /// The name of a table in the target; of a schema where the table's name is empty. A rule about
    /// tables goes before one about schemas, and a name that no rule matches stays as it is.
    ///
    /// # Errors
    /// More than one rule of the level that decides matches: nobody can tell which one was meant,
    /// and picking one would mix tables up.
    pub fn route(&self, name: &TableName) -> Result<TableName> {
        let mut by_table = None;
        let mut by_schema = None;
        for compiled in self
            .rules
            .iter()
            .filter(|rule| rule.schema.matches(&name.schema))
        {
            let level = match &compiled.table {
                None => &mut by_schema,
                Some(table) if !name.table.is_empty() && table.matches(&name.table) => {
                    &mut by_table
                }
                Some(_) => continue,
            };
            *level = Some(match level {
                None => Ok(compiled),
                Some(Ok(first) | Err((first, _))) => Err((*first, compiled)),
            });
        }
        match by_table.or(by_schema) {
            None => Ok(name.clone()),
            Some(Ok(Compiled { rule, .. })) => Ok(TableName {
                schema: rule.target_schema.clone(),
                table: match rule.target_table.as_str() {
                    target if !target.is_empty() && !name.table.is_empty() => target.into(),
                    _ => name.table.clone(),
                },
            }),
            Some(Err((first, second))) => Err(Error::new(
                &code::SYNCER_UNIT_GEN_TABLE_ROUTER,
                format!(
                    "generate table router: {name} matches more than one rule: {} and {}",
                    describe(&first.rule),
                    describe(&second.rule)
                ),
            )),
        }
    }
}

fn describe(rule: &RouteRule) -> String {
    format!(
        "`{}`.`{}` → `{}`.`{}`",
        rule.schema_pattern, rule.table_pattern, rule.target_schema, rule.target_table
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn rules(list: &[[&str; 4]]) -> Vec<RouteRule> {
        let rule = |&[schema, table, target_schema, target_table]: &[&str; 4]| RouteRule {
            schema_pattern: schema.into(),
            table_pattern: table.into(),
            target_schema: target_schema.into(),
            target_table: target_table.into(),
            ..RouteRule::default()
        };
        list.iter().map(rule).collect()
    }

    #[test]
    fn a_rule_about_tables_beats_one_about_schemas() {
        let rules = rules(&[
            ["shard_*", "", "merged", ""],
            ["shard_*", "t_*", "merged", "t"],
            ["~^re\\d+$", "~^x", "out", ""],
            ["plain", "", "Plain2", "only"],
        ]);
        let router = Router::new(&rules, false).unwrap();
        for (schema, table, expected) in [
            ("shard_1", "t_1", "`merged`.`t`"),
            ("SHARD_1", "T_1", "`merged`.`t`"),
            ("shard_1", "other", "`merged`.`other`"),
            ("shard_1", "", "`merged`"),
            ("re12", "xyz", "`out`.`xyz`"),
            ("re12", "yx", "`re12`.`yx`"),
            ("re12", "", "`re12`"),
            ("plain", "a", "`Plain2`.`only`"),
            ("plain", "", "`Plain2`"),
            ("none", "t", "`none`.`t`"),
        ] {
            let target = router.route(&TableName::new(schema, table)).unwrap();
            assert_eq!(target.to_string(), expected);
        }
    }

    #[test]
    fn two_matches_on_the_deciding_level_are_an_error() {
        let rules = rules(&[
            ["a*", "", "x", ""],
            ["ab*", "", "y", ""],
            ["a*", "t*", "x", ""],
            ["a*", "t1", "z", ""],
        ]);
        let router = Router::new(&rules, false).unwrap();
        let route = |schema: &str, table: &str| router.route(&TableName::new(schema, table));
        assert_eq!(route("ac", "u").unwrap().to_string(), "`x`.`u`");
        // Two rules about the schema, but the one about the table decides.
        assert_eq!(route("ab", "t2").unwrap().to_string(), "`x`.`t2`");
        for (schema, table) in [("ab", "u"), ("ab", ""), ("ac", "t1")] {
            let error = route(schema, table).unwrap_err();
            assert_eq!(error.code, 36031);
            assert!(
                error.message.contains("more than one rule"),
                "{}",
                error.message
            );
        }
    }

    #[test]
    fn rules_that_cannot_be_meant_are_refused() {
        for bad in [
            [["a", "", "", ""]].as_slice(),
            &[["", "", "b", ""]],
            &[["a*b", "", "c", ""]],
            &[["~(", "", "c", ""]],
            &[["a", "t", "b", ""], ["a", "t", "c", ""]],
        ] {
            assert_eq!(Router::new(&rules(bad), false).unwrap_err().code, 36031);
        }
    }
}

//! Whether tables of the source and the target fit each other.

use std::collections::{BTreeMap, BTreeSet};

use dm_core::{
    binlog::Dialect,
    full::{Reading, renumbers, rounds},
    sync::{
        agreement::{Metadata, look_ahead},
        schema::{ColumnInfo, Key, Quoted, Table, TableName},
    },
};

use super::{
    item::{Problem, Problems},
    tables::{Facts, Kind, Parents, Tables},
};

/// A table of a source, and where its rows go.
pub(super) struct Route<'a> {
    pub(super) source: &'a Facts,
    pub(super) target: TableName,
}

/// What is known of the target.
#[derive(Debug, Default)]
pub(super) struct There {
    /// Schemas that rows go to and that are there, in lower case where that makes no difference;
    /// asked only where a collation is not known.
    pub(super) schemas: BTreeSet<String>,
    /// Tables that rows go to, by name, in lower case where that makes no difference.
    pub(super) tables: Tables,
    /// Which of them have rows.
    pub(super) filled: BTreeSet<TableName>,
    /// Collations that the source has and the target does not know.
    pub(super) unknown: BTreeSet<String>,
    /// Types of columns that it does not have, of those that sources have.
    pub(super) unknown_types: Vec<&'static str>,
    /// Its storage engines, in lower case; nothing if that is not known.
    pub(super) engines: BTreeSet<String>,
    /// Whether letter case makes no difference.
    pub(super) any_case: bool,
}

/// Types of MariaDB only.
const OF_MARIADB: [&str; 3] = ["inet4", "inet6", "uuid"];
/// Types that TiDB does not have.
const SPATIAL: [&str; 9] = [
    "geomcollection",
    "geometry",
    "geometrycollection",
    "linestring",
    "multilinestring",
    "multipoint",
    "multipolygon",
    "point",
    "polygon",
];

/// What a task does with tables.
#[derive(Clone, Copy, Debug)]
pub(super) struct Does {
    /// It makes them and fills them.
    pub(super) copies: bool,
    /// It changes their rows.
    pub(super) follows: bool,
    /// The source logs what its foreign keys change.
    pub(super) cascades: bool,
    /// What its binlog tells of columns.
    pub(super) metadata: Metadata,
}

impl There {
    /// The types that such a server does not have.
    pub(super) fn types_unknown_to(dialect: Dialect) -> Vec<&'static str> {
        match dialect {
            Dialect::MariaDb => Vec::new(),
            Dialect::MySql => OF_MARIADB.to_vec(),
            Dialect::TiDb => [&OF_MARIADB[..], &SPATIAL].concat(),
        }
    }

    /// A name as schemas are kept by.
    pub(super) fn schema(&self, name: &str) -> String {
        match self.any_case {
            true => name.to_lowercase(),
            false => name.to_owned(),
        }
    }

    /// A name as tables are kept by.
    pub(super) fn key(&self, name: &TableName) -> TableName {
        if self.any_case {
            return lower(name);
        }
        name.clone()
    }

    fn table(&self, name: &TableName) -> Option<&Facts> {
        self.tables.get(&self.key(name))
    }
}

fn lower(name: &TableName) -> TableName {
    TableName::new(name.schema.to_lowercase(), name.table.to_lowercase())
}

impl Route<'_> {
    /// What a problem is about.
    fn about(&self) -> String {
        let Self { source, target } = self;
        let name = &source.table.name;
        if name == target {
            return name.to_string();
        }
        format!("{name} (to {target})")
    }
}

/// What can be said of single tables; `there` only if the target could be asked.
pub(super) fn check(routes: &[Route<'_>], there: Option<&There>, does: Does) -> Vec<Problem> {
    let mut problems = Problems::default();
    for route in routes {
        check_source(route, does, &mut problems);
        if let Some(there) = there {
            match there.table(&route.target) {
                Some(target) => compare(route, target, does, &mut problems),
                None => check_missing(route, there, does, &mut problems),
            }
        }
    }
    check_names(routes, &mut problems);
    problems.list()
}

/// What can be said of the schemas that a copy makes; the source has these, each with its default
/// collation.
pub(super) fn check_schemas(
    routes: &[Route<'_>],
    schemas: &BTreeMap<String, String>,
    there: &There,
) -> Vec<Problem> {
    let mut problems = Problems::default();
    for Route { source, target } in routes {
        let collation = schemas.get(&source.table.name.schema);
        let Some(collation) = collation.filter(|it| there.unknown.contains(*it)) else {
            continue;
        };
        if there.schemas.contains(&there.schema(&target.schema)) {
            continue;
        }
        let problem = Problem::fail(
            format!(
                "the target does not know the collation {collation}, which the schema has as its \
                 default"
            ),
            "Make the schema in the target, with one that it knows.",
        );
        problems.add(problem.about(Quoted(&target.schema)));
    }
    problems.list()
}

fn check_source(route: &Route<'_>, does: Does, problems: &mut Problems) {
    let Facts { table, parents, .. } = route.source;
    if does.follows && table.row_key().is_none() {
        let problem = Problem::warn(
            "without a primary key, or a unique one whose columns are NOT NULL, each change looks \
             for its row in the whole table",
            "Give the table a primary key.",
        );
        problems.add(problem.about(route.about()));
    } else if does.follows && does.copies && !Reading::new(table).has_key() {
        let problem = Problem::warn(
            "a copy can't go on amid the table, whose keys have only columns of types that are not \
             ordered as their literals are, or prefixes of columns: interrupted, it begins anew",
            "If the table is large, give it another unique key, whose columns are NOT NULL.",
        );
        problems.add(problem.about(route.about()));
    }
    let problem = match parents {
        None => return,
        Some(Parents::Cascading) if does.follows && !does.cascades => Problem::warn(
            "what the source changes by ON … CASCADE or SET NULL is not in its binlog (MySQL \
             before 9.6, MariaDB), and is not replicated then",
            "Let the application or triggers do that, or use MySQL 9.6 or later.",
        ),
        Some(_) => Problem::warn(
            "foreign keys are not checked in the target: the source has done that",
            "Do not write into the target's tables meanwhile.",
        ),
    };
    problems.add(problem.about(route.about()));
}

/// A table that is not in the target.
fn check_missing(route: &Route<'_>, there: &There, does: Does, problems: &mut Problems) {
    if !does.copies {
        let problem = Problem::warn(
            "the target has no such table, and the task makes none unless the binlog does",
            "Make the table as it was where the binlog is read from, and fill it.",
        );
        problems.add(problem.about(route.about()));
        return;
    }
    let Facts { table, engine, .. } = route.source;
    for column in &table.columns {
        let of_column = &*column.type_name;
        if there.unknown_types.contains(&of_column) {
            let problem = Problem::fail(
                format!("the target has no type {}", of_column.to_uppercase()),
                "Change the type at the source, or exclude the table with the `block-allow-list`.",
            );
            problems.add(problem.about(route.about()));
        }
    }
    let known = &there.engines;
    if !engine.is_empty() && !known.is_empty() && !known.contains(&engine.to_lowercase()) {
        let problem = Problem::warn(
            format!(
                "the target has no storage engine {engine}: it takes its usual one for the table"
            ),
            "Make the table in the target yourself, if that is not what you want.",
        );
        problems.add(problem.about(route.about()));
    }
    for collation in collations(route.source) {
        if there.unknown.contains(collation) {
            let problem = Problem::fail(
                format!("the target does not know the collation {collation}"),
                "Make the table in the target, with a collation that it knows.",
            );
            problems.add(problem.about(route.about()));
        }
    }
}

/// The collations that a table needs.
pub(super) fn collations(facts: &Facts) -> BTreeSet<&str> {
    let columns = facts.table.columns.iter();
    let columns = columns.filter_map(|column| column.collation.as_deref());
    columns.chain(facts.collation.as_deref()).collect()
}

/// A table that is in both.
fn compare(route: &Route<'_>, target: &Facts, does: Does, problems: &mut Problems) {
    const ALTER: &str = "Alter the target's table, or drop it, to have it made as the source's.";
    const TELL: &str = " Or let the source's binlog tell, before anything is copied: \
                        `binlog_row_metadata=FULL`.";
    let source = &route.source.table;
    let about = route.about();
    // Nobody can say what rows in the binlog are like, which may be of former times.
    let serious = |reason: String| match does.copies {
        true => Problem::fail(reason, ALTER),
        false => Problem::warn(reason, ALTER),
    };
    if does.follows
        && let Err(error) = look_ahead(source, &target.table, does.metadata)
    {
        let mut problem = serious(error.message);
        problem.advice.push_str(TELL);
        problems.add(problem.about(&about));
    }
    let (mut charsets, mut collations) = (Vec::new(), Vec::new());
    for column in source.columns.iter().filter(|column| !column.generated) {
        let name = Quoted(&column.name);
        let Some(other) = find(&target.table, &column.name) else {
            let reason = format!("the target's table has no column {name}");
            problems.add(serious(reason).about(&about));
            continue;
        };
        if other.generated {
            let reason =
                format!("the target's column {name} is computed, which the source's is not");
            problems.add(serious(reason).about(&about));
        }
        if rounds(column, other) {
            let reason = format!(
                "the target's column {name} is {}, which rounds values of {}",
                other.column_type, column.column_type
            );
            problems.add(serious(reason).about(&about));
        }
        if renumbers(column, other) {
            let reason = format!(
                "the target's column {name} is {}, in which members of {} have other numbers",
                other.column_type, column.column_type
            );
            problems.add(serious(reason).about(&about));
        }
        let (charset, to) = (charset(column), charset(other));
        if charset != to && to.as_deref() != Some("utf8mb4") && charset.is_some() {
            charsets.push(name.to_string());
        } else if collation(column) != collation(other) && charset.is_some() {
            collations.push(name.to_string());
        }
    }
    for (columns, reason) in [
        (
            charsets,
            "some columns have a character set that may lack characters of the source's",
        ),
        (
            collations,
            "some columns have another collation in the target: what is equal there differs",
        ),
    ] {
        if !columns.is_empty() {
            let about = format!("{about}: {}", columns.join(", "));
            problems.add(Problem::warn(reason, ALTER).about(about));
        }
    }
    for index in &target.required {
        let Some(column) = target.table.columns.get(*index) else {
            continue;
        };
        if find(source, &column.name).is_none() {
            let reason = format!(
                "the target's column {} has no default, and the source no value for it",
                Quoted(&column.name)
            );
            // Sessions are strict: the row would be refused.
            problems.add(serious(reason).about(&about));
        }
    }
    let (here, there) = (keys(source), keys(&target.table));
    for (a, b, what) in [
        (
            &here,
            &there,
            "the target's table lacks a unique key of the source's",
        ),
        (
            &there,
            &here,
            "the target's table has a unique key that the source's has not",
        ),
    ] {
        for key in a.difference(b) {
            let about = format!("{about}: {key}");
            problems.add(Problem::warn(what, ALTER).about(about));
        }
    }
}

fn find<'a>(table: &'a Table, name: &str) -> Option<&'a ColumnInfo> {
    let name = name.to_lowercase();
    let mut columns = table.columns.iter();
    columns.find(|column| column.name.to_lowercase() == name)
}

/// The character set of a column, by its newer name.
fn charset(column: &ColumnInfo) -> Option<String> {
    let charset = column.charset.as_deref()?.to_lowercase();
    Some(match &*charset {
        "utf8" => "utf8mb3".to_owned(),
        _ => charset,
    })
}

fn collation(column: &ColumnInfo) -> Option<String> {
    let collation = column.collation.as_deref()?.to_lowercase();
    Some(match collation.strip_prefix("utf8_") {
        Some(rest) => format!("utf8mb3_{rest}"),
        None => collation,
    })
}

/// The unique keys of a table, as lists of columns.
fn keys(table: &Table) -> BTreeSet<String> {
    let key = |key: &Key| {
        let part = |part: &dm_core::sync::schema::KeyPart| {
            let column = table.columns.get(part.column?)?;
            let prefix = part.prefix.map(|length| format!("({length})"));
            Some(Quoted(&column.name.to_lowercase()).to_string() + &prefix.unwrap_or_default())
        };
        // Expressions read differently on each server.
        let parts: Option<Vec<_>> = key.parts.iter().map(part).collect();
        parts.map(|parts| format!("({})", parts.join(", ")))
    };
    table.unique_keys().filter_map(key).collect()
}

/// Names of the target that differ in letter case only are the same to many servers.
fn check_names(routes: &[Route<'_>], problems: &mut Problems) {
    let mut seen: BTreeMap<TableName, &TableName> = BTreeMap::new();
    for route in routes {
        let first = *seen.entry(lower(&route.target)).or_insert(&route.target);
        if *first != route.target {
            let problem = Problem::fail(
                format!("rows go to two tables whose names differ in letter case only: {first}"),
                "Route one of them to another name.",
            );
            problems.add(problem.about(route.about()));
        }
    }
}

/// Tables that go into one; `all` are those of all sources of a task.
pub(super) fn check_merged(all: &[Route<'_>]) -> (Vec<Problem>, Vec<Problem>) {
    let (mut shapes, mut numbers) = (Problems::default(), Problems::default());
    let mut merged: BTreeMap<&TableName, Vec<&Route<'_>>> = BTreeMap::new();
    for route in all {
        merged.entry(&route.target).or_default().push(route);
    }
    for (target, routes) in merged {
        let [first, rest @ ..] = &*routes else {
            continue;
        };
        if rest.is_empty() {
            continue;
        }
        for route in rest {
            if shape(route.source) != shape(first.source) {
                let problem = Problem::fail(
                    format!(
                        "columns or keys differ from those of {}, whose rows go to {target} too",
                        first.source.table.name
                    ),
                    "Alter one of the tables, or route them to different names.",
                );
                shapes.add(problem.about(&route.source.table.name));
            }
        }
        for route in routes.iter().filter(|route| route.source.numbers) {
            let problem = Problem::warn(
                format!(
                    "rows of {} tables go to {target}, and an AUTO_INCREMENT may give the same \
                     number in each",
                    routes.len()
                ),
                "See that the numbers can't be the same: rows would replace each other.",
            );
            numbers.add(problem.about(&route.source.table.name));
        }
    }
    (shapes.list(), numbers.list())
}

/// What of a table must be the same for its rows to stand among those of another.
fn shape(facts: &Facts) -> (Vec<String>, BTreeSet<String>) {
    let column = |column: &ColumnInfo| {
        // Their width depends on the version only.
        let kind = match column.type_name.ends_with("int") {
            true => format!("{} {}", column.type_name, column.unsigned),
            false => column.column_type.clone(),
        };
        format!("{} {kind}", column.name.to_lowercase())
    };
    let columns = facts.table.columns.iter().map(column).collect();
    (columns, keys(&facts.table))
}

/// Whether tables of the target can take rows, and whether they have some.
pub(super) fn check_targets(routes: &[Route<'_>], there: &There, does: Does) -> Vec<Problem> {
    let mut problems = Problems::default();
    for route in routes {
        let Some(target) = there.table(&route.target) else {
            continue;
        };
        let (about, name) = (route.about(), &route.target);
        if target.kind == Kind::View {
            let problem = Problem::fail(
                "the target has a view of that name: it has no keys to find rows by",
                "Route the rows to the table behind the view, or put a table in its place.",
            );
            problems.add(problem.about(&about));
        } else if !target.transactions {
            let problem = Problem::fail(
                format!(
                    "the target's table has no transactions (engine {}): its rows could be applied \
                     twice or by halves",
                    target.engine
                ),
                "Execute ALTER TABLE … ENGINE=InnoDB in the target.",
            );
            problems.add(problem.about(&about));
        }
        if !does.copies || !there.filled.contains(&there.key(name)) {
            continue;
        }
        let source = &route.source.table;
        let keyless = "the target's table has rows already, and no key tells them apart from those \
                       that are to come";
        let problem = match Reading::new(source).has_key() {
            false if *name == source.name => {
                Problem::fail(keyless, "Empty the table in the target, or drop it.")
            }
            false => Problem::warn(keyless, "Empty the table, unless the rows are another's."),
            true => Problem::warn(
                "the target's table has rows already: where keys are the same, \
                 `on-duplicate-logical` of `loaders` says which row stays; the others stay anyway",
                "Empty the table in the target, or drop it, unless they belong there.",
            ),
        };
        problems.add(problem.about(&about));
    }
    problems.list()
}

#[cfg(test)]
mod tests;

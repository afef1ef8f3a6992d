//! Statements that change definitions: their text, and exactly the part of SQL that reads it.

use std::fmt;

use super::tables::{Definition, Refusal, column, refuse};

/// A statement.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Statement {
    /// `TRUNCATE TABLE`.
    Truncate(String),
    /// `ALTER TABLE`.
    Alter(String, Vec<Spec>),
    /// `CREATE TABLE`.
    Create {
        name: String,
        definition: Definition,
        /// `IF NOT EXISTS`.
        lenient: bool,
    },
    /// `DROP TABLE`.
    Drop {
        names: Vec<String>,
        /// `IF EXISTS`.
        lenient: bool,
    },
    /// `RENAME TABLE`.
    Rename(Vec<(String, String)>),
    /// `CREATE DATABASE`, which is always there.
    CreateDatabase,
}

/// A part of an `ALTER TABLE`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Spec {
    /// `ADD COLUMN`, a BIGINT that may be NULL.
    Add(String),
    /// `DROP COLUMN`.
    Drop(String),
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(name) => write!(f, "ADD COLUMN `{name}` BIGINT NULL"),
            Self::Drop(name) => write!(f, "DROP COLUMN `{name}`"),
        }
    }
}

/// Its text as a client of the source writes it.
impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncate(name) => write!(f, "TRUNCATE TABLE `{name}`"),
            Self::Alter(name, specs) => {
                let specs: Vec<_> = specs.iter().map(ToString::to_string).collect();
                write!(f, "ALTER TABLE `{name}` {}", specs.join(", "))
            }
            Self::Create {
                name,
                definition,
                lenient,
            } => {
                let lenient = if *lenient { "IF NOT EXISTS " } else { "" };
                write!(f, "CREATE TABLE {lenient}`{name}` {definition}")
            }
            Self::Drop { names, lenient } => {
                let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
                let lenient = if *lenient { "IF EXISTS " } else { "" };
                write!(f, "DROP TABLE {lenient}{}", names.join(","))
            }
            Self::CreateDatabase => f.write_str("CREATE DATABASE"),
            Self::Rename(pairs) => {
                let pairs = pairs.iter().map(|(from, to)| format!("`{from}` TO `{to}`"));
                write!(f, "RENAME TABLE {}", pairs.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

impl Statement {
    /// Reads a statement as a server does that knows nothing else.
    ///
    /// # Errors
    /// It does not understand it.
    pub(super) fn parse(sql: &str) -> Result<Self, Refusal> {
        let mut words = Words::new(sql);
        let statement = words.statement();
        match statement.filter(|_| words.at == words.list.len()) {
            Some(statement) => Ok(statement),
            None => refuse(1064, format!("You have an error in your SQL syntax: {sql}")),
        }
    }
}

/// The words of a statement; a name in back-quotes, or a sign, is one as well.
struct Words {
    list: Vec<String>,
    at: usize,
}

impl Words {
    fn new(sql: &str) -> Self {
        let mut list = Vec::new();
        let mut rest = sql.trim_start();
        while let Some(first) = rest.chars().next() {
            let len = match first {
                '`' => rest[1..].find('`').map_or(rest.len(), |at| at + 2),
                '/' => rest.find("*/").map_or(rest.len(), |at| at + 2),
                _ if first.is_alphanumeric() => {
                    let is_end = |it: char| !it.is_alphanumeric() && it != '_';
                    rest.find(is_end).unwrap_or(rest.len())
                }
                _ => first.len_utf8(),
            };
            if first != '/' {
                list.push(rest[..len].to_owned());
            }
            rest = rest[len..].trim_start();
        }
        Self { list, at: 0 }
    }

    /// Takes words, if they come next.
    fn take(&mut self, words: &str) -> bool {
        let wanted = words.split(' ').count();
        let next = self.list.get(self.at..self.at + wanted);
        let found = next.is_some_and(|next| {
            let mut pairs = next.iter().zip(words.split(' '));
            pairs.all(|(a, b)| a.eq_ignore_ascii_case(b))
        });
        if found {
            self.at += wanted;
        }
        found
    }

    fn ident(&mut self) -> Option<String> {
        let word = self.list.get(self.at)?;
        let name = word.strip_prefix('`')?.strip_suffix('`')?.to_owned();
        self.at += 1;
        Some(name)
    }

    /// A table, with or without its schema.
    fn table(&mut self) -> Option<String> {
        let name = self.ident()?;
        if self.take(".") {
            return self.ident();
        }
        Some(name)
    }

    /// One or more, with commas between.
    fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut list = vec![one(self)?];
        while self.take(",") {
            list.push(one(self)?);
        }
        Some(list)
    }

    fn statement(&mut self) -> Option<Statement> {
        if self.take("TRUNCATE TABLE") {
            return self.table().map(Statement::Truncate);
        }
        if self.take("ALTER TABLE") {
            let table = self.table()?;
            return Some(Statement::Alter(table, self.list(Self::spec)?));
        }
        if self.take("DROP TABLE") {
            let lenient = self.take("IF EXISTS");
            let names = self.list(Self::table)?;
            return Some(Statement::Drop { names, lenient });
        }
        if self.take("RENAME TABLE") {
            let pair = |words: &mut Self| {
                let from = words.table()?;
                words.take("TO").then_some(())?;
                Some((from, words.table()?))
            };
            return self.list(pair).map(Statement::Rename);
        }
        if self.take("CREATE DATABASE") {
            let _lenient = self.take("IF NOT EXISTS");
            return self.ident().map(|_| Statement::CreateDatabase);
        }
        self.take("CREATE TABLE").then_some(())?;
        let lenient = self.take("IF NOT EXISTS");
        let name = self.table()?;
        let mut definition = Definition::default();
        self.take("(").then_some(())?;
        self.list(|words| words.part(&mut definition))?;
        self.take(")").then_some(())?;
        Some(Statement::Create {
            name,
            definition,
            lenient,
        })
    }

    fn spec(&mut self) -> Option<Spec> {
        if self.take("DROP COLUMN") {
            return self.ident().map(Spec::Drop);
        }
        self.take("ADD COLUMN").then_some(())?;
        let name = self.ident()?;
        self.take("BIGINT NULL").then_some(Spec::Add(name))
    }

    /// A column or a key of a table that is created.
    fn part(&mut self, definition: &mut Definition) -> Option<()> {
        if self.take("PRIMARY KEY (") || self.take("UNIQUE KEY (") {
            let name = self.ident()?;
            let mut columns = definition.columns.iter();
            let index = columns.position(|column| column.name == name)?;
            definition.uniques.push(index);
            return self.take(")").then_some(());
        }
        let name = self.ident()?;
        self.take("BIGINT").then_some(())?;
        let nullable = !self.take("NOT NULL");
        definition.columns.push(column(&name, nullable));
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tables::Tables, *};

    #[test]
    fn what_is_written_is_read() {
        let tables = Tables::initial();
        let definition = tables.get("keyed").expect("it is there").definition.clone();
        let name = || "a".to_owned();
        for statement in [
            Statement::Truncate(name()),
            Statement::Alter(name(), vec![Spec::Add(name()), Spec::Drop(name())]),
            Statement::Create {
                name: name(),
                definition,
                lenient: false,
            },
            Statement::Drop {
                names: vec![name(), name()],
                lenient: true,
            },
            Statement::Rename(vec![(name(), name()), (name(), name())]),
        ] {
            let text = statement.to_string();
            assert_eq!(Statement::parse(&text), Ok(statement));
            assert!(Statement::parse(&format!("{text} x")).is_err(), "{text}");
        }
        let target = "CREATE TABLE IF NOT EXISTS `s`.`t` (`id` BIGINT NOT NULL)";
        assert!(Statement::parse(target).is_ok());
    }
}

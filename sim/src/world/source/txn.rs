//! Random transactions and statements of the clients.

use dm_core::binlog::{Flavor, PayloadCompression as Compression};

use super::State;
use crate::{
    dice::Dice,
    world::{
        rows::Row,
        statement::{Spec, Statement},
        tables::{Column, Definition, column},
    },
};

/// Rows of a table from which on more are removed than added.
const ROWS_MAX: usize = 24;
/// Tables that come and go, at most.
const EXTRAS_MAX: u64 = 6;
/// Columns that a table gets added, at most.
const ADDED_MAX: usize = 4;

/// A row before and after.
pub(in crate::world) type Image = (Option<Row>, Option<Row>);

/// Rows of one table that change in one way, at least one.
#[derive(Debug)]
pub(in crate::world) struct Part {
    pub(in crate::world) table: String,
    pub(in crate::world) id: u64,
    pub(in crate::world) definition: Definition,
    pub(in crate::world) images: Vec<Image>,
}

/// A transaction.
pub(super) struct Transaction {
    /// What each statement changes.
    pub(super) statements: Vec<Vec<Part>>,
    /// Whether it ends as one does that changed a table without transactions.
    pub(super) ends_by_text: bool,
    /// How it is compressed, if it is.
    pub(super) payload: Option<Compression>,
}

impl Transaction {
    /// How many rows it changes.
    pub(super) fn rows(&self) -> usize {
        let parts = self.statements.iter().flatten();
        parts.map(|part| part.images.len()).sum()
    }
}

impl State {
    /// Makes random changes.
    pub(super) fn transaction(&mut self, dice: &mut Dice) -> Transaction {
        let count = match dice.within(0..60) {
            0 => dice.within(100..500),
            1..=3 => dice.within(20..60),
            4 => 0,
            _ => dice.within(1..6),
        };
        let mut parts: Vec<Part> = Vec::new();
        let mut left = count;
        while left > 0 {
            let name = dice.pick(&self.tables.names()).clone();
            let kind = dice.within(0..10);
            // Alone, or one of many in a statement.
            let wide = dice.permille(300);
            let rows = if wide {
                dice.within(1..20).min(left)
            } else {
                1
            };
            left -= rows;
            for _ in 0..rows {
                if let Some(image) = self.change(dice, &name, kind) {
                    self.join(&mut parts, &name, image, wide);
                }
            }
        }
        let mut statements: Vec<Vec<Part>> = Vec::new();
        for part in parts {
            match statements.last_mut() {
                // Triggers, and statements that change several tables.
                Some(last) if dice.permille(200) => last.push(part),
                _ => statements.push(vec![part]),
            }
        }
        Transaction {
            statements,
            ends_by_text: dice.permille(50),
            payload: self.compression(dice),
        }
    }

    fn compression(&self, dice: &mut Dice) -> Option<Compression> {
        let is_mysql = self.plan.flavor() == Flavor::Mysql;
        let compresses = is_mysql && self.plan.compresses && dice.permille(800);
        compresses.then(|| match dice.within(0..5) {
            0 => Compression::None,
            _ => Compression::Zstd,
        })
    }

    /// Adds a changed row to the last part, or to one of its own.
    fn join(&self, parts: &mut Vec<Part>, name: &str, image: Image, joins: bool) {
        let Some(table) = self.tables.get(name) else {
            return;
        };
        let kind = |image: &Image| (image.0.is_some(), image.1.is_some());
        match parts.last_mut() {
            Some(last) if joins && last.table == name && kind(&last.images[0]) == kind(&image) => {
                last.images.push(image);
            }
            _ => parts.push(Part {
                table: name.to_owned(),
                id: table.id,
                definition: table.definition.clone(),
                images: vec![image],
            }),
        }
    }

    /// Makes a random change, unless the server itself would refuse it.
    fn change(&mut self, dice: &mut Dice, name: &str, kind: u64) -> Option<Image> {
        let definition = self.tables.get(name)?.definition.clone();
        let mut new: Row = Vec::new();
        for (index, column) in definition.columns.iter().enumerate() {
            let value = self.value(dice, &definition, index, column);
            new.push(value);
        }
        let rows = &mut self.tables.get_mut(name)?.rows;
        let old = rows.pick(dice.roll()).cloned();
        let grows = rows.len() < ROWS_MAX;
        match (kind, old) {
            (0..=3, _) | (_, None) if grows => {
                rows.insert(&definition, new.clone()).ok()?;
                Some((None, Some(new)))
            }
            (4..=6, Some(old)) => {
                // Most updates leave the key alone.
                if let Some(&key) = definition.uniques.first()
                    && kind != 4
                {
                    new[key] = old[key];
                }
                rows.update(&definition, &old, new.clone()).ok()?;
                Some((Some(old), Some(new)))
            }
            (_, Some(old)) => {
                rows.delete(&definition, &old).ok()?;
                Some((Some(old), None))
            }
            (_, None) => None,
        }
    }

    /// A value for a column: few different ones where they are to collide, new ones else.
    fn value(
        &mut self,
        dice: &mut Dice,
        table: &Definition,
        index: usize,
        column: &Column,
    ) -> Option<i64> {
        let roll = dice.within(0..12);
        let mut uniques = table.uniques.iter();
        match uniques.position(|unique| *unique == index) {
            Some(0) => Some(dice.within(0..40).cast_signed()),
            Some(_) => (roll > 2).then_some(roll.cast_signed() * 3),
            // Equal rows on purpose: a doubled or lost one must be noticed all the same.
            None if table.uniques.is_empty() && column.nullable => {
                (roll > 1).then_some((roll % 4).cast_signed())
            }
            None => {
                self.next_value += 1;
                Some(self.next_value)
            }
        }
    }

    /// A random statement that the server will execute.
    pub(super) fn statement(&mut self, dice: &mut Dice) -> Statement {
        let names = self.tables.names();
        let table = dice.pick(&names).clone();
        let is_extra = |name: &&String| name.starts_with("extra");
        let extras: Vec<String> = names.iter().filter(is_extra).cloned().collect();
        let free: Vec<String> = (0..EXTRAS_MAX)
            .map(|number| format!("extra{number}"))
            .filter(|name| !extras.contains(name))
            .collect();
        match dice.within(0..12) {
            0..=1 => Statement::Truncate(table),
            2..=4 => self.alter(dice, table),
            5..=8 if !free.is_empty() => Statement::Create {
                name: dice.pick(&free).clone(),
                definition: fresh(dice),
                lenient: dice.permille(300),
            },
            // A table that takes another name between two snapshots of its copy is not followed.
            9..=10 if !extras.is_empty() && !free.is_empty() && !self.plan.copies => {
                let count = extras.len().min(free.len());
                let pairs = extras.into_iter().zip(free);
                let count = dice.within(1..count as u64 + 1) as usize;
                Statement::Rename(pairs.take(count).collect())
            }
            11 if !extras.is_empty() => {
                let count = dice.within(1..extras.len() as u64 + 1) as usize;
                Statement::Drop {
                    names: extras.into_iter().take(count).collect(),
                    lenient: dice.permille(300),
                }
            }
            _ => Statement::Truncate(table),
        }
    }

    /// Adds columns, or removes those that were added.
    fn alter(&mut self, dice: &mut Dice, table: String) -> Statement {
        let known = self.tables.get(&table);
        let columns = known.map_or(&[][..], |known| &known.definition.columns);
        let is_added = |column: &&Column| column.name.starts_with("added");
        let mut added: Vec<&Column> = columns.iter().filter(is_added).collect();
        let mut specs = Vec::new();
        for _ in 0..dice.within(1..3) {
            if !added.is_empty() && (added.len() >= ADDED_MAX || dice.permille(500)) {
                let gone = added.remove(dice.within(0..added.len() as u64) as usize);
                specs.push(Spec::Drop(gone.name.clone()));
            } else {
                self.next_column += 1;
                specs.push(Spec::Add(format!("added{}", self.next_column)));
            }
        }
        Statement::Alter(table, specs)
    }
}

/// The definition of a new table.
fn fresh(dice: &mut Dice) -> Definition {
    let mut columns = vec![column("id", false)];
    for number in 0..dice.within(1..4) {
        columns.push(column(&format!("c{number}"), true));
    }
    let mut uniques = Vec::new();
    if dice.permille(700) {
        uniques.push(0);
        if dice.permille(300) {
            uniques.push(1);
        }
    }
    Definition { columns, uniques }
}

//! What a table's definition says, as `SHOW CREATE TABLE` prints it: keys that can be made when its
//! rows are there, which takes less than to keep them in order while rows come, and columns.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use super::statement::{Cursor, values};
use crate::{error::Result, sync::schema::ColumnInfo};

/// A key that tells no rows apart: nothing but speed depends on when it is made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlainKey {
    /// Its name.
    pub name: String,
    /// What makes it, behind `ADD`.
    pub clause: String,
}

/// The plain keys in a table's definition.
///
/// # Errors
/// 11006: it is no such definition.
pub fn plain_keys(definition: &str) -> Result<Vec<PlainKey>> {
    let keys = parts(definition)?.into_iter().filter_map(|clause| {
        let name = name(clause).ok().flatten()?;
        Some(PlainKey {
            name,
            clause: clause.to_string(),
        })
    });
    Ok(keys.collect())
}

/// The columns in a table's definition: their names, their types without what follows the
/// brackets, and whether they are computed. Those whose names are not in backquotes are left out,
/// and invisible ones, of which a dump may have no values.
///
/// # Errors
/// 11006: it is no such definition.
pub fn columns(definition: &str) -> Result<Vec<ColumnInfo>> {
    let columns = parts(definition)?.into_iter().map(column);
    Ok(columns.filter_map(|column| column.ok().flatten()).collect())
}

/// What is between the brackets of a definition, part by part.
fn parts(definition: &str) -> Result<Vec<&str>> {
    let mut cursor = Cursor::new(definition.as_bytes(), true);
    for word in ["CREATE", "TABLE"] {
        if !cursor.takes(word)? {
            return Err(cursor.not_valid("it makes no table"));
        }
    }
    for word in ["IF", "NOT", "EXISTS"] {
        cursor.takes(word)?;
    }
    cursor.name()?;
    if cursor.takes_byte(b'.')? {
        cursor.name()?;
    }
    let body = &definition[cursor.row()?];
    let parts = values(body.as_bytes(), true).into_iter();
    Ok(parts.map(|part| &body[part]).collect())
}

/// The column that a part of a definition makes, if it does.
fn column(clause: &str) -> Result<Option<ColumnInfo>> {
    let mut cursor = Cursor::new(clause.as_bytes(), true);
    if !cursor.is_at(b'`')? || clause.contains(" INVISIBLE") {
        return Ok(None);
    }
    let name = cursor.name()?;
    let type_name = String::from_utf8_lossy(&cursor.name()?).to_lowercase();
    let mut column_type = type_name.clone();
    if cursor.is_at(b'(')? {
        column_type.push_str(&clause[cursor.row()?]);
    }
    Ok(Some(ColumnInfo {
        name: String::from_utf8_lossy(&name).into_owned(),
        // As all servers print it, and as older ones of MariaDB do.
        generated: clause.contains(" GENERATED ALWAYS AS ") || clause.contains(" AS ("),
        type_name,
        column_type,
        ..ColumnInfo::default()
    }))
}

/// The name of the key that a part of a definition makes, if it is a plain one.
fn name(clause: &str) -> Result<Option<String>> {
    let mut cursor = Cursor::new(clause.as_bytes(), true);
    if !cursor.takes("KEY")? {
        return Ok(None);
    }
    let name = cursor.name()?;
    Ok(Some(String::from_utf8_lossy(&name).into_owned()))
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn plain_keys_are_found_among_the_rest() {
        let definition = "CREATE TABLE `a``(b` (\n  `KEY` int NOT NULL AUTO_INCREMENT,\n  \
             `s` varchar(9) DEFAULT ',\\n  KEY `x` (`s`)' COMMENT 'it''s, KEY',\n  \
             `p` point NOT NULL,\n  \
             PRIMARY KEY (`KEY`),\n  UNIQUE KEY `u` (`s`),\n  \
             KEY `s``1` (`s`(3) DESC,`KEY`) USING BTREE COMMENT 'a, (b',\n  \
             KEY `f` ((lower(`s`))) /*!80000 INVISIBLE */,\n  FULLTEXT KEY `t` (`s`),\n  \
             SPATIAL KEY `p` (`p`),\n  CONSTRAINT `c` CHECK ((`s` <> ',KEY'))\n\
             ) ENGINE=InnoDB COMMENT='(, KEY `y` (`s`)'";
        let key = |name: &str, clause: &str| PlainKey {
            name: name.into(),
            clause: clause.into(),
        };
        assert_eq!(
            plain_keys(definition).unwrap(),
            vec![
                key(
                    "s`1",
                    "KEY `s``1` (`s`(3) DESC,`KEY`) USING BTREE COMMENT 'a, (b'"
                ),
                key("f", "KEY `f` ((lower(`s`))) /*!80000 INVISIBLE */"),
            ]
        );
        assert_eq!(plain_keys("CREATE TABLE `t` (`i` int)").unwrap(), vec![]);
        let has_schema = "CREATE TABLE IF NOT EXISTS `d`.`t` (`i` int, UNIQUE KEY (`i`))";
        assert_eq!(plain_keys(has_schema).unwrap(), vec![]);
        assert!(plain_keys("CREATE VIEW `v` AS SELECT 1").is_err());
        assert!(plain_keys("CREATE TABLE `t` (`i` int").is_err());
    }

    #[test]
    fn columns_are_found_among_the_rest() {
        let definition = "CREATE TABLE IF NOT EXISTS `d`.`t` (\n  `a``(` int unsigned NOT NULL,\n  \
             `KEY` DATETIME(6) DEFAULT '1970-01-01 00:00:00.000000' COMMENT '`x` int,',\n  \
             `e` enum('a,b','c)''','`') COLLATE utf8mb4_bin,\n  `d` decimal(10,2),\n  \
             `g` int GENERATED ALWAYS AS ((`d` + 1)) VIRTUAL,\n  `m` int AS (`d` + 1) STORED,\n  \
             `my_row_id` bigint unsigned NOT NULL AUTO_INCREMENT /*!80023 INVISIBLE */,\n  \
             PRIMARY KEY (`KEY`),\n  KEY `k` (`e`),\n  CONSTRAINT `c` CHECK ((`e` <> 1))\n)";
        let found = columns(definition).unwrap();
        let found: Vec<_> = (found.iter())
            .map(|it| (&*it.name, &*it.type_name, &*it.column_type, it.generated))
            .collect();
        assert_eq!(
            found,
            [
                ("a`(", "int", "int", false),
                ("KEY", "datetime", "datetime(6)", false),
                ("e", "enum", "enum('a,b','c)''','`')", false),
                ("d", "decimal", "decimal(10,2)", false),
                ("g", "int", "int", true),
                ("m", "int", "int", true),
            ]
        );
        assert!(columns("CREATE TABLE t LIKE u").is_err());
    }
}

//! Keys of a table that can be made when its rows are there, which takes less than to keep them in
//! order while rows come.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use super::statement::{Cursor, values};
use crate::error::Result;

/// A key that tells no rows apart: nothing but speed depends on when it is made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlainKey {
    /// Its name.
    pub name: String,
    /// What makes it, behind `ADD`.
    pub clause: String,
}

/// The plain keys in a table's definition, as `SHOW CREATE TABLE` prints it.
///
/// # Errors
/// 11006: it is no such definition.
pub fn plain_keys(definition: &str) -> Result<Vec<PlainKey>> {
    let mut cursor = Cursor::new(definition.as_bytes(), true);
    for word in ["CREATE", "TABLE"] {
        if !cursor.takes(word)? {
            return Err(cursor.not_valid("it makes no table"));
        }
    }
    cursor.name()?;
    let body = cursor.row()?;
    let body = &definition[body];
    let parts = values(body.as_bytes(), true).into_iter();
    let keys = parts.filter_map(|part| {
        let clause = &body[part];
        let name = name(clause).ok().flatten()?;
        Some(PlainKey {
            name,
            clause: clause.to_string(),
        })
    });
    Ok(keys.collect())
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
        assert!(plain_keys("CREATE VIEW `v` AS SELECT 1").is_err());
        assert!(plain_keys("CREATE TABLE `t` (`i` int").is_err());
    }
}

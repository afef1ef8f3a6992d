//! One table with a column of every type, and rows with the values that are hard.
//!
//! Each column has a list of literals; row `n` takes the `n`-th of each list, round and round, so
//! that some rows hold every value of every column. Character data is given as bytes of the
//! column's own character set: among them characters whose last byte is a backslash.

use crate::{Result, servers::Database, sql::Client};

/// A column: name, type, literals.
type Column = (&'static str, &'static str, &'static [&'static str]);

/// What MySQL and MariaDB have alike.
const COMMON: &[Column] = &[
    ("boolean", "BOOLEAN", &["TRUE", "FALSE"]),
    ("tiny", "TINYINT", &["-128", "127", "-1"]),
    ("tiny_u", "TINYINT UNSIGNED", &["0", "255", "128"]),
    ("small", "SMALLINT", &["-32768", "32767", "-1"]),
    ("small_u", "SMALLINT UNSIGNED", &["0", "65535", "32768"]),
    ("medium", "MEDIUMINT", &["-8388608", "8388607", "-1"]),
    (
        "medium_u",
        "MEDIUMINT UNSIGNED",
        &["0", "16777215", "8388608"],
    ),
    ("int_", "INT", &["-2147483648", "2147483647", "-1"]),
    ("int_u", "INT UNSIGNED", &["0", "4294967295", "2147483648"]),
    (
        "big",
        "BIGINT",
        &["-9223372036854775808", "9223372036854775807", "-1"],
    ),
    (
        "big_u",
        "BIGINT UNSIGNED",
        &["0", "18446744073709551615", "9223372036854775808"],
    ),
    ("zerofill", "INT(8) ZEROFILL", &["0", "42", "12345678"]),
    (
        "decimal_65",
        "DECIMAL(65,30)",
        &[
            "-99999999999999999999999999999999999.999999999999999999999999999999",
            "0.000000000000000000000000000001",
            "-0.5",
        ],
    ),
    (
        "decimal_10",
        "DECIMAL(10,0)",
        &["-9999999999", "0", "1000000000"],
    ),
    ("decimal_5", "DECIMAL(5,5)", &["-0.99999", "0.00001", "0"]),
    (
        "decimal_u",
        "DECIMAL(9,2) UNSIGNED",
        &["9999999.99", "0.01", "100"],
    ),
    (
        "float_",
        "FLOAT",
        &["-3.4028234e38", "1.17549435e-38", "0.1", "16777217", "-0.0"],
    ),
    (
        "double_",
        "DOUBLE",
        &[
            "-1.7976931348623157e308",
            "2.2250738585072014e-308",
            "0.1",
            "1e15",
        ],
    ),
    ("bit_1", "BIT(1)", &["b'0'", "b'1'"]),
    ("bit_9", "BIT(9)", &["b'100000001'", "b'0'", "b'11111111'"]),
    (
        "bit_64",
        "BIT(64)",
        &["0xFFFFFFFFFFFFFFFF", "0", "0x8000000000000000"],
    ),
    (
        "date_",
        "DATE",
        &[
            "'0000-00-00'",
            "'1000-01-01'",
            "'9999-12-31'",
            "'2024-00-00'",
        ],
    ),
    (
        "time_",
        "TIME",
        &["'-838:59:59'", "'838:59:59'", "'00:00:00'", "'-00:00:01'"],
    ),
    (
        "time_3",
        "TIME(3)",
        &["'-00:00:00.001'", "'12:00:00.5'", "'-838:59:58.999'"],
    ),
    (
        "time_6",
        "TIME(6)",
        &[
            "'-00:00:00.000001'",
            "'-838:59:58.999999'",
            "'01:02:03.000004'",
        ],
    ),
    (
        "datetime_",
        "DATETIME",
        &["'0000-00-00 00:00:00'", "'9999-12-31 23:59:59'"],
    ),
    (
        "datetime_2",
        "DATETIME(2)",
        &["'1000-01-01 00:00:00.01'", "'2024-00-00 00:00:00.99'"],
    ),
    (
        "datetime_6",
        "DATETIME(6)",
        &["'2024-02-29 23:59:59.999999'", "'2000-01-01 00:00:00'"],
    ),
    (
        "timestamp_",
        "TIMESTAMP NULL",
        &[
            "'0000-00-00 00:00:00'",
            "'1970-01-01 00:00:01'",
            "'2038-01-19 03:14:07'",
        ],
    ),
    (
        "timestamp_4",
        "TIMESTAMP(4) NULL",
        &["'2024-03-31 02:30:00.1234'", "'1970-01-02'"],
    ),
    (
        "timestamp_6",
        "TIMESTAMP(6) NULL",
        &["'2024-10-27 02:30:00.000001'", "'0000-00-00'"],
    ),
    ("year_", "YEAR", &["0000", "1901", "2155", "2000"]),
    // A YEAR has a sign for the servers; it must not shift those of other columns.
    ("unsigned_behind_year", "INT UNSIGNED", &["4294967295", "1"]),
    ("signed_behind_year", "INT", &["-1", "1"]),
    (
        "char_utf8",
        "CHAR(255) CHARACTER SET utf8mb4",
        &["'😀漢é'", "''", "REPEAT('😀', 255)"],
    ),
    (
        "char_latin1",
        "CHAR(10) CHARACTER SET latin1",
        &["_latin1 0xE9FF80", "''", "'a'"],
    ),
    (
        "char_gbk",
        "CHAR(10) CHARACTER SET gbk",
        &["_gbk 0xC4E3BAC3", "_gbk 0x815C27", "'\\\\'"],
    ),
    (
        "varchar_big5",
        "VARCHAR(40) CHARACTER SET big5",
        &["_big5 0xA55C", "_big5 0xA4A4"],
    ),
    (
        "varchar_sjis",
        "VARCHAR(40) CHARACTER SET sjis",
        &["_sjis 0x835C", "_sjis 0x93FA967B"],
    ),
    (
        "varchar_cp932",
        "VARCHAR(40) CHARACTER SET cp932",
        &["_cp932 0x95E5", "_cp932 0x8A5C"],
    ),
    (
        "varchar_euckr",
        "VARCHAR(40) CHARACTER SET euckr",
        &["_euckr 0xB0A1", "'x'"],
    ),
    (
        "varchar_ujis",
        "VARCHAR(40) CHARACTER SET ujis",
        &["_ujis 0xC6FCCBDC", "'x'"],
    ),
    (
        "varchar_gb2312",
        "VARCHAR(40) CHARACTER SET gb2312",
        &["_gb2312 0xD6D0B9FA", "'x'"],
    ),
    (
        "varchar_cp1251",
        "VARCHAR(40) CHARACTER SET cp1251",
        &["_cp1251 0xCFF0E8", "'x'"],
    ),
    (
        "varchar_koi8r",
        "VARCHAR(40) CHARACTER SET koi8r",
        &["_koi8r 0xF0D2C9", "'x'"],
    ),
    (
        "varchar_greek",
        "VARCHAR(40) CHARACTER SET greek",
        &["_greek 0xC1E2", "'x'"],
    ),
    (
        "varchar_hebrew",
        "VARCHAR(40) CHARACTER SET hebrew",
        &["_hebrew 0xE0E1", "'x'"],
    ),
    (
        "varchar_tis620",
        "VARCHAR(40) CHARACTER SET tis620",
        &["_tis620 0xA1A2", "'x'"],
    ),
    (
        "varchar_cp850",
        "VARCHAR(40) CHARACTER SET cp850",
        &["_cp850 0x8182", "'x'"],
    ),
    (
        "varchar_latin2",
        "VARCHAR(40) CHARACTER SET latin2",
        &["_latin2 0xE1B1", "'x'"],
    ),
    (
        "varchar_ascii",
        "VARCHAR(40) CHARACTER SET ascii",
        &["'plain'", "'it''s'"],
    ),
    (
        "varchar_ucs2",
        "VARCHAR(40) CHARACTER SET ucs2",
        &["_ucs2 0x6F225C27", "''"],
    ),
    (
        "varchar_utf16",
        "VARCHAR(40) CHARACTER SET utf16",
        &["_utf16 0xD83DDE00005C", "'q'"],
    ),
    (
        "varchar_utf16le",
        "VARCHAR(40) CHARACTER SET utf16le",
        &["_utf16le 0x5C002700", "'q'"],
    ),
    (
        "varchar_utf32",
        "VARCHAR(40) CHARACTER SET utf32",
        &["_utf32 0x0001F600", "'q'"],
    ),
    (
        "varchar_utf8mb3",
        "VARCHAR(40) CHARACTER SET utf8mb3",
        &["'é漢'", "'\\0\\n\\r\\Z\\t%_'"],
    ),
    (
        "varchar_long",
        "VARCHAR(1000) CHARACTER SET utf8mb4",
        &["REPEAT('漢', 900)", "'  x  '"],
    ),
    (
        "varchar_binary",
        "VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        &["'A'", "'a '"],
    ),
    (
        "binary_",
        "BINARY(16)",
        &["0x0102000000", "0xFF00FF00FF00FF00FF00FF00FF00FF00", "''"],
    ),
    (
        "varbinary_",
        "VARBINARY(300)",
        &["0x00275C22FF", "REPEAT(0xFF, 300)", "''"],
    ),
    ("tinyblob_", "TINYBLOB", &["0x00FF", "''"]),
    ("blob_", "BLOB", &["REPEAT(0x00FF, 3000)", "''"]),
    (
        "mediumblob_",
        "MEDIUMBLOB",
        &["REPEAT(0xDEADBEEF, 20000)", "0x5C"],
    ),
    ("longblob_", "LONGBLOB", &["REPEAT(0x27, 100)", "''"]),
    (
        "tinytext_",
        "TINYTEXT CHARACTER SET utf8mb4",
        &["'é'", "''"],
    ),
    (
        "text_",
        "TEXT CHARACTER SET utf8mb4",
        &["REPEAT('😀', 5000)", "'\\\\'"],
    ),
    (
        "mediumtext_",
        "MEDIUMTEXT CHARACTER SET gbk",
        &["_gbk 0x815C", "REPEAT('x', 70000)"],
    ),
    (
        "longtext_",
        "LONGTEXT CHARACTER SET latin1",
        &["_latin1 0x8081E9", "''"],
    ),
    (
        "enum_",
        "ENUM('', 'a', 'é', 'it''s')",
        &["'é'", "''", "'it''s'", "0"],
    ),
    (
        "set_",
        "SET('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i')",
        &["'a,i'", "''", "'b,c'"],
    ),
    (
        "geometry_",
        "GEOMETRY",
        &[
            "ST_GeomFromText('POINT(1.5 -2)')",
            "ST_GeomFromText('LINESTRING(0 0,1 1)')",
        ],
    ),
    (
        "point_",
        "POINT",
        &[
            "ST_GeomFromText('POINT(0 0)')",
            "ST_GeomFromText('POINT(-1e10 1e-10)')",
        ],
    ),
    (
        "polygon_",
        "POLYGON",
        &["ST_GeomFromText('POLYGON((0 0,10 0,10 10,0 10,0 0),(1 1,2 1,2 2,1 1))')"],
    ),
    (
        "multipoint_",
        "MULTIPOINT",
        &["ST_GeomFromText('MULTIPOINT(1 1,2 2)')"],
    ),
    (
        "collection_",
        "GEOMETRYCOLLECTION",
        &["ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,1 1))')"],
    ),
    // Written the way MySQL prints JSON, since on MariaDB it is text.
    (
        "json_",
        "JSON",
        &[
            r#"'{"a": [1, -2, 3.5, "é😀", null, true], "b": {"c": "it''s \\"q\\""}}'"#,
            "'[]'",
            "'18446744073709551615'",
            r#"'"\\n\\\\"'"#,
        ],
    ),
];

/// MySQL 9 only.
const MYSQL: &[Column] = &[
    (
        "vector_",
        "VECTOR(3)",
        &["TO_VECTOR('[1, -2.5, 3e10]')", "TO_VECTOR('[0, 0, 0]')"],
    ),
    (
        "varchar_gb18030",
        "VARCHAR(40) CHARACTER SET gb18030",
        &["_gb18030 0x81308130815C", "'x'"],
    ),
    (
        "json_temporal",
        "JSON",
        &[
            "JSON_OBJECT('d', CAST('2024-02-29' AS DATE), 't', CAST('-01:02:03.5' AS TIME(6)))",
            "JSON_ARRAY(CAST('2024-01-01 00:00:00.000001' AS DATETIME(6)))",
            // JSON text keeps a decimal's value, not its trailing zeros.
            "JSON_ARRAY(CAST(1.5 AS DECIMAL(5,1)), CAST(-0.00001 AS DECIMAL(10,5)))",
            "JSON_ARRAY(CAST(x'00FF' AS BINARY), 1e100, -1)",
            "JSON_OBJECT('b', CAST(x'275C00' AS BINARY))",
            "CAST(CAST(x'FF' AS BINARY) AS JSON)",
        ],
    ),
    (
        "geometry_4326",
        "POINT SRID 4326",
        &["ST_GeomFromText('POINT(45 -120)', 4326)"],
    ),
];

/// Which columns a table gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    /// Those that every server has.
    Common,
    /// Those of MySQL beyond, too; both ends must be MySQL.
    Mysql,
}

/// The table with every type.
#[derive(Clone, Debug)]
pub struct TypesTable {
    columns: Vec<Column>,
}

impl TypesTable {
    /// A table with those columns.
    #[must_use]
    pub fn new(columns: Columns) -> Self {
        let more = match columns {
            Columns::Common => &[][..],
            Columns::Mysql => MYSQL,
        };
        Self {
            columns: COMMON.iter().chain(more).copied().collect(),
        }
    }

    /// Makes the schema, and in it `every_type`, plus tables for what is about columns rather than
    /// types: generated and invisible ones, and enumerations with many members.
    ///
    /// # Errors
    /// What the server says.
    pub async fn create(&self, server: &Database, schema: &str) -> Result<()> {
        let mut client = writer(server).await?;
        let utf8 = "DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci";
        client
            .run(&format!(
                "CREATE DATABASE `{schema}` {utf8}; USE `{schema}`"
            ))
            .await?;
        let columns = self
            .columns
            .iter()
            .map(|(name, kind, _)| format!("`{name}` {kind}, "));
        let columns: String = columns.collect();
        let sql = format!("CREATE TABLE every_type (id INT NOT NULL, {columns}PRIMARY KEY (id))");
        client.run(&format!("{sql} {utf8}")).await?;
        let members: Vec<_> = (0..300).map(|n| format!("'member {n}'")).collect();
        let (many, some) = (members.join(","), members[..64].join(","));
        let sql =
            format!("CREATE TABLE members (id INT PRIMARY KEY, e ENUM({many}), s SET({some}))");
        client.run(&format!("{sql} {utf8}")).await?;
        let sql = format!(
            "CREATE TABLE computed (id INT PRIMARY KEY, a INT, \
             twice INT AS (a * 2) STORED, text VARCHAR(20) AS (CONCAT('v', a)) VIRTUAL, \
             hidden INT INVISIBLE DEFAULT 7, z INT, KEY (text)) {utf8}"
        );
        client.run(&sql).await?;
        let sql = format!(
            "CREATE TABLE `odd ``name` (`a b` INT, `select` VARCHAR(20), \
             PRIMARY KEY (`a b`), UNIQUE KEY (`select`(3))) {utf8}"
        );
        client.run(&sql).await
    }

    /// Inserts, updates and deletes rows until every value was in an insert and in an update.
    ///
    /// # Errors
    /// What the server says.
    pub async fn write(&self, server: &Database, schema: &str) -> Result<()> {
        let mut client = writer(server).await?;
        client.run(&format!("USE `{schema}`")).await?;
        let rows = self
            .columns
            .iter()
            .map(|(_, _, values)| values.len())
            .max()
            .unwrap_or(1);
        for row in 0..rows {
            let sql = format!(
                "INSERT INTO every_type VALUES ({row}, {})",
                self.values(row)
            );
            client.run(&sql).await?;
            let sql = format!(
                "INSERT INTO every_type VALUES ({row} + 100, {})",
                self.values(row)
            );
            client.run(&sql).await?;
            client
                .run(&format!("INSERT INTO every_type (id) VALUES ({row} + 200)"))
                .await?;
        }
        for row in 0..rows {
            client.run(&self.update(row + 1, row)).await?;
            client.run(&self.update(row, 200 + row)).await?;
            let nulls: Vec<_> = self
                .columns
                .iter()
                .map(|(c, _, _)| format!("`{c}` = NULL"))
                .collect();
            let sql = format!(
                "UPDATE every_type SET {} WHERE id = {row} + 100",
                nulls.join(", ")
            );
            client.run(&sql).await?;
        }
        client
            .run("DELETE FROM every_type WHERE id IN (1, 101, 201)")
            .await?;

        client
            .run(
                "INSERT INTO members VALUES (1, 'member 0', ''), (2, 'member 299', 'member 63'), \
                 (3, 'member 255', 'member 0,member 31,member 32'), (4, NULL, NULL); \
                 UPDATE members SET e = 'member 256', s = 'member 62,member 63' WHERE id = 1; \
                 INSERT INTO computed (id, a, z) VALUES (1, 10, 1), (2, NULL, 2), (3, 30, 3); \
                 INSERT INTO computed (id, a, hidden, z) VALUES (4, 40, 8, 4); \
                 UPDATE computed SET a = a + 1, hidden = 9 WHERE id <> 3; \
                 DELETE FROM computed WHERE id = 3; \
                 INSERT INTO `odd ``name` VALUES (1, 'abc'), (2, 'xyz'); \
                 UPDATE `odd ``name` SET `a b` = 3 WHERE `select` = 'abc'",
            )
            .await
    }

    fn values(&self, row: usize) -> String {
        let values: Vec<_> = self
            .columns
            .iter()
            .map(|(_, _, values)| values[row % values.len()])
            .collect();
        values.join(", ")
    }

    fn update(&self, value: usize, id: usize) -> String {
        let columns = self.columns.iter();
        let sets: Vec<_> = columns
            .map(|(name, _, values)| format!("`{name}` = {}", values[value % values.len()]))
            .collect();
        format!("UPDATE every_type SET {} WHERE id = {id}", sets.join(", "))
    }
}

/// A session that may write zero dates and everything else, in a time zone of its own.
async fn writer(server: &Database) -> Result<Client> {
    let mut client = Client::connect(server).await?;
    client
        .run("SET sql_mode = '', time_zone = '-08:00'")
        .await?;
    Ok(client)
}

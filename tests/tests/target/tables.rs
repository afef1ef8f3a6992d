//! What is read of the tables of a target.

use dm_core::{error::code, sync::schema::TableName};
use dm_runtime::ports::Target as _;
use dm_tests::{Result, servers::Brand};

use super::{BRANDS, World};

#[tokio::test(flavor = "multi_thread")]
async fn definitions_of_tables_are_read() -> Result<()> {
    for brand in BRANDS {
        let mut world = World::new(brand).await?;
        let (target, _) = world.owner(1, 1).await?;
        let name = TableName::new(&world.data, "T`ä");
        assert!(target.table(&name).await?.is_none());
        world
            .sql
            .run(&format!(
                "CREATE TABLE {name} (
                   a BIGINT UNSIGNED NOT NULL, b VARCHAR(20) CHARACTER SET latin1, c BINARY(7),
                   d ENUM('x','y') NOT NULL, e DECIMAL(65,30), f TEXT, g INT AS (a + 1) STORED,
                   h INT AS (a + 2) VIRTUAL, i TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
                   j JSON, k SET('p','q'), l BIT(5), m YEAR, n DOUBLE, o GEOMETRY, p MEDIUMINT,
                   PRIMARY KEY (a, d), UNIQUE KEY u (b(5), p), KEY plain (f(10)))"
            ))
            .await?;
        if brand == Brand::Mysql {
            world
                .sql
                .run(&format!("CREATE UNIQUE INDEX x ON {name} ((a + p), n)"))
                .await?;
        }
        let table = target.table(&name).await?.unwrap();
        let types: Vec<_> = table.columns.iter().map(|c| c.type_name.as_str()).collect();
        let json = if brand == Brand::Mysql {
            "json"
        } else {
            "longtext"
        };
        assert_eq!(
            types,
            [
                "bigint",
                "varchar",
                "binary",
                "enum",
                "decimal",
                "text",
                "int",
                "int",
                "timestamp",
                json,
                "set",
                "bit",
                "year",
                "double",
                "geometry",
                "mediumint"
            ]
        );
        let column = |name: &str| table.columns.iter().find(|c| c.name == name).unwrap();
        assert!(column("a").unsigned && !column("a").nullable && !column("p").unsigned);
        assert_eq!(column("b").charset.as_deref(), Some("latin1"));
        assert_eq!(
            (column("b").length, column("c").length),
            (Some(20), Some(7))
        );
        let generated: Vec<_> = table.columns.iter().filter(|c| c.generated).collect();
        assert_eq!(generated.len(), 2, "{generated:?}");
        assert_eq!(column("d").column_type, "enum('x','y')");

        let key = |name: &str| table.keys.iter().find(|key| key.name == name).unwrap();
        let parts = |name: &str| -> Vec<_> {
            key(name)
                .parts
                .iter()
                .map(|part| (part.column, part.prefix))
                .collect()
        };
        assert!(key("PRIMARY").primary && key("PRIMARY").unique);
        assert_eq!(parts("PRIMARY"), [(Some(0), None), (Some(3), None)]);
        assert!(key("u").unique && !key("u").primary && !key("plain").unique);
        assert_eq!(parts("u"), [(Some(1), Some(5)), (Some(15), None)]);
        if brand == Brand::Mysql {
            assert_eq!(parts("x"), [(None, None), (Some(13), None)]);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_without_transactions_are_refused() -> Result<()> {
    for brand in BRANDS {
        let mut world = World::new(brand).await?;
        let (target, _) = world.owner(1, 1).await?;
        let mut engines = vec!["MyISAM", "MEMORY"];
        if brand == Brand::Mariadb {
            engines.push("Aria");
        }
        for engine in engines {
            let name = TableName::new(&world.data, engine);
            let create = format!("CREATE TABLE {name} (a INT PRIMARY KEY) ENGINE={engine}");
            world.sql.run(&create).await?;
            let error = target.table(&name).await.unwrap_err();
            assert!(error.is(&code::SYNCER_TARGET_NOT_TRANSACTIONAL), "{error}");
            assert!(error.message.contains(engine), "{error}");
            let cure = format!("ALTER TABLE {name} ENGINE=InnoDB");
            assert!(error.workaround.contains(&cure), "{error}");
            world.sql.run(&cure).await?;
            assert!(target.table(&name).await?.is_some());
        }
        let more = "CREATE TABLE $.t (a INT PRIMARY KEY) PARTITION BY HASH (a) PARTITIONS 2;
                    CREATE VIEW $.v AS SELECT * FROM $.t";
        world.sql.run(&more.replace('$', &world.data)).await?;
        let table = |name| TableName::new(&world.data, name);
        assert!(target.table(&table("t")).await?.is_some());
        let error = target.table(&table("v")).await.unwrap_err();
        assert!(error.is(&code::SYNCER_TARGET_NOT_TRANSACTIONAL), "{error}");
        assert!(error.message.contains("view"), "{error}");
    }
    Ok(())
}

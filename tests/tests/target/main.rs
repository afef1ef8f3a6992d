//! The target port against real servers: what is written under which fence, and what is not.

macro_rules! assert_done {
    ($ended:expr) => {
        let ended = $ended;
        assert!(
            matches!(ended, dm_runtime::ports::Applied::Done),
            "{ended:?}"
        );
    };
}

mod batch;
mod checkpoint;
mod ddl;
mod errors;
mod tables;
mod takeover;

use std::sync::atomic::{AtomicU32, Ordering};

use dm_core::{
    binlog::{Flavor, GtidSet, Position},
    control::{db::DbConfig, record::Secret},
    error::Error,
    sync::{
        ddl::{Kind, Piece, Role},
        progress::{Applied as Progress, Fence, Location, SlotProgress},
        schema::TableName,
    },
};
use dm_runtime::{
    mysql::target::{Options, SlotSession, Target},
    ports::{Applied, Ddl, Target as _},
};
use dm_tests::{
    Result,
    servers::{Brand, Database, Role as Part},
    sql::Client,
};

const BRANDS: [Brand; 2] = [Brand::Mysql, Brand::Mariadb];

/// A target of its own for each test: schemas of the shared server.
struct World {
    server: &'static Database,
    login: DbConfig,
    options: Options,
    /// Schema of the rows.
    data: String,
    sql: Client,
}

impl World {
    async fn new(brand: Brand) -> Result<Self> {
        let server = Database::shared(brand, Part::Target)?;
        Self::on(server).await
    }

    async fn on(server: &'static Database) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let address = server.address();
        let data = format!("data_{number}");
        let options = Options {
            task: "a-task".to_owned(),
            source: "source's id".to_owned(),
            meta_schema: format!("meta_{number}"),
            flavor: Flavor::Mysql,
            upstream_sql_mode: "ONLY_FULL_GROUP_BY,NO_AUTO_CREATE_USER".to_owned(),
        };
        let mut sql = Client::connect(server).await?;
        // Without any administrative privilege, as a careful user would have it.
        let user = format!("plain_{number}");
        sql.run(&format!(
            "DROP DATABASE IF EXISTS {data}; DROP DATABASE IF EXISTS {meta}; CREATE DATABASE {data};
             DROP USER IF EXISTS {user}; CREATE USER {user} IDENTIFIED BY 'plain';
             GRANT {rights} ON {data}.* TO {user}; GRANT {rights} ON {meta}.* TO {user}",
            rights = "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX",
            meta = options.meta_schema,
        ))
        .await?;
        Ok(Self {
            server,
            login: DbConfig {
                host: address.host.clone(),
                port: address.port,
                user,
                password: Secret("plain".to_owned()),
                ..DbConfig::default()
            },
            options,
            data,
            sql,
        })
    }

    /// Makes the table `t` with its key `a`.
    async fn create_table(&mut self) -> Result<()> {
        let sql = format!("CREATE TABLE {}.t (a INT PRIMARY KEY)", self.data);
        self.sql.run(&sql).await
    }

    async fn connect(&self) -> Result<Target> {
        Ok(Target::connect(&self.login, self.options.clone()).await?)
    }

    /// A target that is taken over and has fresh slots.
    async fn owner(&self, fence: i64, slots: u32) -> Result<(Target, Vec<SlotProgress>)> {
        let target = self.connect().await?;
        target.take_over(Some(Fence(fence))).await?;
        let rows = target.reset(slots, &at(4), None).await?;
        Ok((target, rows))
    }

    fn progress(&self) -> String {
        format!("`{}`.`a-task_progress`", self.options.meta_schema)
    }

    fn checkpoint(&self) -> String {
        format!("`{}`.`a-task_syncer_checkpoint`", self.options.meta_schema)
    }

    async fn count(&mut self, table: &str) -> Result<u32> {
        let sql = format!("SELECT COUNT(*) FROM {}.{table}", self.data);
        Ok(self.sql.value(&sql).await?.parse()?)
    }
}

/// A boundary in the first binlog file.
fn at(pos: u64) -> Location {
    Location {
        position: Position::new("binlog.000001", pos),
        gtids: GtidSet::parse(Flavor::Mysql, "0a0431f2-e6eb-11f1-beb0-02fc00000001:1-7").ok(),
    }
}

/// Commits `sql` as the slot's step `seq`.
async fn write(session: &mut SlotSession, seq: u64, sql: &str) -> Applied {
    let applied = Progress::at(at(1000 + seq));
    let rows = |out: &mut Vec<u8>| {
        out.extend_from_slice(sql.as_bytes());
        Ok(())
    };
    session.commit(seq, &applied, false, rows).await
}

fn refused(ended: Applied) -> Error {
    match ended {
        Applied::Failed { error, .. } | Applied::Unknown(error) | Applied::Moved(error) => error,
        other => panic!("{other:?}"),
    }
}

fn ddl(world: &World, kind: Kind, table: &str, sql: &str, pos: u64) -> Ddl {
    Ddl {
        schema: None,
        piece: Piece {
            ordinal: 0,
            kind,
            sources: vec![(Role::Subject, TableName::new("shop", table))],
            targets: vec![TableName::new(&world.data, table)],
            swaps: false,
            sql: sql.replace("$", &world.data),
        },
        timestamp: 1_700_000_000,
        time_zone: Some("+08:00".to_owned()),
        sql_mode: Some(1 << 2),
        collation_server: None,
        after: Progress::at(at(pos)),
        replay: false,
    }
}

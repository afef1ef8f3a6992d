//! Real targets answer their owners as the table says.

use dm_core::{
    binlog::Flavor,
    control::{db::DbConfig, record::Secret},
    error,
};
use dm_runtime::{
    mysql::target::{Options, Target},
    ports::Checkpoint,
};
use dm_sim::target::{Reality, Row, TABLES, cases, run};
use dm_tests::{
    Result,
    servers::{Brand, Database, Role},
    sql::Client,
};

struct Real {
    login: DbConfig,
    options: Options,
    /// Schema of the rows.
    data: String,
    sql: Client,
}

#[tokio::test(flavor = "multi_thread")]
async fn real_targets_answer_as_the_table_says() -> Result<()> {
    for brand in [Brand::Mysql, Brand::Mariadb] {
        let server = Database::shared(brand, Role::Target)?;
        let mut wrong = Vec::new();
        for (number, case) in cases::all().iter().enumerate() {
            let mut real = Real::new(server, number).await?;
            wrong.extend(run(case, &mut real).await.err());
        }
        assert!(wrong.is_empty(), "{brand:?}\n{}", wrong.join("\n"));
    }
    Ok(())
}

impl Real {
    /// With schemas of its own.
    async fn new(server: &Database, number: usize) -> Result<Self> {
        let address = server.address();
        let (data, meta) = (format!("case_{number}"), format!("case_{number}_meta"));
        let mut sql = Client::connect(server).await?;
        let fresh = "DROP DATABASE IF EXISTS $; DROP DATABASE IF EXISTS $_meta; CREATE DATABASE $";
        sql.run(&fresh.replace('$', &data)).await?;
        for (name, definition) in TABLES {
            let create = format!("CREATE TABLE {data}.{name} {definition}");
            sql.run(&create).await?;
        }
        Ok(Self {
            login: DbConfig {
                host: address.host.clone(),
                port: address.port,
                user: address.user.clone(),
                password: Secret(address.password.clone()),
                ..DbConfig::default()
            },
            options: Options {
                task: "a-task".to_owned(),
                source: "source".to_owned(),
                meta_schema: meta,
                flavor: Flavor::Mysql,
                upstream_sql_mode: String::new(),
            },
            data,
            sql,
        })
    }

    async fn must(&mut self, sql: &str) {
        let ran = self.sql.run(sql).await;
        ran.unwrap_or_else(|error| panic!("{error}"));
    }
}

impl Reality for Real {
    type Target = Target;

    async fn connect(&mut self) -> error::Result<Target> {
        Target::connect(&self.login, self.options.clone()).await
    }

    fn schema(&self) -> String {
        self.data.clone()
    }

    async fn execute(&mut self, sql: &str) {
        self.must(&sql.replace('$', &self.data)).await;
    }

    async fn put_checkpoint(&mut self, it: Option<Checkpoint>) {
        let table = format!("{}.`a-task_syncer_checkpoint`", self.options.meta_schema);
        let Some(Checkpoint { global, exit_safe }) = it else {
            return self.must(&format!("DELETE FROM {table}")).await;
        };
        let exit = exit_safe.unwrap_or_default();
        let mut set = Vec::new();
        for (prefix, location) in [("", global), ("exit_safe_", exit)] {
            let gtids = location.gtids.map_or(String::new(), |set| set.to_string());
            let (file, pos) = (location.position.file, location.position.pos);
            set.push(format!(
                "{prefix}binlog_name='{file}', {prefix}binlog_pos={pos}, \
                 {prefix}binlog_gtid='{gtids}'"
            ));
        }
        self.must(&format!("UPDATE {table} SET {}", set.join(", ")))
            .await;
    }

    async fn rows(&mut self, table: &str) -> Option<Vec<Row>> {
        let sql = format!("SELECT * FROM {}.{table}", self.data);
        let value = |text: Option<String>| text.map(|text| text.parse().expect("a number"));
        let row = |row: Vec<_>| row.into_iter().map(value).collect::<Row>();
        let rows = match self.sql.rows(&sql).await {
            Ok(rows) => rows,
            // ER_NO_SUCH_TABLE.
            Err(error) if error.to_string().contains("1146") => return None,
            Err(error) => panic!("{error}"),
        };
        let mut rows: Vec<_> = rows.into_iter().map(row).collect();
        rows.sort();
        Some(rows)
    }
}

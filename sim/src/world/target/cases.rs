//! The simulated database, held to what the real ones answer.

use std::sync::Arc;

use dm_core::{
    error::Result,
    guard::{self, Guard},
    lifecycle::{Config, Worker},
};
use dm_runtime::ports::Checkpoint;
use madsim::runtime::{Handle, Runtime};
use tokio::sync::watch;

use super::{Database, Target};
use crate::{
    dice::Dice,
    target::{Reality, Row, cases, run},
    world::{
        control::Server,
        oracle::{leak::Doors, lease::Tenure, order::Orders},
        statement::Statement,
        trace::Trace,
    },
};

const SOURCE: &str = "source";

/// Runs all cases, without a guard if one is named, and says which of them go wrong.
#[must_use]
pub fn wrong(without: Option<Guard>) -> Vec<String> {
    let _without = guard::without(without);
    let cases = cases::all().into_iter();
    let wrong = cases.filter_map(|case| {
        let runtime = Runtime::with_seed_and_config(0, madsim::Config::default());
        runtime.block_on(async { run(&case, &mut Simulated::new()).await.err() })
    });
    wrong.collect()
}

struct Simulated {
    database: Arc<Database>,
    tenure: Tenure,
}

impl Simulated {
    /// What oracles say is not listened to: nobody here has a lease, and cases do what no worker
    /// does.
    fn new() -> Self {
        let node = |name| Handle::current().create_node().name(name).build();
        let (trace, dice) = (Trace::begin(), Dice::new(0));
        let server = Server::start(node("etcd"), trace.clone(), dice.fork("etcd"));
        let worker = Worker::new(Config::new("worker".to_owned(), String::new(), 0));
        let (_, view) = watch::channel(worker.view());
        Self {
            tenure: Tenure::new("worker", &server, &Orders::default(), view),
            database: Database::new(node("target"), trace, dice, &server),
        }
    }
}

impl Reality for Simulated {
    type Target = Target;

    async fn connect(&mut self) -> Result<Target> {
        let (tenure, doors) = (self.tenure.clone(), Doors::default());
        Target::connect(&self.database, (SOURCE, 0), tenure, doors).await
    }

    fn schema(&self) -> String {
        "schema".to_owned()
    }

    async fn execute(&mut self, sql: &str) {
        let statement = Statement::parse(&sql.replace('$', "`schema`"));
        let mut state = self.database.state();
        let tables = &mut state.job(SOURCE).tables;
        let ran = statement.and_then(|it| tables.run(&it, 0));
        ran.unwrap_or_else(|refusal| panic!("{refusal:?}"));
    }

    async fn put_checkpoint(&mut self, it: Option<Checkpoint>) {
        self.database.state().job(SOURCE).checkpoint = it;
    }

    async fn rows(&mut self, table: &str) -> Option<Vec<Row>> {
        let mut state = self.database.state();
        let table = state.job(SOURCE).tables.get(table)?;
        Some(table.rows.sorted())
    }
}

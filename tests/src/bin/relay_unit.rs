//! The relay unit in a process of its own, which tests kill and the benchmark measures; see
//! [`dm_tests::relay::Task`].

use std::env;

use dm_runtime::{mysql::source::Upstream, ports::Source, units::Stop};
use dm_tests::{
    Result,
    relay::{Relay, Task},
};

#[tokio::main]
async fn main() -> Result<()> {
    let task = Task::parse(env::args().skip(1))?;
    let config = task.config();
    if !task.to_end {
        return Relay::start(&config).ended().await;
    }
    let end = Upstream::new(&config, "observer").end().await?;
    let mut relay = Relay::start(&config);
    relay.reach(&end).await?;
    relay.stop(Stop::AtBoundary).await
}

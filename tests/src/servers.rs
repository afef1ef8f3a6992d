//! Real servers: MySQL, MariaDB, etcd.
//!
//! By default they come from `scripts/servers`. Where `DM_TEST_MYSQL`, `DM_TEST_MARIADB` or
//! `DM_TEST_ETCD` is set, its value is used instead: the path of a server program, which is started
//! the same way, or the address of servers that run already (`mysql://user:password@host:port`, or
//! `host:port` for etcd). Two addresses separated by a comma are source and target. Servers that
//! run already can neither be configured nor killed, so tests that need that skip themselves with
//! [`Database::is_ours`].

mod database;
mod etcd;

pub use database::{Address, Brand, Database, Options, Role};
pub use etcd::Etcd;

//! The harness itself: servers start, answer, survive kills, and leave nothing behind.

use dm_tests::{
    Result,
    master::{self, Master},
    servers::{Brand, Database, Etcd, Options, Role},
    sql::{self, Client},
    types::{Columns, TypesTable},
    workload::{Background, Workload},
};

#[tokio::test(flavor = "multi_thread")]
async fn databases_start_stop_and_compare() -> Result<()> {
    for brand in [Brand::Mysql, Brand::Mariadb] {
        let mut source = Database::start(brand, Role::Source, &Options::default())?;
        let target = Database::shared(brand, Role::Target)?;
        let mut a = Client::connect(&source).await?;
        let mut b = Client::connect(target).await?;
        if source.is_ours() && target.is_ours() {
            // MariaDB removes at its start what another server is using there.
            let folder = "SELECT @@tmpdir";
            assert_ne!(a.value(folder).await?, b.value(folder).await?);
        }
        for client in [&mut a, &mut b] {
            client
                .run("CREATE DATABASE harness; CREATE TABLE harness.t (a INT, b FLOAT)")
                .await?;
            client
                .run("INSERT INTO harness.t VALUES (1, 1.1), (1, 1.1), (2, NULL)")
                .await?;
        }
        sql::compare_schemas(&mut a, &mut b, &["harness"]).await?;
        b.run("DELETE FROM harness.t WHERE a = 1 LIMIT 1").await?;
        let error = sql::compare_schemas(&mut a, &mut b, &["harness"])
            .await
            .unwrap_err();
        assert!(error.to_string().contains("only in source (2x)"), "{error}");
        b.run("DROP DATABASE harness").await?;

        if source.is_ours() {
            source.kill()?;
            assert!(Client::connect(&source).await.is_err());
            source.restart(&[])?;
            source.stop()?;
            source.restart(&["--read-only=ON"])?;
            let mut a = Client::connect(&source).await?;
            assert_eq!(a.value("SELECT COUNT(*) FROM harness.t").await?, "3");
            assert_eq!(a.value("SELECT @@read_only").await?, "1");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_keeps_its_keys_over_a_kill() -> Result<()> {
    let mut etcd = Etcd::start()?;
    etcd.client().await?.put("k", "v", None).await?;
    if etcd.is_ours() {
        etcd.kill()?;
        etcd.restart()?;
    }
    let got = etcd.client().await?.get("k", None).await?;
    assert_eq!(got.kvs()[0].value(), b"v");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn workloads_run_everywhere() -> Result<()> {
    for brand in [Brand::Mysql, Brand::Mariadb] {
        let server = Database::shared(brand, Role::Source)?;
        Workload::create(server, "workload").await?;
        let background = Background::start(server, "workload", 1, 3, true).await?;
        Workload::open(server, "workload", 7, false)
            .await?
            .run(300)
            .await?;
        let done = background.stop().await?;
        assert!(
            done.transactions > 100 && done.rows > 1000 && done.ddl > 0,
            "{done:?}"
        );
        Client::connect(server)
            .await?
            .run("DROP DATABASE workload")
            .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_is_accepted_by_its_servers() -> Result<()> {
    for brand in [Brand::Mysql, Brand::Mariadb] {
        let server = Database::shared(brand, Role::Source)?;
        let mut client = Client::connect(server).await?;
        for (schema, columns) in [("common", Columns::Common), ("all", Columns::Mysql)] {
            if brand == Brand::Mariadb && columns == Columns::Mysql {
                continue;
            }
            let table = TypesTable::new(columns);
            table.create(server, schema).await?;
            table.write(server, schema).await?;
            sql::compare_schemas(&mut client, &mut Client::connect(server).await?, &[schema])
                .await?;
            client.run(&format!("DROP DATABASE `{schema}`")).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_registers_and_passes_etcd_through() -> Result<()> {
    let etcd = Etcd::start()?;
    let master = Master::start(&etcd).await?;
    let through = etcd_client::Client::connect([master.endpoint()], None).await?;
    let (mut kv, mut watched) = (through.clone(), through);
    let options = etcd_client::WatchOptions::new().with_prefix();
    let mut watch = watched.watch("/dm-worker/", Some(options)).await?;
    assert!(
        watch
            .message()
            .await?
            .is_some_and(|message| message.created())
    );

    master::register(master.endpoint(), "w", "127.0.0.1:1").await?;
    let message = watch.message().await?.unwrap();
    let stored = message.events()[0].kv().unwrap();
    assert_eq!(stored.value_str()?, r#"{"name":"w","addr":"127.0.0.1:1"}"#);
    let refused = master::register(master.endpoint(), "w", "127.0.0.1:2").await;
    assert!(refused.unwrap_err().to_string().contains("46003"));

    let lease = kv.lease_grant(5, None).await?.id();
    let (mut keeper, mut kept) = kv.lease_keep_alive(lease).await?;
    keeper.keep_alive().await?;
    assert_eq!(kept.message().await?.unwrap().ttl(), 5);
    Ok(())
}

//! What is refused, and what its errors say.

use std::path::Path;

use dm_core::{
    control::{
        db::{DbConfig, Security},
        record::Secret,
    },
    error::code,
};
use dm_runtime::{
    mysql::target::Target,
    ports::{Applied, Target as _},
};
use dm_tests::{
    Result,
    servers::{Brand, Database, Role as Part},
};

use super::{BRANDS, World, refused, write};

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_what_to_do() -> Result<()> {
    for brand in BRANDS {
        let mut world = World::new(brand).await?;
        world.create_table().await?;
        let (target, rows) = world.owner(1, 1).await?;
        let seq = rows[0].seq;
        let mut session = target.session(0).await?;
        for (sql, number, advice) in [
            ("INSERT INTO $.t (b) VALUES (1)", "1054", "lacks a column"),
            ("INSERT INTO $.u VALUES (1)", "1146", "Create the table"),
            ("INSERT INTO $.t VALUES (1),(1)", "1062", "unique"),
            ("INSERT INTO $.t VALUES ('x')", "1366", "does not fit"),
        ] {
            let ended = write(&mut session, seq, &sql.replace('$', &world.data)).await;
            assert!(
                matches!(ended, Applied::Failed { retry: false, .. }),
                "{ended:?}"
            );
            let error = refused(ended);
            assert!(
                error.cause.starts_with(&format!("Error {number} ")),
                "{error}"
            );
            assert!(error.workaround.contains(advice), "{error}");
        }
        assert_done!(write(&mut session, seq, "").await);

        let login = DbConfig {
            password: Secret("wrong".to_owned()),
            ..world.login.clone()
        };
        let error = Target::connect(&login, world.options.clone())
            .await
            .unwrap_err();
        assert!(error.is(&code::DB_DRIVER_ERROR), "{error}");
        assert!(error.cause.starts_with("Error 1045 (28000)"), "{error}");
        assert!(error.workaround.contains("password"), "{error}");
        let login = DbConfig {
            port: 1,
            ..world.login.clone()
        };
        let error = Target::connect(&login, world.options.clone())
            .await
            .unwrap_err();
        assert!(error.is(&code::DB_DRIVER_ERROR), "{error}");

        for (name, value) in [("no_such_variable", "1"), ("lock_wait_timeout", "soon")] {
            let mut login = world.login.clone();
            login
                .session
                .get_or_insert_default()
                .insert(name.to_owned(), value.to_owned());
            let error = Target::connect(&login, world.options.clone())
                .await
                .unwrap_err();
            assert!(error.message.contains(name), "{error}");
            assert!(
                error.workaround.contains("target-database.session"),
                "{error}"
            );
        }
        let mut login = world.login.clone();
        for (name, value) in [
            ("lock_wait_timeout", "77"),
            ("sql_mode", "ANSI_QUOTES,NO_ZERO_DATE"),
            ("time_zone", "+02:00"),
            ("tidb_txn_mode", "optimistic"),
        ] {
            login
                .session
                .get_or_insert_default()
                .insert(name.to_owned(), value.to_owned());
        }
        Target::connect(&login, world.options.clone()).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_target_is_named() -> Result<()> {
    for brand in BRANDS {
        let server = Database::start(brand, Part::Target, &dm_tests::servers::Options::default())?;
        if !server.is_ours() {
            continue;
        }
        let server: &'static Database = Box::leak(Box::new(server));
        let mut world = World::on(server).await?;
        world
            .sql
            .run(&format!("CREATE TABLE {}.t (a INT)", world.data))
            .await?;
        let (target, rows) = world.owner(1, 1).await?;
        let mut session = target.session(0).await?;
        world.sql.run("SET GLOBAL read_only=1").await?;
        let insert = format!("INSERT INTO {}.t VALUES (1)", world.data);
        let error = refused(write(&mut session, rows[0].seq, &insert).await);
        assert!(error.cause.starts_with("Error 1290 "), "{error}");
        assert!(error.workaround.contains("read_only"), "{error}");
        world.sql.run("SET GLOBAL read_only=0").await?;
        assert_done!(write(&mut session, rows[0].seq, &insert).await);
    }
    Ok(())
}

/// Rows do not need it, so that it would be missed in the middle of the binlog.
#[tokio::test(flavor = "multi_thread")]
async fn a_time_zone_that_the_server_does_not_know_is_refused_at_the_start() -> Result<()> {
    for brand in BRANDS {
        let mut world = World::new(brand).await?;
        world.login.set_time_zone("+02:00");
        world.connect().await?;
        world.login.set_time_zone("Foo/Bar");
        let error = world.connect().await.unwrap_err().to_string();
        assert!(error.contains("`time_zone` = 'Foo/Bar'"), "{error}");
        assert!(error.contains("`timezone`"), "{error}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_trusts_nobody_but_the_named_authority() -> Result<()> {
    // MySQL makes itself certificates.
    let server = Database::shared(Brand::Mysql, Part::Target)?;
    if !server.is_ours() {
        return Ok(());
    }
    let mut world = World::on(server).await?;
    let user = world.login.user.clone();
    world
        .sql
        .run(&format!("ALTER USER {user} REQUIRE SSL"))
        .await?;
    assert!(world.connect().await.is_err());
    let data = server.data_dir()?;
    let path = |name: &str| data.join(name).display().to_string();
    world.login.security = Some(Security {
        ssl_ca: path("ca.pem"),
        ..Security::default()
    });
    // The certificate that the server made itself does not name its host.
    world.connect().await?;
    // Another authority.
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/testdata/tls/ca.pem");
    let ours = ours.display().to_string();
    let mut login = world.login.clone();
    login.security = Some(Security {
        ssl_ca: ours,
        ..Security::default()
    });
    let error = Target::connect(&login, world.options.clone())
        .await
        .unwrap_err();
    assert!(error.cause.contains("UnknownIssuer"), "{error}");
    assert!(error.workaround.contains("`ssl-ca`"), "{error}");
    let refused = |change: fn(&mut Security), login: &DbConfig| {
        let mut login = login.clone();
        login.security.as_mut().map(change);
        let options = world.options.clone();
        async move { Target::connect(&login, options).await.unwrap_err() }
    };
    // Not an authority.
    let error = refused(
        |s| s.ssl_ca = s.ssl_ca.replace("ca.pem", "public_key.pem"),
        &world.login,
    );
    assert!(error.await.is(&code::DB_DRIVER_ERROR));
    let error = refused(|s| s.ssl_ca.clear(), &world.login).await;
    assert!(error.message.contains("ssl-ca"), "{error}");
    Ok(())
}

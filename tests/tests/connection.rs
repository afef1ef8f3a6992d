//! The connection that a source's binlog comes over, against real servers.

use std::{fs, path::Path, time::Duration};

use dm_core::control::{
    db::{DbConfig, Security},
    record::Secret,
};
use dm_runtime::mysql::{
    conn::{Conn, Fault},
    replica::{Dump, Point, Replica},
};
use dm_tests::{
    Result,
    servers::{Brand, Database, Options, Role},
    sql::Client,
};
use tokio::time::timeout;

fn config(server: &Database) -> DbConfig {
    let address = server.address().clone();
    DbConfig {
        host: address.host,
        port: address.port,
        user: address.user,
        password: Secret(address.password),
        ..DbConfig::default()
    }
}

async fn user(client: &mut Client, name: &str, how: &str) -> Result<()> {
    client
        .run(&format!(
            "CREATE USER '{name}'@'%' IDENTIFIED {how}; GRANT ALL ON *.* TO '{name}'@'%'"
        ))
        .await
}

async fn fails(db: &DbConfig) -> String {
    match Conn::open(db).await {
        Ok(_) => panic!("connected as {}", db.user),
        Err(fault) => fault.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_in_works_and_wrong_ones_say_why() -> Result<()> {
    let server = Database::shared(Brand::Mysql, Role::Source)?;
    let mut admin = Client::connect(server).await?;
    user(&mut admin, "cold", "BY 'a pass\\\\word''ü'").await?;
    user(&mut admin, "empty", "BY ''").await?;
    user(&mut admin, "long", &format!("BY '{}'", "x".repeat(200))).await?;

    // The server has not seen this user yet: its password goes encrypted by RSA, then by hash.
    let mut db = config(server);
    db.user = "cold".to_owned();
    db.password = Secret("a pass\\word'ü".to_owned());
    for _ in 0..2 {
        let mut conn = Conn::open(&db).await.map_err(|e| e.to_string())?;
        let rows = conn.query("SELECT CURRENT_USER(), NULL, ''").await;
        let row = rows.map_err(|e| e.to_string())?.remove(0);
        assert_eq!(row, [Some("cold@%".to_owned()), None, Some(String::new())]);
    }
    db.user = "empty".to_owned();
    db.password = Secret(String::new());
    Conn::open(&db).await.map_err(|e| e.to_string())?;
    db.user = "long".to_owned();
    db.password = Secret("x".repeat(200));
    Conn::open(&db).await.map_err(|e| e.to_string())?;
    db.password = Secret("x".repeat(300));
    assert!(fails(&db).await.contains("RSA key is too short"));

    db.password = Secret("wrong".to_owned());
    let refusal = fails(&db).await;
    assert!(
        refusal.starts_with("Error 1045 (28000): Access denied for user 'long'@"),
        "{refusal}"
    );
    db.port = 1;
    assert!(matches!(Conn::open(&db).await, Err(Fault::Io(_))));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn session_variables_are_set() -> Result<()> {
    let mut db = config(Database::shared(Brand::Mysql, Role::Source)?);
    let session = [
        ("time_zone", "+03:00"),
        ("sql_mode", "ANSI"),
        ("wait_timeout", "100"),
    ];
    let session = session.map(|(k, v)| (k.to_owned(), v.to_owned()));
    db.session = Some(session.into());
    let mut conn = Conn::open(&db).await.map_err(|e| e.to_string())?;
    let rows = conn
        .query("SELECT @@time_zone, @@sql_mode LIKE '%ANSI%', @@wait_timeout")
        .await;
    let row = rows.map_err(|e| e.to_string())?.remove(0);
    assert_eq!(
        row,
        ["+03:00", "1", "100"].map(|text| Some(text.to_owned()))
    );

    db.session = Some([("no_such_variable".to_owned(), "1".to_owned())].into());
    assert!(fails(&db).await.starts_with("Error 1193 (HY000)"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_trusts_only_the_given_authority() -> Result<()> {
    let server = Database::shared(Brand::Mysql, Role::Source)?;
    if !server.is_ours() {
        return Ok(());
    }
    let mut admin = Client::connect(server).await?;
    user(&mut admin, "private", "BY 'secret' REQUIRE SSL").await?;
    user(&mut admin, "certified", "BY 'secret' REQUIRE X509").await?;
    let file = |name: &str| -> Result<String> {
        let path = server.data_dir()?.join(name);
        Ok(path.display().to_string())
    };
    let mut db = config(server);
    db.user = "private".to_owned();
    db.password = Secret("secret".to_owned());
    assert!(fails(&db).await.starts_with("Error 1045"));
    let security = Security {
        ssl_ca: file("ca.pem")?,
        ..Security::default()
    };
    db.security = Some(security.clone());
    let mut conn = Conn::open(&db).await.map_err(|e| e.to_string())?;
    let rows = conn.query("SHOW STATUS LIKE 'Ssl_version'").await;
    let rows = rows.map_err(|e| e.to_string())?;
    assert_eq!(rows[0][1].as_deref(), Some("TLSv1.3"));

    db.user = "certified".to_owned();
    assert!(fails(&db).await.starts_with("Error 1045"));
    db.security = Some(Security {
        ssl_cert: file("client-cert.pem")?,
        ssl_key: file("client-key.pem")?,
        ..security.clone()
    });
    Conn::open(&db).await.map_err(|e| e.to_string())?;

    db.user = "private".to_owned();
    let version = conn.query("SELECT VERSION()").await;
    let version = version.map_err(|e| e.to_string())?[0][0].clone();
    let name = format!(
        "MySQL_Server_{}_Auto_Generated_Server_Certificate",
        version
            .unwrap_or_default()
            .split('-')
            .next()
            .unwrap_or_default()
    );
    db.security = Some(Security {
        cert_allowed_cn: Some(vec!["someone".to_owned(), name]),
        ..security.clone()
    });
    Conn::open(&db).await.map_err(|e| e.to_string())?;
    db.security = Some(Security {
        cert_allowed_cn: Some(vec!["someone".to_owned()]),
        ..security.clone()
    });
    assert!(
        fails(&db)
            .await
            .starts_with("TLS: invalid peer certificate")
    );

    // Any other certificate will do as the wrong authority.
    db.security = Some(Security {
        ssl_ca: file("client-cert.pem")?,
        ..Security::default()
    });
    assert!(
        fails(&db)
            .await
            .starts_with("TLS: invalid peer certificate")
    );
    db.security = Some(Security::default());
    assert!(fails(&db).await.contains("ssl-ca"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_socket_is_private() -> Result<()> {
    for brand in [Brand::Mysql, Brand::Mariadb] {
        let server = Database::shared(brand, Role::Source)?;
        if !server.is_ours() {
            continue;
        }
        let mut admin = Client::connect(server).await?;
        user(&mut admin, "near", "BY 'secret'").await?;
        // A path may be too long for a socket's address.
        let link = Path::new("/tmp").join(format!("dm-test-{}", std::process::id()));
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(server.data_dir()?.join("s"), &link)?;
        let db = DbConfig {
            host: link.display().to_string(),
            user: "near".to_owned(),
            password: Secret("secret".to_owned()),
            ..DbConfig::default()
        };
        let conn = Conn::open(&db).await.map_err(|e| e.to_string());
        fs::remove_file(&link)?;
        assert!(!conn?.version().is_empty());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_has_methods_of_its_own() -> Result<()> {
    let server = Database::shared(Brand::Mariadb, Role::Source)?;
    let mut admin = Client::connect(server).await?;
    user(
        &mut admin,
        "native",
        "VIA mysql_native_password USING PASSWORD('secret')",
    )
    .await?;
    let mut db = config(server);
    db.user = "native".to_owned();
    db.password = Secret("secret".to_owned());
    Conn::open(&db).await.map_err(|e| e.to_string())?;
    if admin.run("INSTALL SONAME 'auth_ed25519'").await.is_ok() {
        user(&mut admin, "curve", "VIA ed25519 USING PASSWORD('secret')").await?;
        db.user = "curve".to_owned();
        Conn::open(&db).await.map_err(|e| e.to_string())?;
        db.password = Secret("other".to_owned());
        assert!(fails(&db).await.starts_with("Error 1045"));
    }
    Ok(())
}

fn replica(db: &DbConfig, server_id: u32) -> Replica {
    Replica {
        server_id,
        uuid: format!("00000000-0000-0000-0000-0000{server_id:08}"),
        name: "worker-1".to_owned(),
        user: db.user.clone(),
        port: db.port,
    }
}

async fn dump(server: &Database, server_id: u32, from: &Point) -> Result<Dump> {
    let db = config(server);
    let conn = Conn::open(&db).await.map_err(|e| e.to_string())?;
    let dump = replica(&db, server_id).dump(conn, from).await;
    Ok(dump.map_err(|e| e.to_string())?)
}

/// Type and artificial flag of the events until nothing comes for a moment.
async fn read(dump: &mut Dump) -> Result<Vec<(u8, bool)>> {
    let mut events = Vec::new();
    while let Ok(event) = timeout(Duration::from_millis(500), dump.next()).await {
        let event = event.map_err(|e| e.to_string())?.ok_or("the end")?;
        let len = u32::from_le_bytes([event[9], event[10], event[11], event[12]]);
        assert_eq!(len as usize, event.len());
        events.push((event[4], event[17] & 0x20 != 0));
    }
    Ok(events)
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_as_the_server_wrote_them() -> Result<()> {
    const SCRIPT: &str = "CREATE DATABASE d; CREATE TABLE d.t (a INT, b LONGBLOB); \
                          INSERT INTO d.t VALUES (1, REPEAT('x', 17 * 1024 * 1024))";
    let first = || String::new();
    // ROTATE, FORMAT_DESCRIPTION, PREVIOUS_GTIDS, two DDL (GTID, QUERY), and a transaction: GTID,
    // BEGIN, TABLE_MAP, rows, XID.
    let mysql = &[4, 15, 35, 33, 2, 33, 2, 33, 2, 19, 30, 16][..];
    // The same, with GTID_LIST and BINLOG_CHECKPOINT at the start and ANNOTATE_ROWS for BEGIN.
    let mariadb = &[4, 15, 163, 161, 162, 2, 162, 2, 162, 160, 19, 23, 16][..];
    let cases = [
        (
            Brand::Mysql,
            Point::MysqlFile {
                file: first(),
                pos: 4,
            },
            mysql,
        ),
        (Brand::Mysql, Point::MysqlGtids(vec![0; 8]), mysql),
        (
            Brand::Mariadb,
            Point::MariadbFile {
                file: first(),
                pos: 4,
            },
            mariadb,
        ),
        (Brand::Mariadb, Point::MariadbGtids(String::new()), mariadb),
    ];
    for brand in [Brand::Mysql, Brand::Mariadb] {
        let options = Options {
            args: vec!["--max-allowed-packet=64M".to_owned()],
            ..Options::default()
        };
        let server = Database::start(brand, Role::Source, &options)?;
        if !server.is_ours() {
            continue;
        }
        Client::connect(&server).await?.run(SCRIPT).await?;
        for (_, point, types) in cases.iter().filter(|(b, ..)| *b == brand) {
            let events = read(&mut dump(&server, 77, point).await?).await?;
            let expected: Vec<_> = types.iter().map(|&t| (t, t == 4)).collect();
            assert_eq!(events, expected, "{point:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_waited_for() -> Result<()> {
    const ROWS: usize = 60;
    let options = Options {
        // Without our own limit the server would give up after a second.
        args: vec!["--net-write-timeout=1".to_owned()],
        ..Options::default()
    };
    for (brand, point) in [
        (Brand::Mysql, Point::MysqlGtids(vec![0; 8])),
        (Brand::Mariadb, Point::MariadbGtids(String::new())),
    ] {
        let server = Database::start(brand, Role::Source, &options)?;
        let mut admin = Client::connect(&server).await?;
        admin
            .run("CREATE DATABASE d; CREATE TABLE d.t (a LONGBLOB)")
            .await?;
        for _ in 0..ROWS {
            admin
                .run("INSERT INTO d.t VALUES (REPEAT('x', 1024 * 1024))")
                .await?;
        }
        let mut dump = dump(&server, 77, &point).await?;
        tokio::time::sleep(Duration::from_secs(4)).await;
        let events = read(&mut dump).await?;
        // WRITE_ROWS of MySQL, and the older one of MariaDB.
        let rows = events.iter().filter(|(kind, _)| matches!(kind, 30 | 23));
        assert_eq!(rows.count(), ROWS, "{brand:?}");
    }
    Ok(())
}

use std::fs;

use dm_core::binlog::{Flavor, GtidSet, Position};
use dm_core::control::db::Security;

use super::*;

fn parse_line(line: &str) -> Result<Command> {
    parse(line.split_whitespace())
}

fn joined(line: &str) -> WorkerConfig {
    match parse_line(line) {
        Ok(Command::Join(worker)) => worker,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn a_cluster_worker() {
    let worker = joined(
        "-name w1 --worker-addr=127.0.0.1:8262 -join m1:8261,http://m2:8261 -L WARN \
         -keepalive-ttl 10 -ssl-ca ca -ssl-cert cert -ssl-key key -cert-allowed-cn a \
         -cert-allowed-cn b --redact-info-log=false",
    );
    assert_eq!(
        worker,
        WorkerConfig {
            name: "w1".into(),
            worker_addr: "127.0.0.1:8262".into(),
            advertise_addr: "127.0.0.1:8262".into(),
            join: "https://m1:8261,https://m2:8261".into(),
            log_level: "warn".into(),
            keepalive_ttl: 10,
            security: Security {
                ssl_ca: "ca".into(),
                ssl_cert: "cert".into(),
                ssl_key: "key".into(),
                cert_allowed_cn: Some(vec!["a".into(), "b".into()]),
                ..Default::default()
            },
            ..WorkerConfig::standard()
        }
    );
    assert_eq!(joined("-join m:1 -worker-addr h:1").name, "h:1");
}

#[test]
fn flags_win_over_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("w.toml");
    fs::write(
        &file,
        "name = 'file'\nrelay-dir = '/r'\nworker-addr = 'h:1'\njoin = 'm:1'\n",
    )
    .expect("written");
    let path = file.display();
    let worker = joined(&format!("-config {path} -name flag"));
    assert_eq!(
        (worker.name.as_str(), worker.relay_dir.as_str()),
        ("flag", "/r")
    );
    assert_eq!(worker.config_file, path.to_string());

    fs::write(&file, "nmae = 'x'\n").expect("written");
    let error = parse_line(&format!("-config {path}")).expect_err("unknown");
    assert!(error.is(&code::WORKER_UNDECODED_ITEM_FROM_FILE));
    assert!(error.message.contains("did you mean `name`?") && error.message.contains("w.toml"));
    let error = parse_line("-config /no/such/file").expect_err("missing");
    assert!(error.is(&code::WORKER_DECODE_CONFIG_FROM_FILE));
}

#[test]
fn a_worker_of_etcd() {
    let command = parse_line("--etcd e1:2379,e2:2379 --name w").expect("valid");
    let Command::Etcd(Etcd { worker, endpoints }) = command else {
        panic!("etcd")
    };
    assert_eq!(endpoints, ["http://e1:2379", "http://e2:2379"]);
    assert_eq!(
        (worker.name.as_str(), worker.worker_addr.as_str()),
        ("w", ADDRESS)
    );
}

#[test]
fn a_worker_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = dir.path().join("key");
    fs::write(&key, format!("{}\n", "0F".repeat(32))).expect("written");
    let line = format!(
        "standalone --source a.yaml --source b.yaml --task t.yaml --data-dir /d \
         --secret-key-path {}",
        key.display()
    );
    let Command::Standalone(alone) = parse_line(&line).expect("valid") else {
        panic!("alone")
    };
    assert_eq!(
        alone.sources,
        [PathBuf::from("a.yaml"), PathBuf::from("b.yaml")]
    );
    assert_eq!(alone.tasks, [PathBuf::from("t.yaml")]);
    assert_eq!(alone.data_dir, PathBuf::from("/d"));
    assert_eq!(alone.secret_key, Some(Secret(vec![0x0f; 32])));
    assert_eq!(alone.worker.name, "standalone");
    assert!(alone.any_port);
    let Ok(Command::Standalone(alone)) = parse_line(&format!("{line} -worker-addr {ADDRESS}"))
    else {
        panic!("alone")
    };
    assert!(!alone.any_port);

    fs::write(&key, "0f").expect("written");
    assert!(
        parse_line(&line)
            .expect_err("short")
            .is(&code::CONFIG_INVALID_VALUE)
    );
}

#[test]
fn what_to_check() {
    let parsed = parse_line("check -source a.yaml --source b.yaml --task=t.yaml -json");
    let expected = Check {
        sources: vec!["a.yaml".into(), "b.yaml".into()],
        tasks: vec!["t.yaml".into()],
        secret_key: None,
        json: true,
    };
    assert_eq!(parsed, Ok(Command::Check(expected)));
}

#[test]
fn texts_and_status() {
    assert_eq!(parse_line("-V"), Ok(Command::Version));
    assert_eq!(
        parse_line("-print-sample-config"),
        Ok(Command::Print(SAMPLE.into()))
    );
    assert_eq!(
        parse_line("status"),
        Ok(Command::Status(Peer {
            addr: ADDRESS.into(),
            ..Peer::default()
        }))
    );
    for line in [
        "-h",
        "--help",
        "standalone -help",
        "check --help",
        "status -h",
        "relay -h",
        "relay dump --help",
        "relay purge -h",
    ] {
        let Ok(Command::Print(text)) = parse_line(line) else {
            panic!("{line}")
        };
        for flags in [
            WORKER,
            CLUSTER,
            STANDALONE,
            check::CHECK,
            relay::DUMP,
            ask::PURGE,
            ask::PEER,
        ] {
            for Flag(name, ..) in flags {
                assert!(text.contains(&format!("  -{name} ")), "{name}");
            }
        }
        assert!(text.lines().all(|line| line.chars().count() <= 100));
    }
}

#[test]
fn looking_into_a_relay_log() {
    let parse = |line: &str| match parse_line(line) {
        Ok(Command::Relay(relay)) => relay,
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(parse("relay ls d"), Relay::Ls("d".into()));
    assert_eq!(parse("relay verify -- -d"), Relay::Verify("-d".into()));
    let plain = Dump {
        path: "d".into(),
        ..Dump::default()
    };
    assert_eq!(parse("relay dump d"), Relay::Dump(plain.clone()));
    let all = Dump {
        from: Some(Position::new("", 157)),
        to: Some(Position::new("b|000002.000001", 4)),
        gtids: GtidSet::parse(Flavor::Mariadb, "0-1-5").ok(),
        json: true,
        ..plain
    };
    let line = "relay dump -from 157 d --to=b|000002.000001:4 -gtid 0-1-5 -json";
    assert_eq!(parse(line), Relay::Dump(all));
}

#[test]
fn which_worker_to_ask() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join(ADDRESS_FILE), "127.0.0.1:4711").expect("written");
    let asked = |line: &str| match parse_line(line) {
        Ok(Command::Status(status)) => (status.addr, status.security.ssl_ca),
        other => panic!("{line}: {other:?}"),
    };
    let plain = |addr: &str| (addr.to_owned(), String::new());
    assert_eq!(asked("status -addr=h:1"), plain("h:1"));
    assert_eq!(asked("status -addr http://h:1"), plain("h:1"));
    let secure = asked("status -addr https://h:1 -ssl-ca ca.pem");
    assert_eq!(secure, ("h:1".to_owned(), "ca.pem".to_owned()));
    let line = format!("status -data-dir {}", dir.path().display());
    assert_eq!(asked(&line), plain("127.0.0.1:4711"));
    // Of a worker that runs no more, the address may be another one's by now.
    let lock = fs::File::create(dir.path().join(LOCK_FILE)).expect("made");
    let error = parse_line(&line).expect_err("nobody runs");
    assert!(error.message.contains("no worker runs with"), "{error}");
    lock.lock().expect("locked");
    assert_eq!(asked(&line), plain("127.0.0.1:4711"));
}

#[test]
fn what_to_purge() {
    let purge = |line: &str| match parse_line(line) {
        Ok(Command::Purge(purge)) => purge,
        other => panic!("{line}: {other:?}"),
    };
    let peer = |addr: &str| Peer {
        addr: addr.into(),
        ..<_>::default()
    };
    let inactive = Purge {
        inactive: true,
        worker: peer("127.0.0.1:8262"),
        ..<_>::default()
    };
    assert_eq!(purge("relay purge --inactive"), inactive);
    let file = Purge {
        file: Some("b.000002".into()),
        sub_dir: Some("0-1.000001".into()),
        worker: peer("h:1"),
        ..<_>::default()
    };
    let line = "relay purge -before-file b.000002 -sub-dir=0-1.000001 -addr h:1";
    assert_eq!(purge(line), file);
    for time in [
        "1795824000",
        "2026-11-28T00:00:00Z",
        "2026-11-28T08:00:00+08:00",
    ] {
        let line = format!("relay purge -before-time {time}");
        assert_eq!(purge(&line).time, Some(1_795_824_000));
    }
}

#[test]
fn what_makes_no_sense_is_refused_by_code() {
    for (line, number) in [
        ("", 40001),
        ("-", 40002),
        ("x", 40002),
        ("-join m:1 x", 40002),
        ("-V -- x", 40002),
        ("-joni m:1", 40001),
        ("-=x", 40001),
        ("---V", 40001),
        ("-join", 40001),
        ("-V=maybe", 40001),
        ("-join m:1 -keepalive-ttl x -worker-addr h:1", 40001),
        ("-join m:1 -etcd e:1 -worker-addr h:1", 40001),
        ("-etcd e:1", 40001),
        ("-etcd e -name w", 40069),
        ("-join m:1", 40069),
        ("-join m:1 -worker-addr :1", 40069),
        ("-join m:1 -worker-addr h:1 -keepalive-ttl 0", 20900),
        ("-join m:1 -worker-addr h:1 -redact-info-log", 20901),
        ("standalone -source a", 40001),
        ("check -source a", 40001),
        ("check -task a", 40001),
        ("check -source a -task t -data-dir d", 40001),
        ("standalone -task a", 40001),
        ("standalone -source a -task t -join m:1", 40001),
        ("status -addr h:1 -data-dir d", 40001),
        ("status -data-dir /no/such/dir", 40001),
        ("status -addr https://h:1", 40001),
        ("status -ssl-cert c -ssl-key k", 40001),
        ("status -ssl-ca a -ssl-cert c", 40001),
        ("status x", 40002),
        ("status -name x", 40001),
        ("relay", 40001),
        ("relay x", 40001),
        ("relay ls", 40001),
        ("relay ls d e", 40002),
        ("relay ls d -json", 40001),
        ("relay verify", 40001),
        ("relay verify d -from 4", 40001),
        ("relay dump", 40001),
        ("relay dump -- d e", 40002),
        ("relay dump d -from", 40001),
        ("relay dump d -from x", 40001),
        ("relay dump d -to -1", 40001),
        ("relay dump d -to mysql.bin.1:4", 40001),
        ("relay dump d -gtid x", 40001),
        ("relay dump d -gtid=", 40001),
        ("relay dump d -json=x", 40001),
        ("relay purge", 40001),
        ("relay purge d", 40002),
        ("relay purge -before-file b.000001 -inactive", 40001),
        ("relay purge -before-time 1 -inactive", 40001),
        ("relay purge -inactive=false", 40001),
        ("relay purge -inactive -sub-dir d.000001", 40001),
        ("relay purge -before-time yesterday", 40001),
        ("relay purge -before-time 0", 40001),
        ("relay purge -inactive -addr h:1 -data-dir d", 40001),
    ] {
        let error = parse_line(line).expect_err(line);
        assert_eq!(error.code, number, "{line}: {error}");
    }
}

//! The control store's port against a real etcd: what the worker machine relies on, case by case.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dm_core::{
    error::code,
    lifecycle::{ControlCall, Entry, Era, Event, Input, Outcome, Range, Reply, Ticket},
};
use dm_runtime::{
    etcd::{Etcd as Port, Settings, Tls},
    ports::{Control, Events},
};
use dm_tests::{Result, process, servers::Etcd};
use etcd_client::Client;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::JoinHandle,
    time::{sleep, timeout},
};

/// Of whatever call; the port does not look at it.
const TICKET: Ticket = Ticket { era: Era(1), op: 7 };

async fn port(endpoints: &[&str]) -> Port {
    let endpoints = endpoints.iter().map(|&e| e.to_owned()).collect();
    let settings = Settings {
        endpoints,
        tls: None,
    };
    Port::new(settings)
        .await
        .expect("endpoints that make sense")
}

async fn call(port: &Port, call: ControlCall) -> Outcome {
    port.call(call, Events::new(TICKET, unbounded_channel().0))
        .await
}

fn key(key: &'static str) -> Bytes {
    Bytes::from_static(key.as_bytes())
}

fn announce(k: &'static str, v: &'static str, lease: i64, held_by: i64) -> ControlCall {
    ControlCall::Announce {
        key: key(k),
        value: key(v),
        lease,
        held_by,
    }
}

fn replace(k: &'static str, v: impl Into<Option<&'static str>>, mod_revision: i64) -> ControlCall {
    ControlCall::Replace {
        key: key(k),
        value: v.into().map(key),
        mod_revision,
    }
}

fn read(ranges: &[Range], at: Option<i64>) -> ControlCall {
    ControlCall::Read {
        ranges: ranges.to_vec(),
        at,
    }
}

async fn grant(port: &Port, seconds: u64) -> i64 {
    let ttl = Duration::from_secs(seconds);
    match call(port, ControlCall::Grant { ttl }).await {
        Outcome::Ok(Reply::Lease { id, ttl_s }) => {
            assert_eq!(ttl_s, seconds.max(2), "the server's minimum is 2 s");
            id
        }
        other => panic!("{other:?}"),
    }
}

async fn entries(port: &Port, ranges: &[Range], at: Option<i64>) -> (i64, Vec<Entry>) {
    match call(port, read(ranges, at)).await {
        Outcome::Ok(Reply::Entries { revision, entries }) => (revision, entries),
        other => panic!("{other:?}"),
    }
}

fn written(outcome: &Outcome) -> i64 {
    match outcome {
        Outcome::Ok(Reply::Written { revision }) => *revision,
        other => panic!("{other:?}"),
    }
}

/// The entry that stood in the way.
fn refused(outcome: Outcome) -> Option<Entry> {
    match outcome {
        Outcome::Ok(Reply::Refused { entry }) => entry,
        other => panic!("{other:?}"),
    }
}

fn watch(
    port: &Port,
    ranges: &[Range],
    from: i64,
) -> (JoinHandle<Outcome>, UnboundedReceiver<Input>) {
    let (port, ranges) = (port.clone(), ranges.to_vec());
    let (events, inbox) = unbounded_channel();
    let task = tokio::spawn(async move {
        port.call(
            ControlCall::Watch { ranges, from },
            Events::new(TICKET, events),
        )
        .await
    });
    (task, inbox)
}

async fn changed(inbox: &mut UnboundedReceiver<Input>) -> i64 {
    match timeout(Duration::from_secs(5), inbox.recv()).await {
        Ok(Some(Input::Event {
            ticket: TICKET,
            event: Event::Changed { revision },
        })) => revision,
        other => panic!("{other:?}"),
    }
}

async fn put(client: &mut Client, key: &str, value: &str) -> Result<i64> {
    let answer = client.put(key, value, None).await?;
    Ok(answer.header().ok_or("no header")?.revision())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_lives_and_dies() -> Result<()> {
    let etcd = Etcd::start()?;
    let port = port(&[etcd.endpoint()]).await;
    let short = grant(&port, 1).await;
    let long = grant(&port, 30).await;
    let alive = call(&port, ControlCall::Renew { lease: long }).await;
    assert_eq!(
        alive,
        Outcome::Ok(Reply::Lease {
            id: long,
            ttl_s: 30
        })
    );
    for _ in 0..2 {
        let gone = call(&port, ControlCall::Revoke { lease: long }).await;
        assert_eq!(gone, Outcome::Ok(Reply::Closed));
    }
    let dead = call(&port, ControlCall::Renew { lease: long }).await;
    assert_eq!(dead, Outcome::Ok(Reply::Lease { id: long, ttl_s: 0 }));

    // Both keys of a lease go in one revision, which a watch reports once.
    let first = written(&call(&port, announce("e/1", "x", short, 0)).await);
    written(&call(&port, announce("e/2", "x", short, 0)).await);
    let (task, mut inbox) = watch(&port, &[Range::Prefix(key("e/"))], first);
    assert_eq!(changed(&mut inbox).await, first + 1);
    assert_eq!(changed(&mut inbox).await, first + 2);
    task.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announcement_is_put_only_over_ones_own() -> Result<()> {
    let etcd = Etcd::start()?;
    let port = port(&[etcd.endpoint()]).await;
    let (mine, other) = (grant(&port, 60).await, grant(&port, 60).await);
    assert_eq!(
        refused(call(&port, announce("a", "1", mine, other)).await),
        None
    );
    let first = written(&call(&port, announce("a", "1", mine, 0)).await);
    let entry = refused(call(&port, announce("a", "2", other, 0)).await);
    let expected = Entry {
        key: key("a"),
        value: key("1"),
        create_revision: first,
        mod_revision: first,
        lease: mine,
    };
    assert_eq!(entry, Some(expected));
    // The switch to another lease is one write, and the old lease takes nothing with it.
    let second = written(&call(&port, announce("a", "1", other, mine)).await);
    assert_eq!(second, first + 1);
    call(&port, ControlCall::Revoke { lease: mine }).await;
    let (_, found) = entries(&port, &[Range::Key(key("a"))], None).await;
    assert_eq!((found[0].create_revision, found[0].lease), (first, other));
    call(&port, ControlCall::Revoke { lease: other }).await;
    let (_, found) = entries(&port, &[Range::Key(key("a"))], None).await;
    assert_eq!(found, []);

    let lost = call(&port, announce("a", "1", mine, 0)).await;
    assert!(matches!(lost, Outcome::Failed(_)), "{lost:?}");
    let nameless = call(&port, announce("", "1", 0, 0)).await;
    let Outcome::Failed(errors) = nameless else {
        panic!("{nameless:?}");
    };
    assert!(errors[0].is(&code::HA_FAIL_TXN_OPERATION));
    assert!(
        errors[0].message.contains("key is not provided"),
        "{}",
        errors[0]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_is_replaced_only_if_nobody_else_did() -> Result<()> {
    let etcd = Etcd::start()?;
    let port = port(&[etcd.endpoint()]).await;
    let first = written(&call(&port, replace("k", "1", 0)).await);
    assert_eq!(
        refused(call(&port, replace("k", "2", 0)).await)
            .unwrap()
            .value,
        "1"
    );
    let second = written(&call(&port, replace("k", "2", first)).await);
    let entry = refused(call(&port, replace("k", "3", first)).await).unwrap();
    assert_eq!((&entry.value[..], entry.mod_revision), (&b"2"[..], second));
    let stands = refused(call(&port, replace("k", None, first)).await);
    assert_eq!(stands, Some(entry));
    let deleted = written(&call(&port, replace("k", None, second)).await);
    assert_eq!(deleted, second + 1);
    let (_, found) = entries(&port, &[Range::Key(key("k"))], None).await;
    assert_eq!(found, []);
    assert_eq!(refused(call(&port, replace("k", "4", second)).await), None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_read_at_one_revision() -> Result<()> {
    let etcd = Etcd::start()?;
    let port = port(&[etcd.endpoint()]).await;
    let mut client = etcd.client().await?;
    for i in 0..600 {
        put(&mut client, &format!("p/{i:03}"), "old").await?;
    }
    put(&mut client, "single", "s").await?;
    put(&mut client, "single/below", "not asked for").await?;
    let before = put(&mut client, "q/1", "q").await?;
    let ranges = [
        Range::Prefix(key("p/")),
        Range::Key(key("single")),
        Range::Prefix(key("q/")),
        Range::Prefix(key("empty/")),
    ];
    let (revision, found) = entries(&port, &ranges, None).await;
    assert_eq!((revision, found.len()), (before, 602));

    let writer = tokio::spawn(async move {
        for i in (0..600).rev() {
            put(&mut client, &format!("p/{i:03}"), "new").await?;
        }
        Ok::<_, dm_tests::Error>(client)
    });
    for _ in 0..10 {
        let (revision, found) = entries(&port, &ranges, None).await;
        // One write a revision, from the last key to the first.
        let new = found.iter().filter(|e| e.value == "new").count();
        assert_eq!(i64::try_from(new)?, (revision - before).min(600));
        assert!(found.iter().all(|e| e.mod_revision <= revision));
    }
    let mut client = writer.await??;

    let (revision, found) = entries(&port, &ranges, Some(before)).await;
    assert_eq!((revision, found.len()), (before, 602));
    assert!(found.iter().all(|e| e.value != "new"));
    client.compact(before + 1, None).await?;
    assert_eq!(
        call(&port, read(&ranges, Some(before))).await,
        Outcome::Compacted
    );
    let (revision, _) = entries(&port, &ranges, Some(before + 1)).await;
    assert_eq!(revision, before + 1);
    let future = call(&port, read(&ranges, Some(before + 10_000))).await;
    assert!(matches!(future, Outcome::Failed(_)), "{future:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_reports_every_change_of_its_ranges() -> Result<()> {
    let etcd = Etcd::start()?;
    let port = port(&[etcd.endpoint()]).await;
    let mut client = etcd.client().await?;
    let first = put(&mut client, "w/1", "x").await?;
    put(&mut client, "w/2", "x").await?;
    let last = put(&mut client, "w/1", "y").await?;
    let ranges = [Range::Prefix(key("w/")), Range::Key(key("bound"))];
    let (task, mut inbox) = watch(&port, &ranges, first);
    // What is past comes at once, in one message.
    assert_eq!(changed(&mut inbox).await, last);
    put(&mut client, "elsewhere", "x").await?;
    put(&mut client, "bound/below", "x").await?;
    let bound = put(&mut client, "bound", "x").await?;
    assert_eq!(changed(&mut inbox).await, bound);
    client.delete("w/2", None).await?;
    assert_eq!(changed(&mut inbox).await, bound + 1);
    assert!(!task.is_finished());
    task.abort();

    client.compact(bound, None).await?;
    let (task, _inbox) = watch(&port, &ranges, first);
    assert_eq!(task.await?, Outcome::Compacted);
    let (task, mut inbox) = watch(&port, &ranges, bound);
    // Of different ranges, in any order.
    let mut both = [changed(&mut inbox).await, changed(&mut inbox).await];
    both.sort_unstable();
    assert_eq!(both, [bound, bound + 1]);
    task.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_store_leaves_nobody_waiting() -> Result<()> {
    let mut etcd = Etcd::start()?;
    if !etcd.is_ours() {
        return Ok(());
    }
    let port = port(&[etcd.endpoint()]).await;
    let lease = grant(&port, 60).await;
    let (task, _inbox) = watch(&port, &[Range::Key(key("k"))], 1);
    sleep(Duration::from_millis(300)).await;
    etcd.freeze()?;
    let start = Instant::now();
    let (write, renewal, reading, revocation) = tokio::join!(
        call(&port, announce("k", "v", lease, 0)),
        call(&port, ControlCall::Renew { lease }),
        call(&port, read(&[Range::Key(key("k"))], None)),
        call(&port, ControlCall::Revoke { lease: 12345 }),
    );
    assert!(
        start.elapsed() < Duration::from_secs(12),
        "{:?}",
        start.elapsed()
    );
    assert!(matches!(&write, Outcome::Unknown(e) if e.is(&code::HA_FAIL_TXN_OPERATION)));
    assert!(matches!(&renewal, Outcome::Unknown(e) if e.is(&code::HA_FAIL_KEEPALIVE)));
    assert!(matches!(reading, Outcome::Failed(_)));
    assert!(matches!(revocation, Outcome::Unknown(_)));
    let end = timeout(Duration::from_secs(1), task).await??;
    let Outcome::Failed(errors) = end else {
        panic!("{end:?}");
    };
    assert!(errors[0].is(&code::HA_FAIL_WATCH_ETCD));
    etcd.thaw()?;
    let alive = call(&port, ControlCall::Renew { lease }).await;
    assert_eq!(
        alive,
        Outcome::Ok(Reply::Lease {
            id: lease,
            ttl_s: 60
        })
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_is_survived() -> Result<()> {
    let mut etcd = Etcd::start()?;
    if !etcd.is_ours() {
        return Ok(());
    }
    let port = port(&[etcd.endpoint()]).await;
    let lease = grant(&port, 60).await;
    let revision = written(&call(&port, announce("k", "v", lease, 0)).await);
    let (task, mut inbox) = watch(&port, &[Range::Key(key("k"))], revision);
    assert_eq!(changed(&mut inbox).await, revision);
    etcd.kill()?;
    let end = timeout(Duration::from_secs(1), task).await??;
    assert!(
        matches!(end, Outcome::Failed(_) | Outcome::Ok(Reply::Closed)),
        "{end:?}"
    );
    // Nothing listens, so nothing was sent: that is certain.
    let refused = call(&port, announce("k", "v", lease, lease)).await;
    let Outcome::Failed(errors) = refused else {
        panic!("{refused:?}");
    };
    assert!(
        errors[0]
            .message
            .starts_with("fail to do etcd txn operation: http://127.0.0.1:")
    );
    let renewal = {
        let port = port.clone();
        tokio::spawn(async move { call(&port, ControlCall::Renew { lease }).await })
    };
    sleep(Duration::from_secs(1)).await;
    etcd.restart()?;
    assert_eq!(
        renewal.await?,
        Outcome::Ok(Reply::Lease {
            id: lease,
            ttl_s: 60
        })
    );
    let (_, found) = entries(&port, &[Range::Key(key("k"))], None).await;
    assert_eq!(found[0].lease, lease);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_endpoint_answers_for_a_dead_one() -> Result<()> {
    let etcd = Etcd::start()?;
    let dead = format!("127.0.0.1:{}", process::free_port()?);
    let port = port(&[&dead, etcd.endpoint()]).await;
    let start = Instant::now();
    grant(&port, 60).await;
    let (_task, _inbox) = watch(&port, &[Range::Key(key("k"))], 1);
    assert!(start.elapsed() < Duration::from_secs(2));
    // The list of members is taken over meanwhile, and changes nothing.
    sleep(Duration::from_secs(4)).await;
    grant(&port, 60).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_goes_both_ways() -> Result<()> {
    // The same certificates as for the worker's own listener; the server's is for `localhost`.
    let file = |name: &str| {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/testdata/tls");
        dir.join(name)
    };
    let dir = process::scratch("etcd-tls")?;
    let (port, peer) = (process::free_port()?, process::free_port()?);
    let peer = format!("http://127.0.0.1:{peer}");
    let mut command = Command::new(process::unpacked("etcd"));
    command
        .arg(format!("--data-dir={}", dir.join("data").display()))
        .arg(format!("--listen-client-urls=https://127.0.0.1:{port}"))
        .arg(format!("--advertise-client-urls=https://localhost:{port}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=default={peer}"))
        .arg(format!("--cert-file={}", file("server.pem").display()))
        .arg(format!("--key-file={}", file("server.key").display()))
        .arg(format!("--trusted-ca-file={}", file("ca.pem").display()))
        .args(["--client-cert-auth", "--unsafe-no-fsync"]);
    let _etcd = process::Process::start(&mut command, &dir.join("server.log"))?;
    let client = async |host: &str, identity: Option<(Vec<u8>, Vec<u8>)>| -> Result<Port> {
        let ca = fs::read(file("ca.pem"))?;
        let settings = Settings {
            endpoints: vec![format!("{host}:{port}")],
            tls: Some(Tls { ca, identity }),
        };
        Ok(Port::new(settings).await?)
    };
    let ttl = Duration::from_secs(60);
    let identity = (fs::read(file("friend.pem"))?, fs::read(file("friend.key"))?);
    let friend = client("localhost", Some(identity.clone())).await?;
    let start = Instant::now();
    loop {
        match call(&friend, ControlCall::Grant { ttl }).await {
            Outcome::Ok(Reply::Lease { .. }) => break,
            // Not listening yet.
            _ if start.elapsed() < Duration::from_secs(20) => {
                sleep(Duration::from_millis(100)).await;
            }
            other => panic!("{other:?}"),
        }
    }
    let nobody = client("localhost", None).await?;
    let nobody = call(&nobody, ControlCall::Grant { ttl }).await;
    assert!(!matches!(nobody, Outcome::Ok(_)), "{nobody:?}");
    // The reason is told, not only that something is wrong with the transport.
    let other_name = client("127.0.0.1", Some(identity)).await?;
    let other_name = call(&other_name, ControlCall::Grant { ttl }).await;
    assert!(
        format!("{other_name:?}").contains("certificate"),
        "{other_name:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_may_lose_members() -> Result<()> {
    let ports: Vec<_> = (0..6)
        .map(|_| process::free_port())
        .collect::<Result<_>>()?;
    let (clients, peers) = ports.split_at(3);
    let cluster: Vec<_> = (0..3)
        .map(|i| format!("m{i}=http://127.0.0.1:{}", peers[i]))
        .collect();
    let mut members = Vec::new();
    for i in 0..3 {
        let dir = process::scratch("etcd-member")?;
        let (client, peer) = (clients[i], peers[i]);
        let mut command = Command::new(process::unpacked("etcd"));
        command
            .arg(format!("--name=m{i}"))
            .arg(format!("--data-dir={}", dir.join("data").display()))
            .arg(format!("--listen-client-urls=http://127.0.0.1:{client}"))
            .arg(format!("--advertise-client-urls=http://127.0.0.1:{client}"))
            .arg(format!("--listen-peer-urls=http://127.0.0.1:{peer}"))
            .arg(format!(
                "--initial-advertise-peer-urls=http://127.0.0.1:{peer}"
            ))
            .arg(format!("--initial-cluster={}", cluster.join(",")))
            .arg("--unsafe-no-fsync");
        members.push(process::Process::start(
            &mut command,
            &dir.join("server.log"),
        )?);
    }
    // Only one member is configured; the others are learnt from it.
    let port = port(&[&format!("127.0.0.1:{}", clients[0])]).await;
    let ttl = Duration::from_secs(60);
    let start = Instant::now();
    let lease = loop {
        match call(&port, ControlCall::Grant { ttl }).await {
            Outcome::Ok(Reply::Lease { id, .. }) => break id,
            _ if start.elapsed() < Duration::from_secs(20) => {
                sleep(Duration::from_millis(100)).await;
            }
            other => panic!("{other:?}"),
        }
    };
    sleep(Duration::from_secs(5)).await;
    let revision = written(&call(&port, announce("k", "v", lease, 0)).await);
    members[0].kill()?;
    let renewal = call(&port, ControlCall::Renew { lease }).await;
    assert_eq!(
        renewal,
        Outcome::Ok(Reply::Lease {
            id: lease,
            ttl_s: 60
        })
    );
    let (_, found) = entries(&port, &[Range::Key(key("k"))], None).await;
    assert_eq!(found[0].mod_revision, revision);

    // A member that is left alone may not go on watching as if nothing happened.
    let (one, mut inbox) = watch(&port, &[Range::Key(key("k"))], revision);
    assert_eq!(changed(&mut inbox).await, revision);
    members[1].kill()?;
    let end = timeout(Duration::from_secs(15), one).await??;
    assert!(
        matches!(&end, Outcome::Failed(_) | Outcome::Ok(Reply::Closed)),
        "{end:?}"
    );
    // A leader that lost the others may still answer until its election timeout; that is sound,
    // since the next leader gives every lease its whole TTL again. Then nobody answers.
    let start = Instant::now();
    while matches!(
        call(&port, ControlCall::Renew { lease }).await,
        Outcome::Ok(_)
    ) {
        assert!(start.elapsed() < Duration::from_secs(20));
        sleep(Duration::from_millis(100)).await;
    }
    let (alone, _inbox) = watch(&port, &[Range::Key(key("k"))], revision);
    let end = timeout(Duration::from_secs(20), alone).await??;
    assert!(matches!(end, Outcome::Failed(_)), "{end:?}");
    Ok(())
}

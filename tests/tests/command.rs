//! The worker's command line: exit codes, and what is said on which occasion.

use std::{fs, net::TcpListener, time::Duration};

use dm_tests::{Result, process, worker::Worker};

/// How long a worker may take to see that it can't start.
const LIMIT: Duration = Duration::from_secs(20);
/// Where no database is.
const NOWHERE: &str = "{host: 127.0.0.1, port: 1, user: u}";

/// Runs a worker alone in a mode until it ends. Its exit code and what it said.
fn alone(mode: &str, more: &[&str]) -> Result<(Option<i32>, String)> {
    let dir = process::scratch("command")?;
    let file = |name: &str| -> Result<String> {
        let path = dir.join(name);
        Ok(path.to_str().ok_or("not UTF-8")?.to_owned())
    };
    let (source, task) = (file("source.yaml")?, file("task.yaml")?);
    fs::write(&source, format!("source-id: s\nfrom: {NOWHERE}\n"))?;
    let text = format!(
        "name: t\ntask-mode: {mode}\ntarget-database: {NOWHERE}\n\
         mysql-instances: [{{source-id: s}}]\n"
    );
    fs::write(&task, text)?;
    let args = ["standalone", "-source", &source, "-task", &task];
    run(&[&args[..], &["-data-dir", &file("data")?], more].concat())
}

fn run(args: &[&str]) -> Result<(Option<i32>, String)> {
    let mut worker = Worker::start(args)?;
    let status = worker.wait(LIMIT)?;
    Ok((status.code(), worker.log()))
}

fn count(text: &str, word: &str) -> usize {
    text.matches(word).count()
}

#[test]
fn what_is_not_built_yet_ends_a_worker_alone_before_it_starts() -> Result<()> {
    for shards in ["optimistic", "pessimistic"] {
        let mode = format!("incremental\nshard-mode: {shards}");
        let (code, said) = alone(&mode, &[])?;
        assert_eq!(code, Some(2), "{said}");
        assert_eq!(count(&said, "code=20901"), 1, "{said}");
        assert!(said.contains(&format!("`shard-mode: {shards}`")), "{said}");
        assert!(said.contains("task.yaml"), "{said}");
    }
    Ok(())
}

#[test]
fn a_wrong_file_is_named_once() -> Result<()> {
    let (code, said) = alone("incremental", &["-source", "/no/such/file"])?;
    assert_eq!(code, Some(2), "{said}");
    assert_eq!(count(&said, "/no/such/file"), 1, "{said}");
    Ok(())
}

#[test]
fn a_check_needs_files_that_can_be_read() -> Result<()> {
    for (args, part) in [
        (
            &["check", "-source", "/no/such/file", "-task", "t"][..],
            "/no/such/file",
        ),
        (
            &["check", "-task", "t"],
            "check needs -source FILE and -task FILE",
        ),
    ] {
        let (code, said) = run(args)?;
        assert_eq!(code, Some(2), "{said}");
        assert_eq!(count(&said, part), 1, "{said}");
    }
    Ok(())
}

/// Another port is taken only where nobody has asked for one.
#[test]
fn an_address_that_was_asked_for_must_be_free() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let (code, said) = alone("incremental", &["-worker-addr", &address])?;
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(count(&said, "code=40048"), 1, "{said}");
    assert!(said.contains(&address), "{said}");
    Ok(())
}

#[test]
fn nobody_to_ask_is_an_error_that_says_how_to_find_one() -> Result<()> {
    let address = format!("127.0.0.1:{}", process::free_port()?);
    let (code, said) = run(&["status", "-addr", &address])?;
    assert_eq!(code, Some(1), "{said}");
    for part in [&*address, "`-data-dir`", "`-ssl-ca`"] {
        assert!(said.contains(part), "{said}");
    }
    let (code, said) = run(&["status", "-data-dir", "/no/such/dir"])?;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("/no/such/dir/address"), "{said}");
    assert!(said.contains("was started with"), "{said}");
    Ok(())
}

//! Child processes that never outlive the one that started them.
//!
//! `Drop` alone is not enough: statics are not dropped, and a test process may end by Ctrl-C, by
//! `abort` or by SIGKILL. So one small shell (the watcher) is told of every child's process group
//! over a pipe. When this process ends, in whatever way, the pipe closes, and the watcher kills
//! what is left and removes its data.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write},
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::Result;

/// How long the logs of an ended run are kept.
const LOGS_KEPT: Duration = Duration::from_secs(3600);

/// Reads `+ group` and `- group` lines; kills what is left at the end of the pipe.
const WATCHER: &str = r#"
groups=
while read -r op group; do
    case $op in
    +) groups="$groups $group" ;;
    -) left=; for g in $groups; do [ "$g" = "$group" ] || left="$left $g"; done; groups=$left ;;
    esac
done
for g in $groups; do kill -s KILL -- "-$g"; done 2>/dev/null
rm -rf "$1"/*/data "$1"/*/tmp
rmdir "$1"/* "$1" 2>/dev/null
"#;

/// The checkout's `target` folder.
#[must_use]
pub fn target_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")
}

/// A program in `target/servers/bin`, as `scripts/servers` puts them there.
#[must_use]
pub fn unpacked(name: &str) -> PathBuf {
    target_dir().join("servers/bin").join(name)
}

/// A fresh folder of this process, `target/runs/<pid>/<name>-<n>`. Folders named `data` and `tmp`
/// in it go away with the process; logs are kept for a while.
///
/// # Errors
/// When it cannot be created.
pub fn scratch(name: &str) -> Result<PathBuf> {
    static COUNT: Mutex<u32> = Mutex::new(0);
    let count = {
        let mut count = COUNT.lock().unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        *count
    };
    let dir = run_dir()?.join(format!("{name}-{count}"));
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// A port that was free a moment ago.
///
/// # Errors
/// When the machine has none left.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// A running child in a process group of its own. Dropping it kills the group.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output appended to `log`.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let output = File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .map_err(|e| format!("cannot start {:?}: {e}", command.get_program()))?;
        let process = Self {
            child,
            log: log.to_owned(),
        };
        tell_watcher('+', process.pid())?;
        Ok(process)
    }

    /// Process id, which is the group's id too.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Where it writes its output.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Sends a signal to the whole group. Does nothing when the process was waited for.
    ///
    /// # Errors
    /// What the system says.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        let group = Pid::from_child(&self.child);
        Ok(kill_process_group(group, signal)?)
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// What the system says.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// When it takes longer than `limit`; the process is left alone.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                tell_watcher('-', self.pid())?;
                return Ok(status);
            }
            if start.elapsed() > limit {
                return Err(format!("{} still runs after {limit:?}", self.pid()).into());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills it with SIGKILL and waits.
    ///
    /// # Errors
    /// What the system says.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::KILL)?;
        self.wait(Duration::from_secs(30))
    }

    /// Asks it to end with `signal`, and kills it if it does not within `limit`.
    ///
    /// # Errors
    /// When it had to be killed.
    pub fn stop(&mut self, signal: Signal, limit: Duration) -> Result<ExitStatus> {
        self.signal(signal)?;
        self.wait(limit).inspect_err(|_| drop(self.kill()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A destructor has nobody to report to, and the watcher tries again.
        let _ = self.kill();
        if thread::panicking() {
            eprintln!("log kept: {}", self.log.display());
        }
    }
}

/// Runs a short-lived program to its end and hands out what it printed.
///
/// # Errors
/// When it fails; the text holds its output.
pub fn run<S: AsRef<OsStr>>(program: S, command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .map_err(|e| format!("{:?}: {e}", program.as_ref()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "{:?} ended with {}:\n{text}{errors}",
        program.as_ref(),
        output.status
    )
    .into())
}

fn run_dir() -> Result<&'static Path> {
    static DIR: OnceLock<io::Result<PathBuf>> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let runs = target_dir().join("runs");
        fs::create_dir_all(&runs)?;
        let runs = runs.canonicalize()?;
        let kept = SystemTime::now() - LOGS_KEPT;
        for run in fs::read_dir(&runs)?.flatten() {
            let alive = Path::new("/proc").join(run.file_name()).exists();
            let recent = run.metadata()?.modified()? > kept;
            if !alive && !recent {
                // Another test process may be at it too.
                let _ = fs::remove_dir_all(run.path());
            }
        }
        let dir = runs.join(std::process::id().to_string());
        fs::create_dir_all(&dir)?;
        Ok(dir)
    });
    dir.as_deref()
        .map_err(|e| format!("no folder for this run: {e}").into())
}

/// Tells the watcher of a child's birth (`+`) or end (`-`).
fn tell_watcher(op: char, group: u32) -> Result<()> {
    static PIPE: Mutex<Option<Child>> = Mutex::new(None);
    let mut pipe = PIPE.lock().unwrap_or_else(PoisonError::into_inner);
    if pipe.is_none() {
        // In its own group, so that Ctrl-C in a terminal does not end it before its work is done.
        let watcher = Command::new("sh")
            .args(["-c", WATCHER, "watcher"])
            .arg(run_dir()?)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        *pipe = Some(watcher);
    }
    let stdin = pipe.as_mut().and_then(|watcher| watcher.stdin.as_mut());
    let stdin = stdin.ok_or("the watcher has no pipe")?;
    Ok(writeln!(stdin, "{op} {group}")?)
}

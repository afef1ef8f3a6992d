//! The worker's own binary, as a process that can be killed, frozen and asked.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::OnceLock,
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    Result,
    job::Job,
    master::Master,
    process::{self, Process},
    servers::Etcd,
};

/// How long a graceful stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Path of the binary: `DM_WORKER`, or the one of this checkout, built if need be.
///
/// # Errors
/// When it does not build; the text holds the compiler's.
pub fn binary() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    if let Ok(path) = env::var("DM_WORKER") {
        return Ok(path.into());
    }
    let built = BUILT.get_or_init(|| {
        let release = !cfg!(debug_assertions);
        let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let mut command = Command::new(&cargo);
        // All of the workspace, for the same features and so the same objects as anywhere else.
        command.args([
            "build",
            "--quiet",
            "--locked",
            "--workspace",
            "--bin",
            "dm-worker",
        ]);
        command
            .args(release.then_some("--release"))
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        process::run(&cargo, &mut command).map_err(|e| e.to_string())?;
        let dir = process::target_dir().join(if release { "release" } else { "debug" });
        dir.join("dm-worker")
            .canonicalize()
            .map_err(|e| e.to_string())
    });
    built.clone().map_err(Into::into)
}

/// A worker process. Dropping it kills it.
#[derive(Debug)]
pub struct Worker {
    args: Vec<String>,
    dir: PathBuf,
    process: Process,
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// CPU time, user and system.
    pub cpu: Duration,
    /// Largest resident memory, in bytes.
    pub resident_max: u64,
}

impl Worker {
    /// Starts the binary with arguments of its own.
    ///
    /// # Errors
    /// When it does not build or start.
    pub fn start(args: &[&str]) -> Result<Self> {
        let dir = process::scratch("worker")?;
        let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
        let process = launch(&args, &dir)?;
        Ok(Self { args, dir, process })
    }

    /// Starts it alone, without etcd, on the files of a job.
    ///
    /// # Errors
    /// When it does not build or start.
    pub fn standalone(job: &Job) -> Result<Self> {
        let dir = process::scratch("worker")?;
        let (source, task) = job.write_files(&dir)?;
        let data = dir.join("data");
        fs::create_dir_all(&data)?;
        let args = [
            "standalone",
            "--source",
            text(&source)?,
            "--task",
            text(&task)?,
        ];
        let args = args.into_iter().chain(["--data-dir", text(&data)?]);
        let args: Vec<_> = args.map(str::to_owned).collect();
        let process = launch(&args, &dir)?;
        Ok(Self { args, dir, process })
    }

    /// Starts it as a member of a cluster, with a lease of `ttl_s` seconds; a scripted master is
    /// the cluster.
    ///
    /// # Errors
    /// When it does not build or start.
    pub fn join(master: &Master, name: &str, ttl_s: u32) -> Result<Self> {
        Self::member(
            "--join",
            master.endpoint(),
            name,
            process::free_port()?,
            ttl_s,
        )
    }

    /// Starts it with an etcd and no master. The master that writes the keys in its stead learns
    /// the address.
    ///
    /// # Errors
    /// When it does not build or start.
    pub fn etcd(etcd: &Etcd, writer: &Master, name: &str, ttl_s: u32) -> Result<Self> {
        let port = process::free_port()?;
        writer.know(name, &format!("127.0.0.1:{port}"));
        Self::member("--etcd", etcd.endpoint(), name, port, ttl_s)
    }

    fn member(how: &str, endpoint: &str, name: &str, port: u16, ttl_s: u32) -> Result<Self> {
        let (address, ttl) = (format!("127.0.0.1:{port}"), ttl_s.to_string());
        let args = [how, endpoint, "--name", name, "--worker-addr", &address];
        Self::start(&[&args[..], &["--keepalive-ttl", &ttl]].concat())
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its scratch folder; it runs there.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it has logged, over all restarts.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Freezes it (SIGSTOP).
    ///
    /// # Errors
    /// What the system says.
    pub fn freeze(&mut self) -> Result<()> {
        self.process.signal(Signal::STOP)
    }

    /// Lets it run on (SIGCONT).
    ///
    /// # Errors
    /// What the system says.
    pub fn thaw(&mut self) -> Result<()> {
        self.process.signal(Signal::CONT)
    }

    /// Kills it (SIGKILL).
    ///
    /// # Errors
    /// What the system says.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill().map(drop)
    }

    /// Stops it with SIGTERM, which it must obey in time and with exit code 0.
    ///
    /// # Errors
    /// When it had to be killed or failed.
    pub fn stop(&mut self) -> Result<()> {
        let status = self.process.stop(Signal::TERM, STOP_LIMIT)?;
        if status.success() {
            Ok(())
        } else {
            Err(self.failure(status))
        }
    }

    /// Writes the files of its job anew, for the next start.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write_files(&self, job: &Job) -> Result<()> {
        job.write_files(&self.dir).map(drop)
    }

    /// Starts it again with the same arguments, after a kill or a stop.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&mut self) -> Result<()> {
        self.process = launch(&self.args, &self.dir)?;
        Ok(())
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// What the system says.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.process.ended()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it takes longer than `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.process.wait(limit)
    }

    /// Fails with the log when the worker has ended.
    ///
    /// # Errors
    /// When it has.
    pub fn expect_running(&mut self) -> Result<()> {
        match self.process.ended()? {
            None => Ok(()),
            Some(status) => Err(self.failure(status)),
        }
    }

    /// Waits until its log has `text`.
    ///
    /// # Errors
    /// When it does not within `limit`; the text holds the log's end.
    pub async fn logged(&self, text: &str, limit: Duration) -> Result<()> {
        let start = std::time::Instant::now();
        while !self.log().contains(text) {
            if start.elapsed() > limit {
                let log = last_lines(&self.log());
                return Err(format!("{text:?} not logged within {limit:?}:\n{log}").into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// What it has used since its last start.
    ///
    /// # Errors
    /// When it has ended.
    pub fn usage(&self) -> Result<Usage> {
        usage(self.pid())
    }

    /// An error of a test, with what the worker logged last.
    #[must_use]
    pub fn explain(&self, error: crate::Error) -> crate::Error {
        format!(
            "{error}\nthe worker's last lines:\n{}",
            last_lines(&self.log())
        )
        .into()
    }

    fn failure(&self, status: ExitStatus) -> crate::Error {
        format!(
            "the worker ended with {status}:\n{}",
            last_lines(&self.log())
        )
        .into()
    }
}

/// What a running process has used so far.
///
/// # Errors
/// When there is no such process.
pub fn usage(pid: u32) -> Result<Usage> {
    let cpu = cpu(&pid.to_string(), 14)?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak
        .and_then(|peak| peak.split_whitespace().next())
        .unwrap_or("0");
    Ok(Usage {
        cpu,
        resident_max: kib.parse::<u64>()? * 1024,
    })
}

/// CPU time of all children of this process that have ended and were waited for.
///
/// # Errors
/// The system does not say.
pub fn ended_children() -> Result<Duration> {
    cpu("self", 16)
}

/// The sum of two fields of `/proc/PID/stat`: times in user mode and in the system.
fn cpu(pid: &str, first_field: usize) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command, field 2 in parentheses, may hold spaces.
    let fields = stat.rsplit_once(") ").ok_or("odd /proc/pid/stat")?.1;
    let times = fields.split(' ').skip(first_field - 3).take(2);
    let ticks: u64 = times.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    // A tick is a hundredth of a second on every Linux.
    Ok(Duration::from_millis(ticks * 10))
}

fn launch(args: &[String], dir: &Path) -> Result<Process> {
    let mut command = Command::new(binary()?);
    Process::start(command.args(args).current_dir(dir), &dir.join("worker.log"))
}

fn last_lines(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .ok_or_else(|| format!("{} is not UTF-8", path.display()).into())
}

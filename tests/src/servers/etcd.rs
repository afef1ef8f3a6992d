//! etcd, one member.

use std::{
    env, fs,
    net::TcpStream,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use etcd_client::Client;
use rustix::process::Signal;

use crate::{
    Result,
    process::{self, Process},
};

/// How long etcd may take to listen.
const START_LIMIT: Duration = Duration::from_secs(30);

/// An etcd server. Dropping it kills it and removes its data, if it was started here.
#[derive(Debug)]
pub struct Etcd {
    /// `host:port` for clients.
    endpoint: String,
    ours: Option<Ours>,
}

#[derive(Debug)]
struct Ours {
    command: Vec<String>,
    dir: PathBuf,
    port: u16,
    process: Process,
}

impl Etcd {
    /// Starts an empty etcd, or takes the one that the environment names (then it may hold keys).
    ///
    /// # Errors
    /// When the program is missing or etcd does not come up; the text holds its log.
    pub fn start() -> Result<Self> {
        let given = env::var("DM_TEST_ETCD")
            .ok()
            .filter(|value| !value.is_empty());
        let program = match given {
            Some(endpoint) if !endpoint.starts_with('/') => {
                return Ok(Self {
                    endpoint,
                    ours: None,
                });
            }
            Some(program) => PathBuf::from(program),
            None => process::unpacked("etcd"),
        };
        let dir = process::scratch("etcd")?;
        let mut last = None;
        for _ in 0..5 {
            let (port, peer) = (process::free_port()?, process::free_port()?);
            let (client, peer) = (url(port), url(peer));
            let command = vec![
                program.display().to_string(),
                format!("--data-dir={}", dir.join("data").display()),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster=default={peer}"),
                // The tests are about lost time, not about lost disks.
                "--unsafe-no-fsync".to_owned(),
            ];
            match launch(&command, &dir, port) {
                Ok(process) => {
                    let endpoint = format!("127.0.0.1:{port}");
                    return Ok(Self {
                        endpoint,
                        ours: Some(Ours {
                            command,
                            dir,
                            port,
                            process,
                        }),
                    });
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| "no attempt was made".into()))
    }

    /// `host:port` for clients.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Whether it was started here, and so may be stopped.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        self.ours.is_some()
    }

    /// A client of its own.
    ///
    /// # Errors
    /// When etcd cannot be reached.
    pub async fn client(&self) -> Result<Client> {
        Ok(Client::connect([&self.endpoint], None).await?)
    }

    /// Freezes it (SIGSTOP): connections stay open and silent.
    ///
    /// # Errors
    /// When it is not ours.
    pub fn freeze(&mut self) -> Result<()> {
        self.ours_mut()?.process.signal(Signal::STOP)
    }

    /// Lets it run on (SIGCONT).
    ///
    /// # Errors
    /// When it is not ours.
    pub fn thaw(&mut self) -> Result<()> {
        self.ours_mut()?.process.signal(Signal::CONT)
    }

    /// Kills it (SIGKILL).
    ///
    /// # Errors
    /// When it is not ours.
    pub fn kill(&mut self) -> Result<()> {
        self.ours_mut()?.process.kill().map(drop)
    }

    /// Starts it again after [`kill`](Self::kill), at the same port with the same data.
    ///
    /// # Errors
    /// When it is not ours or does not come up.
    pub fn restart(&mut self) -> Result<()> {
        let ours = self.ours_mut()?;
        ours.process = launch(&ours.command, &ours.dir, ours.port)?;
        Ok(())
    }

    fn ours_mut(&mut self) -> Result<&mut Ours> {
        Ok(self.ours.as_mut().ok_or("this etcd is not ours")?)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        if let Some(ours) = &mut self.ours {
            let _ = ours.process.kill();
            let _ = fs::remove_dir_all(ours.dir.join("data"));
        }
    }
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn launch(command: &[String], dir: &std::path::Path, port: u16) -> Result<Process> {
    let (program, args) = command.split_first().ok_or("no program")?;
    let mut process = Process::start(Command::new(program).args(args), &dir.join("server.log"))?;
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if let Some(status) = process.ended()? {
            return Err(format!("{program} ended with {status}:\n{}", process.log()).into());
        }
        if start.elapsed() > START_LIMIT {
            return Err(format!("{program} does not listen:\n{}", process.log()).into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(process)
}

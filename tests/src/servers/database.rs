//! MySQL and MariaDB servers.

use std::{
    env,
    fmt::Write as _,
    fs::{self, File},
    io::Read,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use mysql_async::{Opts, OptsBuilder};
use rustix::process::Signal;

use crate::{
    Result,
    process::{self, Process},
};

/// User of the servers started here, with every privilege.
const USER: &str = "dm";
/// Its password.
const PASSWORD: &str = "dm secret";
/// How long a server may take to listen; a cold disk under load is slow.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a server may take to shut down.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Which server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brand {
    /// MySQL, 9.7 unless the environment names another.
    Mysql,
    /// MariaDB, 10.11 unless the environment names another.
    Mariadb,
}

/// What a server is for. A source keeps a binlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Is replicated from.
    Source,
    /// Is written to.
    Target,
}

/// How to start a server.
#[derive(Clone, Debug)]
pub struct Options {
    /// MySQL's `gtid_mode`; MariaDB always keeps GTIDs.
    pub gtid: bool,
    /// Whether each commit reaches the disk. Without, a killed server may lose its last second.
    pub durable: bool,
    /// More command line arguments; they win over ours.
    pub args: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            gtid: true,
            durable: false,
            args: Vec::new(),
        }
    }
}

/// Where a server listens and who may enter.
#[derive(Clone, Debug)]
pub struct Address {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User name.
    pub user: String,
    /// Its password, in plain text.
    pub password: String,
}

impl Address {
    /// The client library's form.
    #[must_use]
    pub fn opts(&self) -> Opts {
        OptsBuilder::default()
            .ip_or_hostname(self.host.clone())
            .tcp_port(self.port)
            .user(Some(self.user.clone()))
            .pass(Some(self.password.clone()))
            .prefer_socket(false)
            .into()
    }
}

/// A MySQL or MariaDB server. Dropping it kills it and removes its data, if it was started here.
#[derive(Debug)]
pub struct Database {
    brand: Brand,
    address: Address,
    ours: Option<Ours>,
}

#[derive(Debug)]
struct Ours {
    command: Vec<String>,
    dir: PathBuf,
    process: Process,
}

impl Database {
    /// Arguments of a command line tool that let it reach the server.
    #[must_use]
    pub fn login(&self) -> [String; 4] {
        let to = self.address();
        [
            format!("--host={}", to.host),
            format!("--port={}", to.port),
            format!("--user={}", to.user),
            format!("--password={}", to.password),
        ]
    }

    /// Starts a server, or takes the one that the environment names.
    ///
    /// # Errors
    /// When the programs are missing or the server does not come up; the text holds its log.
    pub fn start(brand: Brand, role: Role, options: &Options) -> Result<Self> {
        let program = match given(brand) {
            Some(given) if given.contains("://") => {
                return Ok(Self {
                    brand,
                    address: given_address(&given, role)?,
                    ours: None,
                });
            }
            Some(program) => PathBuf::from(program),
            None => process::unpacked(brand.program()),
        };
        let template = template(brand, &program)?;
        let dir = process::scratch(brand.program())?;
        let data = dir.join("data");
        process::run("cp", Command::new("cp").arg("-a").arg(&template).arg(&data))?;
        fs::create_dir_all(temporary(&data))?;

        // The port may be taken between looking and listening: try another.
        let mut last = None;
        for _ in 0..5 {
            let port = process::free_port()?;
            let command = command_line(brand, role, options, &program, &data, port)?;
            match launch(&command, &dir, port) {
                Ok(process) => {
                    let address = Address {
                        host: "127.0.0.1".to_owned(),
                        port,
                        user: USER.to_owned(),
                        password: PASSWORD.to_owned(),
                    };
                    let ours = Some(Ours {
                        command,
                        dir,
                        process,
                    });
                    return Ok(Self {
                        brand,
                        address,
                        ours,
                    });
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| "no attempt was made".into()))
    }

    /// A server that all tests of this process share; use schemas of your own in it.
    ///
    /// # Errors
    /// As [`Database::start`].
    pub fn shared(brand: Brand, role: Role) -> Result<&'static Self> {
        static SHARED: [OnceLock<Result<Database, String>>; 4] = [const { OnceLock::new() }; 4];
        let slot = usize::from(brand == Brand::Mariadb) * 2 + usize::from(role == Role::Target);
        let server = SHARED[slot].get_or_init(|| {
            Self::start(brand, role, &Options::default()).map_err(|e| e.to_string())
        });
        server.as_ref().map_err(|e| e.clone().into())
    }

    /// Which server it is.
    #[must_use]
    pub const fn brand(&self) -> Brand {
        self.brand
    }

    /// Where it listens and who may enter.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Whether it was started here, and so may be stopped and configured.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        self.ours.is_some()
    }

    /// Its data folder.
    ///
    /// # Errors
    /// When it is not ours.
    pub fn data_dir(&self) -> Result<PathBuf> {
        let ours = self.ours.as_ref().ok_or("this server is not ours")?;
        Ok(ours.dir.join("data"))
    }

    /// Its process id.
    ///
    /// # Errors
    /// When it is not ours.
    pub fn pid(&self) -> Result<u32> {
        let ours = self.ours.as_ref().ok_or("this server is not ours")?;
        Ok(ours.process.pid())
    }

    /// Freezes it (SIGSTOP).
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

    /// Kills it (SIGKILL), as a power failure of the process would.
    ///
    /// # Errors
    /// When it is not ours.
    pub fn kill(&mut self) -> Result<()> {
        self.ours_mut()?.process.kill().map(drop)
    }

    /// Shuts it down in order.
    ///
    /// # Errors
    /// When it is not ours, or had to be killed.
    pub fn stop(&mut self) -> Result<()> {
        self.ours_mut()?
            .process
            .stop(Signal::TERM, STOP_LIMIT)
            .map(drop)
    }

    /// Starts it again after [`stop`](Self::stop) or [`kill`](Self::kill), at the same port, with
    /// `args` in addition for this one time.
    ///
    /// # Errors
    /// When it is not ours or does not come up.
    pub fn restart(&mut self, args: &[&str]) -> Result<()> {
        let port = self.address.port;
        let ours = self.ours_mut()?;
        let mut command = ours.command.clone();
        command.extend(args.iter().map(|&arg| arg.to_owned()));
        ours.process = launch(&command, &ours.dir, port)?;
        Ok(())
    }

    fn ours_mut(&mut self) -> Result<&mut Ours> {
        Ok(self.ours.as_mut().ok_or("this server is not ours")?)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(ours) = &mut self.ours {
            // What cannot be done here is done by the watcher.
            let _ = ours.process.kill();
            let data = ours.dir.join("data");
            let _ = fs::remove_dir_all(temporary(&data));
            let _ = fs::remove_dir_all(data);
        }
    }
}

impl Brand {
    const fn program(self) -> &'static str {
        match self {
            Self::Mysql => "mysqld",
            Self::Mariadb => "mariadbd",
        }
    }
}

fn given(brand: Brand) -> Option<String> {
    let name = match brand {
        Brand::Mysql => "DM_TEST_MYSQL",
        Brand::Mariadb => "DM_TEST_MARIADB",
    };
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// `a` or `a,b`: source first.
fn given_address(given: &str, role: Role) -> Result<Address> {
    let mut urls = given.split(',');
    let source = urls.next().unwrap_or_default();
    let url = if role == Role::Target {
        urls.next().unwrap_or(source)
    } else {
        source
    };
    let opts = Opts::from_url(url.trim()).map_err(|e| format!("{url}: {e}"))?;
    Ok(Address {
        host: opts.ip_or_hostname().to_owned(),
        port: opts.tcp_port(),
        user: opts.user().unwrap_or("root").to_owned(),
        password: opts.pass().unwrap_or_default().to_owned(),
    })
}

/// An initialized, empty data folder, made once and copied for each server: that takes a tenth of a
/// second instead of three.
fn template(brand: Brand, program: &Path) -> Result<PathBuf> {
    let templates = process::target_dir().join("servers/data");
    fs::create_dir_all(&templates)?;
    let lock = File::create(templates.join("lock"))?;
    lock.lock()?;

    let version = process::run(program, Command::new(program).arg("--version"))
        .map_err(|e| format!("{e}\n(run scripts/servers, or `make test`, which does)"))?;
    let version = version.split("Ver ").nth(1).unwrap_or_default();
    let version = version.split_whitespace().next().unwrap_or("unknown");
    let template = templates
        .canonicalize()?
        .join(format!("{}-{version}", brand.program()));
    if template.exists() {
        return Ok(template);
    }
    let fresh = template.with_extension("new");
    let _ = fs::remove_dir_all(&fresh);
    match brand {
        Brand::Mysql => {
            let mut command = Command::new(program);
            command
                .args(no_defaults(program))
                .args(["--initialize-insecure", "--user=root"]);
            command
                .arg("--innodb-redo-log-capacity=16M")
                .arg(option("datadir", &fresh))
                .arg(option("tmpdir", &templates));
            process::run(program, &mut command)?;
            // The server's identity; each copy makes its own.
            fs::remove_file(fresh.join("auto.cnf"))?;
        }
        Brand::Mariadb => bootstrap_mariadb(program, &fresh)?,
    }
    fs::rename(&fresh, &template)?;
    Ok(template)
}

/// What `mariadb-install-db` does, without its need for an installed server.
fn bootstrap_mariadb(program: &Path, data: &Path) -> Result<()> {
    let mut help = Command::new(program);
    help.args(no_defaults(program))
        .args(["--verbose", "--help"]);
    let help = process::run(program, &mut help)?;
    let value = |name: &str| {
        let line = help
            .lines()
            .find(|line| line.split_whitespace().next() == Some(name));
        line.and_then(|line| line.split_whitespace().nth(1))
            .map(PathBuf::from)
    };
    let base = value("basedir").ok_or("no basedir in the server's help")?;
    let shares = [
        value("lc-messages-dir"),
        Some(base.join("share/mysql")),
        Some(base.join("share")),
    ];
    let share = shares
        .into_iter()
        .flatten()
        .find(|dir| dir.join(SYSTEM_TABLES[0]).exists());
    let share = share.ok_or_else(|| format!("{} not found under {base:?}", SYSTEM_TABLES[0]))?;

    fs::create_dir_all(data.join("mysql"))?;
    let script = data.with_extension("sql");
    let mut sql = "use mysql;\n".to_owned();
    for name in SYSTEM_TABLES {
        sql.push_str(&fs::read_to_string(share.join(name))?);
    }
    fs::write(&script, sql)?;
    let mut command = Command::new(program);
    command
        .args(no_defaults(program))
        .args(["--bootstrap", "--user=root"]);
    command
        .arg(option("datadir", data))
        .arg(option("tmpdir", data))
        .args(["--max-allowed-packet=8M", "--net-buffer-length=16K"]);
    process::run(program, command.stdin(File::open(&script)?))?;
    Ok(fs::remove_file(&script)?)
}

/// In the order in which they build on each other.
const SYSTEM_TABLES: [&str; 4] = [
    "mysql_system_tables.sql",
    "mysql_performance_tables.sql",
    "mysql_system_tables_data.sql",
    "maria_add_gis_sp_bootstrap.sql",
];

/// `--no-defaults` must come first and only once; our wrappers have it already.
fn no_defaults(program: &Path) -> Option<&'static str> {
    let wrapped = program.starts_with(process::target_dir().join("servers/bin"));
    (!wrapped).then_some("--no-defaults")
}

/// Where a server with this data folder keeps temporary files: a folder of its own, since MariaDB
/// removes at its start whatever another server left there, also one that is still running.
fn temporary(data: &Path) -> PathBuf {
    data.with_file_name("tmp")
}

fn option(name: &str, value: &Path) -> String {
    format!("--{name}={}", value.display())
}

fn command_line(
    brand: Brand,
    role: Role,
    options: &Options,
    program: &Path,
    data: &Path,
    port: u16,
) -> Result<Vec<String>> {
    static SERVER_ID: AtomicU32 = AtomicU32::new(1);
    let server_id = SERVER_ID.fetch_add(1, Ordering::Relaxed);
    let init = data.with_file_name("init.sql");
    let mut sql = "SET SESSION sql_log_bin = 0;\n".to_owned();
    writeln!(
        sql,
        "CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';"
    )?;
    writeln!(sql, "GRANT ALL ON *.* TO '{USER}'@'%' WITH GRANT OPTION;")?;
    fs::write(&init, sql)?;

    let mut command = vec![program.display().to_string()];
    command.extend(no_defaults(program).map(str::to_owned));
    command.extend([
        "--user=root".to_owned(),
        option("datadir", data),
        option("tmpdir", &temporary(data)),
        option("init-file", &init),
        // Relative to the data folder: a full path may be too long for a socket.
        "--socket=s".to_owned(),
        format!("--port={port}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--server-id={server_id}"),
        "--innodb-buffer-pool-size=128M".to_owned(),
        "--skip-name-resolve".to_owned(),
    ]);
    let mut flags = Vec::new();
    if !options.durable {
        flags.extend(["--innodb-flush-log-at-trx-commit=2", "--sync-binlog=0"]);
    }
    match (brand, role) {
        (Brand::Mysql, Role::Source) => flags.push("--log-bin=binlog"),
        (Brand::Mysql, Role::Target) => flags.push("--skip-log-bin"),
        (Brand::Mariadb, Role::Source) => {
            flags.extend([
                "--log-bin=binlog",
                "--binlog-format=ROW",
                "--binlog-checksum=CRC32",
            ]);
        }
        (Brand::Mariadb, Role::Target) => {}
    }
    if brand == Brand::Mysql {
        flags.push("--innodb-redo-log-capacity=256M");
        if options.gtid && role == Role::Source {
            flags.extend(["--gtid-mode=ON", "--enforce-gtid-consistency=ON"]);
        }
    }
    command.extend(flags.into_iter().map(str::to_owned));
    command.extend(options.args.iter().cloned());
    Ok(command)
}

/// Starts a server and waits until it greets.
fn launch(command: &[String], dir: &Path, port: u16) -> Result<Process> {
    let (program, args) = command.split_first().ok_or("no program")?;
    let mut process = Process::start(Command::new(program).args(args), &dir.join("server.log"))?;
    let start = Instant::now();
    loop {
        if let Some(status) = process.ended()? {
            return Err(format!("{program} ended with {status}:\n{}", process.log()).into());
        }
        if start.elapsed() > START_LIMIT {
            return Err(format!("{program} does not listen:\n{}", process.log()).into());
        }
        if greets(port) {
            return Ok(process);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// A server sends the first packet.
fn greets(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return false;
    };
    let limit = Some(Duration::from_secs(5));
    stream.set_read_timeout(limit).is_ok() && stream.read_exact(&mut [0; 5]).is_ok()
}

//! The ways to run: alone, with an etcd, and in a cluster.

use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use dm_core::{
    control::db::Security,
    error::{Error, Result, code},
    lifecycle::{Assignment, Config as Machine},
};
use jiff::Timestamp;
use rustls::{ClientConfig, ServerConfig};
use tokio::net::TcpListener;
use tracing::{info, warn};

use crate::{
    app::{self, Parts},
    config::{
        WorkerConfig,
        args::{ADDRESS_FILE, Etcd as EtcdArgs, LOCK_FILE, Standalone},
    },
    etcd::{Etcd, Settings, Tls},
    http,
    memory::Memory,
    mysql::connect::Connector,
    ports::Control,
    rpc,
    screen::Screen,
    standalone::Store,
    units::{Limits, relay::SyncGroup},
};

/// Runs alone: no etcd, no master; the [`entries`](crate::config::Files::entries) say what to do.
///
/// # Errors
/// A data directory in use, or the listener.
pub async fn standalone(
    args: &Standalone,
    entries: Vec<(Bytes, Bytes)>,
    screen: Option<Screen>,
) -> Result<()> {
    let store = Store::new(entries);
    let data = DataDir::lock(&args.data_dir)?;
    let listener = match listen(&args.worker.worker_addr).await {
        // Several workers may run alone on one machine; whoever asks finds the address in the
        // data directory.
        Err(error) if args.any_port && error.cause == ErrorKind::AddrInUse.to_string() => {
            warn!("{error}; another port is taken");
            listen("127.0.0.1:0").await?
        }
        result => result?,
    };
    data.publish(&listener)?;
    let mut machine = machine(&args.worker);
    machine.assignment = Assignment::All;
    // It is in what the entries say of each source.
    machine.relay_dir = None;
    let way = Way {
        control: store,
        alone: true,
        secret_key: None,
        screen,
    };
    run(&args.worker, machine, way, listener).await
}

/// Works for whoever administers the keys in etcd.
///
/// # Errors
/// TLS files, the listener, or an etcd that can't be reached.
pub async fn etcd(args: &EtcdArgs, screen: Option<Screen>) -> Result<()> {
    let listener = listen(&args.worker.worker_addr).await?;
    let control = open_etcd(&args.worker, args.endpoints.clone()).await?;
    let way = Way {
        control,
        alone: false,
        secret_key: None,
        screen,
    };
    run(&args.worker, machine(&args.worker), way, listener).await
}

/// Joins a DM cluster.
///
/// # Errors
/// 40077 if no master accepts the worker; otherwise as [`etcd`].
pub async fn join(worker: &WorkerConfig) -> Result<Joined<'_>> {
    let masters: Vec<String> = worker.join.split(',').map(str::to_owned).collect();
    let tls = worker
        .uses_tls()
        .then(|| client_tls(&worker.security))
        .transpose()?;
    let key = rpc::register(&masters, &worker.name, &worker.advertise_addr, tls.as_ref()).await?;
    info!(name = worker.name, "registered with the cluster");
    Ok(Joined {
        worker,
        masters,
        key: (!key.is_empty()).then(|| key.into()),
    })
}

/// A worker that a master has accepted.
pub struct Joined<'a> {
    worker: &'a WorkerConfig,
    masters: Vec<String>,
    key: Option<Arc<[u8]>>,
}

impl Joined<'_> {
    /// Works until a signal ends it.
    ///
    /// # Errors
    /// As [`etcd`].
    pub async fn run(self, screen: Option<Screen>) -> Result<()> {
        let listener = listen(&self.worker.worker_addr).await?;
        let control = open_etcd(self.worker, self.masters).await?;
        let way = Way {
            control,
            alone: false,
            secret_key: self.key,
            screen,
        };
        run(self.worker, machine(self.worker), way, listener).await
    }
}

fn machine(worker: &WorkerConfig) -> Machine {
    let mut machine = Machine::new(&worker.name, Timestamp::now().to_string(), rand::random());
    let seconds = |ttl: i64| Duration::from_secs(u64::try_from(ttl).unwrap_or(0));
    machine.ttl = seconds(worker.keepalive_ttl);
    machine.relay_ttl = seconds(worker.relay_keepalive_ttl);
    machine.relay_dir = worker.relay_dir().map(str::to_owned);
    machine
}

/// What differs between the ways to run.
struct Way<C> {
    control: C,
    alone: bool,
    secret_key: Option<Arc<[u8]>>,
    screen: Option<Screen>,
}

async fn run<C: Control>(
    worker: &WorkerConfig,
    machine: Machine,
    way: Way<C>,
    listener: TcpListener,
) -> Result<()> {
    let Way {
        control,
        alone,
        secret_key,
        screen,
    } = way;
    let positive = |number: i64| u64::try_from(number).unwrap_or(0);
    let limits = Limits {
        group: SyncGroup {
            bytes: positive(worker.relay_sync_bytes),
            time: Duration::from_millis(positive(worker.relay_sync_ms)),
        },
        memory: Memory::new(usize::try_from(worker.row_memory_bytes).unwrap_or(0)),
    };
    app::run(Parts {
        machine,
        control,
        alone,
        connect: Connector {
            worker: worker.name.as_str().into(),
            secret_key,
        },
        limits,
        config: worker.to_toml(),
        listener,
        tls: server_tls(worker)?,
        screen,
    })
    .await
}

/// TLS to others, by its settings.
pub(crate) fn client_tls(security: &Security) -> Result<Arc<ClientConfig>> {
    http::client_config(&security.ssl_ca, &security.ssl_cert, &security.ssl_key)
}

fn server_tls(worker: &WorkerConfig) -> Result<Option<Arc<ServerConfig>>> {
    let security = &worker.security;
    let allowed = security.cert_allowed_cn.as_deref().unwrap_or_default();
    worker
        .uses_tls()
        .then(|| {
            let (ca, cert, key) = (&security.ssl_ca, &security.ssl_cert, &security.ssl_key);
            http::server_config(ca, cert, key, allowed)
        })
        .transpose()
}

async fn open_etcd(worker: &WorkerConfig, endpoints: Vec<String>) -> Result<Etcd> {
    let read = |path: &str| {
        fs::read(path).map_err(|error| {
            Error::new(
                &code::WORKER_TLS_CONFIG_NOT_VALID,
                format!("cannot read {path}"),
            )
            .with_cause(error.to_string())
        })
    };
    let security = &worker.security;
    let tls = worker.uses_tls().then(|| -> Result<Tls> {
        Ok(Tls {
            ca: read(&security.ssl_ca)?,
            identity: Some((read(&security.ssl_cert)?, read(&security.ssl_key)?)),
        })
    });
    let tls = tls.transpose()?;
    Etcd::new(Settings { endpoints, tls }).await
}

/// A directory that belongs to one running worker.
struct DataDir {
    path: PathBuf,
    /// Holds the lock as long as the process lives.
    _lock: File,
}

impl DataDir {
    fn lock(path: &Path) -> Result<Self> {
        let open = || {
            fs::create_dir_all(path)?;
            File::create(path.join(LOCK_FILE))
        };
        let lock = open().map_err(|error| refused(path, "cannot be used", &error))?;
        lock.try_lock()
            .map_err(|error| refused(path, "belongs to another worker that is running", &error))?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Leaves word for `dm-worker status` where to ask.
    fn publish(&self, listener: &TcpListener) -> Result<()> {
        let publish = || {
            let address = listener.local_addr()?;
            info!(%address, "answering questions");
            fs::write(self.path.join(ADDRESS_FILE), address.to_string())
        };
        publish().map_err(|error| refused(&self.path, "cannot be written", &error))
    }
}

fn refused(path: &Path, why: &str, error: &dyn std::fmt::Display) -> Error {
    let message = format!("data directory {} {why}", path.display());
    Error::new(&code::CONFIG_INVALID_VALUE, message)
        .with_cause(error.to_string())
        .with_workaround("Choose another one with `--data-dir`.")
}

async fn listen(address: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        Error::new(
            &code::WORKER_START_SERVICE,
            format!("cannot listen on {address}"),
        )
        .with_cause(error.kind().to_string())
        .with_workaround(
            "Choose an address of this machine and a port that is free, with `-worker-addr` or \
             `worker-addr` of the settings file.",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Up to nine decimals, without zeros at the end.
    #[test]
    fn times_are_written_as_go_does() {
        for (nanos, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_795_404_291_602_278_637, "2026-11-23T03:24:51.602278637Z"),
            (1_735_689_599_120_000_000, "2024-12-31T23:59:59.12Z"),
        ] {
            assert_eq!(Timestamp::from_nanosecond(nanos).unwrap().to_string(), text);
        }
    }
}

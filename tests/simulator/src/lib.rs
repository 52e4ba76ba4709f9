//! A simulator of three task APIs: Cloud.ru Managed OpenShift tasks, Huawei Cloud EVS jobs and NetApp Astra Control tasks.
//!
//! It is written from the published documents alone (the seeds, and `upstreams.md`, whose sections the comments cite) and shares no
//! code with the operator: it is an independent check of it. See the README for the scenario format, the admin calls and the faults.
//!
//! ```text
//! server ─ mangle ─ api::{cloud_ru, huawei, astra, tokens} ─ world ─ tasks
//!    │        └ faults            └ auth ─ signing              └ records
//!    ├ keystone
//!    └ admin
//! ```

mod admin;
mod api;
mod auth;
mod clock;
mod faults;
mod filter;
mod http;
mod keystone;
mod mangle;
mod records;
mod rng;
mod scenario;
mod server;
mod signing;
mod tasks;
mod tls;
mod truth;
mod world;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::scenario::Scenario;
use crate::tls::Shown;
use crate::world::World;

/// The scenario that `--scenario demo` names.
pub const DEMO: &str = include_str!("../scenarios/demo.json");

/// Why the simulator does not start, or does not do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A scenario, or the body of an admin call, is not what it should be.
    #[error("{0}")]
    Scenario(String),
    /// It cannot listen.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// It would be open to others.
    #[error(
        "{0} is not a loopback address; add --allow-non-loopback if others may reach the simulator, which asks for no password"
    )]
    NotLoopback(SocketAddr),
    /// Certificates cannot be made.
    #[error("TLS: {0}")]
    Tls(String),
}

/// How to start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Port 0: a free one.
    pub listen: SocketAddr,
    /// Listen on others than 127.0.0.1 and `::1`.
    pub allow_non_loopback: bool,
    /// HTTPS, with a CA made at start.
    pub tls: bool,
    /// Listen here too, with HTTPS.
    pub tls_listen: Option<SocketAddr>,
    /// The file with the CA's key; it is written when it is not there.
    pub ca_key: Option<PathBuf>,
    /// Names and addresses in the certificate; none: localhost and the address listened on.
    pub tls_names: Vec<String>,
    /// A certificate that ended in 2020.
    pub tls_expired: bool,
    /// The scenario's text (JSON); none: nothing exists until an admin call makes it.
    pub scenario: Option<String>,
    /// Of everything that looks random.
    pub seed: u64,
    /// Requests that the log keeps.
    pub log_capacity: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            allow_non_loopback: false,
            tls: false,
            tls_listen: None,
            ca_key: None,
            tls_names: Vec::new(),
            tls_expired: false,
            scenario: None,
            seed: 0,
            log_capacity: 100_000,
        }
    }
}

/// A running simulator. Dropping it ends it.
#[derive(Debug)]
pub struct Simulator {
    url: String,
    tls_url: Option<String>,
    ca_pem: Option<String>,
    stop: watch::Sender<bool>,
    servers: Vec<JoinHandle<()>>,
}

impl Simulator {
    /// Starts listening; requests are answered when this returns.
    ///
    /// # Errors
    /// When the scenario is wrong, the address is not free or not allowed, or certificates cannot be made.
    pub async fn start(config: Config) -> Result<Self, Error> {
        let mut addresses = [Some(config.listen), config.tls_listen].into_iter().flatten();
        if let Some(open) = addresses.find(|a| !a.ip().is_loopback() && !config.allow_non_loopback) {
            return Err(Error::NotLoopback(open));
        }
        let scenario = config.scenario.as_deref().map(Scenario::parse).transpose()?;
        let (listener, address) = listen(config.listen).await?;
        let beside = match config.tls_listen {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let shown = if config.tls_expired { Shown::Expired } else { Shown::Right };
        let tls = (config.tls || beside.is_some())
            .then(|| tls::make(&config.tls_names, address.ip(), shown, config.ca_key.as_deref()))
            .transpose()?;
        let ca_pem = tls.as_ref().map(|tls| tls.choice.ca_pem.clone());
        let choice = tls.as_ref().map(|tls| Arc::clone(&tls.choice));
        let world = World::new(config.seed, config.log_capacity, choice);
        if let Some(scenario) = scenario {
            world.load(scenario)?;
        }
        let (stop, stopped) = watch::channel(false);
        let world = Arc::new(world);
        let tls_url = beside.as_ref().map(|(_, address)| format!("https://{address}"));
        let own = tls.as_ref().filter(|_| config.tls);
        let mut servers =
            vec![tokio::spawn(server::serve(Arc::clone(&world), listener, own.cloned(), stopped.clone()))];
        if let Some((listener, _)) = beside {
            servers.push(tokio::spawn(server::serve(world, listener, tls, stopped)));
        }
        let scheme = if config.tls { "https" } else { "http" };
        Ok(Self { url: format!("{scheme}://{address}"), tls_url, ca_pem, stop, servers })
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `https://127.0.0.1:PORT`, with `tls_listen`.
    #[must_use]
    pub fn tls_url(&self) -> Option<&str> {
        self.tls_url.as_deref()
    }

    /// The CA that clients must trust, with `tls` or `tls_listen`.
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Ends it and waits (at most 5 s) until its ports are free.
    pub async fn shutdown(self) {
        let _ = self.stop.send(true);
        for server in self.servers {
            let _ = tokio::time::timeout(Duration::from_secs(5), server).await;
        }
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let fail = |e| Error::Listen(address, e);
    let listener = TcpListener::bind(address).await.map_err(fail)?;
    let address = listener.local_addr().map_err(fail)?;
    Ok((listener, address))
}

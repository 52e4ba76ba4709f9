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
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::scenario::Scenario;
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
    ca_pem: Option<String>,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Simulator {
    /// Starts listening; requests are answered when this returns.
    ///
    /// # Errors
    /// When the scenario is wrong, the address is not free or not allowed, or certificates cannot be made.
    pub async fn start(config: Config) -> Result<Self, Error> {
        if !config.listen.ip().is_loopback() && !config.allow_non_loopback {
            return Err(Error::NotLoopback(config.listen));
        }
        let scenario = config.scenario.as_deref().map(Scenario::parse).transpose()?;
        let listener = TcpListener::bind(config.listen).await.map_err(|e| Error::Listen(config.listen, e))?;
        let address = listener.local_addr().map_err(|e| Error::Listen(config.listen, e))?;
        let tls = config.tls.then(|| tls::make(&config.tls_names, address.ip(), config.tls_expired)).transpose()?;
        let ca_pem = tls.as_ref().map(|t| t.ca_pem.clone());
        let world = World::new(config.seed, config.log_capacity, ca_pem.clone());
        if let Some(scenario) = scenario {
            world.load(scenario)?;
        }
        let (stop, stopped) = watch::channel(false);
        let server = tokio::spawn(server::serve(Arc::new(world), listener, tls.map(|t| t.config), stopped));
        let scheme = if config.tls { "https" } else { "http" };
        Ok(Self { url: format!("{scheme}://{address}"), ca_pem, stop, server })
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The CA that clients must trust, with `tls`.
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Ends it and waits (at most 5 s) until the port is free.
    pub async fn shutdown(self) {
        let _ = self.stop.send(true);
        let _ = tokio::time::timeout(Duration::from_secs(5), self.server).await;
    }
}

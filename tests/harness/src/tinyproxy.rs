//! Tinyproxy: an HTTP proxy as companies have them, made by none of us.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::{Process, Workdir, binary::build, eventually, ports::free_port};

const ATTEMPTS: usize = 5;
const READY_LIMIT: Duration = Duration::from_secs(30);
// A package of 50 kB, from a slow mirror.
const BUILD_LIMIT: Duration = Duration::from_mins(3);

/// A running Tinyproxy on 127.0.0.1, which connects to whatever it is asked for.
pub struct Tinyproxy {
    process: Process,
    address: String,
}

impl Tinyproxy {
    /// Starts one that asks for no password.
    ///
    /// # Errors
    /// When it is not installed and cannot be fetched, or does not come up; with the end of its log.
    pub async fn start() -> Result<Self> {
        Self::start_with("").await
    }

    /// Starts one that asks for this user name and password.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn with_password(user: &str, password: &str) -> Result<Self> {
        Self::start_with(&format!("BasicAuth {user} {password}\n")).await
    }

    /// Starts one that asks for this user name and password, and leaves everything to another proxy at `parent` (`host:port`), names
    /// that are to be resolved included.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn before(parent: &str, user: &str, password: &str) -> Result<Self> {
        Self::start_with(&format!("BasicAuth {user} {password}\nUpstream http {parent}\n")).await
    }

    async fn start_with(more: &str) -> Result<Self> {
        let program = build("tinyproxy", &[], BUILD_LIMIT).await?.join("tinyproxy");
        for attempt in 1.. {
            let workdir = Arc::new(Workdir::new("tinyproxy")?);
            let port = free_port()?;
            // Without a list of ports it connects to any.
            let settings = format!("Port {port}\nListen 127.0.0.1\nTimeout 600\nMaxClients 100\nLogLevel Info\n{more}");
            let settings = workdir.write("tinyproxy.conf", &settings)?;
            let mut command = Command::new(&program);
            command.arg("-d").arg("-c").arg(settings);
            let process = Process::start(&workdir, "tinyproxy", &command)?.tail_on_panic(20);
            let proxy = Self { process, address: format!("127.0.0.1:{port}") };
            match proxy.wait_ready().await {
                Ok(()) => return Ok(proxy),
                // Somebody else took the port in between.
                Err(_) if attempt < ATTEMPTS && proxy.log().contains("in use") => {}
                Err(error) => return Err(error.context(format!("its log:\n{}", proxy.log()))),
            }
        }
        bail!("no free port")
    }

    async fn wait_ready(&self) -> Result<()> {
        eventually(READY_LIMIT, "Tinyproxy listens", || async {
            if self.process.exit().is_none() {
                tokio::net::TcpStream::connect(&self.address).await?;
            }
            Ok(())
        })
        .await?;
        ensure!(self.process.exit().is_none(), "Tinyproxy ended");
        Ok(())
    }

    /// Where it listens: `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The targets that it was asked to connect to, as `host:port`, oldest first; each as often as it was asked.
    #[must_use]
    pub fn connects(&self) -> Vec<String> {
        self.asked("CONNECT")
    }

    /// What it was asked for by this method, likewise: URLs, where that is not CONNECT.
    #[must_use]
    pub fn asked(&self, method: &str) -> Vec<String> {
        let (log, method) = (self.log(), format!(": {method} "));
        let asked = log.lines().filter_map(|line| line.split_once(&method));
        asked.filter_map(|(_, rest)| rest.split_whitespace().next()).map(str::to_owned).collect()
    }

    fn log(&self) -> String {
        self.process.output() + &self.process.log()
    }
}

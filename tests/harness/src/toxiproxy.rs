//! Toxiproxy: the faults of a network between two programs, made by a program that is none of ours.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use crate::{Process, Workdir, binary::build, eventually, http, ports::free_port};

const ATTEMPTS: usize = 5;
const READY_LIMIT: Duration = Duration::from_secs(30);
// From a slow proxy of Go modules, on a busy machine.
const BUILD_LIMIT: Duration = Duration::from_mins(20);

/// A running Toxiproxy. Its proxies keep their ports for as long as it runs.
pub struct Toxiproxy {
    process: Process,
    admin: String,
}

/// Which bytes a toxic meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Those on their way to the server.
    Upstream,
    /// Those on their way to the client.
    Downstream,
}

impl Toxiproxy {
    /// Starts one; the first time on a machine it is built, which takes half a minute.
    ///
    /// # Errors
    /// When it cannot be built, or does not come up; with the end of its log.
    pub async fn start() -> Result<Self> {
        let program = built().await?.join("toxiproxy");
        for attempt in 1.. {
            let workdir = Arc::new(Workdir::new("toxiproxy")?);
            let port = free_port()?;
            let mut command = Command::new(&program);
            command.args(["-port", &port.to_string()]);
            let process = Process::start(&workdir, "toxiproxy", &command)?.tail_on_panic(20);
            let proxy = Self { process, admin: format!("http://127.0.0.1:{port}") };
            match proxy.wait_ready().await {
                Ok(()) => return Ok(proxy),
                // Somebody else took the port in between.
                Err(_) if attempt < ATTEMPTS && proxy.process.log().contains("address already in use") => {}
                Err(error) => return Err(error.context(format!("end of its log:\n{}", proxy.process.log_tail(20)))),
            }
        }
        bail!("no free port")
    }

    async fn wait_ready(&self) -> Result<()> {
        let ended = eventually(READY_LIMIT, "Toxiproxy answers", || async {
            match self.process.exit() {
                Some(exit) => Ok(Some(exit)),
                None => self.admin("GET", "/version", None).await.map(|_| None),
            }
        })
        .await?;
        match ended {
            None => Ok(()),
            Some(exit) => bail!("Toxiproxy ended ({exit:?})"),
        }
    }

    /// A proxy of this name before `upstream` (`127.0.0.1:PORT`); where it listens (`127.0.0.1:PORT`).
    ///
    /// # Errors
    /// When there is one of the name, or no port is free.
    pub async fn proxy(&self, name: &str, upstream: &str) -> Result<String> {
        for attempt in 1.. {
            let listen = format!("127.0.0.1:{}", free_port()?);
            let body = json!({"name": name, "listen": listen, "upstream": upstream, "enabled": true});
            match self.admin("POST", "/proxies", Some(&body)).await {
                Ok(_) => return Ok(listen),
                Err(error) if attempt < ATTEMPTS && format!("{error:#}").contains("already in use") => {}
                Err(error) => return Err(error),
            }
        }
        bail!("no free port")
    }

    /// Lets a proxy listen, or ends its connections and refuses new ones.
    ///
    /// # Errors
    /// When there is none of the name.
    pub async fn enable(&self, name: &str, enabled: bool) -> Result<()> {
        self.admin("POST", &format!("/proxies/{name}"), Some(&json!({"enabled": enabled}))).await.map(drop)
    }

    /// Adds a toxic to a proxy; `kind` and `attributes` are those of Toxiproxy's documentation.
    ///
    /// # Errors
    /// When it is none, or there is one of the kind in this stream already.
    pub async fn toxic(&self, name: &str, kind: &str, stream: Stream, attributes: &Value) -> Result<()> {
        let stream = match stream {
            Stream::Upstream => "upstream",
            Stream::Downstream => "downstream",
        };
        let body = json!({"type": kind, "stream": stream, "attributes": attributes});
        self.admin("POST", &format!("/proxies/{name}/toxics"), Some(&body)).await.map(drop)
    }

    /// Takes all toxics from a proxy, and lets it listen. Its connections end.
    ///
    /// # Errors
    /// When there is none of the name, or its port cannot be had again.
    pub async fn heal(&self, name: &str) -> Result<()> {
        // A toxic cannot be taken from a connection that it holds data of and that is closed (2.12.0): the call would not return.
        // The proxy is made anew instead.
        let body = self.admin("GET", &format!("/proxies/{name}"), None).await?;
        let body = json!({"name": name, "listen": body["listen"], "upstream": body["upstream"], "enabled": true});
        self.admin("DELETE", &format!("/proxies/{name}"), None).await?;
        self.admin("POST", "/proxies", Some(&body)).await.map(drop)
    }

    /// Its process: signals, log, memory.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    async fn admin(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let body = body.map(ToString::to_string);
        let (status, answer) = http::request(method, &self.admin, path, body.as_deref()).await?;
        ensure!((200..300).contains(&status), "Toxiproxy answered {status} to {method} {path}: {answer}");
        Ok(serde_json::from_str(&answer).unwrap_or_default())
    }
}

/// The directory with the program; the first call may take the time of building it.
async fn built() -> Result<PathBuf> {
    build("toxiproxy", &[], BUILD_LIMIT).await
}

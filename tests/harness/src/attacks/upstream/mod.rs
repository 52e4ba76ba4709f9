//! Upstreams that attack: raw sockets, answers made by hand. Nothing of the operator's code is used.
//!
//! Each has a runtime of its own whose threads give way to everybody else (nice 10): what an attacker's machine costs is not to be
//! taken for what the attack costs the operator.

mod frames;
mod reply;
mod request;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

pub(super) use self::frames::{Flood, JOB};
pub(super) use self::reply::{FOR_EVER, Provider, Reply, State, task};
pub(super) use self::request::{Kind, Request};
use super::now_ms;

/// What is answered to each request.
pub(super) type Script = fn(&Request) -> Reply;

/// How the upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// HTTP/1.1.
    Plain,
    /// HTTP/1.1 over TLS.
    Tls,
    /// HTTP/2 over TLS: one running task, and a flood of frames.
    Frames(Flood),
}

/// A request that came.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) at_ms: i64,
    pub(super) id: String,
}

#[derive(Default)]
struct Log {
    asked: Vec<Asked>,
    seen: HashMap<String, u64>,
    accepted: u64,
}

/// A running one.
pub(super) struct Upstream {
    address: SocketAddr,
    ca: Option<String>,
    log: Arc<Mutex<Log>>,
    runtime: Option<Runtime>,
}

impl Upstream {
    /// Listens on `address`.
    pub(super) fn start_on(address: SocketAddr, wire: Wire, script: Script) -> Result<Self> {
        let listener = std::net::TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let tls = (wire != Wire::Plain).then(|| certificate(address.ip(), wire)).transpose()?;
        let (acceptor, ca) = tls.map_or((None, None), |(acceptor, ca)| (Some(acceptor), Some(ca)));
        let log = Arc::new(Mutex::new(Log::default()));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .thread_name("attacker")
            .on_thread_start(give_way)
            .build()?;
        let server = Server { wire, script, acceptor, log: Arc::clone(&log) };
        runtime.spawn(async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            loop {
                // Out of sockets, most likely: let some end first.
                let Ok((stream, _)) = listener.accept().await else {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                };
                lock(&server.log).accepted += 1;
                let server = server.clone();
                tokio::spawn(async move {
                    let _ = stream.set_nodelay(true);
                    // How the operator ends a connection is its affair.
                    let _ = match &server.acceptor {
                        None => server.serve(stream).await,
                        Some(acceptor) => match acceptor.accept(stream).await {
                            Ok(stream) => server.serve(stream).await,
                            Err(error) => Err(error.into()),
                        },
                    };
                });
            }
        });
        Ok(Self { address, ca, log, runtime: Some(runtime) })
    }

    /// The URL of an endpoint here.
    pub(super) fn url(&self) -> String {
        format!("{}://{}", if self.ca.is_some() { "https" } else { "http" }, self.address)
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate to trust.
    pub(super) fn ca(&self) -> Option<&str> {
        self.ca.as_deref()
    }

    /// All that was asked since `from`, in milliseconds since 1970.
    pub(super) fn asked_since(&self, from: i64) -> Vec<Asked> {
        lock(&self.log).asked.iter().filter(|asked| asked.at_ms >= from).cloned().collect()
    }

    /// How many connections were accepted.
    pub(super) fn accepted(&self) -> u64 {
        lock(&self.log).accepted
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[derive(Clone)]
struct Server {
    wire: Wire,
    script: Script,
    acceptor: Option<TlsAcceptor>,
    log: Arc<Mutex<Log>>,
}

impl Server {
    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<()> {
        if let Wire::Frames(flood) = self.wire {
            return frames::serve(flood, &mut stream, || self.note(&mut Request::about("GET", "/h2"))).await;
        }
        while let Some(mut request) = Request::read(&mut stream).await? {
            self.note(&mut request);
            match (self.script)(&request) {
                Reply::Whole(bytes) => stream.write_all(&bytes).await?,
                Reply::Last(bytes) => {
                    stream.write_all(&bytes).await?;
                    return Ok(stream.shutdown().await?);
                }
                Reply::Stream { head, unit, times, pause } => {
                    stream.write_all(&head).await?;
                    for _ in 0..times {
                        if !pause.is_zero() {
                            tokio::time::sleep(pause).await;
                        }
                        stream.write_all(&unit).await?;
                    }
                    return hold(&mut stream).await;
                }
                Reply::Silence => return hold(&mut stream).await,
            }
        }
        Ok(())
    }

    fn note(&self, request: &mut Request) {
        let mut log = lock(&self.log);
        request.ordinal = log.asked.len() as u64;
        let seen = log.seen.entry(request.path.clone()).or_default();
        request.seen = *seen;
        *seen += 1;
        log.asked.push(Asked { at_ms: now_ms(), id: request.id.clone() });
    }
}

/// Waits until the other side has gone.
async fn hold(stream: &mut (impl AsyncRead + Unpin)) -> Result<()> {
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// A self-made certificate for `address`, which is its own authority.
fn certificate(address: IpAddr, wire: Wire) -> Result<(TlsAcceptor, String)> {
    // Fails when it is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ca_key = rcgen::KeyPair::generate()?;
    let mut ca = rcgen::CertificateParams::new(Vec::<String>::new())?;
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca.distinguished_name.push(rcgen::DnType::CommonName, "attacker");
    let issuer = rcgen::Issuer::new(ca.clone(), &ca_key);
    let key = rcgen::KeyPair::generate()?;
    let leaf = rcgen::CertificateParams::new(vec![address.to_string()])?.signed_by(&key, &issuer)?;
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der())
        .map_err(|error| anyhow::anyhow!("a key: {error}"))?;
    let mut config =
        rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![leaf.der().clone()], private)?;
    if matches!(wire, Wire::Frames(_)) {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    Ok((TlsAcceptor::from(Arc::new(config)), ca.self_signed(&ca_key)?.pem()))
}

/// Lowers the priority of the calling thread; that it cannot be is no reason not to go on.
pub(super) fn give_way() {
    let _ = rustix::process::setpriority_process(None, 10);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

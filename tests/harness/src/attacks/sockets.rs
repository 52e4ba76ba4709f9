//! Floods of a port, and a proxy that holds answers back.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::upstream::give_way;

const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
const METRICS: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

/// What is done with each socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habit {
    /// A request every eight seconds.
    Asking,
    /// Nothing.
    Silent,
    /// A head, a byte a second.
    Slow,
    /// A request; closed with the answer; again at once.
    Hasty,
    /// A hundred requests at a time.
    Pipelining,
    /// Requests whose answers are not read.
    Deaf,
}

/// Keeps so many sockets to a port, each opened again when it is closed, from so many addresses of the loopback network. Never ends.
pub(super) async fn hold(port: &str, count: usize, habit: Habit, peers: u8) -> Result<()> {
    let target: SocketAddr = port.parse().with_context(|| format!("no address: {port}"))?;
    // Dropped with this future, and with it every socket.
    let mut sockets = JoinSet::new();
    for n in 0..count {
        let peer = Ipv4Addr::new(127, 0, 1, u8::try_from(n % usize::from(peers))? + 1);
        sockets.spawn(async move {
            loop {
                let _ = keep(target, peer, habit).await;
                let pause = if habit == Habit::Hasty { 1 } else { 50 };
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        });
    }
    while sockets.join_next().await.is_some() {}
    Ok(())
}

async fn keep(target: SocketAddr, peer: Ipv4Addr, habit: Habit) -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((peer, 0)))?;
    let mut stream = socket.connect(target).await?;
    let mut answer = vec![0; 4096];
    match habit {
        Habit::Asking => loop {
            stream.write_all(REQUEST).await?;
            anyhow::ensure!(stream.read(&mut answer).await? > 0, "closed");
            tokio::time::sleep(Duration::from_secs(8)).await;
        },
        Habit::Silent => {
            while stream.read(&mut answer).await? > 0 {}
            Ok(())
        }
        Habit::Slow => {
            stream.write_all(b"GET /healthz HTTP/1.1\r\nX: ").await?;
            loop {
                stream.write_all(b"a").await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        Habit::Hasty => {
            stream.write_all(REQUEST).await?;
            anyhow::ensure!(stream.read(&mut answer).await? > 0, "closed");
            Ok(())
        }
        Habit::Pipelining => {
            let (mut read, mut write) = stream.split();
            let ask = async {
                loop {
                    write.write_all(&METRICS.repeat(100)).await?;
                }
                #[expect(unreachable_code, reason = "names the type of the error")]
                anyhow::Ok(())
            };
            let drain = async {
                while read.read(&mut answer).await? > 0 {}
                anyhow::Ok(())
            };
            tokio::select! {
                done = ask => done,
                done = drain => done,
            }
        }
        Habit::Deaf => loop {
            stream.write_all(METRICS).await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        },
    }
}

/// A TCP proxy that lets through only so many bytes a second of what its server answers.
pub(super) struct Gate {
    address: SocketAddr,
    valve: Arc<Valve>,
    runtime: Option<Runtime>,
}

#[derive(Default)]
struct Valve {
    /// Bytes a second, over all connections.
    rate: AtomicU64,
    /// What may pass now.
    left: AtomicU64,
    passed: AtomicU64,
}

impl Gate {
    /// In front of `url` (`https://host:port`); nothing passes at first.
    pub(super) fn start(url: &str) -> Result<Self> {
        let target = url.trim_start_matches("https://").to_owned();
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let valve = Arc::new(Valve::default());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .on_thread_start(give_way)
            .build()?;
        let tap = Arc::clone(&valve);
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                tap.left.store(tap.rate.load(Ordering::Relaxed) / 10, Ordering::Relaxed);
            }
        });
        let tap = Arc::clone(&valve);
        runtime.spawn(async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            while let Ok((client, _)) = listener.accept().await {
                let (target, tap) = (target.clone(), Arc::clone(&tap));
                tokio::spawn(async move {
                    let _ = pass(client, &target, &tap).await;
                });
            }
        });
        Ok(Self { address, valve, runtime: Some(runtime) })
    }

    pub(super) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Lets so many bytes a second through from now on.
    pub(super) fn rate(&self, bytes: u64) {
        self.valve.rate.store(bytes, Ordering::Relaxed);
    }

    /// How many bytes have passed.
    pub(super) fn passed(&self) -> u64 {
        self.valve.passed.load(Ordering::Relaxed)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn pass(client: TcpStream, target: &str, valve: &Valve) -> Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = TcpStream::connect(target).await?.into_split();
    let forth = async { Ok(tokio::io::copy(&mut from_client, &mut to_server).await.map(drop)?) };
    let back = async {
        let mut bytes = vec![0; 16 << 10];
        loop {
            let left = valve.left.load(Ordering::Relaxed);
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            if most == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
            let count = from_server.read(&mut bytes[..most]).await?;
            if count == 0 {
                return anyhow::Ok(());
            }
            // Two connections may take the same bytes: a little more passes than was meant, which does no harm.
            valve.left.store(left.saturating_sub(count as u64), Ordering::Relaxed);
            valve.passed.fetch_add(count as u64, Ordering::Relaxed);
            to_client.write_all(&bytes[..count]).await?;
        }
    };
    tokio::select! {
        done = forth => done,
        done = back => done,
    }
}

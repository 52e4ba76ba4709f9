//! The network between the operator and everything else: a fault proxy (Toxiproxy) before each connection's upstream and before the
//! API server.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{
    book::{Book, Mark},
    model::{Connection, now_ms},
    rng::Rng,
    upstream::Upstream,
};
use crate::{Stream, Toxiproxy};

/// The name of the proxy before the API server.
const API: &str = "apiserver";

/// The proxies, and where they listen.
pub(super) struct Network {
    proxy: Toxiproxy,
    /// In the order of the connections.
    ways: Vec<String>,
    api: String,
}

/// One fault of the network.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// Nobody listens, and what was open is closed.
    Refused,
    /// A toxic of Toxiproxy.
    Toxic(&'static str, Stream, Value),
    /// What a TLS handshake shows.
    Handshake(&'static str),
}

impl Trouble {
    /// Its name, for the count.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Toxic(kind, ..) => kind,
            Self::Handshake(shown) => shown,
        }
    }
}

impl Network {
    pub(super) async fn start(connections: &[Connection], upstream: &Upstream, api: &str) -> Result<Self> {
        let proxy = Toxiproxy::start().await?;
        let mut ways = Vec::new();
        for connection in connections {
            ways.push(proxy.proxy(connection.name, &upstream.address(connection.tls)).await?);
        }
        let api = api.trim_start_matches("https://");
        let api = format!("https://{}", proxy.proxy(API, api).await?);
        Ok(Self { proxy, ways, api })
    }

    /// Where a connection finds its upstream.
    pub(super) fn url(&self, index: usize, connection: &Connection) -> Result<String> {
        let scheme = if connection.tls { "https" } else { "http" };
        Ok(format!("{scheme}://{}", self.ways.get(index).context("no such connection")?))
    }

    /// Where the operator finds the API server.
    pub(super) fn api(&self) -> &str {
        &self.api
    }

    /// Lays trouble over a connection for a while.
    pub(super) async fn trouble(
        &self,
        (index, connection): (usize, &Connection),
        trouble: &Trouble,
        time: Duration,
        upstream: &Upstream,
        book: &Book,
    ) -> Result<()> {
        let from = now_ms();
        match trouble {
            Trouble::Refused => self.proxy.enable(connection.name, false).await?,
            Trouble::Toxic(kind, stream, attributes) => {
                self.proxy.toxic(connection.name, kind, *stream, attributes).await?;
            }
            Trouble::Handshake(shown) => {
                // It may be away, and then shows what is right when it comes back.
                let _ = upstream.show(shown).await;
                // Connections that are open have their handshake behind them.
                self.proxy.heal(connection.name).await?;
            }
        }
        tokio::time::sleep(time).await;
        if matches!(trouble, Trouble::Handshake(_)) {
            let _ = upstream.show("right").await;
        }
        self.proxy.heal(connection.name).await?;
        book.mark(Mark::Network(index), from, now_ms());
        Ok(())
    }

    /// Lays a toxic over the API server for a while, as the operator alone sees it.
    pub(super) async fn trouble_api(&self, trouble: &Trouble, time: Duration) -> Result<()> {
        if let Trouble::Toxic(kind, stream, attributes) = trouble {
            self.proxy.toxic(API, kind, *stream, attributes).await?;
        } else {
            self.proxy.enable(API, false).await?;
        }
        tokio::time::sleep(time).await;
        self.proxy.heal(API).await
    }
}

/// A fault of the way to an upstream. Requests are never held back to be let through later: the budget is judged by when they arrive.
pub(super) fn of_upstream(rng: &mut Rng, tls: bool) -> Trouble {
    let either = *rng.pick(&[Stream::Upstream, Stream::Downstream]);
    let down = Stream::Downstream;
    match rng.below(if tls { 15 } else { 10 }) {
        0..=1 => Trouble::Refused,
        2 => Trouble::Toxic("reset_peer", either, json!({"timeout": rng.between(0, 2000)})),
        // Half-open: what is sent is swallowed, and nothing is said.
        3..=4 => Trouble::Toxic("timeout", either, json!({"timeout": 0})),
        5 => Trouble::Toxic("latency", down, json!({"latency": rng.between(50, 6000), "jitter": rng.between(0, 2000)})),
        6 => Trouble::Toxic("slow_close", down, json!({"delay": rng.between(100, 5000)})),
        7 => Trouble::Toxic("bandwidth", down, json!({"rate": rng.between(1, 20)})),
        8 => {
            let size = rng.between(1, 64);
            Trouble::Toxic("slicer", down, json!({"average_size": size, "size_variation": size / 2, "delay": 500}))
        }
        9 => Trouble::Toxic("limit_data", either, json!({"bytes": rng.between(1, 6000)})),
        10 => Trouble::Handshake("expired"),
        11 => Trouble::Handshake("wrongName"),
        12 => Trouble::Handshake("unknownCa"),
        _ => Trouble::Handshake("garbage"),
    }
}

/// A fault of the way to the API server: writes that arrive and whose answers are late, lost or cut off, beside the plain ones.
pub(super) fn of_api(rng: &mut Rng) -> Trouble {
    let down = Stream::Downstream;
    match rng.below(9) {
        // Longer than the operator waits.
        0..=2 => Trouble::Toxic("latency", down, json!({"latency": rng.between(15_000, 20_000), "jitter": 1000})),
        3 => Trouble::Toxic("latency", down, json!({"latency": rng.between(500, 4000), "jitter": 500})),
        4..=5 => Trouble::Toxic("timeout", down, json!({"timeout": 0})),
        6 => Trouble::Toxic("reset_peer", down, json!({"timeout": rng.between(0, 1000)})),
        7 => Trouble::Toxic("limit_data", down, json!({"bytes": rng.between(2000, 50_000)})),
        _ => Trouble::Refused,
    }
}

//! A collector of traces: takes what is sent by OTLP over HTTP in JSON, and keeps it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

const LIMIT: Duration = Duration::from_secs(10);

/// A collector on 127.0.0.1, until it is dropped.
pub struct Collector {
    url: String,
    taken: Arc<Mutex<Taken>>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Taken {
    bodies: Vec<String>,
    /// What was no export of traces.
    faults: Vec<String>,
}

impl Collector {
    /// Starts one that answers with this HTTP status.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start(status: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let taken = Arc::<Mutex<Taken>>::default();
        let kept = Arc::clone(&taken);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let result = timeout(LIMIT, take(stream, status)).await.context("too slow").flatten();
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                match result {
                    Ok(body) => kept.bodies.push(body),
                    Err(error) => kept.faults.push(format!("{error:#}")),
                }
            }
        });
        Ok(Self { url, taken, server })
    }

    /// What `--otlp-endpoint` has to be.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The bodies that have come so far.
    ///
    /// # Errors
    /// Something else has come.
    pub fn bodies(&self) -> Result<Vec<String>> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(taken.faults.is_empty(), "{:?}", taken.faults);
        Ok(taken.bodies.clone())
    }

    /// The spans that have come so far.
    ///
    /// # Errors
    /// Something else has come.
    pub fn spans(&self) -> Result<Vec<Value>> {
        let mut spans = Vec::new();
        for body in self.bodies()? {
            let body: Value = serde_json::from_str(&body)?;
            for resource in body["resourceSpans"].as_array().context("no resourceSpans")? {
                for scope in resource["scopeSpans"].as_array().context("no scopeSpans")? {
                    spans.extend(scope["spans"].as_array().context("no spans")?.iter().cloned());
                }
            }
        }
        Ok(spans)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Reads an export, and answers it.
async fn take(mut stream: TcpStream, status: u16) -> Result<String> {
    let mut request = Vec::new();
    let (head, length) = loop {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await?;
        ensure!(count > 0, "the request ends early");
        request.extend_from_slice(&part[..count]);
        if let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(request.drain(..end + 4).collect())?.to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            break (head, length.context("no content-length")?);
        }
    };
    ensure!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
    ensure!(head.contains("\r\ncontent-type: application/json\r\n"), "{head}");
    let so_far = request.len();
    request.resize(length, 0);
    stream.read_exact(&mut request[so_far..]).await?;
    let answer = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
    );
    stream.write_all(answer.as_bytes()).await?;
    Ok(String::from_utf8(request)?)
}

//! Sends spans to a collector, many at a time: by OTLP over HTTP, in JSON.

use std::{fmt, io, str::FromStr, sync::Arc, time::Duration};

use http::{
    Uri,
    uri::{Authority, Scheme},
};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::TlsConnector;

use super::wire::{self, Span};
use crate::ops::metrics::{Metrics, SpanResult};

/// Most spans of a request.
const BATCH: usize = 512;
/// How long spans wait for others.
const GATHER: Duration = Duration::from_secs(2);
/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What is read of an answer.
const MAX_ANSWER: u64 = 64 << 10;
/// That nothing can be sent is logged this often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Where a collector takes spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Uri);

impl FromStr for Endpoint {
    type Err = String;

    /// `http://HOST[:PORT][/PATH]` or https; as OpenTelemetry has it, `/v1/traces` follows.
    fn from_str(text: &str) -> Result<Self, String> {
        const HINT: &str = "give the base URL of a collector, as http://HOST:4318";
        let whole = format!("{}/v1/traces", text.trim_end_matches('/'));
        let url: Uri = whole.parse().map_err(|_| HINT.to_owned())?;
        let is_http = url.scheme().is_some_and(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
        let is_plain = url.authority().is_some_and(|host| !host.as_str().contains('@')) && !text.contains(['?', '#']);
        if is_http && is_plain { Ok(Self(url)) } else { Err(HINT.to_owned()) }
    }
}

impl Endpoint {
    fn is_https(&self) -> bool {
        self.0.scheme() == Some(&Scheme::HTTPS)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What waits for the exporter.
#[derive(Debug)]
pub(super) enum Message {
    Span(Box<Span>),
    /// What waits is to be sent, and then nothing.
    End(oneshot::Sender<()>),
}

pub(super) struct Exporter {
    endpoint: Endpoint,
    /// For https.
    tls: Option<Result<TlsConnector, String>>,
    metrics: Metrics,
    instance: Option<String>,
    complained: Option<Instant>,
}

impl Exporter {
    pub(super) fn new(endpoint: Endpoint, metrics: Metrics) -> Self {
        let tls = endpoint.is_https().then(connector);
        let instance = std::env::var("POD_NAME").ok().filter(|name| !name.is_empty());
        Self { endpoint, tls, metrics, instance, complained: None }
    }

    /// Until the end is asked for, or there is nobody left who could send spans.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Message>) {
        loop {
            let mut batch = Vec::new();
            let gathered = gather(&mut queue, &mut batch).await;
            if !batch.is_empty() {
                self.export(&batch).await;
            }
            if let Gathered::All(done) = gathered {
                // Who has given up waiting does not want to know any more.
                let _ = done.map(|done| done.send(()));
                return;
            }
        }
    }

    /// What cannot be sent is lost: a poll does not wait for those who look on.
    async fn export(&mut self, batch: &[Span]) {
        let body = wire::body(batch, self.instance.as_deref());
        let sent = timeout(TIMEOUT, self.send(&body)).await;
        let sent = sent.map_err(|_| "there was no answer in time".to_owned()).flatten();
        let result = if sent.is_ok() { SpanResult::Sent } else { SpanResult::Failed };
        self.metrics.trace_spans(result, u64::try_from(batch.len()).unwrap_or(u64::MAX));
        if let Err(error) = sent
            && self.complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY)
        {
            self.complained = Some(Instant::now());
            tracing::warn!(endpoint = %self.endpoint, "traces cannot be sent, and are lost: {error}");
        }
    }

    async fn send(&self, body: &[u8]) -> Result<(), String> {
        let url = &self.endpoint.0;
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = url.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        let stream = TcpStream::connect((host, port)).await.map_err(|error| error.to_string())?;
        if let Some(tls) = &self.tls {
            let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
            let stream =
                tls.as_ref().map_err(Clone::clone)?.connect(name, stream).await.map_err(|error| error.to_string())?;
            exchange(Box::new(stream), url, body).await
        } else {
            exchange(Box::new(stream), url, body).await
        }
    }
}

/// What trusts the public authorities.
fn connector() -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    Ok(TlsConnector::from(Arc::new(builder.with_root_certificates(roots).with_no_client_auth())))
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// One request on a connection of its own, written by hand: hyper's client once more would add ten times as much to the program.
async fn exchange(mut stream: Box<dyn Stream>, url: &Uri, body: &[u8]) -> Result<(), String> {
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: {}\r\nuser-agent: taskwatch/{}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        url.path(),
        url.authority().map_or("", Authority::as_str),
        env!("CARGO_PKG_VERSION"),
        body.len()
    );
    let broken = |error: io::Error| error.to_string();
    stream.write_all(&[head.as_bytes(), body].concat()).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut answer = Vec::new();
    // What else it says is not looked at, but read: who goes away sooner looks like one that has failed.
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await.map_err(broken)?;
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Response::new(&mut fields);
    let _ = parsed.parse(&answer);
    match parsed.code {
        Some(200..=299) => Ok(()),
        Some(status) => Err(format!("the collector answered {status}")),
        None => Err("the answer is not HTTP".to_owned()),
    }
}

/// What has been gathered.
enum Gathered {
    /// Enough for now.
    Batch,
    /// All that there will be; and who wants to know when it is sent.
    All(Option<oneshot::Sender<()>>),
}

/// Takes out what waits, and waits a moment for more.
async fn gather(queue: &mut mpsc::Receiver<Message>, batch: &mut Vec<Span>) -> Gathered {
    let mut deadline = None;
    while batch.len() < BATCH {
        let next = match deadline {
            None => queue.recv().await,
            Some(at) => match timeout_at(at, queue.recv()).await {
                Ok(next) => next,
                Err(_) => return Gathered::Batch,
            },
        };
        match next {
            Some(Message::Span(span)) => {
                batch.push(*span);
                deadline.get_or_insert_with(|| Instant::now() + GATHER);
            }
            Some(Message::End(done)) => return Gathered::All(Some(done)),
            None => return Gathered::All(None),
        }
    }
    Gathered::Batch
}

//! The HTTP client of a channel: hyper's, bounded. It follows no redirects, keeps no cookies, knows no proxy of its own, and sends
//! nothing twice but what a kept connection that had just closed never took.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Response, Uri,
    header::{
        ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, HOST, PROXY_AUTHORIZATION, TRANSFER_ENCODING,
        USER_AGENT as USER_AGENT_FIELD,
    },
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{client::legacy, rt::TokioTimer};
use url::Position;

use super::{
    Outgoing,
    connect::{Connector, Destination, KEEPALIVE},
    explain::{Network, explain_request},
    flood::{Flood, Informational},
};
use crate::tenancy::cpu::Meter;

/// How long an idle connection is kept. Polls are seconds to minutes apart; most load balancers end idle connections after a minute.
const IDLE_TIMEOUT: Duration = Duration::from_secs(55);
/// Most idle connections of a channel: as many as may be in flight (`maxInFlight` of the API). With fewer, those beyond would be
/// closed after each answer and opened anew for the next request.
const MAX_IDLE: usize = 256;
/// Longest head of an answer, in bytes.
pub(super) const MAX_HEAD: usize = 64 << 10;
/// What an HTTP/2 server may send of one answer before it is read, in bytes: the protocol's default.
const STREAM_WINDOW: u32 = 64 << 10;
/// The same of all answers of a connection: it is what the connection may cost in memory.
const CONNECTION_WINDOW: u32 = 256 << 10;
pub(super) const USER_AGENT: &str = concat!("taskwatch/", env!("CARGO_PKG_VERSION"));

pub(super) type Client = legacy::Client<Connector, Full<Bytes>>;
pub(super) type Request = http::Request<Full<Bytes>>;

/// A client that leads to one destination; what its connections cost in processing time is measured by `meter`.
pub(super) fn new(destination: Destination, meter: Meter) -> Client {
    let mut builder = legacy::Client::builder(Executor(meter));
    builder
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(MAX_IDLE)
        .http1_max_buf_size(MAX_HEAD)
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(KEEPALIVE)
        .http2_keep_alive_timeout(KEEPALIVE)
        .http2_max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX));
    builder.build(Connector(Arc::new(destination)))
}

/// Runs the connections, on their tenant's account.
#[derive(Clone)]
struct Executor(Meter);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Executor {
    fn execute(&self, connection: F) {
        tokio::spawn(self.0.wrap(connection));
    }
}

/// The request for `target`, with the header fields that every request has, and what `proxy` has to be shown.
///
/// # Errors
/// The URL has characters that no request can have.
pub(super) fn request(
    outgoing: Outgoing,
    https: bool,
    target: &Authority,
    proxy: Option<&HeaderValue>,
) -> Result<Request, http::Error> {
    let Outgoing { method, url, mut headers, body, .. } = outgoing;
    let scheme = if https { Scheme::HTTPS } else { Scheme::HTTP };
    // Without user, password and fragment.
    let path = PathAndQuery::try_from(&url[Position::BeforePath..Position::AfterQuery])?;
    let uri = Uri::builder().scheme(scheme).authority(target.clone()).path_and_query(path).build()?;
    for name in [HOST, CONTENT_LENGTH, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    headers.insert(USER_AGENT_FIELD, HeaderValue::from_static(USER_AGENT));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    headers.remove(PROXY_AUTHORIZATION);
    if let Some(value) = proxy {
        headers.insert(PROXY_AUTHORIZATION, value.clone());
    }
    headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    let mut request = http::Request::builder().method(method).uri(uri).body(Full::new(body))?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// The head of the answer, and its body as it comes.
pub(super) async fn send(client: &Client, mut request: Request) -> Result<Response<Incoming>, Network> {
    let informational = Informational::count(&mut request);
    let mut answer = pin!(client.request(request));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(answer) = Pin::new(&mut answer).poll(cx) {
            return Poll::Ready(answer.map_err(|error| explain_request(&error)));
        }
        informational.poll_over(cx).map(|()| Err(Network::Flooded(Flood::Informational)))
    })
    .await
}

//! Sends requests to upstreams: guarded, bounded, and without a will of its own (no redirects, no retries, no proxy).

mod explain;
mod tls;

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header::HOST};
use reqwest::{
    dns::{Addrs, Name, Resolve, Resolving},
    redirect, retry,
};
use tokio::time::{Instant, timeout_at};
use url::{Host, Url};

use super::egress::{Denied, EgressPolicy};
use crate::{
    domain::failure::{Failure, FailureClass},
    providers::Answer,
};
use explain::{Network, explain};
use tls::Tls;
pub use tls::TlsSettings;

/// How long the resolver may take for a name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may take to be ready, the name's resolution and the TLS handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an idle connection is kept. Polls are seconds to minutes apart; most load balancers end idle connections after a minute.
const IDLE_TIMEOUT: Duration = Duration::from_secs(55);
/// Most idle connections of a channel: as many as may be in flight (`maxInFlight` of the API). With fewer, those beyond would be
/// closed after each answer and opened anew for the next request.
const MAX_IDLE: usize = 256;
/// How often a connection is probed. Without it, one that died silently would let each request on it run into its time-out.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Longest list of header fields of an answer, in bytes (HTTP/2; hyper bounds HTTP/1 by itself).
const MAX_HEADERS: u32 = 64 << 10;
const USER_AGENT: &str = concat!("taskwatch/", env!("CARGO_PKG_VERSION"));

/// Makes channels to upstreams. Clones share their channels and so their connections.
#[derive(Clone)]
pub struct Transport(Arc<Shared>);

struct Shared {
    policy: Arc<EgressPolicy>,
    tls: Tls,
    // Weak: a channel, and its connections, end with the last one who uses it.
    channels: Mutex<HashMap<Key, Weak<Inner>>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    https: bool,
    host: Host,
    port: u16,
    tls: TlsSettings,
}

/// The way to one endpoint: a pool of connections that all who use the same endpoint and TLS settings share. Cheap to clone.
#[derive(Clone)]
pub struct Channel(Arc<Inner>);

struct Inner {
    client: reqwest::Client,
    policy: Arc<EgressPolicy>,
    key: Key,
    // `host:port`, for messages.
    authority: String,
}

/// What a connection says of its endpoint cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The endpoint is not a URL that can be asked.
    #[error(
        "the endpoint must be an http:// or https:// URL with a host and without user, password, query or fragment"
    )]
    Endpoint,
    /// The CA bundle holds no usable certificates.
    #[error("spec.tls.caBundle cannot be used: {0}")]
    CaBundle(String),
    /// The server name is none.
    #[error("spec.tls.serverName must be a DNS name, such as api.example.com")]
    ServerName,
    /// The HTTP client cannot be made.
    #[error("cannot set up the HTTP client: {0}")]
    Client(String),
}

/// A request, ready to be sent.
#[derive(Clone)]
pub struct Outgoing {
    /// The method.
    pub method: Method,
    /// With the scheme, host and port of the channel's endpoint.
    pub url: Url,
    /// All but `Host`, `User-Agent`, `Accept-Encoding` and `Content-Length`, which are set by the channel.
    pub headers: HeaderMap,
    /// Empty for GET.
    pub body: Bytes,
    /// Largest body of the answer that is read, after decompression, in bytes.
    pub body_limit: usize,
    /// How long it all may take, from the resolution of the name to the last byte.
    pub timeout: Duration,
}

/// The scheme, host and port of a URL: the endpoint of the channel that leads there.
#[must_use]
pub fn root(url: &Url) -> Url {
    let mut root = url.clone();
    root.set_path("/");
    root.set_query(None);
    root.set_fragment(None);
    root
}

impl Transport {
    /// A transport that leads only where `policy` lets it.
    ///
    /// # Errors
    /// The TLS implementation cannot be set up.
    pub fn new(policy: EgressPolicy) -> Result<Self, SettingsError> {
        Ok(Self(Arc::new(Shared { policy: Arc::new(policy), tls: Tls::new()?, channels: Mutex::default() })))
    }

    /// The channel to `endpoint`: the one that exists for the same scheme, host, port and TLS settings, or a new one. Nothing is
    /// contacted.
    ///
    /// # Errors
    /// What in the settings cannot be used.
    pub fn channel(&self, endpoint: &Url, tls: &TlsSettings) -> Result<Channel, SettingsError> {
        let https = match endpoint.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(SettingsError::Endpoint),
        };
        let bare = endpoint.username().is_empty() && endpoint.password().is_none();
        if !bare || endpoint.query().is_some() || endpoint.fragment().is_some() {
            return Err(SettingsError::Endpoint);
        }
        let (Some(host), Some(port)) = (endpoint.host(), endpoint.port_or_known_default()) else {
            return Err(SettingsError::Endpoint);
        };
        let tls = if https { tls.clone() } else { TlsSettings::default() };
        let key = Key { https, host: host.to_owned(), port, tls };
        // Held over the making, so that a hundred connections that start together make one.
        let mut channels = self.0.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inner) = channels.get(&key).and_then(Weak::upgrade) {
            return Ok(Channel(inner));
        }
        channels.retain(|_, channel| channel.strong_count() > 0);
        let inner = Arc::new(self.connect_by(key.clone())?);
        channels.insert(key, Arc::downgrade(&inner));
        Ok(Channel(inner))
    }

    fn connect_by(&self, key: Key) -> Result<Inner, SettingsError> {
        let resolver = GuardedResolver {
            asked: key.tls.server_name.clone().unwrap_or_else(|| key.host.to_string()),
            host: key.host.clone(),
            port: key.port,
            policy: Arc::clone(&self.0.policy),
        };
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(self.0.tls.config(&key.tls)?)
            .dns_resolver(Arc::new(resolver))
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .referer(false)
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE)
            .tcp_keepalive(KEEPALIVE)
            .tcp_keepalive_interval(KEEPALIVE)
            .http2_keep_alive_interval(KEEPALIVE)
            .http2_keep_alive_timeout(KEEPALIVE)
            .http2_max_header_list_size(MAX_HEADERS)
            .build()
            .map_err(|error| SettingsError::Client(explain::innermost(&error)))?;
        let authority = format!("{}:{}", key.host, key.port);
        Ok(Inner { client, policy: Arc::clone(&self.0.policy), key, authority })
    }
}

impl Channel {
    /// Sends a request and reads the whole answer, whatever its status; a redirect is an answer like others.
    ///
    /// An answer other than 2xx whose body is larger than the limit is cut there: its status and header fields are what matters.
    ///
    /// # Errors
    /// There was no answer, or none that may be read. [`Failure::code`] then is one of `EgressDenied`, `DNSFailure`, `Timeout`,
    /// `ConnectionRefused`, `ConnectionReset`, `ConnectionFailed`, `TLSFailure`, `TooLarge`, `NotHTTP`, `BadEncoding`, `OtherHost`.
    pub async fn send(&self, request: Outgoing) -> Result<Answer, Failure> {
        let (mut answer, mut body) = self.open(request).await?;
        let mut text = BytesMut::with_capacity(body.told());
        while let Some(part) = body.next().await? {
            text.extend_from_slice(&part);
        }
        answer.body = text.freeze();
        Ok(answer)
    }

    /// Sends a request and reads the head of the answer; the body is to be read from what comes with it.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn open(&self, request: Outgoing) -> Result<(Answer, Body), Failure> {
        let this = &*self.0;
        // A literal address is dialled without the resolver, and so without its check.
        if let Some(ip) = this.key.ip() {
            this.policy.check(ip, this.key.port).map_err(|denied| self.fail(&Network::Denied(denied), None))?;
        }
        let (limit, timeout) = (request.body_limit, request.timeout);
        let deadline = Instant::now() + timeout;
        let request = self.prepare(request)?;
        let sent = timeout_at(deadline, this.client.execute(request)).await;
        let sent = sent.map_err(|_| self.fail(&Network::Timeout(timeout), None))?;
        let mut response = sent.map_err(|error| self.fail(&explain(&error), None))?;
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let body = Body { channel: self.clone(), response, status, limit, left: limit, timeout, deadline };
        Ok((Answer { status, headers, body: Bytes::new(), fault: None }, body))
    }

    fn prepare(&self, request: Outgoing) -> Result<reqwest::Request, Failure> {
        let key = &self.0.key;
        let mut url = request.url;
        let same = url.scheme() == if key.https { "https" } else { "http" }
            && url.host() == Some(key.host_ref())
            && url.port_or_known_default() == Some(key.port);
        if !same {
            return Err(self.fail(&Network::OtherHost, None));
        }
        // These are no part of what was asked for; reqwest would send the user and password.
        url.set_fragment(None);
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        let mut headers = request.headers;
        headers.remove(HOST);
        if let Some(name) = &key.tls.server_name {
            // TLS takes the name from the URL, which the resolver maps back to the endpoint; `Host` stays the endpoint's.
            let host = match url.port() {
                Some(port) => format!("{}:{port}", key.host),
                None => key.host.to_string(),
            };
            headers.insert(HOST, HeaderValue::try_from(host).map_err(|_| self.fail(&Network::OtherHost, None))?);
            url.set_host(Some(name)).map_err(|_| self.fail(&Network::OtherHost, None))?;
        }
        let mut prepared = reqwest::Request::new(request.method, url);
        *prepared.headers_mut() = headers;
        if !request.body.is_empty() {
            *prepared.body_mut() = Some(request.body.into());
        }
        Ok(prepared)
    }

    fn fail(&self, what: &Network, status: Option<StatusCode>) -> Failure {
        let private_ca = self.0.key.tls.ca_bundle.is_some();
        let (class, code, message) = what.describe(&self.0.authority, private_ca);
        let mut failure = Failure::new(class, message);
        code.clone_into(&mut failure.code);
        failure.http_status = status.map(|status| status.as_u16());
        failure
    }
}

/// The body of an answer, decompressed; it must come within the time and the limit of its request.
pub struct Body {
    channel: Channel,
    response: reqwest::Response,
    status: StatusCode,
    limit: usize,
    left: usize,
    timeout: Duration,
    deadline: Instant,
}

impl Body {
    /// The next part; none at the end.
    ///
    /// # Errors
    /// As [`Channel::send`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let fail = |what: &Network| self.channel.fail(what, Some(self.status));
        if self.left == 0 && !self.status.is_success() {
            // What an error says beyond the limit is not waited for.
            return Ok(None);
        }
        let part = timeout_at(self.deadline, self.response.chunk()).await;
        let part = part.map_err(|_| fail(&Network::Timeout(self.timeout)))?.map_err(|error| fail(&explain(&error)))?;
        let Some(mut part) = part else { return Ok(None) };
        if part.len() > self.left {
            if self.status.is_success() {
                return Err(fail(&Network::TooLarge(self.limit)));
            }
            part.truncate(self.left);
        }
        self.left -= part.len();
        Ok(Some(part))
    }

    /// How large the answer says it is, within the limit; 0 where it does not say.
    fn told(&self) -> usize {
        let told = self.response.content_length().and_then(|length| usize::try_from(length).ok());
        told.unwrap_or(0).min(self.limit)
    }
}

impl Key {
    fn ip(&self) -> Option<IpAddr> {
        match self.host {
            Host::Ipv4(ip) => Some(ip.into()),
            Host::Ipv6(ip) => Some(ip.into()),
            Host::Domain(_) => None,
        }
    }

    fn host_ref(&self) -> Host<&str> {
        match &self.host {
            Host::Ipv4(ip) => Host::Ipv4(*ip),
            Host::Ipv6(ip) => Host::Ipv6(*ip),
            Host::Domain(name) => Host::Domain(name),
        }
    }
}

/// Resolves the one name of a channel, to addresses that the policy has let pass; these are the ones that are dialled.
struct GuardedResolver {
    // What reqwest asks for: the server name where there is one.
    asked: String,
    // What is resolved instead.
    host: Host,
    port: u16,
    policy: Arc<EgressPolicy>,
}

/// Why a name leads nowhere.
#[derive(Debug, thiserror::Error)]
enum ResolveError {
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("{0}")]
    Lookup(#[from] io::Error),
    #[error("no answer of the resolver within {} s", RESOLVE_TIMEOUT.as_secs())]
    Timeout,
    #[error("the name has no addresses")]
    Nothing,
    #[error("another name than the endpoint's")]
    OtherHost,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let expected = name.as_str() == self.asked;
        let (host, port, policy) = (self.host.clone(), self.port, Arc::clone(&self.policy));
        Box::pin(async move {
            if !expected {
                return Err(ResolveError::OtherHost.into());
            }
            let addresses = addresses(&host, port).await?;
            for address in &addresses {
                policy.check(address.ip(), port).map_err(ResolveError::Denied)?;
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

async fn addresses(host: &Host, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
    let name = match host {
        Host::Ipv4(ip) => return Ok(vec![SocketAddr::new((*ip).into(), port)]),
        Host::Ipv6(ip) => return Ok(vec![SocketAddr::new((*ip).into(), port)]),
        Host::Domain(name) => name.as_str(),
    };
    let found = tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((name, port)));
    let addresses: Vec<_> = found.await.map_err(|_| ResolveError::Timeout)??.collect();
    if addresses.is_empty() { Err(ResolveError::Nothing) } else { Ok(addresses) }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Channel").field(&self.0.authority).finish()
    }
}

// Header fields and bodies hold credentials.
impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("method", &self.method).field("path", &self.url.path()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

//! Sends requests to upstreams: guarded, bounded, and without a will of its own (no redirects, no retries, no proxy but the administrator's).

mod body;
mod client;
mod coding;
mod connect;
mod explain;
mod flood;
mod frames;
mod names;
mod stream;
mod tls;
mod tunnel;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode, uri::Authority};
use tokio::time::{Instant, timeout_at};
use tracing::warn;
use url::{Host, Url};

use super::egress::{Denied, EgressPolicy};
use crate::{
    domain::failure::Failure,
    ops::upstream_proxy::UpstreamProxy,
    providers::Answer,
    sync::lock,
    tenancy::{Tenant, pool::Lease, shares::Shares},
};
pub use body::Body;
use body::{Bounds, READ_AHEAD};
use client::Client;
use connect::Destination;
use explain::Network;
use flood::Traffic;
use names::Names;
pub use tls::TlsSettings;
use tls::{Fingerprint, Tls};

/// Makes channels to upstreams. Clones share their channels and so their connections.
#[derive(Clone)]
pub struct Transport(Arc<Shared>);

struct Shared {
    policy: EgressPolicy,
    proxy: Option<Arc<UpstreamProxy>>,
    shares: Shares,
    names: Names,
    tls: Tls,
    // Weak: a channel, and its connections, end with the last one who uses it.
    channels: Mutex<HashMap<Key, Weak<Inner>>>,
}

/// What channels are told apart by: those of two tenants are never the same.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    tenant: Tenant,
    https: bool,
    host: Host,
    port: u16,
    ca_bundle: Option<Fingerprint>,
    server_name: Option<String>,
}

/// The way to one endpoint: a pool of connections that all of a tenant's who use the same endpoint and TLS settings share. Cheap to
/// clone.
#[derive(Clone)]
pub struct Channel(Arc<Inner>);

struct Inner {
    client: Client,
    /// The endpoint's host, and its port where that is not the scheme's.
    target: Authority,
    /// What is shown to a proxy that forwards the requests.
    forwarded: Option<HeaderValue>,
    shares: Shares,
    /// What was last logged of the egress policy.
    refused: Mutex<Option<Denied>>,
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
    /// The tenant's share of what all connections may take up is spent.
    #[error(
        "the credentials and certificates of all connections of this namespace take up its share of the memory that this operator has \
         for them. Delete connections or shorten their CA bundles, name one ConfigMap for several of them, or ask the administrator to \
         raise the operator's memory limit"
    )]
    NoRoom,
    /// The HTTP client cannot be made.
    #[error("cannot set up the HTTP client: {0}")]
    Client(String),
}

/// A request, ready to be sent.
#[derive(Clone)]
pub struct Outgoing {
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
    /// A transport that leads only where `policy` lets it, through `proxy` as far as that serves, and works on the accounts of
    /// `shares`.
    ///
    /// # Errors
    /// The TLS implementation cannot be set up.
    pub fn new(policy: EgressPolicy, proxy: Option<UpstreamProxy>, shares: Shares) -> Result<Self, SettingsError> {
        let (proxy, names, tls) = (proxy.map(Arc::new), Names::of_system(), Tls::new(shares.settings.clone())?);
        Ok(Self(Arc::new(Shared { policy, proxy, shares, names, tls, channels: Mutex::default() })))
    }

    /// The channel of `tenant` to `endpoint`: the one that exists for the same scheme, host, port and TLS settings, or a new one.
    /// Nothing is contacted.
    ///
    /// # Errors
    /// What in the settings cannot be used.
    pub fn channel(&self, tenant: &Tenant, endpoint: &Url, tls: &TlsSettings) -> Result<Channel, SettingsError> {
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
        let key = Key {
            tenant: tenant.clone(),
            https,
            host: host.to_owned(),
            port,
            ca_bundle: tls.ca_bundle.as_deref().filter(|_| https).map(tls::fingerprint),
            server_name: tls.server_name.clone().filter(|_| https),
        };
        // Held over the making, so that a hundred connections that start together make one.
        let mut channels = lock(&self.0.channels);
        if let Some(inner) = channels.get(&key).and_then(Weak::upgrade) {
            return Ok(Channel(inner));
        }
        channels.retain(|_, channel| channel.strong_count() > 0);
        let inner = Arc::new(self.connect_by(key.clone(), tls)?);
        channels.insert(key, Arc::downgrade(&inner));
        Ok(Channel(inner))
    }

    fn connect_by(&self, key: Key, tls: &TlsSettings) -> Result<Inner, SettingsError> {
        let tls = if key.https { Some(self.0.tls.connector(&key.tenant, tls, &key.host)?) } else { None };
        let authority = format!("{}:{}", key.host, key.port);
        let Shared { policy, proxy, shares, names, .. } = &*self.0;
        let proxy = proxy.clone().filter(|proxy| proxy.serves(&key.host, key.port));
        let destination = Destination {
            host: key.host.clone(),
            port: key.port,
            tenant: key.tenant.clone(),
            names: names.clone(),
            policy: policy.clone(),
            tls,
            proxy: proxy.clone(),
        };
        let meter = shares.cpu.meter(&key.tenant, &shares.usage.of(&key.tenant));
        // As in URLs, where the port of the scheme is not written.
        let known = if key.https { 443 } else { 80 };
        let host = if key.port == known { key.host.to_string() } else { authority.clone() };
        let target = Authority::try_from(host).map_err(|_| SettingsError::Endpoint)?;
        let forwarded = if key.https { None } else { proxy.and_then(|proxy| proxy.authorization().cloned()) };
        let client = client::new(destination, meter);
        Ok(Inner { client, target, forwarded, shares: shares.clone(), refused: Mutex::default(), key, authority })
    }
}

impl Channel {
    /// Sends a request and reads the whole answer, whatever its status; a redirect is an answer like others. The lease is to be kept
    /// until the answer is decoded.
    ///
    /// Of an answer other than 2xx, status and header fields are what matters: a body that is larger than the limit is cut there, and
    /// one that cannot be read makes it no failure ([`Answer::fault`]).
    ///
    /// # Errors
    /// There was no answer, or none that may be read. [`Failure::code`] then is one of `EgressDenied`,
    /// `InsecureEndpoint`, `DNSFailure`, `ProxyFailure`, `Throttled`, `Timeout`,
    /// `ConnectionRefused`, `ConnectionReset`, `ConnectionFailed`, `TLSFailure`, `TooLarge`, `HeaderTooLarge`, `TooSlow`,
    /// `TooManyInformational`, `Flooded`, `NotHTTP`, `BadEncoding`, `OtherHost`.
    pub async fn send(&self, request: Outgoing) -> Result<(Answer, Lease), Failure> {
        let (mut answer, mut body) = self.open(request).await?;
        body.expect_whole().await?;
        let mut text = BytesMut::with_capacity(body.room());
        while let Some(part) = body.next().await? {
            text.extend_from_slice(&part);
        }
        answer.body = text.freeze();
        answer.fault = body.take_fault();
        Ok((answer, body.into_lease()))
    }

    /// Sends a request and reads the head of the answer; the body is to be read from what comes with it.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn open(&self, request: Outgoing) -> Result<(Answer, Body), Failure> {
        let (limit, timeout) = (request.body_limit, request.timeout);
        let deadline = Instant::now() + timeout;
        let request = self.prepare(request)?;
        let mut lease = self.0.shares.bodies.lease(&self.0.key.tenant);
        let granted = timeout_at(deadline, lease.grow(READ_AHEAD)).await;
        granted.map_err(|_| self.fail(&Network::NoShare(timeout), None))?;
        let sent = timeout_at(deadline, client::send(&self.0.client, request)).await;
        let sent = sent.map_err(|_| self.fail(&Network::Timeout(timeout), None))?;
        let response = sent.map_err(|network| self.refuse(&network))?;
        let (head, incoming) = response.into_parts();
        let traffic = head.extensions.get::<Arc<Traffic>>().cloned();
        if let Some(traffic) = &traffic {
            traffic.answered();
        }
        let (status, headers) = (head.status, head.headers);
        let bounds = Bounds { limit, timeout, deadline, lease };
        let body = Body::new(self.clone(), incoming, traffic, (status, &headers), bounds)?;
        Ok((Answer { status, headers, body: Bytes::new(), fault: None }, body))
    }

    fn prepare(&self, request: Outgoing) -> Result<client::Request, Failure> {
        let key = &self.0.key;
        let url = &request.url;
        let same = url.scheme() == if key.https { "https" } else { "http" }
            && url.host() == Some(key.host_ref())
            && url.port_or_known_default() == Some(key.port);
        if !same {
            return Err(self.fail(&Network::OtherHost, None));
        }
        client::request(request, key.https, &self.0.target, self.0.forwarded.as_ref())
            .map_err(|error| self.fail(&Network::Other(error.to_string()), None))
    }

    /// Whether what is sent to this endpoint, credentials included, can be read on the way: `http` to another machine.
    #[must_use]
    pub fn is_insecure(&self) -> bool {
        let local = match &self.0.key.host {
            Host::Ipv4(ip) => ip.is_loopback(),
            Host::Ipv6(ip) => ip.is_loopback(),
            Host::Domain(name) => name.trim_end_matches('.') == "localhost",
        };
        !self.0.key.https && !local
    }

    /// A failure before there is an answer. The administrator is told why the policy is against it, once for each reason.
    fn refuse(&self, what: &Network) -> Failure {
        if let Network::Denied(denied) = what {
            let mut refused = lock(&self.0.refused);
            if refused.as_ref() != Some(denied) {
                warn!(tenant = %self.0.key.tenant, endpoint = self.0.authority, "connections are not allowed: {denied}");
                *refused = Some(denied.clone());
            }
        }
        self.fail(what, None)
    }

    fn fail(&self, what: &Network, status: Option<StatusCode>) -> Failure {
        let private_ca = self.0.key.ca_bundle.is_some();
        let (class, code, message) = what.describe(&self.0.authority, private_ca);
        let mut failure = Failure::new(class, message);
        code.clone_into(&mut failure.code);
        failure.http_status = status.map(|status| status.as_u16());
        failure
    }
}

impl Key {
    fn host_ref(&self) -> Host<&str> {
        match &self.host {
            Host::Ipv4(ip) => Host::Ipv4(*ip),
            Host::Ipv6(ip) => Host::Ipv6(*ip),
            Host::Domain(name) => Host::Domain(name),
        }
    }
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

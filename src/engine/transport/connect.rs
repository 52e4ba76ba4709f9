//! Makes the connections of a channel: the name is resolved, every address is checked, and exactly one of those is dialled. Where the
//! administrator has set a proxy, that is what is dialled, and the proxy resolves the name.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;
use tower::Service;
use url::Host;

use super::{
    names::{NameError, Names},
    stream::{Paced, Stream},
    tunnel::{self, TunnelError},
};
use crate::{
    engine::egress::{Denied, EgressPolicy, Target},
    ops::upstream_proxy::UpstreamProxy,
    tenancy::Tenant,
};

/// How long a connection may take to be ready, the name's resolution and the TLS handshake included.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a connection is probed. Without it, one that died silently would let each request on it run into its time-out.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(15);
/// After so long without a connection the next address is tried as well (RFC 8305 §5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("no connection within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// Of the dial to the proxy.
    #[error("the proxy cannot be reached: {0}")]
    Proxy(#[source] io::Error),
    /// Of the dial, or of the TLS handshake.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Where a channel leads, and how.
pub(super) struct Destination {
    pub(super) host: Host,
    pub(super) port: u16,
    pub(super) tenant: Tenant,
    pub(super) names: Names,
    pub(super) policy: EgressPolicy,
    /// None for `http`.
    pub(super) tls: Option<(TlsConnector, ServerName<'static>)>,
    /// Through which it is reached; none for directly.
    pub(super) proxy: Option<Arc<UpstreamProxy>>,
}

/// Makes connections to one destination, whatever it is asked for: hyper's client asks for the URL of a request, and a channel has
/// seen to it that this is the destination's.
#[derive(Clone)]
pub(super) struct Connector(pub(super) Arc<Destination>);

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let destination = Arc::clone(&self.0);
        Box::pin(async move {
            let connected = timeout(CONNECT_TIMEOUT, destination.connect()).await;
            connected.map_err(|_| ConnectError::Timeout)?.map(TokioIo::new)
        })
    }
}

impl Destination {
    async fn connect(&self) -> Result<Stream, ConnectError> {
        let mut tcp = match &self.proxy {
            None => {
                let addresses = self.addresses(&self.host).await?;
                self.check(&addresses)?;
                dial(&addresses, self.port).await?
            }
            Some(proxy) => {
                self.check_unresolved()?;
                // The administrator's own: the policy is for what tenants name.
                dial(&self.addresses(proxy.host()).await?, proxy.port()).await.map_err(ConnectError::Proxy)?
            }
        };
        match (&self.tls, &self.proxy) {
            (None, proxy) => Ok(Stream::plain(Paced::new(tcp), proxy.is_some())),
            (Some((tls, name)), proxy) => {
                if let Some(proxy) = proxy {
                    tunnel::open(&mut tcp, &self.host, self.port, proxy.authorization()).await?;
                }
                Ok(Stream::tls(tls.connect(name.clone(), Paced::new(tcp)).await?))
            }
        }
    }

    fn check(&self, addresses: &[IpAddr]) -> Result<(), Denied> {
        let (port, https, tenant) = (self.port, self.tls.is_some(), &self.tenant);
        addresses.iter().try_for_each(|ip| self.policy.check(Target { ip: *ip, port, https, tenant }))
    }

    /// What can be checked of a host that the proxy is to resolve.
    fn check_unresolved(&self) -> Result<(), Denied> {
        match &self.host {
            Host::Ipv4(ip) => self.check(&[(*ip).into()]),
            Host::Ipv6(ip) => self.check(&[(*ip).into()]),
            Host::Domain(name) => self.policy.check_name(name, self.tls.is_some()),
        }
    }

    async fn addresses(&self, host: &Host) -> Result<Arc<[IpAddr]>, NameError> {
        match host {
            Host::Ipv4(ip) => Ok(Arc::new([(*ip).into()])),
            Host::Ipv6(ip) => Ok(Arc::new([(*ip).into()])),
            Host::Domain(name) => self.names.resolve(name, &self.tenant).await,
        }
    }
}

/// The first connection that one of the addresses takes, else why the last of them did not. They are tried in turn, a new one each
/// [`NEXT_ADDRESS`], the families by turns (RFC 8305).
async fn dial(addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let mut waiting = by_turns(addresses).into_iter();
    let mut dialled = FuturesUnordered::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        if let Some(ip) = waiting.next() {
            dialled.push(TcpStream::connect(SocketAddr::new(ip, port)));
        }
        tokio::select! {
            Some(dialled) = dialled.next() => match dialled {
                Ok(tcp) => {
                    prepare(&tcp)?;
                    return Ok(tcp);
                }
                Err(error) => last = error,
            },
            () = sleep(NEXT_ADDRESS), if waiting.len() > 0 => {}
        }
        if dialled.is_empty() && waiting.len() == 0 {
            return Err(last);
        }
    }
}

/// The addresses, the families by turns, beginning with the first one's.
fn by_turns(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let first_is_v4 = addresses.first().is_some_and(IpAddr::is_ipv4);
    let (first, second): (Vec<_>, Vec<_>) = addresses.iter().partition(|ip| ip.is_ipv4() == first_is_v4);
    let mut second = second.into_iter();
    let mut turns = Vec::with_capacity(addresses.len());
    for ip in first {
        turns.push(ip);
        turns.extend(second.next());
    }
    turns.extend(second);
    turns
}

fn prepare(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    SockRef::from(tcp).set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn families_take_turns() {
        let ips = |list: &[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
        let sorted = by_turns(&ips(&["::1", "::2", "::3", "10.0.0.1"]));
        assert_eq!(sorted, ips(&["::1", "10.0.0.1", "::2", "::3"]));
        assert_eq!(by_turns(&ips(&["10.0.0.1", "10.0.0.2"])), ips(&["10.0.0.1", "10.0.0.2"]));
        assert_eq!(by_turns(&[]), ips(&[]));
    }

    #[tokio::test]
    async fn an_address_that_refuses_is_followed_by_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let ips = |list: &[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
        let stream = dial(&ips(&["127.0.0.2", "::1", "127.0.0.1"]), port).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
        assert!(stream.nodelay().unwrap());
        let error = dial(&ips(&["127.0.0.2", "::1"]), port).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}

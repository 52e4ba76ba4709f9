//! Where connections may lead (design §4). Pure: an address goes in, a verdict comes out.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, PoisonError, RwLock},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{ops::allowance::Allowance, tenancy::Tenant};

/// Which addresses upstreams may have: public ones, and those that the operator's administrator allows. Clones are the same policy.
#[derive(Clone, Debug, Default)]
pub struct EgressPolicy(Arc<Rules>);

#[derive(Debug, Default)]
struct Rules {
    allowed: Vec<Allowance>,
    denied: Vec<IpNet>,
    allow_http: bool,
    /// Those that the operator itself speaks to.
    api_server: Vec<SocketAddr>,
    /// Those that are known to be behind them.
    endpoints: RwLock<Vec<SocketAddr>>,
}

/// Where a connection is about to lead, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The address that is dialled.
    pub ip: IpAddr,
    pub port: u16,
    /// Whether it is protected by TLS.
    pub https: bool,
    /// On whose account.
    pub tenant: &'a Tenant,
}

/// An address that no connection may lead to. The text says what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It is the Kubernetes API server.
    #[error("{address} is the address of the Kubernetes API server, which cannot be an upstream")]
    ApiServer {
        /// The address and port.
        address: SocketAddr,
    },
    /// It is where a cloud gives its machines their credentials.
    #[error(
        "{ip} is a metadata service, which gives credentials away; the operator connects to it only when its --allow-egress names \
         exactly {}",
        IpNet::from(*ip)
    )]
    Metadata {
        /// The address.
        ip: IpAddr,
    },
    /// It is of a kind that must be allowed.
    #[error(
        "{ip} is {kind}, which the operator does not connect to at port {port} for this namespace; if it is the right one, add {} or \
         its network to the operator's --allow-egress",
        IpNet::from(*ip)
    )]
    NotAllowed {
        /// The address.
        ip: IpAddr,
        port: u16,
        /// What it is, as "a private address".
        kind: &'static str,
    },
    /// The administrator has ruled it out.
    #[error("{ip} is ruled out by the operator's --deny-egress")]
    Listed {
        /// The address.
        ip: IpAddr,
    },
    /// It is public, and the connection is not protected.
    #[error("http:// to a public address needs the operator's --allow-http")]
    Insecure,
    /// It is a name of the cluster or the machine, which a proxy must not resolve.
    #[error(
        "it is a name of the cluster's or the machine's own, which is not asked of a proxy; --upstream-no-proxy reaches it directly"
    )]
    LocalName,
    /// Nobody can be there.
    #[error("{ip} is {kind}, which cannot be an upstream")]
    Never {
        /// The address.
        ip: IpAddr,
        /// What it is, as "a multicast address".
        kind: &'static str,
    },
}

impl EgressPolicy {
    /// Allows public addresses by `https` and those in `allowed`, but at no time those of `api_server`.
    #[must_use]
    pub fn new(allowed: Vec<Allowance>, api_server: Vec<SocketAddr>) -> Self {
        let api_server = api_server.into_iter().map(canonical).collect();
        Self(Arc::new(Rules { allowed, api_server, ..Rules::default() }))
    }

    /// The same, without the addresses in `denied`, and with `http` to public addresses where `allow_http`.
    #[must_use]
    pub fn with(self, denied: Vec<IpNet>, allow_http: bool) -> Self {
        let Rules { allowed, api_server, .. } = &*self.0;
        let (allowed, api_server) = (allowed.clone(), api_server.clone());
        Self(Arc::new(Rules { allowed, denied, allow_http, api_server, endpoints: RwLock::default() }))
    }

    /// Replaces the addresses behind that of the API server.
    pub fn set_api_server_endpoints(&self, endpoints: Vec<SocketAddr>) {
        let endpoints = endpoints.into_iter().map(canonical).collect();
        *self.0.endpoints.write().unwrap_or_else(PoisonError::into_inner) = endpoints;
    }

    /// Whether a connection may be made. An IPv6 address that stands for an IPv4 one is judged as that one.
    ///
    /// # Errors
    /// Why it may not.
    pub fn check(&self, target: Target<'_>) -> Result<(), Denied> {
        let Target { port, https, tenant, .. } = target;
        let (ip, rules) = (effective(target.ip), &*self.0);
        if let Some(kind) = never(ip) {
            return Err(Denied::Never { ip, kind });
        }
        if self.is_api_server(ip, port) {
            return Err(Denied::ApiServer { address: SocketAddr::new(ip, port) });
        }
        if rules.denied.iter().any(|net| net.contains(&ip)) {
            return Err(Denied::Listed { ip });
        }
        if METADATA.contains(&ip) {
            let exact = rules.allowed.iter().any(|allowance| allowance.names(ip, port, tenant));
            return if exact { Ok(()) } else { Err(Denied::Metadata { ip }) };
        }
        match special(ip) {
            Some(kind) if !rules.allowed.iter().any(|allowance| allowance.covers(ip, port, tenant)) => {
                Err(Denied::NotAllowed { ip, port, kind })
            }
            None if !https && !rules.allow_http => Err(Denied::Insecure),
            _ => Ok(()),
        }
    }

    /// Whether a connection may be made to a host that somebody else is to resolve: this cluster's own names are ruled out, and names
    /// count as public.
    ///
    /// # Errors
    /// Why it may not.
    pub fn check_name(&self, name: &str, https: bool) -> Result<(), Denied> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let within = |zone: &str| name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        // As `api`, `api.team-b.svc` or `api.team-b.svc.cluster.local`.
        if !name.contains('.') || ["localhost", "svc", "cluster.local", "internal"].into_iter().any(within) {
            return Err(Denied::LocalName);
        }
        if https || self.0.allow_http { Ok(()) } else { Err(Denied::Insecure) }
    }

    fn is_api_server(&self, ip: IpAddr, port: u16) -> bool {
        // All loopback addresses lead to the same machine, whichever the API server is known by.
        let same =
            |at: &SocketAddr| at.port() == port && (at.ip() == ip || (at.ip().is_loopback() && ip.is_loopback()));
        let endpoints = self.0.endpoints.read().unwrap_or_else(PoisonError::into_inner);
        self.0.api_server.iter().chain(&*endpoints).any(same)
    }
}

fn canonical(at: SocketAddr) -> SocketAddr {
    SocketAddr::new(effective(at.ip()), at.port())
}

/// Services that give credentials or start-up data to whoever asks from the machine.
const METADATA: [IpAddr; 10] = [
    // Nearly every cloud, Huawei Cloud and Cloud.ru among them; its link-local twin on OpenStack; AWS, Google by IPv6.
    v4(169, 254, 169, 254),
    v6(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
    v6(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    v6(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    // AWS: credentials of ECS tasks and of EKS pods.
    v4(169, 254, 170, 2),
    v4(169, 254, 170, 23),
    v6(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    // Azure WireServer (a public address), Alibaba Cloud, Oracle Cloud.
    v4(168, 63, 129, 16),
    v4(100, 100, 100, 200),
    v4(192, 0, 0, 192),
];

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

#[allow(clippy::many_single_char_names, clippy::too_many_arguments)]
const fn v6(a: u16, b: u16, c: u16, d: u16, e: u16, f: u16, g: u16, h: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h))
}

const fn net4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

const fn net6(a: u16, b: u16, c: u16, bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), bits)
}

const PRIVATE: &str = "a private address";
const LOOPBACK: &str = "a loopback address";
const LINK_LOCAL: &str = "a link-local address";
const RESERVED: &str = "a reserved address";
const DOCUMENTATION: &str = "an address for documentation";

/// IANA's special-purpose registry for IPv4, as far as it is not globally reachable.
const SPECIAL_4: [(Ipv4Net, &str); 13] = [
    (net4(10, 0, 0, 0, 8), PRIVATE),
    (net4(172, 16, 0, 0, 12), PRIVATE),
    (net4(192, 168, 0, 0, 16), PRIVATE),
    (net4(100, 64, 0, 0, 10), "an address of the shared range 100.64.0.0/10"),
    (net4(127, 0, 0, 0, 8), LOOPBACK),
    (net4(169, 254, 0, 0, 16), LINK_LOCAL),
    (net4(192, 0, 0, 0, 24), RESERVED),
    (net4(192, 0, 2, 0, 24), DOCUMENTATION),
    (net4(198, 51, 100, 0, 24), DOCUMENTATION),
    (net4(203, 0, 113, 0, 24), DOCUMENTATION),
    (net4(192, 88, 99, 0, 24), RESERVED),
    (net4(198, 18, 0, 0, 15), "an address for benchmarks"),
    (net4(240, 0, 0, 0, 4), RESERVED),
];

/// The same for IPv6. What lies outside [`GLOBAL_6`] is reserved without being named here.
const SPECIAL_6: [(Ipv6Net, &str); 7] = [
    (net6(0xfc00, 0, 0, 7), PRIVATE),
    (net6(0xfe80, 0, 0, 10), LINK_LOCAL),
    (net6(0xfec0, 0, 0, 10), PRIVATE),
    (net6(0x2001, 0xdb8, 0, 32), DOCUMENTATION),
    (net6(0x3fff, 0, 0, 20), DOCUMENTATION),
    (net6(0x2001, 0, 0, 23), RESERVED),
    (net6(0x64, 0xff9b, 1, 48), "an address of a local NAT64"),
];

/// All that has been given out as global unicast.
const GLOBAL_6: Ipv6Net = net6(0x2000, 0, 0, 3);

/// Where a packet to `ip` ends up: the IPv4 address within a mapped, compatible, NAT64, 6to4 or Teredo address, else `ip` itself.
fn effective(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    let embedded = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match v6.segments() {
        // `::` and `::1` are what they look like.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => ip,
        // Compatible or mapped, NAT64, 6to4.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            embedded(high, low)
        }
        // Teredo has the client's address inverted.
        [0x2001, 0, _, _, _, _, high, low] => embedded(!high, !low),
        _ => ip,
    }
}

fn never(ip: IpAddr) -> Option<&'static str> {
    let this_network = matches!(ip, IpAddr::V4(v4) if v4.octets()[0] == 0);
    // Linux takes these for the loopback address.
    if ip.is_unspecified() || this_network {
        Some("an unspecified address")
    } else if ip.is_multicast() {
        Some("a multicast address")
    } else if ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        Some("the broadcast address")
    } else {
        None
    }
}

fn special(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(v4) => SPECIAL_4.iter().find(|(net, _)| net.contains(&v4)).map(|(_, kind)| *kind),
        IpAddr::V6(Ipv6Addr::LOCALHOST) => Some(LOOPBACK),
        IpAddr::V6(v6) => {
            let named = SPECIAL_6.iter().find(|(net, _)| net.contains(&v6)).map(|(_, kind)| *kind);
            named.or_else(|| (!GLOBAL_6.contains(&v6)).then_some(RESERVED))
        }
    }
}

#[cfg(test)]
mod tests;

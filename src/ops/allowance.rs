//! What the administrator lets connections reach: `CIDR[:PORTS][@NAMESPACES]`. Pure.

use std::{fmt, net::IpAddr, ops::RangeInclusive, str::FromStr};

use ipnet::IpNet;

use crate::tenancy::Tenant;

/// Ports of the kubelet and of etcd, which hand out what a cluster has: open only where a flag names them.
const GUARDED_PORTS: [u16; 4] = [2379, 2380, 10_250, 10_255];

/// One value of `--allow-egress`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    net: IpNet,
    /// None for all but [`GUARDED_PORTS`].
    ports: Vec<RangeInclusive<u16>>,
    /// None for everybody.
    tenants: Vec<String>,
}

impl Allowance {
    /// Whether it lets `tenant` reach this port of this address.
    #[must_use]
    pub fn covers(&self, ip: IpAddr, port: u16, tenant: &Tenant) -> bool {
        self.net.contains(&ip) && self.has_port(port) && self.is_for(tenant)
    }

    /// The same, where it names exactly this address and no other.
    #[must_use]
    pub fn names(&self, ip: IpAddr, port: u16, tenant: &Tenant) -> bool {
        self.net == IpNet::from(ip) && self.has_port(port) && self.is_for(tenant)
    }

    fn has_port(&self, port: u16) -> bool {
        if self.ports.is_empty() {
            return !GUARDED_PORTS.contains(&port);
        }
        self.ports.iter().any(|ports| ports.contains(&port))
    }

    fn is_for(&self, tenant: &Tenant) -> bool {
        self.tenants.is_empty() || self.tenants.iter().any(|pattern| matches(pattern, tenant.as_str()))
    }
}

/// Whether a name matches a pattern in which `*` stands for any characters but a slash.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(name) = name.strip_prefix(head) else { return false };
    let reach = name.find('/').unwrap_or(name.len());
    (0..=reach).any(|skip| name.get(skip..).is_some_and(|name| matches(rest, name)))
}

/// Why a value cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidAllowance(String);

impl fmt::Display for InvalidAllowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidAllowance {}

impl FromStr for Allowance {
    type Err = InvalidAllowance;

    fn from_str(text: &str) -> Result<Self, InvalidAllowance> {
        let (target, tenants) = match text.split_once('@') {
            Some((target, tenants)) => (target, patterns(tenants)?),
            None => (text, Vec::new()),
        };
        // An IPv6 range with ports stands in brackets.
        let (net, ports) = match target.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((net, "")) => (net, None),
            Some((net, ports)) => (net, Some(ports.strip_prefix(':').ok_or_else(malformed)?)),
            None if target.matches(':').count() == 1 => {
                target.split_once(':').map_or((target, None), |(net, ports)| (net, Some(ports)))
            }
            None => (target, None),
        };
        let ports = ports.map(self::ports).transpose()?.unwrap_or_default();
        Ok(Self { net: cidr(net).map_err(InvalidAllowance)?, ports, tenants })
    }
}

fn malformed() -> InvalidAllowance {
    InvalidAllowance("give it as CIDR[:PORTS][@NAMESPACES], such as 10.1.0.0/16:443+8443@team-a+infra-*".to_owned())
}

/// A range, or a single address.
///
/// # Errors
/// What to give.
pub fn cidr(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map(|net| net.trunc())
        .map_err(|_| "give an address range such as 10.1.0.0/16, or one address".to_owned())
}

fn ports(text: &str) -> Result<Vec<RangeInclusive<u16>>, InvalidAllowance> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let range = |text: &str| {
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        let (low, high) = (port(low)?, port(high)?);
        (low <= high).then_some(low..=high)
    };
    let wrong = || InvalidAllowance(format!("{text} are no ports: give numbers and ranges, such as 443+8000-8443"));
    text.split('+').map(range).collect::<Option<_>>().ok_or_else(wrong)
}

fn patterns(text: &str) -> Result<Vec<String>, InvalidAllowance> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.*/".contains(c);
    let good = |pattern: &str| !pattern.is_empty() && pattern.len() <= 320 && pattern.chars().all(allowed);
    if !text.split('+').all(good) || text.matches('*').count() > 16 {
        let wrong = format!("{text} are no namespaces: give names, or patterns with *, such as team-a+infra-*");
        return Err(InvalidAllowance(wrong));
    }
    Ok(text.split('+').map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn covers(allowance: &str, ip: &str, port: u16, namespace: &str) -> bool {
        let tenant = Tenant::namespace(&Arc::from(namespace));
        allowance.parse::<Allowance>().unwrap().covers(ip.parse().unwrap(), port, &tenant)
    }

    #[test]
    fn a_range_alone_is_for_everybody_and_all_ports_but_those_of_the_cluster() {
        for allowance in ["10.1.0.0/16", "10.1.2.3/16", "::ffff:0:0/96", "fd00::/8", "[fd00::/8]", "10.1.2.3"] {
            allowance.parse::<Allowance>().unwrap();
        }
        assert!(covers("10.1.0.0/16", "10.1.2.3", 8443, "a"));
        assert!(!covers("10.1.0.0/16", "10.2.0.1", 8443, "a"));
        for port in GUARDED_PORTS {
            assert!(!covers("10.1.0.0/16", "10.1.2.3", port, "a"), "{port}");
            assert!(covers(&format!("10.1.0.0/16:{port}"), "10.1.2.3", port, "a"), "{port}");
        }
    }

    #[test]
    fn ports_and_namespaces_narrow_it() {
        let allowance = "10.0.0.0/8:443+8000-8443@team-a+infra-*";
        for (port, namespace, expected) in [
            (443, "team-a", true),
            (8000, "infra-", true),
            (8443, "infra-x-y", true),
            (8444, "team-a", false),
            (443, "team-b", false),
            (443, "team-a2", false),
            (443, "my-infra-x", false),
        ] {
            assert_eq!(covers(allowance, "10.0.0.1", port, namespace), expected, "{port} {namespace}");
        }
        assert!(covers("[fd00::/8]:443", "fd00::1", 443, "a") && !covers("[fd00::/8]:443", "fd00::1", 80, "a"));
    }

    #[test]
    fn shared_connections_are_named_as_such() {
        let cluster = Tenant::cluster_connection("prod");
        for (allowance, expected) in [
            ("10.0.0.0/8", true),
            ("10.0.0.0/8@*", false),
            ("10.0.0.0/8@prod", false),
            ("10.0.0.0/8@clustertaskconnection/*", true),
            ("10.0.0.0/8@clustertaskconnection/prod", true),
            ("10.0.0.0/8@clustertaskconnection/dev", false),
        ] {
            let found = allowance.parse::<Allowance>().unwrap().covers([10, 0, 0, 1].into(), 443, &cluster);
            assert_eq!(found, expected, "{allowance}");
        }
        assert!(covers("10.0.0.0/8@*", "10.0.0.1", 443, "any"));
    }

    #[test]
    fn what_cannot_be_used_says_what_to_give() {
        for (text, hint) in [
            ("ten", "10.1.0.0/16"),
            ("", "10.1.0.0/16"),
            ("10.0.0.0/33", "10.1.0.0/16"),
            ("10.0.0.0/8:", "443+8000-8443"),
            ("10.0.0.0/8:0", "443+8000-8443"),
            ("10.0.0.0/8:9-8", "443+8000-8443"),
            ("10.0.0.0/8:65536", "443+8000-8443"),
            ("10.0.0.0/8@", "team-a+infra-*"),
            ("10.0.0.0/8@Team", "team-a+infra-*"),
            ("10.0.0.0/8@a+", "team-a+infra-*"),
            ("[fd00::/8]443", "CIDR[:PORTS][@NAMESPACES]"),
        ] {
            let error = text.parse::<Allowance>().unwrap_err().to_string();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }
}

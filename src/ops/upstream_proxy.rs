//! The proxy that upstreams are reached through, and what is reached without it. Pure.

use std::{fmt, net::IpAddr, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::HeaderValue;
use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

/// An HTTP proxy: `http://[USER:PASSWORD@]HOST[:PORT]`.
#[derive(Clone, PartialEq, Eq)]
pub struct UpstreamProxy {
    host: Host,
    port: u16,
    authorization: Option<HeaderValue>,
    direct: Vec<Direct>,
}

impl UpstreamProxy {
    /// The same, but for these hosts.
    #[must_use]
    pub fn except(mut self, direct: Vec<Direct>) -> Self {
        self.direct = direct;
        self
    }

    /// Its host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it is to be shown in `Proxy-Authorization`.
    #[must_use]
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// Whether this host is reached through it. This machine is not, as with other programs.
    #[must_use]
    pub fn serves(&self, host: &Host, port: u16) -> bool {
        !is_local(host) && !self.direct.iter().any(|direct| direct.covers(host, port))
    }
}

/// Whether a host is this machine by its name or address.
fn is_local(host: &Host) -> bool {
    match host {
        Host::Domain(name) => name.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
    }
}

impl FromStr for UpstreamProxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "give the proxy as http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT".to_owned();
        let url = Url::parse(text).map_err(|_| wrong())?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let (Some(host), "http", true) = (url.host(), url.scheme(), bare) else { return Err(wrong()) };
        let port = url.port_or_known_default().filter(|port| *port > 0).ok_or_else(wrong)?;
        let decoded = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
        let authorization = if url.username().is_empty() {
            None
        } else {
            let pair = [decoded(url.username()), decoded(url.password().unwrap_or_default())].join(&b':');
            let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair))).map_err(|_| wrong())?;
            value.set_sensitive(true);
            Some(value)
        };
        Ok(Self { host: host.to_owned(), port, authorization, direct: Vec::new() })
    }
}

// Its URL may have a password.
impl fmt::Debug for UpstreamProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamProxy").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

/// One exception, by the rules that Go's programs have for `NO_PROXY`: `*`; an address or range; `example.com` with all below it;
/// `.example.com` or `*.example.com` for all below it alone; each but a range with `:PORT`, if only that is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Direct {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    All,
    Net(IpNet),
    Below(String),
    AtOrBelow(String),
}

impl Direct {
    fn covers(&self, host: &Host, port: u16) -> bool {
        if self.port.is_some_and(|only| only != port) {
            return false;
        }
        let (name, ip) = match host {
            Host::Domain(name) => (name.trim_end_matches('.').to_ascii_lowercase(), None),
            Host::Ipv4(ip) => (String::new(), Some(IpAddr::V4(*ip))),
            Host::Ipv6(ip) => (String::new(), Some(IpAddr::V6(*ip).to_canonical())),
        };
        let below = |suffix: &str| name.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1);
        match &self.hosts {
            Hosts::All => true,
            Hosts::Net(net) => ip.is_some_and(|ip| net.contains(&ip)),
            Hosts::Below(suffix) => below(suffix),
            Hosts::AtOrBelow(suffix) => name == *suffix || below(suffix),
        }
    }
}

impl FromStr for Direct {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim().to_ascii_lowercase();
        if text == "*" {
            return Ok(Self { hosts: Hosts::All, port: None });
        }
        let net = |text: &str| text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok();
        if let Some(net) = net(text.trim_start_matches('[').trim_end_matches(']')) {
            return Ok(Self { hosts: Hosts::Net(net), port: None });
        }
        let wrong = || "give hosts and ranges, such as .example.com, 10.0.0.0/8, [fd00::1]:8443".to_owned();
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().map_err(|_| wrong())?)),
            None => (text.as_str(), None),
        };
        if let Some(net) = net(host.trim_start_matches('[').trim_end_matches(']')) {
            return Ok(Self { hosts: Hosts::Net(net), port });
        }
        let name = host.trim_end_matches('.');
        let (below, name) = match name.strip_prefix("*.").or_else(|| name.strip_prefix('.')) {
            Some(name) => (true, name),
            None => (false, name),
        };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)) {
            return Err(wrong());
        }
        let name = name.to_owned();
        Ok(Self { hosts: if below { Hosts::Below(name) } else { Hosts::AtOrBelow(name) }, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serves(direct: &[&str], host: &str, port: u16) -> bool {
        let proxy: UpstreamProxy = "http://proxy:3128".parse().unwrap();
        let direct = direct.iter().map(|text| text.parse().unwrap()).collect();
        proxy.except(direct).serves(&Host::parse(host).unwrap(), port)
    }

    #[test]
    fn exceptions_are_those_of_no_proxy() {
        for (direct, host, port, expected) in [
            (&[][..], "example.com", 443, true),
            (&[], "localhost", 443, false),
            (&[], "127.0.0.2", 443, false),
            (&[], "[::1]", 443, false),
            (&["*"], "example.com", 443, false),
            (&["example.com"], "example.com", 443, false),
            (&["Example.COM."], "API.example.com.", 443, false),
            (&["example.com"], "badexample.com", 443, true),
            (&[".example.com"], "example.com", 443, true),
            (&["*.example.com"], "a.b.example.com", 443, false),
            (&["example.com:8443"], "example.com", 443, true),
            (&["example.com:8443"], "example.com", 8443, false),
            (&["10.0.0.0/8"], "10.1.2.3", 443, false),
            (&["10.0.0.0/8"], "11.1.2.3", 443, true),
            (&["10.0.0.0/8"], "[::ffff:10.1.2.3]", 443, false),
            (&["10.1.2.3:8443"], "10.1.2.3", 443, true),
            (&["fd00::1"], "[fd00::1]", 443, false),
            (&["[fd00::1]:8443"], "[fd00::1]", 8443, false),
            (&["[fd00::1]:8443"], "[fd00::1]", 443, true),
            (&["a.test", "b.test"], "b.test", 443, false),
        ] {
            assert_eq!(serves(direct, host, port), expected, "{direct:?} {host}:{port}");
        }
    }

    #[test]
    fn a_proxy_is_an_http_url_and_shows_no_password() {
        let proxy: UpstreamProxy = "http://us%40er:p%3Aw@proxy.test:3128/".parse().unwrap();
        assert_eq!((proxy.host().to_string().as_str(), proxy.port()), ("proxy.test", 3128));
        let basic = format!("Basic {}", STANDARD.encode("us@er:p:w"));
        assert_eq!(proxy.authorization().unwrap().to_str().unwrap(), basic);
        assert!(!format!("{proxy:?}").contains("p%3Aw") && !format!("{proxy:?}").contains("Basic"));
        assert_eq!("http://proxy".parse::<UpstreamProxy>().unwrap().port(), 80);
        for wrong in ["proxy:3128", "https://proxy:3128", "socks5://proxy", "http://", "http://proxy/path", ""] {
            assert!(wrong.parse::<UpstreamProxy>().unwrap_err().contains("http://HOST:PORT"), "{wrong}");
        }
        for wrong in ["", "a b", "http://a", "a:b", "a/b"] {
            assert!(wrong.parse::<Direct>().is_err(), "{wrong}");
        }
    }
}

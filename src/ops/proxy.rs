//! Whether the API server is reached by way of a proxy: what the environment says, read as client-go reads it (Go's
//! `golang.org/x/net/http/httpproxy`), and a tunnel through it.
//!
//! kube has a feature for this, which is off: it holds `NO_PROXY` against the proxy's own address, and ends the program over a list that
//! client-go takes, such as one that ends with a comma.

use std::{fmt, net::IpAddr, time::Duration};

use anyhow::{Context, Result, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, Uri, uri::Scheme};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{HttpConnector, proxy::Tunnel},
    },
    rt::TokioExecutor,
};
use ipnet::IpNet;
use kube::{
    Config,
    client::{ClientBuilder, ConfigExt, DynBody},
};
use percent_encoding::percent_decode_str;
use tower::{BoxError, Layer, ServiceExt, timeout::Timeout, util::option_layer};

use super::client::Transport;

/// How long it may take to reach the proxy, and to be put through.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// An HTTP proxy: where it is, and the credential for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proxy {
    url: Uri,
    // Marked as sensitive: `Debug` does not show it.
    authorization: Option<HeaderValue>,
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.url)
    }
}

impl Proxy {
    /// The proxy for `target` by the environment that `variable` reads: `HTTPS_PROXY` for https, `HTTP_PROXY` for http, less what
    /// `NO_PROXY` names; each in capitals first, then in small letters. Loopback addresses are never proxied.
    ///
    /// # Errors
    /// The variable names no HTTP proxy; which one, in a sentence.
    pub(super) fn from_environment(target: &Uri, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let either = |name: &str| {
            let small = name.to_ascii_lowercase();
            [name, &small].into_iter().find_map(|name| variable(name).filter(|value| !value.is_empty()))
        };
        let name = if target.scheme() == Some(&Scheme::HTTP) { "HTTP_PROXY" } else { "HTTPS_PROXY" };
        let Some(url) = either(name) else { return Ok(None) };
        if is_excepted(target, &either("NO_PROXY").unwrap_or_default()) {
            return Ok(None);
        }
        Self::parse(&url).map(Some).with_context(|| format!("{name} cannot be used"))
    }

    /// Reads `http://user:password@host:port` or `host:port`.
    ///
    /// # Errors
    /// It is no HTTP proxy. What was given is not repeated, since it may hold a password.
    pub(super) fn parse(text: &str) -> Result<Self> {
        const HINT: &str = "give the address of an HTTP proxy, as http://host:port";
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url: Uri = whole.trim().parse().ok().context(HINT)?;
        let (Some(scheme), Some(authority)) = (url.scheme(), url.authority()) else { bail!(HINT) };
        if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS {
            bail!("proxies of the kind {scheme} are not supported: {HINT}");
        }
        let (user, host) = authority.as_str().rsplit_once('@').unwrap_or(("", authority.as_str()));
        if authority.host().is_empty() {
            bail!(HINT);
        }
        let authorization = (!user.is_empty()).then(|| basic(user)).transpose()?;
        let url = Uri::builder().scheme(scheme.clone()).authority(host).path_and_query("/").build()?;
        Ok(Self { url, authorization })
    }

    /// A client of the API server like kube's own, but by way of this proxy: a `CONNECT` to the API server, and TLS with it inside.
    ///
    /// # Errors
    /// The certificates of the configuration cannot be used.
    pub(super) fn client(&self, config: &Config) -> Result<ClientBuilder<Transport>> {
        let mut direct = HttpConnector::new();
        direct.enforce_http(false);
        direct.set_connect_timeout(Some(config.connect_timeout.unwrap_or(CONNECT_TIMEOUT)));
        // Where the proxy itself speaks TLS, its certificate is held against the authorities of the kubeconfig, as kube does.
        let mut tunnel = Tunnel::new(self.url.clone(), config.rustls_https_connector_with_connector(direct)?);
        if let Some(authorization) = &self.authorization {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        // One who takes the connection and says nothing.
        let tunnel = Timeout::new(tunnel, CONNECT_TIMEOUT);
        let connector = config.rustls_https_connector_with_connector(tunnel)?;
        let client = Client::builder(TokioExecutor::new()).build(connector).map_err(BoxError::from);
        let client = config.extra_headers_layer()?.layer(client);
        let client = option_layer(config.auth_layer()?).layer(client);
        let client = config.base_uri_layer().layer(client);
        let answers = client.map_response(|answer: http::Response<hyper::body::Incoming>| {
            answer.map(|body| Box::new(http_body_util::BodyExt::map_err(body, BoxError::from)) as Box<DynBody>)
        });
        Ok(ClientBuilder::new(answers.boxed(), config.default_namespace.clone()))
    }
}

/// `user:password` as it stands in a URL, percent-encoded, as the value of `Proxy-Authorization`.
fn basic(user: &str) -> Result<HeaderValue> {
    let decoded: Vec<u8> = percent_decode_str(user).collect();
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(decoded)))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Whether `target` is to be reached directly: it is this machine, or the list `no_proxy` names it.
///
/// The list has entries apart by commas: `*` for everything; addresses, ranges, and names, which stand for what is under them, too,
/// unless they begin with a dot or `*.`, which leaves themselves out; addresses and names with a port where only that one is meant.
/// What is none of these names nothing.
fn is_excepted(target: &Uri, no_proxy: &str) -> bool {
    let host = target.host().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase();
    let scheme_port = if target.scheme() == Some(&Scheme::HTTP) { 80 } else { 443 };
    let port = target.port_u16().unwrap_or(scheme_port);
    let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    no_proxy.split(',').map(|entry| entry.trim().to_ascii_lowercase()).any(|entry| match address {
        _ if entry == "*" => true,
        Some(address) => names_address(&entry, address, port),
        None => names_host(&entry, &host, port),
    })
}

fn names_address(entry: &str, address: IpAddr, port: u16) -> bool {
    if let Ok(range) = entry.parse::<IpNet>() {
        return range.contains(&address);
    }
    let (host, entry_port) = split_port(entry);
    let named = host.trim_matches(['[', ']']).parse::<IpAddr>().ok().map(|named| named.to_canonical());
    named == Some(address) && entry_port.is_none_or(|text| text == port.to_string())
}

fn names_host(entry: &str, host: &str, port: u16) -> bool {
    let (name, entry_port) = split_port(entry);
    let name = name.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(name);
    let (bare, itself) = name.strip_prefix('.').map_or((name, true), |rest| (rest, false));
    let is_under = host.strip_suffix(bare).is_some_and(|rest| rest.ends_with('.'));
    !bare.is_empty() && (is_under || (itself && host == bare)) && entry_port.is_none_or(|text| text == port.to_string())
}

/// A name or an address, and the port after it. An IPv6 address without brackets has none.
fn split_port(entry: &str) -> (&str, Option<&str>) {
    match entry.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || (host.starts_with('[') && host.ends_with(']')) => {
            (host, Some(port).filter(|port| !port.is_empty()))
        }
        _ => (entry, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excepted(target: &str, no_proxy: &str) -> bool {
        is_excepted(&target.parse().unwrap(), no_proxy)
    }

    #[test]
    fn loopback_is_never_proxied() {
        for target in ["https://localhost:6443", "https://127.0.0.1:6443", "https://127.9.9.9", "https://[::1]:6443"] {
            assert!(excepted(target, ""), "{target}");
        }
        assert!(!excepted("https://127.example.com", ""));
    }

    /// As Go's httpproxy has it: the third column says whether the proxy is left out.
    #[test]
    fn the_list_of_exceptions_is_read_as_client_go_reads_it() {
        for (target, list, expected) in [
            ("https://api.example.com", "example.com", true),
            ("https://api.example.com", ".example.com", true),
            ("https://api.example.com", "*.example.com", true),
            ("https://example.com", "example.com", true),
            ("https://example.com", ".example.com", false),
            ("https://example.com", "*.example.com", false),
            ("https://badexample.com", "example.com", false),
            ("https://API.Example.COM", " Example.com ", true),
            ("https://api.example.com", "example.com:443", true),
            ("https://api.example.com", "example.com:6443", false),
            ("https://api.example.com:6443", "example.com:6443", true),
            ("http://api.example.com", "example.com:80", true),
            ("https://api.example.com", "*", true),
            ("https://10.1.2.3", "*", true),
            ("https://10.1.2.3", "other,*", true),
            ("https://10.1.2.3", "10.0.0.0/8", true),
            ("https://10.1.2.3", "11.0.0.0/8", false),
            ("https://10.1.2.3:6443", "10.1.2.3", true),
            ("https://10.1.2.3:6443", "10.1.2.3:6443", true),
            ("https://10.1.2.3", "10.1.2.3:6443", false),
            ("https://10.1.2.3", "1.2.3", false),
            ("https://[fd00::1]:6443", "fd00::/8", true),
            ("https://[fd00::1]:6443", "fd00::1", true),
            ("https://[fd00::1]:6443", "[fd00::1]:6443", true),
            ("https://[fd00::1]", "[fd00::1]:6443", false),
            ("https://10.1.2.3", "10.1.2.3,", true),
            ("https://api.example.com", ",, ,:443,a b,example.com,", true),
            ("https://api.example.com", "", false),
            ("https://api.example.com", ".", false),
            ("https://kubernetes.default.svc", "localhost,127.0.0.1,.svc,.cluster.local", true),
        ] {
            assert_eq!(excepted(target, list), expected, "{target} with {list:?}");
        }
    }

    fn by(target: &str, variables: &[(&str, &str)]) -> Result<Option<Proxy>> {
        let variables: std::collections::HashMap<_, _> = variables.iter().copied().collect();
        Proxy::from_environment(&target.parse().unwrap(), |name| variables.get(name).map(|&value| value.to_owned()))
    }

    #[test]
    fn the_variable_is_that_of_the_scheme_in_capitals_first() {
        let of = |target, variables: &[_]| by(target, variables).unwrap().map(|proxy| proxy.to_string());
        let both = [("HTTPS_PROXY", "http://s:1"), ("HTTP_PROXY", "http://h:2"), ("https_proxy", "http://small:3")];
        assert_eq!(of("https://api", &both).as_deref(), Some("http://s:1/"));
        assert_eq!(of("http://api", &both).as_deref(), Some("http://h:2/"));
        assert_eq!(of("https://api", &both[1..]).as_deref(), Some("http://small:3/"));
        assert_eq!(of("https://api", &[("HTTPS_PROXY", ""), both[2]]).as_deref(), Some("http://small:3/"));
        assert_eq!(of("https://api", &[("ALL_PROXY", "http://a:1")]), None);
        for no_proxy in ["NO_PROXY", "no_proxy"] {
            assert_eq!(of("https://api", &[both[0], (no_proxy, "api")]), None);
        }
        // What is not used is not read.
        assert_eq!(of("https://localhost", &[("HTTPS_PROXY", "::")]), None);
    }

    #[test]
    fn a_proxy_may_have_a_credential_which_is_never_shown() {
        let proxy = Proxy::parse("http://user:pa%40ss@proxy.corp:3128").unwrap();
        assert_eq!(proxy.to_string(), "http://proxy.corp:3128/");
        assert_eq!(proxy.authorization.as_ref().unwrap(), &format!("Basic {}", STANDARD.encode("user:pa@ss")));
        let shown = format!("{proxy:?} {proxy}");
        assert!(!shown.contains("Basic") && !shown.contains("pa%40ss"), "{shown}");
        assert_eq!(Proxy::parse("proxy:3128").unwrap(), Proxy::parse("http://proxy:3128/").unwrap());
        for (bad, hint) in [("socks5://p:1080", "kind socks5"), ("http://", "host:port"), ("a b", "host:port")] {
            let error = format!("{:#}", Proxy::parse(bad).unwrap_err());
            assert!(error.contains(hint), "{error}");
        }
        let error = format!("{:#}", by("https://api", &[("HTTPS_PROXY", "ftp://u:secret@h")]).unwrap_err());
        assert!(error.starts_with("HTTPS_PROXY cannot be used: ") && !error.contains("secret"), "{error}");
    }
}

//! A request, as far as it is looked at.

use std::net::IpAddr;

use http::{Method, StatusCode, Uri};

use super::later::{Pending, Promise, Waker};

/// More header fields are not read.
const MAX_FIELDS: usize = 64;
/// What proxies add: who asks through one is not known by its address.
const FORWARDED: [&str; 4] = ["forwarded", "x-forwarded-for", "via", "x-real-ip"];

/// A request, as far as it is looked at.
#[derive(Debug)]
pub(in crate::ops) struct Request {
    /// Whether the answer is to have a body: GET, not HEAD.
    pub(super) wants_body: bool,
    path: String,
    query: String,
    peer: IpAddr,
    token: Option<String>,
    is_local: bool,
    waker: Waker,
}

impl Request {
    /// Without the query.
    pub(in crate::ops) fn path(&self) -> &str {
        &self.path
    }

    /// What follows the question mark.
    pub(in crate::ops) fn query(&self) -> &str {
        &self.query
    }

    /// Who asks.
    pub(in crate::ops) fn peer(&self) -> IpAddr {
        self.peer
    }

    /// The bearer token that it comes with.
    pub(in crate::ops) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Whether it comes from this machine or pod itself, as `kubectl port-forward` does, and for it: neither through a proxy, nor for
    /// another name, as a web page would ask whose name was made to lead here. (The other addresses of 127.0.0.0/8 are used by the proxies
    /// of service meshes.)
    pub(in crate::ops) fn is_local(&self) -> bool {
        self.is_local
    }

    /// An answer that is given later: what is promised, and what is waited for meanwhile.
    pub(in crate::ops) fn later(&self) -> (Promise, Pending) {
        Promise::new(self.waker.clone())
    }

    /// Reads a head.
    ///
    /// # Errors
    /// With which status it is to be answered.
    pub(super) fn parse(head: &[u8], peer: IpAddr, waker: &Waker) -> Result<Self, StatusCode> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(head) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
            }
            Err(_) => return Err(StatusCode::BAD_REQUEST),
        }
        let method = request.method.and_then(|method| method.parse::<Method>().ok()).ok_or(StatusCode::BAD_REQUEST)?;
        let target: Uri = request.path.and_then(|path| path.parse().ok()).ok_or(StatusCode::BAD_REQUEST)?;
        if method != Method::GET && method != Method::HEAD {
            return Err(StatusCode::METHOD_NOT_ALLOWED);
        }
        let field = |name: &str| {
            let found = request.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
            found.and_then(|field| std::str::from_utf8(field.value).ok())
        };
        let is_forwarded =
            request.headers.iter().any(|field| FORWARDED.iter().any(|name| field.name.eq_ignore_ascii_case(name)));
        let is_loopback = peer == IpAddr::from([127, 0, 0, 1]) || peer == IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]);
        let host = field("host").or_else(|| target.authority().map(http::uri::Authority::as_str));
        Ok(Self {
            wants_body: method == Method::GET,
            path: target.path().to_owned(),
            query: target.query().unwrap_or_default().to_owned(),
            peer,
            token: field("authorization").and_then(bearer).map(str::to_owned),
            is_local: is_loopback && !is_forwarded && host.is_some_and(is_own_name),
            waker: waker.clone(),
        })
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
}

fn is_own_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|own| name.eq_ignore_ascii_case(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(from: &str, text: &str) -> Result<Request, StatusCode> {
        let (waker, _) = Waker::new().unwrap();
        Request::parse(text.as_bytes(), from.parse().unwrap(), &waker)
    }

    #[test]
    fn a_request_is_its_method_its_path_and_its_query() {
        let parts = |text: &str| {
            read("10.0.0.1", text).map(|request| (request.wants_body, request.path.clone(), request.query.clone()))
        };
        let of = |wants_body, path: &str, query: &str| Ok((wants_body, path.to_owned(), query.to_owned()));
        assert_eq!(parts("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"), of(true, "/healthz", ""));
        assert_eq!(parts("HEAD /healthz?verbose=1 HTTP/1.0\n\n"), of(false, "/healthz", "verbose=1"));
        assert_eq!(parts("GET http://h:1/metrics HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n"), of(true, "/metrics", ""));
        assert_eq!(parts("POST / HTTP/1.1\r\n\r\n"), Err(StatusCode::METHOD_NOT_ALLOWED));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_FIELDS + 1));
        assert_eq!(parts(&many), Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
        for bad in ["", "GET", "GET / HTTP/9.9\r\n\r\n", "\u{16}\u{3}\u{1}\r\n\r\n", "GET  / HTTP/1.1\r\n\r\n"] {
            assert!(parts(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_token_is_that_of_the_scheme_bearer() {
        let token = |value: &str| {
            let request = read("10.0.0.1", &format!("GET / HTTP/1.1\r\nAuthorization: {value}\r\n\r\n")).unwrap();
            request.token.clone()
        };
        assert_eq!(token("Bearer abc.def").as_deref(), Some("abc.def"));
        assert_eq!(token("bearer  abc ").as_deref(), Some("abc"));
        for other in ["Basic YTpi", "Bearer", "Bearer ", ""] {
            assert_eq!(token(other), None, "{other:?}");
        }
    }

    #[test]
    fn local_is_who_asks_from_here_for_here_and_directly() {
        let is_local =
            |from: &str, fields: &str| read(from, &format!("GET /debug HTTP/1.1\r\n{fields}\r\n")).unwrap().is_local();
        for (from, host) in
            [("127.0.0.1", "localhost:8080"), ("127.0.0.1", "127.0.0.1"), ("::1", "[::1]:8080"), ("::1", "LocalHost")]
        {
            assert!(is_local(from, &format!("Host: {host}\r\n")), "{from} {host}");
        }
        for (from, fields) in [
            ("10.0.0.1", "Host: localhost\r\n"),
            ("127.0.0.6", "Host: localhost\r\n"),
            ("127.0.0.1", ""),
            ("127.0.0.1", "Host: rebound.example:8080\r\n"),
            ("127.0.0.1", "Host: localhost.example\r\n"),
            ("127.0.0.1", "Host: localhost\r\nX-Forwarded-For: 10.0.0.1\r\n"),
            ("127.0.0.1", "Host: localhost\r\nvia: 1.1 proxy\r\n"),
        ] {
            assert!(!is_local(from, fields), "{from} {fields}");
        }
    }
}

//! A verifier of `SDK-HMAC-SHA256`, from the specification (upstreams.md §2.3, "AK/SK"; HWDOC API signing guide). It shares nothing
//! with any signer: what it accepts is what the document describes.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use hyper::header::HeaderMap;
use sha2::{Digest, Sha256};

use crate::http::decode;

const ALGORITHM: &str = "SDK-HMAC-SHA256";
/// "Clock skew → signature expired"; 15 minutes (§2.3).
const TOLERANCE_MS: i64 = 15 * 60 * 1000;

/// Why a signature is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The Authorization header is not of this algorithm's form.
    Malformed(&'static str),
    /// `X-Sdk-Date` lies more than 15 minutes away.
    Expired,
    /// It does not match.
    Wrong,
}

/// The parts of `SDK-HMAC-SHA256 Access=AK, SignedHeaders=a;b, Signature=…`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Authorization<'a> {
    pub(crate) access: &'a str,
    signed: Vec<&'a str>,
    signature: &'a str,
}

/// What was received.
#[derive(Debug)]
pub(crate) struct Signed<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) headers: &'a HeaderMap,
    /// The authority, where no Host header was sent (HTTP/2).
    pub(crate) authority: Option<&'a str>,
    pub(crate) body: &'a [u8],
}

impl<'a> Authorization<'a> {
    pub(crate) fn parse(header: &'a str) -> Result<Self, Refusal> {
        let rest = header.strip_prefix(ALGORITHM).ok_or(Refusal::Malformed("algorithm"))?;
        let rest = rest.strip_prefix(' ').ok_or(Refusal::Malformed("a space follows the algorithm, no comma"))?;
        let (mut access, mut signed, mut signature) = (None, None, None);
        for part in rest.split(',') {
            match part.trim().split_once('=') {
                Some(("Access", v)) => access = Some(v),
                Some(("SignedHeaders", v)) => signed = Some(v),
                Some(("Signature", v)) => signature = Some(v),
                _ => return Err(Refusal::Malformed("unknown part")),
            }
        }
        let access = access.filter(|v| !v.is_empty()).ok_or(Refusal::Malformed("Access"))?;
        let signed: Vec<&str> =
            signed.filter(|v| !v.is_empty()).ok_or(Refusal::Malformed("SignedHeaders"))?.split(';').collect();
        let signature = signature.ok_or(Refusal::Malformed("Signature"))?;
        if !signed.is_sorted() || signed.iter().any(|n| n.bytes().any(|b| b.is_ascii_uppercase())) {
            return Err(Refusal::Malformed("SignedHeaders are sorted lower-case names"));
        }
        Ok(Self { access, signed, signature })
    }

    /// Whether this is the signature that `secret` gives for the request, at `now_ms`.
    pub(crate) fn verify(&self, secret: &str, request: &Signed<'_>, now_ms: i64) -> Result<(), Refusal> {
        if !self.signed.contains(&"x-sdk-date") {
            return Err(Refusal::Malformed("X-Sdk-Date must be signed"));
        }
        let date = header(request, "x-sdk-date").ok_or(Refusal::Malformed("X-Sdk-Date"))?;
        let at = parse_date(date).ok_or(Refusal::Malformed("X-Sdk-Date is YYYYMMDDTHHMMSSZ"))?;
        if (at - now_ms).abs() > TOLERANCE_MS {
            return Err(Refusal::Expired);
        }
        let canonical = self.canonical(request)?;
        let to_sign = format!("{ALGORITHM}\n{date}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return Err(Refusal::Wrong) };
        mac.update(to_sign.as_bytes());
        if hex(&mac.finalize().into_bytes()) == self.signature { Ok(()) } else { Err(Refusal::Wrong) }
    }

    fn canonical(&self, request: &Signed<'_>) -> Result<String, Refusal> {
        let mut uri = request.path.split('/').map(|s| encode(&decode(s))).collect::<Vec<_>>().join("/");
        if !uri.ends_with('/') {
            uri.push('/');
        }
        let mut pairs: Vec<(String, String)> = request
            .query
            .split('&')
            .filter(|p| !p.is_empty())
            .map(|p| p.split_once('=').unwrap_or((p, "")))
            .map(|(k, v)| (decode(k), decode(v)))
            .collect();
        pairs.sort();
        let query = pairs.iter().map(|(k, v)| format!("{}={}", encode(k), encode(v))).collect::<Vec<_>>().join("&");
        let mut headers = String::new();
        for name in &self.signed {
            let value = header(request, name).ok_or(Refusal::Malformed("a signed header was not sent"))?;
            let _ = writeln!(headers, "{name}:{}", value.trim());
        }
        let actual = hex(&Sha256::digest(request.body));
        let hash = match header(request, "x-sdk-content-sha256") {
            Some(given) if given == "UNSIGNED-PAYLOAD" || given == actual => given.to_owned(),
            Some(_) => return Err(Refusal::Wrong),
            None => actual,
        };
        Ok(format!("{}\n{uri}\n{query}\n{headers}\n{}\n{hash}", request.method, self.signed.join(";")))
    }
}

fn header<'a>(request: &Signed<'a>, name: &str) -> Option<&'a str> {
    let sent = request.headers.get(name).and_then(|v| v.to_str().ok());
    sent.or(if name == "host" { request.authority } else { None })
}

fn parse_date(date: &str) -> Option<i64> {
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date).ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

/// Unreserved are `A-Za-z0-9-_.~`; upper-case hex.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
            out.push(char::from(b));
        } else {
            let _ = write!(out, "%{b:02X}");
        }
    }
    out
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    // The published example (upstreams.md §2.3; Java SDK TestAKSKSigner).
    const AK: &str = "QTWAOYTTINDUT2QVKYUC";
    const SK: &str = "MFyfvK41ba2giqM7Uio6PznpdUKGpownRZlmVmHc";
    const DATE: &str = "20191115T033655Z";
    const PATH: &str = "/v1/77b6a44cba5143ab91d13ab9a8ff44fd/vpcs";
    const ALL: &str = "content-type;host;x-sdk-date";

    fn headers(host: &str) -> HeaderMap {
        [("content-type", "application/json"), ("host", host), ("x-sdk-date", DATE)]
            .into_iter()
            .map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_str(v).unwrap()))
            .collect()
    }

    fn verify(authorization: &str, path: &str, query: &str, headers: &HeaderMap, skew_s: i64) -> Result<(), Refusal> {
        let request = Signed { method: "GET", path, query, headers, authority: None, body: b"" };
        Authorization::parse(authorization)?.verify(SK, &request, parse_date(DATE).unwrap() + skew_s * 1000)
    }

    fn authorization(signed: &str, signature: &str) -> String {
        format!("{ALGORITHM} Access={AK}, SignedHeaders={signed}, Signature={signature}")
    }

    const QUERY: &str = "limit=2&marker=13551d6b-755d-4757-b956-536f674975c0";
    const SIG1: &str = "7be6668032f70418fcc22abc52071e57aff61b84a1d2381bb430d6870f4f6ebe";
    const SIG2: &str = "4a30e690c3032a1975323588d79e858f188834f91df411a47ada7def6ad8081f";

    #[test]
    fn the_published_vectors() {
        let one = headers("service.region.example.com");
        let two = headers("service.test-region-1.myhuaweicloud.com");
        assert_eq!(verify(&authorization(ALL, SIG1), PATH, QUERY, &one, 0), Ok(()));
        assert_eq!(verify(&authorization(ALL, SIG2), PATH, "", &two, 0), Ok(()));
        for (headers, query, hash) in [
            (&one, QUERY, "b25362e603ee30f4f25e7858e8a7160fd36e803bb2dfe206278659d71a9bcd7a"),
            (&two, "", "24aab8df594d405e1695b18d270eb1eb1ef8b420e6b9f94d4313664ddb28dc48"),
        ] {
            let request = Signed { method: "GET", path: PATH, query, headers, authority: None, body: b"" };
            let text = authorization(ALL, "");
            let canonical = Authorization::parse(&text).unwrap().canonical(&request).unwrap();
            assert_eq!(hex(&Sha256::digest(canonical.as_bytes())), hash);
        }
    }

    #[test]
    fn order_of_the_query_does_not_matter_but_everything_else_does() {
        let one = headers("service.region.example.com");
        let right = authorization(ALL, SIG1);
        let turned = "marker=13551d6b-755d-4757-b956-536f674975c0&limit=2";
        assert_eq!(verify(&right, PATH, turned, &one, 0), Ok(()));
        assert_eq!(verify(&right, PATH, "limit=3", &one, 0), Err(Refusal::Wrong));
        assert_eq!(verify(&right, "/v1/x", QUERY, &one, 0), Err(Refusal::Wrong));
        assert_eq!(verify(&right, PATH, QUERY, &headers("other"), 0), Err(Refusal::Wrong));
        assert_eq!(verify(&authorization(ALL, SIG2), PATH, QUERY, &one, 0), Err(Refusal::Wrong));
    }

    #[test]
    fn fifteen_minutes() {
        let one = headers("service.region.example.com");
        let right = authorization(ALL, SIG1);
        for (skew, result) in
            [(900, Ok(())), (-900, Ok(())), (901, Err(Refusal::Expired)), (-901, Err(Refusal::Expired))]
        {
            assert_eq!(verify(&right, PATH, QUERY, &one, skew), result);
        }
    }

    #[test]
    fn forms_that_are_refused() {
        let one = headers("service.region.example.com");
        for bad in [
            "Bearer x".to_owned(),
            format!("{ALGORITHM}, Access=a, SignedHeaders=x-sdk-date, Signature=b"),
            format!("{ALGORITHM} Credential=a/b, SignedHeaders=x-sdk-date, Signature=b"),
            authorization("content-type;host", SIG1),
            authorization("x-sdk-date;host", SIG1),
            authorization("Host;x-sdk-date", SIG1),
            authorization("x-not-sent;x-sdk-date", SIG1),
        ] {
            assert!(matches!(verify(&bad, PATH, QUERY, &one, 0), Err(Refusal::Malformed(_))), "{bad}");
        }
        assert_eq!(parse_date("2019-11-15T03:36:55Z"), None);
    }

    #[test]
    fn encoding() {
        assert_eq!(encode("a b/~é"), "a%20b%2F~%C3%A9");
    }
}

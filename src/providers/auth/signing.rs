//! Huawei Cloud's AK/SK signature, `SDK-HMAC-SHA256` (upstreams.md §2.3; Huawei Cloud, "API Request Signing Guide").

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, Method, header::CONTENT_TYPE};
use jiff::{Timestamp, tz::TimeZone};
use percent_encoding::{percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};
use url::{Url, form_urlencoded};

use super::{secret_value, value};
use crate::{
    domain::failure::{Failure, FailureClass},
    providers::wire::path::RESERVED,
};

/// The name of the algorithm.
const ALGORITHM: &str = "SDK-HMAC-SHA256";

/// An access key.
#[derive(Clone, Copy)]
pub(super) struct Key<'a> {
    pub access: &'a str,
    pub secret: &'a str,
}

/// Adds `X-Sdk-Date` and `Authorization`. Signed are the host, the date and the content type, as the vendor's Java SDK does.
pub(super) fn sign(
    key: &Key<'_>,
    method: &Method,
    url: &Url,
    headers: &mut HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<(), Failure> {
    if key.access.is_empty() || key.secret.is_empty() {
        let message =
            "The access key or its secret is empty: check the Secret that spec.auth.accessKey.secretRef names";
        return Err(Failure::new(FailureClass::AuthenticationFailed, message));
    }
    let date = now.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
    let mut signed = vec![("host", host(url)), ("x-sdk-date", date.clone())];
    if let Some(kind) = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) {
        signed.insert(0, ("content-type", kind.trim().to_owned()));
    }
    let canonical = canonical_request(method, url, &signed, body);
    let signature = signature(key.secret, &date, &canonical)?;
    let names = signed_names(&signed);
    let authorization = format!("{ALGORITHM} Access={}, SignedHeaders={names}, Signature={signature}", key.access);
    headers.insert("x-sdk-date", value(&date, "date")?);
    headers.insert(http::header::AUTHORIZATION, secret_value(&authorization, "access key")?);
    Ok(())
}

/// The `Host` header: with the port where it is not the scheme's own.
fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The request in its canonical form; `headers` are in lower case and sorted.
fn canonical_request(method: &Method, url: &Url, headers: &[(&str, String)], body: &[u8]) -> String {
    let mut out = format!("{method}\n{}\n{}\n", canonical_path(url), canonical_query(url));
    for (name, value) in headers {
        let _ = writeln!(out, "{name}:{value}");
    }
    let _ = write!(out, "\n{}\n{}", signed_names(headers), hex(&Sha256::digest(body)));
    out
}

fn signed_names(headers: &[(&str, String)]) -> String {
    headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";")
}

/// Each segment encoded anew, with a slash at the end.
fn canonical_path(url: &Url) -> String {
    let encode =
        |segment: &str| utf8_percent_encode(&percent_decode_str(segment).decode_utf8_lossy(), RESERVED).to_string();
    let mut path = url.path().split('/').map(encode).collect::<Vec<_>>().join("/");
    if !path.ends_with('/') {
        path.push('/');
    }
    path
}

/// The parameters encoded anew, sorted by key and value.
fn canonical_query(url: &Url) -> String {
    let mut pairs: Vec<_> = form_urlencoded::parse(url.query().unwrap_or_default().as_bytes()).collect();
    pairs.sort();
    let encode = |text: &str| utf8_percent_encode(text, RESERVED).to_string();
    pairs.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect::<Vec<_>>().join("&")
}

fn signature(secret: &str, date: &str, canonical: &str) -> Result<String, Failure> {
    let text = format!("{ALGORITHM}\n{date}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(|_| {
        Failure::new(FailureClass::AuthenticationFailed, "The secret access key cannot be used as a key")
    })?;
    mac.update(text.as_bytes());
    Ok(hex(&mac.finalize().into_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method};
    use sha2::{Digest, Sha256};
    use url::Url;

    use super::{Key, canonical_path, canonical_query, canonical_request, hex, sign};

    /// The published vectors (upstreams.md §2.3: JSDK and HWDOC, recomputed there).
    #[test]
    fn signs_as_the_vendor_does() {
        let key = Key { access: "QTWAOYTTINDUT2QVKYUC", secret: "MFyfvK41ba2giqM7Uio6PznpdUKGpownRZlmVmHc" };
        for (url, hash, signature) in [
            (
                "https://service.region.example.com/v1/77b6a44cba5143ab91d13ab9a8ff44fd/vpcs?limit=2&marker=13551d6b-755d-4757-b956-536f674975c0",
                "b25362e603ee30f4f25e7858e8a7160fd36e803bb2dfe206278659d71a9bcd7a",
                "7be6668032f70418fcc22abc52071e57aff61b84a1d2381bb430d6870f4f6ebe",
            ),
            (
                "https://service.test-region-1.myhuaweicloud.com/v1/77b6a44cba5143ab91d13ab9a8ff44fd/vpcs",
                "24aab8df594d405e1695b18d270eb1eb1ef8b420e6b9f94d4313664ddb28dc48",
                "4a30e690c3032a1975323588d79e858f188834f91df411a47ada7def6ad8081f",
            ),
        ] {
            let url = Url::parse(url).unwrap();
            let signed = [
                ("content-type", "application/json".to_owned()),
                ("host", url.host_str().unwrap().to_owned()),
                ("x-sdk-date", "20191115T033655Z".to_owned()),
            ];
            let canonical = canonical_request(&Method::GET, &url, &signed, b"");
            assert_eq!(hex(&Sha256::digest(canonical.as_bytes())), hash, "{canonical}");

            let mut headers = HeaderMap::new();
            headers.insert("content-type", HeaderValue::from_static("application/json"));
            sign(&key, &Method::GET, &url, &mut headers, b"", "2019-11-15T03:36:55.9Z".parse().unwrap()).unwrap();
            assert_eq!(headers["x-sdk-date"], "20191115T033655Z");
            assert!(headers["authorization"].is_sensitive());
            assert_eq!(
                headers["authorization"],
                format!(
                    "SDK-HMAC-SHA256 Access=QTWAOYTTINDUT2QVKYUC, SignedHeaders=content-type;host;x-sdk-date, Signature={signature}"
                )
            );
        }
    }

    #[test]
    fn canonical_forms() {
        for (url, path, query) in [
            ("https://h/", "/", ""),
            ("https://h", "/", ""),
            ("https://h/v1/a%20b/%D0%B6:c~/", "/v1/a%20b/%D0%B6%3Ac~/", ""),
            ("https://h/v1/a%2Fb", "/v1/a%2Fb/", ""),
            ("https://h/x?b=2&a=z&a=1&empty&q=a%20b+c%2F", "/x/", "a=1&a=z&b=2&empty=&q=a%20b%20c%2F"),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!((canonical_path(&url).as_str(), canonical_query(&url).as_str()), (path, query));
        }
    }
}

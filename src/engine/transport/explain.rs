//! What went wrong on the way, in words for people. Neither paths nor queries of URLs appear in them.

use std::{
    error::Error,
    io::{self, ErrorKind},
    time::Duration,
};

use rustls::CertificateError;

use super::{CONNECT_TIMEOUT, Denied, FailureClass, ResolveError};
use crate::domain::failure::{BODY_TOO_LARGE, EGRESS_DENIED};
use crate::domain::text;

/// Longest foreign part of a message, in bytes.
const FOREIGN: usize = 256;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Network {
    Denied(Denied),
    Resolve(String),
    Timeout(Duration),
    ConnectTimeout,
    Refused,
    Reset,
    Unreachable,
    Tls(rustls::Error),
    NotHttp,
    BadEncoding,
    TooLarge(usize),
    OtherHost,
    Other(String),
}

/// The cause that the chain of an error's sources names.
pub(super) fn explain(error: &reqwest::Error) -> Network {
    let mut timeout = false;
    for cause in chain(error) {
        if let Some(resolve) = cause.downcast_ref::<ResolveError>() {
            return match resolve {
                ResolveError::Denied(denied) => Network::Denied(denied.clone()),
                ResolveError::OtherHost => Network::OtherHost,
                other => Network::Resolve(text::clean(&other.to_string(), FOREIGN)),
            };
        }
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return Network::Tls(tls.clone());
        }
        if let Some(hyper) = cause.downcast_ref::<hyper::Error>() {
            if hyper.is_parse() {
                return Network::NotHttp;
            }
            if hyper.is_incomplete_message() || hyper.is_canceled() || hyper.is_closed() {
                return Network::Reset;
            }
            timeout |= hyper.is_timeout();
        }
        if let Some(io) = cause.downcast_ref::<io::Error>()
            // One that wraps another error says less than that.
            && io.get_ref().is_none_or(|inner| inner.source().is_none() && !inner.is::<rustls::Error>())
        {
            match io.kind() {
                ErrorKind::ConnectionRefused => return Network::Refused,
                ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
                | ErrorKind::NotConnected
                | ErrorKind::UnexpectedEof => return Network::Reset,
                ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
                    return Network::Unreachable;
                }
                ErrorKind::TimedOut => timeout = true,
                ErrorKind::InvalidData | ErrorKind::InvalidInput if error.is_decode() => return Network::BadEncoding,
                _ => {}
            }
        }
    }
    if timeout || error.is_timeout() {
        return if error.is_connect() { Network::ConnectTimeout } else { Network::Reset };
    }
    Network::Other(innermost(error))
}

/// The text of the last source of an error: the one that names the cause, and no URL.
pub(super) fn innermost(error: &reqwest::Error) -> String {
    chain(error).last().map_or_else(|| "no cause given".to_owned(), |cause| text::clean(&cause.to_string(), FOREIGN))
}

/// The sources of an error, without itself (whose text has the URL); an `io::Error` is followed by the error that it wraps.
fn chain(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| match cause.downcast_ref::<io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as _),
        None => cause.source(),
    })
}

impl Network {
    /// The class, the code and the message of a failure on the way to `authority`.
    pub(super) fn describe(&self, authority: &str, private_ca: bool) -> (FailureClass, &'static str, String) {
        use FailureClass::{InvalidAnswer, InvalidRequest, UpstreamUnavailable};
        match self {
            Self::Denied(denied) => {
                (UpstreamUnavailable, EGRESS_DENIED, format!("{authority} is out of bounds: {denied}"))
            }
            Self::Resolve(reason) => {
                (UpstreamUnavailable, "DNSFailure", format!("the host of {authority} cannot be resolved: {reason}"))
            }
            Self::Timeout(timeout) => {
                let seconds = timeout.as_secs_f32();
                (UpstreamUnavailable, "Timeout", format!("{authority} has not answered in full within {seconds} s"))
            }
            Self::ConnectTimeout => {
                let seconds = CONNECT_TIMEOUT.as_secs();
                (UpstreamUnavailable, "Timeout", format!("no connection to {authority} within {seconds} s"))
            }
            Self::Refused => (
                UpstreamUnavailable,
                "ConnectionRefused",
                format!("{authority} refuses connections: nothing listens there"),
            ),
            Self::Reset => (
                UpstreamUnavailable,
                "ConnectionReset",
                format!("{authority} has broken the connection off before the answer's end"),
            ),
            Self::Unreachable => (UpstreamUnavailable, "ConnectionFailed", format!("there is no route to {authority}")),
            Self::Tls(error) => (UpstreamUnavailable, "TLSFailure", describe_tls(error, authority, private_ca)),
            Self::NotHttp => (
                InvalidAnswer,
                "NotHTTP",
                format!("{authority} does not answer in HTTP; check port and scheme of the endpoint"),
            ),
            Self::BadEncoding => {
                (InvalidAnswer, "BadEncoding", format!("the answer of {authority} cannot be decompressed"))
            }
            Self::TooLarge(limit) => {
                (InvalidAnswer, BODY_TOO_LARGE, format!("the answer of {authority} is larger than {limit} bytes"))
            }
            Self::OtherHost => (
                InvalidRequest,
                "OtherHost",
                format!("the request does not lead to the connection's endpoint {authority}"),
            ),
            Self::Other(reason) => {
                (UpstreamUnavailable, "ConnectionFailed", format!("the request to {authority} has failed: {reason}"))
            }
        }
    }
}

fn describe_tls(error: &rustls::Error, authority: &str, private_ca: bool) -> String {
    use CertificateError as C;
    let certificate = match error {
        rustls::Error::InvalidCertificate(certificate) => certificate,
        rustls::Error::InvalidMessage(_) => {
            return format!("{authority} does not speak TLS; check port and scheme of the endpoint");
        }
        other => {
            return format!(
                "the TLS handshake with {authority} has failed: {}",
                text::clean(&other.to_string(), FOREIGN)
            );
        }
    };
    match certificate {
        C::Expired | C::ExpiredContext { .. } => format!("the certificate of {authority} has expired"),
        C::NotValidYet | C::NotValidYetContext { .. } => format!("the certificate of {authority} is not valid yet"),
        C::UnknownIssuer | C::BadSignature if private_ca => {
            format!("the certificate of {authority} is not from a CA in spec.tls.caBundle")
        }
        C::UnknownIssuer | C::BadSignature => format!(
            "the certificate of {authority} is from an unknown issuer; if that is a private CA, give the CA in spec.tls.caBundle"
        ),
        C::NotValidForName => {
            format!(
                "the certificate of {authority} is for another name; if it is the right one, give it in spec.tls.serverName"
            )
        }
        C::NotValidForNameContext { expected, presented } => {
            let presented: Vec<_> = presented.iter().map(|name| bare(name)).collect();
            let presented = match text::clean(&presented.join(", "), FOREIGN) {
                names if names.is_empty() => "no name".to_owned(),
                names => names,
            };
            format!(
                "the certificate of {authority} is for {presented}, not for {}; if it is the right one, give its name in \
                 spec.tls.serverName",
                expected.to_str()
            )
        }
        other => format!("the certificate of {authority} is not valid: {}", text::clean(&other.to_string(), FOREIGN)),
    }
}

/// A name without the notation in which rustls presents it: `DnsName("a.example")`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"')
}

//! What went wrong on the way, in words for people. Neither paths nor queries of URLs appear in them.

use std::{
    error::Error,
    io::{self, ErrorKind},
    sync::Arc,
    time::Duration,
};

use hyper_util::client::legacy;

use super::{
    client::MAX_HEAD,
    connect::{CONNECT_TIMEOUT, ConnectError},
    flood::{Flood, MAX_INFORMATIONAL, Traffic},
    names::NameError,
    tls,
};
use crate::domain::{
    failure::{BODY_TOO_LARGE, EGRESS_DENIED, FailureClass, INSECURE_ENDPOINT, NOT_HTTP, TLS_FAILURE},
    text,
};
use crate::engine::egress::Denied;

/// Longest foreign part of a message, in bytes.
const FOREIGN: usize = 256;

/// Why there is no answer, or no whole one.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Network {
    Denied(Denied),
    Resolve(NameError),
    NoShare(Duration),
    Timeout(Duration),
    ConnectTimeout,
    Proxy(String),
    Refused,
    Reset,
    Unreachable,
    Tls(rustls::Error),
    NotHttp,
    HeadTooLarge,
    UnknownCoding(String),
    BadEncoding,
    TooLarge(usize),
    TooSlow,
    Flooded(Flood),
    OtherHost,
    Other(String),
}

/// Why a request of the client failed.
pub(super) fn explain_request(error: &legacy::Error) -> Network {
    let mut extensions = http::Extensions::new();
    if let Some(connection) = error.connect_info() {
        connection.get_extras(&mut extensions);
    }
    explain(error, extensions.get::<Arc<Traffic>>().map(|traffic| &**traffic))
}

/// The cause that the chain of an error's sources names, of an error on a connection with this traffic.
pub(super) fn explain(error: &(dyn Error + 'static), traffic: Option<&Traffic>) -> Network {
    // HTTP/2 does not pass on why its socket was closed.
    if let Some(flood) = traffic.and_then(Traffic::flooded) {
        return Network::Flooded(flood);
    }
    let mut connecting = false;
    for cause in chain(error) {
        if let Some(connect) = cause.downcast_ref::<ConnectError>() {
            connecting = true;
            match connect {
                ConnectError::Denied(denied) => return Network::Denied(denied.clone()),
                ConnectError::Name(name) => return Network::Resolve(name.clone()),
                ConnectError::Timeout => return Network::ConnectTimeout,
                ConnectError::Tunnel(_) | ConnectError::Proxy(_) => {
                    return Network::Proxy(text::clean(&connect.to_string(), FOREIGN));
                }
                ConnectError::Io(_) => {}
            }
        }
        if let Some(flood) = cause.downcast_ref::<Flood>() {
            return Network::Flooded(*flood);
        }
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return Network::Tls(tls.clone());
        }
        if let Some(hyper) = cause.downcast_ref::<hyper::Error>() {
            if hyper.is_parse_too_large() {
                return Network::HeadTooLarge;
            }
            if hyper.is_parse() {
                return Network::NotHttp;
            }
            if hyper.is_incomplete_message() || hyper.is_canceled() || hyper.is_closed() || hyper.is_timeout() {
                return Network::Reset;
            }
        }
        if let Some(io) = cause.downcast_ref::<io::Error>()
            // One that wraps another error says less than that.
            && io.get_ref().is_none_or(|inner| inner.source().is_none() && !inner.is::<rustls::Error>() && !inner.is::<Flood>())
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
                // Of a body: chunks that are none.
                ErrorKind::InvalidData | ErrorKind::InvalidInput if !connecting => return Network::NotHttp,
                ErrorKind::TimedOut => return if connecting { Network::ConnectTimeout } else { Network::Reset },
                _ => {}
            }
        }
    }
    Network::Other(innermost(error))
}

/// The text of the last source of an error: the one that names the cause.
fn innermost(error: &(dyn Error + 'static)) -> String {
    chain(error).last().map_or_else(|| "no cause given".to_owned(), |cause| text::clean(&cause.to_string(), FOREIGN))
}

/// An error and its sources; an `io::Error` is followed by the error that it wraps.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&cause| {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return io.get_ref().map(|inner| inner as _);
        }
        match cause.downcast_ref::<ConnectError>() {
            // It shows the error within as itself.
            Some(ConnectError::Io(io)) => Some(io as _),
            _ => cause.source(),
        }
    })
}

impl Network {
    /// The class, the code and the message of a failure on the way to `authority`.
    #[allow(clippy::too_many_lines, reason = "one sentence for each cause")]
    pub(super) fn describe(&self, authority: &str, private_ca: bool) -> (FailureClass, &'static str, String) {
        use FailureClass::{InvalidAnswer, InvalidRequest, UpstreamUnavailable};
        match self {
            Self::Denied(Denied::Insecure) => (
                UpstreamUnavailable,
                INSECURE_ENDPOINT,
                format!(
                    "{authority} is not connected to by http://, which would show the credential to everybody on the way"
                ),
            ),
            // Neither the address nor what it is: a name of the inside is nothing that a tenant is to learn of.
            Self::Denied(_) => (
                UpstreamUnavailable,
                EGRESS_DENIED,
                format!("connections to {authority} are not allowed by the operator's egress policy"),
            ),
            Self::Proxy(reason) => (
                UpstreamUnavailable,
                "ProxyFailure",
                format!("{authority} cannot be reached through the operator's proxy: {reason}"),
            ),
            Self::Resolve(reason) => {
                let reason = text::clean(&reason.to_string(), FOREIGN);
                (UpstreamUnavailable, "DNSFailure", format!("the host of {authority} cannot be resolved: {reason}"))
            }
            Self::NoShare(timeout) => (
                UpstreamUnavailable,
                "Throttled",
                format!(
                    "the answer of {authority} was not read within {} s: answers to this namespace already take up its share of the \
                     operator's memory",
                    timeout.as_secs_f32()
                ),
            ),
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
            Self::Tls(error) => {
                (UpstreamUnavailable, TLS_FAILURE, tls::explain::describe(error, authority, private_ca))
            }
            Self::NotHttp => (InvalidAnswer, NOT_HTTP, format!("{authority} does not answer in HTTP")),
            Self::HeadTooLarge => (
                InvalidAnswer,
                "HeaderTooLarge",
                format!("the header fields of the answer of {authority} are larger than {} KiB", MAX_HEAD >> 10),
            ),
            Self::UnknownCoding(name) => (
                InvalidAnswer,
                "BadEncoding",
                format!(
                    "the answer of {authority} has a Content-Encoding that was not asked for and is not known: {}",
                    text::clean(name, FOREIGN)
                ),
            ),
            Self::BadEncoding => {
                (InvalidAnswer, "BadEncoding", format!("the answer of {authority} cannot be decompressed"))
            }
            Self::TooLarge(limit) => {
                (InvalidAnswer, BODY_TOO_LARGE, format!("the answer of {authority} is larger than {limit} bytes"))
            }
            Self::TooSlow => (
                UpstreamUnavailable,
                "TooSlow",
                format!("the answer of {authority} comes too slowly: less than 16 KiB a second"),
            ),
            Self::Flooded(Flood::Informational) => (
                UpstreamUnavailable,
                "TooManyInformational",
                format!("{authority} sent more than {MAX_INFORMATIONAL} informational (1xx) responses and no answer"),
            ),
            Self::Flooded(Flood::Control | Flood::Quiet) => (
                UpstreamUnavailable,
                "Flooded",
                format!(
                    "the connection to {authority} was closed: the server kept sending data that is no part of an answer"
                ),
            ),
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

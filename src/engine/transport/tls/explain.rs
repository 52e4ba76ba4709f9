//! Failures of TLS in words for people: what is wrong with the certificate or the server, and what to do. Nothing of rustls' notation.

use rustls::{AlertDescription, CertificateError, Error, OtherError};

use crate::domain::text;

/// Longest foreign part of a message, in bytes.
const FOREIGN: usize = 256;
/// What ring verifies.
const SUPPORTED: &str = "supported are RSA (2048 bits and more), ECDSA with P-256 or P-384, and Ed25519; P-521 is not";

/// Why there is no TLS connection to `authority`.
pub(in crate::engine::transport) fn describe(error: &Error, authority: &str, private_ca: bool) -> String {
    let failed = |why: &str| format!("the TLS handshake with {authority} has failed: {why}");
    match error {
        Error::InvalidCertificate(error) => certificate(error, authority, private_ca),
        Error::InvalidMessage(_) => format!("{authority} does not speak TLS; check port and scheme of the endpoint"),
        Error::AlertReceived(alert) => failed(&self::alert(*alert)),
        Error::PeerIncompatible(_) => failed(
            "the server supports neither TLS 1.2 nor TLS 1.3 with a cipher suite and key exchange that are supported here",
        ),
        Error::PeerMisbehaved(_) | Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            failed("the server violates the protocol")
        }
        Error::NoCertificatesPresented => failed("the server has no certificate"),
        Error::NoApplicationProtocol => failed("the server supports neither HTTP/2 nor HTTP/1.1"),
        Error::PeerSentOversizedRecord => failed("the server sends records that are too large"),
        Error::DecryptError => {
            failed("what the server sent cannot be decrypted; something on the way may have changed it")
        }
        _ => failed("the server does not follow the protocol"),
    }
}

fn alert(alert: AlertDescription) -> String {
    use AlertDescription as A;
    let words = match alert {
        A::HandshakeFailure | A::InsufficientSecurity => {
            return format!(
                "the server finds nothing in common (alert handshake_failure); TLS 1.2 or 1.3 is needed, and of keys {SUPPORTED}"
            );
        }
        A::ProtocolVersion => "the server supports neither TLS 1.2 nor TLS 1.3",
        A::UnrecognisedName => {
            "the server does not know this host name; if it goes by another, give that in spec.tls.serverName"
        }
        A::CertificateRequired | A::BadCertificate | A::AccessDenied => {
            "the server wants a client certificate, which TaskWatch does not support"
        }
        A::NoApplicationProtocol => "the server supports neither HTTP/2 nor HTTP/1.1",
        A::InternalError => "the server has an internal error",
        A::CloseNotify | A::UserCanceled => "the server closes the connection",
        _ => "the server refuses it",
    };
    words.to_owned()
}

fn certificate(error: &CertificateError, authority: &str, private_ca: bool) -> String {
    use CertificateError as C;
    let the = |what: &str| format!("the certificate of {authority} {what}");
    match error {
        C::Expired | C::ExpiredContext { .. } => the("has expired"),
        C::NotValidYet | C::NotValidYetContext { .. } => the("is not valid yet"),
        C::UnknownIssuer | C::BadSignature if private_ca => the("is not from a CA in spec.tls.caBundle"),
        C::UnknownIssuer | C::BadSignature => {
            the("is from an unknown issuer; if that is a private CA, give the CA in spec.tls.caBundle")
        }
        C::NotValidForName => the("is for another name; if it is the right one, give it in spec.tls.serverName"),
        C::NotValidForNameContext { expected, presented } => {
            let presented: Vec<_> = presented.iter().map(|name| bare(name)).collect();
            let presented = match text::clean(&presented.join(", "), FOREIGN) {
                names if names.is_empty() => "no name".to_owned(),
                names => names,
            };
            the(&format!(
                "is for {presented}, not for {}; if it is the right one, give its name in spec.tls.serverName",
                expected.to_str()
            ))
        }
        C::BadEncoding => the("cannot be read"),
        C::Revoked => the("has been revoked"),
        C::UnhandledCriticalExtension => the("has a critical extension that is not supported"),
        #[allow(deprecated, reason = "it may still be given")]
        C::UnsupportedSignatureAlgorithm
        | C::UnsupportedSignatureAlgorithmContext { .. }
        | C::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            the(&format!("has a key or signature of an unsupported kind: {SUPPORTED}"))
        }
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => {
            the("is not for servers: its extended key usage lacks serverAuth")
        }
        C::Other(OtherError(cause)) => match cause.downcast_ref::<webpki::Error>() {
            Some(webpki::Error::CaUsedAsEndEntity) => the(
                "is that of a CA (basic constraints CA:TRUE) and not a server's; if it is the server's own, put exactly this certificate \
                 into spec.tls.caBundle",
            ),
            Some(webpki::Error::UnsupportedCertVersion) => the("is of X.509 version 1; version 3 is needed"),
            _ => the("is not valid"),
        },
        _ => the("is not valid"),
    }
}

/// A name without the notation in which rustls presents it: `DnsName("a.example")`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_told_by_what_the_server_means() {
        use AlertDescription as A;
        for (alert, told) in [
            (A::HandshakeFailure, "nothing in common"),
            (A::InsufficientSecurity, "nothing in common"),
            (A::ProtocolVersion, "neither TLS 1.2 nor TLS 1.3"),
            (A::UnrecognisedName, "spec.tls.serverName"),
            (A::CertificateRequired, "client certificate"),
            (A::BadCertificate, "client certificate"),
            (A::AccessDenied, "client certificate"),
            (A::NoApplicationProtocol, "neither HTTP/2 nor HTTP/1.1"),
            (A::InternalError, "internal error"),
            (A::CloseNotify, "closes the connection"),
            (A::UserCanceled, "closes the connection"),
            (A::DecodeError, "refuses it"),
        ] {
            let said = describe(&Error::AlertReceived(alert), "a.example:443", false);
            assert!(said.starts_with("the TLS handshake with a.example:443 has failed: the server"), "{said}");
            assert!(said.contains(told), "{alert:?}: {said}");
        }
    }
}

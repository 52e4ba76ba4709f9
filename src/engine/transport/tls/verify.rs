//! Verifies servers against a bundle: as `WebPKI` does, and beside that a server's own certificate that is in the bundle itself.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

use super::{Fingerprint, fingerprint};
use crate::tenancy::pool::Lease;

/// Verifies by `WebPKI`'s rules, but for the use of certificates that are trusted themselves.
#[derive(Debug)]
pub(super) struct Verifier {
    rules: Arc<WebPkiServerVerifier>,
    /// Of each certificate that is trusted; it would be most of what a verifier takes up.
    trusted: Vec<Fingerprint>,
    /// For what it takes up.
    _room: Lease,
}

impl Verifier {
    pub(super) fn new(rules: Arc<WebPkiServerVerifier>, trusted: Vec<Fingerprint>, room: Lease) -> Self {
        Self { rules, trusted, _room: room }
    }

    fn trusts(&self, certificate: &CertificateDer<'_>) -> bool {
        self.trusted.contains(&fingerprint(certificate))
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.rules.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // What a plain `openssl req -x509` makes is a CA's certificate; curl and Go take it for a server's where it is trusted byte for
            // byte. WebPKI comes to these errors only after it has checked the dates.
            Err(error) if is_about_the_issuer(&error) && self.trusts(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.rules.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.rules.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.rules.supported_verify_schemes()
    }
}

/// Whether a certificate was refused for who has issued it, or for being one that issues others.
fn is_about_the_issuer(error: &Error) -> bool {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => true,
        Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) => {
            matches!(cause.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
        }
        _ => false,
    }
}

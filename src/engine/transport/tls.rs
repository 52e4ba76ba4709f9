//! TLS settings of a connection. There is no way to switch verification off.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

use super::SettingsError;

/// How the server's certificate is verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsSettings {
    /// PEM certificates of the CAs that are trusted, and no others; none for those that Mozilla trusts.
    pub ca_bundle: Option<String>,
    /// The DNS name that the certificate must have, and that is asked for (SNI), in place of the endpoint's host. With it, HTTP/1.1
    /// is spoken, since in HTTP/2 the name and the request's authority could not differ.
    pub server_name: Option<String>,
}

/// What all TLS configurations have in common.
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
    public_roots: Arc<RootCertStore>,
}

impl Tls {
    pub(super) fn new() -> Result<Self, SettingsError> {
        let mut roots = RootCertStore::empty();
        let (good, _) = roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
        if good == 0 {
            return Err(SettingsError::Client("there are no root certificates".to_owned()));
        }
        Ok(Self { provider: Arc::new(rustls::crypto::ring::default_provider()), public_roots: Arc::new(roots) })
    }

    pub(super) fn config(&self, settings: &TlsSettings) -> Result<ClientConfig, SettingsError> {
        if let Some(name) = &settings.server_name {
            // An IP address would be dialled in place of the endpoint: reqwest resolves names only.
            let is_name = matches!(ServerName::try_from(name.as_str()), Ok(ServerName::DnsName(_)))
                && matches!(url::Host::parse(name), Ok(url::Host::Domain(host)) if host == *name);
            if !is_name {
                return Err(SettingsError::ServerName);
            }
        }
        let roots = match &settings.ca_bundle {
            Some(pem) => Arc::new(roots(pem).map_err(SettingsError::CaBundle)?),
            None => Arc::clone(&self.public_roots),
        };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| SettingsError::Client(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = match settings.server_name {
            Some(_) => vec![b"http/1.1".to_vec()],
            None => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        Ok(config)
    }
}

fn roots(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for (place, certificate) in CertificateDer::pem_slice_iter(pem.as_bytes()).enumerate() {
        let place = place + 1;
        let certificate = certificate.map_err(|_| format!("certificate {place} is not well-formed PEM"))?;
        roots.add(certificate).map_err(|_| format!("certificate {place} is not an X.509 certificate"))?;
    }
    if roots.is_empty() {
        return Err(
            "it holds no certificate; give the CA as PEM, which begins with -----BEGIN CERTIFICATE-----".to_owned()
        );
    }
    Ok(roots)
}

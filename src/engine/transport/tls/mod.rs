//! TLS settings of a connection. There is no way to switch verification off.

mod bundle;
pub(super) mod explain;
mod verify;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, Weak},
};

use bytes::Bytes;
use rustls::{
    ClientConfig, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{ServerName, TrustAnchor},
};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsConnector;
use tracing::warn;
use url::Host;

use super::SettingsError;
use crate::tenancy::{Tenant, pool::Pool};
use bundle::Bundle;
use verify::Verifier;

use crate::sync::lock;

/// How the server's certificate is verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsSettings {
    /// PEM certificates of the CAs that are trusted, and no others; none for those that Mozilla trusts. 64 KiB and 64 certificates at
    /// most.
    pub ca_bundle: Option<Bytes>,
    /// The DNS name that the certificate must have, and that is asked for (SNI), in place of the endpoint's host. With it, HTTP/1.1
    /// is spoken, since in HTTP/2 the name and the request's authority could not differ.
    pub server_name: Option<String>,
}

/// What stands for a bundle, or a certificate, of this content.
pub(super) type Fingerprint = [u8; 32];

/// What all TLS configurations have in common.
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
    public_roots: Arc<RootCertStore>,
    /// By content: read once, however many connections name it. Weak: one ends with the last channel that uses it.
    bundles: Mutex<HashMap<Fingerprint, Weak<Verifier>>>,
    /// What bundles take up is on the account of whose connection needed them first.
    room: Pool,
}

/// What stands for this content.
pub(super) fn fingerprint(content: &[u8]) -> Fingerprint {
    Sha256::digest(content).into()
}

impl Tls {
    pub(super) fn new(room: Pool) -> Result<Self, SettingsError> {
        let mut roots = RootCertStore::empty();
        let (good, _) = roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
        if good == 0 {
            return Err(SettingsError::Client("there are no root certificates".to_owned()));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(Self { provider, public_roots: Arc::new(roots), bundles: Mutex::default(), room })
    }

    /// How TLS is spoken to a host, for a connection of `tenant`.
    pub(super) fn connector(
        &self,
        tenant: &Tenant,
        settings: &TlsSettings,
        host: &Host,
    ) -> Result<(TlsConnector, ServerName<'static>), SettingsError> {
        let config = self.config(tenant, settings, host)?;
        let name = match (&settings.server_name, host) {
            (Some(name), _) => ServerName::try_from(name.clone()).map_err(|_| SettingsError::ServerName)?,
            (None, Host::Ipv4(ip)) => ServerName::from(IpAddr::V4(*ip)),
            (None, Host::Ipv6(ip)) => ServerName::from(IpAddr::V6(*ip)),
            // A certificate has no final dot.
            (None, Host::Domain(name)) => {
                ServerName::try_from(name.trim_end_matches('.').to_owned()).map_err(|_| SettingsError::Endpoint)?
            }
        };
        Ok((TlsConnector::from(Arc::new(config)), name))
    }

    fn config(&self, tenant: &Tenant, settings: &TlsSettings, host: &Host) -> Result<ClientConfig, SettingsError> {
        if let Some(name) = &settings.server_name {
            // An IP address has no place in SNI.
            let is_name = matches!(ServerName::try_from(name.as_str()), Ok(ServerName::DnsName(_)))
                && matches!(Host::parse(name), Ok(Host::Domain(host)) if host == *name);
            if !is_name {
                return Err(SettingsError::ServerName);
            }
        }
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| SettingsError::Client(error.to_string()))?;
        let builder = match &settings.ca_bundle {
            Some(pem) => {
                let verifier = self.verifier(tenant, pem, host)? as Arc<dyn ServerCertVerifier>;
                builder.dangerous().with_custom_certificate_verifier(verifier)
            }
            None => builder.with_root_certificates(Arc::clone(&self.public_roots)),
        };
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = match settings.server_name {
            Some(_) => vec![b"http/1.1".to_vec()],
            None => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        Ok(config)
    }

    /// What verifies by this bundle; `host` is who it is first needed for.
    fn verifier(&self, tenant: &Tenant, pem: &[u8], host: &Host) -> Result<Arc<Verifier>, SettingsError> {
        let fingerprint = fingerprint(pem);
        let mut bundles = lock(&self.bundles);
        if let Some(verifier) = bundles.get(&fingerprint).and_then(Weak::upgrade) {
            return Ok(verifier);
        }
        let Bundle { roots, certificates, skipped } = Bundle::read(pem).map_err(SettingsError::CaBundle)?;
        for what in skipped {
            warn!(%host, "a part of spec.tls.caBundle is skipped: {what}");
        }
        let mut room = self.room.lease(tenant);
        if !room.try_grow(roots.roots.iter().map(size).sum::<usize>() + certificates.len() * size_of::<Fingerprint>()) {
            return Err(SettingsError::NoRoom);
        }
        let rules = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider)).build();
        let rules = rules.map_err(|error| SettingsError::CaBundle(error.to_string()))?;
        let verifier = Arc::new(Verifier::new(rules, certificates, room));
        bundles.retain(|_, verifier| verifier.strong_count() > 0);
        bundles.insert(fingerprint, Arc::downgrade(&verifier));
        Ok(verifier)
    }

    /// How many bundles are in use.
    #[cfg(test)]
    pub(super) fn bundles(&self) -> usize {
        lock(&self.bundles).len()
    }
}

/// The bytes that an authority takes up.
fn size(authority: &TrustAnchor<'_>) -> usize {
    let constraints = authority.name_constraints.as_ref().map_or(0, |constraints| constraints.len());
    size_of::<TrustAnchor<'_>>() + authority.subject.len() + authority.subject_public_key_info.len() + constraints
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::Der;

    use super::*;

    #[test]
    fn an_authority_takes_what_all_its_parts_take() {
        let part = |bytes: &'static [u8]| Der::from_slice(bytes);
        let mut authority =
            TrustAnchor { subject: part(&[0; 200]), subject_public_key_info: part(&[0; 3000]), name_constraints: None };
        let own = size_of::<TrustAnchor<'_>>();
        assert_eq!(size(&authority), own + 3200);
        authority.name_constraints = Some(part(&[0; 40]));
        assert_eq!(size(&authority), own + 3240);
    }
}

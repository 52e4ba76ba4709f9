//! A certificate authority made at start, the listener's certificate from it, and the wrong ones that it can show instead.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::world::lock;

/// What stands in the way of a handshake.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Shown {
    /// Nothing.
    #[default]
    Right,
    /// The certificate ended in 2020.
    Expired,
    /// It is another host's.
    WrongName,
    /// It is of another CA.
    UnknownCa,
    /// What answers is not TLS.
    Garbage,
}

/// What TLS listeners need, and what their clients must trust.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) choice: Arc<Choice>,
}

/// The certificates, and which of them is shown now.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) ca_pem: String,
    shown: Mutex<Shown>,
    right: Arc<CertifiedKey>,
    expired: Arc<CertifiedKey>,
    wrong_name: Arc<CertifiedKey>,
    unknown_ca: Arc<CertifiedKey>,
}

impl Choice {
    pub(crate) fn shown(&self) -> Shown {
        *lock(&self.shown)
    }

    /// From the next handshake on.
    pub(crate) fn show(&self, shown: Shown) {
        *lock(&self.shown) = shown;
    }
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(match self.shown() {
            Shown::Right | Shown::Garbage => &self.right,
            Shown::Expired => &self.expired,
            Shown::WrongName => &self.wrong_name,
            Shown::UnknownCa => &self.unknown_ca,
        }))
    }
}

/// Makes them for these names, or for localhost and `ip`. With `ca_key`, the CA has the key in that file, which is written when it
/// is not there: who trusted this CA before trusts it again.
pub(crate) fn make(names: &[String], ip: IpAddr, shown: Shown, ca_key: Option<&Path>) -> Result<Tls, Error> {
    let fail = |e: rcgen::Error| Error::Tls(e.to_string());
    let (ca_pem, issuer) = authority("TaskWatch simulator CA", key(ca_key)?).map_err(fail)?;
    let (_, stranger) = authority("Another CA", KeyPair::generate().map_err(fail)?).map_err(fail)?;
    let names = if names.is_empty() { vec!["localhost".to_owned(), ip.to_string()] } else { names.to_vec() };
    let choice = Arc::new(Choice {
        ca_pem,
        shown: Mutex::new(shown),
        right: leaf(&names, &issuer, false)?,
        expired: leaf(&names, &issuer, true)?,
        wrong_name: leaf(&["another.invalid".to_owned()], &issuer, false)?,
        unknown_ca: leaf(&names, &stranger, false)?,
    });
    let resolver: Arc<dyn ResolvesServerCert> = Arc::<Choice>::clone(&choice);
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::Tls(e.to_string()))?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A resumed session would show no certificate.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(Tls { config: Arc::new(config), choice })
}

fn key(file: Option<&Path>) -> Result<KeyPair, Error> {
    let fail = |e: rcgen::Error| Error::Tls(e.to_string());
    let Some(file) = file else { return KeyPair::generate().map_err(fail) };
    let cannot = |e: std::io::Error| Error::Tls(format!("{}: {e}", file.display()));
    if file.exists() {
        return KeyPair::from_pem(&std::fs::read_to_string(file).map_err(cannot)?).map_err(fail);
    }
    let key = KeyPair::generate().map_err(fail)?;
    std::fs::write(file, key.serialize_pem()).map_err(cannot)?;
    Ok(key)
}

fn authority(name: &str, key: KeyPair) -> Result<(String, Issuer<'static, KeyPair>), rcgen::Error> {
    let mut ca = CertificateParams::new(Vec::<String>::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca.distinguished_name.push(DnType::CommonName, name);
    let pem = ca.self_signed(&key)?.pem();
    Ok((pem, Issuer::new(ca, key)))
}

fn leaf(names: &[String], issuer: &Issuer<'_, KeyPair>, expired: bool) -> Result<Arc<CertifiedKey>, Error> {
    let fail = |e: rcgen::Error| Error::Tls(e.to_string());
    let key = KeyPair::generate().map_err(fail)?;
    let mut leaf = CertificateParams::new(names).map_err(fail)?;
    leaf.distinguished_name.push(DnType::CommonName, "TaskWatch simulator");
    if expired {
        (leaf.not_before, leaf.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1));
    }
    let cert = leaf.signed_by(&key, issuer).map_err(fail)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = ring::sign::any_supported_type(&key).map_err(|e| Error::Tls(e.to_string()))?;
    Ok(Arc::new(CertifiedKey::new(vec![cert.der().clone()], key)))
}

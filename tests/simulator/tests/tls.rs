//! HTTPS with the CA that is given out.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use taskwatch_simulator::{Config, Error, Simulator};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::client::{exchange, host};

async fn over_tls(sim: &Simulator) -> std::io::Result<u16> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(sim.ca_pem().unwrap().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let connector = TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()));
    let stream = TcpStream::connect(host(sim)).await?;
    let stream = connector.connect(ServerName::try_from("127.0.0.1").unwrap(), stream).await?;
    Ok(exchange(stream, "GET", "/_admin/ca.pem", &[], "").await?.status)
}

#[tokio::test]
async fn its_ca_verifies_it() {
    let sim = Simulator::start(Config { tls: true, ..Config::default() }).await.unwrap();
    assert!(sim.url().starts_with("https://127.0.0.1:"));
    assert_eq!(over_tls(&sim).await.unwrap(), 200);
    sim.shutdown().await;
}

#[tokio::test]
async fn a_certificate_can_be_expired() {
    let sim = Simulator::start(Config { tls: true, tls_expired: true, ..Config::default() }).await.unwrap();
    assert!(over_tls(&sim).await.unwrap_err().to_string().contains("xpired"));
}

#[tokio::test]
async fn others_are_not_listened_to_by_default() {
    let open = Config { listen: ([0, 0, 0, 0], 0).into(), ..Config::default() };
    assert!(matches!(Simulator::start(open).await, Err(Error::NotLoopback(_))));
}

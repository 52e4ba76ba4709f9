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
    trusting(sim.ca_pem().unwrap(), sim).await
}

async fn trusting(ca_pem: &str, sim: &Simulator) -> std::io::Result<u16> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let connector = TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()));
    let host = sim.tls_url().map_or_else(|| host(sim), |url| url.trim_start_matches("https://"));
    let stream = TcpStream::connect(host).await?;
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
async fn what_a_handshake_shows_changes_while_it_runs() {
    let beside = Config { tls_listen: Some(([127, 0, 0, 1], 0).into()), ..Config::default() };
    let sim = Simulator::start(beside).await.unwrap();
    assert!(sim.url().starts_with("http://"));
    let show = async |what: &str| {
        let body = format!("{{\"certificate\":\"{what}\"}}");
        let stream = TcpStream::connect(host(&sim)).await.unwrap();
        assert_eq!(exchange(stream, "PUT", "/_admin/tls", &[], &body).await.unwrap().status, 200);
    };
    assert_eq!(over_tls(&sim).await.unwrap(), 200);
    for (what, said) in [
        ("expired", "Expired"),
        ("wrongName", "NotValidForName"),
        ("unknownCa", "UnknownIssuer"),
        ("garbage", "corrupt message"),
    ] {
        show(what).await;
        let error = over_tls(&sim).await.unwrap_err();
        assert!(format!("{error:?} {error}").contains(said), "{what}: {error:?}");
    }
    show("right").await;
    assert_eq!(over_tls(&sim).await.unwrap(), 200);
}

#[tokio::test]
async fn with_its_key_the_ca_is_the_same_at_the_next_start() {
    let file = std::env::temp_dir().join(format!("taskwatch-simulator-ca-{}.pem", std::process::id()));
    let config = || Config { tls: true, ca_key: Some(file.clone()), ..Config::default() };
    let first = Simulator::start(config()).await.unwrap().ca_pem().unwrap().to_owned();
    let second = Simulator::start(config()).await.unwrap();
    assert_eq!(trusting(&first, &second).await.unwrap(), 200);
    std::fs::remove_file(&file).unwrap();
}

#[tokio::test]
async fn others_are_not_listened_to_by_default() {
    let open = Config { listen: ([0, 0, 0, 0], 0).into(), ..Config::default() };
    assert!(matches!(Simulator::start(open).await, Err(Error::NotLoopback(_))));
}

use std::sync::atomic::Ordering::Relaxed;

use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::AsyncWrite;
use tokio_rustls::TlsAcceptor;

use super::*;

pub(super) struct Pki {
    ca: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

impl Pki {
    pub(super) fn new() -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "test CA");
        let ca = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
        Self { ca }
    }

    pub(super) fn trusted(&self) -> TlsSettings {
        TlsSettings { ca_bundle: Some(self.ca.pem().into()), server_name: None }
    }

    /// What a TLS server with a certificate for `name` needs.
    fn acceptor(&self, name: &str, expired: bool, alpn: &[&str]) -> TlsAcceptor {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        if expired {
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
            params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        }
        let certificate = params.signed_by(&key, &self.ca).unwrap();
        let mut config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(
                    vec![certificate.der().clone()],
                    PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
                )
                .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    /// A TLS server that answers with the head of the request.
    pub(super) async fn server(&self, name: &str, expired: bool, alpn: &[&str]) -> SocketAddr {
        let acceptor = self.acceptor(name, expired, alpn);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                let sni = stream.get_ref().1.server_name().unwrap_or_default().to_owned();
                tokio::spawn(answer_tls(stream, sni));
            }
        });
        address
    }
}

async fn answer_tls(mut stream: impl AsyncRead + AsyncWrite + Unpin, sni: String) {
    let head = head(&mut stream).await;
    let _ = stream.write_all(&http("200 OK", "", format!("sni={sni}\n{head}").as_bytes())).await;
    let _ = stream.shutdown().await;
}

async fn get_tls(url: &str, tls: &TlsSettings) -> Result<Answer, Failure> {
    sent(&open().channel(&tenant(), &url.parse().unwrap(), tls).unwrap(), outgoing(url)).await
}

#[tokio::test]
async fn the_certificate_is_verified_against_the_bundle() {
    let pki = Pki::new();
    let port = pki.server("localhost", false, &[]).await.port();
    let url = format!("https://localhost:{port}/");
    assert_eq!(get_tls(&url, &pki.trusted()).await.unwrap().status, StatusCode::OK);

    let unavailable = FailureClass::UpstreamUnavailable;
    let result = get_tls(&url, &TlsSettings::default()).await;
    assert_failure(
        result,
        unavailable,
        "TLSFailure",
        "unknown issuer; if that is a private CA, give the CA in spec.tls",
    );
    let result = get_tls(&url, &Pki::new().trusted()).await;
    assert_failure(result, unavailable, "TLSFailure", "not from a CA in spec.tls.caBundle");

    let result = get_tls(&format!("https://127.0.0.1:{port}/"), &pki.trusted()).await;
    assert_failure(result, unavailable, "TLSFailure", "is for localhost, not for 127.0.0.1;");

    let port = pki.server("localhost", true, &[]).await.port();
    let result = get_tls(&format!("https://localhost:{port}/"), &pki.trusted()).await;
    assert_failure(result, unavailable, "TLSFailure", "has expired");

    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = plain.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = plain.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(&http("400 Bad Request", "", b"")).await;
    });
    let result = get_tls(&format!("https://{address}/"), &pki.trusted()).await;
    assert_failure(result, unavailable, "TLSFailure", "does not speak TLS");
}

#[tokio::test]
async fn the_server_name_is_that_of_tls_only() {
    let pki = Pki::new();
    let port = pki.server("api.example.test", false, &["h2", "http/1.1"]).await.port();
    let tls = TlsSettings { server_name: Some("api.example.test".to_owned()), ..pki.trusted() };
    for host in ["127.0.0.1", "localhost"] {
        let answer = get_tls(&format!("https://{host}:{port}/tasks"), &tls).await.unwrap();
        let seen = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(seen.starts_with("sni=api.example.test\nget /tasks http/1.1\r\n"), "{seen}");
        assert!(seen.contains(&format!("\r\nhost: {host}:{port}\r\n")), "{seen}");
        // The guard judges the endpoint, whatever it calls itself.
        let channel =
            transport(&[], &[]).channel(&tenant(), &format!("https://{host}:{port}/").parse().unwrap(), &tls).unwrap();
        let result = sent(&channel, outgoing(&format!("https://{host}:{port}/tasks"))).await;
        assert_failure(result, FailureClass::UpstreamUnavailable, "EgressDenied", "not allowed");
    }
    // Another name than the certificate's is refused, as without one.
    let tls = TlsSettings { server_name: Some("other.example.test".to_owned()), ..pki.trusted() };
    let result = get_tls(&format!("https://127.0.0.1:{port}/"), &tls).await;
    assert_failure(result, FailureClass::UpstreamUnavailable, "TLSFailure", "spec.tls.serverName");
}

#[tokio::test]
async fn http2_is_spoken_where_it_is_offered_over_one_connection_for_all() {
    let pki = Pki::new();
    let acceptor = pki.acceptor("localhost", false, &["h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    let accepted = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&accepted);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Relaxed);
            let stream = acceptor.accept(stream).await.unwrap();
            let service = service_fn(async |request: http::Request<Incoming>| {
                let seen = format!("{:?} {}", request.version(), request.uri());
                Ok::<_, std::convert::Infallible>(http::Response::new(http_body_util::Full::<Bytes>::from(seen)))
            });
            tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service));
        }
    });
    let transport = open();
    let channel = || transport.channel(&tenant(), &url.parse().unwrap(), &pki.trusted()).unwrap();
    let keep = channel();
    assert_eq!(sent(&keep, outgoing(&url)).await.unwrap().body, format!("HTTP/2.0 {url}"));
    let answers = (0..20).map(|_| async { sent(&channel(), outgoing(&url)).await });
    for answer in futures::future::join_all(answers).await {
        assert_eq!(answer.unwrap().status, StatusCode::OK);
    }
    assert_eq!(accepted.load(Relaxed), 1);
}

/// A TLS server with this certificate and key that answers with the head of the request.
async fn server_with(certificate: &rcgen::Certificate, key: &rcgen::KeyPair) -> SocketAddr {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            tokio::spawn(answer_tls(stream, String::new()));
        }
    });
    address
}

/// What a plain `openssl req -x509` makes: a server's certificate that is its own CA.
fn self_signed(names: &[&str], key: &rcgen::KeyPair, expired: bool) -> rcgen::Certificate {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    if expired {
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    }
    params.self_signed(key).unwrap()
}

fn trusting(pem: String) -> TlsSettings {
    TlsSettings { ca_bundle: Some(pem.into()), server_name: None }
}

#[tokio::test]
async fn a_server_certificate_that_is_in_the_bundle_itself_is_accepted() {
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let certificate = self_signed(&["localhost"], &key, false);
        let port = server_with(&certificate, &key).await.port();
        let trusted = trusting(format!("# комментарий\r\n{}", certificate.pem()));
        assert!(get_tls(&format!("https://localhost:{port}/"), &trusted).await.is_ok(), "{algorithm:?}");
        // Its name counts all the same, and it vouches for no other certificate of its key.
        let result = get_tls(&format!("https://127.0.0.1:{port}/"), &trusted).await;
        assert_failure(result, FailureClass::UpstreamUnavailable, "TLSFailure", "is for localhost, not for 127.0.0.1");
        let other = self_signed(&["localhost", "other.test"], &key, false);
        let result = get_tls(&format!("https://localhost:{port}/"), &trusting(other.pem())).await;
        assert_failure(result, FailureClass::UpstreamUnavailable, "TLSFailure", "put exactly this certificate into");
    }
    let key = rcgen::KeyPair::generate().unwrap();
    let expired = self_signed(&["localhost"], &key, true);
    let port = server_with(&expired, &key).await.port();
    let result = get_tls(&format!("https://localhost:{port}/"), &trusting(expired.pem())).await;
    assert_failure(result, FailureClass::UpstreamUnavailable, "TLSFailure", "has expired");
    // One that another CA has issued may be trusted itself, too.
    let pki = Pki::new();
    let leaf = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &pki.ca).unwrap();
    let port = server_with(&leaf, &key).await.port();
    assert!(get_tls(&format!("https://localhost:{port}/"), &trusting(leaf.pem())).await.is_ok());
}

#[tokio::test]
async fn a_bundle_is_read_once_for_all_who_have_the_same() {
    let (transport, pki) = (open(), Pki::new());
    let channels: Vec<_> = (1..=50)
        .map(|port| {
            let tenant = Tenant::namespace(&Arc::from(format!("team-{port}")));
            transport.channel(&tenant, &format!("https://a.test:{port}").parse().unwrap(), &pki.trusted()).unwrap()
        })
        .collect();
    assert_eq!(transport.0.tls.bundles(), 1);
    drop(channels);
    let _other = transport.channel(&tenant(), &"https://a.test".parse().unwrap(), &Pki::new().trusted()).unwrap();
    assert_eq!(transport.0.tls.bundles(), 1);
}

#[tokio::test]
async fn bundles_take_up_no_more_than_a_tenants_share() {
    let (transport, pki) = (open(), Pki::new());
    let many = pki.ca.pem().repeat(64);
    let channel = |team: &str, port: usize, bundle: usize| {
        let endpoint = format!("https://a.test:{port}").parse().unwrap();
        transport.channel(&Tenant::namespace(&Arc::from(team)), &endpoint, &trusting(format!("# {bundle}\n{many}")))
    };
    let mut held: Vec<_> = (1..500).map_while(|n| channel("greedy", n, n).ok()).collect();
    assert!((10..100).contains(&held.len()), "{}", held.len());
    assert_eq!(channel("greedy", 500, 500).err(), Some(SettingsError::NoRoom));
    let _others = channel("modest", 500, 501).unwrap();
    held.push(channel("greedy", 500, 1).expect("what is there already takes up no more"));
    drop(held);
    channel("greedy", 500, 500).unwrap();
}

/// An HTTP/2 server that answers nothing and sends this frame for ever, once the client has sent its first bytes.
async fn flooding(pki: &Pki, frame: &'static [u8]) -> u16 {
    let acceptor = pki.acceptor("localhost", false, &["h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = acceptor.accept(stream).await.unwrap();
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 16_384]).await;
                let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
                let _ = stream.write_all(&settings).await;
                while stream.write_all(&frame.repeat(256)).await.is_ok() {}
            });
        }
    });
    port
}

#[tokio::test]
async fn http2_frames_without_an_answer_end_the_connection() {
    let pki = Pki::new();
    for frame in [
        &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8][..],
        &[0, 0, 0, 4, 0, 0, 0, 0, 0],
        &[0, 0, 5, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1],
        &[0, 0, 0, 0xfa, 0, 0, 0, 0, 0],
    ] {
        let port = flooding(&pki, frame).await;
        let result = get_tls(&format!("https://localhost:{port}/"), &pki.trusted()).await;
        assert_failure(result, FailureClass::UpstreamUnavailable, "Flooded", "no part of an answer");
    }
}

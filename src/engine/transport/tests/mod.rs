use std::{io::Write, net::SocketAddr, sync::atomic::AtomicUsize};

use flate2::{Compression, write::GzEncoder};
use http::HeaderValue;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{client::USER_AGENT, *};
use crate::{
    domain::failure::FailureClass,
    tenancy::{memory::Parts, usage::Usage},
};

mod faults;
mod floods;
mod held;
mod proxies;
mod tls;

const LIMIT: usize = 1000;
const SOON: Duration = Duration::from_millis(300);

fn transport(allowed: &[&str], api_server: &[SocketAddr]) -> Transport {
    let allowed = allowed.iter().map(|net| net.parse().unwrap()).collect();
    Transport::new(EgressPolicy::new(allowed, api_server.to_vec()), None, shares(64 << 20)).unwrap()
}

fn shares(bodies: usize) -> Shares {
    let parts = Parts { bodies, settings: 1 << 20, catalogues: 0, objects: 0 };
    Shares::new(parts, (f64::INFINITY, f64::INFINITY), Usage::default(), Instant::now())
}

fn tenant() -> Tenant {
    Tenant::namespace(&Arc::from("team-a"))
}

async fn sent(channel: &Channel, request: Outgoing) -> Result<Answer, Failure> {
    channel.send(request).await.map(|(answer, _)| answer)
}

fn open() -> Transport {
    transport(&["127.0.0.0/8", "::1/128"], &[])
}

fn outgoing(url: &str) -> Outgoing {
    Outgoing {
        method: Method::GET,
        url: url.parse().unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        body_limit: LIMIT,
        timeout: Duration::from_secs(5),
    }
}

async fn get_by(transport: &Transport, url: &str) -> Result<Answer, Failure> {
    let channel =
        transport.channel(&tenant(), &Url::parse(url).unwrap().join("/").unwrap(), &TlsSettings::default()).unwrap();
    sent(&channel, outgoing(url)).await
}

async fn get(url: &str) -> Result<Answer, Failure> {
    get_by(&open(), url).await
}

/// A server that reads the head of one request on each connection and then does as told.
async fn server<F, D>(does: F) -> SocketAddr
where
    F: Fn(TcpStream, String) -> D + Send + 'static,
    D: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let head = head(&mut stream).await;
            tokio::spawn(does(stream, head));
        }
    });
    address
}

async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).to_lowercase()
}

/// A server that always answers with these bytes and closes.
async fn answering(bytes: impl Into<Vec<u8>>) -> SocketAddr {
    let bytes = bytes.into();
    server(move |mut stream, _| {
        let bytes = bytes.clone();
        async move {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

fn http(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    answer
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[track_caller]
fn assert_failure(result: Result<Answer, Failure>, class: FailureClass, code: &str, says: &str) {
    let failure = result.unwrap_err();
    assert_eq!((failure.class, failure.code.as_str()), (class, code), "{failure}");
    assert!(failure.message.contains(says) || failure.advice().contains(says), "{failure} {}", failure.advice());
}

#[tokio::test]
async fn sends_what_it_is_given_and_reads_the_answer() {
    let address = server(|mut stream, head| async move {
        let mut body = [0; 4];
        stream.read_exact(&mut body).await.unwrap();
        let answer = format!("{head}{}", String::from_utf8_lossy(&body));
        stream.write_all(&http("201 Created", "X-Subject-Token: t\r\n", answer.as_bytes())).await.unwrap();
    })
    .await;
    let url = format!("http://{address}/v3/tasks/a%2Fb?limit=1&q=x%20y#fragment");
    let channel =
        open().channel(&tenant(), &format!("http://{address}").parse().unwrap(), &TlsSettings::default()).unwrap();
    let mut request = outgoing(&url);
    request.method = Method::POST;
    request.headers.insert("x-auth-token", HeaderValue::from_static("secret"));
    request.body = Bytes::from_static(b"ping");
    let answer = sent(&channel, request).await.unwrap();
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(answer.headers["x-subject-token"], "t");
    let sent = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(sent.starts_with("post /v3/tasks/a%2fb?limit=1&q=x%20y http/1.1\r\n"), "{sent}");
    for line in [&format!("host: {address}"), "x-auth-token: secret", "accept-encoding: gzip", "content-length: 4"] {
        assert!(sent.contains(&format!("{line}\r\n")), "{line}: {sent}");
    }
    assert!(sent.contains(&format!("user-agent: {USER_AGENT}\r\n")), "{sent}");
    assert!(sent.ends_with("ping"), "{sent}");
}

#[tokio::test]
async fn a_body_is_read_up_to_the_limit_and_no_further() {
    for (size, fits) in [(LIMIT, true), (LIMIT + 1, false)] {
        let body = vec![b'x'; size];
        let plain = get(&format!("http://{}", answering(http("200 OK", "", &body)).await)).await;
        let packed = http("200 OK", "Content-Encoding: gzip\r\n", &gzip(&body));
        let packed = get(&format!("http://{}", answering(packed).await)).await;
        for result in [plain, packed] {
            if fits {
                assert_eq!(result.unwrap().body, body);
            } else {
                assert_eq!(result.as_ref().unwrap_err().http_status, Some(200));
                assert_failure(result, FailureClass::InvalidAnswer, "TooLarge", "larger than 1000 bytes");
            }
        }
    }
}

#[tokio::test]
async fn a_gzip_bomb_is_not_unpacked() {
    let bomb = gzip(&vec![0; 200 << 20]);
    let start = Instant::now();
    let result = get(&format!("http://{}", answering(http("200 OK", "Content-Encoding: gzip\r\n", &bomb)).await)).await;
    assert_failure(result, FailureClass::InvalidAnswer, "TooLarge", "larger than");
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn an_endless_body_is_left() {
    let address = server(|mut stream, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    })
    .await;
    assert_failure(get(&format!("http://{address}")).await, FailureClass::InvalidAnswer, "TooLarge", "larger than");
}

#[tokio::test]
async fn of_an_error_with_a_large_body_the_status_is_kept() {
    let answer = http("429 Too Many Requests", "Retry-After: 30\r\n", &[b'x'; 5000]);
    let answer = get(&format!("http://{}", answering(answer).await)).await.unwrap();
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers["retry-after"], "30");
    assert_eq!(answer.body.len(), LIMIT);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let target = server(move |_, _| {
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        async {}
    })
    .await;
    let from = answering(http("302 Found", &format!("Location: http://{target}/\r\n"), b"")).await;
    assert_eq!(get(&format!("http://{from}")).await.unwrap().status, StatusCode::FOUND);
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test]
async fn slow_answers_run_into_the_time_out() {
    for (reply, status) in [("", None), ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", Some(200))] {
        let address = server(move |mut stream, _| async move {
            let _ = stream.write_all(reply.as_bytes()).await;
            tokio::time::sleep(Duration::from_mins(1)).await;
        })
        .await;
        let url = format!("http://{address}/");
        let channel = open().channel(&tenant(), &url.parse().unwrap(), &TlsSettings::default()).unwrap();
        let start = Instant::now();
        let result = sent(&channel, Outgoing { timeout: SOON, ..outgoing(&url) }).await;
        assert!(start.elapsed() < SOON * 5);
        assert_eq!(result.as_ref().unwrap_err().http_status, status);
        assert_failure(result, FailureClass::UpstreamUnavailable, "Timeout", "within 0.3 s");
    }
}

#[tokio::test]
async fn broken_connections_are_told_apart() {
    let unavailable = FailureClass::UpstreamUnavailable;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_failure(get(&format!("http://{free}")).await, unavailable, "ConnectionRefused", "refuses connections");

    // Closed with a request unread, the kernel sends a reset.
    let reset = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/tasks?token=secret", reset.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = reset.accept().await {
            stream.readable().await.unwrap();
            drop(stream);
        }
    });
    let failure = get(&url).await.unwrap_err();
    assert!(!failure.to_string().contains("secret") && !failure.to_string().contains("/v1"), "{failure}");
    assert_failure(Err(failure), unavailable, "ConnectionReset", "has broken the connection off");

    for (answer, class, code) in [
        (&b""[..], unavailable, "ConnectionReset"),
        (b"HTTP/1.1 200 OK\r\nContent-Len", unavailable, "ConnectionReset"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", unavailable, "ConnectionReset"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", FailureClass::InvalidAnswer, "NotHTTP"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 30\r\n\r\nthis is no gzip but plain text",
            FailureClass::InvalidAnswer,
            "BadEncoding",
        ),
    ] {
        let url = format!("http://{}", answering(answer).await);
        assert_failure(get(&url).await, class, code, "127.0.0.1:");
    }
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_a_failure_of_the_resolver() {
    let result = get("http://no-such-host.invalid/").await;
    assert_failure(result, FailureClass::UpstreamUnavailable, "DNSFailure", "the host of no-such-host.invalid:80");
}

#[tokio::test]
async fn the_guard_holds_for_addresses_and_for_names() {
    let address = answering(http("200 OK", "", b"")).await;
    let port = address.port();
    let (closed, open) = (transport(&[], &[]), open());
    let hosts = ["127.0.0.1", "localhost", "0x7f.1", "2130706433", "[::ffff:127.0.0.1]"];
    for host in hosts {
        let url = format!("http://{host}:{port}/");
        let result = get_by(&closed, &url).await;
        assert_failure(
            result,
            FailureClass::UpstreamUnavailable,
            "EgressDenied",
            "not allowed by the operator's egress policy",
        );
        assert_eq!(get_by(&open, &url).await.unwrap().status, StatusCode::OK, "{host}");
    }
    // The API server may not be asked, even where its network is allowed; another port of its machine may.
    let api_server = SocketAddr::new(address.ip(), port);
    for host in hosts {
        let url = format!("http://{host}:{port}/");
        let result = get_by(&transport(&["0.0.0.0/0", "::/0"], &[api_server]), &url).await;
        assert_failure(result, FailureClass::UpstreamUnavailable, "EgressDenied", "--allow-egress");
        let other = SocketAddr::new(address.ip(), port ^ 1);
        assert!(get_by(&transport(&["127.0.0.0/8", "::1/128"], &[other]), &url).await.is_ok());
    }
}

#[tokio::test]
async fn a_request_cannot_leave_its_endpoint() {
    let address = answering(http("200 OK", "", b"")).await;
    let channel =
        open().channel(&tenant(), &format!("http://{address}").parse().unwrap(), &TlsSettings::default()).unwrap();
    for url in [format!("https://{address}/"), "http://localhost/".to_owned(), "http://127.0.0.1:1/".to_owned()] {
        let result = sent(&channel, outgoing(&url)).await;
        assert_failure(result, FailureClass::InvalidRequest, "OtherHost", &address.to_string());
    }
}

#[tokio::test]
async fn the_same_endpoint_and_settings_share_a_channel_while_it_is_used() {
    let transport = open();
    let channel =
        |endpoint: &str, tls: &TlsSettings| transport.channel(&tenant(), &endpoint.parse().unwrap(), tls).unwrap();
    let plain = TlsSettings::default();
    let named = TlsSettings { server_name: Some("api.example.test".to_owned()), ..TlsSettings::default() };
    let one = channel("https://a.example/one", &plain);
    assert!(Arc::ptr_eq(&one.0, &channel("https://A.example:443/two", &plain).0));
    // Another tenant's is never the same.
    let foreign = Tenant::namespace(&Arc::from("team-b"));
    let foreign = transport.channel(&foreign, &"https://a.example".parse().unwrap(), &plain).unwrap();
    for other in [
        foreign,
        channel("https://a.example:444", &plain),
        channel("http://a.example", &plain),
        channel("https://b.example", &plain),
        channel("https://a.example", &named),
    ] {
        assert!(!Arc::ptr_eq(&one.0, &other.0));
    }
    drop(one);
    let _other = channel("https://c.example", &plain);
    assert_eq!(transport.0.channels.lock().unwrap().len(), 1);
}

#[test]
fn settings_that_cannot_be_used_are_refused_at_once() {
    let transport = open();
    let try_open =
        |endpoint: &str, tls: TlsSettings| transport.channel(&tenant(), &endpoint.parse().unwrap(), &tls).err();
    for endpoint in ["ftp://a.example", "https://user@a.example", "https://:pw@a.example", "https://a.example/?x=1"] {
        assert_eq!(try_open(endpoint, TlsSettings::default()), Some(SettingsError::Endpoint), "{endpoint}");
    }
    for name in ["", "10.0.0.1", "0x7f.1", "::1", "a b", "a.example:443", "*.example"] {
        let tls = TlsSettings { server_name: Some(name.to_owned()), ca_bundle: None };
        assert_eq!(try_open("https://a.example", tls), Some(SettingsError::ServerName), "{name}");
    }
    for (pem, says) in [
        ("", "holds no certificate"),
        ("garbage", "holds no certificate"),
        ("-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n", "certificate 1 is not well-formed PEM"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "certificate 1 is not an X.509 certificate"),
        (&"x".repeat(70_000), "at most 65536 are allowed"),
    ] {
        let tls = TlsSettings { ca_bundle: Some(Bytes::copy_from_slice(pem.as_bytes())), server_name: None };
        let error = try_open("https://a.example", tls).unwrap().to_string();
        assert!(error.starts_with("spec.tls.caBundle") && error.contains(says), "{error}");
    }
}

#[test]
fn debug_shows_no_credentials() {
    let mut request = outgoing("https://a.example/path?signature=secret");
    request.headers.insert("authorization", HeaderValue::from_static("Bearer secret"));
    request.body = Bytes::from_static(b"secret");
    let shown = format!("{request:?}");
    assert!(shown.contains("/path") && !shown.contains("secret"), "{shown}");
}

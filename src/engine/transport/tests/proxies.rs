//! Upstreams behind a proxy. A real one is asked in `tests/it/proxy.rs`.

use super::*;

/// A proxy that passes connections on to `to`, wherever they want, and tells what it was asked; refuses `refused.test`.
async fn proxy(to: SocketAddr) -> (UpstreamProxy, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    let address = server(move |mut stream, head| {
        let tell = tell.clone();
        async move {
            let refused = head.contains("refused.test");
            let connects = head.starts_with("connect ");
            tell.send(head.clone()).unwrap();
            if refused {
                let _ = stream.write_all(b"HTTP/1.1 403 Filtered\r\n\r\n").await;
                return;
            }
            let mut upstream = TcpStream::connect(to).await.unwrap();
            if connects {
                stream.write_all(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n").await.unwrap();
            } else {
                upstream.write_all(head.as_bytes()).await.unwrap();
            }
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut upstream).await;
        }
    })
    .await;
    (format!("http://user:word@{address}").parse().unwrap(), told)
}

fn through(proxy: UpstreamProxy, allow_http: bool) -> Transport {
    let policy = EgressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()], vec![]).with(vec![], allow_http);
    Transport::new(policy, Some(proxy), shares(64 << 20)).unwrap()
}

#[tokio::test]
async fn https_goes_through_a_tunnel_and_http_is_forwarded() {
    let pki = tls::Pki::new();
    let secure = pki.server("api.example.com", false, &["h2", "http/1.1"]).await;
    let (to, mut told) = proxy(secure).await;
    let transport = through(to.clone(), false);
    // Named `h2` by ALPN, which this server does not speak: HTTP/1.1 is for those with a server name.
    let tls = TlsSettings { server_name: Some("api.example.com".to_owned()), ..pki.trusted() };
    let url = "https://api.example.com/v1/tasks";
    let channel = transport.channel(&tenant(), &"https://api.example.com".parse().unwrap(), &tls).unwrap();
    let answer = sent(&channel, outgoing(url)).await.unwrap();
    assert!(String::from_utf8_lossy(&answer.body).contains("get /v1/tasks http/1.1\r\n"));
    assert!(!String::from_utf8_lossy(&answer.body).contains("proxy-authorization"));
    let head = told.recv().await.unwrap();
    assert!(head.starts_with("connect api.example.com:443 http/1.1\r\nhost: api.example.com:443\r\n"), "{head}");
    assert!(head.contains("proxy-authorization: basic "), "{head}");

    let plain = answering(http("200 OK", "", b"plain")).await;
    let (to, mut told) = proxy(plain).await;
    let answer = get_by(&through(to, true), "http://api.example.com:8080/v1?x=1").await.unwrap();
    assert_eq!(answer.body, "plain");
    let head = told.recv().await.unwrap();
    assert!(head.starts_with("get http://api.example.com:8080/v1?x=1 http/1.1\r\n"), "{head}");
    assert!(head.contains("proxy-authorization: basic ") && head.contains("host: api.example.com:8080\r\n"), "{head}");
}

#[tokio::test]
async fn the_policy_holds_through_a_proxy_as_far_as_it_can_be_told() {
    let (to, mut told) = proxy("127.0.0.1:9".parse().unwrap()).await;
    let unavailable = FailureClass::UpstreamUnavailable;
    let transport = through(to.clone(), false);
    for url in
        ["https://10.0.0.1/", "https://169.254.169.254/", "https://kubernetes.default.svc/", "https://kubernetes/"]
    {
        assert_failure(get_by(&transport, url).await, unavailable, "EgressDenied", "not allowed");
    }
    assert_failure(get_by(&transport, "http://api.example.com/").await, unavailable, "InsecureEndpoint", "https://");
    assert!(told.try_recv().is_err(), "the proxy was not asked");
    let result = get_by(&transport, "https://refused.test/").await;
    assert_failure(result, unavailable, "ProxyFailure", "refuses it with status 403");
    // What is excepted, and this machine, is reached directly.
    let address = answering(http("200 OK", "", b"direct")).await;
    assert_eq!(get_by(&transport, &format!("http://{address}/")).await.unwrap().body, "direct");
    let dead: UpstreamProxy = "http://127.0.0.1:9".parse().unwrap();
    let result = get_by(&through(dead, false), "https://api.example.com/").await;
    assert_failure(result, unavailable, "ProxyFailure", "the proxy cannot be reached");
}

#[tokio::test]
async fn http_to_another_machine_is_told_apart() {
    let transport = open();
    for (endpoint, insecure) in [
        ("http://127.0.0.1:1", false),
        ("http://localhost", false),
        ("http://[::1]", false),
        ("https://api.example.com", false),
        ("http://api.example.com", true),
        ("http://10.0.0.1", true),
    ] {
        let channel = transport.channel(&tenant(), &endpoint.parse().unwrap(), &TlsSettings::default()).unwrap();
        assert_eq!(channel.is_insecure(), insecure, "{endpoint}");
    }
}

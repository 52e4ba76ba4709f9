//! Servers that keep a connection busy without answering.

use super::*;

const UNAVAILABLE: FailureClass = FailureClass::UpstreamUnavailable;

/// A server that answers with `head` and then these bytes for ever.
async fn flooding(head: &'static str, flood: &'static str) -> SocketAddr {
    server(move |mut stream, _| async move {
        let _ = stream.write_all(head.as_bytes()).await;
        while stream.write_all(flood.repeat(64).as_bytes()).await.is_ok() {}
    })
    .await
}

/// Sends with a limit on the body and a time-out that none of these tests waits for.
async fn large(address: SocketAddr) -> Result<Answer, Failure> {
    let url = format!("http://{address}/");
    let channel = open().channel(&tenant(), &url.parse().unwrap(), &TlsSettings::default()).unwrap();
    sent(&channel, Outgoing { body_limit: 16 << 20, timeout: Duration::from_mins(5), ..outgoing(&url) }).await
}

#[tokio::test]
async fn endless_informational_heads_end_the_connection() {
    for flood in ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"] {
        assert_failure(large(flooding("", flood).await).await, UNAVAILABLE, "TooManyInformational", "more than 8");
    }
    let eight = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(8) + "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(large(answering(eight).await).await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn bytes_that_are_no_part_of_the_answer_end_the_connection() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (head, flood) in
        [("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", "extension"), (chunked, "1;a=b\r\n")]
    {
        let failure = large(flooding(head, flood).await).await.unwrap_err();
        assert!(["Flooded", "NotHTTP"].contains(&failure.code.as_str()), "{failure}");
    }
    // Two bytes of each seven are content, and there is an end: a wasteful server, no flood.
    let body = format!("{chunked}{}0\r\n\r\n", "2\r\nxx\r\n".repeat(50_000));
    assert_eq!(large(answering(body).await).await.unwrap().body.len(), 100_000);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_left_after_ten_seconds() {
    // The clock stands still while bytes are under way, and goes on when all wait.
    for (head, part, pause) in [
        ("HTTP/1.1 200 OK\r\n\r\n", vec![b'a'; 4 << 20], Duration::from_hours(1)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n", vec![b'a'; 10_000], Duration::from_secs(1)),
    ] {
        let address = server(move |mut stream, _| {
            let part = part.clone();
            async move {
                let _ = stream.write_all(head.as_bytes()).await;
                while stream.write_all(&part).await.is_ok() {
                    tokio::time::sleep(pause).await;
                }
            }
        })
        .await;
        let start = Instant::now();
        assert_failure(large(address).await, UNAVAILABLE, "TooSlow", "less than 16 KiB a second");
        assert!((10..22).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_small_body_may_be_late() {
    let address = server(|mut stream, _| async move {
        for part in ["HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", "te", "xt"] {
            let _ = stream.write_all(part.as_bytes()).await;
            tokio::time::sleep(Duration::from_mins(1)).await;
        }
    })
    .await;
    assert_eq!(large(address).await.unwrap().body, "text");
}

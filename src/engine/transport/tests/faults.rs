//! Answers whose body cannot be read.

use super::*;

/// An answer with a body in some coding.
fn coded(status: &str, coding: &str, body: &[u8]) -> Vec<u8> {
    http(status, &format!("Content-Encoding: {coding}\r\nRetry-After: 40\r\n"), body)
}

async fn answer_to(bytes: impl Into<Vec<u8>>) -> Result<Answer, Failure> {
    get(&format!("http://{}", answering(bytes).await)).await
}

#[tokio::test]
async fn an_error_keeps_status_and_header_fields_whatever_its_body_is() {
    let cut = b"HTTP/1.1 429 Busy\r\nContent-Length: 144\r\nRetry-After: 40\r\n\r\n".to_vec();
    let chunk = b"HTTP/1.1 429 Busy\r\nTransfer-Encoding: chunked\r\nRetry-After: 40\r\n\r\nzz\r\n".to_vec();
    for (bytes, code) in [
        (coded("429 Busy", "gzip", b"<html><body>busy</body></html>"), "BadEncoding"),
        (coded("429 Busy", "gzip", &gzip(b"busy")[..20]), "BadEncoding"),
        (coded("429 Busy", "br", b"busy"), "BadEncoding"),
        (cut, "ConnectionReset"),
        (chunk, "NotHTTP"),
    ] {
        let answer = answer_to(bytes).await.unwrap();
        let fault = answer.fault.unwrap();
        assert_eq!(
            (answer.status, &answer.headers["retry-after"]),
            (StatusCode::TOO_MANY_REQUESTS, &"40".parse().unwrap())
        );
        assert_eq!((fault.code.as_str(), fault.http_status), (code, Some(429)), "{fault}");
    }
    // Of a good answer nothing is left.
    let result = answer_to(coded("200 OK", "br", b"fine")).await;
    assert_failure(result, FailureClass::InvalidAnswer, "BadEncoding", "is not known: br");
    let slow = server(|mut stream, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 401 No\r\nContent-Length: 144\r\n\r\n").await;
        let _ = stream.read_u8().await;
    });
    let url = format!("http://{}/", slow.await);
    let channel = open().channel(&tenant(), &url.parse().unwrap(), &TlsSettings::default()).unwrap();
    let answer = sent(&channel, Outgoing { timeout: SOON, ..outgoing(&url) }).await.unwrap();
    assert_eq!((answer.status, answer.fault.unwrap().code.as_str()), (StatusCode::UNAUTHORIZED, "Timeout"));
}

#[tokio::test]
async fn codings_are_undone_and_empty_bodies_have_none() {
    for (coding, body) in
        [("X-GZip", gzip(b"text")), ("identity", b"text".to_vec()), ("gzip, GZIP", gzip(&gzip(b"text")))]
    {
        let answer = answer_to(coded("200 OK", coding, &body)).await.unwrap();
        assert_eq!((&answer.body[..], answer.fault), (&b"text"[..], None), "{coding}");
    }
    assert_eq!(answer_to(coded("204 No Content", "gzip", b"")).await.unwrap().body, "");
    assert_eq!(answer_to(coded("200 OK", "gzip", b"")).await.unwrap().body, "");
}

#[tokio::test]
async fn a_body_that_says_it_is_too_large_is_not_read() {
    let address = server(|mut stream, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n").await;
        let _ = stream.read_u8().await;
    })
    .await;
    assert_failure(
        get(&format!("http://{address}")).await,
        FailureClass::InvalidAnswer,
        "TooLarge",
        "larger than 1000",
    );
}

#[tokio::test]
async fn a_head_that_is_too_large_is_told() {
    let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
    (0..2_000).for_each(|number| head.extend(format!("X-Field-{number}: {}\r\n", "x".repeat(60)).bytes()));
    head.extend(b"\r\n");
    assert_failure(answer_to(head).await, FailureClass::InvalidAnswer, "HeaderTooLarge", "64 KiB");
}

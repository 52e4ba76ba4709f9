//! A way through an HTTP proxy to a host that speaks TLS (RFC 9110 §9.3.6).

use std::io;

use http::{HeaderValue, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use url::Host;

/// Longest head of a proxy's answer, in bytes.
const MAX_HEAD: usize = 8 << 10;

/// Why a proxy opens no way.
#[derive(Debug, thiserror::Error)]
pub(super) enum TunnelError {
    #[error("the proxy refuses it with status {0}")]
    Refused(StatusCode),
    #[error("the proxy does not answer in HTTP")]
    NotHttp,
    #[error("the proxy has closed the connection: {0}")]
    Io(#[from] io::Error),
}

/// Has the proxy on this connection open a way to a host; what is sent from then on goes there.
pub(super) async fn open(
    tcp: &mut TcpStream,
    host: &Host,
    port: u16,
    authorization: Option<&HeaderValue>,
) -> Result<(), TunnelError> {
    let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n").into_bytes();
    if let Some(value) = authorization {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    tcp.write_all(&request).await?;
    let mut head = Vec::new();
    // Byte by byte: what follows the head is no longer the proxy's.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_HEAD {
            return Err(TunnelError::NotHttp);
        }
        head.push(tcp.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let mut words = head.split_ascii_whitespace();
    let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
    match words.next().and_then(|status| status.parse().ok()) {
        Some(status) if is_http && StatusCode::is_success(&status) => Ok(()),
        Some(status) if is_http => Err(TunnelError::Refused(status)),
        _ => Err(TunnelError::NotHttp),
    }
}

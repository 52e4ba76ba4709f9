//! The few plain HTTP requests that the harness makes itself, to programs on 127.0.0.1.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const LIMIT: Duration = Duration::from_secs(10);

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    head: String,
}

impl Answer {
    /// The value of a header field.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(':'));
        fields.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }
}

/// Sends one request to `base` (`http://host:port`, any path in it is kept) and returns the status and the body.
///
/// # Errors
/// When there is no answer within ten seconds.
pub async fn request(method: &str, base: &str, path: &str, body: Option<&str>) -> Result<(u16, String)> {
    exchange(method, base, path, &[], body).await.map(|answer| (answer.status, answer.body))
}

/// As [`request`], with header fields.
pub(crate) async fn exchange(
    method: &str,
    base: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> Result<Answer> {
    let what = || format!("{method} {base}{path}");
    let answer = tokio::time::timeout(LIMIT, send(method, base, path, headers, body)).await;
    answer.with_context(what)?.with_context(what)
}

async fn send(method: &str, base: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Result<Answer> {
    let rest = base.strip_prefix("http://").context("only plain http is spoken here")?;
    let (address, prefix) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let prefix = prefix.trim_end_matches('/');
    let mut stream = TcpStream::connect(address).await?;
    let body = body.unwrap_or_default();
    let fields = headers.iter().fold(String::new(), |all, (name, value)| all + name + ": " + value + "\r\n");
    // HTTP/1.0: the answer comes in one piece and ends with the connection.
    let head = format!(
        "{method} {prefix}{path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\n{fields}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is no HTTP")?;
    let status =
        head.split_whitespace().nth(1).and_then(|code| code.parse().ok()).context("no status in the answer")?;
    Ok(Answer { status, body: body.to_owned(), head: head.to_owned() })
}

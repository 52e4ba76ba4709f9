//! HTTP/1.1 by hand: what comes over the wire is what is asserted.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use taskwatch_simulator::{Config, Simulator};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub const PROJECT: &str = "05041fffa40025702f6dc009cc6f8f33";
pub const INSTANCE: &str = "5f0c1a52-7f1e-4f36-9a41-0f0f6a1f4c11";
pub const ACCOUNT: &str = "9b1c7a34-3c2d-4f53-8e61-2d7a5b9c0e42";
const LIMIT: Duration = Duration::from_secs(20);

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The connection broke before the body was complete.
    pub broken: bool,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }
}

pub fn host(sim: &Simulator) -> &str {
    sim.url().split("//").nth(1).unwrap()
}

pub async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<Answer> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    if !headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("host")) {
        head += "Host: simulator\r\n";
    }
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).await?;
    let mut received = Vec::new();
    let read = timeout(LIMIT, stream.read_to_end(&mut received)).await.map_err(|_| io::ErrorKind::TimedOut)?;
    let Some(end) = received.windows(4).position(|w| w == b"\r\n\r\n") else {
        read?;
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    let text = String::from_utf8_lossy(&received[..end]).into_owned();
    let mut lines = text.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<(String, String)> =
        lines.filter_map(|l| l.split_once(": ")).map(|(k, v)| (k.to_ascii_lowercase(), v.to_owned())).collect();
    let raw = &received[end + 4..];
    let (body, complete) = if headers.iter().any(|(k, v)| k == "transfer-encoding" && v == "chunked") {
        dechunk(raw)
    } else {
        let length = headers.iter().find(|(k, _)| k == "content-length").map(|(_, v)| v.parse::<usize>().unwrap());
        (raw.to_vec(), length.is_none_or(|l| l == raw.len()))
    };
    Ok(Answer { status, headers, body, broken: !complete || read.is_err() })
}

fn dechunk(mut raw: &[u8]) -> (Vec<u8>, bool) {
    let mut out = Vec::new();
    while let Some(eol) = raw.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&raw[..eol]).unwrap_or("x"), 16).unwrap_or(0);
        raw = &raw[eol + 2..];
        if size == 0 {
            return (out, true);
        }
        out.extend_from_slice(&raw[..size.min(raw.len())]);
        raw = raw.get(size + 2..).unwrap_or_default();
    }
    (out, false)
}

pub async fn send(
    sim: &Simulator,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<Answer> {
    let stream = timeout(LIMIT, TcpStream::connect(host(sim))).await??;
    exchange(stream, method, target, headers, body).await
}

pub async fn get(sim: &Simulator, target: &str, headers: &[(&str, &str)]) -> Answer {
    send(sim, "GET", target, headers, "").await.unwrap()
}

pub async fn admin(sim: &Simulator, method: &str, path: &str, body: Value) -> Value {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let answer = send(sim, method, &format!("/_admin{path}"), &[], &text).await.unwrap();
    assert!((200..300).contains(&answer.status), "{method} {path}: {}", String::from_utf8_lossy(&answer.body));
    answer.json()
}

/// Three scopes, with every kind of credential, and one task each that is running.
pub fn scenario() -> Value {
    json!({
        "scopes": [
            {"provider": "huaweiCloud", "id": PROJECT, "name": "demo", "credentials": [
                {"kind": "token", "token": "hw"},
                {"kind": "password", "user": "u", "password": "p", "domain": "d"},
                {"kind": "accessKey", "accessKey": "AK", "secretKey": "SK"}]},
            {"provider": "huaweiCloud", "id": "other", "credentials": [{"kind": "token", "token": "hw-other"}]},
            {"provider": "cloudRu", "id": INSTANCE, "credentials": [
                {"kind": "token", "token": "cr"}, {"kind": "key", "keyId": "k", "secret": "s"}]},
            {"provider": "astraControl", "id": ACCOUNT, "credentials": [
                {"kind": "token", "token": "as"}, {"kind": "token", "token": "disabled", "denied": 14},
                {"kind": "oauth2", "clientId": "c", "clientSecret": "s", "scopes": ["read"]}]}
        ],
        "tasks": [
            {"provider": "huaweiCloud", "scope": PROJECT, "id": "job1",
             "steps": [{"state": "RUNNING", "entities": {"volume_id": "v"}}]},
            {"provider": "cloudRu", "scope": INSTANCE, "id": "t1", "steps": [{"state": "RUNNING"}]},
            {"provider": "astraControl", "scope": ACCOUNT, "id": "a1", "steps": [{"state": "running", "percent": 20.25}]},
            {"provider": "astraControl", "scope": ACCOUNT, "id": "a2", "parent": "a1", "orderHint": 2,
             "steps": [{"state": "notStarted"}]},
            {"provider": "astraControl", "scope": ACCOUNT, "id": "a3", "steps": [{"state": "completed"}]}
        ]
    })
}

pub async fn start() -> Simulator {
    Simulator::start(Config { scenario: Some(scenario().to_string()), ..Config::default() }).await.unwrap()
}

pub async fn astra(sim: &Simulator, rest: &str) -> Answer {
    get(sim, &format!("/accounts/{ACCOUNT}/core/v1/tasks{rest}"), &[("Authorization", "Bearer as")]).await
}

pub async fn huawei(sim: &Simulator, job: &str) -> Answer {
    get(sim, &format!("/v1/{PROJECT}/jobs/{job}"), &[("X-Auth-Token", "hw")]).await
}

pub async fn cloud_ru(sim: &Simulator, rest: &str) -> Answer {
    get(sim, &format!("/openshift/v1/{INSTANCE}/tasks{rest}"), &[("Authorization", "Bearer cr")]).await
}

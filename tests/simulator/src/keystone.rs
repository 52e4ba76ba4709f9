//! Asks a real OpenStack Keystone whether a token is good: `GET /v3/auth/tokens` with `X-Subject-Token` (OpenStack Identity API v3).
//! A token may validate itself, so no account of the simulator's own is needed.

use std::io;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::api::{Kind, Route};
use crate::http::{AuthOutcome, Request};
use crate::scenario::{Credential, Provider};
use crate::world::World;

/// A Keystone on a busy machine takes a second or two.
const LIMIT: Duration = Duration::from_secs(20);

/// What the Keystone of the request's scope says of its token; none where the scope names no Keystone, or there is no token.
pub(crate) async fn vouch(world: &World, request: &Request) -> Option<AuthOutcome> {
    let route = Route::of(request);
    let token = request.header("x-auth-token").filter(|_| route.kind == Kind::Task)?;
    let project = route.scope.as_deref()?;
    let spec = world.scope(Provider::HuaweiCloud, project)?.spec();
    let url = spec.credentials.iter().find_map(|credential| match credential {
        Credential::Keystone { url } => Some(url.as_str()),
        _ => None,
    })?;
    let answer = match timeout(LIMIT, ask(url, token)).await {
        Ok(answer) => answer,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    Some(match answer {
        Ok((200, body)) if of_project(&body) == Some(project) => AuthOutcome::Ok,
        Ok((200, _)) => AuthOutcome::OtherScope,
        // It does not tell an expired token from one that was revoked: the service that asks does not know either.
        Ok((401 | 403 | 404, _)) => AuthOutcome::Expired,
        Ok((status, body)) => {
            eprintln!("keystone: {url} answers {status}: {body}");
            AuthOutcome::Invalid
        }
        Err(error) => {
            eprintln!("keystone: {url}: {error}");
            AuthOutcome::Invalid
        }
    })
}

fn of_project(body: &Value) -> Option<&str> {
    body.pointer("/token/project/id")?.as_str()
}

/// HTTP/1.0: the answer comes in one piece and ends with the connection.
async fn ask(url: &str, token: &str) -> io::Result<(u16, Value)> {
    let bad = |what: &'static str| io::Error::new(io::ErrorKind::InvalidData, what);
    let rest = url.strip_prefix("http://").ok_or_else(|| bad("only plain http is spoken here"))?;
    let (address, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let mut stream = TcpStream::connect(address).await?;
    let head = format!(
        "GET {}/auth/tokens?nocatalog=true HTTP/1.0\r\nHost: {address}\r\nX-Auth-Token: {token}\r\nX-Subject-Token: {token}\r\n\r\n",
        path.trim_end_matches('/')
    );
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| bad("the answer is no HTTP"))?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| bad("no status"))?;
    Ok((status, serde_json::from_str(body).unwrap_or_default()))
}

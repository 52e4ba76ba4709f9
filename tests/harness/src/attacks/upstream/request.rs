//! What the operator sent: just enough of HTTP/1.1 to tell requests apart.

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The most that a request may have: the operator sends a few kilobytes.
const HEAD: usize = 64 << 10;
const BODY: usize = 256 << 10;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in super::super) enum Kind {
    /// One task.
    Get,
    /// All tasks of a scope.
    List,
    /// A token.
    Token,
}

/// A request.
#[derive(Clone, Debug)]
pub(in super::super) struct Request {
    pub(in super::super) kind: Kind,
    pub(in super::super) path: String,
    /// The account, project or service instance.
    pub(in super::super) scope: String,
    /// The task; empty but for [`Kind::Get`].
    pub(in super::super) id: String,
    headers: Vec<(String, String)>,
    pub(in super::super) body: String,
    /// How many requests for the same path came before.
    pub(in super::super) seen: u64,
    /// How many requests came before, for anything.
    pub(in super::super) ordinal: u64,
}

impl Request {
    /// The value of a header field; empty where there is none.
    pub(in super::super) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    /// The header fields as they came.
    pub(in super::super) fn dump(&self) -> String {
        self.headers.iter().fold(String::new(), |all, (name, value)| all + name + ": " + value + "\n")
    }

    /// The credential that came with it, as the header field has it.
    pub(in super::super) fn credential(&self) -> &str {
        match self.header("x-auth-token") {
            "" => self.header("authorization"),
            token => token,
        }
    }

    /// The text behind `Authorization: Basic`, decoded.
    pub(in super::super) fn basic(&self) -> String {
        let encoded = self.header("authorization").strip_prefix("Basic ").unwrap_or_default();
        let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default();
        String::from_utf8_lossy(&decoded).into_owned()
    }

    /// Reads one; none when the other side has closed the connection between two.
    pub(in super::super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<Self>> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            ensure!(bytes.len() < HEAD, "the head of a request is too long");
            if stream.read_buf(&mut bytes).await? == 0 {
                if bytes.is_empty() {
                    return Ok(None);
                }
                bail!("half a request");
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let mut first = lines.next().unwrap_or_default().split(' ');
        let (method, target) = (first.next().unwrap_or_default(), first.next().context("no target")?);
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        let mut request = Self::about(method, target);
        request.headers = headers;
        let length = request.header("content-length").parse().unwrap_or(0_usize);
        ensure!(length <= BODY, "the body of a request is too long");
        let mut body = bytes.split_off(end + 4);
        while body.len() < length {
            ensure!(stream.read_buf(&mut body).await? > 0, "half a body");
        }
        request.body = String::from_utf8_lossy(&body).into_owned();
        Ok(Some(request))
    }

    /// What a method and a target mean in the three APIs.
    pub(in super::super) fn about(method: &str, target: &str) -> Self {
        let path = target.split('?').next().unwrap_or_default().to_owned();
        let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let (kind, scope, id) = match (method, segments.as_slice()) {
            ("POST", _) => (Kind::Token, "", ""),
            (_, ["v1", project, "jobs", id] | ["openshift", "v1", project, "tasks", id]) => (Kind::Get, *project, *id),
            (_, ["accounts", account, "core", "v1", "tasks", id]) => (Kind::Get, *account, *id),
            (_, ["openshift", "v1", instance, "tasks"] | ["accounts", instance, "core", "v1", "tasks"]) => {
                (Kind::List, *instance, "")
            }
            (_, [.., last]) => (Kind::Get, "", *last),
            (_, []) => (Kind::Get, "", ""),
        };
        let (scope, id) = (scope.to_owned(), id.to_owned());
        Self { kind, path, scope, id, headers: Vec::new(), body: String::new(), seen: 0, ordinal: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_apis_are_told_apart() {
        let about = |method: &str, target: &str| {
            let request = Request::about(method, target);
            (request.kind, request.scope, request.id)
        };
        let own = |kind, scope: &str, id: &str| (kind, scope.to_owned(), id.to_owned());
        assert_eq!(about("GET", "/v1/p/jobs/j"), own(Kind::Get, "p", "j"));
        assert_eq!(about("GET", "/openshift/v1/s/tasks"), own(Kind::List, "s", ""));
        assert_eq!(about("GET", "/openshift/v1/s/tasks/t"), own(Kind::Get, "s", "t"));
        assert_eq!(about("GET", "/accounts/a/core/v1/tasks?limit=3"), own(Kind::List, "a", ""));
        assert_eq!(about("GET", "/accounts/a/core/v1/tasks/t"), own(Kind::Get, "a", "t"));
        assert_eq!(about("POST", "/v3/auth/tokens?nocatalog=true"), own(Kind::Token, "", ""));
    }

    #[tokio::test]
    async fn two_requests_on_one_connection_are_read_one_by_one() {
        let text = b"POST /t HTTP/1.1\r\nContent-Length: 4\r\nAuthorization: Basic YTpi\r\n\r\nabcd";
        let mut stream = &text[..];
        let request = Request::read(&mut stream).await.unwrap().unwrap();
        assert_eq!((request.kind, request.body.as_str(), request.basic().as_str()), (Kind::Token, "abcd", "a:b"));
        assert!(Request::read(&mut stream).await.unwrap().is_none());
    }
}

//! One connection: a request, an answer, and the end.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, StatusCode, Uri};
use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};
use rustix::event::PollFlags;

use super::{
    Answer,
    places::{Guest, Stage},
};

/// How long a client may take to close after its answer. Closing first, with something of it unread, would take the answer from it.
const LINGER: Duration = Duration::from_secs(1);
/// How much of what a client sends after its request is read and thrown away.
const LINGER_BYTES: usize = 64 << 10;
/// More header fields are not read.
const MAX_FIELDS: usize = 64;

/// A connection with its place in the protocol. One request is answered; further ones are not.
pub(super) struct Exchange {
    stream: TcpStream,
    max_head: usize,
    deadline: Instant,
    state: State,
}

enum State {
    Asking { head: Vec<u8> },
    Answering { parts: [Bytes; 2] },
    Answered { left: usize },
    Closed,
}

impl Guest for Exchange {
    fn stage(&self) -> Stage {
        match self.state {
            State::Asking { .. } => Stage::Asking,
            State::Answering { .. } => Stage::Answering,
            State::Answered { .. } | State::Closed => Stage::Answered,
        }
    }
}

impl Exchange {
    /// `stream` must not block. The head of the request may have `max_head` bytes and must be there by `deadline`.
    pub(super) fn new(stream: TcpStream, max_head: usize, deadline: Instant) -> Self {
        Self { stream, max_head, deadline, state: State::Asking { head: Vec::new() } }
    }

    /// When it has to be over.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What to wait for.
    pub(super) fn interest(&self) -> PollFlags {
        if matches!(self.state, State::Answering { .. }) { PollFlags::OUT } else { PollFlags::IN }
    }

    /// What it is to be polled by.
    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Goes as far as it can without waiting. `answer_time` is how long the answer may take to be read. False when it is over.
    pub(super) fn go(&mut self, answer: &dyn Fn(&str) -> Answer, answer_time: Duration) -> bool {
        loop {
            let more = match self.state {
                State::Asking { .. } => self.ask(answer, answer_time),
                State::Answering { .. } => self.answer(),
                State::Answered { .. } => self.linger(),
                State::Closed => return false,
            };
            if !more {
                return !matches!(self.state, State::Closed);
            }
        }
    }

    /// Reads of the request what is there. True when that changed something.
    fn ask(&mut self, answer: &dyn Fn(&str) -> Answer, answer_time: Duration) -> bool {
        let State::Asking { head } = &mut self.state else { return false };
        let mut part = [0; 1024];
        let count = match self.stream.read(&mut part) {
            Ok(0) => return self.close(),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => return true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(_) => return self.close(),
        };
        // The blank line may have begun in what came before.
        let seen = head.len().saturating_sub(3);
        head.extend_from_slice(&part[..count]);
        let parsed = if ends(&head[seen..]) {
            parse(&head[..head.len().min(self.max_head)])
        } else if head.len() < self.max_head {
            return true;
        } else {
            Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
        };
        let (body_wanted, page) = match parsed {
            Ok((method, path)) if method == Method::GET || method == Method::HEAD => {
                (method == Method::GET, answer(&path))
            }
            Ok(_) => (true, Answer::text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served\n")),
            Err(status) => (true, Answer::text(status, "the request cannot be read\n")),
        };
        let body = if body_wanted { page.body.clone() } else { Bytes::new() };
        self.state = State::Answering { parts: [head_of(&page).into(), body] };
        self.deadline = Instant::now() + answer_time;
        true
    }

    fn answer(&mut self) -> bool {
        let State::Answering { parts } = &mut self.state else { return false };
        let Some(part) = parts.iter_mut().find(|part| !part.is_empty()) else {
            if self.stream.shutdown(Shutdown::Write).is_err() {
                return self.close();
            }
            self.state = State::Answered { left: LINGER_BYTES };
            self.deadline = Instant::now() + LINGER;
            return true;
        };
        match self.stream.write(part) {
            Ok(0) => self.close(),
            Ok(count) => {
                drop(part.split_to(count));
                true
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(_) => self.close(),
        }
    }

    fn linger(&mut self) -> bool {
        let State::Answered { left } = &mut self.state else { return false };
        match self.stream.read(&mut [0; 1024]) {
            Ok(count) if count > 0 && count <= *left => {
                *left -= count;
                true
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            _ => self.close(),
        }
    }

    /// What goes wrong with a single client is no news.
    fn close(&mut self) -> bool {
        self.state = State::Closed;
        false
    }
}

/// Whether the blank line that ends a head is in `text`.
fn ends(text: &[u8]) -> bool {
    text.windows(2).any(|pair| pair == b"\n\n") || text.windows(3).any(|three| three == b"\n\r\n")
}

/// Method and path of a request.
fn parse(head: &[u8]) -> Result<(Method, String), StatusCode> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        Err(_) => return Err(StatusCode::BAD_REQUEST),
    }
    let method = request.method.and_then(|method| method.parse().ok()).ok_or(StatusCode::BAD_REQUEST)?;
    let target: Uri = request.path.and_then(|path| path.parse().ok()).ok_or(StatusCode::BAD_REQUEST)?;
    Ok((method, target.path().to_owned()))
}

/// The head of an answer. The connection ends with it: nobody keeps a place by being idle.
fn head_of(answer: &Answer) -> String {
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now()).unwrap_or_default();
    let allow = if answer.status == StatusCode::METHOD_NOT_ALLOWED { "allow: GET, HEAD\r\n" } else { "" };
    format!(
        "HTTP/1.1 {}\r\ndate: {date}\r\ncontent-type: {}\r\ncontent-length: {}\r\n{allow}connection: close\r\n\r\n",
        answer.status,
        answer.content_type,
        answer.body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_its_method_and_its_path() {
        let read = |text: &str| parse(text.as_bytes()).map(|(method, path)| format!("{method} {path}"));
        assert_eq!(read("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap(), "GET /healthz");
        assert_eq!(read("HEAD /healthz?verbose=1 HTTP/1.0\n\n").unwrap(), "HEAD /healthz");
        assert_eq!(read("GET http://h:1/metrics HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n").unwrap(), "GET /metrics");
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_FIELDS + 1));
        assert_eq!(read(&many), Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
        for bad in ["", "GET", "GET / HTTP/9.9\r\n\r\n", "\u{16}\u{3}\u{1}\r\n\r\n", "GET  / HTTP/1.1\r\n\r\n"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_blank_line_is_seen_in_either_form() {
        assert!(ends(b"a: b\r\n\r\n") && ends(b"a: b\n\n") && ends(b"a\n\r\nmore"));
        assert!(!ends(b"a: b\r\nc") && !ends(b"\r\n\r"));
    }
}

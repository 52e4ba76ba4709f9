//! One connection: a request, an answer, and the end.

use std::{
    io::ErrorKind,
    net::{IpAddr, TcpStream},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::StatusCode;
use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};
use rustix::event::PollFlags;

use super::{
    Answer, Desk, Reply,
    later::Pending,
    places::{Guest, Stage},
    request::Request,
    stream::Stream,
};

/// How long a client may take to close after its answer. Closing first, with something of it unread, would take the answer from it.
const LINGER: Duration = Duration::from_secs(1);
/// How much of what a client sends after its request is read and thrown away.
const LINGER_BYTES: usize = 64 << 10;
/// How long an answer may be waited for that is given later: longer than whoever gives it takes at most.
const PATIENCE: Duration = Duration::from_secs(8);

/// A connection with its place in the protocol. One request is answered; further ones are not.
pub(super) struct Exchange {
    stream: Stream,
    peer: IpAddr,
    deadline: Instant,
    state: State,
}

enum State {
    Asking { head: Vec<u8> },
    Waiting { answer: Pending, wants_body: bool },
    Answering { parts: [Bytes; 2] },
    Answered { left: usize },
    Closed,
}

impl Guest for Exchange {
    fn stage(&self) -> Stage {
        match self.state {
            State::Asking { .. } => Stage::Asking,
            State::Waiting { .. } => Stage::Waiting,
            State::Answering { .. } => Stage::Answering,
            State::Answered { .. } | State::Closed => Stage::Answered,
        }
    }
}

impl Exchange {
    /// The head of the request must be there by `deadline`.
    pub(super) fn new(stream: Stream, peer: IpAddr, deadline: Instant) -> Self {
        Self { stream, peer, deadline, state: State::Asking { head: Vec::new() } }
    }

    /// When it has to be over.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What to wait for; nothing where others than the client are waited for.
    pub(super) fn interest(&self) -> PollFlags {
        match self.state {
            State::Asking { .. } => self.stream.interest(),
            State::Waiting { .. } => PollFlags::empty(),
            State::Answering { .. } => PollFlags::OUT,
            State::Answered { .. } | State::Closed => PollFlags::IN,
        }
    }

    /// What it is to be polled by.
    pub(super) fn socket(&self) -> &TcpStream {
        self.stream.socket()
    }

    /// Whether the answer is there that it has waited for.
    pub(super) fn is_given(&self) -> bool {
        matches!(&self.state, State::Waiting { answer, .. } if answer.is_given())
    }

    /// Goes as far as it can without waiting. False when it is over.
    pub(super) fn go(&mut self, desk: &Desk) -> bool {
        loop {
            let more = match &self.state {
                State::Asking { .. } => self.ask(desk),
                State::Waiting { answer, wants_body } => {
                    let (given, wants_body) = (answer.take(), *wants_body);
                    given.is_some_and(|answer| self.begin_answer(&answer, wants_body, desk.limits.answer))
                }
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
    fn ask(&mut self, desk: &Desk) -> bool {
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
        let max_head = desk.limits.head;
        let parsed = if ends(&head[seen..]) {
            Request::parse(&head[..head.len().min(max_head)], self.peer, &desk.waker)
        } else if head.len() < max_head {
            return true;
        } else {
            Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
        };
        let (wants_body, reply) = match parsed {
            Ok(request) => (request.wants_body, (desk.answer)(&request)),
            Err(status @ StatusCode::METHOD_NOT_ALLOWED) => (true, Answer::text(status, "only GET is served\n").into()),
            Err(status) => (true, Answer::text(status, "the request cannot be read\n").into()),
        };
        match reply {
            Reply::Now(answer) => self.begin_answer(&answer, wants_body, desk.limits.answer),
            Reply::Later(answer) => {
                self.state = State::Waiting { answer, wants_body };
                self.deadline = Instant::now() + PATIENCE;
                true
            }
        }
    }

    fn begin_answer(&mut self, answer: &Answer, wants_body: bool, time: Duration) -> bool {
        let body = if wants_body { answer.body.clone() } else { Bytes::new() };
        self.state = State::Answering { parts: [head_of(answer).into(), body] };
        self.deadline = Instant::now() + time;
        true
    }

    fn answer(&mut self) -> bool {
        let State::Answering { parts } = &mut self.state else { return false };
        let Some(part) = parts.iter_mut().find(|part| !part.is_empty()) else {
            return match self.stream.finish() {
                Ok(()) => {
                    self.state = State::Answered { left: LINGER_BYTES };
                    self.deadline = Instant::now() + LINGER;
                    true
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => false,
                Err(_) => self.close(),
            };
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
        match self.stream.discard(&mut [0; 1024]) {
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

/// The head of an answer. The connection ends with it: nobody keeps a place by being idle.
fn head_of(answer: &Answer) -> String {
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now()).unwrap_or_default();
    let more = match answer.status {
        StatusCode::METHOD_NOT_ALLOWED => "allow: GET, HEAD\r\n",
        StatusCode::UNAUTHORIZED => "www-authenticate: Bearer\r\n",
        StatusCode::TOO_MANY_REQUESTS => "retry-after: 1\r\n",
        _ => "",
    };
    format!(
        "HTTP/1.1 {}\r\ndate: {date}\r\ncontent-type: {}\r\ncontent-length: {}\r\n{more}connection: close\r\n\r\n",
        answer.status,
        answer.content_type,
        answer.body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_blank_line_is_seen_in_either_form() {
        assert!(ends(b"a: b\r\n\r\n") && ends(b"a: b\n\n") && ends(b"a\n\r\nmore"));
        assert!(!ends(b"a: b\r\nc") && !ends(b"\r\n\r"));
    }
}

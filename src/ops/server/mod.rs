//! A small HTTP server that cannot be held up: for probes and metrics, each on a thread of its own without a runtime. An answer that takes
//! time is given later, by others (`later`).
//!
//! One request a connection, each within its time. There is a fixed number of places, and nobody waits for one: the next that comes
//! takes it from who has the least to lose by it (`places`). Whose request is there has its answer before that: it is looked at once more
//! before its place is taken.

mod certificate;
mod exchange;
mod later;
mod places;
mod request;
mod stream;

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::StatusCode;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

pub use self::certificate::CertificateFiles;
use self::{
    certificate::Certificate,
    exchange::Exchange,
    later::{Alarm, Waker},
    places::{Bounds, Guest, Places, Stage},
    stream::Stream,
};
pub(super) use self::{later::Pending, request::Request};
use crate::tenancy::{Tenant, ceiling::Ceiling};

/// Connections that the kernel keeps until they are accepted; it may have a lower bound of its own (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;
/// So many are accepted before those that are open are looked at again.
const BURST: usize = 128;
/// How long nothing is accepted when that has failed, as when there are no more file descriptors.
const PAUSE: Duration = Duration::from_millis(50);
/// Most TLS handshakes a second, which cost far more than what they protect; of all peers, who share them fairly.
const HANDSHAKES: f64 = 100.0;
/// How long answers under way may take to end after the stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// What a port takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections at a time, of all peers and of one.
    connections: Bounds,
    /// How long a request may take to arrive.
    request: Duration,
    /// How long its answer may take to be read.
    answer: Duration,
    /// Largest head of a request, in bytes.
    head: usize,
    /// Connections accepted a second, on average; more wait in the kernel's queue. None: no bound.
    rate: Option<u32>,
}

impl Limits {
    /// For probes: a request has 2 s for everything, and as many connections are accepted as come, since one of them is the kubelet's.
    pub(super) fn probes(files: u64) -> Self {
        Self {
            connections: share(files, 512, 128),
            request: Duration::from_secs(2),
            answer: Duration::from_secs(2),
            head: 4096,
            rate: None,
        }
    }

    /// For metrics: fewer, and no more than a thousand a second, so that a flood costs little time of the processor.
    pub(super) fn metrics(files: u64) -> Self {
        Self {
            connections: share(files, 64, 16),
            request: Duration::from_secs(5),
            answer: Duration::from_secs(15),
            head: 8192,
            rate: Some(1000),
        }
    }
}

/// At most an eighth of the file descriptors of the process.
fn share(files: u64, total: usize, per_peer: usize) -> Bounds {
    let eighth = usize::try_from(files / 8).unwrap_or(usize::MAX).max(8);
    let total = total.min(eighth);
    Bounds { total, per_peer: per_peer.min(total / 2) }
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
}

impl Answer {
    /// Plain text.
    pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: text.into() }
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Reply {
    /// It is answered.
    Now(Answer),
    /// It will be.
    Later(Pending),
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self::Now(answer)
    }
}

/// A port that is served; until this is stopped or dropped.
#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    // The thread sees this end when it goes.
    stop: UnixStream,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    /// Serves `address` (port 0: a free one) on a thread of the name `name`: `answer` is asked with each GET and HEAD. With TLS where there
    /// is a certificate.
    ///
    /// # Errors
    /// The address cannot be bound, the certificate cannot be used, or the thread cannot be made.
    pub(super) fn start(
        name: &'static str,
        address: SocketAddr,
        limits: Limits,
        certificate: Option<CertificateFiles>,
        answer: impl Fn(&Request) -> Reply + Send + 'static,
    ) -> io::Result<Self> {
        let now = Instant::now();
        let certificate =
            certificate.map(|files| Certificate::load(files, now)).transpose().map_err(io::Error::other)?;
        let scheme = if certificate.is_some() { "https" } else { "http" };
        let listener = bind(address)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = UnixStream::pair()?;
        let (waker, alarm) = Waker::new()?;
        let desk = Desk { limits, answer: Box::new(answer), waker };
        let handshakes = Ceiling::new(HANDSHAKES, f64::INFINITY, now.into());
        let tls = certificate.map(|certificate| Tls { certificate, handshakes });
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let port = Port { places: Places::new(limits.connections), desk, tls, alarm, at: now };
            port.serve(listener, &stopped);
        })?;
        tracing::info!(%address, scheme, "serving {name}");
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops it; answers under way may end, for a second at most. Blocks for as long.
    pub(super) fn stop(mut self) {
        let thread = self.thread.take();
        drop(self);
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("a thread that served metrics or probes had died");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.shutdown(std::net::Shutdown::Both);
    }
}

/// Binds `address`; `[::]` becomes `0.0.0.0` where the machine has no IPv6.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).or_else(|error| {
        // The kind for "address family not supported" has no name yet; an address in use must stay an error.
        let other = matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied);
        if other || !address.is_ipv6() || !address.ip().is_unspecified() {
            return Err(error);
        }
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port()))
    })?;
    // The standard library's queue is short: where it is full, a client tries again after a second only.
    rustix::net::listen(&listener, BACKLOG)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Where requests are answered.
struct Desk {
    limits: Limits,
    answer: Box<dyn Fn(&Request) -> Reply + Send>,
    waker: Waker,
}

struct Tls {
    certificate: Certificate,
    handshakes: Ceiling,
}

struct Port {
    desk: Desk,
    tls: Option<Tls>,
    /// Rings when an answer has been given.
    alarm: Alarm,
    places: Places<IpAddr, Exchange>,
    /// Nothing is accepted before this time.
    at: Instant,
}

impl Port {
    /// Until `stopped` ends; then what is being answered, for a second.
    fn serve(mut self, listener: TcpListener, stopped: &UnixStream) {
        while !self.turn(Some((&listener, stopped)), None) {}
        drop(listener);
        let end = Instant::now() + STOP_TIMEOUT;
        loop {
            self.places.retain(|_, exchange| matches!(exchange.stage(), Stage::Answering | Stage::Waiting));
            if self.places.iter().next().is_none() || Instant::now() >= end {
                return;
            }
            self.turn(None, Some(end));
        }
    }

    /// Waits for something to happen, until `end` at most, and deals with it. True when it is to stop.
    fn turn(&mut self, open: Option<(&TcpListener, &UnixStream)>, end: Option<Instant>) -> bool {
        let (listener, stopped) = open.unzip();
        let now = Instant::now();
        let is_open = now >= self.at;
        let open = listener.filter(|_| is_open);
        let mut waits: Vec<_> = self.places.iter().map(|one| PollFd::new(one.socket(), one.interest())).collect();
        let count = waits.len();
        waits.extend(open.map(|listener| PollFd::new(listener, PollFlags::IN)));
        waits.extend(stopped.map(|stopped| PollFd::new(stopped, PollFlags::IN)));
        waits.push(PollFd::new(self.alarm.stream(), PollFlags::IN));
        let first = self.places.iter().map(Exchange::deadline).min();
        let wake = first.into_iter().chain((!is_open).then_some(self.at)).chain(end).min();
        let limit = wake.and_then(|at| Timespec::try_from(at.saturating_duration_since(now)).ok());
        if let Err(error) = poll(&mut waits, limit.as_ref())
            && error != Errno::INTR
        {
            // It cannot be, unless the kernel is out of memory.
            thread::sleep(PAUSE);
        }
        let happened: Vec<bool> = waits.iter().map(|wait| !wait.revents().is_empty()).collect();
        drop(waits);
        let at = |index: usize| happened.get(index).copied().unwrap_or_default();
        if at(happened.len() - 1) {
            // Before the answers are looked for: one that is given from now on rings again.
            self.alarm.reset();
        }
        let (desk, now) = (&self.desk, Instant::now());
        self.places.retain(|index, exchange| {
            let may_stay = match (at(index), exchange.stage()) {
                (_, Stage::Waiting) if exchange.is_given() => exchange.go(desk),
                // Nothing was asked for but whether the client is still there.
                (true, Stage::Waiting) => false,
                (true, _) => exchange.go(desk),
                (false, _) => true,
            };
            may_stay && exchange.deadline() > now
        });
        if let Some(listener) = open
            && at(count)
        {
            self.accept(listener);
        }
        stopped.is_some() && at(count + usize::from(open.is_some()))
    }

    /// Accepts those who wait, up to a number.
    fn accept(&mut self, listener: &TcpListener) {
        for _ in 0..BURST {
            match listener.accept() {
                Ok((stream, from)) => self.enter(stream, from.ip().to_canonical()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                Err(_) => {
                    // As when there are no more file descriptors: one of ours may help.
                    if self.places.iter().next().is_some() {
                        drop(self.places.remove(0));
                    }
                    self.at = Instant::now() + PAUSE;
                    return;
                }
            }
            if !self.may_go_on() {
                return;
            }
        }
    }

    /// Takes one from the rate. What was not used is saved up, for two seconds.
    fn may_go_on(&mut self) -> bool {
        let Some(rate) = self.desk.limits.rate else { return true };
        let now = Instant::now();
        let saved = now.checked_sub(Duration::from_secs(2)).unwrap_or(now);
        // `at` runs behind the present by what is saved up.
        self.at = self.at.max(saved) + Duration::from_secs(1) / rate;
        self.at <= now
    }

    fn enter(&mut self, stream: TcpStream, peer: IpAddr) {
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        let now = Instant::now();
        let stream = match &mut self.tls {
            None => Stream::plain(stream),
            Some(Tls { certificate, handshakes }) => {
                let tenant = Tenant::namespace(&peer.to_string().into());
                if handshakes.take(&tenant, now.into()).is_err() {
                    return;
                }
                let Ok(stream) = Stream::secured(stream, certificate.current(now)) else { return };
                stream
            }
        };
        let mut exchange = Exchange::new(stream, peer, now + self.desk.limits.request);
        // Mostly the request is there already.
        if !exchange.go(&self.desk) {
            return;
        }
        while let Some(at) = self.places.victim(peer) {
            let desk = &self.desk;
            let asks_now =
                |one: &mut Exchange| one.stage() == Stage::Asking && one.go(desk) && one.stage() != Stage::Asking;
            // One whose request has come just now has its answer, and who has the least to lose is looked for again.
            if !self.places.get_mut(at).is_some_and(asks_now) {
                drop(self.places.remove(at));
            }
        }
        self.places.push(peer, exchange);
    }
}

#[cfg(test)]
mod tests;

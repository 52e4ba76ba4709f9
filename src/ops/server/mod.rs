//! A small HTTP server that cannot be held up: for probes and metrics, each on a thread of its own without a runtime.
//!
//! One request a connection, each within its time. There is a fixed number of places, and nobody waits for one: the next that comes
//! takes it from who has the least to lose by it (`places`). Whose request is there has its answer before that: it is looked at once more
//! before its place is taken.

mod exchange;
mod places;

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

use self::{
    exchange::Exchange,
    places::{Bounds, Guest, Places, Stage},
};

/// Connections that the kernel keeps until they are accepted; it may have a lower bound of its own (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;
/// So many are accepted before those that are open are looked at again.
const BURST: usize = 128;
/// How long nothing is accepted when that has failed, as when there are no more file descriptors.
const PAUSE: Duration = Duration::from_millis(50);
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

/// A port that is served; until this is stopped or dropped.
#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    // The thread sees this end when it goes.
    stop: UnixStream,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    /// Serves `address` (port 0: a free one) on a thread of the name `name`: `answer` is asked with the path of each GET and HEAD.
    ///
    /// # Errors
    /// The address cannot be bound, or the thread cannot be made.
    pub(super) fn start(
        name: &'static str,
        address: SocketAddr,
        limits: Limits,
        answer: impl Fn(&str) -> Answer + Send + 'static,
    ) -> io::Result<Self> {
        let listener = bind(address)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = UnixStream::pair()?;
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let now = Instant::now();
            let port = Port { limits, answer: Box::new(answer), places: Places::new(limits.connections), at: now };
            port.serve(listener, &stopped);
        })?;
        tracing::info!(%address, "serving {name}");
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

struct Port {
    limits: Limits,
    answer: Box<dyn Fn(&str) -> Answer + Send>,
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
            self.places.retain(|_, exchange| exchange.stage() == Stage::Answering);
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
        let mut waits: Vec<_> = self.places.iter().map(|one| PollFd::new(one.stream(), one.interest())).collect();
        let count = waits.len();
        waits.extend(open.map(|listener| PollFd::new(listener, PollFlags::IN)));
        waits.extend(stopped.map(|stopped| PollFd::new(stopped, PollFlags::IN)));
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
        let (limits, answer, now) = (self.limits, &*self.answer, Instant::now());
        self.places
            .retain(|index, exchange| (!at(index) || exchange.go(answer, limits.answer)) && exchange.deadline() > now);
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
        let Some(rate) = self.limits.rate else { return true };
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
        let mut exchange = Exchange::new(stream, self.limits.head, Instant::now() + self.limits.request);
        // Mostly the request is there already.
        if !exchange.go(&*self.answer, self.limits.answer) {
            return;
        }
        while let Some(at) = self.places.victim(peer) {
            let (answer, time) = (&*self.answer, self.limits.answer);
            let asks_now = |one: &mut Exchange| {
                one.stage() == Stage::Asking && one.go(answer, time) && one.stage() != Stage::Asking
            };
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

//! The listener: connections, TLS, the way of a request through faults, API and log.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Response, header};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::api::Route;
use crate::clock::seconds_to_ms;
use crate::faults::Action;
use crate::http::{Client, Reply, Request, ResetFlag, SimBody};
use crate::records::Entry;
use crate::tls::{Shown, Tls};
use crate::world::World;
use crate::{admin, keystone, mangle};

const HANDSHAKE: Duration = Duration::from_secs(10);
const READ_REQUEST: Duration = Duration::from_secs(30);
const MAX_REQUEST: usize = 64 << 20;
/// What a server says in the place of TLS: the port is another program's.
const GARBAGE: &[u8] = b"220 mail.invalid ESMTP\r\n\x00\x01\x02\xff\xfe";
const MAX_HANG: Duration = Duration::from_secs(3600);

/// Who does not read for so long is gone. Longer than any client should wait for an answer.
const WRITE: Duration = Duration::from_secs(60);

/// A TCP stream that can end in a reset, and does so when its client has stopped reading.
struct Stream {
    inner: TcpStream,
    flag: ResetFlag,
    /// Until when the client must read something, while it does not.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Stream {
    fn check(&self) -> io::Result<()> {
        if self.flag.is_raised() { Err(io::Error::from(io::ErrorKind::ConnectionReset)) } else { Ok(()) }
    }

    /// Gives up a write that has waited for too long.
    fn bounded(&mut self, written: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(WRITE)));
        ready!(stalled.as_mut().poll(cx));
        self.flag.raise();
        Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut)))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.flag.is_raised() {
            // A close without lingering is a reset. If that cannot be had, a close must do.
            let _ = self.inner.set_zero_linger();
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.bounded(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.bounded(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        ready!(Pin::new(&mut self.inner).poll_shutdown(cx))?;
        Poll::Ready(Ok(()))
    }
}

/// Accepts until told to stop; then open connections are dropped with the tasks that serve them.
pub(crate) async fn serve(world: Arc<World>, listener: TcpListener, tls: Option<Tls>, mut stop: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = connection(Arc::clone(&world), stream, peer, tls.clone());
                let mut stop = stop.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = connection => {}
                        _ = stop.changed() => {}
                    }
                });
            }
            // Out of sockets, most likely: let some end first.
            Err(error) => {
                eprintln!("accept: {error}");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(world: Arc<World>, stream: TcpStream, peer: SocketAddr, tls: Option<Tls>) {
    let number = world.records.accepted.fetch_add(1, Ordering::Relaxed) + 1;
    world.records.open.up();
    let _ = stream.set_nodelay(true);
    let flag = ResetFlag::default();
    let mut stream = Stream { inner: stream, flag: flag.clone(), stalled: None };
    let service = {
        let world = Arc::clone(&world);
        let client = Client { connection: number, address: peer.ip() };
        service_fn(move |request| handle(Arc::clone(&world), request, client, flag.clone()))
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(Some(Duration::from_secs(300)));
    builder.http2().timer(TokioTimer::new());
    // How a client's connection ends is the client's affair, unless somebody debugs the simulator.
    match tls {
        Some(tls) if tls.choice.shown() == Shown::Garbage => drop(stream.write_all(GARBAGE).await),
        None => drop(builder.serve_connection(TokioIo::new(stream), service).await),
        Some(tls) => match timeout(HANDSHAKE, TlsAcceptor::from(tls.config).accept(stream)).await {
            Ok(Ok(stream)) => drop(builder.serve_connection(TokioIo::new(stream), service).await),
            Ok(Err(error)) => eprintln!("TLS handshake with {peer}: {error}"),
            Err(_) => eprintln!("TLS handshake with {peer}: no answer within 10 s"),
        },
    }
    world.records.open.down();
}

async fn handle(
    world: Arc<World>,
    request: hyper::Request<Incoming>,
    client: Client,
    flag: ResetFlag,
) -> io::Result<Response<SimBody>> {
    let (parts, body) = request.into_parts();
    let body = timeout(READ_REQUEST, Limited::new(body, MAX_REQUEST).collect()).await;
    let body = match body {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) => {
            let reply = Reply::new(413, "text/plain; charset=utf-8", format!("{error}\n"));
            let body = SimBody::plain(reply.body.clone());
            return Ok(reply.into_response(body));
        }
        Err(_) => return Err(io::Error::from(io::ErrorKind::TimedOut)),
    };
    let mut request = Request {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        authority: parts.uri.authority().map(ToString::to_string),
        body,
        client,
        vouched: None,
    };
    if request.path.starts_with("/_admin") {
        let reply = admin::answer(&world, &request);
        let body = SimBody::plain(reply.body.clone());
        return Ok(reply.into_response(body));
    }
    let route = Route::of(&request);
    let in_flight = InFlight::new(Arc::clone(&world), route.scope.clone());
    request.vouched = keystone::vouch(&world, &request).await;
    let result = simulate(&world, &request, &route, in_flight.of_scope, &flag).await;
    drop(in_flight);
    result
}

/// Counts a request while it is worked on, also when the client gives up.
struct InFlight {
    world: Arc<World>,
    scope: Option<String>,
    /// How many of its scope there are, with it.
    of_scope: u64,
}

impl InFlight {
    fn new(world: Arc<World>, scope: Option<String>) -> Self {
        world.records.in_flight.up();
        let of_scope = scope.as_deref().map_or(0, |scope| world.records.enter(scope));
        Self { world, scope, of_scope }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.world.records.in_flight.down();
        if let Some(scope) = &self.scope {
            self.world.records.leave(scope);
        }
    }
}

async fn simulate(
    world: &World,
    request: &Request,
    route: &Route,
    in_flight: u64,
    flag: &ResetFlag,
) -> io::Result<Response<SimBody>> {
    let now = world.clock.now_ms();
    let hit = world.faults.meet(route, request.method.as_str(), &request.path, &request.query, now);
    let entry = Entry {
        seq: 0,
        time_ms: now,
        method: request.method.to_string(),
        path: request.path.clone(),
        query: request.query.clone(),
        route: route.label(),
        scope: route.scope.clone(),
        status: 0,
        auth: "notChecked",
        faults: hit.ids.clone(),
        retry_after: None,
        bytes: 0,
        connection: request.client.connection,
        peer: request.client.address,
        in_flight,
    };
    if let Some(Action::Hang { seconds }) = &hit.action {
        world.records.note(entry);
        let time = Duration::from_millis(u64::try_from(seconds_to_ms(*seconds)).unwrap_or(0)).min(MAX_HANG);
        sleep(time).await;
        return Err(io::Error::from(io::ErrorKind::TimedOut));
    }
    let reply = mangle::reply(world, request, route, hit.action.as_ref());
    let retry_after = reply.headers.iter().find(|(k, _)| k.eq_ignore_ascii_case("retry-after")).map(|(_, v)| v.clone());
    let reset = matches!(hit.action, Some(Action::Reset { after_bytes: None }));
    world.records.note(Entry {
        status: if reset { 0 } else { reply.status },
        auth: reply.auth.word(),
        retry_after,
        bytes: reply.body.len() as u64,
        ..entry
    });
    // The request counts when it arrives, so the log is written before the delay.
    if hit.headers_ms > 0 {
        sleep(Duration::from_millis(hit.headers_ms).min(MAX_HANG)).await;
    }
    let mut response = mangle::response(reply, &hit, flag)?;
    response.headers_mut().insert(header::SERVER, header::HeaderValue::from_static("taskwatch-simulator"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_stops_reading_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let flag = ResetFlag::default();
        let inner = listener.accept().await.unwrap().0;
        let mut stream = Stream { inner, flag: flag.clone(), stalled: None };
        let more_than_any_buffer = vec![0; 64 << 20];
        let written = timeout(2 * WRITE, stream.write_all(&more_than_any_buffer)).await.unwrap();
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(flag.is_raised());
    }
}

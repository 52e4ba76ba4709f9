//! `/metrics`, `/healthz` and `/readyz`, on a thread and a runtime of their own: the probes must not wait behind the work.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    health::Health,
    metrics::{CONTENT_TYPE, Metrics},
};

/// How long a client may take to send the head of a request, or be idle between two.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest life of a connection; it ends the ones that read their answer too slowly, too.
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(5);
/// Most connections at a time; more wait.
const MAX_CONNECTIONS: usize = 64;
/// Largest head of a request, in bytes (the least that hyper takes).
const MAX_HEAD: usize = 8192;
/// How long answers under way may take to end after the stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// The server; it stops when this is dropped.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<thread::JoinHandle<()>>,
}

impl Admin {
    /// Serves on `address` (port 0: a free one) until the answer is stopped or dropped.
    ///
    /// # Errors
    /// The address cannot be bound, or the thread cannot be made.
    pub fn serve(address: SocketAddr, health: Health, metrics: Metrics) -> io::Result<Self> {
        let listener = bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = thread::Builder::new().name("admin".to_owned()).spawn(move || {
            runtime.block_on(async {
                match TcpListener::from_std(listener) {
                    Ok(listener) => accept(listener, Arc::new(Pages { health, metrics }), stopped).await,
                    Err(error) => tracing::error!(%error, "cannot serve metrics and probes"),
                }
            });
        })?;
        tracing::info!(%address, "listening");
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops it; answers under way may end, for a second at most. Blocks for as long.
    pub fn stop(mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of metrics and probes had died");
        }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Binds `address`; `[::]` becomes `0.0.0.0` where the machine has no IPv6.
fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    std::net::TcpListener::bind(address).or_else(|error| {
        // The kind for "address family not supported" has no name yet; an address in use must stay an error.
        let other = matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied);
        if other || !address.is_ipv6() || !address.ip().is_unspecified() {
            return Err(error);
        }
        std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port()))
    })
}

async fn accept(listener: TcpListener, pages: Arc<Pages>, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        tokio::select! {
            () = stop.cancelled() => break,
            // Ended ones are taken out as they end.
            Some(_) = connections.join_next() => {}
            (slot, accepted) = accepted => match (slot, accepted) {
                (Ok(slot), Ok((stream, _))) => {
                    let (pages, stop) = (Arc::clone(&pages), stop.clone());
                    connections.spawn(async move {
                        serve(stream, pages, stop).await;
                        drop(slot);
                    });
                }
                // As when there are no more file descriptors: it passes.
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            },
        }
    }
    drop(listener);
    let _ = tokio::time::timeout(STOP_TIMEOUT, async { while connections.join_next().await.is_some() {} }).await;
}

async fn serve(stream: tokio::net::TcpStream, pages: Arc<Pages>, stop: CancellationToken) {
    let service = service_fn(move |request: Request<Incoming>| {
        // The body is not read: hyper closes the connection of one who sends a large one.
        let answer = pages.answer(request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // What goes wrong with a single client is no news.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = tokio::time::sleep(CONNECTION_TIMEOUT) => {}
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(STOP_TIMEOUT, connection).await;
}

struct Pages {
    health: Health,
    metrics: Metrics,
}

impl Pages {
    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut answer = page(StatusCode::METHOD_NOT_ALLOWED, "only GET is served\n".to_owned());
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match path {
            "/healthz" => probe(self.health.live()),
            "/readyz" => probe(self.health.ready()),
            "/metrics" => {
                let mut answer = page(StatusCode::OK, self.metrics.render());
                answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
                answer
            }
            _ => page(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n".to_owned()),
        }
    }
}

fn probe(result: Result<(), String>) -> Response<Full<Bytes>> {
    match result {
        Ok(()) => page(StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => page(StatusCode::SERVICE_UNAVAILABLE, reason + "\n"),
    }
}

fn page(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpStream,
    };

    use super::*;

    fn start(health: &Health) -> Admin {
        Admin::serve("127.0.0.1:0".parse().unwrap(), health.clone(), Metrics::new()).unwrap()
    }

    fn ask(admin: &Admin, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(admin.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn serves_metrics_and_probes() {
        let health = Health::with_limit(Duration::from_secs(5));
        let caches = health.readiness("caches");
        let admin = start(&health);

        let metrics = ask(&admin, "GET", "/metrics");
        assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
        assert!(metrics.contains(CONTENT_TYPE) && metrics.contains("taskwatch_build_info"), "{metrics}");

        let not_ready = ask(&admin, "GET", "/readyz");
        assert!(not_ready.starts_with("HTTP/1.1 503") && not_ready.contains("waiting for: caches"), "{not_ready}");
        caches.done();
        assert!(ask(&admin, "GET", "/readyz").starts_with("HTTP/1.1 200"));
        assert!(ask(&admin, "HEAD", "/healthz").starts_with("HTTP/1.1 200"));
        assert!(ask(&admin, "POST", "/healthz").starts_with("HTTP/1.1 405"));
        assert!(ask(&admin, "GET", "/").starts_with("HTTP/1.1 404"));
    }

    #[test]
    fn a_silent_work_loop_fails_the_liveness_probe() {
        let admin = start(&Health::with_limit(Duration::ZERO));
        std::thread::sleep(Duration::from_millis(5));
        assert!(ask(&admin, "GET", "/healthz").starts_with("HTTP/1.1 503"));
    }

    #[test]
    fn a_head_that_is_too_large_is_refused() {
        let admin = start(&Health::default());
        assert!(ask(&admin, "GET", &format!("/{}", "a".repeat(2 * MAX_HEAD))).starts_with("HTTP/1.1 4"));
    }

    #[test]
    fn stops_soon_even_with_an_idle_client() {
        let admin = start(&Health::default());
        let address = admin.address();
        let _idle = TcpStream::connect(address).unwrap();
        let start = std::time::Instant::now();
        admin.stop();
        assert!(start.elapsed() < Duration::from_secs(4));
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn an_address_in_use_is_an_error() {
        let admin = start(&Health::default());
        assert!(Admin::serve(admin.address(), Health::default(), Metrics::new()).is_err());
    }
}

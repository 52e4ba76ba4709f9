//! What is served to the cluster: `/metrics` and `/debug/connections` on one port, `/healthz` and `/readyz` on another, so that whoever floods the one, which
//! others than the kubelet must reach, does not touch the other.

use std::{io, net::SocketAddr};

use http::StatusCode;

use super::{
    health::Health,
    limits::open_files,
    pages::Pages,
    server::{Answer, Limits, Request, Server},
};

pub use super::server::CertificateFiles;

/// More of what a probe says is cut off, in bytes.
const MAX_REASON: usize = 1024;

/// Both ports; they are served until this is dropped.
#[derive(Debug)]
pub struct Admin {
    metrics: Server,
    probes: Server,
}

impl Admin {
    /// Serves `pages` on one address, with TLS where there is a certificate, and probes on the other (port 0: a free one) until the answer is
    /// stopped or dropped.
    ///
    /// # Errors
    /// An address cannot be bound, the certificate cannot be used, or a thread cannot be made: which one, in a sentence.
    pub fn serve(
        http: SocketAddr,
        probe: SocketAddr,
        health: Health,
        pages: Pages,
        certificate: Option<CertificateFiles>,
    ) -> io::Result<Self> {
        let files = open_files();
        let say = |what: &str, at: SocketAddr| {
            let what = format!("cannot serve {what} at {at}");
            move |error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"))
        };
        // The probes first: where both are given the same port, it is theirs.
        let probe_page = move |request: &_| probe_page(&health, request).into();
        let probes =
            Server::start("probes", probe, Limits::probes(files), None, probe_page).map_err(say("probes", probe))?;
        let metrics =
            Server::start("metrics", http, Limits::metrics(files), certificate, move |request| pages.reply(request))
                .map_err(say("metrics", http))?;
        Ok(Self { metrics, probes })
    }

    /// Where metrics are served.
    #[must_use]
    pub fn http_address(&self) -> SocketAddr {
        self.metrics.address()
    }

    /// Where probes are served.
    #[must_use]
    pub fn probe_address(&self) -> SocketAddr {
        self.probes.address()
    }

    /// Stops both; answers under way may end, for a second each at most. Blocks for as long.
    pub fn stop(self) {
        self.metrics.stop();
        self.probes.stop();
    }
}

fn probe_page(health: &Health, request: &Request) -> Answer {
    match request.path() {
        "/healthz" => probe(health.live()),
        "/readyz" => probe(health.ready()),
        _ => Answer::text(StatusCode::NOT_FOUND, "there are /healthz and /readyz; metrics are on another port\n"),
    }
}

fn probe(result: Result<(), String>) -> Answer {
    match result {
        Ok(()) => Answer::text(StatusCode::OK, "ok\n"),
        Err(mut reason) => {
            reason.truncate(reason.floor_char_boundary(MAX_REASON));
            Answer::text(StatusCode::SERVICE_UNAVAILABLE, reason + "\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpStream,
        time::Duration,
    };

    use super::*;
    use crate::ops::{
        debug::Respondent,
        metrics::{CONTENT_TYPE, Metrics},
    };

    fn start(health: &Health) -> Admin {
        let any = "127.0.0.1:0".parse().unwrap();
        Admin::serve(any, any, health.clone(), Pages::new(Metrics::new(), Respondent::default(), None), None).unwrap()
    }

    fn ask(address: SocketAddr, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn serves_metrics_and_probes_each_on_its_port() {
        let health = Health::with_limit(Duration::from_secs(5));
        let caches = health.readiness("caches");
        health.all_named();
        let admin = start(&health);

        let metrics = ask(admin.http_address(), "GET", "/metrics");
        assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
        assert!(metrics.contains(CONTENT_TYPE) && metrics.contains("taskwatch_build_info"), "{metrics}");
        assert!(metrics.ends_with("# EOF\n"), "{metrics}");

        let not_ready = ask(admin.probe_address(), "GET", "/readyz");
        assert!(not_ready.starts_with("HTTP/1.1 503") && not_ready.contains("waiting for: caches"), "{not_ready}");
        caches.done();
        assert!(ask(admin.probe_address(), "GET", "/readyz").starts_with("HTTP/1.1 200"));
        let head = ask(admin.probe_address(), "HEAD", "/healthz");
        assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
        let post = ask(admin.probe_address(), "POST", "/healthz");
        assert!(post.starts_with("HTTP/1.1 405") && post.contains("allow: GET, HEAD"), "{post}");
        for (address, path) in [
            (admin.probe_address(), "/"),
            (admin.probe_address(), "/metrics"),
            (admin.http_address(), "/healthz"),
            (admin.http_address(), "/readyz"),
        ] {
            assert!(ask(address, "GET", path).starts_with("HTTP/1.1 404"), "{path}");
        }
    }

    #[test]
    fn a_silent_work_loop_fails_the_liveness_probe() {
        let admin = start(&Health::with_limit(Duration::ZERO));
        std::thread::sleep(Duration::from_millis(5));
        assert!(ask(admin.probe_address(), "GET", "/healthz").starts_with("HTTP/1.1 503"));
    }

    #[test]
    fn an_address_in_use_is_an_error_that_names_it() {
        let admin = start(&Health::default());
        let any = "127.0.0.1:0".parse().unwrap();
        for (http, probe, what) in [(admin.http_address(), any, "metrics"), (any, admin.probe_address(), "probes")] {
            let pages = Pages::new(Metrics::new(), Respondent::default(), None);
            let error = Admin::serve(http, probe, Health::default(), pages, None).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            assert!(error.to_string().starts_with(&format!("cannot serve {what} at 127.0.0.1:")), "{error}");
        }
    }
}

//! The socket of a connection: gives other tasks their turn between reads, and ends a connection whose peer floods it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::{
    flood::{Flood, MAX_QUIET, Traffic},
    frames::Frames,
};

/// The most bytes of one read, and of reads in a row: then others have their turn.
const TURN: usize = 16 << 10;
/// The most reads in a row, however short: then others have their turn.
const READS: u8 = 16;

/// A TCP connection that yields after [`TURN`] bytes or [`READS`] reads, though more is there.
pub(super) struct Paced {
    tcp: TcpStream,
    bytes: usize,
    reads: u8,
    /// Bytes that have not become data of the layer above.
    quiet: usize,
}

impl Paced {
    pub(super) fn new(tcp: TcpStream) -> Self {
        Self { tcp, bytes: 0, reads: 0, quiet: 0 }
    }
}

impl AsyncRead for Paced {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.bytes >= TURN || this.reads >= READS {
            (this.bytes, this.reads) = (0, 0);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let read = poll_at_most(&mut this.tcp, cx, buf);
        match read {
            Poll::Pending => (this.bytes, this.reads) = (0, 0),
            Poll::Ready(Ok(bytes)) => {
                this.bytes += bytes;
                this.reads += 1;
                this.quiet += bytes;
                if this.quiet > MAX_QUIET {
                    return Poll::Ready(Err(io::Error::other(Flood::Quiet)));
                }
            }
            Poll::Ready(Err(_)) => {}
        }
        read.map_ok(|_| ())
    }
}

/// Reads [`TURN`] bytes at most; how many they were.
fn poll_at_most(
    from: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
) -> Poll<io::Result<usize>> {
    let before = buf.filled().len();
    if buf.remaining() <= TURN {
        return Pin::new(from).poll_read(cx, buf).map_ok(|()| buf.filled().len() - before);
    }
    let mut part = ReadBuf::new(buf.initialize_unfilled_to(TURN));
    let read = Pin::new(from).poll_read(cx, &mut part);
    let bytes = part.filled().len();
    buf.advance(bytes);
    read.map_ok(|()| bytes)
}

impl AsyncWrite for Paced {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

enum Socket {
    Plain(Paced),
    Tls(Box<TlsStream<Paced>>),
}

impl Socket {
    fn raw(&mut self) -> &mut Paced {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_mut().0,
        }
    }
}

/// A connection on which HTTP is spoken.
pub(super) struct Stream {
    socket: Socket,
    traffic: Arc<Traffic>,
    /// None for HTTP/1.1.
    frames: Option<Frames>,
    /// Whether requests go to a proxy in absolute form.
    proxied: bool,
}

impl Stream {
    /// One without TLS; `proxied` where it leads to a proxy that is to forward the requests.
    pub(super) fn plain(tcp: Paced, proxied: bool) -> Self {
        Self { socket: Socket::Plain(tcp), traffic: Arc::default(), frames: None, proxied }
    }

    /// One with TLS, whose protocol ALPN has settled.
    pub(super) fn tls(tls: TlsStream<Paced>) -> Self {
        let http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        let frames = http2.then(|| Frames::new(Instant::now()));
        Self { socket: Socket::Tls(Box::new(tls)), traffic: Arc::default(), frames, proxied: false }
    }

    fn took_in(&mut self, bytes: &[u8]) -> Result<(), Flood> {
        self.socket.raw().quiet = 0;
        match &mut self.frames {
            None => self.traffic.read(bytes.len()),
            Some(frames) => frames.read(bytes, self.traffic.take_answers(), Instant::now()),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let read = match &mut this.socket {
            Socket::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Socket::Tls(tls) => poll_at_most(tls, cx, buf).map_ok(|_| ()),
        };
        if let Poll::Ready(Ok(())) = read {
            let bytes = buf.filled().get(before..).unwrap_or_default();
            if let Err(flood) = this.took_in(bytes) {
                this.traffic.break_off(flood);
                return Poll::Ready(Err(io::Error::other(flood)));
            }
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            Socket::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Socket::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            Socket::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Socket::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Plain(tcp) => tcp.is_write_vectored(),
            Socket::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Socket::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Socket::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.proxied).extra(Arc::clone(&self.traffic));
        if self.frames.is_some() { connected.negotiated_h2() } else { connected }
    }
}

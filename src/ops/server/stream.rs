//! The stream of a connection that never blocks: as it is, or with TLS over it.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    sync::Arc,
};

use rustix::event::PollFlags;
use rustls::{ServerConfig, ServerConnection};

/// Much of it at a time would be held twice, in the clear and encrypted.
const CHUNK: usize = 16 << 10;

pub(super) struct Stream {
    tcp: TcpStream,
    tls: Option<Box<ServerConnection>>,
    is_closing: bool,
}

impl Stream {
    /// `tcp` must not block.
    pub(super) fn plain(tcp: TcpStream) -> Self {
        Self { tcp, tls: None, is_closing: false }
    }

    /// The same, with TLS.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub(super) fn secured(tcp: TcpStream, config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self { tls: Some(Box::new(ServerConnection::new(config)?)), ..Self::plain(tcp) })
    }

    /// What it is to be polled by.
    pub(super) fn socket(&self) -> &TcpStream {
        &self.tcp
    }

    /// What to wait for where more is to be read: a handshake may have to be written first.
    pub(super) fn interest(&self) -> PollFlags {
        let writes = self.tls.as_ref().is_some_and(|tls| tls.wants_write());
        if writes { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN }
    }

    /// As `Read::read`, of what was encrypted.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.tcp.read(buffer) };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return result,
            }
            // What cannot be written now is waited for together with what is to be read.
            match flush(tls, &mut self.tcp) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => result?,
            }
            if tls.read_tls(&mut self.tcp)? == 0 {
                return Ok(0);
            }
            if let Err(error) = tls.process_new_packets() {
                // The alert that says why.
                let _ = flush(tls, &mut self.tcp);
                return Err(io::Error::new(ErrorKind::InvalidData, error));
            }
        }
    }

    /// As `Write::write`; with TLS, what was taken may have to be written out yet: see [`Self::finish`].
    pub(super) fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.tcp.write(part) };
        flush(tls, &mut self.tcp)?;
        tls.writer().write(&part[..part.len().min(CHUNK)])
    }

    /// Writes out what is left, and says that nothing follows.
    ///
    /// # Errors
    /// `WouldBlock` where it is to be called again when it can be written.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            if !std::mem::replace(&mut self.is_closing, true) {
                tls.send_close_notify();
            }
            flush(tls, &mut self.tcp)?;
        }
        self.tcp.shutdown(Shutdown::Write)
    }

    /// As `Read::read`, but of what was sent: for what is thrown away.
    pub(super) fn discard(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tcp.read(buffer)
    }
}

fn flush(tls: &mut ServerConnection, tcp: &mut TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        if tls.write_tls(tcp)? == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

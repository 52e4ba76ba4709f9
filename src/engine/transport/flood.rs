//! Why a connection is broken off whose peer keeps it busy without answering, and the figures that tell.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use futures::task::AtomicWaker;

/// The most informational heads (1xx) before the head of an answer. RFC 9110 §15.2 has no bound; two or three are what servers send.
pub(super) const MAX_INFORMATIONAL: u8 = 8;
/// The most bytes that may come without bringing an answer on, in bytes: heads, chunk sizes and extensions, trailers, TLS records.
pub(super) const MAX_QUIET: usize = 256 << 10;

/// What the peer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flood {
    /// More than [`MAX_INFORMATIONAL`] informational heads for one request.
    Informational,
    /// HTTP/2 frames without a byte of an answer.
    Control,
    /// More than [`MAX_QUIET`] bytes without bringing an answer on.
    Quiet,
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Informational => "too many informational heads",
            Self::Control => "too many frames without an answer",
            Self::Quiet => "too many bytes without an answer",
        })
    }
}

impl std::error::Error for Flood {}

/// A connection, as seen by its socket and by those who wait for answers on it.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// Bytes since an answer was last brought on.
    quiet: AtomicUsize,
    /// Answers that began since the socket last asked.
    answers: AtomicU32,
    flooded: AtomicU8,
}

impl Traffic {
    /// The head of an answer has come.
    pub(super) fn answered(&self) {
        self.answers.fetch_add(1, Relaxed);
        self.progressed();
    }

    /// A part of an answer was taken.
    pub(super) fn progressed(&self) {
        self.quiet.store(0, Relaxed);
    }

    /// How many answers began since this was last asked.
    pub(super) fn take_answers(&self) -> u32 {
        self.answers.swap(0, Relaxed)
    }

    /// Counts bytes of which it is not known yet whether they bring an answer on.
    pub(super) fn read(&self, bytes: usize) -> Result<(), Flood> {
        if self.quiet.fetch_add(bytes, Relaxed) + bytes > MAX_QUIET { Err(Flood::Quiet) } else { Ok(()) }
    }

    /// Notes why the connection is broken off.
    pub(super) fn break_off(&self, flood: Flood) {
        self.flooded.store(
            match flood {
                Flood::Informational => 1,
                Flood::Control => 2,
                Flood::Quiet => 3,
            },
            Relaxed,
        );
    }

    /// Why the connection was broken off; none while it was not.
    pub(super) fn flooded(&self) -> Option<Flood> {
        match self.flooded.load(Relaxed) {
            1 => Some(Flood::Informational),
            2 => Some(Flood::Control),
            3 => Some(Flood::Quiet),
            _ => None,
        }
    }
}

/// Counts the informational heads of one HTTP/1.1 answer. (Those of HTTP/2 are counted as frames: hyper does not tell of them.)
#[derive(Clone, Default)]
pub(super) struct Informational(Arc<Heads>);

#[derive(Default)]
struct Heads {
    count: AtomicU8,
    over: AtomicBool,
    waiting: AtomicWaker,
}

impl Informational {
    /// Has those of `request` counted.
    pub(super) fn count<B>(request: &mut http::Request<B>) -> Self {
        let this = Self::default();
        let heads = Arc::clone(&this.0);
        hyper::ext::on_informational(request, move |_| {
            if heads.count.fetch_add(1, Relaxed) >= MAX_INFORMATIONAL {
                heads.over.store(true, Relaxed);
                heads.waiting.wake();
            }
        });
        this
    }

    /// Ready once there were too many.
    pub(super) fn poll_over(&self, context: &Context<'_>) -> Poll<()> {
        self.0.waiting.register(context.waker());
        if self.0.over.load(Relaxed) { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_until_somebody_asks_and_end_the_quiet() {
        let traffic = Traffic::default();
        assert_eq!(traffic.read(MAX_QUIET), Ok(()));
        assert_eq!(traffic.read(1), Err(Flood::Quiet));
        traffic.answered();
        traffic.answered();
        assert_eq!((traffic.take_answers(), traffic.take_answers()), (2, 0));
        assert_eq!(traffic.read(MAX_QUIET), Ok(()));
    }
}

//! The body of an answer: decoded, and bounded in size, in time, and in how slowly it may come.

use std::{io, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use hyper::body::{Body as _, Incoming};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    Channel,
    coding::{self, Decoder, Step},
    explain::{Network, explain},
    flood::Traffic,
};
use crate::{domain::failure::Failure, tenancy::pool::Lease};

/// What hyper may hold of an answer before it is taken, in bytes: a read and a part.
pub(super) const READ_AHEAD: usize = 32 << 10;
/// What a step of reading may bring, in bytes.
const PART: usize = 16 << 10;
/// A body that is not known to be small must bring [`LEAST`] bytes in each such time that it is waited for, in full or it ends.
const RATE_TIME: Duration = Duration::from_secs(10);
/// 16 KiB a second over [`RATE_TIME`], in bytes.
const LEAST: usize = 160 << 10;
/// A body that says that it has no more bytes may take the request's whole time.
const SMALL: u64 = 64 << 10;
/// So much more than the limit on the content may be read of it in coded form, in bytes: headers of many small members, say.
const CODED_OVERHEAD: usize = 256 << 10;

/// The body of an answer, decompressed; it must come within the time and the limit of its request.
pub struct Body {
    channel: Channel,
    incoming: Incoming,
    traffic: Option<Arc<Traffic>>,
    /// None for content that is as it came.
    decoder: Option<Decoder>,
    status: StatusCode,
    limit: usize,
    /// How much of the content may still come.
    left: usize,
    /// How much may still be read, in coded form.
    coded_left: usize,
    timeout: Duration,
    deadline: Instant,
    rate: Rate,
    lease: Lease,
    /// What was given out and is held by whoever reads, in bytes.
    given: usize,
    ended: bool,
    fault: Option<Failure>,
}

/// What a body must come within.
pub(super) struct Bounds {
    /// In bytes, decompressed.
    pub(super) limit: usize,
    pub(super) timeout: Duration,
    pub(super) deadline: Instant,
    /// What it is held on the account of: [`READ_AHEAD`] at least.
    pub(super) lease: Lease,
}

impl Body {
    /// The body of an answer with this head.
    ///
    /// # Errors
    /// It cannot be read, which of a good answer leaves nothing.
    pub(super) fn new(
        channel: Channel,
        incoming: Incoming,
        traffic: Option<Arc<Traffic>>,
        (status, headers): (StatusCode, &HeaderMap),
        bounds: Bounds,
    ) -> Result<Self, Failure> {
        let Bounds { limit, timeout, deadline, lease } = bounds;
        let told = incoming.size_hint().exact();
        let rate = Rate::new(told.is_some_and(|told| told <= SMALL));
        let mut this = Self {
            channel,
            incoming,
            traffic,
            decoder: None,
            status,
            limit,
            left: limit,
            coded_left: limit.saturating_add(CODED_OVERHEAD),
            timeout,
            deadline,
            rate,
            lease,
            given: 0,
            ended: false,
            fault: None,
        };
        match coding::codings(headers) {
            Ok(codings) if codings.is_empty() => {}
            Ok(codings) => this.decoder = Some(Decoder::new(&codings, this.coded_left)),
            Err(unknown) => {
                this.broken(&Network::UnknownCoding(unknown))?;
            }
        }
        if status.is_success() && told.is_some_and(|told| told > limit.try_into().unwrap_or(u64::MAX)) {
            this.broken(&Network::TooLarge(limit))?;
        }
        Ok(this)
    }

    /// The next part; none at the end.
    ///
    /// Of an answer other than 2xx, status and header fields are what matters: what of its body is beyond the limit is left, and where
    /// the body breaks, that is its end; [`Self::take_fault`] then tells why.
    ///
    /// # Errors
    /// As [`Channel::send`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            if self.ended || (self.left == 0 && !self.status.is_success()) {
                return Ok(None);
            }
            if let Err(network) = self.account(self.given + PART).await {
                return self.broken(&network);
            }
            let step = self.decoder.as_mut().map(Decoder::step).transpose();
            let step = match step {
                Ok(step) => step.unwrap_or(Step::Hungry),
                Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                    return self.broken(&Network::TooLarge(self.limit));
                }
                Err(_) => return self.broken(&Network::BadEncoding),
            };
            match step {
                Step::Part(part) => return self.take(part),
                Step::Busy => tokio::task::yield_now().await,
                Step::End => self.ended = true,
                Step::Hungry => match self.read().await {
                    Err(network) => return self.broken(&network),
                    Ok(read) => match (&mut self.decoder, read) {
                        (Some(decoder), Some(part)) => decoder.push(part),
                        (Some(decoder), None) => decoder.finish(),
                        (None, Some(part)) => return self.take(part),
                        (None, None) => self.ended = true,
                    },
                },
            }
        }
    }

    /// Why the body of an answer other than 2xx is not whole; none where it is, or was only longer than the limit.
    pub fn take_fault(&mut self) -> Option<Failure> {
        self.fault.take()
    }

    /// Says how much of what was given out is still held, in bytes; what is more than that goes back to the tenant's account.
    pub fn hold(&mut self, bytes: usize) {
        self.given = bytes;
        self.lease.shrink_to(READ_AHEAD + bytes + PART);
    }

    /// Makes room for the whole body where its size is known, so that of many at a time some come to their end.
    pub(super) async fn expect_whole(&mut self) -> Result<(), Failure> {
        let told = self.incoming.size_hint().exact().and_then(|told| usize::try_from(told).ok());
        let told = told.unwrap_or_default().min(self.limit);
        match self.account(told).await {
            Ok(()) => Ok(()),
            Err(network) => self.broken(&network).map(|_| ()),
        }
    }

    /// What is held on the account of, once the body is read.
    pub(super) fn into_lease(self) -> Lease {
        let Self { mut lease, given, .. } = self;
        lease.shrink_to(given);
        lease
    }

    /// Waits until so much may be held beside what is read ahead.
    async fn account(&mut self, bytes: usize) -> Result<(), Network> {
        let more = (READ_AHEAD + bytes).saturating_sub(self.lease.held());
        if more == 0 {
            return Ok(());
        }
        let grown = timeout_at(self.deadline, self.lease.grow(more)).await;
        grown.map_err(|_| Network::NoShare(self.timeout))
    }

    /// How large a body to make room for, in bytes: what it says, but no more than one read brings.
    pub(super) fn room(&self) -> usize {
        let told = self.incoming.size_hint().exact().and_then(|told| usize::try_from(told).ok());
        told.unwrap_or_default().min(self.limit).min(16 << 10)
    }

    /// A part of the content, as far as the limit lets it be.
    fn take(&mut self, mut part: Bytes) -> Result<Option<Bytes>, Failure> {
        if part.len() > self.left {
            if self.status.is_success() {
                return self.broken(&Network::TooLarge(self.limit));
            }
            part.truncate(self.left);
        }
        self.left -= part.len();
        self.given += part.len();
        Ok(Some(part))
    }

    /// Reads a part as it comes; none at the end.
    async fn read(&mut self) -> Result<Option<Bytes>, Network> {
        loop {
            let now = Instant::now();
            let left = self.deadline.saturating_duration_since(now);
            let frame = timeout(left.min(self.rate.patience()), next_frame(&mut self.incoming)).await;
            self.rate.waited(now.elapsed());
            let frame = match frame {
                Ok(None) => return Ok(None),
                Ok(Some(frame)) => frame.map_err(|error| explain(&error, self.traffic.as_deref()))?,
                Err(_) if Instant::now() >= self.deadline => return Err(Network::Timeout(self.timeout)),
                Err(_) => return Err(Network::TooSlow),
            };
            // Trailers are of no use.
            let Ok(part) = frame.into_data() else { continue };
            if let Some(traffic) = &self.traffic {
                traffic.progressed();
            }
            self.rate.came(part.len());
            if self.decoder.is_some() {
                self.coded_left = self.coded_left.checked_sub(part.len()).ok_or(Network::TooLarge(self.limit))?;
            }
            if !part.is_empty() {
                return Ok(Some(part));
            }
        }
    }

    /// The body is not whole: a failure of a good answer, the end of another one's body.
    fn broken(&mut self, why: &Network) -> Result<Option<Bytes>, Failure> {
        let failure = self.channel.fail(why, Some(self.status));
        self.ended = true;
        if self.status.is_success() {
            return Err(failure);
        }
        self.fault = Some(failure);
        Ok(None)
    }
}

async fn next_frame(incoming: &mut Incoming) -> Option<hyper::Result<hyper::body::Frame<Bytes>>> {
    std::future::poll_fn(|cx| Pin::new(&mut *incoming).poll_frame(cx)).await
}

/// How fast a body comes, by the time that it was waited for.
struct Rate {
    /// Small bodies, and those of which nothing has come, may take their time.
    held: bool,
    small: bool,
    waited: Duration,
    bytes: usize,
}

impl Rate {
    fn new(small: bool) -> Self {
        Self { held: false, small, waited: Duration::ZERO, bytes: 0 }
    }

    /// How long the next part may take.
    fn patience(&self) -> Duration {
        if self.held { RATE_TIME.saturating_sub(self.waited) } else { Duration::MAX }
    }

    fn waited(&mut self, time: Duration) {
        if self.held {
            self.waited += time;
        }
    }

    fn came(&mut self, bytes: usize) {
        self.held |= !self.small && bytes > 0;
        self.bytes += bytes;
        if self.bytes >= LEAST {
            (self.bytes, self.waited) = (0, Duration::ZERO);
        }
    }
}

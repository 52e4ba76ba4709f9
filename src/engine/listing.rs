//! A list that is being read: what is held of it, and until when.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::{
    decoding::Decoder,
    sieve::Sieve,
    transport::{Body, Channel, Outgoing},
};
use crate::domain::failure::{ELEMENT_TOO_LARGE, Failure, FailureClass, NO_MEMORY};
use crate::providers::{Answer, Page, Scan};
use crate::tenancy::pool::Lease;

/// A list that is being read.
pub(super) struct Listing {
    scope: Arc<str>,
    /// What it begins with.
    head: Answer,
    body: Body,
    sieve: Sieve,
    /// For what the sieve holds.
    lease: Lease,
    deadline: Instant,
    decoder: Decoder,
    /// Entries of the slices that were decoded already.
    sliced: usize,
    /// Entries that the sieve left out, once it is at its end.
    left_out: usize,
    bytes: usize,
    /// Entries that somebody watches, so far.
    served: u32,
}

impl Listing {
    /// Sends the request and reads the head of the answer.
    pub(super) async fn open(
        channel: &Channel,
        request: Outgoing,
        scope: &Arc<str>,
        decoder: Decoder,
        lease: Lease,
    ) -> Result<Box<Self>, Failure> {
        let deadline = Instant::now() + request.timeout;
        let (head, body) = channel.open(request).await?;
        Ok(Box::new(Self {
            scope: Arc::clone(scope),
            head,
            body,
            sieve: Sieve::default(),
            lease,
            deadline,
            decoder,
            sliced: 0,
            left_out: 0,
            bytes: 0,
            served: 0,
        }))
    }

    /// Reads the next part; none at the end. Waits while the tenant has no memory left for what is held.
    ///
    /// # Errors
    /// As [`Body::next`], or there was no memory in time.
    pub(super) async fn read(&mut self) -> Result<Option<Bytes>, Failure> {
        let held = self.sieve.held();
        self.lease.shrink_to(held);
        let more = held - self.lease.held();
        if more > 0 && timeout_at(self.deadline, self.lease.grow(more)).await.is_err() {
            return Err(self.fail(NO_MEMORY, FailureClass::UpstreamUnavailable, NO_MEMORY_LEFT));
        }
        // The sieve's own lease is for what is held.
        self.body.hold(0);
        let part = self.body.next().await?;
        if part.is_none() {
            self.head.fault = self.body.take_fault();
        }
        Ok(part)
    }

    /// Takes a part in. `knows` says whether an entry of this print is known. Returns a document of its own where there is enough for one.
    ///
    /// # Errors
    /// The list cannot be read on.
    pub(super) fn take(&mut self, part: &[u8], knows: impl FnMut(u64) -> bool) -> Result<Option<Vec<u8>>, Failure> {
        self.bytes += part.len();
        if self.sieve.push(part, knows) {
            return Ok(self.sieve.slice());
        }
        let failure = self.fail(ELEMENT_TOO_LARGE, FailureClass::InvalidAnswer, TOO_LARGE);
        // Of an answer other than 2xx, status and header fields hold all the same.
        if self.head.status.is_success() {
            return Err(failure);
        }
        self.head.fault = Some(failure);
        Ok(None)
    }

    /// Whether nothing more is to be read of it.
    pub(super) fn is_given_up(&self) -> bool {
        self.head.fault.is_some()
    }

    /// What is left of it at its end.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        let sieve = std::mem::take(&mut self.sieve);
        self.left_out = sieve.left_out();
        // Of a body that cannot be read on nothing is read.
        if self.is_given_up() { Vec::new() } else { sieve.finish() }
    }

    /// Finds the entries in a slice of it.
    ///
    /// # Errors
    /// The class of the failure, where it is not a list.
    pub(super) fn scan(&self, slice: Vec<u8>) -> Result<Scan, Failure> {
        self.decoder.scan(&self.scope, Answer { body: slice.into(), ..self.head.clone() })
    }

    /// Reads the wanted entries of a slice of it.
    ///
    /// # Errors
    /// Too many of them cannot be read.
    pub(super) fn decode(&mut self, scan: Scan, wanted: &[bool]) -> Result<Page, Failure> {
        let page = self.decoder.entries(scan, wanted)?;
        self.sliced += page.total;
        Ok(page)
    }

    /// How many entries it had so far, wanted or not.
    pub(super) fn total(&self) -> usize {
        self.left_out + self.sliced
    }

    /// Whose tasks it lists.
    pub(super) fn scope(&self) -> Arc<str> {
        Arc::clone(&self.scope)
    }

    /// So many entries more are watched by somebody.
    pub(super) fn serves(&mut self, more: u32) {
        self.served += more;
    }

    /// How many entries are watched by somebody.
    pub(super) fn served(&self) -> u32 {
        self.served
    }

    /// How much was read of it, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The HTTP status, for the metrics.
    pub(super) fn code(&self) -> String {
        self.head.status.as_str().to_owned()
    }

    /// What comes of it when it cannot be read.
    pub(super) fn clean_failure(&self, failure: Failure) -> Failure {
        self.decoder.clean_failure(failure)
    }

    fn fail(&self, code: &str, class: FailureClass, message: &str) -> Failure {
        let http_status = Some(self.head.status.as_u16());
        Failure { code: code.to_owned(), http_status, ..Failure::new(class, message) }
    }
}

const NO_MEMORY_LEFT: &str =
    "The operator has no memory left for this list: the namespace's other lists hold what it may use";
const TOO_LARGE: &str = "The upstream's list has an entry of more than 1 MiB, or more than 1 MiB beside its entries";

//! Traces of polls: what each step of a poll took, as spans that are sent to an OpenTelemetry collector (`--otlp-endpoint`). Off unless
//! that is given, and then free.
//!
//! Spans are written by hand as OTLP's JSON. The opentelemetry crates, with protobuf or not, would add more to the image than there is room
//! for, and a second HTTP client.

mod export;
mod wire;

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::mpsc;

use self::export::{Exporter, Message};
pub use self::{
    export::Endpoint,
    wire::{Span, Value},
};
use super::metrics::{Metrics, SpanResult};
use crate::sync::lock;

/// Most spans that wait to be sent.
const QUEUE: usize = 4096;
/// Most objects of which it is known by which poll something new came of them.
const FOLLOWED: usize = 2048;
/// A poll that nobody has followed for so long is not followed any more.
const FOLLOWED_FOR: Duration = Duration::from_secs(60);

/// Where spans go; nowhere by default. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    queue: mpsc::Sender<Message>,
    metrics: Metrics,
    /// By which poll something new came, by the UID of the object that it is about.
    followed: Mutex<HashMap<Arc<str>, (Context, Instant)>>,
    /// What identifiers are made of: random, and how many there were.
    random: RandomState,
    made: AtomicU64,
}

/// A trace, and the span that others are part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    trace: u128,
    span: u64,
}

/// When a poll began, and in which trace; none where there are no traces.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// When.
    pub at: Instant,
    /// In which trace.
    pub context: Option<Context>,
}

impl Traces {
    /// Sends them to a collector. To be called within the runtime that is to do so.
    #[must_use]
    pub fn to(endpoint: Endpoint, metrics: Metrics) -> Self {
        let (queue, spans) = mpsc::channel(QUEUE);
        tokio::spawn(Exporter::new(endpoint, metrics.clone()).run(spans));
        Self::into(queue, metrics)
    }

    fn into(queue: mpsc::Sender<Message>, metrics: Metrics) -> Self {
        Self(Some(Arc::new(Inner {
            queue,
            metrics,
            followed: Mutex::default(),
            random: RandomState::new(),
            made: AtomicU64::new(0),
        })))
    }

    /// A poll begins now.
    #[must_use]
    pub fn start(&self) -> Start {
        let context = self.0.as_ref().map(|inner| Context { trace: inner.trace_id(), span: inner.id() });
        Start { at: Instant::now(), context }
    }

    /// The span that others of its trace are part of is over.
    pub fn ended(&self, start: Start, name: &'static str, attributes: Attributes<'_>) {
        if let (Some(inner), Some(context)) = (&self.0, start.context) {
            inner.send(context.trace, context.span, None, name, (start.at, Instant::now()), attributes);
        }
    }

    /// A part of it that took from one time to the other.
    pub fn part(&self, of: Context, name: &'static str, times: (Instant, Instant), attributes: Attributes<'_>) {
        if let Some(inner) = &self.0 {
            inner.send(of.trace, inner.id(), Some(of.span), name, times, attributes);
        }
    }

    /// What is done about the object of this UID from now on is part of that poll.
    pub fn follow(&self, uid: &Arc<str>, of: Context) {
        let Some(inner) = &self.0 else { return };
        let (mut followed, now) = (lock(&inner.followed), Instant::now());
        if followed.len() >= FOLLOWED {
            followed.retain(|_, (_, at)| now.duration_since(*at) < FOLLOWED_FOR);
        }
        if followed.len() < FOLLOWED {
            followed.insert(Arc::clone(uid), (of, now));
        }
    }

    /// By which poll something new came of the object of this UID; told once.
    #[must_use]
    pub fn take_followed(&self, uid: &str) -> Option<Context> {
        lock(&self.0.as_ref()?.followed).remove(uid).map(|(context, _)| context)
    }

    /// Sends what waits; gives up when the time is over. Nothing is sent after that.
    pub async fn finish(&self, limit: Duration) {
        let Some(inner) = &self.0 else { return };
        let (done, sent) = tokio::sync::oneshot::channel();
        let all = async {
            if inner.queue.send(Message::End(done)).await.is_ok() {
                let _ = sent.await;
            }
        };
        let _ = tokio::time::timeout(limit, all).await;
    }
}

/// What a span says of itself: names of OpenTelemetry's conventions, or of our own that begin with `taskwatch.`.
pub type Attributes<'a> = &'a [(&'static str, Value)];

impl Inner {
    fn send(
        &self,
        trace: u128,
        id: u64,
        parent: Option<u64>,
        name: &'static str,
        (from, to): (Instant, Instant),
        attributes: Attributes<'_>,
    ) {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let at = |time: Instant| wall.checked_sub(now.saturating_duration_since(time)).unwrap_or(wall);
        let span = Span { trace, id, parent, name, start: at(from), end: at(to), attributes: attributes.to_vec() };
        if self.queue.try_send(Message::Span(Box::new(span))).is_err() {
            self.metrics.trace_spans(SpanResult::Dropped, 1);
        }
    }

    /// Never zero, which is no identifier.
    fn id(&self) -> u64 {
        self.random.hash_one(self.made.fetch_add(1, Relaxed)).max(1)
    }

    fn trace_id(&self) -> u128 {
        u128::from(self.id()) << 64 | u128::from(self.id())
    }
}

#[cfg(test)]
mod tests;

//! Runs a connection's planner: sends its jobs, decodes the answers, delivers the reports. The only task that touches them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant as SystemInstant},
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use jiff::{SignedDuration, Timestamp};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tracing::{debug, info, warn};

use super::{
    ConnectionHealth, ConnectionId, Delivery, Open, Report, Sink, Watch, WatchKey,
    planner::{Job, JobKind, JobResult, Planner},
    sieve::Sieve,
    transport::{Body, Channel, Outgoing},
};
use crate::domain::{
    failure::{Failure, FailureClass},
    task::TaskState,
};
use crate::ops::{
    clock::Clock,
    metrics::{ConnectionMetrics, Metrics},
};
use crate::providers::{
    Answer, Page, Request,
    auth::{Token, TokenRequest},
};

/// What the controller wants of a connection, the newest for each watch: bounded by the number of watches, never blocking.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    wanted: Mutex<Wanted>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Wanted {
    watches: HashMap<WatchKey, Option<Watch>>,
    connection: Option<Arc<Open>>,
    closed: bool,
}

impl Inbox {
    /// Sets a watch, or ends it.
    pub(super) fn watch(&self, key: WatchKey, watch: Option<Watch>) {
        self.change(|wanted| drop(wanted.watches.insert(key, watch)));
    }

    /// Replaces the connection's configuration.
    pub(super) fn configure(&self, connection: Arc<Open>) {
        self.change(|wanted| wanted.connection = Some(connection));
    }

    /// Ends the actor.
    pub(super) fn close(&self) {
        self.change(|wanted| wanted.closed = true);
    }

    fn change(&self, change: impl FnOnce(&mut Wanted)) {
        change(&mut self.wanted.lock().unwrap_or_else(PoisonError::into_inner));
        self.news.notify_one();
    }

    fn take(&self) -> Wanted {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = wanted.closed;
        Wanted { closed, ..std::mem::take(&mut *wanted) }
    }
}

/// What all actors share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) sink: Arc<dyn Sink>,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
}

/// One connection at work.
pub(super) struct Actor {
    id: ConnectionId,
    inbox: Arc<Inbox>,
    shared: Shared,
    open: Arc<Open>,
    figures: ConnectionMetrics,
    planner: Planner,
    token: Option<Arc<Token>>,
    /// Polled by the actor's own task: a task for each request would wake another thread each time.
    sent: FuturesUnordered<BoxFuture<'static, Sent>>,
    told: Option<ConnectionHealth>,
    /// When the tasks were last counted by state.
    counted: Option<Instant>,
}

/// What came of a request.
struct Sent {
    job: u64,
    kind: JobKind,
    started: SystemInstant,
    news: News,
}

enum News {
    /// The answer, or why there is none.
    Whole(Result<Answer, Failure>),
    /// More of a list; none at its end.
    Part(Box<Listing>, Option<Bytes>),
}

/// A list that is being read.
struct Listing {
    scope: Arc<str>,
    /// What it begins with.
    answer: Answer,
    body: Body,
    sieve: Sieve,
    /// Entries of the slices that were decoded already.
    sliced: usize,
    bytes: usize,
    /// Entries that somebody watches, so far.
    served: u32,
}

/// The tasks are counted by state this often, for the metrics.
const COUNT_EVERY: Duration = Duration::from_secs(15);
/// The states of tasks that are polled, and their words.
const COUNTED: [(Option<TaskState>, &str); 4] = [
    (None, "Unknown"),
    (Some(TaskState::Pending), "Pending"),
    (Some(TaskState::Running), "Running"),
    (Some(TaskState::Paused), "Paused"),
];
/// How much newer the last success must be to be told anew.
const SUCCESS_STEP: SignedDuration = SignedDuration::from_secs(60);

impl Actor {
    /// An actor that has yet to run.
    pub(super) fn new(id: ConnectionId, open: Arc<Open>, inbox: Arc<Inbox>, shared: Shared) -> Self {
        let planner = Planner::new(open.connection.settings(), Instant::now());
        let figures = shared.metrics.connection(open.connection.provider.name());
        Self {
            id,
            inbox,
            shared,
            open,
            figures,
            planner,
            token: None,
            sent: FuturesUnordered::new(),
            told: None,
            counted: None,
        }
    }

    /// Runs until the inbox is closed.
    pub(super) async fn run(mut self) {
        loop {
            let now = Instant::now();
            while let Some(job) = self.planner.next(now) {
                self.send(job);
            }
            self.tell();
            let wake = self.planner.wake_at(now);
            tokio::select! {
                () = self.inbox.news.notified() => {
                    if self.take_orders() {
                        return;
                    }
                }
                Some(sent) = self.sent.next(), if !self.sent.is_empty() => self.take(sent),
                () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => {}
            }
        }
    }

    /// Takes in what the controller wants; whether it wants the actor to end.
    fn take_orders(&mut self) -> bool {
        let wanted = self.inbox.take();
        let now = Instant::now();
        if let Some(open) = wanted.connection {
            let renewed = open.connection.identity != self.open.connection.identity;
            self.open = open;
            if renewed {
                self.figures = self.shared.metrics.connection(self.open.connection.provider.name());
                self.told = None;
                info!(connection = %self.id, "the connection or its credential changed: asking anew");
                self.token = None;
                self.sent.clear();
                self.planner.abandon_all(now);
            }
            self.planner.reconfigure(self.open.connection.settings(), renewed, now);
        }
        for (key, watch) in wanted.watches {
            match watch {
                Some(watch) => self.planner.watch(key, &watch, now),
                None => self.planner.forget(&key),
            }
        }
        wanted.closed
    }

    fn send(&mut self, job: Job) {
        let provider = &self.open.connection.provider;
        self.shared.metrics.poll_lag(provider.name(), job.lag);
        let prepared = match &job.kind {
            JobKind::Authenticate => self.prepare_exchange(),
            JobKind::Get(task) => self.prepare(Some(provider.task_request(task)), &task.scope),
            JobKind::Subtasks(task) => self.prepare(provider.subtasks_request(task), &task.scope),
            JobKind::List(scope, cursor) => self.prepare(provider.list_request(scope, cursor.as_ref()), scope),
        };
        let Job { id: job, kind, .. } = job;
        self.sent.push(
            async move {
                let started = SystemInstant::now();
                let news = match prepared {
                    Ok((channel, request)) => match &kind {
                        JobKind::List(scope, _) => open_list(&channel, request, scope).await,
                        _ => News::Whole(channel.send(request).await),
                    },
                    Err(failure) => News::Whole(Err(failure)),
                };
                Sent { job, kind, started, news }
            }
            .boxed(),
        );
    }

    /// Addresses and signs a request to the endpoint.
    fn prepare(&self, request: Option<Request>, scope: &str) -> Result<(Channel, Outgoing), Failure> {
        let connection = &self.open.connection;
        let request = request.ok_or_else(|| unsupported("this request"))?;
        let url = request.url(&connection.endpoint);
        let Request { method, mut headers, body, body_limit, .. } = request;
        let (token, now) = (self.token.as_deref(), self.shared.clock.now());
        connection.credential.authorize(token, &method, &url, &mut headers, &body, Some(scope), now)?;
        let timeout = connection.request_timeout;
        Ok((self.open.channel.clone(), Outgoing { method, url, headers, body, body_limit, timeout }))
    }

    fn prepare_exchange(&self) -> Result<(Channel, Outgoing), Failure> {
        let connection = &self.open.connection;
        let (Some(request), Some(channel)) = (connection.credential.token_request(), &self.open.token_channel) else {
            return Err(unsupported("tokens"));
        };
        let TokenRequest { method, url, headers, body, body_limit } = request;
        let timeout = connection.request_timeout;
        Ok((channel.clone(), Outgoing { method, url, headers, body, body_limit, timeout }))
    }

    /// Takes in what came of a request: its answer, or a part of it.
    fn take(&mut self, sent: Sent) {
        let Sent { job, kind, started, news } = sent;
        match news {
            News::Part(mut listing, Some(part)) => {
                let mut reader = self.planner.list_reader(job, &listing.scope, 0);
                listing.sieve.push(&part, |print| reader.knows(print));
                listing.served += reader.served();
                listing.bytes += part.len();
                drop(part);
                if let Some(slice) = listing.sieve.slice() {
                    match self.decode_slice(job, &mut listing, slice) {
                        Ok(page) => self.planner.slice_came(&listing.scope, page),
                        Err(failure) => {
                            let result = (listing.code(), listing.bytes, JobResult::Page(Err(failure)));
                            return self.take_result(job, &kind, started.elapsed(), result);
                        }
                    }
                }
                self.sent.push(async move { Sent { job, kind, started, news: listing.read_on().await } }.boxed());
            }
            News::Part(listing, None) => {
                let result = self.decode_list(job, *listing);
                self.take_result(job, &kind, started.elapsed(), result);
            }
            News::Whole(answer) => {
                let bytes = answer.as_ref().map_or(0, |answer| answer.body.len());
                let code = match &answer {
                    Ok(answer) => answer.status.as_str().to_owned(),
                    Err(failure) => failure.code.clone(),
                };
                let result = self.decode(&kind, answer);
                self.take_result(job, &kind, started.elapsed(), (code, bytes, result));
            }
        }
    }

    fn take_result(&mut self, job: u64, kind: &JobKind, took: Duration, result: (String, usize, JobResult)) {
        let now = Instant::now();
        let (code, bytes, result) = result;
        let failure = result.failure();
        let operation = kind.operation();
        let provider = self.open.connection.provider.name();
        self.shared.metrics.upstream_request(provider, operation, code, took);
        if let Some(failure) = failure {
            debug!(connection = %self.id, operation, class = failure.class.as_str(), code = failure.code, "{}", failure.message);
        }
        if let (JobKind::Subtasks(_), Some(failure)) =
            (kind, failure.filter(|f| f.class == FailureClass::InvalidRequest))
        {
            warn!(connection = %self.id, "the upstream refuses to list sub-tasks; tasks are shown without: {}", failure.message);
        }
        let retry_after = failure.and_then(|f| f.retry_after).map(|after| after.wait(self.shared.clock.now()));
        self.planner.done(job, result, bytes, retry_after, now);
    }

    fn decode(&mut self, kind: &JobKind, answer: Result<Answer, Failure>) -> JobResult {
        let provider = &self.open.connection.provider;
        match kind {
            JobKind::Authenticate => JobResult::Token(self.take_token(answer)),
            JobKind::Get(task) => JobResult::Task(answer.and_then(|answer| provider.decode_task(task, &answer))),
            JobKind::Subtasks(task) => JobResult::Page(
                answer.and_then(|answer| provider.decode_list(&task.scope, &answer, &mut |id: &str| id == task.id)),
            ),
            // Lists come in parts.
            JobKind::List(..) => JobResult::Page(answer.and_then(|_| Err(unsupported("lists of one piece")))),
        }
    }

    /// What a list says beyond what was known already; its HTTP status and its size.
    fn decode_list(&mut self, job: u64, mut listing: Listing) -> (String, usize, JobResult) {
        let rest = std::mem::take(&mut listing.sieve);
        let left_out = rest.left_out();
        let mut page = self.decode_slice(job, &mut listing, rest.finish());
        if let Ok(page) = &mut page {
            page.total = left_out + listing.sliced;
        }
        self.shared.metrics.coalesced_tasks(self.open.connection.provider.name(), listing.served);
        (listing.code(), listing.bytes, JobResult::Page(page))
    }

    fn decode_slice(&mut self, job: u64, listing: &mut Listing, text: Vec<u8>) -> Result<Page, Failure> {
        listing.answer.body = text.into();
        let mut reader = self.planner.list_reader(job, &listing.scope, self.shared.sink.room(&self.id));
        let page = self.open.connection.provider.decode_list(&listing.scope, &listing.answer, &mut reader);
        listing.served += reader.served();
        listing.answer.body = Bytes::new();
        listing.sliced += page.as_ref().map_or(0, |page| page.total);
        page
    }

    fn take_token(&mut self, answer: Result<Answer, Failure>) -> Result<Option<Duration>, Failure> {
        let now = self.shared.clock.now();
        let token = self.open.connection.credential.decode_token(&answer?, now)?;
        let life = token.expires.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        self.token = Some(Arc::new(token));
        Ok(life)
    }

    /// Delivers what became known, and what is new of the connection.
    fn tell(&mut self) {
        let (now, wall) = (Instant::now(), self.shared.clock.now());
        for delivery in self.planner.take_deliveries() {
            let Delivery { key, ticket, report } = delivery;
            self.shared.sink.deliver(Delivery { key, ticket, report: report.at_wall(now, wall) });
        }
        if self.counted.is_none_or(|last| now.duration_since(last) >= COUNT_EVERY) {
            self.counted = Some(now);
            for (state, word) in COUNTED {
                self.figures.set_tasks(word, u64::try_from(self.planner.count(state)).unwrap_or(u64::MAX));
            }
        }
        let health = ConnectionHealth {
            trouble: self.planner.trouble().map(|trouble| (trouble.failure.clone(), to_wall(trouble.since, now, wall))),
            last_success: self.planner.last_success().map(|at| to_wall(at, now, wall)),
            mode: self.planner.mode(),
            stretch: self.planner.stretch(),
        };
        if self.told.as_ref().is_none_or(|told| health.is_news(told)) {
            // One that nothing is asked through is not down.
            self.figures.set_up(health.trouble.is_none());
            self.figures.set_period_stretch(health.stretch);
            self.shared.sink.connection(&self.id, health.clone());
            self.told = Some(health);
        }
    }
}

/// Begins to read a list.
async fn open_list(channel: &Channel, request: Outgoing, scope: &Arc<str>) -> News {
    match channel.open(request).await {
        Ok((answer, body)) => {
            let scope = Arc::clone(scope);
            let listing = Listing { scope, answer, body, sieve: Sieve::default(), sliced: 0, bytes: 0, served: 0 };
            Box::new(listing).read_on().await
        }
        Err(failure) => News::Whole(Err(failure)),
    }
}

impl Listing {
    /// The HTTP status, for the metrics.
    fn code(&self) -> String {
        self.answer.status.as_str().to_owned()
    }

    async fn read_on(mut self: Box<Self>) -> News {
        match self.body.next().await {
            Ok(part) => News::Part(self, part),
            Err(failure) => News::Whole(Err(failure)),
        }
    }
}

impl ConnectionHealth {
    fn is_news(&self, told: &Self) -> bool {
        let trouble = |health: &Self| health.trouble.as_ref().map(|(f, _)| (f.class, f.code.clone()));
        let stretched = (self.stretch / told.stretch - 1.0).abs() > 0.2;
        let success = match (self.last_success, told.last_success) {
            (Some(new), Some(old)) => new.duration_since(old) >= SUCCESS_STEP,
            (new, old) => new.is_some() != old.is_some(),
        };
        trouble(self) != trouble(told) || self.mode != told.mode || stretched || success
    }
}

impl Report<Instant> {
    /// The same by the wall clock.
    fn at_wall(self, now: Instant, wall: Timestamp) -> Report<Timestamp> {
        let time = |at| to_wall(at, now, wall);
        match self {
            Self::Seen { task, at } => Report::Seen { task, at: time(at) },
            Self::Missing { failure, since, at } => Report::Missing { failure, since: time(since), at: time(at) },
            Self::Trouble { failure, since, at } => Report::Trouble { failure, since: time(since), at: time(at) },
        }
    }
}

fn to_wall(at: Instant, now: Instant, wall: Timestamp) -> Timestamp {
    let ago = SignedDuration::try_from(now.saturating_duration_since(at)).unwrap_or_default();
    wall.checked_sub(ago).unwrap_or(wall)
}

fn unsupported(what: &str) -> Failure {
    Failure::new(FailureClass::InvalidRequest, format!("this upstream has no {what}"))
}

impl JobKind {
    /// The metric label.
    fn operation(&self) -> &'static str {
        match self {
            Self::Authenticate => "authenticate",
            Self::Get(_) => "get",
            Self::Subtasks(_) => "subtasks",
            Self::List(..) => "list",
        }
    }
}

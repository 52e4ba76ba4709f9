//! Runs a connection's planner: sends its jobs, hands it what they brought, delivers the reports. The only task that touches them.

use std::{
    sync::Arc,
    time::{Duration, Instant as SystemInstant},
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};
use tracing::{debug, info, warn};

use super::{
    ConnectionAgenda, ConnectionHealth, ConnectionId, Delivery, Open, Predecessor, Sink,
    agenda::Circumstances,
    decoding::{Decoder, Workbench},
    inbox::{Inbox, Wish},
    listing::Listing,
    planner::{Job, JobKind, Outcome, Planner},
    quota::Quota,
    secrets::Secrets,
    sending::{Errand, News, Sent, Whole, carry_out, read_on, unsupported, while_held},
    transport::Outgoing,
};
use crate::domain::{
    failure::{Failure, FailureClass, RetryAfter},
    task::TaskState,
};
use crate::ops::{
    clock::Clock,
    guard::Guard,
    metrics::{ConnectionMetrics, Metrics},
    traces::{Context, Start, Traces, Value},
};
use crate::ownership::{Bucket, Buckets};
use crate::providers::{
    Page, Request,
    auth::{Token, TokenRequest},
};
use crate::tenancy::{Tenant, pool::Account, shares::Shares, usage::TenantUsage};

/// What all actors share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) sink: Arc<dyn Sink>,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
    pub(super) traces: Traces,
    pub(super) guard: Guard,
    pub(super) shares: Shares,
    pub(super) buckets: Buckets,
}

/// One connection at work.
pub(super) struct Actor {
    id: ConnectionId,
    /// By whose owner it is asked through.
    bucket: Bucket,
    inbox: Arc<Inbox>,
    shared: Shared,
    open: Arc<Open>,
    figures: ConnectionMetrics,
    planner: Planner,
    token: Option<Arc<Token>>,
    secrets: Secrets,
    bench: Workbench,
    usage: Arc<TenantUsage>,
    /// Polled by the actor's own task: a task for each request would wake another thread each time.
    sent: FuturesUnordered<BoxFuture<'static, Option<Sent>>>,
    quota: Quota,
    told: Option<ConnectionHealth>,
    /// By which poll became known what is to be told.
    traced: Option<Context>,
    /// Who wants to know what is next.
    askers: Vec<oneshot::Sender<ConnectionAgenda>>,
    /// When the tasks were last counted by state.
    counted: Option<Instant>,
}

/// Who cannot renew its lease looks so often whether it has been after all.
const OWNER_AGAIN: Duration = Duration::from_millis(500);
/// The tasks are counted by state this often, for the metrics.
const COUNT_EVERY: Duration = Duration::from_secs(15);
/// The states of tasks that are polled, and their words.
const COUNTED: [(Option<TaskState>, &str); 4] = [
    (None, "Unknown"),
    (Some(TaskState::Pending), "Pending"),
    (Some(TaskState::Running), "Running"),
    (Some(TaskState::Paused), "Paused"),
];

impl Actor {
    /// An actor that has yet to run, on the account of `tenant`.
    pub(super) fn new(id: ConnectionId, tenant: &Tenant, open: Arc<Open>, inbox: Arc<Inbox>, shared: Shared) -> Self {
        let catalogues = Account { pool: shared.shares.catalogues.clone(), tenant: tenant.clone() };
        let planner = Planner::new(open.connection.settings(), catalogues, Instant::now());
        let figures = shared.metrics.connection(open.connection.provider.name());
        let usage = shared.shares.usage.of(tenant);
        let bench = Workbench {
            tenant: tenant.clone(),
            meter: shared.shares.cpu.meter(tenant, &usage),
            guard: shared.guard.clone(),
            turns: shared.shares.decoding.clone(),
        };
        Self {
            bucket: shared.buckets.of(&id.to_string()),
            id,
            inbox,
            secrets: Secrets::new(&open.connection.credential),
            open,
            figures,
            planner,
            token: None,
            bench,
            usage,
            sent: FuturesUnordered::new(),
            quota: Quota::new(shared.shares.requests.clone(), tenant),
            told: None,
            traced: None,
            askers: Vec::new(),
            counted: None,
            shared,
        }
    }

    /// It keeps to what whoever polled before has left.
    pub(super) fn succeed(&mut self, before: Predecessor) {
        let now = Instant::now();
        if before.has_polled {
            self.planner.exhaust(now);
        }
        let wait = before.retry_at.map(|at| RetryAfter::At(at).wait(self.shared.clock.now()));
        if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
            self.planner.silence(wait, now);
        }
    }

    /// Runs until the inbox is closed; what it takes is measured and shared fairly.
    pub(super) async fn run(self) {
        let meter = self.bench.meter.clone();
        meter.wrap(self.serve()).await;
    }

    async fn serve(mut self) {
        loop {
            let now = Instant::now();
            let is_owner = self.bucket.is_held();
            while is_owner && let Some(job) = self.quota.next(&mut self.planner, now) {
                self.send(job);
            }
            self.tell();
            self.answer_askers();
            let wake = if is_owner { self.quota.wake_at(&self.planner, now) } else { Some(now + OWNER_AGAIN) };
            tokio::select! {
                () = self.inbox.news() => {
                    if self.take_orders() {
                        return;
                    }
                }
                Some(sent) = self.sent.next(), if !self.sent.is_empty() => match sent {
                    Some(sent) => self.take(sent),
                    None => self.abandon_all(Instant::now()),
                },
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
                info!(connection = %self.id, "the connection or its credential changed: everything is asked for again");
                self.token = None;
                self.secrets.renew(&self.open.connection.credential);
                self.abandon_all(now);
            }
            self.planner.reconfigure(self.open.connection.settings(), renewed, now);
        }
        for (key, wish) in wanted.wishes {
            match wish {
                Some(Wish::Watch(wanted)) => self.planner.watch(key, &wanted, now),
                Some(Wish::Discover(wanted)) => self.planner.discover(key, &wanted, now),
                None => self.planner.forget(&key),
            }
        }
        self.askers.extend(wanted.askers);
        wanted.closed
    }

    /// Says what is next: after all has been sent that may be, or what it says would not hold.
    fn answer_askers(&mut self) {
        if self.askers.is_empty() {
            return;
        }
        let (now, wall) = (Instant::now(), self.shared.clock.now());
        let around = Circumstances {
            provider: self.open.connection.provider.name(),
            wait: self.quota.wait(&self.planner, now),
            lost_bucket: Some(self.bucket.number()).filter(|_| !self.bucket.is_held()),
            throttled: self.bench.meter.is_throttled(now),
        };
        let agenda = ConnectionAgenda::of(&self.id, &self.planner, &around, now, wall);
        for asker in self.askers.drain(..) {
            // Who has gone away does not want to know any more.
            let _ = asker.send(agenda.clone());
        }
    }

    fn send(&mut self, job: Job) {
        self.usage.request();
        self.shared.metrics.poll_lag(Arc::clone(self.figures.provider()), job.lag);
        let errand = self.prepare(&job.kind);
        self.sent.push(
            while_held(self.bucket.clone(), carry_out(job.id, job.kind, self.shared.traces.start(), errand)).boxed(),
        );
    }

    /// Waits for no answer any more.
    fn abandon_all(&mut self, now: Instant) {
        self.sent.clear();
        self.planner.abandon_all(now);
    }

    fn prepare(&self, kind: &JobKind) -> Result<Errand, Failure> {
        let provider = &self.open.connection.provider;
        match kind {
            JobKind::Authenticate => self.prepare_exchange(),
            JobKind::Get(task) => self.prepare_request(Some(provider.task_request(task)), &task.scope),
            JobKind::Subtasks(task) => self.prepare_request(provider.subtasks_request(task), &task.scope),
            JobKind::List(scope, cursor) => self.prepare_request(provider.list_request(scope, cursor.as_ref()), scope),
        }
    }

    /// Addresses and signs a request to the endpoint.
    fn prepare_request(&self, request: Option<Request>, scope: &str) -> Result<Errand, Failure> {
        let connection = &self.open.connection;
        let request = request.ok_or_else(|| unsupported("this request"))?;
        let url = request.url(&connection.endpoint);
        let Request { method, mut headers, body, body_limit, .. } = request;
        let (token, now) = (self.token.as_deref(), self.shared.clock.now());
        connection.credential.authorize(token, &method, &url, &mut headers, &body, Some(scope), now)?;
        let redactor = self.secrets.and_sent(&headers);
        let timeout = connection.request_timeout;
        Ok(Errand {
            channel: self.open.channel.clone(),
            request: Outgoing { method, url, headers, body, body_limit, timeout },
            decoder: Decoder {
                open: Arc::clone(&self.open),
                before: Arc::clone(&redactor),
                after: redactor,
                bench: self.bench.clone(),
            },
            lease: self.shared.shares.bodies.lease(&self.bench.tenant),
            now,
        })
    }

    fn prepare_exchange(&self) -> Result<Errand, Failure> {
        let connection = &self.open.connection;
        let (Some(request), Some(channel)) = (connection.credential.token_request(), &self.open.token_channel) else {
            return Err(unsupported("tokens"));
        };
        let TokenRequest { method, url, headers, body, body_limit } = request;
        let timeout = connection.request_timeout;
        Ok(Errand {
            channel: channel.clone(),
            request: Outgoing { method, url, headers, body, body_limit, timeout },
            decoder: Decoder {
                open: Arc::clone(&self.open),
                before: self.secrets.of_credential(),
                after: self.secrets.all(),
                bench: self.bench.clone(),
            },
            lease: self.shared.shares.bodies.lease(&self.bench.tenant),
            now: self.shared.clock.now(),
        })
    }

    /// Takes in what came of a job: its answer, or a part of it.
    fn take(&mut self, sent: Sent) {
        let Sent { job, kind, started, news } = sent;
        match news {
            News::Part(listing, part) => self.take_part(Sent { job, kind, started, news: part }, listing),
            News::Whole(whole) => {
                let Whole { code, bytes, answered, hint, outcome } = *whole;
                let outcome = outcome.map_token(|token| self.take_token(token));
                self.take_outcome(job, &kind, started, Whole { code, bytes, answered, hint, outcome });
            }
        }
    }

    /// Takes in a part of a list, and has it read on; none is its end.
    fn take_part(&mut self, sent: Sent<Option<Bytes>>, mut listing: Box<Listing>) {
        let Sent { job, kind, started, news } = sent;
        self.traced = started.context;
        let answered = Some(SystemInstant::now());
        let page = match news {
            Some(part) => match self.read_part(job, &mut listing, &part) {
                Ok(()) if listing.is_given_up() => self.finish(job, &mut listing),
                Ok(()) => {
                    let rest = read_on(job, kind, started, listing);
                    self.sent.push(while_held(self.bucket.clone(), rest).boxed());
                    return;
                }
                Err(failure) => Err(failure),
            },
            None => self.finish(job, &mut listing),
        };
        let page = page.map_err(|failure| listing.clean_failure(failure));
        let (code, bytes) = (listing.code(), listing.bytes());
        let whole = Whole { code, bytes, answered, hint: None, outcome: Outcome::List(page) };
        self.take_outcome(job, &kind, started, whole);
    }

    fn read_part(&mut self, job: u64, listing: &mut Listing, part: &[u8]) -> Result<(), Failure> {
        let scope = listing.scope();
        let mut reader = self.planner.list_reader(job, &scope, 0);
        let slice = listing.take(part, |print| reader.knows(print));
        listing.serves(reader.served());
        if let Some(slice) = slice? {
            let page = self.decode(job, listing, slice)?;
            self.planner.slice_came(job, &scope, page, Instant::now());
        }
        Ok(())
    }

    /// What a list says beyond what was known already.
    fn finish(&mut self, job: u64, listing: &mut Listing) -> Result<Page, Failure> {
        let rest = listing.rest();
        let page = self.decode(job, listing, rest).map(|page| Page { total: listing.total(), ..page });
        self.shared.metrics.coalesced_tasks(Arc::clone(self.figures.provider()), listing.served());
        page
    }

    /// Finds the entries in a slice of a list, lets the planner choose, and reads those that it wants: no more than there is room for in the
    /// controller.
    fn decode(&mut self, job: u64, listing: &mut Listing, slice: Vec<u8>) -> Result<Page, Failure> {
        let scan = listing.scan(slice)?;
        let room = self.shared.sink.room(&self.bench.tenant);
        let mut reader = self.planner.list_reader(job, &listing.scope(), room);
        let wanted = reader.choose(scan.found());
        listing.serves(reader.served());
        listing.decode(scan, &wanted)
    }

    fn take_outcome(&mut self, job: u64, kind: &JobKind, started: Start, whole: Whole<Option<Duration>>) {
        self.trace(kind, started, &whole);
        let Whole { code, bytes, answered: _, hint, outcome } = whole;
        let (took, now) = (started.at.elapsed(), Instant::now());
        let failure = outcome.failure();
        let operation = kind.operation();
        let provider = Arc::clone(self.figures.provider());
        self.usage.bytes(bytes);
        self.shared.metrics.upstream_request(provider, operation, code, took);
        if let Some(failure) = failure {
            let (class, code, request_id) = (failure.class.as_str(), &failure.code, &failure.correlation_id);
            let (scope, task) = kind.about();
            debug!(connection = %self.id, operation, scope, task, class, code, request_id, "{}", failure.message);
        }
        if let (JobKind::Subtasks(_), Some(failure)) =
            (kind, failure.filter(|f| f.class == FailureClass::InvalidRequest))
        {
            let request_id = &failure.correlation_id;
            warn!(connection = %self.id, request_id, "the upstream refuses to list sub-tasks; tasks are shown without: {}", failure.message);
        }
        let retry_after =
            failure.map_or(hint, |failure| failure.retry_after).map(|after| after.wait(self.shared.clock.now()));
        self.planner.done(job, outcome, bytes, retry_after, now);
    }

    /// Tells of a job that is over, and what is told because of it is told as a part of that.
    fn trace(&mut self, kind: &JobKind, started: Start, whole: &Whole<Option<Duration>>) {
        self.traced = started.context;
        let Some(context) = started.context else { return };
        let (traces, now) = (&self.shared.traces, SystemInstant::now());
        let failure = whole.outcome.failure();
        let class = failure.map(|failure| ("error.type", Value::from(failure.class.as_str())));
        let status = whole.code.parse::<u16>().ok().map(|status| ("http.response.status_code", status.into()));
        let request: Vec<_> = status.into_iter().chain(class.clone().filter(|_| whole.answered.is_none())).collect();
        traces.part(context, "request", (started.at, whole.answered.unwrap_or(now)), &request);
        if let Some(answered) = whole.answered {
            traces.part(context, "decode", (answered, now), &[]);
        }
        let names = [
            ("taskwatch.connection", self.id.to_string().into()),
            ("taskwatch.provider", self.open.connection.provider.name().to_owned().into()),
            ("taskwatch.operation", kind.operation().into()),
        ];
        let all: Vec<_> = names.into_iter().chain(class).collect();
        traces.ended(started, "poll", &all);
    }

    /// Uses a new token from now on. Returns how long it is good for where that is known.
    fn take_token(&mut self, token: Token) -> Option<Duration> {
        let now = self.shared.clock.now();
        let life = token.expires.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        self.secrets.add_token(&token);
        self.token = Some(Arc::new(token));
        life
    }

    /// Delivers what became known, and what is new of the connection.
    fn tell(&mut self) {
        let (now, wall) = (Instant::now(), self.shared.clock.now());
        let traced = self.traced.take();
        for delivery in self.planner.take_deliveries() {
            let Delivery { key, ticket, report } = delivery;
            if let Some(context) = traced {
                self.shared.traces.follow(&key.0, context);
            }
            self.shared.sink.deliver(Delivery { key, ticket, report: report.at_wall(now, wall) });
        }
        for news in self.planner.take_discovered() {
            self.shared.sink.discovered(news.at_wall(now, wall));
        }
        if self.counted.is_none_or(|last| now.duration_since(last) >= COUNT_EVERY) {
            self.counted = Some(now);
            for (state, word) in COUNTED {
                self.figures.set_tasks(word, u64::try_from(self.planner.count(state)).unwrap_or(u64::MAX));
            }
        }
        let (throttled, insecure) = (self.bench.meter.is_throttled(now), self.open.is_insecure());
        let health = ConnectionHealth::of(&self.planner, throttled, insecure, now, wall);
        if self.told.as_ref().is_none_or(|told| health.is_news(told)) {
            // One that nothing is asked through is not down.
            self.figures.set_up(health.trouble.is_none());
            self.figures.set_period_stretch(health.stretch);
            self.figures.set_throttled(health.throttled);
            self.shared.sink.connection(&self.id, health.clone());
            self.told = Some(health);
        }
    }
}

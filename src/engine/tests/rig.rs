//! Drives a planner as the actor would, and checks the invariants of design §3 after every step.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::model::{Answer, Upstream};
use crate::domain::{
    cadence,
    failure::FailureClass,
    task::{TaskRef, TaskState},
};
use crate::engine::{
    Discovery, Found, Report, Subscription, WatchKey,
    coalesce::ModeChoice,
    planner::{Job, JobKind, Outcome, Planner, Settings},
};
use crate::tenancy::{
    Tenant,
    pool::{Account, Pool},
};

pub const SECOND: Duration = Duration::from_secs(1);
pub const MINUTE: Duration = Duration::from_mins(1);

/// What the rig knows of a watch that it has registered.
#[derive(Clone, Debug)]
pub struct Watched {
    pub task: TaskRef,
    pub ticket: u64,
    /// The number of the step that registered this ticket.
    since: u64,
    pub stamp: u64,
    pub finished: bool,
    /// How many sub-tasks it was shown last.
    pub parts: usize,
    /// With their times.
    pub seen: Vec<Instant>,
    pub missing: Vec<Instant>,
    pub troubles: Vec<(Instant, FailureClass)>,
    /// It was told what a list had shown before: what was asked since then may be told, too.
    from_list: bool,
}

/// What the rig knows of a discoverer that it has registered.
#[derive(Clone, Debug)]
pub struct Discovering {
    pub scope: String,
    pub ticket: u64,
    pub told: Vec<Found<Instant>>,
}

struct Flight {
    arrives: Instant,
    job: Job,
    /// Given already where the upstream looked when it was asked, not when it answered.
    answer: Option<Answer>,
    asked: u64,
}

pub struct Rig {
    pub planner: Planner,
    pub upstream: Upstream,
    pub now: Instant,
    pub start: Instant,
    pub settings: Settings,
    pub watches: BTreeMap<WatchKey, Watched>,
    pub discoverers: BTreeMap<WatchKey, Discovering>,
    /// What has been sent, and when.
    pub sent: Vec<(Instant, JobKind)>,
    /// When a credential was refused, as far as that was not on its way when the one before came.
    pub refusals: Vec<Instant>,
    flights: Vec<Flight>,
    step: u64,
    asked_of_stamp: HashMap<u64, u64>,
    retry_at: Option<Instant>,
    bucket: (f64, Instant),
    most_burst: u32,
    ticket: u64,
    last_refusal_step: u64,
    changes: u64,
}

pub fn settings() -> Settings {
    Settings {
        requests_per_second: 5.0,
        burst: 10,
        requests_per_second_of_tenant: None,
        max_in_flight: 8,
        min_period: 5 * SECOND,
        max_period: 300 * SECOND,
        mode: ModeChoice::Get,
        lists: true,
        subtasks: false,
        exchanges: false,
    }
}

pub fn task(scope: &str, number: usize) -> TaskRef {
    TaskRef { scope: scope.into(), id: format!("t{number:05}") }
}

/// Whose it is: the scope's name up to a slash, so that the tests choose.
fn tenant(task: &TaskRef) -> Tenant {
    let name = task.scope.split_once('/').map_or("tenant", |(name, _)| name);
    Tenant::namespace(&Arc::from(name))
}

/// Room for all that there is.
pub fn account() -> Account {
    Account { pool: Pool::new(1 << 30, 0), tenant: Tenant::shared() }
}

pub fn set_key(number: usize) -> WatchKey {
    WatchKey(Arc::from(format!("d{number}")))
}

pub fn key(number: usize) -> WatchKey {
    WatchKey(Arc::from(format!("w{number}")))
}

impl Rig {
    pub fn new(settings: Settings) -> Self {
        let now = Instant::now();
        let mut upstream = Upstream::new();
        upstream.exchanges = settings.exchanges;
        Self {
            planner: Planner::new(settings.clone(), account(), now),
            upstream,
            now,
            start: now,
            most_burst: settings.burst,
            settings,
            watches: BTreeMap::new(),
            discoverers: BTreeMap::new(),
            sent: Vec::new(),
            refusals: Vec::new(),
            flights: Vec::new(),
            step: 0,
            asked_of_stamp: HashMap::new(),
            retry_at: None,
            bucket: (0.0, now),
            ticket: 0,
            last_refusal_step: 0,
            changes: 0,
        }
    }

    /// `count` running tasks of the scope `s`, each watched by the key of its number.
    pub fn with_tasks(settings: Settings, count: usize, known: bool) -> Self {
        let mut rig = Self::new(settings);
        for number in 0..count {
            rig.upstream.set(&task("s", number), TaskState::Running);
        }
        for number in 0..count {
            rig.watch(number, &task("s", number), known);
        }
        rig
    }

    pub fn watch(&mut self, number: usize, task: &TaskRef, known: bool) {
        self.watch_every(number, task, known, 10 * SECOND);
    }

    pub fn watch_every(&mut self, number: usize, task: &TaskRef, known: bool, period: Duration) {
        self.watch_between(number, task, known, (period, period));
    }

    /// With a period for a young task, and one for an old task.
    pub fn watch_between(&mut self, number: usize, task: &TaskRef, known: bool, periods: (Duration, Duration)) {
        self.watch_for(tenant(task), number, task, known, periods);
    }

    /// On the account of a tenant that the scope's name does not tell.
    pub fn watch_for(
        &mut self,
        tenant: Tenant,
        number: usize,
        task: &TaskRef,
        known: bool,
        (period, max_period): (Duration, Duration),
    ) {
        self.ticket += 1;
        self.step += 1;
        let watched = Watched {
            task: task.clone(),
            ticket: self.ticket,
            since: self.step,
            stamp: self.watches.get(&key(number)).filter(|old| old.task == *task).map_or(0, |old| old.stamp),
            finished: false,
            parts: 0,
            seen: Vec::new(),
            missing: Vec::new(),
            troubles: Vec::new(),
            from_list: false,
        };
        self.watches.insert(key(number), watched);
        let age = Duration::ZERO;
        let watch = Subscription {
            tenant,
            task: task.clone(),
            period,
            max_period,
            age,
            known,
            requested: false,
            ticket: self.ticket,
        };
        self.planner.watch(key(number), &watch, self.now);
        self.check_inside();
        // A newcomer to a silence is told of it at once.
        self.collect();
    }

    pub fn forget(&mut self, number: usize) {
        self.watches.remove(&key(number));
        self.planner.forget(&key(number));
        self.check_inside();
    }

    pub fn discover(&mut self, number: usize, scope: &str, period: Duration) {
        self.ticket += 1;
        let (scope, ticket) = (scope.to_owned(), self.ticket);
        let tenant = tenant(&TaskRef { scope: scope.clone(), id: String::new() });
        let wanted = Discovery { tenant, scope: scope.clone(), period, ticket };
        self.discoverers.insert(set_key(number), Discovering { scope, ticket, told: Vec::new() });
        self.planner.discover(set_key(number), &wanted, self.now);
        self.planner.assert_in_step();
        // What is known, and what is wrong, is told at once.
        self.collect();
    }

    pub fn forget_discoverer(&mut self, number: usize) {
        self.discoverers.remove(&set_key(number));
        self.planner.forget(&set_key(number));
        self.planner.assert_in_step();
    }

    fn is_discovered(&self, scope: &str) -> bool {
        self.discoverers.values().any(|discovering| discovering.scope == scope)
    }

    pub fn reconfigure(&mut self, settings: Settings, renewed: bool) {
        self.bucket = (self.leak(), self.now);
        self.most_burst = self.most_burst.max(settings.burst);
        self.settings = settings.clone();
        self.upstream.exchanges = settings.exchanges;
        if renewed {
            (self.refusals, self.last_refusal_step) = (Vec::new(), self.step);
        }
        self.planner.reconfigure(settings, renewed, self.now);
        self.check_inside();
        self.collect();
    }

    pub fn watched(&self, number: usize) -> &Watched {
        &self.watches[&key(number)]
    }

    /// How many requests were sent since `since`, of those that `which` chooses.
    pub fn count(&self, since: Instant, which: impl Fn(&JobKind) -> bool) -> usize {
        self.sent.iter().rev().take_while(|(at, _)| *at >= since).filter(|(_, kind)| which(kind)).count()
    }

    /// How many requests are in flight, of those that `which` chooses.
    pub fn in_flight(&self, which: impl Fn(&JobKind) -> bool) -> usize {
        self.flights.iter().filter(|flight| which(&flight.job.kind)).count()
    }

    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        let mut idle = 0;
        loop {
            let moved = self.pump();
            let wake = self.planner.wake_at(self.now);
            idle = if moved || wake.is_none_or(|at| at > self.now) { 0 } else { idle + 1 };
            assert!(idle < 3, "a busy loop: next() gives nothing, wake_at() says now");
            if wake.is_none() && self.flights.is_empty() {
                let wanting = self.watches.values().find(|watched| !watched.finished);
                assert!(wanting.is_none(), "asleep for ever, but {wanting:?}");
                assert!(!self.settings.lists || self.discoverers.is_empty(), "asleep for ever, but for discoverers");
            }
            let arrival = self.flights.iter().map(|flight| flight.arrives).min();
            let next = wake.into_iter().chain(arrival).min().unwrap_or(end).max(self.now);
            if next > end {
                self.now = end;
                return;
            }
            self.now = next;
            self.arrive();
            if next == end && wake.is_none_or(|at| at > end) && arrival.is_none_or(|at| at > end) {
                return;
            }
        }
    }

    /// Sends all that may be sent now.
    pub fn pump(&mut self) -> bool {
        let mut moved = false;
        while let Some(job) = self.planner.next(self.now) {
            moved = true;
            self.step += 1;
            self.check_inside();
            self.check_sent(&job);
            self.sent.push((self.now, job.kind.clone()));
            // Half of the answers show what was when they were asked for, half what is when they come; some take longer.
            let answer = job.id.is_multiple_of(2).then(|| self.upstream.answer(&job.kind, self.now));
            let slow = if job.id % 7 == 3 { 4 } else { 1 };
            let arrives = self.now + self.upstream.latency_of(&job.kind) * slow;
            self.flights.push(Flight { arrives, job, answer, asked: self.step });
        }
        self.collect();
        moved
    }

    fn arrive(&mut self) {
        while let Some(at) = self.flights.iter().position(|flight| flight.arrives <= self.now) {
            let Flight { job, answer, asked, .. } = self.flights.remove(at);
            let mut answer = answer.unwrap_or_else(|| self.upstream.answer(&job.kind, self.now));
            if let (JobKind::List(scope, _), Outcome::List(Ok(page))) = (&job.kind, &mut answer.result)
                && self.is_discovered(scope)
            {
                // As the actor reads a list; each answer shows something new of each task.
                let mut reader = self.planner.list_reader(job.id, scope, usize::MAX);
                page.tasks.retain(|task| {
                    let print = cadence::seed(&format!("{} {}", task.id, task.order));
                    !reader.knows(print) && reader.wants(&task.id, task.parent_id.as_deref(), print)
                });
            }
            self.asked_of_stamp.insert(answer.stamp, asked);
            if let Some(wait) = answer.retry_after.filter(|_| answer.result.failure().is_some()) {
                self.retry_at = self.retry_at.max(Some(self.now + wait));
            }
            let class = answer.result.failure().map(|failure| failure.class);
            let counts = !self.settings.exchanges || job.kind == JobKind::Authenticate;
            if class == Some(FailureClass::AuthenticationFailed) && counts && asked > self.last_refusal_step {
                self.refusals.push(self.now);
                self.last_refusal_step = self.step;
                let recent = self.refusals.iter().filter(|at| **at + 5 * MINUTE > self.now).count();
                assert!(recent < 5, "inv 6: five refusals within five minutes");
            }
            self.planner.done(job.id, answer.result, 500, answer.retry_after, self.now);
            self.check_inside();
            self.collect();
        }
    }

    /// Whether the planner's parts are in step: after each change, but not each time where there is much to go through.
    fn check_inside(&mut self) {
        self.changes += 1;
        let every = 1 + self.watches.len() as u64 / 8;
        if self.changes.is_multiple_of(every) {
            self.planner.assert_in_step();
        }
    }

    /// How full the bucket of the budget is now.
    fn leak(&self) -> f64 {
        let (level, at) = self.bucket;
        (level - (self.now - at).as_secs_f64() * self.settings.requests_per_second).max(0.0)
    }

    fn check_sent(&mut self, job: &Job) {
        let scope_and_task = |kind: &JobKind| match kind {
            JobKind::Authenticate => (None, None),
            JobKind::Get(task) | JobKind::Subtasks(task) => (None, Some(Arc::clone(task))),
            JobKind::List(scope, _) => (Some(Arc::clone(scope)), None),
        };
        let subject = scope_and_task(&job.kind);
        let twice =
            self.flights.iter().any(|flight| subject != (None, None) && scope_and_task(&flight.job.kind) == subject);
        assert!(!twice, "inv 1: {:?} twice in flight", job.kind);
        assert!(self.flights.len() < self.settings.max_in_flight, "inv 2: too many in flight");
        let level = self.leak() + 1.0;
        assert!(level <= f64::from(self.most_burst) + 1e-3, "inv 2: over budget: {level}");
        self.bucket = (level, self.now);
        assert!(self.retry_at.is_none_or(|at| at <= self.now), "inv 3: sent before Retry-After has passed");
        let wanted = self.watches.values().filter(|watched| !watched.finished).any(|watched| match &job.kind {
            JobKind::Authenticate => true,
            JobKind::Get(task) | JobKind::Subtasks(task) => watched.task == **task,
            JobKind::List(scope, _) => watched.task.scope == **scope,
        });
        let wanted = wanted
            || match &job.kind {
                JobKind::Authenticate => !self.discoverers.is_empty(),
                JobKind::List(scope, _) => self.is_discovered(scope),
                JobKind::Get(_) | JobKind::Subtasks(_) => false,
            };
        assert!(wanted, "inv 5: nobody wants {:?}", job.kind);
    }

    fn collect(&mut self) {
        for news in self.planner.take_discovered() {
            let discovering = self.discoverers.get_mut(&news.key).expect("nothing is told to who was forgotten");
            assert_eq!(discovering.ticket, news.ticket);
            let is_news = match (&news.found, discovering.told.last()) {
                (Found::Listed { catalogue, .. }, Some(Found::Listed { catalogue: before, .. })) => catalogue != before,
                (Found::Trouble { failure, .. }, Some(Found::Trouble { failure: before, .. })) => {
                    failure.class != before.class
                }
                (Found::Unsupported, _) => !self.settings.lists,
                _ => true,
            };
            assert!(is_news, "told again: {news:?}");
            discovering.told.push(news.found);
        }
        let discovered: Vec<_> = self.discoverers.values().map(|discovering| discovering.scope.clone()).collect();
        for delivery in self.planner.take_deliveries() {
            let watched = self.watches.get_mut(&delivery.key).expect("nothing is delivered to who was forgotten");
            assert_eq!(watched.ticket, delivery.ticket);
            assert!(!watched.finished, "inv 1: {:?} after the end", delivery.report);
            let stamp = match &delivery.report {
                Report::Seen { task, .. } => u64::try_from(task.order).unwrap(),
                Report::Missing { failure, .. } => failure.message.parse().unwrap(),
                Report::Trouble { failure, at, since } => {
                    assert!(since <= at);
                    watched.troubles.push((self.now, failure.class));
                    continue;
                }
            };
            assert!(stamp >= watched.stamp, "inv 1: an older answer after a newer one");
            let is_older = self.asked_of_stamp[&stamp] <= watched.since;
            watched.from_list |= is_older && watched.seen.is_empty() && discovered.contains(&watched.task.scope);
            assert!(!is_older || watched.from_list, "inv 1: asked before the watch was registered");
            watched.stamp = stamp;
            match delivery.report {
                Report::Seen { task, .. } => {
                    assert_eq!(task.id, watched.task.id);
                    watched.finished = task.state.is_finished();
                    watched.parts = task.subtasks.len();
                    watched.seen.push(self.now);
                }
                _ => watched.missing.push(self.now),
            }
        }
    }
}

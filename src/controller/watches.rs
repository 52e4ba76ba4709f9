//! The reconciler of `TaskWatch` objects: decides, registers or calls off the poll, writes what is new, tells of it.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use kube::{
    Api, Resource,
    api::{DeleteParams, Preconditions},
};
use tokio::time::Instant;
use tracing::{debug, error, info};

use super::{
    Controller, Error, call,
    index::{Index, WatchEntry},
    kept::Kept,
    look::Look,
    objects::{Identity, WatchObject},
    quarantine::Quarantine,
    status::{self, Written},
};
use crate::{
    api::{TaskWatch, TaskWatchStatus},
    domain::{
        availability::Reason,
        decide::{self, Decision, Event, Input, Meta, Observation, Poll, decide},
        failure::Failure,
    },
    engine::{ConnectionId, Report, Watch, WatchKey},
    ops::{
        guard::{Panicked, Stage},
        metrics::{EventResult, StatusWrite},
    },
};

/// The first wait after a failed write; doubles.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// When to read a status again that was another one than is known.
const REREAD: Duration = Duration::from_secs(1);

/// How much later than a watch its connection may come, where both are applied at once.
const CONNECTION_LATE: SignedDuration = SignedDuration::from_secs(3);

fn is_blank(status: Option<&TaskWatchStatus>) -> bool {
    status.is_none_or(|status| status.conditions.is_empty())
}

/// How long to wait after so many failures in a row.
pub(super) fn backoff(failures: u32) -> Duration {
    RETRY.0.saturating_mul(1 << failures.min(10)).min(RETRY.1)
}

/// What a reconcile has to do beyond the index.
struct Plan {
    object: Arc<WatchObject>,
    decision: Decision,
    decided: Timestamp,
    /// When what it rests on was seen.
    seen: Option<Timestamp>,
    /// Events of an earlier write, of which only now is known that it arrived.
    confirmed: Vec<Event>,
}

impl Controller {
    /// Brings one `TaskWatch` up to date. Says when to look again.
    pub(super) async fn reconcile_watch(&self, Look { tenant, key }: &Look) -> Result<Option<Instant>, Error> {
        let outside = self.shared.index().outside(key);
        if let Some(identity) = outside {
            return self.reconcile_outside(&identity).await;
        }
        // Who was put off comes again only to write: there is nothing to decide before there is a share for it.
        let was_put_off = self.shared.index().take_up(key);
        if was_put_off && let Err(again) = self.writes.take(tenant, Instant::now()) {
            self.shared.index().put_off(key);
            return Ok(Some(again));
        }
        let lost = self.shared.index().let_go(key);
        let mut read = None;
        if let Some(identity) = lost {
            // It costs the API server as much as a write does.
            if let Err(again) = self.writes.take(tenant, Instant::now()) {
                return Ok(Some(again));
            }
            read = Some(self.read_watch(&identity).await?.status.unwrap_or_default());
        }
        let mut plan = match self.plan(key, read) {
            Ok(Some(plan)) => plan,
            Ok(None) => return Ok(None),
            Err(until) => return Ok(Some(until)),
        };
        self.tell(&plan.object, &plan.confirmed);
        let writes = plan.decision.status.is_some() || plan.decision.delete;
        if writes
            && !was_put_off
            && let Err(again) = self.writes.take(tenant, Instant::now())
        {
            self.shared.index().put_off(key);
            return Ok(Some(again));
        }
        if let Some(status) = plan.decision.status.take() {
            self.write_watch(key, &plan, &status).await?;
            self.tell(&plan.object, &plan.decision.events);
        } else {
            self.metrics.status_write(StatusWrite::Suppressed);
        }
        if plan.decision.delete {
            self.delete(&plan.object).await?;
        }
        Ok(plan.decision.wake_at.map(|at| {
            let wait = at.duration_since(plan.decided);
            Instant::now() + Duration::try_from(wait).unwrap_or_default()
        }))
    }

    /// When to try again after a failure.
    pub(super) fn watch_failed(&self, key: &WatchKey) -> Instant {
        let failures = self.shared.index().watches.get_mut(key).map_or(0, |entry| {
            entry.failures += 1;
            entry.failures
        });
        Instant::now() + backoff(failures)
    }

    /// Decides under the lock, and tells the engine.
    fn plan(&self, key: &WatchKey, read: Option<TaskWatchStatus>) -> Result<Option<Plan>, Instant> {
        let mut index = self.shared.index();
        let now = self.clock.now();
        index.read(key);
        let is_busy = index.watches.get(key).is_some_and(|entry| index.unread().is_busy(&entry.object.payer()));
        let Index { watches, connections, namespaces, quotas, .. } = &mut *index;
        let Some(entry) = watches.get_mut(key) else { return Ok(None) };
        if let Some(until) = entry.quarantine.and_then(|quarantine| quarantine.lasts(Instant::now())) {
            return Err(until);
        }
        let object = Arc::clone(&entry.object);
        let connection = object.connection();
        let check = self.sight.check(&object, connections.get(&connection), namespaces, quotas);
        let stored = self.guard.run(Stage::Decide, key, || entry.status.as_ref().and_then(Kept::unpack));
        let mut stored = stored.map_err(|panicked| set_aside(entry, &panicked))?;
        if entry.status.as_ref().is_some_and(Kept::is_let_go) {
            stored = read.filter(|read| Kept::pack(read) == entry.status);
            if stored.is_none() {
                // It is another one by now; the watch of the API server will say so.
                return Err(Instant::now() + REREAD);
            }
        }
        let handled = stored.as_ref().and_then(|status| status.last_handled_reconcile_at.as_deref());
        if let Some(requested) = object.requested_at()
            && entry.ticket_for.as_deref() != Some(requested)
            && handled != Some(requested)
        {
            entry.ticket += 1;
            entry.ticket_for = Some(requested.to_owned());
        }
        if is_busy && entry.observation.is_none() {
            // That nothing is known of it yet may be our own slowness: it is not told as the upstream's.
            entry.asking_since = now;
        }
        let own = (object.spec.period(), object.spec.max_period());
        let (period, max_period) = check.as_ref().map_or(own, |usable| usable.periods(&object.spec));
        let failure = entry.observation.as_ref().and_then(|seen| seen.1.failure());
        let for_others = failure.filter(|_| !self.sight.tells_all(&object)).map(Failure::for_others);
        let input = Input {
            meta: Meta {
                generation: object.generation,
                created: object.created,
                uid: &key.0,
                requested_at: object.requested_at(),
                tracked: object.tracked,
                allow_ttl: object.allow_ttl,
            },
            spec: &object.spec,
            status: stored.as_ref(),
            connection: check.as_ref().map(|usable| usable.scope),
            observation: observation(entry.observation.as_ref().map(|seen| &seen.1), for_others.as_ref()),
            refreshed: entry.ticket_for.is_some()
                && entry.observation.as_ref().is_some_and(|seen| seen.0 == entry.ticket),
            asking_since: if entry.registered.is_some() { entry.asking_since } else { now },
            not_found_since: entry.not_found_since(stored.as_ref()),
            period,
            settings: self.settings,
            pace: entry.pace,
        };
        // Either way: the API server's clock is another one.
        let is_young = now.duration_since(object.created).abs() < CONNECTION_LATE;
        if is_young
            && matches!(&check, Err(why) if why.reason == Reason::ConnectionNotFound)
            && is_blank(stored.as_ref())
        {
            // Made together with its connection, which is only later by a moment.
            let decision = Decision { wake_at: Some(now + CONNECTION_LATE), ..Decision::default() };
            return Ok(Some(Plan { object, decision, decided: now, seen: None, confirmed: Vec::new() }));
        }
        let decision = self.guard.run(Stage::Decide, key, || decide(&input, now));
        let decision = decision.map_err(|panicked| set_aside(entry, &panicked))?;
        entry.quarantine = None;
        // A request to look goes before what only takes its turn.
        let asked_for = entry.ticket_for.is_some() && entry.ticket_for.as_deref() != handled;
        let known = !asked_for && stored.as_ref().is_some_and(|status| status.last_observed_time.is_some());
        let age = now.duration_since(unchanged_since(&object, stored.as_ref()));
        let (age, ticket) = (Duration::try_from(age).unwrap_or_default(), entry.ticket);
        let usable = check.as_ref().ok().filter(|_| decision.poll == Poll::Keep);
        let wanted = usable.and_then(|usable| usable.task(&object.spec));
        let tenant = object.tenant();
        let wanted = wanted.map(|task| Watch { tenant, task, period, max_period, age, known, ticket });
        self.register(entry, key, &connection, wanted, now);
        let confirmed = match (&decision.status, entry.unconfirmed.take().map(|told| *told)) {
            (None, Some((status, events))) if entry.status.as_ref() == Some(&status) => events,
            _ => Vec::new(),
        };
        let seen = entry.seen();
        if seen.is_some() && decision.status.is_none() && decision.wake_at.is_none() {
            entry.observation = None;
        }
        entry.finished = stored.as_ref().is_some_and(decide::is_finished);
        Ok(Some(Plan { object, decision, decided: now, seen, confirmed }))
    }

    /// Tells the engine what is wanted, where that has changed.
    fn register(
        &self,
        entry: &mut WatchEntry,
        key: &WatchKey,
        connection: &ConnectionId,
        wanted: Option<Watch>,
        now: Timestamp,
    ) {
        let print = wanted.as_ref().map(Watch::print);
        if entry.registered == print {
            return;
        }
        let was_registered = entry.registered.take().is_some();
        if wanted.is_some_and(|watch| self.engine.watch(connection, key.clone(), watch)) {
            if !was_registered {
                entry.asking_since = now;
            }
            entry.registered = print;
        } else {
            self.engine.forget(connection, key.clone());
            entry.observation = entry.observation.take().filter(|seen| matches!(seen.1, Report::Seen { .. }));
        }
    }

    async fn write_watch(&self, key: &WatchKey, plan: &Plan, new: &TaskWatchStatus) -> Result<(), Error> {
        let identity = &plan.object.identity;
        let namespace = identity.namespace.as_deref().unwrap_or_default();
        let path = TaskWatch::url_path(&(), Some(namespace));
        let kept = Kept::pack(new);
        if let (Some(entry), Some(kept)) = (self.shared.index().watches.get_mut(key), &kept) {
            entry.unconfirmed = Some(Box::new((kept.digest(), plan.decision.events.clone())));
        }
        let written = status::write(&self.client, &path, identity, new).await;
        let mut index = self.shared.index();
        let Some(entry) = index.watches.get_mut(key) else {
            // It was deleted meanwhile. What was never shown is not told either.
            return if matches!(written, Ok(Written::At(_))) { Ok(()) } else { Err(Error::Gone) };
        };
        match written {
            Ok(Written::At(version)) => {
                self.metrics.status_write(StatusWrite::Patched);
                if version >= entry.version {
                    entry.keep(kept);
                    entry.version = version;
                }
                entry.unconfirmed = None;
                entry.failures = 0;
                entry.pace = entry.pace.written(plan.decided);
                entry.finished = decide::is_finished(new);
                // What the status shows need not be kept.
                if plan.seen.is_some() && plan.seen == entry.seen() {
                    entry.observation = None;
                }
                debug!(namespace, name = &*identity.name, state = new.state, "status written");
                Ok(())
            }
            Ok(Written::Gone) => {
                // Its end, or its successor, comes by the watch.
                entry.unconfirmed = None;
                self.metrics.status_write(StatusWrite::Conflict);
                Err(Error::Gone)
            }
            Err(error) => {
                self.metrics.status_write(StatusWrite::Failed);
                Err(error)
            }
        }
    }

    /// Deletes an object whose time to live is over, unless it has changed or been made anew.
    pub(super) async fn delete(&self, object: &WatchObject) -> Result<(), Error> {
        let namespace = object.identity.namespace.as_deref().unwrap_or_default();
        let api: Api<TaskWatch> = Api::namespaced(self.client.clone(), namespace);
        let uid = object.identity.uid.0.to_string();
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: Some(uid), resource_version: None }),
            ..DeleteParams::default()
        };
        match call(api.delete(&object.identity.name, &params)).await {
            Ok(_) => {
                info!(namespace, name = &*object.identity.name, "deleted: ttlSecondsAfterFinished has passed");
                Ok(())
            }
            Err(Error::Api(kube::Error::Api(status))) if status.is_not_found() || status.is_conflict() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Publishes events about an object, as far as it may have more.
    fn tell(&self, object: &WatchObject, told: &[Event]) {
        // Each a moment later than the one before, so that they differ and keep their order.
        for (event, later) in told.iter().zip(0..) {
            let may = self
                .shared
                .index()
                .watches
                .get_mut(&object.identity.uid)
                .is_none_or(|entry| entry.allowance.take(event, Instant::now()));
            if !may {
                self.metrics.event(&event.reason, EventResult::Suppressed);
                continue;
            }
            let at = self.clock.now();
            self.events.publish(event, object, at.checked_add(SignedDuration::from_micros(later)).unwrap_or(at));
        }
    }
}

/// What the engine said last; of a failure what `for_others` says, where that is all that the watch's namespace may be told.
fn observation<'a>(report: Option<&'a Report<Timestamp>>, for_others: Option<&'a Failure>) -> Observation<'a> {
    match report {
        None => Observation::None,
        Some(Report::Seen { task, at }) => Observation::Seen { task, at: *at },
        Some(Report::Missing { failure, since, at }) => {
            Observation::NotFound { since: *since, at: *at, failure: for_others.unwrap_or(failure) }
        }
        Some(Report::Trouble { failure, since, at }) => {
            Observation::Trouble { failure: for_others.unwrap_or(failure), since: *since, at: *at }
        }
    }
}

/// Leaves an object alone over which there was a panic. Returns until when.
fn set_aside(entry: &mut WatchEntry, panicked: &Panicked) -> Instant {
    let now = Instant::now();
    let quarantine = Quarantine::after(entry.quarantine, now);
    entry.quarantine = Some(quarantine);
    let until = quarantine.lasts(now).unwrap_or(now);
    let Identity { namespace, name, .. } = &entry.object.identity;
    let wait = until.duration_since(now).as_secs();
    error!(namespace = namespace.as_deref(), name = &**name, %panicked, "this TaskWatch is left alone for {wait} s; please report it");
    until
}

/// Since when the task's state has been what it is, as far as the object tells: the poll period grows from there.
fn unchanged_since(object: &WatchObject, status: Option<&TaskWatchStatus>) -> Timestamp {
    status.and_then(|status| status.last_observed_time.as_ref()).map_or(object.created, |time| time.0)
}

//! The reconciler of `TaskWatch` objects: decides, registers or calls off the poll, writes what is new, tells of it.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use kube::{
    Api, Resource,
    api::{DeleteParams, Preconditions},
};
use tokio::time::Instant;
use tracing::{debug, info};

use super::{
    Controller, Error, access,
    access::Namespaces,
    call,
    index::{ConnectionEntry, Index, Usability, WatchEntry},
    kept::Kept,
    objects::WatchObject,
    status::{self, Written},
    unread,
};
use crate::{
    api::{ConnectionKind, ConnectionPoll, TaskWatch, TaskWatchSpec, TaskWatchStatus},
    domain::{
        decide::{self, ConnectionState, Decision, Event, Input, Meta, Observation, Poll, decide},
        failure::Failure,
        task::TaskRef,
    },
    engine::{ConnectionId, Report, Watch, WatchKey},
    ops::metrics::StatusWrite,
    tenancy::Tenant,
};

/// The first wait after a failed write; doubles.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

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
    pub(super) async fn reconcile_watch(&self, key: &WatchKey) -> Result<Option<Instant>, Error> {
        let Some(mut plan) = self.plan(key) else { return Ok(None) };
        self.tell(&plan.object, &plan.confirmed);
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
    fn plan(&self, key: &WatchKey) -> Option<Plan> {
        let mut index = self.shared.index();
        let now = self.clock.now();
        index.read(key);
        let is_busy = index.unread() > unread::MOST / 2;
        let Index { watches, connections, namespaces, .. } = &mut *index;
        let entry = watches.get_mut(key)?;
        let object = Arc::clone(&entry.object);
        let connection = object.connection();
        let standing = Standing::of(&object, connections.get(&connection), namespaces, self.sees_cluster);
        let stored = entry.status.as_ref().and_then(Kept::unpack);
        let handled = stored.as_ref().and_then(|status| status.last_handled_reconcile_at.as_deref());
        if object.requested_at.is_some()
            && object.requested_at != entry.ticket_for
            && object.requested_at.as_deref() != handled
        {
            entry.ticket += 1;
            entry.ticket_for.clone_from(&object.requested_at);
        }
        if is_busy && entry.observation.is_none() {
            // That nothing is known of it yet may be our own slowness: it is not told as the upstream's.
            entry.asking_since = now;
        }
        let (period, max_period) = standing.periods(&object.spec);
        let report = entry.observation.as_ref().map(|seen| &seen.1);
        let is_outside = connection.namespace.is_none()
            && object.identity.namespace.as_deref() != Some(self.cluster_namespace.as_str());
        let outside = report.filter(|_| is_outside).and_then(Report::failure).map(Failure::for_others);
        let input = Input {
            meta: Meta {
                generation: object.generation,
                created: object.created,
                uid: &key.0,
                requested_at: object.requested_at.as_deref(),
                tracked: object.tracked,
                allow_ttl: object.allow_ttl,
            },
            spec: &object.spec,
            status: stored.as_ref(),
            connection: standing.state(is_outside),
            observation: observation(report, outside.as_ref()),
            refreshed: entry.ticket_for.is_some()
                && entry.observation.as_ref().is_some_and(|seen| seen.0 == entry.ticket),
            asking_since: if entry.registered.is_some() { entry.asking_since } else { now },
            not_found_since: entry.not_found_since(stored.as_ref()),
            period,
            settings: self.settings,
        };
        // Either way: the API server's clock is another one.
        let is_young = now.duration_since(object.created).abs() < CONNECTION_LATE;
        if is_young && matches!(standing, Standing::NotFound(_)) && is_blank(stored.as_ref()) {
            // Made together with its connection, which is only later by a moment.
            let decision = Decision { wake_at: Some(now + CONNECTION_LATE), ..Decision::default() };
            return Some(Plan { object, decision, decided: now, seen: None, confirmed: Vec::new() });
        }
        let decision = decide(&input, now);
        // A request to look goes before what only takes its turn.
        let asked_for = entry.ticket_for.is_some() && entry.ticket_for.as_deref() != handled;
        let known = !asked_for && stored.as_ref().is_some_and(|status| status.last_observed_time.is_some());
        let age = now.duration_since(unchanged_since(&object, stored.as_ref()));
        let (age, ticket) = (Duration::try_from(age).unwrap_or_default(), entry.ticket);
        let wanted = standing.task(&object.spec).filter(|_| decision.poll == Poll::Keep);
        let tenant = Tenant::namespace(object.identity.namespace.as_ref().unwrap_or(&object.identity.name));
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
        Some(Plan { object, decision, decided: now, seen, confirmed })
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
            entry.unconfirmed = Some(Box::new((kept.clone(), plan.decision.events.clone())));
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
                    (entry.status, entry.version) = (kept, version);
                }
                entry.unconfirmed = None;
                entry.failures = 0;
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
    async fn delete(&self, object: &WatchObject) -> Result<(), Error> {
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

    /// Publishes events about an object.
    fn tell(&self, object: &WatchObject, told: &[Event]) {
        // Each a moment later than the one before, so that they differ and keep their order.
        for (event, later) in told.iter().zip(0..) {
            let at = self.clock.now();
            self.events.publish(event, object, at.checked_add(SignedDuration::from_micros(later)).unwrap_or(at));
        }
    }
}

/// How a watch stands with its connection.
enum Standing<'a> {
    Usable {
        scope: &'a str,
        /// The engine has it open; else its Secret has yet to be looked for.
        open: bool,
        poll: &'a ConnectionPoll,
    },
    NotFound(String),
    SecretNotFound(&'a str),
    NotAllowed(String),
    Invalid(&'a str),
}

impl<'a> Standing<'a> {
    fn of(
        watch: &'a WatchObject,
        connection: Option<&'a ConnectionEntry>,
        namespaces: &Namespaces,
        sees_cluster: bool,
    ) -> Self {
        let Some(connection) = connection else { return Self::NotFound(not_found(watch, sees_cluster)) };
        if let Some(refusal) = access::refusal(watch, &connection.object, namespaces) {
            return Self::NotAllowed(refusal);
        }
        let spec = &connection.object.spec;
        let Some(provider) = spec.provider.member() else {
            return Self::Invalid("the connection names no provider, or more than one");
        };
        match &connection.usability {
            Some(Usability::SecretNotFound(message)) => Self::SecretNotFound(message),
            Some(Usability::Invalid(message)) => Self::Invalid(message),
            usability => Self::Usable {
                scope: watch.spec.task.scope.as_deref().unwrap_or(provider.scope()),
                open: usability.is_some(),
                poll: &spec.poll,
            },
        }
    }

    /// What is told of it; to namespaces `outside` of a shared connection's own neither its Secret's name nor what is wrong in it.
    fn state(&self, outside: bool) -> ConnectionState<'_> {
        match self {
            Self::SecretNotFound(_) if outside => ConnectionState::SecretNotFound { message: UNUSABLE },
            Self::Invalid(_) if outside => ConnectionState::Invalid { message: UNUSABLE },
            Self::Usable { scope, .. } => ConnectionState::Usable { scope },
            Self::NotFound(message) => ConnectionState::NotFound { message },
            Self::SecretNotFound(message) => ConnectionState::SecretNotFound { message },
            Self::NotAllowed(message) => ConnectionState::NotAllowed { message },
            Self::Invalid(message) => ConnectionState::Invalid { message },
        }
    }

    /// The periods that the watch asks for, within the connection's bounds.
    fn periods(&self, spec: &TaskWatchSpec) -> (Duration, Duration) {
        let (period, max) = (spec.period(), spec.max_period());
        match self {
            Self::Usable { poll, .. } => {
                let (floor, ceiling) = (poll.min_period(), poll.max_period().max(poll.min_period()));
                (period.clamp(floor, ceiling), max.clamp(floor, ceiling))
            }
            _ => (period, max),
        }
    }

    /// What to poll, where the engine can.
    fn task(&self, spec: &TaskWatchSpec) -> Option<TaskRef> {
        match self {
            Self::Usable { scope, open: true, .. } => {
                Some(TaskRef { scope: (*scope).to_owned(), id: spec.task.id.clone() })
            }
            _ => None,
        }
    }
}

fn not_found(watch: &WatchObject, sees_cluster: bool) -> String {
    let reference = &watch.spec.connection_ref;
    let (kind, name) = (reference.kind.as_str(), &reference.name);
    match reference.kind {
        ConnectionKind::TaskConnection => {
            let namespace = watch.identity.namespace.as_deref().unwrap_or_default();
            format!(
                "{kind} {name} does not exist in namespace {namespace}: create it, or make this TaskWatch anew with another connectionRef"
            )
        }
        ConnectionKind::ClusterTaskConnection if !sees_cluster => format!(
            "{kind} {name} is out of sight: this operator serves no {kind}s (--namespace, or --no-cluster-connections); use a TaskConnection"
        ),
        ConnectionKind::ClusterTaskConnection => {
            format!("{kind} {name} does not exist: create it, or make this TaskWatch anew with another connectionRef")
        }
    }
}

/// What is told to other namespaces of a shared connection that cannot be used.
const UNUSABLE: &str = "The shared connection cannot be used at the moment; its owner can see why in its status.";

/// A report, with the words of its failure that this watch's namespace may read, where they are others.
fn observation<'a>(report: Option<&'a Report<Timestamp>>, outside: Option<&'a Failure>) -> Observation<'a> {
    let words = |failure: &'a Arc<Failure>| outside.unwrap_or(failure);
    match report {
        None => Observation::None,
        Some(Report::Seen { task, at }) => Observation::Seen { task, at: *at },
        Some(Report::Missing { failure, since, at }) => {
            Observation::NotFound { since: *since, at: *at, failure: words(failure) }
        }
        Some(Report::Trouble { failure, since, at }) => {
            Observation::Trouble { failure: words(failure), since: *since, at: *at }
        }
    }
}

/// Since when the task's state has been what it is, as far as the object tells: the poll period grows from there.
fn unchanged_since(object: &WatchObject, status: Option<&TaskWatchStatus>) -> Timestamp {
    status.and_then(|status| status.last_observed_time.as_ref()).map_or(object.created, |time| time.0)
}

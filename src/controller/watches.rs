//! The reconciler of `TaskWatch` objects: carries out what is planned. Registers or calls off the poll, writes what is new, tells of it.

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
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
    plan::{Context, Plan, Planned, Polling, plan},
    quarantine::Quarantine,
    status::{self, Written},
};
use crate::{
    api::{TaskWatch, TaskWatchStatus},
    domain::{
        backoff::Backoff,
        decide::{self, Event},
    },
    engine::{ConnectionId, WatchKey},
    ops::{
        guard::{Panicked, Stage},
        metrics::{EventResult, StatusWrite},
    },
};

/// How long to wait after so many failures to write, or to read what is needed, in a row.
pub(super) const RETRY: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(60));

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
            None => return Ok(None),
            Some(Planned::Later(wait)) => return Ok(Some(Instant::now() + wait)),
            Some(Planned::Now(plan)) => plan,
        };
        self.register(key, &plan.object.connection(), std::mem::replace(&mut plan.polling, Polling::Unchanged));
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
        Instant::now() + RETRY.doubled(failures)
    }

    /// Plans under the index's lock, and notes there what is planned. None for a watch that is no more.
    fn plan(&self, key: &WatchKey, read: Option<TaskWatchStatus>) -> Option<Planned> {
        let mut index = self.shared.index();
        index.read(key);
        let is_busy = index.watches.get(key).is_some_and(|entry| index.unread().is_busy(&entry.object.payer()));
        let Index { watches, connections, namespaces, quotas, .. } = &mut *index;
        let entry = watches.get_mut(key)?;
        let object = Arc::clone(&entry.object);
        let check = self.sight.check(&object, connections.get(&object.connection()), namespaces, quotas);
        let context = Context {
            now: self.clock.now(),
            instant: Instant::now(),
            settings: self.settings,
            tells_all: self.sight.tells_all(&object),
            is_busy,
        };
        let planned = self.guard.run(Stage::Decide, key, || plan(entry, read, &check, &context));
        Some(match planned {
            Ok(planned) => {
                if let Planned::Now(plan) = &planned {
                    plan.note(entry);
                }
                planned
            }
            Err(panicked) => Planned::Later(set_aside(entry, &panicked, context.instant)),
        })
    }

    /// Tells the engine what was planned, without the index's lock. What is told of one watch keeps its order: only the worker that has its
    /// key tells of it, and the queue gives a key to one worker at a time, until that is [`Queue::done`](super::queue::Queue::done).
    /// Whoever takes the watch out of the index, or closes its connection, has it forgotten at once; if that comes before what is
    /// registered here, the index shows it, and it is forgotten again.
    fn register(&self, key: &WatchKey, connection: &ConnectionId, polling: Polling) {
        match polling {
            Polling::Unchanged => {}
            Polling::CallOff => self.engine.forget(connection, key.clone()),
            Polling::Register(watch) => {
                let print = watch.print();
                let accepted = self.engine.watch(connection, key.clone(), watch);
                if !self.shared.index().registered(key, print, accepted) {
                    self.engine.forget(connection, key.clone());
                }
            }
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

/// Leaves an object alone over which there was a panic. Returns for how long.
fn set_aside(entry: &mut WatchEntry, panicked: &Panicked, now: Instant) -> Duration {
    let quarantine = Quarantine::after(entry.quarantine, now);
    entry.quarantine = Some(quarantine);
    let wait = quarantine.lasts(now).map_or(Duration::ZERO, |until| until - now);
    let Identity { namespace, name, .. } = &entry.object.identity;
    error!(namespace = namespace.as_deref(), name = &**name, %panicked, "this TaskWatch is left alone for {} s; please report it", wait.as_secs());
    wait
}

//! The reconciler of `TaskWatch` objects: carries out what is planned. Registers or calls off the poll, writes what is new, tells of it.

mod find;
mod plan;

use std::{
    sync::Arc,
    time::{Duration, Instant as SystemInstant},
};

use jiff::SignedDuration;
use tokio::time::Instant;
use tracing::{debug, error, info};

use self::plan::{Context as Situation, Plan, Planned, Polling, plan, print};
use super::{
    super::{
        Controller, Error, Shared,
        index::{self, Index, WatchEntry},
        kept::Kept,
        look::Look,
        objects::{Identity, WatchObject},
        queue::Queue,
        write::Written,
    },
    Reconciler, outside,
};
use crate::{
    api::{TaskWatch, TaskWatchStatus},
    domain::decide::{self, Event},
    engine::{ConnectionId, WatchKey},
    ops::{
        guard::{Panicked, Stage, Subject},
        metrics::{EventResult, StatusWrite},
        traces::{Context, Value},
    },
    ownership::Bucket,
};

/// `TaskWatch` objects.
pub(in super::super) struct TaskWatches;

impl Reconciler for TaskWatches {
    type Key = Look;
    const NAME: &'static str = "taskwatch";

    fn queue(shared: &Shared) -> &Queue<Look> {
        &shared.watches
    }

    async fn reconcile(controller: &Controller, look: &Look) -> Result<Option<Instant>, Error> {
        reconcile(controller, look).await
    }

    fn object(shared: &Shared, look: &Look) -> Option<(Identity, ConnectionId)> {
        let index = shared.index();
        let object = &index.watches.get(&look.key)?.object;
        Some((object.identity.clone(), object.connection()))
    }

    fn failed(shared: &Shared, look: &Look) -> u32 {
        shared.index().watches.get_mut(&look.key).map_or(0, |entry| entry.failed())
    }
}

/// Brings one `TaskWatch` up to date. Says when to look again.
async fn reconcile(controller: &Controller, Look { tenant, key }: &Look) -> Result<Option<Instant>, Error> {
    let outside = controller.shared.index().outside(key);
    if let Some(identity) = outside {
        return outside::reconcile(controller, &identity).await;
    }
    let connection = controller.shared.index().watches.get(key).map(|entry| entry.object.connection());
    let Some(bucket) = connection.and_then(|connection| controller.owned(&connection)) else { return Ok(None) };
    let waits = controller.shared.index().gives_way(key, Instant::now());
    if waits.is_some() {
        return Ok(waits);
    }
    // Who was put off comes again only to write: there is nothing to decide before there is a share for it.
    let was_put_off = controller.shared.index().take_up(key);
    if was_put_off && let Err(again) = controller.writer.take(tenant) {
        controller.shared.index().put_off(key);
        return Ok(Some(again));
    }
    let lost = controller.shared.index().let_go(key);
    let mut read = None;
    if let Some(identity) = lost {
        // It costs the API server as much as a write does.
        if let Err(again) = controller.writer.take(tenant) {
            return Ok(Some(again));
        }
        read = Some(outside::read(controller, &identity).await?.status.unwrap_or_default());
    }
    let traced = controller.traces.take_followed(&key.0);
    let begun = SystemInstant::now();
    let mut plan = loop {
        match planned(controller, key, read.clone()) {
            None => return Ok(None),
            Some(Planned::Later(wait)) => return Ok(Some(Instant::now() + wait)),
            Some(Planned::LookUp(object, look)) => {
                if let Err(again) = find::look(controller, &object, look).await? {
                    return Ok(Some(again));
                }
            }
            Some(Planned::Now(plan)) => break plan,
        }
    };
    if let Some(context) = traced {
        trace(controller, context, "decide", begun, &plan.object, None);
    }
    register(controller, key, &plan.object.connection(), std::mem::replace(&mut plan.polling, Polling::Unchanged));
    tell(controller, &bucket, &plan.object, &plan.confirmed);
    let writes = plan.decision.status.is_some() || plan.decision.delete;
    if writes
        && !was_put_off
        && let Err(again) = controller.writer.take(tenant)
    {
        controller.shared.index().put_off(key);
        return Ok(Some(again));
    }
    if let Some(status) = plan.decision.status.take() {
        let begun = SystemInstant::now();
        let written = write(controller, &bucket, key, &plan, &status).await;
        if let Some(context) = traced {
            trace(controller, context, "write", begun, &plan.object, written.as_ref().err());
        }
        written?;
        tell(controller, &bucket, &plan.object, &plan.decision.events);
    } else {
        controller.metrics.status_write(StatusWrite::Suppressed);
    }
    if plan.decision.delete {
        delete(controller, &bucket, &plan.object).await?;
    }
    let by_time = plan.decision.wake_at.map(|at| {
        let wait = at.duration_since(plan.decided);
        Instant::now() + Duration::try_from(wait).unwrap_or_default()
    });
    Ok([by_time, plan.look_at].into_iter().flatten().min())
}

/// Tells what was done about an object since `begun`, as a part of the poll by which it became known.
fn trace(
    controller: &Controller,
    of: Context,
    step: &'static str,
    begun: SystemInstant,
    object: &WatchObject,
    error: Option<&Error>,
) {
    let Identity { namespace, name, .. } = &object.identity;
    let names = [("k8s.namespace.name", namespace.as_deref().unwrap_or_default()), ("taskwatch.name", &**name)];
    let names = names.map(|(key, name)| (key, Value::from(name.to_owned())));
    let class = error.map(|error| ("error.type", error.class().into()));
    let all: Vec<_> = names.into_iter().chain(class).collect();
    controller.traces.part(of, step, (begun, SystemInstant::now()), &all);
}

/// Plans under the index's lock, and notes there what is planned. None for a watch that is no more.
fn planned(controller: &Controller, key: &WatchKey, read: Option<TaskWatchStatus>) -> Option<Planned> {
    let mut index = controller.shared.index();
    index.read(key);
    let is_busy = index.watches.get(key).is_some_and(|entry| index.unread().is_busy(&entry.object.payer()));
    let Index { watches, connections, namespaces, quotas, .. } = &mut *index;
    let entry = watches.get_mut(key)?;
    let object = Arc::clone(&entry.object);
    let (claim, connection) = (entry.claim(), connections.get(&object.connection()));
    let check = controller.sight.check(claim, connection, namespaces, || quotas.user_refusal(&object));
    let context = Situation {
        now: controller.clock.now(),
        instant: Instant::now(),
        settings: controller.settings,
        tells_all: controller.sight.tells_all(claim),
        is_busy,
    };
    let planned = controller.guard.run(
        Stage::Decide,
        || Subject::new(&object.tenant(), key),
        || plan(entry, read, &check, &context),
    );
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
/// key tells of it, and the queue gives a key to one worker at a time, until that is [`Queue::done`]. So it is with one that is displaced by
/// its namespace's limit (`outside`). Whoever removes the watch from the index, or closes its connection, has it forgotten at once; if that
/// comes before what is registered here, the index shows it, and it is forgotten again.
fn register(controller: &Controller, key: &WatchKey, connection: &ConnectionId, polling: Polling) {
    match polling {
        Polling::Unchanged => {}
        Polling::CallOff => controller.engine.forget(connection, key.clone()),
        Polling::Register(watch) => {
            let print = watch.print();
            let accepted = controller.engine.watch(connection, key.clone(), watch);
            if !controller.shared.index().registered(key, print, accepted) {
                controller.engine.forget(connection, key.clone());
            }
        }
        Polling::Discover(discovery) => {
            let print = print(&discovery);
            let accepted = controller.engine.discover(connection, key.clone(), discovery);
            if !controller.shared.index().registered(key, print, accepted) {
                controller.engine.forget(connection, key.clone());
            }
        }
    }
}

async fn write(
    controller: &Controller,
    bucket: &Bucket,
    key: &WatchKey,
    plan: &Plan,
    new: &TaskWatchStatus,
) -> Result<(), Error> {
    let identity = &plan.object.identity;
    let namespace = identity.namespace.as_deref().unwrap_or_default();
    let kept = Kept::pack(new);
    if let (Some(entry), Some(kept)) = (controller.shared.index().watches.get_mut(key), &kept) {
        entry.published.is_sent(kept, &plan.decision.events);
    }
    let written = controller.writer.status::<TaskWatch>(bucket, identity, new).await;
    let mut index = controller.shared.index();
    let Some(entry) = index.watches.get_mut(key) else {
        // It was deleted meanwhile. What was never shown is not told either.
        return if matches!(written, Ok(Written::At(_))) { Ok(()) } else { Err(Error::Gone) };
    };
    match written {
        Ok(Written::At(version)) => {
            controller.metrics.status_write(StatusWrite::Patched);
            let finished = decide::is_finished(new);
            entry.is_written(index::Written {
                status: kept,
                version,
                decided: plan.decided,
                seen: plan.seen,
                finished,
            });
            let provider = index.provider(&plan.object.connection());
            if let (Some(ended), Some(provider)) = (&plan.decision.ended, provider) {
                controller.metrics.task_ended(provider, ended.state.as_str(), ended.took);
            }
            let connection = plan.object.connection();
            debug!(namespace, name = &*identity.name, %connection, state = new.state, "status written");
            Ok(())
        }
        Ok(Written::Gone) => {
            // Its end, or its successor, comes by the watch.
            entry.published.is_gone();
            controller.metrics.status_write(StatusWrite::Conflict);
            Err(Error::Gone)
        }
        Err(error) => {
            controller.metrics.status_write(StatusWrite::Failed);
            Err(error)
        }
    }
}

/// Deletes an object whose time to live is over, unless it has been made anew.
pub(super) async fn delete(controller: &Controller, bucket: &Bucket, object: &WatchObject) -> Result<(), Error> {
    let Identity { namespace, name, .. } = &object.identity;
    if controller.writer.delete(bucket, &object.identity).await? {
        info!(namespace = namespace.as_deref(), name = &**name, "deleted: ttlSecondsAfterFinished has passed");
    }
    Ok(())
}

/// Publishes events about an object, as far as it may have more.
fn tell(controller: &Controller, bucket: &Bucket, object: &WatchObject, told: &[Event]) {
    // Each a moment later than the one before, so that they differ and keep their order.
    for (event, later) in told.iter().zip(0..) {
        let may = controller
            .shared
            .index()
            .watches
            .get_mut(&object.identity.uid)
            .is_none_or(|entry| entry.allowance.take(event, Instant::now()));
        if !may {
            controller.metrics.event(&event.reason, EventResult::Suppressed);
            continue;
        }
        let at = controller.clock.now();
        controller.writer.event::<TaskWatch>(
            bucket,
            event,
            &object.identity,
            at.checked_add(SignedDuration::from_micros(later)).unwrap_or(at),
        );
    }
}

/// Leaves an object alone over which there was a panic. Returns for how long.
fn set_aside(entry: &mut WatchEntry, panicked: &Panicked, now: Instant) -> Duration {
    let wait = entry.set_aside(now);
    let Identity { namespace, name, .. } = &entry.object.identity;
    error!(namespace = namespace.as_deref(), name = &**name, %panicked, "this TaskWatch is left alone for {} s; please report it", wait.as_secs());
    wait
}

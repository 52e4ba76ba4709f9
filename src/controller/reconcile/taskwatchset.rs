//! The reconciler of `TaskWatchSet` objects: asks for the tasks of a scope, creates and deletes the watches that belong to the set, and says
//! what there is.

pub(super) mod plan;

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{StreamExt, stream};
use tokio::time::Instant;
use tracing::{debug, info};

use self::plan::{Context, Plan, plan, print};
use super::{
    super::{
        Controller, Error, Shared,
        index::{Index, sets::SetEntry},
        look::Look,
        objects::{Identity, SetObject},
        queue::Queue,
        write::{Created, Written},
    },
    Reconciler,
};
use crate::{
    api::{TaskWatchSet, TaskWatchSetStatus},
    domain::{
        availability::{Reason, Unavailable},
        discovery::{catalogue::Candidate, child, status::Why},
    },
    engine::{ConnectionId, WatchKey},
    ops::guard::{Stage, Subject},
    ownership::Bucket,
};

/// So many children are worked on at a time: as many as statuses are written at a time.
const AT_A_TIME: usize = 16;

/// `TaskWatchSet` objects.
pub(in super::super) struct TaskWatchSets;

impl Reconciler for TaskWatchSets {
    type Key = Look;
    const NAME: &'static str = "taskwatchset";

    fn queue(shared: &Shared) -> &Queue<Look> {
        &shared.sets
    }

    async fn reconcile(controller: &Controller, look: &Look) -> Result<Option<Instant>, Error> {
        reconcile(controller, look).await
    }

    fn object(shared: &Shared, look: &Look) -> Option<(Identity, ConnectionId)> {
        let index = shared.index();
        let object = &index.sets.get(&look.key)?.object;
        Some((object.identity.clone(), object.connection()))
    }

    fn failed(shared: &Shared, look: &Look) -> u32 {
        shared.index().sets.get_mut(&look.key).map_or(0, SetEntry::failed)
    }
}

/// Brings one set up to date. Says when to look again.
async fn reconcile(controller: &Controller, look: &Look) -> Result<Option<Instant>, Error> {
    let key = &look.key;
    let connection = controller.shared.index().sets.get(key).map(|entry| entry.object.connection());
    let Some(bucket) = connection.and_then(|connection| controller.owned(&connection)) else { return Ok(None) };
    // Whatever happened meanwhile, and be it that its own children came: what it costs to look is saved until there is a share again.
    let put_off = controller.shared.index().sets.get(key).and_then(|entry| entry.waits_until(Instant::now()));
    if put_off.is_some() {
        return Ok(put_off);
    }
    let Some(mut plan) = planned(controller, key) else { return Ok(None) };
    register(controller, key, &plan);
    let is_partial = plan.is_partial;
    creation_goes_on(controller, key, is_partial);
    let later = work(controller, look, &plan).await?;
    put_off_until(controller, key, later);
    creation_goes_on(controller, key, is_partial && later.is_none());
    let goes_on = is_partial || later.is_some();
    if plan.has_work() && !goes_on {
        // What it says is decided by what there is now. Where more is to be done, that is soon enough in the next turn.
        let Some(again) = planned(controller, key) else { return Ok(None) };
        plan = again;
    }
    if let Some(entry) = controller.shared.index().sets.get_mut(key) {
        entry.turn = plan.turn;
    }
    if let Some(status) = plan.status.take() {
        if let Err(again) = controller.writer.take(&look.tenant) {
            put_off_until(controller, key, Some(again));
            return Ok(Some(again));
        }
        write(controller, &bucket, key, &plan, status).await?;
    }
    let now = is_partial.then(Instant::now);
    Ok(later.or(now).into_iter().chain(plan.wake_at).min())
}

/// The namespace of the set has had its share of what is written, until then; none where it has not.
fn put_off_until(controller: &Controller, key: &WatchKey, until: Option<Instant>) {
    if let Some(entry) = controller.shared.index().sets.get_mut(key) {
        entry.put_off(until);
    }
}

/// Whether the set creates more at once: until it does not, its new children wait for their first status.
fn creation_goes_on(controller: &Controller, key: &WatchKey, goes_on: bool) {
    let now = Instant::now();
    let turn = |entry: &mut SetEntry| entry.creation.turn(goes_on, now);
    let children = controller.shared.index().sets.get_mut(key).map(turn);
    controller.shared.look_at(children.into_iter().flatten());
}

/// Plans under the index's lock. None for a set that is no more, or that cannot be planned for.
fn planned(controller: &Controller, key: &WatchKey) -> Option<Plan> {
    let mut index = controller.shared.index();
    let Index { sets, connections, namespaces, .. } = &mut *index;
    let object = Arc::clone(&sets.get(key)?.object);
    let limit = sets.beyond(&object).map(|limit| beyond(&object, limit));
    let claim = object.claim();
    let check = controller.sight.check(claim, connections.get(&object.connection()), namespaces, || None);
    let context = Context {
        now: controller.clock.now(),
        instant: Instant::now(),
        settings: controller.settings,
        tells_all: controller.sight.tells_all(claim),
    };
    let (entry, children) = (sets.get(key)?, sets.children(key).collect::<Vec<_>>());
    let subject = || Subject::new(&object.identity.tenant(), key);
    let planned =
        controller.guard.run(Stage::Decide, subject, || plan(entry, &children, &check, limit.as_ref(), &context));
    // One over which there was a panic is left alone until something changes.
    let planned = planned.ok()?;
    if let Some(entry) = sets.get_mut(key) {
        entry.forget(&planned.unwanted, context.instant);
    }
    Some(planned)
}

/// Tells the engine what was planned, without the index's lock: only the worker that has a set tells of it.
fn register(controller: &Controller, key: &WatchKey, plan: &Plan) {
    let connection = plan.object.connection();
    let wanted = plan.discovery.as_ref().map(print);
    let registered = controller.shared.index().sets.get(key).and_then(SetEntry::registered);
    if wanted == registered {
        return;
    }
    if let Some(entry) = controller.shared.index().sets.get_mut(key) {
        entry.set_registered(wanted);
    }
    match &plan.discovery {
        Some(discovery) => {
            if !controller.engine.discover(&connection, key.clone(), discovery.clone())
                && let Some(entry) = controller.shared.index().sets.get_mut(key)
            {
                entry.disconnected();
            }
        }
        None => controller.engine.forget(&connection, key.clone()),
    }
    // Whoever has removed the set meanwhile did not know of this.
    if controller.shared.index().sets.get(key).is_none() {
        controller.engine.forget(&connection, key.clone());
    }
}

/// Deletes, changes and creates children. Returns when to go on, where the namespace has had its share.
async fn work(controller: &Controller, look: &Look, plan: &Plan) -> Result<Option<Instant>, Error> {
    let deletes = plan.delete.iter().map(|child| Act::Delete(child.clone()));
    let updates = plan.update.iter().map(|child| Act::Update(child.clone()));
    let creates = plan.create.iter().map(|task| Act::Create(Arc::clone(task)));
    let acts: Vec<_> = deletes.chain(updates).chain(creates).collect();
    // After a failure no more is begun: an API server that does not answer is not waited for with each of them.
    let fails = AtomicBool::new(false);
    let mut done = stream::iter(acts)
        .take_while(|_| ready(!fails.load(Ordering::Relaxed)))
        .map(|act| carry_out(controller, look, &plan.object, act))
        .buffer_unordered(AT_A_TIME);
    let (mut later, mut failed) = (None, None);
    while let Some(act) = done.next().await {
        match act {
            Ok(again) => later = later.into_iter().chain(again).min(),
            Err(error) => {
                fails.store(true, Ordering::Relaxed);
                failed = Some(error);
            }
        }
    }
    failed.map_or(Ok(later), Err)
}

enum Act {
    Delete(Identity),
    Update(Identity),
    Create(Arc<Candidate>),
}

/// Does one thing to a child. Returns when to come again, where the namespace has had its share.
async fn carry_out(
    controller: &Controller,
    look: &Look,
    set: &Arc<SetObject>,
    act: Act,
) -> Result<Option<Instant>, Error> {
    if let Act::Create(_) = &act
        && let Err(again) = controller.creates.take(&look.tenant, Instant::now())
    {
        return Ok(Some(again));
    }
    if let Err(again) = controller.writer.take(&look.tenant) {
        return Ok(Some(again));
    }
    let bucket = controller.bucket(&set.connection());
    match act {
        Act::Delete(child) => {
            if controller.writer.delete(&bucket, &child).await? {
                debug!(
                    namespace = child.namespace.as_deref(),
                    name = &*child.name,
                    "deleted: its set does not want it any more"
                );
            }
            // The API server tells of it later, and the status that is decided now counts it no more.
            controller.shared.index().sets.remove_watch(&child.uid);
        }
        Act::Update(child) => {
            let updated = controller.writer.update_child(&bucket, &child, &set.identity, &set.spec).await?;
            note(controller, &look.key, &child.name, updated, |_, _| ());
        }
        Act::Create(task) => create(controller, &look.key, set, &task).await?,
    }
    Ok(None)
}

async fn create(controller: &Controller, key: &WatchKey, set: &SetObject, task: &Arc<Candidate>) -> Result<(), Error> {
    let Identity { namespace, name, uid } = &set.identity;
    let namespace = namespace.as_deref().unwrap_or_default();
    let child = child::make(name, &uid.0, namespace, &set.spec, &task.id);
    let child_name = child.metadata.name.clone().unwrap_or_default();
    let bucket = controller.bucket(&set.connection());
    let created = controller.writer.create_child(&bucket, &child, &set.identity).await?;
    note(controller, key, &child_name, created, |entry, now| entry.created(&task.id, now));
    Ok(())
}

/// Notes what became of a creation or a change.
fn note(
    controller: &Controller,
    key: &WatchKey,
    child: &str,
    what: Created,
    done: impl FnOnce(&mut SetEntry, Instant),
) {
    let now = Instant::now();
    let mut index = controller.shared.index();
    let Some(entry) = index.sets.get_mut(key) else { return };
    let Identity { namespace, name, .. } = &entry.object.identity.clone();
    let (namespace, set) = (namespace.as_deref(), &**name);
    match what {
        Created::Done => {
            done(entry, now);
            debug!(namespace, name = child, set, "created or brought up to date");
        }
        Created::Foreign => entry.refuse(child.to_owned(), Why::Foreign, now),
        Created::Refused(why) => {
            info!(namespace, name = child, set, "the API server refuses it: {why:?}");
            entry.refuse(child.to_owned(), why, now);
        }
    }
}

async fn write(
    controller: &Controller,
    bucket: &Bucket,
    key: &WatchKey,
    plan: &Plan,
    status: TaskWatchSetStatus,
) -> Result<(), Error> {
    let written = controller.writer.status::<TaskWatchSet>(bucket, &plan.object.identity, &status).await?;
    if let Written::At(version) = written
        && let Some(entry) = controller.shared.index().sets.get_mut(key)
    {
        entry.is_written(status, version, plan.decided);
    }
    Ok(())
}

fn beyond(object: &SetObject, limit: usize) -> Unavailable {
    let namespace = object.identity.namespace.as_deref().unwrap_or_default();
    let message = format!(
        "namespace {namespace} has more than {limit} TaskWatchSets, and this is one of the newest: delete some of them, or ask the \
         administrator of the operator to raise --max-connections-per-namespace"
    );
    Unavailable::new(Reason::LimitExceeded, message)
}

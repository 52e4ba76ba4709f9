//! What is to be done about one `TaskWatchSet`. Pure: of what the index knows of it, whether it may use its connection, and the time.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::super::super::{
    check::ConnectionCheck,
    index::sets::{Child as Known, Fault, SetEntry},
    objects::{Identity, SetObject},
};
use crate::{
    api::{TaskWatchSetStatus, WatchPoll},
    domain::{
        availability::{Reason, Unavailable},
        decide,
        discovery::{
            catalogue::{Candidate, Catalogue},
            child,
            select::{Child, Selection, Wanted, select},
            status::{self, Conflict, Input, Listing, Turn, Why},
        },
    },
    engine::Discovery,
};

/// So many children are created, changed or deleted before other sets get their turn. Each turn looks at all tasks of the scope.
const BATCH: usize = 64;
/// So long a set is young.
const EARLY: Duration = Duration::from_secs(3);
/// What changes by time alone is looked at no more often than this.
const SHORTEST: Duration = Duration::from_secs(1);

/// What a plan rests on beside the set and its connection.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The time of day.
    pub now: Timestamp,
    /// The same by the clock of waits.
    pub instant: Instant,
    /// The operator's settings.
    pub settings: decide::Settings,
    /// Whether the set's namespace may be told all about its connection.
    pub tells_all: bool,
}

/// What is to be done about a set.
#[derive(Debug)]
pub struct Plan {
    /// The set.
    pub object: Arc<SetObject>,
    /// What the engine is to be asked for; none for nothing.
    pub discovery: Option<Discovery>,
    /// The tasks for which a watch is to be created, the newest first.
    pub create: Vec<Arc<Candidate>>,
    /// The watches to be deleted.
    pub delete: Vec<Identity>,
    /// The watches that are to be brought up to date with the template.
    pub update: Vec<Identity>,
    /// Those of the watches that were refused which are not wanted any more, by name.
    pub unwanted: Vec<String>,
    /// More is to be done than is done at a time.
    pub is_partial: bool,
    /// What to write.
    pub status: Option<TaskWatchSetStatus>,
    /// When that was decided.
    pub decided: Timestamp,
    /// How Ready stood then.
    pub turn: Turn,
    /// When to look again.
    pub wake_at: Option<Instant>,
}

impl Plan {
    /// Whether children are to be created, changed or deleted.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !(self.create.is_empty() && self.delete.is_empty() && self.update.is_empty())
    }
}

/// Plans for a set that has these children.
#[must_use]
pub fn plan(
    entry: &SetEntry,
    children: &[&Known],
    check: &ConnectionCheck<'_>,
    limit: Option<&Unavailable>,
    context: &Context,
) -> Plan {
    let Context { now, instant, settings, tells_all } = *context;
    let object = &entry.object;
    let unavailable = limit.or_else(|| check.as_ref().err());
    let usable = check.as_ref().ok().filter(|usable| usable.open && unavailable.is_none() && !object.spec.suspend);
    let discovery = usable.map(|usable| Discovery {
        tenant: object.identity.tenant(),
        scope: usable.scope.to_owned(),
        period: period(object).clamp(usable.poll.min_period(), usable.poll.max_period().max(usable.poll.min_period())),
        ticket: 1,
    });
    // What was listed for another scope, or before the suspension, says nothing of what is to be done now.
    let is_current = discovery.as_ref().map(print) == entry.registered() && discovery.is_some();
    let listed = entry.listed().filter(|_| is_current);
    let selected = listed.map(|(catalogue, at)| (selected(entry, catalogue, children, context), *at));
    let for_others = match entry.fault() {
        Some(Fault::Trouble { failure, .. }) if !tells_all => Some(failure.for_others()),
        _ => None,
    };
    let last = selected.as_ref().map(|(selection, at)| (selection, *at));
    let listing = match (unavailable, entry.fault().filter(|_| is_current), last) {
        (Some(why), ..) => Listing::Unavailable(why),
        _ if object.spec.suspend => Listing::Suspended,
        (None, Some(Fault::Unsupported), _) => Listing::NotListable,
        (None, Some(Fault::Trouble { failure, since }), last) => {
            Listing::Failing { failure: for_others.as_ref().unwrap_or(failure), since: *since, last }
        }
        (None, None, Some((selection, at))) => Listing::Listed { selection, at },
        (None, None, None) => Listing::Awaiting,
    };
    let (refused, unwanted): (Vec<_>, Vec<_>) = match last {
        Some((selection, _)) if entry.refusals().next().is_some() => {
            let mut wanted: HashSet<_> = selection.create.iter().map(|task| name(object, &task.id)).collect();
            wanted.extend(outdated(entry, children).map(|known| known.identity.name.to_string()));
            entry.refusals().partition(|(name, _)| wanted.contains(*name))
        }
        _ => (entry.refusals().collect(), Vec::new()),
    };
    let conflict = |(name, why): (&str, &Why)| Conflict { name: name.to_owned(), why: why.clone() };
    let conflicts: Vec<_> = refused.into_iter().map(conflict).collect();
    let unwanted = unwanted.into_iter().map(|(name, _)| name.to_owned()).collect();
    let input = Input {
        generation: object.generation,
        status: entry.status.as_ref(),
        spec: &object.spec,
        listing,
        watched: children.len() + entry.awaited(children, instant).count(),
        conflicts: &conflicts,
        pace: entry.pace,
        turn: entry.turn,
        settings,
    };
    let decision = if is_early(entry, &listing, now) {
        status::Decision { status: None, wake_at: Some(now + EARLY), turn: entry.turn }
    } else {
        status::decide(&input, now)
    };
    let work = selected.as_ref().map(|(selection, _)| work(entry, selection, children, instant)).unwrap_or_default();
    let by_time = [decision.wake_at, selected.as_ref().and_then(|(selection, _)| selection.next)];
    let by_time = by_time.into_iter().flatten().min();
    let by_time = by_time.map(|at| {
        let wait = Duration::try_from(at.duration_since(now)).unwrap_or_default();
        // Of a large account something grows too old every moment.
        instant + wait.max(SHORTEST)
    });
    let again = entry.again_at().filter(|_| selected.is_some());
    Plan {
        object: Arc::clone(object),
        discovery,
        create: work.create,
        delete: work.delete,
        update: work.update,
        unwanted,
        is_partial: work.is_partial,
        status: decision.status,
        decided: now,
        turn: decision.turn,
        wake_at: by_time.into_iter().chain(again).min(),
    }
}

/// Whether the set was made a moment ago, and what it waits for may come in another: its connection, which is applied along with it, or the
/// first list.
fn is_early(entry: &SetEntry, listing: &Listing<'_>, now: Timestamp) -> bool {
    let is_blank = entry.status.as_ref().is_none_or(|status| status.conditions.is_empty());
    // Either way: the API server's clock is another one.
    let is_young = now.duration_since(entry.object.created).unsigned_abs() < EARLY;
    let may_come = match listing {
        Listing::Awaiting => true,
        Listing::Unavailable(why) => why.reason == Reason::ConnectionNotFound,
        _ => false,
    };
    is_blank && is_young && may_come
}

/// A number that differs where the engine would do something else.
#[must_use]
pub fn print(discovery: &Discovery) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&discovery.scope, discovery.period).hash(&mut hasher);
    hasher.finish()
}

fn selected(entry: &SetEntry, catalogue: &Catalogue, children: &[&Known], context: &Context) -> Selection {
    let spec = &entry.object.spec;
    let there =
        children.iter().map(|known| Child { id: &known.task, is_finished: known.ended.is_some(), ended: known.ended });
    // Those that were created a moment ago are as good as there.
    let awaited = entry.awaited(children, context.instant).map(|id| Child { id, is_finished: false, ended: None });
    let children: Vec<_> = there.chain(awaited).collect();
    let wanted = Wanted {
        limit: usize::try_from(spec.limit).unwrap_or_default(),
        retention: SignedDuration::from_secs(spec.finished_retention_seconds.into()),
        filter: &entry.filter,
    };
    select(catalogue, &children, &wanted, context.now)
}

/// What is to be done about children now.
#[derive(Default)]
struct Work {
    create: Vec<Arc<Candidate>>,
    delete: Vec<Identity>,
    update: Vec<Identity>,
    is_partial: bool,
}

fn work(entry: &SetEntry, selection: &Selection, children: &[&Known], instant: Instant) -> Work {
    let gone: HashSet<&str> = selection.delete.iter().map(String::as_str).collect();
    let may = |task: &&Arc<Candidate>| entry.may_try(&name(&entry.object, &task.id), instant);
    // Of those that wait, a name is made only for as many as can be had now, and one more.
    let mut create: Vec<_> = selection.create.iter().filter(may).take(BATCH + 1).cloned().collect();
    let mut delete: Vec<_> =
        children.iter().filter(|known| gone.contains(&*known.task)).map(|known| known.identity.clone()).collect();
    let may = |known: &&Known| !gone.contains(&*known.task) && entry.may_try(&known.identity.name, instant);
    let mut update: Vec<_> = outdated(entry, children).filter(may).map(|known| known.identity.clone()).collect();
    let is_partial = [create.len(), delete.len(), update.len()].iter().any(|count| *count > BATCH);
    create.truncate(BATCH);
    delete.truncate(BATCH);
    update.truncate(BATCH);
    Work { create, delete, update, is_partial }
}

/// The children that are to be brought up to date with the template. One that has ended is not changed any more.
fn outdated<'a>(entry: &'a SetEntry, children: &[&'a Known]) -> impl Iterator<Item = &'a Known> {
    children.iter().copied().filter(move |known| known.template != entry.template && known.ended.is_none())
}

/// What the child for a task is called.
fn name(set: &SetObject, task: &str) -> String {
    child::name(&set.identity.name, set.spec.scope.as_deref(), task)
}

fn period(object: &SetObject) -> Duration {
    let poll = object.spec.template.as_ref().and_then(|template| template.spec.as_ref()?.poll.as_ref());
    let seconds = poll.and_then(|poll| poll.period_seconds).unwrap_or(WatchPoll::PERIOD);
    Duration::from_secs(seconds.unsigned_abs().into())
}

#[cfg(test)]
mod tests;

//! What a change is worth telling: transitions only, each once, along with the write that shows it.

use super::{
    contract::Tells,
    input::Input,
    mirror::has_seen,
    situation::{Known, Verdict},
};
use crate::{
    api::TaskWatchStatus,
    domain::{
        conditions::{self, UNKNOWN, find},
        text,
    },
};

/// Longest note, in bytes: the API server takes 1024.
const NOTE: usize = 1000;

/// One event of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Normal or Warning.
    pub kind: EventType,
    /// One `CamelCase` word. Events of one reason and action within minutes are folded into one, whatever their notes.
    pub reason: String,
    /// What was being done: `Observe`, `Connect` or `Delete`.
    pub action: &'static str,
    /// What happened, for people; at most 1000 bytes.
    pub note: String,
    /// Whether it tells how the watch has ended: that is told however much was told before.
    pub is_end: bool,
}

/// How serious an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// As it should be.
    Normal,
    /// Somebody may have to act.
    Warning,
}

/// The reason of the event of a first observation.
pub const TASK_OBSERVED: &str = "TaskObserved";
const OBSERVE: &str = "Observe";
const CONNECT: &str = "Connect";
const DELETE: &str = "Delete";

/// The events that go with a write.
pub(super) fn of(
    input: &Input<'_>,
    known: Option<&Known<'_>>,
    verdict: &Verdict<'_>,
    status: &TaskWatchStatus,
) -> Vec<Event> {
    let mut events = Vec::new();
    let mut tell = |kind, reason: &str, action, note: &str| {
        let is_end = verdict.row.is_finished();
        events.push(Event { kind, reason: reason.to_owned(), action, note: text::clean(note, NOTE), is_end });
    };
    let message = |kind| find(&status.conditions, kind).map(|c| c.message.as_str()).unwrap_or_default();
    let changed = known.is_none_or(|known| known.row != verdict.row);
    let was_out_of_sync = known.is_some_and(|known| known.row.line().tells == Tells::OutOfSync);
    match verdict.row.line().tells {
        Tells::Change(reason) => {
            let state = status.state.as_deref().unwrap_or_default();
            let last = known.and_then(|known| known.status.state.as_deref());
            if was_out_of_sync {
                tell(EventType::Normal, "MirrorRecovered", CONNECT, "The upstream can be polled again.");
            }
            if !known.is_some_and(|known| has_seen(known.status)) {
                tell(EventType::Normal, TASK_OBSERVED, OBSERVE, &format!("First observation of the task: {state}."));
            } else if last.is_some_and(|last| last != state && last != UNKNOWN) {
                tell(EventType::Normal, reason, OBSERVE, message(conditions::SUCCEEDED));
            }
        }
        Tells::OutOfSync => {
            let reason = |conditions| find(conditions, conditions::SYNCED).map(|c| c.reason.as_str());
            let now = reason(&status.conditions).unwrap_or_default();
            if changed || known.and_then(|known| reason(&known.status.conditions)) != Some(now) {
                tell(EventType::Warning, now, CONNECT, message(conditions::SYNCED));
            }
        }
        Tells::EndsWell(reason) if changed => tell(EventType::Normal, reason, OBSERVE, message(conditions::SUCCEEDED)),
        Tells::EndsBadly(reason) if changed => {
            tell(EventType::Warning, reason, OBSERVE, message(conditions::SUCCEEDED));
        }
        Tells::EndsWell(_) | Tells::EndsBadly(_) | Tells::Nothing => {}
    }
    let new_generation = known.is_none_or(|known| known.status.observed_generation != Some(input.meta.generation));
    if verdict.row.is_finished() && (changed || new_generation) && input.spec.ttl().is_some() && input.keeps_ttl() {
        let note = "Not deleted after ttlSecondsAfterFinished: Argo CD, Flux or Helm tracks this object and would recreate it. \
                    To have it deleted nevertheless, set the annotation taskwatch.dev/allow-ttl to \"true\".";
        tell(EventType::Warning, "TTLSkipped", DELETE, note);
    }
    events
}

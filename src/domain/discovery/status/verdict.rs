//! In which situation a set is.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{Input, Listing, messages};
use crate::{
    api::{SetReadyWhen, TaskWatchSetStatus},
    domain::{
        availability::{Outlook, Reason},
        cadence::later,
        conditions::{FALSE, READY, RECONCILING, Remark, STALLED, SYNCED, TRUE, UNKNOWN, find, reason},
        discovery::select::Selection,
        failure::Failure,
        task::TaskState,
    },
};

/// The status of a condition, and why.
pub(super) type Said = (&'static str, Remark);

/// What is said, and of which list.
#[derive(Debug)]
pub(super) struct Verdict<'a> {
    pub ready: Said,
    pub synced: Said,
    /// What is to be expected where the set is not ready.
    pub abnormal: Option<Outlook>,
    /// What was found, and when; without it, the last counts stay.
    pub shown: Option<(&'a Selection, Timestamp)>,
    /// When the verdict may change by itself.
    pub wake: Option<Timestamp>,
}

impl Verdict<'_> {
    /// Ready and Synced are so for the same reason, and nothing new was found.
    fn of(ready: &'static str, synced: &'static str, why: Remark, abnormal: Option<Outlook>) -> Self {
        Self { ready: (ready, why.clone()), synced: (synced, why), abnormal, shown: None, wake: None }
    }

    fn waking(self, time: Timestamp) -> Self {
        Self { wake: Some(self.wake.map_or(time, |wake| wake.min(time))), ..self }
    }
}

/// Finds what is to be said; none where that is what the status says already.
pub(super) fn judge<'a>(input: &Input<'a>, now: Timestamp) -> Option<Verdict<'a>> {
    let verdict = match input.listing {
        Listing::Unavailable(unavailable) => {
            let reason = unavailable.reason;
            let why = Remark { reason: reason.as_str().to_owned(), message: unavailable.message.clone() };
            Verdict::of(FALSE, FALSE, why, Some(reason.outlook()))
        }
        Listing::NotListable => Verdict::of(FALSE, FALSE, messages::not_listable(), Some(Outlook::NeedsAction)),
        Listing::Suspended => Verdict::of(UNKNOWN, UNKNOWN, messages::suspended(), None),
        Listing::Awaiting => return awaiting(input),
        Listing::Listed { selection, at } => listed(input, selection, at),
        Listing::Failing { failure, since, last, .. } => failing(input, failure, since, last, now),
    };
    Some(verdict)
}

/// No list yet. After a restart the old word stands until there is one.
fn awaiting<'a>(input: &Input<'a>) -> Option<Verdict<'a>> {
    let stands = input.written().is_some_and(|old| is_of(old, input) && is_by_upstream(old));
    (!stands).then(|| Verdict::of(UNKNOWN, UNKNOWN, messages::awaiting(), Some(Outlook::MayPass)))
}

/// There is a list.
fn listed<'a>(input: &Input<'a>, selection: &'a Selection, at: Timestamp) -> Verdict<'a> {
    let has_failed = selection.states.get(&TaskState::Failed).is_some_and(|count| *count > 0);
    let counts = input.spec.ready_when == SetReadyWhen::NoneFailed;
    let (ready, why, abnormal) = if let Some(why) = messages::foreign(input.conflicts) {
        (FALSE, why, Some(Outlook::NeedsAction))
    } else if counts && has_failed {
        (FALSE, messages::failed(selection, input.spec), Some(Outlook::NeedsAction))
    } else if let Some(why) = messages::refused(input.conflicts) {
        (FALSE, why, Some(Outlook::MayPass))
    } else if !selection.create.is_empty() {
        (FALSE, messages::creating(), Some(Outlook::MayPass))
    } else {
        (TRUE, messages::observed(selection, input.spec), None)
    };
    let synced = (TRUE, messages::current());
    Verdict { ready: (ready, why), synced, abnormal, shown: Some((selection, at)), wake: None }
}

/// The tasks cannot be listed.
fn failing<'a>(
    input: &Input<'a>,
    failure: &Failure,
    since: Timestamp,
    last: Option<(&'a Selection, Timestamp)>,
    now: Timestamp,
) -> Verdict<'a> {
    let old = input.written();
    let current = old.filter(|old| is_of(old, input));
    let told = old.and_then(trouble);
    // After a restart `since` begins anew; the condition remembers.
    let first = told.map_or(since, |synced| synced.last_transition_time.0.min(since));
    let stale_at = later(first, input.stale_after());
    if stale_at <= now || current.is_some_and(is_stale) {
        return stale(input, failure, last);
    }
    // What is said of the tasks stays, for a while.
    let before = last.map(|(selection, at)| listed(input, selection, at)).or_else(|| kept(current?));
    let shown_at = later(since, input.patience());
    let verdict = match before {
        // It may pass before anybody need know. Who has seen nothing yet is told at once.
        Some(before) if told.is_none() && shown_at > now => before.waking(shown_at),
        Some(before) => Verdict { synced: (FALSE, of_trouble(input, failure)), ..before },
        None => Verdict::of(UNKNOWN, FALSE, of_trouble(input, failure), Some(Outlook::MayPass)),
    };
    verdict.waking(stale_at)
}

/// They could not be listed for so long that the last list is not to be relied upon.
fn stale<'a>(input: &Input<'a>, failure: &Failure, last: Option<(&'a Selection, Timestamp)>) -> Verdict<'a> {
    let why = messages::stale(failure, input.stale_after());
    let said = input.written().filter(|old| is_of(old, input) && is_stale(old));
    let said = said.and_then(|old| find(&old.conditions, READY)).filter(|ready| ready.reason == why.reason);
    Verdict {
        ready: (FALSE, said.map_or(why, remark)),
        synced: (FALSE, of_trouble(input, failure)),
        abnormal: Some(Outlook::NeedsAction),
        shown: last,
        wake: None,
    }
}

/// What is said of a failure. What was said of the same trouble stays: each answer has its own words, and each word would be a write.
fn of_trouble(input: &Input<'_>, failure: &Failure) -> Remark {
    let why = messages::trouble(failure);
    let said = input.written().filter(|old| is_of(old, input)).and_then(trouble);
    said.filter(|said| messages::same_trouble(&said.reason, &why.reason)).map_or(why, remark)
}

/// What a status says by a list; none where it was no list that it was written for.
fn kept<'a>(old: &TaskWatchSetStatus) -> Option<Verdict<'a>> {
    let (ready, synced) = (find(&old.conditions, READY)?, find(&old.conditions, SYNCED)?);
    let has = |kind| find(&old.conditions, kind).is_some_and(|condition| condition.status == TRUE);
    let is_by_list = (synced.status == TRUE || trouble(old).is_some()) && ready.status != UNKNOWN && !is_stale(old);
    is_by_list.then(|| Verdict {
        ready: (if ready.status == TRUE { TRUE } else { FALSE }, remark(ready)),
        synced: (if synced.status == TRUE { TRUE } else { FALSE }, remark(synced)),
        abnormal: match (has(RECONCILING), has(STALLED)) {
            (true, _) => Some(Outlook::MayPass),
            (_, true) => Some(Outlook::NeedsAction),
            _ => None,
        },
        shown: None,
        wake: None,
    })
}

/// Whether a status was decided for the present spec.
fn is_of(old: &TaskWatchSetStatus, input: &Input<'_>) -> bool {
    old.observed_generation == Some(input.generation)
}

/// Whether it was an answer of the upstream that a status was written for, or the lack of one; not something of the cluster's own.
fn is_by_upstream(old: &TaskWatchSetStatus) -> bool {
    let is_own =
        |word: &str| Reason::of_word(word).is_some() || [reason::SUSPENDED, reason::AWAITING_LIST].contains(&word);
    find(&old.conditions, SYNCED).is_some_and(|synced| !is_own(&synced.reason))
}

/// What a status says of trouble in listing.
fn trouble(old: &TaskWatchSetStatus) -> Option<&Condition> {
    let is_trouble = |synced: &&Condition| synced.status == FALSE && synced.reason != reason::LIST_NOT_SUPPORTED;
    find(&old.conditions, SYNCED).filter(is_trouble).filter(|_| is_by_upstream(old))
}

/// Whether a status says that there was trouble for too long.
fn is_stale(old: &TaskWatchSetStatus) -> bool {
    let Some(trouble) = trouble(old) else { return false };
    let by_trouble = |why: &Condition| why.reason == reason::STALE || why.reason == trouble.reason;
    find(&old.conditions, STALLED).is_some_and(by_trouble)
}

fn remark(condition: &Condition) -> Remark {
    Remark { reason: condition.reason.clone(), message: condition.message.clone() }
}

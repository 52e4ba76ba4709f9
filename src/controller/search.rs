//! How the task of a watch is found that does not name it: what came of looking for it so far, and when to look again. Once it is found
//! it is fixed: the status shows it, and is believed after a restart.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::objects::{WatchObject, cut_identifiers};
use crate::{
    api::{TaskIdSource, TaskWatchStatus},
    domain::{
        backoff::Backoff,
        discovery::{catalogue::Catalogue, latest},
        failure::Failure,
        target::{Absent, Sought, Target},
    },
    engine::Found,
};

/// How long to wait before an object is read again that has no identifier yet: each look costs the API server a read.
const AGAIN: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(15));

/// The search for the task of one watch.
#[derive(Debug)]
pub enum Search {
    /// It was found: this one.
    Over(Arc<str>),
    /// It goes on.
    On(Box<Course>),
}

/// How a search goes.
#[derive(Debug)]
pub struct Course {
    sought: Sought,
    /// Looks in vain, and when the next one is due; of an object that is read.
    looks: u32,
    again: Option<Instant>,
    /// Tasks that nobody has looked through yet.
    listed: Option<Arc<Catalogue>>,
    /// Why they cannot be listed, since when, and when that was last so.
    trouble: Option<Trouble>,
}

/// Why the tasks cannot be listed.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// The last failure.
    pub failure: Arc<Failure>,
    /// The first one in a row.
    pub since: Timestamp,
    /// The last one.
    pub at: Timestamp,
}

/// Where to look next.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// In the object that is to have the identifier.
    Read,
    /// Among these tasks.
    Choose(Arc<Catalogue>),
}

impl Search {
    /// The search for a watch with this status; none where the specification names the task.
    #[must_use]
    pub fn of(object: &WatchObject, status: Option<&TaskWatchStatus>) -> Option<Self> {
        let task = &object.spec.task;
        if task.id.is_some() {
            return None;
        }
        let mut found = status.and_then(|status| status.task.as_ref()?.id.clone());
        cut_identifiers(&mut found);
        if let Some(id) = found {
            return Some(Self::Over(Arc::from(id)));
        }
        let sought = awaited(object);
        Some(Self::On(Box::new(Course { sought, looks: 0, again: None, listed: None, trouble: None })))
    }

    /// Which task it is, as far as that is known.
    #[must_use]
    pub fn target(&self) -> Target<'_> {
        match self {
            Self::Over(id) => Target::Known(id),
            Self::On(course) => Target::Sought(&course.sought),
        }
    }

    /// Takes over what a status shows, where the search goes on: another process has found it.
    pub fn is_shown(&mut self, object: &WatchObject, status: Option<&TaskWatchStatus>) {
        if matches!(self, Self::On(_))
            && let Some(over @ Self::Over(_)) = Self::of(object, status)
        {
            *self = over;
        }
    }

    /// Where to look now, if anywhere.
    #[must_use]
    pub fn look(&self, object: &WatchObject, now: Instant) -> Option<Lookup> {
        let Self::On(course) = self else { return None };
        if object.spec.task.id_from.as_deref().and_then(TaskIdSource::member).is_some() {
            return course.again.is_none_or(|again| again <= now).then_some(Lookup::Read);
        }
        course.listed.clone().map(Lookup::Choose)
    }

    /// Somebody has asked for a look now.
    pub fn is_requested(&mut self) {
        if let Self::On(course) = self {
            course.again = None;
        }
    }

    /// When to look again by itself.
    #[must_use]
    pub fn again(&self) -> Option<Instant> {
        match self {
            Self::Over(_) => None,
            Self::On(course) => course.again,
        }
    }

    /// Why the tasks cannot be listed that it is sought among.
    #[must_use]
    pub fn trouble(&self) -> Option<&Trouble> {
        match self {
            Self::Over(_) => None,
            Self::On(course) => course.trouble.as_ref(),
        }
    }

    /// The identifier that was looked for is this; or why not yet.
    pub fn has_read(&mut self, read: Result<String, Sought>, now: Instant) {
        let Self::On(course) = self else { return };
        match read {
            Ok(id) => *self = Self::Over(Arc::from(id)),
            Err(sought) => {
                course.again = Some(now + AGAIN.doubled(course.looks));
                course.looks += 1;
                course.sought = sought;
            }
        }
    }

    /// The tasks of `catalogue` were looked through: this one is it, or none.
    pub fn has_chosen(&mut self, catalogue: &Arc<Catalogue>, chosen: Option<Arc<str>>) {
        let Self::On(course) = self else { return };
        // There may be newer ones by now.
        course.listed.take_if(|listed| Arc::ptr_eq(listed, catalogue));
        if let Some(id) = chosen {
            *self = Self::Over(id);
        }
    }

    /// What the engine says of the tasks that it is sought among.
    pub fn observe(&mut self, object: &WatchObject, found: Found<Timestamp>) {
        let Self::On(course) = self else { return };
        (course.sought, course.trouble) = (awaited(object), None);
        match found {
            Found::Listed { catalogue, .. } => course.listed = Some(catalogue),
            Found::Trouble { failure, since, at } => course.trouble = Some(Trouble { failure, since, at }),
            Found::Unsupported => course.sought = latest::not_listable(),
        }
    }

    /// The tasks are not asked for any more: what came of that before says nothing of now.
    pub fn call_off(&mut self, object: &WatchObject) {
        if let Self::On(course) = self
            && object.spec.task.latest.is_some()
        {
            (course.sought, course.listed, course.trouble) = (awaited(object), None, None);
        }
    }

    /// The clock was stepped so far.
    pub fn step_clock(&mut self, step: SignedDuration) {
        if let Self::On(course) = self
            && let Some(trouble) = &mut course.trouble
        {
            for time in [&mut trouble.since, &mut trouble.at] {
                *time = time.checked_add(step).unwrap_or(*time);
            }
        }
    }
}

/// What is said before anything came of looking.
fn awaited(object: &WatchObject) -> Sought {
    let task = &object.spec.task;
    let source = task.id_from.as_deref().and_then(TaskIdSource::member);
    match (source, &task.latest) {
        (Some(source), _) => {
            Sought::absent(&Absent::Object, source, object.identity.namespace.as_deref().unwrap_or_default())
        }
        (None, Some(latest)) => latest::awaited(latest, object.created),
        // The schema lets no such object pass.
        (None, None) => {
            Sought::Identifier("spec.task names no task: delete this TaskWatch and create another.".to_owned())
        }
    }
}

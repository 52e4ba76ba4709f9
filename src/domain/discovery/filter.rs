//! Whether a task matches what a `TaskWatchSet` asks for.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{super::task::TaskState, catalogue::Candidate, glob::Glob};
use crate::api::{TaskMatch, TaskParents};

/// What a set asks of tasks: all of it must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// None: any. A word that is no state of a task is one in which none is.
    states: Option<Vec<TaskState>>,
    /// None: any type and name.
    types: Vec<Glob>,
    name: Option<Box<str>>,
    resource: Option<Box<str>>,
    created_by: Option<Box<str>>,
    parts_too: bool,
    newer_than: Option<SignedDuration>,
}

impl Filter {
    /// What `wanted` says, made ready to be held against many tasks.
    #[must_use]
    pub fn new(wanted: &TaskMatch) -> Self {
        let text = |text: &Option<String>| text.as_deref().map(Box::from);
        let is_named = |state: &TaskState| wanted.states.iter().any(|word| word == state.as_str());
        Self {
            states: (!wanted.states.is_empty()).then(|| TaskState::ALL.into_iter().filter(is_named).collect()),
            types: wanted.types.iter().map(|pattern| Glob::new(pattern)).collect(),
            name: text(&wanted.name_contains),
            resource: text(&wanted.resource),
            created_by: text(&wanted.created_by),
            parts_too: wanted.parents == TaskParents::All,
            newer_than: wanted.newer_than_seconds.map(|seconds| SignedDuration::from_secs(seconds.into())),
        }
    }

    /// Whether a task matches at this time.
    #[must_use]
    pub fn admits(&self, task: &Candidate, now: Timestamp) -> bool {
        self.states.as_ref().is_none_or(|states| states.contains(&task.state)) && self.admits_in_some_state(task, now)
    }

    /// Whether it would match in another state.
    #[must_use]
    pub fn admits_in_some_state(&self, task: &Candidate, now: Timestamp) -> bool {
        // What is cheap to tell comes first: this is asked of every task of an account.
        (self.parts_too || task.parent_id.is_none())
            && self.until(task).is_none_or(|until| now < until)
            && self.created_by.as_deref().is_none_or(|by| task.created_by.as_deref() == Some(by))
            && contains([&task.resource], self.resource.as_deref())
            && contains([&task.name, &task.display_name], self.name.as_deref())
            && self.is_of_type(task)
    }

    /// When the task will be too old to match; none where it will not. It never comes to match by time alone.
    #[must_use]
    pub fn until(&self, task: &Candidate) -> Option<Timestamp> {
        let (created, age) = (task.created?, self.newer_than?);
        Some(created.checked_add(age).unwrap_or(Timestamp::MAX))
    }

    fn is_of_type(&self, task: &Candidate) -> bool {
        let texts = || [&task.kind, &task.name].into_iter().flatten();
        let is_like = |glob: &Glob| match texts().next() {
            Some(_) => texts().any(|text| glob.is_like(text)),
            // A task with neither is as one whose type is empty: `*` is every task.
            None => glob.is_like(""),
        };
        self.types.is_empty() || self.types.iter().any(is_like)
    }
}

/// Whether one of the texts contains what is wanted, if anything is.
fn contains<'a>(texts: impl IntoIterator<Item = &'a Option<Arc<str>>>, wanted: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| texts.into_iter().flatten().any(|text| text.contains(wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::task::Task;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn task() -> Candidate {
        Candidate::of(&Task {
            name: Some("astra.backup.run".into()),
            display_name: Some("Nightly backup [ci-42]".into()),
            kind: Some("backup".into()),
            resource: Some("/accounts/a/k8s/app-7".into()),
            created_by: Some("ci".into()),
            created_time: Some(at(1000)),
            ..Task::new("t", TaskState::Running, "running")
        })
    }

    /// Whether `task` matches at second 1060, in its state and in some state.
    fn holds(wanted: &TaskMatch, task: &Candidate) -> (bool, bool) {
        let filter = Filter::new(wanted);
        (filter.admits(task, at(1060)), filter.admits_in_some_state(task, at(1060)))
    }

    #[test]
    fn nothing_asked_is_every_task_that_is_no_part_of_another() {
        let bare = Candidate::of(&Task::new("t", TaskState::Failed, "failed"));
        let part = Candidate { parent_id: Some("p".into()), ..task() };
        for wanted in [TaskMatch::default(), serde_json::from_str("{}").unwrap()] {
            assert_eq!([&task(), &bare, &part].map(|task| holds(&wanted, task).0), [true, true, false]);
        }
        assert!(holds(&TaskMatch { parents: TaskParents::All, ..TaskMatch::default() }, &part).0);
    }

    #[test]
    fn each_thing_that_is_asked_must_hold() {
        let text = |text: &str| Some(text.to_owned());
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let any = TaskMatch::default;
        let bare = Candidate::of(&Task::new("t", TaskState::Running, "running"));
        // What is asked, whether the task above has it, and whether a task of which only the state is known has.
        for (wanted, expected, of_bare) in [
            (TaskMatch { states: list(&["Failed", "Running"]), ..any() }, true, true),
            (TaskMatch { states: list(&["Failed"]), ..any() }, false, false),
            (TaskMatch { states: list(&["Lost"]), ..any() }, false, false),
            (TaskMatch { types: list(&["back?p"]), ..any() }, true, false),
            (TaskMatch { types: list(&["x", "astra.backup*"]), ..any() }, true, false),
            (TaskMatch { types: list(&["astra.backup"]), ..any() }, false, false),
            (TaskMatch { types: list(&["Nightly*"]), ..any() }, false, false),
            (TaskMatch { types: list(&["*"]), ..any() }, true, true),
            (TaskMatch { name_contains: text("[ci-42]"), ..any() }, true, false),
            (TaskMatch { name_contains: text("backup.run"), ..any() }, true, false),
            (TaskMatch { name_contains: text("nightly"), ..any() }, false, false),
            (TaskMatch { resource: text("app-7"), ..any() }, true, false),
            (TaskMatch { resource: text("app-8"), ..any() }, false, false),
            (TaskMatch { created_by: text("ci"), ..any() }, true, false),
            (TaskMatch { created_by: text("c"), ..any() }, false, false),
            (TaskMatch { newer_than_seconds: Some(61), ..any() }, true, true),
            (TaskMatch { newer_than_seconds: Some(60), ..any() }, false, true),
            (TaskMatch { created_by: text("ci"), resource: text("app-8"), ..any() }, false, false),
        ] {
            assert_eq!(holds(&wanted, &task()).0, expected, "{wanted:?}");
            assert_eq!(holds(&wanted, &bare).0, of_bare, "{wanted:?}");
            let stateless = TaskMatch { states: Vec::new(), ..wanted.clone() };
            assert_eq!(holds(&wanted, &task()).1, holds(&stateless, &task()).0, "states left aside: {wanted:?}");
        }
    }

    #[test]
    fn a_task_grows_too_old_at_the_time_that_is_named() {
        let filter = Filter::new(&TaskMatch { newer_than_seconds: Some(100), ..TaskMatch::default() });
        let until = filter.until(&task()).unwrap();
        assert_eq!(until, at(1100));
        let admits = [1_i64, 999, 1000, 1099, 1100].map(|second| filter.admits(&task(), at(second)));
        assert_eq!(admits, [true, true, true, true, false], "also before it was made, by another clock");
        assert_eq!(filter.until(&Candidate { created: None, ..task() }), None);
        let long = Filter::new(&TaskMatch { newer_than_seconds: Some(i32::MAX), ..TaskMatch::default() });
        assert_eq!(long.until(&Candidate { created: Some(Timestamp::MAX), ..task() }), Some(Timestamp::MAX));
    }
}

//! Which of the tasks of a scope a `TaskWatch` with `spec.task.latest` is of: the newest that matches.

use std::{cmp::Reverse, sync::Arc};

use jiff::{SignedDuration, Timestamp};

use super::{
    super::{stored, target::Sought},
    catalogue::{Candidate, Catalogue},
    filter::Filter,
};
use crate::api::{LatestTask, NotBefore, TaskMatch};

/// By so much the upstream's clock may be behind the API server's.
const CLOCKS: SignedDuration = SignedDuration::from_mins(1);

/// The newest task that matches, for an object that was created then. One whose time of creation is not known may be of any time: it
/// counts only where any will do, and there after those that have one.
#[must_use]
pub fn newest(latest: &LatestTask, created: Timestamp, catalogue: &Catalogue) -> Option<Arc<Candidate>> {
    let filter = Filter::new(&TaskMatch {
        types: latest.kind.clone().into_iter().collect(),
        name_contains: latest.name_contains.clone(),
        resource: latest.resource.clone(),
        created_by: latest.created_by.clone(),
        ..TaskMatch::default()
    });
    let since = since(latest, created);
    let is_new = |task: &Candidate| since.is_none_or(|since| task.created.is_some_and(|created| created >= since));
    catalogue
        .iter()
        .filter(|task| is_new(task) && filter.admits(task, created))
        // Of several of one moment always the same.
        .max_by_key(|task| (task.created, Reverse(Arc::clone(&task.id))))
        .cloned()
}

/// What is said while no task matches.
#[must_use]
pub fn awaited(latest: &LatestTask, created: Timestamp) -> Sought {
    let said = [
        latest.kind.as_ref().map(|kind| format!("of type \"{kind}\"")),
        latest.name_contains.as_ref().map(|text| format!("with \"{text}\" in its name")),
        latest.resource.as_ref().map(|text| format!("on a resource with \"{text}\" in it")),
        latest.created_by.as_ref().map(|user| format!("started by \"{user}\"")),
        since(latest, created)
            .map(|since| format!("created after {} (notBefore: ObjectCreation)", stored::time(since).0)),
    ];
    let said: Vec<_> = said.into_iter().flatten().collect();
    let said = if said.is_empty() { "of any kind".to_owned() } else { said.join(", ") };
    Sought::Match(format!("Waiting for a task {said}: the upstream lists none yet."))
}

/// What is said where there are no lists to look in.
#[must_use]
pub fn not_listable() -> Sought {
    let message = "The API of this connection cannot list its tasks, so that spec.task.latest cannot find one. Nothing is sent: delete \
                   this TaskWatch, and create it with spec.task.id or spec.task.idFrom.";
    Sought::Unlisted(message.to_owned())
}

/// From when on tasks count.
fn since(latest: &LatestTask, created: Timestamp) -> Option<Timestamp> {
    match latest.not_before {
        NotBefore::ObjectCreation => Some(created.checked_sub(CLOCKS).unwrap_or(Timestamp::MIN)),
        NotBefore::Any => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::task::{Task, TaskState};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).unwrap()
    }

    /// A catalogue of tasks, each of a name and with its time of creation.
    fn catalogue(tasks: &[(&str, Option<i64>)]) -> Catalogue {
        let mut catalogue = Catalogue::default();
        for (id, created) in tasks {
            let task = Task {
                name: Some(format!("backup of {id}")),
                kind: Some("astra.backup".into()),
                created_time: created.map(at),
                ..Task::new(*id, TaskState::Running, "running")
            };
            catalogue.put(Candidate::of(&task));
        }
        catalogue
    }

    /// Which one is taken, for an object that was created at second 1000.
    fn taken(latest: &LatestTask, tasks: &[(&str, Option<i64>)]) -> Option<String> {
        newest(latest, at(1000), &catalogue(tasks)).map(|task| task.id.to_string())
    }

    const ANY: LatestTask =
        LatestTask { kind: None, name_contains: None, resource: None, created_by: None, not_before: NotBefore::Any };

    #[test]
    fn no_task_is_taken_that_is_older_than_the_object_but_for_the_clocks() {
        let latest = LatestTask::default();
        assert_eq!(taken(&latest, &[("yesterday", Some(-80_000)), ("before", Some(939))]), None);
        assert_eq!(taken(&latest, &[("just", Some(940)), ("before", Some(939))]).as_deref(), Some("just"));
        assert_eq!(taken(&latest, &[("a", Some(1001)), ("b", Some(1005)), ("c", Some(1003))]).as_deref(), Some("b"));
        assert_eq!(taken(&latest, &[("unknown", None)]), None, "it may be as old as any");
        assert_eq!(taken(&ANY, &[("old", Some(-80_000)), ("older", Some(-90_000))]).as_deref(), Some("old"));
    }

    #[test]
    fn without_a_time_a_task_comes_after_those_that_have_one_and_of_equals_always_the_same() {
        assert_eq!(taken(&ANY, &[("unknown", None), ("old", Some(-80_000))]).as_deref(), Some("old"));
        assert_eq!(taken(&ANY, &[("z", None), ("a", None), ("m", None)]).as_deref(), Some("a"));
        assert_eq!(taken(&ANY, &[("z", Some(1)), ("a", Some(1))]).as_deref(), Some("a"));
        assert_eq!(taken(&ANY, &[]), None);
    }

    #[test]
    fn all_that_is_given_must_hold() {
        let tasks = [("one", Some(1001)), ("two", Some(1002))];
        let of = |kind: &str, name: &str| LatestTask {
            kind: Some(kind.into()),
            name_contains: Some(name.into()),
            ..LatestTask::default()
        };
        assert_eq!(taken(&of("astra.*", "of one"), &tasks).as_deref(), Some("one"));
        assert_eq!(taken(&of("astra.*", "of"), &tasks).as_deref(), Some("two"));
        assert_eq!(taken(&of("astra.restore", "of one"), &tasks), None);
        let part = Task {
            parent_id: Some("two".into()),
            created_time: Some(at(1009)),
            ..Task::new("part", TaskState::Running, "running")
        };
        let mut catalogue = catalogue(&tasks);
        catalogue.put(Candidate::of(&part));
        let newest = newest(&LatestTask::default(), at(1000), &catalogue);
        assert_eq!(newest.map(|task| task.id.to_string()).as_deref(), Some("two"), "parts are left aside");
    }

    #[test]
    fn what_is_awaited_is_said() {
        let latest = LatestTask {
            kind: Some("astra.*".into()),
            name_contains: Some("ci-42".into()),
            created_by: Some("ci".into()),
            ..LatestTask::default()
        };
        let expected = "Waiting for a task of type \"astra.*\", with \"ci-42\" in its name, started by \"ci\", created after \
                        2026-09-21T14:29:20Z (notBefore: ObjectCreation): the upstream lists none yet.";
        assert_eq!(awaited(&latest, at(1020)), Sought::Match(expected.into()));
        let expected = "Waiting for a task of any kind: the upstream lists none yet.";
        assert_eq!(awaited(&ANY, at(0)), Sought::Match(expected.into()));
    }
}

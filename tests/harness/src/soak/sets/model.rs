//! Which children a `TaskWatchSet` must have, by what the upstream has; and which of them it may delete. Written from what the fields of
//! a set are documented to mean: nothing is shared with the operator.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::model::{Step, Task};

/// What was shown when a child was made may have been listed so long before: a list is read page by page, and creations have their rate.
const LATE_MS: i64 = 60_000;
/// The simulator is told of a task a moment after it was thought of.
const SKEW_MS: i64 = 1500;
/// Times in objects are whole seconds.
const WHOLE_MS: i64 = 1500;

/// What a set asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Any, where it is empty.
    states: Vec<String>,
    /// What the name begins with.
    prefix: Option<String>,
    newer_ms: Option<i64>,
    limit: usize,
    retention_ms: i64,
}

/// A task as an honest list shows it.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) state: String,
    pub(super) created: i64,
    pub(super) ended: Option<i64>,
}

/// A child, and when it says that its task has ended.
#[derive(Clone, Debug)]
pub(super) struct Child {
    pub(super) task: String,
    pub(super) ended: Option<i64>,
}

/// A child that was deleted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gone<'a> {
    /// None: the upstream has lied about it, there is no such task.
    pub(super) task: Option<&'a Task>,
    /// Its `creationTimestamp`.
    pub(super) made: i64,
    pub(super) at: i64,
    /// When it said that its task had ended.
    pub(super) ended: Option<i64>,
    /// How far ahead the operator's clock may have been.
    pub(super) ahead: i64,
}

impl Wanted {
    /// The same after a merge patch of the `spec`.
    pub(super) fn changed(&self, patch: &Value) -> Self {
        let new = Self::read(patch);
        let has = |field: &str| patch.get(field).is_some();
        Self {
            states: if has("match") { new.states } else { self.states.clone() },
            limit: if has("limit") { new.limit } else { self.limit },
            retention_ms: if has("finishedRetentionSeconds") { new.retention_ms } else { self.retention_ms },
            ..self.clone()
        }
    }

    /// Of the `spec` of a set.
    pub(super) fn read(spec: &Value) -> Self {
        let words = |value: &Value| -> Vec<_> {
            value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let wanted = &spec["match"];
        Self {
            states: words(&wanted["states"]),
            prefix: words(&wanted["types"]).first().map(|glob| glob.trim_end_matches('*').to_owned()),
            newer_ms: wanted["newerThanSeconds"].as_i64().map(|seconds| seconds * 1000),
            limit: spec["limit"].as_u64().and_then(|limit| usize::try_from(limit).ok()).unwrap_or(100),
            retention_ms: spec["finishedRetentionSeconds"].as_i64().unwrap_or(3600) * 1000,
        }
    }

    /// The tasks that match, the newest first; the first `limit` of them are watched.
    pub(super) fn matching<'a>(&self, tasks: &'a [Listed], now: i64) -> Vec<&'a Listed> {
        let is_kept = |task: &&Listed| task.ended.is_none_or(|ended| ended + self.retention_ms > now);
        let suits = |task: &&Listed| self.admits(&task.state) && self.suits(&task.name, task.created, now);
        let mut matching: Vec<_> = tasks.iter().filter(is_kept).filter(suits).collect();
        matching.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        matching
    }

    /// The tasks without the child that they must have, and those with one that they must not have.
    pub(super) fn differences(&self, tasks: &[Listed], children: &[Child], now: i64) -> Vec<String> {
        let matching = self.matching(tasks, now);
        let chosen: BTreeSet<&str> = matching.iter().take(self.limit).map(|task| task.id.as_str()).collect();
        let there: BTreeSet<&str> = children.iter().map(|child| child.task.as_str()).collect();
        let missing = chosen.difference(&there).map(|id| format!("{id} has no child"));
        let others = children.iter().filter(|child| !chosen.contains(child.task.as_str()));
        let surplus = others.filter(|child| !self.stays(child, tasks, now));
        let surplus = surplus.map(|child| format!("{} has a child, which ended {:?}", child.task, child.ended));
        let twice = (there.len() < children.len()).then(|| "a task has two children".to_owned());
        missing.chain(surplus).chain(twice).collect()
    }

    /// Whether a child stays whose task is not among the chosen.
    fn stays(&self, child: &Child, tasks: &[Listed], now: i64) -> bool {
        let task = tasks.iter().find(|task| task.id == child.task);
        if let Some(task) = task {
            let has_ended = child.ended.is_some() || task.ended.is_some();
            if !has_ended || !self.suits(&task.name, task.created, now) {
                return false;
            }
        }
        child.ended.is_none_or(|ended| ended + self.retention_ms > now)
    }

    fn admits(&self, state: &str) -> bool {
        self.states.is_empty() || self.states.iter().any(|word| word == state)
    }

    fn suits(&self, name: &str, created: i64, now: i64) -> bool {
        self.newer_ms.is_none_or(|age| now < created + age)
            && self.prefix.as_ref().is_none_or(|prefix| name.starts_with(prefix))
    }

    /// Whether the operator may have had a reason to delete this child, by any list since it was made, among all `tasks` of the scope.
    pub(super) fn may_go(&self, gone: &Gone<'_>, tasks: &[&Task]) -> bool {
        let now = gone.at + gone.ahead + WHOLE_MS;
        if gone.ended.is_some_and(|ended| ended + self.retention_ms <= now) {
            return true;
        }
        let Some(task) = gone.task else { return true };
        if !self.suits(&task.name(), task.start_ms - SKEW_MS, now) {
            return true;
        }
        let (from, to) = (gone.made - LATE_MS, gone.at + SKEW_MS);
        let mut active = during(task, from, to).filter(|step| !step.is_end());
        // A task that has ended, or is not listed, goes by its child alone.
        let Some(first) = active.next() else { return false };
        if !self.admits(first.state) || active.any(|step| !self.admits(step.state)) {
            return true;
        }
        let newer = |other: &&&Task| other.id != task.id && other.start_ms + SKEW_MS >= task.start_ms;
        let matches = |other: &&&Task| {
            other.name().starts_with(self.prefix.as_deref().unwrap_or_default())
                && during(other, from, to).any(|step| self.admits(step.state))
        };
        tasks.iter().filter(newer).filter(matches).count() >= self.limit
    }
}

/// The steps that were in force at some time of a span, and shown.
fn during(task: &Task, from: i64, to: i64) -> impl Iterator<Item = &Step> {
    let ends = task.steps.iter().skip(1).map(|next| next.at_ms).chain([i64::MAX]);
    let steps = task.steps.iter().zip(ends);
    steps.filter(move |(step, end)| !step.gone && step.at_ms <= to && from <= *end).map(|(step, _)| step)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const RED: &str = "soakTask-red";

    fn listed(id: &str, state: &str, created: i64, ended: Option<i64>) -> Listed {
        Listed { id: id.to_owned(), name: RED.to_owned(), state: state.to_owned(), created, ended }
    }

    fn child(task: &str, ended: Option<i64>) -> Child {
        Child { task: task.to_owned(), ended }
    }

    fn task(id: &str, steps: &[(i64, &'static str)]) -> Task {
        let steps: Vec<_> = steps
            .iter()
            .map(|(at_ms, state)| Step { at_ms: *at_ms, state, percent: 0, gone: *state == "gone" })
            .collect();
        Task { connection: 0, id: id.to_owned(), start_ms: steps[0].at_ms, steps, hostile: false, word: RED }
    }

    fn wanted(spec: &Value) -> Wanted {
        Wanted::read(spec)
    }

    #[test]
    fn the_newest_that_match_have_a_child_and_no_others() {
        let tasks = [
            listed("old", "Running", 1, None),
            listed("mid", "Failed", 2, Some(50)),
            listed("new", "Running", 3, None),
            listed("over", "Succeeded", 4, Some(5)),
        ];
        let of = |spec: &Value| wanted(spec).differences(&tasks, &[child("new", None)], 10_000);
        assert_eq!(of(&json!({"limit": 1, "finishedRetentionSeconds": 1})), [""; 0]);
        assert_eq!(of(&json!({"limit": 2, "finishedRetentionSeconds": 1})), ["old has no child"]);
        assert_eq!(of(&json!({"limit": 2, "match": {"states": ["Failed"]}})).len(), 2, "one missing, one too many");
        assert_eq!(of(&json!({"limit": 9, "match": {"types": ["soakTask-blue*"]}})).len(), 1, "one too many");
        assert_eq!(of(&json!({"limit": 9, "match": {"newerThanSeconds": 9}})).len(), 1, "none is so new");
        let doubled = [child("new", None), child("new", None)];
        let spec = json!({"limit": 1, "finishedRetentionSeconds": 1});
        assert_eq!(wanted(&spec).differences(&tasks, &doubled, 10_000), ["a task has two children"]);
    }

    #[test]
    fn the_child_of_a_task_that_ended_or_is_not_listed_stays_for_the_retention() {
        let tasks = [listed("a", "Failed", 1, Some(1000)), listed("b", "Running", 2, None)];
        let spec = json!({"match": {"states": ["Paused"]}, "finishedRetentionSeconds": 1});
        let surplus = |children: &[Child], now| wanted(&spec).differences(&tasks, children, now).len();
        assert_eq!(surplus(&[child("a", Some(1000))], 1999), 0);
        assert_eq!(surplus(&[child("a", Some(1000))], 2000), 1);
        assert_eq!(surplus(&[child("a", None)], 9999), 0, "nobody has seen the end yet");
        assert_eq!(surplus(&[child("b", None)], 9), 1);
        assert_eq!(surplus(&[child("gone", None)], 9999), 0, "that a list does not show it means nothing");
        assert_eq!(surplus(&[child("gone", Some(1000))], 2000), 1);
    }

    #[test]
    fn a_child_is_deleted_for_a_reason() {
        let (runs, ends) =
            (task("a", &[(0, "Pending"), (500, "Running")]), task("b", &[(0, "Running"), (500, "Failed")]));
        let vanished = task("c", &[(0, "Running"), (500, "gone")]);
        let newer = task("d", &[(200_000, "Running")]);
        let all = [&runs, &ends, &vanished, &newer];
        let may = |task: &Task, spec: Value, ended: Option<i64>| {
            let gone = Gone { task: Some(task), made: 100_000, at: 300_000, ended, ahead: 0 };
            wanted(&spec).may_go(&gone, &all)
        };
        assert!(!may(&runs, json!({}), None));
        assert!(may(&runs, json!({"match": {"states": ["Pending"]}}), None), "it came to run");
        assert!(may(&runs, json!({"match": {"types": ["other*"]}}), None));
        assert!(may(&runs, json!({"match": {"newerThanSeconds": 300}}), None), "it is too old");
        assert!(!may(&runs, json!({"match": {"newerThanSeconds": 400}}), None));
        assert!(may(&runs, json!({"limit": 1}), None), "another one is newer");
        assert!(!may(&newer, json!({"limit": 4}), None));
        assert!(!may(&ends, json!({"limit": 1}), None), "it ended before it was made: it goes by its child");
        assert!(!may(&vanished, json!({"limit": 1}), None), "it was gone before it was made");
        assert!(may(&ends, json!({"finishedRetentionSeconds": 100}), Some(200_000)));
        assert!(!may(&ends, json!({"finishedRetentionSeconds": 110}), Some(200_000)));
    }
}

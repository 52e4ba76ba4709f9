//! Every status that was ever shown, by a watch of our own, and what may never be among them.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use kube::{api::DynamicObject, runtime::watcher};
use serde_json::Value;

use super::{
    book::{Book, Mark},
    cluster::Cluster,
    model::{LONG_GRACE, World, now_ms},
    sets::Children,
    upstream::text,
};

/// The clock of the simulator's process and ours are one; what is told takes a moment.
const SLACK_MS: i64 = 50;
/// Times in objects are whole seconds.
const WHOLE_MS: i64 = 1500;
#[allow(clippy::cast_possible_wrap)]
const LONG_GRACE_MS: i64 = LONG_GRACE as i64 * 1000;

/// So long after our watch has failed, it is begun again.
const AGAIN: Duration = Duration::from_millis(200);

/// What was seen of one object.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    status: Value,
    /// It was asked to look again.
    refreshed: bool,
    /// How often a reason could have been told.
    pub(super) reasons: HashMap<String, u64>,
    /// How often its watch was interrupted: some of it may have been missed.
    gaps: u64,
    /// How often its task comes into a state, by the reason that tells it.
    script: HashMap<String, u64>,
}

impl Seen {
    /// How often this may have been told without our having seen it.
    pub(super) fn missed(&self, reason: &str) -> u64 {
        if self.gaps == 0 { 0 } else { self.gaps + self.script.get(reason).copied().unwrap_or_default() }
    }
}

/// What was seen of all objects, by UID.
pub(super) struct History {
    world: Arc<Mutex<World>>,
    book: Arc<Book>,
    children: Arc<Children>,
    seen: Mutex<(HashMap<String, Seen>, u64)>,
}

impl History {
    /// What becomes of the children of sets is told to `children`.
    pub(super) fn new(world: Arc<Mutex<World>>, book: Arc<Book>, children: Arc<Children>) -> Self {
        Self { world, book, children, seen: Mutex::default() }
    }

    /// Watches for ever.
    pub(super) async fn follow(&self, cluster: &Cluster) {
        let mut stream = pin!(watcher(cluster.every_watch(), watcher::Config::default()));
        while let Some(event) = stream.next().await {
            match event {
                Ok(watcher::Event::Init) => {
                    self.children.are_listed_anew();
                    let mut seen = self.lock();
                    seen.1 += 1;
                    seen.0.values_mut().for_each(|seen| seen.gaps += 1);
                }
                Ok(watcher::Event::InitApply(object)) => self.take(object, 1),
                Ok(watcher::Event::Apply(object)) => self.take(object, 0),
                Ok(watcher::Event::Delete(object)) => {
                    let uid = object.metadata.uid.clone().unwrap_or_default();
                    self.take(object, 0);
                    self.children.is_gone(&uid, now_ms());
                }
                Ok(watcher::Event::InitDone) => self.children.are_listed(now_ms()),
                Err(error) => {
                    self.book.say(&format!("our watch: {error}"));
                    // Soon again: what is written meanwhile is missed.
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    pub(super) fn of(&self, uid: &str) -> Option<Seen> {
        self.lock().0.get(uid).cloned()
    }

    /// Takes in what an object shows now. One that is first met in a list was made while the watch was interrupted.
    fn take(&self, object: DynamicObject, gaps: u64) {
        let Ok(object) = &serde_json::to_value(object) else { return };
        let now = now_ms();
        self.children.see(object);
        let uid = text(&object["metadata"]["uid"]);
        let name = format!("{}/{}", text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]));
        let status = object["status"].clone();
        let mut guard = self.lock();
        let seen = guard.0.entry(uid).or_insert_with(|| Seen { script: self.script(object), gaps, ..Seen::default() });
        seen.refreshed |= object["metadata"]["annotations"]["taskwatch.dev/requestedAt"].is_string();
        if seen.status == status {
            return;
        }
        let old = std::mem::replace(&mut seen.status, status);
        count(seen, &old);
        let (new, refreshed) = (seen.status.clone(), seen.refreshed);
        drop(guard);
        // What was asked for an object of the same name that is no more.
        let other = new["task"]["id"].is_string() && new["task"]["id"] != object["spec"]["task"]["id"];
        let time = |value: &Value| value.as_str().and_then(parse_time);
        // A set's child is shown what the list said of its task that it was made by.
        let made = time(&object["metadata"]["creationTimestamp"]).filter(|_| !of_set(object));
        let early = time(&new["lastObservedTime"]).zip(made);
        let is_clock = !self.book.marks(&[Mark::ClockOff]).is_empty();
        if other || early.is_some_and(|(observed, created)| observed < created && !is_clock) {
            self.book.finding("another's status", format!("{name}: {object}").chars().take(1500).collect());
        }
        if let Some(bad) = unclean(&new) {
            self.book.finding("unclean text", format!("{name}: {bad}"));
        }
        let (was, is) = (text(&old["state"]), text(&new["state"]));
        if is_finished(&old) && !refreshed && (was != is || !is_finished(&new)) {
            self.book.finding("end revoked", format!("{name}: {was} {} to {is} {}", succeeded(&old), succeeded(&new)));
        }
        if is_finished(&new) && (was != is || !is_finished(&old)) {
            self.judge_end(&name, object, &is, now);
        }
    }

    fn script(&self, object: &Value) -> HashMap<String, u64> {
        let world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        let spec = &object["spec"];
        let task = world.task(&text(&spec["connectionRef"]["name"]), &text(&spec["task"]["id"]));
        let mut script = HashMap::new();
        for step in task.into_iter().flat_map(|task| &task.steps) {
            *script.entry(format!("Task{}", step.state)).or_default() += 1;
        }
        script
    }

    /// Whether what is shown as an end is one.
    fn judge_end(&self, name: &str, object: &Value, state: &str, now: i64) {
        let now_or_so = now + WHOLE_MS;
        // Deadlines are over by the operator's clock. A grace is time that passes, however the clock is stepped.
        let clock = now_or_so + self.book.ahead(now);
        let world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        let spec = &object["spec"];
        let task = world.task(&text(&spec["connectionRef"]["name"]), &text(&spec["task"]["id"]));
        let reason = condition(&object["status"], "Succeeded").map(|c| text(&c["reason"])).unwrap_or_default();
        let created = object["metadata"]["creationTimestamp"].as_str().and_then(parse_time).unwrap_or_default();
        let grace = spec["notFoundGraceSeconds"].as_i64().unwrap_or_default() * 1000;
        // A short grace may be over while the upstream says of a task that is there that it knows none.
        let denied = self.book.marks(&[Mark::Denied]).first().map(|(from, _)| *from).filter(|_| grace < LONG_GRACE_MS);
        let absent_since = match task {
            None => Some(created),
            // Of a set's child, others may watch the task, too, and have known before it was made that the task is gone.
            Some(task) if of_set(object) => task.gone_from().into_iter().chain(denied).min(),
            Some(task) => task.gone_from().into_iter().chain(denied).min().map(|at| at.max(created)),
        };
        let grace = if self.may_misremember(created, now) { 0 } else { grace };
        let lost =
            |policy: &str| spec["onNotFound"] == policy && absent_since.is_some_and(|at| now_or_so >= at + grace);
        let right = match (state, reason.as_str()) {
            (_, "DeadlineExceeded") => {
                spec["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| clock >= created + seconds * 1000)
            }
            ("Lost", _) => lost("Fail"),
            ("Succeeded", "TaskGone") => lost("Succeed"),
            _ => task.is_some_and(|task| task.was(state, now + SLACK_MS)),
        };
        if !right {
            let truth = task.map(|task| format!("end {:?}, gone {:?}", task.end(), task.gone_from()));
            self.book.finding(
                "wrong end",
                format!("{name}: {state} ({reason}) at {now}, created {created}; the task: {truth:?}; {spec}"),
            );
        }
    }

    /// Whether a new operator may have read since when a task is not found as one wrote it whose clock was wrong: where every look failed
    /// in between, nothing has mended that.
    fn may_misremember(&self, created: i64, now: i64) -> bool {
        let (off, away) = (self.book.marks(&[Mark::ClockOff]), self.book.marks(&[Mark::OperatorAway]));
        let is_restarted = |since: i64| away.iter().any(|(from, _)| since < *from && *from <= now);
        off.iter().any(|(from, until)| *from <= now && created <= *until && is_restarted(*from))
    }

    fn lock(&self) -> MutexGuard<'_, (HashMap<String, Seen>, u64)> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of_set(object: &Value) -> bool {
    object["metadata"]["labels"]["taskwatch.dev/set"].is_string()
}

/// Counts what a change may have been told as.
fn count(seen: &mut Seen, old: &Value) {
    let new = &seen.status;
    let mut reasons = Vec::new();
    let synced = |status: &Value| {
        let stalled = condition(status, "Stalled").is_some();
        condition(status, "Synced").map(|c| (text(&c["status"]), text(&c["reason"]), stalled)).unwrap_or_default()
    };
    let (before, after) = (synced(old), synced(new));
    if old["task"].is_null() && !new["task"].is_null() {
        reasons.push("TaskObserved".to_owned());
    }
    if old["state"] != new["state"] || is_finished(old) != is_finished(new) {
        reasons.push(format!("Task{}", text(&new["state"])));
        reasons.push(succeeded(new));
    }
    if before != after {
        reasons.push(if after.0 == "True" { "MirrorRecovered".to_owned() } else { after.1 });
    }
    reasons.sort();
    reasons.dedup();
    for reason in reasons {
        *seen.reasons.entry(reason).or_default() += 1;
    }
}

/// The condition of this type.
pub(super) fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    status["conditions"].as_array()?.iter().find(|c| c["type"] == kind)
}

pub(super) fn is_finished(status: &Value) -> bool {
    condition(status, "Finished").is_some_and(|c| c["status"] == "True")
}

fn succeeded(status: &Value) -> String {
    condition(status, "Succeeded").map(|c| text(&c["reason"])).unwrap_or_default()
}

/// The first string in it that a terminal or a reader should not get, or that is beyond all bounds.
pub(super) fn unclean(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => {
            let bad = text.chars().find(|c| c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'));
            match bad {
                Some(bad) => Some(format!("{bad:?} in {:?}", text.chars().take(200).collect::<String>())),
                None if text.len() > 4096 => {
                    Some(format!("{} bytes: {}…", text.len(), &text.chars().take(80).collect::<String>()))
                }
                None => None,
            }
        }
        Value::Array(items) => items.iter().find_map(unclean),
        Value::Object(map) => map.values().find_map(unclean),
        _ => None,
    }
}

/// A time of an object (whole seconds, UTC) in milliseconds.
pub(super) fn parse_time(text: &str) -> Option<i64> {
    let time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time = serde_json::from_value(text.into()).ok()?;
    Some(time.0.as_millisecond())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_told_of_an_object_before_it_was_first_seen_may_have_been_missed() {
        let history = History::new(Arc::new(Mutex::new(World::new(0))), Arc::new(Book::new(false)), Arc::default());
        let object = |uid: &str| {
            let body = json!({"apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatch",
                "metadata": {"name": uid, "uid": uid}, "status": {"state": "Paused"}});
            serde_json::from_value::<DynamicObject>(body).unwrap()
        };
        history.take(object("followed"), 0);
        history.take(object("found"), 1);
        let seen = |uid: &str| history.of(uid).unwrap();
        assert_eq!((seen("followed").reasons["TaskPaused"], seen("followed").missed("TaskRunning")), (1, 0));
        assert_eq!((seen("found").reasons["TaskPaused"], seen("found").missed("TaskRunning")), (1, 1));
        // It is no longer a first sight.
        history.take(object("followed"), 1);
        assert_eq!(seen("followed").missed("TaskRunning"), 0);
    }
}

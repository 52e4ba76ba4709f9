//! What is planned for a set, one rule a test.

mod moments;

use serde_json::json;

use super::*;
use crate::{
    api::{ConnectionPoll, TaskWatch, TaskWatchSet},
    controller::{check::Usable, index::Index},
    domain::{
        failure::{Failure, FailureClass},
        task::{Task, TaskState},
    },
    engine::{Discovered, Found, WatchKey},
};

/// A set in an index, and the time.
struct World {
    index: Index,
    set: WatchKey,
    poll: ConnectionPoll,
    begin: Instant,
    seconds: u64,
    version: u64,
    tells_all: bool,
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap() + Duration::from_secs(seconds)
}

fn catalogue(tasks: &[(&str, TaskState)]) -> Arc<Catalogue> {
    let mut catalogue = Catalogue::default();
    for (id, state) in tasks {
        catalogue.put(Candidate::of(&Task::new(*id, *state, "word")));
    }
    Arc::new(catalogue)
}

impl World {
    /// A set of before, whose tasks are asked for.
    fn new() -> Self {
        let set = WatchKey("set".into());
        let mut world = Self {
            index: Index::default(),
            set,
            poll: ConnectionPoll::default(),
            begin: Instant::now(),
            seconds: 60,
            version: 0,
            tells_all: true,
        };
        world.apply(&json!({}));
        world.register();
        world
    }

    fn apply(&mut self, spec: &serde_json::Value) {
        self.version += 1;
        let mut object = json!({
            "apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatchSet",
            "metadata": {"name": "s", "namespace": "n", "uid": "set", "generation": self.version,
                "creationTimestamp": at(0).to_string(), "resourceVersion": self.version.to_string()},
            "spec": {"connectionRef": {"name": "c"}},
        });
        object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let object: TaskWatchSet = serde_json::from_value(object).unwrap();
        self.index.sets.put(object).unwrap();
    }

    fn register(&mut self) {
        let wanted = self.plan().discovery.as_ref().map(print);
        self.entry().set_registered(wanted);
    }

    fn entry(&mut self) -> &mut SetEntry {
        self.index.sets.get_mut(&self.set).unwrap()
    }

    fn tell(&mut self, found: Found<Timestamp>) {
        self.index.sets.observe(Discovered { key: self.set.clone(), ticket: 1, found }).unwrap();
    }

    fn list(&mut self, tasks: &[(&str, TaskState)]) {
        self.tell(Found::Listed { catalogue: catalogue(tasks), at: at(self.seconds) });
    }

    /// A watch that says that it is the set's.
    fn child(&mut self, namespace: &str, id: &str, template: &str) {
        self.version += 1;
        let object: TaskWatch = serde_json::from_value(json!({
            "apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatch",
            "metadata": {"name": format!("w-{id}"), "namespace": namespace, "uid": format!("{namespace}-{id}"),
                "resourceVersion": self.version.to_string(),
                "annotations": {"taskwatch.dev/template": format!(r#"{{"hash":"{template}","labels":[]}}"#)},
                "ownerReferences": [{"apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatchSet", "name": "s",
                    "uid": "set", "controller": true}]},
            "spec": {"connectionRef": {"name": "c"}, "task": {"id": id}},
        }))
        .unwrap();
        self.index.put_watch(object).unwrap();
    }

    fn plan(&self) -> Plan {
        let usable = Usable { scope: "own", open: true, poll: &self.poll };
        let context = Context {
            now: at(self.seconds),
            instant: self.begin + Duration::from_secs(self.seconds),
            settings: decide::Settings::default(),
            tells_all: self.tells_all,
        };
        let children: Vec<_> = self.index.sets.children(&self.set).collect();
        plan(self.index.sets.get(&self.set).unwrap(), &children, &Ok(usable), None, &context)
    }

    fn creates(&self) -> Vec<String> {
        let mut ids: Vec<_> = self.plan().create.iter().map(|task| task.id.to_string()).collect();
        ids.sort();
        ids
    }

    fn hash(&self) -> String {
        child::template_hash(&self.index.sets.get(&self.set).unwrap().object.spec)
    }
}

fn ready(plan: &Plan) -> Option<(String, String)> {
    let status = plan.status.as_ref()?;
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready")?;
    Some((ready.status.clone(), ready.reason.clone()))
}

#[test]
fn what_has_no_watch_gets_one_and_what_was_created_is_waited_for() {
    let mut world = World::new();
    assert!(!world.plan().has_work(), "nothing is known yet");
    world.list(&[("a", TaskState::Running), ("b", TaskState::Running)]);
    assert_eq!(world.creates(), ["a", "b"]);
    assert_eq!(ready(&world.plan()), Some(("False".into(), "Creating".into())));
    let now = world.begin + Duration::from_secs(world.seconds);
    for id in ["a", "b"] {
        world.entry().created(&Arc::from(id), now);
    }
    let plan = world.plan();
    assert!(!plan.has_work());
    assert_eq!(ready(&plan), Some(("True".into(), "Observed".into())));
    assert_eq!(plan.status.unwrap().watched, Some(2));
    // One comes, of the other nothing is heard: it is tried again.
    let hash = world.hash();
    world.child("n", "a", &hash);
    world.seconds += 31;
    assert_eq!(world.creates(), ["b"]);
}

#[test]
fn no_more_is_done_at_a_time_than_lets_others_have_their_turn() {
    let mut world = World::new();
    world.apply(&json!({"limit": 5000}));
    let ids: Vec<_> = (0..=BATCH * 2).map(|n| format!("{n:04}")).collect();
    let tasks: Vec<_> = ids.iter().map(|id| (id.as_str(), TaskState::Running)).collect();
    world.list(&tasks);
    let now = world.begin + Duration::from_secs(world.seconds);
    for (rest, is_partial) in [(BATCH, true), (BATCH, true), (1, false), (0, false)] {
        let plan = world.plan();
        assert_eq!((plan.create.len(), plan.is_partial), (rest, is_partial));
        for task in plan.create {
            world.entry().created(&task.id, now);
        }
    }
}

#[test]
fn a_set_waits_for_its_share_until_the_moment() {
    let mut world = World::new();
    let now = world.begin;
    let until = now + Duration::from_secs(1);
    world.entry().put_off(Some(until));
    assert_eq!(world.entry().waits_until(until - Duration::from_millis(1)), Some(until));
    assert_eq!(world.entry().waits_until(until), None);
    world.entry().put_off(None);
    assert_eq!(world.entry().waits_until(now), None);
}

#[test]
fn a_watch_of_another_namespace_is_no_child() {
    let mut world = World::new();
    let hash = world.hash();
    world.child("evil", "a", &hash);
    world.child("evil", "z", &hash);
    world.list(&[("a", TaskState::Running)]);
    let plan = world.plan();
    assert_eq!(world.creates(), ["a"]);
    assert!(plan.delete.is_empty(), "{:?}", plan.delete);
    assert_eq!(plan.status.unwrap().watched, Some(0));
}

#[test]
fn what_another_template_made_is_changed_and_what_is_refused_is_left_alone_for_a_while() {
    let mut world = World::new();
    world.list(&[("a", TaskState::Running)]);
    world.child("n", "a", "old");
    let update: Vec<_> = world.plan().update.iter().map(|child| child.name.to_string()).collect();
    assert_eq!(update, ["w-a"]);
    let now = world.begin + Duration::from_secs(world.seconds);
    world.entry().refuse("w-a".into(), Why::Refused("no".into()), now);
    let plan = world.plan();
    assert!(!plan.has_work() && plan.unwanted.is_empty());
    assert_eq!(ready(&plan), Some(("False".into(), "CreationRefused".into())));
    assert!(plan.wake_at.is_some_and(|at| at <= now + Duration::from_secs(5)));
    world.seconds += 6;
    assert_eq!(world.plan().update.len(), 1, "it is tried again");
    // What is wanted no more is told no more.
    world.list(&[]);
    assert_eq!(world.plan().unwanted.len(), 0, "there it is still, and old");
    let hash = world.hash();
    world.child("n", "a", &hash);
    assert_eq!(world.plan().unwanted, ["w-a"]);
}

#[test]
fn nothing_is_done_by_what_was_listed_for_something_else() {
    let mut world = World::new();
    world.list(&[("a", TaskState::Running)]);
    world.apply(&json!({"suspend": true}));
    let plan = world.plan();
    assert!(plan.discovery.is_none() && !plan.has_work());
    world.register();
    world.apply(&json!({"template": {"spec": {"poll": {"periodSeconds": 30}}}}));
    assert!(!world.plan().has_work(), "what was known is forgotten");
    world.register();
    world.list(&[("a", TaskState::Running)]);
    assert_eq!(world.creates(), ["a"]);
}

#[test]
fn no_word_before_the_first_list_of_a_young_set() {
    let mut world = World::new();
    world.seconds = 1;
    let plan = world.plan();
    assert!(plan.status.is_none());
    assert_eq!(plan.wake_at, Some(world.begin + Duration::from_secs(1) + EARLY));
    world.seconds = 5;
    assert_eq!(ready(&world.plan()), Some(("Unknown".into(), "AwaitingList".into())));
}

/// A clock that is stepped forward is no reason to think that the tasks could not be listed for long; nor was the list in the future when the
/// clock goes back.
#[test]
fn a_step_of_the_clock_is_no_time_that_passes() {
    let mut world = World::new();
    world.list(&[]);
    world.seconds += 3600;
    world.index.step_clock(SignedDuration::from_hours(1));
    let listed = world.plan().status.unwrap();
    assert_eq!(listed.last_list_time.as_ref().map(|time| time.0), Some(at(3660)));
    world.entry().is_written(listed, 2, at(3660));
    let failure = Arc::new(Failure::new(FailureClass::UpstreamUnavailable, "No."));
    world.tell(Found::Trouble { failure, since: at(3660), at: at(3660) });
    assert!(world.plan().status.is_none(), "it may pass");
    world.seconds += 3600;
    world.index.step_clock(SignedDuration::from_hours(1));
    assert!(world.plan().status.is_none(), "it may pass yet");
}

#[test]
fn what_cannot_come_is_told_of_a_young_set_at_once() {
    let mut world = World::new();
    world.seconds = 1;
    world.apply(&json!({"suspend": true}));
    assert!(world.plan().status.is_some());
}

#[test]
fn nothing_is_done_while_nothing_is_asked_for() {
    let mut world = World::new();
    world.list(&[("a", TaskState::Running)]);
    assert_eq!(world.creates(), ["a"]);
    // The connection was closed, and the set is told later: what was listed is known, but nobody may act by it.
    world.entry().disconnected();
    world.apply(&json!({"suspend": true}));
    assert!(!world.plan().has_work());
}

#[test]
fn another_scope_or_period_is_asked_for_anew() {
    let discovery = |scope: &str, seconds| Discovery {
        tenant: crate::tenancy::Tenant::shared(),
        scope: scope.to_owned(),
        period: Duration::from_secs(seconds),
        ticket: 1,
    };
    let prints = [("a", 10), ("b", 10), ("a", 20)].map(|(scope, seconds)| print(&discovery(scope, seconds)));
    assert!(prints[0] != prints[1] && prints[0] != prints[2], "{prints:?}");
    assert_eq!(prints[0], print(&discovery("a", 10)));
}

#[test]
fn a_child_is_waited_for_and_tried_again_to_the_moment() {
    let mut world = World::new();
    let now = world.begin;
    world.entry().created(&"a".into(), now);
    let until = now + Duration::from_secs(30);
    let awaited = |world: &mut World, at| world.entry().awaited(&[], at).count();
    assert_eq!((awaited(&mut world, until - Duration::from_millis(1)), awaited(&mut world, until)), (1, 0));
    world.entry().refuse("w".into(), Why::Foreign, now);
    let again = now + Duration::from_secs(5);
    assert!(!world.entry().may_try("w", again - Duration::from_millis(1)) && world.entry().may_try("w", again));
}

#[test]
fn other_namespaces_are_told_the_class_of_a_failure_and_no_more() {
    let mut world = World::new();
    let failure = Failure::new(FailureClass::UpstreamUnavailable, "10.1.2.3 refuses");
    world.tell(Found::Trouble { failure: Arc::new(failure), since: at(0), at: at(60) });
    for (tells_all, said) in [(true, true), (false, false)] {
        world.tells_all = tells_all;
        let text = format!("{:?}", world.plan().status.unwrap());
        assert_eq!(text.contains("10.1.2.3"), said, "{text}");
    }
}

//! What is planned for a watch, one rule a test.

mod search;

use serde_json::json;

use super::*;
use crate::{
    api::{ConnectionPoll, REQUESTED_AT, TaskWatch},
    controller::{check::Usable, index::Index},
    domain::{
        availability::Unavailable,
        failure::FailureClass,
        task::{Task, TaskState},
    },
    engine::{Delivery, WatchKey},
};

/// A watch in an index, whether it may use its connection, and the time.
struct World {
    index: Index,
    key: WatchKey,
    version: u64,
    connection: Result<bool, Unavailable>,
    poll: ConnectionPoll,
    begin: Instant,
    seconds: u64,
    is_busy: bool,
    tells_all: bool,
    /// A status that somebody else wrote.
    status: Option<TaskWatchStatus>,
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap() + Duration::from_secs(seconds)
}

fn missing(reason: Reason) -> Result<bool, Unavailable> {
    Err(Unavailable::new(reason, "Mend it."))
}

impl World {
    /// A watch that was made a moment ago, and whose connection is open.
    fn new() -> Self {
        let mut world = Self::blank();
        world.apply(&json!({}), &json!({}));
        world
    }

    /// No watch yet.
    fn blank() -> Self {
        Self {
            index: Index::default(),
            key: WatchKey("u".into()),
            version: 0,
            connection: Ok(true),
            poll: ConnectionPoll::default(),
            begin: Instant::now(),
            seconds: 1,
            is_busy: false,
            tells_all: true,
            status: None,
        }
    }

    /// The object as the API server shows it from now on.
    fn apply(&mut self, annotations: &serde_json::Value, spec: &serde_json::Value) {
        self.version += 1;
        let mut object = json!({
            "apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatch",
            "metadata": {"name": "w", "namespace": "n", "uid": "u", "generation": 1, "creationTimestamp": at(0).to_string(),
                "resourceVersion": self.version.to_string(), "annotations": annotations},
            "spec": {"connectionRef": {"name": "c"}, "task": {"id": "t"}},
        });
        object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let mut object: TaskWatch = serde_json::from_value(object).unwrap();
        let kept = self.index.watches.get(&self.key).and_then(|entry| entry.published.status()?.unpack());
        object.status = self.status.clone().or(kept);
        self.index.put_watch(object).unwrap();
    }

    fn entry(&mut self) -> &mut WatchEntry {
        self.index.watches.get_mut(&self.key).unwrap()
    }

    fn report(&mut self, report: Report<Timestamp>) {
        let ticket = self.entry().interest.ticket();
        self.index.observe(Delivery { key: self.key.clone(), ticket, report });
    }

    fn see(&mut self, state: TaskState) {
        self.report(Report::Seen { task: Arc::new(Task::new("t", state, "word")), at: at(self.seconds) });
    }

    fn plan_with(&self, read: Option<TaskWatchStatus>) -> Planned {
        let check = match &self.connection {
            Ok(open) => Ok(Usable { scope: "s", open: *open, poll: &self.poll }),
            Err(unavailable) => Err(unavailable.clone()),
        };
        let context = Context {
            now: at(self.seconds),
            instant: self.begin + Duration::from_secs(self.seconds),
            settings: decide::Settings::default(),
            tells_all: self.tells_all,
            is_busy: self.is_busy,
        };
        plan(&self.index.watches[&self.key], read, &check, &context)
    }

    /// Plans at this time, and notes it.
    fn plan(&mut self, seconds: u64) -> Plan {
        self.seconds = seconds;
        let Planned::Now(plan) = self.plan_with(None) else { panic!("nothing is planned") };
        plan.note(self.entry());
        *plan
    }

    /// The same; what is to be written is written at once.
    fn act(&mut self, seconds: u64) -> Plan {
        let plan = self.plan(seconds);
        if let Some(status) = &plan.decision.status {
            let kept = Kept::pack(status);
            self.entry().published.keep(kept);
            self.entry().interest.is_shown();
        }
        plan
    }

    fn registered(&mut self, seconds: u64) -> Subscription {
        match self.plan(seconds).polling {
            Polling::Register(watch) => watch,
            other => panic!("not registered: {other:?}"),
        }
    }
}

#[test]
fn what_is_registered_is_the_watch_within_the_bounds_of_its_connection() {
    let mut world = World::new();
    world.apply(&json!({}), &json!({"poll": {"periodSeconds": 1, "maxPeriodSeconds": 600}}));
    let watch = world.registered(1);
    assert_eq!((watch.task.scope.as_str(), watch.task.id.as_str()), ("s", "t"));
    assert_eq!((watch.period, watch.max_period), (Duration::from_secs(5), Duration::from_secs(300)));
    assert_eq!((watch.age, watch.known, watch.ticket), (Duration::from_secs(1), false, 1));
    assert_eq!(world.entry().interest.registered(), Some(watch.print()));
    assert_eq!(world.plan(2).polling, Polling::Unchanged, "it is asked for already");
    world.apply(&json!({}), &json!({"poll": {"periodSeconds": 20}}));
    assert_eq!(world.registered(3).period, Duration::from_secs(20), "something else is wanted");
}

#[test]
fn who_was_seen_before_only_takes_its_turn() {
    let mut world = World::new();
    world.registered(1);
    world.see(TaskState::Running);
    assert!(world.act(5).decision.status.is_some());
    // As after a restart.
    world.entry().interest.disconnected();
    let watch = world.registered(100);
    assert!(watch.known, "its status shows it");
    assert_eq!(watch.age, Duration::from_secs(99), "since it was last seen to change");
}

#[test]
fn a_connection_that_is_not_open_yet_is_waited_for() {
    let mut world = World::new();
    world.connection = Ok(false);
    assert_eq!(world.plan(1).polling, Polling::Unchanged);
    world.connection = Ok(true);
    world.registered(50);
    assert_eq!(world.entry().interest.since(), at(50), "the first answer is awaited from now on");
    world.plan(51);
    assert_eq!(world.entry().interest.since(), at(50));
}

#[test]
fn the_poll_is_called_off_with_the_connection_with_suspension_and_at_the_end() {
    let unusable = |world: &mut World| world.connection = missing(Reason::SecretNotFound);
    let suspended = |world: &mut World| world.apply(&json!({}), &json!({"suspend": true}));
    let ended = |world: &mut World| world.see(TaskState::Failed);
    for happens in [unusable as fn(&mut World), suspended, ended] {
        let mut world = World::new();
        world.registered(1);
        happens(&mut world);
        assert_eq!(world.act(10).polling, Polling::CallOff);
        assert_eq!(world.entry().interest.registered(), None);
        assert_eq!(world.plan(11).polling, Polling::Unchanged, "it is told once");
    }
}

#[test]
fn of_what_was_observed_only_the_task_itself_outlasts_the_poll() {
    let failure = Arc::new(Failure::new(FailureClass::UpstreamUnavailable, "no"));
    for (is_seen, report) in [
        (true, Report::Seen { task: Arc::new(Task::new("t", TaskState::Running, "word")), at: at(5) }),
        (false, Report::Missing { failure: Arc::clone(&failure), since: at(5), at: at(5) }),
        (false, Report::Trouble { failure, since: at(5), at: at(5) }),
    ] {
        let mut world = World::new();
        world.registered(1);
        world.report(report);
        world.connection = missing(Reason::SecretNotFound);
        assert_eq!(world.plan(10).polling, Polling::CallOff);
        assert_eq!(world.entry().interest.observation().is_some(), is_seen);
    }
}

#[test]
fn a_request_to_look_takes_one_ticket_and_is_handled_by_an_answer_to_it() {
    let mut world = World::new();
    world.registered(1);
    world.see(TaskState::Running);
    world.act(2);
    world.apply(&json!({REQUESTED_AT: "now"}), &json!({}));
    let watch = world.registered(10);
    assert_eq!((watch.ticket, watch.known), (2, false), "asked anew, before those that only take their turn");
    assert_eq!(world.plan(11).polling, Polling::Unchanged, "one request, one ticket");
    let task = Arc::new(Task::new("t", TaskState::Running, "word"));
    let late = Delivery { key: world.key.clone(), ticket: 1, report: Report::Seen { task, at: at(9) } };
    world.index.observe(late);
    let handled = |plan: &Plan| plan.decision.status.as_ref()?.last_handled_reconcile_at.clone();
    assert_eq!(handled(&world.act(12)), None, "what was asked before does not count");
    world.see(TaskState::Running);
    assert_eq!(handled(&world.act(13)).as_deref(), Some("now"));
    // After a restart the status tells.
    std::mem::take(&mut world.entry().interest);
    assert_eq!(world.registered(20).ticket, 1);
}

#[test]
fn a_request_that_was_handled_gives_no_precedence_any_more() {
    let mut world = World::new();
    world.apply(&json!({REQUESTED_AT: "now"}), &json!({}));
    assert!(world.registered(1).requested);
    world.see(TaskState::Running);
    assert!(world.act(2).decision.status.is_some_and(|status| status.last_handled_reconcile_at.is_some()));
    world.apply(&json!({REQUESTED_AT: "now"}), &json!({"poll": {"periodSeconds": 20}}));
    let watch = world.registered(3);
    assert!(watch.known && !watch.requested, "it takes its turn: {watch:?}");
}

#[test]
fn a_finished_watch_is_asked_for_only_on_request() {
    let mut world = World::new();
    world.registered(1);
    world.see(TaskState::Succeeded);
    world.act(2);
    world.plan(3);
    assert!(world.entry().published.is_finished(), "as it is counted in the connection's status");
    world.apply(&json!({REQUESTED_AT: "now"}), &json!({}));
    world.registered(10);
    world.see(TaskState::Succeeded);
    assert_eq!(world.act(11).polling, Polling::CallOff);
}

#[test]
fn a_connection_that_comes_a_moment_later_is_not_missed() {
    let mut world = World::new();
    world.connection = missing(Reason::ConnectionNotFound);
    assert!(matches!(world.plan_with(None), Planned::Later(CONNECTION_LATE)));
    world.tells_all = false;
    assert!(matches!(world.plan_with(None), Planned::Later(CONNECTION_LATE)), "whoever it is");
    world.connection = missing(Reason::ConnectionNotAllowed);
    assert!(world.plan(1).decision.status.is_some(), "what is there is not waited for");
    let mut world = World::new();
    world.connection = missing(Reason::ConnectionNotFound);
    assert!(world.act(4).decision.status.is_some(), "it has had its time");
    world.seconds = 1;
    assert!(matches!(world.plan_with(None), Planned::Now(_)), "it has been told that already");
}

#[test]
fn own_slowness_is_not_told_as_the_upstreams() {
    let mut world = World::new();
    world.registered(1);
    world.is_busy = true;
    assert!(world.plan(60).decision.status.is_none(), "an answer may lie there unread");
    world.is_busy = false;
    assert!(world.plan(61).decision.status.is_none());
    assert!(world.plan(63).decision.status.is_some(), "now one is awaited");
}

#[test]
fn events_of_an_unacknowledged_write_are_told_when_the_status_shows_it() {
    let mut world = World::new();
    world.registered(1);
    world.see(TaskState::Running);
    let plan = world.plan(2);
    let (status, events) = (plan.decision.status.unwrap(), plan.decision.events);
    assert_eq!(events.len(), 1);
    let written = Kept::pack(&status).unwrap();
    world.entry().published.is_sent(&written, &events);
    assert!(world.plan(3).confirmed.is_empty(), "nothing shows that it arrived, and it is written again");
    world.entry().published.is_sent(&written, &events);
    world.entry().published.keep(Some(written));
    let plan = world.plan(4);
    assert_eq!((plan.decision.status, plan.confirmed), (None, events));
    assert!(world.plan(5).confirmed.is_empty(), "told once");
}

#[test]
fn what_was_observed_is_let_go_of_when_the_status_shows_all_of_it() {
    let mut world = World::new();
    world.registered(1);
    world.see(TaskState::Running);
    let plan = world.plan(2);
    assert!(plan.decision.status.is_some() && plan.seen == Some(at(1)));
    assert!(world.entry().interest.observation().is_some(), "not before it is written");
    world.act(3);
    world.seconds = 40;
    world.see(TaskState::Running);
    assert!(world.plan(41).decision.status.is_none());
    assert!(world.entry().interest.observation().is_none(), "nothing new");
    world.report(Report::Trouble {
        failure: Arc::new(Failure::new(FailureClass::UpstreamUnavailable, "no")),
        since: at(42),
        at: at(42),
    });
    world.plan(43);
    assert!(world.entry().interest.observation().is_some(), "trouble counts by how long it lasts");
}

#[test]
fn guests_are_told_of_failures_in_our_own_words() {
    for tells_all in [true, false] {
        let mut world = World::new();
        world.tells_all = tells_all;
        world.registered(1);
        let failure = Arc::new(Failure::new(FailureClass::PermissionDenied, "root@10.1.2.3 may not"));
        world.report(Report::Trouble { failure, since: at(2), at: at(2) });
        let status = world.plan(100).decision.status.unwrap();
        let told = serde_json::to_string(&status.conditions).unwrap();
        assert_eq!(told.contains("10.1.2.3"), tells_all, "{told}");
    }
}

#[test]
fn in_quarantine_nothing_is_planned_and_a_plan_ends_it() {
    let mut world = World::new();
    let now = world.begin + Duration::from_secs(1);
    world.entry().set_aside(now);
    world.seconds = 4;
    assert!(matches!(world.plan_with(None), Planned::Later(wait) if wait == Duration::from_secs(7)));
    world.registered(11);
    assert_eq!(world.entry().aside_until(now), None);
}

#[test]
fn a_status_of_which_only_a_digest_is_kept_is_taken_as_it_was_read_if_it_is_the_same() {
    let mut world = World::new();
    world.registered(1);
    world.see(TaskState::Running);
    let status = world.act(2).decision.status.unwrap();
    let digest = Kept::pack(&status).map(|kept| kept.digest());
    world.entry().published.keep(digest);
    assert!(matches!(world.plan_with(None), Planned::Later(REREAD)));
    let other = TaskWatchStatus { state: Some("Lost".to_owned()), ..status.clone() };
    assert!(matches!(world.plan_with(Some(other)), Planned::Later(REREAD)));
    let Planned::Now(plan) = world.plan_with(Some(status)) else { panic!("it is the same") };
    assert_eq!(plan.decision.status, None);
}

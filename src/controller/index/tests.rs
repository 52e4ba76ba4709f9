//! What is taken in, and what is kept.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use tokio::time::Instant;

mod order;
mod sets;

use super::*;
use crate::{
    api::{ConnectionStatus, TaskConnection, TaskWatchStatus},
    controller::objects::ConnectionObject,
    domain::{
        decide::{Event, EventType},
        failure::{Failure, FailureClass},
    },
    engine::{Found, Report},
};

fn watch(uid: &str, version: u64, extra: &Value) -> TaskWatch {
    let mut object = json!({
        "apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatch",
        "metadata": {"name": "w", "namespace": "n", "uid": uid, "resourceVersion": version.to_string(),
            "creationTimestamp": "2026-11-22T10:12:25Z"},
        "spec": {"connectionRef": {"name": "c"}, "task": {"id": "t"}},
    });
    if let (Value::Object(meta), Value::Object(extra)) = (&mut object["metadata"], extra) {
        meta.extend(extra.clone());
    }
    serde_json::from_value(object).unwrap()
}

/// A write that was acknowledged.
fn written(version: u64, status: Option<Kept>, finished: bool) -> Written {
    Written { status, version, decided: Timestamp::UNIX_EPOCH, seen: None, finished }
}

#[test]
fn a_late_event_does_not_undo_what_was_acknowledged() {
    let mut index = Index::default();
    let (key, _) = index.put_watch(watch("u", 5, &json!({}))).unwrap();
    let entry = index.watches.get_mut(&key).unwrap();
    entry.is_written(written(7, Kept::pack(&TaskWatchStatus::default()), false));
    for (version, kept, is_news) in [(6, true, true), (7, false, false), (8, false, true)] {
        assert_eq!(index.put_watch(watch("u", version, &json!({}))), Some((key.clone(), is_news)));
        assert_eq!(index.watches[&key].published.status().is_some(), kept, "version {version}");
    }
}

#[test]
fn in_another_history_older_versions_are_news() {
    let mut index = Index::default();
    let status = |state: &str| TaskWatchStatus { state: Some(state.to_owned()), ..TaskWatchStatus::default() };
    let event = |version, state: &str| TaskWatch { status: Some(status(state)), ..watch("u", version, &json!({})) };
    let (key, _) = index.put_watch(event(50, "Succeeded")).unwrap();
    let shown = |index: &Index| index.watches[&key].published.status().and_then(Kept::unpack).unwrap().state;
    index.put_watch(event(40, "Running"));
    assert_eq!(shown(&index).as_deref(), Some("Succeeded"), "late");
    index.history_replaced();
    let ticket = index.watches[&key].interest.ticket();
    assert_eq!(index.put_watch(event(40, "Running")), Some((key.clone(), true)));
    assert_eq!(shown(&index).as_deref(), Some("Running"));
    assert!(index.watches[&key].interest.ticket() > ticket, "a fresh look brings it up to date");
}

#[test]
fn a_status_that_is_not_ours_asks_for_a_fresh_look() {
    let status = |state: &str| TaskWatchStatus { state: Some(state.to_owned()), ..TaskWatchStatus::default() };
    let event = |version, state: &str| TaskWatch { status: Some(status(state)), ..watch("u", version, &json!({})) };
    let mut index = Index::default();
    let (key, _) = index.put_watch(event(5, "Pending")).unwrap();
    let mut fresh = |version, state: &str, written: Option<&str>| {
        let entry = index.watches.get_mut(&key).unwrap();
        match written.and_then(|state| Kept::pack(&status(state))) {
            Some(kept) => entry.published.is_sent(&kept, &[]),
            None => entry.published.is_gone(),
        }
        let before = entry.interest.ticket();
        index.put_watch(event(version, state)).unwrap();
        index.watches[&key].interest.ticket() > before
    };
    assert!(!fresh(6, "Pending", None), "the status is as it was");
    assert!(!fresh(7, "Running", Some("Running")), "the echo of a write, before its answer");
    assert!(fresh(8, "Failed", None), "somebody else's, or the answer was lost");
    assert!(!fresh(7, "Running", None), "late");
}

#[test]
fn who_takes_a_bucket_over_begins_anew_and_leaves_the_rest_alone() {
    let mut index = Index::default();
    let spec = json!({"metadata": {"name": "c", "namespace": "n", "uid": "c"}, "apiVersion": "taskwatch.dev/v1alpha1",
        "kind": "TaskConnection",
        "spec": {"provider": {"astraControl": {"endpoint": "https://astra.example", "accountID": "a"}},
            "auth": {"token": {"secretRef": {"name": "s"}}}}});
    let object = ConnectionObject::from(serde_json::from_value::<TaskConnection>(spec).unwrap());
    let id = object.id();
    index.put_connection(&id, object, None, 1);
    index.connections.get_mut(&id).unwrap().is_settled(Ok(()), Some(7));
    let (ours, _) = index.put_watch(watch("u1", 5, &json!({}))).unwrap();
    let (other, _) = index.put_watch(watch("u2", 5, &json!({"namespace": "m"}))).unwrap();
    let failure = Arc::new(Failure::new(FailureClass::NotFound, "no such task"));
    for key in [&ours, &other] {
        let ticket = index.watches[key].interest.ticket();
        let report =
            Report::Trouble { failure: Arc::clone(&failure), since: Timestamp::UNIX_EPOCH, at: Timestamp::UNIX_EPOCH };
        index.observe(Delivery { key: key.clone(), ticket, report }).unwrap();
        let entry = index.watches.get_mut(key).unwrap();
        entry.interest.register(1);
        entry.put_off();
        assert_eq!((entry.failed(), entry.failed()), (1, 2));
    }
    let belongings = index.belongings(|connection| *connection == id);
    assert_eq!((&belongings.connections[..], &belongings.watches[..]), (&[id.clone()][..], &[ours.clone()][..]));
    let ticket = index.watches[&ours].interest.ticket();
    index.begin_anew(&belongings);
    let entry = index.watches.get_mut(&ours).unwrap();
    let interest = &entry.interest;
    assert!(interest.observation().is_none() && !interest.is_unread() && interest.registered().is_none());
    assert!(interest.ticket() > ticket, "what was asked for before is not delivered");
    assert_eq!((entry.take_up(), entry.failed()), (false, 1));
    let connection = &index.connections[&id];
    assert_eq!((&connection.availability, connection.fingerprint), (&None, None));
    let other = &index.watches[&other].interest;
    assert!(other.observation().is_some() && other.registered() == Some(1));
}

#[test]
fn what_was_acknowledged_is_what_is_known() {
    let mut index = Index::default();
    let (key, _) = index.put_watch(watch("u", 5, &json!({}))).unwrap();
    let entry = index.watches.get_mut(&key).unwrap();
    assert_eq!((entry.failed(), entry.failed()), (1, 2));
    let kept = Kept::pack(&TaskWatchStatus::default()).unwrap();
    let event = Event {
        kind: EventType::Normal,
        reason: "TaskSucceeded".to_owned(),
        action: "Observe",
        note: "done".to_owned(),
        is_end: true,
    };
    entry.published.is_sent(&kept, std::slice::from_ref(&event));
    assert!(entry.published.arrived().is_empty(), "not acknowledged");
    entry.published.take_in(Some(kept.clone()), 6);
    assert_eq!(entry.published.arrived(), std::slice::from_ref(&event), "its answer was lost");
    entry.is_written(written(7, Some(kept.clone()), true));
    assert_eq!((entry.published.version(), entry.published.is_finished(), entry.failed()), (7, true, 1));
    assert!(entry.published.arrived().is_empty(), "told once");
    entry.published.is_sent(&kept, std::slice::from_ref(&event));
    entry.published.is_gone();
    assert!(entry.published.arrived().is_empty(), "of another object");
    entry.interest.register(1);
    entry.interest.disconnected();
    assert_eq!(entry.interest.registered(), None);
}

#[test]
fn what_is_set_aside_again_is_left_alone_for_longer() {
    let mut index = Index::default();
    let (key, _) = index.put_watch(watch("u", 5, &json!({}))).unwrap();
    let entry = index.watches.get_mut(&key).unwrap();
    let now = Instant::now();
    let waits = [entry.set_aside(now), entry.set_aside(now)];
    assert_eq!(waits.map(|wait| wait.as_secs()), [10, 20]);
    assert_eq!(entry.aside_until(now), Some(now + waits[1]));
}

#[test]
fn a_successor_of_the_same_name_is_another_entry() {
    let mut index = Index::default();
    let (old, _) = index.put_watch(watch("u1", 5, &json!({}))).unwrap();
    let (new, _) = index.put_watch(watch("u2", 9, &json!({}))).unwrap();
    index.remove_watch(&old);
    assert!(index.watches.contains_key(&new));
    let id = index.watches[&new].object.connection();
    assert_eq!(index.users(&id), std::slice::from_ref(&new));
    index.remove_watch(&new);
    assert!(index.users(&id).is_empty());
}

#[test]
fn what_is_new_of_a_connection_is_told_apart() {
    let object = |uid: &str, generation| {
        let object = json!({"apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskConnection",
            "metadata": {"name": "c", "namespace": "n", "uid": uid, "generation": generation},
            "spec": {"provider": {"astraControl": {"endpoint": "https://astra.example", "accountID": "a"}},
                "auth": {"token": {"secretRef": {"name": "s"}}}}});
        ConnectionObject::from(serde_json::from_value::<TaskConnection>(object).unwrap())
    };
    let status = || Some(ConnectionStatus { observed_generation: Some(1), ..ConnectionStatus::default() });
    let (mut index, id) = (Index::default(), object("u", 1).id());
    let mut put = |object, status, version| index.put_connection(&id, object, status, version);
    assert_eq!(put(object("u", 1), None, 1), ConnectionNews::Object);
    assert_eq!(put(object("u", 1), None, 2), ConnectionNews::Nothing);
    assert_eq!(put(object("u", 1), status(), 3), ConnectionNews::Status);
    assert_eq!(put(object("u", 1), None, 2), ConnectionNews::Nothing, "late");
    assert_eq!(put(object("u", 2), None, 4), ConnectionNews::Object);
    assert_eq!(put(object("v", 2), None, 5), ConnectionNews::Object);
}

#[test]
fn a_step_of_the_clock_moves_what_is_measured_from() {
    let time = |minute: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minute);
    let status = |minute| TaskWatchStatus { not_found_since: Some(Time(time(minute))), ..TaskWatchStatus::default() };
    let failure = Arc::new(Failure::new(FailureClass::NotFound, "no such task"));
    let report = |since, at| Report::Missing { failure: Arc::clone(&failure), since: time(since), at: time(at) };
    let mut index = Index::default();
    let (key, _) = index.put_watch(watch("u", 5, &json!({}))).unwrap();
    let entry = index.watches.get_mut(&key).unwrap();
    entry.published.keep(Kept::pack(&status(50)));
    entry.interest.is_planned(1, None, time(40));
    entry.interest.observe(0, report(51, 52));
    let ticket = entry.interest.ticket();
    assert_eq!(index.step_clock(SignedDuration::from_mins(30)), std::slice::from_ref(&key));
    index.step_clock(SignedDuration::from_mins(-10));
    let entry = &index.watches[&key];
    assert_eq!(entry.not_found_since(Some(&status(50))), Some(time(70)));
    assert_eq!(entry.interest.since(), time(60));
    assert_eq!(entry.interest.observation(), Some(&(0, report(71, 72))));
    assert!(entry.interest.ticket() > ticket);
    // What was written since is by the present clock.
    assert_eq!(entry.not_found_since(Some(&status(70))), Some(time(70)));
    assert_eq!(entry.not_found_since(Some(&TaskWatchStatus::default())), None);
}

#[test]
fn a_step_of_the_clock_moves_since_when_a_task_is_sought_in_vain() {
    let time = |minute: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minute);
    let mut object = watch("u", 5, &json!({}));
    object.spec.task = serde_json::from_value(json!({"latest": {}})).unwrap();
    let mut index = Index::default();
    let (key, _) = index.put_watch(object).unwrap();
    let failure = Arc::new(Failure::new(FailureClass::UpstreamUnavailable, "down"));
    let found = Found::Trouble { failure, since: time(51), at: time(52) };
    index.discovered(Discovered { key: key.clone(), ticket: 1, found }).unwrap();
    index.step_clock(SignedDuration::from_mins(-10));
    let trouble = index.watches[&key].search.as_ref().and_then(Search::trouble).unwrap();
    assert_eq!((trouble.since, trouble.at), (time(41), time(42)));
}

#[test]
fn beyond_the_limit_only_the_identity_is_kept_and_the_older_ones_are_served() {
    let born = |secs: u32| json!({"creationTimestamp": format!("2026-11-22T10:12:{secs:02}Z")});
    let mut index = Index::new(Pool::new(1 << 20, 1 << 16), Some(2), Quotas::default());
    let key = |uid: &str| WatchKey(Arc::from(uid));
    for (uid, secs) in [("u3", 30), ("u2", 20), ("u4", 40)] {
        assert_eq!(index.put_watch(watch(uid, 5, &born(secs))), Some((key(uid), true)));
    }
    assert!(index.outside(&key("u4")).is_some() && index.watches.len() == 2);
    assert!(index.look(key("u4")).is_some(), "it has to be told");
    // Told already: nothing to do.
    let told = json!({"observedGeneration": 0, "conditions": [{"type": "Synced", "status": "False", "reason": "LimitExceeded",
        "message": "", "lastTransitionTime": "2026-11-22T10:12:25Z"}]});
    let mut object = watch("u4", 6, &born(40));
    object.status = serde_json::from_value(told).unwrap();
    assert_eq!(index.put_watch(object), Some((key("u4"), false)));
    // An older one comes late: the newest has to go.
    index.watches.get_mut(&key("u3")).unwrap().interest.register(1);
    index.put_watch(watch("u1", 5, &born(10))).unwrap();
    let moved = index.take_moved();
    assert_eq!(moved.watches, [key("u3")]);
    assert!(index.outside(&key("u3")).is_some());
    let connection = index.watches[&key("u1")].object.connection();
    assert_eq!(
        (index.take_polled(&key("u3")), index.take_polled(&key("u3"))),
        (Some(connection), None),
        "called off once"
    );
    assert_eq!(index.keys(None).len(), 4);
    // And comes back when there is room; then it is read again.
    index.remove_watch(&key("u2"));
    assert_eq!(index.take_moved().watches, [key("u3")]);
    index.put_watch(watch("u3", 7, &born(30))).unwrap();
    assert!(index.outside(&key("u3")).is_none() && index.watches.contains_key(&key("u3")));
    for uid in ["u1", "u3", "u4"] {
        index.remove_watch(&key(uid));
    }
    assert!(index.keys(None).is_empty() && index.users.is_empty());
}

#[test]
fn a_namespace_keeps_no_more_of_statuses_than_its_share() {
    let mut index = Index::new(Pool::new(64 << 10, 4 << 10), None, Quotas::default());
    let random = |seed: u64| {
        let letters = (0..2_000).scan(seed, |state, _| {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from_u32(0x4e00 + u32::try_from(*state >> 50).unwrap())
        });
        letters.collect::<String>()
    };
    for number in 0..100 {
        let mut object = watch(&format!("u{number}"), 5, &json!({"namespace": "greedy"}));
        object.status = Some(TaskWatchStatus { state: Some(random(number)), ..TaskWatchStatus::default() });
        index.put_watch(object).unwrap();
    }
    assert!(index.room.held() <= 32 << 10, "{}", index.room.held());
    let let_go = index.watches.keys().filter(|key| index.let_go(key).is_some()).count();
    assert!(let_go > 50, "{let_go}");
    let mut object = watch("modest", 5, &json!({"namespace": "modest"}));
    object.status = Some(TaskWatchStatus { state: Some(random(1000)), ..TaskWatchStatus::default() });
    let (key, _) = index.put_watch(object).unwrap();
    assert_eq!(index.let_go(&key), None);
    for key in index.keys(None) {
        index.remove_watch(&key);
    }
    assert_eq!(index.room.held(), 0);
}

#[test]
fn what_was_registered_too_late_has_to_be_forgotten() {
    let mut index = Index::default();
    let (key, _) = index.put_watch(watch("u", 5, &json!({}))).unwrap();
    let planned = |index: &mut Index| index.watches.get_mut(&key).unwrap().interest.register(7);
    planned(&mut index);
    assert!(index.registered(&key, 7, true));
    assert!(!index.registered(&key, 7, false), "there is no such connection");
    assert_eq!(index.watches[&key].interest.registered(), None, "it is registered when there is one");
    planned(&mut index);
    index.watches.get_mut(&key).unwrap().interest.disconnected();
    assert!(!index.registered(&key, 7, true), "the connection was closed meanwhile");
    planned(&mut index);
    index.remove_watch(&key);
    assert!(!index.registered(&key, 7, true), "nobody wants it any more");
    index.put_watch(watch("u", 6, &json!({})));
    assert!(!index.registered(&key, 7, true), "it is another entry, which has asked for nothing");
}

#[test]
fn a_connection_is_compiled_once_for_each_generation() {
    let object = |uid: &str, generation: i64| -> ConnectionObject {
        let object: TaskConnection = serde_json::from_value(json!({
            "apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskConnection",
            "metadata": {"name": "c", "namespace": "n", "uid": uid, "generation": generation},
            "spec": {"provider": {"huaweiCloud": {"endpoint": "https://evs.example.com", "projectID": "p"}},
                "auth": {"token": {"secretRef": {"name": "s"}}}},
        }))
        .unwrap();
        object.into()
    };
    let mut index = Index::default();
    let id = object("u", 1).id();
    let mut compile = |uid: &str, generation: i64, version: u64| {
        index.put_connection(&id, object(uid, generation), None, version);
        index.compiled(&id, &object(uid, generation)).unwrap()
    };
    let first = compile("u", 1, 1);
    assert!(Arc::ptr_eq(&first, &compile("u", 1, 2)), "a new status is no new specification");
    let second = compile("u", 2, 3);
    assert!(!Arc::ptr_eq(&first, &second));
    assert!(Arc::ptr_eq(&second, &compile("u", 2, 4)));
    assert!(!Arc::ptr_eq(&second, &compile("v", 2, 5)), "another object of the same name");
}

#[test]
fn what_nobody_has_looked_at_counts_no_more_when_its_watch_is_gone() {
    let mut index = Index::default();
    let (key, _) = index.put_watch(watch("u", 5, &json!({}))).unwrap();
    let tenant = index.watches[&key].object.payer();
    let room = index.unread().room(&tenant);
    let failure = Arc::new(Failure::new(FailureClass::NotFound, "no"));
    let at = Timestamp::UNIX_EPOCH;
    let report = Report::Missing { failure, since: at, at };
    index.observe(Delivery { key: key.clone(), ticket: 1, report }).unwrap();
    assert!(index.unread().room(&tenant) < room);
    index.remove_watch(&key);
    assert_eq!(index.unread().room(&tenant), room);
}

#[test]
fn a_watch_counts_as_going_on_until_it_is_known_to_be_over() {
    let mut index = Index::default();
    let (key, _) = index.put_watch(watch("u", 5, &json!({}))).unwrap();
    let connection = index.watches[&key].object.connection();
    assert_eq!(index.counts(&connection), (1, 0));
    index.watches.get_mut(&key).unwrap().published.is_looked_at(true);
    assert_eq!(index.counts(&connection), (0, 1));
}

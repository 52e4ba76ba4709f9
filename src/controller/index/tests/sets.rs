//! Sets: what is news of them, and until when something about their children is remembered.

use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::Instant;

use super::*;
use crate::{
    api::TaskWatchSetStatus,
    controller::index::sets::{Fault, SetEntry},
    domain::discovery::{catalogue::Catalogue, status::Why},
    engine::{Found, WatchKey},
};

const SECOND: Duration = Duration::from_secs(1);

fn set(version: u64, spec: &Value, status: &Value) -> crate::api::TaskWatchSet {
    let mut object = json!({
        "apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatchSet",
        "metadata": {"name": "s", "namespace": "n", "uid": "set", "resourceVersion": version.to_string(),
            "creationTimestamp": "2026-11-22T10:12:25Z"},
        "spec": {"connectionRef": {"name": "c"}}, "status": status,
    });
    object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    serde_json::from_value(object).unwrap()
}

fn key() -> WatchKey {
    WatchKey("set".into())
}

fn with_set() -> Index {
    let mut index = Index::default();
    assert_eq!(index.sets.put(set(5, &json!({}), &json!({"matched": 1}))), Some((key(), true)));
    index
}

fn entry(index: &mut Index) -> &mut SetEntry {
    index.sets.get_mut(&key()).unwrap()
}

#[test]
fn a_set_is_news_where_its_version_or_what_it_asks_for_is_another() {
    let mut index = with_set();
    let matched = |index: &Index| index.sets.get(&key()).unwrap().status.as_ref().unwrap().matched;
    for (version, spec, count, is_news, known) in [
        (5, json!({}), 1, false, 1),
        (5, json!({}), 2, false, 2),
        (4, json!({}), 3, true, 2),
        (6, json!({}), 4, true, 4),
        (6, json!({"limit": 7}), 4, true, 4),
    ] {
        let put = index.sets.put(set(version, &spec, &json!({"matched": count})));
        assert_eq!((put, matched(&index)), (Some((key(), is_news)), Some(known)), "{version} {spec} {count}");
    }
    assert_eq!((index.sets.version(&key()), index.sets.version(&WatchKey("other".into()))), (Some(6), None));
    // So with what is acknowledged.
    let status = |count| TaskWatchSetStatus { matched: Some(count), ..TaskWatchSetStatus::default() };
    for (version, count, known) in [(5, 8, 4), (6, 9, 9), (7, 10, 10)] {
        entry(&mut index).is_written(status(count), version, Timestamp::UNIX_EPOCH);
        assert_eq!(matched(&index), Some(known));
    }
    index.sets.history_replaced();
    assert_eq!(index.sets.put(set(2, &json!({"limit": 7}), &json!({"matched": 11}))), Some((key(), true)));
    assert_eq!(matched(&index), Some(11));
}

#[tokio::test(start_paused = true)]
async fn what_was_created_is_awaited_for_half_a_minute_and_what_was_refused_is_tried_later_and_later() {
    let (mut index, now) = (with_set(), Instant::now());
    let entry = entry(&mut index);
    entry.created(&"a".into(), now);
    let awaited = |entry: &SetEntry, at| entry.awaited(&[], at).count();
    assert_eq!((awaited(entry, now + 29 * SECOND), awaited(entry, now + 30 * SECOND)), (1, 0));
    assert_eq!(entry.again_at(), Some(now + 30 * SECOND));
    entry.forget(&[], now + 30 * SECOND);
    assert_eq!(entry.again_at(), None);
    for wait in [5, 10, 20] {
        entry.refuse("w".to_owned(), Why::Foreign, now);
        let may = |after| entry.may_try("w", now + after);
        assert_eq!(
            (may((wait * 10 - 1) * SECOND / 10), may(wait * SECOND), entry.may_try("other", now)),
            (false, true, true)
        );
        assert_eq!(entry.again_at(), Some(now + wait * SECOND));
    }
    entry.forget(&["w".to_owned()], now);
    assert_eq!((entry.refusals().count(), entry.may_try("w", now)), (0, true));
    // What is wanted is another thing: what was refused may be granted.
    entry.refuse("w".to_owned(), Why::Foreign, now);
    assert_eq!((entry.failed(), entry.failed()), (1, 2));
    index.sets.put(set(9, &json!({"limit": 7}), &json!({}))).unwrap();
    let entry = index.sets.get_mut(&key()).unwrap();
    assert_eq!(entry.refusals().count(), 0);
    entry.is_written(TaskWatchSetStatus::default(), 10, Timestamp::UNIX_EPOCH);
    assert_eq!(entry.failed(), 1, "a success ends the row");
}

#[test]
fn what_the_engine_said_of_something_else_counts_no_more_and_times_go_with_the_clock() {
    let mut index = with_set();
    let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
    let tell = |index: &mut Index, found| {
        index.sets.observe(Discovered { key: key(), ticket: 1, found }).unwrap();
    };
    let failure = || Arc::new(Failure::new(FailureClass::UpstreamUnavailable, "no"));
    tell(&mut index, Found::Listed { catalogue: Arc::new(Catalogue::default()), at: at(100) });
    tell(&mut index, Found::Trouble { failure: failure(), since: at(200), at: at(300) });
    index.sets.step_clock(SignedDuration::from_secs(50));
    let known = entry(&mut index);
    assert_eq!(known.listed().unwrap().1, at(150));
    assert!(matches!(known.fault(), Some(Fault::Trouble { since, .. }) if *since == at(250)));
    known.set_registered(Some(1));
    assert!(known.listed().is_none() && known.fault().is_none() && known.registered() == Some(1));
    tell(&mut index, Found::Listed { catalogue: Arc::new(Catalogue::default()), at: at(400) });
    let known = entry(&mut index);
    known.set_registered(Some(1));
    assert!(known.listed().is_some(), "it is the same");
    known.disconnected();
    assert!(known.listed().is_some() && known.registered().is_none(), "what was listed stays known");
    // The newest news counts.
    tell(&mut index, Found::Unsupported);
    assert!(matches!(entry(&mut index).fault(), Some(Fault::Unsupported)));
    tell(&mut index, Found::Listed { catalogue: Arc::new(Catalogue::default()), at: at(500) });
    assert!(entry(&mut index).fault().is_none());
    assert_eq!(index.sets.remove(&key()), None, "nothing is asked for it");
    index.sets.put(set(5, &json!({}), &json!({}))).unwrap();
    entry(&mut index).set_registered(Some(1));
    assert_eq!(index.sets.remove(&key()).map(|id| id.to_string()).as_deref(), Some("n/c"));
    assert_eq!((index.sets.keys(None).len(), index.sets.remove(&key())), (0, None));
}

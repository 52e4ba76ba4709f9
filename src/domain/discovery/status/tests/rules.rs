//! What holds of a set beyond its table: what is written when.

use std::sync::LazyLock;

use kube::CustomResourceExt;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::api::{SetReadyWhen, TaskWatchSet};

#[test]
fn the_counts_and_the_tasks_that_are_named() {
    let mut world = World::new();
    many(&mut world, 1..3, TaskState::Running);
    many(&mut world, 3..4, TaskState::Failed);
    many(&mut world, 4..5, TaskState::Succeeded);
    world.tasks.put(Candidate {
        display_name: None,
        name: None,
        kind: Some("backup".into()),
        percent: Some(140),
        ..task("5", TaskState::Paused)
    });
    world.tasks.put(Candidate { message: Some("on the way".into()), ..task("4", TaskState::Succeeded) });
    world.then(1, News::Listed);
    let mut shown = serde_json::to_value(world.status.as_ref().unwrap()).unwrap();
    shown.as_object_mut().unwrap().remove("conditions");
    let expected = json!({
        "observedGeneration": 1, "matched": 5, "watched": 1, "leftOut": 3,
        "states": {"Failed": 1, "Paused": 1, "Running": 2, "Succeeded": 1},
        "oldestRunningTime": "2025-12-31T23:58:30Z",
        "lastListTime": "2026-01-01T00:00:01Z",
        "newest": [
            {"taskID": "3", "name": "Task 3", "state": "Failed", "message": "The quota is used up."},
            {"taskID": "1", "name": "Task 1", "state": "Running"},
            {"taskID": "2", "name": "Task 2", "state": "Running"},
            {"taskID": "4", "name": "Task 4", "state": "Succeeded"},
            {"taskID": "5", "name": "backup", "state": "Paused", "percent": 100},
        ],
    });
    assert_eq!(shown, expected);
}

#[test]
fn what_a_quota_refuses_is_left_out() {
    let mut world = World::new();
    world.spec.limit = 3;
    many(&mut world, 1..6, TaskState::Running);
    world.conflicts = vec![conflict("a", Why::Foreign)];
    world.then(1, News::Listed);
    assert_eq!(world.status.as_ref().unwrap().left_out, Some(2 + 1), "two beyond the limit, one that cannot be");
    world.conflicts.push(conflict("b", Why::Quota("no".into())));
    world.then(60, News::Listed);
    assert_eq!(world.status.as_ref().unwrap().left_out, Some(2 + 2), "one refusal is told, all are refused");
    assert_eq!(world.shows("Ready"), "False/NameConflict", "what does not pass by itself comes first");
}

#[test]
fn nothing_is_written_where_nothing_changes() {
    let mut world = World::new();
    assert!(world.then(1, News::Listed).status.is_some());
    for secs in [11, 21, 1000, 100_000] {
        assert!(is_idle(&world.then(secs, News::Listed)), "a new list alone is not news");
    }
    assert_eq!(world.status.as_ref().unwrap().last_list_time, Some(stored::time(at(1))));
    many(&mut world, 1..2, TaskState::Paused);
    assert!(world.then(100_010, News::Listed).status.is_some());
    assert_eq!(world.status.as_ref().unwrap().last_list_time, Some(stored::time(at(100_010))));
}

#[test]
fn progress_alone_is_written_in_steps_and_not_often() {
    let mut world = World::new();
    let percent = |world: &mut World, percent| {
        world.tasks.put(Candidate { percent: Some(percent), ..task("1", TaskState::Running) });
    };
    percent(&mut world, 10);
    world.then(1, News::Listed);
    percent(&mut world, 14);
    assert!(is_idle(&world.then(100, News::Listed)), "too small a step");
    percent(&mut world, 30);
    assert!(world.then(101, News::Listed).status.is_some());
    percent(&mut world, 50);
    let decision = world.then(111, News::Listed);
    assert_eq!((decision.status, decision.wake_at), (None, Some(at(131))), "not so soon, but then");
    assert!(world.then(131, News::Listed).status.is_some());
    assert_eq!(world.status.as_ref().unwrap().newest[0].percent, Some(50));
}

#[test]
fn one_task_that_has_moved_far_enough_will_do() {
    let mut world = World::new();
    world.children = vec!["1".to_owned(), "2".to_owned()];
    for (secs, percents, is_written) in [(1, [10, 10], true), (100, [14, 10], false), (200, [14, 30], true)] {
        for (id, percent) in ["1", "2"].into_iter().zip(percents) {
            world.tasks.put(Candidate { percent: Some(percent), ..task(id, TaskState::Running) });
        }
        assert_eq!(world.then(secs, News::Listed).status.is_some(), is_written, "{percents:?}");
    }
}

#[test]
fn what_changes_with_every_list_is_written_at_a_bounded_pace() {
    let mut world = World::new();
    let mut writes = 0;
    for secs in 1..=600 {
        let id = u8::try_from(secs % 200).unwrap();
        many(&mut world, id..id + 1, if secs % 2 == 0 { TaskState::Running } else { TaskState::Paused });
        writes += usize::from(world.then(secs, News::Listed).status.is_some());
    }
    assert!((5..25).contains(&writes), "{writes}");
}

#[test]
fn who_waits_is_told_at_once() {
    let mut world = World::new();
    world.children.clear();
    world.then(1, News::Awaiting);
    assert!(world.then(2, News::Listed).status.is_some(), "the first list");
    assert_eq!(world.shows("Ready"), "False/Creating");
    world.children.push("1".to_owned());
    assert!(world.then(3, News::Listed).status.is_some(), "ready");
    assert_eq!(world.shows("Ready"), "True/Observed");
    world.children.push("2".to_owned());
    assert!(world.then(4, News::Listed).status.is_none(), "another count is not waited for");
    world.generation = 2;
    assert!(world.then(4, News::Listed).status.is_some(), "the answer to a change");
    assert_eq!(world.verdicts().kstatus, "Current");
}

#[test]
fn a_failure_is_told_at_once_unless_it_comes_and_goes() {
    let mut world = World::new();
    world.spec.ready_when = SetReadyWhen::NoneFailed;
    world.then(1, News::Listed);
    let mut writes = 0;
    for secs in 2..=600 {
        let state = if secs % 2 == 0 { TaskState::Failed } else { TaskState::Running };
        many(&mut world, 2..3, state);
        world.children = vec!["1".to_owned(), "2".to_owned()];
        let is_written = world.then(secs, News::Listed).status.is_some();
        assert!(is_written || secs > 2, "a second after the set was ready");
        writes += usize::from(is_written);
    }
    assert!((5..45).contains(&writes), "{writes}");
}

/// Tasks that come and go, as they do on any account, use up the pace; that is not to delay what a gate waits for.
#[test]
fn a_change_of_a_steady_ready_is_told_at_once_whatever_else_changes() {
    let mut world = World::new();
    (world.spec.ready_when, world.spec.limit) = (SetReadyWhen::NoneFailed, 1);
    let mut writes = 0;
    for secs in 1..=100 {
        let id = u8::try_from(secs).unwrap();
        many(&mut world, id..id + 1, TaskState::Paused);
        writes += usize::from(world.then(secs, News::Listed).status.is_some());
    }
    assert!(writes < 10 && !world.pace.is_calm(), "{writes}");
    many(&mut world, 200..201, TaskState::Failed);
    assert!(world.then(101, News::Listed).status.is_some());
    assert_eq!(world.shows("Ready"), "False/TaskFailed");
    many(&mut world, 200..201, TaskState::Paused);
    world.then(102, News::Listed);
    assert_eq!(world.shows("Ready"), "True/Observed");
    many(&mut world, 200..201, TaskState::Failed);
    let decision = world.then(103, News::Listed);
    assert!(decision.status.is_none(), "it comes and goes");
    assert!(decision.wake_at.is_some_and(|wake| wake <= at(103 + 60)));
    many(&mut world, 200..201, TaskState::Paused);
    assert!(world.then(104, News::Listed).status.is_none());
    many(&mut world, 200..201, TaskState::Failed);
    assert!(world.then(114, News::Listed).status.is_some(), "it had been steady again");
}

/// Neither another count, nor a failure where the set was not ready before.
#[test]
fn what_nobody_waits_for_has_its_time_from_the_second_write_on() {
    let mut world = World::new();
    world.then(1, News::Listed);
    many(&mut world, 2..3, TaskState::Paused);
    world.children.push("2".to_owned());
    let decision = world.then(2, News::Listed);
    assert_eq!((decision.status, decision.wake_at), (None, Some(at(6))));
    assert!(world.then(6, News::Listed).status.is_some());

    let mut world = World::new();
    world.spec.ready_when = SetReadyWhen::NoneFailed;
    world.children.clear();
    world.then(1, News::Listed);
    assert_eq!(world.shows("Ready"), "False/Creating");
    many(&mut world, 1..2, TaskState::Failed);
    world.children.push("1".to_owned());
    let decision = world.then(2, News::Listed);
    assert_eq!((decision.status, decision.wake_at), (None, Some(at(6))));
    world.then(6, News::Listed);
    assert_eq!(world.shows("Ready"), "False/TaskFailed");
}

#[test]
fn short_trouble_is_not_told_and_long_trouble_keeps_what_was_known() {
    let mut world = World::new();
    world.then(1, News::Listed);
    let before = world.status.clone().unwrap();
    let decision = world.then(40, trouble(20));
    assert_eq!((decision.status, decision.wake_at), (None, Some(at(50))));
    let decision = world.then(50, trouble(20));
    assert!(decision.status.is_some());
    assert_eq!(decision.wake_at, Some(at(620)), "then it will be stale");
    assert_eq!(
        (world.shows("Synced"), world.shows("Ready")),
        ("False/UpstreamUnavailable".into(), "True/Observed".into())
    );
    let status = world.status.clone().unwrap();
    assert_eq!((status.matched, &status.newest), (before.matched, &before.newest));

    // Each answer has its own words; what passes by itself comes in changing forms.
    for (secs, class) in [(100, FailureClass::RateLimited), (200, FailureClass::UpstreamUnavailable)] {
        assert_eq!(world.then(secs, News::Failing(class, "Other words", 20, true)).status, None);
    }
    assert!(world.then(300, News::Failing(FailureClass::AuthenticationFailed, "No", 20, true)).status.is_some());
    assert_eq!(world.shows("Synced"), "False/AuthenticationFailed");

    world.then(620, trouble(20));
    assert_eq!((world.shows("Ready"), world.shows("Stalled")), ("False/Stale".into(), "True/Stale".into()));
    assert!(is_idle(&world.then(700, News::Failing(FailureClass::RateLimited, "Other words", 20, true))));
    world.then(710, News::Listed);
    assert_eq!((world.shows("Ready"), world.shows("Stalled")), ("True/Observed".into(), "–".into()));
}

#[test]
fn patience_is_three_periods_where_those_are_long() {
    let mut world = World::new();
    world.spec.template =
        serde_json::from_value(json!({"spec": {"poll": {"periodSeconds": 60, "staleAfterSeconds": 300}}})).unwrap();
    world.then(1, News::Listed);
    assert_eq!(world.then(100, trouble(20)).wake_at, Some(at(20 + 180)));
    assert_eq!(world.then(200, trouble(20)).wake_at, Some(at(20 + 300)));
}

#[test]
fn a_change_of_the_spec_is_answered_with_what_is_known_of_it() {
    let mut world = World::new();
    world.then(1, News::Listed);
    world.restart();
    world.generation = 2;
    world.then(10, News::Awaiting);
    assert_eq!(
        (world.shows("Ready"), world.shows("Reconciling")),
        ("Unknown/AwaitingList".into(), "True/AwaitingList".into())
    );
    assert_eq!(world.status.as_ref().unwrap().matched, Some(1), "the last counts stay");
    world.then(20, News::Failing(FailureClass::UpstreamUnavailable, "No", 20, false));
    assert_eq!(
        (world.shows("Ready"), world.verdicts().kstatus),
        ("Unknown/UpstreamUnavailable".into(), "InProgress".into())
    );
}

#[test]
fn an_advice_names_the_fields_of_a_set() {
    for class in FailureClass::ALL {
        for is_guest in [false, true] {
            let mut world = World { is_guest, ..World::new() };
            world.then(1, News::Failing(class, "No", 1, false));
            let said = world.says("Synced");
            assert!(!said.contains("spec.task") && said.ends_with('.'), "{said}");
        }
    }
}

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let schema = TaskWatchSet::crd().spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
    serde_json::to_value(&schema.properties.unwrap()["status"]).unwrap()
});

/// Whether the API server would take `value`: the lengths of the schema.
fn fits(schema: &Value, value: &Value, path: &str) {
    let max = |key: &str| schema[key].as_u64().map_or(usize::MAX, |max| usize::try_from(max).unwrap());
    match value {
        Value::String(text) => assert!(text.chars().count() <= max("maxLength"), "{path} is too long"),
        Value::Number(number) => {
            let number = number.as_f64().unwrap();
            assert!(schema["minimum"].as_f64().is_none_or(|min| number >= min), "{path}: {number}");
            assert!(schema["maximum"].as_f64().is_none_or(|max| number <= max), "{path}: {number}");
        }
        Value::Array(values) => {
            assert!(values.len() <= max("maxItems"), "{path} has too many items");
            for value in values {
                fits(&schema["items"], value, &format!("{path}[]"));
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                let property = Some(&schema["properties"][name]).filter(|property| property.is_object());
                fits(property.unwrap_or(&schema["additionalProperties"]), value, &format!("{path}.{name}"));
            }
        }
        Value::Bool(_) | Value::Null => {}
    }
}

#[test]
fn the_largest_status_is_one_that_the_api_server_takes() {
    for text in ["<".repeat(5000), "ж\u{1b} ".repeat(2000), String::new()] {
        let mut world = World::new();
        world.spec.ready_when = SetReadyWhen::NoneFailed;
        for n in 0..30 {
            world.tasks.put(Candidate {
                display_name: Some(text.as_str().into()),
                message: Some(text[..text.floor_char_boundary(256)].into()),
                percent: Some(255),
                ..task(&format!("{n}{text}"), TaskState::Failed)
            });
        }
        for why in [None, Some(Why::Foreign), Some(Why::Quota(text.clone())), Some(Why::Refused(text.clone()))] {
            world.conflicts = why.map(|why| conflict(&text, why)).into_iter().collect();
            world.generation += 1;
            world.then(1, News::Listed);
            let status = world.status.as_ref().unwrap();
            assert!(stored::size(status) <= 32 << 10 && !status.newest.is_empty(), "{}", status.newest.len());
            fits(&SCHEMA, &serde_json::to_value(status).unwrap(), "status");
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    News(News),
    Task(u8, usize, Option<u8>),
    Children(Vec<u8>),
    Conflict(Option<Why>),
    Edit(bool, bool),
    Restart,
}

const STATES: [TaskState; 4] = [TaskState::Pending, TaskState::Running, TaskState::Succeeded, TaskState::Failed];

fn a_step() -> impl Strategy<Value = Step> {
    let news = prop_oneof![
        8 => Just(News::Listed),
        4 => (0..8_usize, prop::sample::select(vec!["No.", "Not now.", ""]), -900..1_i64, any::<bool>())
            .prop_map(|(class, said, since, has)| News::Failing(FailureClass::ALL[class], said, since, has)),
        1 => Just(News::Awaiting),
        1 => Just(News::NotListable),
        2 => (0..5_usize).prop_map(|reason| News::Unavailable(Reason::ALL[reason], "Because.")),
    ];
    let whys = vec![None, Some(Why::Foreign), Some(Why::Quota("no".into())), Some(Why::Refused("no".into()))];
    prop_oneof![
        5 => news.prop_map(Step::News),
        3 => (0..6_u8, 0..4_usize, prop::option::of(0..=100_u8)).prop_map(|(id, state, done)| Step::Task(id, state, done)),
        2 => prop::collection::vec(0..6_u8, 0..6).prop_map(Step::Children),
        1 => prop::sample::select(whys).prop_map(Step::Conflict),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(suspend, failed)| Step::Edit(suspend, failed)),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn of_every_story(steps in prop::collection::vec((a_step(), 0..400_i64, 0.0..1.0_f64), 1..25)) {
        let mut world = World::new();
        let mut secs = 0;
        let mut had_list = false;
        for (step, pause, share) in steps {
            secs += pause;
            let mut news = world.news.clone();
            match step {
                Step::News(next) => news = next,
                Step::Task(id, state, percent) => {
                    world.tasks.put(Candidate { percent, ..task(&id.to_string(), STATES[state]) });
                }
                Step::Children(ids) => world.children = ids.iter().map(ToString::to_string).collect(),
                Step::Conflict(why) => world.conflicts = why.map(|why| conflict("x", why)).into_iter().collect(),
                Step::Edit(suspend, failed) => {
                    world.generation += 1;
                    world.spec.suspend = suspend;
                    world.spec.ready_when = if failed { SetReadyWhen::NoneFailed } else { SetReadyWhen::Observed };
                }
                Step::Restart => {
                    world.restart();
                    had_list = false;
                    news = News::Awaiting;
                }
            }
            had_list |= matches!(news, News::Listed);
            if let News::Failing(class, said, since, _) = news {
                news = News::Failing(class, said, if since <= 0 { secs + since } else { since }, had_list);
            }
            // One that goes on fails since then.
            if let (News::Failing(class, said, since, has), News::Failing(_, _, before, _)) = (&news, &world.news) {
                news = News::Failing(*class, said, (*since).min(*before), *has);
            }
            let decision = world.then(secs, news);
            if let Some(status) = &world.status {
                let kinds: Vec<_> = status.conditions.iter().map(|c| c.type_.as_str()).collect();
                prop_assert!(kinds.is_sorted() && kinds.contains(&"Ready") && kinds.contains(&"Synced"));
                prop_assert!(!(kinds.contains(&"Reconciling") && kinds.contains(&"Stalled")));
                prop_assert!(status.conditions.iter().all(|c| c.observed_generation == status.observed_generation));
                let is_ready = world.shows("Ready").starts_with("True");
                prop_assert!(!is_ready || !kinds.contains(&"Reconciling") && !kinds.contains(&"Stalled"));
            }
            prop_assert!(decision.wake_at.is_none_or(|wake| wake > at(secs)));

            // Once more with the same: nothing to write.
            let again = world.decide();
            prop_assert_eq!(&again.status, &None, "twice");

            // Nothing changes by itself before the time that is named, or the selection's.
            let wake = again.wake_at.into_iter().chain(world.selection().next).min();
            let wait = wake.map_or(100_000, |wake| wake.as_second() - START - secs);
            #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
            let some = ((wait as f64 * share) as i64).min(wait - 1);
            let quiet = World { now: secs + some, ..world.clone() }.decide();
            prop_assert_eq!(&quiet.status, &None, "by itself");

            // A restart remembers all but how often was written before.
            let mut restarted = world.clone();
            restarted.pace = Pace::default();
            if restarted.decide().status.is_none() && !restarted.spec.suspend {
                restarted.restart();
                let unheard = matches!(world.news, News::Unavailable(..));
                prop_assert!(unheard || restarted.decide().status.is_none(), "restart");
            }
        }
    }
}

//! What holds in every story.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::Value;

use super::{
    super::{Pace, Poll},
    Connection, FailureClass, News, Reason, TaskState, Unavailable, World, at, task,
};
use crate::{
    api::{OnNotFound, ReadyWhen, crds},
    domain::{
        subtasks::Subtasks,
        task::{ErrorDetail, StateDetail, Task, TaskError},
    },
};

const CLASSES: [FailureClass; 7] = [
    FailureClass::ScopeNotFound,
    FailureClass::AuthenticationFailed,
    FailureClass::PermissionDenied,
    FailureClass::RateLimited,
    FailureClass::UpstreamUnavailable,
    FailureClass::InvalidRequest,
    FailureClass::InvalidAnswer,
];

static CONNECTIONS: LazyLock<[Connection; 5]> = LazyLock::new(|| {
    [
        super::USABLE,
        Err(Unavailable::new(Reason::ConnectionNotFound, "a")),
        Err(Unavailable::new(Reason::SecretNotFound, "b")),
        Err(Unavailable::new(Reason::ConnectionNotAllowed, "c")),
        Err(Unavailable::new(Reason::InvalidSpec, "d")),
    ]
});

/// One thing that happens.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
enum Step {
    News(News),
    Connection(usize),
    Suspend(bool),
    Edit(ReadyWhen, OnNotFound),
    Request(u8),
    Restart,
}

fn a_task() -> impl Strategy<Value = Task> {
    let text = prop_oneof![4 => Just("word".to_owned()), 1 => Just("ж\u{1b} ".repeat(2000)), 1 => Just(String::new())];
    let parts = prop::collection::vec((0..6_usize, prop::option::of(0..=100_u8)), 0..40);
    (0..6_usize, prop::option::of(any::<u8>()), parts, text, prop_oneof![3 => Just(0), 1 => 0..60_usize]).prop_map(
        |(state, percent, parts, text, many)| {
            let error = TaskError {
                code: Some(text.clone()),
                message: Some(text.clone()),
                http_status: Some(u16::MAX),
                details: vec![ErrorDetail { kind: text.clone(), value: text.clone() }; many],
                ..TaskError::default()
            };
            let part = |(state, percent): (usize, _)| Task {
                percent,
                error: Some(Box::new(error.clone())),
                ..task(TaskState::ALL[state])
            };
            Task {
                id: text.clone(),
                name: Some(text.clone()),
                percent,
                resource: Some(text.clone()),
                error: Some(Box::new(error.clone())),
                subtasks: Subtasks::of(parts.into_iter().map(part).collect()),
                outputs: (0..many).map(|n| (format!("{n}{text}"), text.clone())).collect(),
                state_details: vec![
                    StateDetail { kind: text.clone(), title: text.clone(), detail: text.clone() };
                    many
                ],
                modified_time: Some(at(i64::try_from(many).unwrap())),
                ..task(TaskState::ALL[state])
            }
        },
    )
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => a_task().prop_map(|task| Step::News(News::Seen(task))),
        2 => (0..6_usize).prop_map(|state| Step::News(News::Seen(task(TaskState::ALL[state])))),
        3 => (0..7_usize, -900..0_i64).prop_map(|(class, since)| {
            Step::News(News::Trouble { class: CLASSES[class], since: at(since) })
        }),
        3 => (-90..0_i64).prop_map(|since| Step::News(News::NotFound { since: at(since) })),
        2 => (0..5_usize).prop_map(Step::Connection),
        1 => any::<bool>().prop_map(Step::Suspend),
        1 => (any::<bool>(), 0..3_usize).prop_map(|(observed, policy)| Step::Edit(
            if observed { ReadyWhen::Observed } else { ReadyWhen::TaskSucceeded },
            [OnNotFound::Fail, OnNotFound::Succeed, OnNotFound::Retry][policy],
        )),
        1 => any::<u8>().prop_map(Step::Request),
        2 => Just(Step::Restart),
    ]
}

impl World {
    /// Lets `step` happen; relative times become times before now.
    fn take(&mut self, step: &Step) {
        self.refreshed = false;
        match step.clone() {
            Step::News(news) => {
                let before = |since: super::Timestamp| self.now + (since - at(0));
                self.news = match news {
                    News::Trouble { class, since } => News::Trouble { class, since: before(since) },
                    News::NotFound { since } => News::NotFound { since: before(since) },
                    news => news,
                };
            }
            Step::Connection(which) => {
                self.connection = CONNECTIONS[which].clone();
                self.asking_since = self.now;
                self.news = News::None;
            }
            Step::Suspend(suspend) => {
                self.generation += i64::from(self.spec.suspend != suspend);
                self.spec.suspend = suspend;
            }
            Step::Edit(ready_when, policy) => {
                self.generation += 1;
                self.spec.ready_when = ready_when;
                self.spec.on_not_found = policy;
            }
            Step::Request(value) => {
                self.requested_at = Some(value.to_string());
                self.refreshed = true;
            }
            Step::Restart => {
                self.asking_since = self.now;
                self.news = News::None;
            }
        }
    }

    fn finished(&self) -> bool {
        self.shows("Finished").starts_with("True")
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn of_every_story(
        steps in prop::collection::vec((a_step(), 0..400_i64, 0.0..1.0_f64), 1..25),
        deadline in prop::option::of(1..5000_i32),
        ttl in prop::option::of(0..500_i32),
        tracked: bool,
    ) {
        let mut world = World::new();
        world.spec.active_deadline_seconds = deadline;
        world.spec.ttl_seconds_after_finished = ttl;
        world.tracked = tracked;
        world.chatty = true;
        let mut secs = 0;
        for (step, pause, share) in steps {
            secs += pause;
            world.now = at(secs);
            let was_finished = world.finished();
            world.take(&step);
            let decision = world.act();
            check(&world);
            prop_assert!(decision.events.is_empty() || decision.status.is_some(), "an event goes with a write");
            prop_assert!(decision.wake_at.is_none_or(|wake| wake >= world.now));
            prop_assert!(!was_finished || world.finished() || world.refreshed, "an end is an end");
            if world.finished() {
                prop_assert!(world.decide().poll == Poll::Stop || world.requested_at.is_some());
            }
            if decision.delete {
                prop_assert!(was_finished && !tracked);
                break;
            }

            // Once more with the same: nothing to write, nothing to tell.
            let again = world.decide();
            prop_assert_eq!((&again.status, again.events.len()), (&None, 0), "twice");
            prop_assert!(again.poll == decision.poll || world.refreshed);

            // Nothing changes by itself before the time that was named.
            let mut later = world.clone();
            let wait = again.wake_at.map_or(100_000.0, |wake| (wake - world.now).total(jiff::Unit::Second).unwrap());
            #[allow(clippy::cast_possible_truncation)]
            let some = (wait * share) as i64;
            later.now = at(secs + some);
            if !again.delete && again.wake_at.is_none_or(|wake| wake > later.now) {
                let quiet = later.decide();
                prop_assert_eq!((&quiet.status, quiet.events.len(), quiet.delete), (&None, 0, false), "by itself");
            }

            // A restart remembers everything but how often was written before.
            let mut restarted = world.clone();
            restarted.pace = Pace::default();
            if restarted.decide().status.is_some() {
                continue;
            }
            restarted.asking_since = restarted.now;
            restarted.news = News::None;
            restarted.refreshed = false;
            let first = restarted.decide();
            prop_assert_eq!((&first.status, first.events.len()), (&None, 0), "restart");
        }
    }
}

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let crd = crds().into_iter().find(|crd| crd.spec.names.kind == "TaskWatch").unwrap();
    let schema = crd.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
    serde_json::to_value(&schema.properties.unwrap()["status"]).unwrap()
});

/// What must be true of a stored status.
fn check(world: &World) {
    let Some(status) = &world.status else { return };
    let kinds: Vec<_> = status.conditions.iter().map(|c| c.type_.as_str()).collect();
    assert!(kinds.is_sorted() && kinds.len() >= 4, "{kinds:?}");
    assert!(!(kinds.contains(&"Reconciling") && kinds.contains(&"Stalled")));
    for condition in &status.conditions {
        assert_eq!(condition.observed_generation, status.observed_generation);
        assert!(condition.last_transition_time.0 <= world.now);
        assert!(condition.status == "True" || !matches!(condition.type_.as_str(), "Reconciling" | "Stalled"));
    }
    fits(&SCHEMA, &serde_json::to_value(status).unwrap(), "status");
}

/// Whether the API server would take `value`: the bounds of the schema.
fn fits(schema: &Value, value: &Value, path: &str) {
    let max = |key: &str| schema[key].as_u64().map_or(usize::MAX, |max| usize::try_from(max).unwrap());
    match value {
        Value::String(text) => {
            assert!(text.chars().count() <= max("maxLength"), "{path} is too long");
            assert!(schema["enum"].as_array().is_none_or(|words| words.contains(value)), "{path}: {text}");
            assert!(text.chars().count() as u64 >= schema["minLength"].as_u64().unwrap_or(0), "{path} is too short");
        }
        Value::Number(number) => {
            let number = number.as_f64().unwrap();
            assert!(schema["minimum"].as_f64().is_some_and(|min| number >= min), "{path}: {number}");
            assert!(schema["maximum"].as_f64().is_some_and(|max| number <= max), "{path}: {number}");
        }
        Value::Array(values) => {
            assert!(values.len() <= max("maxItems"), "{path} has too many items");
            for value in values {
                fits(&schema["items"], value, &format!("{path}[]"));
            }
        }
        Value::Object(fields) => {
            assert!(fields.len() <= max("maxProperties"), "{path} has too many keys");
            for (name, value) in fields {
                let property = &schema["properties"][name];
                let property = if property.is_null() { &schema["additionalProperties"] } else { property };
                assert!(property.is_object(), "{path}.{name} is not in the schema");
                fits(property, value, &format!("{path}.{name}"));
            }
        }
        Value::Bool(_) | Value::Null => {}
    }
}

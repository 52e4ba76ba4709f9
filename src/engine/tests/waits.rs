//! Why a connection sends nothing, as one may ask it: a test for each reason.

use super::{
    model::Fault,
    rig::{MINUTE, Rig, SECOND, settings, task},
};
use crate::domain::{failure::FailureClass, task::TaskState};
use crate::engine::planner::{Settings, Wait, Why};

/// What is waited for once all is sent that may be.
fn wait(rig: &mut Rig) -> Wait {
    while rig.pump() {}
    rig.planner.wait(rig.now)
}

/// The same, where the time is that long away.
#[track_caller]
fn assert_waits(rig: &mut Rig, why: Why, seconds: std::ops::Range<f64>) {
    let wait = wait(rig);
    assert_eq!(wait.why, why, "{}", wait.why);
    let until = (wait.until.unwrap() - rig.now).as_secs_f64();
    assert!(seconds.contains(&until), "{until} s: {why}");
    assert_eq!(rig.planner.wake_at(rig.now), wait.until);
}

/// The same, where only an answer or a command ends it.
#[track_caller]
fn assert_waits_for_others(rig: &mut Rig, why: Why) {
    assert_eq!(wait(rig), Wait { until: None, why });
}

#[test]
fn nothing_to_poll() {
    let mut rig = Rig::new(settings());
    assert_waits_for_others(&mut rig, Why::Nothing);
    rig.upstream.set(&task("s", 0), TaskState::Succeeded);
    rig.watch(0, &task("s", 0), false);
    rig.run(MINUTE);
    assert_waits_for_others(&mut rig, Why::Nothing);
}

#[test]
fn ready() {
    let rig = Rig::with_tasks(settings(), 1, false);
    assert_eq!(rig.planner.wait(rig.now), Wait { until: Some(rig.now), why: Why::Ready });
}

#[test]
fn not_due() {
    let mut rig = Rig::with_tasks(settings(), 1, false);
    rig.run(SECOND);
    assert_waits(&mut rig, Why::Due, 7.0..11.0);
}

#[test]
fn gathering() {
    let mut rig = Rig::new(Settings { requests_per_second: 1000.0, burst: 1000, ..settings() });
    for number in 0..500 {
        rig.upstream.set(&task("s", number), TaskState::Running);
        rig.watch(number, &task("s", number), true);
    }
    rig.run(MINUTE);
    let found = (0..1000).any(|_| {
        rig.run(SECOND / 1000);
        rig.planner.wait(rig.now).why == Why::Gathering
    });
    assert!(found);
}

#[test]
fn budget() {
    let slow = Settings { requests_per_second: 0.5, burst: 1, ..settings() };
    let mut rig = Rig::with_tasks(slow, 3, false);
    rig.run(SECOND);
    assert_waits(&mut rig, Why::Budget, 0.5..1.5);
}

#[test]
fn requests_in_flight() {
    let mut rig = Rig::with_tasks(settings(), 3, false);
    rig.upstream.latency = MINUTE;
    // The credential is tried with one request, while two tasks wait.
    assert_waits_for_others(&mut rig, Why::InFlight);
    let mut rig = Rig::with_tasks(settings(), 1, false);
    rig.run(SECOND);
    rig.upstream.latency = MINUTE;
    rig.run(12 * SECOND);
    // All that there is to poll.
    assert_waits_for_others(&mut rig, Why::InFlight);
}

#[test]
fn a_token() {
    let mut rig = Rig::with_tasks(Settings { exchanges: true, ..settings() }, 1, false);
    rig.upstream.latency = MINUTE;
    assert_waits_for_others(&mut rig, Why::Token);
}

#[test]
fn a_doubt() {
    let mut rig = Rig::new(settings());
    for (number, scope, period) in [(0, "a/refused", 60), (1, "b/slow", 300), (2, "a/later", 300)] {
        rig.upstream.set(&task(scope, number), TaskState::Running);
        rig.watch_every(number, &task(scope, number), false, period * SECOND);
    }
    rig.run(5 * SECOND);
    (rig.upstream.fault, rig.upstream.only) = (Some(Fault::Refused), Some("a/refused"));
    (rig.upstream.latency, rig.upstream.only_latency) = (MINUTE, Some(SECOND / 20));
    rig.run(70 * SECOND);
    // The other tenant's task bears witness, and is slow to answer.
    assert_eq!(rig.in_flight(|_| true), 1);
    assert_waits(&mut rig, Why::Doubt, 50.0..75.0);
}

/// Though nothing else could be asked for meanwhile.
#[test]
fn a_doubt_lasts_until_the_answer_comes_that_settles_it() {
    let mut rig = Rig::new(settings());
    for (number, scope, period) in [(0, "a/refused", 60), (1, "b/slow", 300)] {
        rig.upstream.set(&task(scope, number), TaskState::Running);
        rig.watch_every(number, &task(scope, number), false, period * SECOND);
    }
    rig.run(5 * SECOND);
    let begun = rig.now;
    (rig.upstream.fault, rig.upstream.only) = (Some(Fault::Refused), Some("a/refused"));
    (rig.upstream.latency, rig.upstream.only_latency) = (20 * SECOND, Some(SECOND / 20));
    rig.run(70 * SECOND);
    assert!(rig.in_flight(|_| true) == 1 && rig.watched(0).troubles.is_empty(), "the witness is slow to answer");
    rig.run(15 * SECOND);
    let told: Vec<_> = rig.watched(0).troubles.iter().map(|(_, class)| *class).collect();
    assert_eq!(told, [FailureClass::PermissionDenied], "it is that task's own affair");
    assert!(rig.planner.trouble().is_none());
    assert_eq!(rig.count(begun, |_| true), 2, "{:?}", rig.sent);
}

#[test]
fn retry_after() {
    let mut rig = Rig::with_tasks(settings(), 3, false);
    rig.run(SECOND);
    rig.upstream.fault = Some(Fault::Limited(Some(100)));
    rig.run(15 * SECOND);
    assert_waits(&mut rig, Why::RetryAfter, 80.0..100.0);
    // It stands when the credential changes.
    rig.reconfigure(settings(), true);
    assert_waits(&mut rig, Why::RetryAfter, 80.0..100.0);
}

#[test]
fn a_rate_limit_without_a_time() {
    let mut rig = Rig::with_tasks(settings(), 3, false);
    rig.upstream.fault = Some(Fault::Limited(None));
    rig.run(SECOND);
    assert_waits(&mut rig, Why::RateLimited, 3.5..5.0);
}

#[test]
fn an_outage() {
    let mut rig = Rig::with_tasks(settings(), 30, false);
    rig.run(20 * SECOND);
    rig.upstream.fault = Some(Fault::Down);
    rig.run(5 * MINUTE);
    assert_waits(&mut rig, Why::Outage, 0.0..31.0);
}

#[test]
fn a_refused_credential() {
    let mut rig = Rig::with_tasks(settings(), 1, false);
    rig.upstream.fault = Some(Fault::Refused);
    rig.run(SECOND);
    assert_waits(&mut rig, Why::Credential, 50.0..61.0);
}

#[test]
fn each_reason_has_words_of_its_own() {
    let all = [
        Why::Ready,
        Why::Nothing,
        Why::Due,
        Why::Gathering,
        Why::Budget,
        Why::InFlight,
        Why::Token,
        Why::Doubt,
        Why::RetryAfter,
        Why::RateLimited,
        Why::Outage,
        Why::Credential,
        Why::Share,
    ];
    let words: std::collections::BTreeSet<_> = all.iter().map(ToString::to_string).collect();
    assert_eq!(words.len(), all.len());
}

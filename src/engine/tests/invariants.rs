//! One test for each invariant of design §3 that the planner keeps; the rig checks all of them in every test.

use std::time::Duration;

use super::{
    model::Fault,
    rig::{MINUTE, Rig, SECOND, key, settings, task},
};
use crate::domain::{failure::FailureClass, task::TaskState};
use crate::engine::{
    coalesce::ModeChoice,
    planner::{JobKind, Settings},
};

fn is_token(kind: &JobKind) -> bool {
    *kind == JobKind::Authenticate
}

#[test]
fn inv_1_an_end_is_told_once_and_stays() {
    let mut rig = Rig::with_tasks(settings(), 1, false);
    rig.watch(1, &task("s", 0), false);
    rig.run(MINUTE);
    rig.upstream.set(&task("s", 0), TaskState::Succeeded);
    rig.run(MINUTE);
    assert!(rig.watched(0).finished && rig.watched(1).finished);
    // The upstream goes back on its word; one of the two asks again. The rig sees to it that the other is told nothing.
    rig.upstream.set(&task("s", 0), TaskState::Running);
    rig.watch(0, &task("s", 0), true);
    rig.run(MINUTE);
    assert!(!rig.watched(0).finished && rig.watched(1).finished);
    rig.forget(0);
    let gone = rig.now;
    rig.run(10 * MINUTE);
    assert_eq!(rig.count(gone, |_| true), 0);
}

#[test]
fn inv_1_an_answer_never_reaches_who_came_after_it_was_asked_for() {
    let mut rig = Rig::with_tasks(settings(), 1, false);
    rig.upstream.latency = 10 * SECOND;
    rig.run(5 * SECOND);
    rig.forget(0);
    rig.watch(0, &task("s", 0), false);
    rig.watch(1, &task("s", 0), false);
    rig.run(6 * SECOND);
    assert!(rig.watched(0).seen.is_empty() && rig.watched(1).seen.is_empty());
    rig.run(15 * SECOND);
    assert!(!rig.watched(0).seen.is_empty() && !rig.watched(1).seen.is_empty());
}

#[test]
fn inv_1_who_was_told_of_a_trouble_is_told_of_its_end() {
    let mut rig = Rig::with_tasks(settings(), 30, false);
    rig.run(20 * SECOND);
    rig.upstream.fault = Some(Fault::Limited(Some(30)));
    rig.run(15 * SECOND);
    rig.upstream.fault = None;
    for number in 0..30 {
        rig.watch(number, &task("s", number), true);
    }
    rig.run(2 * MINUTE);
    assert!((0..30).all(|number| !rig.watched(number).seen.is_empty()));
}

#[test]
fn inv_2_budget_and_flights_are_kept_with_tokens_and_a_slow_upstream() {
    let mut rig = Rig::with_tasks(Settings { exchanges: true, subtasks: true, ..settings() }, 300, false);
    rig.upstream.token_life = (Some(200 * SECOND), 70 * SECOND);
    rig.upstream.latency = 2 * SECOND;
    rig.run(10 * MINUTE);
    assert!(rig.sent.len() > 1000, "{} sent", rig.sent.len());
}

#[test]
fn inv_3_retry_after_is_obeyed_even_when_the_credential_is_renewed() {
    for fault in [Fault::Limited(Some(40)), Fault::Overloaded(40)] {
        let mut rig = Rig::with_tasks(settings(), 50, false);
        rig.run(30 * SECOND);
        rig.upstream.fault = Some(fault);
        rig.run(5 * SECOND);
        rig.upstream.fault = Some(Fault::Down);
        let renewed = rig.now;
        rig.reconfigure(settings(), true);
        rig.run(30 * SECOND);
        assert_eq!(rig.count(renewed, |_| true), 0);
    }
}

#[test]
fn inv_3_retry_after_of_nothing_is_no_invitation() {
    let mut rig = Rig::with_tasks(settings(), 50, false);
    rig.upstream.fault = Some(Fault::Limited(Some(0)));
    rig.run(5 * MINUTE);
    assert!(rig.sent.len() < 20, "{} sent", rig.sent.len());
}

#[test]
fn inv_4_periods_stretch_evenly_when_the_demand_exceeds_the_budget() {
    // B9: three times the budget, in periods of 10 and 30 s.
    let mut rig = Rig::new(Settings { requests_per_second: 20.0, ..settings() });
    for number in 0..1200 {
        rig.upstream.set(&task("s", number), TaskState::Running);
        rig.watch_every(number, &task("s", number), true, if number < 300 { 10 * SECOND } else { 30 * SECOND });
    }
    rig.run(20 * MINUTE);
    let stretch = rig.planner.stretch();
    assert!((2.9..3.1).contains(&stretch), "{stretch}");
    let steady = rig.now;
    rig.run(20 * MINUTE);
    for (number, watched) in (0..1200).map(|number| (number, rig.watched(number))) {
        let fair = if number < 300 { 30.0 } else { 90.0 };
        let seen: Vec<_> = watched.seen.iter().filter(|at| **at > steady).collect();
        for two in seen.windows(2) {
            let took = (*two[1] - *two[0]).as_secs_f64();
            assert!(took <= fair * 1.2, "{number}: {took} of {fair}");
        }
        let mean =
            (**seen.last().unwrap() - *seen[0]).as_secs_f64() / f64::from(u32::try_from(seen.len() - 1).unwrap());
        assert!((fair * 0.9..fair * 1.1).contains(&mean), "{number}: {mean} of {fair}");
    }
}

#[test]
fn inv_4_a_new_watch_is_polled_first_and_a_stream_of_them_starves_nobody() {
    let mut rig = Rig::with_tasks(settings(), 300, true);
    rig.run(10 * MINUTE);
    for number in 1000..1100 {
        rig.upstream.set(&task("s", number), TaskState::Running);
        rig.watch(number, &task("s", number), false);
        let begun = rig.now;
        rig.run(SECOND);
        let first = rig.watched(number).seen.first().expect("seen within a second");
        assert!(*first - begun <= Duration::from_millis(800));
    }
    let begun = rig.now;
    for number in 2000..5000 {
        rig.watch(number, &task("s", number), false);
    }
    rig.run(2 * MINUTE);
    let old = rig.count(begun, |kind| matches!(kind, JobKind::Get(task) if task.id.as_str() < "t00300"));
    let all = rig.count(begun, |_| true);
    assert!(old * 10 >= all, "{old} of {all}");
}

#[test]
fn inv_5_what_is_finished_or_forgotten_costs_nothing() {
    for subtasks in [false, true] {
        let mut rig = Rig::with_tasks(Settings { subtasks, exchanges: true, ..settings() }, 20, false);
        rig.run(MINUTE);
        for number in 0..10 {
            rig.upstream.set(&task("s", number), TaskState::Failed);
        }
        rig.run(2 * MINUTE);
        for number in 10..20 {
            rig.forget(number);
        }
        let quiet = rig.now;
        rig.run(120 * MINUTE);
        assert_eq!(rig.count(quiet, |_| true), 0);
        assert!(rig.planner.stretch() <= 1.0);
        assert!(rig.planner.wake_at(rig.now).is_none());
    }
}

#[test]
fn inv_6_a_rejected_token_is_exchanged_once_and_then_there_is_silence() {
    let mut rig = Rig::with_tasks(Settings { exchanges: true, ..settings() }, 100, false);
    rig.run(5 * MINUTE);
    rig.upstream.fault = Some(Fault::Refused);
    let refused = rig.now;
    rig.run(20 * SECOND);
    assert_eq!(rig.count(refused, is_token), 1);
    let silent = rig.now;
    rig.run(50 * SECOND);
    assert_eq!(rig.count(silent, |_| true), 2, "after a minute: one token, one try");
    rig.run(60 * MINUTE);
    assert!(rig.count(silent, is_token) <= 8);
    assert_eq!(rig.planner.trouble().unwrap().failure.class, FailureClass::AuthenticationFailed);
    assert!((0..100).all(|number| rig.watched(number).troubles.len() == 1), "one condition, not N errors");
    rig.upstream.fault = None;
    rig.reconfigure(rig.settings.clone(), true);
    rig.run(2 * MINUTE);
    assert!(rig.planner.trouble().is_none());
}

#[test]
fn inv_6_an_access_key_is_not_driven_into_its_lock() {
    // From the start, and with a task between that is not refused (the rig counts).
    for every in [1, 2, 3, 7] {
        let mut rig = Rig::with_tasks(settings(), 100, false);
        (rig.upstream.fault, rig.upstream.every) = (Some(Fault::Refused), every);
        rig.run(5 * SECOND);
        assert!(every > 1 || rig.sent.len() == 1, "one request at a time until the credential has been taken");
        rig.run(120 * MINUTE);
    }
}

#[test]
fn inv_6_refusals_of_the_old_credential_do_not_hold_the_new_one() {
    for exchanges in [false, true] {
        let mut rig = Rig::with_tasks(Settings { exchanges, ..settings() }, 50, false);
        rig.run(MINUTE);
        rig.upstream.latency = 10 * SECOND;
        rig.upstream.fault = Some(Fault::Refused);
        rig.run(8 * SECOND);
        // Several requests are on their way when the Secret is mended, and are refused yet.
        rig.reconfigure(rig.settings.clone(), true);
        (rig.upstream.latency, rig.upstream.fault) = (SECOND / 10, None);
        rig.run(50 * SECOND);
        assert!(rig.planner.trouble().is_none());
        assert!((0..50).filter(|number| rig.watched(*number).seen.len() > 6).count() > 10);
    }
}

#[test]
fn inv_6_a_token_endpoint_in_trouble_is_left_alone() {
    for (fault, most) in [(Fault::TokenDown, 40), (Fault::TokenRefused, 5), (Fault::TokenNotFound, 40)] {
        let mut rig = Rig::with_tasks(Settings { exchanges: true, ..settings() }, 100, false);
        rig.upstream.fault = Some(fault);
        rig.run(15 * MINUTE);
        assert!(rig.sent.len() <= most, "{fault:?}: {}", rig.sent.len());
        assert!(rig.planner.trouble().is_some());
    }
    // A token without life is used all the same.
    let mut rig = Rig::with_tasks(Settings { exchanges: true, ..settings() }, 100, false);
    rig.upstream.token_life = (Some(Duration::ZERO), MINUTE);
    rig.run(5 * MINUTE);
    assert!(rig.count(rig.start, is_token) <= 11);
}

#[test]
fn inv_9_a_restart_spreads_its_polls() {
    let mut rig = Rig::with_tasks(Settings { requests_per_second: 1000.0, burst: 1000, ..settings() }, 1000, true);
    rig.upstream.latency = SECOND / 100;
    rig.run(12 * SECOND);
    assert!(rig.sent.len() >= 1000);
    for second in 0..9 {
        let (from, to) = (rig.start + second * SECOND, rig.start + (second + 1) * SECOND);
        let sent = rig.sent.iter().filter(|(at, _)| (from..to).contains(at)).count();
        assert!((40..200).contains(&sent), "second {second}: {sent}");
    }
}

#[test]
fn inv_9_no_stampede_after_a_pause() {
    for fault in [Fault::Limited(Some(60)), Fault::Overloaded(60), Fault::Down, Fault::Refused] {
        for latency in [SECOND / 20, 5 * SECOND] {
            let mut rig = Rig::with_tasks(Settings { burst: 50, max_in_flight: 100, ..settings() }, 200, false);
            rig.run(2 * MINUTE);
            rig.upstream.latency = latency;
            rig.upstream.fault = Some(fault);
            rig.run(3 * MINUTE);
            rig.upstream.fault = None;
            let healed = rig.now;
            // Shrinking and growing the budget meanwhile grants no burst either.
            rig.reconfigure(Settings { burst: 60, ..rig.settings.clone() }, false);
            rig.run(3 * MINUTE);
            let times: Vec<_> = rig.sent.iter().map(|(at, _)| *at).filter(|at| *at >= healed).collect();
            assert!(times.len() > 100, "{fault:?} {latency:?}");
            let first = &times[..30];
            for (number, at) in first.iter().enumerate() {
                let within = first[number..].iter().filter(|other| **other < *at + SECOND).count();
                assert!(within <= 6, "{fault:?} {latency:?}: {within} within a second");
            }
        }
    }
}

#[test]
fn b6_an_outage_costs_probes_only_and_its_end_is_seen_soon() {
    for count in [1, 1000] {
        for mode in [crate::engine::coalesce::ModeChoice::Get, crate::engine::coalesce::ModeChoice::Auto] {
            let settings = Settings { mode, requests_per_second: 100.0, ..settings() };
            let mut rig = Rig::with_tasks(settings, count, false);
            rig.run(2 * MINUTE);
            rig.upstream.fault = Some(Fault::Down);
            let down = rig.now;
            rig.run(10 * MINUTE);
            assert!(rig.count(down, |_| true) <= 40, "{}", rig.count(down, |_| true));
            rig.upstream.fault = None;
            let up = rig.now;
            rig.run(90 * SECOND);
            for number in 0..count {
                let watched = rig.watched(number);
                assert!(watched.seen.last().is_some_and(|at| *at > up), "{count} {mode:?} {number}");
                assert!(watched.troubles.len() <= 2, "an answer that was on its way may come between");
            }
        }
    }
}

#[test]
fn a_refusal_of_one_task_shows_that_the_credential_is_taken() {
    let mut rig = Rig::with_tasks(settings(), 20, false);
    (rig.upstream.fault, rig.upstream.latency) = (Some(Fault::Forbidden), SECOND);
    rig.run(SECOND / 2);
    assert_eq!(rig.sent.len(), 1, "one by one until then");
    rig.run(2 * SECOND);
    assert!(rig.sent.len() >= 8, "{}", rig.sent.len());
}

#[test]
fn what_is_forbidden_delays_nothing_else() {
    let mut rig = Rig::with_tasks(settings(), 20, false);
    (rig.upstream.fault, rig.upstream.every) = (Some(Fault::Forbidden), 2);
    rig.run(MINUTE);
    rig.upstream.every = 1;
    rig.run(2 * MINUTE);
    let before = rig.now;
    rig.upstream.fault = None;
    rig.watch(100, &task("s", 0), false);
    rig.run(SECOND);
    assert!(!rig.watched(100).seen.is_empty(), "{:?}", rig.count(before, |_| true));
}

#[test]
fn nothing_grows_when_watches_come_and_go() {
    let mut rig = Rig::with_tasks(settings(), 5, false);
    rig.run(MINUTE);
    rig.upstream.fault = Some(Fault::Limited(Some(3600)));
    rig.run(MINUTE);
    for round in 0..1000 {
        for number in 100..110 {
            rig.watch(number, &task(&format!("s{round}"), number), round % 2 == 0);
        }
        rig.run(SECOND / 10);
        for number in 100..110 {
            rig.forget(number);
        }
    }
    assert_eq!(rig.planner.holdings().tasks, 5);
    assert_eq!(rig.planner.holdings().scopes, 1);
    assert_eq!(rig.planner.holdings().waiting, (5, 0));
    for number in 0..5 {
        rig.planner.forget(&key(number));
    }
    let left = rig.planner.holdings();
    assert!(left.waiting == (0, 0) && left.scopes == 0 && left.tasks == 0);
}

#[test]
fn inv_5_a_list_that_nobody_waits_for_any_more_is_not_asked_for() {
    // The new watches make the list the cheaper way, and are forgotten before they come to it, but for one that is in flight.
    let settings = Settings { requests_per_second: 1.0, burst: 1, mode: ModeChoice::Auto, ..settings() };
    let mut rig = Rig::with_tasks(settings, 1, false);
    rig.run(MINUTE);
    rig.upstream.latency = MINUTE;
    rig.run(15 * SECOND);
    for number in 1..20 {
        rig.upstream.set(&task("s", number), TaskState::Running);
        rig.watch(number, &task("s", number), false);
    }
    (0..20).for_each(|number| rig.forget(number));
    rig.run(MINUTE);
    assert_eq!(rig.count(rig.start, |kind| matches!(kind, JobKind::List(..))), 0);
}

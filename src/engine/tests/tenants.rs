//! Several namespaces on one connection: what happens to one of them costs the others nothing.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    model::Fault,
    rig::{MINUTE, Rig, SECOND, settings, task},
};
use crate::domain::{failure::FailureClass, task::TaskState};
use crate::engine::{
    coalesce::ModeChoice,
    planner::{JobKind, Settings},
};
use crate::tenancy::Tenant;

/// Watches `count` tasks of a scope from `first` on; what stands before the slash is the tenant.
fn watch(rig: &mut Rig, scope: &str, first: usize, count: usize, period: Duration) {
    for number in first..first + count {
        rig.upstream.set(&task(scope, number), TaskState::Running);
        rig.watch_every(number, &task(scope, number), false, period);
    }
}

/// The longest time that the watches from `first` on were not looked at, between `since` and now.
fn longest_gap(rig: &Rig, first: usize, count: usize, since: Instant) -> Duration {
    let gap = |number| {
        let seen = rig.watched(number).seen.iter().copied().filter(|at| *at > since);
        let times: Vec<_> = [since].into_iter().chain(seen).chain([rig.now]).collect();
        times.windows(2).map(|two| two[1] - two[0]).max().unwrap()
    };
    (first..first + count).map(gap).max().unwrap()
}

/// Has each poll show something new, so that each is told.
fn told_each_time(rig: &mut Rig, first: usize, count: usize, scope: &str, span: Duration) {
    let end = rig.now + span;
    let mut turn = 0_u8;
    while rig.now < end {
        turn = turn.wrapping_add(1);
        let state = if turn.is_multiple_of(2) { TaskState::Running } else { TaskState::Paused };
        for number in first..first + count {
            rig.upstream.set(&task(scope, number), state);
        }
        rig.run(SECOND);
    }
}

#[test]
fn inv_6_what_is_refused_for_one_tenant_does_not_silence_the_others() {
    for exchanges in [false, true] {
        for (fault, class) in [
            (Fault::Refused, FailureClass::PermissionDenied),
            (Fault::Forbidden, FailureClass::PermissionDenied),
            (Fault::Down, FailureClass::UpstreamUnavailable),
        ] {
            for (attackers, first) in [(1, false), (1, true), (30, false), (30, true)] {
                let mut rig = Rig::new(Settings { exchanges, min_period: SECOND, ..settings() });
                (rig.upstream.fault, rig.upstream.only) = (Some(fault), Some("evil"));
                if first {
                    watch(&mut rig, "evil/s", 100, attackers, 5 * SECOND);
                    rig.run(SECOND / 2);
                }
                watch(&mut rig, "good/s", 0, 5, 5 * SECOND);
                told_each_time(&mut rig, 0, 5, "good/s", 20 * SECOND);
                if !first {
                    watch(&mut rig, "evil/s", 100, attackers, 5 * SECOND);
                }
                let begun = rig.now;
                told_each_time(&mut rig, 0, 5, "good/s", 10 * MINUTE);
                let gap = longest_gap(&rig, 0, 5, begun);
                let case = format!("{fault:?} exchanges={exchanges} attackers={attackers} first={first}");
                assert!(gap < 10 * SECOND, "{case}: {gap:?}");
                assert!(rig.planner.trouble().is_none(), "{case}: the connection is well");
                // At most of what the first comers met with, before anything was good.
                let told = |number| {
                    let watched = rig.watched(number);
                    watched.troubles.iter().any(|(at, _)| watched.seen.first().is_none_or(|first| at > first))
                };
                assert!(!(0..5).any(told), "{case}");
                assert!(
                    rig.watched(100).troubles.iter().any(|(_, told)| *told == class),
                    "{case}: {:?}",
                    rig.watched(100).troubles
                );
            }
        }
    }
}

/// However soon after the first failures another tenant comes, and whose answers come first: it is tried, and goes on being served.
#[test]
fn inv_6_who_comes_while_another_tenants_tasks_fail_is_tried_soon() {
    for fault in [Fault::Refused, Fault::Forbidden, Fault::Down] {
        let waits = (0..40).map(|n| n * 25).chain([1_500, 2_100, 3_000, 5_000, 7_000, 12_000]);
        for (wait, latency) in waits.flat_map(|wait| [5, 50, 200].map(|latency| (wait, latency))) {
            let mut rig = Rig::new(Settings { min_period: SECOND, ..settings() });
            (rig.upstream.fault, rig.upstream.only) = (Some(fault), Some("evil"));
            rig.upstream.only_latency = Some(Duration::from_millis(latency));
            watch(&mut rig, "evil/s", 100, 20, SECOND);
            rig.run(Duration::from_millis(wait));
            let came = rig.now;
            watch(&mut rig, "good/s", 0, 2, SECOND);
            told_each_time(&mut rig, 0, 2, "good/s", 30 * SECOND);
            let gap = longest_gap(&rig, 0, 2, came);
            assert!(gap < 6 * SECOND, "{fault:?} for {latency} ms, after {wait} ms: {gap:?}");
        }
    }
}

#[test]
fn inv_6_a_scope_that_is_refused_is_that_scopes_affair() {
    for mode in [ModeChoice::List, ModeChoice::Auto] {
        let mut rig = Rig::new(Settings { mode, min_period: SECOND, ..settings() });
        (rig.upstream.fault, rig.upstream.only) = (Some(Fault::Refused), Some("evil"));
        watch(&mut rig, "good/s", 0, 20, 5 * SECOND);
        watch(&mut rig, "evil/s", 100, 20, 5 * SECOND);
        told_each_time(&mut rig, 0, 20, "good/s", 20 * SECOND);
        let begun = rig.now;
        told_each_time(&mut rig, 0, 20, "good/s", 10 * MINUTE);
        let gap = longest_gap(&rig, 0, 20, begun);
        assert!(gap < 10 * SECOND && rig.planner.trouble().is_none(), "{mode:?}: {gap:?}");
        assert!((100..120).all(|number| !rig.watched(number).troubles.is_empty()), "{mode:?}");
    }
}

/// For so long the five tasks of `good/s`, with a period of 5 s, are told of and polled in time, and the connection has no trouble.
fn goes_on(rig: &mut Rig, time: Duration) {
    let begun = rig.now;
    told_each_time(rig, 0, 5, "good/s", time);
    let gap = longest_gap(rig, 0, 5, begun);
    assert!(gap < 10 * SECOND && rig.planner.trouble().is_none(), "{gap:?}");
}

/// Refusals of late make it wait for what it has never been good for, and for nothing else.
#[test]
fn inv_6_a_list_that_the_credential_is_good_for_goes_on_whoever_else_is_refused() {
    let mut rig = Rig::new(Settings { mode: ModeChoice::List, min_period: SECOND, ..settings() });
    (rig.upstream.fault, rig.upstream.only) = (Some(Fault::Refused), Some("evil"));
    watch(&mut rig, "good/s", 0, 5, 5 * SECOND);
    told_each_time(&mut rig, 0, 5, "good/s", 20 * SECOND);
    for (scope, first) in [("evil1/s", 100), ("evil2/s", 200), ("evil3/s", 300)] {
        watch(&mut rig, scope, first, 3, 5 * SECOND);
    }
    goes_on(&mut rig, 4 * MINUTE);
}

#[test]
fn inv_6_a_refusal_is_believed_at_once_where_nothing_is_left_that_was_good() {
    let mut rig = Rig::new(Settings { max_in_flight: 1, ..settings() });
    watch(&mut rig, "a/ended", 0, 1, 5 * SECOND);
    rig.run(10 * SECOND);
    rig.upstream.set(&task("a/ended", 0), TaskState::Succeeded);
    rig.run(10 * SECOND);
    rig.upstream.fault = Some(Fault::Refused);
    let revoked = rig.now;
    // Neither list has ever been had: the other one would prove nothing.
    rig.discover(0, "a/one", 10 * SECOND);
    rig.discover(1, "a/other", 10 * SECOND);
    rig.run(10 * SECOND);
    assert_eq!(rig.count(revoked, |_| true), 1, "{:?}", rig.sent);
    assert_eq!(rig.planner.trouble().unwrap().failure.class, FailureClass::AuthenticationFailed);
}

#[test]
fn inv_6_a_credential_that_is_refused_for_all_is_given_up_after_two() {
    let mut rig = Rig::new(settings());
    watch(&mut rig, "a/s", 0, 5, 10 * SECOND);
    watch(&mut rig, "b/s", 10, 5, 10 * SECOND);
    rig.run(30 * SECOND);
    rig.upstream.fault = Some(Fault::Refused);
    let revoked = rig.now;
    rig.run(30 * SECOND);
    assert!(rig.count(revoked, |_| true) <= 2, "one, and one to confirm it: {:?}", rig.sent);
    assert_eq!(rig.planner.trouble().unwrap().failure.class, FailureClass::AuthenticationFailed);
    rig.run(10 * MINUTE);
    // No task is asked twice running: what a silence came from is not what is asked first after it.
    let asked: Vec<_> = rig.sent.iter().filter(|(at, _)| *at >= revoked).map(|(_, kind)| kind.clone()).collect();
    assert!(asked.len() >= 4 && asked.windows(2).all(|two| two[0] != two[1]), "{asked:?}");
    assert!((0..5).chain(10..15).all(|number| rig.watched(number).troubles.len() == 1));
}

#[test]
fn inv_4_tenants_share_a_budget_that_does_not_suffice() {
    let mut rig = Rig::new(Settings { min_period: SECOND, ..settings() });
    watch(&mut rig, "many/s", 100, 300, 5 * SECOND);
    watch(&mut rig, "few/s", 0, 10, 5 * SECOND);
    rig.run(5 * MINUTE);
    let steady = rig.now;
    told_each_time(&mut rig, 0, 10, "few/s", 5 * MINUTE);
    let gap = longest_gap(&rig, 0, 10, steady);
    assert!(gap <= 8 * SECOND, "{gap:?}");
    let of_many = |kind: &JobKind| matches!(kind, JobKind::Get(task) if task.scope == "many/s");
    let sent = rig.count(steady, of_many);
    assert!(sent > 700, "what the few leave goes to the many: {sent}");
}

#[test]
fn inv_4_a_stream_of_requests_to_look_gets_no_more_than_the_shortest_period() {
    let mut rig = Rig::new(settings());
    watch(&mut rig, "few/s", 0, 10, 5 * SECOND);
    watch(&mut rig, "loud/s", 100, 20, 60 * SECOND);
    rig.run(MINUTE);
    let begun = rig.now;
    for _ in 0..600 {
        for number in 100..120 {
            rig.watch_every(number, &task("loud/s", number), true, 60 * SECOND);
        }
        rig.run(SECOND / 10);
    }
    let loud = |kind: &JobKind| matches!(kind, JobKind::Get(task) if task.scope == "loud/s");
    let sent = rig.count(begun, loud);
    assert!(sent <= 20 * 13, "{sent} in a minute of 20 tasks, none more often than each 5 s");
    let few = |kind: &JobKind| matches!(kind, JobKind::Get(task) if task.scope == "few/s");
    assert!(rig.count(begun, few) >= 100, "{}", rig.count(begun, few));
}

#[test]
fn inv_7_requests_that_are_not_answered_leave_places_to_others() {
    let mut rig = Rig::new(Settings { requests_per_second: 50.0, burst: 50, min_period: SECOND, ..settings() });
    watch(&mut rig, "good/s", 0, 5, 5 * SECOND);
    rig.run(20 * SECOND);
    (rig.upstream.fault, rig.upstream.only) = (Some(Fault::Down), Some("evil"));
    rig.upstream.only_latency = Some(15 * SECOND);
    watch(&mut rig, "evil/s", 100, 100, 5 * SECOND);
    goes_on(&mut rig, 10 * MINUTE);
}

#[test]
fn inv_7_a_first_request_that_is_not_answered_holds_up_no_other_tenant() {
    let mut rig = Rig::new(Settings { requests_per_second: 50.0, burst: 50, min_period: SECOND, ..settings() });
    (rig.upstream.fault, rig.upstream.only) = (Some(Fault::Down), Some("evil"));
    rig.upstream.only_latency = Some(15 * SECOND);
    watch(&mut rig, "evil/s", 100, 1, 5 * SECOND);
    rig.run(SECOND / 10);
    watch(&mut rig, "good/s", 0, 2, 5 * SECOND);
    rig.run(SECOND);
    assert!((0..2).all(|key| !rig.watched(key).seen.is_empty()));
}

#[test]
fn no_more_than_two_lists_are_read_at_a_time() {
    let mut rig = Rig::new(Settings { mode: ModeChoice::List, max_in_flight: 64, min_period: SECOND, ..settings() });
    rig.upstream.latency = 3 * SECOND;
    for scope in 0..20 {
        watch(&mut rig, &format!("t/s{scope}"), scope * 10, 3, 5 * SECOND);
    }
    for _ in 0..600 {
        rig.run(SECOND / 10);
        assert!(rig.in_flight(|kind| matches!(kind, JobKind::List(..))) <= 2);
    }
    assert!((0..20).all(|scope| !rig.watched(scope * 10).seen.is_empty()), "each has its turn");
}

/// The rig adds up, after each step, what each tenant wants.
#[test]
fn what_a_list_wants_of_the_budget_counts_for_those_who_wait_for_it() {
    let mut rig = Rig::new(Settings { mode: ModeChoice::List, min_period: SECOND, ..settings() });
    let watch_as = |rig: &mut Rig, name: &str, number| {
        rig.upstream.set(&task("common", number), TaskState::Running);
        let tenant = Tenant::namespace(&Arc::from(name));
        rig.watch_for(tenant, number, &task("common", number), false, (5 * SECOND, 5 * SECOND));
    };
    watch_as(&mut rig, "one", 0);
    rig.run(MINUTE);
    watch_as(&mut rig, "two", 1);
    rig.run(MINUTE);
    rig.forget(0);
    rig.run(MINUTE);
    let lists = rig.count(rig.start, |kind| matches!(kind, JobKind::List(..)));
    assert!(lists >= 28, "{lists}");
    rig.forget(1);
    rig.run(MINUTE);
    let left = rig.planner.holdings();
    assert!(left.scopes == 0 && left.demand.abs() < 1e-9, "{left:?}");
}

/// A limit of requests for each tenant: the greedy are stretched, the others and the list of all are not.
#[test]
fn no_tenant_sends_more_than_its_limit_and_nobody_else_waits_for_it() {
    let limits = Settings {
        requests_per_second: 50.0,
        burst: 50,
        requests_per_second_of_tenant: Some(2.0),
        min_period: SECOND,
        ..settings()
    };
    let mut rig = Rig::new(limits);
    watch(&mut rig, "greedy/s", 100, 200, SECOND);
    watch(&mut rig, "modest/s", 0, 1, SECOND);
    rig.run(10 * SECOND);
    let begun = rig.now;
    let polls = |rig: &Rig, prefix: &str| {
        rig.count(begun, |kind| matches!(kind, JobKind::Get(task) if task.scope.starts_with(prefix)))
    };
    rig.run(MINUTE);
    let (greedy, modest) = (polls(&rig, "greedy"), polls(&rig, "modest"));
    assert!((100..=125).contains(&greedy), "{greedy}");
    assert!((54..=66).contains(&modest), "{modest}");
    // A list that serves both goes on at its own pace.
    let mut rig = Rig::new(Settings {
        requests_per_second_of_tenant: Some(0.05),
        mode: ModeChoice::List,
        min_period: SECOND,
        ..settings()
    });
    let begun = rig.now;
    for (number, name) in [(0, "one"), (1, "two")] {
        rig.upstream.set(&task("common", number), TaskState::Running);
        let tenant = Tenant::namespace(&Arc::from(name));
        rig.watch_for(tenant, number, &task("common", number), false, (2 * SECOND, 2 * SECOND));
    }
    rig.run(MINUTE);
    let lists = rig.count(begun, |kind| matches!(kind, JobKind::List(..)));
    assert!((24..=34).contains(&lists), "{lists}");
}

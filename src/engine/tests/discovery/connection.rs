//! What becomes of a connection, and what those who discover tasks through it are told then.

use super::super::{
    model,
    rig::{MINUTE, Rig, SECOND, set_key, settings, task},
};
use super::stage::{Fault, Stage, auto, table};
use crate::domain::{failure::FailureClass, task::TaskState};
use crate::engine::{
    Found,
    coalesce::Mode,
    planner::{JobKind, Settings},
};

#[test]
fn who_comes_to_another_scope_of_a_silent_connection_is_told_why() {
    let mut rig = Rig::with_tasks(settings(), 3, false);
    rig.run(SECOND);
    rig.upstream.fault = Some(model::Fault::Limited(Some(100)));
    rig.run(15 * SECOND);
    let silent = rig.now;
    rig.discover(0, "other", 10 * SECOND);
    let told = |rig: &Rig| rig.discoverers[&set_key(0)].told.clone();
    let first = told(&rig);
    assert!(
        matches!(first.as_slice(), [Found::Trouble { failure, .. }] if failure.class == FailureClass::RateLimited),
        "at once: {first:?}"
    );
    assert_eq!(rig.count(silent, |_| true), 0);
    rig.upstream.fault = None;
    rig.run(2 * MINUTE);
    assert!(matches!(told(&rig).last(), Some(Found::Listed { .. })));
}

#[test]
fn who_discovers_bears_witness_where_another_tenant_alone_has_caused_a_silence() {
    let mut rig = Rig::new(settings());
    (rig.upstream.fault, rig.upstream.only) = (Some(model::Fault::Refused), Some("evil"));
    rig.upstream.set(&task("evil/s", 0), TaskState::Running);
    rig.watch(0, &task("evil/s", 0), false);
    rig.run(5 * SECOND);
    assert!(rig.planner.trouble().is_some(), "there was nothing else to ask for");
    rig.discover(0, "good/s", 10 * SECOND);
    rig.run(SECOND);
    let told = &rig.discoverers[&set_key(0)].told;
    assert!(matches!(told.as_slice(), [Found::Listed { .. }]), "{told:?}");
    assert!(rig.planner.trouble().is_none());
}

/// The credential may not be risked again so soon for a list for which it has never been good.
#[test]
fn who_discovers_is_told_why_a_list_is_put_off_after_refusals() {
    let mut rig = Rig::new(settings());
    (rig.upstream.fault, rig.upstream.only) = (Some(model::Fault::Refused), Some("evil"));
    for (number, scope) in ["good/s", "evil1/s", "evil2/s", "evil3/s"].into_iter().enumerate() {
        rig.upstream.set(&task(scope, number), TaskState::Running);
        rig.watch(number, &task(scope, number), false);
        rig.run(5 * SECOND);
    }
    let begun = rig.now;
    rig.discover(0, "new/s", 10 * SECOND);
    rig.run(SECOND);
    let told = |rig: &Rig| rig.discoverers[&set_key(0)].told.clone();
    let first = told(&rig);
    assert!(
        matches!(first.as_slice(), [Found::Trouble { failure, .. }] if failure.class == FailureClass::PermissionDenied),
        "{first:?}"
    );
    assert_eq!(rig.count(begun, |kind| matches!(kind, JobKind::List(..))), 0);
    (1..4).for_each(|number| rig.forget(number));
    rig.run(6 * MINUTE);
    assert!(matches!(told(&rig).last(), Some(Found::Listed { .. })), "when the refusals are long ago");
}

#[test]
fn what_was_shown_to_another_credential_is_shown_to_no_newcomer() {
    let mut stage = Stage::discovered(5);
    stage.run(SECOND);
    stage.reconfigure(stage.settings.clone(), true);
    stage.watch(0, false);
    assert!(stage.told.is_empty(), "{:?}", stage.told);
    stage.go_on(SECOND);
    assert_eq!(stage.versions(0), [0]);
}

#[test]
fn trouble_is_not_told_again_where_the_connection_has_led_elsewhere_meanwhile() {
    let mut stage = Stage::discovered(5);
    stage.fault = Some(Fault::Fails(FailureClass::InvalidAnswer));
    stage.run(15 * SECOND);
    assert_eq!(stage.troubles(), [FailureClass::InvalidAnswer]);
    stage.clear();
    stage.reconfigure(Settings { lists: false, ..auto() }, true);
    assert_eq!(stage.last[&0], Found::Unsupported);
    stage.fault = None;
    stage.reconfigure(auto(), true);
    stage.go_on(SECOND);
    assert!(stage.troubles().is_empty(), "{:?}", stage.found);
    assert_eq!(table(stage.listed(0)), stage.shown);
}

#[test]
fn what_was_listed_before_lists_were_not_to_be_had_is_told_to_nobody() {
    let mut stage = Stage::discovered(5);
    for lists in [false, true] {
        stage.reconfigure(Settings { lists, ..auto() }, false);
        assert_eq!(stage.last[&0], Found::Unsupported);
    }
    stage.shown.pop_first();
    stage.run(SECOND);
    assert_eq!(table(stage.listed(0)), stage.shown);
}

/// A list of one page is cheaper than a task and its parts, where these have to be asked for.
#[test]
fn a_list_serves_a_task_with_parts_when_nobody_discovers_any_more() {
    let mut stage = Stage::new(Settings { subtasks: true, ..auto() }, 10);
    stage.discover(0, 10 * SECOND);
    stage.run(SECOND);
    stage.watch(0, false);
    stage.forget_discoverer(0);
    stage.run(MINUTE);
    assert_eq!(stage.planner.mode(), Some(Mode::List));
    assert!(stage.lists() >= 5 && stage.gets() == 0, "{:?}", stage.asked);
}

//! List coalescing: when a list serves a scope, and what becomes of those that it does not show.

use super::{
    model::Fault,
    rig::{MINUTE, Rig, SECOND, settings, task},
};
use crate::domain::{failure::FailureClass, task::TaskState};
use crate::engine::{
    coalesce::{Mode, ModeChoice},
    planner::{JobKind, Settings},
};

fn auto() -> Settings {
    Settings { mode: ModeChoice::Auto, ..settings() }
}

fn is_list(kind: &JobKind) -> bool {
    matches!(kind, JobKind::List(..))
}

fn is_get(kind: &JobKind) -> bool {
    matches!(kind, JobKind::Get(_))
}

#[test]
fn auto_polls_few_singly_and_many_by_a_list_with_hysteresis() {
    let mut rig = Rig::with_tasks(auto(), 4, false);
    rig.run(2 * MINUTE);
    assert_eq!(rig.planner.mode(), Some(Mode::Get));
    assert_eq!(rig.count(rig.start, is_list), 0);
    for number in 4..20 {
        rig.upstream.set(&task("s", number), TaskState::Running);
        rig.watch(number, &task("s", number), false);
    }
    rig.run(MINUTE);
    assert_eq!(rig.planner.mode(), Some(Mode::List));
    let steady = rig.now;
    rig.run(10 * MINUTE);
    assert_eq!(rig.count(steady, is_get), 0);
    assert!((55..67).contains(&rig.count(steady, is_list)));
    // A list costs 1 + 500 bytes; twice what one get costs is within the hysteresis.
    for number in 1..20 {
        rig.forget(number);
    }
    rig.run(MINUTE);
    assert_eq!(rig.planner.mode(), Some(Mode::List), "one list costs no more than one get");
    rig.upstream.page_size = 5;
    for number in 100..110 {
        rig.upstream.set(&task("s", number), TaskState::Running);
    }
    rig.run(MINUTE);
    assert_eq!(rig.planner.mode(), Some(Mode::Get), "six pages for one task");
}

#[test]
fn a_task_missing_from_a_list_gets_one_confirming_get() {
    let mut rig = Rig::with_tasks(auto(), 30, false);
    rig.run(MINUTE);
    let before = rig.now;
    rig.upstream.rows.remove(&task("s", 7));
    while rig.watched(7).missing.is_empty() && rig.now < before + 12 * SECOND {
        rig.run(SECOND / 10);
    }
    let watched = rig.watched(7);
    assert_eq!((watched.missing.len(), watched.troubles.len()), (1, 0));
    assert_eq!(rig.count(before, is_get), 1);
    // Hidden from the list but there: followed singly, until the list shows it again.
    rig.upstream.rows.get_mut(&task("s", 8)).unwrap().hidden_from_list = true;
    rig.upstream.set(&task("s", 7), TaskState::Running);
    rig.run(2 * MINUTE);
    assert!(rig.watched(8).missing.is_empty() && rig.watched(8).seen.len() > 10);
    rig.upstream.set(&task("s", 8), TaskState::Running);
    rig.run(30 * SECOND);
    let healed = rig.now;
    rig.run(5 * MINUTE);
    assert_eq!(rig.count(healed, is_get), 0);
}

#[test]
fn a_refused_continue_is_not_repeated_and_the_rest_is_asked_for_singly() {
    let mut rig = Rig::new(Settings { mode: ModeChoice::List, requests_per_second: 50.0, ..settings() });
    rig.upstream.fault = Some(Fault::ContinueRefused);
    for number in 0..150 {
        rig.upstream.set(&task("s", number), TaskState::Running);
        rig.watch(number, &task("s", number), false);
    }
    rig.run(10 * MINUTE);
    let refused = rig.count(rig.start, |kind| matches!(kind, JobKind::List(_, Some(_))));
    assert!((1..=2).contains(&refused), "{refused}");
    for number in 0..150 {
        assert!(rig.watched(number).seen.len() > 50 && rig.watched(number).missing.is_empty(), "{number}");
    }
}

#[test]
fn a_later_page_that_never_comes_starves_nobody() {
    for fault in [Fault::LaterPagesDown, Fault::ListDown, Fault::GarbageList, Fault::HugeList, Fault::RepeatedCursor] {
        let mut rig = Rig::with_tasks(Settings { requests_per_second: 50.0, ..auto() }, 150, false);
        rig.run(MINUTE);
        rig.upstream.fault = Some(fault);
        rig.run(4 * MINUTE);
        let steady = rig.now;
        rig.run(2 * MINUTE);
        for number in 0..150 {
            let watched = rig.watched(number);
            assert!(watched.seen.last().is_some_and(|at| *at > steady), "{fault:?}: {number}");
            assert!(watched.missing.is_empty());
        }
    }
    // Where lists are all that is allowed, those who are not shown are told so.
    let mut rig = Rig::with_tasks(Settings { mode: ModeChoice::List, ..auto() }, 150, false);
    rig.run(MINUTE);
    rig.upstream.fault = Some(Fault::LaterPagesDown);
    rig.run(5 * MINUTE);
    assert_eq!(rig.watched(149).troubles.last().unwrap().1, FailureClass::UpstreamUnavailable);
    assert!(rig.watched(0).troubles.is_empty());
}

#[test]
fn new_watches_in_list_mode_are_served_at_once() {
    let mut rig = Rig::with_tasks(Settings { max_period: MINUTE, ..auto() }, 200, false);
    rig.run(5 * MINUTE);
    assert_eq!(rig.planner.mode(), Some(Mode::List));
    for number in 1000..1004 {
        rig.upstream.set(&task("s", number), TaskState::Running);
        rig.watch_every(number, &task("s", number), false, MINUTE);
    }
    let before = rig.now;
    rig.run(SECOND);
    assert_eq!(rig.count(before, is_get), 4);
    assert!((1000..1004).all(|number| !rig.watched(number).seen.is_empty()));
    for number in 2000..2500 {
        rig.upstream.set(&task("s", number), TaskState::Running);
        rig.watch_every(number, &task("s", number), false, MINUTE);
    }
    let before = rig.now;
    rig.run(5 * SECOND);
    assert!(rig.count(before, is_get) <= 8, "{}", rig.count(before, is_get));
    assert!((2000..2500).all(|number| !rig.watched(number).seen.is_empty()));
}

#[test]
fn sub_tasks_come_by_their_own_request_or_not_at_all() {
    for fault in [None, Some(Fault::FilterIgnored), Some(Fault::SubtasksRefused), Some(Fault::SubtasksGarbage)] {
        let mut rig = Rig::with_tasks(Settings { subtasks: true, ..settings() }, 3, false);
        rig.upstream.fault = fault;
        rig.run(2 * MINUTE);
        let asked = rig.count(rig.start, |kind| matches!(kind, JobKind::Subtasks(_)));
        let gets = rig.count(rig.start, is_get);
        assert!((30..45).contains(&gets), "{gets}");
        assert!(if fault == Some(Fault::SubtasksRefused) { asked <= 3 } else { asked + 3 >= gets }, "{asked}");
        assert!((0..3).all(|number| rig.watched(number).troubles.is_empty() && !rig.watched(number).seen.is_empty()));
    }
}

#[test]
fn sub_tasks_come_with_the_list() {
    let mut rig = Rig::with_tasks(Settings { subtasks: true, ..auto() }, 50, false);
    rig.run(MINUTE);
    rig.upstream.children_in_lists = true;
    let before = rig.now;
    rig.run(MINUTE);
    assert_eq!(rig.count(before, |kind| !is_list(kind)), 0);
    assert_eq!(rig.watched(3).parts, 1);
}

#[test]
fn ten_thousand_watches_start_with_a_few_requests() {
    for known in [false, true] {
        let mut rig = Rig::new(auto());
        rig.upstream.page_size = 1000;
        for number in 0..10_000 {
            rig.upstream.set(&task("s", number), TaskState::Running);
            rig.watch(number, &task("s", number), known);
        }
        rig.run(10 * SECOND);
        assert!((0..10_000).all(|number| !rig.watched(number).seen.is_empty()));
        assert!(rig.sent.len() <= 36, "{}", rig.sent.len());
    }
}

#[test]
fn a_list_in_progress_ends_with_its_last_watch() {
    let mut rig = Rig::with_tasks(Settings { mode: ModeChoice::List, ..auto() }, 500, false);
    rig.upstream.latency = SECOND;
    rig.run(SECOND * 7 / 2);
    for number in 0..500 {
        rig.forget(number);
    }
    let forgotten = rig.now;
    rig.run(MINUTE);
    assert_eq!(rig.count(forgotten, |_| true), 0);
    assert!(rig.planner.holdings().scopes == 0);
}

#[test]
fn a_change_of_mode_is_carried_out() {
    let mut rig = Rig::with_tasks(Settings { requests_per_second: 50.0, ..auto() }, 100, false);
    rig.run(MINUTE);
    for (mode, polled) in [(ModeChoice::Get, Mode::Get), (ModeChoice::List, Mode::List), (ModeChoice::Auto, Mode::List)]
    {
        rig.reconfigure(Settings { mode, ..rig.settings.clone() }, false);
        rig.run(30 * SECOND);
        assert_eq!(rig.planner.mode(), Some(polled));
        let steady = rig.now;
        rig.run(MINUTE);
        assert_eq!(rig.count(steady, is_list) == 0, polled == Mode::Get);
        assert_eq!(rig.count(steady, is_get) == 0, polled == Mode::List);
    }
}

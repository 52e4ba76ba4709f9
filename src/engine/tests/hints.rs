//! `Retry-After` on a good answer: a hint for the next look at its task, and for nothing else.

use std::time::Duration;

use super::{
    model::Fault,
    rig::{MINUTE, Rig, SECOND, settings, task},
};
use crate::domain::task::TaskState;
use crate::engine::{
    coalesce::ModeChoice,
    planner::{JobKind, Settings},
};

/// Tasks 0 and 1, each of a scope of its own, with periods from 10 to 60 s; only the good answers about the first have hints.
fn rig(settings: Settings, hint: u64) -> Rig {
    let mut rig = Rig::new(settings);
    rig.upstream.only = Some("hinted");
    rig.upstream.fault = Some(Fault::Hinted(hint));
    for (number, scope) in ["hinted", "other"].into_iter().enumerate() {
        rig.upstream.set(&task(scope, number), TaskState::Running);
        rig.watch_between(number, &task(scope, number), false, (10 * SECOND, MINUTE));
    }
    rig
}

/// The times between the looks at a task, in seconds.
fn gaps(rig: &Rig, number: usize) -> Vec<f64> {
    let is_it = |kind: &JobKind| matches!(kind, JobKind::Get(of) if **of == rig.watched(number).task);
    let asked: Vec<_> = rig.sent.iter().filter(|(_, kind)| is_it(kind)).map(|(at, _)| *at).collect();
    asked.windows(2).map(|two| (two[1] - two[0]).as_secs_f64()).collect()
}

#[test]
fn a_hint_moves_the_next_look_at_its_task_within_the_periods_and_delays_no_other() {
    for (hint, least, most) in [(0, 9.0, 11.5), (3, 9.0, 11.5), (40, 40.0, 44.0), (60, 60.0, 66.0), (3600, 60.0, 66.0)]
    {
        for subtasks in [false, true] {
            let mut rig = rig(Settings { subtasks, ..settings() }, hint);
            rig.run(5 * MINUTE);
            let (hinted, other) = (gaps(&rig, 0), gaps(&rig, 1));
            let fits = |gap: &f64| (least..most).contains(gap);
            assert!(hinted.len() >= 4 && hinted.iter().all(fits), "{hint}: {hinted:?}");
            assert!(other[..5].iter().all(|gap| *gap < 12.0), "{hint}: {other:?}");
            assert!(rig.planner.trouble().is_none() && rig.watched(0).troubles.is_empty());
        }
    }
}

#[test]
fn a_hint_is_for_one_look() {
    let mut rig = rig(settings(), 50);
    rig.run(SECOND);
    rig.upstream.fault = None;
    rig.run(2 * MINUTE);
    let gaps = gaps(&rig, 0);
    assert!(gaps[0] >= 50.0 && gaps[1..3].iter().all(|gap| *gap < 14.0), "{gaps:?}");
}

#[test]
fn a_requested_look_does_not_wait_for_the_hint() {
    let mut rig = rig(settings(), 60);
    rig.run(12 * SECOND);
    let requested = rig.now;
    rig.watch_between(0, &task("hinted", 0), true, (10 * SECOND, MINUTE));
    rig.run(SECOND);
    assert_eq!(rig.count(requested, |kind| matches!(kind, JobKind::Get(of) if of.scope == "hinted")), 1);
}

#[test]
fn a_good_answer_that_comes_after_a_renewal_silences_nothing() {
    let mut rig = rig(settings(), 60);
    rig.upstream.latency = 2 * SECOND;
    rig.run(SECOND);
    assert_eq!(rig.in_flight(|kind| matches!(kind, JobKind::Get(of) if of.scope == "hinted")), 1);
    rig.reconfigure(settings(), true);
    rig.run(15 * SECOND);
    assert!((0..2).all(|number| !rig.watched(number).seen.is_empty()), "both are asked for again");
}

/// Whoever waits for the list would wait with it; and no one task is meant.
#[test]
fn the_hint_of_a_list_is_not_heeded() {
    let mut rig = Rig::with_tasks(Settings { mode: ModeChoice::List, ..settings() }, 30, false);
    rig.run(MINUTE);
    rig.upstream.fault = Some(Fault::Hinted(300));
    let steady = rig.now;
    rig.run(5 * MINUTE);
    let lists = rig.count(steady, |kind| matches!(kind, JobKind::List(..)));
    assert!((27..34).contains(&lists), "{lists}");
    let longest = rig.watched(7).seen.windows(2).map(|two| two[1] - two[0]).max();
    assert!(longest < Some(Duration::from_secs(15)), "{longest:?}");
}

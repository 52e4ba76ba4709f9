//! Random schedules of everything that can happen to a planner. The rig checks the invariants after each step; in the end all
//! faults are mended, and every watch must learn the truth.

use std::time::Duration;

use proptest::{collection::vec, prelude::*};

use super::{
    model::{Fault, Row},
    rig::{MINUTE, Rig, SECOND, settings, task},
};
use crate::domain::task::{TaskRef, TaskState};
use crate::engine::{coalesce::ModeChoice, job::Settings};

const WATCHES: usize = 40;
const TASKS: usize = 60;

#[derive(Clone, Debug)]
enum Op {
    Watch(usize, usize, bool),
    WatchMany(usize),
    Forget(usize),
    ForgetMany(usize),
    Advance(Duration),
    Fault(Option<Fault>, u64),
    Latency(Duration),
    State(usize, TaskState),
    Vanish(usize),
    Hide(usize),
    Pages(usize),
    Parts(bool),
    TokenLife(Option<u64>, u64),
    Reconfigure(Settings, bool),
}

fn number_to_task(number: usize) -> TaskRef {
    task(if number.is_multiple_of(4) { "other" } else { "s" }, number)
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::Down),
        Just(Fault::Refused),
        Just(Fault::Forbidden),
        proptest::option::of(0..90u64).prop_map(Fault::Limited),
        (0..90u64).prop_map(Fault::Overloaded),
        Just(Fault::GarbageList),
        Just(Fault::HugeList),
        Just(Fault::ListDown),
        Just(Fault::LaterPagesDown),
        Just(Fault::ContinueRefused),
        Just(Fault::RepeatedCursor),
        Just(Fault::DuplicatedItems),
        Just(Fault::MissingItems),
        Just(Fault::SubtasksRefused),
        Just(Fault::FilterIgnored),
        Just(Fault::TokenDown),
        Just(Fault::TokenRefused),
        Just(Fault::TokenNotFound),
    ]
}

fn state() -> impl Strategy<Value = TaskState> {
    prop_oneof![
        Just(TaskState::Pending),
        Just(TaskState::Running),
        Just(TaskState::Paused),
        Just(TaskState::Succeeded),
        Just(TaskState::Failed)
    ]
}

prop_compose! {
    fn bounds()(
        requests_per_second in 1..20u32,
        burst in 1..20u32,
        max_in_flight in 1..9usize,
        mode in prop_oneof![Just(ModeChoice::Auto), Just(ModeChoice::List), Just(ModeChoice::Get)],
        lists in prop::bool::weighted(0.8),
        subtasks in any::<bool>(),
        exchanges in any::<bool>(),
    ) -> Settings {
        let requests_per_second = f64::from(requests_per_second);
        Settings { requests_per_second, burst, max_in_flight, mode, lists, subtasks, exchanges, ..settings() }
    }
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..WATCHES, 0..TASKS, any::<bool>()).prop_map(|(key, task, known)| Op::Watch(key, task, known)),
        1 => (0..WATCHES).prop_map(Op::WatchMany),
        3 => (0..WATCHES).prop_map(Op::Forget),
        1 => (0..WATCHES).prop_map(Op::ForgetMany),
        6 => (0..3000u64).prop_map(|millis| Op::Advance(Duration::from_millis(millis))),
        6 => (1..100u64).prop_map(|seconds| Op::Advance(Duration::from_secs(seconds))),
        4 => (proptest::option::weighted(0.7, fault()), 1..4u64).prop_map(|(fault, every)| Op::Fault(fault, every)),
        1 => (1..8000u64).prop_map(|millis| Op::Latency(Duration::from_millis(millis))),
        4 => (0..TASKS, state()).prop_map(|(task, state)| Op::State(task, state)),
        1 => (0..TASKS).prop_map(Op::Vanish),
        1 => (0..TASKS).prop_map(Op::Hide),
        1 => (1..40usize).prop_map(Op::Pages),
        1 => any::<bool>().prop_map(Op::Parts),
        1 => (proptest::option::of(0..300u64), 20..300u64).prop_map(|(said, real)| Op::TokenLife(said, real)),
        1 => (bounds(), any::<bool>()).prop_map(|(bounds, renewed)| Op::Reconfigure(bounds, renewed)),
    ]
}

fn apply(rig: &mut Rig, op: Op) {
    match op {
        Op::Watch(key, number, known) => rig.watch(key, &number_to_task(number), known),
        Op::WatchMany(from) => (from..WATCHES).for_each(|key| rig.watch(key, &number_to_task(key), false)),
        Op::Forget(key) => rig.forget(key),
        Op::ForgetMany(from) => (from..WATCHES).for_each(|key| rig.forget(key)),
        Op::Advance(span) => rig.run(span),
        Op::Fault(fault, every) => (rig.upstream.fault, rig.upstream.every) = (fault, every),
        Op::Latency(latency) => rig.upstream.latency = latency,
        Op::State(number, state) => rig.upstream.set(&number_to_task(number), state),
        Op::Vanish(number) => drop(rig.upstream.rows.remove(&number_to_task(number))),
        Op::Hide(number) => {
            let row = Row { state: TaskState::Running, hidden_from_list: true };
            rig.upstream.rows.insert(number_to_task(number), row);
        }
        Op::Pages(size) => rig.upstream.page_size = size,
        Op::Parts(shown) => rig.upstream.children_in_lists = shown,
        Op::TokenLife(said, real) => {
            rig.upstream.token_life = (said.map(Duration::from_secs), Duration::from_secs(real));
        }
        Op::Reconfigure(settings, renewed) => {
            // Another kind of credential is another credential.
            let renewed = renewed || settings.exchanges != rig.settings.exchanges;
            rig.reconfigure(settings, renewed);
        }
    }
}

fn mend(rig: &mut Rig) {
    rig.upstream.fault = None;
    rig.upstream.latency = SECOND / 20;
    rig.upstream.token_life = (Some(60 * MINUTE), 60 * MINUTE);
    for number in 0..TASKS {
        let task = number_to_task(number);
        rig.upstream.rows.entry(task).or_insert(Row { state: TaskState::Running, hidden_from_list: false });
    }
    // The longest hold: a quarter of an hour for a credential, then one more for a token that dies at once.
    rig.run(35 * MINUTE);
    // Without anything to poll, what was wrong last stays the last that is known.
    let is_polling = rig.watches.values().any(|watched| !watched.finished);
    assert!(!is_polling || rig.planner.trouble().is_none(), "{:?}", rig.planner.trouble());
    let steady = rig.now;
    rig.run(15 * MINUTE);
    for (key, watched) in &rig.watches {
        if watched.finished {
            continue;
        }
        let state = rig.upstream.rows[&watched.task].state;
        assert!(!state.is_finished(), "{key:?} has not been told of the end");
        assert!(watched.seen.last().is_some_and(|at| *at > steady), "{key:?} starves: {watched:?}");
    }
    for state in [TaskState::Succeeded, TaskState::Failed] {
        rig.upstream.rows.values_mut().for_each(|row| row.state = state);
        rig.run(15 * MINUTE);
        assert!(rig.watches.values().all(|watched| watched.finished));
    }
    let quiet = rig.now;
    rig.run(60 * MINUTE);
    assert_eq!(rig.count(quiet, |_| true), 0);
    assert!(rig.planner.schedule.waiting() == (0, 0) && !rig.planner.schedule.has_steps());
    (0..WATCHES).for_each(|key| rig.forget(key));
    assert!(rig.planner.tasks.is_empty() && rig.planner.scopes.is_empty());
    assert!(rig.planner.demand.total().abs() < 1e-6, "{}", rig.planner.demand.total());
}

proptest! {
    // A quarter of the usual 256, or of PROPTEST_CASES: each case lives through hours.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases / 4,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn all_invariants_hold_in_any_schedule(bounds in bounds(), ops in vec(op(), 1..120)) {
        let mut rig = Rig::new(bounds);
        for number in 0..TASKS {
            rig.upstream.set(&number_to_task(number), TaskState::Running);
        }
        for op in ops {
            apply(&mut rig, op);
        }
        mend(&mut rig);
    }
}

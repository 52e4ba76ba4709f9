//! Random schedules of everything that can happen to a planner. The rig checks the invariants after each step; in the end all
//! faults are mended, and every watch must learn the truth.

use std::{collections::BTreeMap, time::Duration};

use proptest::{collection::vec, prelude::*};

use super::{
    model::{Fault, Row},
    rig::{MINUTE, Rig, SECOND, settings, task},
};
use crate::domain::task::{TaskRef, TaskState};
use crate::engine::{Found, coalesce::ModeChoice, planner::Settings};

const WATCHES: usize = 40;
const TASKS: usize = 60;
const DISCOVERERS: usize = 4;

#[derive(Clone, Debug)]
enum Op {
    Watch(usize, usize, bool),
    WatchMany(usize),
    Forget(usize),
    Discover(usize, bool, u64),
    ForgetDiscoverer(usize),
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
        Just(Fault::SubtasksGarbage),
        Just(Fault::FilterIgnored),
        Just(Fault::TokenDown),
        Just(Fault::TokenRefused),
        Just(Fault::TokenNotFound),
        (0..400u64).prop_map(Fault::Hinted),
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
        2 => (0..DISCOVERERS, any::<bool>(), 1..60u64).prop_map(|(key, other, period)| Op::Discover(key, other, period)),
        1 => (0..DISCOVERERS).prop_map(Op::ForgetDiscoverer),
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
        Op::Discover(key, other, period) => {
            rig.discover(key, if other { "other" } else { "s" }, Duration::from_secs(period));
        }
        Op::ForgetDiscoverer(key) => rig.forget_discoverer(key),
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
    // The longest silence: a quarter of an hour for a credential, then one more for a token that dies at once.
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
    assert_discovered(rig);
    for state in [TaskState::Succeeded, TaskState::Failed] {
        rig.upstream.rows.values_mut().for_each(|row| row.state = state);
        rig.run(15 * MINUTE);
        assert!(rig.watches.values().all(|watched| watched.finished));
    }
    assert_discovered(rig);
    (0..DISCOVERERS).for_each(|key| rig.forget_discoverer(key));
    let quiet = rig.now;
    rig.run(60 * MINUTE);
    assert_eq!(rig.count(quiet, |_| true), 0);
    let left = rig.planner.holdings();
    assert!(left.waiting == (0, 0) && !left.has_steps);
    (0..WATCHES).for_each(|key| rig.forget(key));
    let left = rig.planner.holdings();
    assert!(left.tasks == 0 && left.scopes == 0);
    assert!(left.demand.abs() < 1e-6, "{}", left.demand);
}

/// Each discoverer knows the tasks that the list of its scope shows, and no others.
fn assert_discovered(rig: &Rig) {
    for (key, discovering) in &rig.discoverers {
        let Some(Found::Listed { catalogue, .. }) = discovering.told.last().filter(|_| rig.settings.lists) else {
            assert!(!rig.settings.lists, "{key}: {discovering:?}");
            assert!(matches!(discovering.told.last(), Some(Found::Unsupported)), "{key}: {discovering:?}");
            continue;
        };
        let tops = catalogue.iter().filter(|task| task.parent_id.is_none());
        let found: BTreeMap<_, _> = tops.map(|task| (task.id.to_string(), task.state)).collect();
        let is_listed = |(task, row): &(&TaskRef, &Row)| task.scope == discovering.scope && !row.hidden_from_list;
        let rows = rig.upstream.rows.iter().filter(is_listed);
        assert_eq!(found, rows.map(|(task, row)| (task.id.clone(), row.state)).collect(), "{key}");
        let parts = if rig.upstream.children_in_lists { found.len() } else { 0 };
        assert_eq!(catalogue.len() - found.len(), parts, "{key}");
    }
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
        mend(&mut after(bounds, ops));
    }
}

/// The beginning of a schedule that the test above has found: the rig, its upstream's tasks running, after these steps.
fn after(bounds: Settings, ops: impl IntoIterator<Item = Op>) -> Rig {
    let mut rig = Rig::new(bounds);
    for number in 0..TASKS {
        rig.upstream.set(&number_to_task(number), TaskState::Running);
    }
    for op in ops {
        apply(&mut rig, op);
    }
    rig
}

fn plain(
    requests_per_second: f64,
    burst: u32,
    max_in_flight: usize,
    mode: ModeChoice,
    lists: bool,
    subtasks: bool,
    exchanges: bool,
) -> Settings {
    Settings { requests_per_second, burst, max_in_flight, mode, lists, subtasks, exchanges, ..settings() }
}

fn advance(seconds: f64) -> Op {
    Op::Advance(Duration::from_secs_f64(seconds))
}

/// The list was refused, what was asked to find out why was answered with "overloaded", and all tasks waited for the
/// list.
#[test]
fn a_doubt_that_nothing_is_left_to_decide_ends() {
    let bounds = |rate, burst, most, lists, subtasks, exchanges| {
        plain(rate, burst, most, ModeChoice::Auto, lists, subtasks, exchanges)
    };
    let slow = bounds(1.0, 1, 1, false, false, false);
    let watches = |of: &[(usize, usize, bool)]| of.iter().map(|w| Op::Watch(w.0, w.1, w.2)).collect::<Vec<_>>();
    let ops = [
        vec![Op::Reconfigure(bounds(2.0, 5, 2, false, true, true), false)],
        watches(&[(10, 0, true), (25, 1, false)]),
        vec![advance(22.0), Op::Watch(26, 2, false), advance(104.001), Op::Pages(15), advance(13.0)],
        watches(&[(3, 5, true), (14, 6, true), (11, 7, false), (0, 9, false), (4, 10, false)]),
        vec![advance(240.0), Op::TokenLife(None, 95), advance(6.553)],
        watches(&[(0, 17, false), (0, 1, false)]),
        vec![Op::Reconfigure(slow.clone(), false), advance(0.0), Op::ForgetMany(4), Op::Watch(0, 13, false)],
        vec![Op::Reconfigure(bounds(6.0, 2, 1, true, false, true), false), advance(5.612)],
        vec![Op::Latency(Duration::from_millis(4167)), advance(93.978)],
        vec![Op::Fault(Some(Fault::Overloaded(0)), 2), advance(2.0)],
    ];
    mend(&mut after(slow, ops.into_iter().flatten()));
}

/// A request that is sent at the very moment when a refusal comes is one more.
#[test]
fn a_refusal_of_what_was_asked_at_the_moment_of_the_last_one_counts() {
    let bounds = |burst, most, mode, lists| plain(1.0, burst, most, mode, lists, false, false);
    let watch = |key, task| Op::Watch(key, task, false);
    let ops = [
        vec![watch(23, 41), advance(91.749), watch(6, 1), Op::Latency(Duration::from_millis(5681))],
        vec![Op::Watch(17, 52, true), advance(32.061), watch(0, 0), watch(0, 2), advance(78.0), watch(0, 2)],
        vec![Op::Reconfigure(bounds(2, 2, ModeChoice::Auto, false), true), watch(0, 2), advance(0.0)],
        vec![Op::Fault(Some(Fault::Refused), 2), watch(0, 0), advance(244.0)],
    ];
    mend(&mut after(bounds(1, 3, ModeChoice::List, true), ops.into_iter().flatten()));
}

/// A token ends unsaid in the middle of a list, and what had been good with it is not asked for any more.
#[test]
fn a_doubt_ends_though_nothing_bears_witness() {
    let latency = |millis| Op::Latency(Duration::from_millis(millis));
    let watch = |key, task| Op::Watch(key, task, false);
    let ops = [
        vec![latency(240), watch(37, 0), Op::Watch(2, 38, true), watch(14, 16), advance(2.288), latency(1259)],
        vec![Op::Vanish(52), Op::Watch(39, 17, true), advance(1.097), watch(4, 45), Op::Pages(1)],
        vec![Op::TokenLife(None, 29), Op::Fault(Some(Fault::Overloaded(1)), 3), advance(81.411), watch(8, 52)],
        vec![advance(12.0), Op::ForgetMany(12)],
        vec![Op::Reconfigure(plain(18.0, 19, 1, ModeChoice::List, true, false, true), true)],
        vec![advance(119.0), Op::WatchMany(5)],
    ];
    mend(&mut after(plain(9.0, 1, 3, ModeChoice::Auto, false, true, false), ops.into_iter().flatten()));
}

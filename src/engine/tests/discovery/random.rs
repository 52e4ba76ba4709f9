//! Random schedules of lists, their faults, watches and discoverers. The stage checks after each whole list that every discoverer knows
//! exactly what it has shown; in the end all is mended, and everybody must know the truth.

use std::time::Duration;

use proptest::{collection::vec, prelude::*};

use super::{
    super::rig::{MINUTE, SECOND, key},
    stage::{Fault, Stage, auto, id, item, table},
};
use crate::domain::{failure::FailureClass, task::TaskState};
use crate::engine::{Found, coalesce::ModeChoice, planner::Settings};

const TASKS: usize = 40;
const DISCOVERERS: usize = 3;

#[derive(Clone, Debug)]
enum Op {
    Change(usize),
    End(usize),
    Vanish(usize),
    Part(usize),
    Pages(usize),
    Fault(Option<Fault>),
    Watch(usize, bool),
    Forget(usize),
    Discover(usize, u64),
    ForgetDiscoverer(usize),
    Advance(Duration),
    Reconfigure(bool, bool, ModeChoice, u32),
}

fn class() -> impl Strategy<Value = FailureClass> {
    prop_oneof![
        Just(FailureClass::UpstreamUnavailable),
        Just(FailureClass::InvalidAnswer),
        Just(FailureClass::InvalidRequest),
        Just(FailureClass::PermissionDenied),
        Just(FailureClass::RateLimited),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        class().prop_map(Fault::Fails),
        class().prop_map(Fault::LaterFails),
        Just(Fault::Endless),
        Just(Fault::Empty)
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let mode = prop_oneof![Just(ModeChoice::Auto), Just(ModeChoice::List), Just(ModeChoice::Get)];
    prop_oneof![
        6 => (0..TASKS).prop_map(Op::Change),
        3 => (0..TASKS).prop_map(Op::End),
        4 => (0..TASKS).prop_map(Op::Vanish),
        2 => (0..TASKS).prop_map(Op::Part),
        1 => (1..30usize).prop_map(Op::Pages),
        3 => proptest::option::weighted(0.6, fault()).prop_map(Op::Fault),
        5 => (0..TASKS, any::<bool>()).prop_map(|(task, requested)| Op::Watch(task, requested)),
        2 => (0..TASKS).prop_map(Op::Forget),
        4 => (0..DISCOVERERS, 1..40u64).prop_map(|(key, period)| Op::Discover(key, period)),
        2 => (0..DISCOVERERS).prop_map(Op::ForgetDiscoverer),
        8 => (0..4000u64).prop_map(|millis| Op::Advance(Duration::from_millis(millis))),
        4 => (1..60u64).prop_map(|seconds| Op::Advance(Duration::from_secs(seconds))),
        1 => (prop::bool::weighted(0.8), any::<bool>(), mode, 1..10u32)
            .prop_map(|(lists, renewed, mode, rate)| Op::Reconfigure(lists, renewed, mode, rate)),
    ]
}

fn apply(stage: &mut Stage, op: &Op) {
    let touch = |stage: &mut Stage, number: usize| {
        let item = stage.shown.entry(id(number)).or_insert(item(0));
        item.version = (item.version + 1) % 100;
        item.state = TaskState::Running;
    };
    match *op {
        Op::Change(number) => touch(stage, number),
        Op::End(number) => {
            touch(stage, number);
            stage.shown.get_mut(&id(number)).unwrap().state = TaskState::Failed;
        }
        Op::Vanish(number) => drop(stage.shown.remove(&id(number))),
        Op::Part(number) => {
            touch(stage, number);
            stage.shown.get_mut(&id(number)).unwrap().parent = (number > 0).then(|| id(number / 2));
        }
        Op::Pages(size) => stage.page_size = size,
        Op::Fault(fault) => stage.fault = fault,
        Op::Watch(number, requested) => stage.watch(number, requested),
        Op::Forget(number) => stage.planner.forget(&key(number)),
        Op::Discover(number, period) => stage.discover(number, Duration::from_secs(period)),
        Op::ForgetDiscoverer(number) => stage.forget_discoverer(number),
        Op::Advance(span) => stage.go_on(span),
        Op::Reconfigure(lists, renewed, mode, rate) => {
            let bounds = Settings { lists, mode, requests_per_second: f64::from(rate), ..stage.settings.clone() };
            stage.reconfigure(bounds, renewed);
        }
    }
    stage.planner.assert_in_step();
}

fn mend(stage: &mut Stage) {
    stage.fault = None;
    stage.go_on(30 * MINUTE);
    for number in 0..DISCOVERERS {
        match stage.last.get(&number) {
            None => {}
            Some(Found::Unsupported) => assert!(!stage.settings.lists),
            Some(_) => assert_eq!(table(stage.listed(number)), stage.shown, "{number}"),
        }
        stage.forget_discoverer(number);
    }
    (0..TASKS).for_each(|number| stage.planner.forget(&key(number)));
    stage.run(MINUTE);
    assert!(stage.asked.is_empty(), "{:?}", stage.asked);
    let left = stage.planner.holdings();
    assert!(left.scopes == 0 && left.tasks == 0 && left.waiting == (0, 0) && left.demand.abs() < 1e-6, "{left:?}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases / 2,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whoever_discovers_knows_what_the_last_whole_list_has_shown(ops in vec(op(), 1..120)) {
        let mut stage = Stage::new(Settings { requests_per_second: 3.0, burst: 3, min_period: SECOND, ..auto() }, TASKS);
        stage.page_size = 10;
        for op in &ops {
            apply(&mut stage, op);
        }
        mend(&mut stage);
    }
}

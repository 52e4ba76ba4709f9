//! Who discovers the tasks of a scope and then watches one of them.

use std::time::Duration;

use super::super::rig::{MINUTE, SECOND, set_key};
use super::stage::{Stage, id, item};
use crate::domain::task::TaskRef;
use crate::engine::{Report, Subscription};
use crate::tenancy::Tenant;

/// The discoverer of this number watches a task from now on.
fn choose(stage: &mut Stage, discoverer: usize, task: usize) {
    let watch = Subscription {
        tenant: Tenant::shared(),
        task: TaskRef { scope: "s".into(), id: id(task) },
        period: 10 * SECOND,
        max_period: 10 * SECOND,
        age: Duration::ZERO,
        known: false,
        requested: false,
        ticket: 1,
    };
    stage.planner.watch(set_key(discoverer), &watch, stage.now);
    stage.is_no_discoverer(discoverer);
}

#[test]
fn who_watches_a_task_that_it_has_discovered_discovers_no_longer() {
    let mut stage = Stage::discovered(50);
    stage.run(SECOND);
    choose(&mut stage, 0, 7);
    let told: Vec<_> = stage.told.iter().map(|delivery| (&delivery.key, delivery.report.clone())).collect();
    assert!(
        matches!(told.as_slice(), [(key, Report::Seen { task, .. })] if **key == set_key(0) && task.id == id(7)),
        "from the list, at once: {told:?}"
    );
    assert!(stage.asked.is_empty());
    stage.run(MINUTE);
    assert!((1..=7).contains(&stage.asked.len()), "{:?}", stage.asked);
    stage.shown.insert(id(8), item(9));
    stage.shown.insert(id(7), item(3));
    stage.run(11 * SECOND);
    assert!(stage.found.is_empty() && stage.told.len() == 1, "of that task alone: {:?}", stage.told);
    stage.planner.forget(&set_key(0));
    stage.run(MINUTE);
    assert!(stage.asked.is_empty(), "nobody wants anything");
}

#[test]
fn others_who_discover_go_on() {
    let mut stage = Stage::discovered(50);
    stage.discover(1, 10 * SECOND);
    stage.run(SECOND);
    choose(&mut stage, 0, 7);
    stage.shown.insert(id(8), item(9));
    stage.run(11 * SECOND);
    assert_eq!((stage.lists(), stage.gets(), stage.found.len()), (1, 0, 1));
    assert_eq!(stage.found[0].key, set_key(1));
}

/// It may be told to watch while it is discovering, and to discover again, as where its connection is another one by now.
#[test]
fn the_newest_of_what_one_wants_counts() {
    let mut stage = Stage::discovered(5);
    choose(&mut stage, 0, 3);
    stage.run(SECOND);
    stage.discover(0, 10 * SECOND);
    stage.run(MINUTE);
    assert_eq!(stage.gets(), 0);
    stage.shown.insert(id(3), item(1));
    stage.run(11 * SECOND);
    assert_eq!((stage.told.len(), stage.found.len()), (0, 1));
}

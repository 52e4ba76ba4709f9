//! How long a task took is told once.

use std::time::Duration;

use super::{super::Ended, News, TaskState, World, at, running, task};
use crate::domain::task::Task;

/// It began before the watch was created, and has ended `after` seconds from then.
fn ended(state: TaskState, after: i64) -> News {
    News::Seen(Task { start_time: Some(at(-60)), completion_time: Some(at(after)), ..task(state) })
}

#[test]
fn the_first_status_that_shows_an_end_tells_how_long_the_task_took() {
    for state in TaskState::ALL.into_iter().filter(|state| state.is_finished()) {
        let mut world = World::new();
        assert_eq!(world.then(1, running(20)).ended, None);
        let told = Some(Ended { state, took: Duration::from_secs(80) });
        assert_eq!(world.then(30, ended(state, 20)).ended, told);
        assert_eq!(world.then(31, ended(state, 20)).ended, None, "once");
        // A refresh, and a restart.
        world.requested_at = Some("1".into());
        world.refreshed = true;
        let again = world.then(40, ended(state, 20));
        assert!(again.status.is_some() && again.ended.is_none(), "{again:?}");
        assert_eq!(world.restart(50).ended, None);
    }
}

#[test]
fn what_the_upstream_does_not_tell_is_not_counted() {
    let mut world = World::new();
    assert_eq!(world.then(1, News::Seen(task(TaskState::Succeeded))).ended, None, "no times");
    let mut world = World::new();
    assert_eq!(world.then(1, ended(TaskState::Failed, -61)).ended, None, "a clock that was set back");
}

//! How often the status of one watch is written.

use super::{FailureClass, News, SignedDuration, TaskState, World, at, running, task};
use crate::api::ReadyWhen;

fn seen(state: TaskState) -> News {
    News::Seen(task(state))
}

/// Lets `news` of each second happen from `from` to `to`, and looks again whenever that was said. Returns when was written.
fn live(world: &mut World, from: i64, to: i64, news: impl Fn(i64) -> News) -> Vec<i64> {
    (from..=to).filter(|secs| world.then(*secs, news(*secs)).status.is_some()).collect()
}

/// Another state with each second.
fn flapping(secs: i64) -> News {
    seen(if secs % 2 == 0 { TaskState::Pending } else { TaskState::Running })
}

#[test]
fn a_flapping_task_is_written_at_a_bounded_pace_and_its_end_at_once() {
    let mut world = World::new();
    let written =
        live(&mut world, 0, 400, |secs| seen(if secs % 3 == 0 { TaskState::Pending } else { TaskState::Paused }));
    for pair in written.windows(2) {
        assert!(pair[1] - pair[0] >= 5, "{written:?}");
    }
    assert_eq!(written.iter().filter(|secs| (0..60).contains(*secs)).count(), 5, "{written:?}");
    assert!(written.iter().filter(|secs| **secs >= 60).count() <= 6, "once a minute: {written:?}");
    assert_eq!(world.then(401, seen(TaskState::Succeeded)).events.len(), 1);
    assert_eq!(world.state(), "Succeeded");
}

#[test]
fn the_newest_observation_is_written_when_its_time_comes() {
    let mut world = World::new();
    world.then(0, seen(TaskState::Pending));
    let held = world.then(1, seen(TaskState::Running));
    assert_eq!((held.status, held.events.len(), held.wake_at), (None, 0, Some(at(5))));
    assert_eq!(world.then(2, seen(TaskState::Paused)).wake_at, Some(at(5)));
    assert!(world.then(5, seen(TaskState::Paused)).status.is_some());
    assert_eq!(world.state(), "Paused");
    // What went and came back meanwhile is no news at all.
    assert_eq!(world.then(6, running(20)).wake_at, Some(at(10)));
    assert_eq!(world.then(7, seen(TaskState::Paused)).wake_at, None);
}

#[test]
fn what_somebody_waits_for_does_not_wait() {
    let mut world = World::new();
    world.then(2, News::None);
    assert_eq!(world.then(3, running(20)).events.len(), 1, "a first observation");
    world.generation = 2;
    world.spec.ready_when = ReadyWhen::Observed;
    assert!(world.then(4, running(20)).status.is_some(), "an edit");
    world.requested_at = Some("now".into());
    world.refreshed = true;
    assert!(world.then(5, seen(TaskState::Paused)).status.is_some(), "a requested look");
    world.then(6, seen(TaskState::Failed));
    assert_eq!(world.state(), "Failed", "an end");
}

#[test]
fn trouble_that_comes_and_goes_is_paced_too() {
    let mut world = World::new();
    let down = |secs| News::Trouble { class: FailureClass::UpstreamUnavailable, since: at(secs) };
    let written = live(&mut world, 0, 600, |secs| if secs % 2 == 0 { down(secs - 100) } else { running(20) });
    assert!(written.len() <= 15, "{written:?}");
}

#[test]
fn calm_brings_the_first_pace_back() {
    let mut world = World::new();
    live(&mut world, 0, 200, flapping);
    let last = world.state().to_owned();
    let other = if last == "Pending" { TaskState::Running } else { TaskState::Pending };
    // Nothing new for two minutes and more.
    let same = seen(if last == "Pending" { TaskState::Pending } else { TaskState::Running });
    live(&mut world, 201, 400, |_| same.clone());
    assert!(world.then(401, seen(other)).status.is_some());
    assert_eq!(world.then(402, same).wake_at, Some(at(406)));
}

#[test]
fn a_task_that_goes_its_way_is_shown_as_it_goes() {
    let mut world = World::new();
    for (secs, state) in [
        (0, TaskState::Pending),
        (6, TaskState::Running),
        (15, TaskState::Paused),
        (40, TaskState::Running),
        (41, TaskState::Succeeded),
    ] {
        assert!(world.then(secs, seen(state)).status.is_some(), "{secs} s: {state:?}");
    }
}

#[test]
fn a_step_of_the_clock_neither_hurries_nor_holds_up() {
    for step in [3600, -3600] {
        let mut world = World::new();
        world.then(0, seen(TaskState::Pending));
        world.pace.step_clock(SignedDuration::from_secs(step));
        assert_eq!(world.then(step + 1, running(20)).wake_at, Some(at(step + 5)));
    }
    // A clock that was ahead, and nobody noticed.
    let mut world = World::new();
    world.then(3600, seen(TaskState::Pending));
    assert!(world.then(1, running(20)).status.is_some());
}

#[test]
fn progress_has_its_own_pace() {
    let mut world = World::new();
    let written = live(&mut world, 0, 300, |secs| running(u8::try_from(secs / 3).unwrap()));
    assert_eq!(written, (0..=300).step_by(30).collect::<Vec<_>>());
}

//! A watch whose task has to be found first.

use super::{FailureClass, News, Reason, Sought, TaskState, Unavailable, World, at, task};
use crate::domain::decide::{Poll, TASK_OBSERVED};

fn sought() -> Sought {
    Sought::Identifier("Waiting for ConfigMap m.".into())
}

/// A watch that waits for the identifier of its task.
fn waiting() -> World {
    let mut world = World::new();
    world.spec.task.id = None;
    world.sought = Some(sought());
    world.then(2, News::None);
    assert_eq!((world.state(), world.shows("Ready").as_str()), ("Pending", "Unknown/AwaitingTaskID"));
    world
}

fn shown(world: &World) -> Option<&str> {
    world.status.as_ref()?.task.as_ref()?.id.as_deref()
}

#[test]
fn what_comes_within_a_moment_is_not_awaited_in_the_status() {
    let mut world = World::new();
    world.spec.task.id = None;
    world.sought = Some(sought());
    let decision = world.then(1, News::None);
    assert_eq!((decision.status, decision.wake_at, decision.poll), (None, Some(at(2)), Poll::Keep));
    assert!(world.then(2, News::None).status.is_some());
    for secs in [3, 60, 6_000] {
        assert_eq!(world.then(secs, News::None).status, None, "it is said once");
    }
    assert_eq!(world.restart(7_000).status, None);
}

#[test]
fn once_it_is_found_it_is_recorded_at_once_and_named_ever_after() {
    let mut world = waiting();
    world.sought = None;
    world.asking_since = at(100);
    let decision = world.then(100, News::None);
    assert!(decision.status.is_some() && decision.events.is_empty());
    assert_eq!(shown(&world), Some("t"), "before anything was seen of it");
    assert_eq!((world.state(), world.shows("Ready").as_str()), ("Unknown", "Unknown/AwaitingObservation"));
    let decision = world.then(101, News::Seen(task(TaskState::Pending)));
    let told: Vec<_> = decision.events.iter().map(|event| event.reason.as_str()).collect();
    assert_eq!((told.as_slice(), shown(&world)), (&[TASK_OBSERVED][..], Some("t")));
    assert_eq!(world.shows("Ready"), "Unknown/TaskPending");
    world.then(102, News::Seen(task(TaskState::Succeeded)));
    assert_eq!((shown(&world), world.verdicts().kstatus.as_str()), (Some("t"), "Current"));
}

#[test]
fn a_task_that_is_named_is_shown_though_nothing_was_seen_of_it() {
    let mut world = World::new();
    world.connection = Err(Unavailable::new(Reason::ConnectionNotFound, "Create it."));
    world.then(2, News::None);
    assert_eq!(shown(&world), Some("t"));
    world.connection = super::USABLE;
    let decision = world.then(3, News::Seen(task(TaskState::Running)));
    assert!(decision.events.iter().any(|event| event.reason == TASK_OBSERVED), "and its first observation is told");
}

/// `Pending` is the word for what is waited for; it says nothing of the task.
#[test]
fn what_is_shown_while_it_is_sought_is_not_taken_for_the_tasks_state() {
    let happens: [fn(&mut World); 3] = [
        |world| {
            world.connection = Err(Unavailable::new(Reason::ConnectionNotFound, "Create it."));
            world.then(60, News::None);
        },
        |world| {
            world.then(60, News::Trouble { class: FailureClass::UpstreamUnavailable, since: at(10) });
        },
        |world| {
            world.sought = Some(Sought::Unusable(Unavailable::new(Reason::InvalidSpec, "Correct it.")));
            world.then(60, News::None);
        },
    ];
    for happens in happens {
        let mut world = waiting();
        happens(&mut world);
        assert_eq!((world.state(), world.shows("Succeeded").as_str()), ("Unknown", "Unknown/AwaitingObservation"));
        world.connection = super::USABLE;
        world.sought = Some(sought());
        world.then(70, News::None);
        assert_eq!(world.shows("Ready"), "Unknown/AwaitingTaskID", "it goes on");
    }
}

#[test]
fn a_list_that_cannot_be_had_is_told_as_a_poll_that_cannot() {
    let mut world = waiting();
    let trouble = |since| News::Trouble { class: FailureClass::UpstreamUnavailable, since: at(since) };
    assert_eq!(world.then(20, trouble(10)).status, None, "it may pass");
    world.then(60, trouble(10));
    assert_eq!(
        (world.shows("Synced").as_str(), world.verdicts().kstatus.as_str()),
        ("False/UpstreamUnavailable", "InProgress")
    );
    world.then(700, trouble(10));
    assert_eq!((world.shows("Synced").as_str(), world.verdicts().kstatus.as_str()), ("False/Stale", "Failed"));
    world.then(710, News::None);
    assert_eq!(world.shows("Ready"), "Unknown/AwaitingTaskID");
}

#[test]
fn the_deadline_holds_and_suspension_stops_the_search() {
    let mut world = waiting();
    world.spec.suspend = true;
    assert_eq!(world.then(10, News::None).poll, Poll::Stop);
    assert_eq!(world.shows("Ready"), "Unknown/Suspended");
    world.spec.suspend = false;
    world.spec.active_deadline_seconds = Some(100);
    assert_eq!(world.then(20, News::None).wake_at, Some(at(100)));
    assert_eq!(world.then(100, News::None).poll, Poll::Stop);
    assert_eq!(world.shows("Finished"), "True/DeadlineExceeded");
    let said = &world.condition("Ready").unwrap().message;
    assert!(said.starts_with("Which task to watch did not become known within"), "{said}");
    world.requested_at = Some("now".into());
    let decision = world.then(110, News::None);
    assert_eq!((decision.status, decision.poll), (None, Poll::Stop), "there is nothing that could be looked at");
}

#[test]
fn one_that_is_gone_is_not_blamed_on_a_field_that_nobody_wrote() {
    let mut world = World::new();
    world.spec.task.id = None;
    world.then(100, News::NotFound { since: at(1) });
    let said = &world.condition("Ready").unwrap().message;
    assert!(said.contains("Check status.task.id") && !said.contains("spec.task.id"), "{said}");
}

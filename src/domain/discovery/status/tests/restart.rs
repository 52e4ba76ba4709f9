//! What a restart of the operator changes in a set: nothing.

use super::*;
use crate::api::SetReadyWhen;

#[test]
fn a_restart_writes_nothing() {
    let listed: fn(&mut World) = |w| drop(w.then(1, News::Listed));
    let stories: [fn(&mut World); 6] = [
        listed,
        |w| {
            w.children.clear();
            w.then(1, News::Listed);
        },
        |w| {
            w.then(1, News::Listed);
            w.then(60, trouble(20));
        },
        |w| {
            w.then(1, News::Listed);
            w.then(700, trouble(20));
        },
        |w| drop(w.then(1, News::Failing(FailureClass::AuthenticationFailed, "No", 1, false))),
        |w| drop(w.then(1, News::NotListable)),
    ];
    for (n, story) in stories.into_iter().enumerate() {
        let mut world = World::new();
        story(&mut world);
        world.restart();
        assert!(is_idle(&world.then(720, News::Awaiting)), "{n}");
        // Trouble that goes on is known from before, and so is what the list said.
        if n > 1 && n < 5 {
            let class = if n == 4 { FailureClass::AuthenticationFailed } else { FailureClass::UpstreamUnavailable };
            let before = world.status.clone();
            world.then(721, News::Failing(class, "Other words", 721, false));
            let ready = |status: &Option<TaskWatchSetStatus>| status.as_ref().unwrap().conditions[0].reason.clone();
            assert_eq!(
                world.status == before,
                n == 3,
                "{n}: by now it is stale where it was not: {}",
                ready(&world.status)
            );
        }
    }
}

#[test]
fn after_a_restart_trouble_is_counted_from_its_beginning() {
    let mut world = World::new();
    world.then(1, News::Listed);
    world.then(60, trouble(20));
    world.restart();
    let decision = world.then(100, News::Failing(FailureClass::UpstreamUnavailable, "Other words", 100, false));
    assert_eq!((decision.status, decision.wake_at), (None, Some(at(60 + 600))));
    // Without trouble before it, what the list said stands for a while.
    world.then(110, News::Listed);
    world.restart();
    let decision = world.then(120, News::Failing(FailureClass::UpstreamUnavailable, "No", 120, false));
    assert_eq!((decision.status, decision.wake_at), (None, Some(at(150))));
    world.then(150, News::Failing(FailureClass::UpstreamUnavailable, "No", 120, false));
    assert_eq!(
        (world.shows("Synced"), world.shows("Ready")),
        ("False/UpstreamUnavailable".into(), "True/Observed".into())
    );
}

#[test]
fn what_the_last_list_had_made_of_the_set_stands_while_lists_fail_after_a_restart() {
    let failed: fn(&mut World) = |world| {
        world.spec.ready_when = SetReadyWhen::NoneFailed;
        many(world, 1..2, TaskState::Failed);
    };
    let creating: fn(&mut World) = |world| world.children.clear();
    for (why, kind, story) in [("TaskFailed", "Stalled", failed), ("Creating", "Reconciling", creating)] {
        let mut world = World::new();
        story(&mut world);
        world.then(1, News::Listed);
        let shown = [format!("False/{why}"), format!("True/{why}")];
        assert_eq!([world.shows("Ready"), world.shows(kind)], shown);
        world.restart();
        let trouble = || News::Failing(FailureClass::UpstreamUnavailable, "No", 20, false);
        let decision = world.then(20, trouble());
        assert_eq!((decision.status, decision.wake_at), (None, Some(at(50))), "{why}");
        world.then(50, trouble());
        assert_eq!([world.shows("Ready"), world.shows(kind)], shown);
        assert_eq!(world.shows("Synced"), "False/UpstreamUnavailable");
    }
}

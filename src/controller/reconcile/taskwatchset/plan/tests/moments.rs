//! What a set plans in moments that pass: before its first list, and while it must not ask for one.

use super::*;

#[test]
fn a_set_that_is_suspended_does_nothing_by_what_it_knows() {
    let mut world = World::new();
    world.list(&[("a", TaskState::Running)]);
    assert_eq!(world.creates(), ["a"]);
    // Its connection was closed, and what was listed stays known.
    world.entry().disconnected();
    assert!(!world.plan().has_work(), "it has to be asked for again first");
    world.apply(&json!({"suspend": true}));
    let plan = world.plan();
    assert!(!plan.has_work() && plan.discovery.is_none());
}

#[test]
fn a_new_set_says_nothing_for_a_moment_in_which_its_first_list_may_come() {
    let mut world = World::new();
    world.seconds = 1;
    let plan = world.plan();
    assert!(plan.status.is_none());
    assert_eq!(plan.wake_at, Some(world.begin + Duration::from_secs(1) + EARLY));
    world.list(&[]);
    assert!(world.plan().status.is_some(), "it has come");
}

#[test]
fn the_engine_is_asked_anew_where_scope_or_period_are_others() {
    let discovery = |scope: &str, seconds| Discovery {
        tenant: crate::tenancy::Tenant::shared(),
        scope: scope.to_owned(),
        period: Duration::from_secs(seconds),
        ticket: 1,
    };
    let prints = [discovery("a", 10), discovery("b", 10), discovery("a", 20)].map(|wanted| print(&wanted));
    assert!(prints[0] != prints[1] && prints[0] != prints[2] && prints[1] != prints[2]);
    assert_eq!(prints[0], print(&Discovery { ticket: 2, ..discovery("a", 10) }));
}

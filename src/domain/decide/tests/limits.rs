//! A watch that is one too many.

use std::sync::LazyLock;

use super::{super::tells_of_limit, Connection, News, Reason, TaskState, Unavailable, World, running, task};

static LIMIT: LazyLock<Connection> =
    LazyLock::new(|| Err(Unavailable::new(Reason::LimitExceeded, "There are more than 10.")));

#[test]
fn one_too_many_is_told_once_is_not_polled_and_mends_itself() {
    let mut world = World::new();
    world.connection = LIMIT.clone();
    let told = world.then(1, News::None);
    assert_eq!((told.poll, told.events.len()), (super::super::Poll::Stop, 1));
    assert_eq!(
        (world.shows("Synced"), world.shows("Ready"), world.shows("Stalled")),
        ("False/LimitExceeded".into(), "False/LimitExceeded".into(), "True/LimitExceeded".into())
    );
    let status = world.status.clone().unwrap();
    assert!(tells_of_limit(&status, 1) && !tells_of_limit(&status, 2));
    assert_eq!(world.then(100, News::None).status, None);
    assert_eq!(world.restart(200).status, None);
    world.connection = super::USABLE;
    world.then(300, running(20));
    assert_eq!((world.shows("Synced"), world.state()), ("True/Observed".into(), "Running"));
}

#[test]
fn an_end_stays_an_end() {
    let mut world = World::new();
    world.then(1, News::Seen(task(TaskState::Succeeded)));
    world.connection = LIMIT.clone();
    assert_eq!(world.then(100, News::None).status, None);
}

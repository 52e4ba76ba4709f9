//! How a task is shown.

use super::{News, TaskState, World, at, task};
use crate::domain::task::{StateDetail, Task};

#[test]
fn the_mirror_counts_and_orders_sub_tasks() {
    let mut whole = task(TaskState::Running);
    let parts = (0..40)
        .map(|n| {
            let state = match n {
                0..10 => TaskState::Succeeded,
                39 => TaskState::Failed,
                10 => TaskState::Paused,
                11 => TaskState::Cancelled,
                12..20 => TaskState::Pending,
                _ => TaskState::Running,
            };
            Task { id: n.to_string(), order: n, kind: Some("extend".into()), ..task(state) }
        })
        .collect();
    whole.adopt(parts);
    let mut world = World::new();
    world.then(1, News::Seen(whole));
    let status = world.status.unwrap();
    let parts = status.subtasks.unwrap();
    let counts = [parts.total, parts.pending, parts.running, parts.succeeded, parts.failed, parts.cancelled];
    assert_eq!(counts.map(Option::unwrap), [40, 8, 20, 10, 1, 1]);
    assert_eq!(parts.items.len(), 32);
    assert_eq!(parts.items[0].id.as_deref(), Some("39"), "failed first");
    assert_eq!(parts.items[0].error_code.as_deref(), Some("EVS.2024"));
    assert_eq!((parts.items[1].id.as_deref(), parts.items[1].name.as_deref()), (Some("0"), Some("extend")));
    let progress = status.progress.unwrap();
    assert_eq!((progress.percent, progress.display.as_deref()), (Some(30), Some("30%")), "12 of 40, rounded down");
    assert_eq!(progress.source.as_deref(), Some("Derived"));
}

#[test]
fn a_task_of_many_hostile_texts_is_written_once_and_small() {
    let text = |n: usize| "<&>".repeat(n);
    let part = |n: i64| Task { order: n, display_name: Some(text(80)), ..task(TaskState::Failed) };
    let mut hostile = Task { display_name: Some(text(80)), ..task(TaskState::Running) };
    hostile.adopt((0..1000).map(part).collect());
    hostile.outputs = (0..32).map(|n| (format!("o{n}"), text(170))).collect();
    hostile.state_details = vec![StateDetail { detail: text(170), ..StateDetail::default() }; 8];
    let mut world = World::new();
    world.then(1, News::Seen(hostile.clone()));
    let status = world.status.clone().unwrap();
    assert!(crate::domain::stored::size(&status) <= 32 << 10);
    assert_eq!(status.subtasks.unwrap().total, Some(1000));
    world.news = News::Seen(hostile);
    assert_eq!(world.decide().status, None, "a restart writes nothing");
}

#[test]
fn the_mirror_shows_ends_as_they_are() {
    let mut done = task(TaskState::Succeeded);
    done.completion_time = Some(at(9));
    done.error = task(TaskState::Failed).error;
    let mut world = World::new();
    world.then(10, News::Seen(done));
    let status = world.status.unwrap();
    assert_eq!(status.progress.unwrap().display.as_deref(), Some("100%"));
    assert_eq!((status.error, status.completion_time.unwrap().0), (None, at(9)));
    // An end time does not make an end, and a figure of the upstream's stays.
    let mut odd = task(TaskState::Running);
    odd.completion_time = Some(at(9));
    let mut world = World::new();
    world.then(10, News::Seen(odd));
    assert_eq!(world.status.unwrap().completion_time, None);
    let mut world = World::new();
    world.then(10, News::Seen(Task { percent: Some(0), ..task(TaskState::Succeeded) }));
    assert_eq!(world.status.unwrap().progress.unwrap().display.as_deref(), Some("0%"));
}

#[test]
fn a_failure_is_told_in_the_upstreams_words_wherever_they_are() {
    let mut in_a_part = Task { error: None, ..task(TaskState::Failed) };
    in_a_part.adopt(vec![task(TaskState::Succeeded), task(TaskState::Failed)]);
    let mut in_a_detail = Task { error: None, ..task(TaskState::Failed) };
    in_a_detail.state_details = vec![StateDetail { detail: "The bucket is gone.".into(), ..StateDetail::default() }];
    let nowhere = Task { error: None, ..task(TaskState::Failed) };
    for (task, message) in [
        (in_a_part, "The volume quota is used up. (EVS.2024)"),
        (in_a_detail, "The bucket is gone."),
        (nowhere, "The task has failed; the upstream does not say why."),
    ] {
        let mut world = World::new();
        world.then(1, News::Seen(task));
        assert_eq!(world.condition("Ready").unwrap().message, message);
    }
}

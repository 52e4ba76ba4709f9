//! Every row of the table of design §2, with both values of `readyWhen`.

use std::fmt::Write;

use super::{FailureClass, News, Reason, Sought, TaskState, Unavailable, World, at, running, task};
use crate::api::{OnNotFound, ReadyWhen};

fn trouble(class: FailureClass, since: i64) -> News {
    News::Trouble { class, since: at(since) }
}

/// How a watch comes into each row.
type Story = (&'static str, fn(&mut World));

const STORIES: &[Story] = &[
    ("1 created, not yet seen", |w| {
        w.then(1, News::None);
    }),
    ("2 accepted, first poll pending", |w| {
        w.then(2, News::None);
    }),
    ("3 queued upstream", |w| {
        w.then(1, News::Seen(task(TaskState::Pending)));
    }),
    ("4 running", |w| {
        w.then(1, running(20));
    }),
    ("5 paused or pausing", |w| {
        w.then(1, News::Seen(task(TaskState::Paused)));
    }),
    ("6 succeeded", |w| {
        w.then(1, News::Seen(task(TaskState::Succeeded)));
    }),
    ("6 gone (onNotFound: Succeed)", |w| {
        w.spec.on_not_found = OnNotFound::Succeed;
        w.then(100, News::NotFound { since: at(1) });
    }),
    ("7 failed", |w| {
        w.then(1, News::Seen(task(TaskState::Failed)));
    }),
    ("8 cancelled", |w| {
        w.then(1, News::Seen(task(TaskState::Cancelled)));
    }),
    ("– not found, in the grace", |w| {
        w.then(1, running(20));
        w.then(10, News::NotFound { since: at(10) });
    }),
    ("9 not found after the grace", |w| {
        w.then(100, News::NotFound { since: at(1) });
    }),
    ("10 5xx, time-out while active", |w| {
        w.then(1, running(20));
        w.then(60, trouble(FailureClass::UpstreamUnavailable, 10));
    }),
    ("10 429 while active", |w| {
        w.then(1, running(20));
        w.then(60, trouble(FailureClass::RateLimited, 10));
    }),
    ("10 401 while active", |w| {
        w.then(1, running(20));
        w.then(60, trouble(FailureClass::AuthenticationFailed, 10));
    }),
    ("11 5xx for too long", |w| {
        w.then(1, running(20));
        w.then(700, trouble(FailureClass::UpstreamUnavailable, 10));
    }),
    ("11 401 for too long", |w| {
        w.then(1, running(20));
        w.then(700, trouble(FailureClass::AuthenticationFailed, 10));
    }),
    ("11 403 for too long", |w| {
        w.then(1, running(20));
        w.then(700, trouble(FailureClass::PermissionDenied, 10));
    }),
    ("12 activeDeadlineSeconds passed", |w| {
        w.spec.active_deadline_seconds = Some(100);
        w.then(1, running(20));
        w.then(100, running(20));
    }),
    ("13 suspended", |w| {
        w.then(1, running(20));
        w.spec.suspend = true;
        w.then(10, News::None);
    }),
    ("14 connection not allowed", |w| {
        w.then(1, running(20));
        w.connection = Err(Unavailable::new(Reason::ConnectionNotAllowed, "Not for this namespace."));
        w.then(10, News::None);
    }),
    ("14 spec unusable", |w| {
        w.connection = Err(Unavailable::new(Reason::InvalidSpec, "The list mode is not to be had."));
        w.then(10, News::None);
    }),
    ("14 task ID unusable", |w| {
        w.spec.task.id = None;
        w.sought = Some(Sought::Unusable(Unavailable::new(Reason::InvalidSpec, "Correct the ConfigMap m.")));
        w.then(2, News::None);
    }),
    ("14 no lists to find it in", |w| {
        w.spec.task.id = None;
        w.sought = Some(Sought::Unlisted("Name the task.".into()));
        w.then(2, News::None);
    }),
    ("15 connection not found (yet)", |w| {
        w.connection = Err(Unavailable::new(Reason::ConnectionNotFound, "Create the TaskConnection c."));
        w.then(10, News::None);
    }),
    ("15 Secret not found (yet)", |w| {
        w.then(1, running(20));
        w.connection = Err(Unavailable::new(Reason::SecretNotFound, "Create the Secret s."));
        w.then(10, News::None);
    }),
    ("16 task ID not there (yet)", |w| {
        w.spec.task.id = None;
        w.sought = Some(Sought::Identifier("Waiting for the identifier of the task.".into()));
        w.then(2, News::None);
    }),
    ("16 no task matches (yet)", |w| {
        w.spec.task.id = None;
        w.sought = Some(Sought::Match("Waiting for a task.".into()));
        w.then(2, News::None);
    }),
];

#[test]
fn the_table_of_the_contract() {
    let mut text = String::new();
    for ready_when in [ReadyWhen::TaskSucceeded, ReadyWhen::Observed] {
        writeln!(text, "readyWhen: {ready_when:?}\n").unwrap();
        writeln!(
            text,
            "{:<33}{:<11}{:<29}{:<27}{:<31}{:<32}{:<29}{:<29}{:<12}{:<13}poll",
            "situation",
            "state",
            "Succeeded",
            "Finished",
            "Synced",
            "Ready",
            "Reconciling",
            "Stalled",
            "kstatus",
            "Argo CD"
        )
        .unwrap();
        for (name, story) in STORIES {
            let mut world = World::new();
            world.spec.ready_when = ready_when;
            story(&mut world);
            let verdicts = world.verdicts();
            writeln!(
                text,
                "{name:<33}{:<11}{:<29}{:<27}{:<31}{:<32}{:<29}{:<29}{:<12}{:<13}{:?}",
                world.state(),
                world.shows("Succeeded"),
                world.shows("Finished"),
                world.shows("Synced"),
                world.shows("Ready"),
                world.shows("Reconciling"),
                world.shows("Stalled"),
                verdicts.kstatus,
                verdicts.argocd,
                world.decide().poll,
            )
            .unwrap();
        }
        text.push('\n');
    }
    insta::assert_snapshot!("table", text);
}

/// The messages of each row: what people read in `kubectl describe`.
#[test]
fn the_messages() {
    let mut text = String::new();
    for (name, story) in STORIES {
        let mut world = World::new();
        story(&mut world);
        writeln!(text, "{name}").unwrap();
        for condition in world.status.iter().flat_map(|status| &status.conditions) {
            writeln!(text, "    {:<12} {}", condition.type_, condition.message).unwrap();
        }
    }
    insta::assert_snapshot!("messages", text);
}

//! Each situation of a set, with its conditions and what they say: the tables of docs/status.md.

use std::fmt::Write;

use super::{FailureClass, News, Reason, TaskState, Verdicts, Why, World, conflict, many};
use crate::api::SetReadyWhen;

/// How a set comes into each situation.
type Story = (&'static str, fn(&mut World));

const STORIES: &[Story] = &[
    ("created, not yet seen", |_| {}),
    ("no list yet", |w| {
        w.then(2, News::Awaiting);
    }),
    ("TaskWatches are being created", |w| {
        w.children.clear();
        w.then(1, News::Listed);
    }),
    ("all are watched", |w| {
        w.then(1, News::Listed);
    }),
    ("more match than `limit`", |w| {
        many(w, 2..6, TaskState::Running);
        w.children.push("2".to_owned());
        w.then(1, News::Listed);
    }),
    ("the operator has no room for some tasks", |w| {
        w.tasks.set_unkept(9);
        w.then(1, News::Listed);
    }),
    ("none matches", |w| {
        w.tasks.retain(|_| false);
        w.children.clear();
        w.then(1, News::Listed);
    }),
    ("a task has failed, `readyWhen: Observed`", |w| {
        many(w, 1..2, TaskState::Failed);
        w.then(1, News::Listed);
    }),
    ("a task has failed, `readyWhen: NoneFailed`", |w| {
        w.spec.ready_when = SetReadyWhen::NoneFailed;
        many(w, 1..2, TaskState::Failed);
        w.then(1, News::Listed);
    }),
    ("several have, `readyWhen: NoneFailed`", |w| {
        w.spec.ready_when = SetReadyWhen::NoneFailed;
        w.spec.limit = 9;
        many(w, 1..6, TaskState::Failed);
        w.then(1, News::Listed);
    }),
    ("a TaskWatch of somebody else has the name", |w| {
        w.children.clear();
        w.conflicts = vec![conflict("nightly-1-abc", Why::Foreign)];
        w.then(1, News::Listed);
    }),
    ("the namespace's quota is used up", |w| {
        w.children.clear();
        let said = "exceeded quota: tasks, used: count/taskwatches.taskwatch.dev=9, limited: count/taskwatches.taskwatch.dev=9";
        w.conflicts = vec![conflict("nightly-1-abc", Why::Quota(said.to_owned()))];
        w.then(1, News::Listed);
    }),
    ("the API server refuses a TaskWatch", |w| {
        w.children.clear();
        let said = "admission webhook \"x\" denied the request";
        w.conflicts = vec![conflict("nightly-1-abc", Why::Refused(said.to_owned()))];
        w.then(1, News::Listed);
    }),
    ("5xx, time-out for longer than 30 s", |w| {
        w.then(1, News::Listed);
        w.then(60, News::Failing(FailureClass::UpstreamUnavailable, "The upstream says no", 20, true));
    }),
    ("429 for longer than 30 s", |w| {
        w.then(1, News::Listed);
        w.then(60, News::Failing(FailureClass::RateLimited, "The upstream says no", 20, true));
    }),
    ("5xx from the beginning", |w| {
        w.then(1, News::Failing(FailureClass::UpstreamUnavailable, "The upstream says no", 1, false));
    }),
    ("401 from the beginning", |w| {
        w.then(1, News::Failing(FailureClass::AuthenticationFailed, "The upstream says no", 1, false));
    }),
    ("no such account", |w| {
        w.then(1, News::Failing(FailureClass::ScopeNotFound, "The upstream says no", 1, false));
    }),
    ("5xx for too long", |w| {
        w.then(1, News::Listed);
        w.then(700, News::Failing(FailureClass::UpstreamUnavailable, "The upstream says no", 20, true));
    }),
    ("403 for too long", |w| {
        w.then(1, News::Listed);
        w.then(700, News::Failing(FailureClass::PermissionDenied, "The upstream says no", 20, true));
    }),
    ("suspended", |w| {
        w.then(1, News::Listed);
        w.spec.suspend = true;
        w.then(10, News::Listed);
    }),
    ("the API cannot list", |w| {
        w.then(1, News::NotListable);
    }),
    ("connection not allowed", |w| {
        w.then(1, News::Unavailable(Reason::ConnectionNotAllowed, "Not for this namespace."));
    }),
    ("spec unusable", |w| {
        w.then(1, News::Unavailable(Reason::InvalidSpec, "No such scope can be."));
    }),
    ("connection not found (yet)", |w| {
        w.then(1, News::Unavailable(Reason::ConnectionNotFound, "Create the TaskConnection c."));
    }),
    ("Secret not found (yet)", |w| {
        w.then(1, News::Listed);
        w.then(10, News::Unavailable(Reason::SecretNotFound, "Create the Secret s."));
    }),
];

#[test]
fn the_table_of_sets() {
    let mut text =
        "| situation | Synced | Ready | Reconciling | Stalled | kstatus | Argo CD |\n|---|---|---|---|---|---|---|\n"
            .to_owned();
    for (name, story) in STORIES {
        let mut world = World::new();
        story(&mut world);
        let shown = ["Synced", "Ready", "Reconciling", "Stalled"].map(|kind| world.shows(kind)).join(" | ");
        let Verdicts { kstatus, argocd } = world.verdicts();
        writeln!(text, "| {name} | {shown} | {kstatus} | {argocd} |").unwrap();
    }
    insta::assert_snapshot!("table", text);
}

/// The messages of each: what people read in `kubectl describe`.
#[test]
fn the_messages_of_sets() {
    let mut text = "| situation | message of Ready | message of Synced |\n|---|---|---|\n".to_owned();
    for (name, story) in STORIES {
        let mut world = World::new();
        story(&mut world);
        let [ready, synced] = ["Ready", "Synced"].map(|kind| world.says(kind));
        for kind in ["Reconciling", "Stalled"] {
            assert!(world.condition(kind).is_none_or(|beside| beside.message == ready), "{name}");
        }
        if !ready.is_empty() {
            writeln!(text, "| {name} | {ready} | {} |", if synced == ready { "the same" } else { synced }).unwrap();
        }
    }
    insta::assert_snapshot!("messages", text);
}

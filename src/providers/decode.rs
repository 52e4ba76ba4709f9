//! The pure part of `taskwatch decode`: what the operator makes of an answer, as JSON.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    Answer, Provider,
    wire::{
        list::{self, Shape},
        text::text,
    },
};
use crate::domain::{
    failure::Failure,
    subtasks::Subtask,
    task::{Task, TaskError, TaskRef},
    text::clean,
};

/// So much of a cursor is shown, in bytes.
const CURSOR: usize = 4096;

/// One object: `{"kind":"task","task":…}`, `{"kind":"list","tasks":[…],"next":…}` (`next` is null on the last page), or
/// `{"kind":"error","class":…,"code":"…","message":"…"}` with `retryAfterSeconds` where the answer had one.
///
/// Nobody asked for a certain task, so any identifier and scope is taken. The body's shape tells a list from a single task.
#[must_use]
pub fn explain(provider: &dyn Provider, answer: &Answer, now: Timestamp) -> Value {
    let result = if provider.list_key().is_some_and(|key| is_list(answer, key)) {
        list(provider, answer)
    } else {
        let any = TaskRef { scope: String::new(), id: String::new() };
        provider.decode_task(&any, answer).map(|task| json!({"kind": "task", "task": task_json(&task)}))
    };
    result.unwrap_or_else(|failure| error_json(&failure, now))
}

fn is_list(answer: &Answer, key: &str) -> bool {
    // An empty list may be null.
    answer.status.is_success() && {
        let shape = Shape { key, fields: &[], identity: &[] };
        list::scan(&text(answer), shape, &mut |_| None).is_ok_and(|listing| listing.total.is_some())
    }
}

/// The tasks flat, as they are sent; parents also show those of their children that are in the list.
fn list(provider: &dyn Provider, answer: &Answer) -> Result<Value, Failure> {
    let page = provider.decode_list("", answer, &|_| true)?;
    let mut children: BTreeMap<&str, Vec<Task>> = BTreeMap::new();
    for task in &page.tasks {
        if let Some(parent) = &task.parent_id {
            children.entry(parent).or_default().push(Task::clone(task));
        }
    }
    let tasks: Vec<_> = page
        .tasks
        .iter()
        .map(|task| match children.get(task.id.as_str()) {
            Some(parts) => {
                let mut parent = Task::clone(task);
                parent.adopt(parts.clone());
                task_json(&parent)
            }
            None => task_json(task),
        })
        .collect();
    // It is sent as it came, but shown to people.
    let next = page.next.map(|cursor| clean(&cursor.0, CURSOR));
    Ok(json!({"kind": "list", "tasks": tasks, "next": next}))
}

fn error_json(failure: &Failure, now: Timestamp) -> Value {
    let mut object = Object::default();
    object.put("kind", Some("error"));
    object.put("class", Some(failure.class.as_str()));
    object.put("code", Some(failure.code.as_str()));
    object.put("message", Some(failure.message.as_str()));
    object.put("advice", Some(failure.advice()));
    // A part of a second more is one more to wait.
    let seconds = |wait: std::time::Duration| wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    object.put("retryAfterSeconds", failure.retry_after.map(|wait| seconds(wait.wait(now))));
    object.put("httpStatus", failure.http_status);
    object.put("correlationID", failure.correlation_id.as_deref());
    Value::Object(object.0)
}

/// A task in the words of the status, flat; what is unknown is left out.
#[must_use]
pub fn task_json(task: &Task) -> Value {
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
    let outputs: BTreeMap<_, _> = task.outputs.iter().map(|(name, value)| (name, value)).collect();
    let mut object = Object::default();
    object.put("id", Some(task.id.as_str()));
    object.put("name", task.name.as_deref());
    object.put("displayName", task.display_name.as_deref());
    object.put("type", task.kind.as_deref());
    object.put("state", Some(task.state.as_str()));
    object.put("upstreamState", Some(task.upstream_state.as_str()).filter(|word| !word.is_empty()));
    object.put("percent", task.percent);
    object.put("parentID", task.parent_id.as_deref());
    object.put("resource", task.resource.as_deref());
    object.put("createdBy", task.created_by.as_deref());
    object.put("createdTime", time(task.created_time));
    object.put("modifiedTime", time(task.modified_time));
    object.put("startTime", time(task.start_time));
    object.put("completionTime", time(task.completion_time));
    object.put("error", task.error.as_deref().map(task_error_json));
    object.put("outputs", Some(json!(outputs)).filter(|_| !outputs.is_empty()));
    object.list(
        "stateDetails",
        task.state_details.iter().map(|detail| {
            let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            let mut object = Object::default();
            object.put("type", text(&detail.kind));
            object.put("title", text(&detail.title));
            object.put("detail", text(&detail.detail));
            Value::Object(object.0)
        }),
    );
    object.list("subtasks", task.subtasks.items().iter().map(subtask_json));
    Value::Object(object.0)
}

fn subtask_json(part: &Subtask) -> Value {
    let mut object = Object::default();
    object.put("id", Some(part.id.as_str()));
    object.put("name", part.name.as_deref());
    object.put("state", Some(part.state.as_str()));
    object.put("upstreamState", part.upstream_state.as_deref());
    object.put("percent", part.percent);
    object.put("errorCode", part.error_code.as_deref());
    object.put("errorMessage", part.error_message.as_deref());
    Value::Object(object.0)
}

fn task_error_json(error: &TaskError) -> Value {
    let mut object = Object::default();
    object.put("code", error.code.as_deref());
    object.put("reason", error.reason.as_deref());
    object.put("message", error.message.as_deref());
    object.put("httpStatus", error.http_status);
    object.put("correlationID", error.correlation_id.as_deref());
    object.list("details", error.details.iter().map(|detail| json!({"type": detail.kind, "value": detail.value})));
    Value::Object(object.0)
}

/// An object under construction, without what is unknown.
#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    fn put(&mut self, key: &str, value: Option<impl Into<Value>>) {
        self.0.extend(value.map(|value| (key.to_owned(), value.into())));
    }

    fn list(&mut self, key: &str, values: impl Iterator<Item = Value>) {
        let values: Vec<_> = values.collect();
        self.put(key, Some(values).filter(|values| !values.is_empty()));
    }
}

//! What must hold of everything that is read from an upstream, whatever it sends: for the tests of this room and, with the feature
//! `checks`, for the fuzz targets in `tests/fuzz`.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header::RETRY_AFTER};
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    api::bounds::{ERROR_DETAILS, MESSAGE, OUTPUTS, STATE_DETAILS, SUBTASK_TEXT, SUBTASKS, VALUE, WORD},
    domain::{
        failure::{Failure, RetryAfter},
        subtasks::{MAX_SUBTASKS, Subtask},
        task::{ErrorDetail, StateDetail, TASK_BYTES, Task, TaskError, TaskRef},
    },
    providers::{
        Answer, PAGE_TASKS, Provider,
        decode::explain,
        wire::{any, node::Node, retry, text::text as text_of, time},
    },
};

/// Parts of the words that end a task, and the keys that Cloud.ru's tasks may end by, in lower case.
const ENDS: &[&str] =
    &["succe", "complet", "done", "finish", "fail", "error", "cancel", "abort", "stop", "terminat", "response"];

/// The same as [`decode`], for every provider that there is.
#[cfg(feature = "checks")]
pub fn decode_all(status: u16, retry_after: &[u8], body: &[u8]) {
    for entry in super::registry::PROVIDERS {
        decode(entry.plain().as_ref(), status, retry_after, body);
    }
}

/// Reads `body` as every kind of answer of `provider`, and checks what comes out.
pub fn decode(provider: &dyn Provider, status: u16, retry_after: &[u8], body: &[u8]) {
    let answer = answer(status, retry_after, body);
    let may_end = may_end(&text_of(&answer));
    for id in ["", "t1"] {
        let asked = TaskRef { scope: String::new(), id: id.to_owned() };
        match provider.decode_task(&asked, &answer) {
            Ok(found) => {
                assert!(answer.status.is_success(), "{status} is no task");
                assert!(id.is_empty() || found.id.eq_ignore_ascii_case(id), "another task: {}", found.id);
                task(&found, may_end);
            }
            Err(refusal) => failure(&refusal),
        }
    }
    match provider.decode_list("", &answer, &|_: &str| true) {
        Ok(page) => {
            assert!(answer.status.is_success(), "{status} is no list");
            assert!(page.tasks.len() <= page.total.min(PAGE_TASKS));
            assert!(page.next.is_none_or(|next| next.0.len() <= 4096));
            page.tasks.iter().for_each(|found| task(found, may_end));
        }
        Err(refusal) => failure(&refusal),
    }
    harmless(&explain(provider, &answer, Timestamp::UNIX_EPOCH));
}

/// Reads text as a time, as `Retry-After`, and as a JSON document that is one, or a `google.protobuf.Any`.
pub fn text(text: &str) {
    let _ = time::parse(text);
    if let Some(wait) = retry::parse(text) {
        assert!(wait.wait(Timestamp::UNIX_EPOCH) <= RetryAfter::MAX);
    }
    let Ok(node) = Node::parse(text) else { return };
    let _ = (node.time(), node.percent(), node.integer(), node.boolean(), node.number());
    if let Some(any) = any::read(&node) {
        bounded("any.kind", &any.kind, WORD);
        bounded("any.text", &any.text, VALUE);
        assert!(any.fields.len() <= OUTPUTS);
        for (name, value) in &any.fields {
            bounded("any.field", name, WORD);
            bounded("any.value", value, VALUE);
        }
    }
}

/// An answer with this status (brought into range), `Retry-After` (left out where it can be no field's value) and body.
pub fn answer(status: u16, retry_after: &[u8], body: &[u8]) -> Answer {
    let headers = HeaderValue::from_bytes(retry_after).ok().filter(|_| !retry_after.is_empty());
    Answer {
        status: StatusCode::from_u16(100 + status % 500).unwrap_or_default(),
        headers: headers.map(|value| (RETRY_AFTER, value)).into_iter().collect::<HeaderMap>(),
        body: Bytes::copy_from_slice(body),
        fault: None,
    }
}

/// Whether a body says that something has ended, in any way that could be meant. Escapes may hide any word.
pub fn may_end(body: &str) -> bool {
    let plain = body.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>();
    // A figure's name, not a word.
    let plain = plain.replace("percentdone", "");
    body.contains("\\u") || ENDS.iter().any(|end| plain.contains(end))
}

/// Nothing that a terminal obeys, in no text of what is shown.
fn harmless(shown: &Value) {
    match shown {
        Value::String(text) => assert!(!text.chars().any(char::is_control), "{text:?}"),
        Value::Array(items) => items.iter().for_each(harmless),
        Value::Object(map) => {
            assert!(!map.keys().any(|key| key.chars().any(char::is_control)), "{map:?}");
            map.values().for_each(harmless);
        }
        _ => {}
    }
}

/// The bounds of a task, and of its parts.
fn task(found: &Task, may_end: bool) {
    assert!(may_end || !found.state.is_finished(), "nothing in the body ends a task: {found:?}");
    assert!(found.state.is_finished() || found.completion_time.is_none(), "{found:?}");
    // A part without an identifier is named by its place in the whole: `ID.999`.
    bounded("id", &found.id, WORD + 4);
    bounded("upstream_state", &found.upstream_state, WORD);
    let words = [&found.name, &found.display_name, &found.kind, &found.parent_id, &found.resource, &found.created_by];
    for word in words.into_iter().flatten() {
        bounded("word", word, VALUE);
    }
    assert!(found.percent.is_none_or(|percent| percent <= 100));
    if let Some(error) = &found.error {
        let texts =
            [(&error.code, WORD), (&error.reason, WORD), (&error.message, MESSAGE), (&error.correlation_id, WORD)];
        for (text, most) in texts {
            bounded("error", text.as_deref().unwrap_or_default(), most);
        }
        assert!(error.details.len() <= ERROR_DETAILS);
        for detail in &error.details {
            bounded("error.kind", &detail.kind, WORD);
            bounded("error.value", &detail.value, VALUE);
        }
    }
    assert!(found.outputs.len() <= OUTPUTS);
    for (name, value) in &found.outputs {
        bounded("output", name, WORD);
        bounded("output's value", value, VALUE);
    }
    assert!(found.state_details.len() <= STATE_DETAILS);
    for detail in &found.state_details {
        bounded("detail.kind", &detail.kind, WORD);
        bounded("detail.title", &detail.title, WORD);
        bounded("detail.detail", &detail.detail, VALUE);
    }
    assert!(found.subtasks.len() <= MAX_SUBTASKS && found.subtasks.items().len() <= SUBTASKS);
    for part in found.subtasks.items() {
        assert!(may_end || !part.state.is_finished(), "nothing in the body ends a part: {part:?}");
        let texts = [&part.name, &part.upstream_state, &part.error_code, &part.error_message];
        for text in [&part.id].into_iter().chain(texts.into_iter().flatten()) {
            bounded("part", text, SUBTASK_TEXT);
        }
    }
    let bytes = size(found);
    assert!(bytes <= TASK_BYTES, "{bytes} bytes: {found:?}");
}

/// The memory that a task takes with all that it holds.
pub fn size(task: &Task) -> usize {
    let text = |text: &String| text.capacity();
    let some = |some: &Option<String>| some.as_ref().map_or(0, String::capacity);
    let error = |error: &TaskError| {
        let texts = [&error.code, &error.reason, &error.message, &error.correlation_id];
        let details = error.details.iter().map(|detail| text(&detail.kind) + text(&detail.value)).sum::<usize>();
        let room = error.details.capacity() * size_of::<ErrorDetail>();
        size_of::<TaskError>() + texts.into_iter().map(some).sum::<usize>() + details + room
    };
    let part = |part: &Subtask| {
        let texts = [&part.name, &part.upstream_state, &part.error_code, &part.error_message];
        size_of::<Subtask>() + text(&part.id) + texts.into_iter().map(some).sum::<usize>()
    };
    let words = [&task.name, &task.display_name, &task.kind, &task.parent_id, &task.resource, &task.created_by];
    let details =
        task.state_details.iter().map(|detail| text(&detail.kind) + text(&detail.title) + text(&detail.detail));
    size_of::<Task>()
        + text(&task.id)
        + text(&task.upstream_state)
        + words.into_iter().map(some).sum::<usize>()
        + task.error.as_deref().map_or(0, error)
        + task.subtasks.cause().map_or(0, error)
        + task.subtasks.items().iter().map(part).sum::<usize>()
        + task.outputs.iter().map(|(name, value)| text(name) + text(value)).sum::<usize>()
        + task.outputs.capacity() * size_of::<(String, String)>()
        + details.sum::<usize>()
        + task.state_details.capacity() * size_of::<StateDetail>()
}

fn failure(failure: &Failure) {
    bounded("code", &failure.code, WORD);
    bounded("message", &failure.message, MESSAGE);
    bounded("correlation", failure.correlation_id.as_deref().unwrap_or_default(), WORD);
    assert!(!failure.message.is_empty());
    assert!(failure.retry_after.is_none_or(|wait| wait.wait(Timestamp::UNIX_EPOCH) <= Duration::from_hours(1)));
}

fn bounded(what: &str, text: &str, most: usize) {
    assert!(text.len() <= most, "{what}: {} bytes are more than {most}", text.len());
    assert!(!text.chars().any(char::is_control), "{what}: {text:?}");
}

//! What a task really is, in one vocabulary. Written from the documents' lists of states, to check readers of the API against.

use serde_json::Value;

use crate::scenario::{Provider, Step, TaskError};

/// `Pending | Running | Paused | Succeeded | Failed | Cancelled`, or what the step says itself.
pub(crate) fn state(provider: Provider, step: &Step) -> &str {
    if let Some(word) = &step.truth {
        return word;
    }
    match provider {
        Provider::HuaweiCloud => huawei(&step.state),
        Provider::AstraControl => astra(&step.state),
        Provider::CloudRu => cloud_ru(&step.state, step.error.as_ref()),
    }
}

/// Whether a state is an end.
pub(crate) fn finished(state: &str) -> bool {
    matches!(state, "Succeeded" | "Failed" | "Cancelled")
}

/// upstreams.md §2.2: four words of old, and newer ones that are not ends; unknown words are never ends.
fn huawei(word: &str) -> &'static str {
    match word {
        "SUCCESS" => "Succeeded",
        "FAIL" => "Failed",
        "INIT" | "WAITING_EXECUTE" => "Pending",
        _ => "Running",
    }
}

/// upstreams.md §3.2.
fn astra(word: &str) -> &'static str {
    match word {
        "notStarted" => "Pending",
        "pausing" | "paused" => "Paused",
        "completed" => "Succeeded",
        "cancelled" => "Cancelled",
        "failed" => "Failed",
        _ => "Running",
    }
}

/// upstreams.md §1.2: the vocabulary is unpublished; an error that says something decides first (§1.1).
fn cloud_ru(word: &str, error: Option<&TaskError>) -> &'static str {
    if error.is_some_and(|e| !e.message.is_empty() || e.code.as_i64().is_some_and(|c| c != 0)) {
        return "Failed";
    }
    let word = word.to_ascii_uppercase();
    match word.strip_prefix("TASK_STATUS_").unwrap_or(&word) {
        "DONE" | "SUCCESS" | "SUCCEEDED" | "COMPLETED" => "Succeeded",
        "ERROR" | "FAILED" | "FAIL" => "Failed",
        "CANCELLED" | "CANCELED" => "Cancelled",
        "PENDING" | "CREATED" | "NEW" | "QUEUED" => "Pending",
        "PAUSED" => "Paused",
        _ => "Running",
    }
}

/// The error code as text, for the truth.
pub(crate) fn code_text(code: &Value) -> String {
    match code {
        Value::String(s) => s.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

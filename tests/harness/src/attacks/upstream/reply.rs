//! What an attacking upstream answers: bytes, made by hand.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Kind, Request};

/// An answer.
#[derive(Clone, Debug)]
pub(in super::super) enum Reply {
    /// All of it; the next request is waited for.
    Whole(Vec<u8>),
    /// All of it, and the end of the connection.
    Last(Vec<u8>),
    /// `head`, then `unit` so many times with a pause before each; then nothing until the other side goes.
    Stream { head: Vec<u8>, unit: Vec<u8>, times: u64, pause: Duration },
    /// Nothing at all.
    Silence,
}

/// Without an end.
pub(in super::super) const FOR_EVER: u64 = u64::MAX;

impl Reply {
    /// A JSON body with a status.
    pub(in super::super) fn json(status: u16, body: &Value) -> Self {
        Self::text(status, &[("Content-Type", "application/json")], &body.to_string())
    }

    /// A body with a status and header fields.
    pub(in super::super) fn text(status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        let fields = headers.iter().fold(String::new(), |all, (name, value)| all + name + ": " + value + "\r\n");
        let length = body.len();
        Self::Whole(format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: {length}\r\n\r\n{body}").into_bytes())
    }

    /// The task runs.
    pub(in super::super) fn running(request: &Request) -> Self {
        Self::json(200, &task(request, State::Running))
    }

    /// An endless stream without a pause.
    pub(in super::super) fn endless(head: &[u8], unit: Vec<u8>) -> Self {
        Self::Stream { head: head.to_vec(), unit, times: FOR_EVER, pause: Duration::ZERO }
    }

    /// `unit` so many times, then silence.
    pub(in super::super) fn stalling(head: &[u8], unit: Vec<u8>, times: u64) -> Self {
        Self::Stream { head: head.to_vec(), unit, times, pause: Duration::ZERO }
    }
}

/// The states that attacks need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum State {
    Running,
    Pending,
    Succeeded,
    Failed,
}

impl State {
    fn word(self, provider: Provider) -> &'static str {
        match (provider, self) {
            (Provider::Astra, Self::Running) => "running",
            (Provider::Astra, Self::Pending) => "notStarted",
            (Provider::Astra, Self::Succeeded) => "completed",
            (Provider::Astra, Self::Failed) => "failed",
            (_, Self::Running) => "RUNNING",
            (Provider::Huawei, Self::Pending) => "INIT",
            (Provider::CloudRu, Self::Pending) => "PENDING",
            (_, Self::Succeeded) => "SUCCESS",
            (Provider::Huawei, Self::Failed) => "FAIL",
            (Provider::CloudRu, Self::Failed) => "FAILED",
        }
    }
}

/// The three APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Provider {
    Huawei,
    CloudRu,
    Astra,
}

impl Provider {
    pub(in super::super) const ALL: [Self; 3] = [Self::Huawei, Self::CloudRu, Self::Astra];

    /// The API that a request speaks.
    pub(in super::super) fn of(request: &Request) -> Self {
        match request.path.split('/').nth(1) {
            Some("openshift") => Self::CloudRu,
            Some("accounts") => Self::Astra,
            _ => Self::Huawei,
        }
    }

    /// The member of `spec.provider`.
    pub(in super::super) fn spec(self, endpoint: &str, scope: &str) -> Value {
        match self {
            Self::Huawei => json!({"huaweiCloud": {"endpoint": endpoint, "projectID": scope}}),
            Self::CloudRu => json!({"cloudRu": {"endpoint": endpoint, "serviceInstanceID": scope}}),
            Self::Astra => json!({"astraControl": {"endpoint": endpoint, "accountID": scope}}),
        }
    }

    /// A refusal in the API's own envelope.
    pub(in super::super) fn refusal(self, status: u16, code: &str, words: &str) -> Reply {
        let body = match self {
            Self::Huawei => json!({"error_code": code, "error_msg": words, "request_id": "r"}),
            Self::CloudRu => json!({"code": 16, "message": words, "details": []}),
            Self::Astra => json!({"type": format!("https://astra.netapp.io/problems/{code}"), "title": words,
                "detail": words, "status": status.to_string()}),
        };
        Reply::json(status, &body)
    }
}

/// A task as its API shows it in the answer to a single get; for a list, as one of its items.
pub(in super::super) fn task(request: &Request, state: State) -> Value {
    let (provider, id) = (Provider::of(request), request.id.as_str());
    let word = state.word(provider);
    match (provider, request.kind) {
        (Provider::Huawei, _) => json!({"job_id": id, "job_type": "createVolume", "status": word,
            "begin_time": "2026-01-02T03:04:05.678Z", "entities": {}}),
        (Provider::CloudRu, Kind::List) => cloud_ru(id, word),
        (Provider::CloudRu, _) => json!({"task": cloud_ru(id, word)}),
        (Provider::Astra, _) => json!({"type": "application/astra-task", "version": "1.1", "id": id,
            "name": "astra.backup", "summary": "s", "description": "d", "state": word, "stateDetails": [],
            "stateTransitions": [], "resourceID": id, "resourceURI": "/x", "resourceCollectionURI": ["/x"],
            "metadata": {"labels": [], "creationTimestamp": "2026-01-02T03:04:05Z", "modificationTimestamp": "2026-01-02T03:04:05Z",
                "createdBy": "c"}}),
    }
}

fn cloud_ru(id: &str, word: &str) -> Value {
    json!({"id": id, "command": "create", "status": word, "createdAt": "2026-01-02T03:04:05Z"})
}

//! Cloud.ru (SberCloud) Managed OpenShift tasks (upstreams.md §1).

use std::{collections::HashMap, sync::Arc};

use http::{HeaderValue, header::ACCEPT};

use super::{
    Answer, Cursor, LIST_BODY_LIMIT, Provider, Request, Scan,
    identifiers::{IdentifierRule, Identifiers},
    registration::Registration,
    wire::{
        any::{self, Any},
        envelope::{self, Form},
        failure::{Asked, Dialect},
        list::{self, Entry, Found, Shape},
        node::Node,
        path::path,
        rules::{Own, Rule, Says},
        text::text,
    },
};
use crate::{
    api,
    domain::{
        failure::{Failure, FailureClass},
        outputs::Outputs,
        task::{Task, TaskError, TaskRef, TaskState},
        text::{MESSAGE, WORD, clean_option},
    },
};

/// Its line in the table.
pub const REGISTRATION: Registration = Registration {
    member: &api::CloudRu::MEMBER,
    about: "Managed OpenShift tasks",
    // UUIDs in what is published, which names no form (upstreams.md §1.1).
    identifiers: Identifiers {
        task: IdentifierRule { signs: "._:-", longest: 128, example: "0d1f4a56-6b0e-4b4e-9a0e-3a0d8a6c7b01" },
        scope: IdentifierRule { signs: "._:-", longest: 128, example: "5f0c1a52-7f1e-4f36-9a41-0f0f6a1f4c11" },
    },
    build: |given, outputs| {
        let spec = given.cloud_ru.as_ref();
        let states = spec.and_then(|spec| spec.states.clone()).map_or_else(Vocabulary::default, Vocabulary::from);
        let scope = spec.map_or("", |spec| &spec.service_instance_id);
        Arc::new(CloudRu::new(scope, &states).showing(outputs))
    },
};

/// How a list looks.
const SHAPE: Shape<'static> =
    Shape { key: "tasks", fields: FIELDS, identity: &["id", "serviceInstanceId", "service_instance_id"] };

/// What is read of a task. Gateways differ between camelCase and `snake_case` for the same message (upstreams.md §1.3).
const FIELDS: &[&str] = &[
    "id",
    "command",
    "status",
    "error",
    "response",
    "metadata",
    "done",
    "createdAt",
    "created_at",
    "modifiedAt",
    "modified_at",
    "createdBy",
    "created_by",
    "serviceInstanceId",
    "service_instance_id",
];

/// The codes of `google.rpc.Code`, by number; their names are the reason of a task's error.
const CODES: &[&str] = &[
    "OK",
    "Cancelled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// A missing resource was seen as 400 with code 9; code 5 with words on a path, or with no more than "Not Found", is the gateway's for a
/// path that it does not know (upstreams.md §1.4). The other codes as `google.rpc.Code` defines them.
const DIALECT: Dialect<'static> = Dialect {
    system: "Cloud.ru",
    task: "task",
    scope: "service instance",
    scope_field: "spec.provider.cloudRu.serviceInstanceID",
    same_prefix: None,
    own: &[Own { form: Form::Status, code: is_rpc_code, names_tasks: false }],
    rules: &[
        Rule::code("1", FailureClass::UpstreamUnavailable, ""),
        Rule::code("2", FailureClass::UpstreamUnavailable, ""),
        Rule::code("3", FailureClass::InvalidRequest, ""),
        Rule::code("4", FailureClass::UpstreamUnavailable, ""),
        Rule { code: "5", says: Says::Exactly("not found"), class: FailureClass::InvalidAnswer, advice: NO_PATH },
        Rule { code: "5", says: Says::Exactly(""), class: FailureClass::InvalidAnswer, advice: NO_PATH },
        Rule::text("5", ROUTES, FailureClass::InvalidAnswer, NO_PATH),
        Rule::text("5", INSTANCE, FailureClass::ScopeNotFound, ""),
        Rule::code("5", FailureClass::NotFound, ""),
        Rule::code("7", FailureClass::PermissionDenied, ""),
        Rule::code("8", FailureClass::RateLimited, ""),
        Rule::text("9", INSTANCE, FailureClass::ScopeNotFound, ""),
        Rule::text("9", &["not found", "resourceinfo"], FailureClass::NotFound, ""),
        Rule::code("10", FailureClass::UpstreamUnavailable, ""),
        Rule::code("13", FailureClass::UpstreamUnavailable, ""),
        Rule::code("14", FailureClass::UpstreamUnavailable, ""),
        Rule::code("15", FailureClass::UpstreamUnavailable, ""),
        Rule::code("16", FailureClass::AuthenticationFailed, ""),
    ],
};

const NO_PATH: &str = "The gateway of Cloud.ru does not know the path to {task} in {scope}, which says nothing of the task: check \
    spec.provider.cloudRu.endpoint";
/// What a text says that is about a path and not about a task, in lower case.
const ROUTES: &[&str] = &[
    "route",
    "path",
    "page",
    "endpoint",
    "method",
    "url",
    "uri",
    "host",
    "handler",
    "upstream",
    "backend",
    "no such service",
];
/// What a text says that is about the service instance.
const INSTANCE: &[&str] = &["service instance", "serviceinstance", "service_instance"];

/// Whether a code is one of `google.rpc.Code`, but for success.
fn is_rpc_code(code: &str) -> bool {
    code.parse().is_ok_and(|code: usize| (1..CODES.len()).contains(&code))
}

/// What the words of `status` mean. They are published nowhere (upstreams.md §1.2), so each set can be replaced.
/// Words are compared without regard to case and to characters that are neither letters nor digits: `IN_PROGRESS` is `inProgress`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// Taken off a word before it is looked up; empty for none.
    pub prefix: String,
    /// Accepted, not started.
    pub pending: Vec<String>,
    /// Being worked on; so is a task with an unknown word.
    pub running: Vec<String>,
    pub paused: Vec<String>,
    /// Ended well.
    pub succeeded: Vec<String>,
    /// Ended badly.
    pub failed: Vec<String>,
    /// Stopped.
    pub cancelled: Vec<String>,
    /// Whether an `error` that says something means that the task has failed, whatever the word.
    /// Where a service reports the error while it still rolls back (Yandex Cloud does, upstreams.md §1.3), this is off:
    /// then the word or `done: true` decides.
    pub error_decides: bool,
    /// Whether a `response` without an error means success where the word is unknown or missing.
    pub response_decides: bool,
}

impl Default for Vocabulary {
    fn default() -> Self {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Self {
            prefix: "TASK_STATUS_".to_owned(),
            pending: words(&[
                "pending",
                "queued",
                "created",
                "new",
                "scheduled",
                "waiting",
                "accepted",
                "init",
                "initializing",
                "not_started",
            ]),
            running: words(&[
                "running",
                "in_progress",
                "processing",
                "started",
                "executing",
                "active",
                "cancelling",
                "canceling",
            ]),
            paused: words(&["paused", "pausing", "suspended"]),
            succeeded: words(&["success", "succeeded", "successful", "done", "completed", "complete", "finished"]),
            failed: words(&["failed", "fail", "failure", "error"]),
            cancelled: words(&["cancelled", "canceled", "aborted", "terminated"]),
            error_decides: true,
            response_decides: true,
        }
    }
}

impl From<api::CloudRuStates> for Vocabulary {
    /// The defaults, but for what is given.
    fn from(given: api::CloudRuStates) -> Self {
        let default = Self::default();
        Self {
            prefix: given.strip_prefix.unwrap_or(default.prefix),
            pending: given.pending.unwrap_or(default.pending),
            running: given.running.unwrap_or(default.running),
            paused: given.paused.unwrap_or(default.paused),
            succeeded: given.succeeded.unwrap_or(default.succeeded),
            failed: given.failed.unwrap_or(default.failed),
            cancelled: given.cancelled.unwrap_or(default.cancelled),
            error_decides: given.error_decides.unwrap_or(default.error_decides),
            response_decides: given.response_decides.unwrap_or(default.response_decides),
        }
    }
}

/// Cloud.ru Managed OpenShift; the scope is a service instance.
#[derive(Clone, Debug)]
pub struct CloudRu {
    service_instance_id: String,
    states: HashMap<String, TaskState>,
    prefix: String,
    error_decides: bool,
    response_decides: bool,
    outputs: Outputs,
}

impl CloudRu {
    /// For the tasks of `service_instance_id`, unless a task names another instance. A word in several sets has the meaning of the one
    /// that comes first in the order of [`Vocabulary`], so that it ends no watch by mistake.
    #[must_use]
    pub fn new(service_instance_id: impl Into<String>, vocabulary: &Vocabulary) -> Self {
        let mut states = HashMap::new();
        for (words, state) in [
            (&vocabulary.pending, TaskState::Pending),
            (&vocabulary.running, TaskState::Running),
            (&vocabulary.paused, TaskState::Paused),
            (&vocabulary.succeeded, TaskState::Succeeded),
            (&vocabulary.failed, TaskState::Failed),
            (&vocabulary.cancelled, TaskState::Cancelled),
        ] {
            for word in words {
                states.entry(normal(word)).or_insert(state);
            }
        }
        Self {
            service_instance_id: service_instance_id.into(),
            states,
            prefix: normal(&vocabulary.prefix),
            error_decides: vocabulary.error_decides,
            response_decides: vocabulary.response_decides,
            outputs: Outputs::default(),
        }
    }

    /// The same, with these results shown.
    #[must_use]
    pub fn showing(self, outputs: Outputs) -> Self {
        Self { outputs, ..self }
    }

    /// What a word means; none where it is unknown.
    fn state_of(&self, word: &str) -> Option<TaskState> {
        let word = normal(word);
        let bare = word.strip_prefix(&self.prefix).filter(|bare| !bare.is_empty());
        bare.and_then(|bare| self.states.get(bare)).or_else(|| self.states.get(&word)).copied()
    }

    /// The state: an error first, then a known word, then `done`, then a response.
    fn decide(&self, word: Option<&str>, done: Option<bool>, has_error: bool, has_response: bool) -> TaskState {
        let known = word.and_then(|word| self.state_of(word));
        if has_error && (self.error_decides || done == Some(true)) {
            return if known == Some(TaskState::Cancelled) { TaskState::Cancelled } else { TaskState::Failed };
        }
        match (known, done) {
            (Some(state), _) => state,
            (None, Some(true)) => TaskState::Succeeded,
            (None, None) if has_response && !has_error && self.response_decides => TaskState::Succeeded,
            (None, Some(false) | None) => TaskState::Running,
        }
    }

    /// A task; the identifier may be empty.
    fn read(&self, entry: &Entry<'_, '_>) -> Task {
        let text = |node: &Node<'_>| node.text().and_then(|text| clean_option(&text, WORD));
        let either =
            |camel, snake| Some(entry.get(camel)).filter(|node| !node.is_blank()).unwrap_or_else(|| entry.get(snake));
        let word = text(entry.get("status"));
        // Code zero is OK (`google.rpc.Code`): beside a word that is known, that word decides, whatever the message.
        let known = word.as_deref().and_then(|word| self.state_of(word));
        let may_fail = matches!(known, None | Some(TaskState::Failed | TaskState::Cancelled));
        let error = error(entry.get("error")).filter(|_| may_fail || !says_ok(entry.get("error")));
        let response = any::read(entry.get("response"));
        let metadata = any::read(entry.get("metadata"));
        let state = self.decide(word.as_deref(), entry.get("done").boolean(), error.is_some(), response.is_some());

        let mut task = Task::new(text(entry.get("id")).unwrap_or_default(), state, word.unwrap_or_default());
        task.kind = text(entry.get("command"));
        task.created_by = text(either("createdBy", "created_by"));
        task.created_time = either("createdAt", "created_at").time();
        task.modified_time = either("modifiedAt", "modified_at").time();
        task.resource = [&metadata, &response].into_iter().flatten().find_map(resource);
        task.error = error.map(Box::new);
        let results = response.iter().flat_map(|response| &response.fields);
        task.outputs = self.outputs.of(results.map(|(key, value)| (key.into(), value.into())));
        task.fit();
        task
    }
}

impl Provider for CloudRu {
    fn name(&self) -> &str {
        REGISTRATION.name()
    }

    fn default_scope(&self) -> &str {
        &self.service_instance_id
    }

    fn list_key(&self) -> Option<&str> {
        Some(SHAPE.key)
    }

    fn task_request(&self, task: &TaskRef) -> Request {
        get(path("/openshift/v1/{}/tasks/{}", &[&task.scope, &task.id]))
    }

    fn decode_task(&self, task: &TaskRef, answer: &Answer) -> Result<Task, Failure> {
        let asked = Asked { scope: &task.scope, task: Some(&task.id) };
        let text = text(answer);
        let body = DIALECT.parse(asked, answer, &text)?;
        let wrapped = body.get("task");
        let entry = Entry::of(FIELDS, if wrapped.is_map() { wrapped } else { &body });
        let mut found = self.read(&entry);
        // Every field may be missing (upstreams.md §1.1); but a bare object without an identifier is not known to be a task at all.
        if found.id.is_empty() && (!wrapped.is_map() || wrapped.is_zero()) {
            return Err(match envelope::read(&body) {
                Some(error) => DIALECT.failure(asked, answer, Some(error)),
                None => DIALECT.invalid(asked, answer, "answered with JSON that is not a task: it has no id"),
            });
        }
        if found.id.is_empty() {
            found.id.clone_from(&task.id);
        }
        if !same(&found.id, &task.id) {
            return Err(DIALECT.invalid(asked, answer, &format!("answered with another task, {}", found.id)));
        }
        if let Some(other) = other_instance(&entry, &task.scope) {
            return Err(DIALECT.invalid(
                asked,
                answer,
                &format!("answered with a task of another service instance, {other}"),
            ));
        }
        Ok(found)
    }

    fn list_request(&self, scope: &str, _: Option<&Cursor>) -> Option<Request> {
        // The list has neither pages nor filters (upstreams.md §1.6).
        Some(Request { body_limit: LIST_BODY_LIMIT, ..get(path("/openshift/v1/{}/tasks", &[scope])) })
    }

    fn scan_list(
        &self,
        scope: &str,
        answer: &Answer,
        wants: &dyn Fn(&str, Option<&str>) -> bool,
    ) -> Result<Scan, Failure> {
        let asked = Asked { scope, task: None };
        let text = text(answer);
        if let Some(failure) = DIALECT.refused(asked, answer, &text) {
            return Err(failure);
        }
        let listing = list::scan(&text, SHAPE, &mut |entry| {
            let id = entry.get("id").text()?;
            let is_wanted = other_instance(entry, scope).is_none() && wants(&id, None);
            is_wanted.then(|| (id.into(), None))
        });
        let listing = listing.map_err(|error| DIALECT.unreadable(asked, answer, &text, &error))?;
        match (listing.total, envelope::read(&listing.rest)) {
            (None, Some(error)) => Err(DIALECT.failure(asked, answer, Some(error))),
            // proto3 JSON may leave an empty list out.
            (None, None) if !listing.rest.is_zero() => {
                Err(DIALECT.invalid(asked, answer, "answered with JSON that is not a list: it has no tasks"))
            }
            _ => Ok(Scan::new(answer, &text, listing, None)),
        }
    }

    fn decode_entry(&self, scan: &Scan, entry: &Found) -> Option<Task> {
        list::read(scan.entry(entry), FIELDS, SHAPE, |entry| Some(self.read(entry)))
    }
}

fn get(path: String) -> Request {
    let mut request = Request::get(path);
    request.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    request
}

/// A word as it is compared.
fn normal(word: &str) -> String {
    word.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Whether `found` is what was asked for; nothing asked for is any.
fn same(found: &str, asked: &str) -> bool {
    asked.is_empty() || found.eq_ignore_ascii_case(asked)
}

/// The service instance that the task names, where it is not `scope`.
fn other_instance(entry: &Entry<'_, '_>, scope: &str) -> Option<String> {
    let named = ["serviceInstanceId", "service_instance_id"].iter().find_map(|field| entry.get(field).text())?;
    if same(&named, scope) { None } else { clean_option(&named, WORD) }
}

/// Whether the code of a `google.rpc.Status` is there, and is zero.
fn says_ok(status: &Node<'_>) -> bool {
    ["code", "error_code", "errorCode"]
        .iter()
        .any(|key| status.get(key).text().is_some_and(|code| envelope::is_zero(&code)))
}

/// The `google.rpc.Status` of a failed task, or the text in its place; a zero value is none.
fn error(node: &Node<'_>) -> Option<TaskError> {
    if let Node::Text(text) = node {
        return Some(TaskError { message: Some(clean_option(text, MESSAGE)?), ..TaskError::default() });
    }
    let status = envelope::read(node)?;
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    Some(TaskError {
        reason: status.code.parse().ok().and_then(|code: usize| CODES.get(code)).map(|name| (*name).to_owned()),
        code: some(status.code),
        message: some(status.message),
        correlation_id: status.correlation_id,
        details: status.details,
        ..TaskError::default()
    })
}

/// The identifier of a resource in a message: a field that is named as one, else its only value.
fn resource(any: &Any) -> Option<String> {
    let is_id =
        |key: &str| ["id", "Id", "ID"].iter().any(|end| key.ends_with(end)) && normal(key) != "serviceinstanceid";
    let named = any.fields.iter().find(|(key, _)| is_id(key));
    let only = || any.fields.iter().find(|(key, _)| key == "value" || any.fields.len() == 1 && !key.is_empty());
    named.or_else(only).map(|(_, value)| value.clone())
}

//! NetApp Astra Control tasks (upstreams.md §3).

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header::ACCEPT};

use super::{
    Answer, Cursor, Provider, Request, Scan,
    identifiers::{IdentifierRule, Identifiers},
    registration::Registration,
    wire::{
        any,
        envelope::{self, Form},
        failure::{Asked, Dialect},
        list::{self, Entry, Found, Shape},
        node::Node,
        path::path,
        rules::{Own, Rule},
        text::text,
    },
};
use crate::{
    api,
    domain::{
        failure::{Failure, FailureClass},
        outputs::{Outputs, looks_secret},
        task::{ErrorDetail, MAX_ERROR_DETAILS, MAX_STATE_DETAILS, StateDetail, Task, TaskError, TaskRef, TaskState},
        text::{MESSAGE, VALUE, WORD, clean, clean_option},
    },
};

/// Its line in the table.
pub const REGISTRATION: Registration = Registration {
    member: &api::AstraControl::MEMBER,
    about: "NetApp Astra Control tasks",
    // The specification has UUIDs (upstreams.md §3.1). No quotes: a task's goes into a filter.
    identifiers: Identifiers {
        task: IdentifierRule { signs: "._:-", longest: 128, example: "c7a2f8d0-1b3e-4c5d-8e9f-0a1b2c3d4e01" },
        scope: IdentifierRule { signs: "._:-", longest: 128, example: "9b1c7a34-3c2d-4f53-8e61-2d7a5b9c0e42" },
    },
    build: |given, outputs| {
        let scope = given.astra_control.as_ref().map_or("", |spec| &spec.account_id);
        Arc::new(AstraControl::new(scope).showing(outputs))
    },
};

/// How a list looks.
const SHAPE: Shape<'static> = Shape { key: "items", fields: FIELDS, identity: &["id", "parentTaskID", "resourceURI"] };

/// What is read of a task, and asked for by `include=` in a list: the items may then be arrays in this order (upstreams.md §3.3).
const FIELDS: &[&str] = &[
    "id",
    "parentTaskID",
    "state",
    "name",
    "summary",
    "stateDetails",
    "percentDone",
    "orderHint",
    "resourceID",
    "resourceURI",
    "userID",
    "startTime",
    "endTime",
    "cancelTime",
    "metadata",
];

/// The states of the schema (upstreams.md §3.2); any other counts as running.
const STATES: &[(&str, TaskState)] = &[
    ("notstarted", TaskState::Pending),
    ("running", TaskState::Running),
    ("pausing", TaskState::Paused),
    ("paused", TaskState::Paused),
    ("cancelling", TaskState::Running),
    ("completed", TaskState::Succeeded),
    ("failed", TaskState::Failed),
    ("cancelled", TaskState::Cancelled),
];

/// Longest token of a further page that is believed, in bytes: it becomes part of a URL.
const MAX_TOKEN: usize = 4096;

/// The nil UUID, which stands for "none" in references (upstreams.md §3.1).
const NIL: &str = "00000000-0000-0000-0000-000000000000";

/// The problems of the specification (upstreams.md §3.4), by the number at the end of their type.
const DIALECT: Dialect<'static> = Dialect {
    system: "Astra Control",
    task: "task",
    scope: "account",
    scope_field: "spec.provider.astraControl.accountID",
    same_prefix: None,
    own: &[Own { form: Form::Problem, code: |code| code.parse::<u16>().is_ok(), names_tasks: false }],
    rules: &[
        Rule::code("1", FailureClass::NotFound, ""),
        Rule::code(
            "2",
            FailureClass::ScopeNotFound,
            "Astra Control has no tasks for {scope}: check spec.provider.astraControl.accountID, spec.task.scope and the endpoint",
        ),
        Rule::code(
            "3",
            FailureClass::AuthenticationFailed,
            "Astra Control got no bearer token: check the Secret that spec.auth.token names",
        ),
        Rule::code(
            "4",
            FailureClass::AuthenticationFailed,
            "Astra Control refused the API token; it may have been revoked: create a new one and put it into the Secret that spec.auth.token names",
        ),
        Rule::code("166", FailureClass::AuthenticationFailed, ""),
        Rule::code("5", FailureClass::InvalidRequest, ""),
        Rule::code("6", FailureClass::InvalidRequest, ""),
        Rule::code("11", FailureClass::PermissionDenied, ""),
        Rule::code(
            "14",
            FailureClass::PermissionDenied,
            "The user of the API token is not enabled in {scope}: enable the user, or use another token",
        ),
        Rule::code("24", FailureClass::UpstreamUnavailable, ""),
        Rule::code("32", FailureClass::InvalidRequest, ""),
        Rule::code("34", FailureClass::UpstreamUnavailable, ""),
        Rule::code("40", FailureClass::UpstreamUnavailable, ""),
        Rule::code("41", FailureClass::UpstreamUnavailable, ""),
        Rule::code("164", FailureClass::UpstreamUnavailable, ""),
    ],
};

/// Astra Control; the scope is an account.
#[derive(Clone, Debug)]
pub struct AstraControl {
    account_id: String,
    outputs: Outputs,
}

impl AstraControl {
    /// For the tasks of `account_id`, unless a task names another account.
    #[must_use]
    pub fn new(account_id: impl Into<String>) -> Self {
        Self { account_id: account_id.into(), outputs: Outputs::default() }
    }

    /// The same, with these results shown.
    #[must_use]
    pub fn showing(self, outputs: Outputs) -> Self {
        Self { outputs, ..self }
    }
}

impl Provider for AstraControl {
    fn name(&self) -> &str {
        REGISTRATION.name()
    }

    fn default_scope(&self) -> &str {
        &self.account_id
    }

    fn list_key(&self) -> Option<&str> {
        Some(SHAPE.key)
    }

    fn task_request(&self, task: &TaskRef) -> Request {
        Request { headers: accept(), ..Request::get(path("/accounts/{}/core/v1/tasks/{}", &[&task.scope, &task.id])) }
    }

    fn decode_task(&self, task: &TaskRef, answer: &Answer) -> Result<Task, Failure> {
        let asked = Asked { scope: &task.scope, task: Some(&task.id) };
        let text = text(answer);
        let body = DIALECT.parse(asked, answer, &text)?;
        let entry = Entry::of(FIELDS, &body);
        match read(&entry, &self.outputs) {
            Some(found) if !same(&found.id, &task.id) => {
                Err(DIALECT.invalid(asked, answer, &format!("answered with another task, {}", found.id)))
            }
            Some(found) => match other_account(&entry, &task.scope) {
                Some(account) => {
                    Err(DIALECT.invalid(asked, answer, &format!("answered with a task of another account, {account}")))
                }
                None => Ok(found),
            },
            None => Err(match envelope::read(&body) {
                Some(error) => DIALECT.failure(asked, answer, Some(error)),
                None => DIALECT.invalid(asked, answer, "answered with JSON that is not a task: it has no id and state"),
            }),
        }
    }

    fn subtasks_request(&self, task: &TaskRef) -> Option<Request> {
        // An identifier with a quote would change the meaning of the filter.
        (!task.id.contains('\'')).then(|| {
            let mut request = list_request(&task.scope);
            request.query.push(("filter".to_owned(), format!("parentTaskID eq '{}'", task.id)));
            request
        })
    }

    fn list_request(&self, scope: &str, cursor: Option<&Cursor>) -> Option<Request> {
        let mut request = list_request(scope);
        // Tasks are not documented to take `continue`, though the list's metadata has it (upstreams.md §3.3): it may be refused.
        request.query.extend(cursor.map(|cursor| ("continue".to_owned(), cursor.0.clone())));
        Some(request)
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
            let (id, parent) = (entry.get("id").text()?, entry.get("parentTaskID").text());
            let parent = parent.as_deref().filter(|id| *id != NIL);
            let is_wanted = other_account(entry, scope).is_none() && wants(&id, parent);
            is_wanted.then(|| (Box::from(id.as_ref()), parent.map(Box::from)))
        });
        let listing = listing.map_err(|error| DIALECT.unreadable(asked, answer, &text, &error))?;
        if listing.total.is_none() {
            return Err(match envelope::read(&listing.rest) {
                Some(error) => DIALECT.failure(asked, answer, Some(error)),
                None => DIALECT.invalid(asked, answer, "answered with JSON that is not a list: it has no items"),
            });
        }
        let token = listing.rest.get("metadata").get("continue").text().filter(|token| token.len() <= MAX_TOKEN);
        let next = token.map(|token| Cursor(token.into_owned()));
        Ok(Scan::new(answer, &text, listing, next))
    }

    fn decode_entry(&self, scan: &Scan, entry: &Found) -> Option<Task> {
        list::read(scan.entry(entry), FIELDS, SHAPE, |entry| read(entry, &self.outputs))
    }
}

/// Any media type: a single task, a list and an error each have their own, and a wrong `Accept` is refused with 406 (upstreams.md §3.1).
fn accept() -> HeaderMap {
    HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("*/*"))])
}

fn list_request(scope: &str) -> Request {
    Request {
        query: vec![("include".to_owned(), FIELDS.join(","))],
        headers: accept(),
        body_limit: super::LIST_BODY_LIMIT,
        ..Request::get(path("/accounts/{}/core/v1/tasks", &[scope]))
    }
}

/// Whether `found` is what was asked for; nothing asked for is any.
fn same(found: &str, asked: &str) -> bool {
    asked.is_empty() || found.eq_ignore_ascii_case(asked)
}

/// The account in the task's `resourceURI`, where it is not `scope`.
fn other_account(entry: &Entry<'_, '_>, scope: &str) -> Option<String> {
    let Node::Text(uri) = entry.get("resourceURI") else { return None };
    let account = uri.split_once("/accounts/")?.1.split('/').next()?;
    (!same(account, scope)).then(|| clean(account, WORD))
}

/// A task; none without an identifier and a state.
fn read(entry: &Entry<'_, '_>, outputs: &Outputs) -> Option<Task> {
    let word = |field| entry.get(field).text().and_then(|text| clean_option(&text, WORD));
    let reference = |field| word(field).filter(|id| id != NIL);
    let upstream_state = word("state")?;
    let state = STATES
        .iter()
        .find(|(name, _)| upstream_state.eq_ignore_ascii_case(name))
        .map_or(TaskState::Running, |(_, state)| *state);
    let metadata = entry.get("metadata");
    let (uri, id) = (word("resourceURI").filter(|uri| !looks_secret(uri)), reference("resourceID"));

    let mut task = Task::new(word("id")?, state, upstream_state);
    task.name = word("name");
    task.display_name = word("summary");
    task.percent = entry.get("percentDone").percent();
    task.parent_id = reference("parentTaskID");
    task.order = entry.get("orderHint").integer().unwrap_or(0);
    task.resource = uri.clone().or_else(|| id.clone());
    task.created_by =
        reference("userID").or_else(|| clean_option(&metadata.get("createdBy").text()?, WORD).filter(|id| id != NIL));
    task.created_time = metadata.get("creationTimestamp").time();
    task.modified_time = metadata.get("modificationTimestamp").time();
    task.start_time = entry.get("startTime").time();
    if state.is_finished() {
        // A published running task has an `endTime` (upstreams.md §3.1).
        let cancelled = || (state == TaskState::Cancelled).then(|| entry.get("cancelTime").time()).flatten();
        task.completion_time = entry.get("endTime").time().or_else(cancelled);
    }
    let results = [("resourceURI", &uri), ("resourceID", &id)];
    let results = results.into_iter().filter_map(|(key, value)| Some((key.into(), value.as_deref()?.into())));
    task.outputs = outputs.of(results);
    task.state_details =
        entry.get("stateDetails").items().iter().filter_map(state_detail).take(MAX_STATE_DETAILS).collect();
    if state == TaskState::Failed {
        task.error = error(entry.get("stateDetails").items()).map(Box::new);
    }
    task.fit();
    Some(task)
}

fn state_detail(node: &Node<'_>) -> Option<StateDetail> {
    let text = |key, max| node.get(key).text().map(|text| clean(&text, max)).unwrap_or_default();
    let detail = StateDetail { kind: text("type", WORD), title: text("title", WORD), detail: text("detail", VALUE) };
    (detail != StateDetail::default()).then_some(detail)
}

/// The reason of a failure: the first of the state's details; the others, and what they hold beside their text, are its details.
fn error(nodes: &[Node<'_>]) -> Option<TaskError> {
    let mut error = TaskError::default();
    for node in nodes {
        if error.details.len() >= MAX_ERROR_DETAILS {
            break;
        }
        let Some(detail) = state_detail(node) else { continue };
        let text = match (detail.title.trim_end_matches(['.', ':']), detail.detail.as_str()) {
            ("", text) | (text, "") => text.to_owned(),
            (title, text) => format!("{title}: {text}"),
        };
        if error.message.is_none() && !text.is_empty() {
            error.message = clean_option(&text, MESSAGE);
            let number = detail.kind.rsplit_once("/stateDetails/").map(|(_, number)| number);
            error.code = number.and_then(|number| clean_option(number, WORD));
        } else {
            error.details.push(ErrorDetail { kind: detail.kind, value: clean(&text, VALUE) });
        }
        let more = node.get("additionalDetails");
        if !more.is_zero() {
            error
                .details
                .push(ErrorDetail { kind: "additionalDetails".to_owned(), value: clean(&any::compact(more), VALUE) });
        }
    }
    error.details.truncate(MAX_ERROR_DETAILS);
    (error != TaskError::default()).then_some(error)
}

//! Huawei Cloud EVS jobs, and the jobs of every service with the same shape: ECS, BMS, SDRS, EIP, VPC, IMS, Open Telekom Cloud,
//! FlexibleEngine (upstreams.md §2).

use std::{borrow::Cow, sync::Arc};

use super::{
    Answer, Provider, Request, Scan,
    auth::TokenStyle,
    identifiers::{IdentifierRule, Identifiers},
    registration::Registration,
    wire::{
        envelope::{self, Form},
        failure::{Asked, Dialect},
        node::Node,
        path::path,
        rules::{Own, Rule, is_numbered, is_of_http},
        text::text,
    },
};
use crate::{
    api,
    domain::{
        failure::{Failure, FailureClass},
        outputs::{Outputs, is_plain},
        subtasks::MAX_SUBTASKS,
        task::{ErrorDetail, Task, TaskError, TaskRef, TaskState},
        text::{MESSAGE, VALUE, WORD, clean, clean_option},
    },
};

/// Its line in the table.
pub const REGISTRATION: Registration = Registration {
    member: &api::HuaweiCloud::MEMBER,
    about: "EVS and the services of the same job shape",
    // Published jobs and projects have 32 hexadecimal digits or UUIDs; relatives of the shape may have somewhat more (upstreams.md §2.6).
    identifiers: Identifiers {
        task: IdentifierRule { signs: "._:-", longest: 128, example: "4010a32d535527910153552b492c0002" },
        scope: IdentifierRule { signs: "._:-", longest: 128, example: "05041fffa40025702f6dc009cc6f8f33" },
    },
    build: |given, outputs| {
        let scope = given.huawei_cloud.as_ref().map_or("", |spec| &spec.project_id);
        Arc::new(HuaweiCloud::new(scope).showing(outputs))
    },
};

/// The published words of the status, in lower case: those of the job shape and of its family (upstreams.md §2.2, §2.6).
/// Any other counts as running; so do the numbers of CPH and `WorkspaceApp`, which contradict each other.
const STATES: &[(&str, TaskState)] = &[
    ("init", TaskState::Pending),
    ("waiting_execute", TaskState::Pending),
    ("pending", TaskState::Pending),
    ("pending_payment", TaskState::Pending),
    ("waiting", TaskState::Pending),
    ("created", TaskState::Pending),
    ("success", TaskState::Succeeded),
    ("completed", TaskState::Succeeded),
    ("complete", TaskState::Succeeded),
    ("fail", TaskState::Failed),
    ("failed", TaskState::Failed),
    ("rollback_fail", TaskState::Failed),
    ("cancel", TaskState::Cancelled),
    ("cancelled", TaskState::Cancelled),
    ("canceled", TaskState::Cancelled),
    ("abort", TaskState::Cancelled),
    ("stop", TaskState::Cancelled),
    ("terminated", TaskState::Cancelled),
];

/// Keys of a job, first one first: the core shape's, then those of its relatives (upstreams.md §2.4, §2.6).
mod key {
    pub const ID: &[&str] = &["job_id", "id", "jobId"];
    pub const TYPE: &[&str] = &["job_type", "type"];
    pub const NAME: &[&str] = &["job_name", "name"];
    pub const STARTED: &[&str] = &["begin_time", "start_time"];
    pub const CREATED: &[&str] = &["created_time", "created", "created_at"];
    pub const ENDED: &[&str] = &["end_time", "ended", "completion_time"];
    pub const PERCENT: &[&str] = &["process_percent", "job_progress", "progress", "process"];
    pub const CODE: &[&str] = &["error_code", "errCode", "failed_code", "code"];
    pub const REASON: &[&str] = &[
        "fail_reason",
        "fail_resson",
        "error_msg",
        "errMsg",
        "failed_detail",
        "errorcode_message",
        "error",
        "addition_error_msg",
        "message",
    ];
    pub const SUB_JOBS: &[&str] = &["sub_jobs", "sub_jobs_result"];
    /// What in `entities` is not a result, beside the errors and figures above.
    pub const NO_OUTPUT: &[&str] =
        &["sub_jobs_total", "sub_jobs_list", "current_task", "error_code", "alarm_code", "subJobsTotal", "results"];
    /// Identifiers in `entities` that are not those of the resource.
    pub const NO_RESOURCE: &[&str] = &["job_id", "project_id", "tenant_id", "domain_id", "order_id", "request_id"];
}

/// What the codes of the services and of the gateway mean, where the HTTP status does not tell (upstreams.md §2.3–§2.5; the gateway's
/// from Huawei Cloud, "API Request Signing Guide: Error Codes", where APIG and APIGW number alike).
const DIALECT: Dialect<'static> = Dialect {
    system: "Huawei Cloud",
    task: "job",
    scope: "project",
    scope_field: "spec.provider.huaweiCloud.projectID",
    same_prefix: Some(("APIGW.", "APIG.")),
    own: &[
        Own { form: Form::Flat, code: is_of_service, names_tasks: true },
        Own { form: Form::Status, code: is_of_service, names_tasks: true },
        Own { form: Form::Error, code: is_of_service, names_tasks: true },
        Own { form: Form::Titled, code: is_of_service, names_tasks: true },
        Own { form: Form::Message, code: is_of_service, names_tasks: true },
        Own { form: Form::OpenStack, code: is_of_http, names_tasks: true },
        // The gateway and the identity service speak of rights and credentials, and know no jobs.
        Own { form: Form::Flat, code: is_of_gateway, names_tasks: false },
        Own { form: Form::Titled, code: is_of_http, names_tasks: false },
    ],
    rules: &[
        Rule::code("Common.0011", FailureClass::NotFound, ""),
        Rule::code("Common.0013", FailureClass::AuthenticationFailed, EXPIRED),
        Rule::code(
            "Common.0018",
            FailureClass::ScopeNotFound,
            "The project of the token is not {scope}: check spec.provider.huaweiCloud.projectID, spec.task.scope and the credential's project",
        ),
        Rule::code("Common.0024", FailureClass::RateLimited, ""),
        Rule::code("Common.1503", FailureClass::RateLimited, ""),
        Rule::code(
            "APIG.0101",
            FailureClass::InvalidRequest,
            "There is no such API at the connection's endpoint: check the host of spec.provider.huaweiCloud.endpoint, its service and region",
        ),
        Rule::code("APIG.0103", FailureClass::UpstreamUnavailable, ""),
        Rule::code("APIG.0104", FailureClass::UpstreamUnavailable, ""),
        Rule::code("APIG.0105", FailureClass::UpstreamUnavailable, ""),
        Rule::code("APIG.0106", FailureClass::UpstreamUnavailable, ""),
        Rule::text(
            "APIG.0301",
            &["signature expired", "signature time", "x-sdk-date"],
            FailureClass::AuthenticationFailed,
            CLOCK,
        ),
        Rule::text("APIG.0301", &["reach the limit", "reached the limit"], FailureClass::AuthenticationFailed, LOCKED),
        Rule::text("APIG.0301", &["not exist"], FailureClass::AuthenticationFailed, NO_KEY),
        Rule::text("APIG.0301", &["aksk", "signature"], FailureClass::AuthenticationFailed, WRONG_SIGNATURE),
        Rule::text("APIG.0301", &["token"], FailureClass::AuthenticationFailed, WRONG_TOKEN),
        Rule::code("APIG.0301", FailureClass::AuthenticationFailed, WRONG),
        Rule::code("APIG.0302", FailureClass::PermissionDenied, ""),
        Rule::code("APIG.0303", FailureClass::AuthenticationFailed, ""),
        Rule::code("APIG.0304", FailureClass::PermissionDenied, ""),
        Rule::code("APIG.0305", FailureClass::AuthenticationFailed, ""),
        Rule::code("APIG.0307", FailureClass::AuthenticationFailed, EXPIRED),
        Rule::code("APIG.0308", FailureClass::RateLimited, ""),
        Rule::code("APIG.0311", FailureClass::AuthenticationFailed, ""),
        Rule::code("APIG.0501", FailureClass::RateLimited, ""),
        Rule::code("APIG.0502", FailureClass::PermissionDenied, ""),
        Rule::code("APIG.1009", FailureClass::AuthenticationFailed, ""),
        // The services answer 401 and 403 alike to a user without the right (upstreams.md §2.4 "status codes unreliable").
        Rule::text(
            "",
            &[
                "policy doesn't allow",
                "policy does not allow",
                "no permission",
                "not have permission",
                "not have the permission",
                "lacks permission",
                "insufficient permission",
                "not authorized to",
                "not allowed to perform",
            ],
            FailureClass::PermissionDenied,
            "",
        ),
    ],
};

/// Whether a code is a service's: words and a number, as `Common.0011`, `EVS.2024`, `SFS.TURBO.0001`.
fn is_of_service(code: &str) -> bool {
    is_numbered(code) && !is_of_gateway(code)
}

/// Whether a code is the API gateway's.
fn is_of_gateway(code: &str) -> bool {
    is_numbered(code) && (code.starts_with("APIG.") || code.starts_with("APIGW."))
}

// What `APIG.0301` means beside the text that it comes with (upstreams.md §2.3; Huawei Cloud, "API Request Signing Guide", FAQ "Common
// Errors Related to IAM Authentication Information", and the SDKs' issues).
const CLOCK: &str = "The clock of the operator {clock}, so its signatures count as expired: correct the clock of the node \
    (the access key itself was not refused)";
const LOCKED: &str = "Huawei Cloud has locked the access key for 5 minutes after too many wrong signatures: check that the secret access \
    key in the Secret that spec.auth.accessKey.secretRef names belongs to the access key, and that nothing else uses an old one";
const NO_KEY: &str = "Huawei Cloud knows no such access key: check the access key in the Secret that spec.auth.accessKey.secretRef names; \
    it may have been deleted, or belong to another cloud";
const WRONG_SIGNATURE: &str = "Huawei Cloud refused the signature: check that the secret access key in the Secret that \
    spec.auth.accessKey.secretRef names belongs to the access key, and that no proxy changes the requests (five wrong attempts lock an access key for 5 minutes)";
const WRONG_TOKEN: &str = "Huawei Cloud cannot read the token: check that it is whole, that it comes from the identity service of this \
    region and environment, and the Secret that spec.auth names";
const WRONG: &str = "Huawei Cloud refused the credential as wrong: check the Secret that spec.auth names (five wrong attempts lock an \
    access key for 5 minutes)";

/// A token from a regional IAM endpoint used in another region reads as expired (upstreams.md §2.3).
const EXPIRED: &str = "The token has expired, was invalidated, or comes from the IAM endpoint of another region: \
    check the Secret that spec.auth names, and spec.auth.keystone.endpoint";

/// Huawei Cloud; the scope is a project.
#[derive(Clone, Debug)]
pub struct HuaweiCloud {
    project_id: String,
    outputs: Outputs,
}

impl HuaweiCloud {
    /// For the jobs of `project_id`, unless a task names another project.
    #[must_use]
    pub fn new(project_id: impl Into<String>) -> Self {
        Self { project_id: project_id.into(), outputs: Outputs::default() }
    }

    /// The same, with these results shown.
    #[must_use]
    pub fn showing(self, outputs: Outputs) -> Self {
        Self { outputs, ..self }
    }
}

impl Provider for HuaweiCloud {
    fn name(&self) -> &str {
        REGISTRATION.name()
    }

    fn default_scope(&self) -> &str {
        &self.project_id
    }

    fn token_style(&self) -> TokenStyle {
        TokenStyle::XAuthToken
    }

    fn keystone_project(&self) -> Option<&str> {
        Some(&self.project_id)
    }

    fn task_request(&self, task: &TaskRef) -> Request {
        let mut request = Request::get(path("/v1/{}/jobs/{}", &[&task.scope, &task.id]));
        request.headers.insert(http::header::ACCEPT, http::HeaderValue::from_static("application/json"));
        request
    }

    fn decode_task(&self, task: &TaskRef, answer: &Answer) -> Result<Task, Failure> {
        let asked = Asked { scope: &task.scope, task: Some(&task.id) };
        let text = text(answer);
        let body = DIALECT.parse(asked, answer, &text)?;
        let job = job_of(&body, &task.id);
        let Some(mut found) = is_job(job).then(|| read(job, &self.outputs)).flatten() else {
            // ECS puts the error of the query into the place of the job, also with 200 and 202 (upstreams.md §2.1, §2.4).
            return Err(match envelope::read(job).or_else(|| envelope::read(&body)) {
                Some(error) => DIALECT.failure(asked, answer, Some(error)),
                None => {
                    DIALECT.invalid(asked, answer, "answered with JSON that is not a job: it has no job_id and status")
                }
            });
        };
        if found.id.is_empty() {
            found.id.clone_from(&task.id);
        }
        if !task.id.is_empty() && !found.id.eq_ignore_ascii_case(&task.id) {
            return Err(DIALECT.invalid(asked, answer, &format!("answered with another job, {}", found.id)));
        }
        let id = found.id.clone();
        let children: Vec<_> =
            sub_jobs(job).enumerate().map(|(index, child)| read_child(child, index, &id, &self.outputs)).collect();
        inherit(&mut found, &children);
        found.adopt(children);
        Ok(found)
    }

    fn scan_list(&self, scope: &str, answer: &Answer, _: &dyn Fn(&str, Option<&str>) -> bool) -> Result<Scan, Failure> {
        Err(DIALECT.invalid(Asked { scope, task: None }, answer, "does not list jobs"))
    }
}

/// The job in a body: itself, or where relatives of the shape put it, some of which answer with an array even to an identifier
/// (upstreams.md §2.4, §2.6).
fn job_of<'n, 'a>(body: &'n Node<'a>, id: &str) -> &'n Node<'a> {
    let wrapped = ["job", "data"].iter().map(|key| body.get(key)).find(|node| node.is_map());
    let listed = || {
        let items = ["jobs", "tasks"].iter().map(|key| body.get(key).items()).find(|items| !items.is_empty())?;
        let named = |item: &&Node<'_>| item.first(key::ID).text().is_some_and(|found| found.eq_ignore_ascii_case(id));
        items.iter().find(named).or(if let [only] = items { Some(only) } else { None })
    };
    if body.get("status").is_blank() { wrapped.or_else(listed).unwrap_or(body) } else { body }
}

/// Whether it looks like a job beside its status: an error may have a `status`, too.
fn is_job(node: &Node<'_>) -> bool {
    let is_there = |key| !node.get(key).is_blank();
    // `type` alone will not do: problem documents (RFC 9457) have it beside their status, too.
    key::ID.iter().copied().any(is_there)
        || is_there("job_type")
        || key::STARTED.iter().copied().any(is_there)
        || node.get("entities").is_map()
}

/// A job without its sub-jobs; none without a status. The identifier may be empty.
fn read(node: &Node<'_>, shown: &Outputs) -> Option<Task> {
    let word = |keys| node.first(keys).text().and_then(|text| clean_option(&text, WORD));
    let entities = node.get("entities");
    let upstream_state = word(&["status"])?;
    let state = STATES
        .iter()
        .find(|(name, _)| upstream_state.eq_ignore_ascii_case(name))
        .map_or(TaskState::Running, |(_, state)| *state);

    let mut task = Task::new(word(key::ID).unwrap_or_default(), state, upstream_state);
    task.name = word(key::NAME);
    task.kind = word(key::TYPE);
    task.percent = [entities, node]
        .into_iter()
        .flat_map(|node| key::PERCENT.iter().map(|key| node.get(key)))
        .find_map(Node::percent);
    task.created_time = node.first(key::CREATED).time();
    task.start_time = node.first(key::STARTED).time();
    // Relatives of the shape set the end of a job that runs, and an error code on one that succeeded (upstreams.md §2.4).
    task.completion_time = state.is_finished().then(|| node.first(key::ENDED).time()).flatten();
    task.error = (state == TaskState::Failed).then(|| error(node, entities)).flatten().map(Box::new);
    task.outputs = shown.of(outputs(entities));
    task.resource = outputs(entities)
        .find(|(key, value)| key.ends_with("_id") && !key::NO_RESOURCE.contains(&key.as_ref()) && is_plain(key, value))
        .and_then(|(_, value)| clean_option(&value, VALUE));
    task.fit();
    Some(task)
}

/// A sub-job; one without a status counts as running, one without an identifier is named by its place.
fn read_child(node: &Node<'_>, index: usize, parent: &str, shown: &Outputs) -> Task {
    let mut task = read(node, shown).unwrap_or_else(|| {
        let id = node.first(key::ID).text().map(|id| clean(&id, WORD));
        Task::new(id.unwrap_or_default(), TaskState::Running, "")
    });
    if task.id.is_empty() {
        task.id = format!("{parent}.{index}");
    }
    task.parent_id = Some(parent.to_owned());
    task.order = i64::try_from(index).unwrap_or(i64::MAX);
    task
}

/// The sub-jobs, wherever they are (upstreams.md §2.1).
fn sub_jobs<'n, 'a>(job: &'n Node<'a>) -> impl Iterator<Item = &'n Node<'a>> {
    let places = [job.get("entities"), job].into_iter().flat_map(|node| key::SUB_JOBS.iter().map(|key| node.get(key)));
    let found = places.map(Node::items).find(|items| !items.is_empty()).unwrap_or(&[]);
    found.iter().filter(|child| child.is_map()).take(MAX_SUBTASKS)
}

/// The scalars of `entities` that may be results.
fn outputs<'n>(entities: &'n Node<'_>) -> impl Iterator<Item = (Cow<'n, str>, Cow<'n, str>)> + Clone {
    let no_output = |key: &str| [key::NO_OUTPUT, key::PERCENT, key::REASON].iter().any(|keys| keys.contains(&key));
    let fields = entities.entries().iter().filter(move |(key, _)| !no_output(key));
    fields.filter_map(|(key, value)| Some((Cow::Borrowed(key.as_ref()), value.text()?)))
}

/// What a failed job says of its failure: first itself, then its entities (IMS and ECS sub-jobs, upstreams.md §2.1).
fn error(node: &Node<'_>, entities: &Node<'_>) -> Option<TaskError> {
    let nested = node.get("error");
    let places = [node, nested, entities];
    let find = |keys: &[&str]| places.iter().flat_map(|place| keys.iter().map(|key| place.get(key))).find_map(said);
    let mut error = TaskError {
        code: find(key::CODE).and_then(|code| clean_option(&code, WORD)),
        message: find(key::REASON).and_then(|text| clean_option(&text, MESSAGE)),
        ..TaskError::default()
    };
    for key in ["addition_error_msg", "alarm_code"] {
        let value = said(entities.get(key)).and_then(|text| clean_option(&text, VALUE));
        if let Some(value) = value.filter(|value| error.message.as_ref() != Some(value)) {
            error.details.push(ErrorDetail { kind: key.to_owned(), value });
        }
    }
    (error != TaskError::default()).then_some(error)
}

/// A text that says something; zeros and `"null"` do not.
fn said(node: &Node<'_>) -> Option<String> {
    node.text().filter(|text| !envelope::is_zero(text) && text.as_ref() != "null").map(Cow::into_owned)
}

/// What a parent leaves to its parts to say: why it failed, and, where there is only one part, what came of it.
fn inherit(parent: &mut Task, children: &[Task]) {
    if parent.state == TaskState::Failed {
        let error = parent.error.get_or_insert_default();
        let failed = || children.iter().filter_map(|child| child.error.as_deref());
        if error.message.is_none()
            && let Some(cause) = failed().find(|cause| cause.message.is_some())
        {
            error.message.clone_from(&cause.message);
            if error.code.is_none() {
                error.code.clone_from(&cause.code);
            }
        }
        if error.code.is_none() {
            error.code = failed().find_map(|cause| cause.code.clone());
        }
        if **error == TaskError::default() {
            parent.error = None;
        }
    }
    // "When sub-jobs exist, other fields of entities are not returned" (upstreams.md §2.1).
    if let [child] = children
        && parent.outputs.is_empty()
    {
        parent.outputs.clone_from(&child.outputs);
        parent.resource = parent.resource.take().or_else(|| child.resource.clone());
    }
}

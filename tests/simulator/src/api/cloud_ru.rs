//! Cloud.ru Managed OpenShift tasks: seed 000 and upstreams.md §1.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{Kind, Route, joined, overlay};
use crate::clock::millis_z;
use crate::http::{AuthOutcome, JSON, Reply, Request};
use crate::scenario::{AnyStyle, EmptyError, Options, Provider, Step, TaskError};
use crate::tasks::Task;
use crate::world::{Scope, World};

/// Answers `/openshift/v1/{serviceInstanceId}/tasks` and `…/tasks/{taskId}`.
pub(crate) fn answer(world: &World, request: &Request, route: &Route) -> Reply {
    let scope = route.scope.as_deref().and_then(|s| world.scope(Provider::CloudRu, s));
    let options = scope.as_ref().map(|s| s.spec().options).unwrap_or_default();
    if route.kind == Kind::Other {
        // Code 5 only for a wrong route (§1.4).
        return status(options, 404, 5, "Not Found", &[]);
    }
    if request.method != "GET" {
        return status(options, 405, 12, "Method Not Allowed", &[]);
    }
    let id = route.scope.as_deref().unwrap_or_default();
    let Some(token) = request.bearer() else {
        return status(options, 401, 16, "missing bearer token", &[]).with_auth(AuthOutcome::Missing);
    };
    let verdict = world.judge_token(Provider::CloudRu, id, token);
    let reply = match (verdict.outcome, scope) {
        (AuthOutcome::Ok, Some(scope)) => serve(world, &scope, route, options),
        (AuthOutcome::OtherScope, Some(_)) | (AuthOutcome::Denied, _) => {
            status(options, 403, 7, "permission denied", &[])
        }
        (AuthOutcome::OtherScope | AuthOutcome::Ok, None) => not_found(options, "service_instance", id),
        (AuthOutcome::Expired, _) => status(options, 401, 16, "token is expired", &[]),
        _ => status(options, 401, 16, "invalid token", &[]),
    };
    reply.with_auth(verdict.outcome)
}

fn serve(world: &World, scope: &Scope, route: &Route, options: Options) -> Reply {
    let spec = scope.spec();
    let mut tasks = scope.tasks_at(world.clock.now_ms());
    let render = |t: &Task, s: &Step| render(&spec.id, options, t, s).to_string().into_bytes();
    if let Some(id) = &route.id {
        return match tasks.get_mut(id).and_then(|t| t.body(render)) {
            Some(body) => Reply::new(200, JSON, joined(b"{\"task\":", &[body], b"}")),
            None => not_found(options, "task", id),
        };
    }
    let body = tasks.kept_list("").unwrap_or_else(|| {
        let items: Vec<Bytes> = tasks.iter_mut().filter_map(|t| t.body(render)).collect();
        let body = joined(b"{\"tasks\":[", &items, b"]}");
        tasks.keep_list("", &body);
        body
    });
    Reply::new(200, JSON, body)
}

fn render(scope: &str, options: Options, task: &Task, step: &Step) -> Value {
    let mut out = Map::new();
    out.insert("id".into(), task.id.clone().into());
    out.insert("command".into(), task.common.name.as_deref().unwrap_or("CREATE_CLUSTER").into());
    out.insert("status".into(), step.state.clone().into());
    out.insert("createdAt".into(), millis_z(task.created_ms).into());
    out.insert("modifiedAt".into(), millis_z(task.since_ms).into());
    let by = task.common.created_by.as_deref().unwrap_or("3f1b2c1e-8d0e-4b7e-9d43-0c1d5c2a9f10");
    out.insert("createdBy".into(), by.into());
    out.insert("serviceInstanceId".into(), scope.into());
    for (key, value) in [("metadata", &step.metadata), ("response", &step.response)] {
        match value {
            Some(value) => out.insert(key.into(), any(options.any, value)),
            None if options.empty_error == EmptyError::Absent => None,
            None => out.insert(key.into(), Value::Null),
        };
    }
    match (&step.error, options.empty_error) {
        (Some(e), _) if options.string_error => out.insert("error".into(), e.message.clone().into()),
        (Some(e), _) => out.insert("error".into(), error(options.any, e)),
        (None, EmptyError::Absent) => None,
        (None, EmptyError::Null) => out.insert("error".into(), Value::Null),
        (None, EmptyError::Zero) => out.insert("error".into(), json!({"code": 0, "message": "", "details": []})),
    };
    overlay(&mut out, &task.common.fields, &task.common.remove);
    overlay(&mut out, &step.fields, &step.remove);
    Value::Object(out)
}

fn error(style: AnyStyle, error: &TaskError) -> Value {
    let details: Vec<Value> = error.details.iter().map(|d| any(style, d)).collect();
    json!({"code": error.code, "message": error.message, "details": details})
}

/// An Any is told by `{"typeUrl", "value"}`; with `@type` an object's fields stand beside it (§1.1).
fn any(style: AnyStyle, value: &Value) -> Value {
    let (Some(map), AnyStyle::AtType) = (value.as_object(), style) else { return value.clone() };
    let mut out = Map::new();
    for (key, value) in map {
        match (key.as_str(), value) {
            ("typeUrl", v) => out.insert("@type".into(), v.clone()),
            ("value", Value::Object(fields)) => {
                out.extend(fields.clone());
                None
            }
            (_, v) => out.insert(key.clone(), v.clone()),
        };
    }
    Value::Object(out)
}

/// A missing resource is 400 with code 9 and a `ResourceInfo` (§1.4).
fn not_found(options: Options, kind: &str, id: &str) -> Reply {
    let detail = json!({"@type": "google.rpc.ResourceInfo", "resourceType": kind, "resourceName": id,
        "description": format!("{kind} not found")});
    status(options, 400, 9, &format!("{kind} {id} not found"), &[detail])
}

/// The same, for a fault.
pub(crate) fn missing(id: &str) -> Reply {
    not_found(Options::default(), "task", id)
}

/// `google.rpc.Status` at top level, or grpc-gateway's form of before v2 (§1.4).
fn status(options: Options, http: u16, code: i32, message: &str, details: &[Value]) -> Reply {
    if options.legacy_errors {
        return Reply::json(http, &json!({"error": message, "code": code}));
    }
    Reply::json(http, &json!({"code": code, "message": message, "details": details}))
}

/// The gRPC code that belongs to an HTTP status (google.rpc.Code).
pub(crate) fn error_for_status(http: u16) -> Reply {
    let (code, message) = match http {
        400 => (3, "invalid argument"),
        401 => (16, "unauthenticated"),
        403 => (7, "permission denied"),
        404 => (5, "Not Found"),
        409 => (10, "aborted"),
        429 => (8, "resource exhausted"),
        501 => (12, "unimplemented"),
        503 => (14, "unavailable"),
        504 => (4, "deadline exceeded"),
        _ => (13, "internal error"),
    };
    status(Options::default(), http, code, message, &[])
}

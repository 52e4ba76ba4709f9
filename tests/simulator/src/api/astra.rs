//! NetApp Astra Control tasks: seed 002 and upstreams.md §3.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{Kind, Route, joined, overlay};
use crate::clock::micros_z;
use crate::filter::{self, Clause};
use crate::http::{AuthOutcome, JSON, Reply, Request};
use crate::scenario::{Options, Provider, Step};
use crate::tasks::{Task, Tasks};
use crate::world::{Scope, World};

const PROBLEM: &str = "application/problem+json";
const TASK: &str = "application/astra-task+json";
const NIL: &str = "00000000-0000-0000-0000-000000000000";

/// Answers `/accounts/{account_id}/core/v1/tasks` and `…/tasks/{task_id}`.
pub(crate) fn answer(world: &World, request: &Request, route: &Route) -> Reply {
    let Some(token) = request.bearer() else { return problem(3).with_auth(AuthOutcome::Missing) };
    let account = route.scope.as_deref().unwrap_or_default();
    let verdict = world.judge_token(Provider::AstraControl, account, token);
    let scope = world.scope(Provider::AstraControl, account);
    let reply = match (verdict.outcome, scope) {
        (AuthOutcome::Ok, Some(scope)) if route.kind != Kind::Other => {
            if request.method == "GET" {
                serve(world, &scope, request, route)
            } else {
                problem(11)
            }
        }
        (AuthOutcome::Denied, _) => problem(verdict.denied),
        // Collection not found: a wrong account ID or product (§3.4).
        (AuthOutcome::Ok | AuthOutcome::OtherScope, _) => problem(2),
        _ => problem(4),
    };
    reply.with_auth(verdict.outcome)
}

fn serve(world: &World, scope: &Scope, request: &Request, route: &Route) -> Reply {
    let Some(content_type) = negotiated(request, route.kind) else { return problem(32) };
    let spec = scope.spec();
    let mut tasks = scope.tasks_at(world.clock.now_ms());
    if let Some(id) = &route.id {
        if let Some((name, _)) = request.pairs().into_iter().next() {
            return invalid(6, &[(&name, "not supported")]);
        }
        let render = |t: &Task, s: &Step| Value::Object(render(&spec.id, spec.options, t, s)).to_string().into_bytes();
        return match tasks.get_mut(id).and_then(|t| t.body(render)) {
            Some(body) => Reply::new(200, content_type, body.clone()).with_header("ETag", etag(&body)),
            None => problem(1),
        };
    }
    let body = match tasks.kept_list(&request.query) {
        Some(body) => body,
        None => match list(&mut tasks, &spec.id, spec.options, &request.pairs()) {
            Ok(body) => {
                tasks.keep_list(&request.query, &body);
                body
            }
            Err(reply) => return *reply,
        },
    };
    // Hashing 12 MB for each list would cost more than the list; the document does not say what the tag is made of.
    let tag = etag(format!("{}{}{}", spec.id, tasks.version(), request.query).as_bytes());
    Reply::new(200, JSON, body).with_header("ETag", tag)
}

/// The answer's content type; None: nothing that is accepted (§3.1).
fn negotiated(request: &Request, kind: Kind) -> Option<&'static str> {
    let Some(accept) = request.header("accept").filter(|a| !a.trim().is_empty()) else { return Some(JSON) };
    let types: Vec<&str> = accept.split(',').map(|t| t.split(';').next().unwrap_or_default().trim()).collect();
    if kind == Kind::Task && types.contains(&TASK) {
        return Some(TASK);
    }
    let known = ["*/*", "application/*", JSON, "application/astra-tasks+json"];
    types.iter().any(|t| known.contains(t)).then_some(JSON)
}

/// A quoted opaque tag of 32 hex digits (FNV-1a).
fn etag(bytes: &[u8]) -> String {
    let prime = 0x0000_0000_0100_0000_0000_0000_0000_013B_u128;
    let hash = bytes
        .iter()
        .fold(0x6C62_272E_07BB_0142_62B8_2175_6295_C58D_u128, |h, b| (h ^ u128::from(*b)).wrapping_mul(prime));
    format!("\"{hash:032x}\"")
}

#[derive(Default)]
struct Asked {
    include: Vec<String>,
    limit: Option<usize>,
    filter: Vec<Clause>,
    offset: usize,
}

/// `include`, `limit` and `filter`, and nothing else (§3.3).
fn read_query(options: Options, pairs: &[(String, String)]) -> Result<Asked, Box<Reply>> {
    let mut asked = Asked::default();
    let unknown: Vec<(&str, &str)> = pairs
        .iter()
        .map(|(k, _)| k.as_str())
        .filter(|k| !(matches!(*k, "include" | "limit" | "filter") || *k == "continue" && options.accept_continue))
        .map(|k| (k, "not supported"))
        .collect();
    if !unknown.is_empty() {
        return Err(Box::new(invalid(6, &unknown)));
    }
    let bad = |name: &str, reason: &str| Box::new(invalid(5, &[(name, reason)]));
    for (name, value) in pairs {
        match name.as_str() {
            "include" => {
                let fields: Vec<String> = value.split(',').map(|f| f.trim().to_owned()).collect();
                if let Some(wrong) =
                    fields.iter().find(|f| !INCLUDABLE.contains(&f.split('.').next().unwrap_or_default()))
                {
                    return Err(bad("include", &format!("'{wrong}' is not a field of a task")));
                }
                asked.include = fields;
            }
            // `[1-9][0-9]*`, no maximum stated.
            "limit" => {
                let digits = value.bytes().all(|b| b.is_ascii_digit()) && !value.starts_with('0');
                asked.limit = value.parse().ok().filter(|_| digits);
                if asked.limit.is_none() {
                    return Err(bad("limit", "must match [1-9][0-9]*"));
                }
            }
            "filter" => asked.filter = filter::parse(value).map_err(|why| bad("filter", &why))?,
            _ => {
                let text = BASE64.decode(value).ok().and_then(|b| String::from_utf8(b).ok());
                let offset = text.and_then(|t| t.strip_prefix("offset:").and_then(|n| n.parse().ok()));
                asked.offset = offset.ok_or_else(|| bad("continue", "is not a token of this list"))?;
            }
        }
    }
    Ok(asked)
}

/// The fields of seed 002, `task_1.1_get_response_body`.
const INCLUDABLE: [&str; 21] = [
    "type",
    "version",
    "id",
    "name",
    "summary",
    "description",
    "service",
    "parentTaskID",
    "userID",
    "resourceID",
    "resourceURI",
    "resourceCollectionURI",
    "state",
    "stateTransitions",
    "stateDetails",
    "orderHint",
    "percentDone",
    "startTime",
    "endTime",
    "cancelTime",
    "metadata",
];

fn list(tasks: &mut Tasks, account: &str, options: Options, pairs: &[(String, String)]) -> Result<Bytes, Box<Reply>> {
    let asked = read_query(options, pairs)?;
    let own = if options.page_size == 0 { usize::MAX } else { options.page_size };
    let page = asked.limit.unwrap_or(usize::MAX).min(own);
    let whole = |t: &Task, s: &Step| Value::Object(render(account, options, t, s)).to_string().into_bytes();
    let key = asked.include.join(",");
    let mut items = Vec::new();
    let mut more = false;
    let mut newest = 0;
    let matching =
        tasks.iter_mut().filter(|t| t.step().is_some_and(|s| matches(account, options, t, s, &asked.filter)));
    for task in matching.skip(asked.offset) {
        if items.len() == page {
            more = true;
            break;
        }
        newest = newest.max(task.since_ms);
        let item = if key.is_empty() {
            task.body(whole)
        } else {
            task.projection(&key, |t, s| project(&render(account, options, t, s), &asked.include))
        };
        items.extend(item);
    }
    let mut metadata = json!({"labels": [], "creationTimestamp": micros_z(newest), "modificationTimestamp": micros_z(newest),
        "createdBy": "8f84cf09-8036-51e4-b579-bd30cb07b269"});
    if more {
        metadata["continue"] = BASE64.encode(format!("offset:{}", asked.offset + items.len())).into();
    }
    let open = br#"{"type":"application/astra-tasks","version":"1.1","items":["#;
    Ok(joined(open, &items, format!("],\"metadata\":{metadata}}}").as_bytes()))
}

/// Items become arrays of values in the requested order (§3.3).
fn project(task: &Map<String, Value>, include: &[String]) -> Vec<u8> {
    let value = |field: &String| {
        let mut parts = field.split('.');
        let first = parts.next().and_then(|p| task.get(p));
        parts.fold(first, |v, p| v?.get(p)).cloned().unwrap_or(Value::Null)
    };
    include.iter().map(value).collect::<Value>().to_string().into_bytes()
}

/// Filters on the usual fields cost no rendering.
fn matches(account: &str, options: Options, task: &Task, step: &Step, clauses: &[Clause]) -> bool {
    if clauses.is_empty() {
        return true;
    }
    let plain = task.common.fields.is_empty() && task.common.remove.is_empty();
    let plain = plain && step.fields.is_empty() && step.remove.is_empty();
    let mut whole = None;
    clauses.iter().all(|c| match c.field.as_str() {
        "id" if plain => c.passes_text(&task.id),
        "state" if plain => c.passes_text(&step.state),
        "parentTaskID" if plain => task.common.parent.as_deref().is_some_and(|p| c.passes_text(p)),
        "metadata.modificationTimestamp" if plain => c.passes_text(&micros_z(task.since_ms)),
        _ => c.passes(whole.get_or_insert_with(|| Value::Object(render(account, options, task, step)))),
    })
}

fn render(account: &str, options: Options, task: &Task, step: &Step) -> Map<String, Value> {
    let common = &task.common;
    let name = common.name.as_deref().unwrap_or("astra.backup");
    let summary = common.summary.as_deref().unwrap_or("Backup");
    let resource = "736a0978-d55f-4841-8b7c-dc0c0f592c6f";
    let own = format!("/accounts/{account}/k8s/v1/apps/7c8bef49-697e-4fb4-810c-675cef4cf6c9/appBackups/{resource}");
    let uri = common.resource.as_deref().unwrap_or(&own);
    let transitions =
        json!([{"from": "running", "to": ["paused", "cancelled"]}, {"from": "paused", "to": ["running", "cancelled"]}]);
    let mut out = json!({
        "type": "application/astra-task", "version": "1.1", "id": task.id, "name": name,
        "summary": summary, "description": summary, "service": "nautilus",
        "userID": common.created_by.as_deref().unwrap_or("abda967f-cd2c-4237-908e-99266648c553"),
        "resourceID": uri.rsplit('/').next().unwrap_or(resource), "resourceURI": uri, "resourceCollectionURI": [uri],
        "state": step.state, "stateTransitions": transitions, "stateDetails": step.details,
        "orderHint": number(common.order_hint.unwrap_or(0.0)),
        "metadata": {"labels": [], "creationTimestamp": micros_z(task.created_ms),
            "modificationTimestamp": micros_z(task.since_ms), "createdBy": NIL},
    });
    let Some(out) = out.as_object_mut().map(std::mem::take) else { return Map::new() };
    let mut out = out;
    if let Some(parent) = &common.parent {
        out.insert("parentTaskID".into(), parent.clone().into());
    }
    let ended = matches!(step.state.as_str(), "completed" | "failed" | "cancelled");
    // "When completed is set to 100" (§3.1).
    let percent = if step.state == "completed" { Some(100.0) } else { step.percent };
    if let Some(percent) = percent {
        out.insert("percentDone".into(), number(percent));
    }
    if step.state != "notStarted" {
        out.insert("startTime".into(), micros_z(task.created_ms).into());
    }
    // The published example is running and has an endTime (§3.1).
    if ended || options.end_time_while_running {
        out.insert("endTime".into(), micros_z(task.since_ms).into());
    }
    if step.state == "cancelled" {
        out.insert("cancelTime".into(), micros_z(task.since_ms).into());
    }
    overlay(&mut out, &common.fields, &common.remove);
    overlay(&mut out, &step.fields, &step.remove);
    out
}

/// `100` and `20.25`, as in seed 002.
#[allow(clippy::cast_possible_truncation)] // small and whole
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e9 { (value as i64).into() } else { value.into() }
}

/// A problem of the documents, by its number (§3.4, seed 002).
pub(crate) fn problem(number: u32) -> Reply {
    let (status, title, detail) = match number {
        1 => (404, "Resource not found", "The resource specified in the request URI wasn't found."),
        2 => (404, "Collection not found", "The collection specified in the request URI wasn't found."),
        3 => (401, "Missing bearer token", "The request is missing the required bearer token."),
        4 => (401, "Invalid bearer token", "The bearer token is invalid or has been revoked."),
        5 => (400, "Invalid query parameters", "The supplied query parameters are invalid."),
        6 => (400, "Query parameters not supported", "The supplied query parameters are not supported."),
        14 => (403, "Unauthorized access", "The user isn't enabled."),
        24 => (503, "Service unavailable", "The service is temporarily unavailable."),
        32 => (406, "Unsupported content type", "The response can't be given in the requested content type."),
        34 => (500, "Internal server error", "The server encountered an unexpected condition."),
        40 => (502, "Bad gateway", "An upstream server gave an invalid response."),
        164 => (409, "Unexpected state", "The resource isn't in the expected state. Retry the request."),
        _ => (403, "Operation not permitted", "The requested operation isn't permitted."),
    };
    let body = problem_body(number, status, title, detail);
    Reply::new(status, PROBLEM, body.to_string())
}

fn problem_body(number: u32, status: u16, title: &str, detail: &str) -> Value {
    // `status` is a string (seed 002).
    json!({"type": format!("https://astra.netapp.io/problems/{number}"), "title": title, "detail": detail,
        "status": status.to_string(), "correlationID": "6d2e1f0c-52aa-4bb6-9e0b-1f5d3a9f7c11"})
}

fn invalid(number: u32, params: &[(&str, &str)]) -> Reply {
    let (title, detail) = match number {
        6 => ("Query parameters not supported", "The supplied query parameters are not supported."),
        _ => ("Invalid query parameters", "The supplied query parameters are invalid."),
    };
    let mut body = problem_body(number, 400, title, detail);
    body["invalidParams"] = params.iter().map(|(name, reason)| json!({"name": name, "reason": reason})).collect();
    Reply::new(400, PROBLEM, body.to_string())
}

/// The problem that belongs to a status, where a fault names only the status.
pub(crate) fn error_for_status(status: u16) -> Reply {
    let number = match status {
        400 => 5,
        401 => 4,
        404 => 1,
        406 => 32,
        409 => 164,
        500 => 34,
        502 => 40,
        503 => 24,
        403 => 11,
        other => {
            // Not in the document (429, for one): the form is the document's, the number is not.
            let body = problem_body(0, other, "Error", "The request could not be served.");
            return Reply::new(other, PROBLEM, body.to_string());
        }
    };
    problem(number)
}

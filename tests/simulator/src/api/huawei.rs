//! Huawei Cloud EVS jobs, and every service with the same shape: seed 001 and upstreams.md §2.

use serde_json::{Map, Value, json};

use super::{Kind, Route, overlay};
use crate::clock::millis_z;
use crate::http::{AuthOutcome, JSON, Reply, Request};
use crate::scenario::{Nulls, Options, Provider, Step, SubJob, SubJobsAt, TaskError, TokenLayer};
use crate::tasks::Task;
use crate::world::World;

/// Answers `GET /v1/{project_id}/jobs/{job_id}`.
pub(crate) fn answer(world: &World, request: &Request, route: &Route) -> Reply {
    if route.kind == Kind::Other || request.method != "GET" {
        return gateway(404, "APIGW.0101", "The API does not exist or has not been published in the environment");
    }
    let project = route.scope.as_deref().unwrap_or_default();
    let scope = world.scope(Provider::HuaweiCloud, project);
    let options = scope.as_ref().map(|s| s.spec().options).unwrap_or_default();
    let (outcome, why) = match (request.header("x-auth-token"), request.header("authorization")) {
        (Some(token), _) => {
            let own = world.judge_token(Provider::HuaweiCloud, project, token).outcome;
            let outcome = if own == AuthOutcome::Ok { own } else { request.vouched.unwrap_or(own) };
            (outcome, "decrypt token fail")
        }
        (None, Some(header)) => world.judge_signature(project, header, request),
        (None, None) => (AuthOutcome::Missing, "no token and no signature"),
    };
    let reply = match (outcome, scope) {
        (AuthOutcome::Ok, Some(scope)) => {
            let mut tasks = scope.tasks_at(world.clock.now_ms());
            let id = route.id.as_deref().unwrap_or_default();
            let render = |t: &Task, s: &Step| render(options, t, s).to_string().into_bytes();
            match tasks.get_mut(id).and_then(|t| t.body(render)) {
                Some(body) => Reply::new(200, JSON, body),
                // Not found is 400 here (§0.3).
                None => service(400, "Common.0011", "query job fail."),
            }
        }
        (AuthOutcome::OtherScope | AuthOutcome::Ok, _) => {
            service(400, "Common.0018", "The project ID in the URL does not match that in the token.")
        }
        (AuthOutcome::Expired, _) => expired(options.expired_token),
        (AuthOutcome::Denied, _) => gateway(403, "APIGW.0302", "The IAM user is not authorized to access the API"),
        _ => gateway(401, "APIGW.0301", &format!("Incorrect IAM authentication information: {why}")),
    };
    reply.with_auth(outcome)
}

/// The gateway's or the service's answer to an expired token (§0.3).
pub(crate) fn expired(layer: TokenLayer) -> Reply {
    match layer {
        TokenLayer::Gateway => gateway(401, "APIGW.0307", "The token must be updated."),
        TokenLayer::Service => service(400, "Common.0013", "Invalid token in the header."),
    }
}

fn render(options: Options, task: &Task, step: &Step) -> Value {
    let ended = matches!(step.state.as_str(), "SUCCESS" | "FAIL");
    let mut out = base(&task.id, task.common.name.as_deref().unwrap_or("createVolume"), &step.state);
    out.insert("begin_time".into(), millis_z(task.created_ms).into());
    end_and_error(&mut out, options, step.error.as_ref(), ended.then_some(task.since_ms), &step.state);
    let mut entities = step.entities.clone().unwrap_or_default();
    if let Some(percent) = step.percent.filter(|_| options.sub_jobs == SubJobsAt::Images) {
        entities.insert("process_percent".into(), percent.into());
    }
    if let Some(subs) = &step.sub_jobs {
        let children: Vec<Value> = subs.iter().map(|s| sub_job(options, task, step, s)).collect();
        let total = children.len();
        match options.sub_jobs {
            SubJobsAt::Entities => {
                entities.insert("sub_jobs".into(), children.into());
                entities.insert("sub_jobs_total".into(), total.into());
            }
            SubJobsAt::Top => {
                out.insert("sub_jobs".into(), children.into());
            }
            SubJobsAt::Images => {
                entities.insert("sub_jobs_list".into(), subs.iter().map(|s| s.id.clone()).collect());
                entities.insert("sub_jobs_result".into(), children.into());
            }
        }
    }
    out.insert("entities".into(), entities.into());
    overlay(&mut out, &task.common.fields, &task.common.remove);
    overlay(&mut out, &step.fields, &step.remove);
    Value::Object(out)
}

fn sub_job(options: Options, task: &Task, step: &Step, sub: &SubJob) -> Value {
    let ended = matches!(sub.state.as_str(), "SUCCESS" | "FAIL");
    let mut out = base(&sub.id, &sub.name, &sub.state);
    out.insert("begin_time".into(), millis_z(task.created_ms).into());
    end_and_error(&mut out, options, sub.error.as_ref(), ended.then_some(task.since_ms), &sub.state);
    // A sub-job may lack `entities` (§2.1).
    let mut entities = sub.entities.clone();
    if let (Some(error), "FAIL", None) = (&sub.error, step.state.as_str(), &entities) {
        // ECS tells the cause only in the child (§2.1).
        entities = Some(Map::from_iter([("errorcode_message".to_owned(), error.message.clone().into())]));
    }
    if let Some(entities) = entities {
        out.insert("entities".into(), entities.into());
    }
    Value::Object(out)
}

fn base(id: &str, name: &str, state: &str) -> Map<String, Value> {
    let text = |s: &str| Value::String(s.to_owned());
    [("status", state), ("job_id", id), ("job_type", name)].into_iter().map(|(k, v)| (k.to_owned(), text(v))).collect()
}

fn end_and_error(
    out: &mut Map<String, Value>,
    options: Options,
    error: Option<&TaskError>,
    end_ms: Option<i64>,
    state: &str,
) {
    let nothing = match options.nulls {
        // Running: `end_time` "" and no error keys; succeeded: both null (§2.1).
        Nulls::Published if state == "SUCCESS" => Some(Value::Null),
        Nulls::Published | Nulls::Absent => None,
        Nulls::Null => Some(Value::Null),
        Nulls::Empty => Some("".into()),
    };
    let end = match end_ms {
        Some(ms) => Some(millis_z(ms).into()),
        None if options.nulls == Nulls::Published => Some("".into()),
        None => nothing.clone(),
    };
    let code = error.map(|e| e.code.clone()).or_else(|| nothing.clone());
    let reason = error.map(|e| e.message.clone().into()).or(nothing);
    for (key, value) in [("end_time", end), ("error_code", code), ("fail_reason", reason)] {
        if let Some(value) = value {
            out.insert(key.to_owned(), value);
        }
    }
}

/// The envelope of EVS: seed 001; code is a string.
fn service(status: u16, code: &str, message: &str) -> Reply {
    Reply::json(status, &json!({"error": {"code": code, "message": message}}))
}

/// The envelope of the API gateway (§2.4).
pub(crate) fn gateway(status: u16, code: &str, message: &str) -> Reply {
    let request_id = "9c2f4a5b8a1d4e0f93b0c5d9e6a7f812";
    Reply::json(status, &json!({"error_code": code, "error_msg": message, "request_id": request_id}))
        .with_header("X-Request-Id", request_id)
}

/// What stands behind a status, where a fault names only the status.
pub(crate) fn error_for_status(status: u16) -> Reply {
    match status {
        // HTTP 202 with an error in it (§2.4).
        202 => service(202, "Common.0024", "Flow limit exceeded"),
        401 => gateway(401, "APIGW.0301", "Incorrect IAM authentication information"),
        403 => gateway(403, "APIGW.0302", "The IAM user is not authorized to access the API"),
        429 => gateway(
            429,
            "APIGW.0308",
            "The throttling threshold has been reached: policy user over ratelimit,limit:200,time:5 minute",
        ),
        400 => service(400, "Common.0011", "query job fail."),
        // No code for this is published in what was read; the envelope is.
        s => service(s, "Common.0002", "Internal service error"),
    }
}

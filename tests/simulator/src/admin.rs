//! What tests and people tell the simulator, under `/_admin/`. The README has an example of every call.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::Error;
use crate::clock::seconds_to_ms;
use crate::http::{Reply, Request};
use crate::scenario::{BulkSpec, Provider, Scenario, Step};
use crate::tasks::Task;
use crate::tls::Shown;
use crate::truth;
use crate::world::{Scope, World};

const HELP: &str = "\
GET    /_admin/health                          is it there
GET    /_admin/ca.pem                          the CA to trust (with --tls or --tls-listen)
GET    /_admin/tls                             what its handshakes show
PUT    /_admin/tls                             change that {certificate: right | expired | wrongName | unknownCa | garbage}
POST   /_admin/scenario                        put a scenario in the place of everything
GET    /_admin/scopes                          the scopes, their credentials and options
PUT    /_admin/scopes/{provider}/{id}          add or change a scope {name, credentials, options}
DELETE /_admin/scopes/{provider}/{id}
GET    /_admin/tasks?provider=&scope=          what every task is (same as /_admin/truth)
PUT    /_admin/tasks/{provider}/{scope}/{id}   add or replace a task {name, steps, …}
PATCH  /_admin/tasks/{provider}/{scope}/{id}   from now on {state, percent, error, …} or {steps: […]}
DELETE /_admin/tasks/{provider}/{scope}/{id}   the upstream forgets it
DELETE /_admin/tasks/{provider}/{scope}        … and all of a scope
POST   /_admin/bulk                            many tasks {provider, scope, count, changeEverySeconds | steps}
GET    /_admin/truth?provider=&scope=&id=      the normalised state of every task
GET    /_admin/faults                          what is switched on, and how often it was met
POST   /_admin/faults                          switch one on {match, percent, count, from, until, action}
DELETE /_admin/faults[/{id}]                   switch all, or one, off
GET    /_admin/log?since=&limit=               the requests
DELETE /_admin/log
GET    /_admin/counters                        requests per route and scope, connections, in flight
DELETE /_admin/counters
GET    /_admin/tokens                          the tokens given out (not their text)
POST   /_admin/tokens/expire                   end them now {provider}
GET    /_admin/clock                           the simulated time
POST   /_admin/clock                           shift it {shiftSeconds} or {addSeconds}
";

/// Answers an admin call.
pub(crate) fn answer(world: &World, request: &Request) -> Reply {
    match dispatch(world, request) {
        Ok(reply) => reply,
        Err(error) => Reply::json(400, &json!({"error": error.to_string()})),
    }
}

fn dispatch(world: &World, request: &Request) -> Result<Reply, Error> {
    let segments = request.segments();
    let parts: Vec<&str> = segments.iter().skip(1).map(String::as_str).filter(|p| !p.is_empty()).collect();
    let reply = match (request.method.as_str(), parts.as_slice()) {
        ("GET", []) => Reply::new(200, "text/plain; charset=utf-8", HELP),
        ("GET", ["health"]) => ok(json!({"ok": true, "seed": world.seed})),
        ("GET", ["ca.pem"]) => match &world.tls {
            Some(tls) => Reply::new(200, "application/x-pem-file", tls.ca_pem.clone()),
            None => no_tls(),
        },
        (method @ ("GET" | "PUT"), ["tls"]) => match &world.tls {
            Some(tls) => {
                if method == "PUT" {
                    tls.show(body::<SetTls>(request)?.certificate);
                }
                ok(json!({"certificate": tls.shown()}))
            }
            None => no_tls(),
        },
        ("POST", ["scenario"]) => {
            world.load(Scenario::parse(&String::from_utf8_lossy(&request.body))?)?;
            let tasks: usize = world.all_scopes().iter().map(|s| s.tasks_at(world.clock.now_ms()).len()).sum();
            ok(json!({"scopes": world.all_scopes().len(), "tasks": tasks}))
        }
        ("GET", ["tasks" | "truth"]) => ok(truth_of(world, request)),
        ("POST", ["bulk"]) => {
            let spec: BulkSpec = body(request)?;
            let ids = world.put_bulk(&spec)?;
            ok(json!({"count": ids.len(), "ids": ids}))
        }
        ("GET", ["faults"]) => ok(world.faults.list()),
        ("POST", ["faults"]) => ok(json!({"id": world.faults.add(body(request)?, world.clock.now_ms())})),
        ("DELETE", ["faults"]) => {
            world.faults.clear();
            done()
        }
        ("DELETE", ["faults", id]) => found(world.faults.remove(id)),
        ("GET", ["log"]) => {
            let number = |name: &str| request.pairs().iter().find(|(k, _)| k == name).and_then(|(_, v)| v.parse().ok());
            let limit = number("limit").and_then(|n| usize::try_from(n).ok());
            ok(world.records.read(number("since").unwrap_or(0), limit.unwrap_or(usize::MAX)))
        }
        ("DELETE", ["log"]) => {
            world.records.clear_log();
            done()
        }
        ("GET", ["counters"]) => ok(world.records.counters()),
        ("DELETE", ["counters"]) => {
            world.records.clear_counters();
            done()
        }
        ("GET", ["tokens"]) => ok(tokens(world)),
        ("POST", ["tokens", "expire"]) => ok(expire(world, body(request)?)),
        ("GET", ["clock"]) => ok(clock(world)),
        ("POST", ["clock"]) => {
            let set: SetClock = body(request)?;
            let shift = set.shift_seconds.map_or(world.clock.shift_ms(), seconds_to_ms);
            world.clock.set_shift_ms(shift + seconds_to_ms(set.add_seconds));
            ok(clock(world))
        }
        ("GET", ["scopes"]) => {
            let specs: Vec<_> = world.all_scopes().iter().map(|s| s.spec()).collect();
            ok(specs.iter().map(|s| json!(**s)).collect())
        }
        (method, ["scopes", provider, id]) => scope_call(world, request, method, provider, id)?,
        (method, ["tasks", provider, scope, rest @ ..]) => task_call(world, request, method, (provider, scope), rest)?,
        _ => Reply::json(404, &json!({"error": "no such admin call; GET /_admin/ lists them"})),
    };
    Ok(reply)
}

#[allow(clippy::needless_pass_by_value)] // reads better where it is called
fn ok(body: Value) -> Reply {
    Reply::json(200, &body)
}

fn done() -> Reply {
    ok(json!({"ok": true}))
}

fn no_tls() -> Reply {
    Reply::json(404, &json!({"error": "there is no CA without --tls or --tls-listen"}))
}

fn found(found: bool) -> Reply {
    if found { done() } else { Reply::json(404, &json!({"error": "there is none"})) }
}

fn body<T: DeserializeOwned>(request: &Request) -> Result<T, Error> {
    let text: &[u8] = if request.body.is_empty() { b"{}" } else { &request.body };
    serde_json::from_slice(text).map_err(|e| Error::Scenario(e.to_string()))
}

fn provider(word: &str) -> Result<Provider, Error> {
    Provider::parse(word)
        .ok_or_else(|| Error::Scenario(format!("'{word}' is not one of cloudRu, huaweiCloud, astraControl")))
}

/// The body, with what the path says in it.
fn named<T: DeserializeOwned>(request: &Request, names: &[(&str, &str)]) -> Result<T, Error> {
    let mut map: Map<String, Value> = body(request)?;
    for (key, value) in names {
        map.insert((*key).to_owned(), (*value).into());
    }
    serde_json::from_value(Value::Object(map)).map_err(|e| Error::Scenario(e.to_string()))
}

fn scope_call(world: &World, request: &Request, method: &str, owner: &str, id: &str) -> Result<Reply, Error> {
    let provider = provider(owner)?;
    Ok(match method {
        "PUT" => {
            world.put_scope(named(request, &[("provider", owner), ("id", id)])?);
            done()
        }
        "DELETE" => found(world.remove_scope(provider, id)),
        _ => Reply::json(405, &json!({"error": "PUT or DELETE"})),
    })
}

fn task_call(
    world: &World,
    request: &Request,
    method: &str,
    (owner, scope_id): (&str, &str),
    rest: &[&str],
) -> Result<Reply, Error> {
    let provider = provider(owner)?;
    let now = world.clock.now_ms();
    let scope =
        world.scope(provider, scope_id).ok_or_else(|| Error::Scenario(format!("no scope {owner} {scope_id}")))?;
    Ok(match (method, rest) {
        ("PUT", [id]) => {
            world.put_task(named(request, &[("provider", owner), ("scope", scope_id), ("id", id)])?)?;
            done()
        }
        ("PATCH", [id]) => {
            let patch: Patch = body(request)?;
            found(scope.tasks_at(now).rewrite(id, patch.into_steps(), now))
        }
        ("GET", [id]) => match scope.tasks_at(now).get_mut(id) {
            Some(task) => ok(truth(&scope, task)),
            None => found(false),
        },
        ("DELETE", [id]) => found(scope.tasks_at(now).remove(id)),
        ("DELETE", []) => {
            scope.tasks_at(now).clear();
            done()
        }
        _ => Reply::json(405, &json!({"error": "GET, PUT, PATCH or DELETE"})),
    })
}

/// One step, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Patch {
    Many(Many),
    One(Box<Step>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Many {
    steps: Vec<Step>,
}

impl Patch {
    fn into_steps(self) -> Vec<Step> {
        match self {
            Self::Many(many) => many.steps,
            Self::One(step) => vec![*step],
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SetClock {
    shift_seconds: Option<f64>,
    #[serde(default)]
    add_seconds: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetTls {
    certificate: Shown,
}

fn clock(world: &World) -> Value {
    json!({"nowMs": world.clock.now_ms(), "shiftMs": world.clock.shift_ms()})
}

fn tokens(world: &World) -> Value {
    let now = world.clock.now_ms();
    let item = |t: &crate::auth::Issued| {
        json!({"provider": t.provider, "kind": t.identity.split('\n').next(), "scope": t.project,
            "expiresMs": t.expires_ms, "saidMs": t.said_ms, "expired": t.expires_ms <= now})
    };
    crate::world::lock(&world.tokens).iter().map(item).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expire {
    provider: Option<Provider>,
}

#[allow(clippy::needless_pass_by_value)] // as `ok`
fn expire(world: &World, which: Expire) -> Value {
    let now = world.clock.now_ms();
    let expired = crate::world::lock(&world.tokens).expire(now, |t| which.provider.is_none_or(|p| p == t.provider));
    json!({"expired": expired})
}

fn truth_of(world: &World, request: &Request) -> Value {
    let now = world.clock.now_ms();
    let asked = request.pairs();
    let wants = |name: &str, actual: &str| asked.iter().all(|(k, v)| k != name || v == actual);
    let mut all = Vec::new();
    for scope in world.all_scopes() {
        let spec = scope.spec();
        if !wants("provider", spec.provider.word()) || !wants("scope", &spec.id) {
            continue;
        }
        let tasks = scope.tasks_at(now);
        all.extend(tasks.iter().filter(|t| wants("id", &t.id)).map(|t| truth(&scope, t)));
    }
    json!({"nowMs": now, "tasks": all})
}

/// What a task really is now.
fn truth(scope: &Scope, task: &Task) -> Value {
    let spec = scope.spec();
    let mut out = json!({"provider": spec.provider, "scope": spec.id, "id": task.id, "exists": task.step().is_some(),
        "createdMs": task.created_ms, "changedMs": task.since_ms});
    if let Some(step) = task.current_step() {
        let state = truth::state(spec.provider, step);
        out["state"] = state.into();
        out["finished"] = truth::finished(state).into();
        out["word"] = step.state.clone().into();
        if let Some(percent) = step.percent {
            out["percent"] = percent.into();
        }
        if let Some(error) = &step.error {
            out["error"] = json!({"code": truth::code_text(&error.code), "message": error.message});
        }
    }
    out
}

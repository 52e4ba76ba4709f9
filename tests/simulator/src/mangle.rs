//! How faults are done: from the request, the true answer and the fault to a response.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use hyper::Response;
use hyper::header::{CONTENT_LENGTH, HeaderValue};
use serde_json::{Value, json};

use crate::api::{self, Kind, Route};
use crate::clock::{http_date, micros_z, millis_z, seconds_to_ms};
use crate::faults::{Action, Hit};
use crate::http::{AuthOutcome, JSON, Piece, Reply, Request, ResetFlag, SimBody};
use crate::scenario::Provider;
use crate::world::World;

/// Bytes of filler that are sent again and again.
const BLOCK: usize = 64 * 1024;
const BOMB_BLOCK: usize = 1 << 20;
/// A slow body comes in so many parts.
const PARTS: u32 = 10;

/// Changes the answer itself: its status, headers and JSON.
pub(crate) fn reply(world: &World, request: &Request, route: &Route, action: Option<&Action>) -> Reply {
    let truth = || api::answer(world, request, route);
    match action {
        Some(Action::Status { status, body, headers, retry_after_seconds, retry_after_date }) => {
            let mut reply = api::error_of(route.provider, route.kind, *status);
            match body {
                Some(Value::String(text)) => reply = Reply::new(*status, "text/plain; charset=utf-8", text.clone()),
                Some(other) => reply = Reply::json(*status, other),
                None => {}
            }
            if let Some(seconds) = retry_after_seconds {
                reply = reply.with_header("Retry-After", seconds.to_string());
            }
            if let Some(seconds) = retry_after_date {
                reply = reply.with_header("Retry-After", http_date(world.clock.now_ms() + seconds_to_ms(*seconds)));
            }
            for (name, value) in headers {
                reply = reply.with_header(name, value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            }
            reply
        }
        Some(Action::Garbage) => Reply::new(200, JSON, &b"\x00\xff\xfe{]\x80 not json at all \x1b[31m"[..]),
        Some(Action::Html) => Reply::new(
            200,
            "text/html; charset=utf-8",
            "<!doctype html><html><head><title>Sign in</title></head><body><h1>Please sign in</h1></body></html>",
        ),
        Some(Action::DeepNesting { depth }) => {
            let depth = (*depth).min(8 << 20);
            Reply::new(200, JSON, ["[".repeat(depth), "]".repeat(depth)].concat())
        }
        Some(Action::TokenExpired { layer }) => expired(route, *layer),
        Some(Action::AuthWrong) => match (route.provider, route.kind) {
            (Some(Provider::HuaweiCloud), Kind::Token) => {
                api::tokens::iam_error(401, "The username or password is wrong.")
            }
            (None, _) => Reply::json(401, &json!({"error": "invalid_client"})),
            (provider, kind) => api::error_of(provider, kind, 401),
        }
        .with_auth(AuthOutcome::Invalid),
        Some(Action::NotFound) => not_found(route),
        Some(action) => edited(world, request, route, action, truth),
        None => truth(),
    }
}

fn expired(route: &Route, layer: crate::scenario::TokenLayer) -> Reply {
    let reply = match route.provider {
        Some(Provider::HuaweiCloud) => api::huawei::expired(layer),
        other => api::error_of(other, route.kind, 401),
    };
    reply.with_auth(AuthOutcome::Expired)
}

fn not_found(route: &Route) -> Reply {
    match (route.provider, route.kind) {
        (Some(Provider::CloudRu), Kind::List) => Reply::json(200, &json!({"tasks": []})),
        (Some(Provider::AstraControl), Kind::List) => {
            Reply::json(200, &json!({"type": "application/astra-tasks", "version": "1.1", "items": [], "metadata": {}}))
        }
        (Some(Provider::CloudRu), _) => api::cloud_ru::missing(route.id.as_deref().unwrap_or_default()),
        (Some(Provider::HuaweiCloud), _) => api::error_of(route.provider, route.kind, 400),
        (provider, kind) => api::error_of(provider, kind, 404),
    }
}

/// The faults that edit the true JSON. Whatever is not a good answer to begin with stays as it is.
fn edited(world: &World, request: &Request, route: &Route, action: &Action, truth: impl Fn() -> Reply) -> Reply {
    let mut reply = match action {
        Action::RepeatPages => {
            let first: Vec<&str> = request.query.split('&').filter(|p| !p.starts_with("continue=")).collect();
            let changed = Request {
                query: first.join("&"),
                headers: request.headers.clone(),
                method: request.method.clone(),
                path: request.path.clone(),
                authority: request.authority.clone(),
                body: request.body.clone(),
                client: request.client,
                vouched: request.vouched,
            };
            api::answer(world, &changed, route)
        }
        _ => truth(),
    };
    let edits = matches!(
        action,
        Action::WrongId { .. }
            | Action::OtherScope
            | Action::DuplicateItems
            | Action::DropItems { .. }
            | Action::RepeatPages
            | Action::FutureTimes { .. }
            | Action::State { .. }
            | Action::Fields { .. }
    );
    if !edits || reply.status != 200 {
        return reply;
    }
    let Ok(mut body) = serde_json::from_slice::<Value>(&reply.body) else { return reply };
    edit(&mut body, route, action);
    reply.body = body.to_string().into();
    reply
}

fn edit(body: &mut Value, route: &Route, action: &Action) {
    let list = match route.provider {
        Some(Provider::CloudRu) => "tasks",
        _ => "items",
    };
    if let Action::RepeatPages = action {
        body["metadata"]["continue"] = "b2Zmc2V0OjE=".into();
    }
    if let (Kind::List, Some(items)) = (route.kind, body.get_mut(list).and_then(Value::as_array_mut)) {
        match action {
            Action::DuplicateItems => *items = items.iter().flat_map(|i| [i.clone(), i.clone()]).collect(),
            Action::DropItems { id, every } => {
                let mut n = 0;
                items.retain(|item| {
                    n += 1;
                    let named = id.as_deref().is_some_and(|id| has_id(item, id));
                    !named && every.is_none_or(|e| e == 0 || n % e != 0)
                });
            }
            Action::WrongId { .. } => items.iter_mut().take(1).for_each(|i| edit_task(i, action)),
            _ => items.iter_mut().for_each(|i| edit_task(i, action)),
        }
        return;
    }
    match body.get_mut("task") {
        Some(task) => edit_task(task, action),
        None => edit_task(body, action),
    }
}

/// An item is an object, or with `include` an array that may hold the ID.
fn has_id(item: &Value, id: &str) -> bool {
    item["id"] == id || item.as_array().is_some_and(|a| a.iter().any(|v| v == id))
}

fn edit_task(task: &mut Value, action: &Action) {
    match action {
        Action::FutureTimes { seconds } => shift_times(task, seconds_to_ms(*seconds)),
        Action::WrongId { id } => {
            let other = id.as_deref().unwrap_or("ffffffff-ffff-4fff-bfff-ffffffffffff");
            set_first(task, &["id", "job_id"], other);
        }
        Action::OtherScope => {
            set_first(task, &["serviceInstanceId"], "99999999-9999-4999-8999-999999999999");
            if let Some(uri) = task.get("resourceURI").and_then(Value::as_str) {
                let rest = uri.splitn(4, '/').last().unwrap_or_default();
                task["resourceURI"] = format!("/accounts/99999999-9999-4999-8999-999999999999/{rest}").into();
            }
        }
        Action::State { state } => {
            set_first(task, &["status", "state"], state);
            // What stands for an end of its own (Cloud.ru: an error decides) would contradict the word.
            if let Some(map) = task.as_object_mut() {
                map.retain(|key, _| !matches!(key.as_str(), "error" | "response"));
            }
        }
        Action::Fields { fields } => {
            if let Some(map) = task.as_object_mut() {
                map.extend(fields.clone());
            }
        }
        _ => {}
    }
}

/// Sets those of the keys that are there.
fn set_first(task: &mut Value, keys: &[&str], value: &str) {
    for key in keys {
        if let Some(old) = task.get_mut(*key) {
            *old = value.into();
        }
    }
}

fn shift_times(value: &mut Value, by: i64) {
    match value {
        Value::String(text) if text.ends_with('Z') => {
            if let Ok(time) = text.parse::<jiff::Timestamp>() {
                let then = time.as_millisecond().saturating_add(by);
                *text = if text.len() == 27 { micros_z(then) } else { millis_z(then) };
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|v| shift_times(v, by)),
        Value::Object(map) => map.values_mut().for_each(|v| shift_times(v, by)),
        _ => {}
    }
}

/// Puts the reply on the wire, as broken as the fault wants it.
pub(crate) fn response(reply: Reply, hit: &Hit, flag: &ResetFlag) -> io::Result<Response<SimBody>> {
    let full = reply.body.clone();
    let half = full.slice(..full.len() / 2);
    match &hit.action {
        Some(Action::Reset { after_bytes: None }) => {
            flag.raise();
            Err(io::Error::from(io::ErrorKind::ConnectionReset))
        }
        Some(Action::Reset { after_bytes: Some(n) }) => {
            let sent = full.slice(..full.len().min(*n));
            // The pause lets the bytes leave before the reset does.
            let wait = Piece::Wait(Duration::from_millis(50));
            let mut response =
                reply.into_response(SimBody::pieces(vec![Piece::Data(sent), wait, Piece::Break(Some(flag.clone()))]));
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(full.len()));
            Ok(response)
        }
        Some(Action::Truncate { lie: true }) => {
            let wait = Piece::Wait(Duration::from_millis(50));
            let mut response = reply.into_response(SimBody::pieces(vec![Piece::Data(half), wait, Piece::Break(None)]));
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(full.len()));
            Ok(response)
        }
        Some(Action::Truncate { lie: false }) => Ok(reply.into_response(SimBody::plain(half))),
        Some(Action::Huge { bytes }) => {
            let filler = Bytes::from(vec![b'a'; BLOCK]);
            let rest = usize::try_from(bytes % BLOCK as u64).unwrap_or(0);
            let pieces = vec![
                Piece::Data(Bytes::from_static(b"{\"id\":\"")),
                Piece::Repeat(filler.clone(), bytes / BLOCK as u64),
                Piece::Data(filler.slice(..rest)),
                Piece::Data(Bytes::from_static(b"\"}")),
            ];
            Ok(Reply::new(200, JSON, Bytes::new()).into_response(SimBody::pieces(pieces)))
        }
        Some(Action::GzipBomb { bytes }) => {
            let reply = Reply::new(200, JSON, Bytes::new()).with_header("Content-Encoding", "gzip");
            Ok(reply.into_response(SimBody::pieces(bomb(*bytes)?)))
        }
        _ if hit.body_ms > 0 => Ok(reply.into_response(SimBody::pieces(trickle(&full, hit.body_ms)))),
        _ => Ok(reply.into_response(SimBody::plain(full))),
    }
}

fn trickle(body: &Bytes, over_ms: u64) -> Vec<Piece> {
    let step = Duration::from_millis(over_ms) / PARTS;
    let size = body.len().div_ceil(PARTS as usize).max(1);
    let parts = body.chunks(size).map(|c| body.slice_ref(c));
    parts.flat_map(|part| [Piece::Wait(step), Piece::Data(part)]).collect()
}

/// `"` and so many blanks, gzipped: a thousandth of its size. One megabyte is packed, and sent again and again: packing a gigabyte would
/// keep everybody else waiting.
fn bomb(bytes: u64) -> io::Result<Vec<Piece>> {
    let mut deflate = Compress::new(Compression::default(), false);
    let mut pack = |data: &[u8], flush| {
        let mut out = Vec::with_capacity(BLOCK);
        let status = deflate.compress_vec(data, &mut out, flush).map_err(io::Error::other)?;
        if status == Status::BufError { Err(io::Error::other("the bomb's block is too small")) } else { Ok(out) }
    };
    let block = vec![b' '; BOMB_BLOCK];
    let count = (bytes / BOMB_BLOCK as u64).min(1 << 20);
    // After a full flush deflate remembers nothing, so the second block is as any other.
    let mut head = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff][..], &pack(b"\"", FlushCompress::Full)?].concat();
    let packed = [pack(&block, FlushCompress::Full)?, pack(&block, FlushCompress::Full)?];
    let mut tail = pack(b"\"", FlushCompress::Finish)?;
    let (mut sum, mut of_block, mut quote) = (Crc::new(), Crc::new(), Crc::new());
    of_block.update(&block);
    quote.update(b"\"");
    sum.combine(&quote);
    for _ in 0..count.max(2) {
        sum.combine(&of_block);
    }
    sum.combine(&quote);
    tail.extend(sum.sum().to_le_bytes());
    tail.extend(sum.amount().to_le_bytes());
    let [first, others] = packed;
    head.extend(first);
    let others = Piece::Repeat(others.into(), count.max(2) - 1);
    Ok(vec![Piece::Data(head.into()), others, Piece::Data(tail.into())])
}

//! Every provider against the published bodies and traps (seeds and upstreams.md), golden; and what must hold for any body at all.

mod astra_control;
mod auth;
mod cloud_ru;
mod faults;
mod gateways;
mod hostile;
mod huawei_cloud;
mod messages;
mod registry_lines;
mod requests;
mod results;
mod robustness;
mod sizes;
mod texts;

use std::{fmt::Write, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use jiff::Timestamp;
use serde_json::Value;

use super::{Answer, Provider, checks, decode::explain, registry};

/// The time at which every test takes place.
fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

fn answer(status: u16, body: impl Into<bytes::Bytes>) -> Answer {
    Answer { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new(), body: body.into(), fault: None }
}

fn with_header(mut answer: Answer, name: &'static str, value: &'static str) -> Answer {
    answer.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    answer
}

fn provider(name: &str) -> Arc<dyn Provider> {
    registry::find(name).unwrap().plain()
}

/// The names of all providers.
fn names() -> impl Iterator<Item = &'static str> {
    registry::PROVIDERS.iter().map(|entry| entry.name())
}

fn decode(name: &str, status: u16, body: &str) -> Value {
    explain(provider(name).as_ref(), &answer(status, body.to_owned()), now())
}

/// What `taskwatch decode` prints for each of `cases`, one after another.
fn golden(name: &str, cases: &[(&str, u16, &str)]) -> String {
    let mut out = String::new();
    for (title, status, body) in cases {
        let _ = writeln!(out, "# {title}\n{:#}\n", decode(name, *status, body));
    }
    out
}

/// One line for each of `cases`: status, class, code, message and advice.
fn errors(name: &str, cases: &[(u16, &str)]) -> String {
    let mut out = String::new();
    for (status, body) in cases {
        let found = decode(name, *status, body);
        let text = |key: &str| found[key].as_str().unwrap_or("-").to_owned();
        let _ = writeln!(
            out,
            "{status} {body}\n  {} ({}) {} {}\n",
            text("class"),
            text("code"),
            text("message"),
            text("advice")
        );
    }
    out
}

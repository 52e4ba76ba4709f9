//! Spans in OTLP's JSON: protobuf's mapping, but for identifiers in hexadecimal; numbers of 64 bits are texts.
//! See <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>.

use std::{
    borrow::Cow,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value as Json, json};

/// `SPAN_KIND_INTERNAL` and `SPAN_KIND_CLIENT`.
const INTERNAL: u8 = 1;
const CLIENT: u8 = 3;
/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;
/// What makes a span one that failed: OpenTelemetry's name for the class of a failure.
const ERROR_TYPE: &str = "error.type";
/// What was asked of another system.
const OF_CLIENT: [&str; 2] = ["request", "write"];

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A word of ours, or a name.
    Text(Cow<'static, str>),
    /// A number.
    Number(i64),
}

/// Something that took a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub(super) trace: u128,
    pub(super) id: u64,
    pub(super) parent: Option<u64>,
    pub(super) name: &'static str,
    pub(super) start: SystemTime,
    pub(super) end: SystemTime,
    pub(super) attributes: Vec<(&'static str, Value)>,
}

/// The body of a request that brings these spans; `instance` is which replica this is.
pub(super) fn body(spans: &[Span], instance: Option<&str>) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let mut resource = vec![attribute("service.name", "taskwatch"), attribute("service.version", version)];
    resource.extend(instance.map(|instance| attribute("service.instance.id", instance)));
    let spans: Vec<_> = spans.iter().map(Span::json).collect();
    let body = json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{"scope": {"name": "taskwatch", "version": version}, "spans": spans}],
    }]});
    body.to_string().into_bytes()
}

impl Span {
    fn json(&self) -> Json {
        let attributes: Vec<_> = self
            .attributes
            .iter()
            .map(|(key, value)| match value {
                Value::Text(text) => attribute(key, text),
                Value::Number(number) => json!({"key": key, "value": {"intValue": number.to_string()}}),
            })
            .collect();
        let mut span = json!({
            "traceId": format!("{:032x}", self.trace),
            "spanId": format!("{:016x}", self.id),
            "name": self.name,
            "kind": if OF_CLIENT.contains(&self.name) { CLIENT } else { INTERNAL },
            "startTimeUnixNano": nanoseconds(self.start),
            "endTimeUnixNano": nanoseconds(self.end),
            "attributes": attributes,
        });
        if let Some(parent) = self.parent {
            span["parentSpanId"] = format!("{parent:016x}").into();
        }
        if self.attributes.iter().any(|(key, _)| *key == ERROR_TYPE) {
            span["status"] = json!({"code": ERROR});
        }
        span
    }
}

fn attribute(key: &str, text: &str) -> Json {
    json!({"key": key, "value": {"stringValue": text}})
}

fn nanoseconds(at: SystemTime) -> String {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

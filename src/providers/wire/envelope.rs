//! Errors of an API, in every envelope that the three upstreams and their gateways are known to use
//! (upstreams.md §2.4 "Error envelopes", §1.4, §3.4).

use std::fmt::Write;

use super::{any, node::Node};
use crate::domain::{
    task::{ErrorDetail, MAX_ERROR_DETAILS},
    text::{MESSAGE, VALUE, WORD, clean, clean_option},
};

/// Keys of the code, in the order of their use.
const CODES: &[&str] = &["error_code", "errCode", "code", "errorCode"];
/// Keys of the message.
const MESSAGES: &[&str] = &[
    "error_msg",
    "errMsg",
    "externalMessage",
    "errorMessage",
    "message",
    "error_description",
    "msg",
    "details",
    "detail",
    "title",
];
/// Keys of the identifier for support questions.
const CORRELATION: &[&str] = &["correlationID", "correlationId", "request_id", "requestId"];
/// Objects that hold the error one level down.
const WRAPPERS: &[&str] = &["error", "message"];

/// What an error says; every text is cleaned and bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Its code; empty where it has none.
    pub code: String,
    /// Its message; empty where it has none.
    pub message: String,
    /// Its identifier for support questions.
    pub correlation_id: Option<String>,
    /// The details of a `google.rpc.Status`.
    pub details: Vec<ErrorDetail>,
}

/// Reads the error in a body; none where it holds none. A code of zero with an empty message is none (upstreams.md §1.1).
///
/// | form | where |
/// |---|---|
/// | `{error_code, error_msg, request_id}` and `{errCode, errMsg \| externalMessage}`, `{errorCode, errorMessage}`, `{code, message}` | Huawei Cloud |
/// | `{"error": {code, message, title}}`, `{"error": {error_code, error_msg}}`, `{"message": {code, details}}` | Huawei Cloud, IAM |
/// | `{code, message, details[]}`, `{"error": "…", code}` | grpc-gateway, new and old |
/// | `{"error": "invalid_client", "error_description": "…"}` | OAuth2 (RFC 6749 §5.2) |
/// | `{type, title, detail, status, correlationID, invalidParams[]}` | problem+json (RFC 9457) |
/// | `{"itemNotFound": {code, message}}` | OpenStack |
#[must_use]
pub fn read(body: &Node<'_>) -> Option<Envelope> {
    let wrapped = WRAPPERS.iter().map(|key| body.get(key)).filter(|node| node.is_map());
    let only_child = match body.entries() {
        [(_, child @ Node::Map(_))] => Some(child),
        _ => None,
    };
    let candidates: Vec<_> = wrapped.chain([body]).chain(only_child).collect();

    let mut code = candidates.iter().find_map(|node| code(node));
    let mut message = candidates.iter().find_map(|node| message(node));
    if let Node::Text(word) = body.get("error") {
        if body.get("error_description").is_blank() {
            message = message.or_else(|| clean_option(word, MESSAGE));
        } else {
            code = clean_option(word, WORD);
        }
    }
    if code.is_none() && message.is_none() {
        return None;
    }
    let details = candidates.iter().map(|node| details(node)).find(|details| !details.is_empty());
    Some(Envelope {
        code: code.unwrap_or_default(),
        message: message.unwrap_or_default(),
        correlation_id: candidates.iter().find_map(|node| clean_option(&node.first(CORRELATION).text()?, WORD)),
        details: details.unwrap_or_default(),
    })
}

/// The code: a word or a number other than zero, or the number at the end of a problem's type.
fn code(node: &Node<'_>) -> Option<String> {
    let word = CODES.iter().filter_map(|key| node.get(key).text()).find(|code| code != "0");
    let problem = || {
        let Node::Text(kind) = node.get("type") else { return None };
        let (_, number) = kind.trim_end_matches('/').rsplit_once("/problems/")?;
        Some(number.into())
    };
    clean_option(&word.or_else(problem)?, WORD)
}

/// The message; of a problem the title, the detail and the parameters it complains of.
fn message(node: &Node<'_>) -> Option<String> {
    if let (Some(title), Some(detail)) = (node.get("title").text(), node.get("detail").text()) {
        let mut text = format!("{}: {detail}", title.trim_end_matches(['.', ':']));
        for param in node.get("invalidParams").items() {
            let part = |key| param.get(key).text().unwrap_or_default();
            let _ = write!(text, " [{}: {}]", part("name"), part("reason"));
        }
        return clean_option(&text, MESSAGE);
    }
    let text = MESSAGES.iter().find_map(|key| node.get(key).text())?;
    clean_option(&text, MESSAGE)
}

/// The `details` of a `google.rpc.Status`.
#[must_use]
pub fn details(status: &Node<'_>) -> Vec<ErrorDetail> {
    let read = status.get("details").items().iter().filter_map(any::read);
    read.map(|any| ErrorDetail { kind: any.kind, value: clean(&any.text, VALUE) }).take(MAX_ERROR_DETAILS).collect()
}

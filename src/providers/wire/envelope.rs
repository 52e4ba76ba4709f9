//! Errors of an API, in every envelope that the three upstreams and their gateways are known to use
//! (upstreams.md §2.4 "Error envelopes", §1.4, §3.4).

use std::fmt::Write;

use super::{any, node::Node};
use crate::domain::{
    task::{ErrorDetail, MAX_ERROR_DETAILS},
    text::{MESSAGE, VALUE, WORD, clean, clean_option},
};

/// Keys of the code that stand for an envelope of their own, in the order of their use.
const FLAT_CODES: &[&str] = &["error_code", "errCode", "errorCode"];
/// The key of the code in every other envelope.
const CODE: &str = "code";
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
/// Keys whose message may be a list: of texts, or of errors with a code or a message of their own.
const LISTS: &[&str] = &["error_description", "errors"];
/// Most errors of a list that are told.
const MAX_LISTED: usize = 4;
/// Keys of the identifier for support questions.
const CORRELATION: &[&str] = &["correlationID", "correlationId", "request_id", "requestId"];
/// Objects that hold the error one level down, and what their envelope is called.
const WRAPPERS: &[(&str, Form)] = &[("error", Form::Error), ("message", Form::Message)];

/// In which envelope the code of an error came: by that an API's own words are told from those of a gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// There is no code: words alone, as most gateways and frameworks send them.
    #[default]
    Words,
    /// `{error_code, error_msg}`, `{errCode, errMsg | externalMessage}`, `{errorCode, errorMessage}`.
    Flat,
    /// `{code, message}`, and `{"error": "…", code}`.
    Status,
    /// `{"error": {code, message}}`, `{"error": {error_code, error_msg}}`.
    Error,
    /// `{"error": {code, message, title}}`, an identity service's.
    Titled,
    /// `{"message": {code, details}}`.
    Message,
    /// `{"itemNotFound": {code, message}}`.
    OpenStack,
    /// `{"error": "invalid_client", "error_description": "…"}`.
    OAuth2,
    /// `{type, title, detail}` whose type ends in a number: `…/problems/1`.
    Problem,
}

/// What an error says; every text is cleaned and bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The envelope that its code came in.
    pub form: Form,
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
/// | `{"errors": ["…", {code, message}]}` | token endpoints |
#[must_use]
pub fn read(body: &Node<'_>) -> Option<Envelope> {
    let wrapped = WRAPPERS.iter().map(|(key, form)| (body.get(key), *form)).filter(|(node, _)| node.is_map());
    let only_child = match body.entries() {
        [(key, child @ Node::Map(_))] => {
            Some((child, if key == "itemNotFound" { Form::OpenStack } else { Form::Words }))
        }
        _ => None,
    };
    let candidates: Vec<_> = wrapped.chain([(body, Form::Status)]).chain(only_child).collect();

    let found = candidates.iter().find_map(|(node, form)| code(node, *form));
    let (mut code, mut form) = found.map_or((None, Form::Words), |(code, form)| (Some(code), form));
    let mut message = candidates.iter().find_map(|(node, _)| message(node));
    if let Node::Text(word) = body.get("error") {
        if body.get("error_description").is_blank() {
            message = message.or_else(|| clean_option(word, MESSAGE));
        } else {
            (code, form) = (clean_option(word, WORD), Form::OAuth2);
        }
    }
    if code.is_none() && message.is_none() {
        return None;
    }
    let details = candidates.iter().map(|(node, _)| details(node)).find(|details| !details.is_empty());
    Some(Envelope {
        form,
        code: code.unwrap_or_default(),
        message: message.unwrap_or_default(),
        correlation_id: candidates.iter().find_map(|(node, _)| clean_option(&node.first(CORRELATION).text()?, WORD)),
        details: details.unwrap_or_default(),
    })
}

/// The code: a word or a number other than zero, or the number at the end of a problem's type. `outer` is the envelope of the node.
fn code(node: &Node<'_>, outer: Form) -> Option<(String, Form)> {
    let word = |key: &&str| node.get(key).text().filter(|code| !is_zero(code));
    let flat =
        || FLAT_CODES.iter().find_map(word).map(|code| (code, if outer == Form::Status { Form::Flat } else { outer }));
    let plain = || {
        let titled = outer == Form::Error && !node.get("title").is_blank();
        word(&CODE).map(|code| (code, if titled { Form::Titled } else { outer }))
    };
    let problem = || {
        let Node::Text(kind) = node.get("type") else { return None };
        let (_, number) = kind.trim_end_matches('/').rsplit_once("/problems/")?;
        Some((number.into(), if outer == Form::Status { Form::Problem } else { Form::Words }))
    };
    let (code, form) = flat().or_else(plain).or_else(problem)?;
    Some((clean_option(&code, WORD)?, form))
}

/// Whether a code says that nothing went wrong: zeros alone, however many.
#[must_use]
pub fn is_zero(code: &str) -> bool {
    let code = code.trim();
    !code.is_empty() && code.bytes().all(|byte| byte == b'0')
}

/// The message; of a problem the title, the detail and the parameters it complains of, of a list its first few sentences.
fn message(node: &Node<'_>) -> Option<String> {
    if let (Some(title), Some(detail)) = (node.get("title").text(), node.get("detail").text()) {
        let mut text = format!("{}: {detail}", title.trim_end_matches(['.', ':']));
        for param in node.get("invalidParams").items() {
            let part = |key| param.get(key).text().unwrap_or_default();
            let _ = write!(text, " [{}: {}]", part("name"), part("reason"));
        }
        return clean_option(&text, MESSAGE);
    }
    let said = MESSAGES.iter().find_map(|key| Some(node.get(key).text()?.into_owned()));
    let listed = || LISTS.iter().find_map(|key| sentences(node.get(key)));
    clean_option(&said.or_else(listed)?, MESSAGE)
}

/// The first few texts of a list: its own, or those that its objects have for a message, with their code.
fn sentences(list: &Node<'_>) -> Option<String> {
    let of_object = |item: &Node<'_>| {
        let text = MESSAGES.iter().find_map(|key| item.get(key).text())?;
        let code = FLAT_CODES.iter().chain([&CODE]).find_map(|key| item.get(key).text().filter(|code| !is_zero(code)));
        Some(code.map_or_else(|| text.to_string(), |code| format!("{text} ({code})")))
    };
    let texts = list.items().iter().filter_map(|item| of_object(item).or_else(|| Some(item.text()?.into_owned())));
    Some(texts.take(MAX_LISTED).collect::<Vec<_>>().join("; ")).filter(|text| !text.is_empty())
}

/// The `details` of a `google.rpc.Status`.
#[must_use]
pub fn details(status: &Node<'_>) -> Vec<ErrorDetail> {
    let read = status.get("details").items().iter().filter_map(any::read);
    read.map(|any| ErrorDetail { kind: any.kind, value: clean(&any.text, VALUE) }).take(MAX_ERROR_DETAILS).collect()
}

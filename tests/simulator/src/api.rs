//! The three APIs and the token endpoints: from a request to the answer that the documents describe.

pub(crate) mod astra;
pub(crate) mod cloud_ru;
pub(crate) mod huawei;
pub(crate) mod tokens;

use serde_json::{Map, Value};

use crate::http::{Reply, Request};
use crate::scenario::Provider;
use crate::world::World;

/// What a request is about, from its path alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// None: the OAuth2 endpoint, which serves all three.
    pub(crate) provider: Option<Provider>,
    pub(crate) kind: Kind,
    pub(crate) scope: Option<String>,
    pub(crate) id: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Token,
    List,
    Task,
    Other,
}

impl Kind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::List => "list",
            Self::Task => "task",
            Self::Other => "other",
        }
    }
}

impl Route {
    /// Finds the route of a path.
    pub(crate) fn of(request: &Request) -> Self {
        let segments = request.segments();
        let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
        let route = |provider, kind, scope: Option<&str>, id: Option<&str>| Self {
            provider,
            kind,
            scope: scope.map(str::to_owned),
            id: id.map(str::to_owned),
        };
        match parts.as_slice() {
            ["openshift", "v1", scope, "tasks"] => route(Some(Provider::CloudRu), Kind::List, Some(scope), None),
            ["openshift", "v1", scope, "tasks", id] => {
                route(Some(Provider::CloudRu), Kind::Task, Some(scope), Some(id))
            }
            ["api", "v1", "auth", "token"] | ["auth", "system", "openid", "token"] => {
                route(Some(Provider::CloudRu), Kind::Token, None, None)
            }
            ["v1", scope, "jobs", id] => route(Some(Provider::HuaweiCloud), Kind::Task, Some(scope), Some(id)),
            ["v3", "auth", "tokens"] => route(Some(Provider::HuaweiCloud), Kind::Token, None, None),
            ["accounts", scope, "core", "v1", "tasks"] => {
                route(Some(Provider::AstraControl), Kind::List, Some(scope), None)
            }
            ["accounts", scope, "core", "v1", "tasks", id] => {
                route(Some(Provider::AstraControl), Kind::Task, Some(scope), Some(id))
            }
            ["oauth2", "token"] => route(None, Kind::Token, None, None),
            ["openshift", ..] => route(Some(Provider::CloudRu), Kind::Other, None, None),
            ["v1" | "v3", ..] => route(Some(Provider::HuaweiCloud), Kind::Other, None, None),
            ["accounts", scope, ..] => route(Some(Provider::AstraControl), Kind::Other, Some(scope), None),
            _ => route(None, Kind::Other, None, None),
        }
    }

    /// `huaweiCloud task`, for counters.
    pub(crate) fn label(&self) -> String {
        match self.provider {
            Some(p) => format!("{} {}", p.word(), self.kind.word()),
            None if self.kind == Kind::Token => "oauth2 token".to_owned(),
            None => "other".to_owned(),
        }
    }
}

/// The true answer.
pub(crate) fn answer(world: &World, request: &Request, route: &Route) -> Reply {
    match (route.kind, route.provider) {
        (Kind::Token, _) => tokens::answer(world, request),
        (_, Some(Provider::CloudRu)) => cloud_ru::answer(world, request, route),
        (_, Some(Provider::HuaweiCloud)) => huawei::answer(world, request, route),
        (_, Some(Provider::AstraControl)) => astra::answer(world, request, route),
        (_, None) => Reply::new(404, "text/plain; charset=utf-8", "404 page not found\n"),
    }
}

/// The provider's own error for a status, where a fault names only the status.
pub(crate) fn error_of(provider: Option<Provider>, kind: Kind, status: u16) -> Reply {
    match provider {
        Some(Provider::CloudRu) => cloud_ru::error_for_status(status),
        Some(Provider::HuaweiCloud) if kind == Kind::Token => tokens::iam_error(status, "The service is unavailable."),
        Some(Provider::HuaweiCloud) => huawei::error_for_status(status),
        Some(Provider::AstraControl) => astra::error_for_status(status),
        None => Reply::json(status, &serde_json::json!({"error": "server_error"})),
    }
}

/// Lays the fields of a task and of its step over an answer, and takes away what they say.
fn overlay(answer: &mut Map<String, Value>, fields: &Map<String, Value>, remove: &[String]) {
    answer.extend(fields.iter().map(|(k, v)| (k.clone(), v.clone())));
    for key in remove {
        answer.remove(key);
    }
}

/// Puts rendered items into one array's text.
fn joined(open: &[u8], items: &[bytes::Bytes], close: &[u8]) -> bytes::Bytes {
    let size = open.len() + close.len() + items.iter().map(|i| i.len() + 1).sum::<usize>();
    let mut body = Vec::with_capacity(size);
    body.extend_from_slice(open);
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            body.push(b',');
        }
        body.extend_from_slice(item);
    }
    body.extend_from_slice(close);
    body.into()
}

//! Sans-IO: what to request of an upstream, and what its answer means. One file per upstream.

pub mod astra_control;
pub mod auth;
#[cfg(any(test, feature = "checks"))]
pub mod checks;
pub mod cloud_ru;
pub mod decode;
pub mod huawei_cloud;
pub mod identifiers;
pub mod registration;
pub mod registry;
#[cfg(test)]
mod tests;
pub mod wire;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use percent_encoding::utf8_percent_encode;
use url::Url;

use self::{
    auth::TokenStyle,
    wire::list::{Found, Listing},
};
use crate::domain::{
    failure::Failure,
    task::{Task, TaskRef},
};

/// Largest body of a list's page, after decompression, in bytes (design §3).
pub const LIST_BODY_LIMIT: usize = 16 << 20;
/// Largest body of any other answer, after decompression, in bytes (design §3).
pub const SINGLE_BODY_LIMIT: usize = 1 << 20;
/// Most tasks that are kept of one list's page; further ones are only counted. An honest page within [`LIST_BODY_LIMIT`] has fewer.
pub const PAGE_TASKS: usize = 100_000;

/// A request without its authentication; the path is relative to the connection's endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: Method,
    /// Starts with `/`; each segment is percent-encoded.
    pub path: String,
    /// In this order; not yet encoded. A blank must be sent as `%20`, not as `+` (Astra's filters, upstreams.md §3.3).
    pub query: Vec<(String, String)>,
    /// Beside those that every request has.
    pub headers: HeaderMap,
    /// Empty for GET.
    pub body: Bytes,
    /// Largest body of the answer that is read, after decompression, in bytes.
    pub body_limit: usize,
}

impl Request {
    /// A plain GET of a path whose segments are encoded, with [`SINGLE_BODY_LIMIT`].
    #[must_use]
    pub fn get(path: String) -> Self {
        Self {
            method: Method::GET,
            path,
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            body_limit: SINGLE_BODY_LIMIT,
        }
    }
}

impl Request {
    /// The whole URL: the endpoint with its own path, if any, the request's path and its query.
    #[must_use]
    pub fn url(&self, endpoint: &Url) -> Url {
        let mut url = endpoint.clone();
        url.set_path(&format!("{}{}", endpoint.path().trim_end_matches('/'), self.path));
        if !self.query.is_empty() {
            let encode = |text: &str| utf8_percent_encode(text, wire::path::RESERVED).to_string();
            let pairs = self.query.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value)));
            url.set_query(Some(&pairs.collect::<Vec<_>>().join("&")));
        }
        url
    }
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body, decompressed, within the request's limit.
    pub body: Bytes,
    /// Why the body is not whole or cannot be read: a content coding that it does not have, cut short, too large, too slow.
    /// Status and header fields hold all the same; of such a body nothing is read.
    pub fault: Option<Failure>,
}

/// Where the next page of a list begins; opaque to all but the provider that made it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cursor(pub String);

/// One page of a list.
#[derive(Debug)]
pub struct Page {
    /// The wanted tasks of this page, flat: sub-tasks are entries of their own, with their `parent_id`.
    pub tasks: Vec<Arc<Task>>,
    /// How many entries the page had in all.
    pub total: usize,
    /// Where the next page begins; none on the last one.
    pub next: Option<Cursor>,
}

/// The entries of a list that were found in an answer, and not read yet. It owns what it holds, so that they can be read elsewhere and
/// later than they were found.
#[derive(Debug)]
pub struct Scan {
    text: Bytes,
    found: Vec<Found>,
    total: usize,
    next: Option<Cursor>,
}

impl Scan {
    /// What was found in the `text` of an answer.
    #[must_use]
    pub fn new(answer: &Answer, text: &str, listing: Listing<'_>, next: Option<Cursor>) -> Self {
        let text = match listing.mended {
            Some(mended) => mended.into(),
            None if std::ptr::eq(text.as_bytes(), answer.body.as_ref()) => answer.body.clone(),
            None => Bytes::copy_from_slice(text.as_bytes()),
        };
        Self { text, found: listing.found, total: listing.total.unwrap_or_default(), next }
    }

    /// The entries, in their order.
    #[must_use]
    pub fn found(&self) -> &[Found] {
        &self.found
    }

    /// An entry as it was sent.
    fn entry(&self, found: &Found) -> &str {
        self.text.get(found.at.clone()).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// The page, of which these `tasks` were wanted.
    #[must_use]
    pub fn into_page(self, tasks: Vec<Arc<Task>>) -> Page {
        Page { tasks, total: self.total, next: self.next }
    }
}

/// One upstream's dialect. It asks and understands; sending, signing and waiting are the engine's.
pub trait Provider: fmt::Debug + Send + Sync {
    /// The name of the member of the API's union, as `huaweiCloud`; also the metric label.
    fn name(&self) -> &str;

    /// The scope of a task that names none.
    fn default_scope(&self) -> &str;

    /// How its upstream wants a token that somebody else renews.
    fn token_style(&self) -> TokenStyle {
        TokenStyle::Bearer
    }

    /// The project that a Keystone token is for, where the credential names none; none where it has to.
    fn keystone_project(&self) -> Option<&str> {
        None
    }

    /// The key of a list's document under which its entries are; none where the upstream does not list.
    fn list_key(&self) -> Option<&str> {
        None
    }

    /// Asks for one task.
    fn task_request(&self, task: &TaskRef) -> Request;

    /// What the answer to [`Self::task_request`] says. An empty identifier or scope in `task` stands for any.
    ///
    /// # Errors
    /// The class of the failure, where the answer is not the task that was asked for.
    fn decode_task(&self, task: &TaskRef, answer: &Answer) -> Result<Task, Failure>;

    /// Asks for the sub-tasks of one task, where these do not come with the task itself; its answer is a list.
    fn subtasks_request(&self, _task: &TaskRef) -> Option<Request> {
        None
    }

    /// Asks for a page of all tasks of a scope; none where the upstream does not list.
    fn list_request(&self, _scope: &str, _cursor: Option<&Cursor>) -> Option<Request> {
        None
    }

    /// Finds the entries in the answer to [`Self::list_request`] or [`Self::subtasks_request`], and reads no more of them than tells which
    /// task each stands for. An entry that cannot be read, that is of another scope, or whose identifier and parent's `wants` does not
    /// take, is only counted.
    ///
    /// # Errors
    /// The class of the failure, where the answer is not a list.
    fn scan_list(
        &self,
        scope: &str,
        answer: &Answer,
        wants: &dyn Fn(&str, Option<&str>) -> bool,
    ) -> Result<Scan, Failure>;

    /// The task that an entry of a list stands for; none where it cannot be read.
    fn decode_entry(&self, _scan: &Scan, _entry: &Found) -> Option<Task> {
        None
    }

    /// Both in one: the tasks whose own identifier, or whose parent's, is one that `wants` takes.
    ///
    /// # Errors
    /// As [`Self::scan_list`].
    fn decode_list(&self, scope: &str, answer: &Answer, wants: &dyn Fn(&str) -> bool) -> Result<Page, Failure> {
        let scan = self.scan_list(scope, answer, &|id, parent| wants(id) || parent.is_some_and(wants))?;
        let tasks = scan.found().iter().filter_map(|found| self.decode_entry(&scan, found)).map(Arc::new).collect();
        Ok(scan.into_page(tasks))
    }
}

//! From a request to the store, and back: paths, verbs, pages, watches.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use kube::client::Body;
use serde_json::{Value, json};

use super::{
    Cluster,
    store::{Collection, Key, Refused},
};

pub(super) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// A request, read.
pub(super) struct Asked {
    method: Method,
    plural: String,
    namespace: Option<String>,
    name: Option<String>,
    part: Option<String>,
    query: BTreeMap<String, String>,
    is_metadata_only: bool,
    pub(super) body: Value,
}

impl Asked {
    pub(super) async fn read(request: Request<Body>) -> Self {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let segments: Vec<_> = head.uri.path().split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        // What comes before the kind: `api/v1`, or `apis`, a group and its version.
        let mut rest = segments[if segments[0] == "api" { 2 } else { 3 }..].iter().cloned();
        let mut plural = rest.next().unwrap();
        let mut namespace = None;
        if plural == "namespaces" && rest.len() > 1 {
            namespace = rest.next();
            plural = rest.next().unwrap();
        }
        let query = url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let accept = head.headers.get("accept").map_or("", |accept| accept.to_str().unwrap());
        Self {
            method: head.method,
            plural,
            namespace,
            name: rest.next(),
            part: rest.next(),
            query,
            is_metadata_only: accept.contains("PartialObjectMetadata"),
            body: serde_json::from_slice(&body).unwrap_or_default(),
        }
    }

    pub(super) fn is_write(&self) -> bool {
        self.method != Method::GET
    }

    /// What is asked, in a few words: `PATCH taskwatches n/w status`, `WATCH secrets`.
    pub(super) fn line(&self) -> String {
        let verb = if self.query.contains_key("watch") { "WATCH" } else { self.method.as_str() };
        let created = self.body["metadata"]["name"].as_str().filter(|_| self.method == Method::POST);
        let name = self.name.as_deref().or(created);
        let place = [self.namespace.as_deref(), name].into_iter().flatten().collect::<Vec<_>>().join("/");
        let parts = [verb, &self.plural, &place, self.part.as_deref().unwrap_or_default()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    }

    pub(super) fn key(&self) -> Key {
        let created = || self.body["metadata"]["name"].as_str().unwrap().to_owned();
        let name = self.name.clone().unwrap_or_else(created);
        (self.plural.clone(), self.namespace.clone().unwrap_or_default(), name)
    }

    /// What is to be written, with the name of who writes it.
    fn written(&self) -> Value {
        let mut object = self.body.clone();
        if let Some(manager) = self.query.get("fieldManager") {
            object["metadata"]["managedFields"] = json!([{"manager": manager}]);
        }
        object
    }

    fn collection(&self) -> Collection {
        let label = self.query.get("labelSelector").and_then(|selector| selector.split_once('='));
        let name = self.query.get("fieldSelector").and_then(|selector| selector.strip_prefix("metadata.name="));
        Collection {
            plural: self.plural.clone(),
            namespace: self.namespace.clone(),
            label: label.map(|(key, value)| (key.to_owned(), value.to_owned())),
            name: name.map(str::to_owned),
            is_metadata_only: self.is_metadata_only,
        }
    }
}

impl Cluster {
    /// Does what is asked.
    pub(super) fn act(&self, asked: &Asked) -> Answer {
        if asked.query.contains_key("watch") {
            return self.watch(asked);
        }
        if asked.method == Method::GET && asked.name.is_none() {
            return self.list(asked);
        }
        let (mut store, now) = (self.store(), self.now());
        let done = match asked.method {
            Method::GET => store.get(&asked.key()).cloned(),
            Method::POST => store.create(asked.key(), asked.written(), now),
            Method::PUT => store.replace(asked.key(), asked.written()),
            Method::PATCH => store.patch(asked.key(), &asked.body),
            Method::DELETE => store.delete(&asked.key(), asked.body["preconditions"]["uid"].as_str()),
            _ => Err(Refused::new(405, "MethodNotAllowed", "")),
        };
        match done {
            Ok(object) => whole(200, &asked.collection().show(&object)),
            Err(refused) => refuse(&refused),
        }
    }

    fn list(&self, asked: &Asked) -> Answer {
        let limit = asked.query.get("limit").map_or(usize::MAX, |limit| limit.parse().unwrap());
        let store = self.store();
        let (items, more) = store.list(&asked.collection(), limit, asked.query.get("continue").map(String::as_str));
        let metadata = json!({"resourceVersion": store.version.to_string(), "continue": more.unwrap_or_default()});
        whole(200, &json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}))
    }

    fn watch(&self, asked: &Asked) -> Answer {
        let number = |name: &str| asked.query[name].parse::<u64>().unwrap();
        let lines = self.store().watch(asked.collection(), number("resourceVersion"));
        let end = tokio::time::sleep(Duration::from_secs(number("timeoutSeconds")));
        let lines = futures::stream::unfold(lines, |mut lines| async { Some((lines.recv().await?, lines)) });
        let frames = lines.take_until(end).map(|line| Ok(Frame::data(line)));
        Response::new(StreamBody::new(frames.boxed()).boxed_unsync())
    }
}

pub(super) fn refuse(refused: &Refused) -> Answer {
    let Refused { code, reason, message } = refused;
    // Of a patch whose test fails, nothing is said of the object.
    let details = if *code == 422 { json!({}) } else { json!({"kind": "thing"}) };
    whole(
        *code,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": reason, "message": message, "details": details}),
    )
}

fn whole(code: u16, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(body.to_string())).boxed_unsync();
    Response::builder().status(code).body(body).unwrap()
}

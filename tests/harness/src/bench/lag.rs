//! When a status shows what it should: a watch of the API server that notes the time of each change of `status.state`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, pin_mut};
use kube::api::{Api, WatchEvent, WatchParams};
use kube::core::Object;
use kube::discovery::ApiResource;
use kube::{Client, core::GroupVersionKind};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::fleet::NAMESPACE;
use super::stage::Stage;

/// Nothing is wanted of the specification.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct NoSpec {}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct State {
    state: Option<String>,
}

type Seen = HashMap<String, (String, Instant)>;

/// The newest state of each watch that has changed since the start, and when it was seen.
pub(super) struct Lookout {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Lookout {
    /// Watches from now on; costs no list.
    pub(super) async fn start(stage: &Stage) -> Result<Self> {
        let list =
            stage.get(&format!("/apis/taskwatch.dev/v1alpha1/namespaces/{NAMESPACE}/taskwatches?limit=1")).await?;
        let version = list["metadata"]["resourceVersion"].as_str().context("a list without resourceVersion")?;
        let seen = Arc::new(Mutex::new(Seen::new()));
        let task = tokio::spawn(follow(stage.client.clone(), version.to_owned(), Arc::clone(&seen)));
        Ok(Self { seen, task })
    }

    /// When the watch `name` was first seen in `state`.
    pub(super) fn seen(&self, name: &str, state: &str) -> Option<Instant> {
        lock(&self.seen).get(name).filter(|(now, _)| now == state).map(|(_, at)| *at)
    }

    /// When the watch `name` was first seen in its newest state.
    pub(super) fn seen_any(&self, name: &str) -> Option<Instant> {
        lock(&self.seen).get(name).map(|(_, at)| *at)
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(client: Client, version: String, seen: Arc<Mutex<Seen>>) {
    let kind = GroupVersionKind::gvk("taskwatch.dev", "v1alpha1", "TaskWatch");
    let resource = ApiResource::from_gvk_with_plural(&kind, "taskwatches");
    let api: Api<Object<NoSpec, State>> = Api::namespaced_with(client, NAMESPACE, &resource);
    let stream = match api.watch(&WatchParams::default().timeout(290), &version).await {
        Ok(stream) => stream,
        Err(error) => return eprintln!("the lookout cannot watch: {error}"),
    };
    pin_mut!(stream);
    while let Some(event) = stream.next().await {
        let object = match event {
            Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => object,
            Ok(_) => continue,
            Err(error) => return eprintln!("the lookout ends: {error}"),
        };
        let at = Instant::now();
        let state = object.status.and_then(|status| status.state);
        let (Some(name), Some(state)) = (object.metadata.name, state) else { continue };
        let mut seen = lock(&seen);
        if seen.get(&name).is_none_or(|(old, _)| *old != state) {
            seen.insert(name, (state, at));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Kubernetes events, published aside: a slow API server delays no status.
//!
//! Each is made once, by a plain create: what is told are transitions, each once, so that there is nothing to fold into a series,
//! and nothing to remember.

use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, Resource, api::PostParams};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};
use tracing::{debug, warn};

use super::{
    call,
    objects::{Identity, WatchObject},
};
use crate::{
    api::TaskWatch,
    domain::decide::{Event, EventType, TASK_OBSERVED},
    engine::budget::Budget,
    ops::metrics::{EventResult, Metrics},
};

/// Events that may wait; further ones are dropped and counted.
const WAITING: usize = 4096;
/// So many are published at a time.
const AT_A_TIME: usize = 4;
/// First observations are told so often, per second and at once; a cold start of thousands would else cost the API server twice.
const FIRST_OBSERVATIONS: (u32, u32) = (10, 1000);
/// Our name as the reporter, and that of the instance where the pod has none.
const REPORTER: &str = "taskwatch";

/// Takes events to be published.
pub struct Events {
    queue: Mutex<Option<mpsc::Sender<Told>>>,
    first_observations: Mutex<Budget>,
    finished: Arc<Notify>,
    metrics: Metrics,
}

/// An event and what it is about.
struct Told {
    event: Event,
    about: Identity,
    at: Timestamp,
}

impl Events {
    /// Starts publishing in the name of `instance`, the pod.
    #[must_use]
    pub fn start(client: Client, instance: Option<String>, metrics: Metrics) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        let finished = Arc::new(Notify::new());
        let instance = instance.filter(|name| !name.is_empty()).unwrap_or_else(|| REPORTER.to_owned());
        tokio::spawn({
            let (finished, metrics) = (Arc::clone(&finished), metrics.clone());
            async move {
                let waiting = stream::unfold(waiting, async |mut waiting| Some((waiting.recv().await?, waiting)));
                let publish = |told: Told| {
                    let (client, instance, metrics) = (&client, &instance, &metrics);
                    async move {
                        let reason = told.event.reason.clone();
                        metrics.event(&reason, send(client, instance, told).await);
                    }
                };
                waiting.for_each_concurrent(AT_A_TIME, publish).await;
                finished.notify_one();
            }
        });
        let first_observations = Budget::new(f64::from(FIRST_OBSERVATIONS.0), FIRST_OBSERVATIONS.1, Instant::now());
        Self { queue: Mutex::new(Some(queue)), first_observations: Mutex::new(first_observations), finished, metrics }
    }

    /// Has an event published, unless too many wait.
    pub fn publish(&self, event: &Event, about: &WatchObject, at: Timestamp) {
        let reason = event.reason.as_str();
        let may = reason != TASK_OBSERVED
            || self.first_observations.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
        let told = Told { event: event.clone(), about: about.identity.clone(), at };
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if may && queue.as_ref().is_some_and(|queue| queue.try_send(told).is_ok()) {
            return;
        }
        if may {
            warn!(reason, "an event was dropped: the API server takes them too slowly");
        }
        self.metrics.event(reason, EventResult::Dropped);
    }

    /// Takes no more, and waits until all so far have been published.
    pub async fn finish(&self) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        if queue.is_some() {
            drop(queue);
            self.finished.notified().await;
        }
    }
}

async fn send(client: &Client, instance: &str, told: Told) -> EventResult {
    let Told { event, about, at } = told;
    let namespace = about.namespace.as_deref().unwrap_or_default().to_owned();
    let reason = event.reason.clone();
    // As client-go names them. The name keeps the one of the object within the limit of 253.
    let short: String = about.name.chars().take(220).collect();
    let object = v1::Event {
        metadata: ObjectMeta {
            name: Some(format!("{short}.{:x}", at.as_nanosecond())),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        action: Some(event.action.to_owned()),
        event_time: Some(MicroTime(at)),
        note: Some(event.note),
        reason: Some(event.reason),
        regarding: Some(ObjectReference {
            api_version: Some(TaskWatch::api_version(&()).into_owned()),
            kind: Some(TaskWatch::kind(&()).into_owned()),
            namespace: Some(namespace.clone()),
            name: Some(about.name.to_string()),
            uid: Some(about.uid.0.to_string()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(REPORTER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        type_: Some(
            match event.kind {
                EventType::Normal => "Normal",
                EventType::Warning => "Warning",
            }
            .to_owned(),
        ),
        ..v1::Event::default()
    };
    let api: Api<v1::Event> = Api::namespaced(client.clone(), &namespace);
    match call(api.create(&PostParams::default(), &object)).await {
        Ok(_) => EventResult::Sent,
        Err(error) => {
            debug!(reason, %error, "an event could not be published");
            EventResult::Failed
        }
    }
}

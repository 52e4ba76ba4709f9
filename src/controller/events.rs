//! Kubernetes events, published aside: a slow API server delays no status.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, Recorder, Reporter},
};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::ops::metrics::{EventResult, Metrics};

/// Events that may wait; further ones are dropped and counted.
const WAITING: usize = 4096;
/// How long one event may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Takes events to be published.
#[derive(Clone, Debug)]
pub struct Events {
    queue: mpsc::Sender<(Event, ObjectReference)>,
    metrics: Metrics,
}

impl Events {
    /// Starts publishing in the name of `instance`, the pod.
    #[must_use]
    pub fn start(client: Client, instance: Option<String>, metrics: Metrics) -> Self {
        let (queue, mut waiting) = mpsc::channel::<(Event, ObjectReference)>(WAITING);
        let recorder = Recorder::new(client, Reporter { controller: "taskwatch".to_owned(), instance });
        let counted = metrics.clone();
        tokio::spawn(async move {
            while let Some((event, object)) = waiting.recv().await {
                let reason = event.reason.as_str();
                let result = match tokio::time::timeout(TIMEOUT, recorder.publish(&event, &object)).await {
                    Ok(Ok(())) => EventResult::Sent,
                    Ok(Err(error)) => {
                        debug!(reason, %error, "an event could not be published");
                        EventResult::Failed
                    }
                    Err(_) => EventResult::Failed,
                };
                counted.event(reason, result);
            }
        });
        Self { queue, metrics }
    }

    /// Has an event published, unless too many wait.
    pub fn publish(&self, event: Event, object: ObjectReference) {
        if let Err(refused) = self.queue.try_send((event, object)) {
            let reason = refused.into_inner().0.reason;
            warn!(reason, "an event was dropped: the API server takes them too slowly");
            self.metrics.event(&reason, EventResult::Dropped);
        }
    }
}

//! Kubernetes events, published aside: a slow API server delays no status.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, Recorder, Reporter},
};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

use crate::ops::metrics::{EventResult, Metrics};

/// Events that may wait; further ones are dropped and counted.
const WAITING: usize = 4096;
/// How long one event may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Takes events to be published.
#[derive(Clone, Debug)]
pub struct Events {
    queue: mpsc::Sender<Item>,
    metrics: Metrics,
}

/// What waits in the queue.
enum Item {
    Event(Box<(Event, ObjectReference)>),
    /// To be answered when all before it has been published.
    Mark(oneshot::Sender<()>),
}

impl Events {
    /// Starts publishing in the name of `instance`, the pod.
    #[must_use]
    pub fn start(client: Client, instance: Option<String>, metrics: Metrics) -> Self {
        let (queue, mut waiting) = mpsc::channel(WAITING);
        let recorder = Recorder::new(client, Reporter { controller: "taskwatch".to_owned(), instance });
        let counted = metrics.clone();
        tokio::spawn(async move {
            while let Some(item) = waiting.recv().await {
                let (event, object) = match item {
                    Item::Event(event) => *event,
                    Item::Mark(mark) => {
                        let _ = mark.send(());
                        continue;
                    }
                };
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
        let Err(refused) = self.queue.try_send(Item::Event(Box::new((event, object)))) else { return };
        if let Item::Event(event) = refused.into_inner() {
            let reason = event.0.reason;
            warn!(reason, "an event was dropped: the API server takes them too slowly");
            self.metrics.event(&reason, EventResult::Dropped);
        }
    }

    /// Waits until all events so far have been published.
    pub async fn finish(&self) {
        let (mark, reached) = oneshot::channel();
        if self.queue.send(Item::Mark(mark)).await.is_ok() {
            let _ = reached.await;
        }
    }
}

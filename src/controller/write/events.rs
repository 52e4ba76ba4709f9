//! Kubernetes events, published aside: a slow API server delays no status.
//!
//! Each is made once, by a plain create: what is told are transitions, each once, so that there is nothing to fold into a series,
//! and nothing to remember. Tenants take turns, each may have as many waiting as there is room left, and all writes count towards the
//! ceiling.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, MutexGuard},
};

use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Client, Resource, api::PostParams, core::Request};
use serde::de::IgnoredAny;
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tracing::{debug, warn};

use super::{
    super::{Error, objects::Identity},
    limit::WriteLimit,
    send as send_as_owner,
};
use crate::{
    api::TaskWatch,
    domain::decide::{Event, EventType, TASK_OBSERVED},
    engine::budget::Budget,
    ops::metrics::{EventResult, Metrics},
    ownership::Bucket,
    sync::lock,
    tenancy::{
        Tenant,
        pool::{Lease, Pool},
        turns::Turns,
    },
};

/// Events that may wait; further ones are dropped and counted.
const WAITING: usize = 4096;
/// So many of them are any tenant's.
const WAITING_FLOOR: usize = 64;
/// So many are published at a time.
const AT_A_TIME: usize = 4;
/// First observations are told so often, per second and at once; a cold start of thousands would else cost the API server twice.
const FIRST_OBSERVATIONS: (u32, u32) = (10, 1000);
/// Our name as the reporter, and that of the instance where the pod has none.
const REPORTER: &str = "taskwatch";

/// Takes events to be published.
pub struct Events {
    waiting: Arc<Waiting>,
    first_observations: Mutex<Budget>,
    publishers: Mutex<JoinSet<()>>,
    metrics: Metrics,
}

/// An event and what it is about.
struct Told {
    /// Of whose objects; by whoever owns them no more, it is not told.
    bucket: Bucket,
    event: Event,
    /// The kind of what it is about.
    kind: Cow<'static, str>,
    about: Identity,
    at: Timestamp,
    /// Its place among those that wait; free again when this is dropped.
    _place: Option<Lease>,
}

/// The events that wait.
struct Waiting {
    state: Mutex<State>,
    places: Pool,
    limit: WriteLimit,
    news: Notify,
}

#[derive(Default)]
struct State {
    turns: Turns<Told>,
    closed: bool,
}

impl Waiting {
    fn new(limit: WriteLimit) -> Self {
        Self { state: Mutex::default(), places: Pool::new(WAITING, WAITING_FLOOR), limit, news: Notify::new() }
    }

    /// Queues an event. Returns whether there was room for it.
    fn push(&self, tenant: &Tenant, told: Told) -> bool {
        let mut place = self.places.lease(tenant);
        let mut state = self.lock();
        if state.closed || !place.try_grow(1) {
            return false;
        }
        state.turns.push(tenant, Told { _place: Some(place), ..told });
        drop(state);
        self.news.notify_one();
        true
    }

    /// The next one that may be written now; none when it is closed and all have been taken.
    async fn next(&self) -> Option<Told> {
        loop {
            let news = self.news.notified();
            let again = {
                let mut state = self.lock();
                let now = Instant::now();
                let mut again: Option<Instant> = None;
                let may = |tenant: &Tenant| match self.limit.take(tenant, now) {
                    Ok(()) => true,
                    Err(at) => {
                        again = Some(again.map_or(at, |again| again.min(at)));
                        false
                    }
                };
                if let Some(told) = state.turns.pop_of(may) {
                    // There may be more for another publisher.
                    self.news.notify_one();
                    return Some(told);
                }
                if state.closed && state.turns.is_empty() {
                    self.news.notify_one();
                    return None;
                }
                again
            };
            match again {
                Some(at) => {
                    tokio::select! {
                        () = news => {}
                        () = sleep_until(at) => {}
                    }
                }
                None => news.await,
            }
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.news.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Events {
    /// Starts publishing in the name of `instance`, the pod.
    #[must_use]
    pub fn start(client: &Client, instance: Option<String>, limit: WriteLimit, metrics: &Metrics) -> Self {
        let waiting = Arc::new(Waiting::new(limit));
        let instance: Arc<str> = instance.filter(|name| !name.is_empty()).map_or_else(|| REPORTER.into(), Arc::from);
        let mut publishers = JoinSet::new();
        for _ in 0..AT_A_TIME {
            let (waiting, client, metrics) = (Arc::clone(&waiting), client.clone(), metrics.clone());
            let instance = Arc::clone(&instance);
            publishers.spawn(async move {
                while let Some(told) = waiting.next().await {
                    let reason = told.event.reason.clone();
                    metrics.event(&reason, send(&client, &instance, told).await);
                }
            });
        }
        let first_observations = Budget::new(f64::from(FIRST_OBSERVATIONS.0), FIRST_OBSERVATIONS.1, Instant::now());
        Self {
            waiting,
            first_observations: Mutex::new(first_observations),
            publishers: Mutex::new(publishers),
            metrics: metrics.clone(),
        }
    }

    /// Has an event published, unless too many wait.
    pub fn publish(&self, bucket: &Bucket, event: &Event, kind: Cow<'static, str>, about: &Identity, at: Timestamp) {
        let reason = event.reason.as_str();
        let may = reason != TASK_OBSERVED || lock(&self.first_observations).take(Instant::now());
        let told = Told { bucket: bucket.clone(), event: event.clone(), kind, about: about.clone(), at, _place: None };
        if may && self.waiting.push(&about.tenant(), told) {
            return;
        }
        if may {
            let (namespace, name) = (about.namespace.as_deref(), &*about.name);
            debug!(reason, namespace, name, "an event was dropped: too many of this namespace wait for the API server");
        }
        self.metrics.event(reason, EventResult::Dropped);
    }

    /// Takes no more, and waits until all so far have been published.
    pub async fn finish(&self) {
        let mut publishers = std::mem::take(&mut *lock(&self.publishers));
        self.waiting.close();
        while let Some(ended) = publishers.join_next().await {
            if let Err(error) = ended {
                warn!(%error, "events could not be published");
            }
        }
    }
}

async fn send(client: &Client, instance: &str, told: Told) -> EventResult {
    let Told { bucket, event, kind, about, at, .. } = told;
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
            // All our kinds are of one version.
            api_version: Some(TaskWatch::api_version(&()).into_owned()),
            kind: Some(kind.into_owned()),
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
    let sent = async {
        let collection = Request::new(v1::Event::url_path(&(), Some(&namespace)));
        let request = collection.create(&PostParams::default(), serde_json::to_vec(&object)?)?;
        send_as_owner::<IgnoredAny>(client, &bucket, request).await
    };
    match sent.await {
        Ok(_) => EventResult::Sent,
        Err(Error::NotOwner) => EventResult::Dropped,
        Err(error) => {
            debug!(reason, namespace, name = &*about.name, %error, "an event could not be published");
            EventResult::Failed
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::{engine::WatchKey, ownership::Buckets, tenancy::usage::Usage};

    fn tenant(name: &str) -> Tenant {
        Tenant::namespace(&Arc::from(name))
    }

    fn told(name: &str) -> Told {
        let event = Event {
            kind: EventType::Normal,
            reason: "TaskRunning".into(),
            action: "Observe",
            note: String::new(),
            is_end: false,
        };
        let identity = Identity { namespace: None, name: Arc::from(name), uid: WatchKey(Arc::from(name)) };
        Told {
            bucket: Buckets::alone().bucket(0),
            event,
            kind: "TaskWatch".into(),
            about: identity,
            at: Timestamp::UNIX_EPOCH,
            _place: None,
        }
    }

    fn waiting(per_second: u32) -> Waiting {
        Waiting::new(WriteLimit::new(per_second, Usage::default(), Instant::now()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_that_tells_much_neither_fills_the_queue_nor_comes_first() {
        let waiting = waiting(0);
        let taken = (0..2 * WAITING).filter(|_| waiting.push(&tenant("loud"), told("loud"))).count();
        assert_eq!(taken, WAITING / 16 * 7, "half of what is not kept for others");
        assert!(waiting.push(&tenant("quiet"), told("quiet")));
        assert_eq!(&*waiting.next().await.unwrap().about.name, "loud");
        assert_eq!(&*waiting.next().await.unwrap().about.name, "quiet");
        // Each that is taken leaves its place to another.
        assert!(waiting.push(&tenant("loud"), told("loud")));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_had_its_share_waits_and_others_do_not() {
        let waiting = waiting(10);
        for _ in 0..100 {
            waiting.push(&tenant("loud"), told("loud"));
        }
        let mut quiet = 0;
        for second in 0..4 {
            waiting.push(&tenant("quiet"), told("quiet"));
            let end = Instant::now() + Duration::from_secs(1) - Duration::from_millis(1);
            let mut sent = 0;
            while let Ok(Some(told)) = tokio::time::timeout_at(end, waiting.next()).await {
                sent += 1;
                quiet += u32::from(&*told.about.name == "quiet");
            }
            assert!(sent <= 11, "{sent} in second {second}");
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(quiet >= 3, "{quiet}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_still_told_after_the_end() {
        let waiting = waiting(0);
        waiting.push(&tenant("a"), told("a"));
        waiting.close();
        assert!(!waiting.push(&tenant("a"), told("late")));
        assert!(waiting.next().await.is_some());
        for _ in 0..AT_A_TIME {
            assert!(timeout(Duration::from_secs(1), waiting.next()).await.unwrap().is_none());
        }
    }
}

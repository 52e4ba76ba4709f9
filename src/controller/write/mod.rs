//! All that is written to the API server: statuses, events, deletions.

pub mod allowance;
mod children;
mod delete;
mod events;
mod limit;
mod status;

use jiff::Timestamp;
use kube::{Client, Resource};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use self::events::Events;
pub(super) use self::{children::Created, limit::WriteLimit, status::Written};
use super::{Error, call, objects::Identity};
use crate::{
    api::{TaskWatch, TaskWatchSetSpec},
    domain::decide::Event,
    ops::metrics::Metrics,
    ownership::{Bucket, Pass},
    tenancy::Tenant,
};

/// Our name among the managers of fields.
const FIELD_MANAGER: &str = "taskwatch";
/// Only the metadata of what was written is wanted back.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// Sends a write as the owner of a bucket. All but the Leases pass here.
async fn send<T: DeserializeOwned>(
    client: &Client,
    bucket: &Bucket,
    mut request: http::Request<Vec<u8>>,
) -> Result<T, Error> {
    request.extensions_mut().insert(Pass::Owner(bucket.clone()));
    call(client.request(request)).await
}

/// Writes to the API server, each time as the owner of a bucket.
pub(super) struct Writer {
    client: Client,
    limit: WriteLimit,
    events: Events,
}

impl Writer {
    /// A writer that keeps to `limit`. Publishes events in the name of the pod.
    pub(super) fn start(client: &Client, limit: WriteLimit, metrics: &Metrics) -> Self {
        let events = Events::start(client, std::env::var("POD_NAME").ok(), limit.clone(), metrics);
        Self { client: client.clone(), limit, events }
    }

    /// Whether one more status, deletion or read of a whole object may be had on the account of `tenant`, now. Events are counted when
    /// they are sent.
    ///
    /// # Errors
    /// When to come again, where the tenant has had its share.
    pub(super) fn take(&self, tenant: &Tenant) -> Result<(), Instant> {
        self.limit.take(tenant, Instant::now())
    }

    /// Replaces the status of an object.
    pub(super) async fn status<K: Resource<DynamicType = ()>>(
        &self,
        bucket: &Bucket,
        identity: &Identity,
        status: &impl Serialize,
    ) -> Result<Written, Error> {
        status::write(&self.client, bucket, &K::url_path(&(), identity.namespace.as_deref()), identity, status).await
    }

    /// Deletes a `TaskWatch`, unless it is gone or has been made anew. Returns whether it did.
    pub(super) async fn delete(&self, bucket: &Bucket, identity: &Identity) -> Result<bool, Error> {
        delete::delete::<TaskWatch>(&self.client, bucket, identity).await
    }

    /// Creates a `TaskWatch` that belongs to the set of this identity.
    pub(super) async fn create_child(
        &self,
        bucket: &Bucket,
        child: &TaskWatch,
        set: &Identity,
    ) -> Result<Created, Error> {
        children::create(&self.client, bucket, child, set).await
    }

    /// Brings a `TaskWatch` that belongs to the set of this identity up to date with the set's template.
    pub(super) async fn update_child(
        &self,
        bucket: &Bucket,
        child: &Identity,
        set: &Identity,
        spec: &TaskWatchSetSpec,
    ) -> Result<Created, Error> {
        children::update(&self.client, bucket, child, set, spec).await
    }

    /// Has an event about an object of the kind `K` published, unless too many wait.
    pub(super) fn event<K: Resource<DynamicType = ()>>(
        &self,
        bucket: &Bucket,
        event: &Event,
        about: &Identity,
        at: Timestamp,
    ) {
        self.events.publish(bucket, event, K::kind(&()), about, at);
    }

    /// Waits until all events so far have been published; takes no more.
    pub(super) async fn finish(&self) {
        self.events.finish().await;
    }
}

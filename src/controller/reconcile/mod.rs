//! The reconcilers, one kind a file: each looks at what is known of an object, decides, and acts. What is decided is pure; what is known
//! is read under the index's lock, and acted upon after that is let go of.
//!
//! | kind | what is decided | what is done |
//! |---|---|---|
//! | `TaskWatch` | [`taskwatch::plan`](taskwatch), of those beyond a limit [`outside`] | [`taskwatch`] |
//! | `TaskWatchSet` | [`taskwatchset::plan`](taskwatchset), `domain::discovery` | [`taskwatchset`] |
//! | `TaskConnection`, `ClusterTaskConnection` | `domain::connection`, [`super::resolve`] | [`connection`] |

pub(super) mod connection;
mod outside;
pub(super) mod taskwatch;
pub(super) mod taskwatchset;

use std::{fmt::Display, future::Future, sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::Instant};
use tracing::{field::display, warn};

use super::{
    Controller, Error, Shared,
    objects::Identity,
    queue::{Key, Queue},
};
use crate::{domain::backoff::Backoff, engine::ConnectionId, ops::metrics::ReconcileResult};

/// How long to wait after so many failures to write, or to read what is needed, in a row.
const RETRY: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(60));

/// How the objects of a kind are reconciled.
pub(super) trait Reconciler {
    /// What an object waits in the queue by.
    type Key: Key + Display + Send + Sync + 'static;
    /// The metric label.
    const NAME: &'static str;
    /// Where its keys wait.
    fn queue(shared: &Shared) -> &Queue<Self::Key>;
    /// Brings an object up to date; says when to look again.
    fn reconcile(
        controller: &Controller,
        key: &Self::Key,
    ) -> impl Future<Output = Result<Option<Instant>, Error>> + Send;
    /// Whose key it is, and the connection that it names; for the log. None for an object that is no more.
    fn object(shared: &Shared, key: &Self::Key) -> Option<(Identity, ConnectionId)>;
    /// Notes that this failed. Returns how often it has, in a row.
    fn failed(shared: &Shared, key: &Self::Key) -> u32;
}

/// Starts so many workers for a kind.
pub(super) fn start<R: Reconciler + 'static>(controller: &Arc<Controller>, workers: u16, all: &mut JoinSet<()>) {
    controller.metrics.max_concurrent_reconciles(R::NAME, workers);
    for _ in 0..workers {
        all.spawn(work::<R>(Arc::clone(controller)));
    }
}

/// One worker: takes keys from the queue until it is closed.
async fn work<R: Reconciler>(controller: Arc<Controller>) {
    let queue = R::queue(&controller.shared);
    while let Some(key) = queue.get().await {
        let measured = controller.metrics.reconcile(R::NAME);
        let result = match R::reconcile(&controller, &key).await {
            Ok(at) => {
                queue.set_alarm(&key, at);
                if at.is_some() { ReconcileResult::RequeueAfter } else { ReconcileResult::Success }
            }
            // Whoever is the owner looks at it.
            Err(Error::Gone | Error::NotOwner) => ReconcileResult::Success,
            Err(error) => {
                let object = R::object(&controller.shared, &key);
                let (identity, connection) = object.as_ref().map(|(identity, of)| (identity, display(of))).unzip();
                let namespace = identity.and_then(|identity| identity.namespace.as_deref());
                let name = identity.map(|identity| &*identity.name);
                warn!(controller = R::NAME, namespace, name, connection, uid = %key, %error, "trying again");
                queue.retry(&key, Instant::now() + RETRY.doubled(R::failed(&controller.shared, &key)));
                ReconcileResult::Error
            }
        };
        measured.done(result);
        queue.done(&key);
    }
}

//! `TaskWatch` objects beyond the limit of their namespace: told so once, and not served. Nothing is kept of them but who they are; what
//! else is needed is read again.

use std::time::Duration;

use kube::Api;
use tokio::time::Instant;

use super::{
    Controller, Error, call,
    objects::{Identity, WatchObject},
    status,
};
use crate::{
    api::TaskWatch,
    domain::{
        availability::{Reason, Unavailable},
        decide::{Input, Observation, Pace, decide},
    },
    ops::guard::Stage,
};

impl Controller {
    /// Brings a watch up to date that is beyond the limit, or was. Says when to look again.
    pub(super) async fn reconcile_outside(&self, identity: &Identity) -> Result<Option<Instant>, Error> {
        if let Err(again) = self.writes.take(&identity.tenant(), Instant::now()) {
            return Ok(Some(again));
        }
        let found = self.read_watch(identity).await?;
        let limit = {
            let mut index = self.shared.index();
            if index.put_watch(found.clone()).is_none() {
                return Ok(None);
            }
            if index.outside(&identity.uid).is_none() {
                // Others have gone: it is served from now on.
                return Ok(Some(Instant::now()));
            }
            index.limit().unwrap_or_default()
        };
        let Some(object) = WatchObject::of(&found.metadata, found.spec) else { return Ok(None) };
        let now = self.clock.now();
        let namespace = identity.namespace.as_deref().unwrap_or_default();
        let message = format!(
            "namespace {namespace} has more than {limit} TaskWatches, and this is one of the newest: delete some of them, or ask the \
             administrator of the operator to raise --max-watches-per-namespace"
        );
        let unavailable = Unavailable::new(Reason::LimitExceeded, message);
        let input = Input {
            meta: object.meta(),
            spec: &object.spec,
            status: found.status.as_ref(),
            connection: Err(&unavailable),
            observation: Observation::None,
            refreshed: false,
            asking_since: now,
            not_found_since: None,
            period: object.spec.period(),
            pace: Pace::default(),
            settings: self.settings,
        };
        let decision = self.guard.run(Stage::Decide, &identity.uid, || decide(&input, now));
        // One that cannot be decided is not served either.
        let Ok(decision) = decision else { return Ok(None) };
        if let Some(new) = &decision.status {
            let path = <TaskWatch as kube::Resource>::url_path(&(), Some(namespace));
            status::write(&self.client, &path, identity, new).await?;
        }
        if decision.delete {
            self.delete(&object).await?;
        }
        let wait = |at: jiff::Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or_default();
        Ok(decision.wake_at.map(|at| Instant::now() + wait(at)))
    }

    /// Has those looked at that have passed the limit of their namespace, in one way or the other.
    pub(super) fn rearrange(&self) {
        let moved = self.shared.index().take_moved();
        let displaced = moved.displaced.iter().map(|entry| entry.object.identity.uid.clone());
        self.shared.look_at(displaced.chain(moved.affected));
        moved.connections.into_iter().for_each(|id| self.shared.connections.add(id));
        for entry in moved.displaced.iter().filter(|entry| entry.registered.is_some()) {
            self.engine.forget(&entry.object.connection(), entry.object.identity.uid.clone());
        }
    }

    /// Reads a watch from the API server.
    ///
    /// # Errors
    /// [`Error::Gone`] where there is another one of its name, or none.
    pub(super) async fn read_watch(&self, identity: &Identity) -> Result<TaskWatch, Error> {
        let namespace = identity.namespace.as_deref().unwrap_or_default();
        let api: Api<TaskWatch> = Api::namespaced(self.client.clone(), namespace);
        let found = call(api.get_opt(&identity.name)).await?;
        found.filter(|found| found.metadata.uid.as_deref() == Some(&*identity.uid.0)).ok_or(Error::Gone)
    }
}

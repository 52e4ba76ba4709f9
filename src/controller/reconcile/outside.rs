//! `TaskWatch` objects beyond the limit of their namespace: told so once, and not served. Nothing is kept of them but who they are; what
//! else is needed is read again.

use std::time::Duration;

use kube::Api;
use tokio::time::Instant;

use super::{
    super::{
        Controller, Error, call,
        objects::{Identity, WatchObject},
        search::Search,
    },
    taskwatch,
};
use crate::{
    api::TaskWatch,
    domain::{
        availability::{Reason, Unavailable},
        decide::{Input, Observation, Pace, decide},
        target::Target,
    },
    ops::guard::{Stage, Subject},
};

/// Brings a watch up to date that is beyond the limit, or was. Says when to look again.
pub(super) async fn reconcile(controller: &Controller, identity: &Identity) -> Result<Option<Instant>, Error> {
    // Its connection is not known: whose affair it is goes by its own name.
    let Some(bucket) = controller.buckets.of(&identity.uid.0).at_work() else { return Ok(None) };
    let polled = controller.shared.index().take_polled(&identity.uid);
    if let Some(connection) = polled {
        controller.engine.forget(&connection, identity.uid.clone());
    }
    if let Err(again) = controller.writer.take(&identity.tenant()) {
        return Ok(Some(again));
    }
    let found = read(controller, identity).await?;
    if found.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let still_outside = {
        let mut index = controller.shared.index();
        index.put_outside(found.clone()).then(|| index.limit().unwrap_or_default())
    };
    controller.shared.rearrange();
    // Others have gone, and it is served from now on; or it has gone itself.
    let Some(limit) = still_outside else { return Ok(Some(Instant::now())) };
    let Some(object) = WatchObject::of(&found.metadata, found.spec) else { return Ok(None) };
    let now = controller.clock.now();
    let namespace = identity.namespace.as_deref().unwrap_or_default();
    let message = format!(
        "namespace {namespace} has more than {limit} TaskWatches, and this is one of the newest: delete some of them, or ask the \
         administrator of the operator to raise --max-watches-per-namespace"
    );
    let unavailable = Unavailable::new(Reason::LimitExceeded, message);
    let search = Search::of(&object, found.status.as_ref());
    let input = Input {
        meta: object.meta(),
        spec: &object.spec,
        status: found.status.as_ref(),
        connection: Err(&unavailable),
        task: search.as_ref().map_or(Target::Known(object.spec.task.id.as_deref().unwrap_or_default()), Search::target),
        observation: Observation::None,
        refreshed: false,
        asking_since: now,
        not_found_since: None,
        period: object.spec.period(),
        pace: Pace::default(),
        settings: controller.settings,
    };
    let decision =
        controller.guard.run(Stage::Decide, || Subject::new(&identity.tenant(), &identity.uid), || decide(&input, now));
    // One that cannot be decided is not served either.
    let Ok(decision) = decision else { return Ok(None) };
    if let Some(new) = &decision.status {
        controller.writer.status::<TaskWatch>(&bucket, identity, new).await?;
    }
    if decision.delete {
        taskwatch::delete(controller, &bucket, &object).await?;
    }
    let wait = |at: jiff::Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or_default();
    Ok(decision.wake_at.map(|at| Instant::now() + wait(at)))
}

/// Reads a watch from the API server.
///
/// # Errors
/// [`Error::Gone`] where there is another one of its name, or none.
pub(super) async fn read(controller: &Controller, identity: &Identity) -> Result<TaskWatch, Error> {
    let namespace = identity.namespace.as_deref().unwrap_or_default();
    let api: Api<TaskWatch> = Api::namespaced(controller.client.clone(), namespace);
    let found = call(api.get_opt(&identity.name)).await?;
    found.filter(|found| found.metadata.uid.as_deref() == Some(&*identity.uid.0)).ok_or(Error::Gone)
}

//! The reconciler of connections of either kind: reads the Secret, opens the connection in the engine, writes how it fares.

mod material;

use std::sync::Arc;

use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    super::{
        Controller, Error, Shared,
        index::ConnectionEntry,
        objects::{ConnectionObject, Identity},
        queue::Queue,
        write::Written,
    },
    Reconciler,
};
use crate::{
    api::{ClusterTaskConnection, TaskConnection},
    domain::{
        availability::{Availability, Reason, Unavailable},
        connection::{self, Upstream},
    },
    engine::{ConnectionHealth, ConnectionId, Predecessor, coalesce::Mode, transport::SettingsError},
};

/// So many refusals in a row, over some 15 s, are no accident.
const FORBIDDEN: u32 = 5;

/// `TaskConnection` and `ClusterTaskConnection` objects.
pub(in super::super) struct Connections;

impl Reconciler for Connections {
    type Key = ConnectionId;
    const NAME: &'static str = "connection";

    fn queue(shared: &Shared) -> &Queue<ConnectionId> {
        &shared.connections
    }

    async fn reconcile(controller: &Controller, id: &ConnectionId) -> Result<Option<Instant>, Error> {
        reconcile(controller, id).await
    }

    fn object(shared: &Shared, id: &ConnectionId) -> Option<(Identity, ConnectionId)> {
        Some((shared.index().connections.get(id)?.object.identity.clone(), id.clone()))
    }

    fn failed(shared: &Shared, id: &ConnectionId) -> u32 {
        shared.index().connections.get_mut(id).map_or(0, ConnectionEntry::failed)
    }
}

/// Brings one connection up to date. Says when to look again.
async fn reconcile(controller: &Controller, id: &ConnectionId) -> Result<Option<Instant>, Error> {
    let object = controller.shared.index().connections.get(id).map(|entry| Arc::clone(&entry.object));
    let Some(object) = object else {
        // Whoever is the owner now: it may be open here all the same.
        close(controller, id);
        return Ok(None);
    };
    let Some(bucket) = controller.owned(id) else { return Ok(None) };
    let refusal = controller.shared.index().connection_refusal(&object);
    let opened = match refusal {
        Some(refusal) => Err(Unavailable::new(Reason::LimitExceeded, refusal).into()),
        None => open(controller, id, &object).await,
    };
    let (availability, fingerprint) = match opened {
        Ok(fingerprint) => (Ok(()), Some(fingerprint)),
        Err(NotOpen::Unavailable(unavailable)) => (Err(unavailable), None),
        Err(NotOpen::Failed(Error::Forbidden(reason))) => {
            let (usable, failures) = standing(&controller.shared, id);
            // An API server that has just started does not know its own rules yet: what could be read before is asked for again.
            if usable && failures < FORBIDDEN {
                return Err(Error::Forbidden(reason));
            }
            (Err(Unavailable::new(Reason::SecretNotFound, reason)), None)
        }
        Err(NotOpen::Failed(error)) => return Err(error),
    };
    if !bucket.is_open() {
        // Another replica may have taken over while it was being opened.
        controller.engine.disconnect(id);
        return Err(Error::NotOwner);
    }
    if availability.is_ok() {
        controller.destinations.opened(id, &object, material::namespace(controller, &object));
    }
    settle(&controller.shared, id, availability.clone(), fingerprint);
    write(controller, id, &object, &availability).await?;
    Ok(Some(Instant::now() + controller.secret_refresh))
}

/// Why a connection is not opened.
enum NotOpen {
    /// It cannot be used as it is.
    Unavailable(Unavailable),
    /// What it names could not be read.
    Failed(Error),
}

impl From<Unavailable> for NotOpen {
    fn from(why: Unavailable) -> Self {
        Self::Unavailable(why)
    }
}

impl From<Error> for NotOpen {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Reads what a connection names, and opens it in the engine, unless that has it open like this. Returns its fingerprint.
async fn open(controller: &Controller, id: &ConnectionId, object: &ConnectionObject) -> Result<u64, NotOpen> {
    let material = material::read(controller, object).await?;
    let compiled = controller.shared.index().compiled(id, object)?;
    let (opening, fingerprint) = compiled.with(object, &material)?;
    let (known, before) = {
        let index = controller.shared.index();
        let entry = index.connections.get(id);
        let status = entry.and_then(|entry| entry.status.as_ref());
        let before = Predecessor {
            has_polled: status.is_some_and(connection::was_open),
            retry_at: status.and_then(|status| status.retry_after_time.as_ref()).map(|at| at.0),
        };
        (entry.and_then(|entry| entry.fingerprint), before)
    };
    if known != Some(fingerprint) {
        let opened = controller.engine.connect(id, opening, before);
        opened.map_err(|error| {
            let reason = if error == SettingsError::NoRoom { Reason::LimitExceeded } else { Reason::InvalidSpec };
            Unavailable::new(reason, error.to_string())
        })?;
    }
    Ok(fingerprint)
}

/// Whether it could be used when it was last looked at, and how often that has failed since.
fn standing(shared: &Shared, id: &ConnectionId) -> (bool, u32) {
    let index = shared.index();
    let entry = index.connections.get(id);
    entry.map_or((false, 0), |entry| (entry.availability == Some(Ok(())), entry.failures))
}

/// Forgets a connection that is no more.
fn close(controller: &Controller, id: &ConnectionId) {
    controller.engine.disconnect(id);
    controller.destinations.forget(id);
    let users = controller.shared.index().users(id);
    for key in &users {
        if let Some(entry) = controller.shared.index().watches.get_mut(key) {
            entry.interest.disconnected();
        }
    }
    controller.shared.look_at(users);
    let sets = controller.shared.index().sets.users(id);
    for key in &sets {
        if let Some(entry) = controller.shared.index().sets.get_mut(key) {
            entry.disconnected();
        }
    }
    controller.shared.look_at_sets(sets);
}

/// Takes in whether a connection can be used; its watches are told when that has changed.
fn settle(shared: &Shared, id: &ConnectionId, availability: Availability, fingerprint: Option<u64>) {
    let changed = {
        let mut index = shared.index();
        let Some(entry) = index.connections.get_mut(id) else { return };
        if entry.availability.as_ref() != Some(&availability)
            && let Err(unavailable) = &availability
        {
            warn!(connection = %id, "unusable: {}", unavailable.message);
        }
        entry.is_settled(availability, fingerprint)
    };
    if changed {
        if fingerprint.is_some() {
            info!(connection = %id, "open");
        }
        // An unusable one stays open in the engine, where its watches are called off: so a `Retry-After` outlasts the trouble.
        shared.look_at_users(id);
    }
}

async fn write(
    controller: &Controller,
    id: &ConnectionId,
    object: &ConnectionObject,
    availability: &Availability,
) -> Result<(), Error> {
    let decided = {
        let index = controller.shared.index();
        let Some(entry) = index.connections.get(id) else { return Ok(()) };
        let (active, finished) = index.counts(id);
        connection::decide(
            &connection::Input {
                generation: object.generation,
                status: entry.status.as_ref(),
                upstream: availability.as_ref().map(|()| upstream(entry.health.as_ref())),
                active,
                finished,
                mode: entry.health.as_ref().and_then(|health| health.mode).map(Mode::as_str),
                last_success: entry.health.as_ref().and_then(|health| health.last_success),
                retry_at: entry.health.as_ref().and_then(|health| health.retry_at),
            },
            controller.clock.now(),
        )
    };
    let Some(new) = decided else { return Ok(()) };
    let (bucket, identity) = (controller.bucket(id), &object.identity);
    let written = match id.namespace {
        Some(_) => controller.writer.status::<TaskConnection>(&bucket, identity, &new).await?,
        None => controller.writer.status::<ClusterTaskConnection>(&bucket, identity, &new).await?,
    };
    if let Written::At(version) = written
        && let Some(entry) = controller.shared.index().connections.get_mut(id)
    {
        entry.is_written(new, version);
    }
    Ok(())
}

/// How the upstream answers, by what the engine said last.
fn upstream(health: Option<&ConnectionHealth>) -> Upstream<'_> {
    let Some(health) = health else { return Upstream::Untried };
    match &health.trouble {
        Some((failure, _)) => Upstream::Failing { failure },
        None if health.last_success.is_some() => {
            Upstream::Answering { stretch: health.stretch, throttled: health.throttled, insecure: health.insecure }
        }
        None => Upstream::Untried,
    }
}

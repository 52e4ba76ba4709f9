//! The reconciler of connections: reads the Secret, opens the connection in the engine, writes how it fares.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    Controller, Error, call,
    objects::ConnectionObject,
    permits,
    resolve::Material,
    status::{self, Written},
};
use crate::{
    api::{CaBundleKind, ClusterTaskConnection, TaskConnection},
    domain::{
        availability::{Availability, Reason, Unavailable},
        connection::{self, Upstream},
    },
    engine::{ConnectionHealth, ConnectionId, coalesce::Mode},
};

/// So many refusals in a row, over some 15 s, are no accident.
const FORBIDDEN: u32 = 5;

impl Controller {
    /// Brings one connection up to date. Says when to look again.
    pub(super) async fn reconcile_connection(&self, id: &ConnectionId) -> Result<Option<Instant>, Error> {
        let object = self.shared.index().connections.get(id).map(|entry| Arc::clone(&entry.object));
        let Some(object) = object else {
            self.close(id);
            return Ok(None);
        };
        let refusal = self.shared.index().connection_refusal(&object);
        let material = match self.material(&object, refusal).await {
            Err(Error::Forbidden(reason)) => {
                let (usable, failures) = self.standing(id);
                // An API server that has just started does not know its own rules yet: what could be read before is asked for again.
                if usable && failures < FORBIDDEN {
                    return Err(Error::Forbidden(reason));
                }
                Err(Unavailable::new(Reason::SecretNotFound, reason))
            }
            material => material?,
        };
        let resolved = material.and_then(|material| {
            let compiled = self.shared.index().compiled(id, &object)?;
            compiled.with(&object, &material)
        });
        let (availability, fingerprint) = match resolved {
            Ok((connection, fingerprint)) => {
                let known = self.shared.index().connections.get(id).and_then(|entry| entry.fingerprint);
                let opened = if known == Some(fingerprint) { Ok(()) } else { self.engine.connect(id, connection) };
                match opened {
                    Ok(()) => (Ok(()), Some(fingerprint)),
                    Err(error) => (Err(Unavailable::new(Reason::InvalidSpec, error.to_string())), None),
                }
            }
            Err(unavailable) => (Err(unavailable), None),
        };
        if availability.is_ok() {
            self.destinations.opened(id, &object, self.material_namespace(&object));
        }
        self.settle(id, availability.clone(), fingerprint);
        self.write_connection(id, &object, &availability).await?;
        Ok(Some(Instant::now() + self.secret_refresh))
    }

    /// Whether it could be used when it was last looked at, and how often that has failed since.
    fn standing(&self, id: &ConnectionId) -> (bool, u32) {
        let index = self.shared.index();
        let entry = index.connections.get(id);
        entry.map_or((false, 0), |entry| (entry.availability == Some(Ok(())), entry.failures))
    }

    /// When to try again after a failure.
    pub(super) fn connection_failed(&self, id: &ConnectionId) -> Instant {
        let failures = self.shared.index().connections.get_mut(id).map_or(0, |entry| {
            entry.failures += 1;
            entry.failures
        });
        Instant::now() + super::watches::RETRY.doubled(failures)
    }

    /// Forgets a connection that is no more.
    fn close(&self, id: &ConnectionId) {
        self.engine.disconnect(id);
        self.destinations.forget(id);
        let users = self.shared.index().users(id);
        for key in &users {
            if let Some(entry) = self.shared.index().watches.get_mut(key) {
                entry.registered = None;
            }
        }
        self.shared.look_at(users);
    }

    /// Takes in whether a connection can be used; its watches are told when that has changed.
    fn settle(&self, id: &ConnectionId, availability: Availability, fingerprint: Option<u64>) {
        let changed = {
            let mut index = self.shared.index();
            let Some(entry) = index.connections.get_mut(id) else { return };
            entry.failures = 0;
            entry.fingerprint = fingerprint;
            let changed = entry.availability.as_ref() != Some(&availability);
            if changed && let Err(unavailable) = &availability {
                warn!(connection = %id, "unusable: {}", unavailable.message);
            }
            entry.availability = Some(availability);
            changed
        };
        if changed {
            if fingerprint.is_some() {
                info!(connection = %id, "open");
            }
            // An unusable one stays open in the engine, where its watches are called off: so a `Retry-After` outlasts the trouble.
            let users = self.shared.index().users(id);
            self.shared.look_at(users);
        }
    }

    /// Where the Secret and the certificates of a connection are (design §4).
    fn material_namespace<'a>(&'a self, object: &'a ConnectionObject) -> &'a str {
        object.identity.namespace.as_deref().unwrap_or(&self.sight.own_namespace)
    }

    /// Reads the Secret and the certificates that a connection names: of its own namespace, or of the operator's for a
    /// `ClusterTaskConnection` (design §4).
    async fn material(
        &self,
        object: &ConnectionObject,
        refusal: Option<String>,
    ) -> Result<Result<Material, Unavailable>, Error> {
        let namespace = self.material_namespace(object);
        if let Some(refusal) = refusal {
            return Ok(Err(Unavailable::new(Reason::LimitExceeded, refusal)));
        }
        let Some(auth) = object.spec.auth.member() else {
            return Ok(Err(Unavailable::new(
                Reason::InvalidSpec,
                "spec.auth names no credential, or more than one: give exactly one",
            )));
        };
        if let Err(denied) = self.permits.check(object) {
            return Ok(Err(denied));
        }
        let secret = match self.read::<Secret>(namespace, auth.secret()).await? {
            Ok(secret) => secret,
            Err(missing) => return Ok(Err(missing)),
        };
        if let Err(refused) = permits::check_type(secret.type_.as_deref()) {
            return Ok(Err(refused));
        }
        let secret = secret.data.unwrap_or_default();
        let tls = object.spec.tls.as_ref();
        let certificates = match tls.and_then(|tls| tls.ca_bundle_ref.as_ref()) {
            None => None,
            Some(reference) => {
                let found = match reference.kind {
                    CaBundleKind::ConfigMap => {
                        self.read::<ConfigMap>(namespace, &reference.name).await?.map(config_data)
                    }
                    CaBundleKind::Secret => self
                        .read::<Secret>(namespace, &reference.name)
                        .await?
                        .map(|secret| secret.data.unwrap_or_default()),
                };
                let found = found.map(|mut data| data.remove(&reference.key));
                match found {
                    Ok(Some(ByteString(pem))) => Some(pem.into()),
                    Ok(None) => {
                        return Ok(Err(Unavailable::new(
                            Reason::SecretNotFound,
                            format!(
                                "{} {namespace}/{} has no key {}: add it, or correct spec.tls.caBundleRef",
                                kind_name(reference.kind),
                                reference.name,
                                reference.key
                            ),
                        )));
                    }
                    Err(missing) => return Ok(Err(missing)),
                }
            }
        };
        Ok(Ok(Material { namespace: namespace.to_owned(), secret, certificates }))
    }

    async fn read<K>(&self, namespace: &str, name: &str) -> Result<Result<K, Unavailable>, Error>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let kind = K::kind(&());
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        match call(api.get(name)).await {
            Ok(object) => Ok(Ok(object)),
            Err(Error::Api(kube::Error::Api(status))) if status.is_not_found() => Ok(Err(Unavailable::new(
                Reason::SecretNotFound,
                format!("{kind} {namespace}/{name} does not exist: create it"),
            ))),
            Err(Error::Api(kube::Error::Api(status))) if status.is_forbidden() => Err(Error::Forbidden(format!(
                "the operator may not read {kind} {namespace}/{name}: bind the ClusterRole taskwatch-secret-reader to its service account in namespace {namespace}"
            ))),
            Err(error) => Err(error),
        }
    }

    async fn write_connection(
        &self,
        id: &ConnectionId,
        object: &ConnectionObject,
        availability: &Availability,
    ) -> Result<(), Error> {
        let decided = {
            let index = self.shared.index();
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
                },
                self.clock.now(),
            )
        };
        let Some(new) = decided else { return Ok(()) };
        let path = match id.namespace.as_deref() {
            Some(namespace) => TaskConnection::url_path(&(), Some(namespace)),
            None => ClusterTaskConnection::url_path(&(), None),
        };
        if let Written::At(version) = status::write(&self.client, &path, &object.identity, &new).await?
            && let Some(entry) = self.shared.index().connections.get_mut(id)
            && version >= entry.version
        {
            (entry.status, entry.version) = (Some(new), version);
        }
        Ok(())
    }
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

fn config_data(map: ConfigMap) -> BTreeMap<String, ByteString> {
    let text = map.data.unwrap_or_default().into_iter().map(|(key, text)| (key, ByteString(text.into_bytes())));
    text.chain(map.binary_data.unwrap_or_default()).collect()
}

fn kind_name(kind: CaBundleKind) -> &'static str {
    match kind {
        CaBundleKind::ConfigMap => "ConfigMap",
        CaBundleKind::Secret => "Secret",
    }
}

//! What a connection names, read from the API server: its Secret and its certificates.

use std::{collections::BTreeMap, fmt::Debug};

use bytes::Bytes;
use k8s_openapi::{
    ByteString, NamespaceResourceScope,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::{
    super::super::{Controller, Error, call, objects::ConnectionObject, permits, resolve::Material},
    NotOpen,
};
use crate::{
    api::{CaBundleKind, CaBundleRef},
    domain::availability::{Reason, Unavailable},
};

/// Where the Secret and the certificates of a connection are (design §4).
pub(super) fn namespace<'a>(controller: &'a Controller, object: &'a ConnectionObject) -> &'a str {
    object.identity.namespace.as_deref().unwrap_or(&controller.sight.own_namespace)
}

/// Reads the Secret and the certificates that a connection names: of its own namespace, or of the operator's for a
/// `ClusterTaskConnection` (design §4).
pub(super) async fn read(controller: &Controller, object: &ConnectionObject) -> Result<Material, NotOpen> {
    let Some(auth) = object.spec.auth.member() else {
        let message = "spec.auth names no credential, or more than one: give exactly one";
        return Err(Unavailable::new(Reason::InvalidSpec, message).into());
    };
    controller.permits.check(object)?;
    let (client, namespace) = (&controller.client, namespace(controller, object));
    let secret = get::<Secret>(client, namespace, auth.secret()).await?;
    permits::check_type(secret.type_.as_deref())?;
    let reference = object.spec.tls.as_ref().and_then(|tls| tls.ca_bundle_ref.as_ref());
    let certificates = match reference {
        Some(reference) => Some(certificates(client, namespace, reference).await?),
        None => None,
    };
    Ok(Material { namespace: namespace.to_owned(), secret: secret.data.unwrap_or_default(), certificates })
}

async fn certificates(client: &Client, namespace: &str, reference: &CaBundleRef) -> Result<Bytes, NotOpen> {
    let CaBundleRef { kind, name, key } = reference;
    let (kind, mut data) = match kind {
        CaBundleKind::ConfigMap => ("ConfigMap", config_data(get::<ConfigMap>(client, namespace, name).await?)),
        CaBundleKind::Secret => ("Secret", get::<Secret>(client, namespace, name).await?.data.unwrap_or_default()),
    };
    let Some(ByteString(pem)) = data.remove(key) else {
        let message = format!("{kind} {namespace}/{name} has no key {key}: add it, or correct spec.tls.caBundleRef");
        return Err(Unavailable::new(Reason::SecretNotFound, message).into());
    };
    Ok(pem.into())
}

async fn get<K>(client: &Client, namespace: &str, name: &str) -> Result<K, NotOpen>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let kind = K::kind(&());
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    match call(api.get(name)).await {
        Ok(object) => Ok(object),
        Err(Error::Api(kube::Error::Api(status))) if status.is_not_found() => {
            let message = format!("{kind} {namespace}/{name} does not exist: create it");
            Err(Unavailable::new(Reason::SecretNotFound, message).into())
        }
        Err(Error::Api(kube::Error::Api(status))) if status.is_forbidden() => {
            Err(NotOpen::Failed(Error::Forbidden(format!(
                "the operator may not read {kind} {namespace}/{name}: bind the ClusterRole taskwatch-secret-reader to its service account in namespace {namespace}"
            ))))
        }
        Err(error) => Err(error.into()),
    }
}

fn config_data(map: ConfigMap) -> BTreeMap<String, ByteString> {
    let text = map.data.unwrap_or_default().into_iter().map(|(key, text)| (key, ByteString(text.into_bytes())));
    text.chain(map.binary_data.unwrap_or_default()).collect()
}

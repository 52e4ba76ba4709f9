//! Deleting an object, fenced by its UID.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, Preconditions},
};
use serde::de::DeserializeOwned;

use super::super::{Error, call, objects::Identity};

/// Deletes the object of this identity. Returns whether it did: not where it is gone, or another one of its name is there.
pub(super) async fn delete<K>(client: &Client, identity: &Identity) -> Result<bool, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), identity.namespace.as_deref().unwrap_or_default());
    let uid = identity.uid.0.to_string();
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: Some(uid), resource_version: None }),
        ..DeleteParams::default()
    };
    match call(api.delete(&identity.name, &params)).await {
        Ok(_) => Ok(true),
        Err(Error::Api(kube::Error::Api(status))) if status.is_not_found() || status.is_conflict() => Ok(false),
        Err(error) => Err(error),
    }
}

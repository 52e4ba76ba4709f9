//! Deleting an object, fenced by its UID.

use k8s_openapi::NamespaceResourceScope;
use kube::{
    Client, Resource,
    api::{DeleteParams, Preconditions},
    core::Request,
};
use serde::de::IgnoredAny;

use super::{
    super::{Error, objects::Identity},
    send,
};
use crate::ownership::Bucket;

/// Deletes the object of this identity. Returns whether it did: not where it is gone, or another one of its name is there.
pub(super) async fn delete<K>(client: &Client, bucket: &Bucket, identity: &Identity) -> Result<bool, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    let uid = identity.uid.0.to_string();
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: Some(uid), resource_version: None }),
        ..DeleteParams::default()
    };
    let request = Request::new(K::url_path(&(), identity.namespace.as_deref())).delete(&identity.name, &params)?;
    // Of the answer, the object or a status, nothing is needed.
    match send::<IgnoredAny>(client, bucket, request).await {
        Ok(_) => Ok(true),
        Err(Error::Api(kube::Error::Api(status))) if status.is_not_found() || status.is_conflict() => Ok(false),
        Err(error) => Err(error),
    }
}

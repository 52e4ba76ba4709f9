//! Objects of the API server as they are read: without `metadata.managedFields`, which is most of an object and of no use here, and
//! taken one by one, so that one that does not fit its type hides no other.

use std::{borrow::Cow, collections::BTreeMap, fmt::Debug};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error},
};
use serde_json::value::RawValue;

use crate::api::{
    ClusterTaskConnection, ClusterTaskConnectionSpec, ConnectionStatus, TaskConnection, TaskConnectionSpec, TaskWatch,
    TaskWatchSpec, TaskWatchStatus,
};

/// A kind that is read so.
pub trait Kind: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static {
    /// The type of `spec`.
    type Spec: DeserializeOwned;
    /// The type of `status`.
    type Status: DeserializeOwned;
    /// The object.
    fn assemble(metadata: ObjectMeta, spec: Self::Spec, status: Option<Self::Status>) -> Self;
}

impl Kind for TaskWatch {
    type Spec = TaskWatchSpec;
    type Status = TaskWatchStatus;
    fn assemble(metadata: ObjectMeta, spec: Self::Spec, status: Option<Self::Status>) -> Self {
        Self { metadata, spec, status }
    }
}

impl Kind for TaskConnection {
    type Spec = TaskConnectionSpec;
    type Status = ConnectionStatus;
    fn assemble(metadata: ObjectMeta, spec: Self::Spec, status: Option<Self::Status>) -> Self {
        Self { metadata, spec, status }
    }
}

impl Kind for ClusterTaskConnection {
    type Spec = ClusterTaskConnectionSpec;
    type Status = ConnectionStatus;
    fn assemble(metadata: ObjectMeta, spec: Self::Spec, status: Option<Self::Status>) -> Self {
        Self { metadata, spec, status }
    }
}

/// An object, or what can be read of one that does not fit its type.
#[derive(Clone, Debug)]
pub struct Readable<K>(pub Result<K, Unreadable>);

/// An object that does not fit its type.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// Its metadata, less `managedFields`.
    pub metadata: ObjectMeta,
    /// What does not fit.
    pub error: String,
}

#[derive(Deserialize)]
struct Object<S, T> {
    metadata: Metadata,
    spec: S,
    status: Option<T>,
}

#[derive(Deserialize)]
struct Header {
    metadata: Metadata,
}

/// The metadata that the operator looks at.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
}

impl From<Metadata> for ObjectMeta {
    fn from(metadata: Metadata) -> Self {
        Self {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            generation: metadata.generation,
            creation_timestamp: metadata.creation_timestamp,
            deletion_timestamp: metadata.deletion_timestamp,
            labels: metadata.labels,
            annotations: metadata.annotations,
            ..Self::default()
        }
    }
}

impl<'de, K: Kind> Deserialize<'de> for Readable<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        match serde_json::from_str::<Object<K::Spec, K::Status>>(text.get()) {
            Ok(Object { metadata, spec, status }) => Ok(Self(Ok(K::assemble(metadata.into(), spec, status)))),
            Err(error) => {
                let header: Header = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
                Ok(Self(Err(Unreadable { metadata: header.metadata.into(), error: error.to_string() })))
            }
        }
    }
}

impl<K: Kind> Resource for Readable<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind(kind: &()) -> Cow<'_, str> {
        K::kind(kind)
    }
    fn group(kind: &()) -> Cow<'_, str> {
        K::group(kind)
    }
    fn version(kind: &()) -> Cow<'_, str> {
        K::version(kind)
    }
    fn plural(kind: &()) -> Cow<'_, str> {
        K::plural(kind)
    }
    fn meta(&self) -> &ObjectMeta {
        match &self.0 {
            Ok(object) => object.meta(),
            Err(unreadable) => &unreadable.metadata,
        }
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.0 {
            Ok(object) => object.meta_mut(),
            Err(unreadable) => &mut unreadable.metadata,
        }
    }
}

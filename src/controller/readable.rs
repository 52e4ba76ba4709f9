//! Objects of the API server as they are read: straight from the buffer, and no more of them than is looked at. Most of an object may be
//! metadata that means nothing here, and whoever may write objects chooses how much that is.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use k8s_openapi::{
    api::core::v1::Namespace,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time},
};
use kube::Resource;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::objects::LOOKED_AT;
use crate::{
    api::{
        ClusterTaskConnection, ClusterTaskConnectionSpec, ConnectionStatus, TaskConnection, TaskConnectionSpec,
        TaskWatch, TaskWatchSet, TaskWatchSetSpec, TaskWatchSetStatus, TaskWatchSpec, TaskWatchStatus, bounds,
    },
    ops::guard::{Guard, Stage, Subject},
    tenancy::Tenant,
};

/// Labels of a namespace that are kept at most. One with more counts as having none: to see only a part could admit whom a selector
/// shuts out.
const NAMESPACE_LABELS: usize = 128;

/// A kind that is read so.
pub trait Kind: Sized + Send + Sync + 'static {
    /// Whether nothing but the metadata of its objects is asked for.
    const METADATA_ONLY: bool = false;
    /// The kind's name.
    fn kind() -> Cow<'static, str>;
    /// The name of its collections.
    fn plural() -> Cow<'static, str>;
    /// The path of its objects in a namespace, or of all.
    fn path(namespace: Option<&str>) -> String;
    /// Reads an object.
    ///
    /// # Errors
    /// It does not fit the type.
    fn decode(text: &str) -> serde_json::Result<(ObjectMeta, Self)>;
}

macro_rules! custom_kind {
    ($kind:ident, $spec:ty, $status:ty) => {
        impl Kind for $kind {
            fn kind() -> Cow<'static, str> {
                <Self as Resource>::kind(&())
            }
            fn plural() -> Cow<'static, str> {
                <Self as Resource>::plural(&())
            }
            fn path(namespace: Option<&str>) -> String {
                Self::url_path(&(), namespace)
            }
            fn decode(text: &str) -> serde_json::Result<(ObjectMeta, Self)> {
                let Object::<$spec, $status> { metadata, spec, status } = serde_json::from_str(text)?;
                let metadata = ObjectMeta::from(metadata);
                Ok((metadata.clone(), Self { metadata, spec, status }))
            }
        }
    };
}

custom_kind!(TaskWatch, TaskWatchSpec, TaskWatchStatus);
custom_kind!(TaskWatchSet, TaskWatchSetSpec, TaskWatchSetStatus);
custom_kind!(TaskConnection, TaskConnectionSpec, ConnectionStatus);
custom_kind!(ClusterTaskConnection, ClusterTaskConnectionSpec, ConnectionStatus);

/// A namespace, of which only the labels are of interest.
#[derive(Debug, PartialEq, Eq)]
pub struct NamespaceLabels {
    pub name: String,
    /// Its labels; none where there are more than are kept.
    pub labels: Option<BTreeMap<String, String>>,
}

impl Kind for NamespaceLabels {
    const METADATA_ONLY: bool = true;
    fn kind() -> Cow<'static, str> {
        Namespace::kind(&())
    }
    fn plural() -> Cow<'static, str> {
        Namespace::plural(&())
    }
    fn path(_: Option<&str>) -> String {
        Namespace::url_path(&(), None)
    }
    fn decode(text: &str) -> serde_json::Result<(ObjectMeta, Self)> {
        let Labelled { metadata } = serde_json::from_str(text)?;
        let Whole { name, uid, resource_version, labels } = metadata;
        let meta = ObjectMeta { name: Some(name.clone()), uid, resource_version, ..ObjectMeta::default() };
        Ok((meta, Self { name, labels: labels.0 }))
    }
}

/// What was made of an object.
#[derive(Debug)]
pub enum Readable<K> {
    /// It was read.
    Whole(ObjectMeta, K),
    /// Only its metadata was; and why.
    Unreadable(ObjectMeta, String),
    /// Not even that.
    Nameless(String),
}

impl<K: Kind> Readable<K> {
    /// Reads an object; whatever it is like, it harms no other.
    #[must_use]
    pub fn read(guard: &Guard, text: &str) -> Self {
        let error = match guard.run(Stage::Read, || subject(text), || K::decode(text)) {
            Ok(Ok((meta, object))) => return Self::Whole(meta, object),
            Ok(Err(error)) => error.to_string(),
            Err(panicked) => panicked.to_string(),
        };
        match guard.run(Stage::Read, || subject(text), || metadata(text)) {
            Ok(Ok(meta)) => Self::Unreadable(meta, error),
            Ok(Err(_)) | Err(_) => Self::Nameless(error),
        }
    }
}

/// The metadata of an object, whatever else it is like.
///
/// # Errors
/// It has none.
pub fn metadata(text: &str) -> serde_json::Result<ObjectMeta> {
    serde_json::from_str::<Header>(text).map(|header| header.metadata.into())
}

/// Whose an object is, as far as it says so.
fn subject(text: &str) -> Subject {
    let meta = metadata(text).unwrap_or_default();
    let tenant = meta.namespace.map_or_else(Tenant::shared, |namespace| Tenant::namespace(&namespace.into()));
    Subject::new(&tenant, &meta.uid)
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

#[derive(Deserialize)]
struct Labelled {
    metadata: Whole,
}

/// The metadata of a namespace.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Whole {
    name: String,
    uid: Option<String>,
    resource_version: Option<String>,
    #[serde(default)]
    labels: AllLabels,
}

/// The metadata that the operator looks at. What is not named here is skipped while reading.
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
    #[serde(default, deserialize_with = "looked_at")]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default, deserialize_with = "looked_at")]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default, deserialize_with = "controller")]
    owner_references: Option<Vec<OwnerReference>>,
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
            owner_references: metadata.owner_references,
            ..Self::default()
        }
    }
}

fn looked_at<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    let kept = deserializer.deserialize_any(Wanted { names: LOOKED_AT, most: LOOKED_AT.len() })?;
    Ok(kept.filter(|kept| !kept.is_empty()))
}

/// Of the owners the one that controls the object, of which there is at most one.
fn controller<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<OwnerReference>>, D::Error> {
    deserializer.deserialize_any(Owners)
}

/// Reads owners, and keeps the controller.
struct Owners;

impl<'de> Visitor<'de> for Owners {
    type Value = Option<Vec<OwnerReference>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of owners")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut owners: A) -> Result<Self::Value, A::Error> {
        let mut kept = None;
        while let Some(owner) = owners.next_element::<Owner>()? {
            if owner.controller {
                kept = Some(vec![OwnerReference {
                    api_version: owner.api_version.unwrap_or_default(),
                    kind: owner.kind.unwrap_or_default(),
                    name: owner.name.unwrap_or_default(),
                    uid: owner.uid.unwrap_or_default(),
                    controller: Some(true),
                    block_owner_deletion: None,
                }]);
            }
        }
        Ok(kept)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Owner {
    api_version: Option<String>,
    kind: Option<String>,
    name: Option<String>,
    uid: Option<String>,
    #[serde(default)]
    controller: bool,
}

struct AllLabels(Option<BTreeMap<String, String>>);

impl Default for AllLabels {
    fn default() -> Self {
        Self(Some(BTreeMap::new()))
    }
}

impl<'de> Deserialize<'de> for AllLabels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Wanted { names: &[], most: NAMESPACE_LABELS }).map(Self)
    }
}

/// Reads a map of texts of which only some names are kept, each value up to [`bounds::ANNOTATION`] bytes; without names, all. None
/// where there are too many.
struct Wanted {
    names: &'static [&'static str],
    most: usize,
}

impl<'de> Visitor<'de> for Wanted {
    type Value = Option<BTreeMap<String, String>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of texts")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Some(BTreeMap::new()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut kept, mut count) = (BTreeMap::new(), 0);
        while let Some(Text(name)) = map.next_key()? {
            if self.names.is_empty() || self.names.contains(&&*name) {
                let Text(value) = map.next_value()?;
                count += 1;
                if count <= self.most {
                    kept.insert(name.into_owned(), value[..value.floor_char_boundary(bounds::ANNOTATION)].to_owned());
                }
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok((count <= self.most).then_some(kept))
    }
}

/// A text that stays in the buffer where it can.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::{ALLOW_TTL, REQUESTED_AT},
        ops::metrics::Metrics,
    };

    fn read(object: &Value) -> Readable<TaskWatch> {
        Readable::read(&Guard::new(Metrics::new()), &object.to_string())
    }

    fn watch(metadata: &Value) -> Value {
        let mut whole = json!({"name": "w", "namespace": "n", "uid": "u", "resourceVersion": "7"});
        whole.as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
        json!({"apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatch", "metadata": whole,
            "spec": {"connectionRef": {"name": "c"}, "task": {"id": "t"}}})
    }

    #[test]
    fn only_what_is_looked_at_is_kept() {
        let object = watch(&json!({
            "annotations": {REQUESTED_AT: "now", "note": "x".repeat(1_000), ALLOW_TTL: "true"},
            "labels": {"a": "b"},
            "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {}}}],
            "ownerReferences": [{"uid": "o"}], "finalizers": ["f"],
        }));
        let Readable::Whole(meta, TaskWatch { metadata, spec, .. }) = read(&object) else { panic!("it fits") };
        assert_eq!(meta, metadata);
        assert_eq!(spec.task.id.as_deref(), Some("t"));
        let kept =
            [(ALLOW_TTL, "true"), (REQUESTED_AT, "now")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(meta.annotations, Some(BTreeMap::from(kept)));
        assert_eq!(
            (meta.labels, meta.managed_fields, meta.owner_references, meta.finalizers),
            (None, None, None, None)
        );
        assert_eq!((meta.uid.as_deref(), meta.resource_version.as_deref()), (Some("u"), Some("7")));
    }

    #[test]
    fn a_value_is_kept_up_to_what_is_echoed() {
        let Readable::Whole(meta, _) = read(&watch(&json!({"annotations": {REQUESTED_AT: "é".repeat(5_000)}}))) else {
            panic!("it fits")
        };
        assert_eq!(meta.annotations.unwrap()[REQUESTED_AT].len(), bounds::ANNOTATION);
    }

    #[test]
    fn an_object_that_does_not_fit_is_known_by_its_metadata() {
        let mut object = watch(&json!({}));
        object["spec"]["poll"] = json!("often");
        let Readable::Unreadable(meta, error) = read(&object) else { panic!("it does not fit") };
        assert_eq!(meta.name.as_deref(), Some("w"));
        assert!(error.contains("often"), "{error}");
        assert!(matches!(read(&json!({"metadata": 7})), Readable::Nameless(_)));
        // A lone surrogate in a text, which only some other writer could have put there.
        let broken = watch(&json!({})).to_string().replace("\"t\"", "\"\\ud800\"");
        let guard = Guard::new(Metrics::new());
        assert!(matches!(Readable::<TaskWatch>::read(&guard, &broken), Readable::Unreadable(..)));
    }

    #[test]
    fn a_namespace_with_more_labels_than_are_kept_counts_as_having_none_to_show() {
        let namespace = |count: usize| {
            let labels: BTreeMap<_, _> = (0..count).map(|i| (format!("l{i}"), "v")).collect();
            let text = json!({"metadata": {"name": "n", "uid": "u", "labels": labels}}).to_string();
            NamespaceLabels::decode(&text).unwrap().1.labels.map(|labels| labels.len())
        };
        assert_eq!(namespace(0), Some(0));
        assert_eq!(namespace(NAMESPACE_LABELS), Some(NAMESPACE_LABELS));
        assert_eq!(namespace(NAMESPACE_LABELS + 1), None);
        let bare = NamespaceLabels::decode(r#"{"metadata": {"name": "n"}}"#).unwrap().1;
        assert_eq!(bare.labels, Some(BTreeMap::new()));
    }
}

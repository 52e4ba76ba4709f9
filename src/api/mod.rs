//! The custom resource types of group `taskwatch.dev`, version `v1alpha1`, and the definitions that are generated from them.
//!
//! What a reader of `kubectl explain` sees are the docstrings of these types. Nothing here has logic beyond validation and accessors.

// The docstrings are shown by `kubectl explain`, where the names of kinds are plain words; the units at the end of names are the API's.
#![allow(clippy::doc_markdown, clippy::struct_field_names)]

pub mod auth;
pub mod bounds;
pub mod connection;
pub mod crds;
pub mod provider;
mod schema;
pub mod status;
pub mod taskwatch;
pub mod taskwatchset;

pub use auth::{AuthRef, ConnectionAuth};
pub use connection::{
    AllowedNamespaces, CaBundleKind, CaBundleRef, ClusterTaskConnection, ClusterTaskConnectionSpec, ConnectionPoll,
    ConnectionStatus, PollMode, RateLimit, TaskConnection, TaskConnectionSpec, Tls, WatchCounts,
};
pub use crds::{crd_yaml, crds};
pub use provider::{
    AstraControl, CloudRu, CloudRuStates, ConnectionProvider, HuaweiCloud, ProviderMember, ProviderRef,
};
pub use status::{
    ErrorDetailStatus, ErrorStatus, ProgressStatus, StateDetailStatus, SubtaskStatus, SubtasksStatus, TaskStatus,
    TaskWatchStatus,
};
pub use taskwatch::{
    ConnectionKind, ConnectionReference, KeyReference, KeySource, LatestTask, NotBefore, OnNotFound, ReadyWhen,
    TaskIdSource, TaskReference, TaskWatch, TaskWatchSpec, WatchPoll,
};
pub use taskwatchset::{
    FoundTask, SetReadyWhen, TaskMatch, TaskParents, TaskWatchSet, TaskWatchSetSpec, TaskWatchSetStatus,
    TemplateMetadata, TemplateSpec, WatchTemplate,
};

/// The API group of every kind here.
pub const GROUP: &str = "taskwatch.dev";
/// The served and stored version.
pub const VERSION: &str = "v1alpha1";
/// Annotation: look at the upstream now. Its value is any text that differs from the last one, by custom the present time.
pub const REQUESTED_AT: &str = "taskwatch.dev/requestedAt";
/// The same as [`REQUESTED_AT`], as `flux reconcile` sets it; of the two, the one that changed last counts.
pub const FLUX_REQUESTED_AT: &str = "reconcile.fluxcd.io/requestedAt";
/// Label: `"true"` lets the value of a Secret be taken for the identifier of a task, and so be shown in a status.
pub const ID_FROM: &str = "taskwatch.dev/id-from";
/// Annotation: `"true"` lets the TTL delete an object that Argo CD, Flux or Helm tracks.
pub const ALLOW_TTL: &str = "taskwatch.dev/allow-ttl";

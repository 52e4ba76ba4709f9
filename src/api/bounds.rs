//! How long and how many things may be. Schema and code share these; lengths are in characters (the code cuts at as many bytes).

/// Identifiers of tasks and of their scopes, of whatever upstream: the longest that are known are names of Google Cloud operations and
/// Azure resources. What each provider takes is shorter.
pub const IDENTIFIER: usize = 1024;
/// Names of Kubernetes objects (RFC 1123 subdomain).
pub const OBJECT_NAME: usize = 253;
/// Keys of Secrets and `ConfigMap`s.
pub const KEY: usize = 253;
/// Names, codes and state words of an upstream.
pub const WORD: usize = 256;
/// Values of outputs and error details.
pub const VALUE: usize = 512;
/// Texts of a sub-task that is shown.
pub const SUBTASK_TEXT: usize = 64;
/// Messages of an upstream.
pub const MESSAGE: usize = 1024;
/// Messages of conditions: an upstream's message and what to do about it.
pub const CONDITION_MESSAGE: usize = 2048;
/// Reasons of conditions.
pub const REASON: usize = 128;
/// URLs.
pub const URL: usize = 2048;
/// A PEM bundle.
pub const PEM: usize = 65536;
/// Values of annotations that are echoed; longer ones are cut.
pub const ANNOTATION: usize = 256;

/// Conditions of one object.
pub const CONDITIONS: usize = 16;
/// Sub-tasks that are shown.
pub const SUBTASKS: usize = 32;
/// Outputs that are shown.
pub const OUTPUTS: usize = 32;
/// State details that are shown.
pub const STATE_DETAILS: usize = 8;
/// Error details that are shown.
pub const ERROR_DETAILS: usize = 8;
/// Scopes that a connection may allow beside its own.
pub const SCOPES: usize = 64;
/// Namespaces that a connection may name.
pub const NAMESPACES: usize = 256;
/// Words for one state in the vocabulary of Cloud.ru.
pub const STATE_WORDS: usize = 32;
/// Scopes of an OAuth2 token.
pub const OAUTH2_SCOPES: usize = 32;
/// Tasks that a `TaskWatchSet` names in its status.
pub const NEWEST_TASKS: usize = 20;
/// States that a count in the status of a `TaskWatchSet` may name; more than there are now.
pub const STATE_COUNTS: usize = 16;
/// Patterns of a `TaskWatchSet`.
pub const PATTERNS: usize = 32;
/// Labels, and annotations, of the template of a `TaskWatchSet`.
pub const TEMPLATE_KEYS: usize = 32;
/// Keys of labels and annotations: a prefix, a slash and a name.
pub const LABEL_KEY: usize = 317;
/// Values of labels.
pub const LABEL: usize = 63;
/// Values of annotations in the template of a `TaskWatchSet`.
pub const TEMPLATE_ANNOTATION: usize = 1024;

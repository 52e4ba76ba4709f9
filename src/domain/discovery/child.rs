//! What a `TaskWatch` of a set is called, and made of.

use std::{collections::BTreeMap, fmt::Write};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, api::ObjectMeta};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::api::{
    TaskReference, TaskWatch, TaskWatchSet, TaskWatchSetSpec, TaskWatchSpec, TemplateMetadata, TemplateSpec,
    bounds::OBJECT_NAME,
};

/// Label: the set that a `TaskWatch` is of.
pub const SET_LABEL: &str = "taskwatch.dev/set";
/// Label: the task of a `TaskWatch` of a set.
pub const TASK_LABEL: &str = "taskwatch.dev/task";
/// Annotation: which template a `TaskWatch` is made of, and what of its metadata comes from there.
pub const TEMPLATE: &str = "taskwatch.dev/template";
/// Annotation: Argo CD is not to look at the whole application again each time that a status changes.
pub const IGNORE_UPDATES: &str = "argocd.argoproj.io/ignore-resource-updates";

/// What begins with this is the operator's.
const OURS: &str = "taskwatch.dev/";
/// So much of the identifier a name shows.
const SLUG: usize = 40;
/// So many characters of five bits each make a name the only one.
const MARK: usize = 10;
/// Digits and letters, less those that are mistaken for others or make words.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// The longest value of a label.
const LABEL: usize = 63;
/// What a label begins with that holds a hash: the first 40 digits of what `sha256sum` says of the text.
const HASHED: &str = "sha256-";
/// Seconds of `notFoundGraceSeconds` where none are given, as in a `TaskWatch`.
const NOT_FOUND_GRACE: i32 = 60;

/// What a set's `TaskWatch` of a task is called: the same each time, and no other task's of any set of the namespace.
#[must_use]
pub fn name(set: &str, scope: Option<&str>, id: &str) -> String {
    // None of them but the last can hold a zero byte: different ones never look alike.
    let hash = Sha256::digest([set, scope.unwrap_or_default(), id].join("\0"));
    let mark = mark(&hash);
    let slug = slug(id);
    let most = OBJECT_NAME - MARK - SLUG - 2;
    let set = set.get(..set.floor_char_boundary(most)).unwrap_or_default().trim_end_matches(['-', '.']);
    let parts = [set, &slug, &mark].into_iter().filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-")
}

/// The first bits of a hash.
fn mark(hash: &[u8]) -> String {
    let bits = hash.iter().take(8).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    let digit = |place: usize| DIGITS.get(usize::try_from(bits >> (59 - place * 5) & 31).unwrap_or(0));
    (0..MARK).filter_map(digit).map(|digit| char::from(*digit)).collect()
}

/// What of an identifier can stand in a name: letters and digits, with one hyphen for whatever is between them.
fn slug(id: &str) -> String {
    let words = id.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let mut slug = String::new();
    for word in words {
        if slug.len() >= SLUG {
            break;
        }
        if !slug.is_empty() {
            slug.push('-');
        }
        slug.push_str(&word.to_ascii_lowercase());
    }
    slug.truncate(SLUG);
    slug.truncate(slug.trim_end_matches('-').len());
    slug
}

/// `text` as the value of a label: itself where it can be one, else a hash of it. Different texts give different values.
#[must_use]
pub fn label(text: &str) -> String {
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let ends = is_end(text.chars().next()) && is_end(text.chars().next_back());
    let is_plain = text.len() <= LABEL && ends && text.chars().all(is_inner) && !text.starts_with(HASHED);
    if is_plain { text.to_owned() } else { format!("{HASHED}{}", hex(&Sha256::digest(text), 20)) }
}

/// The first `count` bytes in hexadecimal digits.
fn hex(bytes: &[u8], count: usize) -> String {
    bytes.iter().take(count).fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// What the template gives, with all that is the operator's taken out.
struct Template {
    metadata: TemplateMetadata,
    spec: TemplateSpec,
}

/// The annotation [`TEMPLATE`].
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Made {
    hash: String,
    /// The keys of labels and annotations that come from the template.
    labels: Vec<String>,
    annotations: Vec<String>,
}

impl Template {
    fn of(spec: &TaskWatchSetSpec) -> Self {
        let template = spec.template.clone().unwrap_or_default();
        let mut metadata = template.metadata.unwrap_or_default();
        metadata.labels.retain(|key, _| !is_ours(key));
        metadata.annotations.retain(|key, _| !is_ours(key));
        Self { metadata, spec: template.spec.unwrap_or_default() }
    }

    /// Templates that make the same have the same.
    fn hash(&self) -> String {
        let text = serde_json::to_vec(&(&self.metadata, &self.spec)).unwrap_or_default();
        hex(&Sha256::digest(text), 8)
    }

    fn made(&self) -> String {
        let keys = |map: &BTreeMap<String, String>| map.keys().cloned().collect();
        let made = Made {
            hash: self.hash(),
            labels: keys(&self.metadata.labels),
            annotations: keys(&self.metadata.annotations),
        };
        serde_json::to_string(&made).unwrap_or_default()
    }

    /// Puts what the template gives into `child`, and takes out what `old` one gave.
    fn put(self, child: &mut TaskWatch, old: &Made) {
        let made = self.made();
        let annotations = child.metadata.annotations.get_or_insert_default();
        replace(annotations, &old.annotations, self.metadata.annotations);
        annotations.insert(IGNORE_UPDATES.to_owned(), "true".to_owned());
        annotations.insert(TEMPLATE.to_owned(), made);
        replace(child.metadata.labels.get_or_insert_default(), &old.labels, self.metadata.labels);
        let TemplateSpec { ready_when, active_deadline_seconds, on_not_found, not_found_grace_seconds, poll } =
            self.spec;
        child.spec.ready_when = ready_when;
        child.spec.active_deadline_seconds = active_deadline_seconds;
        child.spec.on_not_found = on_not_found;
        child.spec.not_found_grace_seconds = not_found_grace_seconds.unwrap_or(NOT_FOUND_GRACE);
        child.spec.poll = poll;
    }
}

/// Whether a label or annotation of this key is never the template's.
fn is_ours(key: &str) -> bool {
    key.starts_with(OURS) || key == IGNORE_UPDATES
}

fn replace(map: &mut BTreeMap<String, String>, old: &[String], new: BTreeMap<String, String>) {
    // The list is in the hands of whoever may change the object.
    old.iter().filter(|key| !is_ours(key)).for_each(|key| drop(map.remove(key)));
    map.extend(new);
}

/// What the hash in the annotation [`TEMPLATE`] would be if a `TaskWatch` were made now; see [`hash_of`].
#[must_use]
pub fn template_hash(spec: &TaskWatchSetSpec) -> String {
    Template::of(spec).hash()
}

/// The hash of the template that a `TaskWatch` was made of, or last brought up to date with; none where nobody can tell.
#[cfg(test)]
pub fn hash_of(annotations: &BTreeMap<String, String>) -> Option<String> {
    Some(made_of(annotations)?.hash)
}

/// The same of the annotation's text, of which only the beginning may be known.
#[must_use]
pub fn hash_in(annotation: &str) -> Option<&str> {
    Some(annotation.strip_prefix(r#"{"hash":""#)?.split_once('"')?.0)
}

fn made_of(annotations: &BTreeMap<String, String>) -> Option<Made> {
    serde_json::from_str(annotations.get(TEMPLATE)?).ok()
}

/// The `TaskWatch` of a set for a task.
#[must_use]
pub fn make(set_name: &str, set_uid: &str, namespace: &str, spec: &TaskWatchSetSpec, id: &str) -> TaskWatch {
    let labels = [(SET_LABEL, label(set_name)), (TASK_LABEL, label(id))];
    let owner = OwnerReference {
        api_version: TaskWatchSet::api_version(&()).into_owned(),
        kind: TaskWatchSet::kind(&()).into_owned(),
        name: set_name.to_owned(),
        uid: set_uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    let mut child = TaskWatch {
        metadata: ObjectMeta {
            name: Some(name(set_name, spec.scope.as_deref(), id)),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value)).into()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: TaskWatchSpec {
            connection_ref: spec.connection_ref.clone(),
            task: TaskReference { id: Some(id.to_owned()), scope: spec.scope.clone(), ..TaskReference::default() },
            ready_when: crate::api::ReadyWhen::default(),
            poll: None,
            active_deadline_seconds: None,
            ttl_seconds_after_finished: None,
            on_not_found: crate::api::OnNotFound::default(),
            not_found_grace_seconds: NOT_FOUND_GRACE,
            suspend: false,
        },
        status: None,
    };
    Template::of(spec).put(&mut child, &Made::default());
    child
}

/// Brings what the template gives up to date. Labels and annotations that the last template gave and this one does not are taken out;
/// what other people have put there stays.
pub fn update(child: &mut TaskWatch, spec: &TaskWatchSetSpec) {
    let old = child.metadata.annotations.as_ref().and_then(made_of).unwrap_or_default();
    Template::of(spec).put(child, &old);
}

#[cfg(test)]
mod tests;

//! Pieces of schema that several fields share, or that their Rust type does not give.

use kube::core::Rule;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::bounds::{
    CONDITION_MESSAGE, CONDITIONS, IDENTIFIER, LABEL, LABEL_KEY, OBJECT_NAME, PATTERNS, REASON, STATE_COUNTS,
    TEMPLATE_ANNOTATION, TEMPLATE_KEYS, URL, WORD,
};

/// What no identifier of any upstream has: rules of CEL, and what the API server answers where one is broken.
///
/// Out are what a reader would not see (Unicode's `C`: control and formatting characters), blanks (`Z`), what would end a URL's path
/// or bend it, and what would be a step through it. Each provider is stricter (`providers::identifiers`). Here it can be loosened later,
/// but not be made stricter: objects that exist would be shut out.
const IDENTIFIER_RULES: [(&str, &str); 2] = [
    (
        r"self.matches(r'^[^?#\\\pC\pZ]*$')",
        r"give the identifier alone, not a URL: it has no blanks, no control or invisible characters, and none of ? # \",
    ),
    (
        r"!self.matches(r'(^|/)\.{0,2}(/|$)')",
        "give the identifier alone, not a URL or path: it has no / at its beginning or end, no //, and no . or .. by itself between slashes",
    ),
];
/// In `allowedScopes` an asterisk stands for any scope, so that none can be called so.
const NO_ASTERISK: (&str, &str) =
    ("self != '*'", "give one identifier: \"*\" stands for any scope, and only in spec.allowedScopes of a connection");
/// Scheme, host, port and an optional path: no user, no query, no fragment. Of a host only what every reader takes alike: letters, digits,
/// `.`, `-`, or an IPv6 address in brackets.
const URL_PATTERN: &str = r"^https?://([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9.])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~!$&()*+,;=:@%/-]*)?$";
/// The states that a task of an upstream can be in.
const TASK_STATES: [&str; 6] = ["Pending", "Running", "Paused", "Succeeded", "Failed", "Cancelled"];
/// Keys with our prefix tell the operator which object is whose.
const NO_OWN_KEYS: &str = "self.all(key, !key.startsWith('taskwatch.dev/'))";
const OBJECT_NAME_PATTERN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// Of the members with these names, one is given and no more; `what` they are is told to who gives none or more.
pub(super) fn exactly_one(what: &str, names: impl Iterator<Item = &'static str>) -> Rule {
    let names: Vec<_> = names.collect();
    let given: Vec<_> = names.iter().map(|name| format!("has(self.{name})")).collect();
    let list = match names.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => names.concat(),
    };
    let rule = format!("[{}].exists_one(given, given)", given.join(", "));
    Rule::new(rule).message(format!("give exactly one {what}: {list}").as_str())
}

/// A string that must match, and the sentence that the API server answers where it does not.
///
/// The pattern is a rule, not the schema's `pattern`: where that one fails, the server checks no rule, and says no sentence.
fn patterned(max: usize, pattern: &str, message: &str) -> Schema {
    ruled(max, &[(&format!("self.matches(r'{pattern}')"), message)])
}

/// A string that must keep to rules of CEL, each with the sentence that the API server answers where it does not.
fn ruled(max: usize, rules: &[(&str, &str)]) -> Schema {
    let rules: Vec<_> = rules.iter().map(|(rule, message)| json!({"rule": rule, "message": message})).collect();
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": max,
        "x-kubernetes-validations": rules,
    })
}

pub(super) fn identifier(_: &mut SchemaGenerator) -> Schema {
    let [signs, parts] = IDENTIFIER_RULES;
    ruled(IDENTIFIER, &[signs, parts, NO_ASTERISK])
}

pub(super) fn scopes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": super::bounds::SCOPES,
        "x-kubernetes-list-type": "set",
        "items": ruled(IDENTIFIER, &IDENTIFIER_RULES),
    })
}

/// Names of results.
pub(super) fn outputs(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": super::bounds::OUTPUTS,
        "x-kubernetes-list-type": "set",
        "items": {"type": "string", "minLength": 1, "maxLength": WORD},
    })
}

pub(super) fn url(_: &mut SchemaGenerator) -> Schema {
    patterned(
        URL,
        URL_PATTERN,
        "give an absolute URL that begins with https:// (or http://), in ASCII, with a host name or address, and no user name, query or fragment in it",
    )
}

pub(super) fn object_name(_: &mut SchemaGenerator) -> Schema {
    patterned(
        OBJECT_NAME,
        OBJECT_NAME_PATTERN,
        "give the name of an object: lower-case letters, digits, - and ., at most 253 characters",
    )
}

/// Words of a vocabulary.
pub(super) fn state_words(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": super::bounds::STATE_WORDS,
        "x-kubernetes-list-type": "set",
        "items": {"type": "string", "minLength": 1, "maxLength": WORD},
    })
}

/// States that a task may be searched by.
pub(super) fn task_states(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": TASK_STATES.len(),
        "x-kubernetes-list-type": "set",
        "items": {"type": "string", "enum": TASK_STATES},
    })
}

/// Patterns for names.
pub(super) fn patterns(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": PATTERNS,
        "x-kubernetes-list-type": "set",
        "items": {"type": "string", "minLength": 1, "maxLength": WORD},
    })
}

/// How many are in which state.
pub(super) fn state_counts(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": STATE_COUNTS,
        "additionalProperties": {"type": "integer", "format": "int32", "minimum": 0, "maximum": i32::MAX},
    })
}

/// Labels that objects are made with. What the API server would refuse then is refused here, where somebody sees it.
pub(super) fn template_labels(_: &mut SchemaGenerator) -> Schema {
    let value = json!({
        "type": "string",
        "maxLength": LABEL,
        "x-kubernetes-validations": [{
            "rule": "self.matches(r'^([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?$')",
            "message": "give the value of a label: at most 63 letters, digits, -, _ and ., of which the first and the last is a letter or digit",
        }],
    });
    let keys = [
        (
            keys_match("a-z0-9"),
            "give the keys of labels: a name of at most 63 letters, digits, -, _ and ., and before it, if anything, a domain in lower case and a slash",
        ),
        (NO_OWN_KEYS.to_owned(), "labels with the prefix taskwatch.dev/ are set by the operator: choose another key"),
    ];
    template_keys(&keys, &value)
}

/// Annotations that objects are made with.
pub(super) fn template_annotations(_: &mut SchemaGenerator) -> Schema {
    let keys = [
        (
            keys_match("A-Za-z0-9"),
            "give the keys of annotations: a name of at most 63 letters, digits, -, _ and ., and before it, if anything, a domain and a slash",
        ),
        (
            NO_OWN_KEYS.to_owned(),
            "annotations with the prefix taskwatch.dev/ are set by the operator: choose another key",
        ),
    ];
    template_keys(&keys, &json!({"type": "string", "maxLength": TEMPLATE_ANNOTATION}))
}

/// A map whose keys must keep to rules of CEL.
fn template_keys(rules: &[(String, &str)], value: &Value) -> Schema {
    let rules: Vec<_> = rules.iter().map(|(rule, message)| json!({"rule": rule, "message": message})).collect();
    json_schema!({
        "type": "object",
        "maxProperties": TEMPLATE_KEYS,
        "additionalProperties": value,
        "x-kubernetes-validations": rules,
    })
}

/// That all keys are those of labels, whose prefix is of these signs. The length comes first: a schema cannot bound keys, and what a
/// pattern costs is counted by it.
fn keys_match(signs: &str) -> String {
    let part = format!("[{signs}]([{signs}-]*[{signs}])?");
    let prefix = format!(r"({part}(\.{part})*/)?");
    format!(
        "self.all(key, size(key) <= {LABEL_KEY} && key.matches(r'^([^/]{{1,253}}/)?[^/]{{1,63}}$') \
         && key.matches(r'^{prefix}[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$'))"
    )
}

/// Names of namespaces.
pub(super) fn namespaces(_: &mut SchemaGenerator) -> Schema {
    let items = patterned(
        63,
        "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        "give the name of a namespace: lower-case letters, digits and -, at most 63 characters; to allow namespaces by label, use selector",
    );
    json_schema!({
        "type": "array",
        "maxItems": super::bounds::NAMESPACES,
        "x-kubernetes-list-type": "set",
        "items": items,
    })
}

/// `metav1.Condition` with the bounds that k8s-openapi's own schema lacks.
pub(super) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": CONDITIONS,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "description": "One aspect of the state of the object.",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": {
                    "type": "string", "maxLength": 316,
                    "description": "Name of the aspect, in CamelCase.",
                    "pattern": r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
                },
                "status": {
                    "type": "string", "enum": ["True", "False", "Unknown"],
                    "description": "Whether it holds: True, False or Unknown.",
                },
                "reason": {
                    "type": "string", "minLength": 1, "maxLength": REASON,
                    "description": "Why, as one CamelCase word for programs.",
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                },
                "message": {
                    "type": "string", "maxLength": CONDITION_MESSAGE,
                    "description": "Why, and what can be done about it, for people.",
                },
                "lastTransitionTime": {
                    "type": "string", "format": "date-time",
                    "description": "When status last changed, by the operator's clock.",
                },
                "observedGeneration": {
                    "type": "integer", "format": "int64", "minimum": 0, "maximum": 9_007_199_254_740_991_i64,
                    "description": "The metadata.generation that this was decided for.",
                },
            },
        },
    })
}

/// `metav1.LabelSelector` with bounds.
pub(super) fn label_selector(_: &mut SchemaGenerator) -> Schema {
    let value = json!({"type": "string", "maxLength": 63});
    json_schema!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": {
                "type": "object", "maxProperties": 32, "additionalProperties": value,
                "description": "Labels and the values that they must have; all must match.",
            },
            "matchExpressions": {
                "type": "array", "maxItems": 32, "x-kubernetes-list-type": "atomic",
                "description": "Requirements on labels; all must match.",
                "items": {
                    "type": "object",
                    "description": "One requirement on a label.",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": {"type": "string", "minLength": 1, "maxLength": 317, "description": "The label's key."},
                        "operator": {
                            "type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                            "description": "How the label is held against values: In, NotIn, Exists or DoesNotExist.",
                        },
                        "values": {
                            "type": "array", "maxItems": 64, "x-kubernetes-list-type": "atomic",
                            "description": "The values for In and NotIn; empty for the others.",
                            "items": value,
                        },
                    },
                },
            },
        },
    })
}

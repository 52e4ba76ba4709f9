//! The objects of attacks.

use serde_json::{Value, json};

use super::ground::LABEL;
use super::upstream::Provider;

/// The Secret that connections name where an attack does not care, and the token in it.
pub(super) const SECRET: &str = "attack-token";
pub(super) const TOKEN: &str = "qZ7vR2mK9xW4tB6nJ1pL8sD3fG5hC0yA";

/// An object of `kind` with the label of attacks.
fn object(kind: &str, namespace: &str, name: &str, body: Value) -> Value {
    let version = if kind.starts_with("Task") || kind.starts_with("Cluster") { "taskwatch.dev/v1alpha1" } else { "v1" };
    let metadata = if namespace.is_empty() {
        json!({"name": name, "labels": {LABEL: "yes"}})
    } else {
        json!({"name": name, "namespace": namespace, "labels": {LABEL: "yes"}})
    };
    with(json!({"apiVersion": version, "kind": kind, "metadata": metadata}), body)
}

/// A Secret.
pub(super) fn secret(namespace: &str, name: &str, data: &Value) -> Value {
    object("Secret", namespace, name, json!({ "stringData": data }))
}

/// The Secret [`SECRET`].
pub(super) fn token(namespace: &str) -> Value {
    secret(namespace, SECRET, &json!({ "token": TOKEN }))
}

/// A `ConfigMap`.
pub(super) fn config_map(namespace: &str, name: &str, data: &Value) -> Value {
    object("ConfigMap", namespace, name, json!({ "data": data }))
}

/// A `TaskConnection` that may ask for each task every second, with the token of [`SECRET`]; `more` is laid over its spec.
pub(super) fn connection(namespace: &str, name: &str, provider: Provider, url: &str, more: Value) -> Value {
    object("TaskConnection", namespace, name, json!({ "spec": with(spec(provider, url), more) }))
}

/// A `ClusterTaskConnection` of the same kind for some namespaces. Its Secret must be in the operator's namespace.
pub(super) fn shared(name: &str, provider: Provider, url: &str, namespaces: &[&str], more: Value) -> Value {
    let spec = with(spec(provider, url), json!({"allowedNamespaces": {"names": namespaces}}));
    object("ClusterTaskConnection", "", name, json!({ "spec": with(spec, more) }))
}

fn spec(provider: Provider, url: &str) -> Value {
    json!({
        "provider": provider.spec(url, "own"),
        "auth": {"token": {"secretRef": {"name": SECRET}}},
        "poll": {"minPeriodSeconds": 1, "maxPeriodSeconds": 1, "mode": "Get"},
        "rateLimit": {"requestsPerSecond": 100, "burst": 100, "maxInFlight": 32},
    })
}

/// A `TaskWatch` that asks every second; `more` is laid over its spec.
pub(super) fn watch(namespace: &str, name: &str, connection: &str, id: &str, more: Value) -> Value {
    let spec = json!({"connectionRef": {"name": connection}, "task": {"id": id},
        "poll": {"periodSeconds": 1, "maxPeriodSeconds": 1}});
    object("TaskWatch", namespace, name, json!({ "spec": with(spec, more) }))
}

/// `more` laid over `base`, key by key; what is null in `more` is taken away.
pub(super) fn with(mut base: Value, more: Value) -> Value {
    lay(&mut base, more);
    base
}

fn lay(base: &mut Value, more: Value) {
    match (base, more) {
        (Value::Object(base), Value::Object(more)) => {
            for (key, value) in more {
                if value.is_null() {
                    base.remove(&key);
                } else {
                    lay(base.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (base, more) => *base = more,
    }
}

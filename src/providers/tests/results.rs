//! What a task returns may be a secret: identifiers, names and URIs are shown, and what the connection's owner lists.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{answer, now, registry_lines::connection};
use crate::providers::{
    Provider,
    decode::explain,
    registration::Registration,
    registry::{Chosen, PROVIDERS},
};

const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----";

/// Each provider with a list of further results.
fn showing(outputs: &[&str]) -> Vec<Arc<dyn Provider>> {
    let outputs: Vec<_> = outputs.iter().map(|name| (*name).to_owned()).collect();
    let build = |entry: &&Registration| Chosen::of(&connection(entry, "")).unwrap().build(&outputs);
    PROVIDERS.iter().map(build).collect()
}

/// A task with these results, in the words of each provider.
fn bodies(results: &Value) -> Vec<Value> {
    let mut task = json!({"id": "t1", "status": "RUNNING", "response": results, "metadata": results});
    task["error"] = json!({"code": 9, "message": "x", "details": [results]});
    let bodies = vec![
        json!({"job_id": "t1", "status": "SUCCESS", "entities": {"sub_jobs": [{"job_id": "s", "status": "SUCCESS", "entities": results}]}}),
        json!({"task": task}),
        json!({"id": "t1", "state": "failed", "resourceURI": results["self_uri"], "stateDetails": [{"type": "x", "detail": "y", "additionalDetails": results}]}),
    ];
    assert_eq!(bodies.len(), PROVIDERS.len(), "one for each provider, in the order of the table");
    bodies
}

#[test]
fn secrets_are_nowhere_in_what_is_shown() {
    let results = json!({
        "adminPass": "hunter2a", "kubeadminPassword": "hunter2b", "kubeconfig": "hunter2c", "token": "hunter2d", "note": PEM,
        "said": "{\"adminPass\":\"hunter2i\",\"volume\":\"v-1\"}", "line": "PGPASSWORD=hunter2j psql", "nested": {"credentials": {"id": "hunter2e"}, "list": [{"clientSecret": "hunter2f"}]},
        "self_uri": "https://user:hunter2g@host/x", "report_url": "https://host/x?X-Amz-Signature=hunter2h", "volume_id": "v-1",
    });
    let listed = [
        "adminPass",
        "kubeadminPassword",
        "kubeconfig",
        "token",
        "note",
        "said",
        "line",
        "id",
        "clientSecret",
        "self_uri",
    ];
    for outputs in [&[][..], &listed] {
        for (provider, body) in showing(outputs).iter().zip(bodies(&results)) {
            let shown = explain(provider.as_ref(), &answer(200, body.to_string()), now());
            assert_eq!(shown["kind"], "task", "{shown}");
            let shown = shown.to_string();
            assert!(
                !shown.contains("hunter2") && !shown.contains("BEGIN PRIVATE"),
                "{} shows {shown}",
                provider.name()
            );
        }
    }
}

#[test]
fn identifiers_are_shown_and_more_where_it_is_listed() {
    let results = json!({"volume_id": "v-1", "serverName": "web", "self_uri": "/x/1", "ip": "10.0.0.1", "net": {"cidr": "10.0.0.0/8"}});
    let shown = |outputs: &[&str], which: usize| {
        let provider = &showing(outputs)[which];
        explain(provider.as_ref(), &answer(200, bodies(&results)[which].to_string()), now())["task"]["outputs"].clone()
    };
    let plain = json!({"volume_id": "v-1", "serverName": "web", "self_uri": "/x/1"});
    assert_eq!(shown(&[], 0), plain);
    assert_eq!(shown(&[], 1), plain);
    assert_eq!(shown(&[], 2), json!({"resourceURI": "/x/1"}));
    assert_eq!(shown(&["ip"], 0)["ip"], "10.0.0.1");
    assert_eq!(shown(&["net.cidr"], 1)["net.cidr"], "10.0.0.0/8");
    assert_eq!(shown(&["cidr"], 1)["net.cidr"], "10.0.0.0/8");
}

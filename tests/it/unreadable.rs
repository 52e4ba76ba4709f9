//! Objects that do not fit the types: they stall nothing, and are taken up when they are mended and forgotten when they are deleted.

use std::time::Duration;

use anyhow::{Result, ensure};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use taskwatch_harness::{ADMIN, ControlPlane, Operator, OperatorOptions, Simulator, eventually, workspace_root};

const LIMIT: Duration = Duration::from_mins(1);

fn objects(client: &Client, group: &str, version: &str, kind: &str, namespace: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// Lets the API server store any `TaskWatch`, as another version of the definition would.
async fn relax(plane: &ControlPlane) -> Result<()> {
    // A field that the schema does not name cannot be selected by.
    let anything = json!([{"op": "remove", "path": "/spec/versions/0/selectableFields"}, {
        "op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema",
        "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }]);
    let patch = ["patch", "crd", "taskwatches.taskwatch.dev", "--type=json", "--patch", &anything.to_string()];
    plane.kubectl(&patch).await?.success().map(drop)
}

async fn create(api: &Api<DynamicObject>, object: Value) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(object)?;
    // A definition that has just changed may be refused for a moment.
    eventually(LIMIT, "the object is taken", || async { Ok(api.create(&PostParams::default(), &object).await?) })
        .await?;
    Ok(())
}

fn watch(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatch", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn an_object_that_cannot_be_read_stalls_nothing() {
    let plane = ControlPlane::start().await.unwrap();
    let simulator = Simulator::start(&[]).await.unwrap();
    let client = plane.client(ADMIN).await.unwrap();
    let crds = workspace_root().join("crds").display().to_string();
    plane.kubectl(&["apply", "--filename", &crds]).await.unwrap().success().unwrap();
    plane
        .kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"])
        .await
        .unwrap()
        .success()
        .unwrap();
    relax(&plane).await.unwrap();

    let secrets = objects(&client, "", "v1", "Secret", "default");
    create(
        &secrets,
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "c"}, "stringData": {"token": "t"}}),
    )
    .await
    .unwrap();
    let connections = objects(&client, "taskwatch.dev", "v1alpha1", "TaskConnection", "default");
    let connection = json!({
        "apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskConnection", "metadata": {"name": "c"},
        "spec": {
            "provider": {"huaweiCloud": {"endpoint": simulator.url(), "projectID": "p"}},
            "auth": {"token": {"secretRef": {"name": "c"}}},
        },
    });
    create(&connections, connection).await.unwrap();
    let scope = json!({"credentials": [{"kind": "token", "token": "t"}]});
    simulator.admin("PUT", "/scopes/huaweiCloud/p", Some(&scope)).await.unwrap();
    let job = json!({"steps": [{"state": "RUNNING"}]});
    for id in ["good", "turned", "bad"] {
        simulator.admin("PUT", &format!("/tasks/huaweiCloud/p/{id}"), Some(&job)).await.unwrap();
    }
    let watches = objects(&client, "taskwatch.dev", "v1alpha1", "TaskWatch", "default");
    // All that the schema would have filled in.
    let full = |id: &str| {
        json!({
            "connectionRef": {"name": "c", "kind": "TaskConnection"}, "task": {"id": id},
            "poll": {"periodSeconds": 1, "maxPeriodSeconds": 1},
        })
    };
    create(&watches, watch("bad", &json!({"connectionRef": 7, "task": []}))).await.unwrap();
    create(&watches, watch("good", &full("good"))).await.unwrap();
    create(&watches, watch("turned", &full("turned"))).await.unwrap();

    let options = OperatorOptions::new(plane.kubeconfig(ADMIN).unwrap());
    let operator = Operator::start(options.args(&["--namespace", "default"])).await.unwrap();
    let running = |name: &'static str| {
        let watches = watches.clone();
        eventually(LIMIT, "the job is seen to run", move || {
            let watches = watches.clone();
            async move {
                let status = watches.get(name).await?.data["status"].clone();
                ensure!(status["state"] == "Running", "{name}: {status:#}");
                Ok(())
            }
        })
    };
    running("good").await.unwrap();
    running("turned").await.unwrap();

    let merge = PatchParams::default();
    watches.patch("turned", &merge, &Patch::Merge(json!({"spec": {"task": "none"}}))).await.unwrap();
    watches.patch("bad", &merge, &Patch::Merge(json!({"spec": full("bad")}))).await.unwrap();
    running("bad").await.unwrap();
    let polls = async || {
        let log = simulator.admin("GET", "/log?since=0&limit=100000", None).await.unwrap();
        log["entries"].as_array().unwrap().iter().filter(|entry| entry["path"] == "/v1/p/jobs/turned").count()
    };
    let before = polls().await;
    eventually(LIMIT, "what was known of it goes on", async || {
        ensure!(polls().await > before);
        Ok(())
    })
    .await
    .unwrap();
    // Deleted while it could not be read: its poll ends.
    watches.delete("turned", &DeleteParams::default()).await.unwrap();
    eventually(LIMIT, "it is forgotten", async || {
        let before = polls().await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        ensure!(polls().await == before, "still polled");
        Ok(())
    })
    .await
    .unwrap();
    assert!(operator.process().log().contains("an object cannot be read"));
}

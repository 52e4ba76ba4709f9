//! `deploy/policies/` on a real API server: each takes what is good and refuses what is not.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use taskwatch_harness::{ADMIN, ControlPlane, OPERATOR, TENANT, eventually, workspace_root};

use crate::stage::{SOON, install, lay_over};

const NAMESPACE: &str = "team-a";

async fn apply(plane: &ControlPlane, file: &str) {
    let file = workspace_root().join("deploy/policies").join(file);
    plane.kubectl(&["apply", "--filename", file.to_str().unwrap()]).await.unwrap().success().unwrap();
}

/// A control plane of its own, since policies are for the whole cluster, with a tenant who may do everything with objects of ours.
async fn tenants() -> ControlPlane {
    let plane = ControlPlane::start().await.unwrap();
    install(&plane).await.unwrap();
    for args in [
        &["create", "namespace", NAMESPACE][..],
        &["create", "clusterrole", "all", "--verb=*", "--resource=*.taskwatch.dev,namespaces"],
        &["create", "rolebinding", "all", "--clusterrole=all", "--user=tenant", "--namespace", NAMESPACE],
        &["create", "clusterrole", "label", "--verb=patch", "--resource=namespaces"],
        &["create", "clusterrolebinding", "label", "--clusterrole=label", "--user=tenant"],
    ] {
        plane.kubectl(args).await.unwrap().success().unwrap();
    }
    plane
}

/// What the API server says to an object of this user, without keeping it.
async fn say(plane: &ControlPlane, user: &str, object: &Value) -> String {
    let kubectl = plane.kubectl_as(user).unwrap();
    let who = user.replace(':', "-");
    let file = format!("{}/{who}-{}.json", plane.workdir().display(), object["metadata"]["name"].as_str().unwrap());
    std::fs::write(&file, object.to_string()).unwrap();
    let output = kubectl.run(&["create", "--dry-run=server", "--filename", &file]).await.unwrap();
    if output.code == 0 { String::new() } else { output.stderr }
}

/// The object is refused with these words, as soon as the policy is known; the good one is taken.
async fn refused(plane: &ControlPlane, (user, good): (&str, &Value), bad: &[(Value, &str)]) {
    for (more, words) in bad {
        let mut object = good.clone();
        lay_over(&mut object, more.clone());
        eventually(SOON, words, || async {
            let said = say(plane, user, &object).await;
            ensure!(said.contains(words), "{object} is answered {said:?}");
            Ok(())
        })
        .await
        .unwrap();
    }
    assert_eq!(say(plane, user, good).await, "", "{good}");
}

fn connection(kind: &str) -> Value {
    json!({
        "apiVersion": "taskwatch.dev/v1alpha1", "kind": kind, "metadata": {"name": "c", "namespace": NAMESPACE},
        "spec": {
            "provider": {"huaweiCloud": {"endpoint": "https://evs.eu-west-101.myhuaweicloud.eu", "projectID": "p"}},
            "auth": {"keystone": {"endpoint": "https://iam.eu-west-101.myhuaweicloud.eu", "secretRef": {"name": "s"}}},
            "allowedScopes": ["one"],
        },
    })
}

fn watch(connection: &Value) -> Value {
    json!({
        "apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatch", "metadata": {"name": "w", "namespace": NAMESPACE},
        "spec": {"connectionRef": connection, "task": {"id": "t"}},
    })
}

fn set(connection: &Value) -> Value {
    json!({
        "apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatchSet", "metadata": {"name": "s", "namespace": NAMESPACE},
        "spec": {"connectionRef": connection},
    })
}

#[tokio::test]
async fn each_policy_takes_what_is_good_and_refuses_what_is_not() {
    let plane = tenants().await;
    let own = connection("TaskConnection");

    apply(&plane, "endpoints.yaml").await;
    let endpoint = |url: &str| json!({"spec": {"provider": {"huaweiCloud": {"endpoint": url}}}});
    refused(
        &plane,
        (TENANT, &own),
        &[
            (endpoint("http://evs.eu-west-101.myhuaweicloud.eu"), "endpoints must be https URLs"),
            (endpoint("https://evil.example"), "endpoints must be at or under: myhuaweicloud.com"),
            (endpoint("https://notmyhuaweicloud.eu"), "endpoints must be at or under"),
            (endpoint("https://myhuaweicloud.eu.evil.example"), "endpoints must be at or under"),
            (
                json!({"spec": {"auth": {"keystone": {"endpoint": "https://evil.example"}}}}),
                "endpoints must be at or under",
            ),
        ],
    )
    .await;

    apply(&plane, "scopes.yaml").await;
    refused(&plane, (TENANT, &own), &[(json!({"spec": {"allowedScopes": ["one", "*"]}}), "must name scopes")]).await;
    let mut shared = connection("ClusterTaskConnection");
    shared["metadata"] = json!({"name": "shared"});
    shared["spec"]["allowedNamespaces"] = json!({"selector": {"matchLabels": {"a": "b"}}});
    let empty = json!({"spec": {"allowedNamespaces": {"selector": {"matchLabels": null}}}});
    refused(&plane, (ADMIN, &shared), &[(empty, "opens the connection to every namespace")]).await;

    apply(&plane, "annotations.yaml").await;
    let good = watch(&json!({"name": "c"}));
    let large = json!({"metadata": {"annotations": {"a": "x".repeat(9000), "b": "x".repeat(9000)}}});
    refused(&plane, (TENANT, &good), &[(large.clone(), "at most 16384 characters")]).await;
    refused(&plane, (TENANT, &own), &[(large.clone(), "at most 16384 characters")]).await;
    refused(&plane, (TENANT, &set(&json!({"name": "c"}))), &[(large, "at most 16384 characters")]).await;

    apply(&plane, "connection-use.yaml").await;
    let by_shared = watch(&json!({"kind": "ClusterTaskConnection", "name": "shared"}));
    let words = "you may not use the ClusterTaskConnection shared";
    refused(&plane, (TENANT, &good), &[(by_shared.clone(), words)]).await;
    let set = set(&json!({"name": "c"}));
    let set_by_shared = json!({"spec": {"connectionRef": {"kind": "ClusterTaskConnection", "name": "shared"}}});
    refused(&plane, (TENANT, &set), &[(set_by_shared, words)]).await;
    // The operator creates TaskWatches for sets, whose authors were asked; it has no verb of its own.
    let bind = ["create", "rolebinding", "operator", "--clusterrole=all", "--user", OPERATOR, "--namespace", NAMESPACE];
    plane.kubectl(&bind).await.unwrap().success().unwrap();
    eventually(SOON, "the operator may", || async {
        let said = say(&plane, OPERATOR, &by_shared).await;
        ensure!(said.is_empty(), "{said}");
        Ok(())
    })
    .await
    .unwrap();
    // As the file says to.
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "use"},
        "rules": [{"apiGroups": ["taskwatch.dev"], "resources": ["clustertaskconnections"], "verbs": ["use"],
            "resourceNames": ["shared"]}],
    });
    plane.kubectl_as(ADMIN).unwrap().apply(&role.to_string()).await.unwrap().success().unwrap();
    let bind = ["create", "clusterrolebinding", "use", "--clusterrole=use", "--user=tenant"];
    plane.kubectl(&bind).await.unwrap().success().unwrap();
    eventually(SOON, "who has the verb may", || async {
        let said = say(&plane, TENANT, &by_shared).await;
        ensure!(said.is_empty(), "{said}");
        Ok(())
    })
    .await
    .unwrap();
    let other = json!({"spec": {"connectionRef": {"name": "other"}}});
    refused(&plane, (TENANT, &by_shared), &[(other, "you may not use the ClusterTaskConnection other")]).await;

    apply(&plane, "namespace-labels.yaml").await;
    let tenant = plane.kubectl_as(TENANT).unwrap();
    eventually(SOON, "the label is kept", || async {
        let answer = tenant.run(&["label", "namespace", NAMESPACE, "tasks.example.com/connections=yes"]).await?;
        let undo = plane.kubectl(&["label", "namespace", NAMESPACE, "tasks.example.com/connections-"]).await?;
        ensure!(answer.stderr.contains("only their administrators set it"), "{answer:?} {undo:?}");
        Ok(())
    })
    .await
    .unwrap();
    tenant.run(&["label", "namespace", NAMESPACE, "other=yes"]).await.unwrap().success().unwrap();
    let label = ["label", "namespace", NAMESPACE, "tasks.example.com/connections=yes"];
    plane.kubectl(&label).await.unwrap().success().unwrap();
    // Who changes something else keeps the label.
    tenant.run(&["label", "namespace", NAMESPACE, "other-"]).await.unwrap().success().unwrap();
    plane.stop().await.unwrap();
}

#[tokio::test]
async fn the_quota_bounds_objects_of_ours() {
    let plane = tenants().await;
    apply(&plane, "resourcequota.yaml").await;
    // Its controller, which does not run here, fills the status in; what is allowed is lowered so that it is soon reached.
    let hard = json!({"count/taskwatches.taskwatch.dev": "2", "count/taskwatchsets.taskwatch.dev": "0", "count/taskconnections.taskwatch.dev": "0"});
    let used = json!({"count/taskwatches.taskwatch.dev": "0", "count/taskwatchsets.taskwatch.dev": "0", "count/taskconnections.taskwatch.dev": "0"});
    let patch = json!({"spec": {"hard": hard}, "status": {"hard": hard, "used": used}}).to_string();
    for more in [&[][..], &["--subresource=status"]] {
        let args = ["patch", "resourcequota", "taskwatch", "--namespace", NAMESPACE, "--type=merge", "--patch", &patch];
        plane.kubectl(&[&args[..], more].concat()).await.unwrap().success().unwrap();
    }
    eventually(SOON, "no connection is taken", || async {
        let said = say(&plane, TENANT, &connection("TaskConnection")).await;
        ensure!(said.contains("exceeded quota: taskwatch"), "{said}");
        Ok(())
    })
    .await
    .unwrap();
    let said = say(&plane, TENANT, &set(&json!({"name": "c"}))).await;
    assert!(said.contains("exceeded quota: taskwatch"), "{said}");
    assert_eq!(say(&plane, TENANT, &watch(&json!({"name": "c"}))).await, "");
    plane.stop().await.unwrap();
}

#[tokio::test]
async fn requests_go_by_the_flow_that_is_theirs() {
    let plane = tenants().await;
    apply(&plane, "flowcontrol.yaml").await;
    for (user, verb, path, flow) in [
        (OPERATOR, "GET", "/apis/taskwatch.dev/v1alpha1/taskwatches", "taskwatch-operator"),
        (OPERATOR, "GET", "/api/v1/namespaces/team-a/secrets/s", "taskwatch-operator"),
        (TENANT, "DELETE", "/apis/taskwatch.dev/v1alpha1/namespaces/team-a/taskwatches/none", "taskwatch-tenants"),
        (TENANT, "DELETE", "/apis/taskwatch.dev/v1alpha1/namespaces/team-a/taskwatchsets/none", "taskwatch-tenants"),
    ] {
        let get = ["get", "flowschema", flow, "--output=jsonpath={.metadata.uid}"];
        let uid = plane.kubectl(&get).await.unwrap().success().unwrap();
        eventually(SOON, flow, || async {
            let found = flow_of(&plane, user, verb, path).await?;
            ensure!(found == uid, "{verb} {path} of {user} goes by {found}, not {uid}");
            Ok(())
        })
        .await
        .unwrap();
    }
    plane.stop().await.unwrap();
}

/// The UID of the flow schema that a request went by; refused ones have one, too.
async fn flow_of(plane: &ControlPlane, user: &str, verb: &str, path: &str) -> Result<String> {
    let client = plane.client(user).await?;
    let request = http::Request::builder().method(verb).uri(path).body(kube::client::Body::empty())?;
    let answer = client.send(request).await?;
    let flow = answer.headers().get("x-kubernetes-pf-flowschema-uid").cloned();
    Ok(flow.map(|value| value.to_str().map(str::to_owned)).transpose()?.unwrap_or_default())
}

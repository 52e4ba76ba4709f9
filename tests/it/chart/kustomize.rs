//! What is installed is the same by the chart and by Kustomize.

use serde_json::{Value, json};

use super::{Objects, objects, rendered_without_crds, template};
use crate::stage::plane;
use taskwatch_harness::workspace_root;

/// What Helm adds.
const OF_HELM: [&str; 4] =
    ["helm.sh/chart", "app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "app.kubernetes.io/version"];

#[tokio::test]
async fn the_chart_installs_what_kustomize_does() {
    let monitoring = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}});
    for (directory, values) in [
        ("deploy", json!({})),
        ("deploy/overlays/metrics-authorization", json!({"config": {"httpAuthorization": true}})),
        ("deploy/overlays/cluster-secrets", json!({"secretAccess": {"allNamespaces": true}})),
        (
            "deploy/overlays/network-policy",
            json!({"networkPolicy": {"metricsFrom": [monitoring], "egress": {"enabled": true}}}),
        ),
    ] {
        let mut expected = kustomized(directory).await;
        // `helm install --create-namespace` makes it, or it is there.
        assert!(expected.remove(&("Namespace".into(), String::new(), "taskwatch-system".into())).is_some());
        assert_same(directory, &expected, &normalised(rendered_without_crds(values).await));
    }
}

#[tokio::test]
async fn the_chart_of_one_namespace_installs_what_kustomize_does() {
    let expected = kustomized("deploy/namespaced").await;
    let values = json!({"scopedNamespaces": ["team-a"], "crds": {"enabled": false}});
    let output = template_in("team-a", &values).await;
    assert_same("deploy/namespaced", &expected, &normalised(objects(&output)));
    assert!(expected.keys().all(|(kind, _, _)| !kind.starts_with("Cluster")), "{:?}", expected.keys());
}

#[tokio::test]
async fn the_policy_of_the_chart_is_that_of_the_example() {
    let file = workspace_root().join("deploy/policies/connection-use.yaml");
    let expected = normalised(objects(&std::fs::read_to_string(file).unwrap()));
    let mut rendered = normalised(rendered_without_crds(json!({"connectionUsePolicy": {"enabled": true}})).await);
    rendered.retain(|(kind, _, _), _| kind.starts_with("ValidatingAdmissionPolicy"));
    for object in rendered.values_mut() {
        object["metadata"].as_object_mut().unwrap().remove("labels");
    }
    assert_same("deploy/policies/connection-use.yaml", &expected, &rendered);
}

/// Both charts have the definitions of `crds/`, and nothing but metadata of their own.
#[tokio::test]
async fn the_definitions_are_those_of_the_repository() {
    let mut expected = Objects::new();
    for file in std::fs::read_dir(workspace_root().join("crds")).unwrap() {
        expected.extend(objects(&std::fs::read_to_string(file.unwrap().path()).unwrap()));
    }
    assert_eq!(expected.len(), 4);
    for (chart, values, keep) in [
        ("taskwatch", json!({}), true),
        ("taskwatch", json!({"crds": {"keep": false}}), false),
        ("taskwatch-crds", json!({}), true),
        ("taskwatch-crds", json!({"keep": false}), false),
    ] {
        let mut found = objects(&template(chart, &values).await.success().unwrap());
        found.retain(|(kind, _, _), _| kind == "CustomResourceDefinition");
        for object in found.values_mut() {
            let metadata = object["metadata"].as_object_mut().unwrap();
            assert!(metadata.remove("labels").is_some());
            let annotations = metadata.remove("annotations").unwrap_or_default();
            assert_eq!(annotations["helm.sh/resource-policy"] == "keep", keep, "{chart} {values}");
        }
        assert_same(chart, &expected, &found);
    }
    let without = rendered_without_crds(json!({})).await;
    assert!(without.keys().all(|(kind, _, _)| kind != "CustomResourceDefinition"), "{:?}", without.keys());
}

async fn template_in(namespace: &str, values: &Value) -> String {
    // The release is of the namespace that it serves, as that of Kustomize.
    let helm = taskwatch_harness::Helm::offline().await.unwrap();
    let file = super::values_file(&helm, values);
    let args = ["template", super::RELEASE, &super::chart("taskwatch"), "--namespace", namespace, "--values", &file];
    helm.run(&args).await.unwrap().success().unwrap()
}

async fn kustomized(directory: &str) -> Objects {
    let directory = workspace_root().join(directory).display().to_string();
    let yaml = plane().await.kubectl(&["kustomize", &directory]).await.unwrap().success().unwrap();
    normalised(objects(&yaml))
}

/// Without what Helm adds, and in an order of its own where order means nothing.
fn normalised(mut objects: Objects) -> Objects {
    for object in objects.values_mut() {
        let namespace = object["metadata"]["namespace"].clone();
        normalise(object, &namespace);
    }
    objects
}

fn normalise(value: &mut Value, namespace: &Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, _| !OF_HELM.contains(&key.as_str()));
            // One says which namespace it is, the other one where that stands.
            if fields.get("name").is_some_and(|name| name == "TASKWATCH_NAMESPACE") && fields.contains_key("valueFrom")
            {
                assert_eq!(fields["valueFrom"]["fieldRef"]["fieldPath"], "metadata.namespace");
                fields.remove("valueFrom");
                fields.insert("value".to_owned(), namespace.clone());
            }
            for (key, value) in fields.iter_mut() {
                normalise(value, namespace);
                if ["rules", "env"].contains(&key.as_str())
                    && let Value::Array(entries) = value
                {
                    entries.sort_by_cached_key(ToString::to_string);
                }
            }
        }
        Value::Array(entries) => entries.iter_mut().for_each(|entry| normalise(entry, namespace)),
        _ => {}
    }
}

fn assert_same(what: &str, expected: &Objects, found: &Objects) {
    let names = |objects: &Objects| objects.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(expected), names(found), "{what}: the kinds, namespaces and names");
    for (key, object) in expected {
        let pretty = |object: &Value| serde_json::to_string_pretty(object).unwrap();
        assert!(
            *object == found[key],
            "{what}: {key:?} is\n{}\nand by the chart\n{}",
            pretty(object),
            pretty(&found[key])
        );
    }
}

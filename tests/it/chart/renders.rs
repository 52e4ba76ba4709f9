//! What each value changes, and that the API server takes it.

use std::fmt::Write as _;

use serde_json::{Value, json};
use taskwatch_harness::workspace_root;
use tokio::sync::OnceCell;

use super::{
    NAMESPACE, Objects, RELEASE, container, environment, find, objects, rendered, rendered_without_crds, template,
};
use crate::stage::plane;

/// Kinds of the Prometheus operator, which this API server does not know.
const FOREIGN: [&str; 2] = ["ServiceMonitor", "PrometheusRule"];

/// Values that change something.
fn matrix() -> Vec<Value> {
    let spread =
        json!({"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"});
    let secret =
        json!({"name": "TASKWATCH_UPSTREAM_PROXY", "valueFrom": {"secretKeyRef": {"name": "proxy", "key": "url"}}});
    let extra = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "more"}, "data": {"release": "{{ .Release.Name }}"}});
    let ca = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    vec![
        json!({"scopedNamespaces": ["team-a", "team-b"], "config": {"discovery": false}, "caBundle": ca}),
        json!({"scopedNamespaces": ["team-a"], "scopedRBAC": false}),
        json!({"config": {"discovery": false, "noClusterConnections": true}}),
        json!({"config": {"allowEgress": ["10.0.0.0/8:443@team-a", "192.168.0.0/16"], "maxRequestsPerSecond": 100_000, "logFormat": "text"}}),
        json!({"config": {"httpAddress": "[::]:9090", "probeAddress": "0.0.0.0:9091"}, "service": {"port": 80}}),
        json!({"config": {"clusterResourceNamespace": "team-b"}, "secretAccess": {"namespaces": ["team-a"]}, "caBundle": ca}),
        json!({"image": {"repository": "registry.example/taskwatch", "digest": format!("sha256:{}", "0".repeat(64))}, "imagePullSecrets": [{"name": "pull"}]}),
        json!({"openshift": true, "hostUsers": false, "config": {"leaseBuckets": 0}}),
        json!({"replicaCount": 3, "config": {"leaseBuckets": 16, "lease": "team-a/tasks"}, "strategy": {"type": "Recreate", "rollingUpdate": null}}),
        json!({"podDisruptionBudget": {"enabled": true}, "priorityClassName": "system-cluster-critical", "topologySpreadConstraints": [spread],
            "nodeSelector": {"kubernetes.io/os": "linux"}, "tolerations": [{"operator": "Exists"}]}),
        json!({"podDisruptionBudget": {"enabled": true, "minAvailable": "50%"}, "affinity": {"nodeAffinity": {}}}),
        json!({"serviceAccount": {"name": "robot", "annotations": {"example.com/role": "reader"}}, "connectionUsePolicy": {"enabled": true}}),
        json!({"serviceAccount": {"create": false, "name": "mine"}, "rbac": {"create": false}, "aggregatedRoles": false, "networkPolicy": {"enabled": false}}),
        json!({"extraEnv": [secret], "extraArgs": ["--workers=4"], "extraVolumes": [{"name": "v", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "v", "mountPath": "/v"}], "extraObjects": [extra, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: text}\n"]}),
        json!({"networkPolicy": {"egress": {"enabled": true, "apiServer": {"cidrs": ["10.0.0.1/32"], "ports": [443, 6443]},
            "ranges": [{"blocks": [{"cidr": "10.20.0.0/16"}], "ports": [443, 8443]}]}}}),
        json!({"serviceMonitor": {"enabled": true, "labels": {"release": "prometheus"}}, "commonLabels": {"team": "red"}}),
        json!({"serviceMonitor": {"enabled": true}, "config": {"httpAuthorization": true}, "metricsTLS": {"secretName": "taskwatch-tls"},
            "metricsReaders": [{"kind": "ServiceAccount", "name": "prometheus", "namespace": "monitoring"}], "scopedNamespaces": ["team-a"]}),
        json!({"serviceMonitor": {"enabled": true, "tlsConfig": {"insecureSkipVerify": true}, "authorization": {"credentials": {"name": "token", "key": "token"}}},
            "config": {"httpAuthorization": true, "httpTlsCert": "/v/tls.crt", "httpTlsKey": "/v/tls.key"},
            "extraVolumes": [{"name": "v", "emptyDir": {}}], "extraVolumeMounts": [{"name": "v", "mountPath": "/v"}]}),
        json!({"podLabels": {"a": "b"}, "podAnnotations": {"c": "d"}, "deploymentAnnotations": {"e": "f"}, "resources": null,
            "terminationGracePeriodSeconds": 60, "config": {"drainTimeoutSeconds": 30}}),
    ]
}

/// Read before it is accepted: it shows what each value changes.
#[tokio::test]
async fn each_value_changes_what_it_says() {
    let before = rendered_without_crds(json!({})).await;
    let mut text = String::new();
    for values in matrix() {
        let _ = writeln!(text, "{values}");
        let after = rendered_without_crds(values).await;
        let gone = before.keys().filter(|key| !after.contains_key(*key));
        for (kind, namespace, name) in gone {
            let _ = writeln!(text, "  - {kind} {namespace}/{name}");
        }
        for (key, object) in &after {
            let (kind, namespace, name) = key;
            let Some(old) = before.get(key) else {
                let mut shown = object.as_object().unwrap().clone();
                shown.retain(|field, _| !["apiVersion", "kind", "metadata"].contains(&field.as_str()));
                let _ = writeln!(text, "  + {kind} {namespace}/{name} {}", Value::Object(shown));
                continue;
            };
            let mut changes = Vec::new();
            compare(old, object, "", &mut changes);
            if !changes.is_empty() {
                let _ = writeln!(text, "  ~ {kind} {namespace}/{name}");
            }
            for change in changes {
                let _ = writeln!(text, "      {change}");
            }
        }
    }
    insta::assert_snapshot!(text);
}

fn compare(old: &Value, new: &Value, path: &str, changes: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for key in old.keys().filter(|key| !new.contains_key(*key)) {
                changes.push(format!("{path}.{key} is gone"));
            }
            for (key, value) in new {
                compare(old.get(key).unwrap_or(&Value::Null), value, &format!("{path}.{key}"), changes);
            }
        }
        (Value::Array(old), Value::Array(new)) if path.rsplit('.').next() == Some("env") => {
            let gone = old.iter().filter(|entry| !new.contains(entry)).map(|entry| format!("{path} - {entry}"));
            let fresh = new.iter().filter(|entry| !old.contains(entry)).map(|entry| format!("{path} + {entry}"));
            changes.extend(gone.chain(fresh));
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (at, (old, new)) in old.iter().zip(new).enumerate() {
                compare(old, new, &format!("{path}[{at}]"), changes);
            }
        }
        (old, new) if old != new => changes.push(format!("{path}: {new}")),
        _ => {}
    }
}

/// Built-in kinds and ours, as the real API server reads them: an unknown field is an error.
#[tokio::test]
async fn the_api_server_takes_every_render() {
    assert_eq!(accepted(&rendered(&json!({})).await).await, "");
    for values in matrix() {
        assert_eq!(accepted(&rendered_without_crds(values.clone()).await).await, "", "{values}");
    }
    // It can say no.
    let mut objects = rendered_without_crds(json!({})).await;
    for (pointer, value, words) in [
        ("/spec/template/spec/hostNetwork", json!("no"), "hostNetwork"),
        ("/spec/template/spec/hostnetwork", json!(true), "hostnetwork"),
        ("/spec/template/spec/hostPID", json!(true), "would violate PodSecurity"),
    ] {
        let deployment = objects.iter_mut().find(|((kind, _, _), _)| kind == "Deployment").unwrap().1;
        let good = deployment.clone();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        deployment.pointer_mut(parent).unwrap()[field] = value;
        let said = accepted(&objects).await;
        assert!(said.contains(words), "{said}");
        *objects.iter_mut().find(|((kind, _, _), _)| kind == "Deployment").unwrap().1 = good;
    }
}

/// What the API server says against these objects, warnings included.
async fn accepted(objects: &Objects) -> String {
    static NAMESPACES: OnceCell<()> = OnceCell::const_new();
    let plane = plane().await;
    let kubectl = plane.kubectl_as(taskwatch_harness::ADMIN).unwrap();
    NAMESPACES
        .get_or_init(|| async {
            for name in [NAMESPACE, "team-a", "team-b"] {
                let labels = json!({"pod-security.kubernetes.io/warn": "restricted"});
                let object =
                    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
                kubectl.apply(&object.to_string()).await.unwrap().success().unwrap();
            }
        })
        .await;
    let known = objects.values().filter(|object| !FOREIGN.contains(&object["kind"].as_str().unwrap()));
    let list = json!({"apiVersion": "v1", "kind": "List", "items": known.collect::<Vec<_>>()});
    let workdir = taskwatch_harness::Workdir::new("chart").unwrap();
    let file = workdir.write("objects.json", &list.to_string()).unwrap().display().to_string();
    let how = ["apply", "--server-side", "--dry-run=server", "--force-conflicts", "--validate=strict"];
    let args = [&how[..], &["--filename", &file]].concat();
    kubectl.run(&args).await.unwrap().stderr
}

#[tokio::test]
async fn what_cannot_be_had_is_refused_in_words() {
    for (values, words) in [
        (json!({"replicaCount": 2, "config": {"leaseBuckets": 0}}), "two replicas would poll every task twice"),
        (
            json!({"terminationGracePeriodSeconds": 8}),
            "terminationGracePeriodSeconds must be more than config.drainTimeoutSeconds",
        ),
        (
            json!({"config": {"drainTimeoutSeconds": 20}}),
            "terminationGracePeriodSeconds must be more than config.drainTimeoutSeconds",
        ),
        (
            json!({"scopedNamespaces": ["team-a"], "secretAccess": {"allNamespaces": true}}),
            "secretAccess.allNamespaces is a right for the whole cluster",
        ),
        (json!({"metricsTLS": {"secretName": "a"}, "config": {"httpTlsCert": "b"}}), "two certificates for one port"),
        (json!({"replicaCount": -1}), "at '/replicaCount': minimum: got -1, want 0"),
        (json!({"replicas": 1}), "additional properties 'replicas' not allowed"),
        (json!({"config": {"worker": 4}}), "additional properties 'worker' not allowed"),
        (json!({"config": {"workers": "many"}}), "got string, want null or integer"),
        (json!({"config": {"allowEgress": "10.0.0.0/8"}}), "got string, want array"),
        (json!({"config": {"denyAuth": ["password"]}}), "value must be one of 'token', 'keystone'"),
        (json!({"image": {"digest": "0000"}}), "does not match pattern"),
        (json!({"scopedNamespaces": ["Team_A"]}), "does not match pattern"),
        (
            json!({"networkPolicy": {"egress": {"ranges": [{"blocks": [{"cidr": "10.0.0.0"}], "ports": [443]}]}}}),
            "does not match pattern",
        ),
        (json!({"crds": {"kept": true}}), "additional properties 'kept' not allowed"),
    ] {
        let output = template("taskwatch", &values).await;
        assert!(output.code != 0 && output.stderr.contains(words), "{values}: {}\n{}", output.code, output.stderr);
    }
}

/// Alerts and dashboard are those of the repository, as soon as it has some: the chart then has links to them.
#[tokio::test]
async fn what_watches_the_operator_is_that_of_the_repository() {
    let monitoring = workspace_root().join("deploy/monitoring");
    for (value, file, kind, name) in [
        ("prometheusRule", "rules.yaml", "PrometheusRule", "taskwatch"),
        ("dashboard", "dashboard.json", "ConfigMap", "taskwatch-dashboard"),
    ] {
        let switch = json!({"enabled": true, "labels": {"seen-by": "prometheus"}});
        let output = template("taskwatch", &json!({"crds": {"enabled": false}, value: switch})).await;
        let Ok(text) = std::fs::read_to_string(monitoring.join(file)) else {
            assert!(
                output.code != 0 && output.stderr.contains("this version of the chart comes with no"),
                "{output:?}"
            );
            continue;
        };
        let rendered = objects(&output.success().unwrap());
        let object = find(&rendered, kind, name);
        assert_eq!(object["metadata"]["labels"]["seen-by"], "prometheus");
        let shown = object["data"]["taskwatch.json"]
            .as_str()
            .map_or_else(|| object["spec"].clone(), |json| serde_json::from_str::<Value>(json).unwrap());
        // What is JSON is YAML, too.
        assert_eq!(shown, serde_saphyr::from_str::<Value>(&text).unwrap(), "{file}");
    }
}

/// Two installations in one namespace have Leases of different names.
#[tokio::test]
async fn another_release_has_leases_of_its_own() {
    for (values, lease) in [
        (json!({"fullnameOverride": "other"}), "other"),
        (json!({"fullnameOverride": "other", "config": {"lease": "third"}}), "third"),
    ] {
        let objects = rendered_without_crds(values).await;
        let pod = &find(&objects, "Deployment", "other")["spec"]["template"]["spec"];
        assert_eq!(environment(&pod["containers"][0])["TASKWATCH_LEASE"], lease);
    }
}

/// On OpenShift, which gives out users itself, nothing has to be set.
#[tokio::test]
async fn openshift_is_noticed() {
    let helm = taskwatch_harness::Helm::offline().await.unwrap();
    let chart = super::chart("taskwatch");
    for (more, fixed) in [(&[][..], true), (&["--api-versions", "security.openshift.io/v1"][..], false)] {
        let args = [&["template", RELEASE, &chart], more].concat();
        let objects = objects(&helm.run(&args).await.unwrap().success().unwrap());
        let pod = &find(&objects, "Deployment", RELEASE)["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"].get("runAsUser").is_some(), fixed);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(container(&objects)["securityContext"].get("runAsUser"), None);
    }
}

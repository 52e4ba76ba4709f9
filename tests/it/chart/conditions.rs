//! The conditions that kube-linter, Trivy (the series KSV) and `BadRobot` check, over what the chart renders to: the names are theirs, of
//! 2026-08; what each means is written here.
//!
//! Each row comes with a change that breaks it, so that none of them is a check of nothing.

use serde_json::{Value, json};

use super::{Objects, RELEASE, container, find, rendered_without_crds};

/// What must hold.
struct Condition {
    /// As the tools call it.
    names: &'static str,
    holds: fn(&Objects) -> bool,
    /// Where something else breaks it: the kind, with a name where there are several, and a pointer.
    broken: (&'static str, &'static str, fn() -> Value),
}

/// What is asked for elsewhere, or is not wanted; with the reason.
const EXCEPTIONS: [(&str, &str); 12] = [
    (
        "KSV-0011 unset-cpu-requirements",
        "no limit of the processor: what is throttled polls late and fails its probes; the request is set",
    ),
    (
        "KSV-0002",
        "AppArmor's default profile is the runtime's own where nodes have AppArmor; naming it fails on those that have not",
    ),
    (
        "KSV-0113 access-to-secrets SecretsClusterRole",
        "credentials are in Secrets: `get` alone, and bound in the own namespace only; see `secrets_are_read_by_name`",
    ),
    (
        "KSV-0032 KSV-0033 KSV-0034 KSV-0035 KSV-0124 KSV-0125",
        "which registry is trusted is the user's to say; there is no published image",
    ),
    ("KSV-0039 KSV-0040", "limit ranges and quotas are those of the namespace, not of what is in it"),
    ("KSV-0038 dangling-networkpolicypeer-podselector", "peers are pods of others: DNS and Prometheus"),
    (
        "minimum-three-replicas no-anti-affinity",
        "one replica unless more are asked for, and those are spread by topologySpreadConstraints",
    ),
    (
        "hpa-minimum-three-replicas dangling-horizontalpodautoscaler dangling-ingress job-ttl-seconds-after-finished startup-port restart-policy KSV-0102 KSV-0115",
        "no such object",
    ),
    (
        "required-annotation-email required-label-owner sorted-keys dnsconfig-options no-node-affinity priority-class-name env-value-from",
        "matters of taste, or values of the chart",
    ),
    (
        "KSV-0107 no-extensions-v1beta schema-validation",
        "the real API server reads every render: `the_api_server_takes_every_render`",
    ),
    ("KSV-0055 KSV-0049", "verbs that nobody has: `each_right_of_the_operator_is_listed`"),
    ("scc-deny-privileged-container", "OpenShift's own objects: the chart has none"),
];

fn pod(objects: &Objects) -> &Value {
    &find(objects, "Deployment", RELEASE)["spec"]["template"]["spec"]
}

fn is_absent(value: &Value, fields: &[&str]) -> bool {
    fields.iter().all(|field| value.get(*field).is_none_or(|value| *value == json!(false)))
}

/// The rules of all roles of the operator: those for people are theirs to bind.
fn rules(objects: &Objects) -> Vec<&Value> {
    let suffixes = ["-view", "-edit", "-user"];
    let roles = objects
        .iter()
        .filter(|((kind, _, name), _)| kind.ends_with("Role") && !suffixes.iter().any(|suffix| name.ends_with(suffix)));
    roles.flat_map(|(_, role)| role["rules"].as_array().unwrap()).collect()
}

/// Whether nobody has one of these verbs (none named: any) for one of these resources.
fn nobody_may(objects: &Objects, verbs: &[&str], resources: &[&str]) -> bool {
    let any = |rule: &Value, field: &str, of: &[&str]| {
        of.is_empty() || rule[field].as_array().unwrap().iter().any(|entry| of.contains(&entry.as_str().unwrap()))
    };
    !rules(objects).into_iter().any(|rule| any(rule, "verbs", verbs) && any(rule, "resources", resources))
}

const WRITES: [&str; 6] = ["create", "update", "patch", "delete", "deletecollection", "*"];

macro_rules! condition {
    ($names:literal, $holds:expr, $kind:literal $pointer:expr => $value:tt) => {
        Condition { names: $names, holds: $holds, broken: ($kind, $pointer, || json!($value)) }
    };
}

#[allow(clippy::too_many_lines)] // a table
fn conditions() -> Vec<Condition> {
    vec![
        condition!("run-as-non-root KSV-0012 KSV-0118 RunAsNonRoot NoSecurityContext",
            |o| pod(o)["securityContext"]["runAsNonRoot"] == true && container(o)["securityContext"].get("runAsNonRoot").is_none(),
            "Deployment" "/spec/template/spec/securityContext" => {}),
        condition!("KSV-0020 KSV-0021 KSV-0105 KSV-0116 RunAsUser",
            |o| ["runAsUser", "runAsGroup"].iter().all(|id| pod(o)["securityContext"][id].as_u64() > Some(10_000)),
            "Deployment" "/spec/template/spec/securityContext/runAsGroup" => 0),
        condition!("no-read-only-root-fs KSV-0014 ReadOnlyRootFilesystem",
            |o| container(o)["securityContext"]["readOnlyRootFilesystem"] == true,
            "Deployment" "/spec/template/spec/containers/0/securityContext/readOnlyRootFilesystem" => false),
        condition!("drop-net-raw-capability KSV-0003 KSV-0004 KSV-0106",
            |o| container(o)["securityContext"]["capabilities"]["drop"] == json!(["ALL"]),
            "Deployment" "/spec/template/spec/containers/0/securityContext/capabilities/drop" => ["CHOWN"]),
        condition!("KSV-0005 KSV-0022 KSV-0119 KSV-0120 CapSysAdmin",
            |o| container(o)["securityContext"]["capabilities"].get("add").is_none(),
            "Deployment" "/spec/template/spec/containers/0/securityContext/capabilities/add" => ["SYS_ADMIN"]),
        condition!("privilege-escalation-container KSV-0001 AllowPrivilegeEscalation",
            |o| container(o)["securityContext"]["allowPrivilegeEscalation"] == false,
            "Deployment" "/spec/template/spec/containers/0/securityContext/allowPrivilegeEscalation" => true),
        condition!("privileged-container KSV-0017 Privileged",
            |o| is_absent(&container(o)["securityContext"], &["privileged"]),
            "Deployment" "/spec/template/spec/containers/0/securityContext/privileged" => true),
        condition!("host-ipc host-network host-pid KSV-0007 KSV-0008 KSV-0009 KSV-0010",
            |o| is_absent(pod(o), &["hostIPC", "hostNetwork", "hostPID", "hostAliases"]),
            "Deployment" "/spec/template/spec/hostPID" => true),
        condition!("KSV-0024",
            |o| container(o)["ports"].as_array().unwrap().iter().all(|port| port.get("hostPort").is_none()),
            "Deployment" "/spec/template/spec/containers/0/ports/0/hostPort" => 8080),
        condition!("privileged-ports ssh-port KSV-0117",
            |o| container(o)["ports"].as_array().unwrap().iter().all(|port| port["containerPort"].as_u64() > Some(1024)),
            "Deployment" "/spec/template/spec/containers/0/ports/0/containerPort" => 22),
        condition!("docker-sock sensitive-host-mounts writable-host-mount KSV-0006 KSV-0023 KSV-0028 KSV-0121",
            |o| pod(o).get("volumes").is_none(),
            "Deployment" "/spec/template/spec/volumes" => [{"name": "v", "hostPath": {"path": "/var/run/docker.sock"}}]),
        condition!("KSV-0030 KSV-0104",
            |o| pod(o)["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault",
            "Deployment" "/spec/template/spec/securityContext/seccompProfile/type" => "Unconfined"),
        condition!("unsafe-sysctls KSV-0025 KSV-0026 KSV-0103",
            |o| is_absent(&pod(o)["securityContext"], &["sysctls", "seLinuxOptions", "windowsOptions"]),
            "Deployment" "/spec/template/spec/securityContext/sysctls" => [{"name": "net.core.somaxconn", "value": "1"}]),
        condition!("unsafe-proc-mount KSV-0027",
            |o| is_absent(&container(o)["securityContext"], &["procMount", "seLinuxOptions"]),
            "Deployment" "/spec/template/spec/containers/0/securityContext/procMount" => "Unmasked"),
        condition!("unset-memory-requirements KSV-0015 KSV-0016 KSV-0018",
            |o| ["/requests/cpu", "/requests/memory", "/limits/memory"].iter().all(|at| container(o)["resources"].pointer(at).is_some()),
            "Deployment" "/spec/template/spec/containers/0/resources/limits" => {}),
        condition!("no-liveness-probe no-readiness-probe liveness-port readiness-port",
            |o| ["livenessProbe", "readinessProbe"].iter().all(|probe| {
                let port = &container(o)[probe]["httpGet"]["port"];
                container(o)["ports"].as_array().unwrap().iter().any(|known| known["name"] == *port)
            }),
            "Deployment" "/spec/template/spec/containers/0/readinessProbe/httpGet/port" => "other"),
        condition!("no-rolling-update-strategy",
            |o| find(o, "Deployment", RELEASE)["spec"]["strategy"]["type"] == "RollingUpdate",
            "Deployment" "/spec/strategy/type" => "Recreate"),
        condition!("latest-tag KSV-0013",
            |o| container(o)["image"].as_str().unwrap().rsplit_once(':').is_some_and(|(_, tag)| tag != "latest"),
            "Deployment" "/spec/template/spec/containers/0/image" => "taskwatch:latest"),
        condition!("default-service-account non-existent-service-account",
            |o| find(o, "ServiceAccount", RELEASE)["metadata"]["name"] == pod(o)["serviceAccountName"],
            "Deployment" "/spec/template/spec/serviceAccountName" => "default"),
        // The pod itself asks for the token, which it needs; nothing else that runs by this account has it unasked.
        condition!("KSV-0036",
            |o| find(o, "ServiceAccount", RELEASE)["automountServiceAccountToken"] == false,
            "ServiceAccount" "/automountServiceAccountToken" => true),
        condition!("deprecated-service-account-field",
            |o| is_absent(pod(o), &["serviceAccount"]),
            "Deployment" "/spec/template/spec/serviceAccount" => "taskwatch"),
        condition!("env-var-secret read-secret-from-env-var",
            |o| container(o)["env"].as_array().unwrap().iter().all(|variable| {
                !variable["name"].as_str().unwrap().contains("SECRET") && variable.pointer("/valueFrom/secretKeyRef").is_none()
            }),
            "Deployment" "/spec/template/spec/containers/0/env/2" => {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}),
        condition!("duplicate-env-var",
            |o| {
                let mut names: Vec<_> = container(o)["env"].as_array().unwrap().iter().map(|env| env["name"].to_string()).collect();
                let all = names.len();
                names.sort();
                names.dedup();
                names.len() == all
            },
            "Deployment" "/spec/template/spec/containers/0/env/2/name" => "POD_NAME"),
        condition!("non-isolated-pod dangling-networkpolicy mismatching-selector",
            |o| {
                let labels = &find(o, "Deployment", RELEASE)["spec"]["template"]["metadata"]["labels"];
                let selects = |of: &Value| of.as_object().unwrap().iter().all(|(key, value)| labels[key] == *value);
                let policies = o.iter().filter(|((kind, _, _), _)| kind == "NetworkPolicy");
                policies.clone().count() == 2
                    && policies.map(|(_, policy)| policy).all(|policy| selects(&policy["spec"]["podSelector"]["matchLabels"]))
                    && selects(&find(o, "Deployment", RELEASE)["spec"]["selector"]["matchLabels"])
            },
            "NetworkPolicy" "/spec/podSelector/matchLabels/app.kubernetes.io~1name" => "other"),
        condition!("dangling-service dangling-servicemonitor invalid-target-ports",
            |o| {
                let service = &find(o, "Service", RELEASE)["spec"];
                let port = &service["ports"][0]["targetPort"];
                service["selector"] == find(o, "Deployment", RELEASE)["spec"]["selector"]["matchLabels"]
                    && container(o)["ports"].as_array().unwrap().iter().any(|known| known["name"] == *port)
            },
            "Service" "/spec/ports/0/targetPort" => "metrics"),
        condition!("exposed-services KSV-0108",
            |o| is_absent(&find(o, "Service", RELEASE)["spec"], &["type", "externalIPs", "loadBalancerIP"]),
            "Service" "/spec/externalIPs" => ["192.0.2.1"]),
        // The Role in `default` is for what is there: the Service of the API server.
        condition!("use-namespace KSV-0037 KSV-0110 DefaultNamespace KubeSystemNamespace",
            |o| o.keys().all(|(kind, namespace, name)| {
                (namespace != "default" || name == "taskwatch-apiserver-addresses")
                    && namespace != "kube-system"
                    && (!namespace.is_empty() || kind.starts_with("ClusterRole"))
            }),
            "Deployment" "/metadata/namespace" => "default"),
        condition!("KSV-01010 KSV-0109",
            |o| o.keys().all(|(kind, _, _)| kind != "ConfigMap" && kind != "Secret"),
            "Service" "/kind" => "ConfigMap"),
        condition!("pdb-max-unavailable pdb-min-available pdb-unhealthy-pod-eviction-policy",
            |o| {
                let budget = &find(o, "PodDisruptionBudget", RELEASE)["spec"];
                budget["maxUnavailable"] == 1 && budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
            },
            "PodDisruptionBudget" "/spec/maxUnavailable" => 0),
        condition!("cluster-admin-role-binding KSV-0111 KSV-0122 KSV-0123 KSV-01011 ClusterAdmin",
            |o| o.iter().filter(|((kind, _, _), _)| kind.ends_with("Binding")).all(|(_, binding)| {
                binding["roleRef"]["name"].as_str().unwrap().starts_with("taskwatch-")
                    && binding["subjects"].as_array().unwrap().iter().all(|subject| subject["kind"] == "ServiceAccount")
            }),
            "ClusterRoleBinding" "/roleRef/name" => "cluster-admin"),
        condition!("wildcard-in-rules KSV-0044 KSV-0045 KSV-0046 KSV-0112 StarAllClusterRole StarAllCoreAPIClusterRole CustomResourceClusterRole",
            |o| rules(o).iter().all(|rule| !rule.to_string().contains("\"*\"")),
            "ClusterRole/taskwatch-operator" "/rules/0/verbs" => ["*"]),
        condition!("KSV-0041",
            |o| nobody_may(o, &[&WRITES[..], &["list", "watch"]].concat(), &["secrets", "configmaps"]),
            "ClusterRole/taskwatch-operator" "/rules/0" => {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}),
        condition!("access-to-create-pods KSV-0048",
            |o| nobody_may(o, &WRITES, &["pods", "deployments", "statefulsets", "daemonsets", "replicasets", "jobs", "cronjobs"]),
            "ClusterRole/taskwatch-operator" "/rules/0" => {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["create"]}),
        condition!("KSV-0042 KSV-0053 KSV-0054 KSV-0047 ExecPodsClusterRole ModifyPodLogsClusterRole NodeProxyClusterRole",
            |o| nobody_may(o, &[], &["pods/exec", "pods/attach", "pods/log", "nodes/proxy", "nodes", "pods"]),
            "ClusterRole/taskwatch-operator" "/rules/0" => {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]}),
        condition!("KSV-0043 KSV-0050 KSV-0051 KSV-0052 StarClusterRoleAndBindings EscalateClusterRole BindClusterRole ImpersonateClusterRole",
            |o| nobody_may(o, &["escalate", "bind", "impersonate"], &[])
                && nobody_may(o, &[], &["roles", "rolebindings", "clusterroles", "clusterrolebindings", "users", "groups"]),
            "ClusterRole/taskwatch-operator" "/rules/0" => {"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"]}),
        condition!("RemoveEventsClusterRole",
            |o| nobody_may(o, &["delete", "deletecollection", "*"], &["events"]),
            "ClusterRole/taskwatch-operator" "/rules/0" => {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["delete"]}),
        condition!("KSV-0114 AdmissionControllerClusterRole ServiceAccountClusterRole PersistentVolumeClusterRole",
            |o| nobody_may(o, &[], &["validatingwebhookconfigurations", "mutatingwebhookconfigurations", "serviceaccounts/token",
                "serviceaccounts", "persistentvolumes", "persistentvolumeclaims"]),
            "ClusterRole/taskwatch-operator" "/rules/0" => {"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"]}),
        condition!("KSV-0056 NetworkPolicyClusterRole",
            |o| nobody_may(o, &WRITES, &["networkpolicies", "services", "endpoints", "endpointslices", "ingresses"]),
            "ClusterRole/taskwatch-operator" "/rules/0" => {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["update"]}),
    ]
}

/// With what a careful user switches on.
async fn chart() -> Objects {
    let egress = json!({"enabled": true, "apiServer": {"cidrs": ["10.0.0.1/32"]}});
    rendered_without_crds(json!({"podDisruptionBudget": {"enabled": true}, "networkPolicy": {"egress": egress}})).await
}

#[tokio::test]
async fn each_condition_holds_and_can_be_broken() {
    let objects = chart().await;
    let conditions = conditions();
    let failed: Vec<_> = conditions.iter().filter(|condition| !(condition.holds)(&objects)).map(|c| c.names).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    for Condition { names, holds, broken: (kind, pointer, value) } in conditions {
        let mut objects = objects.clone();
        let (kind, name) = kind.split_once('/').unwrap_or((kind, ""));
        let is_it = |(known, _, called): &super::Key| known == kind && (name.is_empty() || called == name);
        let (_, object) = objects.iter_mut().find(|(key, _)| is_it(key)).unwrap();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        match object.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}")) {
            Value::Array(entries) => entries[field.parse::<usize>().unwrap()] = value(),
            parent => parent[field.replace("~1", "/")] = value(),
        }
        // Objects are known by what they are called.
        let objects = super::keyed(objects.into_values());
        assert!(!holds(&objects), "{names}: {pointer} makes no difference");
    }
}

/// Nothing of the three lists is forgotten, and nothing is both kept and excepted.
#[test]
fn each_condition_of_the_tools_is_accounted_for() {
    let conditions = conditions();
    let mut names: Vec<_> = conditions.iter().map(|condition| condition.names).collect();
    names.extend(EXCEPTIONS.iter().map(|(names, _)| *names));
    let mut words: Vec<_> = names.iter().flat_map(|names| names.split(' ')).collect();
    words.sort_unstable();
    assert!(words.windows(2).all(|pair| pair[0] != pair[1]), "twice: {words:?}");
    let known =
        include_str!("conditions.txt").lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace);
    let mut known: Vec<_> = known.collect();
    known.sort_unstable();
    assert_eq!(words, known);
}

/// The whole of what the operator may do: a right that is added has to be added here.
#[tokio::test]
async fn each_right_of_the_operator_is_listed() {
    let objects = chart().await;
    let mut rights: Vec<_> = rules(&objects)
        .into_iter()
        .flat_map(|rule| {
            let of = |field: &str| {
                let texts = rule[field].as_array().unwrap().iter();
                texts.map(|text| text.as_str().unwrap()).collect::<Vec<_>>().join(",")
            };
            let group = of("apiGroups");
            let verbs = of("verbs");
            let resources = rule["resources"].as_array().unwrap().iter();
            resources
                .map(move |resource| format!("{group}/{}: {verbs}", resource.as_str().unwrap()))
                .collect::<Vec<_>>()
        })
        .collect();
    rights.sort();
    let expected = [
        "/configmaps: get",
        "/namespaces: list,watch",
        "/secrets: get",
        "/services: get",
        "coordination.k8s.io/leases: list,create,update,delete",
        "discovery.k8s.io/endpointslices: list",
        "events.k8s.io/events: create",
        "taskwatch.dev/clustertaskconnections/status: patch",
        "taskwatch.dev/clustertaskconnections: list,watch",
        "taskwatch.dev/taskconnections/status: patch",
        "taskwatch.dev/taskconnections: list,watch",
        "taskwatch.dev/taskwatches/status: patch",
        "taskwatch.dev/taskwatches: create,update",
        "taskwatch.dev/taskwatches: get,list,watch,delete",
        "taskwatch.dev/taskwatchsets/finalizers: update",
        "taskwatch.dev/taskwatchsets/status: patch",
        "taskwatch.dev/taskwatchsets: list,watch",
    ];
    assert_eq!(rights, expected);
}

/// Secrets: the one role that has them is bound in the own namespace alone, unless told otherwise; with `scopedRBAC` there is no right
/// beyond the namespaces that are served, and no role of the cluster at all.
#[tokio::test]
async fn secrets_are_read_by_name() {
    let where_bound = |objects: &Objects| -> Vec<String> {
        let bindings =
            objects.iter().filter(|((kind, _, name), _)| kind.ends_with("Binding") && name.ends_with("secret-reader"));
        bindings.map(|((kind, namespace, _), _)| format!("{kind} {namespace}")).collect()
    };
    assert_eq!(where_bound(&chart().await), ["RoleBinding taskwatch-system"]);
    let named = rendered_without_crds(json!({"secretAccess": {"namespaces": ["team-a", "taskwatch-system"]}})).await;
    assert_eq!(where_bound(&named), ["RoleBinding taskwatch-system", "RoleBinding team-a"]);
    let all = rendered_without_crds(json!({"secretAccess": {"allNamespaces": true}})).await;
    assert_eq!(where_bound(&all), ["ClusterRoleBinding ", "RoleBinding taskwatch-system"]);
    let scoped = rendered_without_crds(json!({"scopedNamespaces": ["team-a", "team-b"]})).await;
    let outside: Vec<_> = scoped.keys().filter(|(kind, _, _)| kind.starts_with("Cluster")).collect();
    assert!(outside.is_empty(), "{outside:?}");
    let roles = scoped.keys().filter(|(kind, _, name)| kind.starts_with("Role") && name != "taskwatch-leases");
    assert!(
        roles.clone().count() == 8 && roles.clone().all(|(_, namespace, _)| namespace.starts_with("team-")),
        "{scoped:?}"
    );
}

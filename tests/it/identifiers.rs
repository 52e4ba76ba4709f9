//! Which identifiers of tasks and scopes the API takes, and what the operator says of those that a provider cannot have.

use kube::{Api, api::ListParams};
use serde_json::{Value, json};
use taskwatch::api::TaskWatch;

use crate::stage::{ASTRA, CLOUD_RU, HUAWEI, SECRET, Stage, all, assert_refused, lay_over, message, watch_object};

const SIGNS: &str = "it has no blanks, no control or invisible characters, and none of ? # \\";
const PARTS: &str = "it has no / at its beginning or end, no //, and no . or .. by itself between slashes";
const ASTERISK: &str = "\"*\" stands for any scope";

/// As the task APIs of the world have them.
const FOREIGN: [&str; 12] = [
    "4010a32d535527910153552b492c0002",
    "c7a2f8d0-1b3e-4c5d-8e9f-0a1b2c3d4e01",
    // Airflow, Proxmox, Nutanix, Google Cloud, Azure, AWS.
    "manual__2026-01-02T03:04:05.678901+00:00",
    "UPID:pve1:0003B2A1:01F4C2D7:65A0B1C2:vzdump:100:backup@pam!nightly:",
    "ZXJnb24=:8f6a1c1e-2b0d-5a52-9b1d-0c4a6e1f7a11",
    "projects/p-1/locations/europe-west1/operations/operation-1767322800000-64f0d2a1b7e40-9a8b7c6d",
    "subscriptions/0b1f6471-1bf0-4dda-aec3-cb9272f09590/resourceGroups/Gruppe-Ä(1)/providers/Microsoft.Resources/deployments/d",
    "arn:aws:states:eu-central-1:123456789012:execution:nightly-export-of-the-warehouse-to-the-lake:0f4a6b1e-77c2-4f0c-9a43-5d3f7d3b8e55:retry-1",
    "...",
    ".hidden/..also/a.b/~x",
    "%2e%2e/a;b=c&d,e",
    "a*b",
];

fn connection(more: Value) -> Value {
    let mut spec = json!({"provider": {HUAWEI: {"endpoint": "https://evs.example", "projectID": "p"}},
        "auth": {"token": {"secretRef": {"name": "s"}}}});
    lay_over(&mut spec, more);
    json!({"kind": "TaskConnection", "metadata": {"name": "c"}, "spec": spec})
}

#[tokio::test]
async fn the_api_takes_the_identifiers_of_any_upstream() {
    let stage = Stage::new("identifiers-taken").await;
    let longest = "я".repeat(1024);
    let ids: Vec<_> = FOREIGN.into_iter().chain([longest.as_str()]).collect();
    all(ids.iter().enumerate().map(|(n, id)| {
        let stage = &stage;
        async move {
            let name = format!("w{n}");
            let object = stage.put(watch_object(&name, "c", id, json!({"task": {"scope": id}}))).await;
            assert_eq!(object.data["spec"]["task"], json!({"id": id, "scope": id}));
            stage.put_status("TaskWatch", &name, json!({"task": {"id": id, "scope": id}})).await;
            // As `fields.EscapeValue` of apimachinery has it.
            let value: String =
                id.chars().map(|c| if "\\,=".contains(c) { format!("\\{c}") } else { c.into() }).collect();
            let api: Api<TaskWatch> = Api::namespaced(stage.client.clone(), &stage.namespace);
            let found = api.list(&ListParams::default().fields(&format!("spec.task.id={value}"))).await.unwrap();
            assert_eq!(found.items.len(), 1, "{id} is found by its identifier");
        }
    }))
    .await;
    let scopes: Vec<_> = ids.into_iter().chain(["*"]).collect();
    stage.put(connection(json!({"allowedScopes": scopes, "provider": {HUAWEI: {"projectID": longest}}}))).await;
}

#[tokio::test]
async fn the_api_refuses_what_no_upstream_has() {
    let stage = Stage::new("identifiers-refused").await;
    let signs = [
        "a b",
        "a\tb",
        "a\nb",
        "a\u{0}b",
        "\u{7f}",
        "a\u{85}b",
        "\u{a0}",
        "a\u{2003}b",
        "a\u{3000}",
        "a\u{2028}",
        "a\u{200b}b",
        "a\u{202e}b",
        "\u{feff}a",
        "a?b",
        "a#b",
        "a\\b",
        "\\",
    ];
    let parts = ["/", "/a", "a/", "a//b", ".", "..", "./a", "../a", "a/.", "a/..", "a/./b", "a/../b", "https://host/a"];
    let long = "a".repeat(1025);
    let cases = signs.map(|id| (id, SIGNS)).into_iter().chain(parts.map(|id| (id, PARTS)));
    let cases: Vec<_> = cases.chain([("", "at least 1 chars long"), (&long, "Too long")]).collect();
    let mut objects = Vec::new();
    for (id, sentence) in cases.into_iter().chain([("*", ASTERISK)]) {
        objects.push((watch_object("w", "c", id, json!({})), sentence));
        objects.push((watch_object("w", "c", "t", json!({"task": {"scope": id}})), sentence));
        objects.push((connection(json!({"provider": {HUAWEI: {"projectID": id}}})), sentence));
        if id != "*" {
            objects.push((connection(json!({"allowedScopes": [id]})), sentence));
        }
    }
    all(objects.into_iter().map(|(object, sentence)| {
        let stage = &stage;
        async move {
            let told = object.to_string();
            assert_refused(stage.try_create(object).await, &told, sentence);
        }
    }))
    .await;
}

/// The stricter rule of each provider: it is told before anything is sent, and ends nothing for good.
#[tokio::test]
async fn an_identifier_that_the_provider_cannot_have_is_an_invalid_spec() {
    let stage = Stage::new("identifiers-strict").await;
    let _operator = stage.operator(&[]).await;
    all([HUAWEI, CLOUD_RU, ASTRA].map(|provider| refused_by(&stage, provider))).await;
}

async fn refused_by(stage: &Stage, provider: &str) {
    let name = provider.to_lowercase();
    let [with_id, with_scope] = ["id", "scope"].map(|field| format!("{name}-{field}"));
    let auth = || json!({"token": {"secretRef": {"name": name}}});
    stage.scope(provider, &name, json!([{"kind": "token", "token": SECRET}])).await;
    stage
        .task(provider, &name, "task", json!([{"state": if provider == HUAWEI { "RUNNING" } else { "running" }}]))
        .await;
    stage.secret(&name, json!({"token": SECRET})).await;
    stage.connection(&name, provider, &name, auth(), json!({"allowedScopes": ["*"]})).await;
    stage.watch(&with_id, &name, "operations/a", json!({})).await;
    stage.watch(&with_scope, &name, "task", json!({"task": {"scope": "a=b"}})).await;
    let wanted = "Unknown Unknown/AwaitingObservation False False/InvalidSpec False S";
    for (watch, told) in [(&with_id, "spec.task.id has \"/\" in it"), (&with_scope, "spec.task.scope has \"=\" in it")]
    {
        let status = stage.until_row(watch, wanted).await;
        let ready = message(&status, "Ready");
        let expected = format!("An identifier of {provider} begins with a letter or digit");
        assert!(ready.contains(told) && ready.contains(&expected), "{ready}");
    }
    let (requests, _) = stage.requests(0).await;
    let is_for_them = |request: &&Value| {
        request["scope"] == name || request["path"].as_str().is_some_and(|path| path.contains("/a%3Db/"))
    };
    assert_eq!(requests.iter().filter(is_for_them).count(), 0, "nothing was sent: {requests:?}");
    // The same rule for what the connection names.
    stage.watch(&name, &name, "task", json!({})).await;
    let running = "Running Unknown/TaskRunning False True/Observed Unknown R";
    stage.until_row(&name, running).await;
    stage.change("TaskConnection", &name, json!({"spec": {"allowedScopes": ["good", "a@b"]}})).await;
    let told = stage.until_connection(&name, "InvalidSpec").await;
    assert!(told.starts_with("spec.allowedScopes[1] has \"@\" in it") && told.contains("Correct it"), "{told}");
    stage.change("TaskConnection", &name, json!({"spec": {"allowedScopes": null}})).await;
    stage.until_row(&name, running).await;
}

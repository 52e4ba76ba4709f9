//! The Keystone credential against a real OpenStack Keystone: the simulator's jobs open to tokens that this Keystone vouches for.

use std::{fmt::Debug, time::Duration};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::{
    api::core::v1::{Namespace, Secret},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
    runtime::{conditions, wait::await_condition},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use taskwatch::api::{TaskConnection, TaskWatch, crds};
use taskwatch_harness::{
    ADMIN, ControlPlane, Keystone, KeystoneUser, Operator, OperatorOptions, Simulator, eventually,
};
use tokio::time::{Instant, sleep};

const NAMESPACE: &str = "keystone";
/// How long a token lives.
const TOKEN_SECONDS: u32 = 8;
/// For anything that should happen: on a busy machine, a login alone takes two seconds, and a trouble is told after thirty.
const LIMIT: Duration = Duration::from_secs(150);

/// The programs, and the means to speak with them.
struct Stage {
    client: Client,
    keystone: Keystone,
    simulator: Simulator,
    operator: Operator,
}

async fn set_stage() -> Result<Stage> {
    let plane = ControlPlane::shared().await?;
    let client = plane.client(ADMIN).await?;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let apply = PatchParams::apply("tests").force();
    for definition in crds() {
        let name = definition.metadata.name.clone().context("a CRD without a name")?;
        definitions.patch(&name, &apply, &Patch::Apply(&definition)).await?;
        tokio::time::timeout(LIMIT, await_condition(definitions.clone(), &name, conditions::is_crd_established()))
            .await??;
    }
    let namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}}))?;
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await?;
    let (keystone, simulator) = tokio::join!(Keystone::start(TOKEN_SECONDS), Simulator::start(&[]));
    let options = OperatorOptions::new(plane.kubeconfig(ADMIN)?);
    let args = ["--namespace", NAMESPACE, "--secret-refresh-seconds", "1"];
    let operator = Operator::start(options.args(&args)).await?;
    Ok(Stage { client, keystone: keystone?, simulator: simulator?, operator })
}

impl Stage {
    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    async fn create<K>(&self, object: Value) -> Result<()>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
        K: DeserializeOwned + serde::Serialize + Clone + Debug,
    {
        self.api::<K>().create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        Ok(())
    }

    /// A project with a running job, a connection to it and a watch, all named `name`. `auth_project` is what the token is asked for.
    async fn watch(&self, name: &str, password: &str, project: &str, auth_project: Value) -> Result<()> {
        let scope = json!({"credentials": [{"kind": "keystone", "url": self.keystone.url()}]});
        self.simulator.admin("PUT", &format!("/scopes/huaweiCloud/{project}"), Some(&scope)).await?;
        let job = json!({"name": "createVolume", "steps": [{"state": "RUNNING"}]});
        self.simulator.admin("PUT", &format!("/tasks/huaweiCloud/{project}/{name}"), Some(&job)).await?;
        self.create::<Secret>(json!({
            "metadata": {"name": name},
            "stringData": {"username": name, "password": password, "domain": "Default"},
        }))
        .await?;
        self.create::<TaskConnection>(json!({
            "apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskConnection", "metadata": {"name": name},
            "spec": {
                "provider": {"huaweiCloud": {"endpoint": self.simulator.url(), "projectID": project}},
                "auth": {"keystone": {
                    "endpoint": self.keystone.url(), "secretRef": {"name": name}, "project": auth_project,
                }},
            },
        }))
        .await?;
        self.create::<TaskWatch>(json!({
            "apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatch", "metadata": {"name": name},
            "spec": {
                "connectionRef": {"name": name}, "task": {"id": name},
                "poll": {"periodSeconds": 2, "maxPeriodSeconds": 2},
            },
        }))
        .await
    }

    /// Puts another password into the Secret.
    async fn set_password(&self, name: &str, password: &str) -> Result<()> {
        let change = json!({"stringData": {"password": password}});
        self.api::<Secret>().patch(name, &PatchParams::default(), &Patch::Merge(&change)).await?;
        Ok(())
    }

    /// Waits until the watch's condition Synced has this reason; the whole status and the condition's message.
    async fn synced(&self, name: &str, reason: &str) -> Result<(Value, String)> {
        eventually(LIMIT, &format!("Synced of {name} is {reason}"), || async {
            let watch = self.api::<TaskWatch>().get(name).await?;
            let status = serde_json::to_value(watch.status)?;
            let all = status["conditions"].as_array().cloned().unwrap_or_default();
            let synced = all.into_iter().find(|condition| condition["type"] == "Synced").unwrap_or_default();
            ensure!(synced["reason"] == reason, "{status:#}");
            let message = synced["message"].as_str().unwrap_or_default().to_owned();
            Ok((status, message))
        })
        .await
    }

    /// How many tokens the operator has asked for, by the status of the answer.
    async fn token_requests(&self, code: &str) -> Result<u64> {
        let (_, metrics) = self.operator.get("/metrics").await?;
        let labels = [r#"operation="authenticate""#, &format!(r#"code="{code}""#)];
        let lines = metrics.lines().filter(|line| line.starts_with("taskwatch_upstream_requests_total{"));
        let counts = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
        Ok(counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    }
}

/// One stage for all: each scene has a user, a project and a connection of its own.
#[tokio::test]
async fn keystone_gives_refuses_ends_and_rotates() {
    let stage = set_stage().await.unwrap();
    // Alone, since its tokens are counted. The others wait most of the time: a trouble is told of only after half a minute.
    tokens_are_renewed_at_their_end(&stage).await.unwrap();
    let ends = tokio::join!(
        a_wrong_password_is_corrected(&stage),
        a_password_is_rotated(&stage),
        a_user_is_disabled(&stage),
        a_project_is_unknown(&stage),
        a_project_is_another(&stage),
        a_user_is_no_member(&stage),
    );
    for end in [ends.0, ends.1, ends.2, ends.3, ends.4, ends.5] {
        end.unwrap();
    }
    assert!(stage.operator.process().exit().is_none(), "all that without a restart");
}

async fn tokens_are_renewed_at_their_end(stage: &Stage) -> Result<()> {
    let KeystoneUser { project, .. } = stage.keystone.add_user("alice", "one", "cn-north-4").await?;
    stage.watch("alice", "one", &project, json!({"name": "cn-north-4"})).await?;
    let (status, _) = stage.synced("alice", "Observed").await?;
    ensure!(status["state"] == "Running", "{status:#}");
    let (before, started) = (stage.token_requests("201").await?, Instant::now());
    ensure!(before >= 1, "the first token is counted");
    while started.elapsed() < Duration::from_secs(u64::from(TOKEN_SECONDS) * 4) {
        let (status, _) = stage.synced("alice", "Observed").await?;
        ensure!(status["state"] == "Running", "{status:#}");
        sleep(Duration::from_millis(500)).await;
    }
    let (renewed, lives) =
        (stage.token_requests("201").await? - before, started.elapsed().as_secs() / u64::from(TOKEN_SECONDS));
    ensure!((2..=lives + 1).contains(&renewed), "{renewed} tokens in {lives} lives");
    ensure!(stage.token_requests("401").await? == 0, "no refusal");
    // What had been true meanwhile was seen: the job ends, and so does the watch.
    let end = json!({"state": "SUCCESS"});
    stage.simulator.admin("PATCH", &format!("/tasks/huaweiCloud/{project}/alice"), Some(&end)).await?;
    eventually(LIMIT, "the job's end is seen", || async {
        let watch = stage.api::<TaskWatch>().get("alice").await?;
        let seen = watch.status.and_then(|status| status.state);
        ensure!(seen.as_deref() == Some("Succeeded"), "{seen:?}");
        Ok(())
    })
    .await
}

async fn a_wrong_password_is_corrected(stage: &Stage) -> Result<()> {
    let user = stage.keystone.add_user("bob", "one", "bobs").await?;
    stage.watch("bob", "wrong", &user.project, json!({"id": user.project})).await?;
    eventually(LIMIT, "the connection shows it", || async {
        let connection = serde_json::to_value(stage.api::<TaskConnection>().get("bob").await?.status)?;
        ensure!(connection["conditions"].to_string().contains(r#""reason":"AuthenticationFailed""#), "{connection:#}");
        Ok(())
    })
    .await?;
    let (status, message) = stage.synced("bob", "AuthenticationFailed").await?;
    ensure!(status["state"].is_null() || status["state"] == "Unknown", "nothing was seen: {status:#}");
    for part in ["spec.auth.keystone.secretRef", "password", "401", "The request you have made requires authentication"]
    {
        ensure!(message.contains(part), "{part} in: {message}");
    }
    stage.set_password("bob", "one").await?;
    stage.synced("bob", "Observed").await.map(drop)
}

async fn a_password_is_rotated(stage: &Stage) -> Result<()> {
    let user = stage.keystone.add_user("bert", "one", "berts").await?;
    stage.watch("bert", "one", &user.project, json!({"id": user.project})).await?;
    stage.synced("bert", "Observed").await?;
    // With a password Keystone ends all tokens that it gave for the old one.
    stage.keystone.change_user(&user, &json!({"password": "two"})).await?;
    let (status, _) = stage.synced("bert", "AuthenticationFailed").await?;
    ensure!(status["state"] == "Running", "what was seen last is kept: {status:#}");
    stage.set_password("bert", "two").await?;
    stage.synced("bert", "Observed").await.map(drop)
}

async fn a_user_is_disabled(stage: &Stage) -> Result<()> {
    let user = stage.keystone.add_user("dora", "one", "doras").await?;
    stage.watch("dora", "one", &user.project, json!({"id": user.project})).await?;
    stage.synced("dora", "Observed").await?;
    stage.keystone.change_user(&user, &json!({"enabled": false})).await?;
    let (status, message) = stage.synced("dora", "AuthenticationFailed").await?;
    ensure!(status["state"] == "Running", "what was seen last is kept: {status:#}");
    // Told first is the refusal that came first: that of the old token by the upstream, or that of a new one by Keystone.
    let names_secret = ["spec.auth.keystone.secretRef", "the Secret that spec.auth names"];
    ensure!(names_secret.iter().any(|words| message.contains(words)), "{message}");
    stage.keystone.change_user(&user, &json!({"enabled": true, "password": "two"})).await?;
    stage.set_password("dora", "two").await?;
    stage.synced("dora", "Observed").await.map(drop)
}

/// Keystone's answer is that to a wrong password, word for word: so the message has to name both.
async fn a_project_is_unknown(stage: &Stage) -> Result<()> {
    let user = stage.keystone.add_user("erna", "one", "ernas").await?;
    stage.watch("erna", "one", &user.project, json!({"name": "no-such-project"})).await?;
    let (_, message) = stage.synced("erna", "AuthenticationFailed").await?;
    ensure!(message.contains("spec.auth.keystone.project"), "{message}");
    Ok(())
}

/// A token for another project than the endpoint's.
async fn a_project_is_another(stage: &Stage) -> Result<()> {
    let endpoint = stage.keystone.add_user("franz", "one", "franzs").await?;
    let user = stage.keystone.add_user("fritz", "one", "fritzs").await?;
    stage.watch("fritz", "one", &endpoint.project, json!({"id": user.project})).await?;
    let (_, message) = stage.synced("fritz", "ScopeNotFound").await?;
    ensure!(message.contains("project"), "{message}");
    Ok(())
}

async fn a_user_is_no_member(stage: &Stage) -> Result<()> {
    let endpoint = stage.keystone.add_user("georg", "one", "georgs").await?;
    stage.keystone.add_user("gerd", "one", "gerds").await?;
    stage.watch("gerd", "one", &endpoint.project, json!({"id": endpoint.project})).await?;
    let (_, message) = stage.synced("gerd", "AuthenticationFailed").await?;
    ensure!(message.contains("spec.auth.keystone.project"), "{message}");
    Ok(())
}

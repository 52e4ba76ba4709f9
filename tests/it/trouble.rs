//! Trouble: each kind has its row of the status contract and a message that names the fix, and is over, without a restart, as soon
//! as it is mended. All kinds at a time, since the contract has them wait before they are shown.

use std::{net::TcpListener, sync::Arc, time::Duration};

use anyhow::ensure;
use serde_json::{Value, json};
use taskwatch::api::TaskWatchStatus;
use taskwatch_harness::{Simulator, Workdir, eventually};

use crate::stage::{ASTRA, CLOUD_RU, HUAWEI, SECRET, SOON, Stage, message, row};

const RUNNING: &str = "Running Unknown/TaskRunning False True/Observed Unknown R";
/// Some troubles are shown after 30 to 36 s, and asked about again less and less often.
const LATE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn each_trouble_has_its_row_and_passes() {
    let stage = Stage::new("trouble").await;
    let _operator = stage.operator(&[]).await;
    tokio::join!(
        no_connection(&stage),
        no_secret(&stage),
        no_key(&stage),
        wrong_password(&stage),
        wrong_token(&stage),
        denied(&stage),
        other_scope(&stage),
        unusable(&stage),
        nobody_listens(&stage),
        lies(&stage),
        unknown_authority(&stage),
        down_for_a_while(&stage),
        told_to_wait(&stage),
    );
}

/// A watch whose task runs, through a connection that is (or will be) of the same name.
async fn watch(stage: &Stage, name: &str) {
    watch_with(stage, name, json!({"poll": {"staleAfterSeconds": 10}})).await;
}

async fn watch_with(stage: &Stage, name: &str, more: Value) {
    stage.watch(name, name, "task", more).await;
}

/// The upstream for it, without Secret or connection.
async fn upstream(stage: &Stage, provider: &str, name: &str, credential: Value) {
    stage.scope(provider, name, json!([credential])).await;
    let word = if provider == HUAWEI { "RUNNING" } else { "running" };
    stage.task(provider, name, "task", json!([{"state": word}])).await;
}

fn token(name: &str) -> Value {
    json!({"token": {"secretRef": {"name": name}}})
}

/// Waits for a row in which the message of Ready has all of `told`.
async fn shows(stage: &Stage, name: &str, wanted: &str, told: &[&str]) {
    stage
        .within(LATE, name, wanted, |status| {
            ensure!(row(status) == wanted, "it is {}", row(status));
            let text = message(status, "Ready");
            for part in told {
                ensure!(text.contains(part), "no {part:?} in {text:?}");
            }
            assert!(!text.contains(SECRET), "{text}");
            Ok(())
        })
        .await;
    stage.is_judged_by_its_row(name).await;
}

async fn runs(stage: &Stage, name: &str) {
    shows(stage, name, RUNNING, &["The task is running upstream."]).await;
}

async fn no_connection(stage: &Stage) {
    let name = "no-connection";
    upstream(stage, HUAWEI, name, json!({"kind": "token", "token": SECRET})).await;
    watch(stage, name).await;
    let wanted = "Unknown Unknown/AwaitingObservation False False/ConnectionNotFound Unknown R";
    shows(stage, name, wanted, &["TaskConnection no-connection does not exist in namespace trouble: create it"]).await;
    stage.secret(name, json!({"token": SECRET})).await;
    stage.connection(name, HUAWEI, name, token(name), json!({})).await;
    runs(stage, name).await;
    stage.delete("TaskConnection", name).await;
    shows(stage, name, "Running Unknown/TaskRunning False False/ConnectionNotFound Unknown R", &["create it"]).await;
    stage.connection(name, HUAWEI, name, token(name), json!({})).await;
    runs(stage, name).await;
}

async fn no_secret(stage: &Stage) {
    let name = "no-secret";
    upstream(stage, HUAWEI, name, json!({"kind": "token", "token": SECRET})).await;
    stage.connection(name, HUAWEI, name, token(name), json!({})).await;
    watch(stage, name).await;
    let wanted = "Unknown Unknown/AwaitingObservation False False/SecretNotFound Unknown R";
    shows(stage, name, wanted, &["Secret trouble/no-secret does not exist: create it"]).await;
    assert!(stage.until_connection(name, "SecretNotFound").await.contains("create it"));
    stage.secret(name, json!({"token": SECRET})).await;
    runs(stage, name).await;
    stage.until_connection(name, "Connected").await;
    stage.delete("Secret", name).await;
    shows(stage, name, "Running Unknown/TaskRunning False False/SecretNotFound Unknown R", &["create it"]).await;
    stage.secret(name, json!({"token": SECRET})).await;
    runs(stage, name).await;
}

async fn no_key(stage: &Stage) {
    let name = "no-key";
    upstream(stage, CLOUD_RU, name, json!({"kind": "key", "keyId": "k", "secret": SECRET})).await;
    stage.secret(name, json!({"keyID": "k", "password": SECRET})).await;
    let auth = json!({"cloudRuKey": {"endpoint": stage.simulator.url(), "secretRef": {"name": name}}});
    stage.connection(name, CLOUD_RU, name, auth, json!({})).await;
    watch(stage, name).await;
    let words = "has no key secret, which spec.auth.cloudRuKey needs: add it";
    let wanted = "Unknown Unknown/AwaitingObservation False False/SecretNotFound Unknown R";
    shows(stage, name, wanted, &[words]).await;
    stage.secret(name, json!({"keyID": "k", "secret": ""})).await;
    shows(stage, name, wanted, &["key secret of Secret trouble/no-key is empty, or no text: set it"]).await;
    stage.secret(name, json!({"keyID": "k", "secret": SECRET})).await;
    runs(stage, name).await;
}

async fn wrong_password(stage: &Stage) {
    let name = "wrong-password";
    let good = json!({"username": "u", "password": SECRET, "domain": "d"});
    upstream(stage, HUAWEI, name, json!({"kind": "password", "user": "u", "password": SECRET, "domain": "d"})).await;
    stage.secret(name, json!({"username": "u", "password": "wrong", "domain": "d"})).await;
    let auth = json!({"keystone": {"endpoint": stage.simulator.url(), "secretRef": {"name": name}}});
    stage.connection(name, HUAWEI, name, auth, json!({})).await;
    watch(stage, name).await;
    let wanted = "Unknown Unknown/AwaitingObservation False False/AuthenticationFailed False S";
    shows(
        stage,
        name,
        wanted,
        &["The username or password is wrong", "Check the user name, password and domain in the Secret"],
    )
    .await;
    stage.until_connection(name, "AuthenticationFailed").await;
    stage.secret(name, good).await;
    // Not after the minute of silence that follows a refusal: the credential is another one.
    stage.within(Duration::from_secs(20), name, RUNNING, is(RUNNING)).await;
}

async fn wrong_token(stage: &Stage) {
    let name = "wrong-token";
    upstream(stage, ASTRA, name, json!({"kind": "token", "token": SECRET})).await;
    stage.secret(name, json!({"token": "wrong"})).await;
    stage.connection(name, ASTRA, name, token(name), json!({})).await;
    watch(stage, name).await;
    let wanted = "Unknown Unknown/AwaitingObservation False False/AuthenticationFailed False S";
    shows(stage, name, wanted, &["put it into the Secret that spec.auth.token names"]).await;
    stage.secret(name, json!({"token": SECRET})).await;
    stage.within(Duration::from_secs(20), name, RUNNING, is(RUNNING)).await;
}

fn is(wanted: &str) -> impl Fn(&TaskWatchStatus) -> anyhow::Result<()> {
    move |status| {
        ensure!(row(status) == wanted, "it is {}", row(status));
        Ok(())
    }
}

async fn denied(stage: &Stage) {
    let name = "denied";
    upstream(stage, ASTRA, name, json!({"kind": "token", "token": SECRET, "denied": 11})).await;
    stage.secret(name, json!({"token": SECRET})).await;
    stage.connection(name, ASTRA, name, token(name), json!({})).await;
    watch(stage, name).await;
    let wanted = "Unknown Unknown/AwaitingObservation False False/PermissionDenied False S";
    shows(stage, name, wanted, &["Grant it the right to read"]).await;
    stage.scope(ASTRA, name, json!([{"kind": "token", "token": SECRET}])).await;
    runs(stage, name).await;
}

async fn other_scope(stage: &Stage) {
    let name = "other-scope";
    upstream(stage, HUAWEI, "their-scope", json!({"kind": "token", "token": SECRET})).await;
    stage.secret(name, json!({"token": SECRET})).await;
    stage.connection(name, HUAWEI, name, token(name), json!({})).await;
    watch_with(stage, name, json!({"task": {"scope": "their-scope"}})).await;
    let wanted = "Unknown Unknown/AwaitingObservation False False/ConnectionNotAllowed False S";
    let words = "connection other-scope does not allow scope their-scope: leave spec.task.scope out, or have it added";
    shows(stage, name, wanted, &[words, "spec.allowedScopes"]).await;
    stage.change("TaskConnection", name, json!({"spec": {"allowedScopes": ["their-scope"]}})).await;
    runs(stage, name).await;
    stage.change("TaskConnection", name, json!({"spec": {"allowedScopes": ["*"]}})).await;
    stage.change("TaskConnection", name, json!({"spec": {"allowedScopes": null}})).await;
    shows(stage, name, wanted, &[words]).await;
}

async fn unusable(stage: &Stage) {
    let name = "unusable";
    upstream(stage, CLOUD_RU, name, json!({"kind": "token", "token": SECRET})).await;
    stage.secret(name, json!({"token": SECRET, "username": "u", "password": "p", "domain": "d"})).await;
    let auth = json!({"keystone": {"endpoint": stage.simulator.url(), "secretRef": {"name": name}}});
    stage.connection(name, CLOUD_RU, name, auth, json!({})).await;
    watch(stage, name).await;
    let wanted = "Unknown Unknown/AwaitingObservation False False/InvalidSpec False S";
    let words = "spec.auth.keystone.project is missing: name the project that the token is for";
    shows(stage, name, wanted, &[words]).await;
    assert!(stage.until_connection(name, "InvalidSpec").await.contains(words));
    stage.connection(name, CLOUD_RU, name, token(name), json!({})).await;
    runs(stage, name).await;
}

async fn nobody_listens(stage: &Stage) {
    let name = "nobody-listens";
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}");
    stage.secret(name, json!({"token": SECRET})).await;
    let provider = json!({"provider": {HUAWEI: {"endpoint": endpoint}}});
    stage.connection(name, HUAWEI, name, token(name), provider).await;
    watch(stage, name).await;
    let wanted = "Unknown Unknown/AwaitingObservation False False/Stale False S";
    let words = [
        "No usable answer for more than 10 s",
        "refuses connections: nothing listens there",
        "check the connection's endpoint",
    ];
    shows(stage, name, wanted, &words).await;
    let workdir = Workdir::new("nobody-listens").unwrap();
    let scenario = scenario(&workdir, name);
    let _simulator =
        Simulator::start(&["--listen", &format!("127.0.0.1:{port}"), "--scenario", &scenario]).await.unwrap();
    runs(stage, name).await;
}

/// A scenario file: one scope of Huawei Cloud in which `task` runs.
fn scenario(workdir: &Workdir, scope: &str) -> String {
    let scenario = json!({
        "scopes": [{"provider": HUAWEI, "id": scope, "credentials": [{"kind": "token", "token": SECRET}]}],
        "tasks": [{"provider": HUAWEI, "scope": scope, "id": "task", "steps": [{"state": "RUNNING"}]}],
    });
    workdir.write("scenario.json", &scenario.to_string()).unwrap().display().to_string()
}

async fn lies(stage: &Stage) {
    let wanted = "Running Unknown/TaskRunning False False/InvalidAnswer False S";
    let each = ["html", "garbage", "wrongId", "truncate", "deepNesting"].map(|lie| async move {
        let name = format!("lie-{}", lie.to_lowercase());
        upstream(stage, HUAWEI, &name, json!({"kind": "token", "token": SECRET})).await;
        stage.secret(&name, json!({"token": SECRET})).await;
        stage.connection(&name, HUAWEI, &name, token(&name), json!({})).await;
        watch(stage, &name).await;
        runs(stage, &name).await;
        let fault = stage.fault(json!({"scope": name}), json!({"kind": lie})).await;
        shows(stage, &name, wanted, &["check that the connection's endpoint is the API of its provider"]).await;
        stage.mend(&fault).await;
        runs(stage, &name).await;
    });
    crate::stage::all(each).await;
}

async fn unknown_authority(stage: &Stage) {
    let name = "unknown-authority";
    let workdir = Arc::new(Workdir::new("unknown-authority").unwrap());
    let (scenario, ca) = (scenario(&workdir, name), workdir.path().join("ca.pem"));
    let ca = ca.to_str().unwrap();
    let simulator = Simulator::start(&["--tls", "--ca-file", ca, "--scenario", &scenario]).await.unwrap();
    assert!(simulator.url().starts_with("https://"));
    stage.secret(name, json!({"token": SECRET})).await;
    let provider = json!({"provider": {HUAWEI: {"endpoint": simulator.url()}}});
    stage.connection(name, HUAWEI, name, token(name), provider).await;
    watch(stage, name).await;
    shows(stage, name, "Unknown Unknown/AwaitingObservation False False/Stale False S", &["spec.tls.caBundle"]).await;
    stage.change("TaskConnection", name, json!({"spec": {"tls": {"caBundleRef": {"name": "our-ca"}}}})).await;
    let wanted = "Unknown Unknown/AwaitingObservation False False/SecretNotFound Unknown R";
    shows(stage, name, wanted, &["ConfigMap trouble/our-ca does not exist: create it"]).await;
    let pem = std::fs::read_to_string(ca).unwrap();
    stage.put(json!({"kind": "ConfigMap", "metadata": {"name": "our-ca"}, "data": {"ca.crt": pem}})).await;
    runs(stage, name).await;
}

/// Row 10: not shown on the watch before it has lasted, on the connection at once.
async fn down_for_a_while(stage: &Stage) {
    let name = "down";
    upstream(stage, HUAWEI, name, json!({"kind": "token", "token": SECRET})).await;
    stage.secret(name, json!({"token": SECRET})).await;
    stage.connection(name, HUAWEI, name, token(name), json!({})).await;
    watch_with(stage, name, json!({})).await;
    runs(stage, name).await;
    let fault = stage.fault(json!({"scope": name}), json!({"kind": "status", "status": 503})).await;
    let before = stage.get(name).await.unwrap().metadata.resource_version;
    stage.until_connection(name, "UpstreamUnavailable").await;
    assert_eq!(stage.get(name).await.unwrap().metadata.resource_version, before, "only the connection shows it yet");
    let wanted = "Running Unknown/TaskRunning False False/UpstreamUnavailable Unknown R";
    shows(stage, name, wanted, &["503", "Retrying."]).await;
    stage.mend(&fault).await;
    runs(stage, name).await;
    stage.until_connection(name, "Connected").await;
    eventually(SOON, "both are told", || async {
        let events = stage.events(name).await;
        ensure!(events == ["TaskObserved", "UpstreamUnavailable", "MirrorRecovered"], "{events:?}");
        Ok(())
    })
    .await
    .unwrap();
}

async fn told_to_wait(stage: &Stage) {
    let name = "limited";
    upstream(stage, ASTRA, name, json!({"kind": "token", "token": SECRET})).await;
    stage.secret(name, json!({"token": SECRET})).await;
    stage.connection(name, ASTRA, name, token(name), json!({})).await;
    watch_with(stage, name, json!({})).await;
    runs(stage, name).await;
    let action = json!({"kind": "status", "status": 429, "retryAfterSeconds": 5});
    let fault = stage.fault(json!({"scope": name}), action).await;
    shows(stage, name, "Running Unknown/TaskRunning False False/RateLimited Unknown R", &["lower rateLimit"]).await;
    stage.mend(&fault).await;
    runs(stage, name).await;
    // Nothing was sent before the time that the upstream had named.
    let (requests, _) = stage.requests(0).await;
    let times = |status: u16| {
        let of = requests.iter().filter(move |r| r["scope"] == name && r["status"] == status);
        of.map(|r| r["timeMs"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    let limited = times(429);
    assert!(limited.len() >= 2, "{limited:?}");
    for pair in limited.windows(2) {
        assert!(pair[1] - pair[0] >= 5000, "{limited:?}");
    }
}

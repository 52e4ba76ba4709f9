//! Credentials of every kind against an upstream that checks them: accepted, renewed once when they end, replaced without a restart.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use taskwatch_harness::{Operator, eventually};

use crate::stage::{ASTRA, CLOUD_RU, HUAWEI, SOON, Stage, all, row};

/// What must be seen nowhere.
const OLD: &str = "old-and-secret";
const NEW: &str = "new-and-secret";

/// A kind of credential and how the simulator and the operator are told of it.
struct Kind {
    name: &'static str,
    provider: &'static str,
    /// For the simulator.
    credential: fn(&str) -> Value,
    /// The data of the Secret.
    secret: fn(&str) -> Value,
    /// `spec.auth`, given the simulator's address.
    auth: fn(&str) -> Value,
    /// Where it is exchanged for a token.
    token_path: Option<&'static str>,
}

const KINDS: &[Kind] = &[
    Kind {
        name: "bearer",
        provider: ASTRA,
        credential: |secret| json!({"kind": "token", "token": secret}),
        secret: |secret| json!({ "my-token": secret }),
        auth: |_| json!({"token": {"secretRef": {"name": "bearer", "key": "my-token"}}}),
        token_path: None,
    },
    Kind {
        name: "x-auth-token",
        provider: HUAWEI,
        credential: |secret| json!({"kind": "token", "token": secret}),
        // As `kubectl create secret --from-file` leaves it.
        secret: |secret| json!({"token": format!("{secret}\n")}),
        auth: |_| json!({"token": {"secretRef": {"name": "x-auth-token"}}}),
        token_path: None,
    },
    Kind {
        name: "access-key",
        provider: HUAWEI,
        credential: |secret| json!({"kind": "accessKey", "accessKey": "AK", "secretKey": secret}),
        secret: |secret| json!({"accessKey": "AK", "secretKey": secret}),
        auth: |_| json!({"accessKey": {"secretRef": {"name": "access-key"}}}),
        token_path: None,
    },
    Kind {
        name: "keystone",
        provider: HUAWEI,
        credential: |secret| json!({"kind": "password", "user": "u", "password": secret, "domain": "d"}),
        secret: |secret| json!({"username": "u", "password": secret, "domain": "d"}),
        auth: |url| json!({"keystone": {"endpoint": url, "secretRef": {"name": "keystone"}, "project": {"name": "keystone"}}}),
        token_path: Some("/v3/auth/tokens"),
    },
    Kind {
        name: "cloud-ru-json",
        provider: CLOUD_RU,
        credential: |secret| json!({"kind": "key", "keyId": "json", "secret": secret}),
        secret: |secret| json!({"keyID": "json", "secret": secret}),
        auth: |url| json!({"cloudRuKey": {"endpoint": url, "secretRef": {"name": "cloud-ru-json"}}}),
        token_path: Some("/api/v1/auth/token"),
    },
    Kind {
        name: "cloud-ru-form",
        provider: CLOUD_RU,
        credential: |secret| json!({"kind": "key", "keyId": "form", "secret": secret}),
        secret: |secret| json!({"keyID": "form", "secret": secret}),
        auth: |url| {
            let endpoint = format!("{url}/auth/system/openid/token");
            json!({"cloudRuKey": {"endpoint": endpoint, "secretRef": {"name": "cloud-ru-form"}}})
        },
        token_path: Some("/auth/system/openid/token"),
    },
    Kind {
        name: "oauth2",
        provider: ASTRA,
        credential: |secret| json!({"kind": "oauth2", "clientId": "c", "clientSecret": secret, "scopes": ["read"]}),
        secret: |secret| json!({"clientID": "c", "clientSecret": secret}),
        auth: |url| {
            let url = format!("{url}/oauth2/token");
            json!({"oauth2": {"tokenURL": url, "secretRef": {"name": "oauth2"}, "scopes": ["read"]}})
        },
        token_path: Some("/oauth2/token"),
    },
];

/// Each kind with three watches: what one of them learns, the others need not.
#[tokio::test]
async fn every_kind_is_accepted_renewed_and_replaced() {
    let stage = Stage::new("auth").await;
    let operator = stage.operator(&["--log-level", "debug"]).await;
    all(KINDS.iter().map(|kind| begin(&stage, kind))).await;

    // All tokens end before their time.
    let (_, since) = stage.requests(0).await;
    stage.admin("POST", "/tokens/expire", json!({})).await;
    all(KINDS.iter().map(|kind| renewed(&stage, kind, since))).await;

    all(KINDS.iter().map(|kind| replaced(&stage, kind))).await;
    nothing_leaks(&stage, &operator).await;
}

fn tasks(kind: &Kind) -> [String; 3] {
    [1, 2, 3].map(|n| format!("{}-{n}", kind.name))
}

async fn begin(stage: &Stage, kind: &Kind) {
    stage.scope(kind.provider, kind.name, json!([(kind.credential)(OLD)])).await;
    stage.secret(kind.name, (kind.secret)(OLD)).await;
    let auth = (kind.auth)(stage.simulator.url());
    stage.connection(kind.name, kind.provider, kind.name, auth, json!({"poll": {"mode": "Get"}})).await;
    let word = if kind.provider == HUAWEI { "RUNNING" } else { "running" };
    for task in tasks(kind) {
        stage.task(kind.provider, kind.name, &task, json!([{"state": word}])).await;
        stage.watch(&task, kind.name, &task, json!({})).await;
    }
    for task in tasks(kind) {
        stage.until_row(&task, "Running Unknown/TaskRunning False True/Observed Unknown R").await;
    }
    if let Some(path) = kind.token_path {
        let (requests, _) = stage.requests(0).await;
        assert_eq!(count(&requests, |r| r["path"] == path), 1, "{}: one token serves all", kind.name);
    }
}

fn count(requests: &[Value], which: impl Fn(&Value) -> bool) -> usize {
    requests.iter().filter(|request| which(request)).count()
}

/// The upstream serves the scope again after one token request, and after none where there is nothing to exchange.
async fn renewed(stage: &Stage, kind: &Kind, since: u64) {
    let requests = eventually(SOON, &format!("{} is served", kind.name), || async {
        let (requests, _) = stage.requests(since).await;
        let served = count(&requests, |r| r["scope"] == kind.name && r["status"] == 200 && r["method"] == "GET");
        ensure!(served >= 6, "{served} times");
        Ok(requests)
    })
    .await
    .unwrap();
    let refused = count(&requests, |r| r["scope"] == kind.name && r["auth"] == "expired");
    let exchanged = kind.token_path.map_or(0, |path| count(&requests, |r| r["path"] == path));
    assert_eq!(exchanged, usize::from(kind.token_path.is_some()), "{}: token requests", kind.name);
    let most = if kind.token_path.is_some() { 3 } else { 0 }; // one for each that was under way
    assert!(refused <= most, "{}: {refused} refusals", kind.name);
    for task in tasks(kind) {
        let status = stage.status(&task).await.unwrap();
        assert!(row(&status).starts_with("Running Unknown/TaskRunning False True"), "{}", row(&status));
    }
}

/// The credential changes upstream, and then in the Secret.
async fn replaced(stage: &Stage, kind: &Kind) {
    let (_, since) = stage.requests(0).await;
    stage.scope(kind.provider, kind.name, json!([(kind.credential)(NEW)])).await;
    let message = stage.until_connection(kind.name, "AuthenticationFailed").await;
    assert!(message.len() > 20, "{message}");
    let word = if kind.provider == HUAWEI {
        "SUCCESS"
    } else if kind.provider == ASTRA {
        "completed"
    } else {
        "DONE"
    };
    for task in tasks(kind) {
        stage.step(kind.provider, kind.name, &task, json!({"state": word})).await;
    }
    // One condition on the connection, not an error for each watch; and no more than a try or two.
    let (requests, _) = stage.requests(since).await;
    let refused = count(&requests, |r| {
        let ours = r["scope"] == kind.name || kind.token_path.is_some_and(|path| r["path"] == path);
        ours && matches!(r["auth"].as_str(), Some("invalid" | "expired"))
    });
    assert!((1..=4).contains(&refused), "{}: {refused} refusals", kind.name);
    stage.secret(kind.name, (kind.secret)(NEW)).await;
    for task in tasks(kind) {
        let wanted = "Succeeded True/TaskSucceeded True True/Observed True";
        // Well before the minute of silence that follows a refusal is over.
        stage
            .within(Duration::from_secs(30), &task, wanted, |status| {
                ensure!(row(status) == wanted, "it is {}", row(status));
                Ok(())
            })
            .await;
    }
    stage.until_connection(kind.name, "Connected").await;
}

/// Neither the log at its most talkative nor anything that was written or is served holds a secret.
async fn nothing_leaks(stage: &Stage, operator: &Operator) {
    let (_, metrics) = operator.get("/metrics").await.unwrap();
    let kinds = "taskwatches,taskconnections,events.events.k8s.io";
    let places = [
        ("the log", operator.process().log()),
        ("the metrics", metrics),
        ("the objects", stage.kubectl(&["get", kinds, "--output", "json"]).await),
    ];
    for (place, text) in places {
        assert!(!text.is_empty());
        for secret in [OLD, NEW] {
            assert!(!text.contains(secret), "{place} has a secret: {}", excerpt(&text, secret));
        }
    }
}

fn excerpt<'a>(text: &'a str, secret: &str) -> &'a str {
    text.lines().find(|line| line.contains(secret)).unwrap_or_default()
}

/// Huawei Cloud locks an access key after five failures within five minutes: a wrong one is tried once, whoever asks for it.
#[tokio::test]
async fn a_wrong_access_key_is_not_driven_to_its_lock() {
    let stage = Stage::new("auth-lock").await;
    let _operator = stage.operator(&[]).await;
    stage.scope(HUAWEI, "evs", json!([{"kind": "accessKey", "accessKey": "AK", "secretKey": NEW}])).await;
    stage.secret("evs", json!({"accessKey": "AK", "secretKey": OLD})).await;
    stage.connection("evs", HUAWEI, "evs", json!({"accessKey": {"secretRef": {"name": "evs"}}}), json!({})).await;
    let names: Vec<_> = (0..10).map(|n| format!("w{n}")).collect();
    for name in &names {
        stage.task(HUAWEI, "evs", name, json!([{"state": "RUNNING"}])).await;
        stage.watch(name, "evs", name, json!({"poll": {"staleAfterSeconds": 10}})).await;
    }
    for name in &names {
        let wanted = "Unknown Unknown/AwaitingObservation False False/AuthenticationFailed False S";
        stage.until_row(name, wanted).await;
    }
    let (requests, _) = stage.requests(0).await;
    let refused = requests.iter().filter(|r| r["auth"] == "invalid").map(|r| r["timeMs"].as_i64().unwrap());
    let refused = refused.collect::<Vec<_>>();
    assert!(refused.windows(2).all(|pair| pair[1] - pair[0] >= 60_000) && refused.len() <= 4, "{refused:?}");
    stage.secret("evs", json!({"accessKey": "AK", "secretKey": NEW})).await;
    for name in &names {
        stage.until_row(name, "Running Unknown/TaskRunning False True/Observed Unknown R").await;
    }
    let (requests, _) = stage.requests(0).await;
    assert_eq!(count(&requests, |r| r["auth"] == "locked"), 0);
}

//! Tokens, keys and signatures.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use taskwatch_simulator::Simulator;

use crate::client::{ACCOUNT, Answer, INSTANCE, PROJECT, admin, get, send, start};

fn iam(password: &str, project: &Value) -> String {
    let user = json!({"name": "u", "password": password, "domain": {"name": "d"}});
    let identity = json!({"methods": ["password"], "password": {"user": user}});
    json!({"auth": {"identity": identity, "scope": {"project": project}}}).to_string()
}

async fn sign_in(sim: &Simulator, body: &str) -> Answer {
    send(sim, "POST", "/v3/auth/tokens?nocatalog=true", &[], body).await.unwrap()
}

async fn job(sim: &Simulator, token: &str) -> Answer {
    get(sim, &format!("/v1/{PROJECT}/jobs/job1"), &[("X-Auth-Token", token)]).await
}

#[tokio::test]
async fn iam_tokens_open_their_project_until_they_expire() {
    let sim = start().await;
    for project in [json!({"id": PROJECT}), json!({"name": "demo"})] {
        let answer = sign_in(&sim, &iam("p", &project)).await;
        assert_eq!(answer.status, 201);
        assert!(answer.json()["token"]["expires_at"].as_str().unwrap().len() == 27, "six digits");
        assert_eq!(job(&sim, answer.header("x-subject-token").unwrap()).await.status, 200);
    }
    let wrong = sign_in(&sim, &iam("x", &json!({"id": PROJECT}))).await;
    assert_eq!((wrong.status, wrong.json()["error"]["code"].clone()), (401, json!(401)), "an integer here");
    assert_eq!(sign_in(&sim, &iam("p", &json!({"id": "nope"}))).await.status, 401);
    assert_eq!(sign_in(&sim, "{}").await.status, 400);

    let token = sign_in(&sim, &iam("p", &json!({"id": PROJECT}))).await.header("x-subject-token").unwrap().to_owned();
    let elsewhere = get(&sim, "/v1/other/jobs/x", &[("X-Auth-Token", &token)]).await;
    assert_eq!(elsewhere.json()["error"]["code"], "Common.0018");
    admin(&sim, "POST", "/clock", json!({"addSeconds": 86_399})).await;
    assert_eq!(job(&sim, &token).await.status, 200);
    admin(&sim, "POST", "/clock", json!({"addSeconds": 2})).await;
    assert_eq!(job(&sim, &token).await.json()["error_code"], "APIGW.0307");
    let entry = admin(&sim, "GET", "/log", Value::Null).await["entries"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((entry["auth"].as_str(), entry["status"].as_u64()), (Some("expired"), Some(401)));
}

#[tokio::test]
async fn a_changed_password_ends_its_tokens() {
    let sim = start().await;
    let token = sign_in(&sim, &iam("p", &json!({"id": PROJECT}))).await.header("x-subject-token").unwrap().to_owned();
    let changed = json!({"kind": "password", "user": "u", "password": "new", "domain": "d", "actualTokenSeconds": 5});
    let scope = json!({"name": "demo", "credentials": [changed], "options": {"expiredToken": "service"}});
    admin(&sim, "PUT", &format!("/scopes/huaweiCloud/{PROJECT}"), scope).await;
    assert_eq!(job(&sim, &token).await.json()["error"]["code"], "Common.0013", "the service layer's form");
    assert_eq!(sign_in(&sim, &iam("p", &json!({"id": PROJECT}))).await.status, 401);
    let token = sign_in(&sim, &iam("new", &json!({"id": PROJECT}))).await.header("x-subject-token").unwrap().to_owned();
    assert_eq!(job(&sim, &token).await.status, 200);
    admin(&sim, "POST", "/clock", json!({"addSeconds": 6})).await;
    assert_eq!(job(&sim, &token).await.status, 400, "earlier than it was said");
}

#[tokio::test]
async fn cloud_ru_keys_in_both_forms() {
    let sim = start().await;
    let first = send(&sim, "POST", "/api/v1/auth/token", &[], r#"{"keyId":"k","secret":"s"}"#).await.unwrap().json();
    assert_eq!(
        (&first["expires_in"], &first["refresh_token"], &first["not_before"]),
        (&json!(3600), &json!(""), &json!(0))
    );
    let form = "grant_type=access_key&client_id=k&client_secret=s";
    let second = send(&sim, "POST", "/auth/system/openid/token", &[], form).await.unwrap().json();
    for token in [&first, &second].map(|t| format!("Bearer {}", t["access_token"].as_str().unwrap())) {
        let target = format!("/openshift/v1/{INSTANCE}/tasks");
        assert_eq!(get(&sim, &target, &[("Authorization", &token)]).await.status, 200);
    }
    assert_eq!(admin(&sim, "POST", "/tokens/expire", json!({"provider": "cloudRu"})).await["expired"], 2);
    let token = format!("Bearer {}", first["access_token"].as_str().unwrap());
    assert_eq!(get(&sim, &format!("/openshift/v1/{INSTANCE}/tasks"), &[("Authorization", &token)]).await.status, 401);
    let wrong =
        send(&sim, "POST", "/auth/system/openid/token", &[], "grant_type=access_key&client_id=k").await.unwrap();
    assert_eq!((wrong.status, wrong.json()["error"].as_str()), (401, Some("invalid_client")));
    assert_eq!(send(&sim, "POST", "/api/v1/auth/token", &[], r#"{"keyId":"k"}"#).await.unwrap().status, 401);
}

#[tokio::test]
async fn oauth2_client_credentials() {
    let sim = start().await;
    let basic = [("Authorization", "Basic Yzpz")];
    let by_header =
        send(&sim, "POST", "/oauth2/token", &basic, "grant_type=client_credentials&scope=read").await.unwrap();
    let form = "grant_type=client_credentials&client_id=c&client_secret=s";
    let by_form = send(&sim, "POST", "/oauth2/token", &[], form).await.unwrap();
    for answer in [by_header, by_form] {
        let token = format!("Bearer {}", answer.json()["access_token"].as_str().unwrap());
        let target = format!("/accounts/{ACCOUNT}/core/v1/tasks");
        assert_eq!(get(&sim, &target, &[("Authorization", &token)]).await.status, 200);
    }
    for (form, status, error) in [
        ("grant_type=password", 400, "unsupported_grant_type"),
        ("grant_type=client_credentials&client_id=c&client_secret=x", 401, "invalid_client"),
        ("grant_type=client_credentials&client_id=c&client_secret=s&scope=write", 400, "invalid_scope"),
    ] {
        let answer = send(&sim, "POST", "/oauth2/token", &[], form).await.unwrap();
        assert_eq!((answer.status, answer.json()["error"].as_str()), (status, Some(error)));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, b| text + &format!("{b:02x}"))
}

/// Signs as upstreams.md §2.3 says, by hand for this one request.
async fn signed(sim: &Simulator, secret: &str, skew_seconds: i64) -> Answer {
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(skew_seconds);
    let date = at.strftime("%Y%m%dT%H%M%SZ").to_string();
    let path = format!("/v1/{PROJECT}/jobs/job1");
    let empty = hex(&Sha256::digest(b""));
    let canonical = format!("GET\n{path}/\n\nx-sdk-date:{date}\n\nx-sdk-date\n{empty}");
    let to_sign = format!("SDK-HMAC-SHA256\n{date}\n{}", hex(&Sha256::digest(canonical)));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(to_sign.as_bytes());
    let signature = hex(&mac.finalize().into_bytes());
    let header = format!("SDK-HMAC-SHA256 Access=AK, SignedHeaders=x-sdk-date, Signature={signature}");
    get(sim, &path, &[("X-Sdk-Date", &date), ("Authorization", &header), ("X-Project-Id", PROJECT)]).await
}

#[tokio::test]
async fn signatures_are_checked_and_keys_get_locked() {
    let sim = start().await;
    assert_eq!(signed(&sim, "SK", 0).await.status, 200);
    for _ in 0..4 {
        assert_eq!(signed(&sim, "wrong", 0).await.status, 401);
    }
    assert_eq!(signed(&sim, "SK", 0).await.status, 200, "four in a row do not lock, and are forgotten");
    for _ in 0..4 {
        assert_eq!(signed(&sim, "wrong", 0).await.json()["error_code"], "APIGW.0301");
    }
    assert_eq!(signed(&sim, "SK", -1000).await.status, 401, "too old; the fifth failure");
    let locked = signed(&sim, "SK", 0).await;
    assert!(locked.json()["error_msg"].as_str().unwrap().contains("locked"));
    admin(&sim, "POST", "/clock", json!({"addSeconds": 301})).await;
    assert_eq!(signed(&sim, "SK", 301).await.status, 200, "five minutes later");
}

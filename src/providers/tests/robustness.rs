//! What must hold for any body at all.

use std::collections::BTreeMap;

use http::{HeaderMap, Method};
use proptest::prelude::*;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::{answer, names, now, provider};
use crate::{
    domain::failure::FailureClass,
    providers::{
        auth::{Credential, Token, TokenStyle},
        cloud_ru::{CloudRu, Vocabulary},
        decode::explain,
    },
};

/// Words that the dialects look for, so that random documents come near to real ones; none of them ends a task.
const KEYS: &[&str] = &[
    "id",
    "job_id",
    "job_type",
    "state",
    "status",
    "entities",
    "sub_jobs",
    "job",
    "task",
    "tasks",
    "items",
    "metadata",
    "error",
    "code",
    "message",
    "response",
    "stateDetails",
    "percentDone",
    "startTime",
    "typeUrl",
    "value",
    "@type",
    "details",
    "title",
    "detail",
];
const TEXTS: &[&str] = &[
    "",
    "running",
    "RUNNING",
    "t1",
    "INIT",
    "paused",
    "2020-01-01T00:00:00Z",
    "60%",
    "CiRhZTFl",
    "0",
    "\u{1b}[0m",
    "жжж",
];

fn document() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(TEXTS).prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map(prop::sample::select(KEYS).prop_map(str::to_owned), inner, 0..7)
                .prop_map(|map| json!(map)),
        ]
    })
}

/// Calls everything that reads an answer, and checks the bounds of what comes out.
fn check(status: u16, body: &[u8]) -> BTreeMap<&'static str, Value> {
    names()
        .map(|name| {
            let provider = provider(name);
            let answer = answer(status, body.to_vec());
            let _ = provider.decode_list("s", &answer, &|_: &str| true);
            let found = explain(provider.as_ref(), &answer, now());
            assert!(["task", "list", "error"].contains(&found["kind"].as_str().unwrap()));
            assert!(
                found["kind"] != "error" || found["code"].is_string() && !found["message"].as_str().unwrap().is_empty()
            );
            assert!(!found.to_string().contains("\\u001b"), "nothing that a terminal obeys");
            (name, found)
        })
        .collect()
}

fn is_terminal(found: &Value) -> bool {
    let text = found.to_string();
    ["Succeeded", "Failed", "Cancelled"].iter().any(|state| text.contains(&format!(r#""state":"{state}""#)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_bytes(status in 200u16..600, body in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(!check(status, &body).values().any(is_terminal));
    }

    #[test]
    fn any_document(status in prop_oneof![3 => Just(200u16), 1 => 200u16..600], document in document()) {
        let found = check(status, document.to_string().as_bytes());
        // Cloud.ru's `error` and `response` decide, too: only the two others read words alone, and no word here ends a task.
        prop_assert!(!is_terminal(&found["huaweiCloud"]), "{document}");
        prop_assert!(!is_terminal(&found["astraControl"]), "{document}");
        let words_only = Vocabulary { error_decides: false, response_decides: false, ..Vocabulary::default() };
        let answer = answer(status, document.to_string());
        prop_assert!(!is_terminal(&explain(&CloudRu::new("", &words_only), &answer, now())), "{document}");
        if !(200..300).contains(&status) {
            prop_assert!(found.values().all(|found| found["kind"] == "error"));
        }
    }

    #[test]
    fn any_token_and_any_answer_to_its_request(status in 100u16..600, token in "(.|\n){0,20}", document in document()) {
        let (url, secret) = (url::Url::parse("https://h/a?b=c").unwrap(), SecretString::from(token.clone()));
        let credentials = [
            Credential::Token { value: secret.clone(), style: TokenStyle::Bearer },
            Credential::AccessKey { access: token.clone(), secret: secret.clone(), security_token: Some(secret.clone()) },
            Credential::CloudRuKey { endpoint: url.clone(), key_id: token.clone(), secret: secret.clone() },
            Credential::OAuth2 { token_url: url.clone(), client_id: token.clone(), client_secret: secret.clone(), scopes: vec![token.clone()] },
        ];
        for credential in credentials {
            let _ = credential.token_request();
            if let Err(failure) = credential.decode_token(&answer(status, document.to_string()), now()) {
                prop_assert!(![FailureClass::NotFound, FailureClass::ScopeNotFound].contains(&failure.class));
            }
            let sent = Token { value: secret.clone(), expires: None };
            let _ = credential.authorize(Some(&sent), &Method::GET, &url, &mut HeaderMap::new(), b"", Some(&token), now());
        }
    }

    #[test]
    fn a_cut_body_is_no_answer(cut in 1usize..150) {
        let body = r#"{"task":{"id":"t1","state":"completed","status":"SUCCESS","job_id":"t1","error":{"code":1,"message":"x"},"response":{"a":"b"}}}"#;
        let cut = cut.min(body.len() - 1);
        prop_assert!(check(200, &body.as_bytes()[..cut]).values().all(|found| found["kind"] == "error"));
    }
}

#[test]
fn deep_and_odd_documents() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    check(200, deep.as_bytes());
    check(200, format!(r#"{{"task":{{"id":"t","metadata":{deep}}}}}"#).as_bytes());
    check(400, format!(r#"{{"error":{}1{}}}"#, r#"{"error":"#.repeat(100), "}".repeat(100)).as_bytes());
    // A byte order mark, a repeated key, broken UTF-8.
    let found = check(200, "\u{feff}{\"job_id\":\"t\",\"status\":\"SUCCESS\",\"status\":\"RUNNING\"}".as_bytes());
    assert_eq!(found["huaweiCloud"]["task"]["state"], "Running");
    let found = check(200, b"{\"job_id\":\"t\",\"status\":\"FAIL\",\"fail_reason\":\"caf\xe9\"}");
    assert_eq!(found["huaweiCloud"]["task"]["error"]["message"], "caf\u{fffd}");
    // Bounds of what is kept.
    let many: Vec<_> = (0..2000)
        .map(|n| json!({"job_id": n.to_string(), "status": "FAIL", "fail_reason": "x".repeat(5000)}))
        .collect();
    let entities: serde_json::Map<_, _> = (0..100).map(|n| (format!("k{n}_id"), json!("v-".repeat(20)))).collect();
    let found = check(
        200,
        json!({"job_id": "t", "status": "FAIL", "sub_jobs": many, "entities": entities}).to_string().as_bytes(),
    );
    let task = &found["huaweiCloud"]["task"];
    assert_eq!(task["subtasks"].as_array().unwrap().len(), 32);
    assert_eq!(task["outputs"].as_object().unwrap().len(), 32);
    assert_eq!(task["error"]["message"].as_str().unwrap().len(), 1024);
}

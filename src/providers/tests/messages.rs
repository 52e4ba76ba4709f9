//! Whole messages, as `kubectl describe` shows them, for real answers of each provider and issuer: for a person to read.

use std::{fmt::Write, time::Duration};

use jiff::Timestamp;
use serde_json::json;

use super::{answer, auth, now, provider};
use crate::{
    domain::{
        availability::Unavailable,
        conditions::{SYNCED, find},
        decide::{Input, Meta, Observation, Pace, Settings, decide},
        failure::{Failure, FailureClass},
        target::Target,
        task::TaskRef,
    },
    providers::auth::{Credential, Project},
};

/// What Synced says of a task when a request for it fails like this for `secs` seconds.
fn message(failure: &Failure, secs: u64) -> String {
    let spec = serde_json::from_value(json!({"connectionRef": {"name": "c"}, "task": {"id": "t1"}})).unwrap();
    let since = now() - Duration::from_secs(secs);
    let observation = if failure.class == FailureClass::NotFound {
        Observation::NotFound { since, at: now(), failure }
    } else {
        Observation::Trouble { failure, since, at: now() }
    };
    let input = Input {
        meta: Meta { generation: 1, created: since, uid: "u", requested_at: None, tracked: false, allow_ttl: false },
        spec: &spec,
        status: None,
        connection: Ok::<_, &Unavailable>("s1"),
        task: Target::Known("t1"),
        observation,
        refreshed: false,
        asking_since: since,
        not_found_since: None,
        period: Duration::from_secs(10),
        pace: Pace::default(),
        settings: Settings::default(),
    };
    let status = decide(&input, now()).status.unwrap();
    let kind = if secs > 60 && failure.class == FailureClass::NotFound { "Succeeded" } else { SYNCED };
    let condition = find(&status.conditions, kind).unwrap();
    format!("{}: {}", condition.reason, condition.message)
}

fn of_task(name: &str, status: u16, body: &str) -> Failure {
    let asked = TaskRef { scope: "s1".to_owned(), id: "t1".to_owned() };
    provider(name).decode_task(&asked, &answer(status, body.to_owned())).unwrap_err()
}

fn of_token(credential: &Credential, status: u16, body: &str) -> Failure {
    credential.decode_token(&answer(status, body.to_owned()), Timestamp::UNIX_EPOCH).unwrap_err()
}

const TASKS: &[(&str, u16, &str)] = &[
    ("huaweiCloud", 400, r#"{"error":{"code":"Common.0011","message":"query job fail."}}"#),
    ("huaweiCloud", 400, r#"{"error":{"code":"Common.0013","message":"Invalid token in the header."}}"#),
    ("huaweiCloud", 400, r#"{"error":{"code":"Common.0018","message":"The project does not match."}}"#),
    (
        "huaweiCloud",
        401,
        r#"{"error_msg":"Incorrect IAM authentication information: calc aksk signature fail:signature expired, signature time:20260105T064303Z,server time:20260105T065904Z","error_code":"APIGW.0301","request_id":"1"}"#,
    ),
    (
        "huaweiCloud",
        401,
        r#"{"error_msg":"Incorrect IAM authentication information: verify aksk signature fail","error_code":"APIGW.0301"}"#,
    ),
    ("huaweiCloud", 401, r#"{"error_msg":"The token must be updated.","error_code":"APIGW.0307","request_id":"3a1b"}"#),
    ("huaweiCloud", 403, r#"{"error":{"code":403,"message":"Policy doesn't allow evs:jobs:get","title":"Forbidden"}}"#),
    ("huaweiCloud", 404, r#"{"error_msg":"The API does not exist.","error_code":"APIGW.0101"}"#),
    ("huaweiCloud", 404, r#"{"message":"no Route matched with those values"}"#),
    ("huaweiCloud", 404, ""),
    ("huaweiCloud", 429, r#"{"error_msg":"The throttling threshold has been reached","error_code":"APIG.0308"}"#),
    ("huaweiCloud", 502, "<html>Bad Gateway</html>"),
    ("huaweiCloud", 200, "<html>Sign in</html>"),
    ("huaweiCloud", 302, ""),
    ("cloudRu", 404, r#"{"code":5,"message":"Not Found","details":[]}"#),
    ("cloudRu", 404, r#"{"code":5,"message":"task t1 not found","details":[]}"#),
    ("cloudRu", 404, r#"{"code":5,"message":"service instance si1 not found","details":[]}"#),
    ("cloudRu", 400, r#"{"code":3,"message":"invalid uuid"}"#),
    ("cloudRu", 401, r#"{"code":16,"message":"token expired"}"#),
    ("cloudRu", 403, r#"{"error":"permission denied","code":7}"#),
    ("cloudRu", 429, r#"{"code":8,"message":"quota"}"#),
    ("cloudRu", 503, r#"{"code":14,"message":"unavailable"}"#),
    ("cloudRu", 500, "plain text"),
    (
        "astraControl",
        404,
        r#"{"type":"https://astra.netapp.io/problems/1","title":"Resource not found","detail":"The resource specified in the request URI wasn't found.","status":"404"}"#,
    ),
    (
        "astraControl",
        404,
        r#"{"type":"https://astra.netapp.io/problems/2","title":"Collection not found","detail":"The collection specified in the request URI wasn't found.","status":"404"}"#,
    ),
    (
        "astraControl",
        401,
        r#"{"type":"https://astra.netapp.io/problems/3","title":"Missing bearer token","detail":"The request is missing the required bearer token.","status":"401"}"#,
    ),
    (
        "astraControl",
        401,
        r#"{"type":"https://astra.netapp.io/problems/4","title":"Invalid bearer token","detail":"The bearer token is invalid.","status":"401"}"#,
    ),
    (
        "astraControl",
        403,
        r#"{"type":"https://astra.netapp.io/problems/11","title":"Operation not permitted","detail":"The requested operation isn't permitted.","status":"403"}"#,
    ),
    (
        "astraControl",
        403,
        r#"{"type":"https://astra.netapp.io/problems/14","title":"Unauthorized access","detail":"The user isn't enabled.","status":"403"}"#,
    ),
    (
        "astraControl",
        503,
        r#"{"type":"https://astra.netapp.io/problems/24","title":"Service unavailable","detail":"Try again.","status":"503"}"#,
    ),
    ("astraControl", 429, "<html><body>busy</body></html>"),
];

#[test]
fn whole_messages() {
    let mut text = String::new();
    for (name, status, body) in TASKS {
        let failure = of_task(name, *status, body);
        let _ = writeln!(text, "{name} {status} {body}\n  {}", message(&failure, 50));
        if failure.class == FailureClass::NotFound {
            let _ = writeln!(text, "  {}", message(&failure, 100));
        }
        text.push('\n');
    }
    let issuers = [
        ("keystone", auth::keystone("https://iam", Project::Id("p".to_owned()))),
        ("cloudRuKey", auth::cloud_ru("https://iam")),
        ("oauth2", auth::oauth2()),
    ];
    let answers = [
        (0, 401, r#"{"error":{"code":401,"message":"The username or password is wrong.","title":"Unauthorized"}}"#),
        (0, 401, r#"{"receipt":{"methods":["password"]},"required_auth_methods":[["password","totp"]]}"#),
        (0, 403, r#"{"error":{"code":403,"message":"You are not authorized.","title":"Forbidden"}}"#),
        (0, 404, ""),
        (0, 503, "<html>"),
        (1, 401, r#"{"error":{"code":16,"message":"bad key"}}"#),
        (1, 404, r#"{"code":5,"message":"key not found"}"#),
        (1, 429, ""),
        (2, 400, r#"{"error":"invalid_client","error_description":"client not found"}"#),
        (2, 400, r#"{"error":"invalid_scope","error_description":"no such scope"}"#),
        (2, 401, ""),
        (2, 403, r#"{"error":"access_denied","error_description":"not you"}"#),
        (2, 200, "<html>"),
    ];
    for (issuer, status, body) in answers {
        let (name, credential) = &issuers[issuer];
        let failure = of_token(credential, status, body);
        let _ = writeln!(text, "{name} {status} {body}\n  {}\n", message(&failure, 50));
    }
    text.push_str("# For longer than staleAfterSeconds\n");
    let _ = writeln!(text, "{}\n", message(&of_task("cloudRu", 503, r#"{"code":14,"message":"unavailable"}"#), 700));
    text.push_str("# On a ClusterTaskConnection of another namespace\n");
    for class in FailureClass::ALL {
        let failure = Failure { code: "X.1".to_owned(), ..Failure::new(class, "secret") };
        let _ = writeln!(text, "{}", message(&failure.for_others(), 50));
    }
    insta::assert_snapshot!(text);
}

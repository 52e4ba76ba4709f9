//! The three APIs as the documents describe them.

use serde_json::{Value, json};

use crate::client::{ACCOUNT, INSTANCE, PROJECT, admin, astra, cloud_ru, get, huawei, send, start};

fn ids(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|i| i["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn astra_lists_as_asked() {
    let sim = start().await;
    let all = astra(&sim, "").await;
    assert_eq!((all.status, all.header("content-type")), (200, Some("application/json")));
    assert!(all.header("etag").unwrap().len() == 34);
    assert_eq!(ids(&all.json()), ["a1", "a2", "a3"]);
    assert_eq!(all.json()["items"][0]["percentDone"], json!(20.25));
    assert_eq!(all.json()["items"][2]["percentDone"], json!(100));
    let arrays = astra(&sim, "?include=state,id,parentTaskID").await.json();
    assert_eq!(
        arrays["items"],
        json!([["running", "a1", null], ["notStarted", "a2", "a1"], ["completed", "a3", null]])
    );
    for (filter, expected) in [
        ("parentTaskID%20eq%20%27a1%27", vec!["a2"]),
        ("state%20eq%20%27running%27,id%20eq%20%27a1%27", vec!["a1"]),
        ("percentDone%20gte%20%2720%27", vec!["a1", "a3"]),
        ("metadata.modificationTimestamp%20gt%20%272099-01-01T00:00:00Z%27", vec![]),
    ] {
        assert_eq!(ids(&astra(&sim, &format!("?filter={filter}")).await.json()), expected, "{filter}");
    }
}

#[tokio::test]
async fn astra_pages_only_as_far_as_the_document_goes() {
    let sim = start().await;
    let page = astra(&sim, "?limit=2").await.json();
    assert_eq!(ids(&page), ["a1", "a2"]);
    let next = page["metadata"]["continue"].as_str().unwrap().to_owned();
    let refused = astra(&sim, &format!("?limit=2&continue={next}")).await;
    assert_eq!((refused.status, refused.json()["type"].as_str().unwrap().rsplit('/').next()), (400, Some("6")));
    let credentials = json!([{"kind": "token", "token": "as"}]);
    let options = json!({"acceptContinue": true, "pageSize": 1});
    let scope = json!({"credentials": credentials, "options": options});
    admin(&sim, "PUT", &format!("/scopes/astraControl/{ACCOUNT}"), scope).await;
    let mut seen = Vec::new();
    let mut query = String::new();
    for _ in 0..5 {
        let page = astra(&sim, &query).await.json();
        seen.extend(ids(&page).into_iter().map(str::to_owned));
        let Some(token) = page["metadata"]["continue"].as_str() else { break };
        query = format!("?continue={token}");
    }
    assert_eq!(seen, ["a1", "a2", "a3"]);
    assert_eq!(astra(&sim, "?continue=xx").await.status, 400);
}

#[tokio::test]
async fn astra_problems() {
    let sim = start().await;
    let list = format!("/accounts/{ACCOUNT}/core/v1/tasks");
    let bearer = |t: &str| format!("Bearer {t}");
    for (target, token, accept, status, problem) in [
        (list.as_str(), None, "*/*", 401, 3),
        (&list, Some("nonsense"), "*/*", 401, 4),
        (&list, Some("disabled"), "*/*", 403, 14),
        (&format!("{list}/nope"), Some("as"), "*/*", 404, 1),
        ("/accounts/nope/core/v1/tasks", Some("as"), "*/*", 404, 2),
        (&format!("/accounts/{ACCOUNT}/core/v1/nope"), Some("as"), "*/*", 404, 2),
        (&list, Some("as"), "text/html", 406, 32),
        (&format!("{list}?orderBy=id"), Some("as"), "*/*", 400, 6),
        (&format!("{list}?limit=0"), Some("as"), "*/*", 400, 5),
        (&format!("{list}?filter=id%20ne%20%27a%27"), Some("as"), "*/*", 400, 5),
        (&format!("{list}?include=nope"), Some("as"), "*/*", 400, 5),
    ] {
        let token = token.map(bearer);
        let mut headers = vec![("Accept", accept)];
        headers.extend(token.as_deref().map(|t| ("Authorization", t)));
        let answer = get(&sim, target, &headers).await;
        let body = answer.json();
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (status, Some("application/problem+json")),
            "{target}"
        );
        assert_eq!(body["type"], format!("https://astra.netapp.io/problems/{problem}"), "{target}");
        assert_eq!(body["status"], status.to_string());
        assert_eq!(body["invalidParams"].is_array(), matches!(problem, 5 | 6));
    }
    let asked = [("Authorization", "Bearer as"), ("Accept", "application/astra-task+json")];
    let single = get(&sim, &format!("{list}/a1"), &asked).await;
    assert_eq!(single.header("content-type"), Some("application/astra-task+json"));
}

#[tokio::test]
async fn huawei_errors_arrive_as_400() {
    let sim = start().await;
    let job = huawei(&sim, "job1").await;
    assert_eq!(job.status, 200);
    assert_eq!((&job.json()["end_time"], &job.json()["entities"]), (&json!(""), &json!({"volume_id": "v"})));
    assert!(job.json().get("error_code").is_none());
    let cases = [
        (format!("/v1/{PROJECT}/jobs/nope"), Some("hw"), 400, "/error/code", "Common.0011"),
        (format!("/v1/{PROJECT}/jobs/job1"), Some("hw-other"), 400, "/error/code", "Common.0018"),
        (format!("/v1/{PROJECT}/jobs/job1"), Some("nonsense"), 401, "/error_code", "APIGW.0301"),
        (format!("/v1/{PROJECT}/jobs/job1"), None, 401, "/error_code", "APIGW.0301"),
        ("/v1/what".to_owned(), Some("hw"), 404, "/error_code", "APIGW.0101"),
    ];
    for (target, token, status, pointer, code) in cases {
        let headers: Vec<_> = token.map(|t| ("X-Auth-Token", t)).into_iter().collect();
        let answer = get(&sim, &target, &headers).await;
        assert_eq!(
            (answer.status, answer.json().pointer(pointer).and_then(Value::as_str)),
            (status, Some(code)),
            "{target}"
        );
    }
}

#[tokio::test]
async fn huawei_sub_jobs_and_nulls() {
    let sim = start().await;
    let sub =
        json!({"id": "s1", "name": "createVolume", "state": "FAIL", "error": {"code": "E1", "message": "sold out"}});
    for (place, nulls, pointer, end) in [
        ("entities", "published", "/entities/sub_jobs/0", json!("")),
        ("top", "null", "/sub_jobs/0", Value::Null),
        ("images", "empty", "/entities/sub_jobs_result/0", json!("")),
    ] {
        let scope =
            json!({"credentials": [{"kind": "token", "token": "hw"}], "options": {"subJobs": place, "nulls": nulls}});
        admin(&sim, "PUT", &format!("/scopes/huaweiCloud/{PROJECT}"), scope).await;
        admin(
            &sim,
            "PATCH",
            &format!("/tasks/huaweiCloud/{PROJECT}/job1"),
            json!({"state": "RUNNING", "subJobs": [sub]}),
        )
        .await;
        let body = huawei(&sim, "job1").await.json();
        assert_eq!(body.pointer(pointer).unwrap()["fail_reason"], "sold out", "{place}");
        assert_eq!(body["end_time"], end);
    }
    let done = json!({"state": "SUCCESS"});
    let scope = json!({"credentials": [{"kind": "token", "token": "hw"}]});
    admin(&sim, "PUT", &format!("/scopes/huaweiCloud/{PROJECT}"), scope).await;
    admin(&sim, "PATCH", &format!("/tasks/huaweiCloud/{PROJECT}/job1"), done).await;
    let body = huawei(&sim, "job1").await.json();
    assert_eq!((body["error_code"].clone(), body["end_time"].is_string()), (Value::Null, true));
    assert!(body.as_object().unwrap().contains_key("fail_reason"), "null, not absent, after success");
}

#[tokio::test]
async fn cloud_ru_shapes_and_errors() {
    let sim = start().await;
    assert_eq!(cloud_ru(&sim, "").await.json()["tasks"][0]["id"], "t1");
    assert_eq!(cloud_ru(&sim, "/t1").await.json()["task"]["serviceInstanceId"], INSTANCE);
    let missing = cloud_ru(&sim, "/nope").await;
    assert_eq!((missing.status, &missing.json()["code"]), (400, &json!(9)));
    let auth = [("Authorization", "Bearer cr")];
    let route = get(&sim, "/openshift/v1/nope", &auth).await;
    assert_eq!((route.status, &route.json()["code"]), (404, &json!(5)));
    let instance = get(&sim, "/openshift/v1/nope/tasks", &auth).await;
    assert_eq!((instance.status, &instance.json()["code"]), (400, &json!(9)));
    assert_eq!(get(&sim, &format!("/openshift/v1/{INSTANCE}/tasks"), &[]).await.status, 401);

    let failed = json!({"state": "X", "error": {"code": 8, "message": "quota",
        "details": [{"typeUrl": "t/QuotaFailure", "value": {"subject": "cpu"}}]}});
    for (options, error) in [
        (
            json!({}),
            json!({"code": 8, "message": "quota", "details": [{"typeUrl": "t/QuotaFailure", "value": {"subject": "cpu"}}]}),
        ),
        (
            json!({"any": "atType"}),
            json!({"code": 8, "message": "quota", "details": [{"@type": "t/QuotaFailure", "subject": "cpu"}]}),
        ),
        (json!({"stringError": true}), json!("quota")),
    ] {
        let scope = json!({"credentials": [{"kind": "token", "token": "cr"}], "options": options});
        admin(&sim, "PUT", &format!("/scopes/cloudRu/{INSTANCE}"), scope).await;
        admin(&sim, "PATCH", &format!("/tasks/cloudRu/{INSTANCE}/t1"), failed.clone()).await;
        assert_eq!(cloud_ru(&sim, "/t1").await.json()["task"]["error"], error);
    }
    for (empty, error) in [
        ("null", Some(Value::Null)),
        ("zero", Some(json!({"code": 0, "message": "", "details": []}))),
        ("absent", None),
    ] {
        let options = json!({"emptyError": empty, "legacyErrors": true});
        let scope = json!({"credentials": [{"kind": "token", "token": "cr"}], "options": options});
        admin(&sim, "PUT", &format!("/scopes/cloudRu/{INSTANCE}"), scope).await;
        admin(&sim, "PATCH", &format!("/tasks/cloudRu/{INSTANCE}/t1"), json!({"state": "RUNNING"})).await;
        assert_eq!(cloud_ru(&sim, "/t1").await.json()["task"].get("error").cloned(), error);
    }
    assert!(cloud_ru(&sim, "/nope").await.json()["error"].is_string(), "grpc-gateway before v2");
}

#[tokio::test]
async fn what_is_not_an_api() {
    let sim = start().await;
    assert_eq!(get(&sim, "/", &[]).await.status, 404);
    assert_eq!(get(&sim, "/_admin/nope", &[]).await.status, 404);
    assert_eq!(send(&sim, "POST", "/_admin/faults", &[], "{").await.unwrap().status, 400);
    let unknown_key = send(
        &sim,
        "PUT",
        &format!("/_admin/tasks/cloudRu/{INSTANCE}/x"),
        &[],
        r#"{"stepz":[],"steps":[{"state":"A"}]}"#,
    )
    .await
    .unwrap();
    assert_eq!(unknown_key.status, 400, "a misspelt key is refused");
    assert_eq!(send(&sim, "GET", "/v3/auth/tokens", &[], "").await.unwrap().status, 405);
}

//! Every kind of fault, as a client meets it.

use std::io::{ErrorKind, Read as _};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taskwatch_simulator::Simulator;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{ACCOUNT, PROJECT, admin, astra, cloud_ru, exchange, host, huawei, send, start};

async fn with(action: Value) -> Simulator {
    let sim = start().await;
    admin(&sim, "POST", "/faults", json!({"action": action})).await;
    sim
}

async fn try_job(sim: &Simulator) -> std::io::Result<crate::client::Answer> {
    send(sim, "GET", &format!("/v1/{PROJECT}/jobs/job1"), &[("X-Auth-Token", "hw")], "").await
}

#[tokio::test]
async fn statuses_in_each_providers_words() {
    let sim = with(json!({"kind": "status", "status": 429, "retryAfterSeconds": 7, "headers": {"X-A": "b"}})).await;
    let answer = huawei(&sim, "job1").await;
    assert_eq!((answer.status, answer.header("retry-after"), answer.header("x-a")), (429, Some("7"), Some("b")));
    assert_eq!(answer.json()["error_code"], "APIGW.0308");
    let entry = admin(&sim, "GET", "/log", Value::Null).await["entries"][0].clone();
    assert_eq!((entry["retryAfter"].as_str(), entry["faults"][0].as_str()), (Some("7"), Some("f1")));
    for (status, id, body) in [(503, "24", 14), (500, "34", 13), (409, "164", 10)] {
        let fault = json!({"id": "s", "action": {"kind": "status", "status": status, "retryAfterDate": 30}});
        admin(&sim, "DELETE", "/faults", Value::Null).await;
        admin(&sim, "POST", "/faults", fault).await;
        let answer = astra(&sim, "").await;
        assert!(answer.header("retry-after").unwrap().ends_with(" GMT"));
        assert_eq!(answer.status, status);
        assert!(answer.json()["type"].as_str().unwrap().ends_with(&format!("/{id}")));
        assert_eq!(cloud_ru(&sim, "").await.json()["code"], body);
    }
    admin(&sim, "POST", "/faults", json!({"id": "s", "action": {"kind": "status", "status": 202}})).await;
    assert_eq!(huawei(&sim, "job1").await.json()["error"]["code"], "Common.0024");
    admin(&sim, "POST", "/faults", json!({"id": "s", "action": {"kind": "status", "status": 500, "body": "oops"}}))
        .await;
    assert_eq!(huawei(&sim, "job1").await.body, b"oops");
}

#[tokio::test]
async fn delays() {
    let sim = with(json!({"kind": "delay", "headersMs": 200, "bodyMs": 300})).await;
    let start = Instant::now();
    assert_eq!(huawei(&sim, "job1").await.json()["status"], "RUNNING");
    assert!(start.elapsed() >= Duration::from_millis(450), "{:?}", start.elapsed());
}

#[tokio::test]
async fn resets_and_half_open() {
    let sim = with(json!({"kind": "reset"})).await;
    assert_eq!(try_job(&sim).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    admin(&sim, "POST", "/faults", json!({"id": "f1", "action": {"kind": "reset", "afterBytes": 10}})).await;
    let answer = try_job(&sim).await.unwrap();
    assert_eq!((answer.status, answer.body.len(), answer.broken), (200, 10, true));
    admin(&sim, "POST", "/faults", json!({"id": "f1", "action": {"kind": "hang"}})).await;
    let silent = timeout(Duration::from_millis(300), try_job(&sim)).await;
    assert!(silent.is_err(), "no answer, and no end");
    let entry = admin(&sim, "GET", "/log", Value::Null).await["entries"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(entry["status"], 0);
}

#[tokio::test]
async fn bodies_that_are_no_answers() {
    for (action, check) in [
        (json!({"kind": "garbage"}), "garbage"),
        (json!({"kind": "html"}), "html"),
        (json!({"kind": "truncate"}), "truncate"),
        (json!({"kind": "deepNesting", "depth": 5000}), "deep"),
    ] {
        let sim = with(action).await;
        let answer = huawei(&sim, "job1").await;
        assert_eq!(answer.status, 200, "{check}");
        assert!(!answer.broken);
        assert!(serde_json::from_slice::<Value>(&answer.body).is_err(), "{check}");
        match check {
            "html" => assert!(answer.header("content-type").unwrap().starts_with("text/html")),
            "deep" => assert_eq!(answer.body.len(), 10_000),
            _ => {}
        }
    }
    let sim = with(json!({"kind": "truncate", "lie": true})).await;
    assert!(huawei(&sim, "job1").await.broken, "less than Content-Length says");
}

#[tokio::test]
async fn bodies_without_end() {
    let sim = with(json!({"kind": "huge", "bytes": 20_000_000})).await;
    let answer = huawei(&sim, "job1").await;
    assert_eq!((answer.status, answer.body.len()), (200, 20_000_009));
    admin(&sim, "POST", "/faults", json!({"id": "f1", "action": {"kind": "gzipBomb", "bytes": 50_000_000}})).await;
    let answer = huawei(&sim, "job1").await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert!(answer.body.len() < 100_000, "{}", answer.body.len());
    let mut unfolded = Vec::new();
    flate2::read::GzDecoder::new(&answer.body[..]).read_to_end(&mut unfolded).unwrap();
    assert!(unfolded.len() > 49_000_000);
}

#[tokio::test]
async fn lies_about_tasks() {
    let sim = with(json!({"kind": "wrongId", "id": "b"})).await;
    assert_eq!(huawei(&sim, "job1").await.json()["job_id"], "b");
    assert_eq!(cloud_ru(&sim, "/t1").await.json()["task"]["id"], "b");
    assert_eq!(astra(&sim, "").await.json()["items"][0]["id"], "b");
    let set = |action: Value| admin(&sim, "POST", "/faults", json!({"id": "f1", "action": action}));
    set(json!({"kind": "state", "state": "INIT"})).await;
    assert_eq!(huawei(&sim, "job1").await.json()["status"], "INIT");
    set(json!({"kind": "fields", "fields": {"percentDone": "x"}})).await;
    assert_eq!(astra(&sim, "/a1").await.json()["percentDone"], "x");
    set(json!({"kind": "futureTimes", "seconds": 1_000_000_000})).await;
    let time = astra(&sim, "/a1").await.json()["metadata"]["modificationTimestamp"].as_str().unwrap().to_owned();
    assert!(time.as_str() > "2050" && time.len() == 27, "{time}");
    set(json!({"kind": "otherScope"})).await;
    assert!(cloud_ru(&sim, "/t1").await.json()["task"]["serviceInstanceId"].as_str().unwrap().starts_with("9999"));
    assert!(astra(&sim, "/a1").await.json()["resourceURI"].as_str().unwrap().starts_with("/accounts/9999"));
    set(json!({"kind": "notFound"})).await;
    assert_eq!(huawei(&sim, "job1").await.json()["error"]["code"], "Common.0011");
    assert_eq!(cloud_ru(&sim, "/t1").await.json()["code"], 9);
    assert_eq!(astra(&sim, "/a1").await.status, 404);
    assert_eq!(astra(&sim, "").await.json()["items"], json!([]));
}

#[tokio::test]
async fn lies_about_lists() {
    let sim = start().await;
    let count = async |action: Value, query: &str| {
        admin(&sim, "POST", "/faults", json!({"id": "x", "action": action})).await;
        astra(&sim, query).await.json()["items"].as_array().unwrap().len()
    };
    assert_eq!(count(json!({"kind": "duplicateItems"}), "").await, 6);
    assert_eq!(count(json!({"kind": "dropItems", "id": "a2"}), "").await, 2);
    assert_eq!(count(json!({"kind": "dropItems", "id": "a2"}), "?include=state,id").await, 2);
    assert_eq!(count(json!({"kind": "dropItems", "every": 3}), "").await, 2);
    assert_eq!(count(json!({"kind": "repeatPages"}), "?limit=1").await, 1);
    let first = astra(&sim, "?limit=1").await.json();
    let next = first["metadata"]["continue"].as_str().unwrap();
    assert_eq!(astra(&sim, &format!("?limit=1&continue={next}")).await.json(), first);
}

#[tokio::test]
async fn credentials_that_fail() {
    let sim = with(json!({"kind": "tokenExpired"})).await;
    assert_eq!(huawei(&sim, "job1").await.json()["error_code"], "APIGW.0307");
    assert_eq!(astra(&sim, "").await.json()["type"], "https://astra.netapp.io/problems/4");
    assert_eq!(cloud_ru(&sim, "").await.json()["code"], 16);
    let set = |fault: Value| admin(&sim, "POST", "/faults", fault);
    set(json!({"id": "f1", "action": {"kind": "tokenExpired", "layer": "service"}})).await;
    assert_eq!(huawei(&sim, "job1").await.json()["error"]["code"], "Common.0013");
    set(json!({"id": "f1", "action": {"kind": "authWrong"}})).await;
    assert_eq!(huawei(&sim, "job1").await.json()["error_code"], "APIGW.0301");
    // Token endpoints are met only when they are named.
    let key = r#"{"keyId":"k","secret":"s"}"#;
    assert_eq!(send(&sim, "POST", "/api/v1/auth/token", &[], key).await.unwrap().status, 200);
    set(json!({"id": "f1", "match": {"kind": "token"}, "action": {"kind": "authWrong"}})).await;
    assert_eq!(send(&sim, "POST", "/api/v1/auth/token", &[], key).await.unwrap().status, 401);
    assert_eq!(send(&sim, "POST", "/v3/auth/tokens", &[], "{}").await.unwrap().json()["error"]["code"], 401);
    set(json!({"id": "f1", "match": {"kind": "token"}, "action": {"kind": "status", "status": 503}})).await;
    assert_eq!(send(&sim, "POST", "/oauth2/token", &[], "").await.unwrap().status, 503);
    assert_eq!(huawei(&sim, "job1").await.status, 200);
}

#[tokio::test]
async fn a_fault_meets_what_it_names_and_ends() {
    let sim = start().await;
    let only = json!({"id": "x", "match": {"provider": "astraControl", "scope": ACCOUNT, "path": "/a1"}, "count": 2,
        "action": {"kind": "status", "status": 500}});
    admin(&sim, "POST", "/faults", only).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push((
            astra(&sim, "/a1").await.status,
            astra(&sim, "/a2").await.status,
            huawei(&sim, "job1").await.status,
        ));
    }
    assert_eq!(seen, [(500, 200, 200), (500, 200, 200), (200, 200, 200)]);
    assert_eq!(admin(&sim, "GET", "/faults", Value::Null).await[0]["met"], 2);
    admin(&sim, "DELETE", "/faults/x", Value::Null).await;
    assert_eq!(admin(&sim, "GET", "/faults", Value::Null).await, json!([]));
}

#[tokio::test]
async fn shutting_down_ends_what_hangs() {
    let sim = with(json!({"kind": "hang"})).await;
    let stream = TcpStream::connect(host(&sim)).await.unwrap();
    let headers = [("X-Auth-Token", "hw")];
    let target = format!("/v1/{PROJECT}/jobs/job1");
    let hanging = exchange(stream, "GET", &target, &headers, "");
    let stop = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        sim.shutdown().await;
    };
    let (answer, ()) = timeout(Duration::from_secs(5), async { tokio::join!(hanging, stop) }).await.unwrap();
    assert!(answer.is_err());
}

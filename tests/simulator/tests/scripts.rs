//! Scenarios, scripts, the truth and the records.

use serde_json::{Value, json};
use taskwatch_simulator::{Config, DEMO, Simulator};

use crate::client::{ACCOUNT, PROJECT, admin, astra, huawei, send, start};

#[tokio::test]
async fn a_task_follows_time_and_script() {
    let sim = start().await;
    let steps = json!([{"at": 2, "state": "INIT"}, {"at": 5, "state": "RUNNING"},
        {"at": 10, "state": "FAIL", "error": {"code": "E", "message": "m"}}, {"at": 20, "gone": true}]);
    admin(&sim, "PUT", &format!("/tasks/huaweiCloud/{PROJECT}/j2"), json!({"steps": steps})).await;
    for (at, status, state, truth) in [
        (0, 400, Value::Null, Value::Null),
        (3, 200, json!("INIT"), json!("Pending")),
        (6, 200, json!("RUNNING"), json!("Running")),
        (11, 200, json!("FAIL"), json!("Failed")),
        (21, 400, Value::Null, json!("Failed")),
    ] {
        admin(&sim, "POST", "/clock", json!({"shiftSeconds": at})).await;
        let answer = huawei(&sim, "j2").await;
        assert_eq!((answer.status, &answer.json()["status"]), (status, &state), "at {at}");
        let all = admin(&sim, "GET", "/truth?id=j2", Value::Null).await;
        assert_eq!((&all["tasks"][0]["state"], all["tasks"][0]["exists"] == (status == 200)), (&truth, true));
    }
    admin(&sim, "PATCH", &format!("/tasks/huaweiCloud/{PROJECT}/j2"), json!({"state": "SUCCESS"})).await;
    assert_eq!(huawei(&sim, "j2").await.json()["status"], "SUCCESS");
    admin(&sim, "DELETE", &format!("/tasks/huaweiCloud/{PROJECT}/j2"), Value::Null).await;
    assert_eq!(huawei(&sim, "j2").await.status, 400);
}

#[tokio::test]
async fn ten_thousand_change_evenly() {
    let sim = start().await;
    admin(&sim, "DELETE", &format!("/tasks/astraControl/{ACCOUNT}"), Value::Null).await;
    let bulk = json!({"provider": "astraControl", "scope": ACCOUNT, "count": 10_000, "changeEverySeconds": 6000});
    let ids = admin(&sim, "POST", "/bulk", bulk).await["ids"].clone();
    let before = astra(&sim, "?include=id,state").await.json()["items"].clone();
    assert_eq!(before.as_array().unwrap().len(), 10_000);
    assert_eq!(before[7][0], ids[7]);
    admin(&sim, "POST", "/clock", json!({"addSeconds": 60})).await;
    let after = astra(&sim, "?include=id,state").await.json()["items"].clone();
    let pairs = before.as_array().unwrap().iter().zip(after.as_array().unwrap());
    let changed = pairs.filter(|(a, b)| a != b).count();
    assert!((95..=105).contains(&changed), "1 % a minute, not {changed}");
}

#[tokio::test]
async fn scenarios_repeat_and_are_checked() {
    let sim = start().await;
    let scenario = json!({
        "scopes": [{"repeat": 100, "provider": "huaweiCloud", "id": "project{n}", "credentials": [{"kind": "token", "token": "t{n}"}]}],
        "bulk": [{"repeat": 100, "provider": "huaweiCloud", "scope": "project{n}", "count": 3,
            "steps": [{"state": "RUNNING"}, {"at": 60, "state": "SUCCESS"}], "spreadSeconds": 30}]
    });
    assert_eq!(admin(&sim, "POST", "/scenario", scenario).await, json!({"scopes": 100, "tasks": 300}));
    let bad = json!({"tasks": [{"provider": "huaweiCloud", "scope": "nope", "id": "x", "steps": [{"state": "A"}]}]});
    let answer = send(&sim, "POST", "/_admin/scenario", &[], &bad.to_string()).await.unwrap();
    assert_eq!(answer.status, 400);
    let typo = json!({"scopess": []}).to_string();
    assert!(Simulator::start(Config { scenario: Some(typo), ..Config::default() }).await.is_err());
}

#[tokio::test]
async fn the_demo_ends_as_it_says() {
    let sim = Simulator::start(Config { scenario: Some(DEMO.to_owned()), ..Config::default() }).await.unwrap();
    admin(&sim, "POST", "/clock", json!({"addSeconds": 90})).await;
    let truth = admin(&sim, "GET", "/truth", Value::Null).await;
    let states: Vec<&str> = truth["tasks"].as_array().unwrap().iter().map(|t| t["state"].as_str().unwrap()).collect();
    for state in ["Succeeded", "Failed", "Cancelled", "Paused"] {
        assert!(states.contains(&state), "{states:?}");
    }
    assert!(states.len() >= 8 && !states.contains(&"Running"), "{states:?}");
}

#[tokio::test]
async fn records_are_read_and_cleared() {
    let sim = start().await;
    for _ in 0..3 {
        astra(&sim, "?limit=1").await;
    }
    huawei(&sim, "nope").await;
    let log = admin(&sim, "GET", "/log?since=1&limit=2", Value::Null).await;
    assert_eq!((log["next"].clone(), log["entries"].as_array().unwrap().len()), (json!(3), 2));
    let entry = &log["entries"][0];
    assert_eq!(
        (entry["query"].as_str(), entry["auth"].as_str(), entry["seq"].as_u64()),
        (Some("limit=1"), Some("ok"), Some(2))
    );
    let counters = admin(&sim, "GET", "/counters", Value::Null).await;
    assert_eq!(counters["routes"], json!({"astraControl list 200": 3, "huaweiCloud task 400": 1}));
    assert_eq!(counters["scopes"][ACCOUNT], 3);
    admin(&sim, "DELETE", "/log", Value::Null).await;
    admin(&sim, "DELETE", "/counters", Value::Null).await;
    assert_eq!(admin(&sim, "GET", "/log", Value::Null).await["entries"], json!([]));
    assert_eq!(admin(&sim, "GET", "/counters", Value::Null).await["requests"], 0);
}

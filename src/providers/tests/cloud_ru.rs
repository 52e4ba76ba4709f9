use super::{answer, decode, errors, golden, now, provider};
use crate::{
    domain::{failure::FailureClass, task::TaskRef},
    providers::{
        Provider,
        cloud_ru::{CloudRu, Vocabulary},
        decode::explain,
    },
};

#[test]
fn tasks() {
    let found = golden(
        "cloudRu",
        &[
            (
                "as documented: typeUrl and value, zero values on success",
                200,
                r#"{"task":{"id":"t1","command":"CREATE_CLUSTER","status":"TASK_STATUS_SUCCESS","createdAt":"2025-07-09T16:18:27.981870605Z","modifiedAt":"2025-07-09T16:20:00Z","createdBy":"u1","serviceInstanceId":"si1","metadata":{"typeUrl":"type.googleapis.com/openshift.ClusterMetadata","value":"CiRhZTFlNjU2MS05ZTIyLTQwNmMtOGE1YS03NjJmNDYwNGRhMDA="},"response":{"typeUrl":"","value":""},"error":{"code":0,"message":"","details":[]}}}"#,
            ),
            (
                "proto3 JSON: @type and fields, no error, no word",
                200,
                r#"{"task":{"id":"t2","command":"CREATE_CLUSTER","status":"","metadata":{"@type":"type.googleapis.com/openshift.ClusterMetadata","serviceInstanceId":"si1","clusterId":"c1"},"response":{"@type":"type.googleapis.com/openshift.Cluster","id":"c1","name":"prod","network":{"cidr":"10.0.0.0/16","tags":["a"]}},"error":null}}"#,
            ),
            (
                "failed: code and details in both forms, whatever the word",
                200,
                r#"{"task":{"id":"t3","command":"DELETE_CLUSTER","status":"IN_PROGRESS","error":{"code":9,"message":"cluster is locked","details":[{"@type":"google.rpc.ResourceInfo","resourceType":"cluster","resourceName":"c1"},{"typeUrl":"type.googleapis.com/google.rpc.DebugInfo","value":"cXVvdGEgZXhjZWVkZWQ="}]},"response":null}}"#,
            ),
            ("failed: the error is a string", 200, r#"{"task":{"id":"t4","status":"FAILED","error":"no quota"}}"#),
            (
                "list, one entry unreadable, snake_case",
                200,
                r#"{"tasks":[{"id":"t1","status":"QUEUED","created_at":"2025-07-09T16:18:27Z","created_by":"sa1"},"?",{"id":"t2","status":"УСПЕХ","metadata":{"typeUrl":"x","value":"cluster-1"}}]}"#,
            ),
            ("an empty list", 200, r#"{"tasks":[]}"#),
            (
                "a bare operation that is done",
                200,
                r#"{"id":"o1","done":true,"response":{"@type":"google.protobuf.Empty"}}"#,
            ),
        ],
    );
    insta::assert_snapshot!(found);
}

/// The state by word, `done`, error and response, for a vocabulary.
fn state(vocabulary: &Vocabulary, fields: &str) -> String {
    let provider = CloudRu::new("", vocabulary);
    let body = format!(r#"{{"task":{{"id":"t",{fields}}}}}"#);
    explain(&provider, &answer(200, body), now())["task"]["state"].as_str().unwrap().to_owned()
}

const ERROR: &str = r#""error":{"code":13,"message":"x"}"#;
const RESPONSE: &str = r#""response":{"typeUrl":"a","value":"b"}"#;

#[test]
fn words_error_and_response_decide() {
    let default = Vocabulary::default();
    for (fields, expected) in [
        (r#""status":"TASK_STATUS_IN_PROGRESS""#.to_owned(), "Running"),
        (r#""status":"task_status_done""#.to_owned(), "Succeeded"),
        (r#""status":"Done""#.to_owned(), "Succeeded"),
        (r#""status":"inProgress""#.to_owned(), "Running"),
        (r#""status":"TASK_STATUS_""#.to_owned(), "Running"),
        (r#""status":"TASK_STATUS_UNSPECIFIED""#.to_owned(), "Running"),
        (r#""status":"PENDING""#.to_owned(), "Pending"),
        (r#""status":"PAUSED""#.to_owned(), "Paused"),
        (r#""status":"CANCELED""#.to_owned(), "Cancelled"),
        (r#""status":"ERROR""#.to_owned(), "Failed"),
        (r#""status":7"#.to_owned(), "Running"),
        (ERROR.to_owned(), "Failed"),
        (format!(r#""status":"DONE",{ERROR}"#), "Failed"),
        (format!(r#""status":"CANCELLED",{ERROR}"#), "Cancelled"),
        (r#""error":{"code":0,"message":"","details":[]}"#.to_owned(), "Running"),
        (r#""error":{"code":"0","message":""}"#.to_owned(), "Running"),
        (r#""error":{}"#.to_owned(), "Running"),
        (r#""error":"""#.to_owned(), "Running"),
        (r#""error":{"code":0,"message":"odd"}"#.to_owned(), "Failed"),
        (r#""status":"RUNNING","error":{"code":0,"message":"OK"}"#.to_owned(), "Running"),
        (r#""status":"DONE","error":{"code":"0","message":"success"}"#.to_owned(), "Succeeded"),
        (r#""status":"FAILED","error":{"code":0,"message":"odd"}"#.to_owned(), "Failed"),
        (r#""status":"RUNNING","error":{"message":"odd"}"#.to_owned(), "Failed"),
        (RESPONSE.to_owned(), "Succeeded"),
        (format!(r#""status":"RUNNING",{RESPONSE}"#), "Running"),
        (format!(r#""status":"СТРАННО",{RESPONSE}"#), "Succeeded"),
        (r#""response":{"typeUrl":"","value":""}"#.to_owned(), "Running"),
        (r#""done":true"#.to_owned(), "Succeeded"),
        (r#""done":false"#.to_owned(), "Running"),
        (format!(r#""done":false,{RESPONSE}"#), "Running"),
        (format!(r#""done":false,{ERROR}"#), "Failed"),
    ] {
        assert_eq!(state(&default, &fields), expected, "{fields}");
    }
}

#[test]
fn the_vocabulary_can_be_replaced() {
    let own = Vocabulary {
        prefix: "STATE_".to_owned(),
        succeeded: vec!["готово".to_owned()],
        error_decides: false,
        response_decides: false,
        ..Vocabulary::default()
    };
    for (fields, expected) in [
        (r#""status":"STATE_ГОТОВО""#.to_owned(), "Succeeded"),
        (r#""status":"DONE""#.to_owned(), "Running"),
        (ERROR.to_owned(), "Running"),
        (format!(r#""done":false,{ERROR}"#), "Running"),
        (format!(r#""done":true,{ERROR}"#), "Failed"),
        (RESPONSE.to_owned(), "Running"),
    ] {
        assert_eq!(state(&own, &fields), expected, "{fields}");
    }
    let contradictory = Vocabulary { running: vec!["done".to_owned()], ..Vocabulary::default() };
    assert_eq!(state(&contradictory, r#""status":"DONE""#), "Running", "a contradiction ends no watch");
}

#[test]
fn error_answers() {
    let found = errors(
        "cloudRu",
        &[
            (404, r#"{"code":5,"message":"Not Found","details":[]}"#),
            (404, r#"{"code":5,"message":"task t1 not found","details":[]}"#),
            (404, r#"{"code":5,"message":"service instance si1 not found","details":[]}"#),
            (
                400,
                r#"{"code":9,"message":"precondition","details":[{"@type":"google.rpc.ResourceInfo","resourceType":"task","description":"task not found"}]}"#,
            ),
            (400, r#"{"code":9,"message":"cluster is locked"}"#),
            (400, r#"{"code":3,"message":"invalid uuid"}"#),
            (401, r#"{"code":16,"message":"token expired"}"#),
            (403, r#"{"error":"permission denied","code":7}"#),
            (429, r#"{"code":8,"message":"quota"}"#),
            (503, r#"{"code":14,"message":"unavailable"}"#),
            (500, "plain text"),
            (200, r#"{"code":16,"message":"token expired"}"#),
            (200, r#"{"error":"boom"}"#),
            (200, "{}"),
            (200, r#"{"task":null}"#),
            (200, r#"{"task":{}}"#),
            (200, r#"{"task":{"id":"","status":""}}"#),
            (200, "not json"),
        ],
    );
    insta::assert_snapshot!(found);
    assert_eq!(decode("cloudRu", 200, r#"{"task":{"status":"DONE"}}"#)["kind"], "task", "every field may be missing");
}

#[test]
fn other_tasks_and_instances_are_no_answer() {
    let asked = TaskRef { scope: "si1".to_owned(), id: "t1".to_owned() };
    let cloud = provider("cloudRu");
    for body in
        [r#"{"task":{"id":"t2","status":"DONE"}}"#, r#"{"task":{"id":"t1","status":"DONE","serviceInstanceId":"si2"}}"#]
    {
        let failure = cloud.decode_task(&asked, &answer(200, body)).unwrap_err();
        assert_eq!(failure.class, FailureClass::InvalidAnswer, "{body}");
    }
    let list = r#"{"tasks":[{"id":"t1","serviceInstanceId":"si2"},{"id":"t1","serviceInstanceId":"SI1"},{"id":"t2"}]}"#;
    let page = CloudRu::new("si1", &Vocabulary::default())
        .decode_list("si1", &answer(200, list), &|id: &str| id == "t1")
        .unwrap();
    assert_eq!((page.tasks.len(), page.total), (1, 3));
    assert_eq!(cloud.decode_list("si1", &answer(200, "{}"), &|_: &str| true).unwrap().total, 0);
    for body in [r#"{"code":16,"message":"x"}"#, r#"{"something":1}"#, "[]", r#"{"tasks":7}"#] {
        assert!(cloud.decode_list("si1", &answer(200, body), &|_: &str| true).is_err(), "{body}");
    }
}

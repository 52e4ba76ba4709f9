use super::{answer, decode, errors, golden, provider, with_header};
use crate::{
    domain::{failure::FailureClass, task::TaskRef},
    providers::{Answer, decode::explain},
};

/// The published list (seed), shortened by what is not read.
const LIST: &str = r#"{"type":"application/astra-tasks","version":"1.1","items":[
{"type":"application/astra-task","version":"1.0","id":"ae1e6561-9e22-406c-8a5a-762f4604da00","name":"astra.backup.prep","summary":"Backup preparation","description":"Task to prepare for the application backup","service":"nautilus","parentTaskID":"bc1e6561-9e22-406c-8a5a-762f4604da00","userID":"abda967f-cd2c-4237-908e-99266648c553","resourceID":"626a0978-d55f-4841-8b7c-dc0c0f592c6f","resourceURI":"/accounts/fdaa655c-15ab-4d34-aa61-1e9098e67be0/k8s/v1/apps/7c8bef49/appSnaps/5cb608f9","resourceCollectionURI":["/accounts/x"],"state":"running","stateTransitions":[{"to":["paused","cancelled"]},{"from":"paused","to":["running","cancelled"]}],"stateDetails":[],"orderHint":0,"percentDone":20.25,"startTime":"2020-08-06T12:24:52.256624Z","endTime":"2020-08-06T12:24:53Z","metadata":{"labels":[],"creationTimestamp":"2020-08-06T12:24:52.256624Z","modificationTimestamp":"2020-08-06T12:24:52,256624Z","createdBy":"00000000-0000-0000-0000-000000000000"}},
{"type":"application/astra-task","version":"1.0","id":"bc1e6561-9e22-406c-8a5a-762f4604da00","name":"astra.backup","summary":"Backup","description":"Task to take a Backup","resourceID":"736a0978-d55f-4841-8b7c-dc0c0f592c6f","resourceURI":"/accounts/fdaa655c-15ab-4d34-aa61-1e9098e67be0/k8s/v1/apps/7c8bef49/appBackups/736a0978","state":"running","stateDetails":[],"orderHint":0,"percentDone":"67","parentTaskID":"00000000-0000-0000-0000-000000000000"}
],"metadata":{"count":2,"continue":""}}"#;

#[test]
fn tasks() {
    let found = golden(
        "astraControl",
        &[
            ("seed: list", 200, LIST),
            (
                "items as arrays in the order of FIELDS, an entry that is none, a token for the next page",
                200,
                r#"{"items":[["t1",null,"paused","astra.restore","Restore",[{"type":"https://astra.netapp.io/stateDetails/7","title":"Waiting","detail":"for the bucket"}],50,3],7,["t2"]],"metadata":{"continue":"eyJ4Ijox"}}"#,
            ),
            (
                "failed: the reason is in the state's details",
                200,
                r#"{"id":"t1","name":"astra.backup","summary":"Backup","state":"failed","stateDetails":[{"type":"https://astra.netapp.io/stateDetails/24","title":"Volume not ready.","detail":"PVC data-0 is\u001b[2J pending","additionalDetails":{"inUse":"true","pvc":["data-0"]}},{"type":"about:blank","title":"Retries","detail":"gave up"}],"endTime":"2020-08-06T12:25:52Z","resourceID":"r1","percentDone":12}"#,
            ),
            (
                "cancelled: cancelTime for want of endTime",
                200,
                r#"{"id":"t1","state":"cancelled","cancelTime":"2020-08-06T12:25:52Z","stateDetails":null,"percentDone":""}"#,
            ),
            ("all but nothing", 200, r#"{"id":"t1","state":"completed"}"#),
        ],
    );
    insta::assert_snapshot!(found);
}

#[test]
fn all_eight_states_and_others() {
    for (word, state) in [
        ("notStarted", "Pending"),
        ("running", "Running"),
        ("completed", "Succeeded"),
        ("pausing", "Paused"),
        ("paused", "Paused"),
        ("cancelling", "Running"),
        ("cancelled", "Cancelled"),
        ("failed", "Failed"),
        ("resuming", "Running"),
    ] {
        let task =
            decode("astraControl", 200, &format!(r#"{{"id":"t","state":"{word}","endTime":"2020-01-01T00:00:00Z"}}"#));
        assert_eq!(task["task"]["state"], state);
        assert_eq!(task["task"]["upstreamState"], word);
        assert_eq!(task["task"]["completionTime"].is_string(), ["Succeeded", "Cancelled", "Failed"].contains(&state));
    }
}

#[test]
fn error_answers() {
    let problem = |number: u32, status: u16, title: &str, more: &str| {
        (
            status,
            format!(
                r#"{{"type":"https://astra.netapp.io/problems/{number}","title":"{title}","detail":"Some detail.","status":"{status}"{more}}}"#
            ),
        )
    };
    let cases = [
        problem(1, 404, "Resource not found", r#","correlationID":"c-1""#),
        problem(2, 404, "Collection not found", ""),
        problem(3, 401, "Missing bearer token", ""),
        problem(4, 401, "Invalid bearer token", ""),
        problem(166, 401, "Unauthorized", ""),
        problem(5, 400, "Invalid query parameters", r#","invalidParams":[{"name":"limit","reason":"not a number"}]"#),
        problem(6, 400, "Query parameters not supported", ""),
        problem(11, 403, "Operation not permitted", ""),
        problem(14, 403, "Unauthorized access", ""),
        problem(32, 406, "Unsupported Accept", ""),
        problem(164, 409, "Conflict", ""),
        problem(34, 500, "Internal server error", ""),
        problem(40, 502, "Bad gateway", ""),
        problem(24, 503, "Service unavailable", ""),
        problem(999, 404, "A new problem", ""),
        (200, r#"{"items":{}}"#.to_owned()),
        (200, r#"{"metadata":{}}"#.to_owned()),
        (200, "<html></html>".to_owned()),
    ];
    let cases: Vec<_> = cases.iter().map(|(status, body)| (*status, body.as_str())).collect();
    let found = errors("astraControl", &cases);
    insta::assert_snapshot!(found);
}

#[test]
fn other_tasks_and_accounts_are_no_answer() {
    let asked = TaskRef { scope: "a1".to_owned(), id: "t1".to_owned() };
    let provider = provider("astraControl");
    for body in [
        r#"{"id":"t2","state":"completed"}"#,
        r#"{"id":"t1","state":"completed","resourceURI":"/accounts/a2/k8s/v1/apps/x"}"#,
        r#"{"id":"t1"}"#,
        r#"{"state":"completed"}"#,
    ] {
        let failure = provider.decode_task(&asked, &answer(200, body)).unwrap_err();
        assert_eq!(failure.class, FailureClass::InvalidAnswer, "{body}");
    }
    let body = r#"{"id":"T1","state":"completed","resourceURI":"https://x/accounts/A1/k8s"}"#;
    assert!(provider.decode_task(&asked, &answer(200, body)).is_ok());
}

#[test]
fn of_a_list_only_the_wanted_are_read() {
    let provider = provider("astraControl");
    let body = r#"{"items":[{"id":"t1","state":"running"},{"id":"c1","parentTaskID":"t1","state":"failed"},{"id":"t3","state":"running"},
        {"id":"t1","state":"completed","resourceURI":"/accounts/other/x"},{"id":"t1"},null,{}]}"#;
    let page = provider.decode_list("a1", &answer(200, body), &|id: &str| id == "t1").unwrap();
    assert_eq!(page.tasks.iter().map(|task| task.id.as_str()).collect::<Vec<_>>(), ["t1", "c1"]);
    assert_eq!((page.total, page.next), (7, None));

    let failure = provider
        .decode_list("a1", &answer(404, r#"{"type":"https://x/problems/1","title":"x"}"#), &|_: &str| true)
        .unwrap_err();
    assert_eq!(failure.class, FailureClass::ScopeNotFound, "a list has no task to miss");
}

#[test]
fn retry_after_and_redirects() {
    let explained = |answer: Answer| explain(provider("astraControl").as_ref(), &answer, super::now());
    let found = explained(with_header(answer(503, ""), "retry-after", "Fri, 02 Jan 2026 03:05:05 GMT"));
    assert_eq!((found["class"].as_str(), found["retryAfterSeconds"].as_u64()), (Some("UpstreamUnavailable"), Some(60)));
    let found = explained(with_header(answer(429, ""), "retry-after", "7"));
    assert_eq!((found["class"].as_str(), found["retryAfterSeconds"].as_u64()), (Some("RateLimited"), Some(7)));
    let found = explained(with_header(answer(301, ""), "location", "https://elsewhere/login?secret=1"));
    insta::assert_snapshot!(found["message"].as_str().unwrap(), @"Asked for the task, Astra Control answered 301 (to https://elsewhere/login). Redirects are not followed");
    assert_eq!(found["class"], "InvalidAnswer");
}

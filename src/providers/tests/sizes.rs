//! However large an answer is, what is kept of a task is small.

use serde_json::{Map, Value, json};

use super::{answer, checks::size, names, provider};
use crate::domain::task::{MAX_ERROR_DETAILS, TASK_BYTES, Task, TaskRef};

/// Texts as long as anything that is kept of them, and longer.
fn long(mark: &str) -> String {
    format!("{mark}{}", "x-".repeat(2000))
}

/// Results that are shown, as many and as long as may be.
fn results() -> Map<String, Value> {
    (0..200).map(|n| (format!("{}{n}_id", "k".repeat(n)), json!(format!("{}", "x-".repeat(n % 64 + 1))))).collect()
}

fn huawei() -> Value {
    let part = |n: usize| {
        json!({"job_id": long(&n.to_string()), "job_name": long("n"), "job_type": long("t"), "status": "FAIL", "entities": results(),
            "error_code": long("c"), "fail_reason": long("r")})
    };
    let mut job = part(0);
    job["entities"]["addition_error_msg"] = json!(long("a"));
    job["entities"]["alarm_code"] = json!(long("b"));
    job["sub_jobs"] = (0..40).map(part).collect();
    job
}

fn cloud_ru() -> Value {
    let details: Vec<_> = (0..50).map(|_| json!({"@type": long("t"), "a": long("v")})).collect();
    let mut response = results();
    response.insert("@type".to_owned(), json!(long("t")));
    json!({"task": {"id": long("i"), "command": long("c"), "status": "FAILED", "createdBy": long("u"), "metadata": results(),
        "response": response, "error": {"code": 13, "message": long("m"), "requestId": long("r"), "details": details}}})
}

fn astra() -> Value {
    let detail = json!({"type": long("x/stateDetails/"), "title": long("t"), "detail": long("d"), "additionalDetails": {"a": long("v")}});
    json!({"id": long("i"), "name": long("n"), "summary": long("s"), "state": "failed", "parentTaskID": long("p"), "userID": long("u"),
        "resourceURI": format!("/{}", "x-".repeat(250)), "resourceID": "x-".repeat(64), "stateDetails": vec![detail; 50]})
}

fn decoded(name: &str, body: &Value) -> Task {
    let any = TaskRef { scope: String::new(), id: String::new() };
    provider(name).decode_task(&any, &answer(200, body.to_string())).unwrap()
}

#[test]
fn the_worst_task_of_each_provider_is_small() {
    let parts: Vec<Task> = (0..1000).map(|_| decoded("astraControl", &astra())).collect();
    let worst = [("huaweiCloud", huawei()), ("cloudRu", cloud_ru()), ("astraControl", astra())];
    assert!(names().eq(worst.iter().map(|(name, _)| *name)), "one for each provider");
    for (name, body) in worst {
        let mut task = decoded(name, &body);
        let alone = size(&task);
        assert!(alone > TASK_BYTES / 8, "{name}: {alone} bytes is no worst case");
        task.adopt(parts.clone());
        let whole = size(&task);
        assert!(whole <= TASK_BYTES, "{name}: {whole} bytes");
        assert_eq!((task.subtasks.len(), task.subtasks.items().len()), (1000, 32));
    }
}

#[test]
fn of_an_error_so_many_details_are_kept() {
    // The first is the error itself, and what it has beside its text a detail; each other one makes two.
    let detail = json!({"title": "t", "detail": "d", "additionalDetails": {"a": 1}});
    let body = json!({"id": "i", "state": "failed", "stateDetails": vec![detail; 50]});
    assert_eq!(decoded("astraControl", &body).error.unwrap().details.len(), MAX_ERROR_DETAILS);
}

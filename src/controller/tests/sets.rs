//! The life of a set: which watches it creates, changes and deletes, and what it says.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    cluster::Fault,
    stage::{Operator, Stage, pass, ready, until},
};

const SET: &str = "taskwatchsets/n/all";
/// As fast as the API server goes.
const UNBOUNDED: &[&str] = &["--child-creates-per-second=0", "--api-writes-per-second=0"];

/// With so many running tasks, and a set of all of them.
async fn stage(tasks: usize, more: &Value) -> Stage {
    let stage = Stage::new().await;
    for number in 0..tasks {
        stage.upstream.set(&format!("t{number:02}"), "running", &json!({"percentDone": 40}));
    }
    let mut spec = json!({"connectionRef": {"name": "c"}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    stage.cluster.create("taskwatchsets", json!({"metadata": {"name": "all", "namespace": "n"}, "spec": spec}));
    stage
}

fn tasks(stage: &Stage) -> Vec<String> {
    let mut ids: Vec<_> = stage
        .cluster
        .all("taskwatches")
        .iter()
        .map(|watch| watch["spec"]["task"]["id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

async fn has(stage: &Stage, expected: &[&str]) {
    until(
        &format!("{expected:?} are watched"),
        || (tasks(stage) == expected).then_some(()),
        || tasks(stage).join(", "),
    )
    .await;
}

fn child(stage: &Stage, task: &str) -> Value {
    stage.cluster.all("taskwatches").into_iter().find(|watch| watch["spec"]["task"]["id"] == *task).unwrap()
}

/// How many watches have a status.
fn told(stage: &Stage) -> usize {
    stage.cluster.all("taskwatches").iter().filter(|watch| watch["status"]["conditions"].is_array()).count()
}

fn errors(operator: &Operator) -> u64 {
    operator.metric(r#"controller_runtime_reconcile_total{controller="taskwatchset",result="error"}"#).unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn each_task_has_a_watch_from_its_appearance_until_some_time_after_its_end() {
    let more = json!({"finishedRetentionSeconds": 60, "template": {"metadata": {"labels": {"team": "red"}}}});
    let stage = stage(2, &more).await;
    let operator = stage.begin(&[]);
    has(&stage, &["t00", "t01"]).await;
    stage.ready(SET, "True Observed", "Each task that matches has a TaskWatch.").await;
    let made = child(&stage, "t00");
    let owner = &made["metadata"]["ownerReferences"][0];
    assert_eq!(
        (owner["uid"].clone(), owner["controller"].clone()),
        (stage.cluster.get(SET).unwrap()["metadata"]["uid"].clone(), json!(true))
    );
    assert_eq!(made["metadata"]["labels"]["team"], "red");
    let status = || stage.cluster.get(SET).unwrap()["status"].clone();
    assert_eq!((status()["matched"].clone(), status()["watched"].clone()), (json!(2), json!(2)));
    // A new one is shown what the list said, and one that has ended is kept for a while.
    stage.upstream.set("t02", "running", &json!({"percentDone": 7}));
    let end = stage.cluster.now().to_string();
    stage.upstream.set("t00", "completed", &json!({"percentDone": 100, "endTime": end}));
    has(&stage, &["t00", "t01", "t02"]).await;
    until(
        "it is shown",
        || (child(&stage, "t02")["status"]["progress"]["percent"] == 7).then_some(()),
        || child(&stage, "t02"),
    )
    .await;
    let ended = Instant::now();
    has(&stage, &["t01", "t02"]).await;
    assert!((40..70).contains(&ended.elapsed().as_secs()), "{:?}", ended.elapsed());
    until("it is counted", || (status()["watched"] == 2).then_some(()), status).await;
    pass(1).await;
    stage.cluster.wrote();
    pass(60).await;
    let sets =
        |lines: Vec<String>| lines.into_iter().filter(|line| !line.contains("taskconnections")).collect::<Vec<_>>();
    assert_eq!(sets(stage.cluster.wrote()), Vec::<String>::new(), "nothing is created and deleted in turns");
    // The template changes, and what others put on the object stays.
    let of = format!("taskwatches/n/{}", child(&stage, "t01")["metadata"]["name"].as_str().unwrap());
    stage.cluster.edit(&of, |object| object["metadata"]["labels"]["other"] = json!("kept"));
    stage.cluster.edit(SET, |object| {
        object["spec"]["template"] =
            json!({"metadata": {"labels": {"team": "blue"}}, "spec": {"activeDeadlineSeconds": 9000}});
    });
    let labels = || stage.cluster.get(&of).unwrap()["metadata"]["labels"].clone();
    until("it is as the template says", || (labels()["team"] == "blue").then_some(()), labels).await;
    assert_eq!(
        (labels()["other"].clone(), stage.cluster.get(&of).unwrap()["spec"]["activeDeadlineSeconds"].clone()),
        (json!("kept"), json!(9000))
    );
    assert_eq!(errors(&operator), 0);
    // Nobody lists for a set that is gone, or suspended; its watches are asked for still.
    stage.cluster.edit(SET, |object| object["spec"]["suspend"] = json!(true));
    stage.ready(SET, "Unknown Suspended", "").await;
    pass(1).await;
    stage.upstream.asked();
    pass(60).await;
    assert!(stage.upstream.count("get") > 0 && stage.upstream.count("list") == 0);
    stage.cluster.edit(SET, |object| object["spec"]["suspend"] = json!(false));
    until("it is listed", || (stage.upstream.count("list") > 0).then_some(()), || "").await;
    stage.cluster.delete(SET);
    pass(1).await;
    stage.upstream.asked();
    pass(60).await;
    assert!(stage.upstream.count("get") > 0 && stage.upstream.count("list") == 0);
}

#[tokio::test(start_paused = true)]
async fn what_stands_in_the_place_of_a_child_is_left_alone_and_named() {
    let stage = stage(1, &json!({})).await;
    let operator = stage.begin(&[]);
    has(&stage, &["t00"]).await;
    let name = child(&stage, "t00")["metadata"]["name"].as_str().unwrap().to_owned();
    let of = format!("taskwatches/n/{name}");
    // Made by somebody else, under the name that the set would give.
    stage.cluster.edit(SET, |object| object["spec"]["suspend"] = json!(true));
    stage.ready(SET, "Unknown Suspended", "").await;
    stage.cluster.delete(&of);
    stage.watch(&name, "other", &json!({}));
    stage.cluster.edit(SET, |object| object["spec"]["suspend"] = json!(false));
    stage.ready(SET, "False", &format!("The TaskWatch {name} is in the place of one that this set would create")).await;
    assert_eq!(stage.cluster.get(&of).unwrap()["spec"]["task"]["id"], "other");
    stage.cluster.delete(&of);
    has(&stage, &["t00"]).await;
    stage.ready(SET, "True Observed", "").await;
    // What the set made itself, and has not been told of, is its own.
    assert_eq!(errors(&operator), 0);
}

#[tokio::test(start_paused = true)]
async fn what_the_api_server_refuses_is_said_and_tried_again_later() {
    for (code, reason, text, said) in [
        (403, "Forbidden", "exceeded quota: objects", "exceeded quota: objects"),
        (403, "Forbidden", "denied by a policy", "denied by a policy"),
        (422, "Invalid", "is invalid", "is invalid"),
    ] {
        let stage = stage(1, &json!({})).await;
        stage.cluster.fail("POST taskwatches", 2, Fault::Told(code, reason, text));
        let operator = stage.begin(&[]);
        stage.ready(SET, "False", said).await;
        let told = Instant::now();
        has(&stage, &["t00"]).await;
        assert!((14..18).contains(&told.elapsed().as_secs()), "{:?}", told.elapsed());
        stage.ready(SET, "True Observed", "").await;
        assert_eq!((errors(&operator), stage.cluster.asked("POST taskwatches")), (0, 3));
    }
    // Trouble is no refusal, and what was created though the answer was lost is there.
    for fault in [Fault::Refused(500, "InternalError"), Fault::Lost] {
        let stage = stage(1, &json!({})).await;
        stage.cluster.fail("POST taskwatches", 1, fault.clone());
        let operator = stage.begin(&[]);
        stage.ready(SET, "True Observed", "").await;
        assert_eq!((errors(&operator), tasks(&stage)), (1, vec!["t00".to_owned()]), "{fault:?}");
    }
    // So with changes and deletions.
    let stage = stage(1, &json!({"finishedRetentionSeconds": 0})).await;
    let operator = stage.begin(&[]);
    stage.ready(SET, "True Observed", "").await;
    stage.cluster.fail("PUT taskwatches", 1, Fault::Told(422, "Invalid", "is invalid"));
    stage.cluster.edit(SET, |object| object["spec"]["template"] = json!({"metadata": {"labels": {"team": "blue"}}}));
    until(
        "another try",
        || (child(&stage, "t00")["metadata"]["labels"]["team"] == "blue").then_some(()),
        || stage.cluster.get(SET).unwrap(),
    )
    .await;
    assert_eq!(errors(&operator), 0);
    stage.cluster.fail("DELETE taskwatches", 1, Fault::Refused(500, "InternalError"));
    stage.upstream.set("t00", "completed", &json!({"endTime": stage.cluster.now().to_string()}));
    has(&stage, &[]).await;
    assert_eq!((errors(&operator), stage.cluster.asked("DELETE taskwatches")), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_child_that_somebody_else_changes_meanwhile_gets_the_template_all_the_same() {
    let stage = stage(1, &json!({})).await;
    let operator = stage.begin(&[]);
    stage.ready(SET, "True Observed", "").await;
    // Nothing but the change of the template gives the set a reason to be looked at.
    for (team, conflicts, failed) in [("blue", 1, 0), ("green", 4, 1)] {
        stage.cluster.asked("PUT taskwatches");
        stage.cluster.fail("PUT taskwatches", conflicts, Fault::Refused(409, "Conflict"));
        stage.cluster.edit(SET, |object| object["spec"]["template"] = json!({"metadata": {"labels": {"team": team}}}));
        until(
            "it is as the template says",
            || (child(&stage, "t00")["metadata"]["labels"]["team"] == team).then_some(()),
            || child(&stage, "t00"),
        )
        .await;
        assert_eq!(errors(&operator), failed, "{team}");
    }
}

#[tokio::test(start_paused = true)]
async fn many_children_are_created_a_few_at_a_time_and_no_faster_than_they_may_be() {
    let stage = stage(40, &json!({"limit": 30})).await;
    let operator = stage.begin(&["--child-creates-per-second=5"]);
    until("it begins", || (!tasks(&stage).is_empty()).then_some(()), || "").await;
    let begin = Instant::now();
    until("all are there", || (tasks(&stage).len() == 30).then_some(()), || tasks(&stage).len()).await;
    let took = begin.elapsed().as_secs();
    assert!((4..10).contains(&took), "{took}");
    stage.ready(SET, "True Observed", "spec.limit is 30").await;
    let status = stage.cluster.get(SET).unwrap()["status"].clone();
    assert_eq!((status["matched"].clone(), status["leftOut"].clone()), (json!(40), json!(10)));
    assert_eq!((stage.cluster.asked("POST taskwatches"), errors(&operator)), (30, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_created_comes_before_what_is_said_of_it() {
    let stage = stage(200, &json!({"limit": 200})).await;
    let operator = stage.begin(UNBOUNDED);
    until("all are told", || (told(&stage) == 200).then_some(()), || told(&stage)).await;
    let lines = stage.cluster.wrote();
    let is_told = |line: &String| line.starts_with("PATCH taskwatches n/");
    let created_first = lines.iter().take_while(|line| !is_told(line)).filter(|line| line.starts_with("POST taskw"));
    assert!(created_first.count() >= 192, "all but those of the last turn");
    assert_eq!((lines.iter().filter(|line| is_told(line)).count(), errors(&operator)), (200, 0));
}

#[tokio::test(start_paused = true)]
async fn a_creation_that_takes_long_holds_up_nobody_else_and_its_own_not_for_ever() {
    let stage = stage(200, &json!({"limit": 200})).await;
    stage.cluster.fail("POST taskwatches n/all-t00-", 2, Fault::Silent);
    let operator = stage.begin(UNBOUNDED);
    until("some are there", || (tasks(&stage).len() == 63).then_some(()), || tasks(&stage).len()).await;
    pass(9).await;
    stage.watch("w", "t00", &json!({}));
    let by_hand = Instant::now();
    stage.says("w", "Running 40% Finished False/TaskRunning Synced True/Observed").await;
    assert!(by_hand.elapsed().as_secs() < 2, "{:?}", by_hand.elapsed());
    assert_eq!((told(&stage), errors(&operator)), (1, 0));
    // The next turn takes as long.
    pass(13).await;
    assert_eq!((tasks(&stage).len(), told(&stage), errors(&operator)), (127, 127, 1));
    until("all are told", || (told(&stage) == 201).then_some(()), || told(&stage)).await;
    assert_eq!(errors(&operator), 2);
}

#[tokio::test(start_paused = true)]
async fn a_set_learns_of_trouble_with_its_list_and_of_a_connection_that_is_gone() {
    use crate::engine::tests::upstream::Instead;
    let stage = stage(1, &json!({})).await;
    let _operator = stage.begin(&[]);
    stage.ready(SET, "True Observed", "").await;
    for _ in 0..6 {
        stage.upstream.instead("list", Instead::Answer(500, &[], "{}".to_owned()));
    }
    let synced = || {
        let conditions = stage.cluster.get(SET).unwrap()["status"]["conditions"].as_array().cloned().unwrap();
        conditions
            .iter()
            .find(|condition| condition["type"] == "Synced")
            .map(|synced| synced["reason"].clone())
            .unwrap_or_default()
    };
    until("the trouble is told", || (synced() == "UpstreamUnavailable").then_some(()), synced).await;
    assert_eq!(tasks(&stage), ["t00"], "no list says that it is gone");
    until("its end is told", || (synced() == "Observed").then_some(()), synced).await;
    let connection = stage.connection("c");
    stage.cluster.delete("taskconnections/n/c");
    stage.ready(SET, "False ConnectionNotFound", "").await;
    pass(1).await;
    stage.upstream.asked();
    pass(60).await;
    assert_eq!(stage.upstream.asked(), Vec::<String>::new());
    stage.cluster.create("taskconnections", connection);
    stage.ready(SET, "True Observed", "").await;
    // One that another operator, or a person, has written is written again.
    stage.cluster.edit(SET, |object| object["status"]["conditions"] = json!([]));
    stage.ready(SET, "True Observed", "").await;
    stage.step_clock(jiff::SignedDuration::from_secs(7200));
    pass(30).await;
    assert_eq!(tasks(&stage), ["t00"]);
    let is_going = json!(stage.cluster.now().to_string());
    stage.cluster.edit(SET, |object| object["metadata"]["deletionTimestamp"] = is_going);
    pass(1).await;
    stage.upstream.asked();
    pass(60).await;
    assert_eq!(stage.upstream.count("list"), 0);
}

#[tokio::test(start_paused = true)]
async fn where_the_api_server_fails_no_more_is_begun() {
    let stage = stage(40, &json!({"limit": 40})).await;
    stage.cluster.fail("POST taskwatches", 1000, Fault::Refused(500, "InternalError"));
    let operator = stage.begin(UNBOUNDED);
    until("it has failed", || (errors(&operator) == 1).then_some(()), || errors(&operator)).await;
    let tried = stage.cluster.asked("POST taskwatches");
    assert!((1..=20).contains(&tried), "{tried}: those that were begun together");
}

#[tokio::test(start_paused = true)]
async fn what_a_set_writes_bears_the_operators_name() {
    let stage = stage(1, &json!({})).await;
    let _operator = stage.begin(&[]);
    has(&stage, &["t00"]).await;
    let managers = || child(&stage, "t00")["metadata"]["managedFields"].clone();
    assert_eq!(managers(), json!([{"manager": "taskwatch"}]));
    let of = format!("taskwatches/n/{}", child(&stage, "t00")["metadata"]["name"].as_str().unwrap());
    stage.cluster.edit(&of, |object| object["metadata"]["managedFields"] = json!([]));
    stage.cluster.edit(SET, |object| object["spec"]["template"] = json!({"metadata": {"labels": {"team": "blue"}}}));
    let team = || child(&stage, "t00")["metadata"]["labels"]["team"].clone();
    until("it is as the template says", || (team() == "blue").then_some(()), team).await;
    assert_eq!(managers(), json!([{"manager": "taskwatch"}]));
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_comes_and_goes_is_told_no_sooner_than_other_changes() {
    let template = json!({"spec": {"poll": {"periodSeconds": 5}}});
    let stage = stage(1, &json!({"readyWhen": "NoneFailed", "limit": 50, "template": template})).await;
    let _operator = stage.begin(&[]);
    stage.ready(SET, "True Observed", "").await;
    let listed = async || {
        let before = stage.upstream.count("list");
        until("another list", || (stage.upstream.count("list") > before).then_some(()), || "").await;
        pass(1).await;
    };
    for number in 1..8 {
        stage.upstream.set(&format!("t{number:02}"), "running", &json!({}));
        listed().await;
    }
    // It had been ready for long, and is so again.
    for (state, told) in [("failed", "False TaskFailed"), ("running", "True Observed")] {
        stage.upstream.set("t00", state, &json!({}));
        listed().await;
        stage.ready(SET, told, "").await;
    }
    for state in ["failed", "running", "failed"] {
        stage.upstream.set("t00", state, &json!({}));
        listed().await;
        let (told, _) = ready(&stage.cluster.get(SET).unwrap());
        assert_eq!(told, "True Observed", "{state}");
    }
    stage.ready(SET, "False TaskFailed", "").await;
}

//! `TaskWatchSet`s on the real API server, as objects: what it refuses and says, what it fills in, what kubectl shows of them.

use serde_json::{Value, json};
use taskwatch_harness::workspace_root;

use crate::{
    objects::columns,
    stage::{Stage, all, assert_refused, lay_over},
};

const OWN_KEY: &str = "with the prefix taskwatch.dev/ are set by the operator: choose another key";
const LABEL_KEY: &str = "give the keys of labels: a name of at most 63 letters, digits, -, _ and .";
const LABEL: &str = "give the value of a label: at most 63 letters, digits, -, _ and .";
const ANNOTATION_KEY: &str = "give the keys of annotations: a name of at most 63 letters, digits, -, _ and .";
const NONE_FAILED: &str = "give Failed among match.states, or no states";

fn set(name: &str, more: Value) -> Value {
    let mut spec = json!({"connectionRef": {"name": "c"}});
    lay_over(&mut spec, more);
    json!({"kind": "TaskWatchSet", "metadata": {"name": name}, "spec": spec})
}

fn template(of: &str, keys: Value) -> Value {
    let mut metadata = json!({});
    metadata[of] = keys;
    set("s", json!({"template": {"metadata": metadata}}))
}

fn labels(labels: Value) -> Value {
    template("labels", labels)
}

fn annotations(annotations: Value) -> Value {
    template("annotations", annotations)
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let stage = Stage::new("set-refusals").await;
    let matching = |more: Value| set("s", json!({"match": more}));
    let many = |n: usize| (0..n).map(|n| format!("t{n}")).collect::<Vec<_>>();
    let mut without = set("s", json!({}));
    without["spec"] = json!({"limit": 5});
    let long_prefix = format!("{}/a", vec!["a".repeat(60); 5].join("."));
    let cases = [
        (without, "spec.connectionRef: Required value"),
        (set("s", json!({"scope": "../admin"})), "give the identifier alone, not a URL"),
        (set("s", json!({"limit": 0})), "should be greater than or equal to 1"),
        (set("s", json!({"limit": 5001})), "should be less than or equal to 5000"),
        (set("s", json!({"finishedRetentionSeconds": -1})), "should be greater than or equal to 0"),
        (set("s", json!({"readyWhen": "TaskSucceeded"})), "supported values: \"Observed\", \"NoneFailed\""),
        (set("s", json!({"readyWhen": "NoneFailed", "match": {"states": ["Running"]}})), NONE_FAILED),
        (matching(json!({"states": ["running"]})), "supported values: \"Pending\", \"Running\", \"Paused\""),
        (matching(json!({"states": ["Lost"]})), "supported values: \"Pending\", \"Running\", \"Paused\""),
        (matching(json!({"types": [""]})), "spec.match.types[0]"),
        (matching(json!({"types": many(33)})), "must have at most 32 items"),
        (matching(json!({"nameContains": ""})), "spec.match.nameContains"),
        (matching(json!({"newerThanSeconds": 0})), "should be greater than or equal to 1"),
        (matching(json!({"parents": "Top"})), "supported values: \"TopLevel\", \"All\""),
        (labels(json!({"taskwatch.dev/set": "mine"})), OWN_KEY),
        (labels(json!({"a b": "c"})), LABEL_KEY),
        (labels(json!({"Example.com/a": "c"})), LABEL_KEY),
        (labels(json!({"a/b/c": "d"})), LABEL_KEY),
        (labels(json!({"x".repeat(64): "c"})), LABEL_KEY),
        (labels(json!({long_prefix: "c"})), LABEL_KEY),
        (labels(json!({"a": "b c"})), LABEL),
        (labels(json!({"a": "-"})), LABEL),
        (labels(json!({"a": "x".repeat(64)})), "63"),
        (labels(many(33).into_iter().map(|key| (key, json!("v"))).collect()), "must have at most 32 items"),
        (annotations(json!({"taskwatch.dev/template": "mine"})), OWN_KEY),
        (annotations(json!({"a b": "c"})), ANNOTATION_KEY),
        (annotations(json!({"a": "x".repeat(1025)})), "1024"),
        (
            set("s", json!({"template": {"spec": {"poll": {"periodSeconds": 60, "maxPeriodSeconds": 5}}}})),
            "maxPeriodSeconds must not be less than periodSeconds",
        ),
        (
            set("s", json!({"template": {"spec": {"onNotFound": "Ignore"}}})),
            "supported values: \"Fail\", \"Succeed\", \"Retry\"",
        ),
    ];
    all(cases.into_iter().map(|(object, sentence)| {
        let stage = &stage;
        async move {
            let told: String = object.to_string().chars().take(1000).collect();
            assert_refused(stage.try_put(object).await, &told, sentence);
        }
    }))
    .await;
    // The rule does not cost more than a rule may: the length comes first.
    let endless = labels(json!({"x".repeat(100_000): "c"}));
    assert_refused(stage.try_create(endless).await, "a key of 100,000 characters", LABEL_KEY);
}

#[tokio::test]
async fn what_may_be_given_is_taken() {
    let stage = Stage::new("set-taken").await;
    let states = ["Pending", "Running", "Paused", "Succeeded", "Failed", "Cancelled"];
    let widest = vec!["a".repeat(63); 3].join(".");
    for more in [
        json!({"match": {"states": states, "types": ["astra.backup*", "?"], "parents": "All"}}),
        json!({"readyWhen": "NoneFailed", "match": {"states": ["Running", "Failed"]}}),
        json!({"readyWhen": "NoneFailed", "match": {"states": []}}),
        json!({"readyWhen": "NoneFailed"}),
        json!({"template": {"metadata": {
            "labels": {"app.kubernetes.io/managed-by": "Helm", "a": "", format!("{widest}/{}", "n".repeat(63)): "v".repeat(63)},
            "annotations": {"example.com/A_b.c": "any text\n{}", "Example.com/a": "x".repeat(1024)},
        }}}),
    ] {
        stage.put(set("s", more)).await;
    }
}

#[tokio::test]
async fn what_is_immutable_stays() {
    let stage = Stage::new("set-immutable").await;
    for (name, scope) in [("without", json!({})), ("with", json!({"scope": "a"}))] {
        stage.put(set(name, scope.clone())).await;
        for (change, sentence) in [
            (json!({"connectionRef": {"name": "other"}}), "connectionRef is immutable: delete the TaskWatchSet"),
            (json!({"scope": "b"}), "scope is immutable: delete the TaskWatchSet and create another"),
        ] {
            let refused = stage.try_put(set(name, change)).await.unwrap_err();
            assert!(refused.to_string().contains(sentence), "{refused}");
        }
        let mut other = scope;
        lay_over(&mut other, json!({"limit": 5, "suspend": true, "match": {"parents": "All"}}));
        stage.put(set(name, other)).await;
    }
    let refused = stage.try_put(set("with", json!({}))).await.unwrap_err();
    assert!(refused.to_string().contains("scope is immutable"), "{refused}");
}

#[tokio::test]
async fn defaults_are_filled_in() {
    let stage = Stage::new("set-defaults").await;
    assert_eq!(
        stage.put(set("s", json!({"match": {}, "template": {"spec": {}}}))).await.data,
        json!({
            "spec": {
                "connectionRef": {"kind": "TaskConnection", "name": "c"},
                "match": {"parents": "TopLevel"},
                "limit": 100,
                "finishedRetentionSeconds": 3600,
                "suspend": false,
                "readyWhen": "Observed",
                "template": {"spec": {"readyWhen": "TaskSucceeded", "onNotFound": "Fail"}},
            },
            "status": {"observedGeneration": -1},
        })
    );
}

/// The status that the operator would write is laid in by hand, so that every column has something to show.
#[tokio::test]
async fn kubectl_shows_the_columns() {
    let stage = Stage::new("set-columns").await;
    stage.put(set("s", json!({}))).await;
    stage.put(set("new", json!({}))).await;
    let status = json!({"observedGeneration": 1, "matched": 130, "watched": 100, "leftOut": 30,
        "states": {"Running": 120, "Failed": 10}, "oldestRunningTime": "2026-01-02T03:04:05Z",
        "newest": [{"taskID": "t", "name": "n", "state": "Failed", "percent": 5, "message": "sold out"}],
        "conditions": [{"type": "Ready", "status": "False", "reason": "TaskFailed", "message": "10 tasks have failed",
            "lastTransitionTime": "2026-01-02T03:04:05Z"}]});
    stage.put_status("TaskWatchSet", "s", status).await;
    assert_eq!(
        columns(&stage.kubectl(&["get", "taskwatchsets"]).await),
        "NAME|MATCHED|RUNNING|FAILED|READY|AGE\n\
         new|||||<age>\n\
         s|130|120|10|False|<age>\n"
    );
    assert_eq!(
        columns(&stage.kubectl(&["get", "tws", "--output", "wide"]).await),
        "NAME|MATCHED|RUNNING|FAILED|READY|AGE|CONNECTION|LEFT-OUT|REASON|MESSAGE\n\
         new|||||<age>|c|||\n\
         s|130|120|10|False|<age>|c|30|TaskFailed|10 tasks have failed\n"
    );
    let of = ["get", "tws", "--field-selector", "spec.connectionRef.name=c", "--output", "name"];
    assert_eq!(stage.kubectl(&of).await.lines().count(), 2);
    let every = stage.kubectl(&["get", "taskwatch-all", "--output", "name"]).await;
    assert!(every.lines().any(|line| line == "taskwatchset.taskwatch.dev/s"), "{every}");
}

#[tokio::test]
async fn the_sample_is_taken() {
    let stage = Stage::new("set-sample").await;
    let file = workspace_root().join("deploy/samples/taskwatchset.yaml");
    let taken = stage.kubectl(&["create", "--filename", file.to_str().unwrap(), "--output", "name"]).await;
    assert_eq!(taken.trim(), "taskwatchset.taskwatch.dev/backups");
}

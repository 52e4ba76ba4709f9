//! The objects on the real API server: what it refuses and says, what it fills in, what kubectl shows of them.

use kube::{Api, api::ListParams};
use serde_json::{Value, json};
use taskwatch::api::TaskWatch;

use crate::stage::{HUAWEI, Stage, all, assert_refused, lay_over, watch_object};

const ID: &str = "give the identifier alone, not a URL";
const URL: &str = "give an absolute URL that begins with https://";
const NAME: &str = "give the name of an object: lower-case letters, digits, - and .";

fn connection(more: Value) -> Value {
    let mut spec = json!({
        "provider": {"huaweiCloud": {"endpoint": "https://evs.example", "projectID": "p"}},
        "auth": {"token": {"secretRef": {"name": "s"}}},
    });
    lay_over(&mut spec, more);
    json!({"kind": "TaskConnection", "metadata": {"name": "c"}, "spec": spec})
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let stage = Stage::new("objects-refusals").await;
    let watch = |more| watch_object("w", "c", "task", more);
    let provider = |more: Value| connection(json!({"provider": {"huaweiCloud": more}}));
    let auth = |more: Value| connection(json!({"auth": more}));
    let namespaces = |allowed: Value| {
        let mut object = connection(json!({"allowedNamespaces": allowed}));
        object["kind"] = "ClusterTaskConnection".into();
        object
    };
    let mut bare = connection(json!({}));
    bare["spec"]["auth"] = json!({});
    let mut nothing = connection(json!({}));
    nothing["spec"]["provider"] = json!({});
    let astra = json!({"astraControl": {"endpoint": "https://a.example", "accountID": "a"}});
    let secret = json!({"secretRef": {"name": "s"}});
    let keystone = |project: Value| {
        let mut object = bare.clone();
        object["spec"]["auth"] = json!({"keystone":
            {"endpoint": "https://iam.example", "secretRef": {"name": "s"}, "project": project}});
        object
    };
    let cases = [
        (connection(json!({"provider": astra})), "give exactly one provider: huaweiCloud, cloudRu or astraControl"),
        (nothing, "give exactly one provider: huaweiCloud, cloudRu or astraControl"),
        (
            auth(json!({"accessKey": secret})),
            "give exactly one credential: token, keystone, accessKey, cloudRuKey or oauth2",
        ),
        (bare.clone(), "give exactly one credential: token, keystone, accessKey, cloudRuKey or oauth2"),
        (keystone(json!({"id": "p", "name": "n"})), "give the project either by id or by name"),
        (keystone(json!({"id": "p", "domain": "d"})), "domain goes with name; a project id needs none"),
        (watch(json!({"task": {"id": ".."}})), ID),
        (watch(json!({"task": {"id": "a?b=c"}})), ID),
        (watch(json!({"task": {"id": ""}})), "spec.task.id"),
        (watch(json!({"task": {"scope": "../admin"}})), ID),
        (watch(json!({"connectionRef": {"name": "Not_A_Name"}})), NAME),
        (
            watch(json!({"connectionRef": {"kind": "Secret"}})),
            "supported values: \"TaskConnection\", \"ClusterTaskConnection\"",
        ),
        (watch(json!({"poll": {"periodSeconds": 0}})), "should be greater than or equal to 1"),
        (
            watch(json!({"poll": {"periodSeconds": 60, "maxPeriodSeconds": 5}})),
            "maxPeriodSeconds must not be less than periodSeconds",
        ),
        (watch(json!({"poll": {"staleAfterSeconds": 9}})), "should be greater than or equal to 10"),
        (watch(json!({"activeDeadlineSeconds": 0})), "should be greater than or equal to 1"),
        (watch(json!({"ttlSecondsAfterFinished": -1})), "should be greater than or equal to 0"),
        (watch(json!({"notFoundGraceSeconds": 90000})), "should be less than or equal to 86400"),
        (watch(json!({"onNotFound": "Ignore"})), "supported values: \"Fail\", \"Succeed\", \"Retry\""),
        (provider(json!({"endpoint": "evs.example"})), URL),
        (provider(json!({"endpoint": "ftp://evs.example"})), URL),
        (provider(json!({"endpoint": "https://user:pass@evs.example"})), URL),
        (provider(json!({"endpoint": "https://evs.example/?a=b"})), URL),
        (provider(json!({"projectID": "a/../b"})), ID),
        (connection(json!({"rateLimit": {"requestsPerSecond": 0}})), "should be greater than or equal to 1"),
        (connection(json!({"rateLimit": {"maxInFlight": 1000}})), "should be less than or equal to 256"),
        (connection(json!({"requestTimeoutSeconds": 301})), "should be less than or equal to 300"),
        (
            connection(json!({"poll": {"minPeriodSeconds": 10, "maxPeriodSeconds": 5}})),
            "maxPeriodSeconds must not be less than minPeriodSeconds",
        ),
        (
            connection(json!({"tls": {"caBundle": "x", "caBundleRef": {"name": "x"}}})),
            "give either caBundle or caBundleRef, not both",
        ),
        (connection(json!({"allowedScopes": ["a b"]})), ID),
        (namespaces(json!({"names": ["team-*"]})), "to allow namespaces by label, use selector"),
    ];
    all(cases.into_iter().map(|(object, sentence)| {
        let stage = &stage;
        async move {
            let told = object.to_string();
            assert_refused(stage.try_put(object).await, &told, sentence);
        }
    }))
    .await;
}

#[tokio::test]
async fn what_is_immutable_stays() {
    let stage = Stage::new("objects-immutable").await;
    stage.watch("w", "c", "task", json!({})).await;
    for (change, sentence) in [
        (json!({"task": {"id": "other"}}), "task is immutable: delete the TaskWatch and create another"),
        (json!({"task": {"scope": "other"}}), "task is immutable: delete the TaskWatch and create another"),
        (
            json!({"connectionRef": {"name": "other"}}),
            "connectionRef is immutable: delete the TaskWatch and create another",
        ),
    ] {
        let refused = stage.try_put(watch_object("w", "c", "task", change)).await.unwrap_err();
        assert!(refused.to_string().contains(sentence), "{refused}");
    }
    stage.watch("w", "c", "task", json!({"suspend": true, "activeDeadlineSeconds": 5})).await;
}

#[tokio::test]
async fn defaults_are_filled_in() {
    let stage = Stage::new("objects-defaults").await;
    let watch = json!({"kind": "TaskWatch", "metadata": {"name": "w"},
        "spec": {"connectionRef": {"name": "c"}, "task": {"id": "task"}}});
    assert_eq!(
        stage.put(watch).await.data,
        json!({
            "spec": {
                "connectionRef": {"kind": "TaskConnection", "name": "c"},
                "task": {"id": "task"},
                "readyWhen": "TaskSucceeded",
                "onNotFound": "Fail",
                "notFoundGraceSeconds": 60,
                "suspend": false,
            },
            "status": {"observedGeneration": -1},
        })
    );
    assert_eq!(
        stage.put(connection(json!({"poll": {"mode": "Get"}}))).await.data,
        json!({
            "spec": {
                "provider": {"huaweiCloud": {"endpoint": "https://evs.example", "projectID": "p"}},
                "auth": {"token": {"secretRef": {"name": "s", "key": "token"}}},
                "rateLimit": {"requestsPerSecond": 5, "burst": 10, "maxInFlight": 8},
                "poll": {"minPeriodSeconds": 5, "maxPeriodSeconds": 300, "mode": "Get"},
                "requestTimeoutSeconds": 15,
            },
            "status": {"observedGeneration": -1},
        })
    );
}

#[tokio::test]
async fn every_field_is_explained() {
    let stage = Stage::new("objects-explain").await;
    let mut left = vec![
        "taskwatch.spec".to_owned(),
        "taskwatch.status".to_owned(),
        "taskwatchset.spec".to_owned(),
        "taskwatchset.status".to_owned(),
        "taskconnection.spec".to_owned(),
        "taskconnection.status".to_owned(),
        "clustertaskconnection.spec.allowedNamespaces".to_owned(),
    ];
    let mut fields = 0;
    while !left.is_empty() {
        let explained =
            all(left.iter().map(|path| async { (path.clone(), stage.kubectl(&["explain", path]).await) })).await;
        left.clear();
        for (path, text) in explained {
            assert!(!text.contains("<no description>") && !text.contains("<empty>"), "{path}:\n{text}");
            let (_, listed) = text.split_once("FIELDS:\n").unwrap_or_default();
            // `  name<tab><type> …`, and under it the description.
            for line in listed.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
                let Some((name, kind)) = line.trim().split_once('\t') else { continue };
                fields += 1;
                if kind.contains("Object") && !kind.contains("map[") {
                    left.push(format!("{path}.{name}"));
                }
            }
        }
    }
    assert!(fields > 100, "{fields} fields were found");
}

/// The status that the operator would write is laid in by hand, so that every column has something to show.
#[tokio::test]
async fn kubectl_shows_the_columns() {
    let stage = Stage::new("objects-columns").await;
    stage.put(connection(json!({}))).await;
    let ready = |status: &str, reason: &str, message: &str| {
        json!([{"type": "Ready", "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-01-02T03:04:05Z"}])
    };
    for (name, status) in [
        (
            "failed",
            json!({"state": "Failed", "task": {"id": "task-failed"}, "progress": {"percent": 20, "display": "20%"},
            "startTime": "2026-01-02T03:04:05Z", "completionTime": "2026-01-02T03:05:05Z",
            "conditions": ready("False", "TaskFailed", "sold out (EVS.5400)")}),
        ),
        (
            "running",
            json!({"state": "Running", "task": {"id": "task-running"}, "conditions": ready("Unknown", "TaskRunning", "The task is running upstream.")}),
        ),
    ] {
        stage.watch(name, "c", &format!("task-{name}"), json!({})).await;
        stage.put_status("TaskWatch", name, status).await;
    }
    stage.watch("new", "other", "task-new", json!({})).await;
    let status = json!({"watches": {"active": 2, "finished": 1}, "mode": "Get", "lastSuccessTime": "2026-01-02T03:04:05Z",
        "conditions": ready("True", "Connected", "The upstream answers")});
    stage.put_status("TaskConnection", "c", status).await;

    let plain = stage.kubectl(&["get", "taskwatches"]).await;
    assert_eq!(
        columns(&plain),
        "NAME|STATE|PROGRESS|READY|AGE\n\
         failed|Failed|20%|False|<age>\n\
         new||||<age>\n\
         running|Running||Unknown|<age>\n"
    );
    let wide = stage.kubectl(&["get", "tw", "--output", "wide"]).await;
    assert_eq!(
        columns(&wide),
        "NAME|STATE|PROGRESS|READY|AGE|TASK|CONNECTION|REASON|MESSAGE|STARTED|FINISHED\n\
         failed|Failed|20%|False|<age>|task-failed|c|TaskFailed|sold out (EVS.5400)|<age>|<age>\n\
         new||||<age>||other||||\n\
         running|Running||Unknown|<age>|task-running|c|TaskRunning|The task is running upstream.||\n"
    );
    assert_eq!(
        columns(&stage.kubectl(&["get", "tc", "--output", "wide"]).await),
        "NAME|READY|ENDPOINT|ACTIVE|REASON|AGE|MESSAGE|FINISHED|MODE|SUCCESS\n\
         c|True|https://evs.example|2|Connected|<age>|The upstream answers|1|Get|<age>\n"
    );

    let names = |selector: &'static str| async move {
        let text = stage_names(selector).await;
        text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names("status.state=Failed").await, ["taskwatch.taskwatch.dev/failed"]);
    assert_eq!(names("status.state!=Failed").await, ["taskwatch.taskwatch.dev/new", "taskwatch.taskwatch.dev/running"]);
    assert_eq!(names("spec.task.id=task-new").await, ["taskwatch.taskwatch.dev/new"]);
    assert_eq!(names("spec.connectionRef.name=c,status.state=Running").await, ["taskwatch.taskwatch.dev/running"]);

    let every = stage.kubectl(&["get", "taskwatch-all", "--output", "name"]).await;
    for name in ["taskwatch.taskwatch.dev/failed", "taskconnection.taskwatch.dev/c"] {
        assert!(every.lines().any(|line| line == name), "{every}");
    }
    // The name of a kind is that of the kind, not of a category.
    let one = stage.kubectl(&["get", "taskwatch", "failed", "--output", "name"]).await;
    assert_eq!(one.trim(), "taskwatch.taskwatch.dev/failed");

    let api: Api<TaskWatch> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let listed = api.list(&ListParams::default().fields("status.state=Running")).await.unwrap();
    assert_eq!(listed.items.len(), 1);
}

async fn stage_names(selector: &str) -> String {
    let args = ["--namespace", "objects-columns", "get", "tw", "--output", "name", "--field-selector", selector];
    crate::stage::plane().await.kubectl(&args).await.unwrap().success().unwrap()
}

/// A table of kubectl with `|` between its columns, whose places the headings give; ages are replaced.
pub fn columns(table: &str) -> String {
    let heading = table.lines().next().unwrap_or_default();
    let mut starts: Vec<usize> = Vec::new();
    for (at, _) in heading.char_indices().filter(|(_, sign)| *sign != ' ') {
        if at == 0 || heading[..at].ends_with("  ") {
            starts.push(at);
        }
    }
    let mut out = String::new();
    for line in table.lines() {
        let cells = starts.iter().enumerate().map(|(n, &start)| {
            let end = starts.get(n + 1).map_or(line.len(), |&end| end.min(line.len()));
            let cell = line.get(start..end).unwrap_or_default().trim();
            let is_age = cell.starts_with(|c: char| c.is_ascii_digit())
                && cell.ends_with(|c| "smhdy".contains(c))
                && cell.chars().all(|c| c.is_ascii_digit() || "smhdy".contains(c));
            if is_age { "<age>" } else { cell }
        });
        out.push_str(&cells.collect::<Vec<_>>().join("|"));
        out.push('\n');
    }
    out
}

/// Every sample is taken as it is.
#[tokio::test]
async fn a_connection_of_each_kind_is_taken() {
    let stage = Stage::new("objects-taken").await;
    let secret = json!({"name": "s"});
    let auths = [
        json!({"token": {"secretRef": secret}}),
        json!({"keystone": {"endpoint": "https://iam.example/", "secretRef": secret, "project": {"name": "n", "domain": "d"}}}),
        json!({"accessKey": {"secretRef": secret}}),
        json!({"cloudRuKey": {"secretRef": secret}}),
        json!({"oauth2": {"tokenURL": "https://a.example:8443/token", "secretRef": secret, "scopes": ["read"]}}),
    ];
    for (n, auth) in auths.into_iter().enumerate() {
        stage.connection(&format!("c{n}"), HUAWEI, "p", auth, json!({"allowedScopes": ["*"]})).await;
    }
}

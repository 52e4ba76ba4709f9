//! `TaskWatchSet`: a `TaskWatch` for each task of an account that matches.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, PropagationPolicy},
};
use serde_json::{Value, json};
use taskwatch::api::{TaskWatch, TaskWatchSet, TaskWatchSetStatus};
use taskwatch_harness::{ControlPlane, ControlPlaneOptions, eventually};

use crate::stage::{ASTRA, HUAWEI, SECRET, SOON, Stage, install, lay_over};

const SET: &str = "taskwatch.dev/set";

impl Stage {
    /// A set that lists every second; `more` is laid over its spec.
    pub async fn set(&self, name: &str, connection: &str, more: Value) {
        let mut spec = json!({
            "connectionRef": {"name": connection},
            "template": {"spec": {"poll": {"periodSeconds": 1, "maxPeriodSeconds": 1}}},
        });
        lay_over(&mut spec, more);
        self.put(json!({"kind": "TaskWatchSet", "metadata": {"name": name}, "spec": spec})).await;
    }

    fn sets(&self) -> Api<TaskWatchSet> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn watches(&self) -> Api<TaskWatch> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The children of a set, by task.
    pub async fn children(&self, set: &str) -> Result<BTreeMap<String, TaskWatch>> {
        let list = self.watches().list(&ListParams::default().labels(&format!("{SET}={set}"))).await?;
        Ok(list.items.into_iter().map(|watch| (watch.spec.task.id.clone().unwrap(), watch)).collect())
    }

    /// Waits until a set is as `probe` wants it.
    async fn until_set<T>(&self, name: &str, what: &str, probe: impl Fn(&TaskWatchSetStatus) -> Result<T>) -> T {
        eventually(SOON, &format!("{name}: {what}"), || async {
            let status = self.sets().get(name).await?.status.context("it has no status")?;
            probe(&status).with_context(|| serde_json::to_string(&status).unwrap_or_default())
        })
        .await
        .unwrap()
    }

    /// Waits until a set has exactly these children, each in its state.
    pub async fn until_children(&self, set: &str, wanted: &[(&str, &str)]) {
        let wanted: BTreeMap<_, _> = wanted.iter().map(|(id, state)| ((*id).to_owned(), (*state).to_owned())).collect();
        eventually(SOON, &format!("the children of {set}"), || async {
            let state = |watch: TaskWatch| watch.status.and_then(|status| status.state).unwrap_or_default();
            let found: BTreeMap<_, _> =
                self.children(set).await?.into_iter().map(|(id, watch)| (id, state(watch))).collect();
            ensure!(found == wanted, "{found:?}");
            Ok(())
        })
        .await
        .unwrap();
    }
}

/// Whether a request that the simulator tells of was for a list.
fn is_list(request: &Value) -> bool {
    request["path"].as_str().is_some_and(|path| path.ends_with("/tasks"))
}

/// The status of a condition and its reason.
fn condition<'a>(status: &'a TaskWatchSetStatus, kind: &str) -> (&'a str, &'a str) {
    let found = status.conditions.iter().find(|condition| condition.type_ == kind);
    found.map_or(("-", "-"), |condition| (condition.status.as_str(), condition.reason.as_str()))
}

fn says<'a>(status: &'a TaskWatchSetStatus, kind: &str) -> &'a str {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind)
        .map_or("", |condition| condition.message.as_str())
}

#[tokio::test]
async fn each_task_that_matches_has_a_watch_while_it_lasts_and_for_a_time_after() {
    let stage = Stage::new("sets").await;
    stage.upstream(ASTRA, "account").await;
    for (id, state) in [("a", "running"), ("b", "notStarted"), ("old", "completed")] {
        stage.task(ASTRA, "account", id, json!([{"state": state}])).await;
    }
    let _operator = stage.operator(&[]).await;
    stage
        .set("all", "account", json!({"match": {"states": ["Pending", "Running"]}, "finishedRetentionSeconds": 3600}))
        .await;
    stage.until_children("all", &[("a", "Running"), ("b", "Pending")]).await;
    let status = stage
        .until_set("all", "is ready", |status| {
            ensure!(condition(status, "Ready").0 == "True");
            Ok(status.clone())
        })
        .await;
    assert_eq!((status.matched, status.watched, status.left_out), (Some(2), Some(2), Some(0)), "{status:?}");
    assert_eq!(status.states, BTreeMap::from([("Pending".to_owned(), 1), ("Running".to_owned(), 1)]));
    // What it is made of.
    let child = stage.children("all").await.unwrap().remove("a").unwrap();
    let owner = &child.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.name.as_str(), owner.controller), ("TaskWatchSet", "all", Some(true)));
    assert_eq!(child.labels()["taskwatch.dev/task"], "a");
    assert_eq!(child.annotations()["argocd.argoproj.io/ignore-resource-updates"], "true");
    // One begins, one ends, one that somebody deletes comes back.
    stage.task(ASTRA, "account", "c", json!([{"state": "running"}])).await;
    stage.step(ASTRA, "account", "a", json!({"state": "completed"})).await;
    let name = stage.children("all").await.unwrap()["b"].name_any();
    stage.watches().delete(&name, &DeleteParams::default()).await.unwrap();
    stage.until_children("all", &[("a", "Succeeded"), ("b", "Pending"), ("c", "Running")]).await;
    // kubectl, as people look.
    let table = stage.kubectl(&["get", "tws"]).await;
    assert!(table.starts_with("NAME") && table.contains("MATCHED") && table.contains("READY"), "{table}");
    // Kept no longer.
    stage.change("TaskWatchSet", "all", json!({"spec": {"finishedRetentionSeconds": 0}})).await;
    stage.until_children("all", &[("b", "Pending"), ("c", "Running")]).await;
    // What was deleted is not counted until a later write.
    eventually(Duration::from_secs(10), "it counts what is left", || async {
        let status = stage.sets().get("all").await?.status.context("it has no status")?;
        ensure!((status.matched, status.watched) == (Some(2), Some(2)), "{status:?}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_limit_a_match_and_a_template_can_be_changed() {
    let stage = Stage::new("sets-changed").await;
    stage.upstream(ASTRA, "account").await;
    for (n, id) in ["t0", "t1", "t2", "t3"].iter().enumerate() {
        let ago = 60 - 10 * n;
        stage
            .admin(
                "PUT",
                &format!("/tasks/{ASTRA}/account/{id}"),
                json!({"name": format!("kind.{n}"), "ago": ago, "steps": [{"state": "running"}]}),
            )
            .await;
    }
    let _operator = stage.operator(&[]).await;
    stage
        .set(
            "some",
            "account",
            json!({"limit": 2, "template": {"metadata": {"labels": {"team": "red", "old": "yes"}}}}),
        )
        .await;
    stage.until_children("some", &[("t2", "Running"), ("t3", "Running")]).await;
    stage
        .until_set("some", "tells what is left out", |status| {
            ensure!((status.matched, status.left_out) == (Some(4), Some(2)));
            Ok(())
        })
        .await;
    stage.change("TaskWatchSet", "some", json!({"spec": {"limit": 3}})).await;
    stage.until_children("some", &[("t1", "Running"), ("t2", "Running"), ("t3", "Running")]).await;
    stage.change("TaskWatchSet", "some", json!({"spec": {"match": {"types": ["kind.1", "kind.2*"]}}})).await;
    stage.until_children("some", &[("t1", "Running"), ("t2", "Running")]).await;
    // In place: the watch is the same one.
    let before = stage.children("some").await.unwrap().remove("t1").unwrap();
    let mine = json!({"metadata": {"labels": {"mine": "stays"}}});
    stage.change("TaskWatch", &before.name_any(), mine).await;
    let template = json!({"metadata": {"labels": {"team": "blue", "old": null}}, "spec": {"onNotFound": "Succeed"}});
    stage.change("TaskWatchSet", "some", json!({"spec": {"template": template}})).await;
    eventually(SOON, "the template is applied", || async {
        let child = stage.children("some").await?.remove("t1").context("it is gone")?;
        ensure!(child.metadata.uid == before.metadata.uid, "it was made anew");
        let labels = child.labels();
        ensure!(labels.get("team").is_some_and(|team| team == "blue") && !labels.contains_key("old"), "{labels:?}");
        ensure!(labels.get("mine").is_some_and(|mine| mine == "stays"), "{labels:?}");
        ensure!(format!("{:?}", child.spec.on_not_found) == "Succeed", "{:?}", child.spec.on_not_found);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn what_a_person_made_is_never_taken_over() {
    let stage = Stage::new("sets-foreign").await;
    stage.upstream(ASTRA, "account").await;
    stage.task(ASTRA, "account", "a", json!([{"state": "running"}])).await;
    let name = taskwatch_child_name(&stage, "mine", "a").await;
    stage.watch(&name, "account", "a", json!({"onNotFound": "Retry"})).await;
    let before = stage.get(&name).await.unwrap();
    let _operator = stage.operator(&[]).await;
    stage.set("mine", "account", json!({})).await;
    let message = stage
        .until_set("mine", "says so", |status| {
            ensure!(condition(status, "Ready") == ("False", "NameConflict"), "{:?}", condition(status, "Ready"));
            ensure!(condition(status, "Stalled").0 == "True");
            Ok(says(status, "Ready").to_owned())
        })
        .await;
    assert!(message.contains(&name), "{message}");
    let after = stage.get(&name).await.unwrap();
    assert_eq!((before.metadata.uid, before.spec), (after.metadata.uid, after.spec));
    // Out of the way.
    stage.delete("TaskWatch", &name).await;
    eventually(Duration::from_secs(120), "its own is there", || async {
        ensure!(stage.children("mine").await?.contains_key("a"));
        Ok(())
    })
    .await
    .unwrap();
}

/// What the child of a set would be called: it is made and deleted.
async fn taskwatch_child_name(stage: &Stage, set: &str, id: &str) -> String {
    let operator = stage.operator(&[]).await;
    stage.set(set, "account", json!({})).await;
    stage.until_children(set, &[(id, "Running")]).await;
    let name = stage.children(set).await.unwrap()[id].name_any();
    operator.process().stop().await.unwrap();
    stage.delete("TaskWatchSet", set).await;
    stage.delete("TaskWatch", &name).await;
    name
}

#[tokio::test]
async fn a_quota_and_an_upstream_without_lists_are_told() {
    let stage = Stage::new("sets-told").await;
    stage.upstream(ASTRA, "account").await;
    stage.upstream(HUAWEI, "project").await;
    for id in ["a", "b", "c"] {
        stage.task(ASTRA, "account", id, json!([{"state": "running"}])).await;
    }
    // Nobody keeps its status in step here: what is used is said to be all.
    let quota = json!({"hard": {"count/taskwatches.taskwatch.dev": "0"}});
    stage.put(json!({"kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": quota})).await;
    let status =
        json!({"hard": {"count/taskwatches.taskwatch.dev": "0"}, "used": {"count/taskwatches.taskwatch.dev": "0"}});
    stage.put_status("ResourceQuota", "few", status).await;
    let _operator = stage.operator(&[]).await;
    stage.set("many", "account", json!({})).await;
    stage.set("none", "project", json!({})).await;
    let message = stage
        .until_set("many", "tells of the quota", |status| {
            ensure!(condition(status, "Ready") == ("False", "QuotaExceeded"), "{:?}", condition(status, "Ready"));
            Ok(says(status, "Ready").to_owned())
        })
        .await;
    assert!(message.contains("few"), "{message}");
    stage
        .until_set("none", "says that there is no list", |status| {
            ensure!(condition(status, "Stalled") == ("True", "ListNotSupported"), "{:?}", condition(status, "Stalled"));
            Ok(())
        })
        .await;
    let (requests, _) = stage.requests(0).await;
    let asked = requests.iter().filter(|request| request["scope"] == "project").count();
    assert_eq!(asked, 0, "nothing is asked of it");
    stage.delete("ResourceQuota", "few").await;
    eventually(Duration::from_secs(120), "they are created", || async {
        let found = stage.children("many").await?.len();
        ensure!(found == 3, "{found}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_list_that_fails_deletes_nothing_and_costs_one_request_a_period() {
    let stage = Stage::new("sets-failing").await;
    stage.upstream(ASTRA, "account").await;
    let ids: Vec<_> = (0..20).map(|n| format!("t{n}")).collect();
    for id in &ids {
        stage.task(ASTRA, "account", id, json!([{"state": "running"}])).await;
    }
    let operator = stage.operator(&[]).await;
    for set in ["one", "two", "three"] {
        stage.set(set, "account", json!({})).await;
    }
    for id in &ids {
        stage.watch(&format!("own-{id}"), "account", id, json!({})).await;
    }
    let wanted: Vec<_> = ids.iter().map(|id| (id.as_str(), "Running")).collect();
    for set in ["one", "two", "three"] {
        stage.until_children(set, &wanted).await;
    }
    for id in &ids {
        stage
            .until(&format!("own-{id}"), "runs", |status| {
                ensure!(status.state.as_deref() == Some("Running"));
                Ok(())
            })
            .await;
    }
    // At rest: one list a second at most, nothing asked for singly, nothing written.
    let versions = |watches: Vec<TaskWatch>| -> Vec<_> {
        watches.into_iter().map(|watch| (watch.name_any(), watch.resource_version())).collect()
    };
    let all = || async { versions(stage.watches().list(&ListParams::default()).await.unwrap().items) };
    let (before, (_, since)) = (all().await, stage.requests(0).await);
    let quiet = Duration::from_secs(10);
    tokio::time::sleep(quiet).await;
    let (requests, since) = stage.requests(since).await;
    let lists = requests.iter().filter(|request| is_list(request)).count();
    assert_eq!(lists, requests.len(), "{:?}", requests.first());
    assert!((4..=11).contains(&lists), "{lists} lists in {quiet:?}");
    assert_eq!(before, all().await);
    // Lists fail; then only their first page comes.
    let next_page = json!({"scope": "account", "kind": "list", "query": "continue"});
    for matching in [json!({"scope": "account", "kind": "list"}), next_page] {
        let is_second = matching["query"].is_string();
        if is_second {
            let scope = json!({"name": "account", "credentials": [{"kind": "token", "token": SECRET}],
                "options": {"pageSize": 7, "acceptContinue": true}});
            stage.admin("PUT", &format!("/scopes/{ASTRA}/account"), scope).await;
        }
        let fault = stage.fault(matching, json!({"kind": "status", "status": 503})).await;
        let (_, begun) = stage.requests(since).await;
        // Some have failed: nothing follows from that.
        eventually(SOON, "lists fail", || async {
            let (requests, _) = stage.requests(begun).await;
            let failed = requests.iter().filter(|request| request["status"] == 503).count();
            ensure!(failed >= 3, "{failed}");
            Ok(())
        })
        .await
        .unwrap();
        for set in ["one", "two", "three"] {
            assert_eq!(stage.children(set).await.unwrap().len(), 20, "{set}, second page: {is_second}");
        }
        stage.mend(&fault).await;
    }
    stage.task(ASTRA, "account", "late", json!([{"state": "running"}])).await;
    eventually(SOON, "lists are read again", || async {
        let found = stage.children("one").await?.len();
        ensure!(found == 21, "{found}");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(operator.get("/healthz").await.unwrap().0, 200);
}

#[tokio::test]
async fn of_a_large_account_what_is_active_is_watched_and_nothing_is_asked_for_singly() {
    let stage = Stage::new("sets-large").await;
    stage.upstream(ASTRA, "account").await;
    let bulk = |first: usize, count: usize, state: &str| json!({"provider": ASTRA, "scope": "account", "first": first, "count": count, "steps": [{"state": state}]});
    stage.admin("POST", "/bulk", bulk(0, 4_800, "completed")).await;
    stage.admin("POST", "/bulk", bulk(4_800, 200, "running")).await;
    let _operator = stage.operator(&[]).await;
    let (_, since) = stage.requests(0).await;
    stage.set("active", "account", json!({"match": {"states": ["Pending", "Running"]}, "limit": 100})).await;
    let begun = std::time::Instant::now();
    eventually(SOON, "each child has its status", || async {
        let children = stage.children("active").await?;
        let seen =
            |watch: &&TaskWatch| watch.status.as_ref().is_some_and(|status| status.state.as_deref() == Some("Running"));
        let seen = children.values().filter(seen).count();
        ensure!((children.len(), seen) == (100, 100), "{} children, {seen} seen", children.len());
        Ok(())
    })
    .await
    .unwrap();
    println!("100 of 5,000 tasks are watched after {:?}", begun.elapsed());
    let status = stage
        .until_set("active", "counts them", |status| {
            ensure!(status.watched == Some(100));
            Ok(status.clone())
        })
        .await;
    assert_eq!((status.matched, status.left_out), (Some(200), Some(100)));
    let (requests, _) = stage.requests(since).await;
    let singly: Vec<_> = requests.iter().filter(|request| !is_list(request)).collect();
    assert!(singly.is_empty(), "{:?}", singly.first());
}

#[tokio::test]
async fn a_set_takes_its_children_along_or_leaves_them() {
    let options = ControlPlaneOptions { controller_manager: true, ..ControlPlaneOptions::default() };
    let plane: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start_with(options).await.unwrap()));
    install(plane).await.unwrap();
    let stage = Stage::on(plane, "sets-gone").await;
    stage.upstream(ASTRA, "account").await;
    stage.task(ASTRA, "account", "a", json!([{"state": "running"}])).await;
    let _operator = stage.operator(&[]).await;
    for set in ["goes", "orphans"] {
        stage.set(set, "account", json!({})).await;
        stage.until_children(set, &[("a", "Running")]).await;
    }
    stage.sets().delete("goes", &DeleteParams::background()).await.unwrap();
    stage.until_children("goes", &[]).await;
    // From now on the garbage collector is known to know of the kind.
    let orphan = DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
    stage.sets().delete("orphans", &orphan).await.unwrap();
    eventually(SOON, "the set is gone", || async {
        ensure!(stage.sets().get_opt("orphans").await?.is_none());
        Ok(())
    })
    .await
    .unwrap();
    stage.step(ASTRA, "account", "a", json!({"state": "completed"})).await;
    stage.until_children("orphans", &[("a", "Succeeded")]).await;
}

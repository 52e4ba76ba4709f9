//! What Argo CD is given, `deploy/argocd/`: the settings are made of the files in the layout of its own repository, and do what they say.

use std::{collections::BTreeMap, fs, process::Command};

use anyhow::ensure;
use serde_json::{Value, json};
use taskwatch::api::{ClusterTaskConnection, TaskConnection, TaskWatch, TaskWatchSet, crds};
use taskwatch_harness::{Oracles, eventually, script, workspace_root};

use crate::stage::{ASTRA, SOON, Stage};

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

fn ask(oracle: &str, object: &Value, script: &str) -> Value {
    Oracles::shared().unwrap().ask(&json!({"oracle": oracle, "object": object, "script": script})).unwrap()
}

fn kinds() -> Vec<String> {
    crds().into_iter().map(|crd| crd.spec.names.kind).collect()
}

#[test]
fn the_settings_are_made_of_the_files() {
    let output = Command::new(workspace_root().join("deploy/argocd/render")).arg("--check").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    let settings = yaml(&fs::read_to_string(workspace_root().join("deploy/argocd/argocd-cm.yaml")).unwrap());
    for kind in kinds() {
        let of_it = |setting: &str| {
            let key = format!("resource.customizations.{setting}.taskwatch.dev_{kind}");
            settings["data"][&key].as_str().map(str::to_owned)
        };
        assert_eq!(of_it("health").as_deref(), Some(script(&kind, "health.lua").unwrap().as_str()));
        assert!(yaml(&of_it("ignoreResourceUpdates").unwrap())["jsonPointers"].is_array());
        for action in of_it("actions")
            .map(|actions| yaml(&actions))
            .iter()
            .flat_map(|actions| actions["definitions"].as_array().unwrap())
        {
            let file = script(&kind, &format!("actions/{}/action.lua", action["name"].as_str().unwrap())).unwrap();
            assert_eq!(action["action.lua"].as_str(), Some(file.as_str()));
        }
    }
}

#[test]
fn each_field_whose_updates_are_ignored_is_there() {
    for crd in crds() {
        let kind = &crd.spec.names.kind;
        let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        let schema = serde_json::to_value(schema).unwrap();
        let ignored = yaml(&script(kind, "ignore_resource_updates.yaml").unwrap());
        for pointer in ignored["jsonPointers"].as_array().unwrap() {
            let path = pointer.as_str().unwrap().replace('/', "/properties/");
            assert!(schema.pointer(&path).is_some(), "{kind} has no {pointer}");
        }
    }
}

/// Objects of every kind, and the health that goes with each, as the tests of Argo CD's repository read them.
#[test]
fn the_examples_have_the_health_that_stands_beside_them() {
    for kind in kinds() {
        let tests = yaml(&script(&kind, "health_test.yaml").unwrap());
        let tests = tests["tests"].as_array().unwrap();
        assert!(tests.len() >= 3, "{kind}");
        for test in tests {
            let path = test["inputPath"].as_str().unwrap();
            let text = script(&kind, path).unwrap();
            match kind.as_str() {
                "TaskWatch" => drop(serde_saphyr::from_str::<TaskWatch>(&text).unwrap()),
                "TaskWatchSet" => drop(serde_saphyr::from_str::<TaskWatchSet>(&text).unwrap()),
                "TaskConnection" => drop(serde_saphyr::from_str::<TaskConnection>(&text).unwrap()),
                _ => drop(serde_saphyr::from_str::<ClusterTaskConnection>(&text).unwrap()),
            }
            let health = ask("argocd-health", &yaml(&text), &script(&kind, "health.lua").unwrap());
            assert_eq!(health, test["healthStatus"], "{kind}: {path}");
        }
    }
}

impl Stage {
    /// The actions that Argo CD offers for an object, and whether each can be had.
    async fn actions(&self, kind: &str, name: &str) -> BTreeMap<String, bool> {
        let object = self.object(kind, name).await;
        let said = ask("argocd-actions", &object, &script(kind, "actions/discovery.lua").unwrap());
        said["disabled"].as_object().unwrap().iter().map(|(name, is)| (name.clone(), *is == json!(false))).collect()
    }

    /// Does to an object what an action does, by the patch that Argo CD would send: what it has changed.
    async fn act(&self, kind: &str, name: &str, action: &str) {
        assert!(self.actions(kind, name).await[action], "{action} is offered");
        let object = self.object(kind, name).await;
        let script = script(kind, &format!("actions/{action}/action.lua")).unwrap();
        let mut made = ask("argocd-action", &object, &script)["object"].take();
        let changed =
            json!({"spec": made["spec"].take(), "metadata": {"annotations": made["metadata"]["annotations"].take()}});
        assert_eq!(made["status"], object["status"], "nothing else is touched");
        self.change(kind, name, changed).await;
    }
}

fn offered(actions: &[(&str, bool)]) -> BTreeMap<String, bool> {
    actions.iter().map(|(name, is)| ((*name).to_owned(), *is)).collect()
}

#[tokio::test]
async fn actions_suspend_resume_and_refresh() {
    let stage = Stage::new("argocd-actions").await;
    stage.upstream(ASTRA, "account").await;
    stage.task(ASTRA, "account", "task", json!([{"state": "running"}])).await;
    let _operator = stage.operator(&[]).await;
    stage.watch("w", "account", "task", json!({})).await;
    let running = "Running Unknown/TaskRunning False True/Observed Unknown R";
    stage.until_row("w", running).await;
    assert_eq!(
        stage.actions("TaskWatch", "w").await,
        offered(&[("refresh", true), ("resume", false), ("suspend", true)])
    );
    stage.act("TaskWatch", "w", "suspend").await;
    stage.until_row("w", "Running Unknown/Suspended False Unknown/Suspended Unknown").await;
    assert_eq!(
        stage.actions("TaskWatch", "w").await,
        offered(&[("refresh", false), ("resume", true), ("suspend", false)])
    );
    stage.act("TaskWatch", "w", "resume").await;
    stage.until_row("w", running).await;
    stage.step(ASTRA, "account", "task", json!({"state": "completed"})).await;
    stage.until_row("w", "Succeeded True/TaskSucceeded True True/Observed True").await;
    assert_eq!(
        stage.actions("TaskWatch", "w").await,
        offered(&[("refresh", true), ("resume", false), ("suspend", false)])
    );
    stage.act("TaskWatch", "w", "refresh").await;
    let asked = stage.object("TaskWatch", "w").await["metadata"]["annotations"]["taskwatch.dev/requestedAt"].clone();
    stage
        .until("w", "was polled again", |status| {
            ensure!(json!(status.last_handled_reconcile_at) == asked, "{:?}", status.last_handled_reconcile_at);
            Ok(())
        })
        .await;

    stage.set("s", "account", json!({})).await;
    for (action, is_suspended) in [("suspend", true), ("resume", false)] {
        stage.act("TaskWatchSet", "s", action).await;
        let offers = offered(&[("resume", is_suspended), ("suspend", !is_suspended)]);
        eventually(SOON, action, || async {
            let actions = stage.actions("TaskWatchSet", "s").await;
            ensure!(actions == offers, "{actions:?}");
            Ok(())
        })
        .await
        .unwrap();
    }
}

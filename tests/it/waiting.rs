//! docs/waiting.md: what it shows is taken from there and tried, by the tools themselves or by their libraries.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use taskwatch_harness::{ADMIN, Oracles, TENANT, Workdir, workspace_root};

use crate::stage::{HUAWEI, SOON, Stage};

const NAME: &str = "create-volume";
const TASK: &str = "ff8080814ef8a0a9014ef8a4e0c40011";

/// The sections of the page: heading, text, and what stands in its fences, each with its language.
struct Section {
    heading: String,
    text: String,
    fences: Vec<(String, String)>,
}

fn sections() -> Vec<Section> {
    let page = fs::read_to_string(workspace_root().join("docs/waiting.md")).unwrap();
    let parts = page.split("\n## ").skip(1).map(|part| {
        let (heading, text) = part.split_once('\n').unwrap();
        let fences = text.split("```").skip(1).step_by(2).map(|fence| fence.split_once('\n').unwrap());
        let fences = fences.map(|(language, code)| (language.to_owned(), code.to_owned())).collect();
        Section { heading: heading.to_owned(), text: text.to_owned(), fences }
    });
    parts.collect()
}

/// The fences of a section in this language, in turn.
fn fences(heading: &str, language: &str) -> Vec<String> {
    let all = sections();
    let section = all.iter().find(|section| section.heading == heading).unwrap();
    section.fences.iter().filter(|(of, _)| of == language).map(|(_, code)| code.clone()).collect()
}

fn manifest(heading: &str) -> Value {
    serde_saphyr::from_str(&fences(heading, "yaml")[0]).unwrap()
}

/// The scripts for the shell of a section with CI.
fn script(heading: &str) -> String {
    let lines = |value: &Value| value.as_str().unwrap().to_owned();
    match heading {
        "kubectl" => fences(heading, "sh").remove(0),
        "Tekton" => lines(&manifest(heading)["spec"]["steps"][0]["script"]).replace("$(params.taskwatch)", NAME),
        "GitHub Actions" => lines(&manifest(heading)["jobs"]["wait"]["steps"][0]["run"]),
        "GitLab CI" => {
            let commands =
                manifest(heading)["wait"]["script"].as_array().unwrap().iter().map(lines).collect::<Vec<_>>();
            commands.join("\n")
        }
        other => panic!("{other} has no script"),
    }
}

const SCRIPTED: [&str; 4] = ["kubectl", "Tekton", "GitHub Actions", "GitLab CI"];

#[test]
fn each_section_says_how_it_was_tried_and_can_be_read() {
    let tried = ["kubectl", "Flux", "Argo CD", "Argo Workflows", "Tekton", "GitHub Actions", "GitLab CI", "kro"];
    let found: Vec<_> = sections();
    assert!(found.len() > tried.len());
    for section in &found {
        let closing = section.text.trim_end().lines().last().unwrap();
        let says = |word: &str| closing.contains(word);
        assert!(closing.starts_with('*') && closing.ends_with('*'), "{}: {closing}", section.heading);
        if !tried.contains(&section.heading.as_str()) {
            assert!(says("Not run"), "{}: nothing tries it: {closing}", section.heading);
        }
        for (language, code) in &section.fences {
            match language.as_str() {
                "yaml" => drop(serde_saphyr::from_str::<Value>(code).unwrap()),
                "sh" | "hcl" => {}
                other => panic!("{}: {other}", section.heading),
            }
        }
    }
}

impl Stage {
    /// kubectl and its settings for this namespace, as `user`, as a shell finds them.
    async fn shell(&self, user: &str) -> (Workdir, PathBuf) {
        let directory = Workdir::new("shell").unwrap();
        let text = fs::read_to_string(self.plane.kubeconfig(user).unwrap()).unwrap();
        let kubeconfig = directory.write("kubeconfig", &text).unwrap();
        let path = kubeconfig.display().to_string();
        let namespace = format!("--namespace={}", self.namespace);
        let args = ["--kubeconfig", &path, "config", "set-context", "--current", &namespace];
        self.plane.kubectl(&args).await.unwrap().success().unwrap();
        (directory, kubeconfig)
    }

    /// Runs a script of the page; whether it has succeeded, and what it said.
    async fn run(&self, kubeconfig: &Path, script: &str) -> Result<(bool, String)> {
        let path = std::env::var("PATH").unwrap_or_default();
        let kubectl =
            self.plane.kubectl_as(ADMIN)?.program().parent().context("kubectl is in no directory")?.to_owned();
        let run = tokio::process::Command::new("bash")
            .args(["-e", "-c", script])
            .current_dir(workspace_root())
            .env("PATH", format!("{}:{path}", kubectl.display()))
            .env("KUBECONFIG", kubeconfig)
            .env("KUBECACHEDIR", kubeconfig.with_extension("cache"))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(SOON, run).await.context("it does not end")??;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        Ok((output.status.success(), said))
    }
}

fn judged(oracle: &str, object: &Value, expressions: &Value) -> Result<Value> {
    Oracles::shared()?.ask(&json!({"oracle": oracle, "object": object, "expressions": expressions}))
}

/// What each tool makes of an object.
fn said(object: &Value) -> BTreeMap<&'static str, Value> {
    let check = &manifest("Flux")["spec"]["healthCheckExprs"][0];
    assert_eq!((&check["apiVersion"], &check["kind"]), (&object["apiVersion"], &object["kind"]));
    let flux = judged("flux-health", object, &json!({"current": check["current"], "failed": check["failed"]}));

    let resource = &manifest("Argo Workflows")["spec"]["templates"][0]["resource"];
    let conditions = json!({"success": resource["successCondition"], "failure": resource["failureCondition"]});
    let workflow = judged("argo-workflows-conditions", object, &conditions);

    let node = &manifest("kro")["spec"]["resources"][0];
    let ready = node["readyWhen"][0].as_str().unwrap();
    let ready = ready.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).unwrap();
    let id = node["id"].as_str().unwrap();
    // Before there are conditions, the expression cannot be evaluated, which kro takes for not ready.
    let kro = judged("cel", object, &json!({id: ready})).map_or_else(|_| json!(false), |said| said[id].clone());
    BTreeMap::from([("flux", flux.unwrap()["status"].clone()), ("workflow", workflow.unwrap()), ("kro", kro)])
}

/// One namespace in which the task of the page comes to this end.
async fn waits(namespace: &str, end: Value, succeeds: bool) {
    let stage = &Stage::new(namespace).await;
    stage.upstream(HUAWEI, "evs").await;
    stage.task(HUAWEI, "evs", TASK, json!([{"state": "RUNNING"}])).await;
    let _operator = stage.operator(&[]).await;

    // Whoever waits may look, and nothing else.
    let users = workspace_root().join("deploy/rbac/users.yaml").display().to_string();
    stage.kubectl(&["apply", "--server-side", "--force-conflicts", "--filename", &users]).await;
    stage
        .kubectl(&["create", "rolebinding", "waits", "--clusterrole=taskwatch-view", &format!("--user={TENANT}")])
        .await;
    let (_directory, kubeconfig) = stage.shell(TENANT).await;

    // It is created by what the page shows.
    let resource = &manifest("Argo Workflows")["spec"]["templates"][0]["resource"];
    let mut watch: Value = serde_saphyr::from_str(resource["manifest"].as_str().unwrap()).unwrap();
    assert_eq!(watch["metadata"]["name"], NAME);
    // A poll a second is for tests.
    watch["spec"]["poll"] = json!({"periodSeconds": 1, "maxPeriodSeconds": 1});
    let created = serde_json::to_value(stage.put(watch).await).unwrap();
    let nothing = json!({"success": false, "failure": false});
    let waiting = BTreeMap::from([("flux", json!("InProgress")), ("workflow", nothing), ("kro", json!(false))]);
    assert_eq!(said(&created), waiting, "it is new");
    stage.until_row(NAME, "Running Unknown/TaskRunning False True/Observed Unknown R").await;
    assert_eq!(said(&stage.object("TaskWatch", NAME).await), waiting, "it runs");

    let kubeconfig = &kubeconfig;
    let scripts = async {
        let runs =
            SCRIPTED.map(|heading| async move { (heading, stage.run(kubeconfig, &script(heading)).await.unwrap()) });
        futures::future::join_all(runs).await
    };
    let (ended, ()) = tokio::join!(scripts, stage.step(HUAWEI, "evs", TASK, end));
    for (heading, (succeeded, output)) in ended {
        assert_eq!(succeeded, succeeds, "{heading}: {output}");
        if heading == "kubectl" && !succeeds {
            assert!(output.contains("Volume type SSD is sold out"), "{output}");
        }
    }
    let status = if succeeds { "Current" } else { "Failed" };
    let workflow = json!({"success": succeeds, "failure": !succeeds});
    let end = BTreeMap::from([("flux", json!(status)), ("workflow", workflow), ("kro", json!(succeeds))]);
    assert_eq!(said(&stage.object("TaskWatch", NAME).await), end);
}

#[tokio::test]
async fn what_the_page_shows_waits_for_a_task_that_succeeds() {
    waits("waiting-success", json!({"state": "SUCCESS"}), true).await;
}

#[tokio::test]
async fn what_the_page_shows_fails_with_a_task_that_fails() {
    let error = json!({"code": "EVS.5400", "message": "Volume type SSD is sold out"});
    waits("waiting-failure", json!({"state": "FAIL", "error": error}), false).await;
}

#[tokio::test]
async fn the_settings_for_argo_cd_are_added_to_those_that_are_there() {
    let stage = Stage::new("argocd").await;
    stage
        .put(json!({"kind": "ConfigMap", "metadata": {"name": "argocd-cm"}, "data": {"url": "https://argocd.example"}}))
        .await;
    let (_directory, kubeconfig) = stage.shell(ADMIN).await;
    let (succeeded, output) = stage.run(&kubeconfig, &fences("Argo CD", "sh")[0]).await.unwrap();
    assert!(succeeded, "{output}");
    let settings = stage.object("ConfigMap", "argocd-cm").await["data"].clone();
    assert_eq!(settings["url"], "https://argocd.example");
    assert!(settings["resource.customizations.health.taskwatch.dev_TaskWatch"].is_string(), "{settings}");
    stage.put(manifest("Argo CD")).await;
}

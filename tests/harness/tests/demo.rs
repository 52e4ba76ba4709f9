//! What the demo applies, on a real API server with the CRDs of this repository.

use serde_json::Value;
use taskwatch_harness::{ADMIN, ControlPlane, Simulator, eventually, workspace_root};

#[tokio::test]
async fn the_api_server_takes_the_manifests() {
    let plane = ControlPlane::shared().await.unwrap();
    let kubectl = plane.kubectl_as(ADMIN).unwrap();
    let crds = workspace_root().join("crds").display().to_string();
    kubectl.run(&["apply", "--filename", &crds]).await.unwrap().success().unwrap();
    kubectl
        .run(&["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"])
        .await
        .unwrap()
        .success()
        .unwrap();

    let mut files = std::fs::read_dir(workspace_root().join("tests/harness/demo"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect::<Vec<_>>();
    files.sort();
    for file in files {
        let manifest = std::fs::read_to_string(&file).unwrap().replace("${SIMULATOR}", "http://127.0.0.1:8080");
        // The REST mapping of a new CRD may lag behind its condition.
        let limit = std::time::Duration::from_secs(10);
        let apply = || async { kubectl.apply(&manifest).await?.success() };
        eventually(limit, &file.display().to_string(), apply).await.unwrap();
    }
    let list = kubectl.run(&["get", "taskwatches", "--all-namespaces", "--output", "json"]).await.unwrap();
    let list = serde_json::from_str::<Value>(&list.success().unwrap()).unwrap();
    let items = list["items"].as_array().unwrap();
    assert!(items.len() >= 8, "{} TaskWatches", items.len());
    for item in items {
        assert!(item["metadata"]["annotations"]["taskwatch.dev/demo-expects"].is_string(), "{item}");
    }
}

#[tokio::test]
async fn the_simulator_takes_the_scenario() {
    let scenario = workspace_root().join("tests/harness/demo/scenario.json").display().to_string();
    let simulator = Simulator::start(&["--scenario", &scenario]).await.unwrap();
    assert!(simulator.url().starts_with("http://127.0.0.1:"), "{}", simulator.announcement());
    simulator.admin("GET", "/", None).await.unwrap();
    assert!(simulator.admin("GET", "/no-such-thing", None).await.is_err());

    let exit = simulator.process().stop().await.unwrap();
    assert_eq!(exit.code, Some(0), "{exit:?}");
}

#[tokio::test]
async fn a_simulator_that_cannot_start_says_why() {
    let error = Simulator::start(&["--scenario", "/nowhere.json"]).await.err().unwrap();
    assert!(format!("{error:#}").contains("nowhere"), "{error:#}");
}

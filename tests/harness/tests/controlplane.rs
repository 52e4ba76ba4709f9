//! The harness itself, on real control planes.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{Api, api::PostParams};
use taskwatch_harness::{ADMIN, ControlPlane, ControlPlaneOptions, Identity, OPERATOR, TENANT, eventually};

const LIMIT: Duration = Duration::from_secs(30);

/// The one that the harness runs itself again as, to be killed: see `nothing_is_left_when_the_tests_are_killed`.
const VICTIM: &str = "TASKWATCH_HARNESS_VICTIM";

fn alive(pid: u32) -> bool {
    // A zombie is dead; only its parent has not looked yet.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

async fn gone(pids: &[u32], directory: &Path) -> Result<()> {
    eventually(LIMIT, "the programs and their directory are gone", || async {
        ensure!(!pids.iter().any(|&pid| alive(pid)), "of {pids:?} one lives");
        ensure!(!directory.exists(), "{} is there", directory.display());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn kubectl_and_clients_work_and_stop_leaves_nothing() {
    let plane = ControlPlane::start().await.unwrap();
    let made = plane.kubectl(&["create", "namespace", "demo"]).await.unwrap().success().unwrap();
    assert_eq!(made, "namespace/demo created\n");
    let again = plane.kubectl(&["create", "namespace", "demo"]).await.unwrap();
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("already exists"), "{}", again.stderr);
    let version = plane.kubectl(&["version"]).await.unwrap().success().unwrap();
    assert!(version.contains("Server Version: v1."), "{version}");

    let namespaces = Api::<Namespace>::all(plane.client(ADMIN).await.unwrap());
    assert!(namespaces.get_opt("demo").await.unwrap().is_some());

    let usage = plane.apiserver().unwrap().usage().unwrap();
    assert!(usage.rss_bytes > 50 << 20 && usage.cpu > Duration::ZERO, "{usage:?}");

    let pids = [plane.etcd().unwrap().pid(), plane.apiserver().unwrap().pid()];
    let directory = plane.workdir().to_owned();
    plane.stop().await.unwrap();
    gone(&pids, &directory).await.unwrap();
}

#[tokio::test]
async fn ordinary_users_may_do_what_rbac_grants() {
    let plane = ControlPlane::shared().await.unwrap();
    for user in [OPERATOR, TENANT] {
        let answer = plane.kubectl_as(user).unwrap().run(&["get", "secrets"]).await.unwrap();
        assert!(answer.stderr.contains("Forbidden") && answer.stderr.contains(user), "{}", answer.stderr);
    }
    // `view` and its like are empty here: the controller that fills them does not run.
    plane.kubectl(&["create", "role", "pods", "--verb=list", "--resource=pods"]).await.unwrap().success().unwrap();
    let grant = ["create", "rolebinding", "pods", "--role=pods", "--serviceaccount=taskwatch-system:taskwatch"];
    plane.kubectl(&grant).await.unwrap().success().unwrap();
    eventually(LIMIT, "the grant is in force", || async {
        plane.kubectl_as(OPERATOR)?.run(&["get", "pods"]).await?.success()
    })
    .await
    .unwrap();
    assert!(plane.kubeconfig("nobody").is_err());
}

#[tokio::test]
async fn two_at_once_know_nothing_of_each_other() {
    let options =
        ControlPlaneOptions { identities: vec![Identity::new("eve", &["system:masters"])], ..Default::default() };
    let (one, two) = tokio::join!(ControlPlane::start(), ControlPlane::start_with(options));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_ne!(one.url(), two.url());
    one.kubectl(&["create", "namespace", "first"]).await.unwrap().success().unwrap();
    let answer = two.kubectl_as("eve").unwrap().run(&["get", "namespace", "first"]).await.unwrap();
    assert!(answer.stderr.contains("NotFound"), "{}", answer.stderr);
}

#[tokio::test]
async fn killed_parts_come_back_with_their_data() {
    let plane = ControlPlane::start().await.unwrap();
    let maps = Api::<ConfigMap>::namespaced(plane.client(ADMIN).await.unwrap(), "default");
    let map = ConfigMap {
        metadata: kube::api::ObjectMeta { name: Some("kept".into()), ..Default::default() },
        ..Default::default()
    };
    maps.create(&PostParams::default(), &map).await.unwrap();

    plane.kill_apiserver().await.unwrap();
    plane.start_apiserver().await.unwrap();
    assert!(maps.get_opt("kept").await.unwrap().is_some(), "the same client goes on");

    plane.kill_etcd().await.unwrap();
    plane.start_etcd().await.unwrap();
    eventually(LIMIT, "the data are back", || async { maps.get_opt("kept").await?.context("no object") })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_suspended_apiserver_is_stopped_all_the_same() {
    let plane = ControlPlane::start().await.unwrap();
    let (apiserver, directory) = (plane.apiserver().unwrap(), plane.workdir().to_owned());
    apiserver.suspend().unwrap();
    drop(plane);
    let pid = apiserver.pid();
    drop(apiserver);
    gone(&[pid], &directory).await.unwrap();
}

#[tokio::test]
async fn nothing_is_left_when_the_tests_are_killed() {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--nocapture"])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines().map_while(Result::ok);
    let told = lines.find_map(|line| line.split_once("victim holds ").map(|(_, rest)| rest.to_owned())).unwrap();
    let fields = told.split(' ').collect::<Vec<_>>();
    let pids = fields[..2].iter().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>();
    let directory = PathBuf::from(fields[2]);
    assert!(pids.iter().all(|&pid| alive(pid)) && directory.exists(), "{told}");
    // SIGKILL: nothing in that process can clean up any more.
    victim.kill().unwrap();
    victim.wait().unwrap();
    gone(&pids, &directory).await.unwrap();
}

/// Holds a control plane until it is killed; without being asked to it does nothing.
#[tokio::test]
async fn victim() {
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let plane = ControlPlane::start().await.unwrap();
    let (etcd, apiserver) = (plane.etcd().unwrap().pid(), plane.apiserver().unwrap().pid());
    println!("victim holds {etcd} {apiserver} {}", plane.workdir().display());
    tokio::time::sleep(Duration::from_mins(2)).await;
}

#[tokio::test]
async fn what_never_happens_is_reported_with_its_last_reason() {
    let never = eventually(Duration::from_millis(300), "pigs fly", || async {
        ensure!(1 > 2, "no wings");
        Ok(())
    });
    let error = format!("{:#}", never.await.unwrap_err());
    assert!(error.contains("pigs fly") && error.contains("no wings"), "{error}");
}

//! etcd restored from a backup under the running operator: resource versions go back, and nothing of the API server says so.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use taskwatch_harness::{ControlPlane, Operator, eventually};

use crate::stage::{HUAWEI, SOON, Stage, install};

async fn stop(plane: &ControlPlane) -> Result<()> {
    plane.kill_apiserver().await?;
    plane.kill_etcd().await
}

async fn start(plane: &ControlPlane) -> Result<()> {
    plane.start_etcd().await?;
    plane.start_apiserver().await
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let _ = std::fs::remove_dir_all(to);
    let status = Command::new("cp").arg("-r").arg(from).arg(to).status().context("cp")?;
    ensure!(status.success(), "cp: {status}");
    Ok(())
}

/// Puts a copy of etcd's data aside, with the control plane stopped meanwhile.
async fn back_up(plane: &ControlPlane) -> Result<()> {
    stop(plane).await?;
    copy(&plane.workdir().join("etcd"), &plane.workdir().join("backup"))?;
    start(plane).await
}

async fn metric(operator: &Operator, series: &str) -> Result<u64> {
    let (_, text) = operator.get("/metrics").await?;
    let line = text.lines().find(|line| line.starts_with(series)).with_context(|| format!("no {series}"))?;
    Ok(line.rsplit(' ').next().unwrap_or_default().parse()?)
}

/// Restores the backup while the operator runs, or while it is suspended until the new history has passed the old one.
async fn restored(namespace: &str, is_overtaken: bool) {
    let plane: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start().await.unwrap()));
    install(plane).await.unwrap();
    let stage = Stage::on(plane, namespace).await;
    stage.upstream(HUAWEI, namespace).await;
    for id in ["old", "late", "new"] {
        stage.task(HUAWEI, namespace, id, json!([{"state": "RUNNING"}])).await;
    }
    stage.watch("old", namespace, "old", json!({})).await;
    let operator = stage.operator(&[]).await;
    let shows = async |name: &'static str, wanted: &'static str| {
        stage
            .until(name, wanted, |status| {
                ensure!(status.state.as_deref() == Some(wanted));
                Ok(())
            })
            .await;
    };
    shows("old", "Running").await;
    back_up(plane).await.unwrap();

    // The backup knows nothing of all this.
    stage.watch("late", namespace, "late", json!({})).await;
    shows("late", "Running").await;
    stage.step(HUAWEI, namespace, "old", json!({"state": "SUCCESS"})).await;
    shows("old", "Succeeded").await;
    if !is_overtaken {
        // Enough for what a starting API server writes by itself not to pass it.
        for turn in 0..300 {
            stage
                .put(json!({"kind": "ConfigMap", "metadata": {"name": "turn"}, "data": {"turn": turn.to_string()}}))
                .await;
        }
        stage.watch("latest", namespace, "late", json!({})).await;
        shows("latest", "Running").await;
    }
    if is_overtaken {
        operator.process().suspend().unwrap();
    }
    stop(plane).await.unwrap();
    copy(&plane.workdir().join("backup"), &plane.workdir().join("etcd")).unwrap();
    start(plane).await.unwrap();
    if is_overtaken {
        for turn in 0..100 {
            stage
                .put(json!({"kind": "ConfigMap", "metadata": {"name": "turn"}, "data": {"turn": turn.to_string()}}))
                .await;
        }
        operator.process().resume().unwrap();
    }

    stage.watch("new", namespace, "new", json!({})).await;
    shows("new", "Running").await;
    shows("old", "Succeeded").await;
    eventually(SOON, "it is counted", || async {
        ensure!(metric(&operator, "taskwatch_history_replaced_total{resource=\"taskwatches\"}").await? > 0);
        Ok(())
    })
    .await
    .unwrap();
    assert!(operator.process().log().contains("tells another history"), "and told");
    // What the backup does not have is forgotten: nobody asks for it any more.
    eventually(SOON, "the late one is not polled", || async {
        let (_, since) = stage.requests(0).await;
        tokio::time::sleep(std::time::Duration::from_secs(4)).await;
        let (polls, _) = stage.requests(since).await;
        let of =
            |id: &str| polls.iter().filter(|poll| poll["path"].as_str().is_some_and(|path| path.ends_with(id))).count();
        ensure!(of("/late") == 0 && of("/new") > 0, "late {}, new {}", of("/late"), of("/new"));
        Ok(())
    })
    .await
    .unwrap();
    assert!(operator.process().exit().is_none());
}

#[tokio::test]
async fn versions_that_went_back_are_noticed_and_everything_is_current_again() {
    restored("restored-back", false).await;
}

#[tokio::test]
async fn versions_that_have_passed_the_old_ones_unseen_are_noticed_as_well() {
    restored("restored-overtaken", true).await;
}

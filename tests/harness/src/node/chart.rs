//! The same by the chart of the release: Helm installs, upgrades and uninstalls it, and waits for the pod.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use super::file_of;
use super::operator::{Operator, SYSTEM};
use super::upstream::UPSTREAM;
use crate::{ADMIN, Helm, eventually};

/// The chart, and who installs it.
pub(super) struct Chart<'a> {
    operator: &'a Operator<'a>,
    helm: Helm,
    package: String,
}

impl<'a> Chart<'a> {
    /// That of a release.
    pub(super) async fn of(operator: &'a Operator<'a>, release: &Path) -> Result<Self> {
        let is_package = |name: &str| Path::new(name).extension().is_some_and(|extension| extension == "tgz");
        let package =
            file_of(release, |name| name.starts_with("taskwatch-") && !name.contains("crds") && is_package(name))?;
        let helm = Helm::of(&operator.cluster.plane, ADMIN).await?;
        Ok(Self { operator, helm, package: package.display().to_string() })
    }

    /// Installs it with its CRDs, into a namespace that enforces Pod Security.
    pub(super) async fn install(&self) -> Result<String> {
        let operator = self.operator;
        // Those of install.yaml belong to no chart; with them go the objects.
        operator.kubectl(&["delete", "crds", "--all"]).await?;
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM, "labels": labels}});
        operator.kubectl.apply(&namespace.to_string()).await?.success()?;
        let started = Instant::now();
        self.helm("install", &["--set", &format!("config.allowEgress={{{UPSTREAM}/32}}")]).await?;
        let took = started.elapsed();
        let pod = operator.pod().await?;
        ensure!(pod.container()["ready"] == true, "helm --wait has returned, and the pod is not ready");
        Ok(format!("helm install --wait returns, and the pod is ready, after {:.1} s", took.as_secs_f32()))
    }

    /// Upgrades what the chart of another release has installed.
    pub(super) async fn replace(&self) -> Result<String> {
        let before = self.operator.pod().await?;
        let took = self.change("config.logLevel=info").await?;
        let pod = self.operator.pod().await?;
        let images = [&before, &pod].map(|pod| pod.container()["imageID"].as_str().unwrap_or_default().to_owned());
        ensure!(images[0] != images[1], "it is the same image: {}", images[0]);
        Ok(format!("helm upgrade --wait: the new image runs after {:.1} s", took.as_secs_f32()))
    }

    /// Changes a value, which replaces the pod.
    pub(super) async fn upgrade(&self) -> Result<String> {
        let before = self.operator.pod().await?;
        let took = self.change("config.logLevel=debug").await?;
        let pod = self.operator.pod().await?;
        ensure!(pod.name() != before.name(), "it is the same pod");
        ensure!(pod.container()["ready"] == true, "helm --wait has returned, and the new pod is not ready");
        Ok(format!("helm upgrade --wait: another pod is ready after {:.1} s", took.as_secs_f32()))
    }

    /// Sets a value, and returns how long that took until all was ready.
    pub(super) async fn change(&self, value: &str) -> Result<Duration> {
        let started = Instant::now();
        self.helm("upgrade", &["--reset-then-reuse-values", "--set", value]).await?;
        Ok(started.elapsed())
    }

    /// Uninstalls it, and waits until no pod is left.
    pub(super) async fn uninstall(&self) -> Result<()> {
        let arguments = ["uninstall", "taskwatch", "--namespace", SYSTEM, "--wait", "--timeout", "2m"];
        self.helm.run(&arguments).await?.success()?;
        eventually(Duration::from_secs(30), "the pod is gone", || self.operator.no_pods()).await
    }

    async fn helm(&self, verb: &str, more: &[&str]) -> Result<String> {
        let arguments = [verb, "taskwatch", &self.package, "--namespace", SYSTEM, "--wait", "--timeout", "2m"];
        self.helm.run(&[&arguments, more].concat()).await?.success()
    }
}

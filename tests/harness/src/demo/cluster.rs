//! The cluster of the demo: one of its own, or that of the current kubectl context.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::{NAMESPACE, SYSTEM_NAMESPACE, rights};
use crate::{ADMIN, ControlPlane, Kubectl, Workdir, workspace_root};

/// Namespaces are emptied by a controller, in its own time.
const CLEAN_LIMIT: Duration = Duration::from_mins(3);

/// Where the demo takes place.
pub(super) struct Cluster {
    kubectl: Kubectl,
    kubeconfig: PathBuf,
    workdir: Workdir,
    home: Home,
}

enum Home {
    Own(ControlPlane),
    /// Somebody else's: what the demo makes is removed again, and nothing else.
    Current {
        made_crds: Vec<String>,
        granted: bool,
    },
}

impl Cluster {
    pub(super) async fn start() -> Result<Self> {
        let (plane, workdir) = (ControlPlane::start().await?, Workdir::new("demo")?);
        let (kubectl, kubeconfig) = (plane.kubectl_as(ADMIN)?, plane.kubeconfig(ADMIN)?);
        Ok(Self { kubectl, kubeconfig, workdir, home: Home::Own(plane) })
    }

    pub(super) async fn current() -> Result<Self> {
        let workdir = Workdir::new("demo")?;
        let mut kubectl = Kubectl::current(workdir.path());
        // A copy of the one context: that the user turns to another cluster meanwhile does no harm.
        let view = ["config", "view", "--raw", "--minify", "--flatten"];
        let config = kubectl.run(&view).await?.success().context("there is no current kubectl context")?;
        let kubeconfig = workdir.write("kubeconfig", &config)?;
        kubectl.kubeconfig = Some(kubeconfig.clone());
        let context = kubectl.run(&["config", "current-context"]).await?.success()?;
        println!("    context {}", context.trim());
        for namespace in [NAMESPACE, SYSTEM_NAMESPACE] {
            let found = kubectl
                .run(&["get", "namespace", namespace, "--ignore-not-found", "--output", "name"])
                .await?
                .success()?;
            ensure!(
                found.is_empty(),
                "the namespace {namespace} exists: another demo runs there, or one left it; kubectl delete namespace {namespace}"
            );
        }
        Ok(Self { kubectl, kubeconfig, workdir, home: Home::Current { made_crds: Vec::new(), granted: false } })
    }

    /// Creates the operator's service account with the rights of `deploy/`, and returns its kubeconfig.
    pub(super) async fn grant(&mut self) -> Result<PathBuf> {
        if let Home::Current { granted, .. } = &mut self.home {
            *granted = true;
        }
        rights::grant(&self.kubectl, &self.workdir).await
    }

    /// Applies the CRDs and waits until they are served.
    pub(super) async fn apply_crds(&mut self) -> Result<()> {
        let names = crd_files()?;
        for (name, path) in &names {
            let found = self.run(&["get", "crd", name, "--ignore-not-found", "--output", "name"]).await?;
            if let Home::Current { made_crds, .. } = &mut self.home {
                // An operator that runs here would write the same statuses, and somebody depends on the CRDs as they are.
                ensure!(
                    found.is_empty(),
                    "this cluster has TaskWatch already ({name}): take another, or apply tests/harness/demo/*.yaml by hand"
                );
                made_crds.push(name.clone());
            }
            self.run(&["apply", "--filename", &path.display().to_string()]).await?;
        }
        let mut wait = vec!["wait", "--for=condition=Established", "--timeout=30s", "crd"];
        wait.extend(names.iter().map(|(name, _)| name.as_str()));
        self.run(&wait).await.map(drop)
    }

    pub(super) fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// `kubectl get` in the demo's namespace.
    pub(super) async fn get(&self, args: &[&str]) -> Result<String> {
        self.run(&[&["get", "--namespace", NAMESPACE], args].concat()).await
    }

    async fn run(&self, args: &[&str]) -> Result<String> {
        self.kubectl.run(args).await?.success()
    }

    pub(super) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// How to call kubectl: by its name where it is installed.
    pub(super) fn kubectl_program(&self) -> String {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let installed = std::env::split_paths(&path).any(|directory| directory.join("kubectl").is_file());
        if installed { "kubectl".to_owned() } else { self.kubectl.program.display().to_string() }
    }

    /// Removes what the demo has made.
    pub(super) async fn clean_up(self) -> Result<()> {
        match self.home {
            Home::Own(plane) => plane.stop().await,
            Home::Current { made_crds, granted } => {
                let kubectl = self.kubectl.limit(CLEAN_LIMIT);
                let mut failures = Vec::new();
                let namespaces = ["delete", "--ignore-not-found", "namespace", NAMESPACE, SYSTEM_NAMESPACE];
                let shared = [
                    "delete",
                    "--ignore-not-found",
                    "clustertaskconnections",
                    "--selector",
                    "app.kubernetes.io/part-of=taskwatch-demo",
                ];
                let mut crds = vec!["delete", "--ignore-not-found", "crd"];
                crds.extend(made_crds.iter().map(String::as_str));
                let commands = [&namespaces[..], &shared[..], &crds[..]];
                // Without a CRD of its own making there is none to delete.
                for command in &commands[..if made_crds.is_empty() { 2 } else { 3 }] {
                    if let Err(error) = kubectl.run(command).await.and_then(crate::Output::success) {
                        failures.push(format!("kubectl {}: {error:#}", command.join(" ")));
                    }
                }
                if granted && let Err(error) = rights::withdraw(&kubectl).await {
                    failures.push(format!("{error:#}"));
                }
                drop(self.workdir);
                if !failures.is_empty() {
                    bail!("the clean-up is not complete:\n  {}", failures.join("\n  "));
                }
                Ok(())
            }
        }
    }
}

/// The CRDs' names and files.
fn crd_files() -> Result<Vec<(String, PathBuf)>> {
    let directory = workspace_root().join("crds");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = std::fs::read_to_string(&path)?;
            let name = text.lines().find_map(|line| line.strip_prefix("  name: ")).context("a CRD without a name")?;
            found.push((name.trim_matches('"').to_owned(), path));
        }
    }
    ensure!(!found.is_empty(), "there are no CRDs in {}: make crds", directory.display());
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crds_are_found_by_name() {
        let names = crd_files().unwrap().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        for kind in ["clustertaskconnections", "taskconnections", "taskwatches", "taskwatchsets"] {
            assert!(names.contains(&format!("{kind}.taskwatch.dev")), "{names:?}");
        }
    }
}

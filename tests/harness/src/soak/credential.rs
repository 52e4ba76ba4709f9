//! The operator's own credential: a token of its service account in a file, replaced while it runs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::cluster::Cluster;
use crate::{ControlPlane, Workdir};

/// The tokens that were given out; each is bound to a Secret, and dies with it.
pub(super) struct Credential {
    cluster: Cluster,
    workdir: Workdir,
    serial: AtomicU64,
}

impl Credential {
    /// With a first token.
    pub(super) async fn make(cluster: &Cluster) -> Result<Self> {
        let credential =
            Self { cluster: cluster.clone(), workdir: Workdir::new("credential")?, serial: AtomicU64::new(0) };
        credential.cluster.make_account().await?;
        credential.issue().await?;
        Ok(credential)
    }

    /// A kubeconfig that names the file.
    pub(super) fn kubeconfig(&self, plane: &ControlPlane, server: &str) -> Result<PathBuf> {
        let name = "soak";
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": name,
            "clusters": [{"name": name, "cluster": {"server": server,
                "certificate-authority": plane.workdir().join("certs/apiserver.crt")}}],
            "users": [{"name": name, "user": {"tokenFile": self.file()}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        });
        self.workdir.write("kubeconfig", &config.to_string())
    }

    /// Puts a new token in the place of the old one, which is worth nothing from then on.
    pub(super) async fn turn(&self) -> Result<()> {
        let old = self.serial.load(Ordering::Relaxed);
        self.issue().await?;
        self.cluster.remove_bound_secret(&secret(old)).await
    }

    async fn issue(&self) -> Result<()> {
        let secret = secret(self.serial.fetch_add(1, Ordering::Relaxed) + 1);
        let token = self.cluster.token(&secret).await?;
        // As kubelet does: the file is the old one or the new one.
        let fresh = self.workdir.write("token.fresh", &token)?;
        std::fs::rename(fresh, self.file()).context("the token's file")
    }

    fn file(&self) -> PathBuf {
        Path::new(self.workdir.path()).join("token")
    }
}

fn secret(serial: u64) -> String {
    format!("soak-token-{serial}")
}

//! promtool, Prometheus's own checker of rules.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::binary::{build, workspace_root};

// A package of 19 MB, from a slow mirror.
const BUILD_LIMIT: Duration = Duration::from_mins(5);
const LIMIT: Duration = Duration::from_mins(1);

/// Runs promtool with `args` in the root of the repository: whether it has succeeded, and all that it said.
///
/// # Errors
/// When it is not installed and cannot be fetched, or takes too long.
pub async fn promtool(args: &[&str]) -> Result<(bool, String)> {
    let program: PathBuf = build("promtool", &[], BUILD_LIMIT).await?;
    let run = tokio::process::Command::new(&program)
        .args(args)
        .current_dir(workspace_root())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LIMIT, run)
        .await
        .context("promtool took too long")?
        .with_context(|| format!("cannot run {}", program.display()))?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Ok((output.status.success(), said))
}

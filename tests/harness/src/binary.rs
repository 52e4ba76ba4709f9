//! Where the programs of this workspace are.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::workdir::KEEP;

/// The program `name` of this workspace, as it was built beside the current executable (`target/<profile>/<name>`).
///
/// # Errors
/// When it is not there, with the command that builds it.
pub fn binary(name: &str) -> Result<PathBuf> {
    let current = std::env::current_exe().context("where the current executable is")?;
    let mut directory = current.parent().context("the current executable has no directory")?;
    // Test executables live one level down.
    if directory.ends_with("deps") || directory.ends_with("examples") {
        directory = directory.parent().unwrap_or(directory);
    }
    let path = directory.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    if !path.is_file() {
        let profile = if directory.ends_with("release") { " --release" } else { "" };
        bail!("{} is not built: run `cargo build --workspace --bins{profile}` first", path.display());
    }
    Ok(path)
}

/// A command that runs the program `name` without what the environment would tell it: its flags are variables, too.
pub(crate) fn command(name: &str) -> Result<Command> {
    Ok(command_of(binary(name)?))
}

/// As [`command`], of any program.
pub(crate) fn command_of(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (key, _) in
        std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("TASKWATCH_") && key != KEEP)
    {
        command.env_remove(key);
    }
    command
}

/// The root of the repository that this crate was compiled in: `crds/`, `deploy/` and the manifests are found from it.
#[must_use]
pub fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").components().collect::<PathBuf>()
}

/// What `tests/NAME/build` makes for the tests: the directory that it prints. The first call on a machine may take as long as `limit`.
///
/// # Errors
/// When it fails or takes too long; it says why on standard error.
pub(crate) async fn build(name: &str, arguments: &[&str], limit: Duration) -> Result<PathBuf> {
    let script = workspace_root().join("tests").join(name).join("build");
    let mut command = tokio::process::Command::new(&script);
    // What it says on standard error is for the one who waits.
    let run = command.args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true).output();
    let output = tokio::time::timeout(limit, run)
        .await
        .with_context(|| format!("tests/{name}/build took too long"))?
        .with_context(|| format!("cannot run {}", script.display()))?;
    ensure!(output.status.success(), "there is no {name} to test with: see the message of tests/{name}/build");
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

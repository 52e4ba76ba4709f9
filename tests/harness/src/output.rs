//! Running a program to its end, and what it has written.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// What a command has written, and its exit code.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
}

impl Output {
    /// Its standard output.
    ///
    /// # Errors
    /// When it failed, with what it said.
    pub fn success(self) -> Result<String> {
        if self.code != 0 {
            bail!("the command failed with code {}: {}{}", self.code, self.stderr, self.stdout);
        }
        Ok(self.stdout)
    }
}

/// Runs `command` with `input`, for at most `limit`; it is killed when the caller goes away.
pub(crate) async fn run(mut command: Command, input: Option<&str>, limit: Duration) -> Result<Output> {
    let told = format!("{:?}", command.as_std());
    command.kill_on_drop(true);
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot run {told}"))?;
    let stdin = child.stdin.take();
    let run = async {
        let feed = async {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                // The program may end before it has read all; its own message is the better one then.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        tokio::join!(feed, child.wait_with_output()).1
    };
    let output =
        tokio::time::timeout(limit, run).await.with_context(|| format!("{told} took longer than {limit:?}"))??;
    Ok(Output {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    })
}

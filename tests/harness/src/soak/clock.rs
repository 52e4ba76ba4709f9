//! The operator's wall clock, which can be stepped while it runs: a small library, compiled here, that is preloaded into it.

use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::Instant;

use crate::Workdir;

/// A clock and its files.
pub(super) struct Clock {
    workdir: Workdir,
    library: PathBuf,
    file: PathBuf,
    stepped: Mutex<Instant>,
}

/// The operator looks at the clock every five seconds.
const NOTICED: Duration = Duration::from_secs(6);

impl Clock {
    /// Compiles it; Rust links with the same compiler. Where libraries cannot be preloaded by `LD_PRELOAD`, there is none.
    pub(super) async fn make() -> Result<Option<Self>> {
        if !cfg!(target_os = "linux") {
            return Ok(None);
        }
        let workdir = Workdir::new("clock")?;
        let source = workdir.write("step.c", include_str!("step.c"))?;
        let library = workdir.path().join("step.so");
        let mut command = tokio::process::Command::new("cc");
        command.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).stdin(Stdio::null());
        let output = command.output().await.context("cannot run the C compiler (cc)")?;
        ensure!(output.status.success(), "step.c: {}", String::from_utf8_lossy(&output.stderr));
        let file = workdir.path().join("off");
        let clock = Self { workdir, library, file, stepped: Mutex::new(Instant::now()) };
        std::fs::write(&clock.file, 0_i64.to_ne_bytes())?;
        Ok(Some(clock))
    }

    /// The environment of a program that lives by it.
    pub(super) fn env(&self) -> [(&'static str, String); 2] {
        [("LD_PRELOAD", self.library.display().to_string()), ("SOAK_CLOCK", self.file.display().to_string())]
    }

    /// Waits until the operator knows of the last step. Should it end before, what it wrote by the old clock would be read by the new one,
    /// and nobody could tell.
    pub(super) async fn noticed(&self) {
        let stepped = *self.stepped.lock().unwrap_or_else(PoisonError::into_inner);
        tokio::time::sleep_until(stepped + NOTICED).await;
    }

    /// So many milliseconds ahead of the machine's, from now on.
    pub(super) fn set(&self, ahead_ms: i64) -> Result<()> {
        *self.stepped.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let file = std::fs::File::options().write(true).open(&self.file);
        let file = file.with_context(|| format!("the clock in {}", self.workdir.path().display()))?;
        // Eight bytes in one page: a reader sees the old or the new ones.
        file.write_all_at(&(ahead_ms * 1_000_000).to_ne_bytes(), 0).context("the clock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::model::now_ms;

    #[tokio::test]
    async fn a_program_lives_by_it_while_it_is_stepped() {
        let Some(clock) = Clock::make().await.unwrap() else { return };
        for ahead in [0, 3_600_000, -3_600_000] {
            clock.set(ahead).unwrap();
            let output = tokio::process::Command::new("date").arg("+%s").envs(clock.env()).output().await.unwrap();
            let shown: i64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
            assert!((shown * 1000 - now_ms() - ahead).abs() < 60_000, "{shown} with {ahead}");
        }
    }
}

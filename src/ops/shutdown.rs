//! The end of the process: signals, and draining within a limit.

use std::{future::Future, io, time::Duration};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by the first SIGTERM or SIGINT. A second signal ends the process at once, with exit code 143 or 130.
///
/// The signals are seized before this returns; call it within a tokio runtime.
///
/// # Errors
/// The signal handlers cannot be set.
pub fn on_signals() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let shutdown = token.clone();
    tokio::spawn(async move {
        loop {
            let (name, code) = tokio::select! {
                _ = terminate.recv() => ("SIGTERM", 143),
                _ = interrupt.recv() => ("SIGINT", 130),
            };
            if shutdown.is_cancelled() {
                tracing::warn!(signal = name, "second signal: ending at once");
                std::process::exit(code);
            }
            tracing::info!(signal = name, "shutting down: draining");
            shutdown.cancel();
        }
    });
    Ok(token)
}

/// Work was still under way when the time to drain was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("work was still under way after {} s of draining", limit.as_secs_f32())]
pub struct DrainTimeout {
    /// How long was waited.
    pub limit: Duration,
}

/// Waits for `work` until `shutdown` is cancelled, and after that for no longer than `limit`.
///
/// # Errors
/// The work had not ended by then; it is dropped.
pub async fn drain<T>(
    shutdown: &CancellationToken,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Result<T, DrainTimeout> {
    let too_late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(limit).await;
    };
    tokio::select! {
        biased;
        done = work => Ok(done),
        () = too_late => Err(DrainTimeout { limit }),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        process::{Command, Stdio},
    };

    use tokio::time::{Instant, sleep};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(8);

    #[tokio::test(start_paused = true)]
    async fn work_has_all_the_time_before_the_shutdown_and_the_limit_after_it() {
        let shutdown = CancellationToken::new();
        let work = sleep(Duration::from_secs(1000));
        assert_eq!(drain(&shutdown, LIMIT, work).await, Ok(()));

        shutdown.cancel();
        assert_eq!(drain(&shutdown, LIMIT, async { 7 }).await, Ok(7));
        let start = Instant::now();
        let stuck = drain(&shutdown, LIMIT, std::future::pending::<()>()).await.unwrap_err();
        assert_eq!(start.elapsed(), LIMIT);
        assert_eq!(stuck.to_string(), "work was still under way after 8 s of draining");
    }

    /// What [`signals_end_the_process`] runs as a process of its own, since the handlers are the whole process'.
    #[tokio::test]
    #[ignore = "waits for signals: run by signals_end_the_process"]
    async fn child() {
        let shutdown = on_signals().unwrap();
        eprintln!("waiting");
        shutdown.cancelled().await;
        eprintln!("draining");
        sleep(Duration::from_secs(20)).await;
    }

    #[test]
    fn signals_end_the_process() {
        for (name, code) in [("TERM", 143), ("INT", 130)] {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "ops::shutdown::tests::child", "--ignored", "--nocapture"])
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let id = child.id().to_string();
            let signal = || Command::new("sh").args(["-c", "kill -$0 $1", name, &id]).status().unwrap();
            let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
            for said in ["waiting", "draining"] {
                assert!(lines.any(|line| line == said), "{said}");
                assert!(signal().success());
            }
            assert_eq!(child.wait().unwrap().code(), Some(code));
        }
    }
}

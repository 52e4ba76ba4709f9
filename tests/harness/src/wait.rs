//! Waiting: for a condition, with a limit, and for the user.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use tokio::signal::unix::{SignalKind, signal};

const STEP: Duration = Duration::from_millis(100);

/// Calls `probe` until it is `Ok`, for at most `limit`. A probe that hangs counts as failed; the last reason is reported.
///
/// # Errors
/// When `probe` was never `Ok` within `limit`.
pub async fn eventually<T, F, Fut>(limit: Duration, what: &str, mut probe: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let deadline = Instant::now() + limit;
    let mut last = anyhow!("it was never tried");
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(reason)) => last = reason,
            // A probe that ran before has the better reason.
            Err(_) if left < STEP => {}
            Err(_) => last = last.context("the last try hung"),
        }
        if Instant::now() + STEP >= deadline {
            return Err(last.context(format!("not within {limit:?}: {what}")));
        }
        tokio::time::sleep(STEP).await;
    }
}

/// Resolves at Ctrl-C or SIGTERM.
///
/// # Errors
/// When the signals cannot be listened for.
pub async fn interrupt() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed.context("cannot listen for Ctrl-C"),
        _ = terminate.recv() => Ok(()),
    }
}

//! The operator under test: started, killed, stopped and started again; its log read over all starts.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::RwLock;

use super::{
    book::{Book, Mark},
    clock::Clock,
    model::{SYSTEM, now_ms},
};
use crate::{Operator, OperatorOptions, Usage};

/// Within this time it must have ended after SIGTERM.
const END: Duration = Duration::from_secs(10);
/// How often `/healthz` is asked, and how many refusals in a row are too many.
const PROBE: Duration = Duration::from_millis(500);
const REFUSALS: u32 = 6;

/// The operator over the whole run.
pub(super) struct Subject {
    options: OperatorOptions,
    book: Arc<Book>,
    running: RwLock<Option<Operator>>,
    logs: Mutex<Vec<String>>,
    peak: Mutex<u64>,
}

impl Subject {
    pub(super) async fn start(kubeconfig: PathBuf, clock: Option<&Clock>, book: Arc<Book>) -> Result<Self> {
        let mut options = OperatorOptions::new(kubeconfig).args(&[
            "--cluster-resource-namespace",
            SYSTEM,
            "--progress-min-seconds",
            "1",
            "--secret-refresh-seconds",
            "2",
        ]);
        for (key, value) in clock.iter().flat_map(|clock| clock.env()) {
            options = options.env(key, &value);
        }
        let operator = Operator::start(options.clone()).await?;
        book.mark(Mark::OperatorAway, 0, now_ms());
        let (logs, peak) = (Mutex::default(), Mutex::new(0));
        Ok(Self { options, book, running: RwLock::new(Some(operator)), logs, peak })
    }

    /// Ends it, by SIGKILL or in peace, and starts it again after a while.
    pub(super) async fn restart(&self, kill: bool, away: Duration) -> Result<()> {
        let mut running = self.running.write().await;
        let from = now_ms();
        if let Some(operator) = running.take() {
            self.end(&operator, kill).await?;
        }
        tokio::time::sleep(away).await;
        *running = Some(Operator::start(self.options.clone()).await.context("the operator did not come back")?);
        self.book.mark(Mark::OperatorAway, from, now_ms());
        Ok(())
    }

    async fn end(&self, operator: &Operator, kill: bool) -> Result<()> {
        self.note_usage(operator);
        let process = operator.process();
        if let Some(exit) = process.exit() {
            self.book.finding("ended by itself", format!("{exit:?}; {}", process.log_tail(5)));
        } else if kill {
            process.kill()?;
            process.wait(END).await?;
        } else {
            let asked = std::time::Instant::now();
            process.terminate()?;
            match process.wait(END).await {
                Ok(exit) if exit.code == Some(0) => {}
                Ok(exit) => {
                    let log = process.log_tail(5);
                    self.book.finding("end at SIGTERM", format!("{exit:?} after {:?}; {log}", asked.elapsed()));
                }
                Err(error) => {
                    self.book.finding("end at SIGTERM", format!("{error:#}; {}", process.log_tail(5)));
                    process.kill()?;
                    process.wait(END).await?;
                }
            }
        }
        self.logs.lock().unwrap_or_else(PoisonError::into_inner).push(process.log());
        Ok(())
    }

    /// Stops it for a while (SIGSTOP).
    pub(super) async fn freeze(&self, time: Duration) -> Result<()> {
        let running = self.running.write().await;
        let operator = running.as_ref().context("the operator does not run")?;
        let from = now_ms();
        operator.process().suspend()?;
        tokio::time::sleep(time).await;
        operator.process().resume()?;
        self.book.mark(Mark::OperatorFrozen, from, now_ms());
        // It may answer again before it is asked.
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok(())
    }

    /// Ends it for good; its logs.
    pub(super) async fn finish(&self) -> Result<Vec<String>> {
        if let Some(operator) = self.running.write().await.take() {
            self.end(&operator, false).await?;
        }
        Ok(self.logs.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    pub(super) async fn usage(&self) -> Result<Usage> {
        let running = self.running.read().await;
        let operator = running.as_ref().context("the operator does not run")?;
        self.note_usage(operator);
        operator.process().usage()
    }

    pub(super) fn peak(&self) -> u64 {
        *self.peak.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_usage(&self, operator: &Operator) {
        if let Ok(usage) = operator.process().usage() {
            let mut peak = self.peak.lock().unwrap_or_else(PoisonError::into_inner);
            *peak = (*peak).max(usage.peak_rss_bytes);
        }
    }

    pub(super) async fn metrics(&self) -> Result<String> {
        let running = self.running.read().await;
        Ok(running.as_ref().context("the operator does not run")?.get("/metrics").await?.1)
    }

    /// Asks `/healthz` all the time that the operator is meant to run. Never ends by itself.
    pub(super) async fn probe(&self) {
        let mut refused = 0;
        loop {
            tokio::time::sleep(PROBE).await;
            let Ok(running) = self.running.try_read() else {
                refused = 0;
                continue;
            };
            let Some(operator) = running.as_ref() else { continue };
            let answer = operator.get("/healthz").await;
            match &answer {
                Ok((200, _)) => refused = 0,
                _ => refused += 1,
            }
            if refused == REFUSALS {
                self.book.finding("healthz", format!("{refused} times in a row: {answer:?}"));
            }
            if let Some(exit) = operator.process().exit() {
                self.book.finding("ended by itself", format!("{exit:?}: {}", operator.process().log_tail(5)));
                return;
            }
        }
    }
}

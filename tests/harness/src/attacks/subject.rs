//! The operator under attack: the release build in a memory cgroup, probed as a kubelet does, and started again when it dies.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::runtime::Builder;
use tokio::sync::RwLock;
use tokio::task::JoinHandle;

use super::cgroup::Cgroup;
use super::now_ms;
use crate::{Operator, OperatorOptions, Usage, eventually};

/// The limit of `deploy/operator/deployment.yaml`.
pub(super) const MEMORY: u64 = 256 << 20;
/// Every so often liveness is asked, and so long an answer may take.
const PROBE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(100);
const READY: Duration = Duration::from_secs(40);

/// The operator over the whole run.
pub(super) struct Subject {
    options: OperatorOptions,
    cgroup: Option<Cgroup>,
    running: RwLock<Option<Operator>>,
    book: Mutex<Book>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Book {
    /// When it ended by itself, and how.
    ends: Vec<(i64, String)>,
    /// When a probe failed, and how.
    refusals: Vec<(i64, String)>,
    /// What each run that is over has logged.
    logs: Vec<String>,
    /// Of the current stretch.
    peak: u64,
}

/// What happened in a stretch of time.
#[derive(Clone, Debug, Default)]
pub(super) struct Health {
    pub(super) ends: Vec<String>,
    pub(super) refusals: Vec<String>,
    pub(super) peak: u64,
}

impl Subject {
    /// Starts it, and waits until it is ready.
    pub(super) async fn start(program: PathBuf, kubeconfig: PathBuf, arguments: &[&str]) -> Result<Arc<Self>> {
        let mut options = OperatorOptions::new(kubeconfig).args(arguments).env("POD_NAMESPACE", super::ground::SYSTEM);
        // As a pod whose container is started anew.
        options = options.env("POD_NAME", "taskwatch-0");
        // What it would say to the curious is part of what is searched for secrets.
        options = options.env("TASKWATCH_LOG_LEVEL", "info,taskwatch=debug");
        options.program = Some(program);
        let cgroup = match Cgroup::new("attacks", MEMORY) {
            Ok(cgroup) => Some(cgroup),
            Err(error) => {
                println!(
                    "No memory cgroup can be made ({error:#}): in its place, more than {} MiB of resident memory counts as a kill.",
                    MEMORY >> 20
                );
                None
            }
        };
        options.launcher = launcher(cgroup.as_ref());
        let operator = Operator::start(options.clone()).await?;
        let subject = Arc::new(Self {
            options,
            cgroup,
            running: RwLock::new(Some(operator)),
            book: Mutex::default(),
            keeper: Mutex::default(),
        });
        *subject.keeper.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(tokio::spawn(Arc::clone(&subject).keep_up()));
        // On a thread of its own: what the attackers cost this program is not to look like an answer that came late.
        let (prober, runtime) = (Arc::downgrade(&subject), Builder::new_current_thread().enable_all().build()?);
        std::thread::Builder::new().name("probe".to_owned()).spawn(move || runtime.block_on(probe(prober)))?;
        Ok(subject)
    }

    /// Ends it in peace and starts it again, as an upgrade does; how long it took to be ready.
    ///
    /// # Errors
    /// When it does not get ready.
    pub(super) async fn restart(&self) -> Result<Duration> {
        let mut running = self.running.write().await;
        if let Some(operator) = running.take() {
            operator.process().stop().await?;
            self.book().logs.push(operator.process().log());
        }
        let begun = std::time::Instant::now();
        let operator = running.insert(Operator::spawn(&self.options)?);
        let ready = operator.wait_ready(READY).await;
        self.note_memory(operator);
        ready.map(|()| begun.elapsed())
    }

    /// The program that it runs.
    pub(super) fn program(&self) -> PathBuf {
        self.options.program.clone().unwrap_or_default()
    }

    /// Forgets the highest memory so far.
    pub(super) fn forget_peak(&self) {
        self.book().peak = 0;
    }

    /// What happened since `from`.
    pub(super) fn health(&self, from: i64) -> Health {
        let book = self.book();
        let since =
            |all: &[(i64, String)]| all.iter().filter(|(at, _)| *at >= from).map(|(_, what)| what.clone()).collect();
        Health { ends: since(&book.ends), refusals: since(&book.refusals), peak: book.peak }
    }

    /// Its memory and processor time now.
    pub(super) async fn usage(&self) -> Result<Usage> {
        let running = self.running.read().await;
        running.as_ref().context("the operator does not run")?.process().usage()
    }

    /// Waits until its memory is at most `bound` bytes; what it is at last.
    pub(super) async fn settle(&self, bound: u64, limit: Duration) -> Result<u64> {
        let settled = eventually(limit, "memory is back at its level", || async {
            let rss = self.usage().await?.rss_bytes;
            ensure!(rss <= bound, "{} MiB", rss >> 20);
            Ok(rss)
        })
        .await;
        match settled {
            Ok(rss) => Ok(rss),
            Err(_) => Ok(self.usage().await?.rss_bytes),
        }
    }

    /// Its `/metrics`.
    pub(super) async fn metrics(&self) -> Result<String> {
        let running = self.running.read().await;
        Ok(running.as_ref().context("the operator does not run")?.get("/metrics").await?.1)
    }

    /// Where metrics and probes are served, as `host:port`.
    pub(super) async fn ports(&self) -> Result<Vec<String>> {
        let running = self.running.read().await;
        let operator = running.as_ref().context("the operator does not run")?;
        let address = |url: &str| url.trim_start_matches("http://").to_owned();
        Ok(vec![address(operator.metrics_url()), address(operator.probes_url())])
    }

    /// What it has logged in all its runs.
    pub(super) async fn logs(&self) -> Vec<String> {
        let running = self.running.read().await;
        let now = running.as_ref().map(|operator| operator.process().log());
        self.book().logs.iter().cloned().chain(now).collect()
    }

    /// Ends it for good.
    pub(super) async fn finish(&self) -> Result<()> {
        if let Some(keeper) = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take() {
            keeper.abort();
        }
        if let Some(operator) = self.running.write().await.take() {
            operator.process().stop().await?;
        }
        Ok(())
    }

    /// Notices that it has died, and starts it again.
    async fn keep_up(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            let Ok(running) = self.running.try_read() else { continue };
            let Some(operator) = running.as_ref() else { continue };
            self.note_memory(operator);
            let Some(exit) = operator.process().exit() else { continue };
            let kills = self.cgroup.as_ref().map_or(0, Cgroup::kills);
            let tail = operator.process().log_tail(2);
            let how =
                if exit.signal == Some(9) { format!("killed (oom_kill {kills})") } else { format!("{exit:?}: {tail}") };
            self.book().ends.push((now_ms(), how));
            drop(running);
            let mut running = self.running.write().await;
            if let Some(operator) = running.take() {
                self.book().logs.push(operator.process().log());
            }
            if let Ok(operator) = Operator::spawn(&self.options) {
                // Until it is ready nobody else is to use it; should it die before, that is seen at the next look.
                let _ = operator.wait_ready(READY).await;
                *running = Some(operator);
            }
        }
    }

    /// Asks `/healthz` as a kubelet does that is in a hurry.
    async fn look(&self) {
        // It is being started.
        let Ok(running) = self.running.try_read() else { return };
        let Some(operator) = running.as_ref() else { return };
        let asked = now_ms();
        let how = match tokio::time::timeout(PROBE, operator.get("/healthz")).await {
            Ok(Ok((200, _))) => return,
            Ok(Ok((status, body))) => format!("{status} {body}"),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "no answer within 1 s".to_owned(),
        };
        // That it is dead is told elsewhere.
        if operator.process().exit().is_none() {
            self.book().refusals.push((asked, how));
        }
    }

    fn note_memory(&self, operator: &Operator) {
        let Ok(usage) = operator.process().usage() else { return };
        let mut book = self.book();
        book.peak = book.peak.max(usage.rss_bytes);
        if self.cgroup.is_none() && usage.rss_bytes > MEMORY {
            book.ends.push((now_ms(), format!("{} MiB of memory", usage.rss_bytes >> 20)));
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks every second, for as long as there is one to look at.
async fn probe(subject: Weak<Subject>) {
    let mut ticks = tokio::time::interval(PROBE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(subject) = subject.upgrade() else { return };
        subject.look().await;
    }
}

/// A shell that enters the cgroup, takes as few files as a container runtime gives by default, and becomes the operator.
pub(super) fn launcher(cgroup: Option<&Cgroup>) -> Vec<String> {
    let enter = cgroup.map(|cgroup| format!("echo $$ > '{}' && ", cgroup.procs().display())).unwrap_or_default();
    let script = format!("{enter}ulimit -Sn 1024 && exec \"$@\"");
    ["/bin/sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
}

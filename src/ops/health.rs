//! What the probes ask: is the work loop alive, and is everything ready.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::{Duration, Instant},
};

use crate::sync::lock;

/// How long the work loop may be silent before `/healthz` fails.
pub const HEARTBEAT_LIMIT: Duration = Duration::from_mins(1);

/// The state behind `/healthz` and `/readyz`; clones share it.
#[derive(Clone, Debug)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    start: Instant,
    limit: Duration,
    // Milliseconds from `start` to the last beat.
    last_beat: AtomicU64,
    ready: Mutex<Vec<(&'static str, Arc<AtomicBool>)>>,
    // Whether the list above is whole.
    all_named: AtomicBool,
}

impl Default for Health {
    fn default() -> Self {
        Self::with_limit(HEARTBEAT_LIMIT)
    }
}

impl Health {
    /// As the default, with another limit than [`HEARTBEAT_LIMIT`].
    #[must_use]
    pub fn with_limit(limit: Duration) -> Self {
        let (last_beat, all_named) = (AtomicU64::new(0), AtomicBool::new(false));
        Self(Arc::new(Inner { start: Instant::now(), limit, last_beat, ready: Mutex::default(), all_named }))
    }

    /// The work loop is alive. Call it well within [`HEARTBEAT_LIMIT`], also when there is no work.
    pub fn beat(&self) {
        self.0.last_beat.store(self.elapsed_millis(), Relaxed);
    }

    /// Something that must be done before the process is ready; it is not until [`Readiness::done`] was called on it.
    #[must_use]
    pub fn readiness(&self, name: &'static str) -> Readiness {
        let done = Arc::<AtomicBool>::default();
        lock(&self.0.ready).push((name, Arc::clone(&done)));
        Readiness(done)
    }

    /// All that readiness waits for has been named. Before this, the process is starting and not ready, whatever is done.
    pub fn all_named(&self) {
        self.0.all_named.store(true, Release);
    }

    /// Whether the loop has beaten within the limit.
    ///
    /// # Errors
    /// How long it has been silent, in a sentence.
    pub fn live(&self) -> Result<(), String> {
        let silent = Duration::from_millis(self.elapsed_millis().saturating_sub(self.0.last_beat.load(Relaxed)));
        if silent > self.0.limit {
            return Err(format!("the work loop has not beaten for {} s", silent.as_secs()));
        }
        Ok(())
    }

    /// Whether all that must be done is named, and done.
    ///
    /// # Errors
    /// What is not, in a sentence.
    pub fn ready(&self) -> Result<(), String> {
        if !self.0.all_named.load(Acquire) {
            return Err("starting: the API server has not been reached yet".to_owned());
        }
        let ready = lock(&self.0.ready);
        let missing: Vec<_> = ready.iter().filter(|(_, done)| !done.load(Relaxed)).map(|(name, _)| *name).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("waiting for: {}", missing.join(", "))) }
    }

    fn elapsed_millis(&self) -> u64 {
        u64::try_from(self.0.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// One thing that readiness waits for.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// It is done.
    pub fn done(&self) {
        self.0.store(true, Relaxed);
    }

    /// Whether it is.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// It is no longer so, as when the process begins to shut down.
    pub fn undone(&self) {
        self.0.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_all_that_was_named_is_done() {
        let health = Health::default();
        assert!(health.ready().unwrap_err().starts_with("starting"), "nothing is named yet");
        let (secrets, caches) = (health.readiness("secrets"), health.readiness("caches"));
        health.all_named();
        assert_eq!(health.ready().unwrap_err(), "waiting for: secrets, caches");
        caches.done();
        assert_eq!(health.ready().unwrap_err(), "waiting for: secrets");
        secrets.done();
        assert_eq!(health.ready(), Ok(()));
        caches.undone();
        assert!(health.ready().is_err());
    }

    #[test]
    fn alive_while_it_beats() {
        let health = Health::with_limit(Duration::from_millis(300));
        assert_eq!(health.live(), Ok(()));
        std::thread::sleep(Duration::from_millis(400));
        assert!(health.live().is_err());
        health.beat();
        assert_eq!(health.live(), Ok(()));
    }
}

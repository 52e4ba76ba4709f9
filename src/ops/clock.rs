//! The wall clock, which goes evenly between its settings, and which tests can hold still.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::sync::lock;

/// Tells the wall time. Clones are one clock.
///
/// The system's clock may be stepped, ahead and back. This one goes on evenly (with tokio's, which tests pause and advance) until it
/// is [set](Self::set): so nobody measures across a step without being told of it.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Mutex<Setting>>);

#[derive(Clone, Copy, Debug)]
struct Setting {
    wall: Timestamp,
    at: Instant,
}

impl Clock {
    /// Less than this between two settings is no step: clocks are disciplined.
    const LEAST_STEP: Duration = Duration::from_secs(1);

    /// A clock that shows `wall` now.
    #[must_use]
    pub fn at(wall: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(Setting { wall, at: Instant::now() })))
    }

    /// The time. May go back by a little; measure durations with [`Instant`].
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let Setting { wall, at } = *self.setting();
        wall.checked_add(at.elapsed()).unwrap_or(Timestamp::MAX)
    }

    /// Sets it, by the system's clock. Returns how far that was stepped since the last time, where it was.
    #[must_use = "what is measured from must be moved by as much"]
    pub fn set(&self, wall: Timestamp) -> Option<SignedDuration> {
        let step = wall.duration_since(self.now());
        *self.setting() = Setting { wall, at: Instant::now() };
        (step.unsigned_abs() >= Self::LEAST_STEP).then_some(step)
    }

    fn setting(&self) -> MutexGuard<'_, Setting> {
        lock(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &str = "2026-01-02T03:04:05Z";

    #[tokio::test(start_paused = true)]
    async fn it_moves_with_the_paused_one() {
        let clock = Clock::at(START.parse().unwrap());
        assert_eq!(clock.now().to_string(), START);
        tokio::time::sleep(Duration::from_secs(90)).await;
        assert_eq!(clock.clone().now().to_string(), "2026-01-02T03:05:35Z");
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_is_told_from_time_that_passes_and_clones_follow_it() {
        let start = START.parse::<Timestamp>().unwrap();
        let clock = Clock::at(start);
        let other = clock.clone();
        let after = |secs| start + SignedDuration::from_secs(secs);
        let hour = SignedDuration::from_hours(1);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(clock.set(after(5) + SignedDuration::from_millis(900)), None, "it was corrected");
        assert_eq!(clock.set(after(5)), None);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(clock.set(after(10) - hour), Some(-hour));
        assert_eq!(clock.set(after(10) - hour), None);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(other.now(), after(15) - hour);
        assert_eq!(clock.set(after(15)), Some(hour));
        assert_eq!(other.now(), after(15));
    }
}

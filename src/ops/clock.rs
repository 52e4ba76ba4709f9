//! The wall clock, which tests can hold still.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Tells the wall time. In tests with tokio's paused clock it moves with that clock.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Follows { start: Timestamp, since: Instant },
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that shows `start` now, and goes on with tokio's clock, which tests pause and advance.
    #[must_use]
    pub fn fixed(start: Timestamp) -> Self {
        Self(Source::Follows { start, since: Instant::now() })
    }

    /// The time. The system's clock may jump, back too; measure durations with [`Instant`].
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => Timestamp::now(),
            Source::Follows { start, since } => start.checked_add(since.elapsed()).unwrap_or(Timestamp::MAX),
        }
    }
}

/// Sees the wall clock step, by the one that does not.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    wall: Timestamp,
    since: Instant,
}

impl Steps {
    /// Less than this between two looks is no step: clocks are disciplined, and looks are interrupted.
    const LEAST: Duration = Duration::from_secs(1);

    /// From this moment on.
    #[must_use]
    pub fn from(wall: Timestamp) -> Self {
        Self { wall, since: Instant::now() }
    }

    /// How far the clock was stepped since the last look.
    pub fn look(&mut self, wall: Timestamp) -> Option<SignedDuration> {
        let last = std::mem::replace(self, Self::from(wall));
        let passed = SignedDuration::try_from(self.since - last.since).unwrap_or_default();
        let step = wall.duration_since(last.wall) - passed;
        (step.unsigned_abs() >= Self::LEAST).then_some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_fixed_clock_moves_with_the_paused_one() {
        let start: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let clock = Clock::fixed(start);
        assert_eq!(clock.now(), start);
        tokio::time::sleep(Duration::from_secs(90)).await;
        assert_eq!(clock.clone().now().to_string(), "2026-01-02T03:05:35Z");
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_is_told_from_time_that_passes() {
        let clock = Clock::fixed("2026-01-02T03:04:05Z".parse().unwrap());
        let hour = SignedDuration::from_hours(1);
        let mut steps = Steps::from(clock.now());
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(steps.look(clock.now()), None);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(steps.look(clock.now() - hour), Some(-hour));
        assert_eq!(steps.look(clock.now() - hour), None);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(steps.look(clock.now()), Some(hour));
    }

    #[test]
    fn the_system_clock_is_the_systems() {
        let before = Timestamp::now();
        assert!(Clock::system().now() >= before);
    }
}

//! The wall clock, which tests can hold still.

use jiff::Timestamp;
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_fixed_clock_moves_with_the_paused_one() {
        let start: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let clock = Clock::fixed(start);
        assert_eq!(clock.now(), start);
        tokio::time::sleep(Duration::from_secs(90)).await;
        assert_eq!(clock.clone().now().to_string(), "2026-01-02T03:05:35Z");
    }

    #[test]
    fn the_system_clock_is_the_systems() {
        let before = Timestamp::now();
        assert!(Clock::system().now() >= before);
    }
}

//! Waiting longer with each failure.

use std::time::Duration;

/// Waits that double from the first to the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

/// Beyond so many doublings the longest wait is reached, whatever the first one is.
const MOST: u32 = 30;

impl Backoff {
    /// Waits from `first` to `longest`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// The wait after it has been doubled so many times.
    #[must_use]
    pub fn doubled(self, times: u32) -> Duration {
        self.first.saturating_mul(1 << times.min(MOST)).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_never_overflow() {
        let backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(30));
        let waits = [0, 1, 2, 3, 4, 5, 31, 32, u32::MAX].map(|times| backoff.doubled(times).as_secs());
        assert_eq!(waits, [2, 4, 8, 16, 30, 30, 30, 30, 30]);
        assert_eq!(Backoff::new(Duration::MAX, Duration::MAX).doubled(u32::MAX), Duration::MAX);
        assert_eq!(Backoff::new(Duration::from_secs(9), Duration::from_secs(5)).doubled(0), Duration::from_secs(5));
    }
}

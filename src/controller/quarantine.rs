//! Objects over which the operator panicked are set aside for a while, each by itself.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::backoff::Backoff;

/// Doubles with each further panic over the same object.
const WAIT: Backoff = Backoff::new(Duration::from_secs(10), Duration::from_mins(10));

/// Until when one object is left alone, whatever happens to it.
#[derive(Clone, Copy, Debug)]
pub struct Quarantine {
    until: Instant,
    /// Panics before the newest one.
    before: u32,
}

impl Quarantine {
    /// The quarantine after a panic, on top of one that there was before.
    #[must_use]
    pub fn after(before: Option<Self>, now: Instant) -> Self {
        let before = before.map_or(0, |quarantine| quarantine.before.saturating_add(1));
        Self { until: now + WAIT.doubled(before), before }
    }

    /// Until when, where it is not over.
    #[must_use]
    pub fn lasts(self, now: Instant) -> Option<Instant> {
        Some(self.until).filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_panic_doubles_the_wait_up_to_ten_minutes() {
        let mut now = Instant::now();
        let mut quarantine = None;
        let mut waits = Vec::new();
        for _ in 0..9 {
            let next = Quarantine::after(quarantine, now);
            let until = next.lasts(now).unwrap();
            waits.push((until - now).as_secs());
            assert_eq!(next.lasts(until), None);
            (quarantine, now) = (Some(next), until);
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
    }
}

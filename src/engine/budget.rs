//! The request budget of a connection: requests per second with a burst, by the generic cell rate algorithm.

use std::time::Duration;

use tokio::time::Instant;

/// Lets `burst` requests through at once, then one every `interval`; in any span of time `t` at most `burst + t / interval`.
#[derive(Clone, Debug)]
pub struct Budget {
    interval: Duration,
    /// How far the theoretical arrival time may run ahead of now.
    tolerance: Duration,
    /// The theoretical arrival time of the next request; the past counts as now.
    arrival: Instant,
}

impl Budget {
    /// The longest time between two requests.
    const LONGEST: Duration = Duration::from_hours(24);

    /// A full budget. A rate counts as at least one request a day, a burst as at least 1.
    #[must_use]
    pub fn new(per_second: f64, burst: u32, now: Instant) -> Self {
        let interval = Duration::try_from_secs_f64(1.0 / per_second).unwrap_or(Self::LONGEST).min(Self::LONGEST);
        Self { interval, tolerance: interval * burst.max(1).saturating_sub(1), arrival: now }
    }

    /// Requests per second in the long run.
    #[must_use]
    pub fn rate(&self) -> f64 {
        1.0 / self.interval.as_secs_f64()
    }

    /// How long nothing may be sent without falling behind the rate, with a quarter of it left for waking up late.
    #[must_use]
    pub fn slack(&self) -> Duration {
        self.tolerance * 3 / 4
    }

    /// When the next request may be sent; not in the future means now.
    #[must_use]
    pub fn ready_at(&self, now: Instant) -> Instant {
        self.arrival.checked_sub(self.tolerance).map_or(now, |at| at.max(now))
    }

    /// Whether as much may be sent at once as ever.
    #[must_use]
    pub fn is_full(&self, now: Instant) -> bool {
        self.arrival <= now
    }

    /// Takes one request if it may be sent now.
    pub fn take(&mut self, now: Instant) -> bool {
        let ready = self.ready_at(now) <= now;
        if ready {
            self.arrival = self.arrival.max(now) + self.interval;
        }
        ready
    }

    /// Empties the burst, so that what waited during a pause is sent evenly.
    pub fn drain(&mut self, now: Instant) {
        self.arrival = self.arrival.max(now + self.tolerance);
    }

    /// Takes all that can be taken: who polled before may have sent as much just now. Nothing may be sent until one request has been earned.
    pub fn exhaust(&mut self, now: Instant) {
        self.arrival = self.arrival.max(now + self.tolerance + self.interval);
    }

    /// Takes over new figures without granting a burst anew: as many requests may be sent at once as before, at most.
    pub fn resize(&mut self, per_second: f64, burst: u32, now: Instant) {
        let room = |budget: &Self| budget.tolerance.div_duration_f64(budget.interval);
        let used = self.arrival.saturating_duration_since(now).div_duration_f64(self.interval);
        let left = room(self) - used;
        *self = Self::new(per_second, burst, now);
        self.arrival = now + self.interval.mul_f64((room(self) - left).max(0.0));
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn sends_a_burst_and_then_evenly() {
        let start = Instant::now();
        let mut budget = Budget::new(5.0, 3, start);
        let mut sent = Vec::new();
        while start.elapsed() < Duration::from_secs(2) {
            while budget.take(Instant::now()) {
                sent.push(start.elapsed().as_millis());
            }
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        assert_eq!(sent, [0, 0, 0, 200, 400, 600, 800, 1000, 1200, 1400, 1600, 1800]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_may_be_below_one_a_second() {
        let start = Instant::now();
        let mut budget = Budget::new(200.0 / 300.0, 1, start);
        assert!(budget.take(start) && !budget.take(start));
        assert_eq!(budget.ready_at(start), start + Duration::from_millis(1500));
    }

    #[tokio::test(start_paused = true)]
    async fn a_drained_budget_has_no_burst() {
        let now = Instant::now();
        let mut budget = Budget::new(5.0, 10, now);
        budget.drain(now);
        assert!(budget.take(now));
        assert!(!budget.take(now));
        assert_eq!(budget.ready_at(now), now + Duration::from_millis(200));
    }

    #[tokio::test(start_paused = true)]
    async fn new_figures_fill_no_exhausted_budget() {
        let now = Instant::now();
        let mut budget = Budget::new(5.0, 10, now);
        budget.exhaust(now);
        budget.resize(10.0, 50, now);
        assert_eq!(budget.ready_at(now), now + Duration::from_millis(100));
    }

    proptest! {
        /// Of several owners, each of whom begins when the one before ends, and sends whatever it may.
        #[test]
        fn together_owners_send_no_more_than_one(
            rate in 1_u32..50,
            burst in 1_u32..20,
            reigns in vec((0_u64..3_000, 0_u64..3_000), 1..6),
        ) {
            let (per_second, start) = (f64::from(rate), Instant::now());
            let (mut now, mut sent) = (start, Vec::new());
            for (number, (idle, busy)) in reigns.into_iter().enumerate() {
                let mut budget = Budget::new(per_second, burst, now);
                if number > 0 {
                    budget.exhaust(now);
                }
                now += Duration::from_millis(idle);
                let end = now + Duration::from_millis(busy);
                while now < end {
                    while budget.take(now) {
                        sent.push(now);
                    }
                    now += Duration::from_millis(7);
                }
                now = end;
            }
            // As one that has been full at the start would have let them through.
            let mut whole = Budget::new(per_second, burst, start);
            for at in sent {
                prop_assert!(whole.take(at), "{:?}", at - start);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn new_figures_grant_no_burst() {
        let now = Instant::now();
        let mut budget = Budget::new(5.0, 10, now);
        budget.drain(now);
        budget.resize(100.0, 50, now);
        assert!(budget.take(now));
        assert!(!budget.take(now));
        let mut rested = Budget::new(5.0, 3, now);
        rested.resize(5.0, 10, now);
        assert_eq!(std::iter::repeat_with(|| rested.take(now)).take(10).filter(|sent| *sent).count(), 3);
    }
}

//! How much is told of one object: a task that changes with every look fills nobody's list of events.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::decide::Event;

/// So many events at once, and one each [`EVERY`] after that.
const AT_ONCE: u32 = 10;
const EVERY: Duration = Duration::from_mins(1);

/// What may still be told of one object: a token bucket.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowance {
    /// When the bucket will be full again; none, or in the past: it is.
    full_at: Option<Instant>,
}

impl Allowance {
    /// Whether the event may be told. The end of a watch always may.
    pub fn take(&mut self, event: &Event, now: Instant) -> bool {
        let full_at = self.full_at.unwrap_or(now).max(now);
        let may = full_at.duration_since(now) <= EVERY * (AT_ONCE - 1);
        if may {
            self.full_at = Some(full_at + EVERY);
        }
        may || event.is_end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::decide::EventType;

    fn event(is_end: bool) -> Event {
        Event { kind: EventType::Normal, reason: "TaskRunning".into(), action: "Observe", note: String::new(), is_end }
    }

    #[test]
    fn ten_at_once_then_one_a_minute_and_every_end() {
        let (mut allowance, start) = (Allowance::default(), Instant::now());
        let told = |allowance: &mut Allowance, secs: std::ops::Range<u64>| {
            secs.filter(|secs| allowance.take(&event(false), start + Duration::from_secs(*secs))).count()
        };
        assert_eq!(told(&mut allowance, 0..60), 10);
        assert_eq!(told(&mut allowance, 60..3660), 60);
        assert!(allowance.take(&event(true), start + Duration::from_secs(3660)));
        // Calm fills it again.
        assert_eq!(told(&mut allowance, 8000..8030), 10);
    }
}

//! How often a task is asked for.

use std::time::Duration;

use jiff::Timestamp;

use super::backoff::Backoff;
use crate::hash::fnv1a;

/// The limits of a period: what the `TaskWatch` wishes, and what its connection allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// For a young task.
    pub start: Duration,
    /// For an old one.
    pub max: Duration,
    /// The connection's shortest; it and the next one win over the wishes.
    pub floor: Duration,
    /// The connection's longest.
    pub ceiling: Duration,
}

/// A task is asked for once in so many parts of its age: news of it is late by no more than a tenth of the time it took.
const AGE_PARTS: u32 = 10;

/// The period for a task whose last change (creation, state change, request to look) is `age` ago.
#[must_use]
pub fn period(bounds: Bounds, age: Duration) -> Duration {
    within(bounds, age / AGE_PARTS)
}

/// The time until the next look at a task of which the upstream has said how long to wait (`Retry-After` of a good answer): that knows
/// better than the task's age how soon there is news, but not what the watch and its connection allow.
#[must_use]
pub fn hinted(bounds: Bounds, hint: Duration) -> Duration {
    within(bounds, hint)
}

/// The period after so many `failures` in a row: twice as long with each, but no longer than the connection's longest, nor than 64 times
/// what it was.
#[must_use]
pub fn after_failures(period: Duration, failures: u32, ceiling: Duration) -> Duration {
    Backoff::new(period, period.saturating_mul(64).min(ceiling.max(period))).doubled(failures)
}

fn within(bounds: Bounds, wish: Duration) -> Duration {
    let wish = wish.clamp(bounds.start, bounds.max.max(bounds.start));
    wish.clamp(bounds.floor, bounds.ceiling.max(bounds.floor))
}

/// `time` and `wait`; the end of time where that is beyond it.
#[must_use]
pub fn later(time: Timestamp, wait: Duration) -> Timestamp {
    time.checked_add(wait).unwrap_or(Timestamp::MAX)
}

/// `period` made longer or shorter by up to 8 %, so that it stays within 10 % with what sending takes: the same for the same `seed` (of the object) and `turn` (number of the poll).
#[must_use]
pub fn jittered(period: Duration, seed: u64, turn: u64) -> Duration {
    let most = period * 8 / 100;
    period.saturating_sub(most) + part(most * 2, mix(seed ^ mix(turn)))
}

/// The time until the next poll where the periods are stretched because the budget is full. Only the period itself is jittered: who
/// waits for the budget is spread by that.
#[must_use]
pub fn stretched(period: Duration, stretch: f64, seed: u64, turn: u64) -> Duration {
    jittered(period, seed, turn) + period.mul_f64((stretch - 1.0).max(0.0))
}

/// The share of `whole` that `random` stands for: from nothing to all of it.
#[must_use]
pub fn part(whole: Duration, random: u64) -> Duration {
    // 16 bits are fine enough, and keep the arithmetic of whole numbers within its range.
    let share = u32::from(u16::try_from(random >> 48).unwrap_or(u16::MAX));
    whole / u32::from(u16::MAX) * share
}

/// A number from a text, as the UID of an object: the same on every machine and in every version.
#[must_use]
pub fn seed(text: &str) -> u64 {
    mix(fnv1a(text))
}

/// One step of `SplitMix64`: every bit of the result depends on every bit of `x`.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    const USUAL: Bounds = Bounds { start: secs(10), max: secs(60), floor: secs(5), ceiling: secs(300) };

    #[test]
    fn grows_with_the_age_within_both_bounds() {
        for (age, expected) in [(0, 10), (100, 10), (200, 20), (599, 59), (600, 60), (86_400, 60)] {
            assert_eq!(period(USUAL, secs(age)).as_secs(), expected, "age {age}");
        }
        let hurried = Bounds { start: secs(1), max: secs(2), ..USUAL };
        assert_eq!(period(hurried, secs(0)), secs(5), "the connection's shortest wins");
        let slow = Bounds { start: secs(1000), max: secs(2000), ..USUAL };
        assert_eq!(period(slow, secs(0)), secs(300), "the connection's longest wins");
        let crossed = Bounds { start: secs(50), max: secs(20), ..USUAL };
        assert_eq!(period(crossed, secs(0)), secs(50), "crossed bounds do no harm");
    }

    #[test]
    fn a_hint_moves_the_next_look_within_both_bounds() {
        for (hint, expected) in [(0, 10), (3, 10), (10, 10), (45, 45), (60, 60), (3600, 60)] {
            assert_eq!(hinted(USUAL, secs(hint)).as_secs(), expected, "hint {hint}");
        }
        assert_eq!(hinted(Bounds { start: secs(1), ..USUAL }, secs(2)), secs(5), "the connection's shortest wins");
        assert_eq!(hinted(Bounds { max: secs(900), ..USUAL }, secs(600)), secs(300), "the connection's longest wins");
    }

    #[test]
    fn jitter_spreads_evenly() {
        let all: Vec<_> = (0..1000).map(|turn| jittered(secs(10), seed("uid"), turn).as_millis()).collect();
        let mean = all.iter().sum::<u128>() / 1000;
        assert!((9_900..10_100).contains(&mean), "{mean}");
        assert!(all.iter().any(|ms| *ms < 9_250) && all.iter().any(|ms| *ms > 10_750));
        assert_ne!(jittered(secs(10), seed("a"), 0), jittered(secs(10), seed("b"), 0));
    }

    proptest! {
        #[test]
        fn stays_within_ten_percent(ms in 0_u64..100_000_000, seed: u64, turn: u64) {
            let period = Duration::from_millis(ms);
            let got = jittered(period, seed, turn);
            prop_assert!(got + period / 10 + Duration::from_millis(1) >= period && got <= period + period / 10);
            prop_assert_eq!(got, jittered(period, seed, turn));
        }
    }
}

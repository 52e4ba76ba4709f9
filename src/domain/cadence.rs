//! How often a task is looked at.

use std::time::Duration;

/// The time between two polls of a task that has not changed for `age`: `base` at first, then growing by a tenth of the age, to `max`.
#[must_use]
pub fn period(base: Duration, max: Duration, age: Duration) -> Duration {
    (age / 10).clamp(base, max.max(base))
}

/// `period` moved by up to ±10 %, by a seed.
#[must_use]
pub fn jittered(period: Duration, seed: u64) -> Duration {
    let mixed = (seed ^ (seed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    #[allow(clippy::cast_precision_loss, reason = "a fraction")]
    let part = (mixed >> 11) as f64 / (1u64 << 53) as f64;
    period.mul_f64(0.9 + 0.2 * part)
}

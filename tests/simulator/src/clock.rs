//! The simulator's clock: the machine's, plus a shift that tests may set, so that tokens expire and tasks end without waiting.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

/// The machine's clock and a shift.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    shift_ms: AtomicI64,
}

impl Clock {
    /// Milliseconds since 1970, shifted.
    pub(crate) fn now_ms(&self) -> i64 {
        Timestamp::now().as_millisecond().saturating_add(self.shift_ms())
    }

    pub(crate) fn shift_ms(&self) -> i64 {
        self.shift_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn set_shift_ms(&self, shift: i64) {
        self.shift_ms.store(shift, Ordering::Relaxed);
    }
}

/// Seconds of a scenario as milliseconds. Out of range is clamped: a scenario cannot make the arithmetic overflow.
#[allow(clippy::cast_possible_truncation)] // clamped on the line before
pub(crate) fn seconds_to_ms(seconds: f64) -> i64 {
    let bounded = if seconds.is_finite() { seconds.clamp(-1e10, 1e10) } else { 0.0 };
    (bounded * 1000.0).round() as i64
}

fn format(ms: i64, pattern: &str) -> String {
    let time = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
    time.strftime(pattern).to_string()
}

/// `2016-03-08T07:40:13.219Z`: the form of the EVS page (seed 001) and of proto3 JSON (upstreams.md §1.1).
pub(crate) fn millis_z(ms: i64) -> String {
    format(ms, "%Y-%m-%dT%H:%M:%S%.3fZ")
}

/// `2020-08-06T12:24:52.256624Z`: six digits, as Astra (seed 002) and IAM (upstreams.md §2.3) show them.
pub(crate) fn micros_z(ms: i64) -> String {
    format(ms, "%Y-%m-%dT%H:%M:%S%.6fZ")
}

/// The IMF-fixdate of RFC 9110 §5.6.7, for a `Retry-After` that is a date.
pub(crate) fn http_date(ms: i64) -> String {
    format(ms, "%a, %d %b %Y %H:%M:%S GMT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        assert_eq!(millis_z(1_457_422_813_219), "2016-03-08T07:40:13.219Z");
        assert_eq!(micros_z(1_596_716_692_256), "2020-08-06T12:24:52.256000Z");
        assert_eq!(http_date(784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(seconds_to_ms(f64::NAN), 0);
        assert_eq!(seconds_to_ms(1.5), 1500);
    }
}

//! How late things were for the canary: pure reckoning on times in milliseconds since 1970.

/// The highest of the lowest 99 percent, by the nearest rank; the default of nothing.
pub(super) fn p99<T: Ord + Clone + Default>(samples: &mut [T]) -> T {
    samples.sort_unstable();
    let rank = (samples.len() * 99).div_ceil(100);
    rank.checked_sub(1).and_then(|at| samples.get(at)).cloned().unwrap_or_default()
}

/// How late each poll was that is due `period` after the one before it, within a stretch of time. The time since the last one counts,
/// too: a poll that never came is as late as the stretch's end.
pub(super) fn of_polls(times: &[i64], (from, to): (i64, i64), period: i64) -> Vec<i64> {
    let before = times.iter().copied().filter(|&at| at < from).max().unwrap_or(from);
    let inside = times.iter().copied().filter(|&at| (from..to).contains(&at));
    let mut last = before.max(from - period);
    let mut late = Vec::new();
    for at in inside.chain([to]) {
        late.push((at - last - period).max(0));
        last = at;
    }
    late
}

/// How late something was that should have come at `due`: until it came, or until `to`. None when it was not yet due.
pub(super) fn of_one(due: i64, came: Option<i64>, to: i64) -> Option<i64> {
    match came {
        Some(at) if at <= to => Some((at - due).max(0)),
        _ if due > to => None,
        _ => Some(to - due),
    }
}

/// What of the lag of something that was due at `due` is left when what a bystander had to wait for the API server at the same time is
/// taken off: the longest of the `waits` (from, to) that overlap it. 0 when nothing is left.
pub(super) fn beyond(due: i64, lag: i64, waits: &[(i64, i64)]) -> i64 {
    let overlap = |wait: &&(i64, i64)| wait.0 <= due + lag && due <= wait.1;
    let waited = waits.iter().filter(overlap).map(|(from, to)| to - from).max().unwrap_or_default();
    (lag - waited).max(0)
}

/// The most that a lag may be: 1.2 times that of a quiet run, and a second.
pub(super) fn bar(quiet: i64) -> i64 {
    quiet + quiet / 5 + 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentile_is_the_nearest_rank() {
        let mut hundred: Vec<_> = (1..=100).collect();
        assert_eq!(p99(&mut hundred), 99);
        assert_eq!(p99(&mut [7]), 7);
        assert_eq!(p99::<i64>(&mut []), 0);
    }

    #[test]
    fn a_gap_counts_where_it_ends_and_where_it_does_not() {
        assert_eq!(of_polls(&[9_500, 10_500, 13_500], (10_000, 14_000), 1000), [0, 2000, 0]);
        // Nothing came at all.
        assert_eq!(of_polls(&[9_500], (10_000, 20_000), 1000), [9_500]);
        assert_eq!(of_polls(&[], (10_000, 20_000), 1000), [9_000]);
        // What was late before the stretch is not held against it.
        assert_eq!(of_polls(&[1_000], (10_000, 10_500), 1000), [500]);
    }

    #[test]
    fn one_that_never_came_is_late_until_the_end() {
        assert_eq!(of_one(10, Some(15), 100), Some(5));
        assert_eq!(of_one(10, None, 100), Some(90));
        assert_eq!(of_one(10, Some(150), 100), Some(90));
        assert_eq!(of_one(110, None, 100), None);
    }

    #[test]
    fn what_a_bystander_waited_at_the_same_time_is_taken_off() {
        let waits = [(0, 100), (1_000, 4_000), (9_000, 9_050)];
        // From 2,000 to 7,000: the second wait of three seconds overlaps.
        assert_eq!(beyond(2_000, 5_000, &waits), 2_000);
        assert_eq!(beyond(2_000, 500, &waits), 0);
        assert_eq!(beyond(5_000, 3_000, &waits), 3_000);
        assert_eq!(beyond(5_000, 3_000, &[]), 3_000);
    }

    #[test]
    fn the_bar_is_one_fifth_and_one_second_above_quiet() {
        assert_eq!(bar(500), 1600);
    }
}

//! Max-min fairness: whoever wants less than an equal share gets all that it wants; what it leaves is divided among the others.

/// The most that anyone gets when `total` is divided among these demands; infinite where all of them fit.
///
/// Demands that are not numbers count as none.
#[must_use]
pub fn level(demands: impl IntoIterator<Item = f64>, total: f64) -> f64 {
    let mut demands: Vec<f64> = demands.into_iter().filter(|demand| *demand > 0.0).collect();
    demands.sort_by(f64::total_cmp);
    let mut left = total.max(0.0);
    let mut waiting = demands.len();
    for demand in demands {
        #[allow(clippy::cast_precision_loss, reason = "a count of tenants")]
        let equal = left / waiting as f64;
        if demand > equal {
            return equal;
        }
        left -= demand;
        waiting -= 1;
    }
    f64::INFINITY
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::level;

    #[test]
    fn the_modest_get_all_and_the_greedy_the_rest_in_equal_parts() {
        assert!(level([1.0, 2.0, 3.0], 6.0).is_infinite());
        assert!(level([], 1.0).is_infinite());
        for (demands, total, expected) in [
            (&[10.0, 300.0][..], 100.0, 90.0),
            (&[f64::INFINITY, 10.0, f64::INFINITY], 100.0, 45.0),
            (&[300.0, 300.0, 300.0], 90.0, 30.0),
            (&[0.0, f64::NAN, 5.0], 4.0, 4.0),
        ] {
            let got = level(demands.iter().copied(), total);
            assert!((got - expected).abs() < 1e-9, "{demands:?}: {got}");
        }
    }

    proptest! {
        #[test]
        fn no_more_is_given_than_there_is_and_all_of_it_where_it_is_wanted(
            demands in proptest::collection::vec(0.0_f64..1e6, 1..40), total in 0.0_f64..1e6,
        ) {
            let level = level(demands.iter().copied(), total);
            let given: f64 = demands.iter().map(|demand| demand.min(level)).sum();
            let wanted: f64 = demands.iter().sum();
            prop_assert!(given <= total * (1.0 + 1e-9) + 1e-9);
            prop_assert!((given - wanted.min(total)).abs() <= 1e-6 * wanted.max(1.0));
        }
    }
}

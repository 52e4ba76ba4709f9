//! Reports, and the clock that they were made by.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::{
    domain::failure::{Failure, FailureClass},
    engine::Report,
};

#[test]
fn a_time_from_the_future_is_brought_back_and_others_stay() {
    let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
    let (minute, failure) =
        (SignedDuration::from_mins(1), Arc::new(Failure::new(FailureClass::NotFound, "no such task")));
    let report = |since, at| Report::Missing { failure: Arc::clone(&failure), since, at };
    for (shown, meant) in [
        (report(now - minute, now), report(now - minute, now)),
        (report(now - minute, now + minute), report(now - minute, now)),
        (report(now + minute, now + minute), report(now, now)),
    ] {
        let mut changed = shown;
        changed.not_after(now);
        assert_eq!(changed, meant);
    }
}

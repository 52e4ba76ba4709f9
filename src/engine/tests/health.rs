//! Which changes of a connection's health are worth telling.

use jiff::{SignedDuration, Timestamp};

use crate::{
    domain::failure::{Failure, FailureClass},
    engine::{ConnectionHealth, coalesce::Mode},
};

fn at(millis: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap() + SignedDuration::from_millis(millis)
}

type Change = fn(&mut ConnectionHealth);

fn failure(class: FailureClass, code: &str, message: &str) -> Failure {
    Failure { code: code.to_owned(), ..Failure::new(class, message) }
}

#[test]
fn what_a_reader_would_see_is_news_and_what_only_moves_a_little_is_not() {
    let base = ConnectionHealth {
        trouble: None,
        last_success: Some(at(0)),
        retry_at: None,
        mode: Some(Mode::Get),
        stretch: 2.0,
        throttled: false,
        insecure: false,
    };
    assert!(!base.is_news(&base));
    let told = |change: &dyn Fn(&mut ConnectionHealth)| {
        let mut other = base.clone();
        change(&mut other);
        other
    };
    // What is new after `base`, and whether the way back is.
    let cases: [(&str, Change, bool, bool); 11] = [
        ("a mode", |health| health.mode = Some(Mode::List), true, true),
        ("no mode", |health| health.mode = None, true, true),
        ("throttled", |health| health.throttled = true, true, true),
        ("insecure", |health| health.insecure = true, true, true),
        ("a success in a minute", |health| health.last_success = Some(at(60_000)), true, false),
        ("a success before", |health| health.last_success = Some(at(59_999)), false, false),
        ("no success", |health| health.last_success = None, true, true),
        ("stretched by a fifth", |health| health.stretch = 2.4, false, false),
        ("stretched by more", |health| health.stretch = 2.5, true, false),
        ("stretched by less", |health| health.stretch = 1.5, true, true),
        ("a silence, and its end", |health| health.retry_at = Some(at(0)), true, false),
    ];
    for (what, change, there, back) in cases {
        let other = told(&change);
        assert_eq!((other.is_news(&base), base.is_news(&other)), (there, back), "{what}");
    }
    let silent = |millis| told(&|health| health.retry_at = Some(at(millis)));
    for (millis, is_news) in [(2_000, false), (2_001, true), (-2_000, false), (-2_001, true)] {
        assert_eq!(silent(millis).is_news(&silent(0)), is_news, "by another rounding: {millis}");
    }
    let unavailable = FailureClass::UpstreamUnavailable;
    let failing = |class, code, message| told(&|health| health.trouble = Some((failure(class, code, message), at(0))));
    let first = failing(unavailable, "A", "one");
    assert!(first.is_news(&base) && base.is_news(&first));
    assert!(!failing(unavailable, "A", "another message").is_news(&first));
    assert!(failing(unavailable, "B", "one").is_news(&first));
    assert!(failing(FailureClass::RateLimited, "A", "one").is_news(&first));
}

//! `Retry-After` (RFC 9110 §10.2.3).

use std::time::Duration;

use http::{
    HeaderMap,
    header::{DATE, RETRY_AFTER},
};
use jiff::{Timestamp, civil::DateTime, fmt::strtime, tz::Offset};

use crate::domain::failure::RetryAfter;

/// The date forms of RFC 9110 §5.6.7 without the name of the day: IMF-fixdate, RFC 850, asctime.
const DATES: &[&str] = &["%d %b %Y %H:%M:%S", "%d-%b-%y %H:%M:%S", "%b %d %H:%M:%S %Y"];

/// The wait that an answer asks for; none where it asks for none, or in a form that is not known.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<RetryAfter> {
    let field = |name| headers.get(name)?.to_str().ok();
    match parse(field(RETRY_AFTER)?)? {
        // By the clock that set the date, where the answer shows it: ours may be another, and may have been stepped.
        RetryAfter::At(time) => Some(field(DATE).and_then(date).map_or(RetryAfter::At(time), |sent| {
            RetryAfter::After(Duration::try_from(time.duration_since(sent)).unwrap_or_default())
        })),
        after @ RetryAfter::After(_) => Some(after),
    }
}

/// Reads a field's value: seconds, or a date. A part of a second, which RFC 9110 does not have but servers send, is a whole one.
#[must_use]
pub fn parse(text: &str) -> Option<RetryAfter> {
    let text = text.trim();
    let (seconds, part) = text.split_once('.').unwrap_or((text, "0"));
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if are_digits(seconds) && are_digits(part) {
        // More digits than fit are a long time in any case; the wait is bounded where it is used.
        let more = u64::from(part.bytes().any(|digit| digit != b'0'));
        return Some(RetryAfter::After(Duration::from_secs(seconds.parse().unwrap_or(u64::MAX).saturating_add(more))));
    }
    date(text).map(RetryAfter::At)
}

/// Reads a date; the name of the day is passed over unread, as RFC 9110 lets a recipient do.
fn date(text: &str) -> Option<Timestamp> {
    let without_day = match text.split_once(',') {
        Some((_, rest)) => rest,
        None => text.split_once(' ')?.1,
    };
    let words: Vec<_> = without_day.split_whitespace().filter(|word| !["GMT", "UTC"].contains(word)).collect();
    let text = words.join(" ");
    let civil: DateTime = DATES.iter().find_map(|form| strtime::parse(form, &text).ok()?.to_datetime().ok())?;
    Offset::UTC.to_timestamp(civil).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{parse, retry_after};
    use crate::domain::failure::RetryAfter;

    #[test]
    fn reads_both_forms() {
        let at = |text: &str| Some(RetryAfter::At(text.parse().unwrap()));
        let after = |seconds| Some(RetryAfter::After(Duration::from_secs(seconds)));
        for (text, expected) in [
            ("120", after(120)),
            (" 0 ", after(0)),
            ("99999999999999999999999", after(u64::MAX)),
            ("99999999999999999999999.9", after(u64::MAX)),
            ("0.2", after(1)),
            ("1.0", after(1)),
            ("1.5", after(2)),
            ("59.000001", after(60)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", at("1994-11-06T08:49:37Z")),
            ("Sunday, 06-Nov-94 08:49:37 GMT", at("1994-11-06T08:49:37Z")),
            ("Sun Nov  6 08:49:37 1994", at("1994-11-06T08:49:37Z")),
            ("Mon, 06 Nov 1994 08:49:37 GMT", at("1994-11-06T08:49:37Z")),
            ("Wed, 21 Oct 2026 07:28:00 GMT", at("2026-10-21T07:28:00Z")),
            ("", None),
            ("-1", None),
            ("-0.5", None),
            ("1.", None),
            (".5", None),
            ("1.2.3", None),
            ("1e3", None),
            ("NaN", None),
            ("+5", None),
            ("soon", None),
            ("Sun, 99 Nov 1994 08:49:37 GMT", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_date_counts_from_the_date_of_the_answer() {
        let answer = |fields: &[(&'static str, &'static str)]| {
            let fields = fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            retry_after(&fields.collect())
        };
        let later = ("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT");
        let minute = Some(RetryAfter::After(Duration::from_mins(1)));
        assert_eq!(answer(&[later, ("date", "Sun, 06 Nov 1994 08:49:37 GMT")]), minute);
        // Over already, and no date to go by.
        assert_eq!(
            answer(&[later, ("date", "Sun, 06 Nov 1994 09:00:00 GMT")]),
            Some(RetryAfter::After(Duration::ZERO))
        );
        assert_eq!(answer(&[later, ("date", "today")]), Some(RetryAfter::At("1994-11-06T08:50:37Z".parse().unwrap())));
        assert_eq!(answer(&[("retry-after", "60"), ("date", "Sun, 06 Nov 1994 08:49:37 GMT")]), minute);
        assert_eq!(answer(&[("date", "Sun, 06 Nov 1994 08:49:37 GMT")]), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,40}", near in "[A-Z][a-z]{2,6},? [0-9]{1,2}[- ][A-Z][a-z]{2}[- ][0-9]{0,5} [0-9:]{0,9}( GMT)?") {
            let _ = parse(&text);
            let _ = parse(&near);
        }
    }
}

//! Times in every form that the three upstreams are known to send (upstreams.md §2.4 "Timestamps", §3.1, §1.1).
//! A time that cannot be read is none: it never fails a poll.

use jiff::{Timestamp, civil::DateTime, tz::Offset};

/// Reads a moment:
/// RFC 3339 with 0 to 9 digits after `.` or `,`; offsets `Z`, `+08:00`, `+0800`, `+08`; none at all (taken as UTC);
/// a blank in the place of `T`; Go's `time.String()` (`2018-08-02 08:12:40.672 +0800 CST m=+0.1`);
/// seconds or milliseconds since 1970 as digits. Zero values (`0`, Go's year 1) are none.
#[must_use]
pub fn parse(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return from_epoch(text.parse().ok()?);
    }
    let mut rest = text.as_bytes();
    let year = digits(&mut rest, 4)?;
    let month = after(&mut rest, b"-")?;
    let day = after(&mut rest, b"-")?;
    let hour = after(&mut rest, b"Tt ")?;
    let minute = after(&mut rest, b":")?;
    // A leap second is shown as the last one before it.
    let second = after(&mut rest, b":")?.min(59);
    let nanosecond = fraction(&mut rest);
    let offset = offset(std::str::from_utf8(rest).ok()?)?;
    if year <= 1 {
        return None;
    }
    let small = |value: i32| i8::try_from(value).ok();
    let civil = DateTime::new(
        i16::try_from(year).ok()?,
        small(month)?,
        small(day)?,
        small(hour)?,
        small(minute)?,
        small(second)?,
        nanosecond,
    );
    offset.to_timestamp(civil.ok()?).ok()
}

/// Reads a number since 1970: seconds up to 10¹¹ (the year 5138), then milliseconds, microseconds and nanoseconds, by its size.
/// Zero and less are none.
#[must_use]
pub fn from_epoch(value: f64) -> Option<Timestamp> {
    let per_second = match value {
        value if value <= 0.0 => return None,
        value if value < 1e11 => 1.0,
        value if value < 1e14 => 1e3,
        value if value < 1e17 => 1e6,
        _ => 1e9,
    };
    // Milliseconds are the finest that is sent as a number; they are exact in a double.
    #[allow(clippy::cast_possible_truncation, reason = "saturates; what is out of range is refused")]
    let milliseconds = (value / per_second * 1e3).round() as i64;
    Timestamp::from_millisecond(milliseconds).ok()
}

/// Exactly `count` digits.
fn digits(rest: &mut &[u8], count: usize) -> Option<i32> {
    let (head, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    head.iter().try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i32::from(byte - b'0')))
}

/// One of `separators`, then two digits.
fn after(rest: &mut &[u8], separators: &[u8]) -> Option<i32> {
    let (first, tail) = rest.split_first()?;
    *rest = tail;
    separators.contains(first).then(|| digits(rest, 2))?
}

/// What follows `.` or `,`, in nanoseconds; digits after the ninth are dropped.
fn fraction(rest: &mut &[u8]) -> i32 {
    let Some((b'.' | b',', tail)) = rest.split_first() else { return 0 };
    let count = tail.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, tail) = tail.split_at(count);
    *rest = tail;
    let digit = |index: usize| digits.get(index).map_or(0, |digit| i32::from(*digit - b'0'));
    (0..9).fold(0, |value, index| value * 10 + digit(index))
}

/// What follows the time; a zone's name counts only where it is UTC's or follows an offset.
fn offset(text: &str) -> Option<Offset> {
    let word = text.split_whitespace().next().unwrap_or_default();
    if word.is_empty() || ["z", "utc", "gmt"].contains(&word.to_ascii_lowercase().as_str()) {
        return Some(Offset::UTC);
    }
    let sign = match word.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let mut rest = word.as_bytes().get(1..)?;
    let hours = digits(&mut rest, 2)?;
    rest = rest.strip_prefix(b":").unwrap_or(rest);
    let minutes = if rest.is_empty() { 0 } else { digits(&mut rest, 2)? };
    if !rest.is_empty() || minutes > 59 {
        return None;
    }
    Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{from_epoch, parse};

    #[test]
    fn reads_every_published_form() {
        for (text, expected) in [
            ("2016-03-08T07:40:13.219Z", "2016-03-08T07:40:13.219Z"),
            ("2020-08-06T12:24:52.256624Z", "2020-08-06T12:24:52.256624Z"),
            ("2020-08-06T12:24:52,5Z", "2020-08-06T12:24:52.5Z"),
            ("2025-07-09T16:18:27.981870605Z", "2025-07-09T16:18:27.981870605Z"),
            ("2025-07-09T16:18:27.9818706059999Z", "2025-07-09T16:18:27.981870605Z"),
            ("2020-01-04t09:05:22z", "2020-01-04T09:05:22Z"),
            ("2020-01-04T09:05:22+08:00", "2020-01-04T01:05:22Z"),
            ("2020-01-04T09:05:22+0800", "2020-01-04T01:05:22Z"),
            ("2020-01-04T09:05:22-03", "2020-01-04T12:05:22Z"),
            ("2020-01-04T09:05:22", "2020-01-04T09:05:22Z"),
            ("2020-01-04 09:05:22", "2020-01-04T09:05:22Z"),
            (" 2020-01-04 09:05:22 ", "2020-01-04T09:05:22Z"),
            ("2018-08-02 08:12:40.672772389 +0000 UTC", "2018-08-02T08:12:40.672772389Z"),
            ("2018-08-02 08:12:40.672 +0800 CST", "2018-08-02T00:12:40.672Z"),
            ("2018-08-02 08:12:40 +0800 CST m=+0.000012", "2018-08-02T00:12:40Z"),
            ("2018-08-02 08:12:40 UTC", "2018-08-02T08:12:40Z"),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z"),
            ("1457422813", "2016-03-08T07:40:13Z"),
            ("1457422813219", "2016-03-08T07:40:13.219Z"),
        ] {
            assert_eq!(parse(text).map(|time| time.to_string()).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(from_epoch(1_457_422_813_219.0), parse("2016-03-08T07:40:13.219Z"));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            " ",
            "0",
            "-",
            "yesterday",
            "2020-13-01T00:00:00Z",
            "2020-02-30 00:00:00",
            "2020-01-01",
            "2020-01-01T00:00:00 CST",
            "0001-01-01T00:00:00Z",
            "2020-01-01T25:00:00Z",
            "2020-01-01T00:00:00+99:00",
            "9".repeat(400).as_str(),
            "1.2.3",
            "ж020-01-01T00:00:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,40}", near in "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}([.,][0-9]{0,12})?[-+Zж0-9: ]{0,8}", number in any::<f64>()) {
            let _ = parse(&text);
            let _ = parse(&near);
            let _ = from_epoch(number);
        }
    }
}

//! Times in every form that the three upstreams are known to send (upstreams.md §2.4 "Timestamps", §3.1, §1.1).
//! A time that cannot be read is none: it never fails a poll.

use jiff::{Timestamp, civil::DateTime, tz::Offset};

/// Reads a moment:
/// RFC 3339 with 0 to 9 digits after `.` or `,`; offsets `Z`, `+08:00`, `+0800`, `+08`; none at all (taken as UTC);
/// a blank in the place of `T`; Go's `time.String()` (`2018-08-02 08:12:40.672 +0800 CST m=+0.1`);
/// the same without separators (`20211217064303`, `20211217T064303Z`, also with a fraction and an offset, upstreams.md §2.3);
/// seconds or milliseconds since 1970 as digits. Zero values (`0`, Go's year 1) are none.
#[must_use]
pub fn parse(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let whole = text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = text.as_bytes().get(whole..)?;
    match (whole, rest) {
        (0, _) => None,
        (8, [b'T' | b't' | b' ', ..]) | (14 | 17, _) => compact(text),
        // Digits beyond the seconds are a part of one. As a count since 1970 these would be moments after 2030.
        (15.., _) if is_date(text) => compact(text).or_else(|| from_epoch(text.parse().ok()?)),
        // A date, or one with hours and minutes, is no moment; nor is it so many seconds.
        (8 | 12, [] | [b'.', ..]) if is_date(text) => None,
        (_, []) => from_epoch(text.parse().ok()?),
        (_, [b'.', fraction @ ..]) if fraction.iter().all(u8::is_ascii_digit) => from_epoch(text.parse().ok()?),
        _ => separated(text.as_bytes()),
    }
}

/// Year, month and so on between separators.
fn separated(mut rest: &[u8]) -> Option<Timestamp> {
    let year = digits(&mut rest, 4)?;
    let month = after(&mut rest, b"-")?;
    let day = after(&mut rest, b"-")?;
    let hour = after(&mut rest, b"Tt ")?;
    let minute = after(&mut rest, b":")?;
    let second = after(&mut rest, b":")?;
    moment([year, month, day, hour, minute, second], rest)
}

/// `20211217064303` or `20211217T064303`; what follows in digits is a part of a second.
fn compact(text: &str) -> Option<Timestamp> {
    let mut rest = text.as_bytes();
    let year = digits(&mut rest, 4)?;
    let (month, day) = (digits(&mut rest, 2)?, digits(&mut rest, 2)?);
    rest = rest.strip_prefix(b"T").or(rest.strip_prefix(b"t")).or(rest.strip_prefix(b" ")).unwrap_or(rest);
    let (hour, minute, second) = (digits(&mut rest, 2)?, digits(&mut rest, 2)?, digits(&mut rest, 2)?);
    let parts = [year, month, day, hour, minute, second];
    match rest {
        [first, ..] if first.is_ascii_digit() => {
            moment(parts, format!(".{}", std::str::from_utf8(rest).ok()?).as_bytes())
        }
        _ => moment(parts, rest),
    }
}

/// Whether the first eight digits are a day of 1970 to 2100.
fn is_date(text: &str) -> bool {
    let mut rest = text.as_bytes();
    let mut next = |count| digits(&mut rest, count).and_then(|value| i16::try_from(value).ok()).unwrap_or(0);
    let (year, month, day) = (next(4), next(2), next(2));
    let small = |value| i8::try_from(value).unwrap_or(0);
    (1970..=2100).contains(&year) && jiff::civil::Date::new(year, small(month), small(day)).is_ok()
}

/// The moment of year, month, day, hour, minute and second, with the fraction and the offset that are left. None for Go's year 1.
fn moment([year, month, day, hour, minute, second]: [i32; 6], mut rest: &[u8]) -> Option<Timestamp> {
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
        // A leap second is shown as the last one before it.
        small(second.min(59))?,
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
            ("20211217064303", "2021-12-17T06:43:03Z"),
            ("20211217064303.25", "2021-12-17T06:43:03.25Z"),
            ("20211217064303,25Z", "2021-12-17T06:43:03.25Z"),
            ("20211217064303250", "2021-12-17T06:43:03.25Z"),
            ("2021121706430325", "2021-12-17T06:43:03.25Z"),
            ("20211217064303250000000", "2021-12-17T06:43:03.25Z"),
            ("1457422813219000", "2016-03-08T07:40:13.219Z"),
            ("1457422813219000000", "2016-03-08T07:40:13.219Z"),
            ("20211217064303Z", "2021-12-17T06:43:03Z"),
            ("20211217064303+0800", "2021-12-16T22:43:03Z"),
            ("20211217064303 UTC", "2021-12-17T06:43:03Z"),
            ("20211217T064303Z", "2021-12-17T06:43:03Z"),
            ("20211217T064303.5+08:00", "2021-12-16T22:43:03.5Z"),
            ("20211217 064303", "2021-12-17T06:43:03Z"),
            ("1457422813", "2016-03-08T07:40:13Z"),
            ("1457422813.5", "2016-03-08T07:40:13.5Z"),
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
            "20211217",
            "20211217.0",
            "202112170643",
            "20211317064303",
            "20211217250303",
            "20211217064303x",
            "20211217T06",
            "20211217T0643",
            "99999999999999",
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
        fn never_panics(text in ".{0,40}", compact in "[0-9]{8,20}[T ]?[0-9]{0,6}[.,Z+ж0-9]{0,8}", near in "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}([.,][0-9]{0,12})?[-+Zж0-9: ]{0,8}", number in any::<f64>()) {
            let _ = parse(&text);
            let _ = parse(&near);
            let _ = parse(&compact);
            let _ = from_epoch(number);
        }
    }
}

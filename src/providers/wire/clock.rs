//! By how much a clock is wrong, from the two times that a refused signature is answered with.

use std::time::Duration;

use jiff::Timestamp;

use super::time;

/// What comes before the time of the signature, and before that of the server, in lower case (upstreams.md §2.3).
const TIMES: (&str, &str) = ("signature time:", "server time:");

/// "is 16 min 1 s behind that of the server": the predicate to a clock that set the first of both times in `text`; without a figure
/// where these are not in it.
#[must_use]
pub fn difference(text: &str) -> String {
    let text = text.to_lowercase();
    let (Some(ours), Some(theirs)) = (after(&text, TIMES.0), after(&text, TIMES.1)) else {
        return "differs from that of the server".to_owned();
    };
    let direction = if ours < theirs { "behind" } else { "ahead of" };
    let span = Duration::try_from(theirs.duration_since(ours).abs()).unwrap_or_default().as_secs();
    let parts = [(span / 3600, "h"), (span / 60 % 60, "min"), (span % 60, "s")];
    let parts: Vec<_> = parts.iter().filter(|(figure, _)| *figure > 0).map(|(n, unit)| format!("{n} {unit}")).collect();
    format!("is {} {direction} that of the server", parts.join(" "))
}

/// The time after `label`.
fn after(text: &str, label: &str) -> Option<Timestamp> {
    let (_, rest) = text.split_once(label)?;
    time::parse(rest.trim_start().split([',', ' ', ';']).next()?.trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn both_times_give_the_difference() {
        for (text, expected) in [
            (
                "calc aksk signature fail:signature expired, signature time:20260105T064303Z,server time:20260105T065904Z",
                "is 16 min 1 s behind that of the server",
            ),
            (
                "Signature expired, signature time:20260105T085904Z, server time:20260105T065903Z.",
                "is 2 h 1 s ahead of that of the server",
            ),
            (
                "signature time:2026-01-05T06:43:03Z,server time:2026-01-05T07:43:03Z",
                "is 1 h behind that of the server",
            ),
            ("signature expired", "differs from that of the server"),
            ("signature time:yesterday,server time:20260105T065904Z", "differs from that of the server"),
        ] {
            assert_eq!(difference(text), expected, "{text}");
        }
    }
}

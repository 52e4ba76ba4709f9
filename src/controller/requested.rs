//! A request to look now, made by an annotation. There are two of them, ours and that of Flux, and whichever changed last counts.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::{FLUX_REQUESTED_AT, REQUESTED_AT};

/// The values of the annotations of one object that has any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requested {
    /// By [`NAMES`].
    values: [Option<String>; 2],
    /// Which of them counts.
    latest: usize,
}

/// Ours first: it counts where nothing tells which is the later one.
const NAMES: [&str; 2] = [REQUESTED_AT, FLUX_REQUESTED_AT];

impl Requested {
    /// The annotations of an object that is new here; none where it has neither.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Option<Box<Self>> {
        let values = NAMES.map(|name| meta.annotations.as_ref()?.get(name).cloned());
        let is_given = values.iter().any(Option::is_some);
        is_given.then(|| {
            let mut requested = Box::new(Self { values, latest: 0 });
            requested.settle(None, None);
            requested
        })
    }

    /// Finds out which counts. `before`: the annotations that the object had, where it was known; `handled`: the value that was acted
    /// upon last.
    pub fn settle(&mut self, before: Option<&Self>, handled: Option<&str>) {
        let [ours, theirs] = &self.values;
        self.latest = match (ours, theirs) {
            (_, None) => 0,
            (None, Some(_)) => 1,
            (Some(ours), Some(theirs)) => {
                let changed = |at: usize| before.is_some_and(|before| before.values.get(at) != self.values.get(at));
                match (changed(0), changed(1)) {
                    (true, false) => 0,
                    (false, true) => 1,
                    (false, false) if let Some(before) = before => before.latest,
                    // Both at once, or the object is new here: what stands in them has to tell.
                    _ => usize::from(is_later(theirs, ours, handled)),
                }
            }
        };
    }

    /// The value that counts.
    #[must_use]
    pub fn value(&self) -> Option<&str> {
        self.values.get(self.latest)?.as_deref()
    }
}

/// Whether `theirs` is the later request. Usually both are times; where they are not, the one that was handled last counts, so that a
/// restart makes no request of what had been handled.
fn is_later(theirs: &str, ours: &str, handled: Option<&str>) -> bool {
    match (time(theirs), time(ours)) {
        (Some(theirs), Some(ours)) => theirs > ours,
        _ => handled == Some(theirs),
    }
}

/// A time as people and tools write it there: by RFC 3339, or in seconds since 1970 (`date +%s`).
fn time(value: &str) -> Option<Timestamp> {
    let seconds = || value.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    value.parse().ok().or_else(seconds)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn requested(
        ours: Option<&str>,
        theirs: Option<&str>,
        before: Option<&Requested>,
        handled: Option<&str>,
    ) -> Option<Box<Requested>> {
        let mut requested = Requested::of(&meta(ours, theirs))?;
        requested.settle(before, handled);
        Some(requested)
    }

    fn meta(ours: Option<&str>, theirs: Option<&str>) -> ObjectMeta {
        let annotations: BTreeMap<_, _> = NAMES
            .iter()
            .zip([ours, theirs])
            .filter_map(|(name, value)| Some(((*name).to_owned(), value?.to_owned())))
            .collect();
        ObjectMeta { annotations: Some(annotations), ..ObjectMeta::default() }
    }

    #[test]
    fn the_one_that_changed_last_counts() {
        let mut before: Option<Box<Requested>> = None;
        for (ours, theirs, expected) in [
            (None, None, None),
            (Some("a"), None, Some("a")),
            (Some("a"), Some("1"), Some("1")),
            (Some("a"), Some("1"), Some("1")),
            (Some("b"), Some("1"), Some("b")),
            (Some("b"), Some("1"), Some("b")),
            (Some("b"), Some("2"), Some("2")),
            (Some("b"), None, Some("b")),
        ] {
            before = requested(ours, theirs, before.as_deref(), Some("a"));
            assert_eq!(before.as_deref().and_then(Requested::value), expected, "{ours:?} {theirs:?}");
        }
    }

    #[test]
    fn of_an_object_that_is_new_here_the_later_time_counts_else_what_was_handled() {
        let (early, late) = ("2026-11-27T08:00:00Z", "2026-11-27T09:00:00.5+00:00");
        for (ours, theirs, handled, expected) in [
            (early, late, Some(early), late),
            (late, early, Some(early), late),
            (late, early, None, late),
            ("a", "b", Some("b"), "b"),
            ("a", "b", Some("a"), "a"),
            ("a", late, None, "a"),
            ("1795766399", early, Some("1795766399"), early),
            ("1795770001", early, None, "1795770001"),
        ] {
            let found = requested(Some(ours), Some(theirs), None, handled).unwrap();
            assert_eq!(found.value(), Some(expected), "{ours} {theirs} {handled:?}");
        }
    }
}

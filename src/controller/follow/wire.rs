//! How the API server writes lists, watches and refusals, as far as that is looked at. Objects stay where they are in the buffer.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// One page of a list.
#[derive(Deserialize)]
pub(super) struct Page<'a> {
    pub(super) metadata: PageMetadata,
    #[serde(borrow, default)]
    pub(super) items: Option<Vec<&'a RawValue>>,
}

/// What a list says of itself.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PageMetadata {
    resource_version: Option<String>,
    #[serde(rename = "continue")]
    continuation: Option<String>,
}

impl PageMetadata {
    /// The version of the collection; 0 where it has none that can be compared.
    pub(super) fn version(&self) -> u64 {
        self.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
    }

    /// With what the next page is asked for; none on the last one.
    pub(super) fn into_token(self) -> Option<String> {
        self.continuation.filter(|token| !token.is_empty())
    }
}

/// One line of a watch.
#[derive(Deserialize)]
pub(super) struct Event<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) object: &'a RawValue,
}

/// An answer that is no success (`metav1.Status`).
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub(super) struct Refusal {
    pub(super) code: u16,
    reason: String,
    message: String,
    metadata: RefusalMetadata,
}

#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
struct RefusalMetadata {
    #[serde(rename = "continue")]
    continuation: String,
}

impl Refusal {
    /// Reads the body of an answer with this status. A body that is no `Status`, as that of a proxy, is left out.
    pub(super) fn read(status: u16, body: &[u8]) -> Self {
        let read: Self = serde_json::from_slice(body).unwrap_or_default();
        Self { code: status, ..read }
    }

    /// Reads the object of an `ERROR` event.
    pub(super) fn of(object: &str) -> Self {
        serde_json::from_str(object).unwrap_or_default()
    }

    /// Whether the version or page that was asked for is no longer, or not yet, there: only a new list helps.
    pub(super) fn is_expired(&self) -> bool {
        matches!(self.code, 400 | 410) || self.message.contains("Too large resource version")
    }

    /// With what an expired list can be continued, from what there is now.
    pub(super) fn into_token(self) -> Option<String> {
        (self.code == 410 && !self.metadata.continuation.is_empty()).then_some(self.metadata.continuation)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, reason, message, .. } = self;
        match (message.is_empty(), reason.is_empty()) {
            (false, _) => write!(f, "{code} {message}"),
            (true, false) => write!(f, "{code} {reason}"),
            (true, true) => write!(f, "{code}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_wherever_its_metadata_stands() {
        for text in [
            r#"{"apiVersion":"v1","items":[{"a":1},{"b":"]"}],"kind":"L","metadata":{"continue":"t","resourceVersion":"7"}}"#,
            r#"{"metadata":{"resourceVersion":"7","continue":"t","remainingItemCount":3},"items":[{"a":1},{"b":"]"}]}"#,
        ] {
            let page: Page<'_> = serde_json::from_str(text).unwrap();
            let items: Vec<_> = page.items.unwrap().iter().map(|item| item.get()).collect();
            assert_eq!(items, [r#"{"a":1}"#, r#"{"b":"]"}"#]);
            assert_eq!(page.metadata.version(), 7);
            assert_eq!(page.metadata.into_token().as_deref(), Some("t"));
        }
        let last: Page<'_> = serde_json::from_str(r#"{"metadata":{"continue":""},"items":null}"#).unwrap();
        assert!(last.items.is_none() && last.metadata.into_token().is_none());
    }

    #[test]
    fn refusals_are_told_apart() {
        // As kube-apiserver 1.34 answers.
        let expired =
            br#"{"kind":"Status","metadata":{"continue":"next"},"status":"Failure","reason":"Expired","code":410,
            "message":"The provided continue parameter is too old to display a consistent list result."}"#;
        let ahead = br#"{"kind":"Status","metadata":{},"status":"Failure","reason":"Timeout","code":504,
            "message":"Too large resource version: 900, current: 800"}"#;
        let refused =
            br#"{"kind":"Status","metadata":{},"status":"Failure","reason":"Forbidden","message":"no","code":403}"#;
        for (status, body, expired, token) in [
            (410, &expired[..], true, Some("next")),
            (504, ahead, true, None),
            (403, refused, false, None),
            (502, b"<html>", false, None),
        ] {
            let refusal = Refusal::read(status, body);
            assert_eq!(refusal.is_expired(), expired, "{refusal}");
            assert_eq!(refusal.into_token().as_deref(), token);
        }
        assert_eq!(Refusal::read(403, refused).to_string(), "403 no");
        assert_eq!(Refusal::read(502, b"<html>").to_string(), "502");
    }
}

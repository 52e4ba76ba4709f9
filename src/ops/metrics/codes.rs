//! The label `code`: a bounded number of values, whatever an upstream answers.

use std::{borrow::Cow, collections::BTreeSet, sync::Mutex};

use crate::sync::lock;

/// What is none of the known ones.
const OTHER: &str = "other";
/// The HTTP statuses that are shown as they are: those that API servers and gateways answer with.
const STATUSES: &[&str] = &[
    "200", "201", "202", "204", "206", "301", "302", "303", "304", "307", "308", "400", "401", "403", "404", "405",
    "408", "409", "410", "413", "415", "422", "429", "500", "502", "503", "504",
];
/// Reasons for no answer are the operator's own words, of which there are some; more than this and somebody else writes them.
const MAX_WORDS: usize = 32;

/// The reasons for no answer that were seen.
#[derive(Debug, Default)]
pub(super) struct Codes(Mutex<BTreeSet<String>>);

impl Codes {
    /// The label for an HTTP status, or for the code of a failure without one.
    pub(super) fn label(&self, code: &str) -> Cow<'static, str> {
        if let Some(known) = STATUSES.iter().find(|known| **known == code) {
            return Cow::Borrowed(known);
        }
        let is_word = (1..=40).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphabetic());
        if !is_word {
            return Cow::Borrowed(if code == "<error>" { "<error>" } else { OTHER });
        }
        let mut words = lock(&self.0);
        if words.contains(code) || (words.len() < MAX_WORDS && words.insert(code.to_owned())) {
            return Cow::Owned(code.to_owned());
        }
        Cow::Borrowed(OTHER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_statuses_and_our_own_words_are_shown_and_nothing_else() {
        let codes = Codes::default();
        for code in ["200", "204", "301", "401", "404", "429", "503", "Timeout", "EgressDenied", "<error>"] {
            assert_eq!(codes.label(code), code);
        }
        for code in ["299", "399", "418", "499", "599", "999", "", "0200", "a b", "x\n", "\u{e9}", "APIGW.0301"] {
            assert_eq!(codes.label(code), OTHER, "{code:?}");
        }
    }

    #[test]
    fn there_is_an_end_to_words() {
        let codes = Codes::default();
        let letters = |n: u8| format!("Word{}{}", char::from(b'a' + n / 26), char::from(b'a' + n % 26));
        let shown: BTreeSet<_> = (0..200).map(|n| codes.label(&letters(n))).collect();
        assert_eq!(shown.len(), MAX_WORDS + 1);
        assert_eq!(codes.label(&letters(0)), letters(0), "who was there stays");
    }
}

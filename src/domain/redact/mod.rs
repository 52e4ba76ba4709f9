//! Takes secrets out of foreign text: an upstream may repeat what it was sent, and what it says is shown to people who may not know that.
//!
//! A secret is found as it stands, in base64 at any place, and behind any mixture of the escapes of JSON, URLs and HTML; also the beginning of
//! one, where it is long enough or the text was cut there. Values under 8 bytes cannot be told from words, and are left.
//!
//! | module | what it does |
//! |---|---|
//! | `form` | how a secret may stand in a text |
//! | `search` | finds the forms, quickly |
//! | `unescape` | reads escapes, and knows where each byte was |
//! | `cut_out` | puts the mark in their place, so that JSON stays JSON |
//! | `texts` | all texts of a failure and of a task |

mod cut_out;
mod form;
mod search;
#[cfg(test)]
mod tests;
mod texts;
mod unescape;

use std::{borrow::Cow, fmt, ops::Range, sync::Arc};

use secrecy::{ExposeSecret, SecretString};

use self::{
    form::{Form, HEAD},
    search::Search,
    unescape::Plain,
};

/// What stands in the place of a secret.
pub const MARK: &str = "[redacted]";

/// A text that nobody may be shown. `Debug` does not show it.
#[derive(Clone, Debug)]
pub struct Secret {
    value: SecretString,
    is_name: bool,
}

impl Secret {
    /// One that is hidden wherever it stands; blanks at its ends do not count.
    #[must_use]
    pub fn value(value: &str) -> Self {
        Self { value: SecretString::from(value.trim()), is_name: false }
    }

    /// A name, as of a user, which may be part of other words: hidden where it stands alone.
    #[must_use]
    pub fn name(name: &str) -> Self {
        Self { is_name: true, ..Self::value(name) }
    }

    fn is(&self, other: &Self) -> bool {
        self.is_name == other.is_name && self.value.expose_secret() == other.value.expose_secret()
    }
}

/// Knows what is secret, and takes it out of texts.
#[derive(Clone)]
pub struct Redactor {
    secrets: Vec<Secret>,
    search: Search,
}

impl Redactor {
    /// A redactor for these secrets.
    #[must_use]
    pub fn new(secrets: impl IntoIterator<Item = Secret>) -> Self {
        let mut known: Vec<Secret> = Vec::new();
        for secret in secrets {
            if secret.value.expose_secret().len() >= HEAD && !known.iter().any(|old| old.is(&secret)) {
                known.push(secret);
            }
        }
        let search = Search::new(known.iter().flat_map(forms).collect());
        Self { secrets: known, search }
    }

    /// One that knows these secrets, too; none where it knows them already.
    #[must_use]
    pub fn and(&self, more: &[Secret]) -> Option<Self> {
        let is_new = |secret: &Secret| !self.secrets.iter().any(|known| known.is(secret));
        more.iter().any(is_new).then(|| Self::new(self.secrets.iter().chain(more).cloned()))
    }

    /// `text` without secrets: borrowed where there are none. `is_cut`: it may end in the middle of something.
    #[must_use]
    pub fn redact<'t>(&self, text: &'t [u8], is_cut: bool) -> Cow<'t, [u8]> {
        let found = self.find(text, is_cut);
        if found.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(cut_out::cut_out(text, found)) }
    }

    /// Takes secrets out of a text that is to be shown. An ellipsis at its end says that it was cut there.
    pub fn redact_text(&self, text: &mut String) {
        const ELLIPSIS: &str = "…";
        let (whole, ellipsis) = text.strip_suffix(ELLIPSIS).map_or((text.as_str(), ""), |whole| (whole, ELLIPSIS));
        if let Cow::Owned(redacted) = self.redact(whole.as_bytes(), !ellipsis.is_empty()) {
            *text = String::from_utf8_lossy(&redacted).into_owned() + ellipsis;
        }
    }

    /// Where secrets stand, in any order.
    fn find(&self, text: &[u8], is_cut: bool) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        if self.search.is_empty() {
            return found;
        }
        self.search.find(text, |range| found.push(range));
        if is_cut {
            found.extend(self.begun(text, |range| range));
        }
        for part in unescape::escaped(text, self.search.longest() + unescape::LONGEST) {
            let is_cut = is_cut && part.end == text.len();
            let first = Plain::of(text, part);
            for plain in std::iter::successors(first, Plain::again).take(unescape::PASSES) {
                self.search.find(&plain.bytes, |range| found.push(plain.range(range)));
                if is_cut {
                    found.extend(self.begun(&plain.bytes, |range| plain.range(range)));
                }
            }
        }
        found
    }

    /// The secret that begins at the end of a text, if any.
    fn begun(&self, text: &[u8], range: impl Fn(Range<usize>) -> Range<usize>) -> Option<Range<usize>> {
        // What begins an escape may be all that is left of one.
        let tail = text.len().saturating_sub(unescape::LONGEST);
        let leads = text.iter().enumerate().skip(tail).filter(|(_, byte)| matches!(byte, b'\\' | b'%' | b'&'));
        let mut ends = leads.map(|(at, _)| at).chain([text.len()]);
        let start = ends.find_map(|end| self.search.begun(text.get(..end)?))?;
        Some(range(start..text.len()))
    }
}

/// All forms of a secret: its own, and those of what it reads like without what looks like escapes in it.
fn forms(secret: &Secret) -> Vec<Form> {
    let value = secret.value.expose_secret().as_bytes();
    let mut values = vec![value.to_vec()];
    values.extend(unescape::readings(value));
    values.retain(|value| value.len() >= HEAD);
    values.iter().flat_map(|value| Form::all(&Arc::from(value.as_slice()), secret.is_name)).collect()
}

// It holds what is secret.
impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").field("secrets", &self.secrets.len()).finish_non_exhaustive()
    }
}

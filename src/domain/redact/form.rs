//! How a secret may stand in a text, escapes aside: as it is, or as part of something in base64.

use std::sync::Arc;

/// A form's first bytes, by which it is searched for; a secret is at least as long.
pub(super) const HEAD: usize = 8;
/// So much of the beginning of a longer secret counts as the secret: whoever quotes it may have cut it short.
const ENOUGH: usize = 16;

/// One way in which a secret may stand in a text. It is not `Debug`: what it holds is secret.
#[derive(Clone)]
pub(super) struct Form {
    value: Arc<[u8]>,
    coding: Coding,
    /// The first bytes, folded.
    head: [u8; HEAD],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Coding {
    Plain,
    /// As it is, and only as a whole word.
    Word,
    /// Base64 of something in which so many bytes, modulo 3, come before the secret; only the characters that are made of nothing but the
    /// secret. In the standard alphabet, or in that for URLs.
    Base64(usize),
}

impl Form {
    /// The forms of a secret of at least [`HEAD`] bytes; those of a name, where `is_name`.
    pub(super) fn all(value: &Arc<[u8]>, is_name: bool) -> Vec<Self> {
        let codings: &[Coding] = if is_name {
            &[Coding::Word]
        } else {
            &[Coding::Plain, Coding::Base64(0), Coding::Base64(1), Coding::Base64(2)]
        };
        let form = |coding: &Coding| {
            let mut form = Self { value: Arc::clone(value), coding: *coding, head: [0; HEAD] };
            form.head = std::array::from_fn(|at| form.at(at).map_or(0, fold));
            form
        };
        codings.iter().map(form).collect()
    }

    /// The first bytes, each as [`fold`] gives it.
    pub(super) fn head(&self) -> [u8; HEAD] {
        self.head
    }

    /// In bytes.
    pub(super) fn len(&self) -> usize {
        match self.coding {
            Coding::Plain | Coding::Word => self.value.len(),
            Coding::Base64(before) => 8 * (before + self.value.len()) / 6 - first(before),
        }
    }

    /// Where the form that begins at `start` of `text` ends: the whole of it, or a long enough beginning.
    pub(super) fn end(&self, text: &[u8], start: usize) -> Option<usize> {
        let rest = text.get(start..)?;
        let same = self.agrees(rest);
        let is_whole = same == self.len();
        let end = start + same;
        match self.coding {
            Coding::Plain => (is_whole || same >= ENOUGH).then_some(end),
            Coding::Word => {
                let is_inside = |byte: Option<&u8>| byte.is_some_and(|byte| is_word(*byte));
                let before = start.checked_sub(1).and_then(|at| text.get(at));
                (is_whole && !is_inside(before) && !is_inside(text.get(end))).then_some(end)
            }
            Coding::Base64(before) if is_whole => {
                // The character that the last bits share with what follows, and the padding.
                let ends_within = !(8 * (before + self.value.len())).is_multiple_of(6);
                let shared = usize::from(ends_within && text.get(end).is_some_and(|byte| is_base64(*byte)));
                let padding = text.get(end + shared..)?.iter().take(2).take_while(|byte| **byte == b'=').count();
                Some(end + shared + padding)
            }
            Coding::Base64(_) => (same >= ENOUGH).then_some(end),
        }
    }

    /// Whether `text` is a beginning of the form, or all of it. Names are not looked for so: they are of words.
    pub(super) fn begins_with(&self, text: &[u8]) -> bool {
        self.coding != Coding::Word && self.agrees(text) == text.len()
    }

    /// How many bytes at the beginning of `text` are those of the form.
    fn agrees(&self, text: &[u8]) -> usize {
        text.iter().zip(0..self.len()).take_while(|(byte, at)| self.is_at(*at, **byte)).count()
    }

    fn is_at(&self, at: usize, byte: u8) -> bool {
        let Some(own) = self.at(at) else { return false };
        match self.coding {
            // A blank and a plus sign are the same in the query of a URL.
            Coding::Plain | Coding::Word => own == byte || matches!((own, byte), (b' ', b'+') | (b'+', b' ')),
            Coding::Base64(_) => own == byte || (fold(own) == fold(byte) && !own.is_ascii_alphanumeric()),
        }
    }

    fn at(&self, at: usize) -> Option<u8> {
        match self.coding {
            Coding::Plain | Coding::Word => self.value.get(at).copied(),
            Coding::Base64(before) => {
                let bit = 6 * (first(before) + at) - 8 * before;
                let byte = |at: usize| self.value.get(at).copied().map(u16::from);
                let pair = byte(bit / 8)? << 8 | byte(bit / 8 + 1).unwrap_or_default();
                ALPHABET.get(usize::from(pair >> (10 - bit % 8) & 63)).copied()
            }
        }
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The number of the first character that has nothing of the `before` bytes before the secret.
fn first(before: usize) -> usize {
    (8 * before).div_ceil(6)
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

/// What a name may go on with. Letters beyond ASCII are of bytes above it.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') || byte >= 0x80
}

/// One byte for all that may stand for each other in some form.
pub(super) const fn fold(byte: u8) -> u8 {
    match byte {
        b' ' | b'-' => b'+',
        b'_' => b'/',
        byte => byte,
    }
}

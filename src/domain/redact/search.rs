//! Finds the forms of all secrets in one pass over a text, most of which it does not look at (Wu and Manber, 1994, with blocks of two
//! bytes): as the least form has [`HEAD`] bytes, two bytes that are in no form's head rule out all that begin at the seven places before.

use std::ops::Range;

use super::form::{Form, HEAD, fold};

/// The table's size: a power of two.
const BLOCKS: usize = 1 << 12;
/// So little at the end of a text that was cut counts as the beginning of a secret.
const LEAST: usize = 6;

/// The forms that are searched for.
#[derive(Clone, Debug)]
pub(super) struct Search {
    forms: Vec<Form>,
    /// By block: how far to go on to where a head could end.
    steps: Box<[u8]>,
    longest: usize,
}

impl Search {
    pub(super) fn new(forms: Vec<Form>) -> Self {
        let mut steps = vec![LAST; BLOCKS].into_boxed_slice();
        for head in forms.iter().map(Form::head) {
            for ((first, second), left) in head.iter().zip(head.iter().skip(1)).zip((0..LAST).rev()) {
                if let Some(step) = steps.get_mut(block(*first, *second)) {
                    *step = left.min(*step);
                }
            }
        }
        let longest = forms.iter().map(Form::len).max().unwrap_or_default();
        Self { forms, steps, longest }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    /// The length of the longest form, in bytes.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// Calls `found` with each place where a form stands.
    pub(super) fn find(&self, text: &[u8], mut found: impl FnMut(Range<usize>)) {
        let mut last = HEAD - 1;
        while let Some(&byte) = text.get(last) {
            let before = text.get(last - 1).copied().unwrap_or_default();
            let step = self.steps.get(block(before, byte)).copied().unwrap_or_default();
            if step > 0 {
                last += usize::from(step);
                continue;
            }
            let start = last + 1 - HEAD;
            match self.longest_at(text, start) {
                Some(end) => {
                    found(start..end);
                    // What begins in its last bytes is found, too.
                    last = end.max(last + 1);
                }
                None => last += 1,
            }
        }
    }

    fn longest_at(&self, text: &[u8], start: usize) -> Option<usize> {
        let head = text.get(start..start + HEAD)?;
        let is_head = |form: &&Form| form.head().iter().zip(head).all(|(own, byte)| *own == fold(*byte));
        self.forms.iter().filter(is_head).filter_map(|form| form.end(text, start)).max()
    }

    /// Where the beginning of a form stands at the end of a text that was cut there; longer ones than this finds are found by
    /// [`Self::find`].
    pub(super) fn begun(&self, text: &[u8]) -> Option<usize> {
        let starts = (LEAST..2 * HEAD).rev().filter_map(|length| text.len().checked_sub(length));
        starts.into_iter().find(|start| {
            let rest = text.get(*start..).unwrap_or_default();
            self.forms.iter().any(|form| form.begins_with(rest))
        })
    }
}

/// A step where nothing is known against it.
const LAST: u8 = 7;
const _: () = assert!(LAST as usize == HEAD - 1);

fn block(first: u8, second: u8) -> usize {
    (usize::from(fold(first)) << 4 ^ usize::from(fold(second))) & (BLOCKS - 1)
}

//! Finds the forms of all secrets in one pass over a text, most of which it does not look at (Wu and Manber, 1994, with blocks of two
//! bytes): as the least form has [`HEAD`] bytes, two bytes that are in no form's head rule out all that begin at the seven places before.

use std::ops::Range;

use super::form::{Form, HEAD, fold};

/// The table's size: a power of two.
const BLOCKS: usize = 1 << 12;
/// So little at the end of a text that was cut counts as the beginning of a secret.
const LEAST: usize = 6;

/// The forms that are searched for.
#[derive(Clone)]
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

    /// Calls `found` with each place where a form stands; they may overlap, as forms may: of a value and of what it is a part of, or of one
    /// that begins alike. Only a form's own places do not, or a text that repeats itself would cost its length by the secret's.
    pub(super) fn find(&self, text: &[u8], mut found: impl FnMut(Range<usize>)) {
        let mut last = HEAD - 1;
        // By form, once there was any: where its last place ends.
        let mut ends = Vec::new();
        while let Some(&byte) = text.get(last) {
            let before = text.get(last - 1).copied().unwrap_or_default();
            let step = self.steps.get(block(before, byte)).copied().unwrap_or_default();
            if step > 0 {
                last += usize::from(step);
                continue;
            }
            let start = last + 1 - HEAD;
            let head = text.get(start..=last).unwrap_or_default();
            for (number, form) in self.forms.iter().enumerate() {
                let is_head = form.head().iter().zip(head).all(|(own, byte)| *own == fold(*byte));
                let is_inside = ends.get(number).is_some_and(|end| *end > last);
                let Some(end) = (is_head && !is_inside).then(|| form.end(text, start)).flatten() else { continue };
                found(start..end);
                ends.resize(self.forms.len(), 0);
                if let Some(before) = ends.get_mut(number) {
                    *before = end;
                }
            }
            last += 1;
        }
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

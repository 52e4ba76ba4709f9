//! Texts that tasks have in common (names, types, users), each kept once: of an account's thousands of tasks most are alike.

use std::{collections::HashSet, sync::Arc};

/// What the allocator and the table take for one text beside its bytes.
const OVERHEAD: usize = 48;

/// The texts of some tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Texts(HashSet<Arc<str>>);

impl Texts {
    /// How many bytes more it takes to keep this one.
    pub(super) fn growth(&self, text: &str) -> usize {
        if self.0.contains(text) { 0 } else { size(text) }
    }

    /// Puts the text that is kept in the place of one that reads alike. Returns how many bytes more are kept.
    pub(super) fn share(&mut self, text: &mut Arc<str>) -> usize {
        if let Some(kept) = self.0.get(text) {
            *text = Arc::clone(kept);
            return 0;
        }
        self.0.insert(Arc::clone(text));
        size(text)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets those that nobody has any more. Returns how many bytes less are kept.
    pub(super) fn forget_unused(&mut self) -> usize {
        let mut less = 0;
        self.0.retain(|text| {
            let is_used = Arc::strong_count(text) > 1;
            if !is_used {
                less += size(text);
            }
            is_used
        });
        less
    }
}

fn size(text: &str) -> usize {
    text.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reads_alike_is_kept_once_and_no_longer_than_it_is_used() {
        let mut texts = Texts::default();
        let [mut a, mut b]: [Arc<str>; 2] = ["backup".into(), "backup".into()];
        assert_eq!(texts.growth("backup"), size("backup"));
        assert_eq!((texts.share(&mut a), texts.share(&mut b)), (size("backup"), 0));
        assert!(Arc::ptr_eq(&a, &b) && texts.growth("backup") == 0);
        drop(a);
        assert_eq!(texts.forget_unused(), 0);
        drop(b);
        assert_eq!((texts.forget_unused(), texts.len()), (size("backup"), 0));
    }
}

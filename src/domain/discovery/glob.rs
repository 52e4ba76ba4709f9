//! Patterns with `*` and `?`.

use std::collections::BTreeMap;

/// A pattern in which `*` stands for any characters, none included, and `?` for one.
///
/// All ways through the pattern are followed at once, each a bit: a text is read once, whatever the pattern, so that nobody can make
/// a list of 50,000 tasks expensive by writing many asterisks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    /// How many characters it has beside asterisks. So many steps lead to its end.
    length: usize,
    /// For each character of the pattern the steps that it takes, those of `?` among them; in order.
    steps: Box<[(char, Bits)]>,
    /// The steps of `?`, which every character takes.
    any: Bits,
    /// Where an asterisk stands: any character may come there, and leads nowhere.
    stays: Bits,
}

/// One bit for each place in the pattern, its end included.
type Bits = Box<[u64]>;

impl Glob {
    pub(super) fn new(pattern: &str) -> Self {
        let length = pattern.chars().filter(|c| *c != '*').count();
        let none = || -> Bits { vec![0; length / 64 + 1].into() };
        let (mut steps, mut any, mut stays) = (BTreeMap::<char, Bits>::new(), none(), none());
        let mut place = 0;
        for c in pattern.chars() {
            match c {
                '*' => set(&mut stays, place),
                '?' => set(&mut any, place),
                c => set(steps.entry(c).or_insert_with(none), place),
            }
            place += usize::from(c != '*');
        }
        for bits in steps.values_mut() {
            bits.iter_mut().zip(&any).for_each(|(bits, any)| *bits |= any);
        }
        Self { length, steps: steps.into_iter().collect(), any, stays }
    }

    /// Whether the whole text is as the pattern says.
    pub(super) fn is_like(&self, text: &str) -> bool {
        let mut here = vec![0; self.any.len()];
        set(&mut here, 0);
        for c in text.chars() {
            let known = self.steps.binary_search_by_key(&c, |(c, _)| *c).ok().and_then(|at| self.steps.get(at));
            let steps = known.map_or(&self.any, |(_, steps)| steps);
            let (mut carry, mut alive) = (0, 0);
            for ((here, steps), stays) in here.iter_mut().zip(steps).zip(&self.stays) {
                let moves = *here & steps;
                *here = moves << 1 | carry | *here & stays;
                carry = moves >> 63;
                alive |= *here;
            }
            if alive == 0 {
                return false;
            }
        }
        here.get(self.length / 64).is_some_and(|bits| bits >> (self.length % 64) & 1 == 1)
    }
}

fn set(bits: &mut [u64], place: usize) {
    if let Some(bits) = bits.get_mut(place / 64) {
        *bits |= 1 << (place % 64);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Glob;

    #[test]
    fn stars_and_question_marks_stand_for_characters() {
        for (pattern, yes, no) in [
            ("astra.backup", vec!["astra.backup"], vec!["", "astra.backups", "Astra.backup", "xastra.backup"]),
            ("astra.backup*", vec!["astra.backup", "astra.backup.run"], vec!["astra.back", "x.astra.backup"]),
            ("*backup*", vec!["backup", "astra.backup.run"], vec!["astra.Backup", "bac kup"]),
            ("*", vec!["", "a", "ж💾"], vec![]),
            ("?", vec!["a", "ж", "💾"], vec!["", "ab"]),
            ("a?*c", vec!["abc", "a?cc", "aXYc"], vec!["ac", "abd"]),
            ("**a**", vec!["a", "bab"], vec!["", "b"]),
            // What means something elsewhere is a character here.
            ("a[b].\\d", vec!["a[b].\\d"], vec!["ab.1", "abX1"]),
        ] {
            let glob = Glob::new(pattern);
            for (texts, expected) in [(yes, true), (no, false)] {
                assert!(texts.iter().all(|text| glob.is_like(text) == expected), "{pattern} {texts:?}");
            }
        }
    }

    #[test]
    fn long_patterns_are_no_different_and_many_asterisks_no_dearer() {
        for length in [1, 63, 64, 65, 127, 128, 129, 256] {
            let text = "ab".repeat(length)[..length].to_owned();
            assert!(Glob::new(&text).is_like(&text));
            assert!(!Glob::new(&text).is_like(&text[1..]), "{length}");
            assert!(Glob::new(&"?".repeat(length)).is_like(&text));
            assert!(Glob::new(&format!("*{}", &text[1..])).is_like(&text), "{length}");
        }
        // Who tries one way after the other does not come to an end here.
        let glob = Glob::new(&"*a".repeat(128));
        assert!(!glob.is_like(&format!("{}b", "a".repeat(10_000))));
        assert!(glob.is_like(&"a".repeat(10_000)));
    }

    /// The plainest matcher there is.
    fn plain(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), None) => plain(rest, text),
            (Some(('*', rest)), Some((_, tail))) => plain(rest, text) || plain(pattern, tail),
            (Some((c, rest)), Some((t, tail))) => (*c == '?' || c == t) && plain(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn is_like_what_the_plainest_matcher_says(pattern in "[ab?*]{0,8}", text in "[abж]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(Glob::new(&pattern).is_like(&text), plain(&chars(&pattern), &chars(&text)));
        }
    }
}

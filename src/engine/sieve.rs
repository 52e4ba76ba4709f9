//! Reads a list as it arrives, and lets go at once of the entries that are known already: of a list of thousands only what is new is
//! ever held.
//!
//! It knows of JSON only strings and brackets. What is no list passes through as it is, and is judged by whoever decodes it.

use crate::providers::wire::list;

/// The document so far, without the entries that were known.
#[derive(Debug, Default)]
pub struct Sieve {
    /// `..done` is decided; what follows is the entry that has begun.
    text: Vec<u8>,
    done: usize,
    /// How far it has been read.
    read: usize,
    depth: usize,
    within: Within,
    /// The list that is being read; none outside of one.
    list: Option<Elements>,
    left_out: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Within {
    /// Before the first bracket.
    #[default]
    Nothing,
    /// A document that is no object: nothing is left out of it.
    Other,
    /// An object, between strings.
    Object,
    String,
    Escape,
}

/// An array that is a member of the document.
#[derive(Debug, Default)]
struct Elements {
    /// Whether one has been kept: the next keeps the comma before it.
    any: bool,
    /// Where the present one begins and ends, counted from the comma before it; only objects and arrays.
    value: Option<(usize, usize)>,
    /// There is more than that between two commas.
    odd: bool,
    /// Where the elements begin in the text.
    start: usize,
}

/// So many bytes of a list are decoded at a time.
const SLICE: usize = 128 << 10;
/// No more than this is held of one element, nor of what is beside the elements, in bytes.
const MOST: usize = 1 << 20;
/// The depth of a list's elements: within the document, and within the list.
const ELEMENTS: usize = 2;

impl Sieve {
    /// Takes the next part of the document in. `knows` says whether an entry with this print (see [`list::print`]) is known. Returns
    /// whether it can be read on: an element, and all that is beside the elements, must be within 1 MiB.
    #[must_use = "what cannot be read on must not be"]
    pub fn push(&mut self, part: &[u8], mut knows: impl FnMut(u64) -> bool) -> bool {
        self.text.extend_from_slice(part);
        // What has been read and not been decided begins here.
        let mut open = self.done;
        while let Some(&byte) = self.text.get(self.read) {
            let at = self.read;
            self.read += 1;
            match (self.within, byte) {
                (Within::Other, _) => self.read = self.text.len(),
                (Within::Nothing, b'{') => (self.within, self.depth) = (Within::Object, 1),
                // Blanks, and the byte order mark.
                (Within::Nothing | Within::Object, b' ' | b'\t' | b'\r' | b'\n')
                | (Within::Nothing, 0xef | 0xbb | 0xbf) => {}
                (Within::Nothing, _) => self.within = Within::Other,
                (Within::String, b'\\') => self.within = Within::Escape,
                (Within::String, b'"') => self.within = Within::Object,
                (Within::String, _) => {
                    let rest = self.text.get(self.read..).unwrap_or_default();
                    self.read += rest.iter().position(|byte| matches!(byte, b'"' | b'\\')).unwrap_or(rest.len());
                }
                (Within::Escape, _) => self.within = Within::String,
                (Within::Object, b'"') => {
                    self.within = Within::String;
                    self.is_odd();
                }
                (Within::Object, b'{' | b'[') => {
                    self.depth += 1;
                    if self.depth == ELEMENTS + 1
                        && let Some(list) = &mut self.list
                    {
                        list.odd |= list.value.is_some();
                        list.value = Some((at - open, 0));
                    } else if self.depth == ELEMENTS && byte == b'[' {
                        open = self.keep(open, self.read);
                        self.list = Some(Elements { start: self.done, ..Elements::default() });
                    }
                }
                (Within::Object, b'}' | b']') if self.depth == ELEMENTS => {
                    open = self.end_element(open, at, &mut knows);
                    (self.list, self.depth) = (None, self.depth - 1);
                }
                (Within::Object, b'}' | b']') => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == ELEMENTS
                        && let Some((_, end)) = self.list.as_mut().and_then(|list| list.value.as_mut())
                    {
                        *end = self.read - open;
                    }
                }
                (Within::Object, b',') if self.depth == ELEMENTS && self.list.is_some() => {
                    open = self.end_element(open, at, &mut knows);
                }
                (Within::Object, _) => self.is_odd(),
            }
        }
        if self.list.is_none() {
            open = self.keep(open, self.read);
        }
        // What is left is the entry that has begun, or nothing.
        self.text.copy_within(open.., self.done);
        self.text.truncate(self.done + self.read - open);
        self.read = self.text.len();
        let beside = self.list.as_ref().map_or(self.done, |list| list.start);
        beside <= MOST && self.read - self.done <= MOST
    }

    /// How much is held, in bytes.
    #[must_use]
    pub fn held(&self) -> usize {
        self.text.capacity()
    }

    /// How many entries were left out.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Takes what is kept of a long list out, as a document of its own: a long list is so decoded in slices. None while there is little.
    pub fn slice(&mut self) -> Option<Vec<u8>> {
        // What is beside the elements comes with each slice: where that is much, slices are longer.
        let list = self.list.as_mut().filter(|list| self.done - list.start > SLICE.max(list.start))?;
        let begun = self.text.split_off(self.done);
        let mut slice = std::mem::take(&mut self.text);
        self.text.extend_from_slice(slice.get(..list.start).unwrap_or_default());
        self.text.extend(begun);
        (self.done, self.read, list.any) = (list.start, self.text.len(), false);
        slice.extend_from_slice(b"]}");
        Some(slice)
    }

    /// What is left of the document, whole or not.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.text
    }

    /// Something beside objects and arrays stands among the elements.
    fn is_odd(&mut self) {
        if self.depth == ELEMENTS
            && let Some(list) = &mut self.list
        {
            list.odd = true;
        }
    }

    /// The element from `open` to `end` is whole: it is kept, unless it is known. Returns where the undecided begins then.
    fn end_element(&mut self, open: usize, end: usize, knows: &mut impl FnMut(u64) -> bool) -> usize {
        let Some(list) = &mut self.list else { return open };
        let (value, odd) = (list.value.take(), std::mem::take(&mut list.odd));
        let bytes = value.filter(|_| !odd).and_then(|(from, to)| self.text.get(open + from..open + to));
        if bytes.is_some_and(|bytes| knows(list::print(bytes))) {
            self.left_out += 1;
            return end;
        }
        let is_first = !std::mem::replace(&mut list.any, true);
        let comma = is_first && self.text.get(open) == Some(&b',');
        self.keep(open + usize::from(comma), end)
    }

    /// Keeps the bytes from `open` to `end`. Returns the latter.
    fn keep(&mut self, open: usize, end: usize) -> usize {
        self.text.copy_within(open..end, self.done);
        self.done += end - open;
        end
    }
}

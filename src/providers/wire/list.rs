//! Lists of tasks, in two steps: the entries are found, each with the little that tells which task it is and whose; then those that are
//! wanted are read, one by one.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    ops::Range,
    sync::LazyLock,
};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    mend::mend,
    node::{Budget, Key, Node},
};
use crate::providers::PAGE_TASKS;

/// How a list looks.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'f> {
    /// The key of the document under which the entries are.
    pub key: &'f str,
    /// The fields of an entry, in the order in which one that is an array has them (Astra's `include=`, upstreams.md §3.3).
    pub fields: &'f [&'f str],
    /// Those of the fields that tell which task it is, and whose.
    pub identity: &'f [&'f str],
}

/// An entry of a list that was found, and not read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The task's identifier, as it was sent.
    pub id: Box<str>,
    /// The identifier of the task that it is part of.
    pub parent: Option<Box<str>>,
    /// See [`print`].
    pub print: u64,
    /// Where it is in the text.
    pub at: Range<usize>,
}

/// The fields of one entry. It may be sent as an object or as an array in the order of the fields.
#[derive(Debug)]
pub struct Entry<'f, 'a> {
    fields: &'f [&'f str],
    values: Vec<Node<'a>>,
}

/// The key of the prints: an upstream that does not know it cannot make two entries that look alike.
static PRINTS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl<'f, 'a> Entry<'f, 'a> {
    /// The value of a field; [`Node::Null`] where there is none.
    #[must_use]
    pub fn get(&self, field: &str) -> &Node<'a> {
        let index = self.fields.iter().position(|name| *name == field);
        index.and_then(|index| self.values.get(index)).unwrap_or(&Node::Null)
    }

    /// The fields of a whole document.
    #[must_use]
    pub fn of(fields: &'f [&'f str], document: &Node<'a>) -> Self {
        Self { fields, values: fields.iter().map(|field| document.get(field).clone()).collect() }
    }

    /// The `fields` of an entry that has them in this `order` where it is an array; none where it is neither object nor array.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn parse(fields: &'f [&'f str], order: &[&str], text: &'a str) -> Result<Option<Self>, serde_json::Error> {
        let mut entry = Self { fields, values: vec![Node::Null; fields.len()] };
        let visitor = Fields { entry: &mut entry, order };
        let has_fields = serde_json::Deserializer::from_str(text).deserialize_any(visitor)?;
        Ok(has_fields.then_some(entry))
    }
}

/// Reads `fields` of one entry of a list of this shape, and returns what `make` makes of them. One that is not JSON by the book is mended
/// (see [`super::mend`]); of one that cannot be read nothing comes.
pub fn read<T>(
    text: &str,
    fields: &[&str],
    shape: Shape<'_>,
    mut make: impl FnMut(&Entry<'_, '_>) -> Option<T>,
) -> Option<T> {
    match Entry::parse(fields, shape.fields, text) {
        Ok(entry) => make(&entry?),
        Err(_) => make(&Entry::parse(fields, shape.fields, &mend(text)?).ok()??),
    }
}

/// The print of an entry: a number that stands for its bytes, within this process.
#[must_use]
pub fn print(entry: &[u8]) -> u64 {
    PRINTS.hash_one(entry)
}

/// What a list's document holds.
#[derive(Debug)]
pub struct Listing<'a> {
    /// How many entries there were, readable or not; none where the key of the list was missing.
    pub total: Option<usize>,
    /// The entries that were identified, [`PAGE_TASKS`] at most.
    pub found: Vec<Found>,
    /// The other keys of the document.
    pub rest: Node<'a>,
    /// The text in which they were found, where it is not the one that was given: what is not JSON by the book is mended.
    pub mended: Option<String>,
}

/// Tells which task an entry stands for, and of which it is part; none for an entry that is not wanted.
pub type Identify<'s> = &'s mut dyn FnMut(&Entry<'_, '_>) -> Option<(Box<str>, Option<Box<str>>)>;

/// Finds the entries of a list. One that is not an object or an array, that cannot be read, or that `identify` does not know, is only
/// counted; a `null` in the place of the list is an empty list. What is not JSON by the book is mended, an entry by itself where that will
/// do.
///
/// # Errors
/// Where `text` is not one JSON object, or has something else in the place of the list.
pub fn scan<'a>(text: &'a str, shape: Shape<'_>, identify: Identify<'_>) -> Result<Listing<'a>, serde_json::Error> {
    strictly(text, shape, identify).or_else(|error| {
        let Some(mended) = mend(text) else { return Err(error) };
        let Listing { total, found, rest, .. } = strictly(&mended, shape, identify).map_err(|_| error)?;
        let rest = rest.into_owned();
        Ok(Listing { total, found, rest, mended: Some(mended) })
    })
}

fn strictly<'a>(text: &'a str, shape: Shape<'_>, identify: Identify<'_>) -> Result<Listing<'a>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let start = text.as_ptr().addr();
    let entries = Entries { shape, identify, start, found: Vec::new() };
    let listing = deserializer.deserialize_map(Document { entries })?;
    deserializer.end()?;
    Ok(listing)
}

struct Document<'f, 's> {
    entries: Entries<'f, 's>,
}

impl<'de> Visitor<'de> for Document<'_, '_> {
    type Value = Listing<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object that holds a list")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut total = None;
        let mut rest = Vec::new();
        let budget = Budget::default();
        while let Some(Key(key)) = access.next_key()? {
            if key == self.entries.shape.key {
                let count = access.next_value_seed(&mut self.entries)?;
                total = Some(total.unwrap_or(0) + count);
            } else {
                rest.push((key, access.next_value_seed(&budget)?));
            }
        }
        Ok(Listing { total, found: self.entries.found, rest: Node::Map(rest), mended: None })
    }
}

struct Entries<'f, 's> {
    shape: Shape<'f>,
    identify: Identify<'s>,
    /// The address at which the text begins.
    start: usize,
    found: Vec<Found>,
}

impl<'de> DeserializeSeed<'de> for &mut Entries<'_, '_> {
    type Value = usize;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Entries<'_, '_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }
    fn visit_unit<E>(self) -> Result<usize, E> {
        Ok(0)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<usize, A::Error> {
        let mut count = 0;
        while let Some(raw) = access.next_element::<&RawValue>()? {
            count += 1;
            self.find(raw.get());
        }
        Ok(count)
    }
}

impl Entries<'_, '_> {
    fn find(&mut self, text: &str) {
        if self.found.len() >= PAGE_TASKS {
            return;
        }
        let from = text.as_ptr().addr().saturating_sub(self.start);
        if let Some((id, parent)) = read(text, self.shape.identity, self.shape, &mut self.identify) {
            self.found.push(Found { id, parent, print: print(text.as_bytes()), at: from..from + text.len() });
        }
    }
}

/// Reads one entry; true where it was an object or an array.
struct Fields<'e, 'f, 'a> {
    entry: &'e mut Entry<'f, 'a>,
    order: &'e [&'e str],
}

impl<'a> Fields<'_, '_, 'a> {
    /// Where the value of a field goes; none where it is not read.
    fn place(&mut self, field: &str) -> Option<&mut Node<'a>> {
        let index = self.entry.fields.iter().position(|name| *name == field)?;
        self.entry.values.get_mut(index)
    }
}

impl<'de> Visitor<'de> for Fields<'_, '_, 'de> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an entry of a list")
    }
    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<bool, A::Error> {
        let budget = Budget::default();
        while let Some(Key(key)) = access.next_key::<Key<'de>>()? {
            match self.place(&key) {
                Some(place) => *place = access.next_value_seed(&budget)?,
                None => drop(access.next_value::<IgnoredAny>()?),
            }
        }
        Ok(true)
    }
    fn visit_seq<A: SeqAccess<'de>>(mut self, mut access: A) -> Result<bool, A::Error> {
        let budget = Budget::default();
        for field in self.order {
            let is_there = match self.place(field) {
                Some(place) => access.next_element_seed(&budget)?.map(|value| *place = value).is_some(),
                None => access.next_element::<IgnoredAny>()?.is_some(),
            };
            if !is_there {
                return Ok(true);
            }
        }
        while access.next_element::<IgnoredAny>()?.is_some() {}
        Ok(true)
    }
    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_str<E>(self, _: &str) -> Result<bool, E> {
        Ok(false)
    }
}

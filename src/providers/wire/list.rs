//! Lists of tasks, read in one pass: each entry is handed over as it is read, and of each only the fields that are wanted are kept.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::LazyLock,
};

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    mend::mend,
    node::{Budget, Key, Node},
};

/// One entry of a list: the values of the wanted fields. It may be sent as an object or as an array in the order of the fields
/// (Astra's `include=`, upstreams.md §3.3).
#[derive(Debug)]
pub struct Entry<'f, 'a> {
    fields: &'f [&'f str],
    values: Vec<Node<'a>>,
    print: u64,
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

    /// See [`print`].
    #[must_use]
    pub fn print(&self) -> u64 {
        self.print
    }

    /// The fields of a whole document.
    #[must_use]
    pub fn of(fields: &'f [&'f str], document: &Node<'a>) -> Self {
        Self { fields, values: fields.iter().map(|field| document.get(field).clone()).collect(), print: 0 }
    }

    /// Takes another entry's values in. Returns whether it is an object or an array.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn fill(&mut self, text: &'a str, print: u64) -> Result<bool, serde_json::Error> {
        self.print = print;
        self.values.clear();
        self.values.resize(self.fields.len(), Node::Null);
        serde_json::Deserializer::from_str(text).deserialize_any(Fields(self))
    }
}

/// The print of an entry: a number that stands for its bytes, within this process.
#[must_use]
pub fn print(entry: &[u8]) -> u64 {
    PRINTS.hash_one(entry)
}

/// What a list's document holds beside its entries.
#[derive(Debug)]
pub struct Listing<'a> {
    /// How many entries there were, readable or not; none where the key of the list was missing.
    pub total: Option<usize>,
    /// The other keys of the document.
    pub rest: Node<'a>,
}

/// Reads the list at one of `keys` of the document, and calls `sink` with each entry that is an object or an array. An entry that cannot
/// be read is only counted; a `null` in the place of the list is an empty list. What is not JSON by the book is mended (see
/// [`super::mend`]), an entry by itself where that will do.
///
/// # Errors
/// Where `text` is not one JSON object, or has something else in the place of the list.
pub fn read<'a>(
    text: &'a str,
    keys: &[&str],
    fields: &[&str],
    sink: Sink<'_>,
) -> Result<Listing<'a>, serde_json::Error> {
    let mut given = 0usize;
    let strictly = strictly(text, keys, fields, &mut |entry| {
        given += 1;
        sink(entry);
    });
    strictly.or_else(|error| {
        let Some(mended) = mend(text) else { return Err(error) };
        // What was given before the fault is not given again.
        let listing = self::strictly(&mended, keys, fields, &mut |entry| match given.checked_sub(1) {
            Some(left) => given = left,
            None => sink(entry),
        });
        let Listing { total, rest } = listing.map_err(|_| error)?;
        Ok(Listing { total, rest: rest.into_owned() })
    })
}

fn strictly<'a>(
    text: &'a str,
    keys: &[&str],
    fields: &[&str],
    sink: Sink<'_>,
) -> Result<Listing<'a>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let listing = deserializer.deserialize_map(Document { keys, entries: Entries { fields, sink } })?;
    deserializer.end()?;
    Ok(listing)
}

/// Takes an entry in.
type Sink<'s> = &'s mut dyn FnMut(&Entry<'_, '_>);

struct Document<'f, 's> {
    keys: &'f [&'f str],
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
            if self.keys.contains(&key.as_ref()) {
                let count = access.next_value_seed(&mut self.entries)?;
                total = Some(total.unwrap_or(0) + count);
            } else {
                rest.push((key, access.next_value_seed(&budget)?));
            }
        }
        Ok(Listing { total, rest: Node::Map(rest) })
    }
}

struct Entries<'f, 's> {
    fields: &'f [&'f str],
    sink: Sink<'s>,
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
        // The values' room is used again for each entry.
        let mut entry = Entry { fields: self.fields, values: Vec::new(), print: 0 };
        while let Some(raw) = access.next_element::<&RawValue>()? {
            count += 1;
            let print = print(raw.get().as_bytes());
            match entry.fill(raw.get(), print) {
                Ok(true) => (self.sink)(&entry),
                Ok(false) => {}
                Err(_) => self.mend(raw.get(), print),
            }
        }
        Ok(count)
    }
}

impl Entries<'_, '_> {
    /// Reads an entry that is not JSON by the book.
    fn mend(&mut self, text: &str, print: u64) {
        let Some(mended) = mend(text) else { return };
        let mut entry = Entry { fields: self.fields, values: Vec::new(), print: 0 };
        if entry.fill(&mended, print).unwrap_or(false) {
            (self.sink)(&entry);
        }
    }
}

/// Reads one entry; true where it was an object or an array.
struct Fields<'e, 'f, 'a>(&'e mut Entry<'f, 'a>);

impl<'de> Visitor<'de> for Fields<'_, '_, 'de> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an entry of a list")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<bool, A::Error> {
        let budget = Budget::default();
        while let Some(Key(key)) = access.next_key::<Key<'de>>()? {
            match self.0.fields.iter().position(|field| *field == key) {
                Some(index) => {
                    let value = access.next_value_seed(&budget)?;
                    *self.0.values.get_mut(index).ok_or_else(|| A::Error::custom("no such field"))? = value;
                }
                None => {
                    access.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(true)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<bool, A::Error> {
        let budget = Budget::default();
        for slot in &mut self.0.values {
            match access.next_element_seed(&budget)? {
                Some(value) => *slot = value,
                None => return Ok(true),
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

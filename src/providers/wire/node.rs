//! A JSON document of which no type is taken for granted.
//!
//! Upstreams send numbers as text, text as numbers, `null`, `""` and `{}` for nothing, and repeated keys. A typed struct would refuse the
//! whole answer for one such field; a [`Node`] is only refused for broken JSON. Texts are borrowed from the body.

use std::{borrow::Cow, cell::Cell, fmt};

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::mend::mend;

/// Most values of one document, or of one entry of a list. A body of two bytes for each value would else take thirty times its size.
const MAX_VALUES: usize = 100_000;

/// Any JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Node<'a> {
    /// `null`.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A whole number of 64 bits, signed.
    Int(i64),
    /// A whole number beyond `i64::MAX`.
    Large(u64),
    /// Any other number.
    Float(f64),
    /// A string.
    Text(Cow<'a, str>),
    /// An array.
    List(Vec<Node<'a>>),
    /// An object; the last of equal keys counts.
    Map(Vec<(Cow<'a, str>, Node<'a>)>),
}

/// What a key that is not there leads to.
static NULL: Node<'static> = Node::Null;

impl<'a> Node<'a> {
    /// Reads `text`; one that is not JSON by the book is mended first (see [`super::mend`]).
    ///
    /// # Errors
    /// Where `text` is not one JSON value, nests deeper than 128 levels, or holds more than 100,000 values.
    pub fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        Node::strictly(text).or_else(|error| {
            let mended = mend(text).and_then(|mended| Some(Node::strictly(&mended).ok()?.into_owned()));
            mended.ok_or(error)
        })
    }

    fn strictly(text: &'a str) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let node = (&Budget::default()).deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(node)
    }

    /// A scalar whose text is that of this one; [`Node::Null`] for arrays and objects.
    #[must_use]
    pub fn borrowed(&self) -> Node<'_> {
        match self {
            Self::Bool(value) => Node::Bool(*value),
            Self::Int(value) => Node::Int(*value),
            Self::Large(value) => Node::Large(*value),
            Self::Float(value) => Node::Float(*value),
            Self::Text(text) => Node::Text(Cow::Borrowed(text)),
            Self::Null | Self::List(_) | Self::Map(_) => Node::Null,
        }
    }

    /// The same with texts of its own.
    #[must_use]
    pub fn into_owned<'o>(self) -> Node<'o> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        match self {
            Self::Null => Node::Null,
            Self::Bool(value) => Node::Bool(value),
            Self::Int(value) => Node::Int(value),
            Self::Large(value) => Node::Large(value),
            Self::Float(value) => Node::Float(value),
            Self::Text(text) => Node::Text(own(text)),
            Self::List(items) => Node::List(items.into_iter().map(Node::into_owned).collect()),
            Self::Map(entries) => {
                Node::Map(entries.into_iter().map(|(key, value)| (own(key), value.into_owned())).collect())
            }
        }
    }

    /// The value at `key`; [`Node::Null`] where there is none.
    #[must_use]
    pub fn get(&self, key: &str) -> &Node<'a> {
        let found = match self {
            Self::Map(entries) => entries.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        };
        found.unwrap_or(&NULL)
    }

    /// The first value at one of `keys` that says something (see [`Self::is_blank`]).
    #[must_use]
    pub fn first(&self, keys: &[&str]) -> &Node<'a> {
        keys.iter().map(|key| self.get(key)).find(|value| !value.is_blank()).unwrap_or(&NULL)
    }

    /// The entries of an object; none for anything else.
    #[must_use]
    pub fn entries(&self) -> &[(Cow<'a, str>, Node<'a>)] {
        if let Self::Map(entries) = self { entries } else { &[] }
    }

    /// The elements of an array; none for anything else.
    #[must_use]
    pub fn items(&self) -> &[Node<'a>] {
        if let Self::List(items) = self { items } else { &[] }
    }

    /// Whether it is an object.
    #[must_use]
    pub fn is_map(&self) -> bool {
        matches!(self, Self::Map(_))
    }

    /// Whether it is one of the ways to say nothing: `null`, `""`, blanks, `{}`, `[]`.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Text(text) => text.trim().is_empty(),
            Self::List(items) => items.is_empty(),
            Self::Map(entries) => entries.is_empty(),
            _ => false,
        }
    }

    /// Whether all that it holds is nothing, zero or `false`: how proto3 JSON writes a message that was not set.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        match self {
            Self::Bool(value) => !value,
            Self::Int(value) => *value == 0,
            Self::Float(value) => *value == 0.0,
            Self::Map(entries) => entries.iter().all(|(_, value)| value.is_zero()),
            _ => self.is_blank(),
        }
    }

    /// A scalar as text; none for nothing, arrays and objects.
    #[must_use]
    pub fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Text(text) => Some(text.trim()).filter(|text| !text.is_empty()).map(Cow::Borrowed),
            Self::Bool(value) => Some(Cow::Borrowed(if *value { "true" } else { "false" })),
            Self::Int(value) => Some(Cow::Owned(value.to_string())),
            Self::Large(value) => Some(Cow::Owned(value.to_string())),
            Self::Float(value) => Some(Cow::Owned(value.to_string())),
            _ => None,
        }
    }

    /// A number, also one that was sent as text (`"0.00"`).
    #[must_use]
    pub fn number(&self) -> Option<f64> {
        match self {
            #[allow(clippy::cast_precision_loss, reason = "figures for people, and ranks")]
            Self::Int(value) => Some(*value as f64),
            #[allow(clippy::cast_precision_loss, reason = "figures for people, and ranks")]
            Self::Large(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            Self::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
        .filter(|value| value.is_finite())
    }

    /// A percentage from 0 to 100, floored: `20.25`, `"67"`, `"60%"`, `"0.00"` (upstreams.md §2.4 "Progress").
    #[must_use]
    pub fn percent(&self) -> Option<u8> {
        let value = match self {
            Self::Text(text) => {
                text.trim().trim_end_matches('%').trim_end().parse().ok().filter(|n: &f64| n.is_finite())
            }
            _ => self.number(),
        }?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
        Some(value.floor().clamp(0.0, 100.0) as u8)
    }

    /// A whole number, floored and saturated at the bounds of `i64`.
    #[must_use]
    pub fn integer(&self) -> Option<i64> {
        #[allow(clippy::cast_possible_truncation, reason = "saturates")]
        match self {
            Self::Int(value) => Some(*value),
            _ => self.number().map(|value| value.floor() as i64),
        }
    }

    /// A boolean, also one that was sent as text (`"inUse":"true"`, upstreams.md §3.1).
    #[must_use]
    pub fn boolean(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            Self::Text(text) if text.trim().eq_ignore_ascii_case("true") => Some(true),
            Self::Text(text) if text.trim().eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        }
    }

    /// A moment; see [`super::time`].
    #[must_use]
    pub fn time(&self) -> Option<jiff::Timestamp> {
        match self {
            Self::Text(text) => super::time::parse(text),
            Self::Float(_) | Self::Int(_) | Self::Large(_) => super::time::parse(&self.text()?),
            _ => None,
        }
    }

    /// As compact JSON; a string without its quotes.
    #[must_use]
    pub fn compact(&self) -> String {
        match self {
            Self::Text(text) => text.trim().to_owned(),
            _ => self.to_value().to_string(),
        }
    }

    /// As a value of `serde_json`.
    #[must_use]
    fn to_value(&self) -> serde_json::Value {
        use serde_json::Value;
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::from(*value),
            Self::Int(value) => Value::from(*value),
            Self::Large(value) => Value::from(*value),
            Self::Float(value) => Value::from(*value),
            Self::Text(text) => Value::from(text.as_ref()),
            Self::List(items) => items.iter().map(Node::to_value).collect(),
            Self::Map(entries) => entries.iter().map(|(key, value)| (key.to_string(), value.to_value())).collect(),
        }
    }
}

/// A string that is borrowed where it has no escapes.
pub(super) struct Key<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// How many values may still be read. Reads one value; its copies share the count.
pub(super) struct Budget(Cell<usize>);

impl Default for Budget {
    fn default() -> Self {
        Self(Cell::new(MAX_VALUES))
    }
}

impl<'de> DeserializeSeed<'de> for &Budget {
    type Value = Node<'de>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node<'de>, D::Error> {
        let left = self.0.get().checked_sub(1).ok_or_else(|| D::Error::custom("too many values"))?;
        self.0.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &Budget {
    type Value = Node<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Node::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Node::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Node::Int(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(value).map_or(Node::Large(value), Node::Int))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Node::Float(value))
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Node::Text(Cow::Borrowed(text)))
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Node::Text(Cow::Owned(text.to_owned())))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Node::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(Key(key)) = access.next_key()? {
            entries.push((key, access.next_value_seed(self)?));
        }
        Ok(Node::Map(entries))
    }
}

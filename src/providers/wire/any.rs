//! `google.protobuf.Any` as JSON, in both forms: `{"@type":"…", fields…}` (proto3 JSON) and `{"typeUrl":"…","value":"…"}`
//! (upstreams.md §1.1). `value` may be text, or base64 of a protobuf message or of text.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::node::Node;
use crate::domain::{
    outputs::{HIDDEN, is_secret},
    text::{VALUE, WORD, clean, clean_option},
};

/// Keys that hold the type.
const TYPES: &[&str] = &["@type", "typeUrl", "type_url"];
/// Deepest object whose fields are looked at.
const MAX_DEPTH: usize = 3;
/// Most fields that are kept of one message.
const MAX_FIELDS: usize = 32;

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Any {
    /// Name or URL of its type; empty where unknown.
    pub kind: String,
    /// Its scalars by name, nested ones as `outer.inner`, in the order of the document; `value` for the text of a bare value. Those that
    /// must not be shown (see [`is_secret`]) are left out.
    pub fields: Vec<(String, String)>,
    /// All of it as text, without what must not be shown.
    pub text: String,
}

/// Reads a message; none where it was not set (`null`, `{}`, or nothing but zero values).
#[must_use]
pub fn read(node: &Node<'_>) -> Option<Any> {
    if node.is_zero() {
        return None;
    }
    let kind = node.first(TYPES).text().map(|kind| clean(&kind, WORD)).unwrap_or_default();
    let mut fields = Vec::new();
    let text = if let Node::Map(entries) = node {
        let content: Vec<_> = entries
            .iter()
            .filter(|(key, value)| !TYPES.contains(&key.as_ref()) && !value.is_blank())
            .cloned()
            .collect();
        match content.as_slice() {
            [(key, Node::Text(value))] if key == "value" => decode_value(value, &mut fields),
            [(key, value @ Node::Map(_))] if key == "value" => {
                flatten(value, "", MAX_DEPTH, &mut fields);
                compact(value)
            }
            [] => String::new(),
            _ => {
                let content = Node::Map(content);
                flatten(&content, "", MAX_DEPTH, &mut fields);
                compact(&content)
            }
        }
    } else {
        flatten(node, "value", MAX_DEPTH, &mut fields);
        compact(node)
    };
    Some(Any { kind, fields, text: clean(&text, VALUE) })
}

/// The text of a `value`, and its parts.
fn decode_value(value: &str, fields: &mut Vec<(String, String)>) -> String {
    let texts = match STANDARD.decode(value.trim()) {
        Ok(bytes) if !bytes.is_empty() => readable(&bytes),
        _ => Vec::new(),
    };
    let texts = if texts.is_empty() { vec![value.to_owned()] } else { texts };
    for (index, text) in texts.iter().take(MAX_FIELDS).enumerate() {
        let name = if index == 0 { "value".to_owned() } else { format!("value{}", index + 1) };
        push(fields, &name, text);
    }
    texts.iter().map(|text| compact(&Node::Text(text.into()))).collect::<Vec<_>>().join(" ")
}

/// A value as compact JSON, or its text, with [`HIDDEN`] in the place of what must not be shown.
#[must_use]
pub fn compact(node: &Node<'_>) -> String {
    hide("", node).compact()
}

fn hide<'n>(name: &str, node: &'n Node<'_>) -> Node<'n> {
    // JSON within a text has names of its own.
    if let Node::Text(text) = node
        && text.trim_start().starts_with(['{', '['])
        && let Ok(inner) = Node::parse(text)
    {
        return Node::Text(hide(name, &inner).compact().into());
    }
    match node {
        Node::Map(entries) => {
            let hidden =
                entries.iter().map(|(key, value)| (key.as_ref().into(), hide(&format!("{name}.{key}"), value)));
            Node::Map(hidden.collect())
        }
        Node::List(items) => Node::List(items.iter().map(|item| hide(name, item)).collect()),
        Node::Null => Node::Null,
        scalar => match scalar.text() {
            Some(text) if is_secret(name, &text) => Node::Text(HIDDEN.into()),
            _ => scalar.borrowed(),
        },
    }
}

/// The readable texts in decoded bytes: the bytes themselves, or the strings of a protobuf message.
fn readable(bytes: &[u8]) -> Vec<String> {
    if let Some(text) = plain(bytes) {
        return vec![text.to_owned()];
    }
    strings_of_message(bytes).unwrap_or_default()
}

/// UTF-8 without control characters.
fn plain(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty() && !text.chars().any(char::is_control))
}

/// The strings at the top level of a protobuf message (protobuf.dev, "Encoding"); none where `bytes` are not one.
fn strings_of_message(mut bytes: &[u8]) -> Option<Vec<String>> {
    let mut texts = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        match (tag >> 3, tag & 7) {
            (0, _) => return None,
            (_, 0) => {
                varint(&mut bytes)?;
            }
            (_, 1) => bytes = bytes.get(8..)?,
            (_, 5) => bytes = bytes.get(4..)?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (content, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                texts.extend(plain(content).map(str::to_owned));
            }
            _ => return None,
        }
    }
    Some(texts)
}

/// A variable-length integer of at most ten bytes.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f).checked_shl(shift).unwrap_or(0);
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Collects the scalars of `node`.
fn flatten(node: &Node<'_>, name: &str, depth: usize, fields: &mut Vec<(String, String)>) {
    match node {
        Node::Map(entries) if depth > 0 => {
            for (key, value) in entries.iter().filter(|(key, _)| !TYPES.contains(&key.as_ref())) {
                let name = if name.is_empty() { key.to_string() } else { format!("{name}.{key}") };
                flatten(value, &name, depth - 1, fields);
            }
        }
        _ => {
            if let Some(text) = node.text() {
                push(fields, name, &text);
            }
        }
    }
}

/// Keeps one field, cleaned and within the bounds.
fn push(fields: &mut Vec<(String, String)>, name: &str, text: &str) {
    if fields.len() < MAX_FIELDS
        && !is_secret(name, text)
        && let (Some(name), Some(text)) = (clean_option(name, WORD), clean_option(text, VALUE))
    {
        fields.push((name, text));
    }
}

//! A body as text, whatever bytes it is made of: one text that is broken must not hide the rest of an answer.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};
use http::header::CONTENT_TYPE;

use crate::providers::Answer;

/// The body as text, without a byte order mark; bytes that are no character become U+FFFD.
///
/// JSON is UTF-8 (RFC 8259 §8.1), and so is a body that can be read as such, whatever its header field claims; else a byte order mark
/// decides, then the zeros of UTF-16, then the charset that `Content-Type` names (WHATWG Encoding, labels).
#[must_use]
pub fn text(answer: &Answer) -> Cow<'_, str> {
    let body = answer.body.as_ref();
    let (encoding, mark) = match (Encoding::for_bom(body), body) {
        (Some((encoding, length)), _) => (encoding, length),
        (None, [0, 1..=255, ..]) => (UTF_16BE, 0),
        (None, [1..=255, 0, ..]) => (UTF_16LE, 0),
        _ => (UTF_8, 0),
    };
    let body = body.get(mark..).unwrap_or_default();
    if encoding != UTF_8 {
        return encoding.decode_without_bom_handling(body).0;
    }
    match std::str::from_utf8(body) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) if mark > 0 => String::from_utf8_lossy(body),
        Err(_) => named(answer).unwrap_or(UTF_8).decode_without_bom_handling(body).0,
    }
}

/// The charset of `Content-Type`; none where it names none, or one that is not known.
fn named(answer: &Answer) -> Option<&'static Encoding> {
    let kind = answer.headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let charset = kind.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches(['"', '\'']))
    })?;
    // What looks like ASCII was no UTF-8: it is none of these two without their zeros, and says nothing as "replacement".
    Encoding::for_label(charset.as_bytes()).filter(|encoding| encoding.is_ascii_compatible())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE};

    use super::text;
    use crate::providers::Answer;

    fn read(kind: &'static str, body: &[u8]) -> String {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
        let answer = Answer { status: StatusCode::OK, headers, body: Bytes::copy_from_slice(body), fault: None };
        text(&answer).into_owned()
    }

    fn utf_16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn every_encoding_gives_the_text() {
        const JSON: &str = "{\"a\":\"том 💾\"}";
        let json = "application/json";
        for (kind, body) in [
            (json, JSON.as_bytes().to_vec()),
            (json, ["\u{feff}", JSON].concat().into_bytes()),
            (json, utf_16(JSON, u16::to_le_bytes)),
            (json, utf_16(JSON, u16::to_be_bytes)),
            (json, utf_16(&["\u{feff}", JSON].concat(), u16::to_le_bytes)),
            (json, utf_16(&["\u{feff}", JSON].concat(), u16::to_be_bytes)),
            // Labelled by habit, and UTF-8 all the same.
            ("application/json; charset=ISO-8859-1", JSON.as_bytes().to_vec()),
        ] {
            assert_eq!(read(kind, &body), JSON, "{kind} {body:?}");
        }
        for (kind, body, expected) in [
            ("application/json", b"caf\xe9".as_slice(), "caf\u{fffd}"),
            ("application/json;charset=latin1", b"caf\xe9", "café"),
            ("application/json; q=1; Charset=\"windows-1251\"", b"\xf2\xee\xec", "том"),
            ("text/plain; charset=gb18030", b"\xbe\xed", "卷"),
            ("application/json; charset=utf-8", b"caf\xe9", "caf\u{fffd}"),
            ("application/json; charset=nothing", b"caf\xe9", "caf\u{fffd}"),
            ("application/json; charset=utf-16", b"caf\xe9", "caf\u{fffd}"),
            ("application/json; charset=", b"caf\xe9", "caf\u{fffd}"),
            ("application/json", b"", ""),
            ("application/json", b"\0", "\0"),
        ] {
            assert_eq!(read(kind, body), expected, "{kind} {body:?}");
        }
    }
}

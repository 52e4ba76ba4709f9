//! JSON that its sender did not write by the book, brought to the book: what is wrong in one text or number must not hide an answer.

use std::fmt::Write;

/// `text` with what parsers refuse, and what people send, written so that it can be read; none where there is nothing of the kind.
///
/// | sent | read as |
/// |---|---|
/// | half of a surrogate pair (`\ud83d`), `\u` without four digits | U+FFFD |
/// | a control character within a string | the same, escaped |
/// | a backslash before something that cannot be escaped | a backslash |
/// | `NaN`, `Infinity`, `-Infinity` | `null` |
/// | a number beyond what a double holds, or not written as JSON's are | its digits, as text |
///
/// All else stays as it is, byte for byte.
#[must_use]
pub fn mend(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 64);
    let mut rest = text;
    let mut changed = false;
    while let Some(at) = rest.find(|c: char| c == '"' || starts_number(c)) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        rest = if let Some(string) = from.strip_prefix('"') {
            out.push('"');
            string_to(string, &mut out, &mut changed)
        } else {
            let end = from.find(|c: char| !is_of_word(c)).unwrap_or(from.len());
            let (word, after) = from.split_at(end);
            // In the middle of another word it is no number: `true` has none of these, but what is broken may.
            if before.ends_with(is_of_word) {
                out.push_str(word);
            } else {
                word_to(word, &mut out, &mut changed);
            }
            after
        };
    }
    out.push_str(rest);
    changed.then_some(out)
}

fn starts_number(c: char) -> bool {
    c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'N' | 'I')
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.' | '_')
}

/// Writes a word that is not within a string.
fn word_to(word: &str, out: &mut String, changed: &mut bool) {
    let is_number = || serde_json::from_str::<f64>(word).is_ok();
    if ["NaN", "Infinity"].contains(&word.trim_start_matches(['-', '+'])) {
        *changed = true;
        out.push_str("null");
    } else if word.contains(|c: char| c.is_ascii_digit()) && !is_number() {
        // The characters of a word need no escape.
        *changed = true;
        let _ = write!(out, "\"{word}\"");
    } else {
        out.push_str(word);
    }
}

/// Writes a string up to its closing quotation mark, or to the end of the text. Returns what follows.
fn string_to<'t>(text: &'t str, out: &mut String, changed: &mut bool) -> &'t str {
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c == '"' || c == '\\' || c < ' ') {
        let (plain, from) = rest.split_at(at);
        out.push_str(plain);
        let mut chars = from.chars();
        match chars.next() {
            Some('"') => {
                out.push('"');
                return chars.as_str();
            }
            Some('\\') => rest = escape_to(chars.as_str(), out, changed),
            control => {
                *changed = true;
                let _ = write!(out, "\\u{:04x}", control.map_or(0, u32::from));
                rest = chars.as_str();
            }
        }
    }
    out.push_str(rest);
    ""
}

/// Writes what follows a backslash. Returns what follows that.
fn escape_to<'t>(text: &'t str, out: &mut String, changed: &mut bool) -> &'t str {
    let mut chars = text.chars();
    match chars.next() {
        Some(c @ ('"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't')) => {
            out.extend(['\\', c]);
            chars.as_str()
        }
        Some('u') => {
            let Some((unit, after)) = unit(chars.as_str()) else {
                *changed = true;
                out.push_str("\\ufffd");
                return chars.as_str();
            };
            let second =
                || after.strip_prefix("\\u").and_then(self::unit).filter(|(low, _)| (0xdc00..0xe000).contains(low));
            let (length, after) = match unit {
                0xd800..0xdc00 => match second() {
                    Some((_, after)) => (11, after),
                    None => (0, after),
                },
                0xdc00..0xe000 => (0, after),
                _ => (5, after),
            };
            *changed |= length == 0;
            out.push('\\');
            out.push_str(text.get(..length).filter(|part| !part.is_empty()).unwrap_or("ufffd"));
            after
        }
        Some(_) => {
            *changed = true;
            out.push_str("\\\\");
            text
        }
        None => {
            out.push('\\');
            ""
        }
    }
}

/// The code unit in the first four digits, and what follows them.
fn unit(text: &str) -> Option<(u32, &str)> {
    let (digits, after) = text.split_at_checked(4)?;
    let all = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    Some((u32::from_str_radix(digits, 16).ok().filter(|_| all)?, after))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::mend;

    #[test]
    fn what_parsers_refuse_is_read() {
        for (text, expected) in [
            (r#"{"a":"x\ud83d"}"#, r#"{"a":"x\ufffd"}"#),
            (r#"{"a":"\udc00\ud83dx"}"#, r#"{"a":"\ufffd\ufffdx"}"#),
            (r#"{"a":"\ud83d\ud83d\udcbe"}"#, r#"{"a":"\ufffd\ud83d\udcbe"}"#),
            (r#"{"a":"\ud83d\u0041"}"#, r#"{"a":"\ufffd\u0041"}"#),
            (r#"{"a\ud800":1}"#, r#"{"a\ufffd":1}"#),
            (r#"{"a":"\u12"}"#, r#"{"a":"\ufffd12"}"#),
            (r#"{"a":"\u+123"}"#, r#"{"a":"\ufffd+123"}"#),
            (r#"{"a":"C:\Users\x"}"#, r#"{"a":"C:\\Users\\x"}"#),
            ("{\"a\":\"x\ny\0\"}", r#"{"a":"x\u000ay\u0000"}"#),
            ("{\"a\":\"\\\n\"}", r#"{"a":"\\\u000a"}"#),
            (r#"{"a":NaN,"b":-Infinity,"c":[Infinity]}"#, r#"{"a":null,"b":null,"c":[null]}"#),
            (r#"{"a":1e999,"b":-1e999}"#, r#"{"a":"1e999","b":"-1e999"}"#),
            (r#"{"a":007,"b":.5,"c":+1,"d":1.}"#, r#"{"a":"007","b":".5","c":"+1","d":"1."}"#),
        ] {
            let mended = mend(text);
            assert_eq!(mended.as_deref(), Some(expected), "{text}");
            assert!(serde_json::from_str::<Value>(text).is_err(), "{text}");
            assert!(serde_json::from_str::<Value>(expected).is_ok(), "{text}");
            assert_eq!(mend(expected), None, "{text}");
        }
    }

    #[test]
    fn digits_within_another_word_are_no_number() {
        assert_eq!(mend(r#"{"a":x1,"b":007}"#).as_deref(), Some(r#"{"a":x1,"b":"007"}"#));
    }

    #[test]
    fn what_can_be_read_stays() {
        for text in [
            r#"{"a":"NaN \ud83d\udcbe \"1e999\" \\","b":[1,-2.5e+3,0,true,false,null],"c":123456789012345678901234567890}"#,
            r#""Infinity""#,
            "",
            "{\"a\":\"x",
            "{\"a\":\"x\\",
            "<html>N. N. Infinity, 1. x</html",
            "not JSON at all",
        ] {
            let mended = mend(text);
            assert!(mended.is_none() || serde_json::from_str::<Value>(text).is_err(), "{text} became {mended:?}");
        }
    }

    proptest! {
        #[test]
        fn a_valid_document_is_left_alone(text in r"[ -~\n]{0,60}", number in any::<f64>(), deep in 0usize..20) {
            let value = serde_json::json!({"text": text, "number": number, "list": vec![number; deep]});
            prop_assert_eq!(mend(&value.to_string()), None);
            prop_assert_eq!(mend(&format!("{value:#}")), None);
        }

        #[test]
        fn mending_twice_is_mending_once(text in r#"[{}\[\]:,"\\udDcC0123NaInfinty.e+ж\x00-\x1f -]{0,60}"#) {
            if let Some(mended) = mend(&text) {
                prop_assert_eq!(mend(&mended), None);
            }
        }
    }
}

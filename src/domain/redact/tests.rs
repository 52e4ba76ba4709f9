//! No form of a secret is left, and nothing else is touched.

use base64::{Engine, engine::general_purpose};
use proptest::prelude::*;
use serde_json::Value;

use super::{MARK, Redactor, Secret};
use crate::domain::{
    failure::{Failure, FailureClass},
    subtasks::Subtasks,
    task::{ErrorDetail, StateDetail, Task, TaskError, TaskState},
};

const TOKEN: &str = "tok-4f1f3b2c9d8e7a6b5c4d3e2f1a0b";

fn redactor(secret: &str) -> Redactor {
    Redactor::new([Secret::value(secret)])
}

fn redact(redactor: &Redactor, text: &str) -> String {
    String::from_utf8(redactor.redact(text.as_bytes(), false).into_owned()).unwrap()
}

/// How each character of a text is written.
#[derive(Clone, Copy, Debug)]
enum Writing {
    AsIs,
    Percent {
        upper: bool,
    },
    Json {
        upper: bool,
    },
    /// Backslash and the character, for those that have such a form.
    Short,
    Html,
}

fn write(c: char, writing: Writing) -> String {
    let hex = |text: String, upper: bool| if upper { text.to_uppercase() } else { text };
    match writing {
        Writing::AsIs => c.to_string(),
        Writing::Percent { upper } => {
            let parts: Vec<_> = c.to_string().bytes().map(|byte| hex(format!("{byte:02x}"), upper)).collect();
            format!("%{}", parts.join("%"))
        }
        Writing::Json { upper } => {
            let units: Vec<_> =
                c.encode_utf16(&mut [0; 2]).iter().map(|unit| hex(format!("{unit:04x}"), upper)).collect();
            format!("\\u{}", units.join("\\u"))
        }
        Writing::Short if matches!(c, '"' | '\\' | '/') => format!("\\{c}"),
        Writing::Short => write(c, Writing::Json { upper: false }),
        Writing::Html => format!("&#{};", u32::from(c)),
    }
}

fn written(text: &str, writings: &[Writing]) -> String {
    text.chars().zip(writings.iter().cycle()).map(|(c, writing)| write(c, *writing)).collect()
}

/// All that is escaped in `writing` of a text, as a JSON string's content would be.
fn json(text: &str) -> String {
    let quoted = serde_json::to_string(text).unwrap();
    quoted[1..quoted.len() - 1].to_owned()
}

#[test]
fn each_form_is_found_and_the_rest_stays() {
    let secret = "pass/w+rd \"quoted\" \\ ж𝄞?&%41";
    let redactor = redactor(secret);
    let percent = percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC).to_string();
    let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let ascii = written(secret, &[Writing::Json { upper: true }]);
    for form in [
        secret.to_owned(),
        json(secret),
        json(&json(secret)),
        percent.clone(),
        percent.to_lowercase(),
        form,
        json(&percent),
        ascii.clone(),
        ascii.replace('\\', "%5C"),
        percent.replace('%', "%25"),
        percent.replace('%', "\\u0025"),
        secret.replace('&', "&amp;").replace('"', "&quot;"),
        written(secret, &[Writing::Percent { upper: true }, Writing::Json { upper: false }, Writing::AsIs]),
    ] {
        for (before, after) in [("", ""), ("said: ", " indeed"), ("Я", "Ю")] {
            let text = format!("{before}{form}{after}");
            assert_eq!(redact(&redactor, &text), format!("{before}{MARK}{after}"), "{text}");
        }
    }
}

#[test]
fn base64_is_found_wherever_the_secret_begins_in_it() {
    let redactor = redactor(TOKEN);
    for before in ["", "a", "ab", "abc", "client:"] {
        for after in ["", "x", "xy", "xyz"] {
            let plain = format!("{before}{TOKEN}{after}");
            for engine in [
                general_purpose::STANDARD,
                general_purpose::STANDARD_NO_PAD,
                general_purpose::URL_SAFE,
                general_purpose::URL_SAFE_NO_PAD,
            ] {
                let coded = engine.encode(&plain);
                for text in [coded.clone(), coded.replace('+', "%2B").replace('/', "%2F"), coded.replace('/', "\\/")] {
                    let left = redact(&redactor, &format!("<{text}>"));
                    // At its ends, characters that are made of other bytes, too.
                    let rest = left.len() - MARK.len() - 2;
                    let around = (before.len() + after.len()).div_ceil(3) * 4 + 4;
                    assert!(left.contains(MARK) && rest <= around, "{plain} as {text}: {left}");
                }
            }
        }
    }
    assert_eq!(
        redact(&redactor, &format!("Basic {}", general_purpose::STANDARD.encode(TOKEN))),
        format!("Basic {MARK}")
    );
}

#[test]
fn a_beginning_is_enough_where_it_is_long_or_the_text_was_cut() {
    let redactor = redactor(TOKEN);
    assert_eq!(redact(&redactor, &format!("token {}... is bad", &TOKEN[..16])), format!("token {MARK}... is bad"));
    assert_eq!(redact(&redactor, &format!("token {}... is bad", &TOKEN[..20])), format!("token {MARK}... is bad"));
    let short = format!("token {}... is bad", &TOKEN[..15]);
    assert_eq!(redact(&redactor, &short), short);
    for length in 6..TOKEN.len() {
        for writing in [Writing::AsIs, Writing::Percent { upper: false }, Writing::Json { upper: false }] {
            let text = format!("it was {}", written(&TOKEN[..length], &[Writing::AsIs, writing]));
            for cut in 0..5 {
                let cut = text.as_bytes().get(..text.len() - cut).unwrap();
                let is_enough = String::from_utf8_lossy(cut).matches(|c: char| "tok-4f1".contains(c)).count() > 12;
                let left = redactor.redact(cut, true);
                let left = String::from_utf8_lossy(&left);
                assert!(!is_enough || left == format!("it was {MARK}"), "{}: {left}", String::from_utf8_lossy(cut));
            }
        }
    }
    let mut shown = format!("It answered 401: {}…", &TOKEN[..9]);
    redactor.redact_text(&mut shown);
    assert_eq!(shown, format!("It answered 401: {MARK}…"));
    let mut whole = format!("It answered 401: {}", &TOKEN[..9]);
    redactor.redact_text(&mut whole);
    assert!(!whole.contains(MARK), "nobody says that this was cut");
}

/// One secret's beginning, or all of it, may end within another's place.
#[test]
fn secrets_that_overlap_are_all_taken_out() {
    let redactor = Redactor::new([
        Secret::value("client:aA0Aa0aA aAAA"),
        Secret::value("aA0Aa0aA+/aAAA+a0+a0"),
        Secret::value("0123456789abcdefghij"),
        Secret::value("3456789abcdefghijKLMNOP"),
    ]);
    for text in [
        "Y2xpZW50OmFBMEFhMGFBKy9hQUFBK2EwK2Ew",
        "0123456789abcdefghijKLMNOP",
        "0123456789abcdefghi3456789abcdefghijKLMNOP",
    ] {
        let left = redact(&redactor, text);
        assert!(left.len() <= "Y2xpZW50Omc".len() + MARK.len(), "{text}: {left}");
        assert!(!left.contains("Ky9hQUFB") && !left.contains("KLMNOP"), "{text}: {left}");
    }
}

#[test]
fn names_are_whole_words_and_short_values_are_left() {
    let redactor = Redactor::new([Secret::name("operator"), Secret::value("short"), Secret::value(" with-blanks \n")]);
    for (text, expected) in [
        ("user operator is locked", "user [redacted] is locked"),
        ("(operator)", "([redacted])"),
        ("user%3Aoperat%6Fr%20", "user%3A[redacted]%20"),
        (
            "operators, cooperator, operator-1, my_operator, жoperator",
            "operators, cooperator, operator-1, my_operator, жoperator",
        ),
        ("short", "short"),
        ("with-blanks", "[redacted]"),
    ] {
        assert_eq!(redact(&redactor, text), expected);
    }
}

#[test]
fn json_stays_json() {
    let redactor =
        Redactor::new([Secret::value("1234567890"), Secret::value("nine-bytes!"), Secret::value("0041secret")]);
    for (text, expected) in [
        (r#"{"id":1234567890,"a":[-1234567890.5, 1]}"#, r#"{"id":"[redacted]","a":["[redacted]", 1]}"#),
        (r#"{"text":"code 1234567890, 2"}"#, r#"{"text":"code [redacted], 2"}"#),
        (r#"{"a":"\"","b\\":1234567890}"#, r#"{"a":"\"","b\\":"[redacted]"}"#),
        // Not the secret, but it looks like it where escapes are not heeded.
        (r#"{"text":"a\nine-bytes!"}"#, r#"{"text":"a[redacted]"}"#),
        (r#"{"text":"\u0041secret"}"#, r#"{"text":"[redacted]"}"#),
        ("\u{feff}[1234567890]", "\u{feff}[\"[redacted]\"]"),
        ("1234567890 it is", "[redacted] it is"),
    ] {
        let left = redact(&redactor, text);
        assert_eq!(left, expected);
        if text.contains(['{', '[']) {
            serde_json::from_str::<Value>(left.trim_start_matches('\u{feff}')).unwrap();
        }
    }
}

#[test]
fn what_is_known_already_makes_no_other_redactor() {
    let redactor = redactor(TOKEN);
    assert!(redactor.and(&[Secret::value(TOKEN)]).is_none() && redactor.and(&[]).is_none());
    let both = redactor.and(&[Secret::value("signature-of-a-request")]).unwrap();
    assert_eq!(redact(&both, &format!("{TOKEN} signature-of-a-request")), format!("{MARK} {MARK}"));
}

#[test]
fn nobody_is_shown_what_is_kept() {
    let shown = format!("{:?} {:?}", redactor(TOKEN), Secret::value(TOKEN));
    assert!(!shown.contains("4f1f3b2c"), "{shown}");
}

#[test]
fn the_second_net_is_over_all_texts() {
    let text = || format!("a{TOKEN}b");
    let some = || Some(text());
    let cause = TaskError { code: some(), reason: some(), message: some(), ..TaskError::default() };
    let part = Task { name: some(), error: Some(Box::new(cause)), ..Task::new(text(), TaskState::Failed, text()) };
    let mut task = Task {
        name: some(),
        display_name: some(),
        kind: some(),
        parent_id: some(),
        resource: some(),
        created_by: some(),
        error: Some(Box::new(TaskError {
            code: some(),
            reason: some(),
            message: some(),
            http_status: None,
            correlation_id: some(),
            details: vec![ErrorDetail { kind: text(), value: text() }],
        })),
        outputs: vec![(text(), text())],
        state_details: vec![StateDetail { kind: text(), title: text(), detail: text() }],
        subtasks: Subtasks::of(vec![part]),
        ..Task::new(text(), TaskState::Running, text())
    };
    let mut failure =
        Failure { code: text(), correlation_id: some(), ..Failure::new(FailureClass::InvalidAnswer, text()) };
    redactor(TOKEN).redact_task(&mut task);
    redactor(TOKEN).redact_failure(&mut failure);
    let shown = format!("{task:?} {failure:?}");
    assert!(!shown.contains("4f1f3b2c"), "{shown}");
    assert_eq!(shown.matches("a[redacted]b").count(), 8 + 6 + 2 + 3 + (3 + 2 + 3) + 3, "{shown}");
}

fn any_writing() -> impl Strategy<Value = Writing> {
    prop_oneof![
        3 => Just(Writing::AsIs),
        1 => any::<bool>().prop_map(|upper| Writing::Percent { upper }),
        1 => any::<bool>().prop_map(|upper| Writing::Json { upper }),
        1 => Just(Writing::Short),
        1 => Just(Writing::Html),
    ]
}

/// Without what would be read as an escape together with its neighbours.
const SECRET: &str = r#"[a-zA-Z0-9 +/_.~="ж𝄞-]{8,40}"#;

proptest! {
    #[test]
    fn a_secret_is_taken_out_however_it_is_written(
        secret in SECRET.prop_filter("blanks at the ends do not count", |secret| secret.trim() == secret && secret.len() >= 8),
        before in "[A-Z{}:, ]{0,40}",
        after in "[A-Z{}:, ]{0,40}",
        writings in prop::collection::vec(any_writing(), 1..8),
    ) {
        let text = format!("{before}<{}>{after}", written(&secret, &writings));
        let left = redact(&redactor(&secret), &text);
        prop_assert_eq!(left, format!("{}<{}>{}", before, MARK, after));
    }

    #[test]
    fn what_is_not_secret_stays_as_it_is(text: Vec<u8>, words in "[a-z\"\\\\%&;/+ ]{0,200}", is_cut: bool) {
        let redactor = redactor(TOKEN);
        for text in [text.as_slice(), words.as_bytes()] {
            let left = redactor.redact(text, is_cut);
            prop_assert!(matches!(left, std::borrow::Cow::Borrowed(_)));
        }
    }

    #[test]
    fn any_bytes_do_no_harm(secret: Vec<u8>, text: Vec<u8>, is_cut: bool) {
        let secret = String::from_utf8_lossy(&secret).into_owned();
        let text = [text.as_slice(), secret.as_bytes(), &text].concat();
        let left = redactor(&secret).redact(&text, is_cut).into_owned();
        let secret = secret.trim();
        let is_left = left.windows(secret.len().max(1)).any(|part| part == secret.as_bytes());
        prop_assert!(secret.len() < 8 || !is_left);
    }
}

#[test]
fn clean_text_is_not_copied() {
    let secrets = [TOKEN, "another-secret-of-the-connection", "AKIAIOSFODNN7EXAMPLE", "a-password-of-somebody"];
    let redactor = Redactor::new(secrets.map(Secret::value));
    let entry = r#"{"id":"4010a32d535527910153552b492c0002","status":"RUNNING","detail":"volume 3 of 7","at":"2021-12-17T06:43:03Z"},"#;
    for entry in [entry.to_owned(), entry.replace("volume", "a\\/volume\\n")] {
        let text = entry.repeat((1 << 20) / entry.len());
        assert!(matches!(redactor.redact(text.as_bytes(), true), std::borrow::Cow::Borrowed(_)), "{entry}");
    }
}

#[test]
fn advice_is_redacted_as_what_it_belongs_to() {
    let mut failure = Failure::new(FailureClass::NotFound, "no");
    failure.advice = format!("use {TOKEN}").into();
    redactor(TOKEN).redact_failure(&mut failure);
    assert_eq!(&*failure.advice, format!("use {MARK}"));
}

#[test]
fn what_follows_base64_that_was_cut_is_left() {
    let encoded = general_purpose::STANDARD.encode("12345678");
    // Ten characters are of nothing but the secret; the next would share its last bits.
    for (follows, left) in [("\" rest", "\" rest"), ("A rest", " rest")] {
        assert_eq!(redact(&redactor("12345678"), &format!("{}{follows}", &encoded[..10])), format!("{MARK}{left}"));
    }
}

#[test]
fn a_long_secret_is_taken_out_to_its_end_however_late_an_escape_comes_in_it() {
    let secret = "QmFzZS02NC1vZi1zb21lLWtleS10aGF0LWlzLWxvbmc/and-its-end";
    let redactor = Redactor::new([Secret::value(secret), Secret::value("a-short1")]);
    for escaped in ["\\/", "%2F", "&#47;"] {
        let text = format!("<{}>", secret.replace('/', escaped));
        assert_eq!(redact(&redactor, &text), format!("<{MARK}>"), "{text}");
    }
}

//! What the sieve lets through: all but the known entries, however the document is cut into parts.

use std::collections::HashSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::engine::sieve::Sieve;
use crate::providers::wire::list::print;

/// What is left of `text`, pushed in parts of `size` bytes, where the entries with these texts are known.
fn sift(text: &[u8], size: usize, known: &[String]) -> (Vec<u8>, usize) {
    let prints: HashSet<_> = known.iter().map(|entry| print(entry.as_bytes())).collect();
    let mut sieve = Sieve::default();
    for part in text.chunks(size.max(1)) {
        assert!(sieve.push(part, |print| prints.contains(&print)));
    }
    let left_out = sieve.left_out();
    (sieve.finish(), left_out)
}

#[test]
fn what_is_known_is_left_out() {
    let a = r#"{"id":"a","x":[1,{"y":"]}\",{"}]}"#;
    let b = r#"["b",null,"running"]"#;
    for (text, known, expected) in [
        (
            format!(r#"{{"items":[{a},{b}],"metadata":{{"n":[{b}]}}}}"#),
            vec![a],
            format!(r#"{{"items":[{b}],"metadata":{{"n":[{b}]}}}}"#),
        ),
        (format!(r#"{{"items":[{a},{b}]}}"#), vec![b], format!(r#"{{"items":[{a}]}}"#)),
        (format!(r#"{{"items":[{a}, {b} ,{a}]}}"#), vec![b], format!(r#"{{"items":[{a},{a}]}}"#)),
        (format!("\u{feff} {{\"items\" : [ {a} , {b} ] }}"), vec![a, b], "\u{feff} {\"items\" : [] }".to_owned()),
        (format!(r#"{{"items":[],"tasks":[{a}]}}"#), vec![a], r#"{"items":[],"tasks":[]}"#.to_owned()),
        // Neither lists of a document nor known.
        (format!("[{a},{b}]"), vec![a, b], format!("[{a},{b}]")),
        (format!(r#"{{"items":{{"list":[{a}]}}}}"#), vec![a], format!(r#"{{"items":{{"list":[{a}]}}}}"#)),
        (r#"{"items":[null,1,"{}",{}]}"#.to_owned(), vec!["1", "null"], r#"{"items":[null,1,"{}",{}]}"#.to_owned()),
        // What is broken stays so.
        (format!(r#"{{"items":[{b}{a},{a}x,{a}]"#), vec![a], format!(r#"{{"items":[{b}{a},{a}x]"#)),
        (format!(r#"{{"items":[{b},{a},"#), vec![a], format!(r#"{{"items":[{b},"#)),
        (format!("<html>{a}</html>"), vec![a], format!("<html>{a}</html>")),
        (String::new(), vec![a], String::new()),
    ] {
        let known: Vec<_> = known.into_iter().map(str::to_owned).collect();
        for size in [1, 2, 3, 7, 1000] {
            let (left, _) = sift(text.as_bytes(), size, &known);
            assert_eq!(String::from_utf8(left).unwrap(), expected, "{text} in parts of {size}");
        }
    }
}

#[test]
fn a_long_list_comes_in_slices_each_a_document() {
    let entry = |n: usize| json!({"id": format!("task-{n:05}"), "detail": "x".repeat(n % 300)});
    let document = json!({"about": [1, 2], "items": (0..3000).map(entry).collect::<Vec<_>>(), "next": {"at": [3000]}});
    let known: HashSet<_> = (0..3000).step_by(7).map(|n| print(entry(n).to_string().as_bytes())).collect();
    let (mut sieve, mut slices) = (Sieve::default(), Vec::new());
    for part in document.to_string().as_bytes().chunks(9_999) {
        assert!(sieve.push(part, |print| known.contains(&print)));
        slices.extend(sieve.slice());
    }
    assert!(slices.len() > 2 && slices.iter().all(|slice| slice.len() < 200_000), "{}", slices.len());
    assert_eq!(sieve.left_out(), known.len());
    slices.push(sieve.finish());
    let slices: Vec<Value> = slices.iter().map(|slice| serde_json::from_slice(slice).unwrap()).collect();
    let shown: Vec<_> = slices.iter().flat_map(|slice| slice["items"].as_array().unwrap().clone()).collect();
    assert_eq!(shown, (0..3000).filter(|n| n % 7 > 0).map(entry).collect::<Vec<_>>());
    assert!(slices.iter().all(|slice| slice["about"] == document["about"]));
    assert_eq!(slices.last().unwrap()["next"], document["next"]);
}

/// How much is held at most while this comes in parts, and whether all of it may come.
fn most_held(begin: &str, repeated: &str, times: usize) -> (usize, bool) {
    let (mut sieve, mut most) = (Sieve::default(), 0);
    let mut push = |part: &[u8]| {
        let goes_on = sieve.push(part, |_| false);
        most = most.max(sieve.held());
        drop(sieve.slice());
        goes_on
    };
    let goes_on = push(begin.as_bytes()) && (0..times).all(|_| push(repeated.as_bytes()));
    (most, goes_on)
}

#[test]
fn no_element_and_nothing_beside_them_is_held_beyond_a_bound() {
    let filler = "a".repeat(64 << 10);
    for (begin, repeated) in [
        (r#"{"items":[{"id":""#, filler.as_str()),
        (r#"{"items":[{"id":"x"},[["#, "[{},1],"),
        (r#"{"text":""#, &filler),
        (r#"{"items":{"id":""#, &filler),
        ("[", &filler),
        ("<html>", &filler),
        ("", &filler),
        (r#"{"a":1,"#, r#""b":[],"c":{},"#),
        ("", "     "),
    ] {
        let (most, goes_on) = most_held(begin, repeated, (16 << 20) / repeated.len());
        assert!(!goes_on && most <= 3 << 20, "{begin}{repeated:.10}…: {most}");
    }
    let entry = format!(r#"{{"id":"{filler}"}},"#);
    let (most, goes_on) = most_held(r#"{"items":["#, &entry, 200);
    assert!(goes_on && most <= 1 << 20, "{most}");
    let beside = format!(r#"{{"about":"{}","items":["#, "x".repeat(900 << 10));
    let (most, goes_on) = most_held(&beside, &entry, 200);
    assert!(goes_on && most <= 5 << 20, "{most}");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        r#"[a-z\[\]{},:"\\ é]{0,8}"#.prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-c\"\\\\{\\[]{1,2}", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #[test]
    fn any_document_keeps_all_but_what_is_known(
        before in any_json(),
        entries in prop::collection::vec((any_json(), any::<bool>()), 0..8),
        after in any_json(),
        pretty: bool,
        size in 1_usize..40,
    ) {
        let document = |entries: Vec<&Value>| json!({"a": before, "items": entries, "z": after});
        let whole = document(entries.iter().map(|(entry, _)| entry).collect());
        let text = if pretty { serde_json::to_string_pretty(&whole) } else { serde_json::to_string(&whole) }.unwrap();
        // As they stand in the text; indented ones are not the same.
        let known: Vec<_> =
            entries.iter().filter(|(entry, known)| *known && (entry.is_object() || entry.is_array())).map(|(entry, _)| entry).collect();
        let known: Vec<_> = known.into_iter().map(ToString::to_string).collect();
        let (left, left_out) = sift(text.as_bytes(), size, &known);
        let left: Value = serde_json::from_slice(&left).unwrap();
        let expected: Vec<_> = entries.iter().map(|(entry, _)| entry).filter(|entry| pretty || !known.contains(&entry.to_string())).collect();
        if pretty {
            return Ok(());
        }
        prop_assert_eq!(&left["items"], &json!(expected));
        // The other members may be lists that have such entries.
        if !before.is_array() && !after.is_array() {
            prop_assert_eq!(left_out, entries.len() - expected.len());
            prop_assert_eq!(left, document(expected));
        }
    }

    #[test]
    fn any_bytes_do_no_harm(text: Vec<u8>, size in 1_usize..9) {
        let (left, left_out) = sift(&text, size, &[]);
        prop_assert_eq!((left, left_out), (text, 0));
    }
}

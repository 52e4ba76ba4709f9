//! No single text hides an answer: what is wrong in it becomes U+FFFD or nothing, and state and error are shown.

use http::{HeaderValue, header::CONTENT_TYPE};
use serde_json::Value;

use super::{answer, now, provider};
use crate::providers::decode::explain;

/// A failed task in the words of each provider, with room for a text and for a value; and what it stands for in a list.
const FAILED: &[(&str, &str)] = &[
    (
        "huaweiCloud",
        r#"{"status":"FAIL","job_id":"t1","job_type":"createVolume","error_code":"EVS.2024","fail_reason":"volume TEXT","entities":{"figure":VALUE}}"#,
    ),
    (
        "cloudRu",
        r#"{"id":"t1","status":"FAILED","metadata":{"figure":VALUE},"error":{"code":13,"message":"volume TEXT"}}"#,
    ),
    (
        "astraControl",
        r#"{"id":"t1","state":"failed","percentDone":VALUE,"stateDetails":[{"type":"x/stateDetails/24","detail":"volume TEXT"}]}"#,
    ),
];

/// What stands in the place of the text, and how it is shown after "volume".
const TEXTS: &[(&str, &str)] = &[
    (r"data-\ud83d", "data-\u{fffd}"),
    (r"data-\udcbe!", "data-\u{fffd}!"),
    (r"\ud83d\ud83d\udcbe", "\u{fffd}\u{1f4be}"),
    (r"C:\data", r"C:\data"),
    ("two\nlines\tand \u{1}more", "two lines and more"),
    (r"\u00e9\u12", "\u{e9}\u{fffd}12"),
    ("\u{feff}data", "data"),
];

/// What stands in the place of the value.
const VALUES: &[&str] =
    &["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "007", "+1", r#""a","figure":"b""#, "18446744073709551616"];

fn shown(name: &str, body: &[u8], kind: Option<&'static str>) -> Value {
    let mut answer = answer(200, body.to_vec());
    answer.headers.extend(kind.map(|kind| (CONTENT_TYPE, HeaderValue::from_static(kind))));
    explain(provider(name).as_ref(), &answer, now())
}

fn assert_failed(name: &str, task: &Value, reason: &str) {
    assert_eq!(task["state"], "Failed", "{name}: {task}");
    assert_eq!(task["error"]["message"], reason, "{name}");
}

/// A body with a text and a value, alone and as what stands between two others in a list, if the provider has lists.
fn bodies(name: &str, body: &str, text: &str, value: &str) -> Vec<String> {
    let task = body.replace("TEXT", text).replace("VALUE", value);
    let others = ["t0", "t2"].map(|id| body.replace("t1", id).replace("TEXT", "x").replace("VALUE", "1"));
    let list = provider(name).list_key().map(|key| format!(r#"{{"{key}":[{},{task},{}]}}"#, others[0], others[1]));
    let single = if name == "cloudRu" { format!(r#"{{"task":{task}}}"#) } else { task };
    list.into_iter().chain([single]).collect()
}

/// The task `t1` of what is shown.
fn of_list(shown: &Value) -> &Value {
    let Some(tasks) = shown["tasks"].as_array() else { return &shown["task"] };
    assert_eq!(tasks.len(), 3, "{shown}");
    &tasks[1]
}

#[test]
fn a_broken_text_or_figure_hides_nothing() {
    for (name, body) in FAILED {
        for (text, reason) in TEXTS {
            for body in bodies(name, body, text, "1") {
                assert_failed(name, of_list(&shown(name, body.as_bytes(), None)), &format!("volume {reason}"));
            }
        }
        for value in VALUES.iter().map(|value| (*value).to_owned()).chain(["9".repeat(400)]) {
            for body in bodies(name, body, "data", &value) {
                assert_failed(name, of_list(&shown(name, body.as_bytes(), None)), "volume data");
            }
        }
    }
}

#[test]
fn a_body_in_any_encoding_is_read() {
    for (name, body) in FAILED {
        for body in bodies(name, body, "том", "1") {
            let json = "application/json";
            let utf_16: Vec<u8> = ["\u{feff}", &body].concat().encode_utf16().flat_map(u16::to_be_bytes).collect();
            let (windows, ..) = encoding_rs::WINDOWS_1251.encode(&body);
            for (bytes, kind, reason) in [
                (["\u{feff}", &body].concat().into_bytes(), json, "volume том"),
                (utf_16, json, "volume том"),
                (windows.to_vec(), "application/json; charset=windows-1251", "volume том"),
                (windows.to_vec(), json, "volume \u{fffd}\u{fffd}\u{fffd}"),
            ] {
                assert_failed(name, of_list(&shown(name, &bytes, Some(kind))), reason);
            }
        }
    }
}

/// Nor does it hide what a refusal says.
#[test]
fn an_error_answer_is_heard_through_a_broken_text() {
    let body = r#"{"error":{"code":"Common.0011","message":"query job \ud83d fail."},"took":NaN}"#;
    let found = explain(provider("huaweiCloud").as_ref(), &answer(400, body), now());
    assert_eq!((found["class"].as_str(), found["code"].as_str()), (Some("NotFound"), Some("Common.0011")), "{found}");
}

#[test]
fn a_cursor_is_shown_without_what_a_terminal_obeys() {
    let body = r#"{"items":[],"metadata":{"continue":"\u0000\u0007a\u001b[31m\u202e\ufeffb"}}"#;
    let shown = explain(provider("astraControl").as_ref(), &answer(200, body), now());
    assert_eq!(shown["next"], "ab");
}

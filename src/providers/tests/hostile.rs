//! Answers that mean harm: published bodies with any of their values exchanged for something hostile, and bodies as large as they may be.

use std::{fmt::Write, time::Duration};

use proptest::prelude::*;
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

use super::{checks, names, provider};
use crate::providers::{LIST_BODY_LIMIT, SINGLE_BODY_LIMIT, wire::node::Node};

/// Bodies in the published shapes; nothing in them ends a task.
const SEEDS: &[&str] = &[
    r#"{"status":"RUNNING","entities":{"sub_jobs":[{"status":"INIT","entities":{"volume_id":"v"},"job_id":"s","job_type":"x","begin_time":"2020-01-01T00:00:00.000Z","end_time":""}],"process_percent":20.5},"job_id":"t1","job_type":"createVolume","begin_time":"2020-01-01T00:00:00.000Z","end_time":""}"#,
    r#"{"job":{"job_id":"t1","status":"RUNNING","created":"1457422813219","progress":"60%"}}"#,
    r#"{"task":{"id":"t1","command":"CREATE","status":"TASK_STATUS_RUNNING","createdAt":"2020-01-01T00:00:00Z","createdBy":"u","metadata":{"typeUrl":"a/b","value":"CiRhZTFl"}}}"#,
    r#"{"tasks":[{"id":"t1","command":"CREATE","status":"RUNNING","metadata":{"@type":"x","clusterId":"c"}},null,[1,2]]}"#,
    r#"{"id":"t1","name":"astra.backup","state":"running","percentDone":20.25,"orderHint":3,"parentTaskID":"p","stateDetails":[{"type":"x/1","title":"a","detail":"b","additionalDetails":{"c":1}}],"resourceURI":"/x","startTime":"2020-08-06T12:24:52.256624Z","metadata":{"creationTimestamp":"2020-08-06T12:24:52Z","createdBy":"u"}}"#,
    r#"{"items":[["t1","p","paused","n","s",[],"12.5",0,"r","/x","u","2020-08-06T12:24:52Z","","",{}],{"id":"t2","state":"running"}],"metadata":{"continue":"abc"}}"#,
    r#"{"type":"https://x/problems/3","title":"Not here","detail":"Look elsewhere","status":"404","correlationID":"c","invalidParams":[{"name":"a","reason":"b"}]}"#,
    r#"{"code":9,"message":"no such thing","details":[{"@type":"google.rpc.ResourceInfo","value":"x"}]}"#,
];

/// What a value may be exchanged for, as JSON text; nothing in them ends a task.
fn hostile(choice: u8) -> String {
    match choice % 20 {
        0 => "null".to_owned(),
        1 => format!("{}{}", "[".repeat(126), "]".repeat(126)),
        2 => format!("{}{}", "[".repeat(5000), "]".repeat(5000)),
        3 => format!("{}0{}", r#"{"a":"#.repeat(100), "}".repeat(100)),
        4 => "9".repeat(400),
        5 => format!("-{}.{}e-{}", "9".repeat(40), "1".repeat(40), "9".repeat(9)),
        6 => "1e999".to_owned(),
        7 => "18446744073709551615".to_owned(),
        8 => "-9223372036854775808".to_owned(),
        9 => r#""\ud800""#.to_owned(),
        10 => r#""\udc00\ud800 \ud83d""#.to_owned(),
        11 => r#""\u0000\u0007a\u001b[31m\u202e\ufeff""#.to_owned(),
        12 => format!(r#""{}""#, "x".repeat(64 << 10)),
        13 => format!(r#""{}""#, "\u{202e}ж".repeat(16 << 10)),
        14 => format!(r#"{{{}"z":0}}"#, r#""id":"t1","status":"RUNNING","state":"running","#.repeat(200)),
        15 => format!("[{}0]", r#"{"id":"t1","status":"RUNNING","state":"running","job_id":"t1"},"#.repeat(1500)),
        16 => format!("[{}0]", r#"{"@type":"x","y":"z"},"#.repeat(500)),
        17 => r#""9999-12-31T23:59:60.9999999999999999999+99:99""#.to_owned(),
        18 => "true".to_owned(),
        _ => "{}".to_owned(),
    }
}

/// Writes `value`; `choices` say where something else stands instead, where a key comes twice, and where the text ends early.
fn mangle(value: &Value, choices: &mut std::slice::Iter<'_, u8>, out: &mut String) {
    match choices.next() {
        Some(choice @ 0..40) => return out.push_str(&hostile(*choice)),
        Some(255) => return,
        _ => {}
    }
    match value {
        Value::Array(items) => {
            out.push('[');
            for (n, item) in items.iter().enumerate() {
                out.push_str(if n > 0 { "," } else { "" });
                mangle(item, choices, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (n, (key, item)) in map.iter().enumerate() {
                out.push_str(if n > 0 { "," } else { "" });
                let key = Value::from(key.as_str()).to_string();
                if let Some(choice @ 0..40) = choices.next() {
                    let _ = write!(out, "{key}:{},", hostile(*choice));
                }
                let _ = write!(out, "{key}:");
                mangle(item, choices, out);
            }
            out.push('}');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { max_shrink_iters: 2000, ..ProptestConfig::with_cases(cases.unwrap_or(300)) }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_mangled_body_harms_nothing_and_ends_nothing(
        seed in prop::sample::select(SEEDS),
        status in prop_oneof![3 => Just(100u16), 1 => 0u16..500],
        retry_after in prop_oneof![Just(Vec::new()), prop::collection::vec(any::<u8>(), 0..40), "[0-9]{1,30}".prop_map(String::into_bytes)],
        choices in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut body = String::new();
        mangle(&serde_json::from_str(seed).unwrap(), &mut choices.iter(), &mut body);
        for name in names() {
            checks::decode(provider(name).as_ref(), status, &retry_after, body.as_bytes());
        }
        checks::text(&body);
        // The escapes in what was put in hide no word.
        prop_assert!(!checks::may_end(&body.replace("\\u", "")));
        let plain = body.replace("\\u", "");
        for name in names() {
            checks::decode(provider(name).as_ref(), status, &retry_after, plain.as_bytes());
        }
    }

    #[test]
    fn any_bytes_are_read(status in any::<u16>(), retry_after in prop::collection::vec(any::<u8>(), 0..60), body in prop::collection::vec(any::<u8>(), 0..400)) {
        for name in names() {
            checks::decode(provider(name).as_ref(), status, &retry_after, &body);
        }
        checks::text(&String::from_utf8_lossy(&body));
        checks::text(&String::from_utf8_lossy(&retry_after));
    }

    #[test]
    fn a_message_of_any_kind_is_bounded(value in any::<Vec<u8>>(), kind in ".{0,300}", choice in any::<u8>()) {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let value = Value::from(STANDARD.encode(value)).to_string();
        let kind = Value::from(kind).to_string();
        for key in ["@type", "typeUrl", "type_url"] {
            checks::text(&format!(r#"{{"{key}":{kind},"value":{value}}}"#));
            checks::text(&format!(r#"{{"{key}":{kind},"value":{}}}"#, hostile(choice)));
            checks::text(&format!(r#"{{"{key}":{},"a":{{"b":{{"c":{}}}}}}}"#, hostile(choice), hostile(choice)));
        }
    }
}

/// The processor time of this thread: other work on the machine does not count.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// As large as the transport lets a body be (a debug build: an eighth of that), in the shapes that cost most: four times as much may take
/// four times as long, with room for noise, but not sixteen times.
#[test]
fn what_a_body_costs_grows_no_faster_than_it() {
    let fill = |open: &str, part: &str, close: &str, limit: usize| {
        format!("{open}{}{close}", part.repeat((limit - open.len() - close.len()) / part.len()))
    };
    let shapes = [
        ("{\"items\":[", r#"{"id":"a","state":"x"},"#, "0]}"),
        ("{\"items\":[", "{},", "0]}"),
        ("{\"items\":[],\"metadata\":[", "0,", "0]}"),
        ("{\"items\":[{\"id\":\"t1\",\"state\":\"x\",\"stateDetails\":[", "{\"title\":1},", "0]}]}"),
        ("{\"items\":[{", "\"id\":\"t1\",\"state\":\"x\",", "\"name\":0}]}"),
        ("{\"tasks\":[", r#"{"id":"a"},"#, "0]}"),
        ("{\"job_id\":\"t1\",\"status\":\"x\",\"sub_jobs\":[", "{\"a\":0},", "0]}"),
        ("{\"job_id\":\"t1\",\"status\":\"x\",\"entities\":{", "\"a_id\":0,", "\"b\":0}}"),
        ("{\"id\":\"t1\",\"metadata\":{\"@type\":\"x\",\"a\":[", "0,", "0]}}"),
        ("{\"code\":9,\"details\":[", "{\"@type\":0},", "0]}"),
        ("[", "[],", "0]"),
        ("\"", "\\u001b[", "\""),
        ("\"", "\u{202e}", "\""),
        ("", "[", ""),
        ("", "\u{0}", ""),
    ];
    for (open, part, close) in shapes {
        let limit = if open.contains("items") { LIST_BODY_LIMIT } else { SINGLE_BODY_LIMIT };
        let limit = if cfg!(debug_assertions) { limit / 8 } else { limit };
        let bodies = [limit / 4, limit].map(|size| fill(open, part, close, size));
        for (name, status) in names().flat_map(|name| [(name, 100), (name, 304)]) {
            let took = |body: &String| {
                let before = cpu_time();
                checks::decode(provider(name).as_ref(), status, b"", body.as_bytes());
                cpu_time().saturating_sub(before)
            };
            // What others do to the caches costs this thread time, too, but not in each of several tries.
            let is_in_proportion = || {
                let [quarter, whole] = [&bodies[0], &bodies[1]].map(took);
                whole < quarter.max(Duration::from_millis(5)) * 10
            };
            assert!(
                (0..5).any(|_| is_in_proportion()),
                "{name}, {open}{part}…: more than ten times what a quarter of it takes"
            );
        }
    }
}

/// Two bytes of a body must not become thirty: what is kept of a document has a bound beside the body's size.
#[test]
fn a_document_of_too_many_values_is_refused() {
    let many = |count: usize| format!("[{}0]", "0,".repeat(count));
    assert!(Node::parse(&many(90_000)).is_ok());
    assert!(Node::parse(&many(110_000)).unwrap_err().to_string().contains("too many values"));
    assert!(Node::parse(&format!("[{}0]", format!("{},", many(999)).repeat(110))).is_err(), "the sum counts");
    // A list may have as many entries as it likes; each is counted alone.
    let entries = format!(r#"{{"items":[{}{{}}]}}"#, r#"{"id":"a","state":"x","metadata":{}},"#.repeat(120_000));
    let page = provider("astraControl")
        .decode_list("", &checks::answer(100, b"", entries.as_bytes()), &|_: &str| true)
        .unwrap();
    assert_eq!((page.total, page.tasks.len()), (120_001, 100_000));
}

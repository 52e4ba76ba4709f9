//! Ten thousand hostile things in one run: objects, annotations, answers, header fields.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use futures::StreamExt as _;
use serde_json::{Value, json};

use super::super::case::{Attack, Place, Scene};
use super::super::ground::ATTACKER;
use super::super::objects::{connection, token, watch, with};
use super::super::upstream::{Kind, Provider, Reply, Request, State, task};

const CONNECTIONS: usize = 24;
const WATCHES: usize = 2000;
const ANNOTATIONS: usize = 8000;
/// How many there must be in all.
const ALL: usize = 10_000;

static ANNOTATED: AtomicUsize = AtomicUsize::new(0);

pub(super) fn all() -> Vec<Attack> {
    vec![
        Attack::new("mass", "ten-thousand", "10,000 hostile objects, annotations, answers and header fields")
            .seconds(180)
            .alone()
            .plain(hostile)
            .objects(objects)
            .act(|scene| Box::pin(annotate(scene)))
            .judge(|scene| {
                let answers = super::asked(scene, 0).len();
                let all = WATCHES + CONNECTIONS + ANNOTATED.load(Ordering::Relaxed) + answers;
                super::verdict(if all < ALL {
                    vec![format!("only {all} hostile things ({answers} answers)")]
                } else {
                    Vec::new()
                })
            }),
    ]
}

/// A number that looks random, and is the same in each run.
fn draw(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn pick<T: Copy>(from: &[T], seed: u64) -> T {
    from[usize::try_from(draw(seed) % from.len() as u64).unwrap_or_default()]
}

/// Texts that have broken programs.
const TEXTS: [&str; 14] = [
    "",
    "null",
    "\u{0}",
    "\u{202e}\u{2066}",
    "%s%n%x",
    "${jndi:ldap://x}",
    "'; DROP TABLE x; --",
    "../../../etc/passwd",
    "\u{feff}",
    "𝕿𝖊𝖝𝖙\u{e0101}",
    "<script>alert(1)</script>",
    "\r\nSet-Cookie: a=b",
    "999999999999999999999999",
    "\\u0000\\ud800",
];

fn text(seed: u64) -> String {
    let long = pick(&[1, 1, 1, 3, 50, 2000], seed);
    pick(&TEXTS, seed ^ 7).repeat(long)
}

fn objects(place: &Place) -> Vec<Value> {
    let mut all: Vec<_> = ATTACKER.map(token).to_vec();
    for n in 0..CONNECTIONS {
        let namespace = ATTACKER[n % ATTACKER.len()];
        let mode = pick(&["Auto", "List", "Get"], n as u64);
        let provider = Provider::ALL[n % 3];
        let mode = if provider == Provider::Huawei { "Get" } else { mode };
        let over = json!({"poll": {"mode": mode}, "allowedScopes": ["*"], "requestTimeoutSeconds": 3});
        all.push(connection(namespace, &place.nth(n), provider, place.url(), over));
    }
    for n in 0..WATCHES {
        let seed = n as u64;
        let ids = ["a", "0", "A:b", "x.y", "9-_", "con", "null", "tasks", "jobs"];
        let id = format!("{}{n}{}", pick(&ids, seed), ":".repeat(usize::try_from(draw(seed) % 90).unwrap_or_default()));
        let spec = json!({
            "task": {"scope": pick(&["own", "a", "0", "%".strip_prefix('%').unwrap_or("z"), "x:y"], seed ^ 1).to_owned() + "s"},
            "onNotFound": pick(&["Fail", "Succeed", "Retry"], seed ^ 2),
            "notFoundGraceSeconds": pick(&[0, 1, 86_400], seed ^ 3),
            "readyWhen": pick(&["TaskSucceeded", "Observed"], seed ^ 4),
            "activeDeadlineSeconds": pick(&[1, 5, 315_360_000], seed ^ 5),
            "ttlSecondsAfterFinished": pick(&[0, 1, 3_600], seed ^ 6),
            "suspend": draw(seed).is_multiple_of(20),
        });
        let labels =
            json!({"metadata": {"annotations": {"taskwatch.dev/requestedAt": text(seed), "x": text(seed ^ 9)}}});
        let namespace = ATTACKER[n % ATTACKER.len()];
        let connection = place.nth(n % CONNECTIONS / ATTACKER.len() * ATTACKER.len() + n % ATTACKER.len());
        all.push(with(watch(namespace, &place.nth(n), &connection, &id, spec), labels));
    }
    all
}

async fn annotate(scene: &Scene<'_>) -> Result<()> {
    ANNOTATED.store(0, Ordering::Relaxed);
    let one = |n: usize| async move {
        let at = usize::try_from(draw(n as u64) % WATCHES as u64).unwrap_or_default();
        let object = watch(ATTACKER[at % ATTACKER.len()], &scene.place.nth(at), "", "", json!({}));
        let key = pick(
            &["taskwatch.dev/requestedAt", "reconcile.fluxcd.io/requestedAt", "taskwatch.dev/allow-ttl"],
            n as u64,
        );
        let mut annotations = serde_json::Map::new();
        annotations.insert(key.to_owned(), json!(text(n as u64 + 11)));
        let patch = json!({"metadata": {"annotations": annotations}});
        // Some are gone by now, others are refused.
        let _ = scene.ground.patch(&object, "", &patch).await;
        ANNOTATED.fetch_add(1, Ordering::Relaxed);
    };
    futures::stream::iter((0..ANNOTATIONS).map(one)).buffer_unordered(8).for_each(|()| async {}).await;
    Ok(())
}

/// An answer that is wrong in one of many ways.
fn hostile(request: &Request) -> Reply {
    let seed = draw(request.ordinal);
    let state = pick(&[State::Running, State::Pending, State::Failed, State::Succeeded], seed ^ 1);
    let good = task(request, state);
    let body = match request.kind {
        Kind::List => {
            json!({"items": [good, text(seed), null, 3], "tasks": [good, [], {}], "metadata": {"continue": text(seed)}})
        }
        _ => good,
    };
    let over = json!({"status": text(seed), "state": text(seed ^ 2), "job_type": text(seed ^ 3), "error_code": seed, "end_time": text(seed ^ 5),
        "begin_time": seed, "percentDone": seed, "entities": {text(seed): text(seed ^ 8), "sub_jobs": [null, 1, {"status": text(seed)}]},
        "fail_reason": [text(seed)], "stateDetails": {"a": text(seed)}, "task": text(seed)});
    let json = [("Content-Type", "application/json")];
    let name = text(seed.wrapping_add(12)).replace(['\r', '\n', '\0', ':', ' '], "");
    let value = text(seed.wrapping_add(13)).replace(['\r', '\n', '\0'], "");
    let odd = [
        ("Content-Type", value.as_str()),
        (
            if name.is_ascii() && name.len() > 1 && name.bytes().all(|b| b.is_ascii_alphanumeric()) {
                name.as_str()
            } else {
                "X"
            },
            value.as_str(),
        ),
        (
            "Retry-After",
            pick(
                &["-1", "0", "1.5", "soon", "99999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"],
                seed.wrapping_add(14),
            ),
        ),
        ("X-Request-Id", value.as_str()),
        ("ETag", value.as_str()),
        ("Set-Cookie", "a=b; Path=/"),
    ];
    match seed % 16 {
        0 => Reply::json(200, &with(body, over)),
        1 => Reply::json(200, &over),
        2 => Reply::text(200, &odd, &body.to_string()),
        3 => Reply::text(
            pick(&[201, 202, 204, 206, 304, 300, 418, 451, 599, 999], seed.wrapping_add(15)),
            &odd,
            &text(seed),
        ),
        4 => Reply::text(200, &json, &body.to_string()[..body.to_string().len() / 2]),
        5 => Reply::text(200, &json, &format!("\u{feff}{body}")),
        6 => Reply::text(200, &json, &"[".repeat(10_000)),
        7 => Reply::text(pick(&[400, 404, 409, 410, 500, 503], seed.wrapping_add(16)), &json, &text(seed)),
        8 => Reply::Last(format!("HTTP/1.1 200 X\r\nContent-Length: 5000\r\n\r\n{body}").into_bytes()),
        9 => Reply::Last(vec![0xff; 300]),
        10 => Reply::text(
            200,
            &[("Content-Encoding", pick(&["gzip", "br", "deflate, gzip", "x-gzip", "zstd"], seed))],
            &body.to_string(),
        ),
        11 => Reply::text(200, &json, &body.to_string().replace("\"id\"", "\"id\":\"\\ud800\",\"id\"")),
        12 => Reply::text(200, &json, &body.to_string().replace("RUNNING", "NaN").replace('}', ",\"x\":NaN}")),
        13 => Reply::text(301, &[("Location", "http://127.0.0.1:1/")], ""),
        14 => Reply::Whole(
            format!("HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{body}").into_bytes(),
        ),
        _ => Reply::json(200, &body),
    }
}

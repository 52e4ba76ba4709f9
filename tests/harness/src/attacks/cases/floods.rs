//! F8, F16 and what held already: answers that keep a processor busy, and bombs.

use std::io::Write as _;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::super::case::{Attack, Place, Scene};
use super::super::ground::{ATTACKER, SYSTEM};
use super::super::objects::{connection, shared, token, watch, with};
use super::super::upstream::{FOR_EVER, Flood, JOB, Kind, Provider, Reply, Request, Wire};

pub(super) fn all() -> Vec<Attack> {
    let mut frames = Attack::new(
        "F16",
        "frames",
        "HTTP/2 frames without use or end: PING, SETTINGS, WINDOW_UPDATE, DATA … on eight connections",
    )
    .seconds(12)
    .objects(|place| {
        let mut all = vec![token(ATTACKER[0])];
        for (n, url) in place.urls.iter().enumerate() {
            let more = with(place.trust[n].clone(), json!({"requestTimeoutSeconds": 60}));
            all.push(connection(ATTACKER[0], &place.nth(n), Provider::Huawei, url, more));
            all.push(watch(ATTACKER[0], &place.nth(n), &place.nth(n), JOB, json!({})));
        }
        all
    })
    .judge(|scene| Box::pin(busy(scene)));
    for flood in Flood::BESIDE.into_iter().chain([Flood::EmptyData, Flood::Continuation, Flood::Informational]) {
        frames = frames.upstream(Wire::Frames(flood), super::super::case::silence);
    }
    vec![
        Attack::new("F8", "informational", "HTTP/1.1 100 and 103 without end, 20 connections of one watch each")
            .plain(informational)
            .objects(|place| apart(place, 20)),
        Attack::new("F8", "informational-shared", "the same over a shared connection, TLS, and token endpoints")
            .upstream(Wire::Tls, informational)
            .objects(informational_everywhere),
        Attack::new("F8", "large-answers", "200 watches with answers of 1 MiB of small values, whole, again and again")
            .plain(small_values)
            .objects(|place| {
                let more = json!({"rateLimit": {"requestsPerSecond": 1000, "burst": 1000, "maxInFlight": 256}});
                together(place, 200, &more)
            }),
        Attack::new("F8", "many-entries", "lists of 480,000 entries, 20 scopes").plain(many_entries).objects(|place| {
            let name = place.nth(0);
            let more = json!({"poll": {"mode": "List"}, "allowedScopes": ["*"],
                    "rateLimit": {"requestsPerSecond": 1000, "burst": 1000, "maxInFlight": 256}});
            let mut all = vec![token(ATTACKER[0]), connection(ATTACKER[0], &name, Provider::Astra, place.url(), more)];
            all.extend((0..20).map(|n| {
                let scope = json!({"task": {"scope": format!("scope{n}")}});
                watch(ATTACKER[0], &place.nth(n), &name, "task", scope)
            }));
            all
        }),
        frames,
        Attack::new(
            "held",
            "bombs",
            "gzip bombs, heads, trailers and chunk extensions without end, slow drips, deep JSON",
        )
        .plain(bomb)
        .objects(|place| {
            let mut all = vec![token(ATTACKER[0])];
            for (n, bomb) in BOMBS.iter().enumerate() {
                for (p, provider) in Provider::ALL.into_iter().enumerate() {
                    let name = format!("{}-{p}-{n}", place.name);
                    all.push(connection(
                        ATTACKER[0],
                        &name,
                        provider,
                        place.url(),
                        json!({"requestTimeoutSeconds": 60}),
                    ));
                    all.push(watch(ATTACKER[0], &name, &name, bomb, json!({})));
                }
            }
            all
        }),
    ]
}

/// Connections of one watch each.
fn apart(place: &Place, count: usize) -> Vec<Value> {
    let mut all = vec![token(ATTACKER[0])];
    for n in 0..count {
        let more = json!({"requestTimeoutSeconds": 300});
        all.push(connection(ATTACKER[0], &place.nth(n), Provider::ALL[n % 3], place.url(), more));
        all.push(watch(ATTACKER[0], &place.nth(n), &place.nth(n), "task", json!({})));
    }
    all
}

/// Watches of one connection.
fn together(place: &Place, count: usize, more: &Value) -> Vec<Value> {
    let name = place.nth(0);
    let mut all = vec![token(ATTACKER[0]), connection(ATTACKER[0], &name, Provider::Huawei, place.url(), more.clone())];
    all.extend((0..count).map(|n| watch(ATTACKER[0], &place.nth(n), &name, &format!("job{n}"), json!({}))));
    all
}

fn informational_everywhere(place: &Place) -> Vec<Value> {
    let mut all = vec![token(SYSTEM)];
    let trust = place.trust[0].clone();
    let name = place.nth(0);
    all.push(shared(
        &name,
        Provider::Huawei,
        place.url(),
        &ATTACKER,
        with(trust.clone(), json!({"requestTimeoutSeconds": 300})),
    ));
    for (n, namespace) in ATTACKER.into_iter().enumerate() {
        let kind = json!({"connectionRef": {"kind": "ClusterTaskConnection"}});
        all.push(watch(namespace, &place.nth(n), &name, &format!("job{n}"), kind));
    }
    let keys = json!({"clientID": "some-client", "clientSecret": "some-client-secret"});
    all.push(super::super::objects::secret(ATTACKER[0], &name, &keys));
    for n in 10..18 {
        let auth = json!({"oauth2": {"tokenURL": place.url(), "secretRef": {"name": name}}, "token": null});
        let more = with(trust.clone(), json!({"requestTimeoutSeconds": 300, "auth": auth}));
        all.push(connection(ATTACKER[0], &place.nth(n), Provider::Astra, place.url(), more));
        all.push(watch(ATTACKER[0], &place.nth(n), &place.nth(n), "task", json!({})));
    }
    all
}

fn informational(request: &Request) -> Reply {
    let unit: &[u8] = if request.ordinal.is_multiple_of(2) {
        b"HTTP/1.1 100 Continue\r\n\r\n"
    } else {
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"
    };
    Reply::endless(b"", unit.repeat(1000))
}

fn whole(cell: &'static OnceLock<Vec<u8>>, body: fn() -> String) -> Reply {
    let bytes = cell.get_or_init(|| {
        let body = body();
        let length = body.len();
        format!("HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
            .into_bytes()
    });
    Reply::Whole(bytes.clone())
}

fn small_values(_: &Request) -> Reply {
    static BODY: OnceLock<Vec<u8>> = OnceLock::new();
    whole(&BODY, || {
        let values: Vec<_> = (0..99_000).map(|n| format!("\"{n}\":{n}")).collect();
        format!(
            r#"{{"job_id":"job0","status":"RUNNING","entities":{{{}}}}}"#,
            &values.join(",")[..1_000_000].trim_end_matches(|c| c != ',').trim_end_matches(',')
        )
    })
}

fn many_entries(request: &Request) -> Reply {
    static BODY: OnceLock<Vec<u8>> = OnceLock::new();
    if request.kind != Kind::List {
        return Reply::running(request);
    }
    whole(&BODY, || {
        let items: Vec<_> = (0..480_000).map(|n| format!(r#"{{"id":"{n:x}","state":"r"}}"#)).collect();
        let text = items.join(",");
        format!(r#"{{"items":[{}]}}"#, &text[..text[..16_000_000.min(text.len())].rfind(",{").unwrap_or_default()])
    })
}

/// The processor time that the operator needs while it is flooded.
async fn busy(scene: &Scene<'_>) -> Result<Vec<String>> {
    let before = scene.subject.usage().await?.cpu;
    let begun = std::time::Instant::now();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let used = scene.subject.usage().await?.cpu.saturating_sub(before);
    let share = used.as_secs_f64() / begun.elapsed().as_secs_f64();
    Ok(if share > 0.5 {
        vec![format!("the floods keep {:.0} % of a processor busy", share * 100.0)]
    } else {
        Vec::new()
    })
}

const BOMBS: [&str; 11] =
    ["gzip", "heads", "head", "extensions", "trailers", "drip", "deep", "keys", "blanks", "chunks", "numbers"];

fn bomb(request: &Request) -> Reply {
    let chunked = b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    match request.id.as_str() {
        "gzip" => {
            static BODY: OnceLock<Vec<u8>> = OnceLock::new();
            Reply::Whole(BODY.get_or_init(gzip_bomb).clone())
        }
        "heads" => Reply::endless(b"HTTP/1.1 200 X\r\n", b"X-Y: z\r\n".repeat(100)),
        "head" => Reply::endless(b"HTTP/1.1 200 X\r\nX: ", vec![b'a'; 4096]),
        "extensions" => Reply::endless(&[chunked, b"1;".as_slice()].concat(), vec![b'a'; 4096]),
        "trailers" => Reply::endless(&[chunked, b"2\r\n{}\r\n0\r\n".as_slice()].concat(), b"X-Y: z\r\n".repeat(100)),
        "drip" => Reply::Stream {
            head: chunked.to_vec(),
            unit: b"1\r\n \r\n".to_vec(),
            times: FOR_EVER,
            pause: Duration::from_millis(50),
        },
        "deep" => Reply::text(200, &[("Content-Type", "application/json")], &"[".repeat(500_000)),
        "keys" => {
            let keys: Vec<_> = (0..60_000).map(|n| format!("\"k{n}\":1")).collect();
            Reply::text(
                200,
                &[("Content-Type", "application/json")],
                &format!("{{\"entities\":{{{}}}}}", keys.join(",")),
            )
        }
        "blanks" => Reply::text(200, &[("Content-Type", "application/json")], &" ".repeat(1 << 20)),
        "chunks" => Reply::endless(chunked, b"1\r\n \r\n".repeat(500)),
        _ => {
            let body = format!(
                r#"{{"job_id":"numbers","status":"RUNNING","progress":1e999999999,"x":{}}}"#,
                "9".repeat(500_000)
            );
            Reply::text(200, &[("Content-Type", "application/json"), ("Retry-After", "99999999999999999999")], &body)
        }
    }
}

/// 200 MB of blanks.
fn gzip_bomb() -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..200 {
        // Writing to memory does not fail.
        let _ = encoder.write_all(&vec![b' '; 1 << 20]);
    }
    let body = encoder.finish().unwrap_or_default();
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), &body].concat()
}

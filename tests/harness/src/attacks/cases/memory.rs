//! F1, F4, F5: memory that no bound spans.

use std::sync::OnceLock;

use futures::StreamExt as _;
use serde_json::{Value, json};

use super::super::case::{Attack, Place, silence};
use super::super::ground::{ATTACKER, SYSTEM};
use super::super::objects::{config_map, connection, secret, shared, token, watch, with};
use super::super::upstream::{Kind, Provider, Reply, Request};

const CHUNK: usize = 64 << 10;
/// What one request may hold at most, and what a tenant may set it to.
const SINGLE: usize = 1 << 20;

pub(super) fn lists_and_gets() -> Vec<Attack> {
    vec![
        Attack::new("F1", "stalling-lists", "lists of one element that never ends, 40 scopes of one connection")
            .plain(stalling_list)
            .objects(|place| lists(place, ATTACKER[0], 40)),
        Attack::new("F1", "stalling-gets", "single answers that lack their last byte, 256 in flight")
            .plain(stalling_get)
            .objects(|place| gets(place, ATTACKER[0], 260)),
        Attack::new("F1", "stalling-tokens", "token endpoints whose answers lack their last byte, 60 connections")
            .plain(stalling_get)
            .objects(stalling_tokens),
        Attack::new(
            "F1",
            "many-namespaces",
            "lists and gets that stall, from six namespaces and over a shared connection",
        )
        .plain(stalling)
        .objects(|place| {
            let mut all = vec![token(SYSTEM)];
            for namespace in ATTACKER {
                all.extend(lists(place, namespace, 16));
                all.extend(gets(place, namespace, 64));
            }
            let url = place.url();
            all.push(shared(&place.nth(0), Provider::Astra, url, &ATTACKER, greedy()));
            all.extend(ATTACKER.iter().flat_map(|namespace| {
                scopes(place, "shared", namespace, &place.nth(0), 16)
                    .into_iter()
                    .map(|watch| with(watch, json!({"spec": {"connectionRef": {"kind": "ClusterTaskConnection"}}})))
            }));
            all
        }),
        Attack::new("F1", "long-lists", "whole lists of 16 MiB with 100,000 unknown tasks, 20 scopes")
            .plain(long_list)
            .objects(|place| lists(place, ATTACKER[0], 20)),
    ]
}

pub(super) fn objects() -> Vec<Attack> {
    vec![
        Attack::new("F4", "large-objects", "a start with 250 TaskWatches of 400 kB and 100 TaskConnections of 250 kB")
            .seconds(90)
            .alone()
            .objects(large)
            .act(|scene| Box::pin(restart_with_statuses(scene))),
        Attack::new("F5", "large-bundles", "90 connections that name one ConfigMap with 1 MB of certificates")
            .plain(silence)
            .objects(|place| {
                let bundle = config_map(ATTACKER[0], &place.nth(0), &json!({"ca.crt": certificates(0, 999_600)}));
                let mut all = vec![token(ATTACKER[0]), bundle];
                all.extend((0..90).map(|n| {
                    let tls = json!({"tls": {"caBundleRef": {"name": place.nth(0)}}});
                    connection(ATTACKER[0], &place.nth(n), Provider::Huawei, &port(n), tls)
                }));
                all
            }),
        Attack::new("F5", "inline-bundles", "150 connections with 36 kB of certificates each, no two the same")
            .plain(silence)
            .objects(|place| {
                let mut all = vec![token(ATTACKER[0])];
                all.extend((0..150).map(|n| {
                    let tls = json!({"tls": {"caBundle": certificates(n % 2 * 7 + n / 2, 36_000)}});
                    connection(ATTACKER[0], &place.nth(n), Provider::Huawei, &port(n), tls)
                }));
                all
            }),
        Attack::new(
            "F5",
            "own-settings",
            "1,200 connections in use, each with a bundle of 60 certificates and a token of 15 kB",
        )
        .seconds(60)
        .plain(silence)
        .objects(own_settings),
        Attack::new("F5", "large-secrets", "60 connections whose token has 1 MB").plain(silence).objects(|place| {
            let mut all = vec![secret(ATTACKER[0], &place.nth(0), &json!({"token": "x".repeat(1_000_000)}))];
            all.extend((0..60).map(|n| {
                let auth = json!({"auth": {"token": {"secretRef": {"name": place.nth(0)}}}});
                connection(ATTACKER[0], &place.nth(n), Provider::Huawei, &port(n), auth)
            }));
            all
        }),
    ]
}

/// Connections of six namespaces, each with a watch, and with a bundle and a token that no other has.
fn own_settings(place: &Place) -> Vec<Value> {
    let same = certificates(0, 36_000);
    let mut all = Vec::new();
    for n in 0..1_200 {
        let (namespace, name) = (ATTACKER[n % ATTACKER.len()], place.nth(n));
        all.push(config_map(namespace, &name, &json!({"ca.crt": format!("# {n}\n{same}")})));
        all.push(secret(namespace, &name, &json!({"token": format!("{n:015000}")})));
        let own = json!({"tls": {"caBundleRef": {"name": name}}, "auth": {"token": {"secretRef": {"name": name}}}});
        all.push(connection(namespace, &name, Provider::Huawei, &port(n), own));
        all.push(watch(namespace, &name, &name, "task", json!({})));
    }
    all
}

/// An endpoint of its own for each connection; nobody listens there.
fn port(n: usize) -> String {
    format!("https://127.0.0.1:{}", 40_000 + n)
}

fn stalling(request: &Request) -> Reply {
    if request.kind == Kind::List { stalling_list(request) } else { stalling_get(request) }
}

/// A list whose first element never ends; single tasks run, so that the connection is trusted.
fn stalling_list(request: &Request) -> Reply {
    if request.kind != Kind::List {
        return Reply::running(request);
    }
    let head = b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n11\r\n{\"items\":[{\"id\":\"\r\n";
    let unit = [format!("{CHUNK:x}\r\n").as_bytes(), &vec![b'a'; CHUNK], b"\r\n"].concat();
    Reply::stalling(head, unit, 250)
}

/// All but the last byte of what its length says.
fn stalling_get(request: &Request) -> Reply {
    // What is trusted may be asked for many at a time.
    if request.kind != Kind::Token && request.seen == 0 {
        return Reply::running(request);
    }
    let head = format!("HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: {SINGLE}\r\n\r\n");
    let unit = vec![b' '; 1023];
    Reply::stalling(head.as_bytes(), unit, u64::try_from(SINGLE / 1024).unwrap_or_default())
}

/// 16 MiB of tasks that nobody asked about.
fn long_list(request: &Request) -> Reply {
    static LIST: OnceLock<Vec<u8>> = OnceLock::new();
    if request.kind != Kind::List {
        return Reply::running(request);
    }
    let list = LIST.get_or_init(|| {
        let item = |n: u32| format!(r#"{{"id":"{n:032x}","state":"running","name":"{}"}}"#, "n".repeat(100));
        let items: Vec<_> = (0..90_000).map(item).collect();
        let body = format!(r#"{{"items":[{}]}}"#, items.join(","));
        let length = body.len();
        format!("HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
            .into_bytes()
    });
    Reply::Whole(list.clone())
}

/// What lets a connection hold as much as may be.
fn greedy() -> Value {
    json!({"poll": {"mode": "List"}, "allowedScopes": ["*"], "requestTimeoutSeconds": 300,
        "rateLimit": {"requestsPerSecond": 1000, "burst": 1000, "maxInFlight": 256}})
}

/// A connection that lists, and a watch in each of many scopes. Beside it one that is more modest, should the greedy one be refused.
fn lists(place: &Place, namespace: &str, count: usize) -> Vec<Value> {
    let (greedy_name, modest_name) = (format!("{}-list", place.name), format!("{}-modest", place.name));
    let modest = with(greedy(), json!({"rateLimit": {"requestsPerSecond": 50, "burst": 32, "maxInFlight": 32}}));
    let mut all = vec![
        token(namespace),
        connection(namespace, &greedy_name, Provider::Astra, place.url(), greedy()),
        connection(namespace, &modest_name, Provider::Astra, place.url(), modest),
    ];
    all.extend(scopes(place, "big", namespace, &greedy_name, count));
    all.extend(scopes(place, "mod", namespace, &modest_name, count));
    all
}

fn scopes(place: &Place, kind: &str, namespace: &str, connection: &str, count: usize) -> Vec<Value> {
    let one = |n: usize| {
        let scope = json!({"task": {"scope": format!("{kind}{n}")}});
        watch(namespace, &format!("{}-{kind}-{n}", place.name), connection, "task", scope)
    };
    (0..count).map(one).collect()
}

fn gets(place: &Place, namespace: &str, count: usize) -> Vec<Value> {
    let name = format!("{}-get", place.name);
    let more = with(greedy(), json!({"poll": {"mode": "Get"}}));
    let mut all = vec![token(namespace), connection(namespace, &name, Provider::Huawei, place.url(), more)];
    all.extend((0..count).map(|n| watch(namespace, &format!("{name}-{n}"), &name, &format!("job{n}"), json!({}))));
    all
}

fn stalling_tokens(place: &Place) -> Vec<Value> {
    let namespace = ATTACKER[0];
    let keys = json!({"clientID": "x-client", "clientSecret": "x-client-secret", "keyID": "x-key", "secret": "x-key-secret",
        "username": "x-user", "password": "x-password", "domain": "x-domain"});
    let mut all = vec![secret(namespace, &place.nth(0), &keys)];
    for n in 0..60 {
        let reference = json!({"name": place.nth(0)});
        let (provider, auth) = match n % 3 {
            0 => (Provider::Huawei, json!({"keystone": {"endpoint": place.url(), "secretRef": reference}})),
            1 => (Provider::CloudRu, json!({"cloudRuKey": {"endpoint": place.url(), "secretRef": reference}})),
            _ => (Provider::Astra, json!({"oauth2": {"tokenURL": place.url(), "secretRef": reference}})),
        };
        let auth = with(auth, json!({"token": null}));
        let name = place.nth(n);
        let more = with(greedy(), json!({"auth": auth, "poll": {"mode": "Auto"}}));
        all.push(connection(namespace, &name, provider, place.url(), more));
        all.push(watch(namespace, &name, &name, "task", json!({})));
    }
    all
}

/// F4: what a tenant can leave behind in a minute.
fn large(place: &Place) -> Vec<Value> {
    let namespace = ATTACKER[0];
    let note = json!({"metadata": {"annotations": {"large": "a".repeat(250_000)}}, "spec": {"suspend": true}});
    let mut all = vec![token(namespace)];
    all.extend((0..250).map(|n| with(watch(namespace, &place.nth(n), "none", "task", json!({})), note.clone())));
    let note = json!({"metadata": {"annotations": {"large": "b".repeat(250_000)}}});
    all.extend(
        (0..100)
            .map(|n| with(connection(namespace, &place.nth(n), Provider::Huawei, &port(n), json!({})), note.clone())),
    );
    all
}

/// Statuses as large as the schema lets them be, as an earlier release may have written them; then a start with all that.
async fn restart_with_statuses(scene: &super::Scene<'_>) -> anyhow::Result<()> {
    let text = |length: usize| "<".repeat(length);
    let outputs: serde_json::Map<_, _> = (0..32).map(|n| (format!("output{n}"), json!(text(512)))).collect();
    let details = vec![json!({"type": "t", "title": text(256), "detail": text(1024)}); 8];
    let status = json!({"status": {"state": "Running", "outputs": outputs, "stateDetails": details}});
    let put = |n: usize| {
        let object = watch(ATTACKER[0], &scene.place.nth(n), "none", "task", json!({}));
        let status = &status;
        async move { scene.ground.patch(&object, "/status", status).await }
    };
    let statuses: Vec<_> = futures::stream::iter(0..250).map(put).buffer_unordered(16).collect().await;
    let written = statuses.iter().filter(|one| one.is_ok()).count();
    let refused = statuses.iter().find_map(|one| one.as_ref().err());
    anyhow::ensure!(written > 200, "only {written} statuses could be written: {refused:?}");
    let took = scene.subject.restart().await?;
    anyhow::ensure!(took < std::time::Duration::from_secs(30), "ready after {took:?} only");
    scene.measure_from.store(super::super::now_ms() + 1000, std::sync::atomic::Ordering::Relaxed);
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    Ok(())
}

/// Self-signed certificates of one key, in PEM, up to `length` bytes; another `first` gives others.
fn certificates(first: usize, length: usize) -> String {
    static KEY: OnceLock<Option<rcgen::KeyPair>> = OnceLock::new();
    let mut text = String::with_capacity(length);
    let Some(key) = KEY.get_or_init(|| rcgen::KeyPair::generate().ok()) else { return text };
    for n in first * 10_000.. {
        let Ok(mut certificate) = rcgen::CertificateParams::new(Vec::<String>::new()) else { break };
        certificate.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        certificate.distinguished_name.push(rcgen::DnType::CommonName, format!("authority {n}"));
        let Ok(certificate) = certificate.self_signed(key) else { break };
        let pem = certificate.pem();
        if text.len() + pem.len() > length {
            break;
        }
        text += &pem;
    }
    text
}

//! F12, F15, F19: where connections may lead.

use anyhow::Result;
use serde_json::{Value, json};

use super::super::case::{Attack, Scene, silence};
use super::super::ground::ATTACKER;
use super::super::isolation::{PORTS, PRIVATE, PUBLIC};
use super::super::objects::{connection, token, watch};
use super::super::upstream::{Provider, Reply, Wire};
use super::told;

pub(super) fn all() -> Vec<Attack> {
    let mut forbidden = Attack::new(
        "F15",
        "forbidden-addresses",
        "private, denied and another tenant's addresses, ports of the cluster, the API server",
    )
    .seconds(12)
    .objects(|place| {
        let mut all = vec![token(ATTACKER[0])];
        let reserved = RESERVED.map(|(url, _)| url.to_owned());
        for (n, url) in place.urls.iter().cloned().chain(reserved).enumerate() {
            all.push(connection(ATTACKER[0], &place.nth(n), Provider::ALL[n % 3], &url, json!({})));
            all.push(watch(ATTACKER[0], &place.nth(n), &place.nth(n), "task", json!({})));
        }
        all
    })
    .judge(|scene| Box::pin(reached(scene)));
    for address in PRIVATE {
        forbidden = forbidden.upstream_at(address, 0, Wire::Plain, Reply::running);
    }
    // What the nodes and the control plane of a cluster listen on, at an address of which other ports are allowed.
    for port in [10_250, 10_255, 2_379, 2_380] {
        forbidden = forbidden.upstream_at(PORTS, port, Wire::Plain, Reply::running);
    }
    vec![
        Attack::new("F12", "plain-http", "credentials over http:// to a public address")
            .seconds(8)
            .upstream_at(PUBLIC, 0, Wire::Plain, Reply::running)
            .objects(|place| {
                let mut all = vec![token(ATTACKER[0])];
                for (n, provider) in Provider::ALL.into_iter().enumerate() {
                    all.push(connection(ATTACKER[0], &place.nth(n), provider, place.url(), json!({})));
                    all.push(watch(ATTACKER[0], &place.nth(n), &place.nth(n), "task", json!({})));
                }
                all
            })
            .judge(|scene| Box::pin(in_clear(scene))),
        forbidden,
        Attack::new("F19", "odd-urls", "URLs that others read differently: \\, %31, full-width digits, user names")
            .seconds(2)
            .plain(silence)
            .judge(|scene| Box::pin(misread(scene))),
    ]
}

/// Addresses that are nobody's business, and a word that must not be told of each.
const RESERVED: [(&str, &str); 5] = [
    ("http://169.254.169.254", "link-local"),
    ("http://[::ffff:10.66.2.1]", "10.66"),
    ("http://0.0.0.0:8080", "unspecified"),
    ("http://[64:ff9b::a42:201]", "10.66"),
    ("https://10.66.2.1:10250", "10.66"),
];

async fn reached(scene: &Scene<'_>) -> Result<Vec<String>> {
    let mut faults: Vec<_> = scene
        .upstreams
        .iter()
        .filter(|upstream| upstream.accepted() > 0)
        .map(|upstream| format!("{} was reached {} times", upstream.address(), upstream.accepted()))
        .collect();
    let connections = scene.ground.connections(ATTACKER[0], scene.place.name).await?;
    let watches = scene.ground.watches(ATTACKER[0], scene.place.name).await?;
    for object in connections.iter().chain(&watches) {
        let (name, text) = (&object["metadata"]["name"], told(object));
        for word in
            ["private address", "loopback", "link-local", "unspecified address", "is a private", "API server's address"]
        {
            if text.contains(word) {
                faults.push(format!("{name} is told what is at an address ({word}): {}", text.replace('\n', " | ")));
            }
        }
    }
    if !connections.iter().any(|object| told(object).contains("EgressDenied")) {
        faults.push("no connection is EgressDenied".to_owned());
    }
    Ok(faults)
}

async fn in_clear(scene: &Scene<'_>) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for upstream in scene.upstreams.iter().filter(|upstream| upstream.accepted() > 0) {
        let asked = upstream.asked_since(scene.begun_ms).len();
        faults.push(format!("{} connections and {asked} requests with a credential in the clear", upstream.accepted()));
    }
    for object in scene.ground.connections(ATTACKER[0], scene.place.name).await? {
        if !told(&object).contains("https") {
            faults.push(format!(
                "{} is not told to use https: {}",
                object["metadata"]["name"],
                told(&object).replace('\n', " | ")
            ));
        }
    }
    Ok(faults)
}

/// Hosts that a parser of URLs and a reader of them take for two different things.
const ODD: [&str; 18] = [
    "http://evil.example\\.good.example",
    "https://good.example\\@evil.example",
    "https://%31%32%37.0.0.1",
    "https://１２７.0.0.1",
    "https://127。0。0。1",
    "https://①②⑦.0.0.1",
    "https://good.example%2f.evil.example",
    "https://user@evil.example",
    "https://user:password@evil.example",
    "https://good.example?@evil.example",
    "https://good.example#@evil.example",
    "https://good.example\t.evil.example",
    "https://gооd.example",
    "https://a_b.example\u{200b}",
    "https://[::1%25eth0]",
    "https:\\\\evil.example",
    "https:///evil.example",
    "HTTP://evil.example",
];

async fn misread(scene: &Scene<'_>) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for (n, url) in ODD.into_iter().enumerate() {
        let object: Value = connection(ATTACKER[0], &scene.place.nth(n), Provider::Huawei, url, json!({}));
        if scene.ground.create(&object).await.is_ok() {
            faults.push(format!("{url:?} is accepted"));
        }
    }
    for (n, url) in
        ["https://good.example", "https://good.example:8443/a/b", "https://[2001:db8::1]:443", "http://127.0.0.1:80/x"]
            .into_iter()
            .enumerate()
    {
        let object = connection(ATTACKER[0], &scene.place.nth(100 + n), Provider::Huawei, url, json!({}));
        if let Err(error) = scene.ground.create(&object).await {
            faults.push(format!("{url:?} is refused: {error:#}"));
        }
    }
    Ok(faults)
}

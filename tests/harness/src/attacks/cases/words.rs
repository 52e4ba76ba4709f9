//! F3, F10, F13, F21: what may be shown, and to whom.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::{Value, json};

use super::super::case::{Attack, Place, Scene};
use super::super::ground::{ATTACKER, CANARY, OUTSIDER, SYSTEM};
use super::super::isolation::PRIVATE;
use super::super::objects::{connection, secret, shared, token, watch, with};
use super::super::upstream::{Provider, Reply, Request, State, task};
use super::{message, tokens, told};

/// What no tenant of a shared connection is to read.
const SECRET: &str = "prod-cloud-admin";
const KEYS: [&str; 3] = ["aws-access-key-prod", "root-password", "kubeadmin-key"];
const WORDS: &str = "Zaphod-Beeblebrox";
const CODE: &str = "Not.A Plain/Word";

pub(super) fn all() -> Vec<Attack> {
    vec![
        Attack::new("F3", "echoes", "every place of every answer repeats the credential, by five kinds of credential")
            .seconds(20)
            .plain(tokens::echo)
            .objects(tokens::objects)
            .judge(|scene| Box::pin(echoed(scene))),
        Attack::new("F13", "shared-words", "what other namespaces are told of a shared connection that fails")
            .seconds(12)
            .plain(talk)
            .objects(shared_objects)
            .judge(|scene| Box::pin(overheard(scene))),
        Attack::new("F10", "outputs", "finished tasks that return passwords, keys and kubeconfigs")
            .seconds(8)
            .plain(generous)
            .objects(|place| one_for_each(place, 3))
            .judge(|scene| Box::pin(given_away(scene))),
        Attack::new("F21", "invisible", "characters that nobody sees, in every text of a task")
            .seconds(8)
            .plain(invisible)
            .objects(|place| one_for_each(place, 1))
            .judge(|scene| Box::pin(seen(scene))),
    ]
}

/// A connection to each API, and some tasks of each.
fn one_for_each(place: &Place, count: usize) -> Vec<Value> {
    let mut all = vec![token(ATTACKER[0])];
    for (p, provider) in Provider::ALL.into_iter().enumerate() {
        let name = place.nth(p);
        all.push(connection(ATTACKER[0], &name, provider, place.url(), json!({})));
        all.extend(
            (0..count).map(|n| watch(ATTACKER[0], &format!("{name}-{n}"), &name, &format!("task{n}"), json!({}))),
        );
    }
    all
}

/// The echoes must have been asked for: the search itself is made over all that is shown, at the end and after each attack.
async fn echoed(scene: &Scene<'_>) -> Result<Vec<String>> {
    let asked = super::asked(scene, 0);
    let ways = asked.iter().map(|one| one.id.as_str()).collect::<BTreeSet<_>>();
    let mut faults = Vec::new();
    if ways.len() < 20 {
        faults.push(format!("only {} ways of repeating a credential were tried", ways.len()));
    }
    let shown = scene.ground.watches(ATTACKER[0], scene.place.name).await?;
    if shown.iter().filter(|object| told(object).len() > 40).count() < shown.len() / 2 {
        faults.push("most of the watches show nothing: what an echo does is not seen".to_owned());
    }
    Ok(faults)
}

/// Refusals and errors with words that are easily found.
fn talk(request: &Request) -> Reply {
    let provider = Provider::of(request);
    match request.scope.as_str() {
        "refused" => provider.refusal(401, CODE, WORDS),
        "forbidden" => provider.refusal(403, CODE, WORDS),
        "down" => Reply::text(500, &[("Content-Type", "text/plain")], WORDS),
        "invalid" => provider.refusal(400, CODE, WORDS),
        "page" => Reply::text(200, &[("Content-Type", "text/html")], &format!("<h1>{WORDS}</h1>")),
        "unknown" => provider.refusal(404, CODE, WORDS),
        "limit" => Reply::text(429, &[("Retry-After", "600")], WORDS),
        _ => Reply::running(request),
    }
}

/// Shared connections that fail in different ways; each is watched by a tenant, and two that the tenant may not use.
fn shared_objects(place: &Place) -> Vec<Value> {
    let mut data = serde_json::Map::new();
    data.extend(KEYS.iter().map(|key| ((*key).to_owned(), json!("a-value-of-no-use"))));
    data.insert("good".to_owned(), json!("quite-a-good-token"));
    let mut all = vec![secret(SYSTEM, SECRET, &Value::Object(data))];
    let named = |key: &str| json!({"auth": {"token": {"secretRef": {"name": SECRET, "key": key}}}});
    let mut add = |name: &str, url: &str, more: Value, allowed: &[&str]| {
        let name = format!("{}-{name}", place.name);
        all.push(shared(&name, Provider::Huawei, url, allowed, with(named("good"), more)));
        all.push(watch(ATTACKER[0], &name, &name, "task", json!({"connectionRef": {"kind": "ClusterTaskConnection"}})));
    };
    let allowed = [ATTACKER[0]];
    for scope in ["refused", "forbidden", "down", "invalid", "page", "unknown", "limit"] {
        add(scope, place.url(), json!({"provider": {"huaweiCloud": {"projectID": scope}}}), &allowed);
    }
    add("no-key", place.url(), named("token"), &allowed);
    let missing = json!({"auth": {"token": {"secretRef": {"name": "prod-cloud-admin-2", "key": "root-password"}}}});
    add("no-secret", place.url(), missing, &allowed);
    let bundle = json!({"tls": {"caBundleRef": {"kind": "Secret", "name": SECRET, "key": KEYS[0]}}});
    add("no-bundle", place.url(), bundle, &allowed);
    add("inside", &format!("https://{}:8443", PRIVATE[1]), json!({}), &allowed);
    add("metadata", "http://169.254.169.254", json!({}), &allowed);
    add("no-host", "https://internal-api.corp.invalid:8443", json!({}), &allowed);
    add("closed", "https://127.0.0.1:1", json!({}), &allowed);
    add("not-allowed", place.url(), json!({}), &[OUTSIDER]);
    let absent = format!("{}-absent-one", place.name);
    all.push(watch(ATTACKER[0], &absent, &absent, "task", json!({"connectionRef": {"kind": "ClusterTaskConnection"}})));
    all
}

async fn overheard(scene: &Scene<'_>) -> Result<Vec<String>> {
    let mut hidden: Vec<String> = [
        SECRET,
        WORDS,
        CODE,
        "internal-api.corp",
        "10.66.",
        "169.254.169.254",
        "loopback",
        "private address",
        "link-local",
    ]
    .into_iter()
    .chain(KEYS)
    .map(str::to_owned)
    .collect();
    hidden.extend(scene.upstreams.iter().map(|upstream| format!(":{}", upstream.address().port())));
    hidden.extend([":8443".to_owned(), "127.0.0.1".to_owned()]);
    let mut faults = Vec::new();
    let watches = scene.ground.watches(ATTACKER[0], scene.place.name).await?;
    let events = scene.ground.events(ATTACKER[0], scene.place.name).await?;
    let statuses = watches.iter().map(|object| (object["metadata"]["name"].as_str(), told(object)));
    let notes = events
        .iter()
        .map(|event| (event["regarding"]["name"].as_str(), event["note"].as_str().unwrap_or_default().to_owned()));
    for (name, text) in statuses.chain(notes) {
        for word in hidden.iter().filter(|word| text.contains(word.as_str())) {
            faults.push(format!("{} shows {word:?}: {}", name.unwrap_or_default(), text.replace('\n', " | ")));
        }
    }
    let of = |suffix: &str| {
        let name = format!("{}-{suffix}", scene.place.name);
        let found = watches.iter().find(|object| object["metadata"]["name"] == name.as_str());
        let reason = |object: &Value| {
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let all: Vec<_> =
                conditions.iter().map(|one| format!("{} {} {}", one["type"], one["status"], one["reason"])).collect();
            format!("{} {} {}", all.join(" "), message(object, "Ready"), message(object, "Synced"))
                .replace(&name, "NAME")
        };
        found.map(reason).unwrap_or_default()
    };
    let (absent, refused) = (of("absent-one"), of("not-allowed"));
    if absent.len() < 20 || absent != refused {
        faults.push(format!("what does not exist and what is not allowed read differently: {absent:?}, {refused:?}"));
    }
    if watches.iter().filter(|object| !message(object, "Synced").is_empty()).count() < watches.len() / 2 {
        faults.push("most of the watches are told nothing".to_owned());
    }
    // The owner is told all of it.
    let owner = scene.ground.get("/apis/taskwatch.dev/v1alpha1/clustertaskconnections").await?.to_string();
    if !owner.contains(WORDS) {
        faults.push("the owner of the connection is not told the upstream's words either".to_owned());
    }
    debug_assert_ne!(CANARY, OUTSIDER);
    Ok(faults)
}

/// Values that are nobody's business, by the names that clouds give them.
const GIVEN: [(&str, &str); 14] = [
    ("adminPass", "hunter2-hunter2"),
    ("kubeadminPassword", "correct-horse-battery"),
    ("kubeconfig", "apiVersion: v1\nkind: Config\nusers:\n- user: {token: abcdefghijklmnop}"),
    ("token", "fernet-gAAAAABkq1x2w3e4r5t6"),
    ("secret_access_key", "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"),
    ("clientCertKey", "cert-key-material-1234567"),
    ("private_key", "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg"),
    ("credential_id", "credential-0123456789"),
    ("apiKey", "api-key-0123456789abcdef"),
    ("note", "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA"),
    ("session_id", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"),
    ("download_url", "https://bucket.example/x?X-Amz-Signature=9f86d081884c7d659a2feaa0c55ad015"),
    ("login_uri", "https://root:hunter3-hunter3@db.example/"),
    ("passphrase_name", "open-sesame-open-sesame"),
];

fn generous(request: &Request) -> Reply {
    let mut given = serde_json::Map::new();
    given.extend(GIVEN.iter().map(|(name, value)| ((*name).to_owned(), json!(value))));
    given.insert("volume_id".to_owned(), json!("0f1e2d3c-volume"));
    let given = Value::Object(given);
    let over = match Provider::of(request) {
        Provider::Huawei => json!({"entities": given}),
        Provider::CloudRu => json!({"task": {"response": {"typeUrl": "type.googleapis.com/x.Cluster", "value": given},
            "metadata": {"typeUrl": "t", "value": given}}}),
        Provider::Astra => {
            json!({"stateDetails": [], "resourceURI": "/accounts/a/topology/v1/volumes/0f1e2d3c-volume?token=fernet-gAAAAABkq1x2w3e4r5t6"})
        }
    };
    Reply::json(200, &with(task(request, State::Succeeded), over))
}

async fn given_away(scene: &Scene<'_>) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let watches = scene.ground.watches(ATTACKER[0], scene.place.name).await?;
    for object in &watches {
        let (name, text) = (object["metadata"]["name"].as_str().unwrap_or_default(), told(object));
        // A piece of the value is enough.
        let shown = |value: &str| value.lines().any(|line| line.len() > 9 && text.contains(&line[line.len() - 10..]));
        let bad = GIVEN.iter().filter(|(_, value)| shown(value));
        faults.extend(bad.map(|(key, _)| format!("{name} shows the value of {key}")));
    }
    let outputs: Vec<_> = watches.iter().map(|object| object["status"]["outputs"].to_string()).collect();
    if !outputs.iter().any(|text| text.contains("0f1e2d3c-volume")) {
        faults.push(format!("the identifier of what was made is not shown either: {outputs:?}"));
    }
    Ok(faults)
}

/// Ranges of what is not seen: `Default_Ignorable_Code_Point` of Unicode, what shows as a blank, controls, directions.
const INVISIBLE: [(u32, u32); 26] = [
    (0x00, 0x08),
    (0x0b, 0x0c),
    (0x0e, 0x1f),
    (0x7f, 0x9f),
    (0xad, 0xad),
    (0x34f, 0x34f),
    (0x61c, 0x61c),
    (0x115f, 0x1160),
    (0x17b4, 0x17b5),
    (0x180b, 0x180f),
    (0x200b, 0x200f),
    (0x2028, 0x202e),
    (0x2060, 0x206f),
    (0x2800, 0x2800),
    (0x3164, 0x3164),
    (0xfe00, 0xfe0f),
    (0xfeff, 0xfeff),
    (0xffa0, 0xffa0),
    (0xfff0, 0xfff8),
    (0x1bca0, 0x1bca3),
    (0x1d173, 0x1d17a),
    (0xe0001, 0xe0001),
    (0xe0020, 0xe007f),
    (0xe0100, 0xe01ef),
    (0xe01f0, 0xe0fff),
    (0xe0000, 0xe0000),
];

fn is_invisible(c: char) -> bool {
    INVISIBLE.iter().any(|&(first, last)| (first..=last).contains(&u32::from(c)))
}

fn invisible(request: &Request) -> Reply {
    // One of each kind, and both ends of each range.
    let ends =
        INVISIBLE.iter().flat_map(|&(first, last)| [first, first.midpoint(last), last]).filter_map(char::from_u32);
    let text: String = ends.fold("be".to_owned(), |text, c| text + "f" + &c.to_string()) + "ore";
    let over = json!({"job_type": text, "fail_reason": text, "error_code": text, "command": text, "name": text, "summary": text,
        "error": {"code": 3, "message": text, "details": [{"typeUrl": text, "value": text}]}, "createdBy": text,
        "stateDetails": [{"type": text, "title": text, "detail": text}], "entities": {"volume_name": text}});
    let over = if Provider::of(request) == Provider::CloudRu { json!({ "task": over }) } else { over };
    Reply::json(200, &with(task(request, State::Failed), over))
}

async fn seen(scene: &Scene<'_>) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let watches = scene.ground.watches(ATTACKER[0], scene.place.name).await?;
    for object in &watches {
        let (name, text) = (object["metadata"]["name"].as_str().unwrap_or_default(), told(object).replace('\n', " "));
        let bad: BTreeSet<_> =
            text.chars().filter(|&c| is_invisible(c)).map(|c| format!("U+{:04X}", u32::from(c))).collect();
        if !bad.is_empty() {
            faults.push(format!("{name} shows {}", bad.into_iter().collect::<Vec<_>>().join(" ")));
        }
        if !text.contains("ore") {
            faults.push(format!("{name} does not show the text at all: {text}"));
        }
    }
    Ok(faults)
}

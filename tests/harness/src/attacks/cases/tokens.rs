//! F3: credentials that come back. The Secrets, and what their upstreams make of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::super::case::Place;
use super::super::ground::{ATTACKER, CANARY, SYSTEM};
use super::super::objects::{connection, secret, shared, watch, with};
use super::super::upstream::{Kind, Provider, Reply, Request, State, task};

const TOKEN: &str = "eT4<k>&%2B+/=\\\"9xWvQ7rM2nB5zL8uJ";
const PASSWORD: &str = "pW\"ö<s>&%+/=\\7hK3yC9tR6vN1xZ4qD";
const CLIENT: &str = "cI-m4Vx8Qz2Lk6Wt0Rn5";
const CLIENT_SECRET: &str = "cS/+=<&>%\"\\b6Jw1Hf8Yd3Xm9Pq2Gk";
const KEY_ID: &str = "kI-5Zr9Ct3Nw7Bx1Vq6Ly";
const KEY_SECRET: &str = "kS+/\"<&>%=\\n2Tg7Mz4Rb8Wj5Dx0Qv";
const ACCESS_KEY: &str = "AKQ7ZX3VN9RT5LW2MD";
const SECRET_KEY: &str = "sKm3Xc7Vb1Nz9Qw5Er2Ty8Ui4Op6As0D";
const SECURITY_TOKEN: &str = "sTf8Gh2Jk6Lz0Xc4Vb9Nm3Qw7Er1Ty5U";
/// What the issuers give out.
const GIVEN: &str = "gVn6Bq1Wd8Xk3Zr9Tm5Hc2Jp7Ls0Fy4E";

/// All of them.
pub(super) const SECRETS: [(&str, &str); 10] = [
    ("the static token", TOKEN),
    ("the password", PASSWORD),
    ("the client ID", CLIENT),
    ("the client secret", CLIENT_SECRET),
    ("the key ID", KEY_ID),
    ("the key's secret", KEY_SECRET),
    ("the access key", ACCESS_KEY),
    ("the secret key", SECRET_KEY),
    ("the security token", SECURITY_TOKEN),
    ("a token that was given out", GIVEN),
];

/// The places in which an upstream repeats what it was sent; each is the identifier of a task.
const PLACES: [&str; 24] = [
    "unauthorized",
    "forbidden",
    "dump",
    "html",
    "code",
    "plain",
    "location",
    "reason",
    "correlation",
    "state",
    "name",
    "outputs",
    "failed",
    "encoded",
    "subtasks",
    "details",
    "other-id",
    "garbage",
    "zipped",
    "retry",
    "list",
    "cut-480",
    "cut-1000",
    "cut-2030",
];

/// How an issuer repeats what it was sent; each is the path of a token endpoint.
const REFUSALS: [&str; 6] = ["value", "basic", "body", "headers", "code", "good"];

/// Connections of all kinds, one for each place, of a tenant and shared.
pub(super) fn objects(place: &Place) -> Vec<Value> {
    let keys = json!({"token": TOKEN, "username": "echo-user", "password": PASSWORD, "domain": "echo-domain", "clientID": CLIENT,
        "clientSecret": CLIENT_SECRET, "keyID": KEY_ID, "secret": KEY_SECRET, "accessKey": ACCESS_KEY, "secretKey": SECRET_KEY,
        "securityToken": SECURITY_TOKEN});
    let mut all = vec![secret(ATTACKER[0], "echo", &keys), secret(SYSTEM, "echo", &keys)];
    let reference = json!({"name": "echo"});
    let slow = json!({"poll": {"minPeriodSeconds": 2, "maxPeriodSeconds": 2}});
    for (p, provider) in Provider::ALL.into_iter().enumerate() {
        for id in PLACES {
            let name = format!("{}-{p}-{id}", place.name);
            let mode = if id == "list" && provider != Provider::Huawei { "List" } else { "Get" };
            let auth = json!({"auth": {"token": {"secretRef": reference}}, "poll": {"mode": mode}});
            all.push(connection(ATTACKER[0], &name, provider, place.url(), with(auth, slow.clone())));
            all.push(watch(ATTACKER[0], &name, &name, id, json!({})));
        }
    }
    for id in ["unauthorized", "dump", "failed", "outputs", "cut-1000"] {
        let name = format!("{}-shared-{id}", place.name);
        let auth = with(json!({"auth": {"token": {"secretRef": reference}}}), slow.clone());
        all.push(shared(&name, Provider::Huawei, place.url(), &[ATTACKER[0], ATTACKER[1], CANARY], auth));
        for (namespace, id) in [(ATTACKER[0], id), (ATTACKER[1], "running"), (CANARY, "running")] {
            let kind = json!({"connectionRef": {"kind": "ClusterTaskConnection"}});
            all.push(watch(namespace, &name, &name, id, kind));
        }
    }
    for way in REFUSALS {
        let url = format!("{}/{way}", place.url());
        let kinds = [
            (Provider::Huawei, "keystone", json!({"keystone": {"endpoint": url, "secretRef": reference}})),
            (Provider::Astra, "oauth2", json!({"oauth2": {"tokenURL": url, "secretRef": reference}})),
            (Provider::CloudRu, "cloudrukey", json!({"cloudRuKey": {"endpoint": url, "secretRef": reference}})),
        ];
        for (provider, kind, auth) in kinds {
            all.extend(refused(place, provider, &format!("{kind}-{way}"), &auth));
        }
    }
    for id in ["dump", "encoded", "unauthorized"] {
        let name = format!("{}-accesskey-{id}", place.name);
        let auth = json!({"auth": {"accessKey": {"secretRef": reference}, "token": null}});
        all.push(connection(ATTACKER[0], &name, Provider::Huawei, place.url(), auth));
        all.push(watch(ATTACKER[0], &name, &name, id, json!({})));
    }
    all
}

fn refused(place: &Place, provider: Provider, what: &str, auth: &Value) -> Vec<Value> {
    let auth = with(auth.clone(), json!({"token": null}));
    let name = format!("{}-{what}", place.name);
    let mut all = vec![connection(ATTACKER[0], &name, provider, place.url(), json!({ "auth": auth }))];
    // With a token that was given out, what repeats it is the task.
    all.push(watch(ATTACKER[0], &name, &name, "encoded", json!({})));
    all
}

/// The upstream, and the issuer.
pub(super) fn echo(request: &Request) -> Reply {
    if request.kind == Kind::Token {
        return issue(request);
    }
    let provider = Provider::of(request);
    let sent = request.credential();
    let failed = |text: &str| Reply::json(200, &failure(request, text));
    match request.id.as_str() {
        "unauthorized" => {
            provider.refusal(401, "APIGW.0301", &format!("Incorrect IAM authentication information: {sent}"))
        }
        "forbidden" => provider.refusal(403, "Common.0014", &format!("not with {sent}")),
        "code" => provider.refusal(400, sent, &format!("bad {sent}")),
        "dump" => Reply::text(500, &[("Content-Type", "text/plain")], &request.dump()),
        "plain" => Reply::text(400, &[("Content-Type", "text/plain")], &request.dump()),
        "html" => Reply::text(502, &[("Content-Type", "text/html")], &format!("<pre>{}</pre>", request.dump())),
        "location" => Reply::text(302, &[("Location", &format!("http://127.0.0.1/?{}", percent(sent)))], ""),
        "reason" => Reply::Whole(format!("HTTP/1.1 500 {sent}\r\nContent-Length: 0\r\n\r\n").into_bytes()),
        "correlation" => Reply::text(
            503,
            &[
                ("X-Request-Id", sent),
                ("X-Correlation-Id", sent),
                ("X-Trace-Id", sent),
                ("Content-Type", "application/json"),
            ],
            &json!({"error_code": "E", "error_msg": "m", "request_id": sent, "correlationID": sent}).to_string(),
        ),
        "retry" => Reply::text(429, &[("Retry-After", sent), ("Content-Type", "text/plain")], sent),
        "garbage" => Reply::text(200, &[("Content-Type", "application/json")], &format!("not JSON but {sent}")),
        "other-id" => Reply::json(200, &running(request, &json!({"job_id": sent, "id": sent}))),
        "state" => Reply::json(200, &running(request, &json!({"status": sent, "state": sent}))),
        "name" => Reply::json(
            200,
            &running(
                request,
                &json!({"job_type": sent, "command": sent, "name": sent, "summary": sent,
            "createdBy": sent, "resourceURI": format!("/{sent}")}),
            ),
        ),
        "outputs" => Reply::json(200, &succeeded(request, sent)),
        "subtasks" => Reply::json(
            200,
            &running(
                request,
                &json!({"entities": {"sub_jobs": [{"job_id": "s1", "job_type": sent,
            "status": "FAIL", "fail_reason": sent, "error_code": sent, "entities": {"server_id": sent}}]}}),
            ),
        ),
        "details" => Reply::json(
            200,
            &running(
                request,
                &json!({"stateDetails": [{"type": sent, "title": sent, "detail": sent}],
            "metadata": {"typeUrl": sent, "value": sent}}),
            ),
        ),
        "encoded" => failed(&encoded(sent)),
        "zipped" => zipped(&json!({"error_code": "APIGW.0301", "error_msg": sent, "message": sent}).to_string()),
        id => match id.strip_prefix("cut-").and_then(|length| length.parse().ok()) {
            Some(length) => failed(&format!("{}{sent}", "long words ".repeat(length / 11 + 1).split_at(length).0)),
            None if id == "failed" => failed(&format!("{sent} is bad")),
            None if request.kind == Kind::List => {
                let mut one = request.clone();
                "list".clone_into(&mut one.id);
                let item = with(
                    task(&one, State::Failed),
                    json!({"name": sent, "error": {"code": 3, "message": sent, "details": []},
                    "stateDetails": [{"type": "t", "title": sent, "detail": sent}]}),
                );
                Reply::json(200, &json!({"items": [item], "tasks": [item]}))
            }
            None => Reply::running(request),
        },
    }
}

/// A task that runs with something laid over it.
fn running(request: &Request, over: &Value) -> Value {
    laid(request, State::Running, over)
}

fn laid(request: &Request, state: State, over: &Value) -> Value {
    let over = if Provider::of(request) == Provider::CloudRu { json!({ "task": over }) } else { over.clone() };
    with(task(request, state), over)
}

fn failure(request: &Request, text: &str) -> Value {
    let over = json!({"fail_reason": text, "error_code": "E.1", "error": {"code": 13, "message": text, "details": [{"typeUrl": "t", "value": text}]},
        "stateDetails": [{"type": "t", "title": text, "detail": text}]});
    laid(request, State::Failed, &over)
}

fn succeeded(request: &Request, sent: &str) -> Value {
    let over = json!({"entities": {"volume_id": sent, "name": sent, sent: sent}, "resourceURI": sent, "resourceID": sent,
        "response": {"typeUrl": sent, "value": {"id": sent, "name": sent, "uri": sent}}});
    laid(request, State::Succeeded, &over)
}

/// The credential in the forms that programs put it into.
fn encoded(sent: &str) -> String {
    let bare = sent.strip_prefix("Bearer ").unwrap_or(sent);
    let encoded = STANDARD.encode(bare);
    let json = serde_json::to_string(bare).unwrap_or_default();
    let reversed = bare.strip_prefix("SDK-HMAC-SHA256 ").unwrap_or(bare);
    format!("{encoded} {} {} {json} {reversed}", STANDARD.encode(format!("user:{bare}")), percent(bare))
}

fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn zipped(body: &str) -> Reply {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    // Writing to memory does not fail.
    let _ = encoder.write_all(body.as_bytes());
    let body = encoder.finish().unwrap_or_default();
    let head = format!(
        "HTTP/1.1 401 X\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    Reply::Whole([head.as_bytes(), &body].concat())
}

/// A token endpoint: its path says how it repeats what it was sent.
fn issue(request: &Request) -> Reply {
    let way = request.path.split('/').nth(1).unwrap_or_default();
    let (body, header) = (request.body.as_str(), request.header("authorization"));
    let plain = match serde_json::from_str::<Value>(body) {
        Ok(value) => {
            let mut all = String::new();
            super::super::ground::texts(&value, &mut all);
            all.replace('\n', " ")
        }
        Err(_) => format!("{} {body}", request.basic()),
    };
    let refusal = |status: u16, words: &str| {
        Reply::json(
            status,
            &json!({"error": {"code": status, "message": words, "title": words},
            "error_description": words, "message": words, "error_msg": words, "code": 3}),
        )
    };
    match way {
        "value" => refusal(400, &format!("Invalid input for field/attribute password. Value: {plain}.")),
        "basic" => {
            Reply::json(401, &json!({"error": "invalid_client", "error_description": format!("{header} {plain}")}))
        }
        "body" => Reply::text(500, &[("Content-Type", "text/plain")], &format!("{body}\n{}", percent(&plain))),
        "headers" => refusal(403, &request.dump()),
        "code" => Reply::json(
            400,
            &json!({"error": plain, "error_description": [plain, header], "error_uri": plain, "code": plain}),
        ),
        _ => {
            let body = json!({"access_token": GIVEN, "token_type": "Bearer", "expires_in": 3600, "id_token": GIVEN,
                "token": {"expires_at": "2099-01-01T00:00:00.000000Z"}});
            Reply::text(201, &[("X-Subject-Token", GIVEN), ("Content-Type", "application/json")], &body.to_string())
        }
    }
}

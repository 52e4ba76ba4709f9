//! What an upstream repeats of a credential is in nothing that comes of its answer: from the answer's bytes to the task or failure.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use proptest::prelude::*;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::domain::{redact::Redactor, task::TaskRef};
use crate::engine::{decoding::redact, secrets::Secrets, sieve::Sieve};
use crate::providers::{
    Answer,
    auth::{Credential, Keystone, Project, Token, TokenStyle},
    registry,
};

/// Answers of all kinds; each of their texts is exchanged for a secret in turn.
const ANSWERS: &[(u16, &str)] = &[
    (
        200,
        r#"{"status":"FAIL","entities":{"a":"x","sub_jobs":[{"status":"FAIL","entities":{"volume_id":"v"},"job_id":"s","job_type":"x","error_code":"E","fail_reason":"r","begin_time":"b"}]},"job_id":"t1","job_type":"createVolume","error_code":"EVS.1","fail_reason":"why"}"#,
    ),
    (
        200,
        r#"{"task":{"id":"t1","command":"CREATE","status":"TASK_STATUS_RUNNING","createdBy":"u","metadata":{"typeUrl":"a/b","value":"CiRhZTFl"},"response":{"@type":"x/y","clusterId":"c"}}}"#,
    ),
    (
        200,
        r#"{"id":"t1","command":"CREATE","status":"FAILED","error":{"code":9,"message":"m","details":[{"@type":"x","value":"v"}]}}"#,
    ),
    (
        200,
        r#"{"tasks":[{"id":"t1","command":"CREATE","status":"RUNNING","metadata":{"@type":"x","clusterId":"c"}},{"id":"t2","status":"RUNNING"}],"nextPageToken":"n"}"#,
    ),
    (
        200,
        r#"{"id":"t1","name":"astra.backup","summary":"S","state":"failed","stateDetails":[{"type":"x/1","title":"a","detail":"b","additionalDetails":{"c":"d"}}],"resourceURI":"/x","parentTaskID":"p","metadata":{"createdBy":"u","labels":[]}}"#,
    ),
    (
        200,
        r#"{"items":[{"id":"t1","name":"n","state":"running","stateDetails":[{"type":"x","title":"a","detail":"b"}]},["t2","n","running"]],"metadata":{"continue":"abc"}}"#,
    ),
    (
        401,
        r#"{"error_code":"APIGW.0301","error_msg":"Incorrect IAM authentication information: verify token","request_id":"r"}"#,
    ),
    (400, r#"{"error":{"code":"EVS.0001","message":"bad"}}"#),
    (
        404,
        r#"{"type":"https://x/problems/3","title":"Not here","detail":"Look elsewhere","status":"404","correlationID":"c","invalidParams":[{"name":"a","reason":"b"}]}"#,
    ),
    (500, r#"{"code":9,"message":"no such thing","details":[{"@type":"google.rpc.ResourceInfo","value":"x"}]}"#),
    (401, r#"{"error":"invalid_client","error_description":"d","error_uri":"u"}"#),
    (
        400,
        r#"{"error":{"code":401,"message":"Invalid input for field/attribute password. Value: v","title":"Unauthorized"}}"#,
    ),
    (200, r#"{"access_token":["t"],"error_description":"d"}"#),
    (502, r#""text""#),
];

/// The places of texts in a document: values and keys.
fn places(value: &mut Value, at: &mut usize, wanted: usize) {
    match value {
        Value::String(text) => {
            if *at == wanted {
                "@@".clone_into(text);
            }
            *at += 1;
        }
        Value::Array(items) => items.iter_mut().for_each(|item| places(item, at, wanted)),
        Value::Object(map) => {
            for (key, mut item) in std::mem::take(map) {
                let is_wanted = *at == wanted;
                *at += 1;
                places(&mut item, at, wanted);
                map.insert(if is_wanted { "@@".to_owned() } else { key }, item);
            }
        }
        _ => {}
    }
}

/// How a secret may be repeated within a JSON string.
fn repeated(secret: &str, form: usize) -> String {
    let percent = |which: fn(usize) -> bool| -> String {
        let one = |(at, c): (usize, char)| if which(at) { format!("%{:02x}", u32::from(c)) } else { c.to_string() };
        secret.chars().enumerate().map(one).collect()
    };
    let json =
        |text: &str| text.chars().flat_map(|c| ["\\u".to_owned(), format!("{:04X}", u32::from(c))]).collect::<String>();
    let quoted = |text: &str| {
        let quoted = Value::from(text).to_string();
        quoted[1..quoted.len() - 1].to_owned()
    };
    match form {
        0 => format!("Invalid token {secret}, said the server"),
        1 => format!("Bearer {secret}"),
        2 => STANDARD.encode(format!("client:{secret}")),
        3 => STANDARD.encode(format!("\n\u{b}{secret}")).replace('/', "\\/"),
        4 => percent(|_| true),
        5 => percent(|at| at % 3 == 1),
        6 => json(secret),
        7 => json(&percent(|at| at % 2 == 0)),
        8 => quoted(&quoted(&format!("{{\"token\":\"{}\"}}", secret.replace('/', "\\/")))),
        9 => secret.replace('/', "\\/"),
        10 => format!("{}…", &secret[..16]),
        _ => format!("x-auth-token: [{secret}]\\r\\nhost: a"),
    }
}
const FORMS: usize = 12;

/// All credentials that may have the secret in them.
fn credentials(secret: &str) -> Vec<Credential> {
    let url = || "https://issuer.example/".parse().unwrap();
    let secret = || SecretString::from(secret);
    vec![
        Credential::Token { value: secret(), style: TokenStyle::Bearer },
        Credential::Keystone(Keystone {
            endpoint: url(),
            user: "somebody-else".to_owned(),
            password: secret(),
            domain: "a-domain".to_owned(),
            project: Project::Id("p".to_owned()),
        }),
        Credential::AccessKey { access: "access-key-id".to_owned(), secret: secret(), security_token: None },
        Credential::CloudRuKey { endpoint: url(), key_id: "the-key-id".to_owned(), secret: secret() },
        Credential::OAuth2 {
            token_url: url(),
            client_id: "client".to_owned(),
            client_secret: secret(),
            scopes: Vec::new(),
        },
    ]
}

/// All that is made of an answer, as anybody could be shown it.
fn shown(answer: &Answer, before: &Redactor, after: &Redactor, credential: &Credential, part: usize) -> String {
    let mut whole = answer.clone();
    redact(before, &mut whole);
    let mut shown = Vec::new();
    match credential.decode_token(&whole, Timestamp::UNIX_EPOCH) {
        Ok(_) => {}
        Err(mut failure) => {
            after.redact_failure(&mut failure);
            shown.push(format!("{failure:?} {failure}"));
        }
    }
    for provider in registry::PROVIDERS.iter().map(|entry| entry.plain()) {
        match provider.decode_task(&TaskRef::default(), &whole) {
            Ok(mut task) => {
                after.redact_task(&mut task);
                shown.push(format!("{task:?}"));
            }
            Err(mut failure) => {
                after.redact_failure(&mut failure);
                shown.push(format!("{failure:?} {failure}"));
            }
        }
        // As a list comes: in parts.
        let mut sieve = Sieve::default();
        for part in answer.body.chunks(part) {
            assert!(sieve.push(part, |_| false));
        }
        let mut list = Answer { body: Bytes::from(sieve.finish()), ..answer.clone() };
        redact(before, &mut list);
        match provider.decode_list("", &list, &|_: &str| true) {
            Ok(page) => {
                for mut task in page.tasks {
                    after.redact_task(Arc::make_mut(&mut task));
                    shown.push(format!("{task:?}"));
                }
            }
            Err(mut failure) => {
                after.redact_failure(&mut failure);
                shown.push(format!("{failure:?} {failure}"));
            }
        }
    }
    shown.join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 500, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn no_secret_comes_out_of_an_answer(
        (status, document) in prop::sample::select(ANSWERS),
        place in 0_usize..60,
        in_header: bool,
        form in 0..FORMS,
        secret in "[a-zA-Z0-9/+]{20,40}",
        which in 0_usize..5,
        as_token: bool,
        cut in prop::option::of(0.0_f64..1.0),
        part in 1_usize..200,
    ) {
        let mut document: Value = serde_json::from_str(document).unwrap();
        let mut texts = 0;
        places(&mut document.clone(), &mut texts, usize::MAX);
        places(&mut document, &mut 0, place % texts);
        let said = repeated(&secret, form);
        let mut body = document.to_string().replace("@@", &said);
        if let Some(cut) = cut {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in a short text")]
            let mut end = (cut * body.len() as f64) as usize;
            while !body.is_char_boundary(end) {
                end -= 1;
            }
            body.truncate(end);
        }
        let mut headers = HeaderMap::new();
        if in_header {
            let value = HeaderValue::from_bytes(format!("id {said}").as_bytes()).unwrap();
            for name in ["x-request-id", "location", "retry-after", "www-authenticate"] {
                headers.insert(name, value.clone());
            }
        }
        let answer = Answer { status: StatusCode::from_u16(status).unwrap(), headers, body: body.clone().into(), fault: None };
        // The secret is the credential's, or the token that it was exchanged for.
        let credential = credentials(if as_token { "another-secret-altogether" } else { &secret }).swap_remove(which);
        let mut secrets = Secrets::new(&credential);
        if as_token {
            secrets.add_token(&Token { value: SecretString::from(secret.as_str()), expires: None });
        }
        let shown = shown(&answer, &secrets.all(), &secrets.all(), &credential, part);
        let plain = shown.replace("\\\\", "\\").replace("\\/", "/");
        let decoded = percent_encoding::percent_decode_str(&plain).decode_utf8_lossy().into_owned();
        for text in [&shown, &plain, &decoded] {
            for run in secret.as_bytes().windows(8) {
                let run = std::str::from_utf8(run).unwrap();
                prop_assert!(!text.contains(run), "{run} of {secret} in {text}, from {body}");
            }
        }
        let coded = STANDARD.encode(format!("client:{secret}"));
        for run in coded.as_bytes()[12..].windows(12) {
            prop_assert!(!shown.contains(std::str::from_utf8(run).unwrap()), "{coded} in {shown}");
        }
    }
}

#[test]
fn an_issuer_may_give_the_same_token_again_but_is_not_quoted_with_it() {
    let credential = credentials("the-secret-of-the-client").pop().unwrap();
    let mut secrets = Secrets::new(&credential);
    secrets.add_token(&Token { value: SecretString::from("a-token-that-was-issued"), expires: None });
    let answer = |status: StatusCode, body: Value| Answer {
        status,
        headers: HeaderMap::new(),
        body: body.to_string().into(),
        fault: None,
    };
    let mut again = answer(StatusCode::OK, json!({"access_token": "a-token-that-was-issued", "expires_in": 3600}));
    redact(&secrets.of_credential(), &mut again);
    let token = credential.decode_token(&again, Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(secrecy::ExposeSecret::expose_secret(&token.value), "a-token-that-was-issued");
    let refusal = json!({"error": "invalid_client", "error_description": "not a-token-that-was-issued, the-secret-of-the-client"});
    let refused = answer(StatusCode::UNAUTHORIZED, refusal);
    let shown = shown(&refused, &secrets.of_credential(), &secrets.all(), &credential, 7);
    assert!(!shown.contains("a-token-that") && !shown.contains("the-secret-of"), "{shown}");
    assert!(shown.contains("not [redacted], [redacted]"), "{shown}");
}

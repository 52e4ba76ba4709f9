//! Exchanges whose token comes in the body: Cloud.ru keys (upstreams.md §1.5) and OAuth2 client credentials (RFC 6749 §4.4).
//! What they share with Keystone is here, too: reading the refusal of a token.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, header::AUTHORIZATION};
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use url::{Url, form_urlencoded};

use super::{Token, TokenRequest, without_line_breaks};
use crate::{
    domain::{
        failure::{Failure, FailureClass},
        text::{MESSAGE, clean},
    },
    providers::{
        Answer,
        wire::{
            envelope::{self, Envelope, Form},
            failure::{by_status, fault, said, what_and_advice, with_answer},
            node::Node,
            rules::{Own, Rule, SECOND_FACTOR},
            text::text,
        },
    },
};

const FORM: &str = "application/x-www-form-urlencoded";
/// The path of Cloud.ru's token endpoint under the root of its IAM.
const CLOUD_RU_PATH: &str = "/api/v1/auth/token";

/// Who issues tokens, in words, and what its codes mean.
pub(super) struct Issuer {
    /// Its name, for people.
    pub name: &'static str,
    /// What to check when it refuses the credential.
    pub secret: &'static str,
    /// The field with its address.
    pub address: &'static str,
    /// The envelopes and codes by which its own words are known.
    pub own: &'static [Own],
    /// Codes whose class the HTTP status does not tell.
    pub codes: &'static [(&'static str, FailureClass)],
}

pub(super) const CLOUD_RU: Issuer = Issuer {
    name: "Cloud.ru IAM",
    secret: "the key ID and secret in the Secret that spec.auth.cloudRuKey.secretRef names; keys expire after 1 to 365 days",
    address: "spec.auth.cloudRuKey.endpoint",
    own: &[
        Own { form: Form::Status, code: is_rpc_code, names_tasks: false },
        Own { form: Form::Error, code: is_rpc_code, names_tasks: false },
        Own { form: Form::OAuth2, code: is_oauth2_code, names_tasks: false },
    ],
    // The request holds nothing but the key: what it finds invalid or not there is the key.
    codes: &[
        ("3", FailureClass::AuthenticationFailed),
        ("5", FailureClass::AuthenticationFailed),
        ("7", FailureClass::PermissionDenied),
        ("8", FailureClass::RateLimited),
        ("9", FailureClass::AuthenticationFailed),
        ("16", FailureClass::AuthenticationFailed),
        ("invalid_client", FailureClass::AuthenticationFailed),
        ("invalid_grant", FailureClass::AuthenticationFailed),
        ("unauthorized_client", FailureClass::AuthenticationFailed),
    ],
};

/// The codes of RFC 6749 §5.2 (and §4.1.2.1 for the last).
pub(super) const OAUTH2: Issuer = Issuer {
    name: "The token endpoint",
    secret: "the client ID and secret in the Secret that spec.auth.oauth2.secretRef names",
    address: "spec.auth.oauth2.tokenURL",
    own: &[Own { form: Form::OAuth2, code: is_oauth2_code, names_tasks: false }],
    codes: &[
        ("invalid_client", FailureClass::AuthenticationFailed),
        ("invalid_grant", FailureClass::AuthenticationFailed),
        ("unauthorized_client", FailureClass::AuthenticationFailed),
        ("access_denied", FailureClass::PermissionDenied),
        ("invalid_request", FailureClass::InvalidRequest),
        ("invalid_scope", FailureClass::InvalidRequest),
        ("unsupported_grant_type", FailureClass::InvalidRequest),
        ("slow_down", FailureClass::RateLimited),
        ("temporarily_unavailable", FailureClass::UpstreamUnavailable),
        ("server_error", FailureClass::UpstreamUnavailable),
    ],
};

/// Exchanges a key, in the form that the endpoint's path asks for.
pub(super) fn cloud_ru(endpoint: &Url, key_id: &str, secret: &SecretString) -> TokenRequest {
    let (key_id, secret) = (key_id.trim(), secret.expose_secret().trim());
    let mut url = endpoint.clone();
    let path = url.path().trim_end_matches('/').to_owned();
    if path.ends_with("/openid/token") {
        let form = [("grant_type", "access_key"), ("client_id", key_id), ("client_secret", secret)];
        return TokenRequest::post(
            url,
            FORM,
            form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish(),
        );
    }
    if !path.ends_with("/token") {
        url.set_path(&format!("{path}{CLOUD_RU_PATH}"));
    }
    TokenRequest::post(url, "application/json", json!({"keyId": key_id, "secret": secret}).to_string())
}

/// Asks with the client's credentials in HTTP Basic, which every server must understand (RFC 6749 §2.3.1).
pub(super) fn oauth2(
    token_url: &Url,
    client_id: &str,
    client_secret: &SecretString,
    scopes: &[String],
) -> TokenRequest {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if !scopes.is_empty() {
        form.append_pair("scope", &scopes.join(" "));
    }
    let mut request = TokenRequest::post(token_url.clone(), FORM, form.finish());
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let secret = without_line_breaks(client_secret.expose_secret());
    let basic = STANDARD.encode(format!("{}:{}", encode(client_id.trim()), encode(secret)));
    // Base64 is always a header's value.
    if let Ok(mut value) = HeaderValue::from_str(&format!("Basic {basic}")) {
        value.set_sensitive(true);
        request.headers.insert(AUTHORIZATION, value);
    }
    request
}

/// Reads `access_token` and `expires_in` (seconds, as a number or as text; zero and less for unknown).
pub(super) fn decode(issuer: &Issuer, answer: &Answer, now: Timestamp) -> Result<Token, Failure> {
    if let Some(failure) = fault(answer) {
        return Err(failure);
    }
    let text = text(answer);
    let Ok(body) = Node::parse(&text) else { return Err(refusal(issuer, answer, None)) };
    if !answer.status.is_success() {
        return Err(refusal(issuer, answer, envelope::read(&body)));
    }
    let Node::Text(token) = body.get("access_token") else {
        return Err(refusal(issuer, answer, envelope::read(&body)));
    };
    if token.trim().is_empty() {
        return Err(refusal(issuer, answer, envelope::read(&body)));
    }
    let lifetime = body.get("expires_in").integer().filter(|seconds| *seconds > 0);
    let expires = lifetime.and_then(|seconds| now.checked_add(SignedDuration::from_secs(seconds)).ok());
    Ok(Token { value: SecretString::from(token.trim()), expires })
}

/// Whether a code is one of `google.rpc.Code`, but for success.
fn is_rpc_code(code: &str) -> bool {
    code.parse().is_ok_and(|code: u8| (1..=16).contains(&code))
}

/// Whether a code may be the `error` of RFC 6749 §5.2 or an extension of it: they are all written as `invalid_client` is.
fn is_oauth2_code(code: &str) -> bool {
    code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// What an answer without a token stands for.
pub(super) fn refusal(issuer: &Issuer, answer: &Answer, error: Option<Envelope>) -> Failure {
    // RFC 6749's `error` without a description reads as a message.
    let error = error.map(|mut error| {
        if error.code.is_empty() && issuer.codes.iter().any(|(code, _)| *code == error.message) {
            error.code = std::mem::take(&mut error.message);
            error.form = Form::OAuth2;
        }
        error
    });
    let own = Own::of(issuer.own, error.as_ref());
    let listed = error.as_ref().filter(|_| own.is_some());
    let listed = listed.and_then(|error| issuer.codes.iter().find(|(code, _)| *code == error.code));
    let class = match listed {
        Some((_, class)) => *class,
        None if answer.status.is_success() => FailureClass::InvalidAnswer,
        None => by_status(answer.status.as_u16()),
    };
    let class = match class {
        // A missing token endpoint says nothing about a task.
        FailureClass::NotFound => FailureClass::InvalidRequest,
        class => class,
    };
    // A gateway's word is no word on a right, nor on the request.
    let is_foreign = own.is_none() && matches!(class, FailureClass::PermissionDenied | FailureClass::InvalidRequest);
    let class = if is_foreign { FailureClass::InvalidAnswer } else { class };
    let text = if second_factor(class, answer, error.as_ref()) {
        let name = issuer.name;
        format!(
            "{name} asks for a second factor, which the operator cannot give: use a user or client for programs, without one"
        )
    } else {
        issuer.advice(class, own.is_some())
    };
    let said = said(answer, error.as_ref());
    let (what, advice) = what_and_advice(&text);
    let failure = Failure::new(class, clean(&format!("{what}. It answered {said}"), MESSAGE)).advising(advice);
    with_answer(failure, answer, error.filter(|_| own.is_some()))
}

/// Whether the credential is refused for want of a second factor. Keystone says so by a receipt for the first one (OpenStack Identity API
/// v3, "Multi-Factor Authentication").
fn second_factor(class: FailureClass, answer: &Answer, error: Option<&Envelope>) -> bool {
    let is_refusal = matches!(class, FailureClass::AuthenticationFailed | FailureClass::PermissionDenied);
    let receipt = || answer.headers.contains_key("openstack-auth-receipt");
    let said = || error.is_some_and(|error| Rule::find(SECOND_FACTOR, "", error).is_some());
    is_refusal && (receipt() || said())
}

impl Issuer {
    /// What happened and what to do; `own`: in the issuer's own words.
    fn advice(&self, class: FailureClass, own: bool) -> String {
        let (name, address) = (self.name, self.address);
        match class {
            FailureClass::AuthenticationFailed if own => {
                format!("{name} refused the credential: check {}", self.secret)
            }
            FailureClass::AuthenticationFailed => format!(
                "The request for a token was refused, though not in the words of the API for tokens; a gateway or proxy may have done so: check \
                 {address}, and {}",
                self.secret
            ),
            FailureClass::PermissionDenied => {
                format!("{name} knows the credential, but gives it no token: check its rights, and {}", self.secret)
            }
            FailureClass::RateLimited => format!("{name} limits the rate of token requests"),
            FailureClass::UpstreamUnavailable => format!("{name} cannot issue a token at the moment"),
            FailureClass::InvalidAnswer => {
                format!(
                    "{name} did not answer with a token, nor with an error in its own words (redirects are not followed): check {address}"
                )
            }
            _ => format!("{name} refuses the request for a token: check {address}, and {}", self.secret),
        }
    }
}

//! IAM v3 passwords: `POST /v3/auth/tokens` (upstreams.md §2.3 "Token"; OpenStack Identity API v3).

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::Url;

use super::{
    Token, TokenRequest,
    exchange::{Issuer, refusal},
    without_line_breaks,
};
use crate::{
    domain::{
        failure::Failure,
        text::{MESSAGE, clean},
    },
    providers::{
        Answer,
        identifiers::IdentifierRule,
        wire::{
            envelope::{self, Envelope, Form},
            failure::fault,
            node::Node,
            rules::{Own, is_numbered, is_of_http},
            text::text,
        },
    },
};

/// The errors have the HTTP status, an integer, as their code; so no table is needed.
const ISSUER: Issuer = Issuer {
    name: "The identity service",
    secret: "the user name, password and domain in the Secret that spec.auth.keystone.secretRef names, and spec.auth.keystone.project",
    address: "spec.auth.keystone.endpoint",
    own: &[
        Own { form: Form::Titled, code: is_of_http, names_tasks: false },
        Own { form: Form::Flat, code: is_numbered, names_tasks: false },
    ],
    codes: &[],
};

/// Which identifiers of projects there are: 32 hexadecimal digits by themselves (OpenStack Identity API v3), others where a directory
/// stands behind it.
pub const PROJECT: IdentifierRule<'static> =
    IdentifierRule { signs: "._:-", longest: 128, example: "05041fffa40025702f6dc009cc6f8f33" };

/// A user's password, for the token of a project.
#[derive(Clone, Debug)]
pub struct Keystone {
    /// The identity service; with or without `/v3`, or the full path of `…/auth/tokens`.
    pub endpoint: Url,
    /// The user's name.
    pub user: String,
    /// The user's password.
    pub password: SecretString,
    /// The name of the user's domain (Huawei Cloud: the account's name).
    pub domain: String,
    /// The project that the token is for.
    pub project: Project,
}

/// A project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Project {
    /// By its identifier.
    Id(String),
    /// By its name.
    Name {
        /// The name, as `eu-west-101`.
        name: String,
        /// The name of its domain; the user's where none.
        domain: Option<String>,
    },
}

impl Keystone {
    pub(super) fn request(&self) -> TokenRequest {
        let text = without_line_breaks;
        let domain = text(&self.domain);
        let body = json!({"auth": {
            "identity": {
                "methods": ["password"],
                "password": {"user": {
                    "name": text(&self.user),
                    "password": text(self.password.expose_secret()),
                    "domain": {"name": domain},
                }},
            },
            "scope": {"project": match &self.project {
                Project::Id(id) => json!({"id": text(id)}),
                Project::Name { name, domain: of } => {
                    json!({"name": text(name), "domain": {"name": of.as_deref().map_or(domain, text)}})
                }
            }},
        }});
        TokenRequest::post(self.url(), "application/json;charset=utf8", Value::to_string(&body))
    }

    fn url(&self) -> Url {
        let mut url = self.endpoint.clone();
        let path = url.path().trim_end_matches('/').to_owned();
        let rest = match path.as_str() {
            path if path.ends_with("/auth/tokens") => "",
            path if path.ends_with("/v3") => "/auth/tokens",
            _ => "/v3/auth/tokens",
        };
        url.set_path(&format!("{path}{rest}"));
        // The catalogue of services may be larger than everything else, and is of no use here.
        url.set_query(Some("nocatalog=true"));
        url
    }
}

/// The token is in the header `X-Subject-Token`, its end in the body.
pub(super) fn decode(answer: &Answer) -> Result<Token, Failure> {
    if let Some(failure) = fault(answer) {
        return Err(failure);
    }
    let text = text(answer);
    let body = Node::parse(&text).unwrap_or(Node::Null);
    let token = answer.headers.get("x-subject-token").and_then(|token| token.to_str().ok()).map(str::trim);
    match token.filter(|token| answer.status.is_success() && !token.is_empty()) {
        Some(token) => {
            Ok(Token { value: SecretString::from(token), expires: body.get("token").get("expires_at").time() })
        }
        None => Err(refusal(&ISSUER, answer, envelope::read(&body).or_else(|| receipt(&body)))),
    }
}

/// What a receipt for the first of several factors says (OpenStack Identity API v3, "Multi-Factor Authentication").
fn receipt(body: &Node<'_>) -> Option<Envelope> {
    let methods = body.get("required_auth_methods");
    let message = || clean(&format!("required_auth_methods: {}", methods.compact()), MESSAGE);
    (!methods.is_blank()).then(|| Envelope { message: message(), ..Envelope::default() })
}

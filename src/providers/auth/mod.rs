//! Sans-IO credentials: what to exchange for a token, and how a request is authenticated.
//!
//! Failures of a credential are never about a task: none has the class `NotFound` or `ScopeNotFound`.

mod exchange;
mod keystone;
mod secrets;
mod signing;

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header::AUTHORIZATION};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

pub use keystone::{Keystone, PROJECT, Project};
pub use secrets::sent;

use super::{Answer, SINGLE_BODY_LIMIT};
use crate::domain::failure::{Failure, FailureClass};

/// So many requests that an access key signs are in flight at a time. Huawei Cloud locks a key after five wrong signatures (upstreams.md §0.4),
/// and when a good key stops being accepted, all that is in flight is refused at once, and one more that is to find out why.
const MOST_SIGNED: usize = 3;

/// How a token is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenStyle {
    /// `Authorization: Bearer …` (RFC 6750 §2.1).
    Bearer,
    /// `X-Auth-Token: …` (Keystone, Huawei Cloud).
    XAuthToken,
}

/// A credential, as a connection's Secret holds it. Line breaks at the ends of its values, which `kubectl create secret --from-file`
/// leaves there, do not count.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A token that someone else renews.
    Token {
        /// The token; a leading `Bearer ` does not count.
        value: SecretString,
        /// How it is sent.
        style: TokenStyle,
    },
    /// A password for IAM v3 (upstreams.md §2.3 "Token").
    Keystone(Keystone),
    /// A key that signs each request (upstreams.md §2.3 "AK/SK").
    AccessKey {
        /// The access key's identifier (AK).
        access: String,
        /// The secret access key (SK).
        secret: SecretString,
        /// The security token that belongs to a temporary key.
        security_token: Option<SecretString>,
    },
    /// A key of a Cloud.ru service account (upstreams.md §1.5).
    CloudRuKey {
        /// The IAM: its root, or the full path of a token endpoint. One that ends in `/openid/token` is spoken to in the OIDC form.
        endpoint: Url,
        /// The key's identifier.
        key_id: String,
        /// The key's secret.
        secret: SecretString,
    },
    /// Client credentials (RFC 6749 §4.4).
    OAuth2 {
        /// The token endpoint.
        token_url: Url,
        /// The client's identifier.
        client_id: String,
        /// The client's secret.
        client_secret: SecretString,
        /// What is asked for; none for the client's default.
        scopes: Vec<String>,
    },
}

/// A request for a token, whole. Its body and headers hold secrets; `Debug` does not show them.
#[derive(Clone)]
pub struct TokenRequest {
    /// Always POST.
    pub method: Method,
    pub url: Url,
    /// All that is needed beside those that every request has.
    pub headers: HeaderMap,
    pub body: bytes::Bytes,
    /// Largest body of the answer that is read, after decompression, in bytes.
    pub body_limit: usize,
}

impl TokenRequest {
    fn post(url: Url, content_type: &'static str, body: impl Into<bytes::Bytes>) -> Self {
        let headers = HeaderMap::from_iter([
            (http::header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
            (http::header::ACCEPT, HeaderValue::from_static("application/json")),
        ]);
        Self { method: Method::POST, url, headers, body: body.into(), body_limit: SINGLE_BODY_LIMIT }
    }
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRequest").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

/// A token that a credential was exchanged for.
#[derive(Clone, Debug)]
pub struct Token {
    /// What is sent.
    pub value: SecretString,
    /// When the issuer says that it ends; it may be refused long before.
    pub expires: Option<Timestamp>,
}

impl Credential {
    /// How many bytes its texts take up.
    #[must_use]
    pub fn size(&self) -> usize {
        let secret = |secret: &SecretString| secret.expose_secret().len();
        match self {
            Self::Token { value, .. } => secret(value),
            Self::Keystone(Keystone { endpoint, user, password, domain, .. }) => {
                endpoint.as_str().len() + user.len() + secret(password) + domain.len()
            }
            Self::AccessKey { access, secret: key, security_token } => {
                access.len() + secret(key) + security_token.as_ref().map_or(0, secret)
            }
            Self::CloudRuKey { endpoint, key_id, secret: key } => endpoint.as_str().len() + key_id.len() + secret(key),
            Self::OAuth2 { token_url, client_id, client_secret, scopes } => {
                let scopes = scopes.iter().map(String::len).sum::<usize>();
                token_url.as_str().len() + client_id.len() + secret(client_secret) + scopes
            }
        }
    }

    /// How many requests may be in flight with it at a time.
    #[must_use]
    pub fn most_in_flight(&self) -> usize {
        match self {
            Self::AccessKey { .. } => MOST_SIGNED,
            _ => usize::MAX,
        }
    }

    /// The request that exchanges the credential for a token; none where there is nothing to exchange.
    #[must_use]
    pub fn token_request(&self) -> Option<TokenRequest> {
        match self {
            Self::Token { .. } | Self::AccessKey { .. } => None,
            Self::Keystone(keystone) => Some(keystone.request()),
            Self::CloudRuKey { endpoint, key_id, secret } => Some(exchange::cloud_ru(endpoint, key_id, secret)),
            Self::OAuth2 { token_url, client_id, client_secret, scopes } => {
                Some(exchange::oauth2(token_url, client_id, client_secret, scopes))
            }
        }
    }

    /// The token in the answer to [`Self::token_request`].
    ///
    /// # Errors
    /// `AuthenticationFailed` where the credential was refused, else what the answer stands for.
    pub fn decode_token(&self, answer: &Answer, now: Timestamp) -> Result<Token, Failure> {
        match self {
            Self::Keystone(_) => keystone::decode(answer),
            Self::CloudRuKey { .. } => exchange::decode(&exchange::CLOUD_RU, answer, now),
            Self::OAuth2 { .. } => exchange::decode(&exchange::OAUTH2, answer, now),
            Self::Token { .. } | Self::AccessKey { .. } => {
                Err(Failure::new(FailureClass::InvalidAnswer, "This credential is not exchanged for a token"))
            }
        }
    }

    /// Authenticates a request: adds the token, or signs it. Nothing of what is signed may change afterwards: `url` is the final one with
    /// its encoded query, `headers` hold the final `Content-Type`, if any.
    ///
    /// # Errors
    /// `AuthenticationFailed` where the credential cannot be sent, or `token` is missing and one is needed.
    #[allow(clippy::too_many_arguments, reason = "a request is made of these")]
    pub fn authorize(
        &self,
        token: Option<&Token>,
        method: &Method,
        url: &Url,
        headers: &mut HeaderMap,
        body: &[u8],
        project_id: Option<&str>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        match self {
            Self::Token { value, style } => {
                let text = value.expose_secret().trim();
                let bare = match text.split_at_checked(7) {
                    Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer ") => rest.trim_start(),
                    _ => text,
                };
                put_token(headers, *style, bare, "token")
            }
            Self::AccessKey { access, secret, security_token } => {
                let key = signing::Key { access: access.trim(), secret: secret.expose_secret().trim() };
                signing::sign(&key, method, url, headers, body, now)?;
                // The vendor's SDK adds these after signing (upstreams.md §2.3).
                if let Some(project) = project_id.filter(|project| !project.is_empty()) {
                    headers.insert("x-project-id", value(project, "project ID")?);
                }
                if let Some(security_token) = security_token {
                    headers.insert(
                        "x-security-token",
                        secret_value(security_token.expose_secret().trim(), "security token")?,
                    );
                }
                Ok(())
            }
            Self::Keystone(_) => put_token(headers, TokenStyle::XAuthToken, exposed(token)?, "token"),
            Self::CloudRuKey { .. } | Self::OAuth2 { .. } => {
                put_token(headers, TokenStyle::Bearer, exposed(token)?, "token")
            }
        }
    }
}

fn exposed(token: Option<&Token>) -> Result<&str, Failure> {
    token
        .map(|token| token.value.expose_secret().trim())
        .ok_or_else(|| Failure::new(FailureClass::AuthenticationFailed, "There is no token yet"))
}

fn put_token(headers: &mut HeaderMap, style: TokenStyle, token: &str, what: &str) -> Result<(), Failure> {
    match style {
        TokenStyle::Bearer => {
            let mut value = secret_value(&format!("Bearer {token}"), what)?;
            if token.is_empty() {
                value = secret_value("", what)?;
            }
            headers.insert(AUTHORIZATION, value);
        }
        TokenStyle::XAuthToken => {
            headers.insert(HeaderName::from_static("x-auth-token"), secret_value(token, what)?);
        }
    }
    Ok(())
}

/// A header's value that is not shown by `Debug`, nor kept in tables of HTTP/2.
fn secret_value(text: &str, what: &str) -> Result<HeaderValue, Failure> {
    let mut value = value(text, what)?;
    value.set_sensitive(true);
    Ok(value)
}

/// A header's value: printable ASCII.
fn value(text: &str, what: &str) -> Result<HeaderValue, Failure> {
    let fail = |why: &str| {
        let message = format!("The {what} {why}: check the Secret that spec.auth of the connection names");
        Failure::new(FailureClass::AuthenticationFailed, message)
    };
    if text.is_empty() {
        return Err(fail("is empty"));
    }
    if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(fail("contains characters that cannot be sent in a header, as a line break within it"));
    }
    HeaderValue::from_str(text).map_err(|_| fail("cannot be sent in a header"))
}

/// `text` without line breaks at its ends; other blanks may belong to a password.
fn without_line_breaks(text: &str) -> &str {
    text.trim_matches(['\r', '\n'])
}

//! What of a credential, and of what is sent with it, nobody may be shown.

use http::{HeaderMap, header::AUTHORIZATION};
use secrecy::ExposeSecret;
use url::form_urlencoded;

use super::{Credential, Keystone, Project, Token};
use crate::domain::redact::Secret;

impl Credential {
    /// Every value of the Secret that the credential uses.
    #[must_use]
    pub fn secrets(&self) -> Vec<Secret> {
        match self {
            Self::Token { value, .. } => {
                let text = value.expose_secret();
                // Some Secrets hold the scheme as well: without it, it is secret all the more.
                let bare = text.split_ascii_whitespace().next_back().unwrap_or_default();
                vec![Secret::value(text), Secret::value(bare)]
            }
            Self::Keystone(Keystone { user, password, domain, project, endpoint: _ }) => {
                let mut secrets =
                    vec![Secret::value(password.expose_secret()), Secret::name(user), Secret::name(domain)];
                if let Project::Name { domain: Some(domain), .. } = project {
                    secrets.push(Secret::name(domain));
                }
                secrets
            }
            Self::AccessKey { access, secret, security_token } => {
                let token = security_token.as_ref().map(|token| Secret::value(token.expose_secret()));
                [Secret::value(access), Secret::value(secret.expose_secret())].into_iter().chain(token).collect()
            }
            Self::CloudRuKey { key_id, secret, .. } => {
                vec![Secret::value(key_id), Secret::value(secret.expose_secret())]
            }
            Self::OAuth2 { client_id, client_secret, .. } => {
                let secret = client_secret.expose_secret();
                // HTTP Basic has it so (RFC 6749 §2.3.1).
                let encoded: String = form_urlencoded::byte_serialize(secret.trim().as_bytes()).collect();
                vec![Secret::value(client_id), Secret::value(secret), Secret::value(&encoded)]
            }
        }
    }
}

impl Token {
    /// The token as a secret.
    #[must_use]
    pub fn secret(&self) -> Secret {
        Secret::value(self.value.expose_secret())
    }
}

/// What in the header fields of a request proves who sends it: a token, user and password, a signature.
#[must_use]
pub fn sent(headers: &HeaderMap) -> Vec<Secret> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let authorization = text(AUTHORIZATION.as_str()).map(|value| match value.split_once("Signature=") {
        Some((_, signature)) => signature.split([',', ' ']).next().unwrap_or_default(),
        None => value.split_once(' ').map_or(value, |(_scheme, proof)| proof),
    });
    let all = [authorization, text("x-auth-token"), text("x-security-token")];
    all.into_iter().flatten().map(Secret::value).collect()
}

//! What a connection must hide of what its upstream says: the values of its credential, its tokens, and what it sends.

use std::sync::Arc;

use http::HeaderMap;

use crate::domain::redact::{Redactor, Secret};
use crate::providers::auth::{self, Credential, Token};

/// The secrets of one connection.
#[derive(Debug)]
pub(super) struct Secrets {
    /// The credential's, and those of the request that exchanges it.
    own: Vec<Secret>,
    /// The token in use, and the one before: what was asked with that may still be answered.
    tokens: Vec<Secret>,
    /// Of the credential before.
    retired: Vec<Secret>,
    credential: Arc<Redactor>,
    all: Arc<Redactor>,
}

impl Secrets {
    pub(super) fn new(credential: &Credential) -> Self {
        let own = own(credential);
        let redactor = Arc::new(Redactor::new(own.iter().cloned()));
        Self { own, tokens: Vec::new(), retired: Vec::new(), credential: Arc::clone(&redactor), all: redactor }
    }

    /// Another credential is in use. Whoever was sent the old one may repeat it still.
    pub(super) fn renew(&mut self, credential: &Credential) {
        let mut new = Self::new(credential);
        new.retired = std::mem::take(&mut self.own);
        new.retired.append(&mut self.tokens);
        *self = new;
        self.combine();
    }

    /// Another token is in use.
    pub(super) fn add_token(&mut self, token: &Token) {
        self.tokens.insert(0, token.secret());
        self.tokens.truncate(2);
        self.combine();
    }

    /// For the answer to a request for a token: a new one that equals the old one must be read.
    pub(super) fn of_credential(&self) -> Arc<Redactor> {
        Arc::clone(&self.credential)
    }

    /// For everything else.
    pub(super) fn all(&self) -> Arc<Redactor> {
        Arc::clone(&self.all)
    }

    /// For the answer to a request with these header fields, which may prove who sends it in a way of their own.
    pub(super) fn and_sent(&self, headers: &HeaderMap) -> Arc<Redactor> {
        self.all.and(&auth::sent(headers)).map_or_else(|| self.all(), Arc::new)
    }

    fn combine(&mut self) {
        let all = [&self.own, &self.tokens, &self.retired].into_iter().flatten().cloned();
        self.all = Arc::new(Redactor::new(all));
    }
}

fn own(credential: &Credential) -> Vec<Secret> {
    let exchange = credential.token_request().map(|request| auth::sent(&request.headers));
    credential.secrets().into_iter().chain(exchange.into_iter().flatten()).collect()
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    fn client(secret: &str) -> Credential {
        Credential::OAuth2 {
            token_url: "https://issuer.example/token".parse().unwrap(),
            client_id: "the-client".to_owned(),
            client_secret: SecretString::from(secret),
            scopes: Vec::new(),
        }
    }

    fn token(value: &str) -> Token {
        Token { value: SecretString::from(value), expires: None }
    }

    fn shown(redactor: &Redactor, text: &str) -> bool {
        redactor.redact(text.as_bytes(), false) == text.as_bytes()
    }

    #[test]
    fn tokens_and_credentials_are_hidden_for_a_while_after_their_time() {
        let mut secrets = Secrets::new(&client("secret-one"));
        let header = secrets.own.len();
        assert_eq!(header, 4, "client, secret, its encoded form, and Basic");
        for value in ["token-number-1", "token-number-2", "token-number-3"] {
            secrets.add_token(&token(value));
        }
        let all = secrets.all();
        assert!(!shown(&all, "token-number-3") && !shown(&all, "token-number-2") && !shown(&all, "secret-one"));
        assert!(shown(&all, "token-number-1"), "long past");
        assert!(shown(&secrets.of_credential(), "token-number-3"), "an issuer may give the same one again");
        assert!(!shown(&secrets.of_credential(), "secret-one"));
        secrets.renew(&client("secret-two"));
        let all = secrets.all();
        for hidden in ["secret-one", "secret-two", "token-number-3"] {
            assert!(!shown(&all, hidden), "{hidden}");
        }
        secrets.renew(&client("secret-three"));
        assert!(shown(&secrets.all(), "secret-one"), "long past");
    }

    #[test]
    fn what_one_request_was_signed_with_is_hidden_of_its_answer() {
        let key = Credential::AccessKey {
            access: "ACCESSKEYOFSOMEBODY".to_owned(),
            secret: SecretString::from("the-secret-of-the-key"),
            security_token: None,
        };
        let secrets = Secrets::new(&key);
        let (method, url) = (http::Method::GET, "https://evs.example/v1/jobs/1".parse().unwrap());
        let mut headers = HeaderMap::new();
        key.authorize(None, &method, &url, &mut headers, b"", None, jiff::Timestamp::UNIX_EPOCH).unwrap();
        let sent = headers[http::header::AUTHORIZATION].to_str().unwrap();
        let text = String::from_utf8(secrets.and_sent(&headers).redact(sent.as_bytes(), false).into_owned()).unwrap();
        assert_eq!(text, "SDK-HMAC-SHA256 Access=[redacted], SignedHeaders=host;x-sdk-date, Signature=[redacted]");
    }
}

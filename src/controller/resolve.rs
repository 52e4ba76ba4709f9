//! From a connection's specification and its Secret to what the engine needs. Pure.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use k8s_openapi::ByteString;
use secrecy::SecretString;
use url::Url;

use super::{access, objects::ConnectionObject};
use crate::{
    api::{
        AuthRef, PollMode,
        auth::{AccessKeyAuth, CloudRuKeyAuth, KeystoneAuth, OAuth2Auth},
    },
    domain::availability::{Reason, Unavailable},
    engine::{Connection, WatchKey, coalesce::ModeChoice, planner::Settings, transport::TlsSettings},
    providers::{
        Provider,
        auth::{Credential, Keystone, PROJECT, Project},
        registry::Chosen,
    },
};

/// Longest value of a Secret that is taken for a credential, in bytes.
const LONGEST_VALUE: usize = 16 << 10;

/// What was read for a connection.
pub struct Material {
    /// Where it was read.
    pub namespace: String,
    /// The data of the credential's Secret.
    pub secret: BTreeMap<String, ByteString>,
    /// The certificates of `spec.tls.caBundleRef`.
    pub certificates: Option<Bytes>,
}

/// What a connection's specification comes to without its Secret. It is made once for each generation of the object, not each time that
/// the Secret is read.
#[derive(Debug)]
pub struct Compiled {
    uid: WatchKey,
    generation: i64,
    provider: Arc<dyn Provider>,
    endpoint: Url,
    bounds: Settings,
    request_timeout: Duration,
    /// Differs where provider or credential are named otherwise.
    identity: u64,
    /// Differs where anything else does.
    rest: u64,
}

impl Compiled {
    /// The name of its provider, as `huaweiCloud`.
    #[must_use]
    pub fn provider(&self) -> &str {
        self.provider.name()
    }

    /// Compiles what a connection asks for.
    ///
    /// # Errors
    /// Why the connection cannot be used, and what to do.
    pub fn new(object: &ConnectionObject) -> Result<Self, Unavailable> {
        let spec = &object.spec;
        let chosen = Chosen::of(&spec.provider)
            .ok_or_else(|| invalid("spec.provider names no provider, or more than one: give exactly one"))?;
        auth(object)?;
        if let Some(refusal) = access::connection_identifier_refusal(object, chosen) {
            return Err(invalid(&refusal));
        }
        let member = chosen.member();
        let limit = &spec.rate_limit;
        let positive = |figure: i32| u32::try_from(figure).unwrap_or(0).max(1);
        let bounds = Settings {
            requests_per_second: limit.per_second(),
            requests_per_second_of_tenant: object
                .limits
                .as_ref()
                .and_then(|limits| limits.requests_per_minute_per_namespace)
                .map(|a_minute| f64::from(a_minute.max(1)) / 60.0),
            burst: positive(limit.burst),
            max_in_flight: usize::try_from(limit.max_in_flight).unwrap_or(0).max(1),
            min_period: spec.poll.min_period().max(Duration::from_secs(1)),
            max_period: spec.poll.max_period().max(spec.poll.min_period()).max(Duration::from_secs(1)),
            mode: match spec.poll.mode {
                PollMode::Auto => ModeChoice::Auto,
                PollMode::List => ModeChoice::List,
                PollMode::Get => ModeChoice::Get,
            },
            // What provider and credential determine, the engine fills in.
            lists: false,
            subtasks: false,
            exchanges: false,
        };
        let request_timeout = spec.request_timeout();
        Ok(Self {
            uid: object.identity.uid.clone(),
            generation: object.generation,
            provider: chosen.build(&spec.outputs),
            endpoint: url(member.endpoint(), &format!("spec.provider.{}.endpoint", member.name()))?,
            // Debug of the specification has no secret in it.
            identity: hashed(&format!("{:?}{:?}", spec.provider, spec.auth)),
            rest: hashed(&format!("{bounds:?}{request_timeout:?}{:?}", spec.outputs)),
            bounds,
            request_timeout,
        })
    }

    /// Whether it is what this object comes to: nothing else changes without a new generation.
    #[must_use]
    pub fn is_of(&self, object: &ConnectionObject) -> bool {
        self.uid == object.identity.uid && self.generation == object.generation
    }

    /// The connection for the engine, and a number that differs when anything in it does.
    ///
    /// # Errors
    /// Why the connection cannot be used, and what to do.
    pub fn with(&self, object: &ConnectionObject, material: &Material) -> Result<(Connection, u64), Unavailable> {
        let tls = object.spec.tls.as_ref();
        let ca_bundle = match &material.certificates {
            Some(pem) => Some(pem.clone()),
            None => tls.and_then(|tls| tls.ca_bundle.clone()).map(Bytes::from),
        };
        let tls = TlsSettings { ca_bundle, server_name: tls.and_then(|tls| tls.server_name.clone()) };
        let credential = Reader { auth: auth(object)?, material }.credential(self.provider.as_ref())?;
        let mut hasher = DefaultHasher::new();
        self.identity.hash(&mut hasher);
        tls.hash(&mut hasher);
        for (key, ByteString(value)) in &material.secret {
            (key, value).hash(&mut hasher);
        }
        let identity = hasher.finish();
        self.rest.hash(&mut hasher);
        let connection = Connection {
            provider: Arc::clone(&self.provider),
            endpoint: self.endpoint.clone(),
            credential,
            tls,
            bounds: self.bounds.clone(),
            request_timeout: self.request_timeout,
            identity,
        };
        Ok((connection, hasher.finish()))
    }
}

fn auth(object: &ConnectionObject) -> Result<AuthRef<'_>, Unavailable> {
    let given = object.spec.auth.member();
    given.ok_or_else(|| invalid("spec.auth names no credential, or more than one: give exactly one"))
}

fn hashed(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Reads a credential from its Secret.
struct Reader<'a> {
    auth: AuthRef<'a>,
    material: &'a Material,
}

impl Reader<'_> {
    fn credential(&self, provider: &dyn Provider) -> Result<Credential, Unavailable> {
        Ok(match self.auth {
            AuthRef::Token(auth) => {
                Credential::Token { value: self.secret(&auth.secret_ref.key)?, style: provider.token_style() }
            }
            AuthRef::Keystone(auth) => {
                let [user, password, domain] = KeystoneAuth::KEYS;
                Credential::Keystone(Keystone {
                    endpoint: url(&auth.endpoint, "spec.auth.keystone.endpoint")?,
                    user: self.text(user)?,
                    password: self.secret(password)?,
                    domain: self.text(domain)?,
                    project: project(auth, provider)?,
                })
            }
            AuthRef::AccessKey(_) => {
                let [access, secret] = AccessKeyAuth::KEYS;
                Credential::AccessKey {
                    access: self.text(access)?,
                    secret: self.secret(secret)?,
                    security_token: self
                        .material
                        .secret
                        .contains_key(AccessKeyAuth::SECURITY_TOKEN)
                        .then(|| self.secret(AccessKeyAuth::SECURITY_TOKEN))
                        .transpose()?,
                }
            }
            AuthRef::CloudRuKey(auth) => {
                let [key_id, secret] = CloudRuKeyAuth::KEYS;
                Credential::CloudRuKey {
                    endpoint: url(&auth.endpoint, "spec.auth.cloudRuKey.endpoint")?,
                    key_id: self.text(key_id)?,
                    secret: self.secret(secret)?,
                }
            }
            AuthRef::OAuth2(auth) => {
                let [client_id, client_secret] = OAuth2Auth::KEYS;
                Credential::OAuth2 {
                    token_url: url(&auth.token_url, "spec.auth.oauth2.tokenURL")?,
                    client_id: self.text(client_id)?,
                    client_secret: self.secret(client_secret)?,
                    scopes: auth.scopes.clone(),
                }
            }
        })
    }

    fn secret(&self, key: &str) -> Result<SecretString, Unavailable> {
        self.text(key).map(SecretString::from)
    }

    /// A value of the Secret, without line breaks at its ends: `kubectl create secret --from-file` keeps those of the file.
    fn text(&self, key: &str) -> Result<String, Unavailable> {
        let (namespace, name) = (&self.material.namespace, self.auth.secret());
        let Some(ByteString(value)) = self.material.secret.get(key) else {
            return Err(Unavailable::new(
                Reason::SecretNotFound,
                format!(
                    "Secret {namespace}/{name} has no key {key}, which spec.auth.{} needs: add it",
                    self.auth.name()
                ),
            ));
        };
        if value.len() > LONGEST_VALUE {
            return Err(Unavailable::new(
                Reason::SecretNotFound,
                format!(
                    "key {key} of Secret {namespace}/{name} holds {} bytes; a credential has at most {LONGEST_VALUE}: set the right value",
                    value.len()
                ),
            ));
        }
        let text = std::str::from_utf8(value).unwrap_or_default().trim_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(Unavailable::new(
                Reason::SecretNotFound,
                format!("key {key} of Secret {namespace}/{name} is empty, or no text: set it"),
            ));
        }
        Ok(text.to_owned())
    }
}

/// The project that a token is asked for: the one that is named, else the provider's.
fn project(auth: &KeystoneAuth, provider: &dyn Provider) -> Result<Project, Unavailable> {
    match (&auth.project, provider.keystone_project()) {
        (Some(project), _) => match (&project.id, &project.name) {
            (Some(id), None) => match PROJECT.refusal(id, "spec.auth.keystone.project.id", "keystone") {
                Some(refusal) => Err(invalid(&format!("{refusal}. Correct it"))),
                None => Ok(Project::Id(id.clone())),
            },
            (None, Some(name)) => Ok(Project::Name { name: name.clone(), domain: project.domain.clone() }),
            _ => Err(invalid("spec.auth.keystone.project: give either id or name")),
        },
        (None, Some(own)) => Ok(Project::Id(own.to_owned())),
        (None, None) => Err(invalid("spec.auth.keystone.project is missing: name the project that the token is for")),
    }
}

fn url(text: &str, field: &str) -> Result<Url, Unavailable> {
    Url::parse(text).map_err(|error| invalid(&format!("{field} is no URL ({error}): correct it")))
}

fn invalid(message: &str) -> Unavailable {
    Unavailable::new(Reason::InvalidSpec, message)
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{api::TaskConnection, providers::auth::TokenStyle};

    pub(in crate::controller) fn object(provider: &Value, auth: &Value) -> ConnectionObject {
        let object: TaskConnection = serde_json::from_value(json!({
            "apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskConnection",
            "metadata": {"name": "c", "namespace": "n", "uid": "c"},
            "spec": {"provider": provider, "auth": auth},
        }))
        .unwrap();
        object.into()
    }

    fn connection(object: &ConnectionObject, material: &Material) -> Result<(Connection, u64), Unavailable> {
        Compiled::new(object)?.with(object, material)
    }

    fn huawei() -> Value {
        json!({"huaweiCloud": {"endpoint": "https://evs.example.com", "projectID": "p1"}})
    }

    fn material(pairs: &[(&str, &str)]) -> Material {
        let secret =
            pairs.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()))).collect();
        Material { namespace: "n".to_owned(), secret, certificates: None }
    }

    fn refusal(provider: &Value, auth: &Value, pairs: &[(&str, &str)]) -> Unavailable {
        connection(&object(provider, auth), &material(pairs)).map(|_| ()).unwrap_err()
    }

    #[test]
    fn a_missing_or_empty_key_is_named_and_no_other() {
        let auth = json!({"accessKey": {"secretRef": {"name": "key"}}});
        let Unavailable { reason: Reason::SecretNotFound, message } =
            refusal(&huawei(), &auth, &[("accesKey", "AK"), ("secretKey", "SK")])
        else {
            panic!("a key is missing");
        };
        assert_eq!(message, "Secret n/key has no key accessKey, which spec.auth.accessKey needs: add it");
        let Unavailable { reason: Reason::SecretNotFound, message } =
            refusal(&huawei(), &auth, &[("accessKey", "\n"), ("secretKey", "SK")])
        else {
            panic!("a key is empty");
        };
        assert_eq!(message, "key accessKey of Secret n/key is empty, or no text: set it");
    }

    #[test]
    fn a_keystone_token_is_for_the_named_project_else_for_the_endpoints() {
        let secret = [("username", "u\n"), ("password", "p"), ("domain", "d")];
        let keystone = |project: &Value| json!({"keystone": {"endpoint": "https://iam", "secretRef": {"name": "s"}, "project": project}});
        for (project, expected) in [
            (json!(null), Project::Id("p1".to_owned())),
            (json!({"id": "p2"}), Project::Id("p2".to_owned())),
            (json!({"name": "eu"}), Project::Name { name: "eu".to_owned(), domain: None }),
        ] {
            let (connection, _) = connection(&object(&huawei(), &keystone(&project)), &material(&secret)).unwrap();
            let Credential::Keystone(found) = connection.credential else { panic!("keystone") };
            assert_eq!((found.user.as_str(), found.project), ("u", expected));
        }
        let astra = json!({"astraControl": {"endpoint": "https://a", "accountID": "x"}});
        assert!(
            matches!(refusal(&astra, &keystone(&json!(null)), &secret), Unavailable { reason: Reason::InvalidSpec, message } if message.contains("project is missing"))
        );
    }

    #[test]
    fn scopes_and_projects_are_as_their_provider_has_them() {
        let token = json!({"token": {"secretRef": {"name": "s"}}});
        let keystone =
            json!({"keystone": {"endpoint": "https://iam", "secretRef": {"name": "s"}, "project": {"id": "p=2"}}});
        let slashed = json!({"huaweiCloud": {"endpoint": "https://evs.example.com", "projectID": "a/b"}});
        let secret = [("token", "t"), ("username", "u"), ("password", "p"), ("domain", "d")];
        for (provider, auth, told) in [
            (&slashed, &token, "spec.provider.huaweiCloud.projectID has \"/\" in it. An identifier of huaweiCloud "),
            (&huawei(), &keystone, "spec.auth.keystone.project.id has \"=\" in it. An identifier of keystone "),
        ] {
            let refused = refusal(provider, auth, &secret);
            assert!(
                matches!(&refused, Unavailable { reason: Reason::InvalidSpec, message } if message.starts_with(told)),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn a_rotated_secret_is_another_identity_and_a_new_rate_limit_is_not() {
        let auth = json!({"token": {"secretRef": {"name": "s"}}});
        let first = object(&huawei(), &auth);
        let (old, old_print) = connection(&first, &material(&[("token", "a")])).unwrap();
        let (rotated, rotated_print) = connection(&first, &material(&[("token", "b")])).unwrap();
        assert!(old.identity != rotated.identity && old_print != rotated_print);
        let mut faster = first;
        faster.spec.rate_limit.requests_per_second = 7;
        let (same, print) = connection(&faster, &material(&[("token", "a")])).unwrap();
        assert!(same.identity == old.identity && print != old_print);
        assert!(!format!("{old:?}").contains("\"a\""), "a secret is not shown");
    }

    #[test]
    fn another_upstream_or_certificate_is_another_identity() {
        let auth = json!({"token": {"secretRef": {"name": "s"}}});
        let secret = material(&[("token", "a")]);
        let identity = |edit: &dyn Fn(&mut ConnectionObject), secret: &Material| {
            let mut object = object(&huawei(), &auth);
            edit(&mut object);
            connection(&object, secret).unwrap().0.identity
        };
        let same = identity(&|_| (), &secret);
        assert_eq!(identity(&|object| object.spec.request_timeout_seconds = 7, &secret), same);
        let tls =
            |name: &str| Some(crate::api::connection::Tls { server_name: Some(name.to_owned()), ..Default::default() });
        let other = json!({"huaweiCloud": {"endpoint": "https://other.example.com", "projectID": "p1"}});
        let elsewhere = identity(&|of| of.spec.provider = object(&other, &auth).spec.provider, &secret);
        let named = identity(&|of| of.spec.tls = tls("a.example"), &secret);
        let trusted = Material { certificates: Some(Bytes::from_static(b"pem")), ..material(&[("token", "a")]) };
        let certified = identity(&|_| (), &trusted);
        let all = std::collections::BTreeSet::from([same, elsewhere, named, certified]);
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn bounds_are_as_they_are_given_and_never_none() {
        let auth = json!({"token": {"secretRef": {"name": "s"}}});
        let mut given = object(&huawei(), &auth);
        let bounds = |object: &ConnectionObject| connection(object, &material(&[("token", "a")])).unwrap().0.bounds;
        let usual = bounds(&given);
        assert_eq!((usual.requests_per_second, usual.requests_per_second_of_tenant), (5.0, None));
        assert_eq!((usual.burst, usual.max_in_flight, usual.mode), (10, 8, ModeChoice::Auto));
        assert_eq!((usual.min_period, usual.max_period), (Duration::from_secs(5), Duration::from_secs(300)));
        let mut signed = object(&huawei(), &json!({"accessKey": {"secretRef": {"name": "s"}}}));
        let key = material(&[("accessKey", "AK"), ("secretKey", "b")]);
        for (given, most) in [(8, 3), (2, 2)] {
            signed.spec.rate_limit.max_in_flight = given;
            let settings = connection(&signed, &key).unwrap().0.settings();
            assert_eq!(
                settings.max_in_flight, most,
                "a key is not locked by what is in flight when it stops being accepted"
            );
        }
        let limit = |a_minute| crate::api::connection::ConnectionLimits {
            requests_per_minute_per_namespace: Some(a_minute),
            ..Default::default()
        };
        given.limits = Some(limit(90));
        assert_eq!(bounds(&given).requests_per_second_of_tenant, Some(1.5));
        given.limits = Some(limit(0));
        let spec = &mut given.spec;
        (spec.rate_limit.burst, spec.rate_limit.max_in_flight) = (0, 0);
        (spec.poll.min_period_seconds, spec.poll.max_period_seconds, spec.poll.mode) = (20, 10, PollMode::List);
        let least = bounds(&given);
        assert_eq!(least.requests_per_second_of_tenant, Some(1.0 / 60.0));
        assert_eq!((least.burst, least.max_in_flight, least.mode), (1, 1, ModeChoice::List));
        assert_eq!((least.min_period, least.max_period), (Duration::from_secs(20), Duration::from_secs(20)));
    }

    #[test]
    fn the_header_of_a_static_token_follows_the_upstream() {
        let auth = json!({"token": {"secretRef": {"name": "s"}}});
        let cloud_ru = json!({"cloudRu": {"endpoint": "https://a", "serviceInstanceID": "x"}});
        for (provider, expected) in [(huawei(), TokenStyle::XAuthToken), (cloud_ru, TokenStyle::Bearer)] {
            let (connection, _) = connection(&object(&provider, &auth), &material(&[("token", "t")])).unwrap();
            assert!(matches!(connection.credential, Credential::Token { style, .. } if style == expected));
        }
    }
}

//! What the administrator of the operator permits of connections, whoever writes them; and a line in the log for each credential and host.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
};

use tracing::info;
use url::Url;

use super::{index::Usability, objects::ConnectionObject};
use crate::{
    api::{AuthRef, ProviderRef},
    engine::ConnectionId,
    ops::args::RunArgs,
};

/// Types of Secrets that hold what others than upstreams trust: identities in the cluster, releases, keys of servers and registries.
const REFUSED_TYPES: &[&str] = &[
    "kubernetes.io/service-account-token",
    "kubernetes.io/tls",
    "kubernetes.io/ssh-auth",
    "kubernetes.io/dockercfg",
    "kubernetes.io/dockerconfigjson",
    "bootstrap.kubernetes.io/token",
    "helm.sh/release.v1",
];

/// Which providers and credentials connections may have.
#[derive(Debug)]
pub(super) struct Permits {
    denied_auth: Vec<&'static str>,
    denied_providers: Vec<&'static str>,
}

impl Permits {
    pub(super) fn new(args: &RunArgs) -> Self {
        Self {
            denied_auth: args.deny_auth.iter().map(|name| name.as_str()).collect(),
            denied_providers: args.deny_provider.iter().map(|name| name.as_str()).collect(),
        }
    }

    /// Whether a connection of this kind may be used.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub(super) fn check(&self, object: &ConnectionObject) -> Result<(), Usability> {
        let denied = |what: &str, name: &str, flag: &str| {
            Usability::Invalid(format!(
                "{what}.{name} is not allowed by the administrator of this operator ({flag}): use another, or ask them"
            ))
        };
        if let Some(provider) = object.spec.provider.member().map(ProviderRef::name)
            && self.denied_providers.contains(&provider)
        {
            return Err(denied("spec.provider", provider, "--deny-provider"));
        }
        match object.spec.auth.member().map(AuthRef::name) {
            Some(auth) if self.denied_auth.contains(&auth) => Err(denied("spec.auth", auth, "--deny-auth")),
            _ => Ok(()),
        }
    }
}

/// Whether a Secret of this type may be sent to an upstream.
///
/// # Errors
/// Why not, and what to do. The Secret is not named where others could read it: the caller knows which it is.
pub(super) fn check_type(secret_type: Option<&str>) -> Result<(), Usability> {
    match secret_type {
        Some(refused) if REFUSED_TYPES.contains(&refused) => Err(Usability::Invalid(format!(
            "the Secret that spec.auth names is of type {refused}, which is never sent to an upstream: put the credential for the \
             upstream into a Secret of type Opaque, and name that"
        ))),
        _ => Ok(()),
    }
}

/// Which credential goes where: told in the log whenever that changes.
#[derive(Debug, Default)]
pub(super) struct Destinations(Mutex<HashMap<ConnectionId, (String, BTreeSet<String>)>>);

impl Destinations {
    /// The credential of `object`, which is in `namespace`, is in use from now on.
    pub(super) fn in_use(&self, id: &ConnectionId, object: &ConnectionObject, namespace: &str) {
        let (secret, hosts) = self.news(id, object, namespace);
        for host in hosts {
            info!("credential of Secret {secret} is sent to {host} for connection {id}");
        }
    }

    /// The Secret, and the hosts that its value was not sent to before.
    fn news(&self, id: &ConnectionId, object: &ConnectionObject, namespace: &str) -> (String, Vec<String>) {
        let auth = object.spec.auth.member();
        let secret = format!("{namespace}/{}", auth.map(AuthRef::secret).unwrap_or_default());
        let endpoints = object.spec.provider.member().map(ProviderRef::endpoint).into_iter();
        let hosts: BTreeSet<_> = endpoints.chain(auth.and_then(exchange)).map(host).collect();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let old = known.insert(id.clone(), (secret.clone(), hosts.clone()));
        let old = old.filter(|(name, _)| *name == secret).map(|(_, hosts)| hosts).unwrap_or_default();
        (secret, hosts.difference(&old).cloned().collect())
    }

    /// The connection is no more.
    pub(super) fn forget(&self, id: &ConnectionId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

/// Where a credential is exchanged for a token.
fn exchange(auth: AuthRef<'_>) -> Option<&str> {
    match auth {
        AuthRef::Token(_) | AuthRef::AccessKey(_) => None,
        AuthRef::Keystone(auth) => Some(&auth.endpoint),
        AuthRef::CloudRuKey(auth) => Some(&auth.endpoint),
        AuthRef::OAuth2(auth) => Some(&auth.token_url),
    }
}

/// Host and port of a URL, which was read before.
fn host(url: &str) -> String {
    let parsed = Url::parse(url).ok();
    let of = |url: &Url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?));
    parsed.as_ref().and_then(of).unwrap_or_else(|| "a host that cannot be read".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::TaskConnection,
        ops::args::{AuthName, ProviderName},
    };

    fn object(endpoint: &str, auth: &Value) -> ConnectionObject {
        let provider = json!({"huaweiCloud": {"endpoint": endpoint, "projectID": "p"}});
        let object: TaskConnection = serde_json::from_value(json!({
            "apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskConnection",
            "metadata": {"name": "c", "namespace": "n", "uid": "c"},
            "spec": {"provider": provider, "auth": auth},
        }))
        .unwrap();
        object.into()
    }

    fn token() -> Value {
        json!({"token": {"secretRef": {"name": "s"}}})
    }

    fn why(result: Result<(), Usability>) -> String {
        match result {
            Err(Usability::Invalid(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_the_administrator_denies_is_refused_by_name() {
        let one = object("https://evs.example.com", &token());
        let permits = |auth: Vec<AuthName>, providers: Vec<ProviderName>| Permits {
            denied_auth: auth.into_iter().map(AuthName::as_str).collect(),
            denied_providers: providers.into_iter().map(ProviderName::as_str).collect(),
        };
        assert!(permits(vec![AuthName::Keystone], vec![ProviderName::CloudRu]).check(&one).is_ok());
        let auth = why(permits(vec![AuthName::Token], vec![]).check(&one));
        assert!(auth.contains("spec.auth.token is not allowed") && auth.contains("--deny-auth"), "{auth}");
        let provider = why(permits(vec![], vec![ProviderName::HuaweiCloud]).check(&one));
        assert!(provider.contains("spec.provider.huaweiCloud is not allowed"), "{provider}");
    }

    #[test]
    fn identities_and_keys_of_the_cluster_are_never_credentials() {
        for refused in REFUSED_TYPES {
            assert!(why(check_type(Some(refused))).contains(refused));
        }
        for good in [None, Some("Opaque"), Some("kubernetes.io/basic-auth"), Some("example.com/own")] {
            assert!(check_type(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn each_credential_is_told_once_for_each_host() {
        let destinations = Destinations::default();
        let id = ConnectionId { namespace: Some(Arc::from("n")), name: Arc::from("c") };
        let keystone = json!({"keystone": {"endpoint": "https://iam.example.com/v3", "secretRef": {"name": "s"}}});
        let news = |object: &ConnectionObject| destinations.news(&id, object, "n").1;
        assert_eq!(news(&object("https://evs.example.com", &token())), ["evs.example.com:443"]);
        assert!(news(&object("https://evs.example.com/other", &token())).is_empty());
        assert_eq!(news(&object("https://evs.example.com", &keystone)), ["iam.example.com:443"]);
        assert_eq!(news(&object("http://evs.example.com:8080", &keystone)), ["evs.example.com:8080"]);
        let other = json!({"token": {"secretRef": {"name": "other"}}});
        assert_eq!(news(&object("http://evs.example.com:8080", &other)), ["evs.example.com:8080"]);
        destinations.forget(&id);
        assert_eq!(news(&object("http://evs.example.com:8080", &other)), ["evs.example.com:8080"]);
    }
}

//! What connections may use, whoever writes them: kinds that the administrator has not denied, and Secrets made for upstreams. And a line
//! in the log for each credential and host.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Mutex,
};

use tracing::info;
use url::Url;

use super::objects::ConnectionObject;
use crate::{
    api::{AuthRef, ProviderRef},
    domain::availability::{Availability, Reason, Unavailable},
    engine::ConnectionId,
    ops::args::RunArgs,
    sync::lock,
};

/// Types of Secrets that were made for others than upstreams: identities in the cluster, keys of servers, accounts of registries, releases.
const REFUSED_TYPES: &[&str] = &[
    "kubernetes.io/service-account-token",
    "kubernetes.io/tls",
    "kubernetes.io/ssh-auth",
    "kubernetes.io/dockercfg",
    "kubernetes.io/dockerconfigjson",
    "bootstrap.kubernetes.io/token",
    "helm.sh/release.v1",
];

/// The kinds of upstreams and credentials that the administrator has denied, by their names in the API.
#[derive(Debug, Default)]
pub(super) struct Permits {
    providers: Vec<String>,
    auth: Vec<String>,
}

impl Permits {
    pub(super) fn new(args: &RunArgs) -> Self {
        Self {
            providers: args.deny_provider.clone(),
            auth: args.deny_auth.iter().map(|name| name.as_str().to_owned()).collect(),
        }
    }

    /// Whether the kinds that a connection names may be used.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub(super) fn check(&self, object: &ConnectionObject) -> Availability {
        let check = |field: &str, name: Option<&'static str>, denied: &[String], flag: &str| match name {
            Some(name) if denied.iter().any(|denied| denied == name) => Err(Unavailable::new(
                Reason::InvalidSpec,
                format!(
                    "the administrator of this operator does not allow {field}.{name} ({flag}): use another, or ask them"
                ),
            )),
            _ => Ok(()),
        };
        let (provider, auth) = (object.spec.provider.member(), object.spec.auth.member());
        check("spec.provider", provider.map(ProviderRef::name), &self.providers, "--deny-provider")?;
        check("spec.auth", auth.map(AuthRef::name), &self.auth, "--deny-auth")
    }
}

/// Whether a Secret of this type may be sent to an upstream.
///
/// # Errors
/// Why not, and what to do.
pub(super) fn check_type(secret_type: Option<&str>) -> Availability {
    match secret_type {
        Some(refused) if REFUSED_TYPES.contains(&refused) => Err(Unavailable::new(
            Reason::InvalidSpec,
            format!(
                "the Secret that spec.auth names is of type {refused}, which is never sent to an upstream: put the credential into a \
             Secret of type Opaque, and name that one"
            ),
        )),
        _ => Ok(()),
    }
}

/// Which Secret's credential goes to which hosts, by connection. The log is told of each pair when it begins: whoever looks into a leak
/// finds there where a credential has been.
#[derive(Debug, Default)]
pub(super) struct Destinations(Mutex<HashMap<ConnectionId, Destination>>);

#[derive(Debug, Default)]
struct Destination {
    /// `namespace/name`
    secret: String,
    /// `host:port`
    hosts: BTreeSet<String>,
}

impl Destinations {
    /// The connection is open: from now on its credential, of a Secret in `namespace`, may be sent.
    pub(super) fn opened(&self, id: &ConnectionId, object: &ConnectionObject, namespace: &str) {
        let Some(auth) = object.spec.auth.member() else { return };
        let secret = format!("{namespace}/{}", auth.secret());
        for host in self.news(id, &secret, hosts(object, auth)) {
            info!(connection = %id, secret, host, "the credential may be sent to this host from now on");
        }
    }

    /// The hosts that the connection has not sent this Secret's credential to before.
    fn news(&self, id: &ConnectionId, secret: &str, hosts: BTreeSet<String>) -> Vec<String> {
        let mut known = lock(&self.0);
        let old = known.entry(id.clone()).or_default();
        if old.secret != secret {
            *old = Destination { secret: secret.to_owned(), hosts: BTreeSet::new() };
        }
        let news = hosts.difference(&old.hosts).cloned().collect();
        old.hosts = hosts;
        news
    }

    /// The connection is no more.
    pub(super) fn forget(&self, id: &ConnectionId) {
        lock(&self.0).remove(id);
    }
}

/// Where the credential of a connection goes: to the upstream, and to where it is exchanged for a token.
fn hosts(object: &ConnectionObject, auth: AuthRef<'_>) -> BTreeSet<String> {
    let endpoint = object.spec.provider.member().map(ProviderRef::endpoint);
    endpoint.into_iter().chain(exchange(auth)).filter_map(host).collect()
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

/// `host:port` of a URL.
fn host(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use clap::ValueEnum;
    use kube::CustomResourceExt;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::TaskConnection,
        controller::resolve,
        ops::args::{AuthName, Cli},
        providers::registry,
    };

    fn object(endpoint: &str, auth: &Value) -> ConnectionObject {
        resolve::tests::object(&json!({"huaweiCloud": {"endpoint": endpoint, "projectID": "p"}}), auth)
    }

    fn token() -> Value {
        json!({"token": {"secretRef": {"name": "s"}}})
    }

    fn why(result: Availability) -> String {
        match result {
            Err(Unavailable { reason: Reason::InvalidSpec, message }) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_the_administrator_denies_is_refused_by_name() {
        let one = object("https://evs.example.com", &token());
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let permits =
            |providers: &[&str], auth: &[&str]| Permits { providers: owned(providers), auth: owned(auth) }.check(&one);
        assert!(permits(&["cloudRu"], &["keystone"]).is_ok());
        let auth = why(permits(&[], &["token"]));
        assert!(auth.contains("does not allow spec.auth.token (--deny-auth)"), "{auth}");
        let provider = why(permits(&["huaweiCloud"], &[]));
        assert!(provider.contains("does not allow spec.provider.huaweiCloud (--deny-provider)"), "{provider}");
    }

    /// A kind that is added to the API can be denied, too.
    #[test]
    fn every_kind_of_the_api_can_be_denied_by_its_name() {
        let definition = serde_json::to_value(TaskConnection::crd()).unwrap();
        let spec = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        let members = |field: &str| spec[field]["properties"].as_object().unwrap().keys().cloned().collect();
        let command = Cli::command_naming(&registry::names());
        let run = command.find_subcommand("run").unwrap();
        let providers = run.get_arguments().find(|arg| arg.get_id() == "deny_provider").unwrap().get_possible_values();
        let providers: BTreeSet<String> = providers.iter().map(|value| value.get_name().to_owned()).collect();
        assert_eq!(providers, members("provider"));
        let auth: BTreeSet<String> = AuthName::value_variants().iter().map(|name| name.as_str().to_owned()).collect();
        assert_eq!(auth, members("auth"));
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
        let news = |secret: &str, endpoint: &str, auth: &Value| {
            let object = object(endpoint, auth);
            destinations.news(&id, secret, hosts(&object, object.spec.auth.member().unwrap()))
        };
        assert_eq!(news("n/s", "https://evs.example.com", &token()), ["evs.example.com:443"]);
        assert!(news("n/s", "https://evs.example.com/other", &token()).is_empty());
        assert_eq!(news("n/s", "https://evs.example.com", &keystone), ["iam.example.com:443"]);
        assert_eq!(news("n/s", "http://evs.example.com:8080", &keystone), ["evs.example.com:8080"]);
        assert_eq!(news("n/t", "http://evs.example.com:8080", &token()), ["evs.example.com:8080"]);
        destinations.forget(&id);
        assert_eq!(news("n/t", "http://evs.example.com:8080", &token()), ["evs.example.com:8080"]);
    }
}

//! Every place that names all providers reads the one table: the API's union, flags, and documents have neither more nor less.

use std::collections::BTreeSet;

use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::{names, provider};
use crate::{
    api::{ConnectionProvider, TaskConnection},
    providers::{
        auth::TokenStyle,
        registration::Registration,
        registry::{self, Chosen, PROVIDERS},
    },
};

/// A connection's `spec.provider` with this scope and nothing that may be left out.
pub(super) fn connection(entry: &Registration, scope: &str) -> ConnectionProvider {
    let member = json!({"endpoint": "https://upstream.example", entry.member.scope_field: scope});
    serde_json::from_value(json!({entry.name(): member})).unwrap()
}

/// The schema of `spec.provider`.
fn schema() -> Value {
    let definition = serde_json::to_value(TaskConnection::crd()).unwrap();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["provider"]
        .clone()
}

#[test]
fn the_table_has_a_line_for_each_member_of_the_api_and_no_other() {
    let schema = schema();
    let members: BTreeSet<_> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names().collect::<BTreeSet<_>>(), members);
    assert_eq!(PROVIDERS.len(), members.len(), "no line is there twice");
    assert_eq!(registry::names().len(), members.len());
    for entry in PROVIDERS {
        let fields = &schema["properties"][entry.name()]["properties"];
        assert!(fields[entry.member.scope_field].is_object(), "{} has no such field", entry.name());
    }
}

#[test]
fn what_kubectl_shows_names_every_provider() {
    let schema = schema();
    let shown = [schema["description"].as_str(), schema["x-kubernetes-validations"][0]["message"].as_str()];
    let rule = schema["x-kubernetes-validations"][0]["rule"].as_str().unwrap();
    for name in names() {
        assert!(shown.iter().all(|text| text.is_some_and(|text| text.contains(name))), "{name}: {shown:?}");
        assert!(rule.contains(&format!("has(self.{name})")), "{rule}");
    }
}

#[test]
fn each_line_builds_the_provider_of_its_own_member() {
    for entry in PROVIDERS {
        let spec = connection(entry, "s-1");
        let chosen = Chosen::of(&spec).unwrap();
        let provider = chosen.build(&[]);
        assert_eq!((provider.name(), provider.default_scope()), (entry.name(), "s-1"));
        assert_eq!((chosen.member().name(), chosen.member().scope()), (entry.name(), "s-1"));
        assert_eq!((entry.plain().name(), entry.plain().default_scope()), (entry.name(), ""));
        assert!(!entry.about.ends_with('.') && !entry.about.is_empty());
        for (kind, rule) in [("task", entry.identifiers.task), ("scope", entry.identifiers.scope)] {
            assert_eq!(rule.refusal(rule.example, kind, entry.name()), None);
        }
    }
    let two = json!({"huaweiCloud": {"endpoint": "a", "projectID": "a"}, "cloudRu": {"endpoint": "a", "serviceInstanceID": "a"}});
    for none_or_two in [json!({}), two] {
        assert!(Chosen::of(&serde_json::from_value(none_or_two).unwrap()).is_none());
    }
}

#[test]
fn who_lists_says_under_which_key_and_who_does_not_says_so() {
    for name in names() {
        let provider = provider(name);
        assert_eq!(provider.list_key().is_some(), provider.list_request("s", None).is_some(), "{name}");
    }
}

#[test]
fn a_provider_says_how_its_tokens_are_sent_and_whom_they_are_for() {
    let of = |name: &str| {
        let spec = connection(registry::find(name).unwrap(), "s-1");
        let provider = Chosen::of(&spec).unwrap().build(&[]);
        (provider.token_style(), provider.keystone_project().map(str::to_owned))
    };
    assert_eq!(of("huaweiCloud"), (TokenStyle::XAuthToken, Some("s-1".to_owned())));
    assert_eq!(of("cloudRu"), (TokenStyle::Bearer, None));
    assert_eq!(of("astraControl"), (TokenStyle::Bearer, None));
}

//! Which provider speaks for which member of the API's union.

use std::sync::Arc;

use super::{
    Provider,
    astra_control::{self, AstraControl},
    cloud_ru::{self, CloudRu, Vocabulary},
    huawei_cloud::{self, HuaweiCloud},
    identifiers::Identifiers,
};
use crate::{
    api::{CloudRuStates, ProviderRef},
    domain::outputs::Outputs,
};

/// The names, as in the API's union.
pub const NAMES: &[&str] = &["huaweiCloud", "cloudRu", "astraControl"];

/// The provider of that name without a scope and with its defaults: enough to decode an answer, whoever asked for it.
#[must_use]
pub fn by_name(name: &str) -> Option<Box<dyn Provider>> {
    match name {
        "huaweiCloud" => Some(Box::new(HuaweiCloud::new(""))),
        "cloudRu" => Some(Box::new(CloudRu::new("", &Vocabulary::default()))),
        "astraControl" => Some(Box::new(AstraControl::new(""))),
        _ => None,
    }
}

/// The provider that a connection names; `outputs` are the results that it shows beside identifiers, names and URIs.
#[must_use]
pub fn for_spec(spec: ProviderRef<'_>, outputs: &[String]) -> Arc<dyn Provider> {
    let outputs = Outputs::with(outputs);
    match spec {
        ProviderRef::HuaweiCloud(spec) => Arc::new(HuaweiCloud::new(&spec.project_id).showing(outputs)),
        ProviderRef::AstraControl(spec) => Arc::new(AstraControl::new(&spec.account_id).showing(outputs)),
        ProviderRef::CloudRu(spec) => {
            let vocabulary = spec.states.as_ref().map_or_else(Vocabulary::default, vocabulary);
            Arc::new(CloudRu::new(&spec.service_instance_id, &vocabulary).showing(outputs))
        }
    }
}

/// Which identifiers the provider that a connection names has.
#[must_use]
pub fn identifiers(spec: ProviderRef<'_>) -> &'static Identifiers {
    match spec {
        ProviderRef::HuaweiCloud(_) => &huawei_cloud::IDENTIFIERS,
        ProviderRef::CloudRu(_) => &cloud_ru::IDENTIFIERS,
        ProviderRef::AstraControl(_) => &astra_control::IDENTIFIERS,
    }
}

/// How long an identifier of any provider may be, in characters.
#[must_use]
pub fn longest_identifier() -> usize {
    let all = [&huawei_cloud::IDENTIFIERS, &cloud_ru::IDENTIFIERS, &astra_control::IDENTIFIERS];
    all.iter().flat_map(|of| [of.task.longest, of.scope.longest]).max().unwrap_or_default()
}

/// The defaults, but for what is given.
fn vocabulary(given: &CloudRuStates) -> Vocabulary {
    let given = given.clone();
    let default = Vocabulary::default();
    Vocabulary {
        prefix: given.strip_prefix.unwrap_or(default.prefix),
        pending: given.pending.unwrap_or(default.pending),
        running: given.running.unwrap_or(default.running),
        paused: given.paused.unwrap_or(default.paused),
        succeeded: given.succeeded.unwrap_or(default.succeeded),
        failed: given.failed.unwrap_or(default.failed),
        cancelled: given.cancelled.unwrap_or(default.cancelled),
        error_decides: given.error_decides.unwrap_or(default.error_decides),
        response_decides: given.response_decides.unwrap_or(default.response_decides),
    }
}

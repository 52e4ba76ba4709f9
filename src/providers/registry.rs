//! The one table of providers: whatever names them all reads it.

use std::sync::Arc;

use super::{Provider, astra_control, cloud_ru, huawei_cloud, identifiers::Identifiers, registration::Registration};
use crate::{
    api::{ConnectionProvider, ProviderRef},
    domain::outputs::Outputs,
};

/// All providers, in the order in which they are shown.
pub const PROVIDERS: &[&Registration] =
    &[&huawei_cloud::REGISTRATION, &cloud_ru::REGISTRATION, &astra_control::REGISTRATION];

/// The provider that a connection names, and how it names it.
#[derive(Clone, Copy, Debug)]
pub struct Chosen<'a> {
    entry: &'static Registration,
    spec: &'a ConnectionProvider,
    member: ProviderRef<'a>,
}

impl<'a> Chosen<'a> {
    /// The provider that `spec` names; none unless it names exactly one.
    #[must_use]
    pub fn of(spec: &'a ConnectionProvider) -> Option<Self> {
        let member = spec.member()?;
        let entry = find(member.name())?;
        Some(Self { entry, spec, member })
    }

    /// The member of the API's union.
    #[must_use]
    pub fn member(self) -> ProviderRef<'a> {
        self.member
    }

    /// Which identifiers its upstream has.
    #[must_use]
    pub fn identifiers(self) -> Identifiers<'a> {
        self.entry.identifiers
    }

    /// The provider; `outputs` are the results that it shows beside identifiers, names and URIs.
    #[must_use]
    pub fn build(self, outputs: &[String]) -> Arc<dyn Provider> {
        (self.entry.build)(self.spec, Outputs::with(outputs))
    }
}

/// The provider of that name in the API.
#[must_use]
pub fn find(name: &str) -> Option<&'static Registration> {
    PROVIDERS.iter().copied().find(|entry| entry.name() == name)
}

/// The name of each provider, and what it reads.
#[must_use]
pub fn names() -> Vec<(&'static str, &'static str)> {
    PROVIDERS.iter().map(|entry| (entry.name(), entry.about)).collect()
}

/// How long an identifier of any provider may be, in characters.
#[must_use]
pub fn longest_identifier() -> usize {
    let all = PROVIDERS.iter().map(|entry| entry.identifiers);
    all.flat_map(|of| [of.task.longest, of.scope.longest]).max().unwrap_or_default()
}

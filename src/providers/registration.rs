//! What each provider says of itself: a line of [`super::registry::PROVIDERS`].

use std::sync::Arc;

use super::{Provider, identifiers::Identifiers};
use crate::{
    api::{ConnectionProvider, ProviderMember},
    domain::outputs::Outputs,
};

/// What is known of a provider before there is a connection to it.
#[derive(Debug)]
pub struct Registration {
    /// The member of the API's union that it stands behind.
    pub member: &'static ProviderMember,
    /// What it reads, for the help text of flags.
    pub about: &'static str,
    /// Which identifiers its upstream has.
    pub identifiers: Identifiers<'static>,
    /// The provider for this member of a connection, with these results shown. Where the member is absent, it has no scope and its
    /// defaults.
    pub build: fn(&ConnectionProvider, Outputs) -> Arc<dyn Provider>,
}

impl Registration {
    /// The name in the API.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.member.name
    }

    /// The provider without a scope and with its defaults: enough to decode an answer, whoever asked for it.
    #[must_use]
    pub fn plain(&self) -> Arc<dyn Provider> {
        (self.build)(&ConnectionProvider::default(), Outputs::default())
    }
}

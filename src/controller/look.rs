//! Which `TaskWatch` is to be looked at, and on whose account.

use std::fmt;

use super::queue::Key;
use crate::{
    engine::{ConnectionId, WatchKey},
    tenancy::Tenant,
};

/// A `TaskWatch` in the work queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Look {
    /// The namespace of the object.
    pub tenant: Tenant,
    /// Which object.
    pub key: WatchKey,
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

impl Key for Look {
    fn tenant(&self) -> Tenant {
        self.tenant.clone()
    }
}

impl Key for ConnectionId {
    fn tenant(&self) -> Tenant {
        match &self.namespace {
            Some(namespace) => Tenant::namespace(namespace),
            None => Tenant::cluster_connection(&self.name),
        }
    }
}

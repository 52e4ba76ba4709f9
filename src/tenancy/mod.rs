//! One account of what tenants share: memory, processing time, requests, writes. Each resource is divided here and nowhere else, so
//! that no tenant can use up what another needs. It knows nothing of tasks, HTTP or Kubernetes.
//!
//! | module | what it divides |
//! |---|---|
//! | [`pool`] | things that are held and given back: bytes of answers that are not decoded yet, threads |
//! | [`turns`] | a place in a queue |
//! | [`ceiling`] | things that are spent: requests to upstreams, writes to the API server |
//! | [`cpu`] | the processing time of the runtime |
//! | [`usage`] | what each tenant has used lately, for the metrics |
//! | [`share`] | the rule by which a rate is divided: max-min fairness |
//! | [`memory`] | how much memory this process may use |
//! | [`shares`] | one of each, for the whole process |

pub mod ceiling;
pub mod cpu;
pub mod memory;
pub mod pool;
pub mod share;
pub mod shares;
pub mod turns;
pub mod usage;

use std::{fmt, sync::Arc};

/// On whose account something is done: a namespace, or a connection that namespaces share. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(Arc<str>);

impl Tenant {
    /// The namespace of this name.
    #[must_use]
    pub fn namespace(name: &Arc<str>) -> Self {
        Self(Arc::clone(name))
    }

    /// The `ClusterTaskConnection` of this name. A slash cannot be part of a namespace's name, so the two cannot be mistaken.
    #[must_use]
    pub fn cluster_connection(name: &str) -> Self {
        Self(Arc::from(format!("clustertaskconnection/{name}")))
    }

    /// What several namespaces share and none of them has alone.
    #[must_use]
    pub fn shared() -> Self {
        Self(Arc::from("/shared"))
    }

    /// The name, for metrics and logs.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

//! `TaskWatch`: a Kubernetes operator that mirrors long-running tasks of other systems into custom resources.
//!
//! Each module imports only from those before it (`tests/it/layers.rs` holds it to that):
//!
//! ```text
//! api <- domain <- providers <- engine <- controller <- main
//! tenancy <- ops       both: engine, controller and main
//! ```
//!
//! | module | what lives there |
//! |---|---|
//! | [`api`] | the custom resource types |
//! | [`domain`] | pure decisions: the provider-neutral task, the status contract, cadence |
//! | [`providers`] | sans-IO: what to request of an upstream, and what its answer means |
//! | [`engine`] | the polling core: one actor per connection |
//! | [`controller`] | Kubernetes glue: objects in, statuses and events out |
//! | [`tenancy`] | what tenants share, and how it is divided |
//! | [`ops`] | arguments, telemetry, metrics, admin HTTP, shutdown |
//! | [`sync`] | locking a mutex; used by all that share one |

pub mod api;
pub mod controller;
pub mod domain;
pub mod engine;
pub mod ops;
pub mod providers;
pub mod sync;
pub mod tenancy;

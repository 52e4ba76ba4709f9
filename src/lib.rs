//! `TaskWatch`: a Kubernetes operator that mirrors long-running tasks of other systems into custom resources.
//!
//! Each module imports only from those before it (`tests/it/layers.rs` holds it to that):
//!
//! ```text
//! api <- domain <- providers <- engine <- controller <- commands
//! tenancy, ownership <- ops       all three: engine, controller and commands
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
//! | [`ownership`] | which replica does what: buckets and their Leases |
//! | [`ops`] | arguments, telemetry, metrics, admin HTTP, shutdown |
//! | [`commands`] | what the subcommands of the program do |
//! | [`sync`] | locking a mutex; used by all that share one |

pub mod api;
pub mod commands;
mod controller;
mod domain;
mod engine;
pub mod ops;
pub mod ownership;
mod providers;
#[cfg(feature = "checks")]
pub use providers::checks;
mod sync;
pub mod tenancy;

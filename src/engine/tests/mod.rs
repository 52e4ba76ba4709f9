//! The planner against a model upstream, in virtual time: nothing sleeps.

mod agenda;
mod discovery;
mod hints;
mod invariants;
mod lists;
mod model;
mod random;
mod reading;
mod redaction;
pub(super) mod rig;
mod sieve;
mod tenants;
mod waits;

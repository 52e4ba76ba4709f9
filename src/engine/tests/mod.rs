//! The planner against a model upstream, and the engine against one on 127.0.0.1 (`running`), in virtual time: nothing sleeps.

mod agenda;
mod consequences;
mod discovery;
mod health;
mod hints;
mod invariants;
mod lists;
mod model;
mod random;
mod reading;
mod redaction;
pub(super) mod rig;
mod running;
mod sieve;
mod tenants;
pub(crate) mod upstream;
mod waits;

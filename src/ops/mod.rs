//! What every service has: arguments, telemetry, metrics, traces, admin HTTP and who may read it, shutdown, a clock, limits of the process.

pub mod admin;
pub mod allowance;
pub mod args;
mod around;
pub mod authorization;
pub mod client;
pub mod clock;
pub mod debug;
mod fence;
pub mod guard;
pub mod health;
pub mod limits;
pub mod metrics;
pub mod pages;
mod proxy;
mod server;
pub mod shutdown;
pub mod telemetry;
mod token_file;
pub mod traces;
pub mod upstream_proxy;

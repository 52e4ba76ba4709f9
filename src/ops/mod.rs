//! What every service has: arguments, telemetry, metrics, admin HTTP, shutdown, a clock, limits of the process.

pub mod admin;
pub mod allowance;
pub mod args;
mod around;
pub mod client;
pub mod clock;
mod fence;
pub mod guard;
pub mod health;
pub mod limits;
pub mod metrics;
mod proxy;

mod server;
pub mod shutdown;
pub mod telemetry;
mod token_file;
pub mod upstream_proxy;

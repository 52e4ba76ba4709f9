//! Starts what the tests, the demo and the benchmarks need, on 127.0.0.1 and on free ports: a real control plane (etcd and
//! kube-apiserver), the upstream simulator, and the real operator binary.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use taskwatch_harness::{ADMIN, ControlPlane, OPERATOR, Operator, OperatorOptions, Simulator};
//!
//! let plane = ControlPlane::start().await?;
//! plane.kubectl(&["apply", "-f", "crds/"]).await?.success()?;
//! let simulator = Simulator::start(&[]).await?;
//! let operator = Operator::start(OperatorOptions::new(plane.kubeconfig(OPERATOR)?)).await?;
//! let client = plane.client(ADMIN).await?;
//! # Ok(()) }
//! ```
//!
//! Nothing stays behind: every program runs under `taskwatch-guard`, which stops it as soon as the process that started it is
//! gone, however that ended, and the last guard of a working directory removes it (`TASKWATCH_KEEP=1` keeps it, with all logs).

mod binary;
mod collector;
mod controlplane;
mod helm;
mod http;
mod keystone;
mod kubectl;
mod operator;
mod oracles;
mod output;
mod ports;
mod process;
mod promtool;
mod simulator;
mod tinyproxy;
mod toxiproxy;
mod usage;
mod wait;
mod workdir;

pub mod attacks;
pub mod bench;
pub mod demo;
pub mod node;
pub mod soak;

pub use binary::{binary, workspace_root};
pub use collector::Collector;
pub use controlplane::{ADMIN, ControlPlane, ControlPlaneOptions, Identity, OPERATOR, TENANT};
pub use helm::Helm;
pub use http::request;
pub use keystone::{Keystone, KeystoneUser};
pub use kubectl::Kubectl;
pub use operator::{Operator, OperatorOptions};
pub use oracles::{Oracles, script};
pub use output::Output;
pub use process::{Exit, Process};
pub use promtool::promtool;
pub use simulator::{Simulator, SimulatorClient};
pub use tinyproxy::Tinyproxy;
pub use toxiproxy::{Stream, Toxiproxy};
pub use usage::Usage;
pub use wait::{eventually, interrupt};
pub use workdir::Workdir;

//! `make cluster`: a control plane to try things on, until Ctrl-C.

use std::process::ExitCode;

use anyhow::Result;
use taskwatch_harness::{ADMIN, ControlPlane, ControlPlaneOptions, interrupt};

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    println!("Starting etcd, kube-apiserver and kube-controller-manager (about 10 s)");
    let options = ControlPlaneOptions { controller_manager: true, ..Default::default() };
    let plane = tokio::select! {
        plane = ControlPlane::start_with(options) => plane?,
        interrupted = interrupt() => return interrupted,
    };
    println!("Ready; Ctrl-C ends it. In another terminal:\n  export KUBECONFIG={}", plane.kubeconfig(ADMIN)?.display());
    interrupt().await?;
    println!("Stopping");
    plane.stop().await
}
